//! Device-exclusive memory: `make_device_exclusive_range` (mm/rmap.c), `remove_device_exclusive_entry` and
//! `restore_exclusive_pte` (mm/memory.c), 6.12.
//!
//! A device-exclusive entry holds a reference on its page, but no mapping.

use super::CHUNK;
use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::{Count, Counters, NoCounts};
use crate::memory::PageKind;
use crate::memory::page::PG_DIRTY;
use crate::mm::fault::{FaultFlags, VmFault, Vmf};
use crate::mm::rmap::Family;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use core::cell::Cell;

impl Family<'_> {
    /// `folio_make_device_exclusive`: every mapping of the locked folio becomes a device-exclusive entry. True if all
    /// of them did, and `addr` of `of` was writable.
    fn make_exclusive(&self, head: Pfn, of: &Mm, addr: VirtAddr, owner: u64) -> bool {
        let phys = self.phys();
        let folio = phys.page(head);
        if folio.kind() != PageKind::Anon {
            return false;
        }
        let last = head.add(1 << folio.order());
        let valid = Cell::new(false);
        self.rmap_walk_anon(folio.index(), 1 << folio.order(), &mut |mm, _, part| {
            let event = Event { kind: EventKind::Exclusive, range: part, owner, blockable: true };
            let go_on = Cell::new(true);
            mm.notifier.during(&event, || {
                mm.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, at| {
                    let e = table.ptep_get(i);
                    let ours = |pfn: Pfn| pfn >= head && pfn < last;
                    if !go_on.get() || e.is_none() {
                        return;
                    }
                    if !e.is_present() {
                        // Exclusive already: the walk ends.
                        let swp = e.swp();
                        go_on.set(!(swp.is_device_exclusive() && ours(swp.pfn())));
                        return;
                    }
                    if e.is_special() || !ours(e.pfn()) {
                        return;
                    }
                    let old = table.replace(i, Entry::NONE);
                    if old.is_dirty() {
                        folio.set(PG_DIRTY);
                    }
                    if core::ptr::eq(mm, of) && at == addr && old.is_write() {
                        valid.set(true);
                    }
                    let kind = if old.is_write() {
                        SwpType::DeviceExclusiveWrite
                    } else {
                        SwpType::DeviceExclusiveRead
                    };
                    let entry = SwpEntry::new(kind, old.pfn().get()).entry();
                    table.set(
                        i,
                        entry.with_swp_soft_dirty(old.is_soft_dirty()).with_swp_uffd_wp(old.is_uffd_wp()),
                    );
                    // The mapping's reference becomes the entry's.
                    phys.remove_rmap_pte(old.pfn());
                });
            });
            go_on.get() && phys.mapcount(head) > 0
        });
        valid.get() && phys.mapcount(head) == 0
    }
}

impl Locked<'_> {
    /// `make_device_exclusive_range`: the pages of `range`, each locked, referenced and out of every page table, or
    /// none where that failed. Shorter than the range when a page could not be faulted in.
    ///
    /// # Errors
    /// What kept the first page from being faulted in for write.
    pub(crate) fn make_device_exclusive_range(
        &self,
        range: PageRange,
        owner: u64,
    ) -> Result<Vec<Option<Pfn>>, Errno> {
        let phys = self.mm.phys();
        let pinned = self.pin_for_write(range)?;
        Ok(self.with_family(|family| {
            let exclusive = |(i, pfn): (usize, Pfn)| {
                let page = phys.page(pfn);
                let addr = range.start().add_pages(i as u64);
                if page.tail_distance() == 0 && page.try_lock() {
                    if family.make_exclusive(pfn, self.mm, addr, owner) {
                        return Some(pfn);
                    }
                    family.system().unlock_folio(pfn);
                }
                phys.put_folio(pfn, 1);
                None
            };
            pinned.into_iter().enumerate().map(exclusive).collect()
        }))
    }

    /// `get_user_pages_remote` with FOLL_GET | FOLL_WRITE | FOLL_SPLIT_PMD: a reference on each page, until one fails.
    fn pin_for_write(&self, range: PageRange) -> Result<Vec<Pfn>, Errno> {
        let mut pinned = Vec::new();
        let mut addr = range.start();
        while addr < range.end() {
            match self.pin_one(addr) {
                Ok(pfn) => pinned.push(pfn),
                Err(e) if pinned.is_empty() => return Err(e),
                Err(_) => break,
            }
            addr = addr.add_pages(1);
        }
        Ok(pinned)
    }

    fn pin_one(&self, addr: VirtAddr) -> Result<Pfn, Errno> {
        let (mm, phys) = (self.mm, self.mm.phys());
        let vma = self.vmas.find(addr).ok_or(Errno::Fault)?;
        // check_vma_flags
        if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.has(VmFlags::WRITE) {
            return Err(Errno::Fault);
        }
        if vma.has(VmFlags::HUGETLB) {
            return Err(Errno::OpNotSupp);
        }
        loop {
            if let Ok(pmd) = mm.lookup(addr, Level::Pmd) {
                if pmd.read().is_huge() && !pmd.read().is_protnone() {
                    mm.split_huge_pmd(vma, pmd, addr, &mut NoCounts);
                    // A table at once, as follow_pmd_mask does: the fault would map a huge file page huge again.
                    if pmd.read().is_none() && mm.install_table(pmd).is_err() {
                        return Err(Errno::NoMem);
                    }
                }
                if let Some((table, _guard)) = mm.lock_pte_table(pmd) {
                    let e = table.ptep_get(addr.index(Level::Pte));
                    if e.is_present() && !e.is_protnone() && e.is_write() && !e.is_special() {
                        let head = phys.head(e.pfn());
                        phys.page(head).get(1);
                        if !e.is_dirty() {
                            phys.page(head).set(PG_DIRTY);
                        }
                        if phys.page(head).kind() == PageKind::Anon {
                            self.adopt_anon(vma, addr, e.pfn());
                        }
                        return Ok(e.pfn());
                    }
                }
            }
            let flags = FaultFlags::WRITE | FaultFlags::REMOTE;
            let r = self.handle_mm_fault(vma, addr, flags, &mut NoCounts);
            if r.contains(VmFault::OOM) {
                return Err(Errno::NoMem);
            }
            if r.contains(VmFault::HWPOISON) {
                return Err(Errno::HwPoison);
            }
            if r.intersects(VmFault::ERROR) {
                return Err(Errno::Fault);
            }
        }
    }
}

impl Vmf<'_> {
    /// `remove_device_exclusive_entry`: the processor takes the page back.
    pub(crate) fn remove_device_exclusive_entry<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let (mm, phys) = (self.mm(), self.mm().phys());
        let pfn = orig.swp().pfn();
        let Some(head) = self.get_named(orig) else { return VmFault::empty() };
        let folio = phys.page(head);
        folio.lock_folio();
        c.add(Count::EventsIssued, 1);
        mm.notifier.during(&Event::new(EventKind::Exclusive, self.page_range()), || {
            if let Some((table, _guard)) = mm.lock_pte_table(self.pmd)
                && table.ptep_get(self.pte_index()) == orig
            {
                table.set(self.pte_index(), mm.restored_exclusive(self.vma, orig));
                debug_assert_eq!(phys.head(pfn), head);
                c.add(Count::FaultsExclusive, 1);
            }
        });
        mm.system().unlock_folio(head);
        phys.put(head, 1);
        VmFault::empty()
    }
}

impl Mm {
    /// `restore_exclusive_pte`: the present entry that the device-exclusive entry `old` becomes. The caller holds the
    /// table's lock and stores it.
    pub(crate) fn restored_exclusive(&self, vma: &Vma, old: Entry) -> Entry {
        let phys = self.phys();
        let swp = old.swp();
        let pfn = swp.pfn();
        let mut e = Entry::leaf(pfn, vma.page_prot()).mkold();
        if old.is_swp_soft_dirty() {
            e = e.mksoft_dirty();
        }
        if old.is_swp_uffd_wp() {
            e = e.mkuffd_wp();
        } else if swp.kind() == SwpType::DeviceExclusiveWrite {
            e = e.mkdirty();
            if vma.has(VmFlags::WRITE) {
                e = e.mkwrite();
            }
        }
        // The entry's reference becomes the mapping's.
        phys.page(pfn).add_pte_mappings(1);
        let folio = phys.page(phys.head(pfn));
        if folio.order() > 0 {
            folio.add_large_mappings(1);
        }
        e
    }

    /// Gives a device exclusive access to `range`, [`CHUNK`] pages at a time. What became exclusive in a chunk that
    /// succeeded as a whole is reported to `mapped`, while it is locked; pages of a failing chunk may stay exclusive.
    ///
    /// # Errors
    /// -EBUSY when any page of a chunk could not be had.
    pub fn make_device_exclusive(
        &self,
        range: PageRange,
        owner: u64,
        mapped: &mut dyn FnMut(VirtAddr, Pfn),
    ) -> Result<(), Errno> {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        let mut addr = range.start();
        while addr < range.end() {
            let next = range.end().min(addr.add_pages(CHUNK));
            let part = PageRange::between(addr, next);
            let pages = at.make_device_exclusive_range(part, owner).unwrap_or_default();
            let all = pages.len() as u64 == part.nr_pages();
            let mut nr_mapped = 0;
            for (i, pfn) in pages.into_iter().enumerate() {
                let Some(pfn) = pfn else { continue };
                if all {
                    mapped(addr.add_pages(i as u64), pfn);
                    nr_mapped += 1;
                }
                self.system().unlock_folio(pfn);
                self.phys().put(pfn, 1);
            }
            if nr_mapped < part.nr_pages() {
                return Err(Errno::Busy);
            }
            addr = next;
        }
        Ok(())
    }
}
