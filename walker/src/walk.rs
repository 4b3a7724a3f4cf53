//! The range walk: gaps, holes, huge leaves, PTE tables, hugetlb pages. Knows no output format.
//!
//! Models `walk_page_range` with the operations that hmm_range_fault sets (mm/pagewalk.c, 6.6-6.12): address order,
//! depth first, VMA by VMA; one `pte_hole` for a whole gap between VMAs; inside a VMA one `pte_hole` for each none
//! entry at its level, clipped to VMA and range. Callbacks are static; the walk allocates nothing.
//!
//! The caller holds the mmap lock, so tables above the PTE level stay. PTE tables may be detached meanwhile: the PMD
//! callback opens its own read-side critical section (`pte_offset_map`).

use crate::addr::{Level, PageRange};
use crate::arch::Entry;
use crate::memory::Table;
use crate::mm::Locked;
use crate::mm::tables::{Slot, below};
use crate::mm::vma::{VmFlags, Vma};

/// What `test_walk` decides about a VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Walk it.
    Walk,
    /// Go on with the next VMA.
    Skip,
}

/// The callbacks (`struct mm_walk_ops`). An error ends the walk and is returned.
pub trait WalkOps<'a> {
    /// What ends a walk early.
    type Break;
    /// A VMA begins; `part` is what of it lies in the range.
    ///
    /// # Errors
    /// Ends the walk.
    fn test_walk(&mut self, vma: &'a Vma, part: PageRange) -> Result<Visit, Self::Break>;
    /// No table here: a none entry in `vma`, or a gap between VMAs (none).
    ///
    /// # Errors
    /// Ends the walk.
    fn pte_hole(&mut self, vma: Option<&'a Vma>, part: PageRange) -> Result<(), Self::Break>;
    /// A PMD entry that is not none: table, leaf or non-present. `part` lies in its span.
    ///
    /// # Errors
    /// Ends the walk.
    fn pmd_entry(&mut self, vma: &'a Vma, pmd: Slot<'a>, part: PageRange) -> Result<(), Self::Break>;
    /// A leaf at the PUD level outside hugetlb (device DAX).
    ///
    /// # Errors
    /// Ends the walk.
    fn pud_leaf(&mut self, vma: &'a Vma, e: Entry, part: PageRange) -> Result<(), Self::Break>;
    /// A hugetlb entry whose table exists. `part` lies in its span.
    ///
    /// # Errors
    /// Ends the walk.
    fn hugetlb_entry(&mut self, vma: &'a Vma, slot: Slot<'a>, part: PageRange) -> Result<(), Self::Break>;
}

/// `walk_page_range` over a range that is not empty.
///
/// # Errors
/// Whatever a callback ended the walk with.
pub fn walk_page_range<'a, W: WalkOps<'a>>(
    at: Locked<'a>,
    range: PageRange,
    ops: &mut W,
) -> Result<(), W::Break> {
    let mut addr = range.start();
    while addr < range.end() {
        let vma = at.vmas.find_from(addr);
        let Some(vma) = vma.filter(|v| v.start() < range.end()) else {
            return ops.pte_hole(None, PageRange::between(addr, range.end()));
        };
        if addr < vma.start() {
            ops.pte_hole(None, PageRange::between(addr, vma.start()))?;
            addr = vma.start();
        }
        let part = PageRange::between(addr, vma.end().min(range.end()));
        addr = part.end();
        if ops.test_walk(vma, part)? == Visit::Skip {
            continue;
        }
        if vma.has(VmFlags::HUGETLB) {
            walk_hugetlb_range(at, vma, part, ops)?;
        } else {
            walk_level(at, vma, at.mm.root(), at.mm.geometry().root(), part, ops)?;
        }
    }
    Ok(())
}

/// `walk_pgd_range` .. `walk_pmd_range`. At most four deep.
fn walk_level<'a, W: WalkOps<'a>>(
    at: Locked<'a>,
    vma: &'a Vma,
    table: Table<'a>,
    level: Level,
    part: PageRange,
    ops: &mut W,
) -> Result<(), W::Break> {
    let mut addr = part.start();
    while addr < part.end() {
        let next = addr.next_boundary(level, part.end());
        let slot = Slot { table, index: addr.index(level) };
        let span = PageRange::between(addr, next);
        addr = next;
        if level == Level::Pmd {
            if slot.read().is_none() {
                ops.pte_hole(Some(vma), span)?;
            } else {
                ops.pmd_entry(vma, slot, span)?;
            }
            continue;
        }
        let e = slot.read();
        if e.is_table() {
            walk_level(at, vma, at.mm.phys().table(e.table_pfn()), below(level), span, ops)?;
        } else if level == Level::Pud && e.is_huge() {
            ops.pud_leaf(vma, e, span)?;
        } else {
            ops.pte_hole(Some(vma), span)?;
        }
    }
    Ok(())
}

/// `walk_hugetlb_range`: per huge page, whether a slot exists for it or not.
fn walk_hugetlb_range<'a, W: WalkOps<'a>>(
    at: Locked<'a>,
    vma: &'a Vma,
    part: PageRange,
    ops: &mut W,
) -> Result<(), W::Break> {
    let level = vma.hugetlb_level();
    let mut addr = part.start();
    while addr < part.end() {
        let next = addr.next_boundary(level, part.end());
        let span = PageRange::between(addr, next);
        match at.mm.lookup(addr, level) {
            Ok(slot) => ops.hugetlb_entry(vma, slot, span)?,
            Err(_) => ops.pte_hole(Some(vma), span)?,
        }
        addr = next;
    }
    Ok(())
}
