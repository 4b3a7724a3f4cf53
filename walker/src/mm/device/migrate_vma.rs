//! `struct migrate_vma` and its three steps: `migrate_vma_setup`, `_pages`, `_finalize` (mm/migrate_device.c, 6.12).
//!
//! While the pages of a call move, each is locked, and migration entries stand where it was mapped.

use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::NoCounts;
use crate::memory::page::{PG_LOCKED, PG_SWAPCACHE};
use crate::memory::{PageKind, Table};
use crate::mm::fault::{FaultFlags, Vmf};
use crate::mm::file::Inode;
use crate::mm::rmap::Family;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Locked};
use crate::notifier::{Event, EventKind};
use core::cell::RefCell;

/// One page of a `migrate_vma` call: an entry of the src and one of the dst array.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moving {
    pub(super) src: Option<Pfn>,
    /// MIGRATE_PFN_MIGRATE.
    pub(super) migrate: bool,
    /// MIGRATE_PFN_WRITE of the source.
    pub(super) write: bool,
    pub(super) dst: Option<Pfn>,
}

/// `struct migrate_vma`.
pub(super) struct MigrateVma<'a, 'f> {
    pub(super) at: Locked<'a>,
    pub(super) family: &'a Family<'f>,
    pub(super) vma: &'a Vma,
    pub(super) range: PageRange,
    pub(super) owner: u64,
    /// MIGRATE_VMA_SELECT_SYSTEM, else _DEVICE_PRIVATE.
    pub(super) system: bool,
    pub(super) fault_page: Option<Pfn>,
    pub(super) pages: Vec<Moving>,
}

/// Pages that are halfway to a device, until somebody ends that.
pub struct InMigration<'a, 'f> {
    nr_pages: u64,
    args: RefCell<Option<MigrateVma<'a, 'f>>>,
}

impl<'a, 'f> InMigration<'a, 'f> {
    /// Of a call that is set up.
    pub(super) fn new(args: MigrateVma<'a, 'f>) -> Self {
        let nr_pages = args.pages.iter().filter(|p| p.migrate && p.src.is_some()).count() as u64;
        Self { nr_pages, args: RefCell::new(Some(args)) }
    }
    /// How many there are: entries of them stand where they were mapped.
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages
    }
    /// The other half of the migration, on behalf of whoever is about to wait for it; nothing the second time.
    pub fn end(&self) {
        if let Some(mut args) = self.args.take() {
            args.migrate();
            args.finalize();
        }
    }
}

impl core::fmt::Debug for InMigration<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InMigration").field("nr_pages", &self.nr_pages).finish_non_exhaustive()
    }
}

impl MigrateVma<'_, '_> {
    /// `migrate_vma_setup`: afterwards every page that may move is locked and unmapped.
    pub(super) fn setup(&mut self) -> Result<(), Errno> {
        let special = VmFlags::HUGETLB | VmFlags::SPECIAL;
        if self.vma.flags.intersects(special) || self.range.is_empty() {
            return Err(Errno::Inval);
        }
        let event = Event { kind: EventKind::Migrate, range: self.range, owner: self.owner, blockable: true };
        let at = self.at;
        at.mm.notifier.during(&event, || self.collect());
        if self.pages.iter().any(|p| p.migrate) {
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
        table.set(i, stand_in);
        Moving { src: Some(pfn), migrate: true, write, dst: None }
    }

    /// `migrate_vma_unmap`: the other mappings become migration entries too; pinned pages are restored.
    fn unmap(&mut self) {
        let (family, phys) = (self.family, self.at.mm.phys());
        let file = file_of(self.vma);
        for page in &mut self.pages {
            let Some(pfn) = page.src else { continue };
            let folio = phys.page(pfn);
            let file = file.filter(|_| folio.kind() == PageKind::File);
            if folio.pte_mappings() > 0 {
                match file {
                    Some(inode) => family.try_to_migrate_file(inode, pfn),
                    None => family.try_to_migrate(pfn, false),
                }
            }
            // migrate_vma_check_page
            let cached = file.is_some() || folio.has(PG_SWAPCACHE);
            let extra = 1 + i32::from(self.fault_page == Some(pfn)) + i32::from(cached);
            page.migrate = folio.pte_mappings() == 0 && folio.refs() <= extra;
        }
        for i in 0..self.pages.len() {
            let page = self.pages[i];
            if let Some(pfn) = page.src.filter(|_| !page.migrate) {
                self.remap(pfn, pfn);
                family.system().unlock_folio(pfn);
                phys.put(pfn, 1);
                self.pages[i].src = None;
            }
        }
    }

    /// `remove_migration_ptes` for one page.
    fn remap(&self, src: Pfn, dst: Pfn) {
        let folio = self.at.mm.phys().page(src);
        match file_of(self.vma).filter(|_| folio.kind() == PageKind::File) {
            // No device takes pages of a file.
            Some(inode) => self.family.remove_file_migration_ptes(inode, src),
            None => self.family.remove_migration_ptes(folio.index(), 1, src, dst, false),
        }
    }

    /// Destinations in system memory, as a driver would copy there: for anonymous pages outside the swap cache and for
    /// places without any page.
    pub(super) fn give_destinations(&mut self) {
        let phys = self.at.mm.phys();
        for page in self.pages.iter_mut().filter(|p| p.migrate) {
            let moves = |pfn| phys.page(pfn).kind() == PageKind::Anon && !phys.page(pfn).has(PG_SWAPCACHE);
            if !page.src.is_none_or(moves) {
                continue;
            }
            let Ok(new) = phys.alloc(PageKind::Anon, 0) else { continue };
            match page.src {
                Some(src) => phys.copy(new, src, 0),
                None => phys.zero(new, 0),
            }
            phys.page(new).set(PG_LOCKED);
            page.dst = Some(new);
        }
    }

    /// `migrate_vma_pages`: what has a destination moves.
    pub(super) fn migrate(&mut self) {
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
            if folio.kind() == PageKind::File {
                self.pages[i].migrate = false;
                continue;
            }
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

    /// `migrate_vma_insert_page`: a page of the device, or another one, where nothing or the zero page was.
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
        let write = self.vma.has(VmFlags::WRITE);
        let e = if page.kind() == PageKind::DevicePrivate {
            let kind = if write { SwpType::DeviceWrite } else { SwpType::DeviceRead };
            SwpEntry::new(kind, new.get()).entry()
        } else {
            let e = Entry::leaf(new, self.vma.page_prot());
            if write { e.mkdirty().mkwrite() } else { e }
        };
        if zero {
            table.replace(i, Entry::NONE);
        }
        table.set(i, e);
        Some(())
    }

    /// `migrate_vma_finalize`.
    pub(super) fn finalize(self) {
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
            self.remap(src, moved.unwrap_or(src));
            unlock_put(src);
            page.dst.into_iter().for_each(unlock_put);
        }
    }
}

/// The file that the VMA maps.
fn file_of(vma: &Vma) -> Option<&Inode> {
    if let Backing::File(file) = &vma.backing { Some(file.inode()) } else { None }
}

/// Pages of a file in migration. Only in address spaces that are held from the first step to the last.
impl Family<'_> {
    /// `try_to_migrate` of a page of a file that the caller locked and holds a reference on.
    fn try_to_migrate_file(&self, inode: &Inode, pfn: Pfn) {
        let phys = self.phys();
        let index = phys.page(pfn).index();
        self.held_file_walk(inode, index..index + 1, &mut |mm, vma, part| {
            mm.try_to_migrate_one(pfn, vma, part, false);
            phys.mapcount(pfn) > 0
        });
    }

    /// `remove_migration_ptes` of a page of a file, which stays where it is.
    fn remove_file_migration_ptes(&self, inode: &Inode, pfn: Pfn) {
        let index = self.phys().page(pfn).index();
        self.held_file_walk(inode, index..index + 1, &mut |mm, vma, part| {
            mm.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, _| {
                let e = table.ptep_get(i);
                if e.is_swp() && e.swp().is_migration() && e.swp().pfn() == pfn {
                    table.set(i, mm.remigrated(vma, pfn, e));
                }
            });
            true
        });
    }
}
