//! Interval notifiers: how a mirror learns that the tables under it change.
//!
//! Models mm/mmu_notifier.c (6.12): `mmu_interval_read_begin`, `mn_itree_invalidate`, `mn_itree_inv_end`,
//! `mmu_interval_notifier_insert` / `_remove`, and the single-pass `invalidate` callback.
//!
//! Protocol. The per-mm sequence starts at 2. While at least one event that overlaps a subscription is running it is
//! odd, and every subscription hit by an event has stored that odd value under the driver's lock. When the *last*
//! running event of the mm ends, the sequence turns even, deferred tree changes are applied, and readers wake. A
//! reader takes `seq = read_begin()`, walks, takes the driver's lock and asks `read_retry(seq)`; false means that no
//! callback ran for it in between, so what it read may be installed under that lock: any event that has not called
//! back yet will, after the lock is dropped, and tear it down again before the tables change.
//!
//! The tree changes only while the sequence is even. It is an immutable snapshot behind an `Arc`, so the callback
//! loop runs without the lock, as the kernel's does, and allocates nothing.

use crate::addr::{Level, PMD_ORDER, PageRange, VirtAddr};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering::*};
use std::sync::Arc;

/// Why the tables change: MMU_NOTIFY_* of include/linux/mmu_notifier.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// munmap, mremap of the old range.
    Unmap,
    /// Entries go away or change frame.
    Clear,
    /// Rights of a whole VMA part change (mprotect, NUMA scan).
    ProtectionVma,
    /// Rights of pages change (fork).
    ProtectionPage,
    /// Soft-dirty bits are cleared.
    SoftDirty,
    /// The address space goes away.
    Release,
    /// migrate_vma to or from a device.
    Migrate,
    /// A device takes pages exclusively.
    Exclusive,
}

/// One invalidation: `struct mmu_notifier_range`.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What changes.
    pub range: PageRange,
    /// Why.
    pub kind: EventKind,
    /// Who does it, for [`EventKind::Migrate`] and [`EventKind::Exclusive`]; 0 otherwise.
    pub owner: u64,
    /// Whether callbacks may sleep (MMU_NOTIFIER_RANGE_BLOCKABLE).
    pub blockable: bool,
}

impl Event {
    /// A blockable event without an owner.
    pub fn new(kind: EventKind, range: PageRange) -> Event {
        Event { range, kind, owner: 0, blockable: true }
    }
}

/// A callback refused to sleep in an event that must not: -EAGAIN. The event is over; do not end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldBlock;

/// The driver's side of a subscription (`struct mmu_interval_notifier_ops`).
pub trait Invalidate: Send + Sync {
    /// Takes the driver's lock, calls [`Subscription::set_seq`] with `cur_seq`, tears down what the event covers.
    /// Returns false, having done nothing, only if it would have to sleep and the event is not blockable.
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool;
}

/// One interval that a driver watches (`struct mmu_interval_notifier`).
pub struct Subscription {
    range: PageRange,
    /// Odd once set. Written under the driver's lock (or the subscription lock at insert).
    invalidate_seq: AtomicU64,
    /// The same for each 2 MiB slice that the range touches, if it was asked for: no kernel has it. What one interval for
    /// each slice would know, without a tree entry and a callback for each. Written and read as the sequence of the whole.
    slices: Box<[AtomicU64]>,
    ops: Arc<dyn Invalidate>,
}

impl core::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Subscription({:?}, seq {})", self.range, self.invalidate_seq.load(Relaxed))
    }
}

impl Subscription {
    /// The watched range.
    pub fn range(&self) -> PageRange {
        self.range
    }
    /// `mmu_interval_set_seq`: from inside the callback, under the driver's lock.
    #[inline]
    pub fn set_seq(&self, cur_seq: u64) {
        // Relaxed as in the kernel (WRITE_ONCE): readers that matter hold the driver's lock.
        self.invalidate_seq.store(cur_seq, Relaxed);
    }
    /// [`Subscription::set_seq`] that also says which part of the range is hit, for [`Subscription::slice_seq`].
    #[inline]
    pub fn set_seq_of(&self, part: PageRange, cur_seq: u64) {
        self.set_seq(cur_seq);
        let part = part.clip(self.range);
        if !part.is_empty() && !self.slices.is_empty() {
            let last = self.slice_of(part.start().add_pages(part.nr_pages() - 1));
            self.slices[self.slice_of(part.start())..=last].iter().for_each(|s| s.store(cur_seq, Relaxed));
        }
    }
    /// The sequence that the last event over the 2 MiB slice of `addr` has stored. What was read there after a sequence
    /// `seq` of the mm was taken ([`Subscriptions::read_begin_slices`]) may be installed, under the driver's lock, if
    /// this is below `seq`: every event over the slice whose callback has run had ended before. If it equals an odd
    /// `seq`, such an event was running then, or began in the same odd phase. Without slices, the whole is one.
    #[inline]
    pub fn slice_seq(&self, addr: VirtAddr) -> u64 {
        self.slices.get(self.slice_of(addr)).unwrap_or(&self.invalidate_seq).load(Relaxed)
    }
    fn slice_of(&self, addr: VirtAddr) -> usize {
        (addr.pages_since(self.range.start().align_down(Level::Pmd)) >> PMD_ORDER) as usize
    }
    /// `mmu_interval_check_retry`: unlocked early-out of the walk; may miss a callback that has not run yet.
    #[inline]
    pub fn check_retry(&self, seq: u64) -> bool {
        self.invalidate_seq.load(Relaxed) != seq
    }
    /// `mmu_interval_read_retry`: under the driver's lock; true means that the walk's result must be thrown away.
    #[inline]
    pub fn read_retry(&self, seq: u64) -> bool {
        self.invalidate_seq.load(Relaxed) != seq
    }
}

/// Subscriptions sorted by start; `longest` bounds how far before an event an overlapping one may start.
#[derive(Clone, Default)]
struct Tree {
    subs: Vec<Arc<Subscription>>,
    longest_pages: u64,
}

impl Tree {
    fn overlapping(&self, range: PageRange) -> impl Iterator<Item = &Arc<Subscription>> {
        let earliest = range.start().get().saturating_sub(self.longest_pages << crate::addr::PAGE_SHIFT);
        let from = self.subs.partition_point(|s| s.range.start().get() < earliest);
        self.subs[from..]
            .iter()
            .take_while(move |s| s.range.start() < range.end())
            .filter(move |s| s.range.overlaps(range))
    }
    fn insert(&mut self, sub: Arc<Subscription>) {
        let at = self.subs.partition_point(|s| s.range.start() <= sub.range.start());
        self.longest_pages = self.longest_pages.max(sub.range.nr_pages());
        self.subs.insert(at, sub);
    }
    fn remove(&mut self, sub: &Arc<Subscription>) {
        self.subs.retain(|s| !Arc::ptr_eq(s, sub));
    }
}

enum Deferred {
    Insert(Arc<Subscription>),
    Remove(Arc<Subscription>),
}

struct State {
    invalidate_seq: u64,
    active_invalidate_ranges: u64,
    tree: Arc<Tree>,
    deferred: Vec<Deferred>,
}

impl State {
    fn is_invalidating(&self) -> bool {
        self.invalidate_seq & 1 == 1
    }
}

/// All subscriptions of one mm (`struct mmu_notifier_subscriptions`).
pub struct Subscriptions {
    state: Mutex<State>,
    /// Readers asleep in `read_begin` and removers waiting for the odd phase to end.
    wq: Condvar,
}

impl core::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Subscriptions(seq {})", self.state.lock().invalidate_seq)
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Subscriptions {
            state: Mutex::new(State {
                invalidate_seq: 2,
                active_invalidate_ranges: 0,
                tree: Arc::new(Tree::default()),
                deferred: Vec::new(),
            }),
            wq: Condvar::new(),
        }
    }
}

impl Subscriptions {
    /// `mmu_interval_notifier_insert`. In the odd phase the tree change waits for its end; with events running that
    /// hit nobody so far, the insert itself turns the phase odd, and the first `read_begin` sleeps until they end.
    pub fn insert(&self, range: PageRange, ops: Arc<dyn Invalidate>) -> Arc<Subscription> {
        self.insert_with(range, ops, 0)
    }

    /// [`Subscriptions::insert`] with a sequence for each 2 MiB slice.
    pub fn insert_sliced(&self, range: PageRange, ops: Arc<dyn Invalidate>) -> Arc<Subscription> {
        let first = range.start().align_down(Level::Pmd);
        self.insert_with(range, ops, range.end().pages_since(first).div_ceil(1 << PMD_ORDER))
    }

    fn insert_with(&self, range: PageRange, ops: Arc<dyn Invalidate>, nr_slices: u64) -> Arc<Subscription> {
        let mut state = self.state.lock();
        let seq = if state.active_invalidate_ranges > 0 {
            state.invalidate_seq | 1
        } else {
            state.invalidate_seq - 1
        };
        let slices = (0..nr_slices).map(|_| AtomicU64::new(seq)).collect();
        let sub = Arc::new(Subscription { range, invalidate_seq: AtomicU64::new(seq), slices, ops });
        if state.active_invalidate_ranges > 0 && state.is_invalidating() {
            state.deferred.push(Deferred::Insert(Arc::clone(&sub)));
        } else {
            state.invalidate_seq = state.invalidate_seq.max(seq);
            Arc::make_mut(&mut state.tree).insert(Arc::clone(&sub));
        }
        sub
    }

    /// `mmu_interval_notifier_remove`: returns when no callback of `sub` runs or will run. Must not be called from a
    /// callback.
    pub fn remove(&self, sub: &Arc<Subscription>) {
        let mut state = self.state.lock();
        if !state.is_invalidating() {
            Arc::make_mut(&mut state.tree).remove(sub);
            return;
        }
        let seq = state.invalidate_seq;
        let pending =
            state.deferred.iter().position(|d| matches!(d, Deferred::Insert(s) if Arc::ptr_eq(s, sub)));
        if let Some(i) = pending {
            // Never in the tree, so no callback of it can run: nothing to wait for.
            state.deferred.swap_remove(i);
            return;
        }
        state.deferred.push(Deferred::Remove(Arc::clone(sub)));
        while state.invalidate_seq == seq {
            self.wq.wait(&mut state);
        }
    }

    /// `mmu_notifier_invalidate_range_start`: call before the first entry in the event's range changes.
    ///
    /// The kernel skips all of this while `mm_has_notifiers` is false, and stops the world to register the first one;
    /// the model counts every event instead, so that a first subscription may come at any moment.
    ///
    /// # Errors
    /// [`WouldBlock`] when a callback of a non-blockable event refused; the event is over then, do not end it.
    pub fn invalidate_start(&self, event: &Event) -> Result<(), WouldBlock> {
        let (tree, cur_seq) = {
            let mut state = self.state.lock();
            state.active_invalidate_ranges += 1;
            if state.tree.overlapping(event.range).next().is_none() {
                return Ok(());
            }
            state.invalidate_seq |= 1;
            (Arc::clone(&state.tree), state.invalidate_seq)
        };
        for sub in tree.overlapping(event.range) {
            if !sub.ops.invalidate(sub, event, cur_seq) {
                debug_assert!(!event.blockable, "a callback may only refuse a non-blockable event");
                self.invalidate_end();
                return Err(WouldBlock);
            }
        }
        Ok(())
    }

    /// `mmu_notifier_invalidate_range_end`: call after the last entry has changed.
    pub fn invalidate_end(&self) {
        let mut state = self.state.lock();
        state.active_invalidate_ranges -= 1;
        if state.active_invalidate_ranges > 0 || !state.is_invalidating() {
            return;
        }
        state.invalidate_seq += 1;
        let deferred = core::mem::take(&mut state.deferred);
        if !deferred.is_empty() {
            let tree = Arc::make_mut(&mut state.tree);
            for d in deferred {
                match d {
                    Deferred::Insert(s) => tree.insert(s),
                    Deferred::Remove(s) => tree.remove(&s),
                }
            }
        }
        drop(state);
        self.wq.notify_all();
    }

    /// Runs `change` between the start and the end of `event`.
    ///
    /// # Errors
    /// [`WouldBlock`] if a callback refused; `change` has not run then.
    #[inline]
    pub fn try_during<R>(&self, event: &Event, change: impl FnOnce() -> R) -> Result<R, WouldBlock> {
        self.invalidate_start(event)?;
        let r = change();
        self.invalidate_end();
        Ok(r)
    }

    /// As [`Subscriptions::try_during`], for blockable events, which no callback may refuse.
    #[inline]
    pub fn during<R>(&self, event: &Event, change: impl FnOnce() -> R) -> R {
        debug_assert!(event.blockable);
        match self.try_during(event, change) {
            Ok(r) => r,
            Err(WouldBlock) => unreachable!("a callback refused a blockable event"),
        }
    }

    /// `mmu_interval_read_begin`: the sequence to walk under. Sleeps while an event that hit this subscription is
    /// running; the value may be stale already when it returns, then the walk or `read_retry` finds out.
    #[inline]
    pub fn read_begin(&self, sub: &Subscription) -> u64 {
        let mut state = self.state.lock();
        let seq = sub.invalidate_seq.load(Relaxed);
        while state.invalidate_seq == seq {
            self.wq.wait(&mut state);
        }
        seq
    }

    /// The sequence of the mm to walk slices under ([`Subscription::slice_seq`]). Sleeps until `may_begin` likes one: the
    /// caller does not if an event is running over everything that it wants to walk. Like `read_begin`, which looks at
    /// the whole interval, one round of the lock.
    #[inline]
    pub fn read_begin_slices(&self, mut may_begin: impl FnMut(u64) -> bool) -> u64 {
        let mut state = self.state.lock();
        while !may_begin(state.invalidate_seq) {
            self.wq.wait(&mut state);
        }
        state.invalidate_seq
    }

    /// Whether an event that hit this subscription is running: what [`Subscriptions::read_begin`] would sleep for. For
    /// those who may not sleep.
    pub fn is_invalidating(&self, sub: &Subscription) -> bool {
        self.state.lock().invalidate_seq == sub.invalidate_seq.load(Relaxed)
    }

    /// The sequence and the number of running events, for tests and audits.
    pub fn debug_state(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.invalidate_seq, state.active_invalidate_ranges)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mm::testing::{BASE, Heard};

    #[test]
    fn who_was_never_in_the_tree_is_removed_while_the_event_still_runs() {
        let subs = Arc::new(Subscriptions::default());
        let range = PageRange::pages(BASE, 8);
        let ops = || Arc::new(Heard::default()) as Arc<dyn Invalidate>;
        let first = subs.insert(range, ops());
        subs.invalidate_start(&Event::new(EventKind::Clear, range)).unwrap();
        let deferred = subs.insert(range, ops());
        // If this waited, nobody would be left to end the event.
        subs.remove(&deferred);
        subs.invalidate_end();
        // What the event found in the tree is still there, and alone.
        subs.remove(&first);
        assert_eq!(subs.state.lock().tree.subs.len(), 0);
    }
}
