//! Swap: slots, the swap cache, and the fault that brings a page back.
//!
//! Models `do_swap_page` (mm/memory.c), the swap map and `folio_free_swap` / `free_swap_and_cache_nr`
//! (mm/swapfile.c), the swap cache (mm/swap_state.c), 6.12, over one device that reads and writes synchronously
//! (SWP_SYNCHRONOUS_IO: a RAM disk), page-cluster 0.
//!
//! A slot has a count of the entries that name it, and perhaps a folio in the swap cache, which holds one reference
//! on it for each of its slots. The folio's `private` is its first slot + 1. Contents live in the slot, outside the
//! machine's frames, as on a disk; a page of zeros costs nothing (the zeromap). Left out: per-cpu slot caches, several
//! devices, swapoff, writeback that takes time, the mapping of a whole large folio from the swap cache at once.

use crate::addr::{PAGES_PER_PMD, PMD_ORDER, PTRS_PER_TABLE, Pfn};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::{Count, Counters};
use crate::memory::PageKind;
use crate::memory::page::{PG_DIRTY, PG_HWPOISON, PG_LOCKED, PG_MLOCKED, PG_SWAPCACHE};
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::file::Inode;
use crate::mm::system::System;
use crate::mm::vma::VmFlags;
use crate::sync::Mutex;

type Contents = Option<Box<[u64; PTRS_PER_TABLE]>>;

#[derive(Debug, Default)]
struct SlotState {
    /// Entries that name it (`swap_map`), the page cache's of shared memory included.
    count: u32,
    /// SWAP_HAS_CACHE: kept although perhaps nothing names it.
    has_cache: bool,
    /// The page in the swap cache; none with `has_cache` while a fault reads the slot without the cache.
    cached: Option<Pfn>,
    contents: Contents,
}

impl SlotState {
    /// Named by one entry, with a page full of `word`.
    fn named_once(word: u64) -> SlotState {
        let contents = (word != 0).then(|| Box::new([word; PTRS_PER_TABLE]));
        SlotState { count: 1, contents, ..SlotState::default() }
    }
    fn is_free(&self) -> bool {
        self.count == 0 && !self.has_cache
    }
}

/// 512 slots in a row: what a huge page needs.
#[derive(Debug, Default)]
struct Cluster {
    /// Empty while all its slots are free.
    slots: Vec<SlotState>,
    used: u32,
    /// Where to look for a free slot first.
    hint: usize,
    /// An entry for it stands in `partial`.
    listed: bool,
}

#[derive(Debug, Default)]
struct Map {
    clusters: Vec<Cluster>,
    free: Vec<u32>,
    partial: Vec<u32>,
}

/// The swap device.
#[derive(Debug)]
pub struct SwapArea {
    nr_slots: u64,
    map: Mutex<Map>,
}

/// What a fault finds in a slot.
enum Found {
    /// A page of the swap cache, with a reference taken.
    Cached(Pfn),
    /// Contents to read; the slot is claimed. True: nobody else names it, the cache can be left out.
    Claimed(bool),
    /// Somebody else is reading it.
    Busy,
    /// Nothing: the entry is gone.
    Gone,
}

impl Map {
    fn slot(&mut self, slot: u64) -> &mut SlotState {
        &mut self.clusters[(slot / PAGES_PER_PMD) as usize].slots[(slot % PAGES_PER_PMD) as usize]
    }
    fn get(&self, slot: u64) -> Option<&SlotState> {
        let cluster = self.clusters.get((slot / PAGES_PER_PMD) as usize)?;
        cluster.slots.get((slot % PAGES_PER_PMD) as usize)
    }
    /// Takes a wholly free cluster into use.
    fn take_cluster(&mut self, nr_slots: u64) -> Option<u32> {
        let c = match self.free.pop() {
            Some(c) => c,
            None if (self.clusters.len() as u64) < nr_slots.div_ceil(PAGES_PER_PMD) => {
                self.clusters.push(Cluster::default());
                self.clusters.len() as u32 - 1
            }
            None => return None,
        };
        let last = (nr_slots - c as u64 * PAGES_PER_PMD).min(PAGES_PER_PMD);
        let cluster = &mut self.clusters[c as usize];
        cluster.slots.resize_with(last as usize, SlotState::default);
        cluster.hint = 0;
        if c == 0 {
            // The header page of the device.
            cluster.slots[0].has_cache = true;
            cluster.used = 1;
        }
        Some(c)
    }
    fn list(&mut self, c: u32) {
        let cluster = &mut self.clusters[c as usize];
        if !core::mem::replace(&mut cluster.listed, true) {
            self.partial.push(c);
        }
    }
    fn alloc_one(&mut self, nr_slots: u64) -> Option<u64> {
        loop {
            let c = match self.partial.last() {
                Some(&c) => c,
                None => {
                    let c = self.take_cluster(nr_slots)?;
                    self.list(c);
                    c
                }
            };
            let cluster = &mut self.clusters[c as usize];
            let (before, after) = cluster.slots.split_at(cluster.hint.min(cluster.slots.len()));
            let at = after.iter().position(SlotState::is_free).map(|i| i + before.len());
            let Some(i) = at.or_else(|| before.iter().position(SlotState::is_free)) else {
                // Full, or freed as a whole since it was listed.
                cluster.listed = false;
                self.partial.pop();
                continue;
            };
            cluster.hint = i + 1;
            cluster.used += 1;
            cluster.slots[i].has_cache = true;
            return Some(c as u64 * PAGES_PER_PMD + i as u64);
        }
    }
    fn alloc_cluster(&mut self, nr_slots: u64) -> Option<u64> {
        // The first cluster holds the header and the last may be short.
        let c = loop {
            let c = self.take_cluster(nr_slots)?;
            let cluster = &self.clusters[c as usize];
            if cluster.used == 0 && cluster.slots.len() == PTRS_PER_TABLE {
                break c;
            }
            self.list(c);
        };
        let cluster = &mut self.clusters[c as usize];
        cluster.used = PTRS_PER_TABLE as u32;
        cluster.slots.iter_mut().for_each(|s| s.has_cache = true);
        Some(c as u64 * PAGES_PER_PMD)
    }
    /// After a count or the cache mark went: the slot is free for others once it has neither.
    fn settle(&mut self, slot: u64) {
        let state = self.slot(slot);
        if !state.is_free() {
            return;
        }
        state.contents = None;
        let c = (slot / PAGES_PER_PMD) as u32;
        let cluster = &mut self.clusters[c as usize];
        cluster.used -= 1;
        if cluster.used == 0 {
            cluster.slots = Vec::new();
            // Listed or not, it is found again from here; a stale listing finds no slots and drops out.
            self.free.push(c);
        } else {
            self.list(c);
        }
    }
}

impl SwapArea {
    /// A device with this many slots, the first of which is its header.
    pub fn new(slots: u64) -> SwapArea {
        SwapArea { nr_slots: slots, map: Mutex::new(Map::default()) }
    }
    /// Slots in use, the header aside.
    pub fn nr_used(&self) -> u64 {
        let map = self.map.lock();
        let header = u64::from(map.clusters.first().is_some_and(|c| !c.slots.is_empty()));
        map.clusters.iter().map(|c| u64::from(c.used)).sum::<u64>() - header
    }
    /// `nr` slots in a row that were never used, each named once and holding a page of `word`s: for builders, which write
    /// the entries that name them. None where the device is too small.
    pub fn alloc_extent(&self, nr: u64, word: u64) -> Option<u64> {
        let mut map = self.map.lock();
        // The first cluster holds the header.
        let first = map.clusters.len().max(1) as u64 * PAGES_PER_PMD;
        if first.checked_add(nr)? > self.nr_slots {
            return None;
        }
        if map.clusters.is_empty() {
            let c = map.take_cluster(self.nr_slots)?;
            map.list(c);
        }
        for done in (0..nr).step_by(PTRS_PER_TABLE) {
            let c = map.clusters.len() as u32;
            let used = (nr - done).min(PAGES_PER_PMD) as usize;
            let all = (self.nr_slots - u64::from(c) * PAGES_PER_PMD).min(PAGES_PER_PMD) as usize;
            let slot = |i| if i < used { SlotState::named_once(word) } else { SlotState::default() };
            let slots = (0..all).map(slot).collect();
            map.clusters.push(Cluster { slots, used: used as u32, hint: used, listed: false });
            if used < all {
                map.list(c);
            }
        }
        Some(first)
    }
    /// Names a slot of [`SwapArea::alloc_extent`] again, once, with the contents it had. False if it is in use.
    pub fn retake(&self, slot: u64, word: u64) -> bool {
        let mut map = self.map.lock();
        let c = (slot / PAGES_PER_PMD) as usize;
        if map.clusters[c].slots.is_empty() {
            let Some(at) = map.free.iter().position(|f| *f as usize == c) else { return false };
            map.free.swap_remove(at);
            let all = (self.nr_slots - c as u64 * PAGES_PER_PMD).min(PAGES_PER_PMD) as usize;
            map.clusters[c].slots.resize_with(all, SlotState::default);
            map.clusters[c].hint = 0;
        }
        if !map.slot(slot).is_free() {
            return false;
        }
        *map.slot(slot) = SlotState::named_once(word);
        map.clusters[c].used += 1;
        map.list(c as u32);
        true
    }
    /// `folio_alloc_swap`: slots in a row for a folio of order 0 or 9, each marked SWAP_HAS_CACHE.
    fn alloc(&self, order: u8) -> Option<u64> {
        let mut map = self.map.lock();
        match order {
            0 => map.alloc_one(self.nr_slots),
            PMD_ORDER => map.alloc_cluster(self.nr_slots),
            _ => None,
        }
    }
}

impl System {
    /// `add_to_swap`: slots and the swap cache for a locked anonymous folio. False when the device is full or absent.
    pub(crate) fn add_to_swap(&self, head: Pfn) -> bool {
        let page = self.phys.page(head);
        let order = page.order();
        let Some(first) = self.swap.alloc(order) else { return false };
        let mut map = self.swap.map.lock();
        for i in 0..1 << order {
            map.slot(first + i).cached = Some(head.add(i));
        }
        page.get(1 << order);
        page.set_private(first + 1);
        page.set(PG_SWAPCACHE | PG_DIRTY);
        true
    }
    /// The slot that stands for page `pfn` of a folio in the swap cache (`page_swap_entry`).
    pub(crate) fn slot_of(&self, pfn: Pfn) -> u64 {
        let head = self.phys.head(pfn);
        self.phys.page(head).private() - 1 + (pfn.get() - head.get())
    }
    /// A split gave page `pfn` of a folio in the swap cache a struct page of its own.
    pub(crate) fn split_swap_cache(&self, pfn: Pfn, slot: u64) {
        self.phys.page(pfn).set_private(slot + 1);
    }
    /// Writes the folio out and takes it out of the swap cache, if the cache and the caller are all that refer to it
    /// (`pageout`, `__remove_mapping`). Then it has no reference left, and the caller frees it.
    pub(crate) fn swap_out(&self, head: Pfn) -> bool {
        let page = self.phys.page(head);
        let (first, nr) = (page.private() - 1, 1u64 << page.order());
        let mut map = self.swap.map.lock();
        if !page.freeze(1 + nr as i32) {
            return false;
        }
        for i in 0..nr {
            let contents = self.phys.save_page(head.add(i));
            let slot = map.slot(first + i);
            slot.contents = contents;
            slot.cached = None;
            slot.has_cache = false;
            map.settle(first + i);
        }
        page.clear(PG_SWAPCACHE | PG_DIRTY);
        page.set_private(0);
        true
    }
    /// Takes the locked folio out of the swap cache and frees its slots if no entry names them (`folio_free_swap`).
    pub(crate) fn free_swap(&self, head: Pfn) -> bool {
        let page = self.phys.page(head);
        if !page.has(PG_SWAPCACHE) {
            return false;
        }
        let (first, nr) = (page.private() - 1, 1u64 << page.order());
        let mut map = self.swap.map.lock();
        if (first..first + nr).any(|s| map.slot(s).count > 0) {
            return false;
        }
        for s in first..first + nr {
            let slot = map.slot(s);
            slot.cached = None;
            slot.has_cache = false;
            map.settle(s);
        }
        page.clear(PG_SWAPCACHE);
        page.set_private(0);
        page.set(PG_DIRTY);
        drop(map);
        // Never the last ones: the caller holds one.
        self.phys.put(head, nr as i32);
        true
    }
    /// `delete_from_swap_cache` of a locked, clean folio: entries that name its slots find the contents there.
    pub(crate) fn delete_from_swap_cache(&self, head: Pfn) {
        let page = self.phys.page(head);
        let (first, nr) = (page.private() - 1, 1u64 << page.order());
        let mut map = self.swap.map.lock();
        for s in first..first + nr {
            let slot = map.slot(s);
            slot.cached = None;
            slot.has_cache = false;
            map.settle(s);
        }
        page.clear(PG_SWAPCACHE);
        page.set_private(0);
        drop(map);
        // Never the last ones: the caller holds one.
        self.phys.put(head, nr as i32);
    }
    /// `free_swap_cache`: as [`System::free_swap`] for a folio that the caller has not locked, if nobody maps it. Whoever
    /// takes the last mapping or the last name away calls it, with a reference held, and so does
    /// [`System::unlock_folio`] for those who found the folio locked. Hence no folio stays in the swap cache alone; in the
    /// kernel such leftovers wait on the LRU list for reclaim.
    pub(crate) fn free_swap_cache(&self, pfn: Pfn) {
        let head = self.phys.head(pfn);
        let page = self.phys.page(head);
        while page.has(PG_SWAPCACHE)
            && self.phys.mapcount(head) == 0
            && !self.is_swap_named(head)
            && page.try_lock()
        {
            self.free_swap(head);
            // Another of its slots may have lost its last name meanwhile: look again.
            page.unlock();
        }
    }
    /// Whether an entry names a slot of the folio, or it has none.
    fn is_swap_named(&self, head: Pfn) -> bool {
        let page = self.phys.page(head);
        let mut map = self.swap.map.lock();
        // Both the flag and the slot change under the map's lock only.
        !page.has(PG_SWAPCACHE) || {
            let first = page.private() - 1;
            (first..first + (1 << page.order())).any(|s| map.slot(s).count > 0)
        }
    }
    /// `folio_unlock` of a folio that may be in the swap cache, with a reference held: what became the cache's alone
    /// while it was locked leaves it.
    pub(crate) fn unlock_folio(&self, head: Pfn) {
        self.phys.page(head).unlock();
        self.free_swap_cache(head);
    }
    /// A mapping of `pfn` by one PTE is gone, and with the last one the swap cache's claim
    /// (`free_folio_and_swap_cache`).
    pub(crate) fn unmap_pte(&self, pfn: Pfn) {
        self.phys.remove_rmap_pte(pfn);
        self.free_swap_cache(pfn);
        self.phys.put_folio(pfn, 1);
    }
    /// As [`System::unmap_pte`] for a huge leaf.
    pub(crate) fn unmap_huge(&self, head: Pfn) {
        self.phys.remove_rmap_huge(head);
        self.free_swap_cache(head);
        self.phys.put(head, 1);
    }
    /// Keeps lookups out of the swap cache while a folio in it has no references to take.
    pub(crate) fn lock_swap_cache(&self) -> impl Sized {
        self.swap.map.lock()
    }
    /// An entry that named this slot is gone (`free_swap_and_cache_nr`): what only the swap cache keeps goes with it.
    pub(crate) fn swap_free_entry(&self, slot: u64) {
        if let Some(cached) = self.swap_free(slot) {
            self.free_swap_cache(cached);
            self.phys.put_folio(cached, 1);
        }
    }
    /// `swap_free_nr` of one slot. Returns the cached page, with a reference, if the cache is all that keeps the slot.
    fn swap_free(&self, slot: u64) -> Option<Pfn> {
        let mut map = self.swap.map.lock();
        let state = map.slot(slot);
        debug_assert!(state.count > 0, "slot {slot:#x} freed more often than named");
        state.count -= 1;
        let cached = state.cached.filter(|_| state.count == 0);
        if let Some(pfn) = cached {
            // Under the map's lock: the cache's own reference keeps the folio.
            self.phys.page(self.phys.head(pfn)).get(1);
        }
        map.settle(slot);
        cached
    }
    /// One more entry names this slot.
    pub(crate) fn swap_duplicate(&self, slot: u64) {
        self.swap.map.lock().slot(slot).count += 1;
    }
    /// Entries that name this slot.
    pub fn swap_count(&self, slot: u64) -> u32 {
        self.swap.map.lock().get(slot).map_or(0, |s| s.count)
    }

    /// Shared memory leaves its page cache: the contents of `pfn` go to a slot that is named once, by the file. None
    /// without swap space.
    pub fn swap_store(&self, pfn: Pfn) -> Option<u64> {
        let slot = self.swap.alloc(0)?;
        let contents = self.phys.save_page(pfn);
        let mut map = self.swap.map.lock();
        let state = map.slot(slot);
        state.contents = contents;
        state.count = 1;
        state.has_cache = false;
        Some(slot)
    }
    /// `shmem_swapin_folio`: the page of shared memory in `slot`, its folio locked, with a reference, in the cache of
    /// `inode` again ([`Inode::replace_slot`]). None if the slot is not there any more.
    pub(crate) fn shmem_swap_in(&self, inode: &Inode, index: u64, slot: u64) -> Result<Option<Pfn>, VmFault> {
        let pfn = self.phys.alloc(PageKind::File, 0).map_err(|_| VmFault::OOM)?;
        let page = self.phys.page(pfn);
        page.set(PG_LOCKED);
        if !inode.replace_slot(index, slot, pfn) {
            self.phys.put(pfn, 1);
            return Ok(None);
        }
        // The slot is ours alone now, and nobody looks at a locked page.
        let mut map = self.swap.map.lock();
        self.phys.load_page(pfn, map.slot(slot).contents.as_deref());
        map.slot(slot).count -= 1;
        map.settle(slot);
        page.set(PG_DIRTY);
        Ok(Some(pfn))
    }

    fn find_swapped(&self, slot: u64) -> Found {
        let mut map = self.swap.map.lock();
        if map.get(slot).is_none_or(|s| s.count == 0) {
            return Found::Gone;
        }
        let state = map.slot(slot);
        if let Some(pfn) = state.cached {
            self.phys.page(self.phys.head(pfn)).get(1);
            return Found::Cached(pfn);
        }
        if state.has_cache {
            return Found::Busy;
        }
        state.has_cache = true;
        Found::Claimed(state.count == 1)
    }
    /// Reads a claimed slot into a new locked page; with `cache` it enters the swap cache, which ends the claim.
    fn read_swapped(&self, slot: u64, cache: bool) -> Option<Pfn> {
        let new = self.phys.alloc(PageKind::Anon, 0);
        let mut map = self.swap.map.lock();
        let Ok(pfn) = new else {
            map.slot(slot).has_cache = false;
            map.settle(slot);
            return None;
        };
        let page = self.phys.page(pfn);
        self.phys.load_page(pfn, map.slot(slot).contents.as_deref());
        page.set(PG_LOCKED);
        if cache {
            page.set(PG_SWAPCACHE);
            page.set_private(slot + 1);
            page.get(1);
            map.slot(slot).cached = Some(pfn);
        }
        Some(pfn)
    }
    /// `swapcache_clear`: a read that left the cache out is over.
    fn unclaim_swapped(&self, slot: u64) {
        let mut map = self.swap.map.lock();
        map.slot(slot).has_cache = false;
        map.settle(slot);
    }
    /// `read_swap_cache_async`: the slot's page is in the swap cache afterwards, unless memory is short.
    pub(crate) fn swap_readahead(&self, slot: u64) {
        match self.find_swapped(slot) {
            Found::Cached(pfn) => self.phys.put_folio(pfn, 1),
            Found::Claimed(_) => {
                if let Some(pfn) = self.read_swapped(slot, true) {
                    self.unlock_folio(pfn);
                    self.phys.put(pfn, 1);
                }
            }
            Found::Busy | Found::Gone => {}
        }
    }
}

impl Vmf<'_> {
    /// `do_swap_page` for a real slot.
    pub(crate) fn swap_in<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let system = self.mm().system();
        let slot = orig.swp().offset();
        match system.find_swapped(slot) {
            Found::Cached(pfn) => {
                let page = self.mm().phys().page(self.mm().phys().head(pfn));
                page.lock_folio();
                self.map_swapped(orig, pfn, false, c)
            }
            Found::Claimed(alone) => match system.read_swapped(slot, !alone) {
                Some(pfn) => {
                    let r = self.map_swapped(orig, pfn, alone, c);
                    if alone {
                        system.unclaim_swapped(slot);
                    }
                    r
                }
                None => VmFault::OOM,
            },
            Found::Busy => {
                std::thread::yield_now();
                VmFault::empty()
            }
            Found::Gone => VmFault::empty(),
        }
    }

    /// The second half: `pfn` is locked and referenced; `fresh` if it is not in the swap cache, thus certainly ours.
    fn map_swapped<C: Counters>(&self, orig: Entry, pfn: Pfn, fresh: bool, c: &mut C) -> VmFault {
        let (phys, system) = (self.mm().phys(), self.mm().system());
        let slot = orig.swp().offset();
        let head = phys.head(pfn);
        let folio = phys.page(head);
        let give_up = || {
            system.unlock_folio(head);
            phys.put(head, 1);
            VmFault::empty()
        };
        // Did the cache let go of it, or does it stand for another slot by now?
        if !fresh && (!folio.has(PG_SWAPCACHE) || system.slot_of(pfn) != slot) {
            return give_up();
        }
        // It failed while it was in the swap cache, dirty: it stays there for whoever touches it.
        if phys.page(pfn).has(PG_HWPOISON) {
            give_up();
            return VmFault::HWPOISON;
        }
        let Some((table, guard)) = self.mm().lock_pte_table(self.pmd) else { return give_up() };
        let i = self.pte_index();
        if table.ptep_get(i) != orig {
            drop(guard);
            return give_up();
        }
        if let Some(cached) = system.swap_free(slot) {
            phys.put_folio(cached, 1);
        }
        let locked = self.vma.has(VmFlags::LOCKED) || folio.has(PG_MLOCKED);
        let maybe_ours = self.is_write() && folio.refs() == 1 + (1 << folio.order());
        if folio.has(PG_SWAPCACHE) && (locked || maybe_ours) {
            system.free_swap(head);
        }
        let mut e = Entry::leaf(pfn, self.vma.page_prot());
        if orig.is_swp_soft_dirty() {
            e = e.mksoft_dirty();
        }
        if orig.is_swp_uffd_wp() {
            e = e.mkuffd_wp();
        }
        let mut write = self.is_write();
        if fresh || orig.is_swp_exclusive() || folio.refs() == 1 {
            let wp = e.is_uffd_wp() && self.vma.has(VmFlags::UFFD_WP);
            let tracked = !self.vma.has(VmFlags::SOFTDIRTY) && !e.is_soft_dirty();
            if self.vma.has(VmFlags::WRITE) && !wp && !tracked {
                e = e.mkwrite();
                if write {
                    e = e.mkdirty();
                    write = false;
                }
            }
            phys.set_anon_exclusive(pfn);
        } else {
            phys.clear_anon_exclusive(pfn);
        }
        // The reference taken above becomes the mapping's.
        phys.page(pfn).add_pte_mappings(1);
        if folio.order() > 0 {
            folio.add_large_mappings(1);
        } else {
            folio.set_index(self.vma.index_of(self.addr));
        }
        table.set(i, e);
        folio.unlock();
        c.add(Count::FaultsSwapIn, 1);
        if write {
            return self.do_wp_page(table, guard, e, c) & (VmFault::ERROR | VmFault::RETRY);
        }
        VmFault::empty()
    }
}

/// The entry that names a slot, as `try_to_unmap_one` leaves it behind for `old`.
pub(crate) fn swapped_entry(slot: u64, old: Entry, exclusive: bool) -> Entry {
    SwpEntry::new(SwpType::Swap, slot)
        .entry()
        .with_swp_exclusive(exclusive)
        .with_swp_soft_dirty(old.is_soft_dirty())
        .with_swp_uffd_wp(old.is_uffd_wp())
}
