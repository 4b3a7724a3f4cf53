//! A results folder, read: what every reader of results (answers, compare, export, doctor) works on.
//!
//! Blocks are kept by group, launch and member. A comparison takes the rounds that both sides have; a disturbed round
//! is void for both, unless that leaves a launch with fewer than three.

mod read;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::measure::member::What;
use crate::measure::stages::Stages;
use crate::questions::{CellId, Coordinate, Metric, Stage};
use crate::record::{Line, Run};
use crate::stats::{Estimate, Sorted, estimate, log_ratio};

/// Rounds that a launch must have left for its disturbed ones to be void.
const FEW: usize = 3;

/// What `run.json` says of a cell, as far as readers need it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct CellFacts {
    /// The cell.
    pub(crate) id: String,
    /// Exact counts of one sweep.
    #[serde(default)]
    pub(crate) counts: BTreeMap<String, u64>,
    /// Single operations.
    #[serde(default)]
    pub(crate) latency_ns: Option<Latency>,
    /// What a reader must know.
    #[serde(default)]
    pub(crate) marks: Vec<String>,
    /// Why there is no result.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// Single operations in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// One block, as far as readers need it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) launch: u32,
    pub(crate) round: u32,
    pub(crate) what: What,
    pub(crate) nr_pages: u64,
    pub(crate) block_ns: u64,
    pub(crate) stages: Option<Stages>,
    pub(crate) is_disturbed: bool,
}

/// Blocks of one group by launch and member.
type Group = BTreeMap<u32, BTreeMap<String, Vec<Block>>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Results {
    /// Where they are.
    pub(crate) folder: PathBuf,
    /// `run.json`.
    pub(crate) run: Run,
    /// By id.
    pub(crate) cells: BTreeMap<CellId, CellFacts>,
    groups: BTreeMap<String, Group>,
    /// What was left out in reading, for people.
    pub(crate) notes: Vec<String>,
}

impl Results {
    /// Reads a folder, also of a run that ended early.
    ///
    /// # Errors
    /// With file, line and reason: not a results folder, damaged, mixed, or of a newer schema.
    pub(crate) fn load(folder: &Path) -> Result<Results> {
        read::load(folder)
    }
    /// Of a run that this process just made, or is making.
    ///
    /// # Errors
    /// Cells that are none.
    pub(crate) fn of(folder: &Path, run: Run, lines: &[Line]) -> Result<Results> {
        read::of(folder, run, lines.iter())
    }
    fn new(folder: &Path, run: Run, facts: Vec<CellFacts>, blocks: Vec<Block>) -> Results {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for b in blocks {
            let group = groups.entry(b.group.clone()).or_default();
            group.entry(b.launch).or_default().entry(b.member.clone()).or_default().push(b);
        }
        let mut cells: BTreeMap<CellId, CellFacts> = BTreeMap::new();
        // A run that ended early has no cells yet, but blocks.
        for (group, launches) in &groups {
            for member in launches.values().flat_map(BTreeMap::keys) {
                if walker::backends::find(member).is_some()
                    && let Some(id) = CellId::parse(&format!("{group}/{member}"))
                {
                    cells.insert(id, CellFacts::default());
                }
            }
        }
        cells.extend(facts.into_iter().filter_map(|f| Some((CellId::parse(&f.id)?, f))));
        Results { folder: folder.to_owned(), run, cells, groups, notes: Vec::new() }
    }
    /// An exact count of a cell.
    pub(crate) fn count(&self, cell: &CellId, name: &str) -> Option<u64> {
        self.cells.get(cell)?.counts.get(name).copied()
    }
    /// The logarithm of one value for each launch, by launch: the median over its rounds.
    pub(crate) fn per_launch(&self, cell: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
        let Some(group) = self.groups.get(&cell.group()) else { return BTreeMap::new() };
        let each = group.iter().filter_map(|(launch, members)| {
            let blocks = members.get(cell.get(Coordinate::Backend))?;
            let values = clean(&[blocks.as_slice()], metric).into_iter().map(|v| v[0]).collect();
            Some((*launch, Sorted::new(values)?.median().ln()))
        });
        each.filter(|(_, log)| log.is_finite()).collect()
    }
    /// A timed metric over launches.
    pub(crate) fn level(&self, cell: &CellId, metric: Metric) -> Option<Estimate> {
        estimate(&self.per_launch(cell, metric).into_values().collect::<Vec<_>>())
    }
    /// A cell against another member of its group.
    pub(crate) fn against(&self, cell: &CellId, member: &str, metric: Metric) -> Option<Estimate> {
        let other = cell.with(&BTreeMap::from([(Coordinate::Backend, member.to_owned())]));
        estimate(&self.log_ratios(cell, &other, metric).into_values().collect::<Vec<_>>())
    }
    /// Nanoseconds a page in a stage, the middle launch's; 0 where it takes none.
    pub(crate) fn stage_ns(&self, cell: &CellId, stage: Stage) -> Option<f64> {
        let of = |members: &BTreeMap<String, Vec<Block>>| {
            let blocks = members.get(cell.get(Coordinate::Backend))?;
            let values = clean(&[blocks.as_slice()], Metric::Stage(stage));
            Some(Sorted::new(values.into_iter().map(|v| v[0]).collect())?.median())
        };
        Some(Sorted::new(self.groups.get(&cell.group())?.values().filter_map(of).collect())?.median())
    }
    /// Pages that each launch reported in whole operations.
    pub(crate) fn nr_pages_by_launch(&self, cell: &CellId) -> BTreeMap<u32, u64> {
        let launches = self.groups.get(&cell.group()).into_iter().flatten();
        let pages = launches.filter_map(|(launch, members)| {
            let blocks = members.get(cell.get(Coordinate::Backend))?.iter();
            Some((*launch, blocks.filter(|b| b.what == What::Whole).map(|b| b.nr_pages).sum()))
        });
        pages.collect()
    }
    /// ln(a / b) of each launch, by launch. Within a group from rounds next to each other in time, else from the
    /// launch's medians.
    pub(crate) fn log_ratios(&self, a: &CellId, b: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
        if a.group() != b.group() {
            let (a, b) = (self.per_launch(a, metric), self.per_launch(b, metric));
            return a.into_iter().filter_map(|(l, a)| Some((l, a - b.get(&l)?))).collect();
        }
        let Some(group) = self.groups.get(&a.group()) else { return BTreeMap::new() };
        let each = group.iter().filter_map(|(launch, members)| {
            let of = |cell: &CellId| members.get(cell.get(Coordinate::Backend)).map(Vec::as_slice);
            let pairs = clean(&[of(a)?, of(b)?], metric);
            Some((*launch, log_ratio(pairs.into_iter().map(|v| (v[0], v[1])))?))
        });
        each.collect()
    }
}

/// The values of all sides in the rounds that all of them have, disturbed rounds left out.
fn clean(sides: &[&[Block]], metric: Metric) -> Vec<Vec<f64>> {
    let is_wanted = |what: What| match metric {
        Metric::Stage(_) => what.is_staged(),
        _ => what == What::Whole,
    };
    let by_round = |side: &&[Block]| -> BTreeMap<u32, (f64, bool)> {
        let timed = side.iter().filter(|s| is_wanted(s.what));
        timed.filter_map(|s| Some((s.round, (value(s, metric)?, s.is_disturbed)))).collect()
    };
    let sides: Vec<_> = sides.iter().map(by_round).collect();
    let Some((first, others)) = sides.split_first() else { return Vec::new() };
    let rounds = first.keys().filter_map(|round| {
        let values: Option<Vec<(f64, bool)>> =
            std::iter::once(first).chain(others).map(|s| s.get(round).copied()).collect();
        values
    });
    let (mut kept, mut void) = (Vec::new(), Vec::new());
    for values in rounds {
        let is_void = values.iter().any(|(_, disturbed)| *disturbed);
        let values: Vec<f64> = values.into_iter().map(|(v, _)| v).collect();
        if is_void { void.push(values) } else { kept.push(values) }
    }
    if kept.len() < FEW {
        kept.extend(void);
    }
    kept
}

/// Nanoseconds a page.
fn value(block: &Block, metric: Metric) -> Option<f64> {
    let pages = block.nr_pages.max(1) as f64;
    match metric {
        Metric::Whole => Some(block.block_ns as f64 / pages),
        Metric::Stage(stage) => {
            let stages = block.stages.as_ref()?;
            let ns = match stage {
                Stage::Prepare => stages.prepare_ns,
                Stage::Walk => stages.walk_ns,
                Stage::Fault => stages.fault_ns,
                Stage::Retry => stages.retry_ns,
                Stage::Consume => stages.consume_ns,
            };
            Some(ns as f64 / pages)
        }
        Metric::Count(_) | Metric::CountRatio(..) => None,
    }
}
