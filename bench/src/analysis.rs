//! From lines to results: pure functions, so that a recorded run gives the same answer as a live one.
//!
//! Two levels, never pooled: a launch says the median of its rounds, and launches make the interval. Comparisons are
//! ratios within a round.

mod apart;
mod churned;
mod clean;
mod group;
mod harness;
mod operations;
mod split;

use std::collections::BTreeMap;

use serde::Serialize;
use walker::counters::Counts;

use crate::measure::matrix::Key;
use crate::record::{Line, MemberEnd, Run, Sample, Visit};
use crate::stats::Interval;

pub(crate) use churned::{ChurnResult, ChurnSide};
pub(crate) use clean::Clean;
pub(crate) use harness::Harness;
pub(crate) use operations::{latency, quantile};

/// Single operations, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half took no longer.
    pub(crate) p50: u64,
    /// 99 % took no longer.
    pub(crate) p99: u64,
    /// 99.9 % took no longer.
    pub(crate) p999: u64,
    /// The longest.
    pub(crate) max: u64,
    /// Operations timed together: figures are of one, as the mean of so many.
    pub(crate) batch: u64,
    /// How many were timed.
    pub(crate) nr: u64,
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
    /// One dependent load.
    pub(crate) chase_ns_per_load: Option<f64>,
    /// An operation of a design that does nothing: the loop, the mirror, the harness.
    pub(crate) noop_ns_per_page: Option<f64>,
    /// The harness alone.
    pub(crate) loop_ns_per_page: Option<f64>,
    /// What moved the bytes fastest.
    pub(crate) copy_by: Option<String>,
}

/// How fast, all walkers together and each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rate {
    /// Pages a second that one walker does.
    pub(crate) pages_per_s_per_thread: f64,
    /// Pages a second that all of them do.
    pub(crate) pages_per_s: f64,
}

/// What a counter says, a page; or why it says nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum PerPage {
    /// So many.
    Counted(f64),
    /// `unavailable: reason`
    Unavailable(String),
}

/// One cell's result, as in the JSON output.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Whole operations, by the thread that does them.
    pub(crate) ns_per_page: Option<Interval>,
    /// Ditto, a call.
    pub(crate) ns_per_call: Option<Interval>,
    /// How fast.
    pub(crate) rate: Option<Rate>,
    /// Stages, ns a page.
    pub(crate) stages: BTreeMap<&'static str, f64>,
    /// The stages' sum against `ns_per_page`.
    pub(crate) stages_of_whole: Option<f64>,
    /// Blocks that were taken apart against whole ones; not under churn, where no two are of the same work.
    pub(crate) apart_of_whole: Option<Interval>,
    /// Single operations.
    pub(crate) latency_ns: Option<Latency>,
    /// Exact counts of one sweep over fresh state.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Hardware and software counters.
    pub(crate) counters: BTreeMap<String, PerPage>,
    /// Where something invalidated.
    pub(crate) churned: Option<ChurnResult>,
    /// The churn threads before anybody walked.
    pub(crate) churn_alone: Option<ChurnSide>,
    /// The churn threads while the group's backends walked.
    pub(crate) churn_walked: Option<ChurnSide>,
    /// What the machine allows.
    pub(crate) limit: Limits,
    /// Distance to the decode limit, from pairs of blocks.
    pub(crate) x_decode: Option<Interval>,
    /// What the harness costs, of a thousand.
    pub(crate) harness_permille: Option<f64>,
    /// Launches behind `ns_per_page`.
    pub(crate) nr_launches: u64,
    /// Blocks behind `ns_per_page`.
    pub(crate) nr_blocks: u64,
    /// What a reader must know before believing it.
    pub(crate) marks: Vec<String>,
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
    /// Cell id without the backend.
    pub(crate) id: String,
    /// Its parts.
    pub(crate) key: Key,
    /// Its cells in the order of the registry.
    pub(crate) cells: Vec<Cell>,
    /// Its limits.
    pub(crate) limits: Vec<LimitRow>,
}

/// What lines say of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLines<'a> {
    samples: BTreeMap<u32, Vec<&'a Sample>>,
    members: Vec<&'a MemberEnd>,
    visits: Vec<&'a Visit>,
}

/// Name and value of every count, as in the JSON output.
pub(crate) fn named(counts: &Counts) -> BTreeMap<&'static str, u64> {
    counts.iter().map(|(count, n)| (count.name(), n)).collect()
}

/// The results of a run, in the order of its plan. Groups that no launch got to are left out. `is_wanted` says whether a
/// cell was asked for: the harness's own `noop` takes turns whether or not it was.
pub(crate) fn results(run: &Run, lines: &[Line], is_wanted: &dyn Fn(&str) -> bool) -> Vec<GroupResult> {
    let mut groups: BTreeMap<&str, GroupLines<'_>> = BTreeMap::new();
    let mut unavailable: BTreeMap<String, String> = BTreeMap::new();
    let mut clock_cost_ns = run.clock_cost_ps as f64 / 1000.0;
    for line in lines {
        match line {
            Line::Launch(l) => {
                unavailable.extend(l.unavailable.clone());
                clock_cost_ns = clock_cost_ns.max(l.clock_cost_ps as f64 / 1000.0);
            }
            Line::Begin(_) => {}
            Line::Block(s) => {
                groups.entry(&s.group).or_default().samples.entry(s.launch).or_default().push(s)
            }
            Line::Member(m) => groups.entry(&m.group).or_default().members.push(m),
            Line::Visit(v) => groups.entry(&v.group).or_default().visits.push(v),
        }
    }
    let result = |id: &String| {
        let key = Key::parse(id)?;
        if let Some(failure) = run.failures.iter().find(|f| f.group == *id) {
            return Some(group::failed(id, key, &failure.backends, &failure.reason));
        }
        let lines = groups.get(id.as_str())?;
        Some(group::result(id, key, lines, &unavailable, clock_cost_ns, is_wanted))
    };
    run.groups.iter().filter_map(result).collect()
}
