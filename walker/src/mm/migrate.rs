//! Page migration, and the split of a large folio, which uses its entries.
//!
//! Models `try_to_migrate` (mm/rmap.c), `remove_migration_ptes`, `migrate_pages`, `migration_entry_wait`
//! (mm/migrate.c), `split_huge_page_to_list_to_order` and `remap_page` (mm/huge_memory.c), 6.12.
//!
//! A migration entry stands for a mapping while the page moves. It holds neither a mapping nor a reference: a zap just
//! drops it, a fork just copies it. The folio stays locked from the first entry to the last, and entries come with a
//! CLEAR event per VMA and go without one.

use crate::addr::{Level, PAGES_PER_PMD, PMD_ORDER, PageRange, Pfn, VirtAddr};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::memory::page::{
    PG_DIRTY, PG_HWPOISON, PG_LAZYFREE, PG_LOCKED, PG_MLOCKED, PG_REFERENCED, PG_SWAPCACHE, PG_WAITERS,
};
use crate::memory::table::Ptl;
use crate::memory::{PageKind, Table};
use crate::mm::huge::pmd_span;
use crate::mm::protect::Change;
use crate::mm::rmap::Family;
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};

/// The migration entry that replaces the present entry `old` of page `pfn`.
pub(crate) fn migration_entry(pfn: Pfn, old: Entry, exclusive: bool) -> Entry {
    SwpEntry::migration(migration_kind(old.is_write(), exclusive), pfn, old.is_young(), old.is_dirty())
        .entry()
        .with_swp_soft_dirty(old.is_soft_dirty())
        .with_swp_uffd_wp(old.is_uffd_wp())
}

/// Which of the three kinds of migration entry remembers these rights.
pub(crate) fn migration_kind(write: bool, exclusive: bool) -> SwpType {
    if write {
        SwpType::MigrationWrite
    } else if exclusive {
        SwpType::MigrationReadExclusive
    } else {
        SwpType::MigrationRead
    }
}

impl Mm {
    /// Calls `visit` for every PTE of `part` that exists, under its table's lock, and `huge` for every huge leaf or
    /// huge migration entry, under the PMD table's lock.
    pub(crate) fn for_each_entry(
        &self,
        part: PageRange,
        huge: &mut dyn FnMut(Slot<'_>, Entry, VirtAddr),
        visit: &mut dyn FnMut(Table<'_>, usize, VirtAddr),
    ) {
        let mut addr = part.start();
        while addr < part.end() {
            let next = addr.next_boundary(Level::Pmd, part.end());
            if let Ok(pmd) = self.lookup(addr, Level::Pmd) {
                let guard = pmd.lock();
                let e = pmd.read();
                if !e.is_table() && !e.is_none() {
                    huge(pmd, e, addr);
                }
                drop(guard);
                if let Some((table, _guard)) = self.lock_pte_table(pmd) {
                    let mut at = addr;
                    while at < next {
                        visit(table, at.index(Level::Pte), at);
                        at = at.add_pages(1);
                    }
                }
            }
            addr = next;
        }
    }

    /// `migration_entry_wait`: returns when the entry may have changed.
    pub(crate) fn migration_entry_wait(&self, pmd: Slot<'_>, addr: VirtAddr) {
        // The first look is under the lock: a table that collapse freed meanwhile may hold anything.
        let Some((table, guard)) = self.lock_pte_table(pmd) else {
            return self.pmd_migration_entry_wait(pmd);
        };
        self.wait_for_migration(guard, table.ptep_get(addr.index(Level::Pte)), &|| {
            let e = pmd.read();
            if e.is_table() { self.phys().table(e.pfn()).ptep_get(addr.index(Level::Pte)) } else { e }
        });
    }
    /// `pmd_migration_entry_wait`.
    pub(crate) fn pmd_migration_entry_wait(&self, pmd: Slot<'_>) {
        let guard = pmd.lock();
        self.wait_for_migration(guard, pmd.read(), &|| pmd.read());
    }
    /// `migration_entry_wait_on_locked`: waits while the entry is the one seen and its folio is locked. Takes over the
    /// lock of the table, under which the entry keeps the folio locked, so that it can be marked. Nothing but the mmap
    /// lock for reading is held then, which whoever migrates does not need any more, so this ends; a wait that ends early
    /// only makes the caller look again.
    fn wait_for_migration(&self, guard: Ptl<'_>, seen: Entry, entry: &dyn Fn() -> Entry) {
        if !seen.is_swp() || !seen.swp().is_migration() {
            return;
        }
        let pfn = seen.swp().pfn();
        self.phys().page(self.phys().head(pfn)).set(PG_WAITERS);
        drop(guard);
        let backoff = crossbeam_utils::Backoff::new();
        while entry() == seen && self.phys().page(self.phys().head(pfn)).is_locked() {
            if backoff.is_completed() { std::thread::yield_now() } else { backoff.snooze() }
        }
    }

    /// `try_to_migrate_one` for one VMA: every mapping of the folio in `part` becomes a migration entry.
    pub(crate) fn try_to_migrate_one(&self, head: Pfn, vma: &Vma, part: PageRange, split_pmd: bool) {
        let phys = self.phys();
        let folio = phys.page(head);
        let last = head.add(1 << folio.order());
        if split_pmd {
            self.freeze_huge_pmd(head, vma, part.start());
        }
        self.notifier.during(&Event::new(EventKind::Clear, part), || {
            self.for_each_entry(
                part,
                &mut |pmd, e, _| {
                    // set_pmd_migration_entry
                    if !e.is_huge() || e.pfn() != head {
                        return;
                    }
                    let old = pmd.replace(Entry::NONE);
                    if old.is_dirty() {
                        folio.set(PG_DIRTY);
                    }
                    let exclusive = folio.is_anon_exclusive();
                    phys.clear_anon_exclusive(head);
                    pmd.set(migration_entry(head, old, exclusive));
                    phys.remove_rmap_huge(head);
                    phys.put(head, 1);
                },
                &mut |table, i, _| {
                    let e = table.ptep_get(i);
                    let present = e.is_present() && !e.is_special();
                    if !(present || e.is_swp() && e.swp().is_device_private()) {
                        return;
                    }
                    let pfn = if present { e.pfn() } else { e.swp().pfn() };
                    if pfn < head || pfn >= last {
                        return;
                    }
                    let exclusive = phys.page(pfn).is_anon_exclusive();
                    let old = table.replace(i, Entry::NONE);
                    phys.clear_anon_exclusive(pfn);
                    table.set(i, self.migrating(pfn, old, exclusive));
                    phys.remove_rmap_pte(pfn);
                    phys.put(head, 1);
                },
            );
        });
    }

    /// What stands for the present or device-private entry `old` of `pfn` while the page moves. Dirt goes to the folio.
    pub(crate) fn migrating(&self, pfn: Pfn, old: Entry, exclusive: bool) -> Entry {
        if old.is_present() {
            if old.is_dirty() {
                self.phys().page(self.phys().head(pfn)).set(PG_DIRTY);
            }
            return migration_entry(pfn, old, exclusive);
        }
        let kind = migration_kind(old.swp().is_device_private_write(), exclusive);
        SwpEntry::new(kind, pfn.get())
            .entry()
            .with_swp_soft_dirty(old.is_swp_soft_dirty())
            .with_swp_uffd_wp(old.is_swp_uffd_wp())
    }

    /// `split_huge_pmd_address` with freeze: the leaf at `addr` that maps the folio becomes a table of migration
    /// entries, in an event of its own.
    fn freeze_huge_pmd(&self, head: Pfn, vma: &Vma, addr: VirtAddr) {
        let Ok(pmd) = self.lookup(addr, Level::Pmd) else { return };
        self.notifier.during(&Event::new(EventKind::Clear, pmd_span(addr)), || {
            let _guard = pmd.lock();
            let e = pmd.read();
            if e.is_huge() && e.pfn() == head {
                self.split_huge_pmd_locked(vma, pmd, e, true);
            }
        });
    }

    /// `remove_migration_pte`: what the migration entry `old` becomes again, mapping `new`.
    pub(crate) fn remigrated(&self, vma: &Vma, new: Pfn, old: Entry) -> Entry {
        let phys = self.phys();
        let swp = old.swp();
        let folio = phys.page(phys.head(new));
        folio.get(1);
        let mut e = Entry::leaf(new, vma.page_prot());
        if !swp.is_migration_young() {
            e = e.mkold();
        }
        if folio.has(PG_DIRTY) && swp.is_migration_dirty() {
            e = e.mkdirty();
        }
        e = if old.is_swp_soft_dirty() { e.mksoft_dirty() } else { e.clear_soft_dirty() };
        if swp.kind() == SwpType::MigrationWrite {
            e = e.mkwrite();
        } else if old.is_swp_uffd_wp() {
            e = e.mkuffd_wp();
        }
        let kind = phys.page(new).kind();
        if matches!(kind, PageKind::Anon | PageKind::DevicePrivate) {
            if swp.kind() == SwpType::MigrationRead {
                phys.clear_anon_exclusive(new);
            } else {
                phys.set_anon_exclusive(new);
            }
        }
        phys.page(new).add_pte_mappings(1);
        if folio.order() > 0 {
            folio.add_large_mappings(1);
        }
        if kind == PageKind::DevicePrivate {
            let kind = if e.is_write() { SwpType::DeviceWrite } else { SwpType::DeviceRead };
            e = SwpEntry::new(kind, new.get())
                .entry()
                .with_swp_soft_dirty(old.is_swp_soft_dirty())
                .with_swp_uffd_wp(old.is_swp_uffd_wp());
        }
        e
    }

    /// `remove_migration_pmd`.
    fn remigrated_pmd(&self, vma: &Vma, new: Pfn, old: Entry) -> Entry {
        let phys = self.phys();
        let swp = old.swp();
        let folio = phys.page(new);
        let mut e = Entry::leaf(new, vma.page_prot()).mkhuge();
        if old.is_swp_soft_dirty() {
            e = e.mksoft_dirty();
        }
        if swp.kind() == SwpType::MigrationWrite {
            e = e.mkwrite();
        }
        if old.is_swp_uffd_wp() {
            e = e.mkuffd_wp();
        }
        if !swp.is_migration_young() {
            e = e.mkold();
        }
        if folio.has(PG_DIRTY) && swp.is_migration_dirty() {
            e = e.mkdirty();
        }
        if swp.kind() == SwpType::MigrationRead {
            phys.clear_anon_exclusive(new);
        } else {
            phys.set_anon_exclusive(new);
        }
        phys.add_rmap_huge(new);
        e
    }

    /// `try_to_map_unused_to_zeropage`: the zero page instead of a page that holds only zeros.
    fn zero_page_instead(&self, vma: &Vma, pfn: Pfn, old: Entry) -> Option<Entry> {
        let page = self.phys().page(pfn);
        if page.order() > 0
            || page.has(PG_MLOCKED)
            || page.has(PG_HWPOISON)
            || vma.has(VmFlags::LOCKED)
            || !self.phys().is_zeroed(pfn)
        {
            return None;
        }
        let mut e = Entry::leaf(self.system().zero_pfn(), vma.page_prot()).mkspecial();
        if old.is_swp_soft_dirty() {
            e = e.mksoft_dirty();
        }
        if old.is_swp_uffd_wp() {
            e = e.mkuffd_wp();
        }
        Some(e)
    }

    /// The NUMA scan of one VMA part (`change_prot_numa`): entries of accessible VMAs become hints.
    pub fn change_prot_numa(&self, range: PageRange) {
        let vmas = self.mmap_read();
        for vma in vmas.overlapping(range) {
            let mixed = VmFlags::PFNMAP | VmFlags::MIXEDMAP | VmFlags::HUGETLB;
            if vma.flags.intersects(VmFlags::ACCESS) && !vma.flags.intersects(mixed) {
                self.change_protection(vma, range.clip(vma.range), Change::NumaHint);
            }
        }
    }
}

impl Family<'_> {
    /// `try_to_migrate` on an anonymous or device-private folio that the caller locked and holds a reference on.
    /// Whether it worked shows in the folio's mapping count.
    pub(crate) fn try_to_migrate(&self, head: Pfn, split_pmd: bool) {
        let folio = self.phys().page(head);
        self.rmap_walk_anon(folio.index(), 1 << folio.order(), &mut |mm, vma, part| {
            mm.try_to_migrate_one(head, vma, part, split_pmd);
            self.phys().mapcount(head) > 0
        });
    }

    /// `remove_migration_ptes`: entries that name one of the `nr` pages from `src` on map the corresponding page of
    /// `dst` again. `index` is the page offset of the first. With `unused` pages of zeros become the zero page.
    pub(crate) fn remove_migration_ptes(&self, index: u64, nr: u64, src: Pfn, dst: Pfn, unused: bool) {
        // A mapping in a locked VMA makes the page mlocked: whoever comes later maps it too, zeros or not.
        let mut mlocked = vec![false; if unused { nr as usize } else { 0 }];
        self.rmap_walk_anon(index, nr, &mut |mm, vma, part| {
            mm.for_each_entry(
                part,
                &mut |pmd, e, _| {
                    if e.is_swp() && e.swp().is_migration() && e.swp().pfn() == src {
                        pmd.set(mm.remigrated_pmd(vma, dst, e));
                    }
                },
                &mut |table, i, _| {
                    let e = table.ptep_get(i);
                    if !e.is_swp() || !e.swp().is_migration() {
                        return;
                    }
                    let pfn = e.swp().pfn();
                    if pfn < src || pfn >= src.add(nr) {
                        return;
                    }
                    let nth = (pfn.get() - src.get()) as usize;
                    let new = dst.add(nth as u64);
                    let mut zero = None;
                    if unused && !mlocked[nth] {
                        zero = mm.zero_page_instead(vma, new, e);
                        mlocked[nth] = zero.is_none() && vma.has(VmFlags::LOCKED);
                    }
                    table.set(i, zero.unwrap_or_else(|| mm.remigrated(vma, new, e)));
                },
            );
            true
        });
    }

    /// `split_folio`: [`Family::split_huge_page`] at the head.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn split_folio(&self, head: Pfn, list: Option<&mut Vec<Pfn>>) -> Result<(), Errno> {
        self.split_huge_page(head, list)
    }

    /// `split_huge_page_to_list_to_order` to order 0, for an anonymous folio that the caller locked and holds one
    /// reference on. Afterwards `kept`, any page of it, is a small page that has the caller's lock and reference; the
    /// others live on their mappings alone. With `list` those that are still mapped are appended to it, each with a
    /// reference.
    ///
    /// # Errors
    /// -EAGAIN when somebody else holds a reference, or a relative that maps it is busy: nothing has changed then, but
    /// that PMD leaves are split.
    pub(crate) fn split_huge_page(&self, kept: Pfn, mut list: Option<&mut Vec<Pfn>>) -> Result<(), Errno> {
        let phys = self.phys();
        let head = phys.head(kept);
        let folio = phys.page(head);
        let (index, nr) = (folio.index(), 1u64 << folio.order());
        let cached = folio.has(PG_SWAPCACHE);
        let pins = if cached { nr as i32 } else { 0 };
        // can_split_folio
        if nr == 1 || phys.mapcount(head) != folio.refs() - pins - 1 {
            return Err(Errno::Again);
        }
        self.try_to_migrate(head, folio.order() == PMD_ORDER);
        let no_lookups = cached.then(|| self.system().lock_swap_cache());
        if phys.mapcount(head) > 0 || !folio.freeze(1 + pins) {
            drop(no_lookups);
            self.remove_migration_ptes(index, nr, head, head, false);
            return Err(Errno::Again);
        }
        let slot = folio.private();
        let copied = [PG_DIRTY, PG_LAZYFREE, PG_LOCKED, PG_MLOCKED, PG_REFERENCED, PG_SWAPCACHE];
        let flags = copied.iter().filter(|f| folio.has(**f)).fold(0, |a, f| a | f);
        let each = 1 + i32::from(cached);
        for i in (0..nr).rev() {
            let page = phys.page(head.add(i));
            let poisoned = if page.has(PG_HWPOISON) { PG_HWPOISON } else { 0 };
            page.prepare(PageKind::Anon, 0, flags | poisoned);
            page.set_index(index + i);
            if cached {
                self.system().split_swap_cache(head.add(i), slot - 1 + i);
            }
            phys.clear_anon_exclusive(head.add(i));
            page.unfreeze(each);
        }
        drop(no_lookups);
        if nr == PAGES_PER_PMD {
            phys.cut(head);
        }
        self.remove_migration_ptes(index, nr, head, head, true);
        for pfn in (0..nr).map(|i| head.add(i)).filter(|&pfn| pfn != kept) {
            phys.page(pfn).unlock();
            if let Some(list) = &mut list
                && phys.page(pfn).pte_mappings() > 0
            {
                list.push(pfn);
            } else {
                self.system().free_swap_cache(pfn);
                phys.put(pfn, 1);
            }
        }
        Ok(())
    }
}

impl Locked<'_> {
    /// `migrate_pages` over the anonymous folios that `range` maps: each is locked, unmapped, copied to new frames and
    /// mapped again. What is busy, pinned or mapped by a busy relative stays, as does what is in the swap cache.
    /// `between` runs when every folio is unmapped and none is copied. Returns how many moved.
    pub fn migrate_pages(&self, range: PageRange, between: impl FnOnce(usize)) -> u64 {
        let folios = self.isolate_folios(range);
        self.with_family(|family| {
            let migrating = family.unmap_folios(folios);
            between(migrating.len());
            family.move_folios(migrating)
        })
    }

    /// The anonymous folios that `range` maps, each locked and with a reference; those that are locked are left out.
    fn isolate_folios(&self, range: PageRange) -> Vec<Pfn> {
        let phys = self.mm.phys();
        let mut folios = Vec::new();
        for vma in self.vmas.overlapping(range) {
            if vma.flags.intersects(VmFlags::HUGETLB | VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
                continue;
            }
            let part = range.clip(vma.range);
            let isolated = core::cell::RefCell::new(&mut folios);
            let take = |addr: VirtAddr, pfn: Pfn| {
                let head = phys.head(pfn);
                let page = phys.page(head);
                if page.kind() == PageKind::Anon && page.try_lock() {
                    page.get(1);
                    self.adopt_anon(vma, addr, pfn);
                    isolated.borrow_mut().push(head);
                }
            };
            self.mm.for_each_entry(
                part,
                &mut |_, e, addr| {
                    if e.is_huge() {
                        take(addr.align_down(Level::Pmd), e.pfn());
                    }
                },
                &mut |table, i, addr| {
                    let e = table.ptep_get(i);
                    if e.is_present() && !e.is_special() {
                        take(addr, e.pfn());
                    }
                },
            );
        }
        folios
    }
}

impl Family<'_> {
    /// `migrate_folio_unmap` and `migrate_folio_move` of one anonymous or device-private folio that the caller locked
    /// and holds a reference on: what it holds moves to new frames of system memory, if nothing else refers to it.
    /// True: the caller's reference is the last.
    pub(crate) fn migrate_one(&self, src: Pfn) -> bool {
        let (phys, page) = (self.phys(), self.phys().page(src));
        let (index, order) = (page.index(), page.order());
        if phys.mapcount(src) > 0 {
            self.try_to_migrate(src, false);
        }
        let moves = phys.mapcount(src) == 0 && page.refs() == 1 && !page.has(PG_SWAPCACHE);
        let dst = if moves { phys.alloc(PageKind::Anon, order).ok() } else { None };
        if let Some(dst) = dst {
            phys.copy(dst, src, order);
            self.migrate_folio(src, dst);
        }
        self.remove_migration_ptes(index, 1 << order, src, dst.unwrap_or(src), false);
        if let Some(dst) = dst {
            phys.page(dst).unlock();
            phys.put(dst, 1);
        }
        dst.is_some()
    }

    /// `migrate_folio_unmap` for each: what stays mapped, pinned or cached is put back. Returns the others.
    fn unmap_folios(&self, mut folios: Vec<Pfn>) -> Vec<Pfn> {
        let phys = self.phys();
        folios.retain(|&head| {
            self.try_to_migrate(head, false);
            let page = phys.page(head);
            let moves = phys.mapcount(head) == 0 && page.refs() == 1 && !page.has(PG_SWAPCACHE);
            if !moves {
                self.remove_migration_ptes(page.index(), 1 << page.order(), head, head, false);
                self.system().unlock_folio(head);
                phys.put(head, 1);
            }
            moves
        });
        folios
    }

    /// `migrate_folio_move` for each of what [`Family::unmap_folios`] returned. Returns how many moved.
    fn move_folios(&self, folios: Vec<Pfn>) -> u64 {
        let phys = self.phys();
        let mut moved = 0;
        for src in folios {
            let page = phys.page(src);
            let (index, order) = (page.index(), page.order());
            let dst = phys.alloc(PageKind::Anon, order).ok();
            if let Some(dst) = dst {
                phys.copy(dst, src, order);
                self.migrate_folio(src, dst);
                moved += 1;
            }
            self.remove_migration_ptes(index, 1 << order, src, dst.unwrap_or(src), false);
            self.system().unlock_folio(src);
            phys.put(src, 1);
            if let Some(dst) = dst {
                phys.page(dst).unlock();
                phys.put(dst, 1);
            }
        }
        moved
    }

    /// `folio_migrate_mapping` and `folio_migrate_flags` for a folio outside the swap cache: `dst` takes over index
    /// and flags, and is locked.
    pub(crate) fn migrate_folio(&self, src: Pfn, dst: Pfn) {
        let (from, to) = (self.phys().page(src), self.phys().page(dst));
        to.set_index(from.index());
        let kept = [PG_DIRTY, PG_LAZYFREE, PG_MLOCKED, PG_REFERENCED];
        to.set(PG_LOCKED | kept.iter().filter(|f| from.has(**f)).fold(0, |a, f| a | f));
    }
}

impl Mm {
    /// [`Locked::migrate_pages`] in one go, as compaction or move_pages(2) does it.
    pub fn migrate_range(&self, range: PageRange) -> u64 {
        self.migrate_range_with(range, |_| {})
    }
    /// As [`Mm::migrate_range`]; `between` runs while the entries stand.
    pub fn migrate_range_with(&self, range: PageRange, between: impl FnOnce(usize)) -> u64 {
        let vmas = self.mmap_read();
        self.locked(&vmas).migrate_pages(range, between)
    }
    /// The first half of [`Mm::migrate_range`]: the entries appear. For drivers that run everything on one thread: who
    /// waits for an entry holds the mmap lock, which the other half needs too, so a writer that queues for the lock in
    /// between would stop both.
    #[must_use = "the folios stay locked until migrate_end"]
    pub fn migrate_begin(&self, range: PageRange) -> Migration {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        let folios = at.isolate_folios(range);
        Migration { folios: at.with_family(|family| family.unmap_folios(folios)) }
    }
    /// The other half: the folios are copied and their entries resolve. Returns how many moved.
    pub fn migrate_end(&self, migration: Migration) -> u64 {
        let vmas = self.mmap_read();
        self.locked(&vmas).with_family(|family| family.move_folios(migration.folios))
    }
}

/// Folios whose mappings are migration entries: locked, referenced, not copied yet.
#[derive(Debug)]
pub struct Migration {
    folios: Vec<Pfn>,
}

impl Migration {
    /// How many folios.
    pub fn nr_folios(&self) -> usize {
        self.folios.len()
    }
}
