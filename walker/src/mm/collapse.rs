//! MADV_COLLAPSE and khugepaged's step: 2 MiB of small pages become one huge page.
//!
//! Models mm/khugepaged.c of 6.12: `madvise_collapse`, `hpage_collapse_scan_pmd`, `collapse_huge_page`,
//! `hpage_collapse_scan_file`, `collapse_file` for shared memory and tmpfs, `retract_page_tables`,
//! `collapse_pte_mapped_thp`; `__thp_vma_allowable_orders` (mm/huge_memory.c). Left out: khugepaged's own pace and its
//! list of address spaces, NUMA, read-only files on disk.

use crate::addr::{Level, PAGES_PER_PMD, PMD_ORDER, PMD_SIZE, PTRS_PER_TABLE, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::counters::NoCounts;
use crate::memory::page::{PG_DIRTY, PG_LOCKED, PG_SWAPCACHE};
use crate::memory::{PageKind, Phys, Table};
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::file::{Cached, FileKind, Inode};
use crate::mm::huge::pmd_span;
use crate::mm::rmap::Family;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

/// How an attempt ended (SCAN_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// SCAN_FAIL.
    Fail,
    /// SCAN_SUCCEED.
    Succeed,
    /// SCAN_PMD_NULL: no table, or a huge migration entry.
    PmdNull,
    /// SCAN_PMD_NONE.
    PmdNone,
    /// SCAN_PMD_MAPPED: huge already.
    PmdMapped,
    /// SCAN_EXCEED_NONE_PTE.
    ExceedNone,
    /// SCAN_EXCEED_SWAP_PTE.
    ExceedSwap,
    /// SCAN_EXCEED_SHARED_PTE.
    ExceedShared,
    /// SCAN_PTE_NON_PRESENT.
    NonPresent,
    /// SCAN_PTE_UFFD_WP.
    UffdWp,
    /// SCAN_PTE_MAPPED_HUGEPAGE: the cache has a huge page, it only has to be mapped as one.
    PteMappedHuge,
    /// SCAN_PAGE_RO: no entry is writable.
    ReadOnly,
    /// SCAN_LACK_REFERENCED_PAGE.
    LackReferenced,
    /// SCAN_PAGE_NULL.
    PageNull,
    /// SCAN_PAGE_COUNT: somebody else holds references.
    PageCount,
    /// SCAN_PAGE_LOCK.
    PageLock,
    /// SCAN_PAGE_ANON: a page of another kind than the VMA's.
    PageAnon,
    /// SCAN_PAGE_COMPOUND.
    Compound,
    /// SCAN_VMA_NULL, SCAN_VMA_CHECK, SCAN_ADDRESS_RANGE.
    Vma,
    /// SCAN_ALLOC_HUGE_PAGE_FAIL.
    NoMemory,
    /// SCAN_TRUNCATED.
    Truncated,
    /// SCAN_PAGE_FILLED.
    Filled,
}

impl Scan {
    /// Whether MADV_COLLAPSE goes on with the next 2 MiB after it.
    fn goes_on(self) -> bool {
        matches!(
            self,
            Scan::PmdNull
                | Scan::NonPresent
                | Scan::UffdWp
                | Scan::ReadOnly
                | Scan::LackReferenced
                | Scan::PageNull
                | Scan::PageCount
                | Scan::PageLock
                | Scan::Compound
        )
    }
    /// `madvise_collapse_errno`.
    fn errno(self) -> Errno {
        match self {
            Scan::NoMemory => Errno::NoMem,
            Scan::ExceedNone => Errno::Busy,
            Scan::PageCount | Scan::PageLock | Scan::Filled => Errno::Again,
            _ => Errno::Inval,
        }
    }
}

/// Limits of a scan (`struct collapse_control` and the sysfs files of khugepaged).
#[derive(Clone, Copy, Debug)]
struct Limits {
    khugepaged: bool,
    none: u64,
    swap: u64,
    shared: u64,
}

const MADVISE: Limits = Limits { khugepaged: false, none: u64::MAX, swap: u64::MAX, shared: u64::MAX };
const KHUGEPAGED: Limits =
    Limits { khugepaged: true, none: PAGES_PER_PMD - 1, swap: PAGES_PER_PMD / 8, shared: PAGES_PER_PMD / 2 };

impl Vma {
    /// `thp_vma_allowable_order` outside page faults, sysfs aside: whether any of it could be huge.
    fn may_collapse(&self) -> bool {
        if self.flags.intersects(VmFlags::NOHUGEPAGE | VmFlags::SPECIAL | VmFlags::HUGETLB) {
            return false;
        }
        let last = self.end().get().saturating_sub(PMD_SIZE);
        if !self.suits_pmd(VirtAddr::new(last)) {
            return false;
        }
        match &self.backing {
            Backing::Anon | Backing::AnonZeroDev(_) => self.anon_vma() != 0,
            Backing::File(file) => file.kind() != FileKind::Block,
            _ => false,
        }
    }
    fn has_uffd(&self) -> bool {
        self.flags.intersects(VmFlags::UFFD_WP | VmFlags::UFFD_MISSING)
    }
}

impl Phys {
    /// `is_refcount_suitable`: nobody but mappings and a cache refers to the folio.
    fn refs_suit(&self, head: Pfn) -> bool {
        let folio = self.page(head);
        let cached = folio.kind() == PageKind::File || folio.has(PG_SWAPCACHE);
        folio.refs() == self.mapcount(head) + if cached { 1 << folio.order() } else { 0 }
    }
}

impl Mm {
    /// `find_pmd_or_thp_or_none`: the PMD entry, if it leads to a table.
    fn find_pmd(&self, addr: VirtAddr) -> Result<Slot<'_>, Scan> {
        let pmd = self.lookup(addr, Level::Pmd).map_err(|_| Scan::PmdNull)?;
        let e = pmd.read();
        if e.is_none() {
            Err(Scan::PmdNone)
        } else if e.is_huge() {
            Err(Scan::PmdMapped)
        } else if e.is_table() {
            Ok(pmd)
        } else {
            Err(Scan::PmdNull)
        }
    }

    /// MADV_COLLAPSE. Takes and drops the mmap lock itself.
    pub(crate) fn madvise_collapse_range(&self, range: PageRange) -> Result<(), Errno> {
        let mut at = range.start();
        let mut gap = false;
        while at < range.end() {
            let part = {
                let vmas = self.mmap_read();
                let Some(vma) = vmas.find_from(at).filter(|v| v.start() < range.end()) else {
                    return Err(Errno::NoMem);
                };
                let part = range.clip(vma.range);
                let part = PageRange::between(part.start().max(at), part.end());
                if !vma.may_collapse() {
                    return Err(Errno::Inval);
                }
                part
            };
            gap |= part.start() > at;
            self.madvise_collapse(part)?;
            at = part.end();
        }
        if gap { Err(Errno::NoMem) } else { Ok(()) }
    }

    /// `madvise_collapse` on a part of one VMA that may collapse.
    fn madvise_collapse(&self, part: PageRange) -> Result<(), Errno> {
        let first = part.start().get().next_multiple_of(PMD_SIZE);
        let mut end = part.end().get() & !(PMD_SIZE - 1);
        let (mut huge, mut last_fail) = (0, Scan::Fail);
        let mut at = first;
        while at < end {
            let addr = VirtAddr::new(at);
            let (r, vma_end) = self.collapse(addr, MADVISE);
            match (r, vma_end) {
                (Scan::Succeed | Scan::PmdMapped, _) => huge += 1,
                (r, Some(_)) if r.goes_on() => last_fail = r,
                (r, _) => {
                    last_fail = r;
                    break;
                }
            }
            end = end.min(vma_end.unwrap_or(end) & !(PMD_SIZE - 1));
            at += PMD_SIZE;
        }
        let wanted = end.wrapping_sub(first) / PMD_SIZE;
        if huge == wanted { Ok(()) } else { Err(last_fail.errno()) }
    }

    /// One step of khugepaged: collapses the 2 MiB around `addr` if its rules and the sysfs settings allow it.
    pub fn khugepaged_step(&self, addr: VirtAddr) -> Scan {
        self.collapse(addr.align_down(Level::Pmd), KHUGEPAGED).0
    }

    /// One aligned 2 MiB span, and where its VMA ends.
    fn collapse(&self, addr: VirtAddr, limits: Limits) -> (Scan, Option<u64>) {
        let (end, file) = {
            let vmas = self.mmap_read();
            let at = self.locked(&vmas);
            let vma = match at.revalidate(addr, limits) {
                Ok(vma) => vma,
                Err(r) => return (r, None),
            };
            let file = match &vma.backing {
                Backing::File(file) => Some((Arc::clone(file.inode()), vma.index_of(addr))),
                _ => None,
            };
            if file.is_none() {
                match at.scan_pmd(vma, addr, limits) {
                    Err(r) => return (r, Some(vma.end().get())),
                    Ok(()) => (vma.end().get(), None),
                }
            } else {
                (vma.end().get(), file)
            }
        };
        let r = match file {
            None => self.collapse_anon(addr, limits).err().unwrap_or(Scan::Succeed),
            Some((inode, index)) => match self.collapse_file(&inode, index, limits) {
                Scan::PteMappedHuge => {
                    let vmas = self.mmap_read();
                    self.locked(&vmas).collapse_pte_mapped(addr).err().unwrap_or(Scan::Succeed)
                }
                r => r,
            },
        };
        (r, Some(end))
    }

    /// `collapse_huge_page`.
    fn collapse_anon(&self, addr: VirtAddr, limits: Limits) -> Result<(), Scan> {
        let phys = self.phys();
        let new = phys.alloc(PageKind::Anon, PMD_ORDER).map_err(|_| Scan::NoMemory)?;
        let r = self.swap_in_span(addr, limits).and_then(|()| self.replace_span(addr, new, limits));
        if r.is_err() {
            phys.put(new, 1);
        }
        r
    }

    /// `__collapse_huge_page_swapin`: what is not present is faulted in.
    fn swap_in_span(&self, addr: VirtAddr, limits: Limits) -> Result<(), Scan> {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        let vma = at.revalidate_anon(addr, limits)?;
        let pmd = self.find_pmd(addr)?;
        for i in 0..PAGES_PER_PMD {
            let page = addr.add_pages(i);
            let table = self.phys().table(pmd.read().pfn());
            if table.ptep_get(page.index(Level::Pte)).is_swp() {
                let r = at.handle_mm_fault(vma, page, FaultFlags::empty(), &mut NoCounts);
                if r.intersects(VmFault::ERROR) {
                    return Err(Scan::Fail);
                }
                if r.contains(VmFault::RETRY) {
                    return Err(Scan::PageLock);
                }
            }
        }
        Ok(())
    }

    /// The part under the mmap lock for write: the table goes in one event, its pages are copied, the leaf comes.
    fn replace_span(&self, addr: VirtAddr, new: Pfn, limits: Limits) -> Result<(), Scan> {
        let vmas = self.mmap_write();
        let at = self.locked(&vmas);
        let phys = self.phys();
        let vma = at.revalidate_anon(addr, limits)?;
        let pmd = self.find_pmd(addr)?;
        let old = self.notifier.during(&Event::new(EventKind::Clear, pmd_span(addr)), || {
            let _guard = pmd.lock();
            pmd.replace(Entry::NONE)
        });
        let table = phys.table(old.pfn());
        let isolated = {
            let _guard = table.lock();
            at.isolate_table(vma, table, limits)
        };
        let folios = match isolated {
            Ok(folios) => folios,
            Err(r) => {
                let _guard = pmd.lock();
                pmd.set(old);
                return Err(r);
            }
        };
        for i in 0..PTRS_PER_TABLE {
            let e = table.ptep_get(i);
            let to = new.add(i as u64);
            if self.is_none_or_zero(e) {
                phys.zero(to, 0);
            } else {
                phys.copy(to, e.pfn(), 0);
            }
        }
        // __collapse_huge_page_copy_succeeded
        folios.iter().for_each(|&head| phys.page(head).unlock());
        for i in 0..PTRS_PER_TABLE {
            let e = table.replace(i, Entry::NONE);
            if !self.is_none_or_zero(e) {
                phys.remove_rmap_pte(e.pfn());
                self.system().free_swap_cache(e.pfn());
                phys.put_folio(e.pfn(), 1);
            }
        }
        let mut e = Entry::leaf(new, vma.page_prot()).mkhuge().mkdirty();
        if vma.has(VmFlags::WRITE) {
            e = e.mkwrite();
        }
        let _guard = pmd.lock();
        phys.add_new_anon_rmap_huge(new, vma.index_of(addr));
        self.deposit(pmd.table, table);
        pmd.set(e);
        Ok(())
    }

    fn is_none_or_zero(&self, e: Entry) -> bool {
        e.is_none() || (e.is_present() && e.pfn() == self.system().zero_pfn())
    }

    /// `hpage_collapse_scan_file` and `collapse_file` for shared memory. [`Scan::PteMappedHuge`] is what success says.
    fn collapse_file(&self, inode: &Arc<Inode>, start: u64, limits: Limits) -> Scan {
        let phys = self.phys();
        let (mut present, mut swapped) = (0, 0);
        let mut index = start;
        while index < start + PAGES_PER_PMD {
            let mut step = 1;
            match inode.get(index) {
                None => {}
                Some(Cached::Swapped(_)) => swapped += 1,
                Some(Cached::Folio(pfn)) => {
                    let head = phys.head(pfn);
                    let (order, first) = (phys.page(head).order(), phys.page(head).index());
                    phys.put(head, 1);
                    if order == PMD_ORDER && first == start {
                        return Scan::PteMappedHuge;
                    }
                    if !phys.refs_suit(head) {
                        return Scan::PageCount;
                    }
                    step = (first + (1 << order)).saturating_sub(index).max(1);
                    present += step;
                }
            }
            index += step;
        }
        if limits.khugepaged && (swapped > limits.swap || present < PAGES_PER_PMD - limits.none) {
            return Scan::ExceedNone;
        }
        let Ok(new) = phys.alloc(PageKind::File, PMD_ORDER) else { return Scan::NoMemory };
        phys.page(new).set(PG_LOCKED);
        let vmas = self.mmap_read();
        let r = self.locked(&vmas).with_family(|family| family.fill_huge(inode, start, new));
        phys.page(new).unlock();
        phys.put(new, 1);
        r.err().unwrap_or(Scan::PteMappedHuge)
    }
}

impl Family<'_> {
    /// The middle of `collapse_file`: the small folios are locked and unmapped, copied to `new`, and replaced.
    fn fill_huge(&self, inode: &Arc<Inode>, start: u64, new: Pfn) -> Result<(), Scan> {
        let phys = self.phys();
        let mut old: Vec<Pfn> = Vec::new();
        let r = self.take_small(inode, start, &mut old).and_then(|()| {
            let mut index = start;
            for &head in &old {
                let at = phys.page(head).index();
                (index..at).for_each(|i| phys.zero(new.add(i - start), 0));
                phys.copy(new.add(at - start), head, phys.page(head).order());
                index = at + (1 << phys.page(head).order());
            }
            (index..start + PAGES_PER_PMD).for_each(|i| phys.zero(new.add(i - start), 0));
            let holes = (old.iter().map(|&h| 1u64 << phys.page(h).order()).sum::<u64>()) < PAGES_PER_PMD;
            let mut missing = false;
            if holes {
                self.file_walk(inode, start..start + PAGES_PER_PMD, &mut |_, vma, _| {
                    missing |= vma.has(VmFlags::UFFD_MISSING);
                    !missing
                });
            }
            if missing {
                return Err(Scan::ExceedNone);
            }
            phys.page(new).set(PG_DIRTY);
            if inode.replace_by_huge(start, new, &old) { Ok(()) } else { Err(Scan::Filled) }
        });
        if r.is_ok() {
            self.retract_page_tables(inode, start);
        }
        for head in old {
            phys.page(head).unlock();
            phys.put(head, 1);
        }
        r
    }

    /// Every folio of the span, locked, unmapped, with a reference; those swapped out are brought back.
    fn take_small(&self, inode: &Arc<Inode>, start: u64, old: &mut Vec<Pfn>) -> Result<(), Scan> {
        let phys = self.phys();
        if !inode.any_in(start, PAGES_PER_PMD) {
            return Err(Scan::Truncated);
        }
        let mut index = start;
        while index < start + PAGES_PER_PMD {
            let pfn = match inode.get(index) {
                None => {
                    index += 1;
                    continue;
                }
                Some(Cached::Swapped(slot)) => match self.system().shmem_swap_in(inode, index, slot) {
                    Ok(Some(pfn)) => pfn,
                    Ok(None) => continue,
                    Err(_) => return Err(Scan::Fail),
                },
                Some(Cached::Folio(pfn)) => {
                    let head = phys.head(pfn);
                    if !phys.page(head).try_lock() {
                        phys.put(head, 1);
                        return Err(Scan::PageLock);
                    }
                    pfn
                }
            };
            let head = phys.head(pfn);
            let folio = phys.page(head);
            old.push(head);
            if !inode.holds(head) {
                return Err(Scan::Truncated);
            }
            if folio.order() == PMD_ORDER && folio.index() == start {
                return Err(Scan::PteMappedHuge);
            }
            if phys.mapcount(head) > 0 {
                self.unmap_file_folio(inode, head, true);
            }
            let nr = 1 << folio.order();
            if folio.refs() != 1 + nr {
                return Err(Scan::PageCount);
            }
            index = folio.index() + nr as u64;
        }
        Ok(())
    }

    /// `retract_page_tables`: empty PTE tables over the new huge page go, so that faults map it by a PMD.
    fn retract_page_tables(&self, inode: &Arc<Inode>, start: u64) {
        self.file_walk(inode, start..start + 1, &mut |mm, vma, part| {
            let addr = part.start();
            let fits = addr.is_aligned(Level::Pmd) && addr.get() + PMD_SIZE <= vma.end().get();
            if vma.anon_vma() == 0
                && fits
                && !vma.has(VmFlags::UFFD_WP)
                && let Ok(pmd) = mm.find_pmd(addr)
            {
                mm.notifier.during(&Event::new(EventKind::Clear, pmd_span(addr)), || mm.drop_table(pmd));
            }
            true
        });
    }
}

impl Mm {
    /// `pmdp_collapse_flush` and `pte_free_defer`: an empty table is unlinked and freed after a grace period.
    fn drop_table(&self, pmd: Slot<'_>) {
        let guard = pmd.lock();
        let e = pmd.read();
        if !e.is_table() {
            return;
        }
        let table = self.phys().table(e.pfn());
        let inner = table.lock();
        if !table.is_empty() {
            return;
        }
        pmd.set(Entry::NONE);
        drop(inner);
        drop(guard);
        self.phys().free_table_rcu(table.pfn());
    }
}

impl<'a> Locked<'a> {
    /// `hugepage_vma_revalidate`: the VMA, if the 2 MiB at `addr` may still become huge.
    fn revalidate(&self, addr: VirtAddr, limits: Limits) -> Result<&'a Vma, Scan> {
        let vma = self.vmas.find(addr).ok_or(Scan::Vma)?;
        let settings = &self.mm.system().settings;
        let mode = if vma.is_anonymous() { settings.thp } else { settings.shmem_thp };
        let allowed = vma.may_collapse() && (!limits.khugepaged || vma.allows_thp(mode));
        if vma.suits_pmd(addr) && allowed { Ok(vma) } else { Err(Scan::Vma) }
    }

    /// `hugepage_vma_revalidate` with `expect_anon`. The scan ran under another hold of the mmap lock: what is mapped
    /// now may be a file, and a huge leaf of anonymous memory there would lose its deposited table with its zap.
    fn revalidate_anon(&self, addr: VirtAddr, limits: Limits) -> Result<&'a Vma, Scan> {
        let vma = self.revalidate(addr, limits)?;
        if vma.is_anonymous() && vma.anon_vma() != 0 { Ok(vma) } else { Err(Scan::PageAnon) }
    }

    /// `hpage_collapse_scan_pmd` up to its decision.
    fn scan_pmd(&self, vma: &Vma, addr: VirtAddr, limits: Limits) -> Result<(), Scan> {
        let pmd = self.mm.find_pmd(addr)?;
        let (table, _guard) = self.mm.lock_pte_table(pmd).ok_or(Scan::PmdNull)?;
        let phys = self.mm.phys();
        let (mut none, mut unmapped, mut shared, mut referenced, mut writable) = (0, 0, 0, 0, false);
        for i in 0..PTRS_PER_TABLE {
            let e = table.ptep_get(i);
            if e.is_swp() {
                unmapped += 1;
                if unmapped > limits.swap {
                    return Err(Scan::ExceedSwap);
                }
                if e.is_swp_uffd_wp_marker() || (!e.swp().is_marker() && e.is_swp_uffd_wp()) {
                    return Err(Scan::UffdWp);
                }
                continue;
            }
            if self.mm.is_none_or_zero(e) {
                none += 1;
                if vma.has_uffd() || none > limits.none {
                    return Err(Scan::ExceedNone);
                }
                continue;
            }
            if e.is_uffd_wp() {
                return Err(Scan::UffdWp);
            }
            writable |= e.is_write();
            if e.is_special() {
                return Err(Scan::PageNull);
            }
            let head = phys.head(e.pfn());
            let folio = phys.page(head);
            if folio.kind() != PageKind::Anon {
                return Err(Scan::PageAnon);
            }
            shared += u64::from(phys.likely_mapped_shared(head));
            if shared > limits.shared {
                return Err(Scan::ExceedShared);
            }
            if folio.is_locked() {
                return Err(Scan::PageLock);
            }
            if !phys.refs_suit(head) {
                return Err(Scan::PageCount);
            }
            referenced += usize::from(e.is_young());
        }
        if !writable {
            Err(Scan::ReadOnly)
        } else if limits.khugepaged && (referenced == 0 || (unmapped > 0 && referenced < PTRS_PER_TABLE / 2))
        {
            Err(Scan::LackReferenced)
        } else {
            Ok(())
        }
    }

    /// `__collapse_huge_page_isolate`: the folios that the unlinked table maps, each locked; none of them on failure.
    fn isolate_table(&self, vma: &Vma, table: Table<'_>, limits: Limits) -> Result<Vec<Pfn>, Scan> {
        let mut folios = Vec::new();
        let r = self.isolate_into(vma, table, limits, &mut folios);
        if r.is_err() {
            folios.drain(..).for_each(|head| self.mm.phys().page(head).unlock());
        }
        r.map(|()| folios)
    }
    fn isolate_into(
        &self,
        vma: &Vma,
        table: Table<'_>,
        limits: Limits,
        folios: &mut Vec<Pfn>,
    ) -> Result<(), Scan> {
        let phys = self.mm.phys();
        let (mut none, mut shared, mut referenced, mut writable) = (0, 0, false, false);
        for i in 0..PTRS_PER_TABLE {
            let e = table.ptep_get(i);
            if self.mm.is_none_or_zero(e) {
                none += 1;
                if vma.has_uffd() || none > limits.none {
                    return Err(Scan::ExceedNone);
                }
                continue;
            }
            if !e.is_present() {
                return Err(Scan::NonPresent);
            }
            if e.is_uffd_wp() {
                return Err(Scan::UffdWp);
            }
            if e.is_special() {
                return Err(Scan::PageNull);
            }
            let head = phys.head(e.pfn());
            shared += u64::from(phys.likely_mapped_shared(head));
            if shared > limits.shared {
                return Err(Scan::ExceedShared);
            }
            let large = phys.page(head).order() > 0;
            if !(large && folios.contains(&head)) {
                if !phys.page(head).try_lock() {
                    return Err(Scan::PageLock);
                }
                folios.push(head);
                if !phys.refs_suit(head) {
                    return Err(Scan::PageCount);
                }
            }
            referenced |= e.is_young();
            writable |= e.is_write();
        }
        if !writable {
            Err(Scan::ReadOnly)
        } else if limits.khugepaged && !referenced {
            Err(Scan::LackReferenced)
        } else {
            Ok(())
        }
    }

    /// `collapse_pte_mapped_thp`: maps the huge page that the cache holds by one leaf.
    fn collapse_pte_mapped(&self, addr: VirtAddr) -> Result<(), Scan> {
        let (mm, phys) = (self.mm, self.mm.phys());
        let vma = self.vmas.find(addr).ok_or(Scan::Vma)?;
        let Backing::File(file) = &vma.backing else { return Err(Scan::Vma) };
        if !vma.suits_pmd(addr) {
            return Err(Scan::Vma);
        }
        if mm.find_pmd(addr).err() == Some(Scan::PmdMapped) {
            return Ok(());
        }
        if !vma.may_collapse() {
            return Err(Scan::Vma);
        }
        if vma.has(VmFlags::UFFD_WP) {
            return Err(Scan::UffdWp);
        }
        let Some(Cached::Folio(pfn)) = file.inode().get(vma.index_of(addr)) else {
            return Err(Scan::PageNull);
        };
        let head = phys.head(pfn);
        let folio = phys.page(head);
        folio.lock_folio();
        let r = if !file.inode().holds(head) {
            Err(Scan::PageNull)
        } else if folio.order() != PMD_ORDER {
            Err(Scan::Compound)
        } else {
            self.map_huge_instead(vma, addr, head)
        };
        folio.unlock();
        phys.put(head, 1);
        r
    }

    fn map_huge_instead(&self, vma: &Vma, addr: VirtAddr, head: Pfn) -> Result<(), Scan> {
        let (mm, phys) = (self.mm, self.mm.phys());
        match mm.find_pmd(addr) {
            Ok(pmd) => {
                let maps_it = |table: Table<'_>| {
                    for i in 0..PTRS_PER_TABLE {
                        let e = table.ptep_get(i);
                        if e.is_swp() {
                            return Err(Scan::NonPresent);
                        }
                        if !e.is_none() && (e.is_special() || e.pfn() != head.add(i as u64)) {
                            return Err(Scan::Fail);
                        }
                    }
                    Ok(())
                };
                let (table, guard) = mm.lock_pte_table(pmd).ok_or(Scan::Fail)?;
                maps_it(table)?;
                drop(guard);
                mm.notifier.during(&Event::new(EventKind::Clear, pmd_span(addr)), || {
                    let (table, guard) = mm.lock_pte_table(pmd).ok_or(Scan::Fail)?;
                    maps_it(table)?;
                    for i in 0..PTRS_PER_TABLE {
                        let e = table.replace(i, Entry::NONE);
                        if !e.is_none() {
                            phys.unmap_pte(e.pfn());
                        }
                    }
                    drop(guard);
                    mm.drop_table(pmd);
                    Ok(())
                })?;
            }
            Err(Scan::PmdNone) => {}
            Err(r) => return Err(r),
        }
        // set_huge_pmd
        let pmd = mm.lookup(addr, Level::Pmd).map_err(|_| Scan::Fail)?;
        let _guard = pmd.lock();
        if !pmd.read().is_none() {
            return Err(Scan::Fail);
        }
        phys.add_rmap_huge(head);
        pmd.set(Entry::leaf(head, vma.page_prot()).mkhuge());
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mm::file::File;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::testing::{BASE, RW, assert_used, machine};
    use crate::mm::touch::Access;

    #[test]
    fn a_file_that_took_the_place_of_what_was_scanned_does_not_become_anonymous() {
        let mm = machine();
        let used = mm.phys().nr_used();
        let file = File::tmpfs(mm.system());
        file.truncate(PAGES_PER_PMD).unwrap();
        let kind = MapKind::FilePrivate(Arc::clone(&file));
        mm.mmap(PageRange::pages(BASE, PAGES_PER_PMD), RW, kind, MapFlags::default(), 0).unwrap();
        mm.touch(BASE, Access::Write(1)).unwrap();
        assert_eq!(mm.collapse_anon(BASE, MADVISE), Err(Scan::PageAnon));
        assert!(mm.find_pmd(BASE).is_ok(), "a table still");
        mm.exit();
        drop(file);
        assert_used(&mm, used);
    }
}
