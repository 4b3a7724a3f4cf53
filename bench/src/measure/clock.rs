//! The clock of every span, what reading it costs, and whether it kept its pace.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

use crate::os;
use crate::stats::Sorted;

/// Where time comes from. Tests bring one of their own, in any unit.
pub(crate) trait Time: Copy + Send + Sync + 'static {
    /// A moment.
    type Point: Copy + Send;
    /// Now.
    fn now(self) -> Self::Point;
    /// Whole nanoseconds (of [`Ticks`]: ticks) from one moment to a later one.
    fn ns_between(self, from: Self::Point, to: Self::Point) -> u64;
}

/// CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic;

impl Time for Monotonic {
    type Point = Instant;
    #[inline(always)]
    fn now(self) -> Instant {
        Instant::now()
    }
    #[inline(always)]
    fn ns_between(self, from: Instant, to: Instant) -> u64 {
        to.duration_since(from).as_nanos() as u64
    }
}

/// The processor's own count, in ticks of its own: the clock between stages.
///
/// CLOCK_MONOTONIC waits until all work before it is done, so that nothing overlaps a reading; a chain of them made calls
/// of 100 ns a quarter longer than their cost, which was taken off. This one does not wait. What a tick is the monotonic
/// clock around the block says, so that no rate has to be known, nor to be constant for longer than that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks;

impl Time for Ticks {
    type Point = u64;
    #[inline(always)]
    fn now(self) -> u64 {
        os::clock::ticks()
    }
    #[inline(always)]
    fn ns_between(self, from: u64, to: u64) -> u64 {
        to.saturating_sub(from)
    }
}

/// A clock with its measured cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock<T = Monotonic> {
    time: T,
    /// Nanoseconds (of [`Ticks`]: ticks) that one reading takes: the median of batches.
    pub(crate) cost_ns: f64,
}

impl Clock {
    /// Measures the monotonic clock. Takes well under a millisecond.
    pub(crate) fn measure() -> Clock {
        Clock::measured(Monotonic)
    }
}

impl Clock<Ticks> {
    /// The processor's count, its cost measured once.
    pub(crate) fn ticks() -> Clock<Ticks> {
        static TICKS: OnceLock<Clock<Ticks>> = OnceLock::new();
        *TICKS.get_or_init(|| Clock::measured(Ticks))
    }
}

impl<T: Time> Clock<T> {
    fn measured(time: T) -> Clock<T> {
        const BATCH: u32 = 256;
        let batches = (0..33).map(|_| {
            let start = time.now();
            for _ in 0..BATCH {
                black_box(time.now());
            }
            time.ns_between(start, time.now()) as f64 / f64::from(BATCH)
        });
        // Never empty, never infinite: the fallback only keeps this free of panics.
        Clock::new(time, Sorted::new(batches.collect()).map_or(0.0, |s| s.median()))
    }
    /// A clock whose readings cost `cost_ns`.
    pub(crate) fn new(time: T, cost_ns: f64) -> Clock<T> {
        Clock { time, cost_ns }
    }
    /// Now.
    #[inline(always)]
    pub(crate) fn now(&self) -> T::Point {
        self.time.now()
    }
    /// Whole nanoseconds between two readings.
    #[inline(always)]
    pub(crate) fn between(&self, from: T::Point, to: T::Point) -> u64 {
        self.time.ns_between(from, to)
    }
    /// `ns` without the cost of `readings` readings that fell into it.
    #[inline(always)]
    pub(crate) fn net(&self, ns: u64, readings: u64) -> u64 {
        ns.saturating_sub((self.cost_ns * readings as f64) as u64)
    }
    /// Nanoseconds from one reading to another, without the cost of the second.
    #[inline(always)]
    pub(crate) fn span(&self, from: T::Point, to: T::Point) -> u64 {
        self.net(self.between(from, to), 1)
    }
}

/// More than this apart, the clock was steered, or stopped, while it timed: ntpd slews by at most 500 millionths.
const APART_PER_MILLION: u64 = 1000;
/// Reading both clocks is no moment: so much they may differ by whatever came between.
const APART_NS: u64 = 1_000_000;

/// The clock of the spans beside one that nobody steers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    monotonic_ns: u64,
    raw_ns: u64,
}

impl Pace {
    /// Both clocks now; none where the kernel lacks one.
    pub(crate) fn now() -> Option<Pace> {
        Some(Pace { monotonic_ns: os::clock::monotonic_ns()?, raw_ns: os::clock::raw_ns()? })
    }
    /// Whether both went on alike until `later`.
    pub(crate) fn is_kept_until(self, later: Pace) -> bool {
        let Some(monotonic) = later.monotonic_ns.checked_sub(self.monotonic_ns) else { return false };
        let Some(raw) = later.raw_ns.checked_sub(self.raw_ns) else { return false };
        monotonic.abs_diff(raw) <= APART_NS + raw / 1_000_000 * APART_PER_MILLION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_or_runs_apart_is_noticed() {
        let at = |monotonic_ms: u64, raw_ms: u64| Pace {
            monotonic_ns: monotonic_ms * 1_000_000,
            raw_ns: raw_ms * 1_000_000,
        };
        assert!(at(1000, 5000).is_kept_until(at(2000, 6000)));
        assert!(at(1000, 5000).is_kept_until(at(61_000, 65_030)), "500 millionths are ntpd's right");
        for (what, later) in [
            ("a step forward", at(2100, 6000)),
            ("a step back", at(900, 6000)),
            ("a stop", at(1000, 6000)),
            ("too fast", at(62_000, 65_000)),
        ] {
            assert!(!at(1000, 5000).is_kept_until(later), "{what}");
        }
        let (now, later) = (Pace::now().unwrap(), Pace::now().unwrap());
        assert!(now.is_kept_until(later));
    }
}
