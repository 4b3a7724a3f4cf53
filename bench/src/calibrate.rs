//! Times of a run in the proportions of a kernel: what `hmm_range_fault` takes for each entry and each fault put in the
//! place of what the model takes, on results and never in a timed span. Everything but [`Calibration::load`] is pure.
//!
//! A cell's record holds the exact counts of one sweep: entries read, faults by kind. A kernel's `live.json` says what
//! `hmm_range_fault` takes where nothing but one kind of entry, or one kind of fault, occurs; the run says what its model
//! takes for the same. So a cell in the kernel's proportions is
//!
//! ```text
//! measured + entries read a page x (kernel's price - model's price) + for each kind faults a page x (the same of a fault)
//! ```
//!
//! What a design saves or adds beyond the model's own price of its reads and faults stays as it was measured, and so do
//! the caller's parts, prepare and consume, which no kernel's row holds.
//!
//! | file | holds |
//! |---|---|
//! | `prices` | rows and cells that stand for each price, their difference, launch by launch |
//! | `load` | how many of each a cell pays for; or why that is not known |
//! | `compared` | comparisons of a question with both, and what changes |
//!
//! The model's prices are those of the run itself, launch by launch: what a launch's placement does to all of its cells
//! cancels, and the model may have changed since the kernel was measured. The kernel's are of another run, on the same
//! processor: nanoseconds of another processor are refused, and not scaled either (METHODOLOGY.md says why).

mod compared;
mod load;
mod prices;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use compared::{Calibrated, Outcome, Priced, calibrated};
pub(crate) use prices::{Price, Prices};

use crate::compare::differences;
use crate::results::{LiveFigure, Results};

/// The questions that turn on what a fault costs in units of a walk.
pub(crate) const QUESTIONS: [&str; 3] = ["snapshot_or_fault", "amplification", "under_churn"];

/// What stands before every figure that is not as it was measured.
pub(crate) const MARK: &str = "calibrated";

/// Pages of a call, in the rows and cells that prices are taken from.
const CALL_PAGES: u32 = 512;

/// What says which processor it is.
const PROCESSOR: [&str; 5] =
    ["cpu_vendor: ", "cpu_model: ", "cpu_family: ", "cpu_model_number: ", "cpu_stepping: "];

/// A kernel's `hmm_range_fault`, measured beside the model.
#[derive(Debug)]
pub(crate) struct Calibration {
    results: Results,
}

impl Calibration {
    /// From a results folder with a kernel's rows.
    ///
    /// # Errors
    /// With the folder: no results, no `live.json`, one of another machine than its run, or one of a kernel that could
    /// not be asked.
    pub(crate) fn load(folder: &Path) -> Result<Calibration> {
        let results = Results::load(folder)?;
        let there = folder.join("live.json").exists();
        Calibration::of(results, there)
    }
    fn of(results: Results, has_live: bool) -> Result<Calibration> {
        let folder = results.folder.display();
        if !has_live {
            bail!(
                "{folder}: has no live.json; expected the rows of a kernel with hmm_range_fault beside the run \
                 (scripts/kernel/run.sh WORKDIR beside)"
            );
        }
        if results.live.rows.is_empty() {
            let why = results.notes.iter().find(|n| n.contains("live.json"));
            bail!("{}", why.cloned().unwrap_or_else(|| format!("{folder}/live.json: has no rows")));
        }
        let calibration = Calibration { results };
        if !prices::ROWS.iter().any(|row| calibration.figure(row.source, row.shape, row.stage).is_some()) {
            bail!(
                "{}/live.json: holds no figure of hmm_range_fault; pagemap, populate and touches pay for system calls \
                 and exceptions that it has not, and calibrate nothing",
                calibration.results.folder.display()
            );
        }
        Ok(calibration)
    }
    /// Refuses a run of another processor.
    ///
    /// # Errors
    /// With both folders and what differs.
    pub(crate) fn check(&self, run: &Results) -> Result<()> {
        let differ = differences(&run.run.machine, &self.results.run.machine);
        let differ: Vec<String> =
            differ.into_iter().filter(|d| PROCESSOR.iter().any(|p| d.starts_with(p))).collect();
        if !differ.is_empty() {
            bail!(
                "{}: is of another processor than {} ({}); nanoseconds of one are not added to those of another, and no \
                 unit makes them comparable",
                self.results.folder.display(),
                run.folder.display(),
                differ.join("; ")
            );
        }
        Ok(())
    }
    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.results.folder
    }
    /// Which kernel said it.
    pub(crate) fn kernel(&self) -> String {
        let of_machine = || self.results.run.machine.kernel.clone().unwrap_or_else(|| "a kernel".to_owned());
        self.results.live.guest.clone().unwrap_or_else(of_machine)
    }
    /// What the kernel took for a page of such memory.
    fn figure(&self, source: &str, shape: &str, stage: &str) -> Option<LiveFigure> {
        let is_row = |r: &&crate::results::LiveRow| {
            r.source == source
                && r.shape == shape
                && r.stage == stage
                && r.call_pages == Some(CALL_PAGES)
                && ["", "none"].contains(&r.churn.as_str())
        };
        let figure = self.results.live.rows.iter().find(is_row)?.ns_per_page?;
        (figure.median.is_finite() && figure.median > 0.0).then_some(figure)
    }
}
