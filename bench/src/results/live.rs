//! `live.json` beside a run: what `walkbench live --format json` said of the same machine's kernel.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::compare::differences;
use crate::measure::machine::{IN_USER_MODE_LINUX, Machine};
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

/// What the kernel said.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Row by row.
    pub(crate) rows: Vec<LiveRow>,
    /// Which kernel that was, if not the one that the run was made on: a guest of the same machine.
    pub(crate) guest: Option<String>,
}

/// Whether `kernel` ran as a process of `machine`: User Mode Linux, on a processor of that name.
fn is_guest(kernel: &Machine, machine: &Machine) -> bool {
    let host = kernel.cpu_model.as_deref().and_then(|m| m.strip_suffix(IN_USER_MODE_LINUX));
    host.is_some() && host == machine.cpu_model.as_deref()
}

/// The rows, if there are any; a note in their place if they are of another machine than the run.
///
/// # Errors
/// With file and line, if it is damaged or of a newer schema.
pub(super) fn load(folder: &Path, machine: &Machine) -> Result<(Live, Option<String>)> {
    let path = folder.join("live.json");
    if !path.exists() {
        return Ok((Live::default(), None));
    }
    let (of, rows) = read(&path)?;
    if is_guest(&of, machine) {
        let kernel = of.kernel.as_deref().unwrap_or("a kernel");
        return Ok((Live { rows, guest: Some(format!("{kernel}{IN_USER_MODE_LINUX}")) }, None));
    }
    let differ = differences(machine, &of);
    if differ.is_empty() {
        return Ok((Live { rows, guest: None }, None));
    }
    let note = format!("{}: is of another machine and left out ({})", path.display(), differ.join("; "));
    Ok((Live::default(), Some(note)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_ran_as_a_process_of_the_machine_stands_beside_its_run() {
        let machine = Machine { cpu_model: Some("A Processor".to_owned()), ..Machine::read() };
        let guest = |model: &str| Machine {
            cpu_model: Some(format!("{model}{IN_USER_MODE_LINUX}")),
            kernel: Some("Linux 6.12".to_owned()),
            vcpus: 1,
            ..machine.clone()
        };
        assert!(is_guest(&guest("A Processor"), &machine));
        assert!(!is_guest(&guest("Another"), &machine) && !is_guest(&machine, &machine));
        let folder = tempfile::tempdir().unwrap();
        for (kernel, rows, is_left_out, who) in [
            (machine.clone(), 1, false, None),
            (guest("A Processor"), 1, false, Some("Linux 6.12 in User Mode Linux")),
            (guest("Another"), 0, true, None),
        ] {
            let row = serde_json::json!({"source": "pagemap", "shape": "dense_4k", "stage": "snapshot"});
            let file = serde_json::json!({"schema": JSON_SCHEMA, "machine": kernel, "rows": [row]});
            std::fs::write(folder.path().join("live.json"), file.to_string()).unwrap();
            let (live, note) = load(folder.path(), &machine).unwrap();
            assert_eq!((live.rows.len(), live.guest.as_deref(), note.is_some()), (rows, who, is_left_out));
        }
    }
}
