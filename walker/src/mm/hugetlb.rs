//! hugetlb pages. Models mm/hugetlb.c and fs/hugetlbfs/inode.c of 6.12. An entry is a leaf in the PMD table (2 MiB) or
//! the PUD table (1 GiB), without a spare table beside it; there is never a table below.
//!
//! | file | what |
//! |------|------|
//! | `pool` | the huge pages of a machine |
//! | `mapping` | files, mappings, and the pages that are reserved for them |
//! | `fault` | page faults |
//! | `entries` | zap, mprotect, fork, mremap |
//!
//! Left out: shared PMD tables (they need a shared mapping of a whole 1 GiB span), surplus pages, subpools, cgroups,
//! memory policies.

mod entries;
mod fault;
mod mapping;
mod pool;
mod punch;

pub use mapping::{HugetlbFile, HugetlbMapping};
pub use pool::HugetlbPool;

use crate::addr::{Level, PMD_ORDER, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::memory::Phys;
use crate::memory::page::PG_CACHED;
use crate::mm::Errno;
use crate::mm::vma::{Backing, VmFlags, Vma};

/// `ksys_mmap_pgoff` and `prepare_hugepage_range`: the length of MAP_HUGETLB is rounded up, the address must fit.
///
/// # Errors
/// -EINVAL at an address that is no multiple of the huge page.
pub(crate) fn hugetlb_map_range(range: PageRange, order: u8) -> Result<PageRange, Errno> {
    if (range.start().get() >> 12) & ((1 << order) - 1) != 0 {
        return Err(Errno::Inval);
    }
    Ok(PageRange::pages(range.start(), range.nr_pages().next_multiple_of(1 << order)))
}

impl Vma {
    /// What this hugetlb VMA maps.
    ///
    /// # Panics
    /// If it is no hugetlb VMA.
    #[inline]
    pub fn hugetlb(&self) -> &HugetlbMapping {
        match &self.backing {
            Backing::Hugetlb(h) => h,
            _ => panic!("not a hugetlb VMA: {:?}", self.range),
        }
    }
    /// The level whose entries are this VMA's pages: PMD for 2 MiB, PUD for 1 GiB.
    #[inline]
    pub fn hugetlb_level(&self) -> Level {
        if self.hugetlb().file.order == PMD_ORDER { Level::Pmd } else { Level::Pud }
    }
    /// `vma_hugecache_offset`.
    fn huge_index(&self, addr: VirtAddr) -> u64 {
        self.index_of(addr) >> self.hugetlb().file.order
    }
    /// `make_huge_pte`.
    fn make_huge(&self, head: Pfn, writable: bool) -> Entry {
        let e = Entry::leaf(head, self.page_prot()).mkhuge();
        let e = if writable { e.mkdirty().mkwrite() } else { e.wrprotect() };
        e.mkyoung()
    }
    fn maps_shared(&self) -> bool {
        self.has(VmFlags::MAYSHARE)
    }
}

/// `folio_test_anon` of a hugetlb page.
fn is_anon(phys: &Phys, head: Pfn) -> bool {
    !phys.page(head).has(PG_CACHED)
}

#[cfg(test)]
mod tests;
