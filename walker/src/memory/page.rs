//! `struct page`: 64 bytes per frame, all fields atomic.
//!
//! **The all-zero state is meaningful**: an order-0 anonymous page with one reference and one PTE mapping, exclusive to
//! its mm. So the builder can map frames from a fresh (zero) struct-page array without touching it, and a terabyte of
//! 4 KiB mappings costs its page tables and nothing else. Counters are therefore stored as the distance from that
//! state, and the flag for PG_anon_exclusive is stored inverted.
//!
//! | field            | holds (zero means)                                                        |
//! |------------------|---------------------------------------------------------------------------|
//! | `flags`          | kind in bits 0..4 (anonymous), then the PG_* bits below (none)             |
//! | `refcount`       | references - 1 (one)                                                      |
//! | `mapcount`       | mappings of this base page by PTEs - 1 (one), `_mapcount`                 |
//! | `entire`         | on a head: mappings of the whole folio by one leaf (none)                 |
//! | `large_mapcount` | on a head of order > 0: all mappings of any part (none)                   |
//! | `compound`       | 0 order-0 page; bit 31 clear: order of this head; set: distance to the head |
//! | `owner`          | anonymous: anon_vma family; device: owner; file: file id (none)           |
//! | `index`          | linear page offset in its VMA or file                                     |
//! | `private`        | swap slot + 1 while in the swap cache; live entries of a table            |
//! | `ptl`            | the split page-table lock of a frame that is a table                      |

use crate::addr::Pfn;
use crate::sync::{AtomicI32, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering::*, yield_now};

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Anonymous memory.
    Anon = 0,
    /// Page cache of a file, shared memory included.
    File = 1,
    /// The 4 KiB zero page.
    Zero = 2,
    /// Part of the huge zero page.
    HugeZero = 3,
    /// A page table.
    Table = 4,
    /// Device-private memory (MEMORY_DEVICE_PRIVATE); `owner` is its pgmap owner.
    DevicePrivate = 5,
    /// A page that a driver inserted (vm_insert_page).
    Driver = 6,
    /// A hugetlb page, anonymous or of a hugetlbfs file.
    Hugetlb = 7,
}

const KIND_MASK: u64 = 0xf;
/// Not PG_anon_exclusive: a write must copy unless the page proves to be ours alone.
pub const PG_NOT_EXCLUSIVE: u64 = 1 << 4;
/// PG_locked.
pub const PG_LOCKED: u64 = 1 << 5;
/// PG_swapcache; `private` holds the slot.
pub const PG_SWAPCACHE: u64 = 1 << 6;
/// PG_dirty.
pub const PG_DIRTY: u64 = 1 << 7;
/// PG_hwpoison.
pub const PG_HWPOISON: u64 = 1 << 8;
/// Not PG_swapbacked: MADV_FREE marked the page, reclaim may drop it while it stays clean.
pub const PG_LAZYFREE: u64 = 1 << 9;
/// PG_referenced.
pub const PG_REFERENCED: u64 = 1 << 10;
/// PG_mlocked.
pub const PG_MLOCKED: u64 = 1 << 11;
/// Partly unmapped large folio queued for a split.
pub const PG_PARTIALLY_MAPPED: u64 = 1 << 12;
/// A page of a hugetlb file or other page cache although its kind says hugetlb.
pub const PG_CACHED: u64 = 1 << 13;
/// hugetlb: HPageRestoreReserve, the page consumed a reservation that freeing gives back.
pub const PG_RESTORE_RESERVE: u64 = 1 << 14;

/// PG_waiters: somebody waits for the folio lock.
pub const PG_WAITERS: u64 = 1 << 16;
/// PG_readahead: the readahead mark, the next window is to be read when a fault meets this page.
pub const PG_READAHEAD: u64 = 1 << 15;

const TAIL: u32 = 1 << 31;

/// One struct page. See the module for what each field holds and what zero means.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Page {
    flags: AtomicU64,
    refcount: AtomicI32,
    mapcount: AtomicI32,
    entire: AtomicI32,
    large_mapcount: AtomicI32,
    compound: AtomicU32,
    ptl: Mutex<()>,
    owner: AtomicU64,
    index: AtomicU64,
    private: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Page>() == 64 && size_of::<Mutex<()>>() == 1);

impl Page {
    #[cfg(loom)]
    pub(crate) fn new() -> Page {
        Page {
            flags: AtomicU64::new(0),
            refcount: AtomicI32::new(0),
            mapcount: AtomicI32::new(0),
            entire: AtomicI32::new(0),
            large_mapcount: AtomicI32::new(0),
            compound: AtomicU32::new(0),
            ptl: Mutex::new(()),
            owner: AtomicU64::new(0),
            index: AtomicU64::new(0),
            private: AtomicU64::new(0),
        }
    }

    /// Makes this the head of a folio of `order`, one reference, no mapping (`prep_new_page`).
    ///
    /// Relaxed throughout: the frame is not published yet, the entry store that publishes it is the release.
    #[inline]
    pub fn prepare(&self, kind: PageKind, order: u8, flags: u64) {
        self.flags.store(kind as u64 | flags, Relaxed);
        self.refcount.store(0, Relaxed);
        self.mapcount.store(-1, Relaxed);
        self.entire.store(0, Relaxed);
        self.large_mapcount.store(0, Relaxed);
        self.compound.store(order as u32, Relaxed);
        self.owner.store(0, Relaxed);
        self.index.store(0, Relaxed);
        self.private.store(0, Relaxed);
    }
    /// Makes this a tail page, `distance` frames behind its head, unmapped (`prep_compound_tail`).
    #[inline]
    pub fn prepare_tail(&self, kind: PageKind, distance: u32, flags: u64) {
        self.prepare(kind, 0, flags);
        self.compound.store(TAIL | distance, Relaxed);
    }
    /// Back to the all-zero state that a free frame has.
    #[inline]
    pub fn reset(&self) {
        self.flags.store(0, Relaxed);
        self.refcount.store(0, Relaxed);
        self.mapcount.store(0, Relaxed);
        self.entire.store(0, Relaxed);
        self.large_mapcount.store(0, Relaxed);
        self.compound.store(0, Relaxed);
        self.owner.store(0, Relaxed);
        self.index.store(0, Relaxed);
        self.private.store(0, Relaxed);
    }

    /// What the frame is used for.
    #[inline]
    pub fn kind(&self) -> PageKind {
        match self.flags.load(Relaxed) & KIND_MASK {
            0 => PageKind::Anon,
            1 => PageKind::File,
            2 => PageKind::Zero,
            3 => PageKind::HugeZero,
            4 => PageKind::Table,
            5 => PageKind::DevicePrivate,
            6 => PageKind::Driver,
            _ => PageKind::Hugetlb,
        }
    }
    /// Whether all of `bits` (PG_*) are set.
    #[inline]
    pub fn has(&self, bits: u64) -> bool {
        self.flags.load(Relaxed) & bits == bits
    }
    /// Sets `bits`.
    #[inline]
    pub fn set(&self, bits: u64) {
        self.flags.fetch_or(bits, Relaxed);
    }
    /// Sets `bit`; whether it was set before (`TestSetPageHWPoison`).
    pub fn test_set(&self, bit: u64) -> bool {
        self.flags.fetch_or(bit, Relaxed) & bit != 0
    }
    /// Clears `bits`.
    #[inline]
    pub fn clear(&self, bits: u64) {
        self.flags.fetch_and(!bits, Relaxed);
    }
    /// PG_anon_exclusive of this base page.
    #[inline]
    pub fn is_anon_exclusive(&self) -> bool {
        self.flags.load(Relaxed) & (KIND_MASK | PG_NOT_EXCLUSIVE) == 0
            || self.flags.load(Relaxed) & (KIND_MASK | PG_NOT_EXCLUSIVE) == PageKind::Hugetlb as u64
            || self.flags.load(Relaxed) & (KIND_MASK | PG_NOT_EXCLUSIVE) == PageKind::DevicePrivate as u64
    }
    /// `folio_trylock`.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire pairs with the release of `unlock`. Release: what somebody did before it found the lock taken is seen
        // by the holder after its unlock, which then finishes it (`System::unlock_folio`).
        self.flags.fetch_or(PG_LOCKED, AcqRel) & PG_LOCKED == 0
    }
    /// `folio_lock`: spins, then yields; holders never sleep for long in the model.
    pub fn lock_folio(&self) {
        let backoff = crossbeam_utils::Backoff::new();
        while !self.try_lock() {
            if backoff.is_completed() || cfg!(loom) { yield_now() } else { backoff.snooze() }
        }
    }
    /// `folio_unlock`.
    #[inline]
    pub fn unlock(&self) {
        self.flags.fetch_and(!(PG_LOCKED | PG_WAITERS), AcqRel);
    }
    /// PG_locked.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.flags.load(Acquire) & PG_LOCKED != 0
    }

    /// References (`folio_ref_count`).
    #[inline]
    pub fn refs(&self) -> i32 {
        self.refcount.load(Acquire) + 1
    }
    /// Takes `n` references.
    #[inline]
    pub fn get(&self, n: i32) {
        self.refcount.fetch_add(n, Relaxed);
    }
    /// Takes a reference unless there is none left (`folio_try_get`).
    pub fn try_get(&self) -> bool {
        let mut r = self.refcount.load(Relaxed);
        while r >= 0 {
            match self.refcount.compare_exchange_weak(r, r + 1, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => r = now,
            }
        }
        false
    }
    /// Gives `n` references back; true when none is left and the caller must free the folio.
    #[inline]
    #[must_use]
    pub fn put(&self, n: i32) -> bool {
        // AcqRel: the freer must see every use that other holders made before their put.
        let was = self.refcount.fetch_sub(n, AcqRel) + 1;
        debug_assert!(was >= n, "refcount underflow: {was} - {n}");
        was == n
    }
    /// `folio_ref_freeze`: from `expect` references to none, or nothing at all.
    pub fn freeze(&self, expect: i32) -> bool {
        self.refcount.compare_exchange(expect - 1, -1, AcqRel, Relaxed).is_ok()
    }
    /// Undoes [`Page::freeze`] with `n` references.
    pub fn unfreeze(&self, n: i32) {
        self.refcount.store(n - 1, Release);
    }

    /// Mappings of this base page by PTEs.
    #[inline]
    pub fn pte_mappings(&self) -> i32 {
        self.mapcount.load(Relaxed) + 1
    }
    /// Adds `n` PTE mappings (negative to remove); returns how many there are now.
    #[inline]
    pub fn add_pte_mappings(&self, n: i32) -> i32 {
        self.mapcount.fetch_add(n, Relaxed) + 1 + n
    }
    /// Overwrites the PTE mappings of a page that is not published.
    #[inline]
    pub fn set_pte_mappings(&self, n: i32) {
        self.mapcount.store(n - 1, Relaxed);
    }
    /// Mappings of the whole folio by single leaves (`folio_entire_mapcount`).
    #[inline]
    pub fn entire_mappings(&self) -> i32 {
        self.entire.load(Relaxed)
    }
    /// Adds `n` whole-folio mappings; returns how many there are now.
    #[inline]
    pub fn add_entire_mappings(&self, n: i32) -> i32 {
        self.entire.fetch_add(n, Relaxed) + n
    }
    /// All mappings of any part of a large folio (`_large_mapcount`), on its head.
    #[inline]
    pub fn large_mappings(&self) -> i32 {
        self.large_mapcount.load(Relaxed)
    }
    /// Adds to [`Page::large_mappings`]; returns the new count.
    #[inline]
    pub fn add_large_mappings(&self, n: i32) -> i32 {
        self.large_mapcount.fetch_add(n, Relaxed) + n
    }

    /// Order of the folio that this page heads; 0 for tails and small pages.
    #[inline]
    pub fn order(&self) -> u8 {
        let c = self.compound.load(Relaxed);
        if c & TAIL != 0 { 0 } else { c as u8 }
    }
    /// Frames between this page and the head of its folio.
    #[inline]
    pub fn tail_distance(&self) -> u64 {
        let c = self.compound.load(Relaxed);
        if c & TAIL != 0 { (c & !TAIL) as u64 } else { 0 }
    }
    /// The page becomes the head of an order-0 folio (split).
    #[inline]
    pub fn set_order(&self, order: u8) {
        self.compound.store(order as u32, Relaxed);
    }

    /// The owner word: anon_vma family, device owner or file id.
    #[inline]
    pub fn owner(&self) -> u64 {
        self.owner.load(Relaxed)
    }
    /// Sets the owner word.
    #[inline]
    pub fn set_owner(&self, owner: u64) {
        self.owner.store(owner, Relaxed);
    }
    /// Linear page offset in the VMA or file that maps it.
    #[inline]
    pub fn index(&self) -> u64 {
        self.index.load(Relaxed)
    }
    /// Sets the linear page offset.
    #[inline]
    pub fn set_index(&self, index: u64) {
        self.index.store(index, Relaxed);
    }
    /// The private word.
    #[inline]
    pub fn private(&self) -> u64 {
        self.private.load(Relaxed)
    }
    /// Sets the private word.
    #[inline]
    pub fn set_private(&self, v: u64) {
        self.private.store(v, Relaxed);
    }
    /// Takes the lock of the table that this frame is (`spin_lock(ptl)`).
    #[inline]
    pub fn lock_table(&self) -> MutexGuard<'_, ()> {
        self.ptl.lock()
    }
}

/// The head frame of the folio that `pfn` belongs to, given its struct page.
#[inline]
pub fn head_of(pfn: Pfn, page: &Page) -> Pfn {
    Pfn::new(pfn.get() - page.tail_distance())
}
