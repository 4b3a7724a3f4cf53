//! Mapping counts and references of frames: `folio_add_*_rmap_*`, `folio_remove_rmap_*`, `folio_put` (mm/rmap.c,
//! 6.12).
//!
//! A mapping by one PTE or one huge leaf holds one reference on the folio's head. The mapcount of a small folio is its
//! `_mapcount`; of a large one `_large_mapcount` on the head, with `_mapcount` per base page and `_entire_mapcount`
//! for whole-folio mappings beside it.

use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::memory::page::{PG_NOT_EXCLUSIVE, PG_PARTIALLY_MAPPED};
use crate::memory::{Page, PageKind, Phys};
use crate::mm::file::Inode;
use crate::mm::system::System;
use crate::mm::vma::{Backing, Vma};
use crate::mm::{Locked, Mm};
use std::sync::Arc;

impl Phys {
    /// `folio_add_new_anon_rmap` for an order-0 page that one PTE maps exclusively. The page's one reference becomes
    /// the mapping's.
    #[inline]
    pub fn add_new_anon_rmap(&self, pfn: Pfn, index: u64) {
        let page = self.page(pfn);
        page.set_pte_mappings(1);
        page.set_index(index);
    }
    /// `folio_add_new_anon_rmap` for a large folio, each of whose pages one PTE maps, with the references of all but the
    /// first.
    pub fn add_new_anon_rmap_ptes(&self, head: Pfn, order: u8, index: u64) {
        let folio = self.page(head);
        folio.get((1 << order) - 1);
        folio.add_large_mappings(1 << order);
        folio.set_index(index);
        (0..1 << order).for_each(|i| self.page(head.add(i)).set_pte_mappings(1));
    }
    /// `folio_add_new_anon_rmap` for a PMD-mapped folio.
    pub fn add_new_anon_rmap_huge(&self, head: Pfn, index: u64) {
        let page = self.page(head);
        page.add_entire_mappings(1);
        page.add_large_mappings(1);
        page.set_index(index);
    }
    /// `folio_add_*_rmap_pte` and the reference it needs: one more PTE maps the base page `pfn`.
    #[inline]
    pub fn add_rmap_pte(&self, pfn: Pfn) {
        let page = self.page(pfn);
        let head = self.page(self.head(pfn));
        head.get(1);
        page.add_pte_mappings(1);
        if head.order() > 0 {
            head.add_large_mappings(1);
        }
    }
    /// One more huge leaf maps the folio headed by `head`, with its reference.
    pub fn add_rmap_huge(&self, head: Pfn) {
        let page = self.page(head);
        page.get(1);
        page.add_entire_mappings(1);
        page.add_large_mappings(1);
    }
    /// `folio_remove_rmap_pte`, without dropping the reference.
    #[inline]
    pub fn remove_rmap_pte(&self, pfn: Pfn) {
        let page = self.page(pfn);
        let left = page.add_pte_mappings(-1);
        debug_assert!(left >= 0, "{pfn:?} unmapped more often than mapped");
        let head = self.page(self.head(pfn));
        if head.order() > 0 {
            let mapped = head.add_large_mappings(-1);
            if left == 0 && head.entire_mappings() == 0 && mapped > 0 && head.kind() == PageKind::Anon {
                head.set(PG_PARTIALLY_MAPPED);
            }
        }
    }
    /// `folio_remove_rmap_pmd` / `_pud`, without dropping the reference.
    pub fn remove_rmap_huge(&self, head: Pfn) {
        let page = self.page(head);
        let left = page.add_entire_mappings(-1);
        debug_assert!(left >= 0, "{head:?} unmapped more often than mapped");
        page.add_large_mappings(-1);
    }
    /// `folio_mapcount`: mappings of any part of the folio that `pfn` belongs to.
    pub fn mapcount(&self, pfn: Pfn) -> i32 {
        let head = self.page(self.head(pfn));
        if head.order() > 0 { head.large_mappings() } else { head.pte_mappings() }
    }
    /// `folio_precise_page_mapcount`: mappings of this base page, by PTE or as part of a huge leaf. What
    /// /proc/PID/pagemap's bit 56 asks for.
    pub fn page_mapcount(&self, pfn: Pfn) -> i32 {
        let page = self.page(pfn);
        let head = self.page(self.head(pfn));
        if head.order() > 0 { page.pte_mappings() + head.entire_mappings() } else { page.pte_mappings() }
    }
    /// A mapping of `pfn` is gone: removes the rmap of one PTE and drops its reference.
    #[inline]
    pub fn unmap_pte(&self, pfn: Pfn) {
        self.remove_rmap_pte(pfn);
        self.put_folio(pfn, 1);
    }
    /// `folio_put_refs` on the folio that `pfn` belongs to.
    #[inline]
    pub fn put_folio(&self, pfn: Pfn, n: i32) {
        let head = self.head(pfn);
        self.put(head, n);
    }
    /// `SetPageAnonExclusive`.
    #[inline]
    pub fn set_anon_exclusive(&self, pfn: Pfn) {
        self.page(pfn).clear(PG_NOT_EXCLUSIVE);
    }
    /// `ClearPageAnonExclusive`.
    #[inline]
    pub fn clear_anon_exclusive(&self, pfn: Pfn) {
        let page: &Page = self.page(pfn);
        if !page.has(PG_NOT_EXCLUSIVE) {
            page.set(PG_NOT_EXCLUSIVE);
        }
    }
}

/// The address spaces that may map a folio, each with its mmap lock held for reading: what stands for the anon_vma
/// trees of reverse mapping. While it exists no VMA of theirs changes and none of them forks.
///
/// The kernel takes the anon_vma lock instead. The model tries the mmap locks of the relatives; one that is busy is
/// left out, so that a folio it maps stays mapped, and the caller gives up on it as on a pinned page.
pub(crate) struct Family<'a> {
    held: Vec<Locked<'a>>,
}

impl Locked<'_> {
    /// Runs `f` with every relative that can be had.
    pub(crate) fn with_family<R>(&self, f: impl FnOnce(&Family<'_>) -> R) -> R {
        hold(&self.mm.family(), *self, Vec::new(), f)
    }

    /// As [`Locked::with_family`], for a VMA of a file with everybody else who maps that file too.
    pub(crate) fn with_mappers<R>(&self, vma: &Vma, f: impl FnOnce(&Family<'_>) -> R) -> R {
        let mut family = self.mm.family();
        if let Backing::File(file) = &vma.backing {
            let known = family.len();
            let is_new = |mm: &Arc<Mm>| !family[..known].iter().any(|relative| Arc::ptr_eq(relative, mm));
            let others: Vec<_> = file.inode().mms().into_iter().filter(is_new).collect();
            family.extend(others);
        }
        hold(&family, *self, Vec::new(), f)
    }

    /// A page that a builder mapped has neither an index nor an anon_vma: it gets both from where it was found.
    pub(crate) fn adopt_anon(&self, vma: &Vma, addr: VirtAddr, pfn: Pfn) {
        if vma.anon_vma() == 0 {
            vma.set_anon_vma(self.mm.system().new_id());
        }
        let phys = self.mm.phys();
        let head = phys.head(pfn);
        let index = vma.index_of(addr).wrapping_sub(pfn.get() - head.get());
        if phys.page(head).index() != index {
            phys.page(head).set_index(index);
        }
    }
}

/// Locks one after the other, parents before children, as the anon_vma trees have them.
fn hold<'a, R>(
    family: &[Arc<Mm>],
    own: Locked<'a>,
    mut held: Vec<Locked<'a>>,
    f: impl FnOnce(&Family<'_>) -> R,
) -> R {
    let Some((mm, rest)) = family.split_first() else {
        // An address space that is going away is in no family any more.
        if !held.iter().any(|at| core::ptr::eq(at.mm, own.mm)) {
            held.push(own);
        }
        return f(&Family { held });
    };
    if core::ptr::eq(&raw const **mm, own.mm) {
        held.push(own);
        return hold(rest, own, held, f);
    }
    match mm.try_mmap_read() {
        Some(vmas) => {
            let mut held: Vec<Locked<'_>> = held;
            held.push(mm.locked(&vmas));
            hold(rest, own, held, f)
        }
        None => hold(rest, own, held, f),
    }
}

impl Family<'_> {
    /// Frames and struct pages.
    pub(crate) fn phys(&self) -> &Arc<Phys> {
        self.held[0].mm.phys()
    }
    /// The machine.
    pub(crate) fn system(&self) -> &Arc<System> {
        self.held[0].mm.system()
    }
    /// Calls `visit` for each VMA of the relatives that could be had.
    pub(crate) fn each_vma(&self, visit: &mut dyn FnMut(&Mm, &Vma)) {
        self.held.iter().for_each(|at| at.vmas.iter().for_each(|vma| visit(at.mm, vma)));
    }
    /// `rmap_walk_anon`: calls `visit` for each VMA that may map some of the `nr` pages from page offset `first` on,
    /// with the part of it where they would be. False from `visit` ends the walk.
    pub(crate) fn rmap_walk_anon(
        &self,
        first: u64,
        nr: u64,
        visit: &mut dyn FnMut(&Mm, &Vma, PageRange) -> bool,
    ) {
        for at in &self.held {
            for vma in at.vmas.iter() {
                let low = first.max(vma.pgoff);
                let high = (first + nr).min(vma.pgoff + vma.range.nr_pages());
                if low >= high || vma.anon_vma() == 0 {
                    continue;
                }
                let part = PageRange::pages(vma.start().add_pages(low - vma.pgoff), high - low);
                if !visit(at.mm, vma, part) {
                    return;
                }
            }
        }
    }
    /// `rmap_walk_file`: as [`Family::rmap_walk_anon`] over the VMAs that map the page offsets `range` of a file, in
    /// any address space whose mmap lock is to be had.
    pub(crate) fn file_walk(
        &self,
        inode: &Inode,
        range: core::ops::Range<u64>,
        visit: &mut dyn FnMut(&Mm, &Vma, PageRange) -> bool,
    ) {
        for mm in inode.mms() {
            let go_on = match self.held.iter().find(|at| core::ptr::eq(at.mm, &raw const *mm)) {
                Some(at) => at.file_walk(inode, &range, visit),
                None => {
                    mm.try_mmap_read().is_none_or(|vmas| mm.locked(&vmas).file_walk(inode, &range, visit))
                }
            };
            if !go_on {
                return;
            }
        }
    }
    /// The same over those address spaces alone that are held: what one walk puts into their entries, a later one finds
    /// there. Whoever could not be had keeps his mappings.
    pub(crate) fn held_file_walk(
        &self,
        inode: &Inode,
        range: core::ops::Range<u64>,
        visit: &mut dyn FnMut(&Mm, &Vma, PageRange) -> bool,
    ) {
        self.held.iter().all(|at| at.file_walk(inode, &range, visit));
    }
}

impl Locked<'_> {
    /// Calls `visit` for each part of a VMA that maps the page offsets `range` of the file; false if it ended that.
    fn file_walk(
        &self,
        inode: &Inode,
        range: &core::ops::Range<u64>,
        visit: &mut dyn FnMut(&Mm, &Vma, PageRange) -> bool,
    ) -> bool {
        for vma in self.vmas.iter() {
            let Backing::File(file) = &vma.backing else { continue };
            let first = range.start.max(vma.pgoff);
            let end = range.end.min(vma.pgoff + vma.range.nr_pages());
            if file.inode().id() == inode.id() && first < end {
                let part = PageRange::pages(vma.start().add_pages(first - vma.pgoff), end - first);
                if !visit(self.mm, vma, part) {
                    return false;
                }
            }
        }
        true
    }
}
