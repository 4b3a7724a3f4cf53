//! A cell against itself: what the machine adds where nothing differs.
//!
//! The measurement is `walkbench run` itself, with a twin beside each backend: whatever the two differ by is noise.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::interrupt;
use crate::measure::visit::twin;
use crate::questions::{CellId, Metric};
use crate::record::Control;
use crate::results::Results;
use crate::stats::{Estimate, Sorted, components, estimate, launches_needed, log_ratio};

/// One that reads, one that faults; small enough to build in a launch.
const CELLS: [&str; 2] =
    ["dense_4k@16MiB/snapshot/512/none/1/map_order", "absent_4k@16MiB/fault_write/512/none/1/map_order"];
/// What they match and nothing else does.
const FILTER: &str = "^(dense_4k@16MiB/snapshot|absent_4k@16MiB/fault_write)/512/none/1/map_order$";
/// Behind the name of a twin.
const TWIN: &str = twin(Control::Aa).0;
/// Launches of the process.
const LAUNCHES: &str = "12";
/// Seconds that all of them together aim at.
const BUDGET: &str = "30";
/// Effects that are asked about.
const EFFECTS: [f64; 3] = [1.0, 2.0, 5.0];

/// Measures; none if Ctrl-C ended it.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn measure() -> Result<Option<Results>> {
    let folder = tempfile::tempdir().context("a folder for the results")?;
    let out = folder.path().join("run");
    let program = std::env::current_exe().context("the program's own path")?;
    // Its progress bar is the doctor's.
    let status = Command::new(program)
        .args([
            "run",
            "--control",
            "aa",
            "--launches",
            LAUNCHES,
            "--budget",
            BUDGET,
            "--filter",
            FILTER,
            "--out",
        ])
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("starting walkbench run")?;
    match status.code() {
        Some(0) => Results::load(&out).map(Some),
        Some(code) if code == i32::from(interrupt::EXIT_CODE) => Ok(None),
        _ => bail!("walkbench run --control aa ended with {status}"),
    }
}

/// The noise of one cell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Noise {
    /// The cell.
    pub(crate) id: String,
    /// Launches.
    pub(crate) launches: usize,
    /// Rounds in a launch, on average.
    pub(crate) rounds: f64,
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
pub(crate) fn noise(results: &Results) -> Vec<Noise> {
    CELLS.iter().filter_map(|id| of_cell(results, id)).collect()
}

fn of_cell(results: &Results, id: &str) -> Option<Noise> {
    let (a, b) = (CellId::parse(id)?, CellId::parse(&format!("{id}{TWIN}"))?);
    let launches: Vec<Vec<(f64, f64)>> = results.pairs(&a, &b, Metric::Whole).into_values().collect();
    let logs: Vec<Vec<f64>> =
        launches.iter().map(|pairs| pairs.iter().map(|(a, b)| (a / b).ln()).collect()).collect();
    let medians: Vec<f64> = launches.iter().filter_map(|pairs| log_ratio(pairs.iter().copied())).collect();
    let c = components(&logs)?;
    let sd = Sorted::new(medians.clone())?.sd();
    Some(Noise {
        id: id.to_owned(),
        launches: c.launches,
        rounds: c.rounds as f64 / c.launches as f64,
        ratio: estimate(&medians),
        within_percent: 100.0 * c.within.sqrt(),
        between_percent: 100.0 * c.between.sqrt(),
        launch_percent: 100.0 * sd,
        needed: EFFECTS.iter().map(|e| (*e, launches_needed(sd, *e))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::testing::Made;

    #[test]
    fn the_filter_takes_the_cells_and_nothing_else() {
        let filter = regex::Regex::new(FILTER).unwrap();
        let all = crate::questions::all_cells();
        let taken: Vec<String> =
            all.iter().map(ToString::to_string).filter(|id| filter.is_match(id)).collect();
        let mut cells = CELLS.map(str::to_owned);
        cells.sort();
        assert_eq!(taken, cells);
    }

    #[test]
    fn planted_noise_comes_out_and_decides_the_launches() {
        let id = CELLS[0];
        let twin = format!("{id}{TWIN}");
        let made = Made {
            launches: 200,
            rounds: 24,
            round_percent: 2.0 / 2f64.sqrt(),
            launch_percent: 0.5 / 2f64.sqrt(),
            ..Made::new(&[(id, 2.0), (&twin, 2.0)])
        };
        let noise = noise(&made.results());
        assert_eq!(noise.len(), 1, "the other cell was not measured");
        let n = &noise[0];
        assert_eq!((n.launches, n.rounds), (200, 24.0));
        assert!((n.within_percent - 2.0).abs() < 0.1, "{n:?}");
        assert!((n.between_percent - 0.5).abs() < 0.15, "{n:?}");
        // What a launch reports scatters by its own part and by what 24 rounds leave of theirs.
        assert!((n.launch_percent - 0.71).abs() < 0.12, "{n:?}");
        let needed: Vec<usize> = n.needed.iter().map(|(_, n)| n.unwrap()).collect();
        assert!(needed[0] > needed[1] && needed[1] >= needed[2] && needed[2] == 6, "{needed:?}");
        assert!(!n.ratio.unwrap().excludes(1.0));
        let one = Made { launches: 1, ..made };
        assert!(super::noise(&one.results()).is_empty(), "one launch says nothing of launches");
    }
}
