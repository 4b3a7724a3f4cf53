//! Transparent huge pages: the fault that maps one, write protection, and the split of a PMD leaf.
//!
//! Models `create_huge_pmd` / `do_huge_pmd_anonymous_page`, `wp_huge_pmd` / `do_huge_pmd_wp_page`,
//! `huge_pmd_set_accessed`, `do_huge_pmd_numa_page`, `__split_huge_pmd` (mm/memory.c, mm/huge_memory.c, 6.12).

use crate::addr::{Level, PAGES_PER_PMD, PMD_ORDER, PMD_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::counters::{Count, Counters};
use crate::memory::PageKind;
use crate::memory::page::{PG_DIRTY, PG_NOT_EXCLUSIVE, PG_SWAPCACHE};
use crate::mm::Mm;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::migrate::migration_entry;
use crate::mm::system::ThpMode;
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::notifier::{Event, EventKind};

/// The 2 MiB span around `addr`.
pub const fn pmd_span(addr: VirtAddr) -> PageRange {
    PageRange::pages(addr.align_down(Level::Pmd), PAGES_PER_PMD)
}

impl Vma {
    /// `thp_vma_suitable_order`: the whole 2 MiB span around `addr` lies in the VMA; for files, offsets congruent too.
    pub fn suits_pmd(&self, addr: VirtAddr) -> bool {
        let span = addr.align_down(Level::Pmd);
        if !self.is_anonymous()
            && !(self.start().get() >> 12).wrapping_sub(self.pgoff).is_multiple_of(PAGES_PER_PMD)
        {
            return false;
        }
        span >= self.start() && span.get() + PMD_SIZE <= self.end().get()
    }
    /// `thp_vma_allowable_order` for a page fault in anonymous memory.
    pub fn allows_thp(&self, mode: ThpMode) -> bool {
        if self.has(VmFlags::NOHUGEPAGE) {
            return false;
        }
        match mode {
            ThpMode::Always => true,
            ThpMode::Madvise => self.has(VmFlags::HUGEPAGE),
            ThpMode::Never => false,
        }
    }
}

impl Vmf<'_> {
    /// The part of `__handle_mm_fault` that deals with a PMD entry that is no table. None: go on with the PTE.
    pub(crate) fn huge_fault<C: Counters>(&self, e: Entry, c: &mut C) -> Option<VmFault> {
        if e.is_none() {
            // create_huge_pmd: file mappings have no huge_fault here; shmem maps huge in do_fault.
            if !self.vma.is_anonymous() || !self.vma.allows_thp(self.mm().system().settings.thp) {
                return None;
            }
            let r = self.do_huge_pmd_anonymous_page(c);
            return (!r.contains(VmFault::FALLBACK)).then_some(r);
        }
        if e.is_swp() {
            if e.swp().is_migration() {
                c.add(Count::MigrationWaits, 1);
                self.mm().pmd_migration_entry_wait(self.pmd);
            }
            return Some(VmFault::empty());
        }
        if !e.is_huge() {
            return None;
        }
        if e.is_protnone() && self.vma.flags.intersects(VmFlags::ACCESS) {
            return Some(self.do_huge_pmd_numa_page(e, c));
        }
        if self.is_write() && !e.is_write() {
            let r = self.wp_huge_pmd(e, c);
            return (!r.contains(VmFault::FALLBACK)).then_some(r);
        }
        // huge_pmd_set_accessed
        let _guard = self.pmd.lock();
        if self.pmd.read() == e {
            let young = if self.is_write() { e.mkdirty().mkyoung() } else { e.mkyoung() };
            if young != e {
                self.pmd.set(young);
            }
            c.add(Count::FaultsSpurious, 1);
        }
        Some(VmFault::empty())
    }

    /// `do_huge_pmd_anonymous_page`: the huge zero page for a read, a zeroed 2 MiB folio for a write.
    fn do_huge_pmd_anonymous_page<C: Counters>(&self, c: &mut C) -> VmFault {
        if !self.vma.suits_pmd(self.addr) {
            return VmFault::FALLBACK;
        }
        self.anon_prepare();
        let (mm, phys, system) = (self.mm(), self.mm().phys(), self.mm().system());
        let prot = self.vma.page_prot();
        let Ok(spare) = phys.alloc_table() else { return VmFault::OOM };
        let zero = !self.is_write() && system.settings.use_zero_page;
        let head = if zero { system.get_huge_zero() } else { phys.alloc(PageKind::Anon, PMD_ORDER) };
        let Ok(head) = head else {
            phys.free_table(spare.pfn());
            return VmFault::FALLBACK;
        };
        if !zero {
            phys.zero(head, PMD_ORDER);
            c.add(Count::BytesZeroed, PMD_SIZE);
        }
        let guard = self.pmd.lock();
        if !self.pmd.read().is_none() || self.vma.has(VmFlags::UFFD_MISSING) {
            let taken = !self.pmd.read().is_none();
            drop(guard);
            phys.free_table(spare.pfn());
            if !zero {
                phys.free(head);
            }
            return if taken { VmFault::empty() } else { self.handle_userfault() };
        }
        let e = Entry::leaf(head, prot).mkhuge();
        mm.deposit(self.pmd.table, spare);
        if zero {
            self.pmd.set(e);
            c.add(Count::FaultsHugeZero, 1);
        } else {
            phys.add_new_anon_rmap_huge(head, self.vma.index_of(self.addr.align_down(Level::Pmd)));
            self.pmd.set(self.maybe_mkwrite(e));
            c.add(Count::FaultsThp, 1);
        }
        VmFault::empty()
    }

    /// `wp_huge_pmd`: reuse the whole folio, or split and answer FALLBACK.
    fn wp_huge_pmd<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let phys = self.mm().phys();
        if self.vma.is_anonymous() {
            if orig.is_uffd_wp() && self.vma.has(VmFlags::UFFD_WP) {
                return self.handle_userfault();
            }
            let guard = self.pmd.lock();
            if self.pmd.read() != orig {
                return VmFault::empty();
            }
            let head = orig.pfn();
            let page = phys.page(head);
            // The huge zero page is split, not replaced, until 6.13.
            if page.kind() == PageKind::Anon && self.can_reuse_huge(head) {
                phys.set_anon_exclusive(head);
                self.pmd.set(self.maybe_mkwrite(orig.mkyoung()));
                c.add(Count::FaultsCowReuse, 1);
                return VmFault::empty();
            }
            drop(guard);
        }
        self.mm().split_huge_pmd(self.vma, self.pmd, self.addr, c);
        VmFault::FALLBACK
    }

    fn can_reuse_huge(&self, head: crate::addr::Pfn) -> bool {
        let page = self.mm().phys().page(head);
        if page.is_anon_exclusive() {
            return true;
        }
        if page.refs() > 1 + (page.has(PG_SWAPCACHE) as i32) * PAGES_PER_PMD as i32 || !page.try_lock() {
            return false;
        }
        if page.has(PG_SWAPCACHE) {
            self.mm().system().free_swap(head);
        }
        let alone = page.refs() == 1;
        page.unlock();
        alone
    }

    /// `do_huge_pmd_numa_page`: the hint is resolved, the page stays (one node).
    fn do_huge_pmd_numa_page<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let _guard = self.pmd.lock();
        if self.pmd.read() != orig {
            return VmFault::empty();
        }
        let mut e = orig.modify(self.vma.page_prot()).mkyoung();
        if self.mm().can_change_writable(self.vma, e) {
            e = e.mkwrite();
        }
        self.pmd.set(e);
        c.add(Count::FaultsNuma, 1);
        VmFault::empty()
    }
}

impl Mm {
    /// `__split_huge_pmd`: replaces the leaf at `pmd` by a table that maps the same frames with the same rights, or by
    /// nothing for file mappings, inside a CLEAR event over the 2 MiB. A no-op if the entry is no leaf any more.
    pub fn split_huge_pmd<C: Counters>(&self, vma: &Vma, pmd: Slot<'_>, addr: VirtAddr, c: &mut C) {
        c.add(Count::EventsIssued, 1);
        self.notifier.during(&Event::new(EventKind::Clear, pmd_span(addr)), || {
            let _guard = pmd.lock();
            let e = pmd.read();
            if e.is_huge() || (e.is_swp() && e.swp().is_migration()) {
                self.split_huge_pmd_locked(vma, pmd, e, false);
                c.add(Count::PmdSplits, 1);
            }
        });
    }

    /// `__split_huge_pmd_locked`. The caller holds the lock of the PMD table and runs inside the event. With `freeze`
    /// the base pages are unmapped at once and migration entries stand in their place.
    pub(crate) fn split_huge_pmd_locked(&self, vma: &Vma, pmd: Slot<'_>, old: Entry, freeze: bool) {
        let phys = self.phys();
        if !vma.is_anonymous() {
            // The page cache knows where the pages are: faults bring them back.
            pmd.replace(Entry::NONE);
            self.zap_huge_file_leaf(vma, old);
            return;
        }
        let table = self.withdraw(pmd.table);
        let prot = vma.page_prot();
        if old.is_swp() {
            // A migration entry is split into one per base page.
            let swp = old.swp();
            for i in 0..PTRS_PER_TABLE {
                let each = crate::arch::SwpEntry::new(swp.kind(), swp.offset() + i as u64).entry();
                table.set_unpublished(
                    i,
                    each.with_swp_soft_dirty(old.is_swp_soft_dirty()).with_swp_uffd_wp(old.is_swp_uffd_wp()),
                );
            }
            pmd.set(Entry::table(table.pfn()));
            return;
        }
        let head = old.pfn();
        if phys.page(head).kind() == PageKind::HugeZero {
            // __split_huge_zero_page_pmd
            let zero = Entry::leaf(self.system().zero_pfn(), prot).mkspecial();
            let zero = if old.is_uffd_wp() { zero.mkuffd_wp() } else { zero };
            (0..PTRS_PER_TABLE).for_each(|i| table.set_unpublished(i, zero));
            pmd.set(Entry::table(table.pfn()));
            return;
        }
        let exclusive = phys.page(head).is_anon_exclusive();
        let page = phys.page(head);
        if old.is_dirty() {
            page.set(PG_DIRTY);
        }
        if freeze {
            phys.clear_anon_exclusive(head);
            for i in 0..PTRS_PER_TABLE {
                table.set_unpublished(i, migration_entry(head.add(i as u64), old, exclusive));
            }
            phys.remove_rmap_huge(head);
            pmd.set(Entry::table(table.pfn()));
            phys.put(head, 1);
            return;
        }
        page.get(PTRS_PER_TABLE as i32 - 1);
        page.add_large_mappings(PTRS_PER_TABLE as i32);
        // mk_pte with the VMA's rights: a NUMA hint is lost, write, age, dirt and uffd-wp carry over.
        let mut e = Entry::leaf(head, prot);
        if old.is_write() {
            e = e.mkwrite();
        }
        if !old.is_young() {
            e = e.mkold();
        }
        if old.is_dirty() {
            e = e.mkdirty();
        }
        if old.is_soft_dirty() {
            e = e.mksoft_dirty();
        }
        if old.is_uffd_wp() {
            e = e.mkuffd_wp();
        }
        let step = if e.is_protnone() { 0u64.wrapping_sub(1 << 12) } else { 1 << 12 };
        let mut bits = e.bits();
        for i in 0..PTRS_PER_TABLE {
            let sub = phys.page(head.add(i as u64));
            sub.add_pte_mappings(1);
            if exclusive {
                sub.clear(PG_NOT_EXCLUSIVE);
            } else {
                sub.set(PG_NOT_EXCLUSIVE);
            }
            table.set_unpublished(i, Entry::from_bits(bits));
            bits = bits.wrapping_add(step);
        }
        phys.remove_rmap_huge(head);
        // The release store publishes the filled table.
        pmd.set(Entry::table(table.pfn()));
    }
}
