//! hugetlb pages: pool and reservations, faults, fork, mprotect, zap.
//!
//! Models mm/hugetlb.c and fs/hugetlbfs/inode.c of 6.12: `hugetlb_reserve_pages`, `alloc_hugetlb_folio`,
//! `free_huge_folio`, `hugetlb_fault`, `hugetlb_no_page`, `hugetlb_wp`, `unmap_ref_private`, `copy_hugetlb_page_range`,
//! `hugetlb_change_protection`, `__unmap_hugepage_range`, `move_hugetlb_page_tables`. An entry is a leaf in the PMD
//! table (2 MiB) or the PUD table (1 GiB), without a spare table beside it; there is never a table below.
//!
//! Left out: shared PMD tables (they need a shared mapping of a whole 1 GiB span), surplus pages, subpools, cgroups,
//! memory policies. The pool hands out its pages only when asked, so that a large pool costs nothing.

use crate::addr::{Level, PMD_ORDER, PageRange, Pfn, VirtAddr};
use crate::arch::entry::{MARKER_POISONED, MARKER_UFFD_WP};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::{Count, Counters};
use crate::memory::page::{PG_CACHED, PG_HWPOISON, PG_RESTORE_RESERVE};
use crate::memory::table::Ptl;
use crate::memory::{PageKind, Phys};
use crate::mm::build::Builder;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::protect::Change;
use crate::mm::system::System;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use crate::sync::{AtomicBool, Mutex, Ordering::*};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One size of the pool (`struct hstate`).
#[derive(Clone, Copy, Debug, Default)]
struct Hstate {
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
        let size = |free| Hstate { free, reserved: 0 };
        HugetlbPool { sizes: Mutex::new([size(nr_2m), size(nr_1g)]) }
    }
    /// Free pages of `1 << order` base pages, and how many of them are reserved.
    pub fn available(&self, order: u8) -> (u64, u64) {
        let h = self.sizes.lock()[size_index(order)];
        (h.free, h.reserved)
    }
    /// `hugetlb_acct_memory` with a positive delta.
    fn reserve(&self, order: u8, nr: u64) -> Result<(), Errno> {
        let h = &mut self.sizes.lock()[size_index(order)];
        if h.reserved + nr > h.free {
            return Err(Errno::NoMem);
        }
        h.reserved += nr;
        Ok(())
    }
    /// `hugetlb_acct_memory` with a negative delta.
    fn unreserve(&self, order: u8, nr: u64) {
        self.sizes.lock()[size_index(order)].reserved -= nr;
    }
    /// A page that is in use moves and its old frame leaves the pool (`soft_offline_page`, then
    /// `dissolve_free_hugetlb_folio`): one free page fewer, if any is not promised.
    pub(crate) fn shrink(&self, order: u8) {
        let h = &mut self.sizes.lock()[size_index(order)];
        h.free -= u64::from(h.free > h.reserved);
    }
    /// `dequeue_hugetlb_folio_vma`: a page with one reference, from the reservation or from what is left beside it.
    fn dequeue(&self, phys: &Phys, order: u8, reserved: bool) -> Option<Pfn> {
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
    /// `folio_put_refs`, and `free_huge_folio` with the last one.
    pub(crate) fn put(&self, phys: &Phys, head: Pfn, n: i32) {
        let page = phys.page(head);
        if !page.put(n) {
            return;
        }
        let (order, restore) = (page.order(), page.has(PG_RESTORE_RESERVE));
        let poisoned = page.has(PG_HWPOISON);
        phys.free(head);
        let h = &mut self.sizes.lock()[size_index(order)];
        // Poisoned pages leave the pool.
        h.free += !poisoned as u64;
        h.reserved += (restore && !poisoned) as u64;
    }
}

fn size_index(order: u8) -> usize {
    (order != PMD_ORDER) as usize
}

/// A hugetlbfs file. Anonymous mappings have one each.
#[derive(Debug)]
pub struct HugetlbFile {
    id: u64,
    order: u8,
    nr_huge: u64,
    system: Arc<System>,
    /// Page cache, by huge page index.
    cache: Mutex<BTreeMap<u64, Pfn>>,
    /// `inode_resv_map`: huge pages that are reserved or in use for shared mappings.
    reserved: Mutex<BTreeSet<u64>>,
    /// `hugetlb_fault_mutex_table`: one fault at a time.
    fault: Mutex<()>,
}

impl HugetlbFile {
    /// `hugetlb_file_setup` for a mapping of `nr_pages` base pages.
    pub fn new(system: &Arc<System>, order: u8, nr_pages: u64) -> Arc<HugetlbFile> {
        Arc::new(HugetlbFile {
            id: system.new_id(),
            order,
            nr_huge: nr_pages >> order,
            system: Arc::clone(system),
            cache: Mutex::default(),
            reserved: Mutex::default(),
            fault: Mutex::default(),
        })
    }
    /// Identity.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Order of its pages.
    pub fn order(&self) -> u8 {
        self.order
    }
}

impl Drop for HugetlbFile {
    /// `hugetlbfs_evict_inode`: the page cache goes, and what was reserved and never used.
    fn drop(&mut self) {
        let cache = core::mem::take(&mut *self.cache.lock());
        let unused = self.reserved.lock().len() as u64 - cache.len() as u64;
        for &head in cache.values() {
            self.system.hugetlb.put(&self.system.phys, head, 1);
        }
        self.system.hugetlb.unreserve(self.order, unused);
    }
}

/// The reservation of a private mapping (`struct resv_map`): what is in it has been used. Shared by all VMAs that the
/// mapping was cut into.
#[derive(Debug, Default)]
struct ResvMap(Mutex<BTreeSet<u64>>);

/// What a hugetlb VMA maps.
#[derive(Debug)]
pub struct HugetlbMapping {
    /// The file.
    pub file: Arc<HugetlbFile>,
    /// HPAGE_RESV_OWNER: the reservation of a private mapping, until fork or mremap takes it away.
    resv: Option<Arc<ResvMap>>,
    /// HPAGE_RESV_UNMAPPED: the owner took a page away from this VMA, so faults here end in SIGBUS.
    unmapped: AtomicBool,
}

impl Clone for HugetlbMapping {
    fn clone(&self) -> Self {
        HugetlbMapping {
            file: Arc::clone(&self.file),
            resv: self.resv.clone(),
            unmapped: AtomicBool::new(self.unmapped.load(Relaxed)),
        }
    }
}

impl HugetlbMapping {
    /// A mapping without a reservation.
    pub(crate) fn new(file: Arc<HugetlbFile>) -> HugetlbMapping {
        HugetlbMapping { file, resv: None, unmapped: AtomicBool::new(false) }
    }
    /// `hugetlb_reserve_pages` for a new mapping of a new file over `range`.
    ///
    /// # Errors
    /// -ENOMEM when the pool is too small.
    pub(crate) fn reserve(&mut self, system: &System, range: PageRange, flags: VmFlags) -> Result<(), Errno> {
        if flags.contains(VmFlags::NORESERVE) {
            return Ok(());
        }
        let nr = range.nr_pages() >> self.file.order;
        system.hugetlb.reserve(self.file.order, nr)?;
        if flags.contains(VmFlags::MAYSHARE) {
            self.file.reserved.lock().extend(0..nr);
        } else {
            self.resv = Some(Arc::default());
        }
        Ok(())
    }
    /// `hugetlb_dup_vma_private`: the reservation belongs to another VMA now.
    pub(crate) fn forget_reservation(&mut self) {
        self.resv = None;
        self.unmapped = AtomicBool::new(false);
    }
    /// `hugetlb_vm_op_close`: what `vma` reserved and did not use goes back.
    pub(crate) fn close(&self, system: &System, vma: &Vma) {
        if let Some(resv) = &self.resv {
            let (start, end) = (vma.huge_index(vma.start()), vma.huge_index(vma.end()));
            let used = resv.0.lock().range(start..end).count() as u64;
            system.hugetlb.unreserve(self.file.order, end - start - used);
        }
    }
    /// `vma_needs_reservation`: no reservation is waiting for page `index`.
    fn needs_reservation(&self, shared: bool, index: u64) -> bool {
        match &self.resv {
            _ if shared => !self.file.reserved.lock().contains(&index),
            Some(resv) => resv.0.lock().contains(&index),
            None => true,
        }
    }
    /// `vma_commit_reservation`: page `index` is in use.
    fn commit(&self, shared: bool, index: u64) {
        if shared {
            self.file.reserved.lock().insert(index);
        } else if let Some(resv) = &self.resv {
            resv.0.lock().insert(index);
        }
    }
    /// `restore_reserve_on_error` for a page that was allocated for `index` and will be freed unused.
    fn restore_on_error(&self, shared: bool, index: u64, consumed: bool) {
        if consumed {
            if !shared && let Some(resv) = &self.resv {
                resv.0.lock().remove(&index);
            }
        } else if shared {
            self.file.reserved.lock().remove(&index);
        }
    }
}

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
        if self.slot.read() != orig {
            drop(guard);
            if anon {
                self.give_back(head);
            } else {
                self.pool().put(phys, head, 1);
            }
            return VmFault::empty();
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
        if orig.is_uffd_wp() {
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

impl Mm {
    /// `__unmap_hugepage_range`. With `keep_markers`, write protection by userfaultfd leaves a marker.
    pub(crate) fn zap_hugetlb(&self, vma: &Vma, range: PageRange, keep_markers: bool) {
        let (phys, level) = (self.phys(), vma.hugetlb_level());
        let marker = || SwpEntry::new(SwpType::PteMarker, MARKER_UFFD_WP).entry();
        // hugetlb_zap_begin: no fault between a page's return to the pool and its reservation's.
        let _no_faults = vma.hugetlb().resv.as_ref().map(|_| vma.hugetlb().file.fault.lock());
        let mut addr = range.start();
        while addr < range.end() {
            let at = addr;
            addr = addr.next_boundary(level, range.end());
            let Ok(slot) = self.lookup(at, level) else { continue };
            let guard = slot.lock();
            let e = slot.read();
            if e.is_none() {
                continue;
            }
            if !e.is_present() {
                let wp = e.is_swp_uffd_wp() || e.is_swp_uffd_wp_marker();
                // Migrating and poisoned pages are unmapped already.
                slot.replace(if wp && keep_markers { marker() } else { Entry::NONE });
                continue;
            }
            let head = e.pfn();
            let old = slot.replace(if e.is_uffd_wp() && keep_markers { marker() } else { Entry::NONE });
            if old.is_dirty() {
                phys.page(head).set(crate::memory::page::PG_DIRTY);
            }
            phys.remove_rmap_huge(head);
            drop(guard);
            if let Some(resv) = &vma.hugetlb().resv
                && phys.mapcount(head) == 0
                && is_anon(phys, head)
            {
                // The last mapping of the owner gives the reservation back with the page.
                phys.page(head).set(PG_RESTORE_RESERVE);
                resv.0.lock().remove(&vma.huge_index(at));
            }
            self.system().hugetlb.put(phys, head, 1);
        }
    }
    /// `hugetlb_change_protection`.
    pub(crate) fn change_hugetlb(&self, vma: &Vma, range: PageRange, change: Change) {
        let level = vma.hugetlb_level();
        let (wp, resolve) = (change == Change::UffdWp, matches!(change, Change::UffdWpResolve { .. }));
        self.notifier.during(&Event::new(EventKind::ProtectionVma, range), || {
            let mut addr = range.start();
            while addr < range.end() {
                let at = addr;
                addr = addr.next_boundary(level, range.end());
                let slot = if wp { self.lookup_alloc(at, level).ok() } else { self.lookup(at, level).ok() };
                let Some(slot) = slot else { continue };
                let _guard = slot.lock();
                let old = slot.read();
                let new = self.change_hugetlb_entry(vma, old, wp, resolve);
                if new != old {
                    slot.replace(new);
                }
            }
        });
    }
    fn change_hugetlb_entry(&self, vma: &Vma, old: Entry, wp: bool, resolve: bool) -> Entry {
        if old.is_none() {
            return if wp { SwpEntry::new(SwpType::PteMarker, MARKER_UFFD_WP).entry() } else { old };
        }
        if old.is_present() {
            let e = old.modify(vma.page_prot()).mkhuge();
            return match (wp, resolve) {
                (true, _) => e.mkuffd_wp(),
                (_, true) => e.clear_uffd_wp(),
                _ => e,
            };
        }
        let swp = old.swp();
        if swp.is_marker() {
            return if old.is_swp_uffd_wp_marker() && resolve { Entry::NONE } else { old };
        }
        if !swp.is_migration() {
            return old;
        }
        let mut new = old;
        if swp.kind() == SwpType::MigrationWrite {
            let kind = if is_anon(self.phys(), swp.pfn()) {
                SwpType::MigrationReadExclusive
            } else {
                SwpType::MigrationRead
            };
            new = SwpEntry::new(kind, swp.offset()).entry().with_swp_uffd_wp(old.is_swp_uffd_wp());
        }
        match (wp, resolve) {
            (true, _) => new.with_swp_uffd_wp(true),
            (_, true) => new.with_swp_uffd_wp(false),
            _ => new,
        }
    }

    /// `copy_hugetlb_page_range`: a CLEAR event over the whole VMA if it can copy on write.
    pub(crate) fn copy_hugetlb_page_range(&self, child: &Arc<Mm>, vma: &Vma) -> Result<(), Errno> {
        let copy = || -> Result<(), Errno> {
            let level = vma.hugetlb_level();
            let mut addr = vma.start();
            while addr < vma.end() {
                let at = addr;
                addr = addr.next_boundary(level, vma.end());
                let Ok(src) = self.lookup(at, level) else { continue };
                let dst = child.lookup_alloc(at, level)?;
                let _dst_guard = dst.lock();
                let _src_guard = src.lock();
                let e = src.read();
                if !e.is_none() {
                    let (parent, copy) = self.copy_hugetlb_entry(vma, e);
                    if parent != e {
                        src.replace(parent);
                    }
                    dst.set(copy);
                }
            }
            Ok(())
        };
        if vma.is_cow() {
            self.notifier.during(&Event::new(EventKind::Clear, vma.range), copy)
        } else {
            copy()
        }
    }
    fn copy_hugetlb_entry(&self, vma: &Vma, old: Entry) -> (Entry, Entry) {
        let phys = self.phys();
        if old.is_present() {
            let head = old.pfn();
            phys.add_rmap_huge(head);
            if is_anon(phys, head) {
                phys.clear_anon_exclusive(head);
            }
            let parent = if vma.is_cow() { old.wrprotect() } else { old };
            return (parent, parent.clear_uffd_wp());
        }
        let swp = old.swp();
        if swp.is_marker() {
            let other = swp.offset() & !MARKER_UFFD_WP;
            let copy =
                if other != 0 { SwpEntry::new(SwpType::PteMarker, other).entry() } else { Entry::NONE };
            return (old, copy);
        }
        if swp.is_migration() && vma.is_cow() && swp.kind() != SwpType::MigrationRead {
            let read = SwpEntry::new(SwpType::MigrationRead, swp.offset()).entry();
            return (read.with_swp_uffd_wp(old.is_swp_uffd_wp()), read);
        }
        (old, old.with_swp_uffd_wp(false))
    }

    /// `move_hugetlb_page_tables`: entries of `old` go to where `vma` continues at `to`, inside a CLEAR event.
    pub(crate) fn move_hugetlb(&self, vma: &Vma, old: PageRange, to: VirtAddr) -> Result<(), Errno> {
        let level = vma.hugetlb_level();
        self.notifier.during(&Event::new(EventKind::Clear, old), || {
            let mut addr = old.start();
            while addr < old.end() {
                let at = addr;
                addr = addr.next_boundary(level, old.end());
                let Ok(src) = self.lookup(at, level) else { continue };
                if src.read().is_none() {
                    continue;
                }
                let dst = self.lookup_alloc(to.add_pages(at.pages_since(old.start())), level)?;
                let guard = src.lock();
                let e = src.replace(Entry::NONE);
                drop(guard);
                let _guard = dst.lock();
                // The new VMA is not registered with the userfaultfd.
                dst.set(match vma.uffd != 0 {
                    true if e.is_swp_uffd_wp_marker() => Entry::NONE,
                    true if e.is_present() => e.clear_uffd_wp(),
                    true => e.with_swp_uffd_wp(false),
                    false => e,
                });
            }
            Ok(())
        })
    }

    /// The part of a hugetlb VMA that MADV_DONTNEED takes: the start must fit, the end is rounded down.
    pub(crate) fn hugetlb_dontneed_part(&self, vma: &Vma, part: PageRange) -> Result<PageRange, Errno> {
        let level = vma.hugetlb_level();
        if !part.start().is_aligned(level) {
            return Err(Errno::Inval);
        }
        Ok(PageRange::between(part.start(), part.end().align_down(level).max(part.start())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::madvise::Advice;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::testing::{BASE, RW, assert_used, machine};
    use crate::mm::touch::{Access, Signal};

    fn range(first: u64, nr: u64) -> PageRange {
        PageRange::pages(BASE.add_pages(first << 9), nr << 9)
    }
    fn page(i: u64) -> VirtAddr {
        BASE.add_pages(i << 9)
    }
    fn map(mm: &Mm, first: u64, nr: u64, shared: bool, noreserve: bool) -> Result<(), Errno> {
        let flags = MapFlags { noreserve, ..MapFlags::default() };
        mm.mmap(range(first, nr), RW, MapKind::Hugetlb { order: 9, shared }, flags, 0)
    }

    #[test]
    fn reservations_bound_what_can_be_mapped_and_come_back() {
        let mm = machine();
        let pool = &mm.system().hugetlb;
        let used = mm.phys().nr_used();
        assert_eq!(map(&mm, 0, 9, false, false), Err(Errno::NoMem));
        map(&mm, 0, 6, false, false).unwrap();
        assert_eq!(pool.available(9), (8, 6));
        assert_eq!(map(&mm, 8, 3, true, false), Err(Errno::NoMem));
        map(&mm, 8, 2, true, false).unwrap();
        mm.touch(page(0), Access::Write(1)).unwrap();
        mm.touch(page(8), Access::Read).unwrap();
        assert_eq!(pool.available(9), (6, 6));
        mm.madvise(range(0, 1), Advice::DontNeed).unwrap();
        assert_eq!(pool.available(9), (7, 7));
        mm.munmap(range(3, 1)).unwrap();
        assert_eq!(pool.available(9), (7, 6));
        map(&mm, 16, 2, false, true).unwrap();
        mm.touch(page(16), Access::Write(1)).unwrap();
        assert_eq!(mm.touch(page(17), Access::Write(1)), Err(Signal::Bus), "the rest is promised");
        mm.munmap(range(0, 20)).unwrap();
        assert_eq!(pool.available(9), (8, 0));
        assert_used(&mm, used);
    }

    #[test]
    fn edges_inside_a_huge_page_are_refused_and_dontneed_rounds_its_end_down() {
        let mm = machine();
        map(&mm, 0, 2, false, false).unwrap();
        let odd = PageRange::pages(BASE, 100);
        assert_eq!(mm.munmap(odd), Err(Errno::Inval));
        assert_eq!(mm.mprotect(odd, VmFlags::READ), Err(Errno::Inval));
        assert_eq!(mm.mprotect(odd, RW), Ok(()), "nothing to change, nothing to cut");
        mm.touch(BASE, Access::Write(3)).unwrap();
        assert_eq!(mm.madvise(odd, Advice::DontNeed), Ok(()));
        assert_eq!(mm.touch(BASE, Access::Read), Ok(3));
        let inside = PageRange::pages(BASE.add_pages(1), 600);
        assert_eq!(mm.madvise(inside, Advice::DontNeed), Err(Errno::Inval));
    }

    #[test]
    fn the_owner_takes_the_page_from_its_child_when_the_pool_is_empty() {
        let mm = machine();
        let used = mm.phys().nr_used();
        map(&mm, 0, 5, false, false).unwrap();
        (0..5).for_each(|i| assert_eq!(mm.touch(page(i), Access::Write(1)), Ok(1)));
        let child = mm.fork().unwrap();
        (0..5).for_each(|i| assert_eq!(mm.touch(page(i), Access::Write(2)), Ok(2)));
        // Three copies, then the pool was empty.
        let alive = (0..5).filter(|&i| child.touch(page(i), Access::Read) == Ok(1)).count();
        assert_eq!(alive, 3);
        assert_eq!(child.touch(page(4), Access::Read), Err(Signal::Bus));
        child.exit();
        mm.munmap(range(0, 5)).unwrap();
        assert_eq!(mm.system().hugetlb.available(9), (8, 0));
        drop(child);
        assert_used(&mm, used);
    }

    #[test]
    fn shared_pages_are_one_page_for_parent_and_child() {
        let mm = machine();
        map(&mm, 0, 1, true, false).unwrap();
        let child = mm.fork().unwrap();
        mm.touch(BASE, Access::Write(4)).unwrap();
        assert_eq!(child.touch(BASE, Access::Read), Ok(4));
        child.exit();
        mm.munmap(range(0, 1)).unwrap();
        drop(child);
        assert_eq!(mm.system().hugetlb.available(9), (8, 0));
    }

    #[test]
    fn moving_takes_pages_and_reservation_along() {
        let mm = machine();
        map(&mm, 0, 2, false, false).unwrap();
        mm.touch(BASE, Access::Write(5)).unwrap();
        mm.mremap(range(0, 2), range(4, 2)).unwrap();
        assert_eq!(mm.touch(page(4), Access::Read), Ok(5));
        assert_eq!(mm.system().hugetlb.available(9), (7, 1));
        mm.munmap(range(0, 8)).unwrap();
        assert_eq!(mm.system().hugetlb.available(9), (8, 0));
    }
}
