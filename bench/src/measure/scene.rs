//! What one group of members is measured on: an address space, its mirror, the calls that cover it.

use std::sync::Arc;

use walker::addr::{Level, PageRange};
use walker::arch::Entry;
use walker::memory::Phys;
use walker::mirror::Mirror;
use walker::mm::Mm;
use walker::request::{Request, Wish};
use workloads::request::RequestKind;
use workloads::shape::{BuildError, Built, ShapeSpec};

use super::memory;

/// A piece of the range as the limits see it: what a table walk would find, looked up outside of every span.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    /// `len` entries of the PTE table in frame `table` from `first`.
    Ptes {
        /// Frame of the table.
        table: walker::addr::Pfn,
        /// Index of the first entry.
        first: usize,
        /// Entries.
        len: usize,
    },
    /// `len` pages of a leaf above the PTE level; `entry` is that leaf.
    Leaf {
        /// The entry.
        entry: Entry,
        /// Pages of it before the piece.
        within: u64,
        /// Pages.
        len: usize,
    },
    /// `len` pages without a table.
    Hole {
        /// Pages.
        len: usize,
    },
}

impl Span {
    /// Pages in it.
    pub(crate) fn len(&self) -> usize {
        match *self {
            Span::Ptes { len, .. } | Span::Leaf { len, .. } | Span::Hole { len } => len,
        }
    }
}

/// What one call asks for, apart from its range.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// Wished of every page, by each of the calls that follow each other on the same part and the same array.
    pub(crate) passes: &'static [Wish],
    /// Wished page by page, over the whole range of the scene.
    pub(crate) per_page: Option<Vec<Wish>>,
}

impl Wishes {
    fn new(kind: RequestKind, nr_pages: u64, seed: u64) -> Wishes {
        Wishes { passes: kind.passes(), per_page: kind.wishes(nr_pages, seed) }
    }
}

/// What a scene is made from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The shape.
    pub(crate) shape: ShapeSpec,
    /// Bytes of walked address space.
    pub(crate) size_bytes: u64,
    /// What is asked.
    pub(crate) request: RequestKind,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// Decides every entry and every wish.
    pub(crate) seed: u64,
}

/// An address space to measure on.
pub(crate) struct Scene {
    recipe: Recipe,
    /// The address space and what keeps it alive.
    pub(crate) built: Built,
    /// The device's side, over the whole range.
    pub(crate) mirror: Mirror,
    /// What is asked.
    pub(crate) wishes: Wishes,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// The range as the limits see it, call by call: `calls[k]..calls[k + 1]` are the spans of call k.
    pub(crate) spans: Vec<Span>,
    /// See [`Scene::spans`].
    pub(crate) calls: Vec<usize>,
}

impl Scene {
    /// Builds it, if the machine has the memory.
    ///
    /// # Errors
    /// What the builder said, or what would fit.
    pub(crate) fn new(recipe: Recipe) -> Result<Scene, BuildError> {
        memory::check(&recipe.shape, recipe.size_bytes, recipe.request)?;
        let built = recipe.shape.build(recipe.size_bytes, recipe.seed)?;
        let mirror = Mirror::new(&built.mm, built.range);
        let wishes = Wishes::new(recipe.request, built.range.nr_pages(), recipe.seed);
        let call_pages = recipe.call_pages;
        let mut scene =
            Scene { recipe, built, mirror, wishes, call_pages, spans: Vec::new(), calls: Vec::new() };
        scene.lay_out();
        Ok(scene)
    }
    /// The address space.
    pub(crate) fn mm(&self) -> &Arc<Mm> {
        &self.built.mm
    }
    /// Its memory.
    pub(crate) fn phys(&self) -> &Phys {
        self.built.mm.phys()
    }
    /// Pages in the range.
    pub(crate) fn nr_pages(&self) -> u64 {
        self.built.range.nr_pages()
    }
    /// Calls of one sweep: those that cover the range, each as often as the request has passes.
    pub(crate) fn nr_calls(&self) -> u64 {
        self.nr_pages().div_ceil(self.call_pages) * self.wishes.passes.len() as u64
    }
    /// The request of call `k`; passes over the same part follow each other. Arithmetic only: nothing but the wishes themselves is read.
    #[inline(always)]
    pub(crate) fn request(&self, k: u64) -> Request<'_> {
        // One pass or two.
        let last_pass = self.wishes.passes.len() as u64 - 1;
        let first = (k >> last_pass) * self.call_pages;
        let nr = self.call_pages.min(self.nr_pages() - first);
        Request {
            range: PageRange::pages(self.built.range.start().add_pages(first), nr),
            default: self.wishes.passes[(k & last_pass) as usize],
            per_page: self.wishes.per_page.as_deref().map(|w| &w[first as usize..(first + nr) as usize]),
            owner: self.built.owner,
        }
    }
    /// The spans of call `k`.
    #[inline(always)]
    pub(crate) fn spans_of(&self, k: u64) -> &[Span] {
        &self.spans[self.calls[k as usize]..self.calls[k as usize + 1]]
    }
    /// Looks up every table of the range.
    pub(crate) fn lay_out(&mut self) {
        let mut spans = Vec::new();
        let mut calls = vec![0];
        for k in 0..self.nr_calls() {
            let range = self.request(k).range;
            let mut addr = range.start();
            while addr < range.end() {
                let next = addr.next_boundary(Level::Pmd, range.end());
                spans.push(span(self.mm(), PageRange::between(addr, next)));
                addr = next;
            }
            calls.push(spans.len());
        }
        (self.spans, self.calls) = (spans, calls);
    }
    /// Brings the tables back to the state before the first fault: in place where the shape can, else built anew.
    ///
    /// # Errors
    /// What the builder said.
    pub(crate) fn reset(mut self) -> Result<Scene, BuildError> {
        if !self.built.can_reset() {
            let Scene { recipe, .. } = &self;
            let recipe = recipe.clone();
            self.discard();
            return Scene::new(recipe);
        }
        self.built.reset()?;
        self.lay_out();
        Ok(self)
    }
    /// Gives the machine back in one piece.
    pub(crate) fn discard(self) {
        drop(self.mirror);
        self.built.discard();
    }
}

fn span(mm: &Mm, range: PageRange) -> Span {
    let len = range.nr_pages() as usize;
    match mm.lookup(range.start(), Level::Pte) {
        Ok(slot) => Span::Ptes { table: slot.table.pfn(), first: slot.index, len },
        Err(level) => {
            let entry = mm.lookup(range.start(), level).map_or(Entry::NONE, |slot| slot.read());
            if entry.is_huge() {
                let within = range.start().pages_since(range.start().align_down(level));
                Span::Leaf { entry, within, len }
            } else {
                Span::Hole { len }
            }
        }
    }
}
