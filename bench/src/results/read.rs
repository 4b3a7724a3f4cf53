//! From files to [`Results`].

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;

use super::{CellFacts, Results};
use crate::analysis;
use crate::questions::CellId;
use crate::record::{Reader, read_run};

const ID: &str = "workload@size/request/call_pages/churn/walkers/backend";

pub(super) fn load(folder: &Path) -> Result<Results> {
    let run = read_run(folder)?;
    let path = folder.join("run.json");
    if let Some(group) = run.groups.iter().find(|g| CellId::parse(&format!("{g}/x")).is_none()) {
        bail!("{}: group {group:?}: expected {ID} without the backend", path.display());
    }
    let mut reader = Reader::new(folder, &run);
    let lines = reader.advance()?;
    // A run that was killed has no cells yet; its lines say what they are.
    let cells = match run.cells.is_empty() {
        false => run.cells.clone(),
        true => {
            let cells = analysis::results(&run, &lines).into_iter().flat_map(|g| g.cells);
            cells.map(serde_json::to_value).collect::<Result<_, _>>()?
        }
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
    let mut results = Results::new(folder, run, facts, lines);
    if reader.torn_bytes() > 0 {
        results.notes.push(format!("{}/samples.jsonl: the last line is torn and left out", folder.display()));
    }
    Ok(results)
}
