//! The device's side: its page table, the invalidate callback, the canonical loop with its retry policies.
//!
//! Models the loop every driver writes around hmm_range_fault (semantics 3.6): read_begin, walk, take the driver's
//! lock, read_retry, program the device, unlock; on a collision again. The callback stores the sequence and tears down
//! the overlap under the same lock.

use crate::addr::{Level, PAGES_PER_PMD, PageRange};
use crate::backend::{Backend, Programmed};
use crate::counters::{Count, Counters};
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, Invalidate, Subscription};
use crate::request::Request;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering::*};
use std::sync::Arc;

/// What the mirror does after a collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RetryPolicy {
    /// Start over at once, without limit.
    #[default]
    AtOnce,
    /// Start over at once, at most this often, then -EBUSY.
    Attempts(u32),
    /// Let the processor do something else first, longer each time (`crossbeam_utils::Backoff`).
    BackOff,
    /// Start over after so long, as a worker that is queued again (amdgpu's restore worker: 1 ms).
    After {
        /// How long: [`Counters::pause`].
        ns: u64,
    },
    /// Keep what held: the range is walked, validated and consumed in pieces of [`PIECE_PAGES`], and a collision costs
    /// one piece. What is mirrored in the end was right piece by piece, never at one moment as a whole; that is all
    /// that a device needs, since an event tears its pages down at any time.
    Resumed,
    /// From the second attempt on hold the mmap lock for writing, from before read_begin until the device is
    /// programmed. That keeps out everything that takes the lock: mprotect, munmap, fork, collapse, and what takes it
    /// for reading (MADV_DONTNEED, the NUMA scan). It is all that a driver can hold: its own lock would keep every
    /// event out, but the walk's faults call back into it, and it nests inside the mmap lock. It cannot keep out what
    /// finds pages by rmap (reclaim, compaction, KSM, memory failure) or by file (truncation), nor faults under the
    /// VMA's lock; the model runs all of these under the mmap lock, so that this policy looks better here than it is.
    /// Everybody else pays: no thread of the process can fault meanwhile.
    Locked,
}

/// Pages of a piece of [`RetryPolicy::Resumed`]: what one PTE table maps, cut at table boundaries.
pub const PIECE_PAGES: u64 = PAGES_PER_PMD;

/// A device that mirrors one range of an address space.
pub struct Mirror {
    mm: Arc<Mm>,
    sub: Arc<Subscription>,
    state: Arc<State>,
}

struct State {
    /// The driver's lock (`user_lock`) and what it protects.
    device: Mutex<DeviceTable>,
    invalidations: AtomicU64,
}

impl Invalidate for State {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        // test_hmm ignores its own migrations, since its migration programs the new entries itself, under the same
        // lock. This mirror programs nothing during a migration, so it must not: a walk from before one would be
        // programmed after it.
        let mut device = if event.blockable {
            self.device.lock()
        } else {
            match self.device.try_lock() {
                Some(d) => d,
                None => return false,
            }
        };
        sub.set_seq_of(event.range, cur_seq);
        device.clear(event.range);
        // Relaxed: a statistic.
        self.invalidations.fetch_add(1, Relaxed);
        true
    }
}

impl core::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mirror({:?})", self.sub)
    }
}

impl Mirror {
    /// Subscribes to `range` of `mm`.
    pub fn new(mm: &Arc<Mm>, range: PageRange) -> Mirror {
        let state =
            Arc::new(State { device: Mutex::new(DeviceTable::new(range)), invalidations: AtomicU64::new(0) });
        let sub = mm.notifier.insert_sliced(range, Arc::clone(&state) as Arc<dyn Invalidate>);
        Mirror { mm: Arc::clone(mm), sub, state }
    }
    /// The subscription, for callers that drive a backend themselves.
    pub fn subscription(&self) -> &Subscription {
        &self.sub
    }
    /// The device page table, under the driver's lock.
    pub fn device(&self) -> MutexGuard<'_, DeviceTable> {
        self.state.device.lock()
    }
    /// Callbacks that tore something down so far.
    pub fn invalidations(&self) -> u64 {
        self.state.invalidations.load(Relaxed)
    }

    /// The canonical loop: until the mirror of the request's range is valid, or an error or the policy ends it.
    ///
    /// # Errors
    /// What the backend's API returned; -EBUSY when the policy gave up.
    #[inline]
    pub fn refresh<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        request: &Request<'_>,
        policy: RetryPolicy,
        c: &mut C,
    ) -> Result<(), Errno> {
        self.refresh_bounded(backend, request, policy, u32::MAX, c, &mut |_, _| {})
    }

    /// As [`Mirror::refresh`], but gives up after `attempts` collisions, and calls `held` with each part of the answer
    /// that was validated and consumed: the whole request, or a piece ([`RetryPolicy::Resumed`]). No lock is held then.
    ///
    /// # Errors
    /// As there. Pieces before the one that failed stay mirrored.
    pub fn refresh_bounded<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        request: &Request<'_>,
        policy: RetryPolicy,
        attempts: u32,
        c: &mut C,
        held: &mut impl FnMut(&B, &Request<'_>),
    ) -> Result<(), Errno> {
        let left = match policy {
            RetryPolicy::Attempts(n) => attempts.min(n),
            _ => attempts,
        };
        let mut tries = Tries { policy, left, backoff: crossbeam_utils::Backoff::new() };
        if policy != RetryPolicy::Resumed {
            return self.refresh_part(backend, request, &mut tries, c, held);
        }
        let mut addr = request.range.start();
        while addr < request.range.end() {
            let next = addr.next_boundary(Level::Pmd, request.range.end());
            let piece = request.part(PageRange::between(addr, next));
            self.refresh_part(backend, &piece, &mut tries, c, held)?;
            addr = next;
        }
        Ok(())
    }

    #[inline]
    fn refresh_part<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        request: &Request<'_>,
        tries: &mut Tries,
        c: &mut C,
        held: &mut impl FnMut(&B, &Request<'_>),
    ) -> Result<(), Errno> {
        backend.prepare(request, c);
        let mut locked = false;
        loop {
            // The unlocked call retries by itself; under the caller's lock it cannot.
            let retries_inside = backend.bound_passes(tries.limit());
            let r = if B::WALKS_UNDER_DRIVER_LOCK {
                self.attempt_under_driver_lock(backend, c)
            } else {
                self.attempt(backend, locked, c)
            };
            if let Ok(programmed) = r
                && programmed != Programmed::Nothing
            {
                backend.programmed(&mut |part| held(backend, &request.part(part)));
            }
            // The locks are free by now, but who waited for them comes after who looks at what held.
            if B::WALKS_UNDER_DRIVER_LOCK {
                c.driver_unlocked();
                c.mmap_unlocked();
            } else if locked {
                c.mmap_unlocked();
            }
            match r {
                Ok(Programmed::All) => return Ok(()),
                Ok(Programmed::Share) => continue,
                Err(Errno::Busy | Errno::Again) if !retries_inside || locked => {}
                Ok(Programmed::Some | Programmed::Nothing) => {}
                Err(e) => return Err(e),
            }
            c.add(Count::Retries, 1);
            tries.after_collision(c)?;
            locked = tries.policy == RetryPolicy::Locked;
            backend.refill(request, c);
        }
    }

    /// read_begin, walk, read_retry, consume.
    #[inline]
    fn attempt<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        locked: bool,
        c: &mut C,
    ) -> Result<Programmed, Errno> {
        if locked {
            c.mmap_write_lock();
            let vmas = self.mm.mmap_write();
            // An event that is running does not wait for this lock: whoever needs it for one holds it already.
            let seq = backend.read_begin(&self.mm, &self.sub, c)?;
            return self.program(backend, |b, c| b.walk_locked(self.mm.locked(&vmas), &self.sub, seq, c), c);
        }
        let seq = backend.read_begin(&self.mm, &self.sub, c)?;
        let walk = |b: &mut B, c: &mut C| {
            let r = b.walk(&self.mm, &self.sub, seq, c);
            c.mmap_unlocked();
            r
        };
        self.program(backend, walk, c)
    }

    /// read_begin, the driver's lock, read_retry, walk, consume. What collides is no walk.
    #[inline]
    fn attempt_under_driver_lock<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        c: &mut C,
    ) -> Result<Programmed, Errno> {
        let seq = backend.read_begin(&self.mm, &self.sub, c)?;
        let vmas = self.mm.mmap_read();
        let mut device = self.state.device.lock();
        c.driver_lock();
        if self.sub.read_retry(seq) {
            return Ok(Programmed::Nothing);
        }
        let seq = backend.walk_locked(self.mm.locked(&vmas), &self.sub, seq, c)?;
        Ok(backend.program(&self.sub, seq, &mut device, c))
    }

    #[inline]
    fn program<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        walk: impl FnOnce(&mut B, &mut C) -> Result<u64, Errno>,
        c: &mut C,
    ) -> Result<Programmed, Errno> {
        let seq = walk(backend, c)?;
        let mut device = self.state.device.lock();
        Ok(backend.program(&self.sub, seq, &mut device, c))
    }
}

/// What is left of a policy's patience.
struct Tries {
    policy: RetryPolicy,
    /// `u32::MAX`: endless.
    left: u32,
    backoff: crossbeam_utils::Backoff,
}

impl Tries {
    /// Collisions left; none for no limit.
    fn limit(&self) -> Option<u32> {
        (self.left < u32::MAX).then_some(self.left)
    }
    /// Waits as the policy says; -EBUSY when it gives up.
    fn after_collision<C: Counters>(&mut self, c: &mut C) -> Result<(), Errno> {
        if let Some(left) = self.limit() {
            self.left = left.saturating_sub(1);
            if self.left == 0 {
                return Err(Errno::Busy);
            }
        }
        match self.policy {
            RetryPolicy::BackOff => self.backoff.snooze(),
            RetryPolicy::After { ns } => c.pause(ns),
            RetryPolicy::AtOnce | RetryPolicy::Attempts(_) | RetryPolicy::Resumed | RetryPolicy::Locked => {}
        }
        Ok(())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.mm.notifier.remove(&self.sub);
    }
}
