//! `hugetlb_fault`, `hugetlb_no_page`, `hugetlb_wp`, `alloc_hugetlb_folio`, `unmap_ref_private` (mm/hugetlb.c, 6.12).

use super::{HugetlbPool, is_anon};
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::arch::entry::MARKER_POISONED;
use crate::counters::{Count, Counters};
use crate::memory::Phys;
use crate::memory::page::{PG_CACHED, PG_HWPOISON, PG_RESTORE_RESERVE};
use crate::memory::table::Ptl;
use crate::mm::build::Builder;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked};
use crate::notifier::{Event, EventKind};
use crate::sync::Ordering::*;
use std::sync::Arc;

/// One fault in a hugetlb VMA.
struct HugetlbFault<'a> {
    at: Locked<'a>,
    vma: &'a Vma,
    addr: VirtAddr,
    slot: Slot<'a>,
    flags: FaultFlags,
}

impl<'a> Locked<'a> {
    /// `hugetlb_fault`.
    pub(crate) fn hugetlb_fault<C: Counters>(
        &self,
        vma: &'a Vma,
        addr: VirtAddr,
        flags: FaultFlags,
        c: &mut C,
    ) -> VmFault {
        let level = vma.hugetlb_level();
        let addr = addr.align_down(level);
        let mut mutex = Some(vma.hugetlb().file.fault.lock());
        let Ok(slot) = self.mm.lookup_alloc(addr, level) else { return VmFault::OOM };
        let f = HugetlbFault { at: *self, vma, addr, slot, flags };
        let orig = slot.read();
        if orig.is_none_mostly() {
            if orig.is_swp() && orig.swp().offset() & MARKER_POISONED != 0 {
                return VmFault::HWPOISON;
            }
            return f.no_page(orig, &mut mutex, c);
        }
        if !orig.is_present() {
            if orig.swp().is_migration() {
                drop(mutex);
                self.mm.pmd_migration_entry_wait(slot);
                return VmFault::empty();
            }
            return if orig.swp().is_hwpoison() { VmFault::HWPOISON } else { VmFault::empty() };
        }
        let guard = slot.lock();
        if slot.read() != orig {
            return VmFault::empty();
        }
        let write = flags.contains(FaultFlags::WRITE);
        if vma.has(VmFlags::UFFD_WP) && orig.is_uffd_wp() && write && !orig.is_write() {
            return VmFault::SIGBUS;
        }
        if write && !orig.is_write() {
            return f.wp(guard, &mut mutex, c);
        }
        let e = if write { orig.mkdirty().mkyoung() } else { orig.mkyoung() };
        if e != orig {
            slot.set(e);
        }
        c.add(Count::FaultsSpurious, 1);
        VmFault::empty()
    }

    /// `__vmf_anon_prepare` for a VMA alone.
    fn prepare_anon_vma(&self, vma: &Vma) {
        if vma.anon_vma() == 0 {
            let id = match self.vmas.reusable_anon_vma(vma) {
                0 => self.mm.system().new_id(),
                id => id,
            };
            vma.set_anon_vma(id);
        }
    }
}

type FaultMutex<'a> = Option<crate::sync::MutexGuard<'a, ()>>;

impl<'a> HugetlbFault<'a> {
    fn phys(&self) -> &'a Arc<Phys> {
        self.at.mm.phys()
    }
    fn pool(&self) -> &'a HugetlbPool {
        &self.at.mm.system().hugetlb
    }
    fn span(&self) -> PageRange {
        PageRange::pages(self.addr, 1 << self.vma.hugetlb().file.order)
    }
    fn index(&self) -> u64 {
        self.vma.huge_index(self.addr)
    }
    /// `alloc_hugetlb_folio`.
    fn alloc(&self, cow_from_owner: bool) -> Option<Pfn> {
        let (vma, h) = (self.vma, self.vma.hugetlb());
        let needs = h.needs_reservation(vma.maps_shared(), self.index());
        let change = needs || cow_from_owner;
        // vma_has_reserves
        let reserves = if vma.has(VmFlags::NORESERVE) {
            vma.maps_shared() && !change
        } else {
            (vma.maps_shared() || h.resv.is_some()) && !change
        };
        let head = self.pool().dequeue(self.phys(), h.file.order, reserves)?;
        h.commit(vma.maps_shared(), self.index());
        Some(head)
    }
    /// Frees a page that [`HugetlbFault::alloc`] gave and nobody needs.
    fn give_back(&self, head: Pfn) {
        let consumed = self.phys().page(head).has(PG_RESTORE_RESERVE);
        self.vma.hugetlb().restore_on_error(self.vma.maps_shared(), self.index(), consumed);
        self.pool().put(self.phys(), head, 1);
    }

    /// `hugetlb_add_to_page_cache`: the cache has a reference of its own.
    fn add_to_page_cache(&self, head: Pfn) {
        let (page, file) = (self.phys().page(head), &self.vma.hugetlb().file);
        page.get(1);
        page.clear(PG_RESTORE_RESERVE);
        page.set(PG_CACHED);
        page.set_owner(file.id);
        page.set_index(self.index());
        file.cache.lock().insert(self.index(), head);
    }

    /// The rest of `hugetlb_add_new_anon_rmap`: from now on only a zap by the owner restores the reservation.
    fn new_anon(&self, head: Pfn) {
        let page = self.phys().page(head);
        page.set_index(self.vma.index_of(self.addr));
        page.clear(PG_RESTORE_RESERVE);
    }

    /// `hugetlb_no_page`.
    fn no_page<C: Counters>(&self, orig: Entry, mutex: &mut FaultMutex<'a>, c: &mut C) -> VmFault {
        let (vma, phys) = (self.vma, self.phys());
        let h = vma.hugetlb();
        if h.unmapped.load(Relaxed) {
            return VmFault::SIGBUS;
        }
        let order = h.file.order;
        let index = self.index();
        let cached = h.file.cache.lock().get(&index).copied();
        let mut anon = false;
        let head = if let Some(head) = cached {
            if phys.page(head).has(PG_HWPOISON) {
                return VmFault::HWPOISON;
            }
            phys.page(head).get(1);
            head
        } else {
            if index >= h.file.nr_huge {
                return VmFault::SIGBUS;
            }
            if vma.has(VmFlags::UFFD_MISSING) {
                return VmFault::SIGBUS;
            }
            if !vma.maps_shared() {
                self.at.prepare_anon_vma(vma);
            }
            let Some(head) = self.alloc(false) else { return VmFault::SIGBUS };
            phys.zero(head, order);
            c.add(Count::BytesZeroed, 4096 << order);
            if vma.maps_shared() {
                self.add_to_page_cache(head);
            } else {
                anon = true;
            }
            head
        };
        let guard = self.slot.lock();
        // A failing page is marked before its mappings are looked for under this lock. The kernel holds the folio lock
        // from the first look at the mark to the entry.
        let failed = !anon && phys.page(head).has(PG_HWPOISON);
        if failed || self.slot.read() != orig {
            drop(guard);
            if anon {
                self.give_back(head);
            } else {
                self.pool().put(phys, head, 1);
            }
            return if failed { VmFault::HWPOISON } else { VmFault::empty() };
        }
        add_rmap(phys, head);
        if anon {
            self.new_anon(head);
        }
        let mut e = vma.make_huge(head, vma.has(VmFlags::WRITE | VmFlags::SHARED));
        if orig.is_swp_uffd_wp_marker() {
            e = e.mkuffd_wp();
        }
        self.slot.set(e);
        c.add(Count::FaultsHugetlb, 1);
        if self.flags.contains(FaultFlags::WRITE) && !vma.has(VmFlags::SHARED) {
            return self.wp(guard, mutex, c);
        }
        VmFault::empty()
    }

    /// `hugetlb_wp`. Takes over the table lock; returns without it.
    fn wp<C: Counters>(&self, guard: Ptl<'a>, mutex: &mut FaultMutex<'a>, c: &mut C) -> VmFault {
        let (vma, phys) = (self.vma, self.phys());
        let mut guard = guard;
        let orig = self.slot.read();
        // hugetlb_wp() asks the entry alone. A protection that outlived its registration (another mode was registered
        // over it) then lets every write fault end without a change, and a range walk with a write wish never ends.
        if orig.is_uffd_wp() && vma.has(VmFlags::UFFD_WP) {
            return VmFault::empty();
        }
        if !vma.has(VmFlags::WRITE) {
            return VmFault::SIGSEGV;
        }
        let writable = |e: Entry| self.slot.set(e.mkdirty().mkwrite());
        if vma.maps_shared() {
            writable(orig);
            return VmFault::empty();
        }
        let old = orig.pfn();
        let order = vma.hugetlb().file.order;
        let new = loop {
            // Mappings alone decide, not references.
            if phys.mapcount(old) == 1 && is_anon(phys, old) {
                phys.set_anon_exclusive(old);
                writable(orig);
                c.add(Count::FaultsCowReuse, 1);
                return VmFault::empty();
            }
            let cow_from_owner = vma.hugetlb().resv.is_some() && is_anon(phys, old);
            phys.page(old).get(1);
            drop(guard);
            if let Some(new) = self.alloc(cow_from_owner) {
                break new;
            }
            self.pool().put(phys, old, 1);
            if !cow_from_owner {
                return VmFault::SIGBUS;
            }
            drop(mutex.take());
            if !self.unmap_ref_private(old) {
                // The access is retried.
                return VmFault::empty();
            }
            *mutex = Some(vma.hugetlb().file.fault.lock());
            guard = self.slot.lock();
            if self.slot.read() != orig {
                return VmFault::empty();
            }
        };
        self.at.prepare_anon_vma(vma);
        phys.copy(new, old, order);
        c.add(Count::BytesCopied, 4096 << order);
        c.add(Count::EventsIssued, 1);
        let copied = self.at.mm.notifier.during(&Event::new(EventKind::Clear, self.span()), || {
            let _guard = self.slot.lock();
            if self.slot.read() != orig {
                return false;
            }
            self.slot.replace(Entry::NONE);
            phys.remove_rmap_huge(old);
            add_rmap(phys, new);
            self.new_anon(new);
            self.slot.set(vma.make_huge(new, true));
            true
        });
        if copied {
            self.pool().put(phys, old, 2);
            c.add(Count::FaultsHugetlb, 1);
        } else {
            self.give_back(new);
            self.pool().put(phys, old, 1);
        }
        VmFault::empty()
    }

    /// `unmap_ref_private`: the owner of the reservation takes the page away from everybody else who maps it
    /// privately; they get SIGBUS from now on. False if one of them was busy: the kernel holds the file's i_mmap lock
    /// here instead of the other mm's lock, and to wait for that with our own held could be for ever.
    fn unmap_ref_private(&self, head: Pfn) -> bool {
        let index = self.vma.index_of(self.addr);
        let file = self.vma.hugetlb().file.id;
        for mm in self.at.mm.family() {
            let me = core::ptr::eq(Arc::as_ptr(&mm), self.at.mm);
            let other = if me { None } else { mm.try_mmap_read() };
            if !me && other.is_none() {
                return false;
            }
            let vmas = other.as_deref().unwrap_or(self.at.vmas);
            for vma in vmas.iter().filter(|v| v.file_id() == file && v.has(VmFlags::HUGETLB)) {
                let (false, Some(addr)) = (vma.maps_shared(), vma.address_of(index)) else { continue };
                if core::ptr::eq(vma, self.vma) || vma.hugetlb().resv.is_some() {
                    continue;
                }
                let span = PageRange::pages(addr, self.span().nr_pages());
                mm.notifier.during(&Event::new(EventKind::Clear, span), || {
                    if let Ok(slot) = mm.lookup(addr, vma.hugetlb_level())
                        && slot.read().is_present()
                        && slot.read().pfn() == head
                    {
                        vma.hugetlb().unmapped.store(true, Relaxed);
                        mm.zap_hugetlb(vma, span, true);
                    }
                });
            }
        }
        true
    }
}

/// `hugetlb_add_new_anon_rmap` and `hugetlb_add_file_rmap`: the caller's reference becomes the mapping's.
fn add_rmap(phys: &Phys, head: Pfn) {
    let page = phys.page(head);
    page.add_entire_mappings(1);
    page.add_large_mappings(1);
}

impl Builder<'_> {
    /// What a fault leaves behind at `addr` in a hugetlb VMA where nothing is, without zeroing the page: `hugetlb_no_page`,
    /// and `hugetlb_wp` where a private page ends `writable`. A private page that does not counts as shared with somebody.
    ///
    /// # Errors
    /// -ENOMEM out of huge pages or frames for tables.
    pub fn hugetlb_page(&mut self, addr: VirtAddr, writable: bool) -> Result<(), Errno> {
        let (mm, vmas) = self.parts();
        let at = mm.locked(vmas);
        let vma = vmas.find(addr).ok_or(Errno::Fault)?;
        let slot = mm.lookup_alloc(addr, vma.hugetlb_level())?;
        let f = HugetlbFault { at, vma, addr, slot, flags: FaultFlags::WRITE };
        if !vma.maps_shared() {
            at.prepare_anon_vma(vma);
        }
        let head = f.alloc(false).ok_or(Errno::NoMem)?;
        if vma.maps_shared() {
            f.add_to_page_cache(head);
        }
        let _guard = slot.lock();
        debug_assert!(slot.read().is_none(), "an entry already stands at {addr:?}");
        add_rmap(mm.phys(), head);
        if !vma.maps_shared() {
            f.new_anon(head);
            if !writable {
                mm.phys().clear_anon_exclusive(head);
            }
        }
        slot.set(vma.make_huge(head, writable && vma.has(VmFlags::WRITE)));
        Ok(())
    }
}
