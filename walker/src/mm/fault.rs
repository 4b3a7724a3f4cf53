//! `handle_mm_fault`: dispatch, anonymous memory, markers, NUMA hints.
//!
//! Models mm/memory.c of 6.12: `__handle_mm_fault`, `handle_pte_fault`, `do_anonymous_page`, `handle_pte_marker`,
//! `do_numa_page`. The caller holds the mmap lock for reading (hmm_range_fault never uses the per-VMA lock).
//!
//! A fault becomes visible with one store under the lock of the table that holds the entry, after checking that the
//! entry is still what the decision was based on. Allocation, zeroing and copying happen before that, without the
//! lock. No event is issued when a page becomes present.

use crate::addr::{Level, PAGE_SHIFT, PAGE_SIZE, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::arch::entry::{MARKER_GUARD, MARKER_POISONED};
use crate::counters::{Count, Counters};
use crate::memory::table::Ptl;
use crate::memory::{PageKind, Table};
use crate::mm::huge::pmd_span;
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Locked, Mm};
use crate::notifier::{Event, EventKind};
use bitflags::bitflags;

bitflags! {
    /// FAULT_FLAG_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FaultFlags: u32 {
        /// The access is a write.
        const WRITE = 1;
        /// The fault may drop the mmap lock and ask to be called again (unlocked callers only).
        const ALLOW_RETRY = 4;
        /// A fatal signal may end the wait.
        const KILLABLE = 16;
        /// The fault was tried before and ended in RETRY.
        const TRIED = 32;
        /// From user mode: signals can be delivered.
        const USER = 64;
        /// On behalf of another context than the one that runs.
        const REMOTE = 128;
    }
}

bitflags! {
    /// VM_FAULT_*: what a fault came to. Empty means that the entry was made right (or already was).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmFault: u32 {
        /// No memory.
        const OOM = 0x1;
        /// Beyond the end of the file, a failed read, a userfault that may not sleep.
        const SIGBUS = 0x2;
        /// The page had to be read from its device.
        const MAJOR = 0x4;
        /// The page's memory failed.
        const HWPOISON = 0x10;
        /// Access to a guard or to what may not be accessed.
        const SIGSEGV = 0x40;
        /// The handler did not install anything and the entry may have changed: call again.
        const NOPAGE = 0x100;
        /// The mmap lock was dropped: call again.
        const RETRY = 0x400;
        /// The huge handler gave up: use base pages.
        const FALLBACK = 0x800;
        /// VM_FAULT_ERROR.
        const ERROR = 0x1 | 0x2 | 0x10 | 0x40 | 0x800;
    }
}

/// One fault being handled (`struct vm_fault`).
#[derive(Clone, Copy, Debug)]
pub struct Vmf<'a> {
    /// The address space and its VMAs, mmap lock held for reading.
    pub at: Locked<'a>,
    /// The VMA that holds the address.
    pub vma: &'a Vma,
    /// The page that faults.
    pub addr: VirtAddr,
    /// How it is accessed.
    pub flags: FaultFlags,
    /// The PMD entry above the page.
    pub pmd: Slot<'a>,
}

impl<'a> Vmf<'a> {
    /// Whether the access is a write.
    #[inline(always)]
    pub fn is_write(&self) -> bool {
        self.flags.contains(FaultFlags::WRITE)
    }
    /// The address space.
    #[inline(always)]
    pub fn mm(&self) -> &'a Mm {
        self.at.mm
    }
    /// Index of the page's entry in its PTE table.
    #[inline(always)]
    pub fn pte_index(&self) -> usize {
        self.addr.index(Level::Pte)
    }
    /// The base page that faults, as a range.
    pub fn page_range(&self) -> PageRange {
        PageRange::pages(self.addr, 1)
    }
    /// `pte_offset_map_lock`, first installing a table if there is none (`pte_alloc`).
    ///
    /// # Errors
    /// OOM, or NOPAGE when a huge leaf appeared instead.
    #[inline]
    pub fn lock_pte(&self) -> Result<(Table<'a>, Ptl<'a>), VmFault> {
        if self.pmd.read().is_none() && self.mm().install_table(self.pmd).is_err() {
            return Err(VmFault::OOM);
        }
        self.mm().lock_pte_table(self.pmd).ok_or(VmFault::NOPAGE)
    }
    /// `vmf_anon_prepare`: gives the VMA an anon_vma, a neighbour's where they could merge later.
    #[inline]
    pub fn anon_prepare(&self) {
        if self.vma.anon_vma() == 0 {
            let id = match self.at.vmas.reusable_anon_vma(self.vma) {
                0 => self.mm().system().new_id(),
                id => id,
            };
            self.vma.set_anon_vma(id);
        }
    }
    /// `handle_userfault` with UFFD_FEATURE_SIGBUS: nobody waits for user space.
    pub fn handle_userfault(&self) -> VmFault {
        VmFault::SIGBUS
    }
    /// The rights of a new writable page: `maybe_mkwrite(pte_mkdirty(entry), vma)`.
    #[inline]
    pub fn maybe_mkwrite(&self, e: Entry) -> Entry {
        let e = e.mkdirty();
        if self.vma.has(VmFlags::WRITE) { e.mkwrite() } else { e }
    }
    /// Runs `change` inside a CLEAR event over `range`.
    pub fn clear_event<C: Counters, R>(
        &self,
        range: PageRange,
        c: &mut C,
        change: impl FnOnce(&mut C) -> R,
    ) -> R {
        c.add(Count::EventsIssued, 1);
        self.mm().notifier.during(&Event::new(EventKind::Clear, range), || change(c))
    }
}

impl<'a> Locked<'a> {
    /// `handle_mm_fault`: makes the page at `addr` present, writable if the fault is a write, in every way its VMA
    /// allows. Counts the call and its kind.
    ///
    /// The caller has checked that the VMA allows the access, as `hmm_vma_fault` and the page-fault handler do.
    #[inline]
    pub fn handle_mm_fault<C: Counters>(
        &self,
        vma: &'a Vma,
        addr: VirtAddr,
        flags: FaultFlags,
        c: &mut C,
    ) -> VmFault {
        c.add(Count::FaultsIssued, 1);
        let addr = addr.page_start();
        let r = if vma.has(VmFlags::HUGETLB) {
            self.hugetlb_fault(vma, addr, flags, c)
        } else {
            self.__handle_mm_fault(vma, addr, flags, c)
        };
        if r.intersects(VmFault::ERROR) {
            c.add(Count::FaultsFailed, 1);
        }
        r
    }

    #[inline]
    fn __handle_mm_fault<C: Counters>(
        &self,
        vma: &'a Vma,
        addr: VirtAddr,
        flags: FaultFlags,
        c: &mut C,
    ) -> VmFault {
        let Ok(pmd) = self.mm.lookup_alloc(addr, Level::Pmd) else { return VmFault::OOM };
        let vmf = Vmf { at: *self, vma, addr, flags, pmd };
        let e = pmd.read();
        if !e.is_table()
            && let Some(done) = vmf.huge_fault(e, c)
        {
            return done;
        }
        vmf.handle_pte_fault(c)
    }
}

impl Vmf<'_> {
    /// `handle_pte_fault`.
    #[inline]
    fn handle_pte_fault<C: Counters>(&self, c: &mut C) -> VmFault {
        let pmd = self.pmd.read();
        let orig = if pmd.is_table() {
            self.mm().phys().table(pmd.table_pfn()).ptep_get(self.pte_index())
        } else if pmd.is_none() {
            Entry::NONE
        } else {
            // A huge leaf appeared: the access is retried.
            return VmFault::empty();
        };
        if orig.is_none() {
            return self.do_pte_missing(orig, c);
        }
        if !orig.is_present() {
            return self.do_swap_page(orig, c);
        }
        if orig.is_protnone() && self.vma.flags.intersects(VmFlags::ACCESS) {
            return self.do_numa_page(orig, c);
        }
        let Some((table, guard)) = self.mm().lock_pte_table(self.pmd) else { return VmFault::empty() };
        let i = self.pte_index();
        let mut e = table.ptep_get(i);
        if e != orig {
            return VmFault::empty();
        }
        if self.is_write() {
            if !e.is_write() {
                return self.do_wp_page(table, guard, e, c);
            }
            e = e.mkdirty();
        }
        e = e.mkyoung();
        if e != orig {
            table.set(i, e);
        }
        c.add(Count::FaultsSpurious, 1);
        VmFault::empty()
    }

    /// `do_pte_missing`; `orig` is none or a marker that stood there.
    #[inline]
    pub(crate) fn do_pte_missing<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        if self.vma.is_anonymous() { self.do_anonymous_page(orig, c) } else { self.do_fault(orig, c) }
    }

    /// `do_anonymous_page`: the zero page for a read, a zeroed page for a write.
    #[inline]
    fn do_anonymous_page<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        if self.vma.is_shared() {
            return VmFault::SIGBUS;
        }
        let phys = self.mm().phys();
        let i = self.pte_index();
        let prot = self.vma.page_prot();
        // pte_alloc comes first: even a fault that fails later leaves a table behind.
        if self.pmd.read().is_none() && self.mm().install_table(self.pmd).is_err() {
            return VmFault::OOM;
        }
        if !self.is_write() {
            let Some((table, _guard)) = self.mm().lock_pte_table(self.pmd) else { return VmFault::empty() };
            if table.ptep_get(i) != orig {
                return VmFault::empty();
            }
            if self.vma.has(VmFlags::UFFD_MISSING) {
                return self.handle_userfault();
            }
            let e = Entry::leaf(self.mm().system().zero_pfn(), prot).mkspecial();
            table.set(i, if orig.is_swp_uffd_wp_marker() { e.mkuffd_wp() } else { e });
            c.add(Count::FaultsZeroPage, 1);
            return VmFault::empty();
        }
        self.anon_prepare();
        if self.mm().system().settings.mthp != 0
            && let Some(done) = self.do_anonymous_folio(c)
        {
            return done;
        }
        let Ok(pfn) = phys.alloc(PageKind::Anon, 0) else { return VmFault::OOM };
        phys.zero(pfn, 0);
        c.add(Count::BytesZeroed, PAGE_SIZE);
        let e = self.maybe_mkwrite(Entry::leaf(pfn, prot));
        let Some((table, guard)) = self.mm().lock_pte_table(self.pmd) else {
            phys.free(pfn);
            return VmFault::empty();
        };
        if table.ptep_get(i) != orig {
            drop(guard);
            phys.free(pfn);
            return VmFault::empty();
        }
        if self.vma.has(VmFlags::UFFD_MISSING) {
            drop(guard);
            phys.free(pfn);
            return self.handle_userfault();
        }
        phys.add_new_anon_rmap(pfn, self.vma.index_of(self.addr));
        table.set(i, if orig.is_swp_uffd_wp_marker() { e.mkuffd_wp() } else { e });
        c.add(Count::FaultsAnonZero, 1);
        VmFault::empty()
    }

    /// `do_swap_page`, the dispatch on what the entry stands for.
    fn do_swap_page<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let swp = orig.swp();
        if swp.is_swap() {
            return self.swap_in(orig, c);
        }
        if swp.is_migration() {
            c.add(Count::MigrationWaits, 1);
            self.mm().migration_entry_wait(self.pmd, self.addr);
            return VmFault::empty();
        }
        if swp.is_device_exclusive() {
            return self.remove_device_exclusive_entry(orig, c);
        }
        if swp.is_device_private() {
            return self.migrate_to_ram(orig, c);
        }
        if swp.is_hwpoison() {
            return VmFault::HWPOISON;
        }
        self.handle_pte_marker(orig, c)
    }

    /// `handle_pte_marker`.
    fn handle_pte_marker<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let marker = orig.swp().offset();
        if marker & MARKER_POISONED != 0 {
            return VmFault::HWPOISON;
        }
        if marker & MARKER_GUARD != 0 {
            return VmFault::SIGSEGV;
        }
        if !self.vma.has(VmFlags::UFFD_WP) {
            // pte_marker_clear: the marker outlived its registration; the access is retried.
            if let Some((table, _guard)) = self.mm().lock_pte_table(self.pmd)
                && table.ptep_get(self.pte_index()) == orig
            {
                table.set(self.pte_index(), Entry::NONE);
            }
            return VmFault::empty();
        }
        self.do_pte_missing(orig, c)
    }

    /// `do_numa_page`: a hint fault in an accessible VMA gives the rights back. The model has one node, so the page is
    /// always placed right and never migrates.
    fn do_numa_page<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let Some((table, _guard)) = self.mm().lock_pte_table(self.pmd) else { return VmFault::empty() };
        let i = self.pte_index();
        if table.ptep_get(i) != orig {
            return VmFault::empty();
        }
        let phys = self.mm().phys();
        let head = (!orig.is_special()).then(|| phys.head(orig.pfn()));
        match head.filter(|&head| phys.page(head).order() > 0) {
            Some(head) => self.numa_rebuild_large_mapping(table, orig, head),
            None => table.set(i, self.numa_rebuilt(orig)),
        }
        c.add(Count::FaultsNuma, 1);
        VmFault::empty()
    }

    /// `numa_rebuild_single_mapping`: rights that the entry could have anyway.
    fn numa_rebuilt(&self, orig: Entry) -> Entry {
        let e = orig.modify(self.vma.page_prot()).mkyoung();
        let upgrade = !e.is_write() && self.vma.wants_manual_write_upgrade();
        if upgrade && self.mm().can_change_writable(self.vma, e) { e.mkwrite() } else { e }
    }

    /// `numa_rebuild_large_mapping`: every hint on the folio headed by `head` in this table and VMA, not just the one that
    /// was met.
    #[cold]
    fn numa_rebuild_large_mapping(&self, table: Table<'_>, orig: Entry, head: crate::addr::Pfn) {
        let phys = self.mm().phys();
        let nr = 1 << phys.page(head).order();
        let before = orig.pfn().get() - head.get();
        let first = VirtAddr::new(self.addr.get().saturating_sub(before << PAGE_SHIFT));
        let folio = PageRange::pages(first, nr).clip(pmd_span(self.addr)).clip(self.vma.range);
        for k in 0..folio.nr_pages() {
            let i = folio.start().add_pages(k).index(Level::Pte);
            let e = table.ptep_get(i);
            if e.is_present() && e.is_protnone() && !e.is_special() && phys.head(e.pfn()) == head {
                table.set(i, self.numa_rebuilt(e));
            }
        }
    }
}

impl Entry {
    /// A marker that carries uffd-wp (PTE_MARKER_UFFD_WP), as `vmf_orig_pte_uffd_wp` asks.
    #[inline]
    pub fn is_swp_uffd_wp_marker(self) -> bool {
        self.is_swp()
            && self.swp().is_marker()
            && self.swp().offset() & crate::arch::entry::MARKER_UFFD_WP != 0
    }
}
