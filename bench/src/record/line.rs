//! The lines of `samples.jsonl`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::churn::{ChurnReport, Tally};
use crate::measure::member::What;
use crate::measure::stages::{Collisions, Stages, TakenApart};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A process starts.
    Launch(Launch),
    /// It starts with a group.
    Begin(Begin),
    /// One turn.
    Block(Sample),
    /// A member, at the end of a visit.
    Member(MemberEnd),
    /// The end of a visit.
    Visit(Visit),
}

/// A launch of the process: its own memory, placed anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Its number, from 0.
    pub(crate) launch: u32,
    /// See [`crate::measure::machine::Machine::fingerprint`].
    pub(crate) machine: String,
    /// See [`crate::measure::machine::Build::fingerprint`].
    pub(crate) build: String,
    /// Seconds since 1970, UTC.
    pub(crate) started_unix_s: u64,
    /// What one reading of the clock costs, in picoseconds.
    pub(crate) clock_cost_ps: u64,
    /// Processors that it may use, before pinning.
    pub(crate) cpus: Vec<usize>,
    /// Why threads are not pinned, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unpinned: Option<String>,
    /// A hash of its executable, where every launch has one of its own (`--layouts`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) executable: Option<String>,
    /// Counters that the machine refuses, and why.
    #[serde(default)]
    pub(crate) unavailable: BTreeMap<String, String>,
}

/// A visit starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Number of the launch.
    pub(crate) launch: u32,
    /// Cell id without the backend.
    pub(crate) group: String,
}

/// One block of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Number of the launch.
    #[serde(default)]
    pub(crate) launch: u32,
    /// Cell id without the backend.
    pub(crate) group: String,
    /// A backend, or a limit: copy, load, decode, fill, chase; noop and loop: the harness.
    pub(crate) member: String,
    /// Round, from 0: members of one group and round stand next to each other in time.
    pub(crate) round: u32,
    /// Turn within the round, from 0.
    pub(crate) turn: u32,
    /// What was timed.
    pub(crate) what: What,
    /// Pages reported in the block, all threads together.
    pub(crate) nr_pages: u64,
    /// Operations (calls) in the block, all threads together.
    pub(crate) nr_calls: u64,
    /// The block's time, the clock's cost taken off; with several threads the sum of their times.
    pub(crate) block_ns: u64,
    /// The time of each thread, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) thread_ns: Vec<u64>,
    /// Its stages, where those were timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stages: Option<Stages>,
    /// What these operations took from end to end. Runs before 2026-11-30 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) apart: Option<TakenApart>,
    /// Involuntary context switches within the block; null if the kernel does not say.
    pub(crate) involuntary_switches: Option<u64>,
    /// Ticks (1/100 s) that the hypervisor stole from the processors of the block's round; on its last block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stolen_ticks: Option<u64>,
    /// What invalidated meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) churn: Option<ChurnDose>,
}

impl Sample {
    /// Nanoseconds a page: of the thread that walks it.
    pub(crate) fn ns_per_page(&self) -> f64 {
        self.block_ns as f64 / self.nr_pages.max(1) as f64
    }
    /// Whether a thread lost the processor in it, or the machine lost one.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.involuntary_switches.is_some_and(|n| n > 0) || self.stolen_ticks.is_some_and(|n| n > 0)
    }
}

/// What churn achieved during a block, and what it did to the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChurnDose {
    /// Time from before the block to after it.
    pub(crate) wall_ns: u64,
    /// Events that happened.
    pub(crate) events: u64,
    /// Events that did not: the operation returned an error.
    pub(crate) failures: u64,
    /// Time that the churn threads spent in events.
    pub(crate) busy_ns: u64,
    /// Tables that the walk reported, for closed doses.
    pub(crate) tables: u64,
    /// Times that an operation had to walk again.
    pub(crate) collided: u64,
    /// Operations that the policy gave up.
    pub(crate) given_up: u64,
    /// Pages that were walked in vain; counted in blocks that time stages.
    pub(crate) pages_in_vain: u64,
}

impl ChurnDose {
    /// From what the threads did and what the walk met with.
    pub(crate) fn new(tally: &Tally, collisions: &Collisions) -> ChurnDose {
        let Tally { ns, events, failures, busy_ns, tables } = *tally;
        let Collisions { collided, given_up, pages_in_vain } = *collisions;
        ChurnDose { wall_ns: ns, events, failures, busy_ns, tables, collided, given_up, pages_in_vain }
    }
    /// What the threads did.
    pub(crate) fn tally(&self) -> Tally {
        let ChurnDose { wall_ns, events, failures, busy_ns, tables, .. } = *self;
        Tally { ns: wall_ns, events, failures, busy_ns, tables }
    }
}

/// Single operations of a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operations {
    /// Operations that were timed together: 1 unless one takes less than about a microsecond.
    pub(crate) batch: u64,
    /// Nanoseconds of a batch, within 1 %, and how many batches took that; ascending.
    pub(crate) ns: Vec<(u64, u64)>,
}

/// What a counter counted over the whole-operation blocks of a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Its name.
    pub(crate) name: String,
    /// What it counted, scaled up where it shared the hardware with others.
    pub(crate) value: u64,
    /// For how much of the time it counted, in thousandths.
    pub(crate) running_permille: u64,
}

/// What is known of a member beside its blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemberEnd {
    /// Number of the launch.
    pub(crate) launch: u32,
    /// Cell id without the backend.
    pub(crate) group: String,
    /// Which.
    pub(crate) member: String,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Exact counts of one sweep over fresh state, where this visit checked the answers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counts: BTreeMap<String, u64>,
    /// Wishes that the design lost, as it says it may.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) lost_wishes: u64,
    /// Pages behind NUMA hints that the design reported, as it says it may.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) hints_reported: u64,
    /// Single operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<Operations>,
    /// Pages behind `counters`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) counted_pages: u64,
    /// Counters, those that the machine has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) counters: Vec<Reading>,
    /// For the copy limit, what moved the bytes fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What invalidations cost those who cause them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChurnCost {
    /// Events that happened.
    pub(crate) events: u64,
    /// Events that did not.
    pub(crate) failures: u64,
    /// Over this time.
    pub(crate) wall_ns: u64,
    /// Time that the threads spent in events.
    pub(crate) busy_ns: u64,
    /// From the intended start of an event to the end of what invalidates: half of them took no longer.
    pub(crate) p50_ns: u64,
    /// 99 % of them took no longer.
    pub(crate) p99_ns: u64,
    /// The longest.
    pub(crate) max_ns: u64,
}

impl ChurnCost {
    /// From what the threads report at their end.
    pub(crate) fn new(report: &ChurnReport) -> ChurnCost {
        let Tally { ns, events, failures, busy_ns, .. } = report.tally;
        let h = &report.latency_ns;
        ChurnCost {
            events,
            failures,
            wall_ns: ns,
            busy_ns,
            p50_ns: h.value_at_quantile(0.5),
            p99_ns: h.value_at_quantile(0.99),
            max_ns: h.max(),
        }
    }
}

/// A launch is done with a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Visit {
    /// Number of the launch.
    pub(crate) launch: u32,
    /// Cell id without the backend.
    pub(crate) group: String,
    /// Groups that the launch visited before.
    pub(crate) position: u32,
    /// Rounds that were begun.
    pub(crate) rounds: u32,
    /// Sweeps over the range in a block.
    pub(crate) sweeps: u32,
    /// What a reader must know.
    #[serde(default)]
    pub(crate) marks: Vec<String>,
    /// Why there is no result for any member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Churn alone, before any member walked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) churn_alone: Option<ChurnCost>,
    /// Churn while the members walked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) churn_walked: Option<ChurnCost>,
}
