//! The paired time tier: both programs as processes, block by block next to each other.
//!
//! One side runs, the other sleeps. In a launch, a fresh set of processes, cells come in an order of its own; a cell has
//! its rounds one after the other, a block of each side a round, ABBA or BAAB by the toss of a coin. Blocks of both sides
//! do the same number of sweeps, found once, on the slower side, so that one lasts about half a millisecond: what a
//! neighbour does to the caches and to the other half of a core changes within milliseconds, and only what it did to both
//! blocks of a round cancels out. Where tables are put back between sweeps, which takes as long as a sweep, a block is a
//! part of one: the first part of each, behind the putting back, does not count. What is looked at again
//! ([`verdict::to_confirm`]) is decided once, after the screening launches; nothing is repeated until it pleases. With
//! layouts, every launch has a link of either side that no other launch has.

mod budget;
mod calibrate;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Serialize;

use super::side::{Failure, Program, Side};
use crate::gate::protocol::{Churned, Prepared, Ran};
use crate::gate::rounds::{Compared, Launch, Metric, Recording, Role, Rule, SCHEMA, Series, Stage};
use crate::gate::verdict;
use crate::interrupt;
use crate::measure::churn::{DOSE_TOLERANCE, Tally, doses_differ};
use crate::measure::order::Rng;
use crate::measure::visit::Seats;
use crate::os::{pinning, stolen};
use crate::progress::Progress;
use budget::{FEWEST_ROUNDS, again, confirm_rounds};
pub(super) use budget::{TooSmall, enough_layouts};

/// What both controls are measured on: short sweeps, so that 3 % of a block is many of them.
pub(super) const CONTROL: &str = "dense_4k@16MiB/snapshot/512/none/1/map_order";
/// More work in the planted control.
const PLANTED_PERCENT: u64 = 3;
/// Sweeps in parts after which both sides get other memory: what a page that is written costs differs from page to page of
/// the machine, and a launch shall not be the luck of one draw.
const SWEEPS_A_DRAW: u32 = 5;
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
    /// Rounds that do not count, for planning.
    fn warm_ups(&self) -> u32 {
        if self.churn.is_some() { MOST_WARM_UPS / 2 } else { 1 }
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
    /// Launches so far, those for trying out not counted.
    launches: usize,
}

/// Measures; none when Ctrl-C came first.
///
/// # Errors
/// A side that cannot be compared, sides that do different work, a budget that is too small for a verdict.
pub(super) fn measure(plan: &Plan) -> Result<Option<Measured>> {
    let seats = Seats::new(&pinning::allowed());
    let mut bench = Bench {
        plan,
        rng: Rng::new(plan.seed, "gate"),
        walker_cpus: seats.walkers(1),
        spent: Spent::default(),
        progress: Progress::resumed(plan.cells.len() as u64, Duration::ZERO, Some(plan.budget)),
        steps: 0,
        launches: 0,
    };
    let measured = bench.measure(&seats);
    bench.progress.finish();
    measured
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
        // Where fewer are looked at again than was planned for, or all of it took less time, there are more rounds: how many
        // does not depend on what they will say.
        let rounds = confirm_rounds(&cells, &again, rule.confirm_launches, left)
            .clamp(FEWEST_ROUNDS, Rule::default().confirm_rounds);
        recording.rule.confirm_rounds = rounds;
        if rounds < rule.confirm_rounds {
            let why = if again.len() as u64 > planned {
                format!("{} cells are looked at again, more than", again.len() - controls.len())
            } else {
                "the first stage took longer than".to_owned()
            };
            let instead = rule.confirm_rounds;
            notes.push(format!(
                "{why} the budget was planned for: {rounds} rounds a launch instead of {instead}"
            ));
        }
        let confirming = Instant::now();
        for _ in 0..rule.confirm_launches {
            let Some(launch) = self.rounds(&cells, Stage::Confirm, &again, rounds)? else { return Ok(None) };
            recording.launches.push(launch);
        }
        self.spent.confirming_s = confirming.elapsed().as_secs_f64();
        Ok(Some(Measured { recording, left_out, notes, sides: says.to_vec(), spent: self.spent.clone() }))
    }

    /// Fresh processes, started in an order of their own.
    fn launch(&mut self) -> Result<Sides> {
        let began = Instant::now();
        let Plan { old, new, patience, .. } = self.plan;
        let copy = Program { name: "copy", exe: self.plan.copy.clone(), args: new.args.clone() };
        let old_first = self.rng.next() & 1 == 0;
        let first = Side::start(if old_first { old } else { new }, *patience)?;
        let second = Side::start(if old_first { new } else { old }, *patience)?;
        let copy = Side::start(&copy, *patience)?;
        let (old, new) = if old_first { (first, second) } else { (second, first) };
        self.spent.setting_up_s += began.elapsed().as_secs_f64();
        Ok(Sides { old, new, copy })
    }

    /// Puts the layout of the next launch where the programs are: the paths stay the same.
    fn lay_out(&mut self) -> Result<()> {
        let Some([old, new]) = self.plan.layouts.get(self.launches) else { return Ok(()) };
        self.launches += 1;
        for (from, to) in [(old, &self.plan.old.exe), (new, &self.plan.new.exe), (new, &self.plan.copy)] {
            // A new file: the old one may still be mapped.
            let replaced = fs::remove_file(to).and_then(|()| fs::copy(from, to));
            replaced.with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        }
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

    fn prepare(&self, sides: &mut Sides, who: Who, extra: u64, id: &str) -> Result<Prepared, Failure> {
        sides.side(who).ask(&format!("prepare {} {extra} {id}", self.plan.seed))
    }

    /// A block of whole sweeps, and what of it is compared.
    fn run(&mut self, sides: &mut Sides, who: Who, cell: &Cell, sweeps: u32) -> Result<(Ran, u64)> {
        let verb = match cell.compared.metric {
            Metric::Block => "run",
            Metric::P99 => "tail",
        };
        self.ask(sides, who, cell, &format!("{verb} {sweeps}"))
    }

    /// A block that is a part of a sweep.
    fn part(&mut self, sides: &mut Sides, who: Who, cell: &Cell, part: u64) -> Result<(Ran, u64)> {
        self.ask(sides, who, cell, &format!("part {part} {}", cell.parts))
    }

    fn ask(&mut self, sides: &mut Sides, who: Who, cell: &Cell, request: &str) -> Result<(Ran, u64)> {
        let asked: Result<Ran, Failure> = sides.side(who).ask(request);
        let ran = asked.map_err(|e| anyhow::Error::from(e).context(cell.compared.id.clone()))?;
        if ran.ns == 0 {
            bail!("{}: a side says that `{request}` took 0 ns", cell.compared.id);
        }
        self.spent.in_blocks_s += ran.ns as f64 / 1e9;
        let ns = match cell.compared.metric {
            Metric::Block => ran.ns,
            Metric::P99 => ran.tail.filter(|t| t.p99_ns > 0).map(|t| t.p99_ns).with_context(|| {
                format!("{}: a side timed no operations when asked to `{request}`", cell.compared.id)
            })?,
        };
        Ok((ran, ns))
    }

    /// One launch: each of `who` with its rounds.
    fn rounds(&mut self, cells: &[Cell], stage: Stage, who: &[usize], rounds: u32) -> Result<Option<Launch>> {
        self.lay_out()?;
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
            launch.series.push(self.series(&mut sides, cell, comparison, rounds * cell.times)?);
        }
        Ok(Some(launch))
    }

    /// Rounds that do not count. What processes do for the first time is other work; events of churn, which then touch
    /// memory that the host never gave before, come late: half of the first rounds got other doses, and one of ten after
    /// some rounds.
    ///
    /// Who touches memory for the first time decides who gets which, and some is faster for as long as it is had: by the
    /// toss of a coin, as everything.
    fn warm_up(&mut self, sides: &mut Sides, cell: &Cell, both: [Who; 2]) -> Result<()> {
        let mut agreed = 0;
        for _ in 0..if cell.churn.is_some() { MOST_WARM_UPS } else { 1 } {
            let (first, _) = self.run(sides, both[0], cell, cell.compared.sweeps)?;
            let (second, _) = self.run(sides, both[1], cell, cell.compared.sweeps)?;
            agreed = if has_other_dose(cell, &first, &second) { 0 } else { agreed + 1 };
            if agreed == 2 {
                break;
            }
        }
        Ok(())
    }

    /// Tables on both sides, in an order by the toss of a coin, which is returned.
    fn set_up(&mut self, sides: &mut Sides, cell: &Cell) -> Result<[Who; 2]> {
        let began = Instant::now();
        let (old, new, extra) = cell.who();
        let mut both = [(old, 0), (new, extra)];
        self.rng.shuffle(&mut both);
        for (who, extra) in both {
            let prepared = self.prepare(sides, who, extra, &cell.compared.id);
            prepared.map_err(|e| anyhow::Error::from(e).context(cell.compared.id.clone()))?;
        }
        self.spent.setting_up_s += began.elapsed().as_secs_f64();
        let both = both.map(|(who, _)| who);
        self.warm_up(sides, cell, both)?;
        Ok(both)
    }

    fn series(&mut self, sides: &mut Sides, cell: &Cell, comparison: usize, rounds: u32) -> Result<Series> {
        let (old, new, _) = cell.who();
        let sweeps = cell.compared.sweeps;
        let mut series = Series { comparison, ..Series::default() };
        let mut put_back = self.set_up(sides, cell)?;
        let mut old_first = false;
        let (mut part, mut nr_sweeps) = (0, 0);
        // What was void is made up for, up to half as many rounds again: otherwise a launch with a bad moment says nothing.
        for round in 0..rounds + rounds / 2 {
            if round - series.void.len() as u32 >= rounds {
                break;
            }
            if cell.parts > 0 && part % cell.parts == 0 {
                nr_sweeps += 1;
                if nr_sweeps % SWEEPS_A_DRAW == 0 {
                    put_back = self.set_up(sides, cell)?;
                }
                // Whose tables were put back last has more of them in the caches: by turns.
                put_back.swap(0, 1);
                for who in put_back {
                    self.part(sides, who, cell, 0)?;
                }
                part = 1;
            }
            // ABBA or BAAB: a coin for the first of two rounds, the mirror image for the second.
            old_first = if round % 2 == 0 { self.rng.next() & 1 == 0 } else { !old_first };
            let ticks = stolen::ticks(&self.walker_cpus);
            let (first, second) = if old_first { (old, new) } else { (new, old) };
            let mut block = |who| match cell.parts {
                0 => self.run(sides, who, cell, sweeps),
                _ => self.part(sides, who, cell, part),
            };
            let (first, first_ns) = block(first)?;
            let (second, second_ns) = block(second)?;
            part += 1;
            let was_stolen =
                ticks.zip(stolen::ticks(&self.walker_cpus)).is_some_and(|(before, after)| after > before);
            let lost = |r: &Ran| r.switches.is_some_and(|n| n > 0);
            if was_stolen || lost(&first) || lost(&second) || has_other_dose(cell, &first, &second) {
                series.void.push(round);
            }
            let (old_ns, new_ns) = if old_first { (first_ns, second_ns) } else { (second_ns, first_ns) };
            series.old_ns.push(old_ns);
            series.new_ns.push(new_ns);
        }
        Ok(series)
    }
}

fn describe(name: &str, side: &Side) -> String {
    let hello = &side.hello;
    let dirty = if hello.dirty == "true" { ", changed" } else { "" };
    let commit = &hello.commit[..hello.commit.len().min(12)];
    format!("{name}: commit {commit}{dirty}, {}, {}", hello.rustc, hello.profile)
}

/// Whether churn beside the two blocks was not the same.
fn has_other_dose(cell: &Cell, first: &Ran, second: &Ran) -> bool {
    let Some(spec) = &cell.churn else { return false };
    let tally = |churn: &Option<Churned>| {
        let Churned { ns, events, tables } = (*churn)?;
        Some(Tally { ns, events, tables, ..Tally::default() })
    };
    let (Some(a), Some(b)) = (tally(&first.churn), tally(&second.churn)) else { return true };
    doses_differ(spec, &[a, b], DOSE_TOLERANCE)
}
