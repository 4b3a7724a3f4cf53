//! Time that a spinning thread does not get: interrupts, other processes, the hypervisor's other guests.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How long to watch.
const WATCH: Duration = Duration::from_secs(1);
/// Two readings further apart than this have had something in between.
const GAP: Duration = Duration::from_micros(5);

/// What a second of reading the clock saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Lost {
    /// The smallest step of the clock that was seen.
    pub(crate) resolution_ns: u64,
    /// Time in gaps, of a thousand.
    pub(crate) permille: f64,
    /// Gaps a second.
    pub(crate) gaps_per_s: f64,
    /// The longest gap.
    pub(crate) longest_us: f64,
}

/// Reads the clock for a second.
pub(crate) fn watch() -> Lost {
    let start = Instant::now();
    let (mut last, mut lost, mut longest) = (start, Duration::ZERO, Duration::ZERO);
    let (mut gaps, mut step) = (0u64, Duration::MAX);
    loop {
        let now = Instant::now();
        let gap = now.duration_since(last);
        last = now;
        if !gap.is_zero() {
            step = step.min(gap);
        }
        if gap > GAP {
            lost += gap;
            longest = longest.max(gap);
            gaps += 1;
        }
        let watched = now.duration_since(start);
        if watched >= WATCH {
            return Lost {
                resolution_ns: step.as_nanos() as u64,
                permille: 1000.0 * lost.as_secs_f64() / watched.as_secs_f64(),
                gaps_per_s: gaps as f64 / watched.as_secs_f64(),
                longest_us: longest.as_secs_f64() * 1e6,
            };
        }
    }
}
