//! The stages of an operation, timed apart.
//!
//! * `prepare`: the caller writes its wishes.
//! * `walk`: the attempt that held, from read_begin to the end of the API call, the mmap lock included, its faults not.
//! * `fault`: inside page faults, in every attempt: also those that the walk then has to repeat.
//! * `retry`: what collisions cost: attempts that were thrown away, without their faults, the waits between them, and the
//!   wishes refilled.
//! * `consume`: of the attempt that held: the driver's lock, read_retry, the device's entries.
//!
//! Two ways to tell them apart. Operations that change nothing, beside which nothing changes, are taken apart by difference:
//! a block of prepare alone, one of prepare, walk and read_retry, one of everything ([`Parts`]). What is timed is the code
//! that is timed as a whole, however long it takes. Where that cannot be done twice, where pages fault and under churn, a
//! chain of clock readings goes through the block ([`super::timed`]): three readings an operation, two a span of faults,
//! through another instance of the same functions. (Until 2026-11-30 the chain took all long operations apart. In calls of
//! 8192 pages of 1 GiB its instance of a walk was up to a tenth quicker than the one that was timed as a whole.)
//!
//! Either way the block also says what it took from end to end ([`TakenApart`]), which is what the sum is held against.

use serde::{Deserialize, Serialize};
use walker::counters::{Count, Counters, NoCounts};

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
    /// From another clock's unit, of which one is so many nanoseconds.
    pub(crate) fn scaled(&self, ns: f64) -> Stages {
        let scaled = |units: u64| (units as f64 * ns).round() as u64;
        Stages {
            prepare_ns: scaled(self.prepare_ns),
            walk_ns: scaled(self.walk_ns),
            fault_ns: scaled(self.fault_ns),
            retry_ns: scaled(self.retry_ns),
            consume_ns: scaled(self.consume_ns),
        }
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

/// How often the clock was read inside each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readings {
    /// See [`Stages`].
    pub(crate) prepare: u64,
    /// Ditto.
    pub(crate) walk: u64,
    /// Ditto.
    pub(crate) fault: u64,
    /// Ditto.
    pub(crate) retry: u64,
    /// Ditto.
    pub(crate) consume: u64,
}

impl Readings {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.each().iter().sum()
    }
    /// In the order of [`Stages::each`].
    pub(crate) fn each(&self) -> [u64; 5] {
        [self.prepare, self.walk, self.fault, self.retry, self.consume]
    }
    /// Adds another block.
    pub(crate) fn add(&mut self, other: &Readings) {
        self.prepare += other.prepare;
        self.walk += other.walk;
        self.fault += other.fault;
        self.retry += other.retry;
        self.consume += other.consume;
    }
}

/// What the same operations took from end to end, by one span of the clock of all blocks, and what was read meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenApart {
    /// Nanoseconds, the clock's cost taken off.
    pub(crate) whole_ns: u64,
    /// Readings between the first and the last; none where the stages are differences.
    pub(crate) readings: Readings,
}

impl TakenApart {
    /// Adds what another thread did.
    pub(crate) fn add(&mut self, other: &TakenApart) {
        self.whole_ns += other.whole_ns;
        self.readings.add(&other.readings);
    }
}

/// What collisions did to operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collisions {
    /// Times that an operation had to walk again.
    pub(crate) collided: u64,
    /// Operations that the policy gave up, or (-EINTR) that went round inside a call of 4.14 to 5.5 until its caller was
    /// killed.
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

impl Walked<NoCounts> {
    /// Beside no churn.
    pub(crate) fn quiet() -> Self {
        Walked { collisions: Collisions::default(), tokens: NoCounts }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_difference() {
        let stages = Parts { prepare_ns: 100, call_ns: 350, whole_ns: 400 }.stages();
        let expected = Stages { prepare_ns: 100, walk_ns: 250, consume_ns: 50, ..Stages::default() };
        assert_eq!((stages, stages.sum()), (expected, 400));
        // Noise below zero shows in the sum, which is held against whole operations.
        assert_eq!(Parts { prepare_ns: 120, call_ns: 100, whole_ns: 90 }.stages().sum(), 120);
    }
}
