//! Memory that is given up on request: MADV_PAGEOUT, MADV_COLD, MADV_FREE and MADV_WILLNEED, and the reclaim behind
//! them.
//!
//! Models `madvise_cold_or_pageout_pte_range`, `madvise_free_pte_range`, `madvise_free_huge_pmd`, `swapin_walk_pmd_entry`
//! (mm/madvise.c, mm/huge_memory.c), `shrink_folio_list` as `reclaim_pages` calls it (mm/vmscan.c) and `try_to_unmap`
//! (mm/rmap.c), 6.12. Left out: the LRU lists themselves (every page counts as on its list).

use crate::addr::{Level, PAGES_PER_PMD, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::memory::page::{
    PG_DIRTY, PG_LAZYFREE, PG_MLOCKED, PG_PARTIALLY_MAPPED, PG_REFERENCED, PG_SWAPCACHE,
};
use crate::memory::table::Ptl;
use crate::memory::{Page, PageKind, Phys, Table};
use crate::mm::file::{FileKind, Inode};
use crate::mm::rmap::Family;
use crate::mm::swap::swapped_entry;
use crate::mm::tables::{Slot, below};
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::zap::ZapDetails;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use core::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

impl Phys {
    /// `folio_likely_mapped_shared`.
    pub(crate) fn likely_mapped_shared(&self, head: Pfn) -> bool {
        let folio = self.page(head);
        let mapcount = self.mapcount(head);
        if mapcount <= 1 || folio.order() == 0 {
            return mapcount > 1;
        }
        folio.entire_mappings() > 0 || mapcount > 1 << folio.order() || folio.pte_mappings() > 1
    }
}

/// Calls `visit` for every PMD entry in `part` that is not none (the `pmd_entry` of a page walk).
fn walk_pmds(mm: &Mm, part: PageRange, visit: &mut dyn FnMut(Slot<'_>, PageRange)) {
    fn level(
        mm: &Mm,
        table: Table<'_>,
        at: Level,
        part: PageRange,
        visit: &mut dyn FnMut(Slot<'_>, PageRange),
    ) {
        let mut addr = part.start();
        while addr < part.end() {
            let next = addr.next_boundary(at, part.end());
            let slot = Slot { table, index: addr.index(at) };
            let span = PageRange::between(addr, next);
            let e = slot.read();
            if at == Level::Pmd {
                if !e.is_none() {
                    visit(slot, span);
                }
            } else if e.is_table() {
                level(mm, mm.phys().table(e.pfn()), below(at), span, visit);
            }
            addr = next;
        }
    }
    level(mm, mm.root(), mm.geometry().root(), part, visit);
}

/// `folio_pte_batch` as madvise uses it: how many entries from `i` on, `max` at most, map consecutive pages of the same
/// folio with the same rights; age, dirt and the write bit do not count.
fn pte_batch(phys: &Phys, table: Table<'_>, i: usize, head: Pfn, max: u64) -> u64 {
    let rights = |e: Entry| (e.mkold().wrprotect().prot(), e.is_uffd_wp());
    let first = table.ptep_get(i);
    let end = head.add(1 << phys.page(head).order());
    let max = max.min(end.get() - first.pfn().get());
    let same = |n: &u64| {
        let e = table.ptep_get(i + *n as usize);
        e.is_present() && e.pfn() == first.pfn().add(*n) && rights(e) == rights(first)
    };
    1 + (1..max).take_while(same).count() as u64
}

impl Locked<'_> {
    /// `madvise_cold` and `madvise_pageout`: ages the pages of `part`, or reclaims them at once.
    pub(crate) fn madvise_cold(&self, vma: &Vma, part: PageRange, pageout: bool) -> Result<(), Errno> {
        // can_madv_lru_vma. can_do_file_pageout always holds: the model's processes own their files.
        if vma.flags.intersects(VmFlags::LOCKED | VmFlags::PFNMAP | VmFlags::HUGETLB) {
            return Err(Errno::Inval);
        }
        self.with_family(|family| {
            walk_pmds(self.mm, part, &mut |pmd, span| {
                let mut list = Vec::new();
                self.cold_or_pageout(family, vma, pmd, span, pageout, &mut list);
                family.shrink_folio_list(list, vma);
            });
        });
        Ok(())
    }

    /// `split_folio` on what is mapped at `addr`, with the folio's lock and one reference, both of which go.
    fn split_mapped(&self, family: &Family<'_>, vma: &Vma, addr: VirtAddr, pfn: Pfn) -> bool {
        let phys = self.mm.phys();
        let head = phys.head(pfn);
        let split = if phys.page(head).kind() == PageKind::Anon {
            self.adopt_anon(vma, addr, pfn);
            family.split_folio(head, None).is_ok()
        } else {
            inode_of(vma).is_some_and(|inode| family.split_file_folio(inode, head))
        };
        self.mm.system().unlock_folio(head);
        phys.put(head, 1);
        split
    }

    /// A leaf of which the advice takes only `part`: its folio `head` is split, without the table lock that came with it.
    fn split_leaf(&self, family: &Family<'_>, vma: &Vma, guard: Ptl<'_>, part: PageRange, head: Pfn) -> bool {
        let folio = self.mm.phys().page(head);
        if !folio.try_lock() {
            return false;
        }
        folio.get(1);
        drop(guard);
        let within = part.start().index(Level::Pte) as u64;
        self.split_mapped(family, vma, part.start(), head.add(within))
    }

    /// How many entries from the start of `part` on map the folio of the first, if that is all of it. Otherwise the folio
    /// is split, with the table lock dropped and taken again, and the error says how many entries to go on: none if it
    /// worked, since the same entry maps a small page or the zero page then.
    fn covered_or_split<'m>(
        &'m self,
        family: &Family<'_>,
        vma: &Vma,
        pmd: Slot<'m>,
        locked: &mut Option<(Table<'m>, Ptl<'m>)>,
        part: PageRange,
    ) -> Result<u64, u64> {
        let (phys, addr) = (self.mm.phys(), part.start());
        let Some((table, _)) = locked else { return Err(0) };
        let i = addr.index(Level::Pte);
        let pfn = table.ptep_get(i).pfn();
        let head = phys.head(pfn);
        let folio = phys.page(head);
        let pages = 1u64 << folio.order();
        if pages == 1 {
            return Ok(1);
        }
        let nr = pte_batch(phys, *table, i, head, part.nr_pages());
        if nr == pages {
            return Ok(nr);
        }
        if phys.likely_mapped_shared(head) || !folio.try_lock() {
            return Err(nr);
        }
        folio.get(1);
        *locked = None;
        let split = self.split_mapped(family, vma, addr, pfn);
        *locked = self.mm.lock_pte_table(pmd);
        Err(if split { 0 } else { nr })
    }

    /// `madvise_cold_or_pageout_pte_range`. What is to be reclaimed goes to `list`, each with a reference.
    fn cold_or_pageout(
        &self,
        family: &Family<'_>,
        vma: &Vma,
        pmd: Slot<'_>,
        part: PageRange,
        pageout: bool,
        list: &mut Vec<Pfn>,
    ) {
        let phys = self.mm.phys();
        if pmd.read().is_huge() {
            let guard = pmd.lock();
            let e = pmd.read();
            let head = e.pfn();
            if e.is_huge() {
                let folio = phys.page(head);
                if !is_on_lru(folio) || phys.likely_mapped_shared(head) {
                    return;
                }
                if part.nr_pages() == PAGES_PER_PMD {
                    if !pageout && e.is_young() {
                        pmd.set(e.mkold());
                    }
                    folio.clear(PG_REFERENCED);
                    if pageout && !folio.has(PG_MLOCKED) {
                        self.isolate(vma, part.start(), head, list);
                    }
                    return;
                }
                if !self.split_leaf(family, vma, guard, part, head) {
                    return;
                }
            }
        }
        let mut locked = self.mm.lock_pte_table(pmd);
        let mut addr = part.start();
        while addr < part.end() {
            let Some((table, _)) = &locked else { return };
            let table = *table;
            let i = addr.index(Level::Pte);
            let e = table.ptep_get(i);
            if !e.is_present() || e.is_special() {
                addr = addr.add_pages(1);
                continue;
            }
            let head = phys.head(e.pfn());
            let folio = phys.page(head);
            if !is_on_lru(folio) {
                addr = addr.add_pages(1);
                continue;
            }
            let rest = PageRange::between(addr, part.end());
            let nr = match self.covered_or_split(family, vma, pmd, &mut locked, rest) {
                Ok(nr) => nr,
                Err(skip) => {
                    addr = addr.add_pages(skip);
                    continue;
                }
            };
            if phys.mapcount(head) == 1 << folio.order() {
                if !pageout {
                    for k in i..i + nr as usize {
                        table.set(k, table.ptep_get(k).mkold());
                    }
                }
                folio.clear(PG_REFERENCED);
                if pageout && !folio.has(PG_MLOCKED) {
                    self.isolate(vma, addr, e.pfn(), list);
                }
            }
            addr = addr.add_pages(nr);
        }
    }

    /// `folio_isolate_lru`: the folio of `pfn`, found at `addr`, goes to `list` with a reference.
    fn isolate(&self, vma: &Vma, addr: VirtAddr, pfn: Pfn, list: &mut Vec<Pfn>) {
        let phys = self.mm.phys();
        let head = phys.head(pfn);
        if phys.page(head).kind() == PageKind::Anon {
            self.adopt_anon(vma, addr, pfn);
        }
        phys.page(head).get(1);
        list.push(head);
    }

    /// `madvise_free_single_vma`: pages may be dropped instead of swapped while nobody writes to them again.
    pub(crate) fn madvise_free(&self, vma: &Vma, part: PageRange) -> Result<(), Errno> {
        if vma.flags.intersects(VmFlags::LOCKED | VmFlags::PFNMAP | VmFlags::HUGETLB) || !vma.is_anonymous() {
            return Err(Errno::Inval);
        }
        self.with_family(|family| {
            self.mm.notifier.during(&Event::new(EventKind::Clear, part), || {
                walk_pmds(self.mm, part, &mut |pmd, span| {
                    if !pmd.read().is_huge() || !self.free_huge_pmd(family, vma, pmd, span) {
                        self.free_ptes(family, vma, pmd, span);
                    }
                });
            });
        });
        Ok(())
    }

    /// `madvise_free_huge_pmd`. False: go on with the PTEs.
    fn free_huge_pmd(&self, family: &Family<'_>, vma: &Vma, pmd: Slot<'_>, part: PageRange) -> bool {
        let phys = self.mm.phys();
        let guard = pmd.lock();
        let e = pmd.read();
        let head = e.pfn();
        if !e.is_huge() || phys.page(head).kind() != PageKind::Anon {
            return false;
        }
        let folio = phys.page(head);
        if phys.likely_mapped_shared(head) {
            return false;
        }
        if part.nr_pages() != PAGES_PER_PMD {
            self.split_leaf(family, vma, guard, part, head);
            return false;
        }
        if !folio.try_lock() {
            return false;
        }
        folio.clear(PG_DIRTY);
        folio.unlock();
        pmd.replace(e.mkold().mkclean());
        mark_lazyfree(phys, head);
        true
    }

    /// `madvise_free_pte_range` on a PTE table.
    fn free_ptes(&self, family: &Family<'_>, vma: &Vma, pmd: Slot<'_>, part: PageRange) {
        let (phys, system) = (self.mm.phys(), self.mm.system());
        let mut locked = self.mm.lock_pte_table(pmd);
        let mut addr = part.start();
        while addr < part.end() {
            let Some((table, _)) = &locked else { return };
            let table = *table;
            let i = addr.index(Level::Pte);
            let e = table.ptep_get(i);
            let mut nr = 1;
            if e.is_swp() {
                let swp = e.swp();
                let poison = swp.is_marker() && swp.offset() & crate::arch::entry::MARKER_POISONED != 0;
                if swp.is_swap() {
                    system.swap_free_entry(swp.offset());
                }
                if swp.is_swap() || swp.is_hwpoison() || poison {
                    table.set(i, Entry::NONE);
                }
            } else if e.is_present() && !e.is_special() {
                let head = phys.head(e.pfn());
                let rest = PageRange::between(addr, part.end());
                match self.covered_or_split(family, vma, pmd, &mut locked, rest) {
                    Ok(covered) => nr = covered,
                    Err(skip) => {
                        addr = addr.add_pages(skip);
                        continue;
                    }
                }
                if self.clean_for_free(head) {
                    for k in i..i + nr as usize {
                        table.replace(k, table.ptep_get(k).mkold().mkclean());
                    }
                    mark_lazyfree(phys, head);
                }
            }
            addr = addr.add_pages(nr);
        }
    }

    /// Takes dirt and swap from a folio that is to be lazily freed; false if that may not be.
    fn clean_for_free(&self, head: Pfn) -> bool {
        let folio = self.mm.phys().page(head);
        if !folio.has(PG_SWAPCACHE) && !folio.has(PG_DIRTY) {
            return true;
        }
        if !folio.try_lock() {
            return false;
        }
        let ours = self.mm.phys().mapcount(head) == 1 << folio.order()
            && (!folio.has(PG_SWAPCACHE) || self.mm.system().free_swap(head));
        if ours {
            folio.clear(PG_DIRTY);
        }
        folio.unlock();
        ours
    }

    /// `madvise_willneed`: what is swapped out enters the swap cache, what a block device holds its page cache.
    /// Swapped shared memory is left out: that it waits in the swap cache shows nowhere.
    pub(crate) fn madvise_willneed(&self, vma: &Vma, part: PageRange) {
        if let Backing::File(file) = &vma.backing
            && file.kind() == FileKind::Block
        {
            return file.will_need(vma.index_of(part.start()), part.nr_pages());
        }
        if !matches!(vma.backing, Backing::Anon) {
            return;
        }
        let mut slots = Vec::new();
        self.mm.for_each_entry(part, &mut |_, _, _| {}, &mut |table, i, _| {
            let e = table.ptep_get(i);
            if e.is_swp() && e.swp().is_swap() {
                slots.push(e.swp().offset());
            }
        });
        slots.into_iter().for_each(|slot| self.mm.system().swap_readahead(slot));
    }
}

/// `folio_mark_lazyfree`. The kernel does nothing to a folio that reclaim has isolated from the LRU; here reclaim holds
/// the folio lock, and whoever finds it taken leaves the folio alone.
fn mark_lazyfree(phys: &Phys, head: Pfn) {
    let folio = phys.page(head);
    if folio.kind() != PageKind::Anon || !folio.try_lock() {
        return;
    }
    if !folio.has(PG_SWAPCACHE) && !folio.has(PG_MLOCKED) {
        folio.clear(PG_REFERENCED);
        folio.set(PG_LAZYFREE);
    }
    folio.unlock();
}

impl Family<'_> {
    /// `shrink_folio_list` for `reclaim_pages`: no second chances. Takes over one reference on each folio.
    pub(crate) fn shrink_folio_list(&self, list: Vec<Pfn>, vma: &Vma) {
        let phys = self.phys();
        let mut list = VecDeque::from(list);
        while let Some(head) = list.pop_front() {
            if !phys.page(head).try_lock() {
                phys.put(head, 1);
            } else if phys.page(head).kind() == PageKind::Anon && self.shrink_folio(head, &mut list) {
                phys.free(head);
            } else {
                if let Some(inode) = inode_of(vma) {
                    self.shrink_file_folio(inode, head, &mut list);
                }
                self.system().unlock_folio(head);
                phys.put(head, 1);
            }
        }
    }

    /// One locked folio. True: it has no reference left. Parts of a folio that had to be split go to the front of
    /// `list`.
    fn shrink_folio(&self, head: Pfn, list: &mut VecDeque<Pfn>) -> bool {
        let (phys, system) = (self.phys(), self.system());
        let folio = phys.page(head);
        if folio.has(PG_MLOCKED) {
            return false;
        }
        if !folio.has(PG_LAZYFREE) && !folio.has(PG_SWAPCACHE) {
            let mut split = || {
                let mut tails = Vec::new();
                let done = self.split_folio(head, Some(&mut tails)).is_ok();
                tails.into_iter().rev().for_each(|t| list.push_front(t));
                done
            };
            if folio.order() > 0 {
                if phys.mapcount(head) != folio.refs() - 1 {
                    return false;
                }
                if folio.has(PG_PARTIALLY_MAPPED) && !split() {
                    return false;
                }
            }
            if !system.add_to_swap(head) && (folio.order() == 0 || !split() || !system.add_to_swap(head)) {
                return false;
            }
        }
        if phys.mapcount(head) > 0 {
            self.try_to_unmap(head, false);
            if phys.mapcount(head) > 0 {
                return false;
            }
        }
        if folio.has(PG_LAZYFREE) { folio.freeze(1) } else { system.swap_out(head) }
    }

    /// `try_to_unmap` of an anonymous folio that the caller locked, also where it is mlocked with `ignore_mlock`.
    /// Whether it worked shows in its mapping count.
    pub(crate) fn try_to_unmap(&self, head: Pfn, ignore_mlock: bool) {
        let folio = self.phys().page(head);
        self.rmap_walk_anon(folio.index(), 1 << folio.order(), &mut |mm, vma, part| {
            mm.try_to_unmap_one(head, vma, part, ignore_mlock) && self.phys().mapcount(head) > 0
        });
    }
}

impl Family<'_> {
    /// A locked page-cache folio: unmapped, then dropped from the cache if it is clean; dirty shared memory goes to
    /// swap, dirty pages of a block device stay for write-back. The caller's reference stays.
    fn shrink_file_folio(&self, inode: &Arc<Inode>, head: Pfn, list: &mut VecDeque<Pfn>) {
        let (phys, folio) = (self.phys(), self.phys().page(head));
        if folio.has(PG_MLOCKED) || !inode.holds(head) {
            return;
        }
        self.unmap_file_folio(inode, head, false);
        let nr = 1i32 << folio.order();
        if phys.mapcount(head) > 0 || folio.refs() != 1 + nr {
            return;
        }
        if !folio.has(PG_DIRTY) {
            return inode.remove(head);
        }
        if inode.kind() == FileKind::Block || self.system().settings.swap_slots == 0 {
            return;
        }
        // A huge folio goes out page by page; the kernel keeps its slots together, which shows nowhere.
        if nr > 1 {
            let mut tails = Vec::new();
            if !inode.split_folio(head, Some(&mut tails)) {
                return;
            }
            tails.into_iter().rev().for_each(|t| list.push_front(t));
        }
        if let Some(slot) = self.system().swap_store(head) {
            folio.clear(PG_DIRTY);
            inode.replace_by_slot(head, slot);
        }
    }

    /// `split_huge_page` of a huge page-cache folio that the caller locked and holds one reference on; `kept`, any page
    /// of it, has both afterwards.
    pub(crate) fn split_file_folio(&self, inode: &Arc<Inode>, kept: Pfn) -> bool {
        let phys = self.phys();
        let head = phys.head(kept);
        let folio = phys.page(head);
        if !inode.holds(head) || phys.mapcount(head) != folio.refs() - (1 << folio.order()) - 1 {
            return false;
        }
        self.unmap_file_folio(inode, head, true);
        phys.mapcount(head) == 0 && inode.split_folio(kept, None)
    }

    /// `try_to_unmap` of a page-cache folio that the caller locked. Address spaces that are busy keep their mappings.
    pub(crate) fn unmap_file_folio(&self, inode: &Arc<Inode>, head: Pfn, ignore_mlock: bool) {
        let (phys, folio) = (self.phys(), self.phys().page(head));
        let range = folio.index()..folio.index() + (1 << folio.order());
        self.file_walk(inode, range, &mut |mm, vma, part| {
            if vma.has(VmFlags::LOCKED) && !ignore_mlock {
                return true;
            }
            let details = ZapDetails { even_cows: false, drop_markers: false };
            mm.notifier.during(&Event::new(EventKind::Clear, part), || {
                mm.zap_page_range_details(vma, part, details);
            });
            phys.mapcount(head) > 0
        });
    }
}

/// What madvise may age or reclaim: pages that are on an LRU list.
fn is_on_lru(folio: &Page) -> bool {
    matches!(folio.kind(), PageKind::Anon | PageKind::File)
}

fn inode_of(vma: &Vma) -> Option<&Arc<Inode>> {
    if let Backing::File(file) = &vma.backing { Some(file.inode()) } else { None }
}

impl Mm {
    /// `try_to_unmap_one` for one VMA: every mapping in `part` becomes a swap entry, or nothing if the folio may be
    /// dropped. False ends the walk over the VMAs.
    fn try_to_unmap_one(&self, head: Pfn, vma: &Vma, part: PageRange, ignore_mlock: bool) -> bool {
        let (phys, system) = (self.phys(), self.system());
        let folio = phys.page(head);
        let last = head.add(1 << folio.order());
        let mlocked = vma.has(VmFlags::LOCKED) && !ignore_mlock;
        let go_on = Cell::new(true);
        self.notifier.during(&Event::new(EventKind::Clear, part), || {
            self.for_each_entry(
                part,
                &mut |pmd, e, _| {
                    if e.is_huge() && e.pfn() == head {
                        if mlocked {
                            go_on.set(false);
                        } else {
                            self.split_huge_pmd_locked(vma, pmd, e, false);
                        }
                    }
                },
                &mut |table, i, _| {
                    let e = table.ptep_get(i);
                    if !go_on.get() || !e.is_present() || e.is_special() || e.pfn() < head || e.pfn() >= last
                    {
                        return;
                    }
                    if mlocked {
                        return go_on.set(false);
                    }
                    let pfn = e.pfn();
                    let exclusive = phys.page(pfn).is_anon_exclusive();
                    let old = table.replace(i, Entry::NONE);
                    if old.is_dirty() {
                        folio.set(PG_DIRTY);
                    }
                    if folio.has(PG_LAZYFREE) {
                        if folio.has(PG_DIRTY) || folio.refs() != 1 + phys.mapcount(head) {
                            // Written to since: no longer to be dropped.
                            table.set(i, old);
                            folio.clear(PG_LAZYFREE);
                            return go_on.set(false);
                        }
                    } else {
                        let slot = system.slot_of(pfn);
                        system.swap_duplicate(slot);
                        phys.clear_anon_exclusive(pfn);
                        table.set(i, swapped_entry(slot, old, exclusive));
                    }
                    phys.remove_rmap_pte(pfn);
                    phys.put(head, 1);
                },
            );
        });
        go_on.get()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
