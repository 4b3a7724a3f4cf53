//! The lines about builders: entries a second on one core, and memory a mapped page.

use std::time::Instant;

use anyhow::{Context, Result};
use workloads::shape::{Memory, ShapeSpec};

use super::lines::Line;
use crate::measure::machine::resident_bytes;
use crate::stats::{Interval, Sorted, median_interval};

/// 16,777,216 pages: what a machine costs empty is lost in it.
const SIZE: u64 = 64 << 30;
const BUILDS: usize = 7;

/// Builds a dense shape several times.
///
/// # Errors
/// When it cannot be built, or /proc does not say how much memory there is.
pub(super) fn lines(seed: u64) -> Result<Vec<Line>> {
    let shape = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    let nr_pages = (SIZE >> 12) as f64;
    let (mut rates, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..BUILDS {
        let before = resident_bytes().context("/proc/self/statm: expected resident memory")?;
        let start = Instant::now();
        let built = shape.build(SIZE, seed)?;
        let elapsed = start.elapsed();
        let after = resident_bytes().context("/proc/self/statm: expected resident memory")?;
        rates.push(nr_pages / elapsed.as_secs_f64() / 1e6);
        bytes.push(after.saturating_sub(before) as f64 / nr_pages);
        built.discard();
    }
    let interval = |values| Sorted::new(values).as_ref().map(median_interval);
    let (rate, bytes): (Option<Interval>, Option<Interval>) = (interval(rates), interval(bytes));
    let line = |what: &str, value: Option<Interval>, unit, goal: f64, more_is_better: bool| Line {
        what: what.to_owned(),
        who: "builder".to_owned(),
        value,
        unit,
        goal: Some(goal),
        more_is_better,
        met: value.map(|v| if more_is_better { v.median >= goal } else { v.median <= goal }),
        ns_per_page: None,
        limit_ns_per_page: None,
        noisy: false,
        error: None,
    };
    Ok(vec![
        line("building dense 4K", rate, "M entries/s", 30.0, true),
        line("memory of dense 4K", bytes, "bytes/page", 9.0, false),
    ])
}
