//! From files to [`Results`].

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;

use super::{CellFacts, Results};
use crate::analysis;
use crate::questions::CellId;
use crate::record::{Line, Reader, Run, read_run};

const ID: &str = "workload@size/request/call_pages/churn/walkers/backend";

pub(super) fn load(folder: &Path) -> Result<Results> {
    let run = read_run(folder)?;
    let mut reader = Reader::new(folder, &run);
    let lines = reader.advance()?;
    let mut results = of(folder, run, lines)?;
    if reader.torn_bytes() > 0 {
        results.notes.push(format!("{}/samples.jsonl: the last line is torn and left out", folder.display()));
    }
    let (live, note) = super::live::load(folder, &results.run.machine)?;
    results.live = live;
    results.notes.extend(note);
    Ok(results)
}

pub(super) fn of(folder: &Path, run: Run, lines: Vec<Line>) -> Result<Results> {
    let path = folder.join("run.json");
    if let Some(group) = run.groups.iter().find(|g| CellId::parse(&format!("{g}/x")).is_none()) {
        bail!("{}: group {group:?}: expected {ID} without the backend", path.display());
    }
    // A run that was killed has no cells yet; its lines say what they are.
    let cells = if run.cells.is_empty() {
        let cells = analysis::results(&run, &lines, &|_| true).into_iter().flat_map(|g| g.cells);
        cells.map(serde_json::to_value).collect::<Result<_, _>>()?
    } else {
        run.cells.clone()
    };
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
