//! A backend with a clock between its stages.
//!
//! It stands in for the backend under the mirror's own loop, so that what is taken apart is what is timed as a whole,
//! whatever the retry policy. One chain of readings goes through all operations of a block: every nanosecond lies in one
//! stage, and the stages sum to the block. The cost of a reading is taken out of the stage that it fell into.

use walker::backend::{Backend, Info, PageView, Programmed};
use walker::counters::{Count, Counters};
use walker::device_table::DeviceTable;
use walker::mirror::Mirror;
use walker::mm::{Errno, Locked, Mm};
use walker::notifier::Subscription;
use walker::request::Request;
use workloads::definition::Retry;

use super::clock::{Clock, Time};
use super::stages::{Collisions, Readings, Stages, Walked};

/// Times faults, and counts what is walked in vain. What it costs a walk that does not fault is an addition a table.
#[derive(Debug)]
struct FaultClock<T: Time, C> {
    clock: Clock<T>,
    entered: Option<T::Point>,
    ns: u64,
    spans: u64,
    /// Slots written since the last attempt that held.
    slots: u64,
    walked: Walked<C>,
}

impl<T: Time, C: Counters> Counters for FaultClock<T, C> {
    const ENABLED: bool = false;
    #[inline(always)]
    fn add(&mut self, what: Count, n: u64) {
        if what == Count::SlotsWritten {
            self.slots += n;
        }
        self.walked.add(what, n);
    }
    #[inline(always)]
    fn get(&self, _: Count) -> u64 {
        0
    }
    #[inline(always)]
    fn fault_enter(&mut self) {
        self.entered = Some(self.clock.now());
    }
    #[inline(always)]
    fn fault_exit(&mut self) {
        if let Some(entered) = self.entered.take() {
            self.ns += self.clock.between(entered, self.clock.now());
            self.spans += 1;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timed<B, T: Time, C> {
    inner: B,
    clock: Clock<T>,
    faults: FaultClock<T, C>,
    /// Up to here every nanosecond is in some stage.
    last: T::Point,
    /// The last walk, of which it is not known yet whether it held.
    walk_ns: u64,
    /// Readings inside it.
    walk_readings: u64,
    /// It held, and the answer was consumed; what comes until the next reading is consume.
    held: bool,
    stages: Stages,
    readings: Readings,
}

impl<B: Backend, T: Time, C: Counters + Send + 'static> Timed<B, T, C> {
    /// Starts the chain.
    pub(crate) fn start(inner: B, clock: Clock<T>, tokens: C) -> Self {
        let walked = Walked { collisions: Collisions::default(), tokens };
        let faults = FaultClock { clock, entered: None, ns: 0, spans: 0, slots: 0, walked };
        let last = clock.now();
        Timed {
            inner,
            clock,
            faults,
            last,
            walk_ns: 0,
            walk_readings: 0,
            held: false,
            stages: Stages::default(),
            readings: Readings::default(),
        }
    }
    /// The backend, what its stages took, how often the clock was read for that, and what collided inside its calls.
    pub(crate) fn finish(self) -> (B, Stages, Readings, Collisions) {
        (self.inner, self.stages, self.readings, self.faults.walked.collisions)
    }
    /// Nanoseconds since the last reading.
    #[inline(always)]
    fn lap(&mut self) -> u64 {
        let now = self.clock.now();
        let ns = self.clock.span(self.last, now);
        self.last = now;
        ns
    }
    /// The last walk ends here, its faults apart.
    #[inline(always)]
    fn walk_ends(&mut self) {
        let now = self.clock.now();
        let FaultClock { ns, spans, .. } = self.faults;
        // Of the two readings around a span of faults, one falls inside it and one outside.
        self.walk_ns = self.clock.net(self.clock.between(self.last, now).saturating_sub(ns), 1 + spans);
        self.walk_readings = 1 + spans;
        self.stages.fault_ns += self.clock.net(ns, spans);
        self.readings.fault += spans;
        (self.faults.ns, self.faults.spans) = (0, 0);
        self.last = now;
    }
    /// As many pages of the last walk were not in vain as were programmed, and as much of its time.
    #[cold]
    fn some_held(&mut self) {
        let mut kept = 0;
        self.inner.programmed(&mut |part| kept += part.nr_pages());
        let kept = kept.min(self.faults.slots);
        let ns = self.walk_ns * kept / self.faults.slots.max(1);
        self.stages.walk_ns += ns;
        self.walk_ns -= ns;
        let readings = self.walk_readings * kept / self.faults.slots.max(1);
        self.readings.walk += readings;
        self.walk_readings -= readings;
        self.faults.slots -= kept;
    }
    /// The last walk was in vain.
    fn thrown_away(&mut self) {
        self.stages.retry_ns += std::mem::take(&mut self.walk_ns);
        self.readings.retry += std::mem::take(&mut self.walk_readings);
        self.faults.walked.collisions.pages_in_vain += std::mem::take(&mut self.faults.slots);
    }
    /// An operation ends: what is not in a stage yet goes to consume, or to retry if it was given up.
    #[inline(always)]
    fn ends(&mut self) {
        if self.held {
            self.consumed();
        } else {
            self.stages.retry_ns += self.lap();
            self.readings.retry += 1;
            self.thrown_away();
        }
    }
    /// An answer that held is in the device's table.
    #[inline(always)]
    fn consumed(&mut self) {
        self.held = false;
        self.stages.consume_ns += self.lap();
        self.readings.consume += 1;
    }

    /// One operation, by the mirror's loop. One that the policy gives up is counted.
    ///
    /// # Errors
    /// What the backend's API returned.
    #[inline]
    pub(crate) fn operation(
        &mut self,
        mirror: &Mirror,
        request: &Request<'_>,
        retry: Retry,
        collisions: &mut Collisions,
    ) -> Result<(), Errno> {
        let Retry { policy, attempts } = retry;
        let mut outside = Walked::quiet();
        let done = mirror.refresh_bounded(self, request, policy, attempts, &mut outside, &mut |_, _| {});
        self.ends();
        collisions.add(&outside.collisions);
        match done {
            Err(Errno::Busy | Errno::Intr) => {
                collisions.given_up += 1;
                Ok(())
            }
            done => done,
        }
    }
}

impl<B: Backend, T: Time, C: Counters + Send + 'static> Backend for Timed<B, T, C> {
    const INFO: Info = B::INFO;
    const WALKS_UNDER_DRIVER_LOCK: bool = B::WALKS_UNDER_DRIVER_LOCK;

    fn new(_: usize) -> Self {
        unreachable!("made of a backend, by `start`")
    }
    #[inline]
    fn prepare<O: Counters>(&mut self, request: &Request<'_>, _: &mut O) {
        // The next piece of an operation that is mirrored in pieces.
        if self.held {
            self.consumed();
        }
        self.inner.prepare(request, &mut self.faults);
        self.stages.prepare_ns += self.lap();
        self.readings.prepare += 1;
    }
    #[inline]
    fn refill<O: Counters>(&mut self, request: &Request<'_>, _: &mut O) {
        self.inner.refill(request, &mut self.faults);
        self.stages.retry_ns += self.lap();
        self.readings.retry += 1;
        self.thrown_away();
    }
    #[inline]
    fn walk<O: Counters>(&mut self, mm: &Mm, sub: &Subscription, seq: u64, _: &mut O) -> Result<u64, Errno> {
        let walked = self.inner.walk(mm, sub, seq, &mut self.faults);
        self.walk_ends();
        walked
    }
    #[inline]
    fn walk_locked<O: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        _: &mut O,
    ) -> Result<u64, Errno> {
        let walked = self.inner.walk_locked(at, sub, seq, &mut self.faults);
        self.walk_ends();
        walked
    }
    fn bound_passes(&mut self, passes: Option<u32>) -> bool {
        self.inner.bound_passes(passes)
    }
    #[inline]
    fn read_begin<O: Counters>(&mut self, mm: &Mm, sub: &Subscription, _: &mut O) -> Result<u64, Errno> {
        // The next share of an operation.
        if self.held {
            self.consumed();
        }
        self.inner.read_begin(mm, sub, &mut self.faults)
    }
    fn has_more(&self) -> bool {
        self.inner.has_more()
    }
    #[inline]
    fn read_retry(&self, sub: &Subscription, seq: u64) -> bool {
        self.inner.read_retry(sub, seq)
    }
    #[inline]
    fn program<O: Counters>(
        &mut self,
        sub: &Subscription,
        seq: u64,
        device: &mut DeviceTable,
        _: &mut O,
    ) -> Programmed {
        let programmed = self.inner.program(sub, seq, device, &mut self.faults);
        match programmed {
            Programmed::All | Programmed::Share => {
                self.stages.walk_ns += std::mem::take(&mut self.walk_ns);
                self.readings.walk += std::mem::take(&mut self.walk_readings);
                self.faults.slots = 0;
                self.held = true;
            }
            Programmed::Some => self.some_held(),
            Programmed::Nothing => {}
        }
        programmed
    }
    fn programmed(&self, part: &mut impl FnMut(walker::addr::PageRange)) {
        self.inner.programmed(part);
    }
    fn consume<O: Counters>(&mut self, device: &mut DeviceTable, _: &mut O) {
        self.inner.consume(device, &mut self.faults);
    }
    fn view(&self, i: usize) -> PageView {
        self.inner.view(i)
    }
    fn range(&self) -> walker::addr::PageRange {
        self.inner.range()
    }
}

#[cfg(test)]
mod tests;
