//! Huge pages of orders below 9 in anonymous memory (mTHP): the fault that maps one, by PTEs.
//!
//! Models `alloc_anon_folio` and what `do_anonymous_page` does with a large folio (mm/memory.c, 6.12). What happens to
//! such a folio later is what happens to a 2 MiB folio that PTEs map.

use crate::addr::{Level, PAGE_SIZE, PMD_ORDER, VirtAddr};
use crate::arch::Entry;
use crate::counters::{Count, Counters};
use crate::memory::PageKind;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::vma::VmFlags;

impl Vmf<'_> {
    /// Start of the folio of `order` that would hold the address.
    fn folio_start(&self, order: u8) -> VirtAddr {
        VirtAddr::new(self.addr.get() & !((PAGE_SIZE << order) - 1))
    }

    /// `thp_vma_suitable_order`: that folio lies in the VMA.
    fn suits_order(&self, order: u8) -> bool {
        let start = self.folio_start(order);
        start >= self.vma.start() && start.get() + (PAGE_SIZE << order) <= self.vma.end().get()
    }

    /// Maps a large folio around the address of a write to what was never touched; `None` where none may be or fits
    /// between what is mapped already. `anon_prepare` and the page table come first.
    #[cold]
    pub(crate) fn do_anonymous_folio<C: Counters>(&self, c: &mut C) -> Option<VmFault> {
        let (phys, settings) = (self.mm().phys(), &self.mm().system().settings);
        // userfaultfd_armed: every page is to fault by itself.
        let armed = VmFlags::UFFD_MISSING | VmFlags::UFFD_WP;
        if self.vma.flags.intersects(armed) || !self.vma.allows_thp(settings.thp) {
            return None;
        }
        let orders =
            (2..PMD_ORDER).rev().filter(|&order| settings.mthp >> order & 1 == 1 && self.suits_order(order));
        let slots = |order: u8| {
            let first = self.folio_start(order).index(Level::Pte);
            first..first + (1 << order)
        };
        let mut order = None;
        for candidate in orders {
            let (table, _guard) = self.mm().lock_pte_table(self.pmd)?;
            // pte_range_none: the highest order all of which is empty.
            if slots(candidate).all(|i| table.ptep_get(i).is_none()) {
                order = Some(candidate);
                break;
            }
        }
        let order = order?;
        let head = phys.alloc(PageKind::Anon, order).ok()?;
        phys.zero(head, order);
        c.add(Count::BytesZeroed, PAGE_SIZE << order);
        let Some((table, guard)) = self.mm().lock_pte_table(self.pmd) else {
            phys.free(head);
            return Some(VmFault::empty());
        };
        if !slots(order).all(|i| table.ptep_get(i).is_none()) {
            drop(guard);
            phys.free(head);
            return Some(VmFault::empty());
        }
        phys.add_new_anon_rmap_ptes(head, order, self.vma.index_of(self.folio_start(order)));
        for (i, pfn) in slots(order).zip((0..).map(|k| head.add(k))) {
            table.set(i, self.maybe_mkwrite(Entry::leaf(pfn, self.vma.page_prot())));
        }
        c.add(Count::FaultsAnonZero, 1);
        Some(VmFault::empty())
    }
}

#[cfg(test)]
mod tests {
    use crate::addr::{PAGE_SIZE, PageRange};
    use crate::arch::Geometry;
    use crate::memory::PhysConfig;
    use crate::mm::Mm;
    use crate::mm::madvise::Advice;
    use crate::mm::system::{Settings, System, ThpMode};
    use crate::mm::testing::{BASE, assert_used, map_anon};
    use crate::mm::touch::Access;
    use std::sync::Arc;

    fn machine(mthp: u16) -> Arc<Mm> {
        let memory = PhysConfig { nr_frames: 1 << 14, host_huge_pages: false };
        let settings = Settings { thp: ThpMode::Always, mthp, ..Settings::default() };
        Mm::new(&System::new(memory, settings).unwrap(), Geometry::FourLevel).unwrap()
    }

    fn present(mm: &Mm, nr: u64) -> String {
        let vmas = mm.mmap_read();
        let mut text = String::new();
        mm.locked(&vmas).pagemap_range(PageRange::pages(BASE, nr), |_, bits, _| {
            text.push(if bits.contains(crate::mm::pagemap::PagemapBits::PRESENT) { 'P' } else { '-' });
        });
        text
    }

    #[test]
    fn a_write_maps_the_largest_folio_that_fits() {
        let mm = machine(1 << 2 | 1 << 3);
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, 20);
        let touch = |page, access| mm.touch(BASE.add_pages(page), access).unwrap();
        // What is read gets the zero page, alone, and keeps the larger folio away.
        touch(1, Access::Read);
        touch(5, Access::Write(1));
        touch(2, Access::Write(1));
        touch(9, Access::Write(1));
        // The larger one would leave the VMA.
        touch(17, Access::Write(1));
        assert_eq!(present(&mm, 20), "-PP-PPPPPPPPPPPPPPPP");
        // A child's copy is one page, and the parent's folio stays.
        let child = mm.fork().unwrap();
        child.touch(BASE.add_pages(9), Access::Write(2)).unwrap();
        assert_eq!(touch(9, Access::Read), 1);
        child.exit();
        drop(child);
        // Half a folio goes.
        mm.madvise(PageRange::pages(BASE.add_pages(8), 4), Advice::DontNeed).unwrap();
        assert_eq!(present(&mm, 20), "-PP-PPPP----PPPPPPPP");
        mm.munmap(PageRange::pages(BASE, 20)).unwrap();
        assert_used(&mm, used);
        assert_eq!(PAGE_SIZE << 2, 16 << 10);
    }
}
