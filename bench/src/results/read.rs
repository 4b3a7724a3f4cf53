//! From files to [`Results`].

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;

use super::{Block, CellFacts, Results};
use crate::questions::CellId;
use crate::record::{Line, Reader, Run, read_run};

const ID: &str = "workload@size/request/call_pages/churn/walkers/backend";

pub(super) fn load(folder: &Path) -> Result<Results> {
    let run = read_run(folder)?;
    let mut reader = Reader::new(folder, &run);
    let lines = reader.advance()?;
    let mut results = of(folder, run, lines.iter())?;
    if reader.torn_bytes() > 0 {
        let path = folder.join("samples.jsonl");
        results.notes.push(format!("{}: the last line is torn and left out", path.display()));
    }
    Ok(results)
}

pub(super) fn of<'a>(folder: &Path, run: Run, lines: impl Iterator<Item = &'a Line>) -> Result<Results> {
    let path = folder.join("run.json");
    let facts = run.cells.iter().enumerate().map(|(i, cell)| {
        let wrong = |e: String| anyhow!("{}: cells[{i}]: {e}", path.display());
        let facts = CellFacts::deserialize(cell).map_err(|e| wrong(e.to_string()))?;
        if CellId::parse(&facts.id).is_none() {
            return Err(wrong(format!("id {:?}: expected {ID}", facts.id)));
        }
        Ok(facts)
    });
    let facts = facts.collect::<Result<Vec<_>>>()?;
    let mut blocks = Vec::new();
    for line in lines {
        let Line::Block(sample) = line else { continue };
        if CellId::parse(&format!("{}/{}", sample.group, sample.member)).is_none() {
            bail!("{}: {:?} of {:?}: expected parts of {ID}", folder.display(), sample.member, sample.group);
        }
        blocks.push(Block {
            group: sample.group.clone(),
            member: sample.member.clone(),
            launch: sample.launch,
            round: sample.round,
            what: sample.what,
            nr_pages: sample.nr_pages,
            block_ns: sample.block_ns,
            stages: sample.stages,
            is_disturbed: sample.is_disturbed(),
        });
    }
    Ok(Results::new(folder, run, facts, blocks))
}
