//! The paired time tier: both programs as processes, block by block next to each other.
//!
//! One side runs, the other sleeps. In a launch, a fresh set of processes, cells come in an order of its own; a cell has
//! its rounds one after the other, a block of each side a round, ABBA or BAAB by the toss of a coin. Blocks of both sides
//! do the same number of sweeps, found once, on the slower side, so that one lasts about half a millisecond: what a
//! neighbour does to the caches and to the other half of a core changes within milliseconds, and only what it did to both
//! blocks of a round cancels out. Where tables are put back between sweeps, which takes as long as a sweep, a block is a
//! part of one: the first part of each, behind the putting back, does not count. Both sides are set up anew after some
//! rounds, who is first and who second by turns. What is looked at again ([`verdict::to_confirm`]) is decided once, after the
//! screening launches; nothing is repeated until it pleases. With layouts, every launch has a link of either side that no
//! other launch has.

mod budget;
mod calibrate;
mod loaded;
mod series;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Serialize;
use walker::addr::PAGE_SIZE;

use super::side::{Failure, Program, Side};
use crate::gate::rounds::{Compared, LEAST_ROUNDS, Launch, Recording, Role, SCHEMA, Stage};
use crate::gate::verdict;
use crate::interrupt;
use crate::measure::order::Rng;
use crate::measure::visit::Seats;
use crate::os::pinning;
use crate::progress::Progress;
use crate::sources::git;
use budget::again;
pub(super) use budget::{LINKS, TooSmall, enough_layouts};

/// What the planted control and a null one are measured on: short sweeps, so that 3 % of a block is many of them.
const CONTROL: &str = "dense_4k@16MiB/snapshot/512/none/1/map_order";
/// The other null control: it faults, so that its tables are put back between sweeps, and whose memory is written first, or
/// last, would show.
const FAULTING_CONTROL: &str = "absent_4k@16MiB/fault_write/512/none/1/map_order";
/// Both.
pub(super) const CONTROLS: [&str; 2] = [CONTROL, FAULTING_CONTROL];
/// More work in the planted control.
const PLANTED_PERCENT: u64 = 3;
/// Rounds, at most, after which both sides are set up anew: what a page costs differs from page to page of the machine, by a
/// third here and there, and a launch shall not be the luck of one draw. Fewer where they take twice as long as setting up,
/// but [`FEWEST_A_DRAW`], or where they are long, as many as [`DRAW`] has room for.
const MOST_A_DRAW: f64 = 32.0;
const FEWEST_A_DRAW: f64 = 8.0;
const DRAW: Duration = Duration::from_millis(12);
/// How many times at most in a launch, for a cell and for a control: more launches tell more.
const MOST_DRAWS: [u32; 2] = [16, 8];
/// Rounds at most until churn gives both sides the same dose twice.
const MOST_WARM_UPS: u32 = 8;

/// What to compare.
#[derive(Debug)]
pub(super) struct Plan {
    /// The old side.
    pub(super) old: Program,
    /// The new side.
    pub(super) new: Program,
    /// A byte copy of the new side's executable.
    pub(super) copy: PathBuf,
    /// Old and new side in other layouts, for a launch each; empty if all launches have the same.
    pub(super) layouts: Vec<[PathBuf; 2]>,
    /// The cells.
    pub(super) cells: Vec<String>,
    /// Those whose p99 is compared too.
    pub(super) tails: Regex,
    /// What all of it aims at.
    pub(super) budget: Duration,
    /// Decides tables and orders.
    pub(super) seed: u64,
    /// Names what is drawn from the seed: a second look has orders and addresses of its own.
    pub(super) draws: &'static str,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// Whether the two sides may come from different compilers and profiles.
    pub(super) any_build: bool,
}

/// Where the time went.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Spent {
    calibrating_s: f64,
    screening_s: f64,
    confirming_s: f64,
    /// Of all that: starting processes and building tables.
    setting_up_s: f64,
    /// Timed blocks themselves.
    in_blocks_s: f64,
}

impl Spent {
    /// In a sentence.
    pub(super) fn says(&self) -> String {
        let Spent { calibrating_s, screening_s, confirming_s, setting_up_s, in_blocks_s } = self;
        format!(
            "{:.0} s: {calibrating_s:.0} s to compare answers and choose block lengths, {screening_s:.0} s for all cells, \
             {confirming_s:.0} s for those looked at again; of it {setting_up_s:.0} s processes and tables, \
             {in_blocks_s:.0} s in timed blocks",
            calibrating_s + screening_s + confirming_s
        )
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// Every round.
    pub(super) recording: Recording,
    /// Cells that were not compared: which, and why.
    pub(super) left_out: Vec<(String, String)>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
    /// Who was compared.
    pub(super) sides: Vec<String>,
    /// Where the time went.
    pub(super) spent: Spent,
}

/// The processes of a launch.
struct Sides {
    old: Side,
    new: Side,
    copy: Side,
}

/// Who takes part in a comparison.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Old,
    New,
    Copy,
}

impl Sides {
    fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Old => &mut self.old,
            Who::New => &mut self.new,
            Who::Copy => &mut self.copy,
        }
    }
}

/// A comparison with what calibration learned.
struct Cell {
    compared: Compared,
    churn: Option<workloads::churn::ChurnSpec>,
    set_up: Duration,
    /// What a round lasts.
    round: Duration,
    /// Rounds for each one that the rule has.
    times: u32,
    /// Parts of a sweep, of which each but the first is a block; 0 where blocks are whole sweeps.
    parts: u64,
}

impl Cell {
    /// How many times both sides are set up in a launch, and for how many rounds each time.
    fn draws(&self, rounds: u32) -> (u32, u32) {
        let rounds = rounds * self.times;
        if self.churn.is_some() {
            // Until doses agree takes as long as many rounds.
            return (1, rounds);
        }
        // Whole sweeps, of whose parts the first is no round.
        let of_sweep = u32::try_from(self.parts).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        let rounds_in = |time: Duration| time.as_secs_f64() / self.round.as_secs_f64();
        let fewest = rounds_in(DRAW).clamp(f64::from(LEAST_ROUNDS), FEWEST_A_DRAW);
        let of_draw = rounds_in(2 * self.set_up).clamp(fewest, MOST_A_DRAW) as u32;
        let of_draw = of_sweep * (of_draw / of_sweep).max(1);
        // An even number of them: who is set up first in the one is second in the other.
        let [of_cell, of_control] = MOST_DRAWS;
        let most = if self.compared.role == Role::Cell { of_cell } else { of_control };
        ((2 * rounds.div_ceil(2 * of_draw)).min(most), of_draw)
    }
    /// How long it takes in a launch.
    fn takes(&self, rounds: u32) -> Duration {
        let (draws, of_draw) = self.draws(rounds);
        let warm_ups = if self.churn.is_some() { MOST_WARM_UPS / 2 } else { 1 };
        self.set_up * draws + self.round * ((of_draw + warm_ups) * draws)
    }
    /// What a side failed at.
    fn failed(&self, e: Failure) -> anyhow::Error {
        anyhow::Error::from(e).context(self.compared.id.clone())
    }
    /// Old and new side of the comparison, and what the new one does more.
    fn who(&self) -> (Who, Who, u64) {
        match self.compared.role {
            Role::Cell => (Who::Old, Who::New, 0),
            Role::Null => (Who::Copy, Who::New, 0),
            Role::Planted => (Who::Copy, Who::New, PLANTED_PERCENT),
        }
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    rng: Rng,
    walker_cpus: Vec<usize>,
    spent: Spent,
    progress: Progress,
    steps: u64,
    /// Launches so far.
    launches: usize,
    /// What starting one takes.
    launching: Duration,
}

/// Measures; none when Ctrl-C came first.
///
/// # Errors
/// A side that cannot be compared, sides that do different work, a budget that is too small for a verdict.
pub(super) fn measure(plan: &Plan) -> Result<Option<Measured>> {
    let seats = Seats::new(&pinning::allowed());
    let mut bench = Bench {
        plan,
        rng: Rng::new(plan.seed, plan.draws),
        walker_cpus: seats.walkers(1),
        spent: Spent::default(),
        progress: Progress::resumed(plan.cells.len() as u64, Duration::ZERO, Some(plan.budget)),
        steps: 0,
        launches: 0,
        launching: Duration::ZERO,
    };
    let measured = bench.measure(&seats);
    bench.progress.finish();
    measured
}

impl Plan {
    /// A second look at some of the cells.
    pub(super) fn again(self, cells: Vec<String>) -> Plan {
        Plan { cells, draws: "gate again", ..self }
    }
}

impl Bench<'_> {
    fn measure(&mut self, seats: &Seats) -> Result<Option<Measured>> {
        let began = Instant::now();
        let mut notes = Vec::new();
        if seats.are_shared(1, 1) {
            notes.push(
                "this machine has one processor: churn and walk take turns on it, and cells under churn say little".to_owned(),
            );
        }
        let mut left_out = Vec::new();
        if !self.plan.layouts.is_empty() {
            notes.push(format!(
                "{} layouts of each side, its functions in another order in every launch: what placement does is part of the \
                 intervals",
                self.plan.layouts.len()
            ));
        }
        let mut sides = self.launch()?;
        // It is none of those that are measured: the first of them has the first layout.
        self.launches = 0;
        self.launching = began.elapsed();
        self.same_builds(&sides)?;
        let says = [describe("old", &sides.old), describe("new", &sides.new)];
        let Some(cells) = self.calibrate(&mut sides, &mut left_out)? else { return Ok(None) };
        drop(sides);
        self.spent.calibrating_s = began.elapsed().as_secs_f64();
        let left = self.plan.budget.saturating_sub(began.elapsed());
        let rule = self.rule(&cells, left, began.elapsed())?;
        let comparisons = cells.iter().map(|c| c.compared.clone()).collect();
        let note = says.join("; ");
        let mut recording =
            Recording { schema: SCHEMA, note, rule: rule.clone(), comparisons, launches: Vec::new() };
        let screened: Vec<usize> =
            (0..cells.len()).filter(|c| cells[*c].compared.role == Role::Cell).collect();
        let controls: Vec<usize> =
            (0..cells.len()).filter(|c| cells[*c].compared.role != Role::Cell).collect();
        let planned =
            ((screened.len() as f64 * again(screened.len())).ceil() as usize + controls.len()) as u64;
        self.steps = 0;
        let all = u64::from(rule.screen_launches) * screened.len() as u64
            + u64::from(rule.confirm_launches) * planned;
        self.progress = Progress::resumed(all, began.elapsed(), Some(left));

        let screening = Instant::now();
        for _ in 0..rule.screen_launches {
            let Some(launch) = self.rounds(&cells, Stage::Screen, &screened, rule.screen_rounds)? else {
                return Ok(None);
            };
            recording.launches.push(launch);
        }
        self.spent.screening_s = screening.elapsed().as_secs_f64();
        if verdict::is_hopeless(&recording) {
            return Ok(Some(Measured {
                recording,
                left_out,
                notes,
                sides: says.to_vec(),
                spent: self.spent.clone(),
            }));
        }
        let mut again = verdict::to_confirm(&recording);
        again.extend(&controls);
        let left = self.plan.budget.saturating_sub(began.elapsed());
        // How many launches and rounds there are depends on the scatter of the first launches and on the time that is left, not
        // on what anybody says in them.
        let plan = self.plan_again(&recording, &cells, &again, left);
        recording.rule.confirm_rounds = plan.rounds;
        if plan.rounds < rule.confirm_rounds {
            notes.push(format!(
                "cells looked at again: {}, in {} to {} launches, {} rounds a launch instead of {}",
                again.len() - controls.len(),
                rule.confirm_launches,
                plan.most_launches(),
                plan.rounds,
                rule.confirm_rounds
            ));
        }
        let all = self.steps + plan.launches.iter().map(|(_, launches)| u64::from(*launches)).sum::<u64>();
        self.progress.finish();
        self.progress = Progress::resumed(all, began.elapsed(), Some(left));
        let confirming = Instant::now();
        for nth in 0..plan.most_launches() {
            let who = plan.of_launch(nth);
            let Some(launch) = self.rounds(&cells, Stage::Confirm, &who, plan.rounds)? else {
                return Ok(None);
            };
            recording.launches.push(launch);
        }
        self.spent.confirming_s = confirming.elapsed().as_secs_f64();
        Ok(Some(Measured { recording, left_out, notes, sides: says.to_vec(), spent: self.spent.clone() }))
    }

    /// Fresh processes, started in an order of their own.
    ///
    /// What lies where decides what collides in the caches, by a few per cent for as long as a process lives: all of a launch
    /// have the same addresses, and the next launch has others.
    fn launch(&mut self) -> Result<Sides> {
        let began = Instant::now();
        self.lay_out()?;
        let stack = (self.rng.next() % PAGE_SIZE) as usize;
        let Plan { old, new, patience, .. } = self.plan;
        let copy = Program { name: "copy", exe: self.plan.copy.clone(), args: new.args.clone() };
        let old_first = self.rng.next() & 1 == 0;
        let first = Side::start(if old_first { old } else { new }, stack, *patience)?;
        let second = Side::start(if old_first { new } else { old }, stack, *patience)?;
        let copy = Side::start(&copy, stack, *patience)?;
        let (old, new) = if old_first { (first, second) } else { (second, first) };
        self.spent.setting_up_s += began.elapsed().as_secs_f64();
        Ok(Sides { old, new, copy })
    }

    /// Puts the programs of the next launch where they are started from, as files that nobody ran before: where in memory
    /// the system keeps a program decides how it gets along with the caches, for as long as it keeps it. With layouts, each
    /// launch has its own.
    fn lay_out(&mut self) -> Result<()> {
        let Plan { old, new, copy, layouts, .. } = self.plan;
        let [from_old, from_new] =
            layouts.get(self.launches).map_or([&old.exe, &new.exe], |[old, new]| [old, new]);
        let mut files = [(from_old, &old.exe), (from_new, &new.exe), (from_new, copy)];
        self.rng.shuffle(&mut files);
        for (from, to) in files {
            let fresh = to.with_extension("fresh");
            loaded::copy(from, &fresh)
                .and_then(|()| fs::rename(&fresh, to))
                .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        }
        self.launches += 1;
        Ok(())
    }

    fn same_builds(&self, sides: &Sides) -> Result<()> {
        let (old, new) = (&sides.old.hello, &sides.new.hello);
        for (what, old, new) in [
            ("compiler", &old.rustc, &new.rustc),
            ("profile", &old.profile, &new.profile),
            ("flags", &old.flags, &new.flags),
        ] {
            if old != new && !self.plan.any_build {
                bail!(
                    "the baseline's {what} is {old:?}, this program's {new:?}: the difference would be taken for one of the \
                     code; build both alike, or say --any-build"
                );
            }
        }
        Ok(())
    }

    /// One launch: each of `who` with its rounds.
    fn rounds(&mut self, cells: &[Cell], stage: Stage, who: &[usize], rounds: u32) -> Result<Option<Launch>> {
        let mut sides = self.launch()?;
        self.same_builds(&sides)?;
        let mut order = who.to_vec();
        self.rng.shuffle(&mut order);
        let mut launch = Launch { stage, series: Vec::new() };
        for comparison in order {
            if interrupt::is_asked() {
                return Ok(None);
            }
            let cell = &cells[comparison];
            self.progress.step(self.steps, &cell.compared.id);
            self.steps += 1;
            launch.series.push(self.series(&mut sides, cell, comparison, rounds)?);
        }
        Ok(Some(launch))
    }
}

fn describe(name: &str, side: &Side) -> String {
    let hello = &side.hello;
    let dirty = if hello.dirty == "true" { ", changed" } else { "" };
    let commit = git::short(&hello.commit);
    format!("{name}: commit {commit}{dirty}, {}, {}", hello.rustc, hello.profile)
}
