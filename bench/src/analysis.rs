//! From samples to results: pure functions, so that a recorded run gives the same answer as a live one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use walker::counters::Counts;

use crate::measure::matrix::Group;
use crate::measure::member::{NOOP, What};
use crate::measure::runner::Outcome;
use crate::record::Sample;
use crate::stats::{Interval, Sorted, median_interval, ratio_interval};

/// Rounds of a group may be disturbed up to this share before it counts as noisy.
const NOISY: f64 = 0.3;
/// Blocks that a member must have left for its disturbed ones to be void.
const FEW: usize = 3;
/// Stages must sum to the whole within this.
const STAGES_OFF: f64 = 0.05;
/// A cell closer than this to the harness's own cost is marked.
const NEAR: f64 = 20.0;

/// Single operations.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// The same footprint's limits, from the same rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Limits {
    /// See [`crate::measure::limits`].
    pub(crate) copy_ns_per_page: Option<f64>,
    /// Ditto.
    pub(crate) load_ns_per_page: Option<f64>,
    /// Ditto.
    pub(crate) decode_ns_per_page: Option<f64>,
    /// Ditto.
    pub(crate) fill_ns_per_page: Option<f64>,
    /// The harness's own cost.
    pub(crate) noop_ns_per_page: Option<f64>,
    /// What moved the bytes fastest.
    pub(crate) copy_by: Option<String>,
}

/// One cell's result, as in the JSON output.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// The cell.
    pub(crate) id: String,
    /// Its backend.
    pub(crate) backend: String,
    /// Its workload.
    pub(crate) workload: String,
    /// Bytes of walked address space.
    pub(crate) size_bytes: u64,
    /// What was asked.
    pub(crate) request: String,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// What invalidated meanwhile.
    pub(crate) churn: String,
    /// Threads that walked.
    pub(crate) walkers: u32,
    /// Whole operations.
    pub(crate) ns_per_page: Option<Interval>,
    /// Stages, ns a page.
    pub(crate) stages: BTreeMap<&'static str, f64>,
    /// Single operations.
    pub(crate) latency_ns: Option<Latency>,
    /// Exact counts of one sweep over fresh state.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// What the machine allows.
    pub(crate) limit: Limits,
    /// Distance to the decode limit, from pairs of blocks.
    pub(crate) x_decode: Option<Interval>,
    /// Blocks behind `ns_per_page`.
    pub(crate) nr_blocks: u64,
    /// What a reader must know before believing it.
    pub(crate) marks: Vec<&'static str>,
    /// Why there is no result.
    pub(crate) error: Option<String>,
}

/// One limit's result.
#[derive(Clone, Debug)]
pub(crate) struct LimitRow {
    /// Its name.
    pub(crate) name: String,
    /// Nanoseconds a page.
    pub(crate) ns_per_page: Option<Interval>,
    /// Against decode.
    pub(crate) x_decode: Option<Interval>,
}

/// Everything about one group.
#[derive(Clone, Debug)]
pub(crate) struct GroupResult {
    /// Its cells in the order of the registry.
    pub(crate) cells: Vec<Cell>,
    /// Its limits.
    pub(crate) limits: Vec<LimitRow>,
}

/// Name and value of every count, as in the JSON output.
pub(crate) fn named(counts: &Counts) -> BTreeMap<&'static str, u64> {
    counts.iter().map(|(count, n)| (count.name(), n)).collect()
}

/// The samples that count. A disturbed round is void for all members; where that would void too many, only the
/// disturbed blocks themselves are, and the group is marked as noisy. A member that has hardly any other blocks keeps
/// them all.
pub(crate) struct Clean<'a> {
    by_member: BTreeMap<&'a str, BTreeMap<u32, &'a Sample>>,
    noisy: bool,
}

impl<'a> Clean<'a> {
    /// Of the samples of one group that timed `what`.
    pub(crate) fn new(samples: &'a [Sample], what: What) -> Clean<'a> {
        let timed = || samples.iter().filter(move |s| s.what == what);
        let rounds: BTreeSet<u32> = timed().map(|s| s.round).collect();
        let disturbed: BTreeSet<u32> = timed().filter(|s| s.is_disturbed()).map(|s| s.round).collect();
        let noisy = disturbed.len() as f64 > NOISY * rounds.len() as f64;
        let mut by_member: BTreeMap<&str, BTreeMap<u32, &Sample>> = BTreeMap::new();
        for s in timed() {
            by_member.entry(&s.member).or_default().insert(s.round, s);
        }
        for blocks in by_member.values_mut() {
            let is_kept = |s: &Sample| if noisy { !s.is_disturbed() } else { !disturbed.contains(&s.round) };
            if blocks.values().filter(|s| is_kept(s)).count() >= FEW {
                blocks.retain(|_, s| is_kept(s));
            }
        }
        Clean { by_member, noisy }
    }
    /// Blocks of `member`.
    pub(crate) fn len(&self, member: &str) -> usize {
        self.by_member.get(member).map_or(0, BTreeMap::len)
    }
    /// Nanoseconds a page of `member`.
    pub(crate) fn ns_per_page(&self, member: &str) -> Option<Interval> {
        let blocks = self.by_member.get(member)?;
        Some(median_interval(&Sorted::new(blocks.values().map(|s| s.ns_per_page()).collect())?))
    }
    /// `member` against `limit`, from the rounds that have both.
    pub(crate) fn ratio(&self, member: &str, limit: &str) -> Option<Interval> {
        let (m, l) = (self.by_member.get(member)?, self.by_member.get(limit)?);
        ratio_interval(m.iter().filter_map(|(round, s)| Some((s.ns_per_page(), l.get(round)?.ns_per_page()))))
    }
    /// More rounds were disturbed than can be left out.
    pub(crate) fn is_noisy(&self) -> bool {
        self.noisy
    }
}

/// Sums one group up.
pub(crate) fn group_result(
    group: &Group,
    outcomes: &[Outcome],
    samples: &[Sample],
    clock_cost_ns: f64,
) -> GroupResult {
    let whole = Clean::new(samples, What::Whole);
    let staged = Clean::new(samples, What::Stages);
    let ns = |name: &str| whole.ns_per_page(name).map(|i| i.median);
    let limit = Limits {
        copy_ns_per_page: ns("copy"),
        load_ns_per_page: ns("load"),
        decode_ns_per_page: ns("decode"),
        fill_ns_per_page: ns("fill"),
        noop_ns_per_page: ns(NOOP),
        copy_by: outcomes.iter().find_map(|o| o.note.clone()),
    };
    let is_cell = |o: &&Outcome| group.backends.iter().any(|b| b.id == o.name);
    let cells = outcomes.iter().filter(is_cell).map(|o| {
        let mut cell = cell(group, &o.name);
        cell.ns_per_page = whole.ns_per_page(&o.name);
        cell.x_decode = whole.ratio(&o.name, "decode");
        cell.nr_blocks = whole.len(&o.name) as u64;
        cell.stages = stages(samples, &o.name);
        cell.latency_ns = o.latency.map(|[p50, p99, p999, max]| Latency { p50, p99, p999, max });
        cell.counts = o.checked.as_ref().map(|c| named(&c.counts)).unwrap_or_default();
        cell.limit = limit.clone();
        cell.error = o.error.clone();
        let whole_ns = cell.ns_per_page.map_or(0.0, |i| i.median);
        let near = |cost: f64, of: f64| of > 0.0 && of < NEAR * cost;
        let op_ns = whole_ns * group.call_pages as f64;
        let sum = staged.ns_per_page(&o.name).map_or(whole_ns, |i| i.median);
        cell.marks = [
            (whole.is_noisy(), "noisy"),
            (near(clock_cost_ns, op_ns), "near_clock"),
            (o.name != NOOP && near(limit.noop_ns_per_page.unwrap_or(0.0), whole_ns), "near_noop"),
            (o.checked.as_ref().is_some_and(|c| c.lost_wishes > 0), "lost_wishes"),
            (o.checked.as_ref().is_some_and(|c| c.hints_reported > 0), "hints_reported"),
            ((sum - whole_ns).abs() > STAGES_OFF * whole_ns, "stages_off"),
        ]
        .into_iter()
        .filter_map(|(is, mark)| is.then_some(mark))
        .collect();
        cell
    });
    let limits = outcomes.iter().filter(|o| !is_cell(o)).map(|o| LimitRow {
        name: o.name.clone(),
        ns_per_page: whole.ns_per_page(&o.name),
        x_decode: whole.ratio(&o.name, "decode"),
    });
    GroupResult { cells: cells.collect(), limits: limits.collect() }
}

/// The result of a group that could not be built: every cell is a row with the error.
pub(crate) fn failed_group(group: &Group, error: &str) -> GroupResult {
    let cells = group.backends.iter().map(|b| Cell { error: Some(error.to_owned()), ..cell(group, b.id) });
    GroupResult { cells: cells.collect(), limits: Vec::new() }
}

fn cell(group: &Group, backend: &str) -> Cell {
    Cell {
        id: group.cell_id(backend),
        backend: backend.to_owned(),
        workload: group.definition.id.clone(),
        size_bytes: group.size_bytes,
        request: group.request.to_string(),
        call_pages: group.call_pages,
        churn: workloads::churn::name(group.churn),
        walkers: group.walkers,
        ns_per_page: None,
        stages: BTreeMap::new(),
        latency_ns: None,
        counts: BTreeMap::new(),
        limit: Limits::default(),
        x_decode: None,
        nr_blocks: 0,
        marks: Vec::new(),
        error: None,
    }
}

/// Median of each stage over the blocks that timed stages, ns a page.
fn stages(samples: &[Sample], member: &str) -> BTreeMap<&'static str, f64> {
    let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.member == member) {
        for (name, ns) in sample.stages.iter().flat_map(|s| s.each()) {
            values.entry(name).or_default().push(ns as f64 / sample.nr_pages.max(1) as f64);
        }
    }
    values.into_iter().filter_map(|(name, v)| Some((name, Sorted::new(v)?.median()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(member: &str, round: u32, block_ns: u64, switches: u64) -> Sample {
        Sample {
            group: "g".to_owned(),
            member: member.to_owned(),
            round,
            turn: 0,
            what: What::Whole,
            nr_pages: 10,
            nr_calls: 1,
            block_ns,
            stages: None,
            involuntary_switches: Some(switches),
        }
    }

    #[test]
    fn a_disturbed_round_is_void_for_all_members() {
        let mut samples: Vec<Sample> =
            (0..10).flat_map(|r| [sample("a", r, 20, 0), sample("decode", r, 10, 0)]).collect();
        samples[6] = sample("a", 3, 9_000, 1);
        let clean = Clean::new(&samples, What::Whole);
        assert!(!clean.is_noisy());
        assert_eq!((clean.len("a"), clean.len("decode")), (9, 9));
        assert_eq!(clean.ratio("a", "decode").unwrap().hi, 2.0);
    }

    #[test]
    fn in_a_noisy_group_only_the_disturbed_blocks_are_void() {
        let samples: Vec<Sample> = (0..10)
            .flat_map(|r| {
                [sample("a", r, 20, u64::from(r % 2)), sample("b", r, 20, 1), sample("decode", r, 10, 0)]
            })
            .collect();
        let clean = Clean::new(&samples, What::Whole);
        assert!(clean.is_noisy());
        assert_eq!((clean.len("a"), clean.len("b"), clean.len("decode")), (5, 10, 10));
        assert_eq!(clean.ratio("a", "decode").unwrap().median, 2.0);
    }
}
