//! The lines about builders: entries a second on one core, and memory a mapped page.

use std::time::Instant;

use anyhow::{Context, Result};
use workloads::shape::{Memory, ShapeSpec};

use super::lines::{Line, middle};
use crate::measure::machine::resident_bytes;

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
    let line = |what: &str, values, unit, goal: f64, more_is_better: bool| {
        let (what, who) = (what.to_owned(), "builder".to_owned());
        let (value, goal) = (middle(values), Some(goal));
        Line { what, who, value, unit, goal, more_is_better, ..Line::default() }.judged()
    };
    Ok(vec![
        line("building dense 4K", rates, "M entries/s", 30.0, true),
        line("memory of dense 4K", bytes, "bytes/page", 9.0, false),
    ])
}
