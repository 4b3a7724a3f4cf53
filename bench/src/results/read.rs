//! From files to [`Results`].

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::{Block, CellFacts, Results};
use crate::measure::member::What;
use crate::measure::stages::Stages;
use crate::questions::CellId;
use crate::record::{Run, SCHEMA};

const ID: &str = "workload@size/request/call_pages/churn/walkers/backend";

#[derive(Deserialize)]
struct RawBlock {
    #[serde(default)]
    launch: u32,
    group: String,
    member: String,
    round: u32,
    what: What,
    nr_pages: u64,
    block_ns: u64,
    #[serde(default)]
    stages: Option<Stages>,
    involuntary_switches: Option<u64>,
}

pub(super) fn load(folder: &Path) -> Result<Results> {
    let path = folder.join("run.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: expected a results folder with a run.json", folder.display()))?;
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let damaged = |e: serde_json::Error| anyhow!("{}:{}: damaged: {e}", path.display(), e.line());
    let Schema { schema } = serde_json::from_str(&text).map_err(damaged)?;
    if schema == 0 || schema > SCHEMA {
        bail!(
            "{}: schema {schema} is newer than {SCHEMA}, the newest that this walkbench reads: use a newer walkbench",
            path.display()
        );
    }
    let run: Run = serde_json::from_str(&text).map_err(damaged)?;
    let facts = run.cells.iter().enumerate().map(|(i, cell)| {
        let wrong = |e: String| anyhow!("{}: cells[{i}]: {e}", path.display());
        let facts = CellFacts::deserialize(cell).map_err(|e| wrong(e.to_string()))?;
        if CellId::parse(&facts.id).is_none() {
            return Err(wrong(format!("id {:?}: expected {ID}", facts.id)));
        }
        Ok(facts)
    });
    let facts = facts.collect::<Result<Vec<_>>>()?;

    let path = folder.join("samples.jsonl");
    let bytes =
        std::fs::read(&path).with_context(|| format!("{}: expected the blocks of a run", path.display()))?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let mut blocks = Vec::new();
    for (i, line) in bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        let at = || format!("{}:{}", path.display(), i + 1);
        let raw: RawBlock = serde_json::from_slice(line).map_err(|e| anyhow!("{}: damaged: {e}", at()))?;
        if !run.groups.contains(&raw.group) {
            bail!("{}: of group {}, which run.json does not list", at(), raw.group);
        }
        if CellId::parse(&format!("{}/{}", raw.group, raw.member)).is_none() {
            bail!("{}: {:?} of {:?}: expected parts of {ID}", at(), raw.member, raw.group);
        }
        blocks.push(Block {
            group: raw.group,
            member: raw.member,
            launch: raw.launch,
            round: raw.round,
            what: raw.what,
            nr_pages: raw.nr_pages,
            block_ns: raw.block_ns,
            stages: raw.stages,
            is_disturbed: raw.involuntary_switches.is_some_and(|n| n > 0),
        });
    }
    let mut results = Results::new(folder, run, facts, blocks);
    if whole < bytes.len() {
        results.notes.push(format!("{}: the last line is torn and left out", path.display()));
    }
    Ok(results)
}
