//! `walkbench launch`, which people do not call: one launch of a run.
//!
//! `walkbench run` starts it once for each launch: on standard input what to do ([`Order`]), as standard output the
//! file that the lines go to, opened for appending. It builds its own tables, visits every group once in an order of
//! its own, and ends. It dies with the process that started it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use workloads::definition::Profile;

use super::run::ProfileArg;
use crate::analysis::named;
use crate::interrupt;
use crate::measure::clock::Pace;
use crate::measure::machine::Build;
use crate::measure::matrix::Group;
use crate::measure::order::Rng;
use crate::measure::runner::{Block, Mix, Outcome, Plan, Report, Session, Stage};
use crate::measure::scene::Scene;
use crate::measure::visit::Launching;
use crate::measure::watch::Watch;
use crate::os::{pinning, process};
use crate::progress::Progress;
use crate::record::{
    Begin, ChurnCost, ChurnDose, Control, Launch, Line, Lines, MemberEnd, Operations, Reading, Sample,
    Settings, Visit,
};

/// One visit to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// The group.
    pub(super) group: String,
    /// Its backends, by id.
    pub(super) backends: Vec<String>,
    /// Whether answers are compared with the oracle first.
    pub(super) check: bool,
}

/// What a launch shall do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Its number, from 0.
    pub(super) launch: u32,
    /// The process that waits for it.
    pub(super) parent: u32,
    /// See [`crate::record::Run`].
    pub(super) seed: u64,
    /// How much.
    pub(super) profile: String,
    /// What else was asked for.
    pub(super) settings: Settings,
    /// Of the machine, as the lines have it.
    pub(super) machine: String,
    /// Of the build, as the lines have it.
    pub(super) build: String,
    /// The groups, in any order.
    pub(super) visits: Vec<Wanted>,
    /// What all of them together aim at; none for as long as it takes.
    pub(super) budget_ms: Option<u64>,
    /// Visits that earlier launches made.
    pub(super) done: u64,
    /// Visits of the whole run.
    pub(super) total: u64,
    /// How long the run has been going on.
    pub(super) elapsed_ms: u64,
    /// When it will stop at the latest, from now.
    pub(super) left_ms: Option<u64>,
}

/// Makes the launch.
///
/// # Errors
/// Bad orders, or lines that cannot be written.
pub(crate) fn run() -> Result<ExitCode> {
    let mut order = String::new();
    io::stdin().read_to_string(&mut order).context("reading orders from standard input")?;
    let order: Order = serde_json::from_str(&order)
        .context("`walkbench run` starts launches itself; expected its orders on standard input")?;
    process::die_with(order.parent).context("staying with the process that started this launch")?;
    interrupt::listen()?;
    let samples = io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    Launcher::start(order, Lines::new(File::from(samples)))?.visit_all()
}

/// A launch at work.
struct Launcher {
    order: Order,
    lines: Lines,
    profile: ProfileArg,
    launching: Launching,
    watch: Watch,
    deadline: Option<Instant>,
    /// Tables of the visit before, for the next one.
    tables: Option<Scene>,
}

impl Launcher {
    fn start(order: Order, mut lines: Lines) -> Result<Launcher> {
        let deadline = order.budget_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let profile = ProfileArg::parse(&order.profile)?;
        // Before anything is pinned.
        let cpus = pinning::allowed();
        let launching = Launching::new(&cpus, order.settings.control);
        let watch = Watch::new();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        lines.write(&Line::Launch(Launch {
            launch: order.launch,
            machine: order.machine.clone(),
            build: order.build.clone(),
            started_unix_s: now.as_secs(),
            clock_cost_ps: (launching.clock.cost_ns * 1000.0) as u64,
            cpus,
            executable: order.settings.layouts.map(|_| Build::this().executable),
            unpinned: (!launching.pinned).then(|| {
                "the system refused to keep the walker on its processor (cpuset, seccomp)".to_owned()
            }),
            unavailable: watch.counters().unavailable().clone(),
        }))?;
        Ok(Launcher { order, lines, profile, launching, watch, deadline, tables: None })
    }

    /// Every visit, in an order of this launch's own: shapes shuffled, and within a shape its groups, so that tables are
    /// built once for all of them.
    fn visit_all(mut self) -> Result<ExitCode> {
        let mut rng = Rng::new(self.order.seed, &format!("launch {}", self.order.launch));
        let shape = |w: &Wanted| w.group.split('/').next().unwrap_or_default().to_owned();
        let mut visits = self.order.visits.clone();
        rng.shuffle(&mut visits);
        let mut shapes: Vec<String> = visits.iter().map(shape).collect();
        shapes.sort_unstable();
        shapes.dedup();
        rng.shuffle(&mut shapes);
        visits.sort_by_key(|w| shapes.iter().position(|s| *s == shape(w)));

        let elapsed = Duration::from_millis(self.order.elapsed_ms);
        let left = self.order.left_ms.map(Duration::from_millis);
        let progress = Progress::resumed(self.order.total, elapsed, left);
        let nr = visits.len();
        for (i, wanted) in visits.iter().enumerate() {
            if interrupt::is_asked() {
                break;
            }
            let launch = self.order.launch + 1;
            progress.step(self.order.done + i as u64, &format!("launch {launch}: {}", wanted.group));
            let budget = self.deadline.map(|d| d.saturating_duration_since(Instant::now()) / (nr - i) as u32);
            self.visit(wanted, i as u32, budget)?;
        }
        progress.finish();
        if let Some(scene) = self.tables.take() {
            scene.discard();
        }
        Ok(if interrupt::is_asked() { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::SUCCESS })
    }

    fn visit(&mut self, wanted: &Wanted, position: u32, budget: Option<Duration>) -> Result<()> {
        let (launch, id) = (self.order.launch, wanted.group.clone());
        self.lines.write(&Line::Begin(Begin { launch, group: id.clone() }))?;
        let before = Pace::now();
        let mut visit = Visit { launch, group: id, position, ..Visit::default() };
        // A line that cannot be written ends the launch; anything else is the group's own trouble.
        let mut unwritten = None;
        match self.measure(wanted, budget, &mut visit, &mut unwritten) {
            Ok(report) => {
                visit.rounds = report.rounds;
                visit.sweeps = report.sweeps;
                visit.churn_alone = report.churn_alone.as_ref().map(ChurnCost::new);
                visit.churn_walked = report.churn_walked.as_ref().map(ChurnCost::new);
                if interrupt::is_asked() {
                    // Some member lacks rounds: not a visit, though its blocks count.
                    return Ok(());
                }
                for outcome in report.outcomes {
                    self.lines.write(&Line::Member(member_end(launch, &wanted.group, outcome)))?;
                }
            }
            Err(_) if unwritten.is_some() => return Err(unwritten.unwrap_or_else(|| anyhow!("unwritten"))),
            Err(e) => {
                let error = format!("{e:#}");
                for member in wanted.backends.iter().cloned() {
                    let (group, error) = (visit.group.clone(), Some(error.clone()));
                    self.lines.write(&Line::Member(MemberEnd {
                        launch,
                        group,
                        member,
                        error,
                        ..MemberEnd::default()
                    }))?;
                }
                visit.error = Some(error);
            }
        }
        if !before.zip(Pace::now()).is_some_and(|(before, now)| before.is_kept_until(now)) {
            visit.marks.push("clock_stepped".to_owned());
        }
        self.lines.write(&Line::Visit(visit))
    }

    fn measure(
        &mut self,
        wanted: &Wanted,
        budget: Option<Duration>,
        visit: &mut Visit,
        unwritten: &mut Option<anyhow::Error>,
    ) -> Result<Report> {
        let group = group(wanted)?;
        let began = Instant::now();
        let mut members = self.launching.members(&group)?;
        visit.marks = self.launching.marks(&group).into_iter().map(str::to_owned).collect();
        let mut stage = Stage::new(group.recipe(self.order.seed), self.tables.take())?;
        let walker_cpus = self.launching.seats.walkers(group.walkers);
        let churn_cpus = self.launching.seats.churn(group.walkers, group.churn.map_or(0, |c| c.threads));
        // Setting up is part of a visit's time, but half of that is measuring at least.
        let budget = budget.unwrap_or(self.profile.visit());
        let budget = budget.saturating_sub(began.elapsed()).max(budget / 2);
        let (launch, lines) = (self.order.launch, &mut self.lines);
        let mut sink = |block: Block<'_>| {
            let sample = sample(launch, &wanted.group, block);
            if let Err(e) = lines.write(&Line::Block(sample)) {
                *unwritten = Some(e);
                bail!("a block could not be written");
            }
            Ok(())
        };
        let report = Session {
            plan: plan(self.profile, &self.order, budget, members.len(), wanted.check),
            stage: &mut stage,
            members: &mut members,
            rng: Rng::new(self.order.seed, &format!("launch {launch}: {}", wanted.group)),
            watch: &mut self.watch,
            walker_cpus: &walker_cpus,
            churn_cpus: &churn_cpus,
            sink: &mut sink,
            stop: &interrupt::is_asked,
        }
        .run()?;
        self.tables = stage.into_scene();
        Ok(report)
    }
}

fn group(wanted: &Wanted) -> Result<Group> {
    let mut group =
        Group::parse(&wanted.group).with_context(|| format!("{}: no such group", wanted.group))?;
    for id in &wanted.backends {
        group.backends.push(walker::backends::find(id).with_context(|| format!("{id}: no such backend"))?);
    }
    Ok(group)
}

fn plan(profile: ProfileArg, order: &Order, budget: Duration, members: usize, check: bool) -> Plan {
    Plan {
        budget,
        min_rounds: profile.min_rounds(),
        max_rounds: profile.max_rounds(),
        // A dozen rounds in the budget.
        block: (budget / (12 * members as u32)).clamp(Duration::from_micros(100), Duration::from_millis(1)),
        mix: Mix::All { launch: order.launch },
        check,
        calls_multiple: if order.settings.control == Some(Control::Planted) { 100 } else { 1 },
        seed: order.seed,
    }
}

fn sample(launch: u32, group: &str, block: Block<'_>) -> Sample {
    let churn = block.churned.map(|tally| ChurnDose::new(&tally, &block.timing.collisions));
    Sample {
        launch,
        group: group.to_owned(),
        member: block.member.to_owned(),
        round: block.round,
        turn: block.turn,
        what: block.what,
        nr_pages: block.nr_pages,
        nr_calls: block.nr_calls,
        block_ns: block.timing.ns,
        thread_ns: block.timing.thread_ns,
        stages: block.timing.stages,
        apart: block.timing.apart,
        involuntary_switches: block.timing.observed.switches,
        stolen_ticks: block.stolen_ticks.filter(|n| *n > 0),
        churn,
    }
}

fn member_end(launch: u32, group: &str, outcome: Outcome) -> MemberEnd {
    let checked = outcome.checked.as_ref();
    let counts = checked.map(|c| named(&c.counts)).unwrap_or_default();
    let reading = |(kind, count): &(crate::os::counters::Kind, crate::os::counters::Count)| {
        Some(Reading {
            name: kind.name().to_owned(),
            value: count.scaled()?,
            running_permille: count.running_permille(),
        })
    };
    MemberEnd {
        launch,
        group: group.to_owned(),
        counts: counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        lost_wishes: checked.map_or(0, |c| c.lost_wishes),
        hints_reported: checked.map_or(0, |c| c.hints_reported),
        operations: outcome.operations.filter(|h| !h.is_empty()).map(|h| Operations {
            batch: outcome.batch,
            ns: h.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect(),
        }),
        counted_pages: outcome.counted_pages,
        counters: outcome.counts.iter().filter_map(reading).collect(),
        member: outcome.name,
        error: outcome.error,
        note: outcome.note,
    }
}

impl ProfileArg {
    /// By its name.
    ///
    /// # Errors
    /// If there is no such profile.
    pub(super) fn parse(name: &str) -> Result<ProfileArg> {
        [ProfileArg::Smoke, ProfileArg::Quick, ProfileArg::Full]
            .into_iter()
            .find(|p| Profile::from(*p).name() == name)
            .with_context(|| format!("{name:?}: expected a profile: smoke, quick or full"))
    }
}
