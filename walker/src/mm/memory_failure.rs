//! MADV_HWPOISON and MADV_SOFT_OFFLINE: `madvise_inject_error` (mm/madvise.c), `memory_failure`,
//! `memory_failure_hugetlb`, `soft_offline_page` (mm/memory-failure.c), the poison part of `try_to_unmap_one`
//! (mm/rmap.c), 6.12.
//!
//! A page that fails is taken from everybody who maps it: its entries become poison entries, each in a CLEAR event,
//! and a touch raises SIGBUS. A page that is taken out of service softly moves first. Poisoned frames are never used
//! again. Left out: signals to other mappers, clean pages of a block device (the kernel drops them without a trace);
//! pages of files do not change their frame when they move, only the events are issued.

use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::memory::PageKind;
use crate::memory::page::{PG_CACHED, PG_HWPOISON};
use crate::mm::fault::VmFault;
use crate::mm::file::Inode;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

/// Where the page that is to fail was found.
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
    /// -EFAULT where there is no page, -EBUSY for pages that cannot fail (the zero page) or are in use elsewhere.
    pub(crate) fn inject_error(&self, range: PageRange, soft: bool) -> Result<(), Errno> {
        let mut addr = range.start();
        while addr < range.end() {
            let victim = self.victim(addr)?;
            if soft {
                self.soft_offline_page(addr, &victim)?
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
        if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.has(VmFlags::READ) {
            return Err(Errno::Fault);
        }
        loop {
            at.faultin_range(vma, PageRange::pages(addr, 1), false)
                .map_err(|r| if r.contains(VmFault::OOM) { Errno::NoMem } else { Errno::Fault })?;
            let Some(pfn) = self.mapped_page(addr) else { continue };
            let head = self.phys().head(pfn);
            let page = self.phys().page(head);
            if page.kind() == PageKind::Anon {
                at.adopt_anon(vma, addr, pfn);
            }
            page.get(1);
            let inode = match &vma.backing {
                Backing::File(f) if page.kind() == PageKind::File => Some(Arc::clone(f.inode())),
                _ => None,
            };
            return Ok(Victim {
                pfn,
                order: page.order(),
                index: vma.index_of(addr),
                inode,
                hugetlb: if vma.has(VmFlags::HUGETLB) { vma.file_id() } else { 0 },
            });
        }
    }
    fn mapped_page(&self, addr: VirtAddr) -> Option<Pfn> {
        for level in [Level::Pud, Level::Pmd, Level::Pte] {
            let slot = self.lookup(addr, level).ok()?;
            let e = slot.read();
            if e.is_present() && (level == Level::Pte || e.is_huge()) {
                let sub = (addr.get() >> 12) & ((1 << level.order()) - 1);
                return Some(e.pfn().add(sub));
            }
        }
        None
    }

    /// `memory_failure`.
    fn memory_failure(&self, v: &Victim) -> Result<(), Errno> {
        let phys = self.phys();
        phys.page(v.pfn).set(PG_HWPOISON);
        match phys.page(phys.head(v.pfn)).kind() {
            PageKind::Hugetlb => {
                let head = phys.head(v.pfn);
                phys.page(head).set(PG_HWPOISON);
                self.each_hugetlb_mapping(v, &mut |mm, vma, addr| {
                    mm.replace_hugetlb(vma, addr, head, poison(v.pfn))
                });
                if !phys.page(head).has(PG_CACHED) {
                    // Anonymous pages are dissolved; those of the page cache stay there and fail again.
                    self.system().hugetlb.put(phys, head, 1);
                }
                Ok(())
            }
            PageKind::Anon => {
                self.split_victim(v)?;
                self.unmap_poisoned(v);
                Ok(())
            }
            PageKind::File => {
                let Some(inode) = &v.inode else { return self.refuse(v) };
                if v.order > 0 && !inode.split_folio(phys.head(v.pfn), None) {
                    return self.refuse(v);
                }
                inode.each_mapping(v.index..v.index + 1, |mm, _, part| {
                    mm.poison_entries(v.pfn, part);
                    true
                });
                Ok(())
            }
            _ => self.refuse(v),
        }
    }
    /// The page cannot fail: the reference goes back.
    fn refuse(&self, v: &Victim) -> Result<(), Errno> {
        self.phys().put_folio(v.pfn, 1);
        Err(Errno::Busy)
    }

    /// `try_to_split_thp_page`: the victim becomes a page of its own, which holds the reference.
    fn split_victim(&self, v: &Victim) -> Result<(), Errno> {
        let phys = self.phys();
        let head = phys.head(v.pfn);
        if phys.page(head).order() == 0 {
            return Ok(());
        }
        phys.page(head).lock_folio();
        // The page itself must survive the split even if nothing maps it afterwards.
        let vmas = self.mmap_read();
        let split = self.locked(&vmas).with_family(|family| {
            let mut mapped = Vec::new();
            let split = family.split_folio(head, Some(&mut mapped));
            for pfn in mapped {
                if pfn == v.pfn {
                    // Keeps the list's reference; the head's goes below.
                    phys.put(head, 1);
                } else {
                    self.system().free_swap_cache(pfn);
                    phys.put(pfn, 1);
                }
            }
            split
        });
        phys.page(head).unlock();
        if split.is_err() {
            phys.put(head, 1);
            return Err(Errno::Busy);
        }
        Ok(())
    }

    fn unmap_poisoned(&self, v: &Victim) {
        let vmas = self.mmap_read();
        self.locked(&vmas).with_family(|family| {
            family.rmap_walk_anon(v.index, 1, &mut |mm, _, part| {
                mm.poison_entries(v.pfn, part);
                true
            });
        });
    }
    /// `try_to_unmap_one` with TTU_HWPOISON.
    fn poison_entries(&self, pfn: Pfn, part: PageRange) {
        self.notifier.during(&Event::new(EventKind::Clear, part), || {
            self.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, _| {
                let e = table.ptep_get(i);
                if e.is_present() && !e.is_special() && e.pfn() == pfn {
                    table.replace(i, poison(pfn));
                    self.phys().unmap_pte(pfn);
                }
            });
        });
    }

    fn each_hugetlb_mapping(&self, v: &Victim, f: &mut dyn FnMut(&Mm, &Vma, VirtAddr)) {
        for mm in self.family() {
            let vmas = mm.mmap_read();
            for vma in vmas.iter().filter(|w| w.has(VmFlags::HUGETLB) && w.file_id() == v.hugetlb) {
                if let Some(addr) = vma.address_of(v.index) {
                    f(&mm, vma, addr.align_down(vma.hugetlb_level()));
                }
            }
        }
    }
    /// In a CLEAR event, the entry at `addr` that maps `head` becomes `new`, and the mapping is gone.
    fn replace_hugetlb(&self, vma: &Vma, addr: VirtAddr, head: Pfn, new: Entry) {
        let level = vma.hugetlb_level();
        let span = PageRange::pages(addr, 1 << level.order());
        self.notifier.during(&Event::new(EventKind::Clear, span), || {
            let Ok(slot) = self.lookup(addr, level) else { return };
            let guard = slot.lock();
            let e = slot.read();
            if !e.is_present() || e.pfn() != head {
                return;
            }
            slot.replace(new);
            self.phys().remove_rmap_huge(head);
            drop(guard);
            self.system().hugetlb.put(self.phys(), head, 1);
        });
    }

    /// `soft_offline_page`.
    fn soft_offline_page(&self, addr: VirtAddr, v: &Victim) -> Result<(), Errno> {
        let phys = self.phys();
        let head = phys.head(v.pfn);
        match phys.page(head).kind() {
            PageKind::Hugetlb => {
                // The frame stays the same, so that only the events are left of the move.
                self.each_hugetlb_mapping(v, &mut |mm, vma, addr| {
                    let span = PageRange::pages(addr, 1 << vma.hugetlb_level().order());
                    mm.notifier.during(&Event::new(EventKind::Clear, span), || {});
                });
                self.system().hugetlb.shrink(v.order);
                self.system().hugetlb.put(phys, head, 1);
                Ok(())
            }
            PageKind::Anon => {
                self.split_victim(v)?;
                phys.put_folio(v.pfn, 1);
                let vmas = self.mmap_read();
                self.locked(&vmas).migrate_pages(PageRange::pages(addr, 1), |_| {});
                Ok(())
            }
            PageKind::File => {
                if let Some(inode) = &v.inode {
                    if v.order > 0 {
                        inode.split_folio(head, None);
                    }
                    inode.each_mapping(v.index..v.index + 1, |mm, _, part| {
                        mm.notifier.during(&Event::new(EventKind::Clear, part), || {});
                        true
                    });
                }
                phys.put_folio(v.pfn, 1);
                Ok(())
            }
            _ if phys.page(v.pfn).has(PG_HWPOISON) => {
                // Poisoned already: nothing to do.
                phys.put_folio(v.pfn, 1);
                Ok(())
            }
            _ => self.refuse(v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::madvise::Advice;
    use crate::mm::testing::{BASE, machine, map_anon};
    use crate::mm::touch::{Access, Signal};

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
}
