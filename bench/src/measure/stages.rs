//! The stages of an operation, timed apart.
//!
//! One chain of clock readings covers the whole operation, so the stages sum to it; the cost of the readings is taken
//! out of the stage that they fell into.
//!
//! * `prepare`, `walk`, `consume`: of the attempt that held. `walk` includes read_begin and the mmap lock, `consume`
//!   the driver's lock and read_retry.
//! * `fault`: inside page faults, in every attempt: also those that the walk then has to repeat.
//! * `retry`: the rest of the attempts that were thrown away.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use walker::backend::Backend;
use walker::counters::{Count, Counters};
use walker::mirror::Mirror;
use walker::mm::{Errno, Mm};
use walker::request::Request;

use super::clock::Clock;

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

/// Counts nothing, but times faults.
#[derive(Debug)]
pub(crate) struct FaultClock {
    clock: Clock,
    entered: Option<Instant>,
    ns: u64,
    spans: u64,
}

impl FaultClock {
    /// No fault so far.
    pub(crate) fn new(clock: Clock) -> FaultClock {
        FaultClock { clock, entered: None, ns: 0, spans: 0 }
    }
    /// Nanoseconds in faults and how many spans they came in, since the last call.
    fn take(&mut self) -> (u64, u64) {
        let taken = (self.ns, self.spans);
        (self.ns, self.spans) = (0, 0);
        taken
    }
}

impl Counters for FaultClock {
    const ENABLED: bool = false;
    #[inline(always)]
    fn add(&mut self, _: Count, _: u64) {}
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

/// `Mirror::refresh` with a clock between the stages.
///
/// # Errors
/// What the backend's API returned, other than -EBUSY.
#[inline]
pub(crate) fn refresh_staged<B: Backend>(
    mm: &Mm,
    mirror: &Mirror,
    backend: &mut B,
    request: &Request<'_>,
    faults: &mut FaultClock,
) -> Result<Stages, Errno> {
    let clock = faults.clock;
    let sub = mirror.subscription();
    let mut stages = Stages::default();
    let mut begin = clock.now();
    loop {
        backend.prepare(request, faults);
        let prepared = clock.now();
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
            Err(Errno::Busy) => false,
            Err(e) => return Err(e),
        };
        let end = clock.now();
        let (fault_ns, spans) = faults.take();
        let prepare_ns = clock.net(clock.between(begin, prepared), 1);
        // Of the two readings around a span of faults, one falls inside it and one outside.
        let walk_ns = clock.net(clock.between(prepared, after_walk).saturating_sub(fault_ns), 1 + spans);
        let consume_ns = clock.net(clock.between(after_walk, end), 1);
        stages.fault_ns += clock.net(fault_ns, spans);
        if held {
            stages.prepare_ns = prepare_ns;
            stages.walk_ns = walk_ns;
            stages.consume_ns = consume_ns;
            return Ok(stages);
        }
        stages.retry_ns += prepare_ns + walk_ns + consume_ns;
        begin = end;
    }
}
