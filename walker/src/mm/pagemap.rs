//! What /proc/PID/pagemap and PAGEMAP_SCAN say about a page.
//!
//! Models `pagemap_pmd_range`, `pte_to_pagemap_entry`, `pagemap_hugetlb_range`, `pagemap_pte_hole` and
//! `pagemap_scan_*` without write-protection (fs/proc/task_mmu.c, 6.12). Both read the same tables, so one walk answers
//! both.

use crate::addr::{Level, PTRS_PER_TABLE, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::arch::entry::MARKER_UFFD_WP;
use crate::memory::PageKind;
use crate::memory::page::PG_CACHED;
use crate::mm::Locked;
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::walk::{Visit, WalkOps, walk_page_range};
use bitflags::bitflags;
use core::convert::Infallible;

bitflags! {
    /// The flag bits of a pagemap entry, at the kernel's positions.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PagemapBits: u64 {
        /// The entry or the VMA is soft-dirty.
        const SOFT_DIRTY = 1 << 55;
        /// Nobody else maps the page.
        const EXCLUSIVE = 1 << 56;
        /// Write-protected by userfaultfd.
        const UFFD_WP = 1 << 57;
        /// Page cache or shared anonymous memory.
        const FILE = 1 << 61;
        /// A swap-format entry: swapped, device memory, migrating, poisoned, a marker.
        const SWAP = 1 << 62;
        /// Present.
        const PRESENT = 1 << 63;
    }
}

bitflags! {
    /// PAGE_IS_*: the categories of PAGEMAP_SCAN.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct ScanBits: u8 {
        /// The VMA takes asynchronous write protection.
        const WPALLOWED = 0x01;
        /// Not write-protected by userfaultfd.
        const WRITTEN = 0x02;
        /// Page cache or shared anonymous memory.
        const FILE = 0x04;
        /// Present.
        const PRESENT = 0x08;
        /// A swap-format entry.
        const SWAPPED = 0x10;
        /// The zero page, small or huge.
        const PFNZERO = 0x20;
        /// Mapped by a PMD, or the slot of a hugetlb page.
        const HUGE = 0x40;
        /// The entry or the VMA is soft-dirty.
        const SOFT_DIRTY = 0x80;
    }
}

impl Locked<'_> {
    /// The pagemap entry of the page at `addr`.
    pub fn pagemap(&self, addr: VirtAddr) -> PagemapBits {
        let mut bits = PagemapBits::empty();
        self.pagemap_range(PageRange::pages(addr.page_start(), 1), |_, b, _| bits = b);
        bits
    }
    /// The categories of the page at `addr`; none where PAGEMAP_SCAN reports nothing (no VMA, or PFNMAP).
    pub fn pagemap_scan(&self, addr: VirtAddr) -> Option<ScanBits> {
        let mut bits = None;
        self.pagemap_range(PageRange::pages(addr.page_start(), 1), |_, _, s| bits = s);
        bits
    }
    /// Both for every page of `range`, in address order.
    pub fn pagemap_range(&self, range: PageRange, f: impl FnMut(VirtAddr, PagemapBits, Option<ScanBits>)) {
        if range.is_empty() {
            return;
        }
        let mut ops = PagemapWalk { at: *self, report: f };
        let Ok(()) = walk_page_range(*self, range, &mut ops);
    }
}

struct PagemapWalk<'a, F> {
    at: Locked<'a>,
    report: F,
}

impl<F: FnMut(VirtAddr, PagemapBits, Option<ScanBits>)> PagemapWalk<'_, F> {
    fn fill(&mut self, part: PageRange, bits: PagemapBits, scan: Option<ScanBits>) {
        (0..part.nr_pages()).for_each(|i| (self.report)(part.start().add_pages(i), bits, scan));
    }
    /// `folio_test_anon` of the page that an entry names.
    fn is_anon(&self, pfn: crate::addr::Pfn) -> bool {
        let page = self.at.mm.phys().page(pfn);
        match page.kind() {
            PageKind::Anon | PageKind::DevicePrivate => true,
            PageKind::Hugetlb => !self.at.mm.phys().page(self.at.mm.phys().head(pfn)).has(PG_CACHED),
            _ => false,
        }
    }
    fn file_bits(&self, pfn: crate::addr::Pfn) -> (PagemapBits, ScanBits) {
        if self.is_anon(pfn) {
            (PagemapBits::empty(), ScanBits::empty())
        } else {
            (PagemapBits::FILE, ScanBits::FILE)
        }
    }
    /// What both say about a swap-format entry at the PTE or PMD level.
    fn swp_bits(&self, e: Entry) -> (PagemapBits, ScanBits) {
        let (mut bits, mut scan) = (PagemapBits::SWAP, ScanBits::SWAPPED);
        let swp = e.swp();
        if !swp.is_swap() && !swp.is_marker() {
            // is_pfn_swap_entry
            let (b, s) = self.file_bits(swp.pfn());
            bits |= b;
            scan |= s;
        }
        if e.is_swp_soft_dirty() {
            bits |= PagemapBits::SOFT_DIRTY;
            scan |= ScanBits::SOFT_DIRTY;
        }
        if is_swp_uffd_wp_any(e) {
            bits |= PagemapBits::UFFD_WP;
        } else {
            scan |= ScanBits::WRITTEN;
        }
        (bits, scan)
    }
    /// What both say about a present entry, beside the kind of its page.
    fn present_bits(e: Entry) -> (PagemapBits, ScanBits) {
        let (mut bits, mut scan) = (PagemapBits::PRESENT, ScanBits::PRESENT);
        if e.is_soft_dirty() {
            bits |= PagemapBits::SOFT_DIRTY;
            scan |= ScanBits::SOFT_DIRTY;
        }
        if e.is_uffd_wp() {
            bits |= PagemapBits::UFFD_WP;
        } else {
            scan |= ScanBits::WRITTEN;
        }
        (bits, scan)
    }
    /// `pte_to_pagemap_entry` and `pagemap_page_category`.
    fn pte_bits(&self, e: Entry) -> (PagemapBits, ScanBits) {
        if e.is_none() {
            return (PagemapBits::empty(), ScanBits::WRITTEN);
        }
        if !e.is_present() {
            return self.swp_bits(e);
        }
        let (mut bits, mut scan) = Self::present_bits(e);
        if e.pfn() == self.at.mm.system().zero_pfn() {
            scan |= ScanBits::PFNZERO;
        }
        if !e.is_special() {
            let (b, s) = self.file_bits(e.pfn());
            bits |= b;
            scan |= s;
            if self.at.mm.phys().page_mapcount(e.pfn()) == 1 {
                bits |= PagemapBits::EXCLUSIVE;
            }
        }
        (bits, scan)
    }
    /// A huge leaf or a migrating one: the part of `pagemap_pmd_range` under `pmd_trans_huge_lock`, and
    /// `pagemap_thp_category`.
    fn huge_pmd(&mut self, e: Entry, part: PageRange, vma_bits: PagemapBits, vma_scan: ScanBits) {
        if !e.is_present() {
            let (bits, scan) = self.swp_bits(e);
            return self.fill(part, bits | vma_bits, Some(scan | vma_scan | ScanBits::HUGE));
        }
        let phys = self.at.mm.phys();
        let (mut bits, mut scan) = Self::present_bits(e);
        scan |= ScanBits::HUGE;
        let (b, s) = self.file_bits(e.pfn());
        bits |= b;
        if phys.page(e.pfn()).kind() == PageKind::HugeZero {
            // pagemap takes the huge zero page for a file's, the scan knows better.
            scan |= ScanBits::PFNZERO;
        } else {
            scan |= s;
        }
        let first = part.start().index(Level::Pte) as u64;
        for i in 0..part.nr_pages() {
            let mut each = bits | vma_bits;
            if phys.page_mapcount(e.pfn().add(first + i)) == 1 {
                each |= PagemapBits::EXCLUSIVE;
            }
            (self.report)(part.start().add_pages(i), each, Some(scan | vma_scan));
        }
    }
}

/// What the VMA alone contributes.
fn vma_bits(vma: &Vma) -> (PagemapBits, ScanBits) {
    if vma.has(VmFlags::SOFTDIRTY) {
        (PagemapBits::SOFT_DIRTY, ScanBits::SOFT_DIRTY)
    } else {
        (PagemapBits::empty(), ScanBits::empty())
    }
}

/// `pte_swp_uffd_wp_any`: the bit of a swap entry, or a marker that remembers it.
fn is_swp_uffd_wp_any(e: Entry) -> bool {
    e.is_swp_uffd_wp() || e.swp().is_marker() && e.swp().offset() & MARKER_UFFD_WP != 0
}

impl<'a, F: FnMut(VirtAddr, PagemapBits, Option<ScanBits>)> WalkOps<'a> for PagemapWalk<'a, F> {
    type Break = Infallible;

    fn test_walk(&mut self, vma: &'a Vma, part: PageRange) -> Result<Visit, Infallible> {
        if vma.has(VmFlags::PFNMAP) {
            // pagemap hears of a hole, the scan leaves the VMA out.
            self.fill(part, vma_bits(vma).0, None);
            return Ok(Visit::Skip);
        }
        Ok(Visit::Walk)
    }

    fn pte_hole(&mut self, vma: Option<&'a Vma>, part: PageRange) -> Result<(), Infallible> {
        match vma {
            None => self.fill(part, PagemapBits::empty(), None),
            Some(vma) => {
                let (bits, mut scan) = vma_bits(vma);
                // Without a marker the range was zapped since it was protected: written.
                if vma.has(VmFlags::UFFD_WP) && !vma.has(VmFlags::HUGETLB) {
                    scan |= ScanBits::WRITTEN;
                }
                self.fill(part, bits, Some(scan));
            }
        }
        Ok(())
    }

    fn pmd_entry(&mut self, vma: &'a Vma, pmd: Slot<'a>, part: PageRange) -> Result<(), Infallible> {
        let (bits, scan) = vma_bits(vma);
        loop {
            let e = pmd.read();
            if e.is_none() {
                return self.pte_hole(Some(vma), part);
            }
            if !e.is_table() {
                let guard = pmd.lock();
                if pmd.read() != e {
                    drop(guard);
                    continue;
                }
                self.huge_pmd(e, part, bits, scan);
                return Ok(());
            }
            let Some((table, _guard)) = self.at.mm.lock_pte_table(pmd) else { continue };
            let first = part.start().index(Level::Pte);
            debug_assert!(first + part.nr_pages() as usize <= PTRS_PER_TABLE);
            for i in 0..part.nr_pages() {
                let (b, s) = self.pte_bits(table.ptep_get(first + i as usize));
                (self.report)(part.start().add_pages(i), b | bits, Some(s | scan));
            }
            return Ok(());
        }
    }

    fn pud_leaf(&mut self, vma: &'a Vma, _e: Entry, part: PageRange) -> Result<(), Infallible> {
        self.pte_hole(Some(vma), part)
    }

    /// `pagemap_hugetlb_range` and `pagemap_hugetlb_category`: the former knows neither soft-dirty nor swap entries.
    fn hugetlb_entry(&mut self, vma: &'a Vma, slot: Slot<'a>, part: PageRange) -> Result<(), Infallible> {
        let (mut bits, mut scan) = vma_bits(vma);
        scan |= ScanBits::HUGE;
        let e = slot.read();
        if e.is_present() {
            let (b, s) = Self::present_bits(e);
            bits |= b - PagemapBits::SOFT_DIRTY;
            scan |= s;
            let (b, s) = self.file_bits(e.pfn());
            bits |= b;
            scan |= s;
            if self.at.mm.phys().mapcount(e.pfn()) <= 1 {
                bits |= PagemapBits::EXCLUSIVE;
            }
        } else if !e.is_none() {
            scan |= ScanBits::SWAPPED;
            if e.is_swp_soft_dirty() {
                scan |= ScanBits::SOFT_DIRTY;
            }
            if is_swp_uffd_wp_any(e) {
                bits |= PagemapBits::UFFD_WP;
            } else {
                scan |= ScanBits::WRITTEN;
            }
        }
        self.fill(part, bits, Some(scan));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Geometry;
    use crate::memory::PhysConfig;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::system::{Settings, System};
    use crate::mm::touch::Access;
    use crate::mm::{Mm, madvise::Advice};

    #[test]
    fn pagemap_tells_holes_tables_zero_pages_and_shared_pages_apart() {
        let config = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
        let system = System::new(config, Settings::default()).unwrap();
        let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
        let base = VirtAddr::new(0x2000_0000_0000);
        let range = PageRange::pages(base, 1024);
        let rw = VmFlags::READ | VmFlags::WRITE;
        mm.mmap(range, rw, MapKind::Anon, MapFlags::default(), 0).unwrap();
        mm.touch(base, Access::Write(1)).unwrap();
        mm.touch(base.add_pages(1), Access::Read).unwrap();
        let get = |page: u64| {
            let vmas = mm.mmap_read();
            let at = mm.locked(&vmas);
            (
                at.pagemap(base.add_pages(page)).bits() >> 55,
                at.pagemap_scan(base.add_pages(page)).unwrap().bits(),
            )
        };
        const P: u64 = 1 << 8;
        assert_eq!(get(0), (P | 2 | 1, 0x8a));
        assert_eq!(get(1), (P | 1, 0xaa));
        assert_eq!(get(2), (1, 0x82), "none entry in a table");
        assert_eq!(get(512), (1, 0x80), "no table");
        let child = mm.fork().unwrap();
        assert_eq!(get(0), (P | 1, 0x8a), "two processes map it");
        child.exit();
        mm.madvise(PageRange::pages(base.add_pages(512), 512), Advice::Hugepage).unwrap();
        mm.touch(base.add_pages(600), Access::Read).unwrap();
        assert_eq!(get(512), (P | 1 << 6 | 1, 0xea), "the huge zero page looks like a file's");
        let vmas = mm.mmap_read();
        assert_eq!(mm.locked(&vmas).pagemap_scan(base.add_pages(1024)), None);
        assert_eq!(mm.locked(&vmas).pagemap(base.add_pages(1024)), PagemapBits::empty());
    }
}
