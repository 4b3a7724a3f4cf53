//! A results folder, read: what every reader of results (answers, compare, export, doctor) works on.
//!
//! Which blocks count is [`Clean`]'s to say. Rounds make a launch's value, launches make an interval.

mod controls;
mod live;
mod read;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use workloads::churn::ChurnSpec;

pub(crate) use live::{Live, LiveFigure, LiveRow, read as read_live};

use crate::analysis::{Clean, latency, quantile};
use crate::measure::member::What;
use crate::questions::{CellId, Coordinate, Metric, Stage};
use crate::record::{Line, Operations, Run, Sample};
use crate::stats::{Estimate, Sorted, estimate, log_ratio};

/// What [`crate::analysis`] says of a cell, as far as readers need it.
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
    /// Whole operations, ns a page.
    #[serde(default)]
    pub(crate) ns_per_page: Option<Span>,
    /// Distance to the decode limit.
    #[serde(default)]
    pub(crate) x_decode: Option<Span>,
    /// Stages, ns a page.
    #[serde(default)]
    pub(crate) stages: BTreeMap<String, Option<f64>>,
    /// What the machine allows, by name: `decode_ns_per_page`.
    #[serde(default)]
    pub(crate) limit: BTreeMap<String, serde_json::Value>,
    /// Where something invalidated.
    #[serde(default)]
    pub(crate) churned: Option<ChurnFacts>,
    /// Launches behind `ns_per_page`; 0 from before they were counted.
    #[serde(default)]
    pub(crate) nr_launches: u64,
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

/// A median with its interval. What was not finite stands in JSON as null.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Span {
    pub(crate) median: Option<f64>,
    pub(crate) lo: Option<f64>,
    pub(crate) hi: Option<f64>,
}

/// What churn did to the walk, and the walk to churn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ChurnFacts {
    /// Events a second while this backend walked.
    pub(crate) events_per_s: Option<f64>,
    /// Operations that were tried.
    pub(crate) tried: u64,
    /// Times that one had to walk again.
    pub(crate) collided: u64,
    /// Operations that the policy gave up.
    pub(crate) given_up: u64,
    /// Pages walked in vain, of each that was wanted.
    pub(crate) vain_per_page: Option<f64>,
}

impl CellFacts {
    /// Nanoseconds a page in a stage; none where it was not timed or is not finite.
    pub(crate) fn stage_ns(&self, stage: &str) -> Option<f64> {
        self.stages.get(stage).copied().flatten()
    }
    /// One of the limits, ns a page.
    pub(crate) fn limit_ns(&self, name: &str) -> Option<f64> {
        self.limit.get(&format!("{name}_ns_per_page"))?.as_f64()
    }
}

/// Blocks of one group by launch.
type Group = BTreeMap<u32, Vec<Sample>>;

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
    operations: BTreeMap<CellId, BTreeMap<u32, Operations>>,
    /// What this machine's kernel said beside the run, or a guest's.
    pub(crate) live: Live,
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
    /// Of a run that this process made and analysed.
    ///
    /// # Errors
    /// Cells that are none.
    pub(crate) fn of(folder: &Path, run: Run, lines: &[Line]) -> Result<Results> {
        let cells = run.cells.clone();
        read::of(folder, run, lines.to_vec(), &cells)
    }
    fn new(folder: &Path, run: Run, facts: Vec<CellFacts>, lines: Vec<Line>) -> Results {
        let mut operations: BTreeMap<CellId, BTreeMap<u32, Operations>> = BTreeMap::new();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for line in lines {
            match line {
                Line::Block(s) => {
                    groups.entry(s.group.clone()).or_default().entry(s.launch).or_default().push(s);
                }
                Line::Member(m) => {
                    let id = CellId::parse(&format!("{}/{}", m.group, m.member));
                    if let Some((id, ops)) = id.zip(m.operations) {
                        operations.entry(id).or_default().insert(m.launch, ops);
                    }
                }
                Line::Launch(_) | Line::Begin(_) | Line::Visit(_) => {}
            }
        }
        let cells = facts.into_iter().filter_map(|f| Some((CellId::parse(&f.id)?, f))).collect();
        Results {
            folder: folder.to_owned(),
            run,
            cells,
            groups,
            operations,
            live: Live::default(),
            notes: Vec::new(),
        }
    }
    /// An exact count of a cell.
    pub(crate) fn count(&self, cell: &CellId, name: &str) -> Option<u64> {
        self.cells.get(cell)?.counts.get(name).copied()
    }
    /// What counts of each launch of a cell's group: the blocks that tell `metric`.
    fn launches(&self, cell: &CellId, metric: Metric) -> impl Iterator<Item = (u32, Clean<'_>)> {
        // Pages in vain are counted where stages are timed.
        let is_staged = matches!(metric, Metric::Stage(_) | Metric::Vain);
        let churn: Option<ChurnSpec> = cell.get(Coordinate::Churn).parse().ok();
        let launches = self.groups.get(&cell.group()).into_iter().flatten();
        launches.map(move |(launch, samples)| {
            let wanted = |what: What| if is_staged { what.is_staged() } else { what == What::Whole };
            (*launch, Clean::new(samples.iter(), churn.as_ref(), wanted))
        })
    }
    /// The logarithm of one value for each launch, by launch: the median over its rounds.
    pub(crate) fn per_launch(&self, cell: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
        if metric == Metric::P99 {
            let launches = self.operations.get(cell).into_iter().flatten();
            let each = launches.filter_map(|(launch, ops)| {
                let latency = latency(std::iter::once(ops))?;
                Some((*launch, (latency.p99.max(1) as f64).ln()))
            });
            return each.collect();
        }
        let each = self.launches(cell, metric).filter_map(|(launch, clean)| {
            Some((launch, Sorted::new(values(&clean, cell, metric).into_values().collect())?.median().ln()))
        });
        each.filter(|(_, log)| log.is_finite()).collect()
    }
    /// The logarithm of a quantile of single operations for each launch that timed enough of them: so many of a million
    /// took no longer.
    pub(crate) fn log_quantiles(&self, cell: &CellId, ppm: u64) -> Vec<f64> {
        let launches = self.operations.get(cell).into_iter().flat_map(BTreeMap::values);
        launches.filter_map(|ops| quantile(ops, ppm)).map(|ns| ns.max(1.0).ln()).collect()
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
    /// A metric in its own unit for each launch that has blocks of it: the median over its rounds, also where that is 0.
    pub(crate) fn each_launch(&self, cell: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
        let of = |(launch, clean): (u32, Clean<'_>)| {
            Some((launch, Sorted::new(values(&clean, cell, metric).into_values().collect())?.median()))
        };
        self.launches(cell, metric).filter_map(of).collect()
    }
    /// Pages that each launch reported in whole operations.
    pub(crate) fn nr_pages_by_launch(&self, cell: &CellId) -> BTreeMap<u32, u64> {
        let backend = cell.get(Coordinate::Backend);
        let pages = self.launches(cell, Metric::Whole);
        pages.map(|(launch, clean)| (launch, clean.blocks(backend).map(|s| s.nr_pages).sum())).collect()
    }
    /// The values of both in every round that has both, by launch.
    pub(crate) fn pairs(&self, a: &CellId, b: &CellId, metric: Metric) -> BTreeMap<u32, Vec<(f64, f64)>> {
        let each = self.launches(a, metric).map(|(launch, clean)| {
            let (a, b) = (values(&clean, a, metric), values(&clean, b, metric));
            (launch, a.iter().filter_map(|(round, a)| Some((*a, *b.get(round)?))).collect())
        });
        each.collect()
    }
    /// ln(a / b) of each launch, by launch. Within a group from rounds next to each other in time; from the launch's
    /// medians where the sides are of different groups, or take turns of their own.
    pub(crate) fn log_ratios(&self, a: &CellId, b: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
        if a.group() == b.group() {
            let pairs = self.pairs(a, b, metric);
            let each: BTreeMap<u32, f64> =
                pairs.into_iter().filter_map(|(l, pairs)| Some((l, log_ratio(pairs.into_iter())?))).collect();
            if !each.is_empty() {
                return each;
            }
        }
        let (a, b) = (self.per_launch(a, metric), self.per_launch(b, metric));
        a.into_iter().filter_map(|(l, a)| Some((l, a - b.get(&l)?))).collect()
    }
}

/// What a member's blocks say, by round.
fn values(clean: &Clean<'_>, cell: &CellId, metric: Metric) -> BTreeMap<u32, f64> {
    let each = clean.blocks(cell.get(Coordinate::Backend));
    each.filter_map(|s| Some((s.round, value(s, metric)?))).collect()
}

/// What a block says, in the metric's unit.
fn value(sample: &Sample, metric: Metric) -> Option<f64> {
    let stage = match metric {
        Metric::Stage(stage) => stage,
        Metric::Events => {
            let churn = sample.churn.as_ref().filter(|c| c.wall_ns > 0)?;
            return Some(1e9 * churn.events as f64 / churn.wall_ns as f64);
        }
        Metric::Vain => {
            return Some(sample.churn.as_ref()?.pages_in_vain as f64 / sample.nr_pages.max(1) as f64);
        }
        Metric::Whole => return Some(sample.ns_per_page()),
        Metric::P99 | Metric::Count(_) | Metric::CountRatio(..) => return None,
    };
    let stages = sample.stages.as_ref()?;
    let ns = match stage {
        Stage::Prepare => stages.prepare_ns,
        Stage::Walk => stages.walk_ns,
        Stage::Fault => stages.fault_ns,
        Stage::Retry => stages.retry_ns,
        Stage::Consume => stages.consume_ns,
    };
    Some(ns as f64 / sample.nr_pages.max(1) as f64)
}
