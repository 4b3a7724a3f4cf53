//! What one group of members is measured on: an address space, its mirror, the calls that cover it.

use std::ops::Range;
use std::sync::Arc;

use walker::addr::{Level, PageRange, Pfn};
use walker::arch::Entry;
use walker::memory::Phys;
use walker::mirror::Mirror;
use walker::mm::Mm;
use walker::request::{Request, Wish};
use workloads::churn::{ChurnSpec, Ground, GroundError};
use workloads::request::RequestKind;
use workloads::shape::{Built, ShapeSpec};

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
    /// Threads that walk, each a share of the range with a mirror of its own.
    pub(crate) walkers: u32,
    /// What shall be able to happen to the tables.
    pub(crate) churn: Option<ChurnSpec>,
    /// Decides every entry and every wish.
    pub(crate) seed: u64,
}

impl Recipe {
    /// Whether a walk leaves the tables as they are.
    pub(crate) fn is_steady(&self) -> bool {
        self.shape.gives() as u8 >= self.request.strongest() as u8
    }
    fn is_of_the_same_tables(&self, other: &Recipe) -> bool {
        let tables = |r: &Recipe| (r.size_bytes, r.seed, r.churn);
        self.shape == other.shape && tables(self) == tables(other) && self.churn.is_none()
    }
}

/// A part of every walker's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Which, from 0.
    pub(crate) index: u64,
    /// Of how many.
    pub(crate) of: u64,
}

impl Window {
    /// All of it.
    pub(crate) const WHOLE: Window = Window { index: 0, of: 1 };
}

/// An address space to measure on.
pub(crate) struct Scene {
    recipe: Recipe,
    /// The address space and what keeps it alive.
    pub(crate) built: Built,
    /// Where churn may happen, for scenes made with churn.
    pub(crate) ground: Option<Ground>,
    /// The device's side: a mirror for each walker, over its share.
    mirrors: Vec<Mirror>,
    /// What is asked.
    pub(crate) wishes: Wishes,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// The range as the limits see it, call by call: `calls[k]..calls[k + 1]` are the spans of call k.
    pub(crate) spans: Vec<Span>,
    /// See [`Scene::spans`].
    pub(crate) calls: Vec<usize>,
    /// The PTE tables of the range, in address order.
    pub(crate) tables: Vec<Pfn>,
}

impl Scene {
    /// Builds it, if the machine has the memory.
    ///
    /// # Errors
    /// What the builder said, what would fit, or why the churn cannot happen there.
    pub(crate) fn new(recipe: Recipe) -> Result<Scene, GroundError> {
        memory::check(&recipe.shape, recipe.size_bytes, recipe.request)?;
        let Recipe { size_bytes, seed, .. } = recipe;
        let (built, ground) = match recipe.churn {
            None => (recipe.shape.build(size_bytes, seed)?, None),
            Some(churn) => {
                let (built, ground) = Ground::build(&recipe.shape, size_bytes, seed, churn)?;
                (built, Some(ground.walked_by(recipe.request)))
            }
        };
        Ok(Scene::of(built, ground, recipe))
    }
    fn of(built: Built, ground: Option<Ground>, recipe: Recipe) -> Scene {
        let wishes = Wishes::new(recipe.request, built.range.nr_pages(), recipe.seed);
        let call_pages = recipe.call_pages;
        let (mirrors, spans, calls, tables) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut scene = Scene { recipe, built, ground, mirrors, wishes, call_pages, spans, calls, tables };
        scene.mirrors = (0..scene.recipe.walkers as usize)
            .map(|lane| Mirror::new(scene.mm(), scene.range_of(scene.window(lane, Window::WHOLE))))
            .collect();
        for mirror in &scene.mirrors {
            // The host has to give the memory of the device's entries before anything is timed.
            let mut device = mirror.device();
            let range = device.range();
            device.clear(range);
        }
        if scene.ground.is_some() {
            // So it has that of the pages that churn frees and takes again.
            let phys = scene.phys();
            (0..phys.high_water()).map(Pfn::new).for_each(|f| phys.store_byte(f, 0, phys.load_byte(f, 0)));
        }
        scene.lay_out();
        scene
    }
    /// The same tables asked otherwise; built anew where `recipe` wants other tables.
    ///
    /// # Errors
    /// What the builder said.
    pub(crate) fn ask(self, recipe: Recipe) -> Result<Scene, GroundError> {
        if !self.recipe.is_of_the_same_tables(&recipe) {
            self.discard();
            return Scene::new(recipe);
        }
        let Scene { built, ground, mirrors, .. } = self;
        drop(mirrors);
        Ok(Scene::of(built, ground, recipe))
    }
    /// Whether a walk leaves the tables as they are.
    pub(crate) fn is_steady(&self) -> bool {
        self.recipe.is_steady()
    }
    /// What happens to the tables meanwhile.
    pub(crate) fn churn(&self) -> Option<ChurnSpec> {
        self.recipe.churn
    }
    /// Whether a walk may follow another without bringing the tables back: it changes nothing, or churn does.
    pub(crate) fn can_repeat(&self) -> bool {
        self.recipe.is_steady() || self.ground.is_some()
    }
    /// Parts that one call covers, each walked by as many calls as the request has passes.
    pub(crate) fn nr_parts(&self) -> u64 {
        self.nr_pages().div_ceil(self.call_pages)
    }
    fn nr_passes(&self) -> u64 {
        self.wishes.passes.len() as u64
    }
    fn parts(&self, lane: usize, window: Window) -> Range<u64> {
        let walkers = u64::from(self.recipe.walkers);
        let first = |lane: u64| self.nr_parts() * lane / walkers;
        let share = first(lane as u64)..first(lane as u64 + 1);
        let first = |i: u64| share.start + (share.end - share.start) * i / window.of;
        first(window.index)..first(window.index + 1)
    }
    /// The calls of walker `lane` in a window.
    pub(crate) fn window(&self, lane: usize, window: Window) -> Range<u64> {
        let parts = self.parts(lane, window);
        parts.start * self.nr_passes()..parts.end * self.nr_passes()
    }
    /// The calls of a window in a row, for those who walk alone however many walkers there are.
    pub(crate) fn alone(&self, window: Window) -> Range<u64> {
        let first = |i: u64| self.nr_parts() * i / window.of * self.nr_passes();
        first(window.index)..first(window.index + 1)
    }
    /// Calls in a window, and its pages, all walkers together. A page that several passes walk is one page.
    pub(crate) fn calls_and_pages(&self, window: Window) -> (u64, u64) {
        let lanes = (0..self.recipe.walkers as usize).map(|lane| self.parts(lane, window));
        lanes.fold((0, 0), |(calls, pages), parts| {
            // The last part of the range may be a short one.
            let end = (parts.end * self.call_pages).min(self.nr_pages());
            let calls = calls + (parts.end - parts.start) * self.nr_passes();
            (calls, pages + end.saturating_sub(parts.start * self.call_pages))
        })
    }
    /// Whether one part of the range is like any other, so that a block may walk a part of it.
    pub(crate) fn is_uniform(&self) -> bool {
        let same = matches!(self.recipe.shape, ShapeSpec::Dense4k { .. } | ShapeSpec::Dense2m);
        same && self.is_steady() && self.ground.is_none()
    }
    /// The walker whose share call `k` is in.
    pub(crate) fn lane_of(&self, k: u64) -> usize {
        (0..self.recipe.walkers as usize)
            .find(|lane| self.window(*lane, Window::WHOLE).contains(&k))
            .unwrap_or(0)
    }
    /// The device's side of walker `lane`.
    pub(crate) fn mirror(&self, lane: usize) -> &Mirror {
        &self.mirrors[lane]
    }
    fn range_of(&self, calls: Range<u64>) -> PageRange {
        if calls.is_empty() {
            return PageRange::pages(self.built.range.start(), 0);
        }
        PageRange::between(self.request(calls.start).range.start(), self.request(calls.end - 1).range.end())
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
        self.nr_parts() * self.nr_passes()
    }
    /// The request of call `k`; passes over the same part follow each other. Arithmetic only: nothing but the wishes
    /// themselves is read.
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
        self.tables = spans
            .iter()
            .filter_map(|span| match *span {
                Span::Ptes { table, .. } => Some(table),
                Span::Leaf { .. } | Span::Hole { .. } => None,
            })
            .collect();
        self.tables.dedup();
        (self.spans, self.calls) = (spans, calls);
    }
    /// Brings the tables back to the state before the first fault: in place where the shape can, else built anew.
    ///
    /// # Errors
    /// What the builder said.
    pub(crate) fn reset(mut self) -> Result<Scene, GroundError> {
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
        drop(self.mirrors);
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
