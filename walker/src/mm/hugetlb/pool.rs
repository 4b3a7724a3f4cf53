//! The pool of huge pages of a machine: `struct hstate`, `hugetlb_acct_memory`, `dequeue_hugetlb_folio_vma`,
//! `free_huge_folio`, `dissolve_free_hugetlb_folio` (mm/hugetlb.c, 6.12).
//!
//! It hands out its pages only when asked, so that a large pool costs nothing.

use crate::addr::{PMD_ORDER, Pfn};
use crate::memory::page::{PG_HWPOISON, PG_RESTORE_RESERVE};
use crate::memory::{PageKind, Phys};
use crate::mm::Errno;
use crate::sync::Mutex;

/// One size of the pool (`struct hstate`).
#[derive(Clone, Copy, Debug, Default)]
struct Hstate {
    nr_huge_pages: u64,
    free: u64,
    /// Free pages that are promised to mappings.
    reserved: u64,
}

/// The pool of huge pages of a machine.
#[derive(Debug)]
pub struct HugetlbPool {
    sizes: Mutex<[Hstate; 2]>,
}

impl HugetlbPool {
    /// A pool with this many pages.
    pub fn new(nr_2m: u64, nr_1g: u64) -> HugetlbPool {
        let size = |free| Hstate { nr_huge_pages: free, free, reserved: 0 };
        HugetlbPool { sizes: Mutex::new([size(nr_2m), size(nr_1g)]) }
    }
    /// Free pages of `1 << order` base pages, and how many of them are reserved.
    pub fn available(&self, order: u8) -> (u64, u64) {
        let h = self.sizes.lock()[size_index(order)];
        (h.free, h.reserved)
    }
    /// Pages of `1 << order` base pages that the pool has, free or in use (`nr_huge_pages`).
    pub fn nr_huge_pages(&self, order: u8) -> u64 {
        self.sizes.lock()[size_index(order)].nr_huge_pages
    }
    /// `hugetlb_acct_memory` with a positive delta.
    pub(super) fn reserve(&self, order: u8, nr: u64) -> Result<(), Errno> {
        let h = &mut self.sizes.lock()[size_index(order)];
        if h.reserved + nr > h.free {
            return Err(Errno::NoMem);
        }
        h.reserved += nr;
        Ok(())
    }
    /// `hugetlb_acct_memory` with a negative delta.
    pub(super) fn unreserve(&self, order: u8, nr: u64) {
        self.sizes.lock()[size_index(order)].reserved -= nr;
    }
    /// A page that is in use moves and its old frame leaves the pool (`soft_offline_page`, then
    /// `dissolve_free_hugetlb_folio`): one free page fewer, if any is not promised.
    pub(crate) fn shrink(&self, order: u8) {
        self.sizes.lock()[size_index(order)].dissolve();
    }
    /// `dequeue_hugetlb_folio_vma`: a page with one reference, from the reservation or from what is left beside it.
    pub(super) fn dequeue(&self, phys: &Phys, order: u8, reserved: bool) -> Option<Pfn> {
        let h = &mut self.sizes.lock()[size_index(order)];
        if h.free == 0 || (!reserved && h.free == h.reserved) {
            return None;
        }
        let head = phys.alloc(PageKind::Hugetlb, order).ok()?;
        h.free -= 1;
        if reserved {
            h.reserved -= 1;
            phys.page(head).set(PG_RESTORE_RESERVE);
        }
        Some(head)
    }
    /// `folio_put_refs`, and `free_huge_folio` with the last one. True if it was the last.
    pub(crate) fn put(&self, phys: &Phys, head: Pfn, n: i32) -> bool {
        let page = phys.page(head);
        if !page.put(n) {
            return false;
        }
        let (order, restore) = (page.order(), page.has(PG_RESTORE_RESERVE));
        let poisoned = page.has(PG_HWPOISON).then(|| {
            let tail = (1..1 << order).map(|i| head.add(i)).find(|&pfn| phys.page(pfn).has(PG_HWPOISON));
            tail.unwrap_or(head)
        });
        match poisoned {
            Some(poisoned) => phys.free_around(head, poisoned),
            None => phys.free(head),
        }
        let h = &mut self.sizes.lock()[size_index(order)];
        h.free += 1;
        h.reserved += u64::from(restore);
        if poisoned.is_some() {
            h.dissolve();
        }
        true
    }
}

impl Hstate {
    /// `dissolve_free_hugetlb_folio`: one free page leaves the pool, unless all are promised. In the kernel the pool is
    /// left with a page that nobody can have then; here it finds another.
    fn dissolve(&mut self) {
        let gone = u64::from(self.free > self.reserved);
        self.free -= gone;
        self.nr_huge_pages -= gone;
    }
}

fn size_index(order: u8) -> usize {
    (order != PMD_ORDER) as usize
}
