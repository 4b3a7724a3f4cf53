//! From files to [`Results`].

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{CellFacts, Results};
use crate::analysis;
use crate::questions::CellId;
use crate::record::{Line, Reader, Run, read_run};

const ID: &str = "workload@size/request/call_pages/churn/walkers/backend";

pub(super) fn load(folder: &Path) -> Result<Results> {
    let run = read_run(folder)?;
    let mut reader = Reader::new(folder, &run);
    let lines = reader.advance()?;
    let mut results = analysed(folder, run, lines)?;
    if reader.torn_bytes() > 0 {
        results.notes.push(format!("{}/samples.jsonl: the last line is torn and left out", folder.display()));
    }
    let (live, note) = super::live::load(folder, &results.run.machine)?;
    results.live = live;
    results.notes.extend(note);
    Ok(results)
}

/// The cells, by today's analysis of the lines, as answers are: `run.json` has those of the day of the run, and none of a
/// run that was killed. Lines of schema 1 do not say everything.
fn cells(run: &Run, lines: &[Line]) -> Result<Vec<Value>> {
    if run.schema < 2 && !run.cells.is_empty() {
        return Ok(run.cells.clone());
    }
    let id = |cell: &Value| cell["id"].as_str().map(str::to_owned);
    let asked: BTreeSet<String> = run.cells.iter().filter_map(id).collect();
    let is_wanted = |id: &str| asked.is_empty() || asked.contains(id);
    let cells = analysis::results(run, lines, &is_wanted).into_iter().flat_map(|g| g.cells);
    Ok(cells.map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// From lines to results, by today's analysis.
pub(super) fn analysed(folder: &Path, run: Run, lines: Vec<Line>) -> Result<Results> {
    let cells = cells(&run, &lines)?;
    of(folder, run, lines, &cells)
}

/// With cells that were made of the lines already.
pub(super) fn of(folder: &Path, run: Run, lines: Vec<Line>, cells: &[Value]) -> Result<Results> {
    let path = folder.join("run.json");
    if let Some(group) = run.groups.iter().find(|g| CellId::parse(&format!("{g}/x")).is_none()) {
        bail!("{}: group {group:?}: expected {ID} without the backend", path.display());
    }
    let mut facts = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        let wrong = |e: String| anyhow!("{}: cells[{i}]: {e}", path.display());
        let cell = CellFacts::deserialize(cell).map_err(|e| wrong(e.to_string()))?;
        if CellId::parse(&cell.id).is_none() {
            return Err(wrong(format!("id {:?}: expected {ID}", cell.id)));
        }
        facts.push(cell);
    }
    Ok(Results::new(folder, run, facts, lines))
}
