//! The clock of every span, and what reading it costs.

use std::hint::black_box;
use std::time::Instant;

use crate::stats::Sorted;

/// The monotonic clock with its measured cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Nanoseconds that one reading takes: the median of batches.
    pub(crate) cost_ns: f64,
}

impl Clock {
    /// Measures the clock. Takes well under a millisecond.
    pub(crate) fn measure() -> Clock {
        const BATCH: u32 = 256;
        let batches = (0..33).map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                black_box(Instant::now());
            }
            start.elapsed().as_nanos() as f64 / f64::from(BATCH)
        });
        // Never empty, never infinite: the fallback only keeps this free of panics.
        Clock { cost_ns: Sorted::new(batches.collect()).map_or(0.0, |s| s.median()) }
    }
    /// Now.
    #[inline(always)]
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }
    /// Whole nanoseconds between two readings.
    #[inline(always)]
    pub(crate) fn between(&self, from: Instant, to: Instant) -> u64 {
        to.duration_since(from).as_nanos() as u64
    }
    /// `ns` without the cost of `readings` readings that fell into it.
    pub(crate) fn net(&self, ns: u64, readings: u64) -> u64 {
        ns.saturating_sub((self.cost_ns * readings as f64) as u64)
    }
}
