//! Mapping counts and references of frames: `folio_add_*_rmap_*`, `folio_remove_rmap_*`, `folio_put` (mm/rmap.c,
//! 6.12).
//!
//! A mapping by one PTE or one huge leaf holds one reference on the folio's head. The mapcount of a small folio is its
//! `_mapcount`; of a large one `_large_mapcount` on the head, with `_mapcount` per base page and `_entire_mapcount`
//! for whole-folio mappings beside it.

use crate::addr::Pfn;
use crate::memory::page::{PG_NOT_EXCLUSIVE, PG_PARTIALLY_MAPPED};
use crate::memory::{Page, PageKind, Phys};

impl Phys {
    /// `folio_add_new_anon_rmap` for an order-0 page that one PTE maps exclusively. The page's one reference becomes
    /// the mapping's.
    #[inline]
    pub fn add_new_anon_rmap(&self, pfn: Pfn, index: u64) {
        let page = self.page(pfn);
        page.set_pte_mappings(1);
        page.set_index(index);
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
            let left = head.add_large_mappings(-1);
            if left > 0 && head.kind() == PageKind::Anon {
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
