//! MADV_HWPOISON and MADV_SOFT_OFFLINE: `madvise_inject_error` (mm/madvise.c), `memory_failure`,
//! `try_memory_failure_hugetlb`, `soft_offline_page` (mm/memory-failure.c), the poison part of `try_to_unmap_one`
//! (mm/rmap.c), 6.12.
//!
//! A page that fails is taken from everybody who maps it: its entries become poison entries, each in a CLEAR event,
//! and a touch raises SIGBUS. A page that is taken out of service softly moves first. The reference under which a page
//! was found stays with the frame for ever, so that it is never used again.
//!
//! Protocol, as the kernel's: the page is marked first, then its folio is split and locked, then unmapped. Whoever maps
//! a page of a file has it locked and looks at the mark. One failure at a time (`mf_mutex`), with nothing but the
//! reference held when it begins. Relatives whose mmap lock is taken keep their mappings, and the answer is -EBUSY.
//!
//! Left out: signals to other mappers, clean pages of a block device (the kernel drops them without a trace), the move
//! of pages in the swap cache; pages of files and of hugetlb do not change their frame when they move, only the events
//! are issued. A mark that has no effect is taken back, since here it would last longer than the page.

use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::memory::PageKind;
use crate::memory::page::{PG_CACHED, PG_DIRTY, PG_HWPOISON, PG_SWAPCACHE};
use crate::mm::fault::VmFault;
use crate::mm::file::Inode;
use crate::mm::rmap::Family;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

/// A page with a reference on its folio, which can be neither freed nor split by others as long as it is held.
struct Victim {
    /// The base page.
    pfn: Pfn,
    /// Order of the folio it is part of, as it was when found.
    order: u8,
    /// Page offset in what the VMA maps.
    index: u64,
    /// Whose page cache it is in.
    inode: Option<Arc<Inode>>,
    /// Identity of the hugetlb file.
    hugetlb: u64,
}

/// The poison entry of a page.
fn poison(pfn: Pfn) -> Entry {
    SwpEntry::new(SwpType::Hwpoison, pfn.get()).entry()
}

impl Mm {
    /// `madvise_inject_error`: folio by folio, from the one that maps the start of `range`.
    ///
    /// # Errors
    /// -EFAULT where there is no page; -EHWPOISON for a page that failed before or cannot be split from its folio, -EBUSY
    /// and -EIO for pages that cannot fail (the zero page) or are in use elsewhere.
    pub(crate) fn inject_error(&self, range: PageRange, soft: bool) -> Result<(), Errno> {
        let mut addr = range.start();
        while addr < range.end() {
            let victim = self.victim(addr)?;
            if soft {
                self.soft_offline_page(&victim)?
            } else {
                self.memory_failure(&victim)?
            }
            addr = addr.add_pages(1 << victim.order);
        }
        Ok(())
    }

    /// `get_user_pages_fast` of one page; the reference is the caller's.
    fn victim(&self, addr: VirtAddr) -> Result<Victim, Errno> {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        let vma = vmas.find(addr).ok_or(Errno::Fault)?;
        // gup_fast takes what the processor could read without a look at the VMA: memory that may be written but not read.
        let mut mapped = self.get_mapped_page(addr, |e| !e.is_protnone() && !e.is_special());
        if mapped.is_none()
            && (vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.has(VmFlags::READ))
        {
            return Err(Errno::Fault);
        }
        let pfn = loop {
            if let Some(pfn) = mapped {
                break pfn;
            }
            at.faultin_range(vma, PageRange::pages(addr, 1), false)
                .map_err(|r| if r.contains(VmFault::OOM) { Errno::NoMem } else { Errno::Fault })?;
            mapped = self.get_mapped_page(addr, |_| true);
        };
        let page = self.phys().page(self.phys().head(pfn));
        if page.kind() == PageKind::Anon {
            at.adopt_anon(vma, addr, pfn);
        }
        let inode = match &vma.backing {
            Backing::File(f) if page.kind() == PageKind::File => Some(Arc::clone(f.inode())),
            _ => None,
        };
        Ok(Victim {
            pfn,
            order: page.order(),
            index: vma.index_of(addr),
            inode,
            hugetlb: if vma.has(VmFlags::HUGETLB) { vma.file_id() } else { 0 },
        })
    }
    /// `follow_page_mask` with FOLL_GET: the reference is taken under the lock of the table that maps the page.
    fn get_mapped_page(&self, addr: VirtAddr, permitted: impl Fn(Entry) -> bool) -> Option<Pfn> {
        for level in [Level::Pud, Level::Pmd, Level::Pte] {
            let slot = self.lookup(addr, level).ok()?;
            let (_guard, e) = if level == Level::Pte {
                let pmd = self.lookup(addr, Level::Pmd).ok()?;
                let (table, guard) = self.lock_pte_table(pmd)?;
                (guard, table.ptep_get(slot.index))
            } else {
                (slot.lock(), slot.read())
            };
            if e.is_present() && (level == Level::Pte || e.is_huge()) {
                if !permitted(e) {
                    return None;
                }
                let sub = (addr.get() >> 12) & ((1 << level.order()) - 1);
                let pfn = e.pfn().add(sub);
                self.phys().page(self.phys().head(pfn)).get(1);
                return Some(pfn);
            }
        }
        None
    }

    /// `memory_failure`.
    fn memory_failure(&self, v: &Victim) -> Result<(), Errno> {
        let (phys, system) = (self.phys(), self.system());
        let _one = system.mf_mutex.lock();
        let kind = phys.page(phys.head(v.pfn)).kind();
        if kind == PageKind::Hugetlb {
            return self.memory_failure_hugetlb(v);
        }
        let page = phys.page(v.pfn);
        if page.test_set(PG_HWPOISON) {
            phys.put_folio(v.pfn, 1);
            return Err(Errno::HwPoison);
        }
        let refuse = |e| {
            page.clear(PG_HWPOISON);
            phys.put_folio(v.pfn, 1);
            Err(e)
        };
        match kind {
            PageKind::Anon | PageKind::File => {}
            PageKind::HugeZero => return refuse(Errno::HwPoison),
            _ => return refuse(Errno::Busy),
        }
        let vmas = self.mmap_read();
        self.locked(&vmas).with_family(|family| {
            if !family.try_to_split_thp_page(v) {
                return refuse(Errno::HwPoison);
            }
            page.lock_folio();
            let handled = family.unmap_poisoned_folio(v) && family.identify_page_state(v);
            system.unlock_folio(v.pfn);
            if handled { Ok(()) } else { Err(Errno::Busy) }
        })
    }

    /// `try_memory_failure_hugetlb` and `me_huge_page`. An anonymous page is dissolved; one of the page cache stays there
    /// and fails again.
    fn memory_failure_hugetlb(&self, v: &Victim) -> Result<(), Errno> {
        let (phys, pool) = (self.phys(), &self.system().hugetlb);
        let head = phys.head(v.pfn);
        let page = phys.page(head);
        // hugetlb_update_hwpoison
        if page.test_set(PG_HWPOISON) {
            pool.put(phys, head, 1);
            return Err(Errno::HwPoison);
        }
        phys.page(v.pfn).set(PG_HWPOISON);
        let vmas = self.mmap_read();
        let unmapped = self.locked(&vmas).with_family(|family| {
            page.lock_folio();
            family.each_vma(&mut |mm, vma| {
                if vma.has(VmFlags::HUGETLB)
                    && vma.file_id() == v.hugetlb
                    && let Some(addr) = vma.address_of(v.index)
                {
                    mm.poison_hugetlb(vma, addr.align_down(vma.hugetlb_level()), head, v.pfn);
                }
            });
            page.unlock();
            phys.mapcount(head) == 0
        });
        if unmapped && page.has(PG_CACHED) {
            return Ok(());
        }
        // Where a busy relative maps it still, the kernel keeps the reference: the pool never sees the page again.
        if pool.put(phys, head, 1) { Ok(()) } else { Err(Errno::Busy) }
    }

    /// `try_to_unmap_one` of a hugetlb page with TTU_HWPOISON.
    fn poison_hugetlb(&self, vma: &Vma, addr: VirtAddr, head: Pfn, failed: Pfn) {
        let level = vma.hugetlb_level();
        let span = PageRange::pages(addr, 1 << level.order());
        self.notifier.during(&Event::new(EventKind::Clear, span), || {
            let Ok(slot) = self.lookup(addr, level) else { return };
            let guard = slot.lock();
            let e = slot.read();
            if !e.is_present() || e.pfn() != head {
                return;
            }
            slot.replace(poison(failed));
            self.phys().remove_rmap_huge(head);
            drop(guard);
            self.system().hugetlb.put(self.phys(), head, 1);
        });
    }

    /// `try_to_unmap_one` with TTU_HWPOISON.
    fn poison_entries(&self, pfn: Pfn, part: PageRange) {
        let phys = self.phys();
        self.notifier.during(&Event::new(EventKind::Clear, part), || {
            self.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, _| {
                let e = table.ptep_get(i);
                if e.is_present() && !e.is_special() && e.pfn() == pfn {
                    let old = table.replace(i, poison(pfn));
                    if old.is_dirty() {
                        phys.page(pfn).set(PG_DIRTY);
                    }
                    phys.remove_rmap_pte(pfn);
                    // Never the last: the caller holds one.
                    phys.put(pfn, 1);
                }
            });
        });
    }

    /// `soft_offline_page`.
    fn soft_offline_page(&self, v: &Victim) -> Result<(), Errno> {
        let (phys, system) = (self.phys(), self.system());
        let _one = system.mf_mutex.lock();
        if phys.page(v.pfn).has(PG_HWPOISON) {
            phys.put_folio(v.pfn, 1);
            return Ok(());
        }
        match phys.page(phys.head(v.pfn)).kind() {
            PageKind::Hugetlb => {
                self.soft_offline_hugetlb(v);
                Ok(())
            }
            PageKind::Anon | PageKind::File => {
                let vmas = self.mmap_read();
                self.locked(&vmas).with_family(|family| family.soft_offline_in_use_page(v))
            }
            _ => {
                phys.put_folio(v.pfn, 1);
                Err(Errno::Io)
            }
        }
    }

    /// `soft_offline_in_use_page` for a hugetlb page. The frame stays the same, so that only the events are left of the
    /// move.
    fn soft_offline_hugetlb(&self, v: &Victim) {
        for mm in self.family() {
            let vmas = mm.mmap_read();
            for vma in vmas.iter().filter(|w| w.has(VmFlags::HUGETLB) && w.file_id() == v.hugetlb) {
                if let Some(addr) = vma.address_of(v.index) {
                    let level = vma.hugetlb_level();
                    let span = PageRange::pages(addr.align_down(level), 1 << level.order());
                    mm.notifier.during(&Event::new(EventKind::Clear, span), || {});
                }
            }
        }
        let pool = &self.system().hugetlb;
        pool.shrink(v.order);
        pool.put(self.phys(), self.phys().head(v.pfn), 1);
    }
}

impl Family<'_> {
    /// `try_to_split_thp_page`: the victim becomes a page of its own, which holds the reference.
    fn try_to_split_thp_page(&self, v: &Victim) -> bool {
        let phys = self.phys();
        let head = phys.head(v.pfn);
        if phys.page(head).order() == 0 {
            return true;
        }
        phys.page(head).lock_folio();
        let split = match &v.inode {
            Some(inode) => self.split_file_folio(inode, v.pfn),
            None => self.split_huge_page(v.pfn, None).is_ok(),
        };
        self.system().unlock_folio(if split { v.pfn } else { head });
        split
    }

    /// `hwpoison_user_mappings` and `unmap_poisoned_folio`: nobody maps the locked page any more. What is in the swap
    /// cache stays there, and the entries name its slot.
    fn unmap_poisoned_folio(&self, v: &Victim) -> bool {
        let (phys, page) = (self.phys(), self.phys().page(v.pfn));
        let mut visit = |mm: &Mm, _: &Vma, part: PageRange| {
            mm.poison_entries(v.pfn, part);
            true
        };
        if phys.mapcount(v.pfn) == 0 {
            return true;
        }
        let index = page.index();
        match &v.inode {
            Some(inode) => self.file_walk(inode, index..index + 1, &mut visit),
            None if page.has(PG_SWAPCACHE) => self.try_to_unmap(v.pfn, true),
            None => self.rmap_walk_anon(index, 1, &mut visit),
        }
        phys.mapcount(v.pfn) == 0
    }

    /// `identify_page_state` with the `me_` functions: what becomes of the locked, unmapped page. False if somebody else
    /// refers to it, or it is of no file any more.
    fn identify_page_state(&self, v: &Victim) -> bool {
        let page = self.phys().page(v.pfn);
        match &v.inode {
            // me_pagecache_dirty, shmem_error_remove_folio: it stays in the cache and fails whoever wants it.
            Some(inode) => inode.holds(v.pfn) && page.refs() == 2,
            // me_swapcache_dirty
            None if page.has(PG_SWAPCACHE | PG_DIRTY) => {
                page.clear(PG_DIRTY);
                page.refs() == 2
            }
            // me_swapcache_clean
            None if page.has(PG_SWAPCACHE) => {
                self.system().delete_from_swap_cache(v.pfn);
                page.refs() == 1
            }
            None => true,
        }
    }

    /// `soft_offline_in_use_page`.
    fn soft_offline_in_use_page(&self, v: &Victim) -> Result<(), Errno> {
        let (phys, page) = (self.phys(), self.phys().page(v.pfn));
        if !self.try_to_split_thp_page(v) {
            phys.put_folio(v.pfn, 1);
            return Err(Errno::Busy);
        }
        page.lock_folio();
        let gone = match &v.inode {
            // mapping_evict_folio: unmapped, clean, and of nobody else.
            Some(inode) => {
                let unused = inode.holds(v.pfn) && !page.has(PG_DIRTY) && phys.mapcount(v.pfn) == 0;
                let evict = unused && page.refs() == 2;
                if evict {
                    inode.remove(v.pfn);
                }
                evict
            }
            None => self.migrate_one(v.pfn),
        };
        if gone {
            // page_handle_poison
            page.set(PG_HWPOISON);
        }
        self.system().unlock_folio(v.pfn);
        match &v.inode {
            _ if gone => return Ok(()),
            Some(inode) => self.file_walk(inode, v.index..v.index + 1, &mut |mm, _, part| {
                mm.notifier.during(&Event::new(EventKind::Clear, part), || {});
                true
            }),
            None => {}
        }
        phys.put(v.pfn, 1);
        if v.inode.is_some() { Ok(()) } else { Err(Errno::Busy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGES_PER_PMD;
    use crate::arch::Geometry;
    use crate::memory::PhysConfig;
    use crate::mm::file::File;
    use crate::mm::madvise::Advice;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::system::{Settings, System};
    use crate::mm::testing::{BASE, RW, assert_used, machine, map_anon};
    use crate::mm::touch::{Access, Signal};

    const FIRST: PageRange = PageRange::pages(BASE, 1);

    #[test]
    fn a_failed_page_is_gone_for_everybody_and_can_be_discarded() {
        let mm = machine();
        map_anon(&mm, 0, 4);
        (0..4).for_each(|i| assert_eq!(mm.touch(BASE.add_pages(i), Access::Write(1)), Ok(1)));
        let child = mm.fork().unwrap();
        let page = PageRange::pages(BASE.add_pages(1), 1);
        mm.madvise(page, Advice::HwPoison).unwrap();
        assert_eq!(mm.touch(BASE.add_pages(1), Access::Read), Err(Signal::Bus));
        assert_eq!(child.touch(BASE.add_pages(1), Access::Read), Err(Signal::Bus));
        assert_eq!(mm.madvise(page, Advice::HwPoison), Err(Errno::Fault));
        mm.madvise(page, Advice::SoftOffline).unwrap_err();
        mm.madvise(page, Advice::DontNeed).unwrap();
        assert_eq!(mm.touch(BASE.add_pages(1), Access::Read), Ok(0));
        assert_eq!(mm.madvise(page, Advice::HwPoison), Err(Errno::Busy), "the zero page");
    }

    #[test]
    fn soft_offlining_keeps_contents() {
        let mm = machine();
        map_anon(&mm, 0, 512);
        mm.madvise(PageRange::pages(BASE, 512), Advice::Hugepage).unwrap();
        mm.touch(BASE.add_pages(5), Access::Write(9)).unwrap();
        mm.madvise(PageRange::pages(BASE.add_pages(5), 1), Advice::SoftOffline).unwrap();
        assert_eq!(mm.touch(BASE.add_pages(5), Access::Read), Ok(9));
    }

    #[test]
    fn a_failed_page_stays_out_even_if_nobody_maps_it_when_its_folio_is_split() {
        let mm = machine();
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, PAGES_PER_PMD);
        mm.madvise(PageRange::pages(BASE, PAGES_PER_PMD), Advice::Hugepage).unwrap();
        mm.touch(BASE, Access::Write(1)).unwrap();
        let victim = mm.victim(BASE.add_pages(5)).unwrap();
        assert_eq!(victim.order, 9);
        mm.munmap(PageRange::pages(BASE.add_pages(5), 1)).unwrap();
        assert_eq!(mm.memory_failure(&victim), Ok(()));
        assert_eq!((mm.phys().page(victim.pfn).order(), mm.phys().page(victim.pfn).refs()), (0, 1));
        mm.exit();
        assert_used(&mm, used + 1);
    }

    #[test]
    fn a_page_of_a_file_fails_for_whoever_maps_it_later() {
        let mm = machine();
        let used = mm.phys().nr_used();
        let file = File::tmpfs(mm.system());
        file.truncate(2).unwrap();
        let map = |off| {
            let kind = MapKind::FileShared { file: Arc::clone(&file), writable: true };
            mm.mmap(PageRange::pages(BASE.add_pages(off), 2), RW, kind, MapFlags::default(), 0).unwrap();
        };
        map(0);
        mm.touch(BASE, Access::Write(1)).unwrap();
        mm.madvise(FIRST, Advice::HwPoison).unwrap();
        map(8);
        for page in [0, 8] {
            assert_eq!(mm.touch(BASE.add_pages(page), Access::Read), Err(Signal::Bus));
            assert_eq!(mm.touch(BASE.add_pages(page + 1), Access::Read), Ok(0));
        }
        mm.exit();
        drop(file);
        assert_used(&mm, used + 1);
    }

    #[test]
    fn a_clean_page_of_the_swap_cache_is_read_again() {
        let config = PhysConfig { nr_frames: 1 << 14, host_huge_pages: false };
        let system = System::new(config, Settings { swap_slots: 64, ..Settings::default() }).unwrap();
        let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, 1);
        mm.touch(BASE, Access::Write(7)).unwrap();
        mm.madvise(FIRST, Advice::PageOut).unwrap();
        mm.madvise(FIRST, Advice::WillNeed).unwrap();
        assert_eq!(mm.touch(BASE, Access::Read), Ok(7));
        let victim = mm.victim(BASE).unwrap();
        assert!(mm.phys().page(victim.pfn).has(PG_SWAPCACHE));
        assert_eq!(mm.memory_failure(&victim), Ok(()));
        assert_eq!(mm.touch(BASE, Access::Read), Ok(7));
        mm.exit();
        assert_eq!(system.swap.nr_used(), 0);
        assert_used(&mm, used + 1);
    }

    #[test]
    fn a_failed_hugetlb_page_is_dissolved_around_the_failed_frame() {
        let mm = machine();
        let used = mm.phys().nr_used();
        let range = PageRange::pages(BASE, 2 * PAGES_PER_PMD);
        let kind = MapKind::Hugetlb { order: 9, shared: false };
        mm.mmap(range, RW, kind, MapFlags::default(), 0).unwrap();
        mm.touch(BASE, Access::Write(1)).unwrap();
        mm.madvise(PageRange::pages(BASE.add_pages(3), 1), Advice::HwPoison).unwrap();
        assert_eq!(mm.touch(BASE, Access::Read), Err(Signal::Bus));
        mm.munmap(range).unwrap();
        let pool = &mm.system().hugetlb;
        assert_eq!((pool.nr_huge_pages(9), pool.available(9)), (7, (7, 0)));
        assert_used(&mm, used + 1);
    }
}
