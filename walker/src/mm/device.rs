//! Device-private and device-exclusive memory.
//!
//! Models mm/migrate_device.c (`migrate_vma_setup`, `_pages`, `_finalize`, `migrate_device_range`), the device-private
//! part of `do_swap_page`, `remove_device_exclusive_entry` and `restore_exclusive_pte` (mm/memory.c),
//! `make_device_exclusive_range` (mm/rmap.c), 6.12, with a driver that copies as lib/test_hmm.c does. A device page is
//! a frame of kind [`PageKind::DevicePrivate`] that holds its contents; the processor never maps it. Left out:
//! device-coherent memory, pages that a driver fails to allocate on purpose.
//!
//! A device-exclusive entry holds a reference on its page, but no mapping.

use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::{Count, Counters, NoCounts};
use crate::memory::page::{PG_DIRTY, PG_LOCKED, PG_SWAPCACHE};
use crate::memory::{PageKind, Table};
use crate::mm::fault::{FaultFlags, VmFault, Vmf};
use crate::mm::file::Inode;
use crate::mm::rmap::Family;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use crate::sync::Mutex;
use core::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Weak;

/// A driver that put pages into device memory and wants to know when one of them leaves for system memory.
pub trait DeviceMirror: Send + Sync {
    /// The page at `addr` is about to be copied back.
    fn erase(&self, addr: VirtAddr);
}

/// What a machine knows of its device memory.
#[derive(Default)]
pub struct DevicePool {
    /// Whom a page's `private` word names, by position + 1.
    mirrors: Mutex<Vec<Weak<dyn DeviceMirror>>>,
}

impl core::fmt::Debug for DevicePool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DevicePool")
    }
}

impl DevicePool {
    /// Registers a mirror; the result names it in [`Mm::migrate_to_device`].
    pub fn register(&self, mirror: Weak<dyn DeviceMirror>) -> u64 {
        let mut mirrors = self.mirrors.lock();
        mirrors.push(mirror);
        mirrors.len() as u64
    }
    fn erase(&self, mirror: u64, addr: VirtAddr) {
        let found = match mirror.checked_sub(1) {
            Some(i) => self.mirrors.lock().get(i as usize).and_then(Weak::upgrade),
            None => None,
        };
        if let Some(found) = found {
            found.erase(addr);
        }
    }
}

/// Whose device memory: the pgmap owner, and which mirror put a page there (0 for nobody in particular).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// `pgmap->owner`; never 0.
    pub owner: u64,
    /// From [`DevicePool::register`].
    pub mirror: u64,
}

impl Device {
    /// A device without a mirror to be told.
    pub const fn new(owner: u64) -> Device {
        Device { owner, mirror: 0 }
    }
}

/// What a driver does in the course of a `migrate_vma` call to its memory.
pub(crate) struct MigrateDriver<'d> {
    /// Every page that may move is unmapped, none is copied yet. May not sleep.
    pub unmapped: &'d mut dyn FnMut(),
    /// The page at this address has moved to this device page; whether the device may write. The entry of the processor
    /// follows when the page is unlocked.
    pub map: &'d mut dyn FnMut(VirtAddr, Pfn, bool),
}

/// Pages per `migrate_vma` call and per exclusive call of the driver.
pub const CHUNK: u64 = 64;

/// One page of a `migrate_vma` call: an entry of the src and one of the dst array.
#[derive(Clone, Copy, Debug, Default)]
struct Moving {
    src: Option<Pfn>,
    /// MIGRATE_PFN_MIGRATE.
    migrate: bool,
    /// MIGRATE_PFN_WRITE of the source.
    write: bool,
    dst: Option<Pfn>,
}

/// `struct migrate_vma`.
struct MigrateVma<'a, 'f> {
    at: Locked<'a>,
    family: &'a Family<'f>,
    vma: &'a Vma,
    range: PageRange,
    owner: u64,
    /// MIGRATE_VMA_SELECT_SYSTEM, else _DEVICE_PRIVATE.
    system: bool,
    fault_page: Option<Pfn>,
    pages: Vec<Moving>,
    /// Page-cache pages that were taken off their entries and put back.
    files: Vec<Pfn>,
}

impl MigrateVma<'_, '_> {
    /// `migrate_vma_setup`: afterwards every page that may move is locked and unmapped.
    fn setup(&mut self) -> Result<(), Errno> {
        let special = VmFlags::HUGETLB | VmFlags::SPECIAL;
        if self.vma.flags.intersects(special) || self.range.is_empty() {
            return Err(Errno::Inval);
        }
        let event = Event { kind: EventKind::Migrate, range: self.range, owner: self.owner, blockable: true };
        let at = self.at;
        at.mm.notifier.during(&event, || self.collect());
        if self.pages.iter().any(|p| p.migrate) || !self.files.is_empty() {
            self.unmap();
        }
        Ok(())
    }

    /// `migrate_vma_collect`.
    fn collect(&mut self) {
        let mut addr = self.range.start();
        while addr < self.range.end() {
            let next = addr.next_boundary(Level::Pmd, self.range.end());
            let part = PageRange::between(addr, next);
            match self.at.mm.lookup(addr, Level::Pmd) {
                Ok(pmd) => self.collect_pmd(pmd, part),
                Err(_) => self.hole(part),
            }
            addr = next;
        }
    }
    /// `migrate_vma_collect_hole`: only anonymous memory is populated.
    fn hole(&mut self, part: PageRange) {
        let migrate = self.vma.is_anonymous();
        self.pages.extend((0..part.nr_pages()).map(|_| Moving { migrate, ..Moving::default() }));
    }
    fn skip(&mut self, part: PageRange) {
        self.pages.extend((0..part.nr_pages()).map(|_| Moving::default()));
    }

    /// `migrate_vma_collect_pmd`: a huge page is split for whatever may become of it.
    fn collect_pmd(&mut self, pmd: Slot<'_>, part: PageRange) {
        let (mm, phys) = (self.at.mm, self.at.mm.phys());
        loop {
            let e = pmd.read();
            if e.is_none() {
                return self.hole(part);
            }
            if e.is_swp() {
                return self.skip(part);
            }
            if e.is_huge() {
                let guard = pmd.lock();
                if pmd.read() != e {
                    continue;
                }
                let head = e.pfn();
                let folio = phys.page(head);
                if folio.kind() == PageKind::HugeZero {
                    drop(guard);
                    mm.split_huge_pmd(self.vma, pmd, part.start(), &mut NoCounts);
                } else {
                    folio.get(1);
                    drop(guard);
                    let split = folio.try_lock() && {
                        let split = match (folio.kind(), &self.vma.backing) {
                            (PageKind::Anon, _) => {
                                let within = part.start().index(Level::Pte) as u64;
                                self.at.adopt_anon(self.vma, part.start(), head.add(within));
                                self.family.split_folio(head, None).is_ok()
                            }
                            (_, Backing::File(file)) => self.family.split_file_folio(file.inode(), head),
                            _ => false,
                        };
                        mm.system().unlock_folio(head);
                        split
                    };
                    phys.put(head, 1);
                    if !split {
                        return self.skip(part);
                    }
                }
            }
            let Some((table, _guard)) = mm.lock_pte_table(pmd) else { continue };
            let mut addr = part.start();
            while addr < part.end() {
                let moving = self.collect_pte(table, addr);
                self.pages.push(moving);
                addr = addr.add_pages(1);
            }
            return;
        }
    }

    fn collect_pte(&mut self, table: Table<'_>, addr: VirtAddr) -> Moving {
        let (mm, phys) = (self.at.mm, self.at.mm.phys());
        let i = addr.index(Level::Pte);
        let e = table.ptep_get(i);
        let empty = Moving { migrate: true, ..Moving::default() };
        if e.is_none() {
            return if self.vma.is_anonymous() { empty } else { Moving::default() };
        }
        let (pfn, write) = if e.is_present() {
            if e.pfn() == mm.system().zero_pfn() && self.system {
                return empty;
            }
            if e.is_special() || !self.system {
                return Moving::default();
            }
            (e.pfn(), e.is_write())
        } else {
            let swp = e.swp();
            if !swp.is_device_private() || self.system || phys.page(swp.pfn()).owner() != self.owner {
                return Moving::default();
            }
            (swp.pfn(), swp.is_device_private_write())
        };
        let folio = phys.page(pfn);
        // Large folios do not migrate, nor do pages that left their file.
        let large = folio.order() > 0 || folio.tail_distance() > 0;
        let mapped = match folio.kind() {
            PageKind::Anon | PageKind::DevicePrivate => true,
            PageKind::File => folio.owner() != 0,
            _ => false,
        };
        if large || !mapped || !folio.try_lock() {
            return Moving::default();
        }
        folio.get(1);
        if folio.kind() == PageKind::Anon {
            self.at.adopt_anon(self.vma, addr, pfn);
        }
        let exclusive = folio.is_anon_exclusive();
        let old = table.replace(i, Entry::NONE);
        phys.clear_anon_exclusive(pfn);
        let stand_in = mm.migrating(pfn, old, exclusive);
        phys.remove_rmap_pte(pfn);
        phys.put(pfn, 1);
        if folio.kind() == PageKind::File {
            // No device takes page-cache pages: the entry comes back as finalize would restore it.
            table.set(i, mm.remigrated(self.vma, pfn, stand_in));
            self.files.push(pfn);
            return Moving::default();
        }
        table.set(i, stand_in);
        Moving { src: Some(pfn), migrate: true, write, dst: None }
    }

    /// `migrate_vma_unmap`: the other mappings become migration entries too; pinned pages are restored.
    fn unmap(&mut self) {
        let (family, phys) = (self.family, self.at.mm.phys());
        if let Backing::File(file) = &self.vma.backing {
            for &pfn in &self.files {
                family.restore_file_mappings(file.inode(), pfn);
            }
        }
        for pfn in self.files.drain(..) {
            phys.page(pfn).unlock();
            phys.put(pfn, 1);
        }
        for page in &mut self.pages {
            let Some(pfn) = page.src else { continue };
            let folio = phys.page(pfn);
            if folio.pte_mappings() > 0 {
                family.try_to_migrate(pfn, false);
            }
            // migrate_vma_check_page
            let extra = 1 + i32::from(self.fault_page == Some(pfn)) + i32::from(folio.has(PG_SWAPCACHE));
            page.migrate = folio.pte_mappings() == 0 && folio.refs() <= extra;
        }
        for page in &mut self.pages {
            if let Some(pfn) = page.src.filter(|_| !page.migrate) {
                family.remove_migration_ptes(phys.page(pfn).index(), 1, pfn, pfn, false);
                family.system().unlock_folio(pfn);
                phys.put(pfn, 1);
                page.src = None;
            }
        }
    }

    /// `migrate_vma_pages`: what has a destination moves.
    fn migrate(&mut self) {
        let (mm, phys) = (self.at.mm, self.at.mm.phys());
        let mut notified = false;
        for i in 0..self.pages.len() {
            let Moving { src, migrate, dst, .. } = self.pages[i];
            let Some(dst) = dst else {
                self.pages[i].migrate = false;
                continue;
            };
            let Some(src) = src else {
                if migrate {
                    let addr = self.range.start().add_pages(i as u64);
                    if !core::mem::replace(&mut notified, true) {
                        let range = PageRange::between(addr, self.range.end());
                        let event =
                            Event { kind: EventKind::Migrate, range, owner: self.owner, blockable: true };
                        let _ = mm.notifier.invalidate_start(&event);
                    }
                    self.pages[i].migrate = self.insert_page(addr, dst).is_some();
                }
                continue;
            };
            let folio = phys.page(src);
            let swap_freed = !folio.has(PG_SWAPCACHE) || mm.system().free_swap(src);
            let expected = 1 + i32::from(self.fault_page == Some(src));
            if swap_freed && folio.refs() == expected {
                self.family.migrate_folio(src, dst);
            } else {
                self.pages[i].migrate = false;
            }
        }
        if notified {
            mm.notifier.invalidate_end();
        }
    }

    /// `migrate_vma_insert_page`: a device page where nothing or the zero page was.
    fn insert_page(&self, addr: VirtAddr, new: Pfn) -> Option<()> {
        let (mm, phys) = (self.at.mm, self.at.mm.phys());
        if !self.vma.is_anonymous() {
            return None;
        }
        let pmd = mm.lookup_alloc(addr, Level::Pmd).ok()?;
        if pmd.read().is_none() {
            mm.install_table(pmd).ok()?;
        }
        let vmf = Vmf { at: self.at, vma: self.vma, addr, flags: FaultFlags::empty(), pmd };
        vmf.anon_prepare();
        let (table, _guard) = mm.lock_pte_table(pmd)?;
        let i = addr.index(Level::Pte);
        let old = table.ptep_get(i);
        let zero = old.is_present() && old.pfn() == mm.system().zero_pfn();
        if !(old.is_none() || zero) || self.vma.has(VmFlags::UFFD_MISSING) {
            return None;
        }
        let page = phys.page(new);
        page.set_index(self.vma.index_of(addr));
        page.add_pte_mappings(1);
        page.get(1);
        phys.set_anon_exclusive(new);
        let kind = if self.vma.has(VmFlags::WRITE) { SwpType::DeviceWrite } else { SwpType::DeviceRead };
        if zero {
            table.replace(i, Entry::NONE);
        }
        table.set(i, SwpEntry::new(kind, new.get()).entry());
        Some(())
    }

    /// `migrate_vma_finalize`.
    fn finalize(self) {
        let phys = self.at.mm.phys();
        let unlock_put = |pfn: Pfn| {
            self.at.mm.system().unlock_folio(pfn);
            phys.put(pfn, 1);
        };
        for page in &self.pages {
            let Some(src) = page.src else {
                page.dst.into_iter().for_each(unlock_put);
                continue;
            };
            let moved = page.dst.filter(|_| page.migrate);
            let index = phys.page(src).index();
            self.family.remove_migration_ptes(index, 1, src, moved.unwrap_or(src), false);
            unlock_put(src);
            page.dst.into_iter().for_each(unlock_put);
        }
    }
}

impl Family<'_> {
    /// `try_to_migrate` and `remove_migration_ptes` in one, for a page of a file that does not move after all: every
    /// mapping of it is renewed with the rights of its VMA.
    fn restore_file_mappings(&self, inode: &Inode, pfn: Pfn) {
        let phys = self.phys();
        let index = phys.page(pfn).index();
        if phys.page(pfn).pte_mappings() <= 1 {
            return;
        }
        self.file_walk(inode, index..index + 1, &mut |mm, vma, part| {
            mm.notifier.during(&Event::new(EventKind::Clear, part), || {
                mm.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, _| {
                    let e = table.ptep_get(i);
                    if e.is_present() && !e.is_special() && e.pfn() == pfn {
                        let old = table.replace(i, Entry::NONE);
                        phys.remove_rmap_pte(pfn);
                        phys.put(pfn, 1);
                        table.set(i, mm.remigrated(vma, pfn, mm.migrating(pfn, old, false)));
                    }
                });
            });
            true
        });
    }

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
    /// One `migrate_vma` call to device memory, in the order of `dmirror_migrate_to_device`.
    ///
    /// # Errors
    /// -EINVAL where the VMA cannot migrate.
    pub(crate) fn migrate_vma_to_device(
        &self,
        vma: &Vma,
        part: PageRange,
        device: Device,
        driver: &mut MigrateDriver<'_>,
    ) -> Result<(), Errno> {
        let phys = self.mm.phys();
        self.with_family(|family| {
            let mut args = MigrateVma {
                at: *self,
                family,
                vma,
                range: part,
                owner: device.owner,
                system: true,
                fault_page: None,
                pages: Vec::new(),
                files: Vec::new(),
            };
            args.setup()?;
            // dmirror_migrate_alloc_and_copy
            (driver.unmapped)();
            for page in args.pages.iter_mut().filter(|p| p.migrate) {
                let Ok(new) = phys.alloc(PageKind::DevicePrivate, 0) else { continue };
                match page.src {
                    Some(src) => phys.copy(new, src, 0),
                    None => phys.zero(new, 0),
                }
                phys.page(new).set(PG_LOCKED);
                phys.page(new).set_owner(device.owner);
                phys.page(new).set_private(device.mirror);
                page.dst = Some(new);
            }
            args.migrate();
            // dmirror_migrate_finalize_and_map
            for (i, page) in args.pages.iter().enumerate() {
                if let Some(new) = page.dst.filter(|_| page.migrate) {
                    let write = page.write || (page.src.is_none() && vma.has(VmFlags::WRITE));
                    (driver.map)(part.start().add_pages(i as u64), new, write);
                }
            }
            args.finalize();
            Ok(())
        })
    }

    /// One `migrate_vma` call back to system memory. Returns how many pages came.
    ///
    /// # Errors
    /// -EINVAL where the VMA cannot migrate.
    pub(crate) fn migrate_vma_to_system(
        &self,
        vma: &Vma,
        part: PageRange,
        owner: u64,
        fault_page: Option<Pfn>,
    ) -> Result<u64, Errno> {
        let (phys, pool) = (self.mm.phys(), &self.mm.system().device);
        self.with_family(|family| {
            let mut args = MigrateVma {
                at: *self,
                family,
                vma,
                range: part,
                owner,
                system: false,
                fault_page,
                pages: Vec::new(),
                files: Vec::new(),
            };
            args.setup()?;
            // dmirror_devmem_fault_alloc_and_copy
            for (i, page) in args.pages.iter_mut().enumerate() {
                let Some(src) = page.src.filter(|_| page.migrate) else { continue };
                let Ok(new) = phys.alloc(PageKind::Anon, 0) else { continue };
                phys.page(new).set(PG_LOCKED);
                pool.erase(phys.page(src).private(), part.start().add_pages(i as u64));
                phys.copy(new, src, 0);
                page.dst = Some(new);
            }
            args.migrate();
            let moved = args.pages.iter().filter(|p| p.migrate && p.src.is_some()).count() as u64;
            args.finalize();
            Ok(moved)
        })
    }

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

    /// `migrate_device_range` over all pages of a device, as the driver does when one of its files is closed: what
    /// this family maps comes back to system memory.
    pub(crate) fn evict_device(&self, owner: u64) {
        let phys = self.mm.phys();
        let device = |pfn: Pfn| {
            let page = phys.page(pfn);
            page.kind() == PageKind::DevicePrivate && page.owner() == owner
        };
        self.with_family(|family| {
            // Under the table's lock the entry keeps the page. A device page that nothing maps is about to be freed.
            let mut found = BTreeSet::new();
            family.each_vma(&mut |mm, vma| {
                mm.for_each_entry(vma.range, &mut |_, _, _| {}, &mut |table, i, _| {
                    let e = table.ptep_get(i);
                    if e.is_swp() && e.swp().is_device_private() && device(e.swp().pfn()) {
                        let pfn = e.swp().pfn();
                        if found.insert(pfn.get()) {
                            phys.page(pfn).get(1);
                        }
                    }
                });
            });
            for src in found.into_iter().map(Pfn::new) {
                if phys.page(src).try_lock() {
                    family.migrate_one(src);
                    phys.page(src).unlock();
                }
                phys.put(src, 1);
            }
        });
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

    /// The folio that the entry `orig` names, with a reference taken while the entry still stands there.
    fn get_named(&self, orig: Entry) -> Option<Pfn> {
        let phys = self.mm().phys();
        let (table, _guard) = self.mm().lock_pte_table(self.pmd)?;
        if table.ptep_get(self.pte_index()) != orig {
            return None;
        }
        let head = phys.head(orig.swp().pfn());
        phys.page(head).get(1);
        Some(head)
    }

    /// A device-private page is touched by the processor: the driver's `migrate_to_ram` brings that one page back.
    pub(crate) fn migrate_to_ram<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let phys = self.mm().phys();
        let Some(page) = self.get_named(orig) else { return VmFault::empty() };
        let owner = phys.page(page).owner();
        c.add(Count::EventsIssued, 1);
        let moved = self.at.migrate_vma_to_system(self.vma, self.page_range(), owner, Some(page));
        phys.put(page, 1);
        match moved {
            Ok(n) => {
                c.add(Count::FaultsDevice, n);
                VmFault::empty()
            }
            Err(_) => VmFault::SIGBUS,
        }
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

    /// Migrates `range` to the memory of a device, [`CHUNK`] pages at a time. Chunks before a failing one stay
    /// migrated. What migrated is reported to `mapped`.
    ///
    /// # Errors
    /// -EINVAL where there is no readable VMA, or one that cannot migrate.
    pub fn migrate_to_device(
        &self,
        range: PageRange,
        device: Device,
        mapped: &mut dyn FnMut(VirtAddr, Pfn, bool),
    ) -> Result<(), Errno> {
        self.migrate_for_driver(range, device, MigrateDriver { unmapped: &mut || {}, map: mapped })
    }
    /// [`Mm::migrate_to_device`] for a driver that takes part in every step.
    pub(crate) fn migrate_for_driver(
        &self,
        range: PageRange,
        device: Device,
        mut driver: MigrateDriver<'_>,
    ) -> Result<(), Errno> {
        self.in_chunks(range, |at, vma, part| at.migrate_vma_to_device(vma, part, device, &mut driver))
    }

    /// Brings the device pages of `range` back, [`CHUNK`] at a time. Returns how many came.
    ///
    /// # Errors
    /// As [`Mm::migrate_to_device`].
    pub fn migrate_to_system(&self, range: PageRange, owner: u64) -> Result<u64, Errno> {
        let mut moved = 0;
        self.in_chunks(range, |at, vma, part| {
            moved += at.migrate_vma_to_system(vma, part, owner, None)?;
            Ok(())
        })?;
        Ok(moved)
    }

    fn in_chunks(
        &self,
        range: PageRange,
        mut f: impl FnMut(Locked<'_>, &Vma, PageRange) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let vmas = self.mmap_read();
        let mut addr = range.start();
        while addr < range.end() {
            let vma = vmas.find(addr).filter(|v| v.has(VmFlags::READ)).ok_or(Errno::Inval)?;
            let next = range.end().min(addr.add_pages(CHUNK)).min(vma.end());
            f(self.locked(&vmas), vma, PageRange::between(addr, next))?;
            addr = next;
        }
        Ok(())
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
