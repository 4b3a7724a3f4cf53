//! The frame allocator: orders 0, 9 and 18 over 2 MiB blocks, with small per-thread lists in front.
//!
//! Models the page allocator's per-cpu lists, its grouping of page tables apart from movable memory, and the buddy
//! merge of a wholly free block (mm/page_alloc.c: rmqueue_pcplist, free_unref_page, 6.12). Left out: the orders in
//! between, watermarks, reclaim, NUMA zones.
//!
//! A block is free, handed out whole (order 9, or as part of an order 18), or cut into base frames with a bitmap of
//! the free ones. When all its frames are free again it is whole again, so splitting and freeing huge pages for ever
//! does not eat the reserve.

use crate::addr::{PAGES_PER_PMD, PTRS_PER_TABLE, Pfn};
use crate::sync::Mutex;
use crossbeam_utils::CachePadded;

/// No frame left of the order asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl core::fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("out of page frames")
    }
}
impl core::error::Error for OutOfFrames {}

/// What a frame is for: keeps long-lived page tables out of the blocks of movable data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Data pages.
    Movable = 0,
    /// Page tables.
    Unmovable = 1,
}

const THREADS: usize = if cfg!(loom) { 1 } else { 64 };
/// Frames moved between a thread's list and the zone at a time (pcp->batch is 63 on a large machine).
const BATCH: usize = if cfg!(loom) { 1 } else { 32 };
const HIGH: usize = 3 * BATCH;
const WORDS: usize = PTRS_PER_TABLE.div_ceil(64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Wholly free, on the list of free blocks.
    Free,
    /// Handed out as one.
    Whole,
    /// Cut into base frames.
    Cut(Migrate),
}

struct Block {
    free: [u64; WORDS],
    nr_free: u32,
    state: State,
    /// A (perhaps stale) entry for it stands in `partial[m]`.
    listed: [bool; 2],
}

struct Zone {
    blocks: Vec<Block>,
    nr_blocks: u64,
    free_blocks: Vec<u32>,
    free_giga: Vec<u32>,
    partial: [Vec<u32>; 2],
}

/// One list per [`Migrate`] kind (pcp lists).
type ThreadLists = Mutex<[Vec<Pfn>; 2]>;

/// All frames of a machine.
pub(super) struct Frames {
    zone: Mutex<Zone>,
    lists: Box<[CachePadded<ThreadLists>]>,
}

impl Frames {
    /// `nr_frames` frames from number 0, rounded down to whole blocks; the first block is never handed out, so that
    /// no frame is number 0.
    pub(super) fn new(nr_frames: u64) -> Frames {
        let mut zone = Zone {
            blocks: Vec::new(),
            nr_blocks: nr_frames / PAGES_PER_PMD,
            free_blocks: Vec::new(),
            free_giga: Vec::new(),
            partial: [Vec::new(), Vec::new()],
        };
        zone.bump(1);
        let list = || {
            CachePadded::new(Mutex::new([Vec::with_capacity(HIGH + BATCH), Vec::with_capacity(HIGH + BATCH)]))
        };
        Frames { zone: Mutex::new(zone), lists: (0..THREADS).map(|_| list()).collect() }
    }

    /// One base frame. Its struct page is all zero, its contents are whatever the last user left.
    #[inline]
    pub(super) fn alloc_base(&self, m: Migrate) -> Option<Pfn> {
        let mut lists = self.lists[thread_slot()].lock();
        if let Some(pfn) = lists[m as usize].pop() {
            return Some(pfn);
        }
        self.zone.lock().refill(m, &mut lists[m as usize]);
        lists[m as usize].pop()
    }
    /// Gives back a base frame whose struct page has been reset.
    #[inline]
    pub(super) fn free_base(&self, pfn: Pfn, m: Migrate) {
        let mut lists = self.lists[thread_slot()].lock();
        let list = &mut lists[m as usize];
        list.push(pfn);
        if list.len() > HIGH {
            // The coldest go back, the hottest stay.
            let mut zone = self.zone.lock();
            list.drain(..BATCH).for_each(|p| zone.free_base(p));
        }
    }
    /// 512 frames, aligned.
    pub(super) fn alloc_block(&self) -> Option<Pfn> {
        let mut zone = self.zone.lock();
        let b = zone.take_block()?;
        zone.blocks[b as usize].state = State::Whole;
        Some(Pfn::new(b as u64 * PAGES_PER_PMD))
    }
    /// Gives back 512 frames. They may also come back one by one through [`Frames::free_base`] after [`Frames::cut`].
    pub(super) fn free_block(&self, pfn: Pfn) {
        self.zone.lock().free_block((pfn.get() / PAGES_PER_PMD) as u32);
    }
    /// `nr` whole blocks in a row, aligned to `align` blocks.
    pub(super) fn alloc_run(&self, nr: u64, align: u64) -> Option<Pfn> {
        let mut zone = self.zone.lock();
        if nr == PTRS_PER_TABLE as u64
            && align == nr
            && let Some(b) = zone.free_giga.pop()
        {
            return Some(Pfn::new(b as u64 * PAGES_PER_PMD));
        }
        while !(zone.blocks.len() as u64).is_multiple_of(align) {
            let b = zone.bump(1)?;
            zone.blocks[b as usize].state = State::Free;
            zone.free_blocks.push(b);
        }
        let b = zone.bump(nr)?;
        Some(Pfn::new(b as u64 * PAGES_PER_PMD))
    }
    /// Gives back an order-18 run.
    pub(super) fn free_giga(&self, pfn: Pfn) {
        self.zone.lock().free_giga.push((pfn.get() / PAGES_PER_PMD) as u32);
    }
    /// A block that was handed out whole will be given back frame by frame (folio split).
    pub(super) fn cut(&self, pfn: Pfn) {
        let mut zone = self.zone.lock();
        let b = &mut zone.blocks[(pfn.get() / PAGES_PER_PMD) as usize];
        if b.state == State::Whole {
            b.state = State::Cut(Migrate::Movable);
        }
    }
    /// First frame number that was never handed out: what lies below may have been touched.
    pub(super) fn high_water(&self) -> u64 {
        self.zone.lock().blocks.len() as u64 * PAGES_PER_PMD
    }
    /// Frames handed out and not given back, as far as the thread lists allow to say (they count as given out).
    pub(super) fn nr_used(&self) -> u64 {
        let listed: usize = self.lists.iter().map(|l| l.lock().iter().map(Vec::len).sum::<usize>()).sum();
        let zone = self.zone.lock();
        let used: u64 = zone
            .blocks
            .iter()
            .skip(1)
            .map(|b| match b.state {
                State::Free => 0,
                State::Whole => PAGES_PER_PMD,
                State::Cut(_) => PAGES_PER_PMD - b.nr_free as u64,
            })
            .sum();
        used - (zone.free_giga.len() * PTRS_PER_TABLE) as u64 * PAGES_PER_PMD - listed as u64
    }
}

impl Zone {
    /// Takes `nr` blocks that were never used; returns the first. They are handed out whole.
    fn bump(&mut self, nr: u64) -> Option<u32> {
        let first = self.blocks.len() as u64;
        if first + nr > self.nr_blocks {
            return None;
        }
        self.blocks.resize_with((first + nr) as usize, || Block {
            free: [0; WORDS],
            nr_free: 0,
            state: State::Whole,
            listed: [false; 2],
        });
        Some(first as u32)
    }
    fn take_block(&mut self) -> Option<u32> {
        self.free_blocks.pop().or_else(|| self.bump(1))
    }
    fn refill(&mut self, m: Migrate, out: &mut Vec<Pfn>) {
        let mut want = BATCH;
        while want > 0 {
            let Some(&id) = self.partial[m as usize].last() else {
                let Some(id) = self.take_block() else { break };
                let b = &mut self.blocks[id as usize];
                b.state = State::Cut(m);
                b.nr_free = PTRS_PER_TABLE as u32;
                b.free = [if PTRS_PER_TABLE >= 64 { !0 } else { (1 << PTRS_PER_TABLE) - 1 }; WORDS];
                self.list(id, m);
                continue;
            };
            let b = &mut self.blocks[id as usize];
            if b.state != State::Cut(m) || b.nr_free == 0 {
                self.partial[m as usize].pop();
                b.listed[m as usize] = false;
                continue;
            }
            for w in 0..WORDS {
                while want > 0 && b.free[w] != 0 {
                    let bit = b.free[w].trailing_zeros();
                    b.free[w] &= b.free[w] - 1;
                    b.nr_free -= 1;
                    want -= 1;
                    out.push(Pfn::new(id as u64 * PAGES_PER_PMD + w as u64 * 64 + bit as u64));
                }
            }
        }
        // Ascending order of use, as fresh kernel memory comes.
        let n = out.len();
        out[n.saturating_sub(BATCH)..].reverse();
    }
    fn list(&mut self, id: u32, m: Migrate) {
        let b = &mut self.blocks[id as usize];
        if !b.listed[m as usize] {
            b.listed[m as usize] = true;
            self.partial[m as usize].push(id);
        }
    }
    fn free_base(&mut self, pfn: Pfn) {
        let id = (pfn.get() / PAGES_PER_PMD) as u32;
        let bit = (pfn.get() % PAGES_PER_PMD) as usize;
        let b = &mut self.blocks[id as usize];
        if b.state == State::Whole {
            // Frames of a bulk extent come back one by one.
            b.state = State::Cut(Migrate::Movable);
        }
        debug_assert!(b.free[bit / 64] & 1 << (bit % 64) == 0, "double free of {pfn:?}");
        b.free[bit / 64] |= 1 << (bit % 64);
        b.nr_free += 1;
        if b.nr_free as usize == PTRS_PER_TABLE {
            self.free_block(id);
        } else if let State::Cut(m) = b.state {
            self.list(id, m);
        }
    }
    fn free_block(&mut self, id: u32) {
        let b = &mut self.blocks[id as usize];
        debug_assert!(b.state != State::Free, "double free of block {id}");
        b.state = State::Free;
        b.nr_free = 0;
        b.free = [0; WORDS];
        self.free_blocks.push(id);
    }
}

#[cfg(not(loom))]
fn thread_slot() -> usize {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // More threads than slots share one: slower, still right.
    thread_local!(static SLOT: usize = NEXT.fetch_add(1, Relaxed) % THREADS);
    SLOT.with(|s| *s)
}
#[cfg(loom)]
fn thread_slot() -> usize {
    0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn frames_are_never_handed_out_twice_and_blocks_heal() {
        let frames = Frames::new(64 * 512);
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        while let Some(p) = frames.alloc_base(Migrate::Movable) {
            assert!(seen.insert(p), "{p:?} twice");
            all.push(p);
        }
        assert_eq!(all.len(), 63 * 512, "every frame but the first block");
        assert_eq!(frames.nr_used(), 63 * 512);
        assert!(frames.alloc_block().is_none());
        all.into_iter().for_each(|p| frames.free_base(p, Migrate::Movable));
        assert_eq!(frames.nr_used(), 0);
        // All but what the thread list holds back is whole again.
        let mut blocks = 0;
        while frames.alloc_block().is_some() {
            blocks += 1;
        }
        assert!(blocks >= 60, "only {blocks} blocks healed");
    }

    #[test]
    fn tables_and_data_do_not_share_a_block() {
        let frames = Frames::new(64 * 512);
        let (mut data, mut tables) = (HashSet::new(), HashSet::new());
        for _ in 0..1000 {
            data.insert(frames.alloc_base(Migrate::Movable).unwrap().align_down(9));
            tables.insert(frames.alloc_base(Migrate::Unmovable).unwrap().align_down(9));
        }
        assert!(data.is_disjoint(&tables));
    }

    #[test]
    fn threads_share_the_zone_without_losing_a_frame() {
        let frames = Frames::new(256 * 512);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for round in 0..200 {
                        let got: Vec<_> =
                            (0..100).filter_map(|_| frames.alloc_base(Migrate::Movable)).collect();
                        let block = frames.alloc_block();
                        assert_eq!(got.len(), 100, "round {round}");
                        got.into_iter().for_each(|p| frames.free_base(p, Migrate::Movable));
                        block.into_iter().for_each(|p| frames.free_block(p));
                    }
                });
            }
        });
        assert_eq!(frames.nr_used(), 0);
    }

    #[test]
    fn order_18_is_aligned_and_comes_back() {
        let frames = Frames::new(2048 * 512);
        let g = frames.alloc_run(512, 512).unwrap();
        assert_eq!(g.get() % (512 * 512), 0);
        frames.free_giga(g);
        assert_eq!(frames.alloc_run(512, 512), Some(g));
    }
}
