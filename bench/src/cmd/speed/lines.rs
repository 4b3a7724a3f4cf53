//! The lines that compare calls with limits.

use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::Serialize;
use walker::backends;
use workloads::request::RequestKind;
use workloads::shape::{AbsentTables, Memory, ShapeSpec};

use crate::analysis::Clean;
use crate::interrupt;
use crate::measure::backend_member::MakeMember;
use crate::measure::clock::Clock;
use crate::measure::limits::Limit;
use crate::measure::member::{FrameMember, LimitMember, Member, What};
use crate::measure::order::Rng;
use crate::measure::runner::{Block, Mix, Plan, Session, Stage};
use crate::measure::scene::Recipe;
use crate::measure::watch::Watch;
use crate::os::pinning;
use crate::record::Sample;
use crate::stats::{Interval, Sorted, median_interval};

/// One line of the report.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Line {
    /// What is compared.
    pub(super) what: String,
    /// Whose figure it is.
    pub(super) who: String,
    /// The figure that the goal is about, in `unit`.
    pub(super) value: Option<Interval>,
    /// Of `value` and `goal`.
    pub(super) unit: &'static str,
    /// What it should be.
    pub(super) goal: Option<f64>,
    /// Whether more than the goal is wanted instead of less.
    pub(super) more_is_better: bool,
    /// Whether the median is within the goal.
    pub(super) met: Option<bool>,
    /// Time of the one that is measured.
    pub(super) ns_per_page: Option<Interval>,
    /// Time of the limit.
    pub(super) limit_ns_per_page: Option<Interval>,
    /// More rounds were disturbed than can be left out.
    pub(super) noisy: bool,
    /// Why there is no figure.
    pub(super) error: Option<String>,
}

impl Line {
    /// A line without a figure.
    pub(super) fn failed(what: &str, why: String) -> Line {
        Line { what: what.to_owned(), error: Some(why), ..Line::default() }
    }
    /// With the verdict on its goal.
    pub(super) fn judged(self) -> Line {
        let met = self
            .value
            .zip(self.goal)
            .map(|(v, goal)| if self.more_is_better { v.median >= goal } else { v.median <= goal });
        Line { met, ..self }
    }
    /// `<= 1.5x decode`
    pub(super) fn goal_text(&self) -> String {
        let sign = if self.more_is_better { ">=" } else { "<=" };
        self.goal.map(|g| format!("{sign} {g} {}", self.unit)).unwrap_or_default()
    }
}

/// The middle of repeated figures.
pub(super) fn middle(values: Vec<f64>) -> Option<Interval> {
    Sorted::new(values).as_ref().map(median_interval)
}

/// What a line is measured against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Against {
    Limit(Limit),
    Design(&'static str),
    Zeroing,
    Copying,
}

/// Backends against a limit, or another backend, on one footprint.
#[derive(Clone, Debug)]
pub(super) struct Duel {
    /// What is compared.
    pub(super) title: String,
    pub(super) shape: ShapeSpec,
    pub(super) size_bytes: u64,
    pub(super) request: RequestKind,
    /// Pages a call; all of them at once if none.
    pub(super) call_pages: Option<u64>,
    /// Calls, or whole operations with what the consumer does.
    pub(super) what: What,
    pub(super) who: &'static [&'static str],
    pub(super) against: Against,
    pub(super) unit: &'static str,
    /// None where the figure is only stated.
    pub(super) goal: Option<f64>,
    /// How many times less it costs, not how many times more.
    pub(super) is_gain: bool,
    /// Instead of the command's.
    pub(super) seed: Option<u64>,
}

/// Backends that the goals are about.
const WHO: &[&str] = &["fixed_flags", "map_order"];
/// 32,768 pages: 256 KiB of entries and as much of slots, half of a 1 MiB second-level cache.
pub(super) const IN_L2: u64 = 128 << 20;
/// 8,388,608 pages: 64 MiB of entries and as much of slots, four times a 32 MiB third-level cache.
pub(super) const IN_MEMORY: u64 = 32 << 30;
/// What faults zero or copy: more than the caches hold.
const FAULTED: u64 = 256 << 20;

/// All of them, in the order of the report.
pub(super) fn duels() -> Vec<Duel> {
    let dense = || ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    let mut all = Vec::new();
    for (size_bytes, place) in [(IN_L2, "L2"), (IN_MEMORY, "memory")] {
        let mut add = |what: &str, shape, request, against, unit, goal| {
            all.push(Duel {
                title: format!("{what}, {place}"),
                shape,
                size_bytes,
                request,
                call_pages: None,
                what: What::Call,
                who: WHO,
                against,
                unit,
                goal: Some(goal),
                is_gain: false,
                seed: None,
            });
        };
        let decode = Against::Limit(Limit::Decode);
        let fill = Against::Limit(Limit::Fill);
        add("snapshot 4K", dense(), RequestKind::Snapshot, decode, "x decode", 1.5);
        add("read, present 4K", dense(), RequestKind::FaultRead, decode, "x decode", 2.0);
        add("write, present 4K", dense(), RequestKind::FaultWrite, decode, "x decode", 2.0);
        add("snapshot 2M leaves", ShapeSpec::Dense2m, RequestKind::Snapshot, fill, "x fill", 1.5);
    }
    let faults = |title: &str, shape, against, unit| Duel {
        title: title.to_owned(),
        shape,
        size_bytes: FAULTED,
        request: RequestKind::FaultWrite,
        call_pages: Some(512),
        what: What::Call,
        who: WHO,
        against,
        unit,
        goal: Some(3.0),
        is_gain: false,
        seed: None,
    };
    let absent = ShapeSpec::Absent4k { tables: AbsentTables::Empty };
    let forked = ShapeSpec::AfterFork { run_pages: 1, broken_permille: 0, memory: Memory::Data };
    all.push(faults("write fault, anon 4K", absent, Against::Zeroing, "x zero"));
    all.push(faults("write fault, COW 4K", forked, Against::Copying, "x copy"));
    all
}

impl Duel {
    /// Snapshots of `shape`, 512 pages a call, against the barest loop over the same entries.
    pub(super) fn snapshot(title: String, shape: ShapeSpec, size_bytes: u64, goal: f64) -> Duel {
        Duel {
            title,
            shape,
            size_bytes,
            request: RequestKind::Snapshot,
            call_pages: Some(512),
            what: What::Call,
            who: WHO,
            against: Against::Limit(Limit::Decode),
            unit: "x decode",
            goal: Some(goal),
            is_gain: false,
            seed: None,
        }
    }
    /// Measures it.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub(super) fn run(&self, seed: u64, clock: Clock) -> Result<Vec<Line>> {
        let call_pages = self.call_pages.unwrap_or(self.size_bytes >> 12);
        let seed = self.seed.unwrap_or(seed);
        let recipe = Recipe {
            shape: self.shape.clone(),
            size_bytes: self.size_bytes,
            request: self.request,
            call_pages,
            walkers: 1,
            churn: None,
            seed,
        };
        let mut stage = Stage::new(recipe, None).map_err(|e| anyhow!(e).context(self.title.clone()))?;
        let make = MakeMember::plain(call_pages, clock);
        let mut members: Vec<Box<dyn Member>> =
            self.who.iter().filter_map(|id| backends::dispatch(id, make.clone())).collect();
        let limit: Box<dyn Member> = match self.against {
            Against::Limit(limit) => Box::new(LimitMember::new(limit, call_pages, clock)),
            Against::Design(id) => {
                backends::dispatch(id, make).ok_or_else(|| anyhow!("{id}: no such backend"))?
            }
            Against::Zeroing => Box::new(FrameMember::zeroing(clock)),
            Against::Copying => Box::new(FrameMember::copying(clock)),
        };
        let limit_name = limit.name().to_owned();
        members.push(limit);
        let plan = Plan {
            budget: Duration::from_secs(2),
            min_rounds: 9,
            max_rounds: 64,
            block: Duration::from_micros(500),
            mix: Mix::Only(self.what),
            check: true,
            calls_multiple: 1,
            seed,
        };
        let mut samples = Vec::new();
        let mut sink = |b: Block<'_>| {
            samples.push(Sample {
                launch: 0,
                group: self.title.clone(),
                member: b.member.to_owned(),
                round: b.round,
                turn: b.turn,
                what: b.what,
                nr_pages: b.nr_pages,
                nr_calls: b.nr_calls,
                block_ns: b.timing.ns,
                thread_ns: Vec::new(),
                stages: None,
                apart: None,
                involuntary_switches: b.timing.observed.switches,
                stolen_ticks: b.stolen_ticks,
                churn: None,
            });
            Ok(())
        };
        let report = Session {
            stage: &mut stage,
            members: &mut members,
            plan,
            rng: Rng::new(seed, &self.title),
            watch: &mut Watch::without_counters(),
            walker_cpus: &pinning::allowed(),
            churn_cpus: &[],
            sink: &mut sink,
            stop: &interrupt::is_asked,
        }
        .run()?;
        let clean = Clean::of(&samples, self.what);
        let lines = report.outcomes.iter().filter(|o| self.who.contains(&o.name.as_str())).map(|o| {
            let (own, other) = (o.name.as_str(), limit_name.as_str());
            let value = if self.is_gain { clean.ratio(other, own) } else { clean.ratio(own, other) };
            Line {
                what: self.title.clone(),
                who: o.name.clone(),
                value,
                unit: self.unit,
                goal: self.goal,
                more_is_better: self.is_gain,
                ns_per_page: clean.ns_per_page(&o.name),
                limit_ns_per_page: clean.ns_per_page(&limit_name),
                noisy: clean.is_noisy(),
                error: o.error.clone(),
                ..Line::default()
            }
            .judged()
        });
        Ok(lines.collect())
    }
}
