//! Device-private memory as the driver of lib/test_hmm.c uses it: migration there and back, `migrate_device_range` over
//! all of a device (mm/migrate_device.c), the device-private part of `do_swap_page` (mm/memory.c), 6.12.

use super::migrate_vma::{InMigration, MigrateVma};
use super::{CHUNK, Device};
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::counters::{Count, Counters};
use crate::memory::PageKind;
use crate::memory::page::PG_LOCKED;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use std::collections::BTreeSet;

/// What a driver does in the course of a `migrate_vma` call to its memory.
pub(crate) struct MigrateDriver<'d> {
    /// Every page that may move is unmapped, none is copied yet. May not sleep.
    pub unmapped: &'d mut dyn FnMut(),
    /// The page at this address has moved to this device page; whether the device may write. The entry of the processor
    /// follows when the page is unlocked.
    pub map: &'d mut dyn FnMut(VirtAddr, Pfn, bool),
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
        self.with_mappers(vma, |family| {
            let mut args = MigrateVma {
                at: *self,
                family,
                vma,
                range: part,
                owner: device.owner,
                system: true,
                fault_page: None,
                pages: Vec::new(),
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

    /// The first half of a migration of `range` to a device, then its end, without any memory of the device: all pages
    /// come back. With `moves` anonymous ones, and places without any, get other memory of the system instead. In between,
    /// `between` runs, while migration entries stand where the pages were. It may look; before it waits for one of them it
    /// has to [end](InMigration::end) what it waits for.
    ///
    /// # Errors
    /// -EINVAL where there is no VMA that has all of `range`, or one that cannot migrate.
    pub fn migrate_vma_held(
        &self,
        range: PageRange,
        owner: u64,
        moves: bool,
        between: impl FnOnce(&InMigration<'_, '_>),
    ) -> Result<(), Errno> {
        let vmas = self.mmap_read();
        let vma = vmas.find(range.start()).filter(|v| range.end() <= v.end()).ok_or(Errno::Inval)?;
        let at = self.locked(&vmas);
        at.with_mappers(vma, |family| {
            let mut args = MigrateVma {
                at,
                family,
                vma,
                range,
                owner,
                system: true,
                fault_page: None,
                pages: Vec::new(),
            };
            args.setup()?;
            if moves {
                args.give_destinations();
            }
            let migration = InMigration::new(args);
            between(&migration);
            migration.end();
            Ok(())
        })
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
}
