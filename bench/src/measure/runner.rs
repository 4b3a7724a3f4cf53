//! Interleaved blocks: the members of a group take turns on the same tables, every member once a round, in an order
//! drawn from the seed.
//!
//! Blocks of a group do equal work: the same number of sweeps over the same range, chosen once so that a typical block
//! lasts [`Plan::block`]. Every fourth round times stages, the others whole operations (or calls). A round in which a
//! member lost the processor against its will is marked; who reads the samples drops it for all members.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use walker::counters::{Count, Counters};

use super::member::{Checked, Member, Timing, What};
use super::order::Rng;
use super::scene::{Recipe, Scene};
use crate::os::usage;

/// How long a group may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Time for the whole group, set-up included.
    pub(crate) budget: Duration,
    /// Rounds at least, even beyond the budget.
    pub(crate) min_rounds: u32,
    /// Rounds at most.
    pub(crate) max_rounds: u32,
    /// What a block should last.
    pub(crate) block: Duration,
    /// What a round times that does not time stages.
    pub(crate) what: What,
    /// Every how many rounds stages are timed; 0 for never.
    pub(crate) stages_every: u32,
}

/// One block, as it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// Whose.
    pub(crate) member: &'a str,
    /// Round, from 0.
    pub(crate) round: u32,
    /// Turn within the round, from 0.
    pub(crate) turn: u32,
    /// What was timed.
    pub(crate) what: What,
    /// Sweeps over the range.
    pub(crate) sweeps: u32,
    /// What it took.
    pub(crate) timing: Timing,
    /// Times the thread lost the processor meanwhile; none if the kernel does not say.
    pub(crate) switches: Option<u64>,
}

/// What became of one member.
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is a backend.
    pub(crate) is_backend: bool,
    /// What the oracle said and what one sweep over fresh state took, for backends.
    pub(crate) checked: Option<Checked>,
    /// Single operations: p50, p99, p99.9, max in nanoseconds.
    pub(crate) latency: Option<[u64; 4]>,
    /// Why it could not be measured.
    pub(crate) error: Option<String>,
    /// See [`Member::note`].
    pub(crate) note: Option<String>,
}

/// A scene that comes back to its first state before a member that needs it.
pub(crate) struct Stage {
    scene: Option<Scene>,
    dirty: bool,
}

impl Stage {
    /// Builds the scene.
    ///
    /// # Errors
    /// What the builder said.
    pub(crate) fn new(recipe: Recipe) -> Result<Stage> {
        Ok(Stage { scene: Some(Scene::new(recipe)?), dirty: false })
    }
    /// Pages in the range, and calls that cover it.
    ///
    /// # Errors
    /// When an earlier reset failed.
    pub(crate) fn nr_pages_and_calls(&self) -> Result<(u64, u64)> {
        let scene = self.scene.as_ref().context("the tables could not be reset")?;
        Ok((scene.nr_pages(), scene.nr_calls()))
    }
    /// The scene in its first state.
    fn fresh(&mut self) -> Result<&Scene> {
        if self.dirty
            && let Some(scene) = self.scene.take()
        {
            self.scene = Some(scene.reset().context("resetting the tables")?);
            self.dirty = false;
        }
        self.scene.as_ref().context("the tables could not be reset")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(scene) = self.scene.take() {
            scene.discard();
        }
    }
}

/// Measures one group. `sink` gets every block as soon as it is over; `stop` is asked before each.
///
/// # Errors
/// Only what concerns all members: building fails, or the sink does.
pub(crate) fn run_group(
    stage: &mut Stage,
    members: &mut [Box<dyn Member>],
    plan: &Plan,
    rng: &mut Rng,
    sink: &mut dyn FnMut(Block<'_>) -> Result<()>,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Outcome>> {
    let began = Instant::now();
    let mut outcomes: Vec<Outcome> = members
        .iter()
        .map(|m| Outcome {
            name: m.name().to_owned(),
            is_backend: m.is_backend(),
            checked: None,
            latency: None,
            error: None,
            note: None,
        })
        .collect();

    // The answers first: what is wrong is not measured.
    let mut changes_state = false;
    for (member, outcome) in members.iter_mut().zip(&mut outcomes) {
        let scene = stage.fresh()?;
        match member.checked(scene) {
            Ok(checked) => {
                // A fault may change the tables; without faults nothing does.
                let faulted = checked.as_ref().is_some_and(|c| c.counts.get(Count::FaultsIssued) > 0);
                stage.dirty = faulted;
                changes_state |= faulted;
                outcome.checked = checked;
            }
            Err(e) => {
                stage.dirty = true;
                outcome.error = Some(format!("{e:#}"));
            }
        }
    }

    // One block each to warm up and to see how long a sweep takes.
    let mut sweep_ns = Vec::new();
    for (member, outcome) in members.iter_mut().zip(&mut outcomes) {
        if outcome.error.is_some() || stop() {
            continue;
        }
        let mut once = || member.block(stage.fresh()?, plan.what, 1);
        match once() {
            Ok(t) => sweep_ns.push(t.ns.max(1)),
            Err(e) => outcome.error = Some(format!("{e:#}")),
        }
        stage.dirty |= changes_state && outcome.is_backend;
    }
    sweep_ns.sort_unstable();
    let typical = sweep_ns.get(sweep_ns.len() / 2).copied().unwrap_or(1);
    let sweeps =
        if changes_state { 1 } else { (plan.block.as_nanos() as u64 / typical).clamp(1, 1 << 20) as u32 };

    let mut turns: Vec<usize> = (0..members.len()).collect();
    for round in 0..plan.max_rounds {
        if round >= plan.min_rounds && began.elapsed() >= plan.budget {
            break;
        }
        let staged = plan.stages_every > 0 && round % plan.stages_every == plan.stages_every - 1;
        let what = if staged { What::Stages } else { plan.what };
        rng.shuffle(&mut turns);
        for (turn, &m) in turns.iter().enumerate() {
            if stop() {
                return Ok(finish(members, outcomes));
            }
            let (member, outcome) = (&mut members[m], &mut outcomes[m]);
            if outcome.error.is_some() || (staged && !outcome.is_backend) {
                continue;
            }
            let scene = stage.fresh()?;
            let before = usage::involuntary_switches();
            let timed = member.block(scene, what, sweeps);
            let after = usage::involuntary_switches();
            stage.dirty = changes_state && outcome.is_backend;
            match timed {
                Ok(timing) => sink(Block {
                    member: member.name(),
                    round,
                    turn: turn as u32,
                    what,
                    sweeps,
                    timing,
                    switches: after.zip(before).map(|(a, b)| a - b),
                })?,
                Err(e) => outcome.error = Some(format!("{e:#}")),
            }
        }
    }
    Ok(finish(members, outcomes))
}

fn finish(members: &[Box<dyn Member>], mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    for (member, outcome) in members.iter().zip(&mut outcomes) {
        outcome.note = member.note();
        outcome.latency = member.latency().filter(|h| !h.is_empty()).map(|h| {
            [h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.value_at_quantile(0.999), h.max()]
        });
    }
    outcomes
}
