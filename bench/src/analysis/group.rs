//! One group: from what its launches say to its cells.

use std::collections::BTreeMap;

use walker::backends;
use workloads::churn::ChurnSpec;

use super::apart::Apart;
use super::churned;
use super::clean::Rounds;
use super::harness;
use super::operations::latency;
use super::split::{self, Split};
use super::{Cell, Clean, GroupLines, GroupResult, LimitRow, Limits, PerPage, Rate};
use crate::measure::limits::{LINE_ENTRIES, Limit};
use crate::measure::matrix::Key;
use crate::measure::member::{LOOP, NOOP, What};
use crate::record::{ChurnCost, Sample, Visit};
use crate::stats::{Interval, Sorted, estimate, median_interval};

/// A cell closer than this to the harness's own cost is marked.
const NEAR: f64 = 20.0;

/// What one launch says.
struct Launched<'a> {
    whole: Clean<'a>,
    staged: Apart<'a>,
    all: Vec<&'a Sample>,
}

/// From one logarithm a launch to a ratio with an interval over launches: see [`estimate`]. A single launch has none of
/// its own; then it is that of its rounds.
pub(super) fn over_launches(logs: &[f64], alone: impl FnOnce() -> Option<Interval>) -> Option<Interval> {
    let e = estimate(logs)?;
    match (e.lo, e.hi) {
        (Some(lo), Some(hi)) => Some(Interval { median: e.value, lo, hi }),
        _ => alone(),
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    Some(Sorted::new(values.collect())?.median())
}

/// Everything about a group, from its lines. `is_wanted` says whether a cell was asked for: the harness's own `noop`
/// takes turns whether or not it was.
pub(super) fn result(
    id: &str,
    key: Key,
    lines: &GroupLines<'_>,
    unavailable: &BTreeMap<String, String>,
    clock_cost_ns: f64,
    is_wanted: &dyn Fn(&str) -> bool,
) -> GroupResult {
    let churn: Option<ChurnSpec> = key.churn.parse().ok();
    let launched: Vec<Launched<'_>> = lines
        .samples
        .values()
        .map(|samples| {
            let clean =
                |wanted: fn(What) -> bool| Clean::new(samples.iter().copied(), churn.as_ref(), wanted);
            let whole = clean(|w| w == What::Whole);
            Launched { staged: Apart::new(clean(What::is_staged), &whole), whole, all: samples.clone() }
        })
        .collect();
    let group = Group { id, key: &key, lines, launched, clock_cost_ns, unavailable };
    let error = group.lines.visits.iter().find_map(|v| v.error.as_deref());
    let (mut cells, mut limits) = (Vec::new(), Vec::new());
    for name in group.members() {
        let is_backend = backends::find(name.split('+').next().unwrap_or_default()).is_some();
        if is_backend && is_wanted(&format!("{id}/{name}")) {
            cells.push(group.cell(name));
        } else {
            limits.push(LimitRow {
                name: name.to_owned(),
                ns_per_page: group.ns_per_page(name),
                x_decode: group.x_decode(name),
            });
        }
    }
    for cell in &mut cells {
        cell.error = cell.error.take().or_else(|| error.map(str::to_owned));
    }
    GroupResult { id: id.to_owned(), key, cells, limits }
}

/// The result of a group that could not be measured: every cell is a row with the error.
pub(super) fn failed(id: &str, key: Key, backends: &[String], error: &str) -> GroupResult {
    let cells = backends.iter().map(|b| Cell { error: Some(error.to_owned()), ..empty(id, &key, b) });
    let (cells, limits) = (cells.collect(), Vec::new());
    GroupResult { id: id.to_owned(), key, cells, limits }
}

fn empty(id: &str, key: &Key, backend: &str) -> Cell {
    Cell {
        id: format!("{id}/{backend}"),
        backend: backend.to_owned(),
        workload: key.workload.clone(),
        size_bytes: key.size_bytes,
        request: key.request.clone(),
        call_pages: key.call_pages,
        churn: key.churn.clone(),
        walkers: key.walkers,
        ..Cell::default()
    }
}

struct Group<'a> {
    id: &'a str,
    key: &'a Key,
    lines: &'a GroupLines<'a>,
    launched: Vec<Launched<'a>>,
    clock_cost_ns: f64,
    unavailable: &'a BTreeMap<String, String>,
}

impl Group<'_> {
    /// Backends in the order of the registry, their twins behind them, then the limits in theirs.
    fn members(&self) -> Vec<&str> {
        let blocks = self.launched.iter().flat_map(|l| &l.all).map(|s| s.member.as_str());
        let mut names: Vec<&str> =
            blocks.chain(self.lines.members.iter().map(|m| m.member.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        let registry = |name: &str| {
            let backend = backends::ALL.iter().position(|b| Some(b.id) == name.split('+').next());
            let limit = || Limit::ALL.iter().position(|l| l.name() == name).unwrap_or(Limit::ALL.len());
            backend.unwrap_or_else(|| backends::ALL.len() + limit())
        };
        names.sort_by_key(|name| registry(name));
        names
    }
    fn ns_per_page(&self, name: &str) -> Option<Interval> {
        let launches: Vec<Interval> =
            self.launched.iter().filter_map(|l| l.whole.ns_per_page(name)).collect();
        let medians = || launches.iter().map(|i| i.median);
        // Absolute times are shown and never compared: the middle launch, as exports and questions have it.
        let logs: Vec<f64> = medians().map(f64::ln).collect();
        let middle = over_launches(&logs, || launches.first().copied());
        // What takes no longer than the clock has no logarithm.
        middle.or_else(|| Some(median_interval(&Sorted::new(medians().collect())?)))
    }
    fn x_decode(&self, name: &str) -> Option<Interval> {
        let logs: Vec<f64> = self.launched.iter().filter_map(|l| l.whole.log_ratio(name, "decode")).collect();
        if logs.is_empty() {
            // Under churn limits have rounds of their own: ratios of the launches' medians.
            let median = |l: &Launched<'_>, name: &str| Some(l.whole.ns_per_page(name)?.median);
            let ratio = |l: &Launched<'_>| Some((median(l, name)? / median(l, "decode")?).ln());
            let logs: Vec<f64> = self.launched.iter().filter_map(ratio).collect();
            return over_launches(&logs, || None);
        }
        over_launches(&logs, || self.launched.iter().find_map(|l| l.whole.ratio(name, "decode")))
    }
    fn limits(&self) -> Limits {
        let ns = |name: &str| self.ns_per_page(name).map(|i| i.median);
        Limits {
            copy_ns_per_page: ns("copy"),
            load_ns_per_page: ns("load"),
            decode_ns_per_page: ns("decode"),
            fill_ns_per_page: ns("fill"),
            chase_ns_per_load: ns("chase").filter(|ns| *ns > 0.001).map(|ns| ns * LINE_ENTRIES as f64),
            noop_ns_per_page: ns(NOOP),
            loop_ns_per_page: ns(LOOP),
            copy_by: self.lines.members.iter().find_map(|m| m.note.clone()),
        }
    }
    fn split(&self, name: &str) -> Split {
        let launch = |l: &Launched<'_>| {
            let whole_ns = l.whole.ns_per_page(name).map(|i| i.median);
            split::Launch { apart: l.staged.blocks(name, whole_ns).collect(), whole_ns }
        };
        let launches: Vec<split::Launch> = self.launched.iter().map(launch).collect();
        let whole_ns = self.ns_per_page(name).map(|i| i.median);
        whole_ns.map_or_else(Split::default, |ns| Split::new(&launches, ns, self.key.churn != "none"))
    }
    fn rounds(&self) -> Rounds {
        let mut all = Rounds::default();
        self.launched.iter().for_each(|l| all.add(l.whole.rounds()));
        all
    }
    fn rate(&self, name: &str) -> Option<Rate> {
        let ns = self.ns_per_page(name)?.median;
        Some(rate(ns, self.key.walkers))
    }
    fn counters(&self, name: &str) -> BTreeMap<String, PerPage> {
        let mut all: BTreeMap<String, PerPage> = self
            .unavailable
            .iter()
            .map(|(n, r)| (n.clone(), PerPage::Unavailable(format!("unavailable: {r}"))))
            .collect();
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for member in self.lines.members.iter().filter(|m| m.member == name && m.counted_pages > 0) {
            for reading in &member.counters {
                let (value, pages) = sums.entry(&reading.name).or_default();
                *value += reading.value;
                *pages += member.counted_pages;
            }
        }
        for (counter, (value, pages)) in sums {
            all.insert(counter.to_owned(), PerPage::Counted(value as f64 / pages as f64));
        }
        all
    }
    fn cell(&self, name: &str) -> Cell {
        let ends = || self.lines.members.iter().filter(|m| m.member == name);
        let mut cell = empty(self.id, self.key, name);
        cell.ns_per_page = self.ns_per_page(name);
        cell.ns_per_call = cell.ns_per_page.map(|i| {
            let pages = self.key.call_pages as f64;
            Interval { median: i.median * pages, lo: i.lo * pages, hi: i.hi * pages }
        });
        cell.rate = self.rate(name);
        let split = self.split(name);
        cell.stages = split.stages;
        cell.stages_of_whole = split.stages_of_whole;
        cell.apart_of_whole = split.apart_of_whole;
        cell.latency_ns =
            latency(ends().filter_map(|m| m.operations.as_ref()).collect::<Vec<_>>().into_iter());
        cell.counts = ends().find(|m| !m.counts.is_empty()).map(|m| m.counts.clone()).unwrap_or_default();
        cell.counters = self.counters(name);
        let blocks =
            self.launched.iter().flat_map(|l| l.whole.blocks(name).chain(l.staged.clean.blocks(name)));
        cell.churned = churned::churned(blocks);
        let costs = |of: fn(&Visit) -> Option<ChurnCost>| {
            let costs: Vec<ChurnCost> = self.lines.visits.iter().filter_map(|v| of(v)).collect();
            churned::side(&costs)
        };
        cell.churn_alone = costs(|v| v.churn_alone);
        cell.churn_walked = costs(|v| v.churn_walked);
        cell.limit = self.limits();
        cell.x_decode = self.x_decode(name);
        cell.nr_launches = self.launched.iter().filter(|l| l.whole.len(name) > 0).count() as u64;
        cell.nr_blocks = self.launched.iter().map(|l| l.whole.len(name) as u64).sum();
        cell.error = ends().find_map(|m| m.error.clone());
        let deviates = [
            (ends().any(|m| m.lost_wishes > 0), "lost_wishes"),
            (ends().any(|m| m.hints_reported > 0), "hints_reported"),
        ];
        let marks = [(name != NOOP && split.is_off, "stages_off"), deviates[0], deviates[1]];
        self.mark(name, &mut cell, marks);
        cell
    }

    fn mark(&self, name: &str, cell: &mut Cell, known: [(bool, &str); 3]) {
        let Some(ns) = cell.ns_per_page.map(|i| i.median).filter(|ns| *ns > 0.0) else { return };
        let near = |cost: f64, of: f64| of < NEAR * cost;
        let blocks: Vec<f64> =
            self.launched.iter().flat_map(|l| l.whole.blocks(name)).map(|s| s.nr_pages as f64).collect();
        let loop_ns = cell.limit.loop_ns_per_page.unwrap_or(0.0);
        let harness =
            median(blocks.into_iter()).map(|pages| harness::permille(loop_ns, self.clock_cost_ns, pages, ns));
        cell.harness_permille = harness;
        let rounds = self.rounds();
        let marks = [
            (rounds.are_noisy(), "noisy"),
            (rounds.are_unequal(), "unequal_dose"),
            (near(self.clock_cost_ns, ns * self.key.call_pages as f64), "near_clock"),
            (name != NOOP && near(cell.limit.noop_ns_per_page.unwrap_or(0.0), ns), "near_noop"),
            (harness.is_some_and(|p| p > harness::TOO_MUCH_PERMILLE), "harness"),
            (cell.nr_launches < 2, "one_launch"),
        ];
        cell.marks =
            marks.into_iter().chain(known).filter(|(is, _)| *is).map(|(_, mark)| mark.to_owned()).collect();
        for mark in self.lines.visits.iter().flat_map(|v| &v.marks) {
            if !cell.marks.contains(mark) {
                cell.marks.push(mark.clone());
            }
        }
    }
}

/// From the time that a walker takes for a page to pages a second: its own, and that of so many.
fn rate(ns_per_page: f64, walkers: u32) -> Rate {
    let each = 1e9 / ns_per_page;
    Rate { pages_per_s_per_thread: each, pages_per_s: each * f64::from(walkers) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::measure::stages::{Readings, Stages, TakenApart};
    use crate::record::{MemberEnd, Operations, Reading};

    const ID: &str = "dense_4k@2MiB/snapshot/512/none/1";

    /// A block of 1000 pages in which each took `ns` nanoseconds.
    pub(in crate::analysis) fn sample(member: &str, round: u32, ns: u64) -> Sample {
        Sample {
            launch: 0,
            group: ID.to_owned(),
            member: member.to_owned(),
            round,
            turn: 0,
            what: What::Whole,
            nr_pages: 1000,
            nr_calls: 10,
            block_ns: ns * 1000,
            thread_ns: Vec::new(),
            stages: None,
            apart: None,
            involuntary_switches: Some(0),
            stolen_ticks: None,
            churn: None,
        }
    }

    fn staged(member: &str, round: u32, stages: Stages) -> Sample {
        Sample {
            what: What::Stages,
            stages: Some(stages),
            block_ns: stages.sum(),
            ..sample(member, round, 0)
        }
    }

    fn result_of(samples: &[Sample], members: &[MemberEnd], id: &str) -> GroupResult {
        let mut lines = GroupLines::default();
        samples.iter().for_each(|s| lines.samples.entry(s.launch).or_default().push(s));
        lines.members = members.iter().collect();
        let visit = Visit::default();
        lines.visits = vec![&visit];
        let refused = BTreeMap::from([("cycles".to_owned(), "not permitted".to_owned())]);
        result(id, Key::parse(id).unwrap(), &lines, &refused, 20.0, &|id| !id.ends_with("/noop"))
    }

    /// Three launches; map_order takes 2 ns in the first and 4 % more in each that follows, decode half of that.
    fn launches() -> Vec<Sample> {
        let mut all = Vec::new();
        for launch in 0..3 {
            for round in 0..5 {
                let block = |member, ns: f64| Sample {
                    launch,
                    block_ns: (ns * 1000.0 * 1.04f64.powi(launch as i32)) as u64,
                    ..sample(member, round, 0)
                };
                all.extend([
                    block("map_order", 2.0),
                    block("decode", 1.0),
                    block("noop", 0.01),
                    block("loop", 0.001),
                ]);
            }
        }
        all
    }

    #[test]
    fn the_launch_is_the_unit_and_a_ratio_cancels_what_moves_both() {
        let r = result_of(&launches(), &[], ID);
        let cell = &r.cells[0];
        assert_eq!((cell.nr_launches, cell.nr_blocks, r.cells.len()), (3, 15, 1));
        let ns = cell.ns_per_page.unwrap();
        assert!((ns.median - 2.08).abs() < 0.01 && ns.lo == 2.0 && (ns.hi - 2.163).abs() < 0.001, "{ns:?}");
        let x = cell.x_decode.unwrap();
        assert!((x.median - 2.0).abs() < 1e-3 && x.hi - x.lo < 1e-2, "{x:?}");
        let names: Vec<&str> = r.limits.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["noop", "decode", "loop"], "noop was not asked for: it is a limit");
    }

    #[test]
    fn the_stage_sum_is_held_against_the_whole() {
        let mut samples: Vec<Sample> = (0..5).map(|r| sample("map_order", r, 100)).collect();
        let good = Stages { prepare_ns: 20_000, walk_ns: 50_000, consume_ns: 31_000, ..Stages::default() };
        samples.push(staged("map_order", 5, good));
        let cell = result_of(&samples, &[], ID).cells.remove(0);
        assert_eq!((cell.stages["walk"], cell.stages["fault"]), (50.0, 0.0));
        assert!((cell.stages_of_whole.unwrap() - 1.01).abs() < 1e-9);
        assert!(!cell.marks.contains(&"stages_off".to_owned()));
        // A stage that is lost, or counted twice, shows.
        for broken in [Stages { consume_ns: 0, ..good }, Stages { fault_ns: good.walk_ns, ..good }] {
            samples[5] = staged("map_order", 5, broken);
            let cell = result_of(&samples, &[], ID).cells.remove(0);
            assert!(cell.marks.contains(&"stages_off".to_owned()), "{broken:?}");
        }
    }

    #[test]
    fn what_taking_apart_costs_is_taken_off() {
        let mut samples: Vec<Sample> =
            (0..5).flat_map(|r| [sample("map_order", r, 100), sample("noop", r, 2)]).collect();
        let real = Stages { prepare_ns: 20_000, walk_ns: 50_000, consume_ns: 30_000, ..Stages::default() };
        let nothing = Stages { prepare_ns: 500, walk_ns: 700, consume_ns: 800, ..Stages::default() };
        // Three readings in each of ten calls, 400 ns each.
        let read = |s: Stages| Stages {
            prepare_ns: s.prepare_ns + 4000,
            walk_ns: s.walk_ns + 4000,
            consume_ns: s.consume_ns + 4000,
            ..s
        };
        samples.extend([staged("map_order", 5, read(real)), staged("noop", 5, read(nothing))]);
        let cell = result_of(&samples, &[], ID).cells.remove(0);
        for (stage, ns) in real.each() {
            assert!((cell.stages[stage] - ns as f64 / 1000.0).abs() < 1e-9, "{stage} {}", cell.stages[stage]);
        }
        assert!((cell.stages_of_whole.unwrap() - 1.0).abs() < 1e-9);
        // Blocks that say how often the clock was read pay what a reading costs them, here with two around each of five
        // faults: from nothing to twice what it costs noop. What is beyond that shows.
        let readings = Readings { prepare: 10, walk: 15, fault: 5, retry: 0, consume: 10 };
        let faulted = Stages { walk_ns: 43_000, fault_ns: 7000, ..real };
        assert_eq!(faulted.sum(), 100_000);
        for (reading_ns, off) in [(-300, 0.88), (0, 1.0), (250, 1.0), (400, 1.0), (800, 1.0), (1000, 1.08)] {
            let longer = |ns: u64, n: u64| (ns as i64 + n as i64 * reading_ns) as u64;
            let read = Stages {
                prepare_ns: longer(faulted.prepare_ns, readings.prepare),
                walk_ns: longer(faulted.walk_ns, readings.walk),
                fault_ns: longer(faulted.fault_ns, readings.fault),
                retry_ns: 0,
                consume_ns: longer(faulted.consume_ns, readings.consume),
            };
            let apart = TakenApart { whole_ns: read.sum(), readings };
            samples[10] = Sample { apart: Some(apart), ..staged("map_order", 5, read) };
            let cell = result_of(&samples, &[], ID).cells.remove(0);
            assert!((cell.apart_of_whole.unwrap().median - off).abs() < 1e-9, "{reading_ns} {cell:?}");
            assert_eq!(cell.marks.contains(&"stages_off".to_owned()), off != 1.0, "{reading_ns}");
            for (stage, ns) in faulted.each().into_iter().filter(|_| off == 1.0) {
                assert!((cell.stages[stage] - ns as f64 / 1000.0).abs() < 1e-9, "{reading_ns} {stage}");
            }
        }
        samples[10] = staged("map_order", 5, read(real));
        // Where noop was not taken apart the same way nothing is known of it.
        samples.pop();
        let cell = result_of(&samples, &[], ID).cells.remove(0);
        assert!((cell.stages_of_whole.unwrap() - 1.12).abs() < 1e-9);
    }

    #[test]
    fn rates_are_of_a_thread_and_of_all_and_follow_from_the_time_of_a_page() {
        // Two walkers, each 1000 pages in 2 us at the same time: 500 million a second each, a billion together.
        let two = |r| Sample {
            nr_pages: 2000,
            block_ns: 4000,
            thread_ns: vec![2000, 2000],
            ..sample("map_order", r, 0)
        };
        let samples: Vec<Sample> = (0..5).map(two).collect();
        let cell = result_of(&samples, &[], "dense_4k@2MiB/snapshot/512/none/2").cells.remove(0);
        let rate = cell.rate.unwrap();
        assert!((rate.pages_per_s_per_thread / 5e8 - 1.0).abs() < 1e-9, "{rate:?}");
        assert!((rate.pages_per_s / 1e9 - 1.0).abs() < 1e-9, "{rate:?}");
        assert!((cell.ns_per_page.unwrap().median - 2.0).abs() < 1e-9);
        assert!((cell.ns_per_call.unwrap().median - 1024.0).abs() < 1e-6);
    }

    #[test]
    fn counters_are_a_page_and_what_is_refused_has_a_reason_and_no_number() {
        let end = |launch, value| MemberEnd {
            launch,
            member: "map_order".to_owned(),
            counted_pages: 1000,
            counters: vec![Reading { name: "instructions".to_owned(), value, running_permille: 1000 }],
            operations: Some(Operations { batch: 4, ns: vec![(400, 1000)] }),
            ..MemberEnd::default()
        };
        let cell =
            result_of(&[sample("map_order", 0, 2)], &[end(0, 14_000), end(1, 16_000)], ID).cells.remove(0);
        assert_eq!(cell.counters["instructions"], PerPage::Counted(15.0));
        assert_eq!(cell.counters["cycles"], PerPage::Unavailable("unavailable: not permitted".to_owned()));
        let latency = cell.latency_ns.unwrap();
        assert_eq!((latency.p50, latency.batch, latency.nr), (100, 4, 2000));
        assert!(cell.marks.contains(&"one_launch".to_owned()));
    }

    #[test]
    fn what_is_near_the_harness_is_marked() {
        let cell = |ns: f64, noop: f64, harness: f64| {
            let block = |member, ns: f64| Sample { block_ns: (ns * 1000.0) as u64, ..sample(member, 0, 0) };
            let samples = [block("map_order", ns), block("noop", noop), block("loop", harness)];
            result_of(&samples, &[], ID).cells.remove(0)
        };
        let far = cell(10.0, 0.1, 0.01);
        assert!(!far.marks.iter().any(|m| m.starts_with("near") || m == "harness"), "{:?}", far.marks);
        // The loop, and 20 ns of clock over the block's 1000 pages.
        assert!((far.harness_permille.unwrap() - 3.0).abs() < 1e-6);
        assert!(cell(1.0, 0.1, 0.0).marks.contains(&"near_noop".to_owned()));
        assert!(
            cell(0.5, 0.0, 0.0).marks.contains(&"near_clock".to_owned()),
            "256 ns a call, 20 ns a reading"
        );
        assert!(cell(10.0, 0.1, 0.2).marks.contains(&"harness".to_owned()));
    }

    #[test]
    fn a_failed_group_is_rows_with_the_error() {
        let key = Key::parse(ID).unwrap();
        let r = failed(ID, key, &["map_order".to_owned(), "noop".to_owned()], "out of frames");
        assert_eq!(r.cells.len(), 2);
        assert!(
            r.cells.iter().all(|c| c.error.as_deref() == Some("out of frames") && c.ns_per_page.is_none())
        );
    }
}
