//! The device's side: its page table, the invalidate callback, the canonical loop with its retry policies.
//!
//! Models the loop every driver writes around hmm_range_fault (semantics 3.6): read_begin, walk, take the driver's
//! lock, read_retry, program the device, unlock; on a collision again. The callback stores the sequence and tears down
//! the overlap under the same lock.

use crate::addr::PageRange;
use crate::backend::Backend;
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
}

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
        sub.set_seq(cur_seq);
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
        let sub = mm.notifier.insert(range, Arc::clone(&state) as Arc<dyn Invalidate>);
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
    pub fn refresh<B: Backend, C: Counters>(
        &self,
        backend: &mut B,
        request: &Request<'_>,
        policy: RetryPolicy,
        c: &mut C,
    ) -> Result<(), Errno> {
        let backoff = crossbeam_utils::Backoff::new();
        let mut attempts = 0;
        backend.prepare(request, c);
        loop {
            let seq = self.mm.notifier.read_begin(&self.sub);
            match backend.walk(&self.mm, &self.sub, seq, c) {
                Ok(seq) => {
                    let mut device = self.state.device.lock();
                    if !self.sub.read_retry(seq) {
                        backend.consume(&mut device, c);
                        return Ok(());
                    }
                }
                Err(Errno::Busy | Errno::Again) => {}
                Err(e) => return Err(e),
            }
            c.add(Count::Retries, 1);
            attempts += 1;
            match policy {
                RetryPolicy::AtOnce => {}
                RetryPolicy::Attempts(n) if attempts >= n => return Err(Errno::Busy),
                RetryPolicy::Attempts(_) => {}
                RetryPolicy::BackOff => backoff.snooze(),
            }
            backend.refill(request, c);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.mm.notifier.remove(&self.sub);
    }
}
