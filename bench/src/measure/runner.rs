//! One visit of a launch to a group: the members take turns on the same tables, every member once a round.
//!
//! * Blocks of a group do equal work: the same number of sweeps over the same range, chosen once so that a typical block
//!   lasts [`Plan::block`]. Where one sweep takes much longer, and the range is uniform, a block walks a window of it, and
//!   the next block the next window: between two visits to a window all of the range was walked, so that the caches are
//!   as they would be. What a launch repeats is the round; ratios are taken within one.
//! * Two rounds of three time whole operations, the third takes them apart: stages and single operations by turns. Stages
//!   are told by difference where tables stay as they are, else by a chain of clock readings.
//! * A round in which a member lost the processor against its will, or the hypervisor stole time, is void for all
//!   members. It is recorded as it was; who reads the samples drops it.
//! * With churn, its threads run from before the first block until after the last one; limits are measured before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use walker::counters::{Count, Counters};
use workloads::churn::{ChurnSpec, Dose, Ground};

use super::churn::{ChurnReport, Churning, Tally};
use super::member::{Checked, Member, Timing, Turn, What};
use super::order::{Rng, Turns};
use super::scene::{Recipe, Scene, Window};
use super::watch::Watch;
use crate::os::counters::Counts;
use crate::os::stolen;

/// How long a visit may take, and what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Time for all of it, set-up excluded.
    pub(crate) budget: Duration,
    /// Rounds at least, even beyond the budget.
    pub(crate) min_rounds: u32,
    /// Rounds at most.
    pub(crate) max_rounds: u32,
    /// What a block should last.
    pub(crate) block: Duration,
    /// What is timed.
    pub(crate) mix: Mix,
    /// Whether answers are compared with the oracle first.
    pub(crate) check: bool,
    /// Calls of a block are a multiple of this, where that many fit into a block.
    pub(crate) calls_multiple: u64,
    /// Decides where and when churn strikes.
    pub(crate) seed: u64,
}

/// What rounds time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mix {
    /// The same every time.
    Only(What),
    /// Whole operations, and by turns stages and single operations; which of these first is the launch's to say.
    All {
        /// Number of the launch.
        launch: u32,
    },
}

/// Every third round takes operations apart; the second one does, so that the shortest visit has one.
const APART_EVERY: u32 = 3;
/// Operations shorter than this are not timed singly but in batches of at least this.
const BATCH_NS: u64 = 1000;
/// Calls of a window at least.
const WARM_CALLS: u64 = 1024;
/// Rounds of limits before churn starts.
const LIMIT_ROUNDS: u32 = 3;
/// A block under churn lasts so many events at least, within [`CHURN_BLOCK`].
const CHURN_EVENTS: u32 = 8;
/// Sweeps of the warm-up under churn where one was so short: it may have been lucky.
const CHURN_WARM: (u32, u64) = (8, 1_000_000);
/// The slowest member's block lasts at most so many times what a typical one should: who waits a millisecond after each
/// collision, and collides a hundred times, would keep the others from their turns.
const SLOWEST: u64 = 16;
const CHURN_BLOCK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(40));

impl Mix {
    /// What round `round` times, on tables where operations can be taken apart by difference or not.
    fn what(self, round: u32, can_difference: bool) -> What {
        let launch = match self {
            Mix::Only(what) => return what,
            Mix::All { launch } => launch,
        };
        match round % APART_EVERY {
            1 if (round / APART_EVERY + launch) % 2 == 1 => What::Operations,
            1 if can_difference => What::Parts,
            1 => What::Stages,
            _ => What::Whole,
        }
    }
}

/// One block, as it happened.
#[derive(Clone, Debug)]
pub(crate) struct Block<'a> {
    /// Whose.
    pub(crate) member: &'a str,
    /// Round, from 0.
    pub(crate) round: u32,
    /// Turn within the round, from 0.
    pub(crate) turn: u32,
    /// What was timed.
    pub(crate) what: What,
    /// Operations in it, all walkers together.
    pub(crate) nr_calls: u64,
    /// Their pages.
    pub(crate) nr_pages: u64,
    /// What it took.
    pub(crate) timing: Timing,
    /// Ticks stolen in the round, on its last block.
    pub(crate) stolen_ticks: Option<u64>,
    /// What churn did meanwhile.
    pub(crate) churned: Option<Tally>,
}

/// What became of one member.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// What the oracle said and what one sweep over fresh state took, for backends that were checked.
    pub(crate) checked: Option<Checked>,
    /// Operations timed together; 0 if none were.
    pub(crate) batch: u64,
    /// Their times in nanoseconds.
    pub(crate) operations: Option<Histogram<u64>>,
    /// What the counters counted over the blocks of whole operations.
    pub(crate) counts: Counts,
    /// Pages of those blocks.
    pub(crate) counted_pages: u64,
    /// Why it could not be measured.
    pub(crate) error: Option<String>,
    /// See [`Member::note`].
    pub(crate) note: Option<String>,
}

/// What became of a visit.
#[derive(Default)]
pub(crate) struct Report {
    /// Members in the order in which they were given.
    pub(crate) outcomes: Vec<Outcome>,
    /// Rounds that were begun.
    pub(crate) rounds: u32,
    /// Sweeps in a block.
    pub(crate) sweeps: u32,
    /// Churn before anybody walked.
    pub(crate) churn_alone: Option<ChurnReport>,
    /// Churn while the members walked.
    pub(crate) churn_walked: Option<ChurnReport>,
}

/// A scene that comes back to its first state before a member that needs it.
pub(crate) struct Stage {
    scene: Option<Arc<Scene>>,
    dirty: bool,
}

impl Stage {
    /// Builds the scene, or asks an earlier one otherwise if it has the same tables.
    ///
    /// # Errors
    /// What the builder said.
    pub(crate) fn new(recipe: Recipe, earlier: Option<Scene>) -> Result<Stage> {
        let scene = match earlier {
            Some(scene) => scene.ask(recipe)?,
            None => Scene::new(recipe)?,
        };
        Ok(Stage { scene: Some(Arc::new(scene)), dirty: false })
    }
    fn scene(&self) -> Result<&Arc<Scene>> {
        self.scene.as_ref().context("the tables could not be reset")
    }
    /// The scene in its first state; with churn, in whatever state that left it.
    fn fresh(&mut self) -> Result<Arc<Scene>> {
        if self.dirty && self.scene()?.ground.is_none() {
            let scene = self.take()?;
            self.scene = Some(Arc::new(scene.reset().context("resetting the tables")?));
        }
        self.dirty = false;
        Ok(Arc::clone(self.scene()?))
    }
    fn take(&mut self) -> Result<Scene> {
        let scene = self.scene.take().context("the tables could not be reset")?;
        Arc::try_unwrap(scene).map_err(|_| anyhow!("the tables are still being walked"))
    }
    /// One block of a member, on a scene in its first state where it needs that.
    ///
    /// # Errors
    /// Outside: the tables could not be reset. Inside: what the backend's API returned.
    pub(crate) fn block(
        &mut self,
        member: &mut dyn Member,
        turn: Turn,
        watch: &mut Watch,
    ) -> Result<Result<Timing>> {
        let scene = self.fresh()?;
        self.dirty = member.is_backend() && !scene.can_repeat();
        Ok(member.block(&scene, turn, watch))
    }
    /// Another block, of a part of the scene that those before it left as it was.
    ///
    /// # Errors
    /// Outside: the tables could not be reset before. Inside: what the backend's API returned.
    pub(crate) fn next_part(
        &mut self,
        member: &mut dyn Member,
        turn: Turn,
        watch: &mut Watch,
    ) -> Result<Result<Timing>> {
        let scene = Arc::clone(self.scene()?);
        self.dirty = true;
        Ok(member.block(&scene, turn, watch))
    }
    /// The hash of a member's answers over a scene in its first state; see [`Member::answers`].
    ///
    /// # Errors
    /// The tables could not be reset, or what the backend's API returned.
    pub(crate) fn answers(&mut self, member: &mut dyn Member) -> Result<u64> {
        let scene = self.fresh()?;
        self.dirty = !scene.is_steady();
        member.answers(&scene)
    }
    /// What a block walks: whether it may be repeated without a reset, calls of a sweep, pages of a sweep.
    ///
    /// # Errors
    /// The tables could not be reset.
    pub(crate) fn extent(&self) -> Result<(bool, u64, u64)> {
        let scene = self.scene()?;
        let (calls, pages) = scene.calls_and_pages(Window::WHOLE);
        Ok((scene.can_repeat(), calls, pages))
    }
    /// Parts of the range that are walked by calls of their own.
    ///
    /// # Errors
    /// The tables could not be reset.
    pub(crate) fn nr_parts(&self) -> Result<u64> {
        Ok(self.scene()?.nr_parts())
    }
    /// Where churn may happen, and what kind; none without churn.
    ///
    /// # Errors
    /// The tables could not be reset.
    pub(crate) fn churn(&self) -> Result<Option<(Ground, ChurnSpec)>> {
        let scene = self.scene()?;
        Ok(scene.ground.clone().zip(scene.churn()))
    }
    /// The scene, for another stage with the same tables; none if they are not what they were.
    pub(crate) fn into_scene(mut self) -> Option<Scene> {
        if self.dirty || self.scene().is_ok_and(|s| s.ground.is_some()) {
            return None;
        }
        self.take().ok()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Ok(scene) = self.take() {
            scene.discard();
        }
    }
}

/// A visit to a group, and what it works with.
pub(crate) struct Session<'a> {
    /// The tables.
    pub(crate) stage: &'a mut Stage,
    /// Who takes turns.
    pub(crate) members: &'a mut [Box<dyn Member>],
    /// How long, and what.
    pub(crate) plan: Plan,
    /// Decides the order of turns.
    pub(crate) rng: Rng,
    /// Watches this thread.
    pub(crate) watch: &'a mut Watch,
    /// Processors of the walkers.
    pub(crate) walker_cpus: &'a [usize],
    /// Processors of the churn threads.
    pub(crate) churn_cpus: &'a [usize],
    /// Gets every block as soon as it is over.
    pub(crate) sink: &'a mut dyn FnMut(Block<'_>) -> Result<()>,
    /// Asked before every block.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// What the warm-up learned of each member.
struct Warm {
    /// Nanoseconds of a sweep, by one walker.
    sweep_ns: u64,
    /// Operations to time together.
    batch: u64,
}

impl Session<'_> {
    /// Measures the group.
    ///
    /// # Errors
    /// Only what concerns all members: tables, churn, or the sink.
    pub(crate) fn run(mut self) -> Result<Report> {
        let outcomes =
            self.members.iter().map(|m| Outcome { name: m.name().to_owned(), ..Outcome::default() });
        let mut report = Report { outcomes: outcomes.collect(), ..Report::default() };
        if self.plan.check {
            self.check(&mut report)?;
        }
        let ground = self.stage.fresh()?.ground.clone();
        let Some(ground) = ground else {
            let everybody: Vec<usize> = (0..self.members.len()).collect();
            self.rounds(&mut report, &everybody, None, 0..self.plan.max_rounds)?;
            return Ok(self.finish(report));
        };
        let spec = self.stage.fresh()?.churn().context("ground without churn")?;
        // What churn frees, limits must not read: they know where the tables were.
        let (backends, limits) = (0..self.members.len()).partition(|m| self.members[*m].is_backend());
        let (backends, limits): (Vec<usize>, Vec<usize>) = (backends, limits);
        self.rounds(&mut report, &limits, None, 0..LIMIT_ROUNDS)?;
        let start = || -> Result<Churning> {
            let churning = Churning::start(&ground, spec, self.plan.seed, self.churn_cpus)?;
            churning.ramp()?;
            Ok(churning)
        };
        let alone = start()?;
        std::thread::sleep(churn_block(spec, self.plan.block) * 4);
        report.churn_alone = Some(alone.stop());
        let churning = Arc::new(start()?);
        let rounds = LIMIT_ROUNDS..self.plan.max_rounds + LIMIT_ROUNDS;
        self.rounds(&mut report, &backends, Some((&churning, spec)), rounds)?;
        let churning = Arc::try_unwrap(churning).map_err(|_| anyhow!("churn is still being watched"))?;
        report.churn_walked = Some(churning.stop());
        self.stage.dirty = true;
        Ok(self.finish(report))
    }

    /// The answers first: what is wrong is not measured.
    fn check(&mut self, report: &mut Report) -> Result<()> {
        for (member, outcome) in self.members.iter_mut().zip(&mut report.outcomes) {
            let scene = self.stage.fresh()?;
            match member.checked(&scene) {
                Ok(checked) => {
                    // A fault may change the tables; without faults nothing does.
                    self.stage.dirty =
                        checked.as_ref().is_some_and(|c| c.counts.get(Count::FaultsIssued) > 0);
                    outcome.checked = checked;
                }
                Err(e) => {
                    self.stage.dirty = true;
                    outcome.error = Some(format!("{e:#}"));
                }
            }
        }
        Ok(())
    }

    /// One block of member `m`.
    fn block(&mut self, m: usize, turn: Turn) -> Result<Result<Timing>> {
        self.stage.block(self.members[m].as_mut(), turn, self.watch)
    }

    /// One block each, not recorded, to see how long things take and to have touched all memory.
    fn warm_up(
        &mut self,
        report: &mut Report,
        who: &[usize],
        churn: Option<(&Arc<Churning>, ChurnSpec)>,
    ) -> Result<Vec<Option<Warm>>> {
        let what = match self.plan.mix {
            Mix::Only(what) => what,
            Mix::All { .. } => What::Whole,
        };
        let scene = self.stage.fresh()?;
        let of = if scene.is_uniform() { (scene.nr_calls() / WARM_CALLS).max(1) } else { 1 };
        let mut window = Window { index: 0, of };
        drop(scene);
        let mut warm: Vec<Option<Warm>> = self.members.iter().map(|_| None).collect();
        for &m in who {
            if report.outcomes[m].error.is_some() || (self.stop)() {
                continue;
            }
            window.index = (window.index + 1) % of;
            let churning = churn.map(|(c, _)| Arc::clone(c));
            let turn = Turn { what, sweeps: 1, window, batch: 1, counting: false, churning };
            let mut sweeps = 1;
            let mut timed = self.block(m, turn.clone())?;
            if churn.is_some() && timed.as_ref().is_ok_and(|t| t.ns < CHURN_WARM.1) {
                sweeps = CHURN_WARM.0;
                timed = self.block(m, Turn { sweeps, ..turn })?;
            }
            let timing = match timed {
                Ok(timing) => timing,
                Err(e) => {
                    report.outcomes[m].error = Some(format!("{e:#}"));
                    continue;
                }
            };
            let calls = self.stage.scene()?.calls_and_pages(window).0.max(1) * u64::from(sweeps);
            let walkers = timing.thread_ns.len().max(1) as u64;
            let operation_ns = (timing.ns / calls).max(1);
            // Powers of two: launches agree on the length of a batch although they do not agree on the nanosecond.
            let batch = BATCH_NS.div_ceil(operation_ns).next_power_of_two();
            let sweep_ns = (timing.ns * of / walkers / u64::from(sweeps)).max(1);
            warm[m] = Some(Warm { sweep_ns, batch });
        }
        Ok(warm)
    }

    /// Rounds in which `who` take turns, until the plan's time is over.
    fn rounds(
        &mut self,
        report: &mut Report,
        who: &[usize],
        churn: Option<(&Arc<Churning>, ChurnSpec)>,
        numbers: std::ops::Range<u32>,
    ) -> Result<()> {
        let began = Instant::now();
        let warm = self.warm_up(report, who, churn)?;
        let scene = self.stage.fresh()?;
        let can_difference = scene.is_steady() && churn.is_none();
        let block = churn.map_or(self.plan.block, |(_, spec)| churn_block(spec, self.plan.block));
        let (sweeps, windows) = block_of(&self.plan, &warm, &scene, block);
        report.sweeps = report.sweeps.max(sweeps);
        let mut window = Window { index: 0, of: windows };
        let most_batched = 1 << scene.window(0, window).count().max(1).ilog2();
        drop(scene);
        let mut turns = Turns::new(self.rng.clone(), who.len());
        self.rng.next();
        let first = numbers.start;
        for round in numbers {
            let (nth, spent) = (round - first, began.elapsed());
            // A round like the mean one so far would end after the time is over.
            if nth >= self.plan.min_rounds && spent + spent / (nth + 1) > self.plan.budget {
                break;
            }
            report.rounds += 1;
            let mut order: Vec<(usize, What)> = Vec::new();
            for i in turns.round() {
                let (m, Some(_)) = (who[i], &warm[who[i]]) else { continue };
                let what = self.plan.mix.what(nth, can_difference);
                let member = &self.members[m];
                // Limits are whole or nothing. What is compared with nobody needs no more than the first rounds.
                let takes_part = (member.is_backend() || matches!(what, What::Whole | What::Call))
                    && (member.is_compared() || nth < 2);
                if takes_part && report.outcomes[m].error.is_none() {
                    order.push((m, what));
                }
            }
            let ticks = stolen::ticks(self.walker_cpus);
            let turns_taken = order.len();
            for (turn, (m, what)) in order.into_iter().enumerate() {
                if (self.stop)() {
                    return Ok(());
                }
                window.index = (window.index + 1) % windows;
                let batch = warm[m].as_ref().map_or(1, |w| w.batch.min(most_batched));
                let counting = what == What::Whole;
                let churning = churn.map(|(c, _)| Arc::clone(c));
                let before = churn.map(|(c, _)| c.tally());
                let timed = self.block(m, Turn { what, sweeps, window, batch, counting, churning })?;
                let churned = churn.zip(before).map(|((c, _), before)| c.tally().since(&before));
                let is_last = turn + 1 == turns_taken;
                let stolen_ticks = if is_last {
                    ticks
                        .zip(stolen::ticks(self.walker_cpus))
                        .map(|(before, after)| after.saturating_sub(before))
                } else {
                    None
                };
                let outcome = &mut report.outcomes[m];
                let timing = match timed {
                    Ok(timing) => timing,
                    Err(e) => {
                        outcome.error = Some(format!("{e:#}"));
                        continue;
                    }
                };
                let (calls, pages) = self.stage.scene()?.calls_and_pages(window);
                let (nr_calls, nr_pages) = (calls * u64::from(sweeps), pages * u64::from(sweeps));
                if counting {
                    add_counts(&mut outcome.counts, &timing.observed.counts);
                    outcome.counted_pages += nr_pages;
                }
                if what == What::Operations {
                    outcome.batch = batch;
                }
                let (member, turn) = (outcome.name.as_str(), turn as u32);
                (self.sink)(Block {
                    member,
                    round,
                    turn,
                    what,
                    nr_calls,
                    nr_pages,
                    timing,
                    stolen_ticks,
                    churned,
                })?;
            }
        }
        Ok(())
    }

    fn finish(self, mut report: Report) -> Report {
        for (member, outcome) in self.members.iter().zip(&mut report.outcomes) {
            outcome.note = member.note();
            outcome.operations = member.operations().filter(|_| outcome.batch > 0);
        }
        report
    }
}

fn add_counts(sum: &mut Counts, more: &Counts) {
    for (kind, count) in more {
        match sum.iter_mut().find(|(k, _)| k == kind) {
            Some((_, s)) => s.add(*count),
            None => sum.push((*kind, *count)),
        }
    }
}

/// What a block lasts under churn.
pub(crate) fn churn_block(spec: ChurnSpec, block: Duration) -> Duration {
    let events = match spec.dose {
        Dose::PerSec(n) => {
            Duration::from_secs(u64::from(CHURN_EVENTS)) / u32::try_from(n).unwrap_or(u32::MAX)
        }
        Dose::Max | Dose::EveryTables(_) => Duration::ZERO,
    };
    events.max(block).clamp(CHURN_BLOCK.0, CHURN_BLOCK.1)
}

/// How many sweeps make a typical block last `block`, with as many calls as the plan wants; and into how many windows the
/// range is cut, where one sweep is much longer.
fn block_of(plan: &Plan, warm: &[Option<Warm>], scene: &Scene, block: Duration) -> (u32, u64) {
    if !scene.can_repeat() {
        return (1, 1);
    }
    let mut sweep_ns: Vec<u64> = warm.iter().flatten().map(|w| w.sweep_ns).collect();
    sweep_ns.sort_unstable();
    let typical = sweep_ns.get(sweep_ns.len() / 2).copied().unwrap_or(1);
    let block_ns = block.as_nanos().max(1) as u64;
    let windows = (typical / block_ns).min(scene.nr_calls() / WARM_CALLS);
    if scene.is_uniform() && windows > 1 {
        return (1, windows);
    }
    let slowest = sweep_ns.last().copied().unwrap_or(1);
    let fitting = (block_ns / typical).min(SLOWEST * block_ns / slowest);
    let whole = sweeps(fitting, scene.nr_calls(), plan.calls_multiple);
    let fits = u64::from(whole) * typical <= SLOWEST * block_ns;
    (if fits { whole } else { sweeps(fitting, scene.nr_calls(), 1) }, 1)
}

/// At least `sweeps`, so that they have a multiple of `calls_multiple` calls.
fn sweeps(sweeps: u64, calls: u64, calls_multiple: u64) -> u32 {
    let multiple = calls_multiple / gcd(calls_multiple, calls);
    u32::try_from(sweeps.clamp(1, 1 << 20).next_multiple_of(multiple)).unwrap_or(1 << 20)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_visit_has_whole_operations_and_takes_some_apart_by_turns() {
        let rounds = |launch| {
            let mix = Mix::All { launch };
            (0..8).map(|r| mix.what(r, false)).collect::<Vec<_>>()
        };
        use What::*;
        assert_eq!(rounds(0), [Whole, Stages, Whole, Whole, Operations, Whole, Whole, Stages]);
        assert_eq!(rounds(1), [Whole, Operations, Whole, Whole, Stages, Whole, Whole, Operations]);
        assert_eq!(Mix::All { launch: 0 }.what(1, true), Parts);
        assert_eq!(Mix::Only(Call).what(1, true), Call);
    }

    #[test]
    fn blocks_hold_the_calls_that_were_asked_for() {
        assert_eq!((sweeps(50, 8, 1), sweeps(0, 8, 1)), (50, 1));
        for calls in [1, 7, 8, 40, 100, 4096] {
            let n = u64::from(sweeps(50, calls, 100));
            assert!((n * calls).is_multiple_of(100) && n >= 50, "{calls} calls, {n} sweeps");
        }
    }
}
