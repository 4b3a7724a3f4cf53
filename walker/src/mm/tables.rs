//! Descent, allocation and freeing of page tables, and the lock of an entry.
//!
//! Models `pgd_offset` .. `pmd_offset`, `__pte_alloc` / `pmd_install`, `pte_offset_map_lock`, `free_pgtables` /
//! `free_pgd_range` (mm/memory.c, mm/pgtable-generic.c). Tables above the PTE level are freed only under the mmap lock
//! for write, PTE tables also by collapse; hence the re-check after locking. A table that was freed and reused in
//! between is still a table-shaped frame, so locking the wrong one is harmless and noticed.
//!
//! The split lock of an entry lives in the struct page of the table that holds it, at every level (the kernel has one
//! `page_table_lock` for the PGD and PUD levels).

use crate::addr::{Level, PTRS_PER_TABLE, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::memory::table::Ptl;
use crate::memory::{OutOfFrames, Table};
use crate::mm::Mm;

/// Where an entry is: the table that holds it and its index there.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The table.
    pub table: Table<'a>,
    /// Index of the entry in it.
    pub index: usize,
}

impl<'a> Slot<'a> {
    /// The entry, acquire (`pmdp_get_lockless`).
    #[inline(always)]
    pub fn read(self) -> Entry {
        self.table.read(self.index)
    }
    /// Stores the entry. The caller holds the table's lock.
    #[inline(always)]
    pub fn set(self, e: Entry) {
        self.table.set(self.index, e);
    }
    /// Replaces the entry and returns the old one. The caller holds the table's lock.
    #[inline(always)]
    pub fn replace(self, e: Entry) -> Entry {
        self.table.replace(self.index, e)
    }
    /// Takes the lock that protects the entry.
    #[inline(always)]
    pub fn lock(self) -> Ptl<'a> {
        self.table.lock()
    }
}

impl Mm {
    /// The root table.
    #[inline(always)]
    pub fn root(&self) -> Table<'_> {
        self.phys().table(self.pgd)
    }

    /// The slot of `addr` at `level`, or the level at which the descent met an entry that is no table.
    #[inline(always)]
    pub fn lookup(&self, addr: VirtAddr, level: Level) -> Result<Slot<'_>, Level> {
        self.descend(addr, level, |slot, at| {
            let e = slot.read();
            if e.is_table() { Ok(e) } else { Err(at) }
        })
    }

    /// The slot of `addr` at `level`, allocating the tables above it (`p4d_alloc`, `pud_alloc`, `pmd_alloc`).
    ///
    /// # Errors
    /// [`OutOfFrames`].
    #[inline(always)]
    pub fn lookup_alloc(&self, addr: VirtAddr, level: Level) -> Result<Slot<'_>, OutOfFrames> {
        self.descend(addr, level, |slot, at| {
            let mut e = slot.read();
            if e.is_none() {
                self.install_table(slot)?;
                e = slot.read();
            }
            debug_assert!(e.is_table(), "{addr:?}: {e:?} at {at:?}");
            Ok(e)
        })
    }

    /// From the root to the slot of `addr` at `level`; `table_at` gives the entry of the next table. Written out level by
    /// level, as `pgd_offset` .. `pmd_offset` are, so that each shift is a constant.
    #[inline(always)]
    fn descend<'a, E>(
        &'a self,
        addr: VirtAddr,
        level: Level,
        table_at: impl Fn(Slot<'a>, Level) -> Result<Entry, E>,
    ) -> Result<Slot<'a>, E> {
        let mut table = self.root();
        let down = |table: Table<'a>, at: Level| {
            let e = table_at(Slot { table, index: addr.index(at) }, at)?;
            Ok(self.phys().table(e.table_pfn()))
        };
        if level < Level::Pgd && self.geometry().root() == Level::Pgd {
            table = down(table, Level::Pgd)?;
        }
        if level < Level::P4d {
            table = down(table, Level::P4d)?;
        }
        if level < Level::Pud {
            table = down(table, Level::Pud)?;
        }
        if level < Level::Pmd {
            table = down(table, Level::Pmd)?;
        }
        Ok(Slot { table, index: addr.index(level) })
    }

    /// Puts an empty table below a none entry, unless somebody else just did (`__pte_alloc`, `pmd_install`).
    ///
    /// # Errors
    /// [`OutOfFrames`].
    #[cold]
    pub fn install_table(&self, slot: Slot<'_>) -> Result<(), OutOfFrames> {
        let new = self.phys().alloc_table()?;
        let guard = slot.lock();
        if slot.read().is_none() {
            // Release in `set` publishes the zeroed entries (smp_wmb in pmd_install).
            slot.set(Entry::table(new.pfn()));
            return Ok(());
        }
        drop(guard);
        self.phys().free_table(new.pfn());
        Ok(())
    }

    /// `pte_offset_map_lock`: the PTE table below `pmd` with its lock held, or none if there is no table there (any
    /// more).
    #[inline]
    pub fn lock_pte_table<'a>(&'a self, pmd: Slot<'a>) -> Option<(Table<'a>, Ptl<'a>)> {
        loop {
            let e = pmd.read();
            if !e.is_table() {
                return None;
            }
            let table = self.phys().table(e.table_pfn());
            let guard = table.lock();
            if pmd.read() == e {
                return Some((table, guard));
            }
        }
    }

    /// `pgtable_trans_huge_deposit`: keeps a spare table beside a huge leaf, so that a split cannot fail. Under the
    /// lock of the PMD table.
    pub(crate) fn deposit(&self, pmd_table: Table<'_>, spare: Table<'_>) {
        spare.page().set_private(pmd_table.page().private());
        pmd_table.page().set_private(spare.pfn().get());
    }
    /// `pgtable_trans_huge_withdraw`.
    pub(crate) fn withdraw<'a>(&'a self, pmd_table: Table<'_>) -> Table<'a> {
        let pfn = crate::addr::Pfn::new(pmd_table.page().private());
        debug_assert!(pfn.get() != 0, "a huge leaf without a deposited table");
        let spare = self.phys().table(pfn);
        pmd_table.page().set_private(spare.page().private());
        spare.page().set_private(0);
        spare
    }

    /// `free_pgtables`: frees every table whose whole span lies in `hole`, which no VMA overlaps any more and whose
    /// entries are all none. `hole` is the gap between the neighbouring VMAs. Needs the mmap lock for write.
    pub(crate) fn free_pgtables(&self, unmapped: PageRange, hole: PageRange) {
        let root = self.geometry().root();
        self.free_below(self.root(), root, unmapped, hole);
    }

    fn free_below(&self, table: Table<'_>, level: Level, unmapped: PageRange, hole: PageRange) {
        if level == Level::Pte {
            return;
        }
        let mut addr = unmapped.start();
        while addr < unmapped.end() {
            let next = addr.next_boundary(level, unmapped.end());
            let slot = Slot { table, index: addr.index(level) };
            let e = slot.read();
            if e.is_table() {
                let child = self.phys().table(e.table_pfn());
                self.free_below(child, below(level), PageRange::between(addr, next), hole);
                let span_start = addr.align_down(level);
                let inside = span_start >= hole.start()
                    && span_start.get().checked_add(level.size()).is_some_and(|end| end <= hole.end().get());
                if inside {
                    debug_assert!(child.is_empty(), "freeing a {level:?} table with live entries");
                    let guard = slot.lock();
                    slot.set(Entry::NONE);
                    drop(guard);
                    self.phys().free_table_rcu(child.pfn());
                }
            }
            addr = next;
        }
    }

    /// Frees a whole tree whose leaves are gone (`exit_mmap`). Nobody else may look at it any more.
    pub(crate) fn free_tree(&self, table: Table<'_>, level: Level) {
        if level > Level::Pte {
            for i in 0..PTRS_PER_TABLE {
                let e = table.read(i);
                if e.is_table() {
                    self.free_tree(self.phys().table(e.table_pfn()), below(level));
                }
            }
        }
        self.phys().free_table(table.pfn());
    }
}

/// The next level down. The folded P4D of four levels is the root itself, so P4D is always followed by PUD.
#[inline(always)]
pub const fn below(level: Level) -> Level {
    match level {
        Level::Pgd => Level::P4d,
        Level::P4d => Level::Pud,
        Level::Pud => Level::Pmd,
        Level::Pmd | Level::Pte => Level::Pte,
    }
}
