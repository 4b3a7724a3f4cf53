//! What one group of members is measured on: an address space, its mirror, the calls that cover it.

use std::sync::Arc;

use anyhow::{Context, Result};
use walker::addr::{Level, PageRange};
use walker::arch::Entry;
use walker::memory::{PageKind, Phys};
use walker::mirror::Mirror;
use walker::mm::Mm;
use walker::request::{Request, Wish};

use crate::shapes::{Built, RequestKind};

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
    /// Wished of every page.
    pub(crate) default: Wish,
    /// Wished page by page, over the whole range of the scene.
    pub(crate) per_page: Option<Vec<Wish>>,
    /// Whose device memory.
    pub(crate) owner: u64,
}

impl Wishes {
    /// The wishes of `kind` over `range`.
    pub(crate) fn new(kind: &RequestKind, range: PageRange) -> Wishes {
        let mut buffer = Vec::new();
        let request = kind.request(range, &mut buffer);
        Wishes { default: request.default, owner: request.owner, per_page: request.per_page.map(<[Wish]>::to_vec) }
    }
}

/// How the state that a block changed comes back, outside of the span.
pub(crate) type Reset = Box<dyn Fn(Option<Scene>) -> Result<Scene>>;

/// An address space to measure on.
pub(crate) struct Scene {
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
    /// Wraps what a builder made.
    pub(crate) fn new(built: Built, kind: &RequestKind, call_pages: u64) -> Scene {
        let mirror = Mirror::new(&built.mm, built.range, 0);
        let wishes = Wishes::new(kind, built.range);
        let mut scene = Scene { built, mirror, wishes, call_pages, spans: Vec::new(), calls: Vec::new() };
        scene.lay_out();
        scene
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
    /// Calls that cover the range once.
    pub(crate) fn nr_calls(&self) -> u64 {
        self.nr_pages().div_ceil(self.call_pages)
    }
    /// The request of call `k`. Arithmetic only: nothing but the wishes themselves is read.
    #[inline(always)]
    pub(crate) fn request(&self, k: u64) -> Request<'_> {
        let first = k * self.call_pages;
        let nr = self.call_pages.min(self.nr_pages() - first);
        Request {
            range: PageRange::pages(self.built.range.start().add_pages(first), nr),
            default: self.wishes.default,
            per_page: self.wishes.per_page.as_deref().map(|w| &w[first as usize..(first + nr) as usize]),
            owner: self.wishes.owner,
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
    /// Makes the host give memory to every data page that is mapped, without changing it: a load from a page that the
    /// host never touched reads the host's own zero page, which is always in the cache.
    pub(crate) fn back_data(&self) {
        let phys = self.phys();
        let touch = |pfn: walker::addr::Pfn| {
            if pfn.get() < phys.nr_frames() {
                let byte = phys.load_byte(pfn, 0);
                phys.store_byte(pfn, 0, byte);
            }
        };
        for span in &self.spans {
            match *span {
                Span::Ptes { table, first, len } => {
                    let table = phys.table(table);
                    let entries = (first..first + len).map(|i| table.ptep_get(i));
                    entries.filter(|e| e.is_present() && !e.is_special()).for_each(|e| touch(e.pfn()));
                }
                Span::Leaf { entry, within, len } if entry.is_present() => {
                    (0..len as u64).for_each(|k| touch(entry.pfn().add(within + k)));
                }
                Span::Leaf { .. } | Span::Hole { .. } => {}
            }
        }
    }
    /// Lets the allocator hold `nr` free frames that the host has given memory to.
    ///
    /// # Errors
    /// When the model has fewer frames.
    pub(crate) fn warm_frames(&self, nr: u64) -> Result<()> {
        warm_frames(self.phys(), nr)
    }
}

/// See [`Scene::warm_frames`].
pub(crate) fn warm_frames(phys: &Phys, nr: u64) -> Result<()> {
    let mut frames = Vec::with_capacity(nr as usize);
    for _ in 0..nr {
        let pfn = phys.alloc(PageKind::Anon, 0).context("warming page frames")?;
        phys.zero(pfn, 0);
        frames.push(pfn);
    }
    // In reverse, so that they come back in ascending order as fresh memory does.
    frames.into_iter().rev().for_each(|pfn| phys.free(pfn));
    Ok(())
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
