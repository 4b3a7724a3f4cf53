//! One page-table node: atomic entries in a frame, and the lock in the frame's struct page.
//!
//! Contract: nobody outside this file touches an entry's memory. A read yields a copy ([`Entry`]) that is decided upon
//! as a value; there is no reference to an entry. Reading needs an RCU guard (or a lock that keeps the table linked)
//! for the answer to mean anything; it is never undefined behaviour, since every access is atomic.
//!
//! Orderings: an entry that links a table or publishes a page is stored with release; upper levels are read with
//! acquire ([`Table::read`]), which pairs with it. PTE-level leaves are read relaxed ([`Table::ptep_get`]): their value
//! is only reported, or compared again under the lock.

use crate::addr::{PTRS_PER_TABLE, Pfn};
use crate::arch::Entry;
use crate::memory::Page;
use crate::sync::{AtomicU64, MutexGuard, Ordering::*};

/// A page-table node. Copy: a frame number with its two addresses resolved.
#[derive(Clone, Copy, Debug)]
pub struct Table<'p> {
    entries: &'p [AtomicU64; PTRS_PER_TABLE],
    page: &'p Page,
    pfn: Pfn,
}

/// `word`, which the compiler cannot put into a vector register together with its neighbours: code of a kernel has none,
/// so a design for a kernel must not be measured with them. No instruction.
#[inline(always)]
#[allow(unsafe_code)]
pub fn in_general_register(word: u64) -> u64 {
    let same;
    // SAFETY: no instruction at all.
    unsafe {
        core::arch::asm!("/* {0} */", inlateout(reg) word => same, options(pure, nomem, nostack, preserves_flags));
    }
    same
}

/// Witness that the split lock of a table is held.
pub type Ptl<'p> = MutexGuard<'p, ()>;

/// A few PTE-level entries in a row, read one by one.
#[derive(Clone, Copy, Debug)]
pub struct Run<'p>(&'p [AtomicU64]);

impl Run<'_> {
    /// How many.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.0.len()
    }
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
    /// Entry `k` of the run, relaxed (`ptep_get`).
    #[inline(always)]
    pub fn ptep_get(self, k: usize) -> Entry {
        Entry(self.0[k].load(Relaxed))
    }
}

impl<'p> Run<'p> {
    /// Whole groups of `N` entries, each read once and relaxed as by [`Run::ptep_get`]; what is left over is not among
    /// them.
    #[inline(always)]
    pub fn groups<const N: usize>(self) -> impl Iterator<Item = [Entry; N]> + 'p {
        self.0.as_chunks::<N>().0.iter().map(|group| core::array::from_fn(|j| Entry(group[j].load(Relaxed))))
    }
}

impl<'p> Table<'p> {
    pub(super) fn new(pfn: Pfn, entries: &'p [AtomicU64; PTRS_PER_TABLE], page: &'p Page) -> Self {
        Table { entries, page, pfn }
    }
    /// The entries themselves, for the other files of the floor.
    #[cfg(not(loom))]
    pub(super) fn entries(self) -> &'p [AtomicU64; PTRS_PER_TABLE] {
        self.entries
    }
    /// The frame that holds the entries.
    #[inline(always)]
    pub fn pfn(self) -> Pfn {
        self.pfn
    }
    /// The frame's struct page.
    #[inline(always)]
    pub fn page(self) -> &'p Page {
        self.page
    }
    /// Takes the split lock: `pte_lockptr` for a PTE table, `pmd_lockptr` for a PMD table, else `page_table_lock`'s
    /// stand-in for the upper levels.
    #[inline]
    pub fn lock(self) -> Ptl<'p> {
        self.page.lock_table()
    }
    /// Entry `i`, relaxed (`ptep_get`).
    #[inline(always)]
    pub fn ptep_get(self, i: usize) -> Entry {
        Entry(self.slot(i).load(Relaxed))
    }
    /// Entries `first..first + n` for a loop: the bounds are checked here, once.
    #[inline(always)]
    pub fn ptep_run(self, first: usize, n: usize) -> Run<'p> {
        Run(&self.entries[first..first + n])
    }
    /// Entry `i`, acquire: what it points to is initialised (`pmdp_get_lockless` and its address dependency).
    #[inline(always)]
    pub fn read(self, i: usize) -> Entry {
        Entry(self.slot(i).load(Acquire))
    }
    /// Stores entry `i` with release (`set_pte_at`, `pmd_populate`). The caller holds the lock.
    #[inline(always)]
    pub fn set(self, i: usize, e: Entry) {
        self.slot(i).store(e.bits(), Release);
    }
    /// Stores entry `i` relaxed into a table that nobody else can reach yet.
    #[inline(always)]
    pub fn set_unpublished(self, i: usize, e: Entry) {
        self.slot(i).store(e.bits(), Relaxed);
    }
    /// Replaces entry `i` and returns what stood there (`ptep_get_and_clear` when `e` is none). The caller holds the
    /// lock; a read-modify-write because the processor may set accessed and dirty bits meanwhile.
    #[inline(always)]
    pub fn replace(self, i: usize, e: Entry) -> Entry {
        Entry(self.slot(i).swap(e.bits(), AcqRel))
    }
    /// Replaces entry `i` if it still is `old`: what the processor's page walker does when it sets accessed or dirty.
    #[inline(always)]
    pub fn compare_set(self, i: usize, old: Entry, new: Entry) -> bool {
        self.slot(i).compare_exchange(old.bits(), new.bits(), AcqRel, Relaxed).is_ok()
    }
    /// Whether every entry is none.
    pub fn is_empty(self) -> bool {
        self.entries.iter().all(|e| Entry(e.load(Relaxed)).is_none())
    }
    #[inline(always)]
    fn slot(self, i: usize) -> &'p AtomicU64 {
        // Indices come from `VirtAddr::index`, which masks: the mask here lets the compiler drop the check.
        &self.entries[i & (PTRS_PER_TABLE - 1)]
    }
}
