//! A cell against itself: what the machine adds where nothing differs.
//!
//! Each launch is a process of its own, as in `walkbench run`: code, tables and frames are placed anew. Within it two of
//! the same design, with arrays of their own, take turns on the same tables.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::measure::order::Rng;
use crate::stats::{Estimate, Sorted, components, estimate, launches_needed, log_ratio};
use crate::sweep::Sweep;

/// One that reads, one that faults; small enough to build in a launch.
const CELLS: [&str; 2] =
    ["dense_4k@16MiB/snapshot/512/none/1/map_order", "absent_4k@16MiB/fault_write/512/none/1/map_order"];
const ROUNDS: u32 = 24;
/// What a block should last.
const BLOCK: Duration = Duration::from_millis(2);
/// Effects that are asked about.
const EFFECTS: [f64; 3] = [1.0, 2.0, 5.0];

/// What a launch saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// For each cell the nanoseconds of both sides, round by round.
    cells: Vec<Vec<(u64, u64)>>,
}

/// Measures as a launch.
///
/// # Errors
/// What the builder or the design said.
pub(crate) fn launch(number: u32) -> Result<Launch> {
    let mut cells = Vec::new();
    for id in CELLS {
        let mut sweep = Sweep::open_twins(id, 1, 2)?;
        let mut rng = Rng::new(u64::from(number), id);
        // A probe that was interrupted would make every block too short.
        let probes = [sweep.time(0, 1)?, sweep.time(1, 1)?, sweep.time(0, 1)?];
        let one = probes.into_iter().min().unwrap_or(BLOCK).max(Duration::from_nanos(1));
        let n = (BLOCK.as_nanos() / one.as_nanos()).max(1) as u64;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            // ABBA or BAAB: a drift within a round falls on both sides alike.
            let first = (rng.next() >> 63) as usize;
            let mut ns = [0; 2];
            for side in [first, 1 - first, 1 - first, first] {
                ns[side] += sweep.time(side, n)?.as_nanos() as u64;
            }
            rounds.push((ns[0], ns[1]));
        }
        cells.push(rounds);
    }
    Ok(Launch { cells })
}

/// Starts a launch and waits for it.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn spawn(number: u32) -> Result<Launch> {
    let program = std::env::current_exe().context("the program's own path")?;
    let output = Command::new(program)
        .args(["doctor", "--launch", &number.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("starting a launch")?;
    if !output.status.success() {
        bail!(
            "launch {number} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("launch {number}: what it printed"))
}

/// The noise of one cell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Noise {
    /// The cell.
    pub(crate) id: String,
    /// Launches.
    pub(crate) launches: usize,
    /// Rounds in each.
    pub(crate) rounds: u32,
    /// One side against the other, which is the same.
    pub(crate) ratio: Option<Estimate>,
    /// Standard deviation of a round around its launch, in per cent.
    pub(crate) within_percent: f64,
    /// Standard deviation of launches beyond what their rounds explain, in per cent.
    pub(crate) between_percent: f64,
    /// Standard deviation of what a launch reports, the median of its rounds, in per cent.
    pub(crate) launch_percent: f64,
    /// How many launches like these resolve an effect of so many per cent; none if 2,000 do not.
    pub(crate) needed: Vec<(f64, Option<usize>)>,
}

/// Takes the launches apart.
pub(crate) fn noise(launches: &[Launch]) -> Vec<Noise> {
    let each = CELLS.iter().enumerate().filter_map(|(i, id)| {
        let pairs: Vec<&Vec<(u64, u64)>> = launches.iter().filter_map(|l| l.cells.get(i)).collect();
        let rounds = |pairs: &[(u64, u64)]| -> Vec<(f64, f64)> {
            pairs.iter().map(|(a, b)| (*a as f64, *b as f64)).collect()
        };
        let logs: Vec<Vec<f64>> =
            pairs.iter().map(|p| rounds(p).into_iter().map(|(a, b)| (a / b).ln()).collect()).collect();
        let medians: Vec<f64> = pairs.iter().filter_map(|p| log_ratio(rounds(p).into_iter())).collect();
        let c = components(&logs)?;
        let sd = Sorted::new(medians.clone())?.sd();
        let percent = |sd: f64| 100.0 * sd;
        Some(Noise {
            id: (*id).to_owned(),
            launches: launches.len(),
            rounds: ROUNDS,
            ratio: estimate(&medians),
            within_percent: percent(c.within.sqrt()),
            between_percent: percent(c.between.sqrt()),
            launch_percent: percent(sd),
            needed: EFFECTS.iter().map(|e| (*e, launches_needed(sd, *e))).collect(),
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_noise_comes_out_and_decides_the_launches() {
        let mut rng = Rng::new(5, "noise");
        let mut wobble = |percent: f64| {
            let sum: f64 = (0..12).map(|_| (rng.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
            (percent / 100.0 * (sum - 6.0)).exp()
        };
        let mut made = |within: f64, between: f64| -> Vec<Launch> {
            let mut launch = || {
                let mut cell = || {
                    let offset = wobble(between);
                    (0..ROUNDS).map(|_| ((1e7 * offset * wobble(within)) as u64, 10_000_000)).collect()
                };
                Launch { cells: vec![cell(), cell()] }
            };
            (0..200).map(|_| launch()).collect()
        };
        let noise = noise(&made(2.0, 0.5));
        assert_eq!(noise.len(), 2);
        assert!((noise[0].within_percent - 2.0).abs() < 0.1, "{noise:?}");
        assert!((noise[0].between_percent - 0.5).abs() < 0.15, "{noise:?}");
        // What a launch reports scatters by its own part and what 24 rounds leave of theirs.
        assert!((noise[0].launch_percent - 0.71).abs() < 0.12, "{noise:?}");
        let needed: Vec<usize> = noise[0].needed.iter().map(|(_, n)| n.unwrap()).collect();
        assert!(needed[0] > needed[1] && needed[1] >= needed[2] && needed[2] == 6, "{needed:?}");
        assert!(!noise[0].ratio.unwrap().excludes(1.0));
        assert!(super::noise(&made(1.0, 0.0)[..1]).is_empty(), "one launch says nothing of launches");
    }
}
