//! The stages of an operation, timed apart.
//!
//! One chain of clock readings covers the whole operation, so the stages sum to it; the cost of the readings is taken
//! out of the stage that they fell into.
//!
//! * `prepare`: the caller writes its wishes.
//! * `walk`: the attempt that held, from read_begin to the end of the API call, the mmap lock included, its faults not.
//! * `fault`: inside page faults, in every attempt: also those that the walk then has to repeat.
//! * `retry`: what collisions cost: attempts that were thrown away, without their faults, and the wishes refilled.
//! * `consume`: of the attempt that held: the driver's lock, read_retry, the device's entries.
//!
//! A chain costs four readings, which is too much for an operation of some hundred nanoseconds: it is not the cost,
//! which is taken out, but that no work overlaps a reading. Such operations are taken apart by difference instead: a
//! block of prepare alone, one of prepare, walk and read_retry, one of everything ([`Parts`]).

use crossbeam_utils::Backoff;
use serde::{Deserialize, Serialize};
use walker::backend::Backend;
use walker::counters::{Count, Counters};
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::{Errno, Mm};
use walker::request::Request;

use super::clock::{Clock, Time};

/// Nanoseconds in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stages {
    /// The caller writes its wishes.
    pub(crate) prepare_ns: u64,
    /// The API call without its faults.
    pub(crate) walk_ns: u64,
    /// Page faults.
    pub(crate) fault_ns: u64,
    /// Work of attempts that were thrown away, without their faults.
    pub(crate) retry_ns: u64,
    /// The caller turns the answer into device entries.
    pub(crate) consume_ns: u64,
}

impl Stages {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.prepare_ns + self.walk_ns + self.fault_ns + self.retry_ns + self.consume_ns
    }
    /// Name and value of each, in order.
    pub(crate) fn each(&self) -> [(&'static str, u64); 5] {
        [
            ("prepare", self.prepare_ns),
            ("walk", self.walk_ns),
            ("fault", self.fault_ns),
            ("retry", self.retry_ns),
            ("consume", self.consume_ns),
        ]
    }
    /// Adds another operation.
    pub(crate) fn add(&mut self, other: &Stages) {
        self.prepare_ns += other.prepare_ns;
        self.walk_ns += other.walk_ns;
        self.fault_ns += other.fault_ns;
        self.retry_ns += other.retry_ns;
        self.consume_ns += other.consume_ns;
    }
}

/// Three blocks of the same calls, each with more in it than the one before. No faults, no collisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Prepare alone.
    pub(crate) prepare_ns: u64,
    /// Prepare, read_begin, walk, and read_retry under the driver's lock.
    pub(crate) call_ns: u64,
    /// Everything.
    pub(crate) whole_ns: u64,
}

impl Parts {
    /// The stages by difference. A difference below zero is noise and counts as zero.
    pub(crate) fn stages(self) -> Stages {
        Stages {
            prepare_ns: self.prepare_ns,
            walk_ns: self.call_ns.saturating_sub(self.prepare_ns),
            consume_ns: self.whole_ns.saturating_sub(self.call_ns),
            ..Stages::default()
        }
    }
}

/// What collisions did to operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collisions {
    /// Times that an operation had to walk again.
    pub(crate) collided: u64,
    /// Operations that the policy gave up.
    pub(crate) given_up: u64,
    /// Pages that were walked in vain; only where stages are timed.
    pub(crate) pages_in_vain: u64,
}

impl Collisions {
    /// Adds others.
    pub(crate) fn add(&mut self, other: &Collisions) {
        self.collided += other.collided;
        self.given_up += other.given_up;
        self.pages_in_vain += other.pages_in_vain;
    }
}

/// What a timed walk counts: its collisions, and what churn wants to know of it; nothing else, so that nothing of the
/// rest is left in the code.
#[derive(Debug, Default)]
pub(crate) struct Walked<C> {
    /// What collisions did.
    pub(crate) collisions: Collisions,
    /// What churn with a closed dose waits for.
    pub(crate) tokens: C,
}

impl<C: Counters> Counters for Walked<C> {
    const ENABLED: bool = false;
    #[inline(always)]
    fn add(&mut self, what: Count, n: u64) {
        if what == Count::Retries {
            self.collisions.collided += n;
        }
        self.tokens.add(what, n);
    }
    #[inline(always)]
    fn get(&self, _: Count) -> u64 {
        0
    }
}

/// Times faults, and counts what is walked in vain.
#[derive(Debug)]
pub(crate) struct FaultClock<T: Time, C> {
    clock: Clock<T>,
    entered: Option<T::Point>,
    ns: u64,
    spans: u64,
    /// Slots written since the last attempt ended.
    slots: u64,
    /// What was counted.
    pub(crate) walked: Walked<C>,
}

impl<T: Time, C: Counters> FaultClock<T, C> {
    /// No fault so far.
    pub(crate) fn new(clock: Clock<T>, tokens: C) -> FaultClock<T, C> {
        let walked = Walked { collisions: Collisions::default(), tokens };
        FaultClock { clock, entered: None, ns: 0, spans: 0, slots: 0, walked }
    }
    /// Nanoseconds in faults and how many spans they came in, since the last call.
    fn take(&mut self) -> (u64, u64) {
        let taken = (self.ns, self.spans);
        (self.ns, self.spans) = (0, 0);
        taken
    }
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

/// `Mirror::refresh` with a clock between the stages. An operation that the policy gives up has no walk and no consume.
///
/// # Errors
/// What the backend's API returned, other than -EBUSY and -EAGAIN.
#[inline]
pub(crate) fn refresh_staged<B: Backend, T: Time, C: Counters>(
    mm: &Mm,
    mirror: &Mirror,
    backend: &mut B,
    request: &Request<'_>,
    policy: RetryPolicy,
    faults: &mut FaultClock<T, C>,
) -> Result<Stages, Errno> {
    let clock = faults.clock;
    let sub = mirror.subscription();
    let backoff = Backoff::new();
    let mut stages = Stages::default();
    let mut attempts = 0;
    let start = clock.now();
    backend.prepare(request, faults);
    let mut begin = clock.now();
    stages.prepare_ns = clock.span(start, begin);
    loop {
        faults.slots = 0;
        let seq = mm.notifier.read_begin(sub);
        let walked = backend.walk(mm, sub, seq, faults);
        let after_walk = clock.now();
        let held = match walked {
            Ok(seq) => {
                let mut device = mirror.device();
                let held = !sub.read_retry(seq);
                if held {
                    backend.consume(&mut device, faults);
                }
                held
            }
            Err(Errno::Busy | Errno::Again) => false,
            Err(e) => return Err(e),
        };
        let end = clock.now();
        let (fault_ns, spans) = faults.take();
        // Of the two readings around a span of faults, one falls inside it and one outside.
        let walk_ns = clock.net(clock.between(begin, after_walk).saturating_sub(fault_ns), 1 + spans);
        let consume_ns = clock.span(after_walk, end);
        stages.fault_ns += clock.net(fault_ns, spans);
        if held {
            stages.walk_ns = walk_ns;
            stages.consume_ns = consume_ns;
            return Ok(stages);
        }
        stages.retry_ns += walk_ns + consume_ns;
        faults.walked.collisions.collided += 1;
        faults.walked.collisions.pages_in_vain += faults.slots;
        attempts += 1;
        match policy {
            RetryPolicy::AtOnce => {}
            RetryPolicy::Attempts(n) if attempts >= n => {
                faults.walked.collisions.given_up += 1;
                return Ok(stages);
            }
            RetryPolicy::Attempts(_) => {}
            RetryPolicy::BackOff => backoff.snooze(),
        }
        backend.refill(request, faults);
        begin = clock.now();
        stages.retry_ns += clock.span(end, begin);
    }
}

#[cfg(test)]
mod tests;
