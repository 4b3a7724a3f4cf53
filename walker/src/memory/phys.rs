//! Physical memory: a direct map and a struct-page array over reserved address space.
//!
//! A frame number is arithmetic: contents at `direct_map + pfn * 4096`, struct page at `pages + pfn * 64`. The host
//! gives memory at the first touch, so frames that nothing reads or writes (data pages of a shape that is only walked)
//! cost nothing. Freed frames keep the host's memory, as a kernel's do.
//!
//! The contents of frames are read and written with the string instructions the kernel uses (`clear_page_erms`,
//! `copy_page`), in inline assembly: a CPU store from another thread may race with them as it does on the machine,
//! which plain Rust copies may not.

use crate::addr::{PAGE_SHIFT, PAGES_PER_PMD, PAGES_PER_PUD, PMD_ORDER, PTRS_PER_TABLE, PUD_ORDER, Pfn};
use crate::memory::frames::{Frames, Migrate, OutOfFrames};
use crate::memory::page::{PG_HWPOISON, PG_SWAPCACHE};
use crate::memory::{Page, PageKind, Table, rcu};
use crate::sync::{AtomicU8, AtomicU64, Ordering::*};
use std::sync::Arc;

/// What a machine's memory is made of.
#[derive(Clone, Copy, Debug)]
pub struct PhysConfig {
    /// Frames that exist, 4 KiB each. Only address space until they are touched.
    pub nr_frames: u64,
    /// Ask the host for huge pages under the direct map and the struct pages, as a kernel's own direct map has.
    pub host_huge_pages: bool,
}

impl Default for PhysConfig {
    /// 2 TiB of frames, enough for 1 TiB of mappings and their tables.
    fn default() -> Self {
        PhysConfig { nr_frames: 1 << 29, host_huge_pages: true }
    }
}

/// Why the address space could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysError {
    /// `mmap` refused `bytes` of unreserved address space (errno `errno`); expected vm.overcommit_memory 0 or 1 and no
    /// RLIMIT_AS below that.
    Reserve {
        /// Bytes asked for.
        bytes: u64,
        /// errno of mmap.
        errno: i32,
    },
    /// Fewer frames than one block beyond the reserved first.
    TooSmall {
        /// Frames asked for.
        nr_frames: u64,
    },
}

impl core::fmt::Display for PhysError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            PhysError::Reserve { bytes, errno } => write!(
                f,
                "cannot reserve {bytes:#x} bytes of address space (errno {errno}); expected vm.overcommit_memory 0 or 1 \
                 and no limit on address space (ulimit -v)"
            ),
            PhysError::TooSmall { nr_frames } => {
                write!(f, "{nr_frames} page frames are too few: expected at least {}", 2 * PAGES_PER_PMD)
            }
        }
    }
}
impl core::error::Error for PhysError {}

/// The memory of one machine. Shared by every address space on it.
#[derive(Debug)]
pub struct Phys {
    storage: Storage,
    frames: Frames,
    nr_frames: u64,
}

impl core::fmt::Debug for Frames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Frames")
    }
}

impl Phys {
    /// Reserves address space for the frames and their struct pages.
    ///
    /// # Errors
    /// [`PhysError`] when the host refuses or the machine would be too small to be one.
    pub fn new(config: PhysConfig) -> Result<Arc<Phys>, PhysError> {
        if config.nr_frames < 2 * PAGES_PER_PMD {
            return Err(PhysError::TooSmall { nr_frames: config.nr_frames });
        }
        let storage = Storage::new(config)?;
        Ok(Arc::new(Phys { storage, frames: Frames::new(config.nr_frames), nr_frames: config.nr_frames }))
    }

    /// The struct page of a frame.
    ///
    /// # Panics
    /// If there is no such frame.
    #[inline(always)]
    pub fn page(&self, pfn: Pfn) -> &Page {
        assert!(pfn.get() < self.nr_frames, "no struct page for {pfn:?}");
        self.storage.page(pfn)
    }
    /// The frame seen as a page table.
    ///
    /// # Panics
    /// If there is no such frame.
    #[inline(always)]
    pub fn table(&self, pfn: Pfn) -> Table<'_> {
        assert!(pfn.get() < self.nr_frames, "no table at {pfn:?}");
        Table::new(pfn, self.storage.entries(pfn), self.storage.page(pfn))
    }

    /// A folio of `order` 0 to 9 or 18 with one reference and no mapping. Contents are stale; see [`Phys::zero`].
    ///
    /// # Errors
    /// [`OutOfFrames`].
    #[inline]
    pub fn alloc(&self, kind: PageKind, order: u8) -> Result<Pfn, OutOfFrames> {
        let pfn = match order {
            0 => self.frames.alloc_base(Migrate::Movable),
            PMD_ORDER => self.frames.alloc_block(),
            PUD_ORDER => self.frames.alloc_run(PTRS_PER_TABLE as u64, PTRS_PER_TABLE as u64),
            // The allocator has no orders in between: the start of a block, whose rest is free.
            1..PMD_ORDER => self.alloc_extent(1 << order).ok(),
            _ => panic!("frames come in orders 0 to {PMD_ORDER} and {PUD_ORDER}, not {order}"),
        }
        .ok_or(OutOfFrames)?;
        self.compose(pfn, kind, order);
        Ok(pfn)
    }
    /// Frees a folio that has no reference left, given its head.
    #[inline]
    pub fn free(&self, head: Pfn) {
        let order = self.page(head).order();
        debug_assert!(!self.page(head).has(PG_SWAPCACHE), "{head:?} freed out of the swap cache");
        for i in 0..1u64 << order {
            self.page(head.add(i)).reset();
        }
        match order {
            0 => self.frames.free_base(head, Migrate::Movable),
            PMD_ORDER => self.frames.free_block(head),
            PUD_ORDER => self.frames.free_giga(head),
            _ => (0..1 << order).for_each(|i| self.frames.free_base(head.add(i), Migrate::Movable)),
        }
    }
    /// Frees a large folio that has no reference left but for `poisoned`, a page of it that is never used again
    /// (`take_page_off_buddy`): a folio of its own now, with one reference that nobody gives back.
    pub fn free_around(&self, head: Pfn, poisoned: Pfn) {
        let order = self.page(head).order();
        for pfn in (0..1u64 << order).map(|i| head.add(i)) {
            if pfn == poisoned {
                self.page(pfn).prepare(PageKind::Anon, 0, PG_HWPOISON);
            } else {
                self.page(pfn).reset();
                self.frames.free_base(pfn, Migrate::Movable);
            }
        }
    }
    /// Drops `n` references of the folio headed by `head`; frees it with the last.
    #[inline]
    pub fn put(&self, head: Pfn, n: i32) {
        if self.page(head).put(n) {
            self.free(head);
        }
    }
    /// The head of the folio that `pfn` is part of.
    #[inline]
    pub fn head(&self, pfn: Pfn) -> Pfn {
        Pfn::new(pfn.get() - self.page(pfn).tail_distance())
    }
    /// The frames of an order-9 folio will be freed one by one (after a folio split).
    pub fn cut(&self, head: Pfn) {
        self.frames.cut(head);
    }
    /// `nr` frames in a row, 2 MiB aligned, whose struct pages stay all zero: anonymous pages mapped once. For builders
    /// that map each of them exactly once.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn alloc_extent(&self, nr: u64) -> Result<Pfn, OutOfFrames> {
        let align = if nr >= PAGES_PER_PUD { PTRS_PER_TABLE as u64 } else { 1 };
        let blocks = nr.div_ceil(PAGES_PER_PMD);
        let first = self.frames.alloc_run(blocks, align).ok_or(OutOfFrames)?;
        // What the last block has too much is free, its struct pages untouched.
        (nr..blocks * PAGES_PER_PMD).for_each(|i| self.frames.free_base(first.add(i), Migrate::Movable));
        Ok(first)
    }
    /// Makes `1 << order` frames of an extent one folio, aligned to its order, with one reference and no mapping: what
    /// [`Phys::alloc`] would have given.
    pub fn compose(&self, head: Pfn, kind: PageKind, order: u8) {
        debug_assert_eq!(head, head.align_down(order));
        self.page(head).prepare(kind, order, 0);
        for i in 1..1u64 << order {
            self.page(head.add(i)).prepare_tail(kind, i as u32, 0);
        }
    }
    /// An empty page table.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn alloc_table(&self) -> Result<Table<'_>, OutOfFrames> {
        let pfn = self.frames.alloc_base(Migrate::Unmovable).ok_or(OutOfFrames)?;
        self.page(pfn).prepare(PageKind::Table, 0, 0);
        self.storage.clear_table(pfn);
        Ok(self.table(pfn))
    }
    /// Frees a table that no walk can reach any more (never linked, or the mm is gone).
    pub fn free_table(&self, pfn: Pfn) {
        self.page(pfn).reset();
        self.frames.free_base(pfn, Migrate::Unmovable);
    }
    /// Frees a detached table after a grace period (`pte_free_defer`).
    pub fn free_table_rcu(self: &Arc<Self>, pfn: Pfn) {
        let phys = Arc::clone(self);
        rcu::defer(move || phys.free_table(pfn));
    }

    /// Zeroes `1 << order` frames (`clear_huge_page`, `clear_page_erms`).
    #[inline]
    pub fn zero(&self, pfn: Pfn, order: u8) {
        assert!(pfn.get() + (1 << order) <= self.nr_frames);
        self.storage.zero(pfn, 1 << order);
    }
    /// Copies `1 << order` frames (`copy_page`).
    #[inline]
    pub fn copy(&self, to: Pfn, from: Pfn, order: u8) {
        assert!(to.get().max(from.get()) + (1 << order) <= self.nr_frames);
        self.storage.copy(to, from, 1 << order);
    }
    /// Whether the frame holds only zero bytes (`pages_identical` against the zero page).
    pub fn is_zeroed(&self, pfn: Pfn) -> bool {
        assert!(pfn.get() < self.nr_frames);
        self.storage.is_zeroed(pfn)
    }
    /// A processor's one-byte load at `offset` in the frame.
    #[inline]
    pub fn load_byte(&self, pfn: Pfn, offset: usize) -> u8 {
        assert!(pfn.get() < self.nr_frames && offset < 1 << PAGE_SHIFT);
        self.storage.byte(pfn, offset).load(Relaxed)
    }
    /// A processor's one-byte store at `offset` in the frame.
    #[inline]
    pub fn store_byte(&self, pfn: Pfn, offset: usize, value: u8) {
        assert!(pfn.get() < self.nr_frames && offset < 1 << PAGE_SHIFT);
        self.storage.byte(pfn, offset).store(value, Relaxed);
    }
    /// The contents of the frame word by word, none if they are all zero.
    pub fn save_page(&self, pfn: Pfn) -> Option<Box<[u64; PTRS_PER_TABLE]>> {
        assert!(pfn.get() < self.nr_frames);
        if self.storage.is_zeroed(pfn) {
            return None;
        }
        let from = self.storage.entries(pfn);
        Some(Box::new(core::array::from_fn(|i| from[i].load(Relaxed))))
    }
    /// Fills the frame with saved contents, none meaning zeros.
    pub fn load_page(&self, pfn: Pfn, contents: Option<&[u64; PTRS_PER_TABLE]>) {
        assert!(pfn.get() < self.nr_frames);
        match contents {
            None => self.storage.zero(pfn, 1),
            Some(words) => {
                for (to, word) in self.storage.entries(pfn).iter().zip(words) {
                    to.store(*word, Relaxed);
                }
            }
        }
    }
    /// Frames that exist.
    pub fn nr_frames(&self) -> u64 {
        self.nr_frames
    }
    /// Frames in use (tables and data, mapped or cached).
    pub fn nr_used(&self) -> u64 {
        self.frames.nr_used()
    }
    /// Frames below which everything that was ever handed out lies.
    pub fn high_water(&self) -> u64 {
        self.frames.high_water()
    }
}

#[cfg(not(loom))]
#[allow(unsafe_code)] // the floor: raw memory becomes frames, struct pages and tables here
mod storage {
    use super::*;

    /// Two reservations of address space, released on drop.
    #[derive(Debug)]
    pub(super) struct Storage {
        direct_map: *mut u8,
        pages: *mut Page,
        nr_frames: u64,
    }

    // SAFETY: the memory behind both pointers is reached only through atomics and racing-tolerant assembly.
    unsafe impl Send for Storage {}
    // SAFETY: as above; no method hands out a reference to non-atomic memory.
    unsafe impl Sync for Storage {}

    impl Storage {
        pub(super) fn new(config: PhysConfig) -> Result<Storage, PhysError> {
            let nr_frames = config.nr_frames;
            let direct_map = reserve(nr_frames << PAGE_SHIFT, config.host_huge_pages)?;
            let pages = match reserve(nr_frames * size_of::<Page>() as u64, config.host_huge_pages) {
                Ok(p) => p.cast(),
                Err(e) => {
                    release(direct_map, nr_frames << PAGE_SHIFT);
                    return Err(e);
                }
            };
            Ok(Storage { direct_map, pages, nr_frames })
        }
        #[inline(always)]
        pub(super) fn page(&self, pfn: Pfn) -> &Page {
            debug_assert!(pfn.get() < self.nr_frames);
            // SAFETY: in bounds: the array has nr_frames elements and the caller checked.
            let page = unsafe { self.pages.add(pfn.get() as usize) };
            // SAFETY: mapped and aligned, zero-filled by mmap, and all-zero bytes are a valid Page: atomics and a
            // one-byte parking_lot mutex whose unlocked state is 0 (tested below). Only shared references exist.
            unsafe { &*page }
        }
        #[inline(always)]
        pub(super) fn entries(&self, pfn: Pfn) -> &[AtomicU64; PTRS_PER_TABLE] {
            // SAFETY: in bounds (the caller checked), aligned to 4096; any bits are valid atomics; frames are otherwise
            // only accessed by atomics and inline assembly.
            unsafe { &*self.frame(pfn).cast() }
        }
        #[inline(always)]
        pub(super) fn byte(&self, pfn: Pfn, offset: usize) -> &AtomicU8 {
            // SAFETY: `offset` is inside the frame (the caller checked).
            let byte = unsafe { self.frame(pfn).add(offset) };
            // SAFETY: mapped; any byte is a valid atomic; see `entries`.
            unsafe { &*byte.cast() }
        }
        #[inline(always)]
        fn frame(&self, pfn: Pfn) -> *mut u8 {
            // SAFETY: the direct map has nr_frames << PAGE_SHIFT bytes and callers check the frame number.
            unsafe { self.direct_map.add((pfn.get() << PAGE_SHIFT) as usize) }
        }
        #[inline]
        pub(super) fn zero(&self, pfn: Pfn, nr: u64) {
            let at = self.frame(pfn);
            let words = nr << (PAGE_SHIFT - 3);
            // SAFETY: in bounds (the caller checked). In assembly, so that a racing byte store of a CPU is the
            // machine's business and not a Rust data race. Direction flag is clear by the ABI.
            unsafe {
                core::arch::asm!("rep stosq", inout("rcx") words => _, inout("rdi") at => _, in("rax") 0u64,
                    options(nostack, preserves_flags));
            }
        }
        #[inline]
        pub(super) fn copy(&self, to: Pfn, from: Pfn, nr: u64) {
            let (to, from, words) = (self.frame(to), self.frame(from), nr << (PAGE_SHIFT - 3));
            // SAFETY: as `zero`; the frames differ, so the copy direction does not matter.
            unsafe {
                core::arch::asm!("rep movsq", inout("rcx") words => _, inout("rdi") to => _, inout("rsi") from => _,
                    options(nostack, preserves_flags));
            }
        }
        pub(super) fn is_zeroed(&self, pfn: Pfn) -> bool {
            self.entries(pfn).iter().all(|w| w.load(Relaxed) == 0)
        }
        pub(super) fn clear_table(&self, pfn: Pfn) {
            self.zero(pfn, 1);
        }
    }

    impl Drop for Storage {
        fn drop(&mut self) {
            release(self.direct_map, self.nr_frames << PAGE_SHIFT);
            release(self.pages.cast(), self.nr_frames * size_of::<Page>() as u64);
        }
    }

    fn reserve(bytes: u64, huge: bool) -> Result<*mut u8, PhysError> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let p = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(PhysError::Reserve { bytes, errno });
        }
        // Advice may be refused (no THP in the host): the model works the same, only host TLB misses differ.
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the range was mapped just above.
        unsafe { libc::madvise(p, bytes as usize, advice) };
        Ok(p.cast())
    }

    fn release(p: *mut u8, bytes: u64) {
        // SAFETY: exactly one of the reservations, and nothing refers to it any more.
        let r = unsafe { libc::munmap(p.cast(), bytes as usize) };
        debug_assert_eq!(r, 0);
    }

    #[cfg(test)]
    mod tests {
        #[test]
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        fn an_unlocked_table_lock_is_a_zero_byte() {
            let m = crate::sync::Mutex::new(());
            // SAFETY: the mutex is one initialised byte (const-asserted in page.rs).
            assert_eq!(unsafe { *(&raw const m).cast::<u8>() }, 0);
        }
    }
}

#[cfg(loom)]
mod storage {
    use super::*;

    struct Frame {
        page: Page,
        entries: [AtomicU64; PTRS_PER_TABLE],
        byte: AtomicU8,
    }

    /// A handful of frames made of loom's atomics.
    pub(super) struct Storage(Vec<Frame>);

    impl core::fmt::Debug for Storage {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("Storage")
        }
    }

    impl Storage {
        pub(super) fn new(config: PhysConfig) -> Result<Storage, PhysError> {
            let frame = |_| Frame {
                page: Page::new(),
                entries: core::array::from_fn(|_| AtomicU64::new(0)),
                byte: AtomicU8::new(0),
            };
            Ok(Storage((0..config.nr_frames).map(frame).collect()))
        }
        pub(super) fn page(&self, pfn: Pfn) -> &Page {
            &self.0[pfn.get() as usize].page
        }
        pub(super) fn entries(&self, pfn: Pfn) -> &[AtomicU64; PTRS_PER_TABLE] {
            &self.0[pfn.get() as usize].entries
        }
        pub(super) fn byte(&self, pfn: Pfn, _offset: usize) -> &AtomicU8 {
            &self.0[pfn.get() as usize].byte
        }
        pub(super) fn zero(&self, _pfn: Pfn, _nr: u64) {}
        pub(super) fn copy(&self, _to: Pfn, _from: Pfn, _nr: u64) {}
        pub(super) fn is_zeroed(&self, _pfn: Pfn) -> bool {
            false
        }
        pub(super) fn clear_table(&self, pfn: Pfn) {
            self.entries(pfn).iter().for_each(|e| e.store(0, Relaxed));
        }
    }
}

use storage::Storage;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_terabyte_of_frames_costs_nothing_until_touched() {
        let phys = Phys::new(PhysConfig::default()).unwrap();
        let a = phys.alloc_extent(1 << 28).unwrap();
        assert_eq!(a.get() % PAGES_PER_PUD, 0);
        assert!(phys.page(a.add((1 << 28) - 1)).is_anon_exclusive());
        assert_eq!((phys.page(a).refs(), phys.page(a).pte_mappings()), (1, 1));
    }

    #[test]
    fn zero_and_copy_do_what_they_say() {
        let phys = Phys::new(PhysConfig { nr_frames: 4096, host_huge_pages: false }).unwrap();
        let a = phys.alloc(PageKind::Anon, 0).unwrap();
        let b = phys.alloc(PageKind::Anon, 0).unwrap();
        phys.zero(a, 0);
        assert!(phys.is_zeroed(a));
        phys.store_byte(a, 4095, 7);
        phys.copy(b, a, 0);
        assert_eq!(phys.load_byte(b, 4095), 7);
        assert!(!phys.is_zeroed(b));
    }

    #[test]
    fn a_machine_without_room_for_a_block_is_refused() {
        assert!(matches!(
            Phys::new(PhysConfig { nr_frames: 512, host_huge_pages: false }),
            Err(PhysError::TooSmall { .. })
        ));
    }

    #[test]
    fn huge_folios_know_their_head() {
        let phys = Phys::new(PhysConfig { nr_frames: 8192, host_huge_pages: false }).unwrap();
        let h = phys.alloc(PageKind::Anon, PMD_ORDER).unwrap();
        assert_eq!(phys.head(h.add(511)), h);
        assert_eq!(phys.page(h).order(), 9);
        phys.put(h, 1);
        assert_eq!(phys.nr_used(), 0);
    }
}
