//! `live.json` beside a run: what `walkbench live --format json` said of the same machine's kernel.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::compare::differences;
use crate::measure::machine::Machine;
use crate::record::JSON_SCHEMA;
use crate::stats::Estimate;

/// A figure over launches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveFigure {
    pub(crate) median: f64,
    pub(crate) lo: Option<f64>,
    pub(crate) hi: Option<f64>,
    pub(crate) launches: usize,
}

impl From<Estimate> for LiveFigure {
    fn from(e: Estimate) -> LiveFigure {
        LiveFigure { median: e.value, lo: e.lo, hi: e.hi, launches: e.launches }
    }
}

/// What was asked of the kernel, and its figure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct LiveRow {
    pub(crate) source: String,
    pub(crate) shape: String,
    pub(crate) stage: String,
    #[serde(default)]
    pub(crate) churn: String,
    /// None is all of them, or nothing to choose.
    #[serde(default)]
    pub(crate) call_pages: Option<u32>,
    pub(crate) ns_per_page: Option<LiveFigure>,
    pub(crate) error: Option<String>,
}

impl LiveRow {
    /// source/shape/stage/call pages/churn, as `walkbench live --filter` has it.
    pub(crate) fn name(&self) -> String {
        let calls = self.call_pages.map_or_else(|| "all".to_owned(), |n| n.to_string());
        format!("{}/{}/{}/{calls}/{}", self.source, self.shape, self.stage, self.churn)
    }
}

#[derive(Deserialize)]
struct File {
    schema: u32,
    machine: Machine,
    rows: Vec<LiveRow>,
}

/// The rows, if there are any; a note in their place if they are of another machine than the run.
///
/// # Errors
/// With file and line, if it is damaged or of a newer schema.
pub(super) fn load(folder: &Path, machine: &Machine) -> Result<(Vec<LiveRow>, Option<String>)> {
    let path = folder.join("live.json");
    if !path.exists() {
        return Ok((Vec::new(), None));
    }
    let (of, rows) = read(&path)?;
    let differ = differences(machine, &of);
    if differ.is_empty() {
        return Ok((rows, None));
    }
    let note = format!("{}: is of another machine and left out ({})", path.display(), differ.join("; "));
    Ok((Vec::new(), Some(note)))
}

/// What `walkbench live --format json` printed: its machine and its rows.
///
/// # Errors
/// With file and line, if it is damaged or of a newer schema.
pub(crate) fn read(path: &Path) -> Result<(Machine, Vec<LiveRow>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let file: File =
        serde_json::from_str(&text).map_err(|e| anyhow!("{}:{}: damaged: {e}", path.display(), e.line()))?;
    if file.schema != JSON_SCHEMA {
        bail!("{}: schema {}: expected {JSON_SCHEMA}", path.display(), file.schema);
    }
    Ok((file.machine, file.rows))
}
