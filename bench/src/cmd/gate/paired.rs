//! The paired time tier: both programs as processes, block by block next to each other.
//!
//! One side runs, the other sleeps. In a launch, a fresh set of processes, cells come in an order of its own; a cell has
//! its rounds one after the other, a block of each side a round, ABBA or BAAB by the toss of a coin. Blocks of both sides
//! do the same number of sweeps, found once, on the slower side, so that one lasts about half a millisecond: what a
//! neighbour does to the caches and to the other half of a core changes within milliseconds, and only what it did to both
//! blocks of a round cancels out. What is looked at again ([`verdict::to_confirm`]) is decided once, after the screening
//! launches; nothing is repeated until it pleases. With layouts, every launch has a link of either side that no other
//! launch has.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Serialize;

use super::side::{Failure, Program, Side};
use crate::gate::protocol::{Answers, Churned, Prepared, Ran};
use crate::gate::rounds::{
    Compared, LEAST_ROUNDS, Launch, Metric, Recording, Role, Rule, SCHEMA, Series, Stage,
};
use crate::gate::verdict;
use crate::interrupt;
use crate::measure::churn::{DOSE_TOLERANCE, Tally, doses_differ};
use crate::measure::matrix::Group;
use crate::measure::order::Rng;
use crate::measure::visit::Seats;
use crate::os::{pinning, stolen};
use crate::progress::Progress;

/// What both controls are measured on: short sweeps, so that 3 % of a block is many of them.
pub(super) const CONTROL: &str = "dense_4k@16MiB/snapshot/512/none/1/map_order";
/// More work in the planted control.
const PLANTED_PERCENT: u64 = 3;
/// What a block should last. Six of 0.5 ms tell four times as much as one of 3 ms beside compilers on two processors.
const BLOCK_NS: u64 = 500_000;
/// What a round of a [`Rule`] is worth: as many rounds of shorter blocks as take a side so long.
const ROUND_NS: u64 = 3_000_000;
/// What a round may last, resets between sweeps included, if fewer sweeps can help it.
const LONGEST_ROUND: Duration = Duration::from_millis(60);
/// Operations of a block that a p99 is made of: the ten slowest of them decide it.
const TAIL_OPERATIONS: u64 = 1000;
/// The share of the cells that is looked at again, for planning: a tenth seems slower or faster by chance.
const AGAIN: f64 = 0.2;
/// As many are planned for at least, where there are so many: a change has not been made for nothing.
const AGAIN_AT_LEAST: f64 = 4.0;
/// Rounds at most until churn gives both sides the same dose twice.
const MOST_WARM_UPS: u32 = 8;
/// How rules get smaller where there is little time: launches to screen and to confirm.
const SMALLER: [(u32, u32); 3] = [(8, 14), (6, 10), (5, 8)];
/// Rounds a launch at least.
const FEWEST_ROUNDS: u32 = 4;
const _: () = assert!(FEWEST_ROUNDS >= LEAST_ROUNDS);

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

/// Refuses fewer layouts than the smallest rule has launches: two launches of one layout share its luck, and a test that
/// takes them for independent would believe in it.
///
/// # Errors
/// How many are expected.
pub(super) fn enough_layouts(layouts: Option<u32>) -> Result<()> {
    let [.., (screen, confirm)] = SMALLER;
    if layouts.is_some_and(|n| n < screen + confirm) {
        bail!(
            "--layouts {}: every launch takes a layout that no other launch had; expected {} or more, {} for all launches",
            layouts.unwrap_or(0),
            screen + confirm,
            SMALLER[0].0 + SMALLER[0].1
        );
    }
    Ok(())
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

    /// Every cell once on both sides: the same answers? How long are blocks?
    fn calibrate(
        &mut self,
        sides: &mut Sides,
        left_out: &mut Vec<(String, String)>,
    ) -> Result<Option<Vec<Cell>>> {
        let mut cells = Vec::new();
        let mut other_work = Vec::new();
        let mut wanted: Vec<(String, Role)> =
            self.plan.cells.iter().map(|c| (c.clone(), Role::Cell)).collect();
        self.rng.shuffle(&mut wanted);
        wanted.push((CONTROL.to_owned(), Role::Null));
        for (id, role) in wanted {
            if interrupt::is_asked() {
                return Ok(None);
            }
            self.progress.step(self.steps, &format!("trying {id}"));
            self.steps += 1;
            let group = id.rsplit_once('/').and_then(|(group, _)| Group::parse(group));
            let churn = group.and_then(|g| g.churn);
            let compared = Compared { id: id.clone(), role, sweeps: 1, metric: Metric::Block };
            let mut cell = Cell { compared, churn, set_up: Duration::ZERO, round: Duration::ZERO, times: 1 };
            let (old, new, _) = cell.who();
            let began = Instant::now();
            let prepared = match self.prepare(sides, new, 0, &id) {
                Ok(new) => new,
                Err(e) => {
                    return Err(anyhow::Error::from(e).context(format!("{id}: this program cannot do it")));
                }
            };
            let before = match self.prepare(sides, old, 0, &id) {
                Ok(prepared) => prepared,
                Err(Failure::Refused(why)) => {
                    left_out.push((id, format!("the baseline cannot do it: {why}")));
                    continue;
                }
                Err(Failure::Broken(e)) => return Err(e.context(id)),
            };
            cell.set_up = began.elapsed();
            self.spent.setting_up_s += cell.set_up.as_secs_f64();
            let ask = |sides: &mut Sides, who| -> Result<Answers> {
                sides.side(who).ask("answers").map_err(|e| anyhow::Error::from(e).context(id.clone()))
            };
            let answers = (ask(sides, old)?, ask(sides, new)?);
            if answers.0 != answers.1 || (before.calls, before.pages) != (prepared.calls, prepared.pages) {
                other_work.push(id);
                continue;
            }
            self.block_length(sides, &mut cell, &prepared)?;
            if role == Role::Cell && self.plan.tails.is_match(&id) {
                match self.tail(sides, &cell, &prepared)? {
                    Ok(tail) => cells.extend([cell, tail]),
                    Err(why) => {
                        left_out.push((Metric::P99.label(&id), why));
                        cells.push(cell);
                    }
                }
                continue;
            }
            cells.push(cell);
        }
        if !other_work.is_empty() {
            bail!(
                "{} cells give other answers than the baseline's, so their times say nothing of each other: {}{}\n\
                 `walkbench verify` says whether this program's are right; --filter leaves cells out",
                other_work.len(),
                other_work.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", "),
                if other_work.len() > 5 { ", ..." } else { "" }
            );
        }
        if cells.len() < 2 {
            bail!(
                "no cell can be compared: {}",
                left_out.first().map_or("none was asked for", |(_, why)| why)
            );
        }
        let planted = cells.last().map(|c| Cell {
            compared: Compared { role: Role::Planted, ..c.compared.clone() },
            churn: None,
            ..*c
        });
        cells.extend(planted);
        Ok(Some(cells))
    }

    fn prepare(&self, sides: &mut Sides, who: Who, extra: u64, id: &str) -> Result<Prepared, Failure> {
        sides.side(who).ask(&format!("prepare {} {extra} {id}", self.plan.seed))
    }

    /// A block, and what of it is compared.
    fn run(&mut self, sides: &mut Sides, who: Who, cell: &Cell, sweeps: u32) -> Result<(Ran, u64)> {
        let verb = match cell.compared.metric {
            Metric::Block => "run",
            Metric::P99 => "tail",
        };
        let asked: Result<Ran, Failure> = sides.side(who).ask(&format!("{verb} {sweeps}"));
        let ran = asked.map_err(|e| anyhow::Error::from(e).context(cell.compared.id.clone()))?;
        if ran.ns == 0 {
            bail!("{}: a side says that {sweeps} sweeps took 0 ns", cell.compared.id);
        }
        self.spent.in_blocks_s += ran.ns as f64 / 1e9;
        let ns = match cell.compared.metric {
            Metric::Block => ran.ns,
            Metric::P99 => ran.tail.filter(|t| t.p99_ns > 0).map(|t| t.p99_ns).with_context(|| {
                format!("{}: a side timed no operations when asked to `tail {sweeps}`", cell.compared.id)
            })?,
        };
        Ok((ran, ns))
    }

    /// The comparison of a cell's p99, or why there can be none.
    fn tail(&mut self, sides: &mut Sides, cell: &Cell, prepared: &Prepared) -> Result<Result<Cell, String>> {
        let of_block = prepared.calls * u64::from(cell.compared.sweeps);
        let times = TAIL_OPERATIONS.div_ceil(of_block.max(1));
        let round = cell.round * u32::try_from(times).unwrap_or(u32::MAX);
        if round > LONGEST_ROUND {
            return Ok(Err(format!(
                "a round of {TAIL_OPERATIONS} operations a side, fewer of which have no p99, would last {round:.0?}"
            )));
        }
        let sweeps = cell.compared.sweeps * times as u32;
        for who in [cell.who().0, cell.who().1] {
            match sides.side(who).ask::<Ran>(&format!("tail {sweeps}")) {
                Ok(_) => {}
                Err(Failure::Refused(why)) => return Ok(Err(format!("the baseline cannot do it: {why}"))),
                Err(Failure::Broken(e)) => return Err(e.context(cell.compared.id.clone())),
            }
        }
        let compared = Compared { metric: Metric::P99, sweeps, ..cell.compared.clone() };
        let times = (cell.times / times as u32).max(1);
        Ok(Ok(Cell { compared, round, times, ..*cell }))
    }

    /// How many sweeps make a block of about half a millisecond on the slower side; checked once, since a probe may be
    /// interrupted.
    fn block_length(&mut self, sides: &mut Sides, cell: &mut Cell, prepared: &Prepared) -> Result<()> {
        let (old, new, _) = cell.who();
        let wanted_ns = BLOCK_NS.max(prepared.least_block_ns);
        let mut sweeps = 1u32;
        let (mut took, mut slower) = (Duration::ZERO, 1);
        for _ in 0..12 {
            let began = Instant::now();
            let ran = [self.run(sides, old, cell, sweeps)?, self.run(sides, new, cell, sweeps)?];
            took = began.elapsed();
            slower = ran.iter().map(|(r, _)| r.ns).max().unwrap_or(1);
            let is_long = slower * 2 >= wanted_ns && slower <= wanted_ns * 2;
            let is_single = sweeps == 1 && slower >= wanted_ns;
            if is_long || is_single || (took >= LONGEST_ROUND / 2 && slower * 8 >= wanted_ns) {
                break;
            }
            let next = (f64::from(sweeps) * wanted_ns as f64 / slower as f64).ceil();
            // No leap by a single, short, perhaps interrupted probe.
            sweeps = (next as u32).clamp(1, sweeps.saturating_mul(64));
        }
        if took > LONGEST_ROUND && sweeps > 1 {
            let fewer = f64::from(sweeps) * LONGEST_ROUND.as_secs_f64() / took.as_secs_f64();
            took = took.mul_f64(fewer.max(1.0) / f64::from(sweeps));
            sweeps = (fewer as u32).max(1);
        }
        // Calls of a block in hundreds, so that per cents of them are whole calls.
        let hundreds = 100 / gcd(100, prepared.calls.max(1)) as u32;
        cell.compared.sweeps = if sweeps > 2 * hundreds { sweeps.next_multiple_of(hundreds) } else { sweeps };
        let sweeps = cell.compared.sweeps;
        let mut rounds = vec![took];
        // One probe may be interrupted, and the budget is planned with it; of long ones a few would cost more than they tell.
        while rounds.len() < 5 && took < LONGEST_ROUND / 8 {
            let began = Instant::now();
            self.run(sides, old, cell, sweeps)?;
            self.run(sides, new, cell, sweeps)?;
            rounds.push(began.elapsed());
        }
        rounds.sort_unstable();
        cell.round = rounds[rounds.len() / 2];
        cell.times = u32::try_from(ROUND_NS / slower.max(BLOCK_NS)).unwrap_or(1).max(1);
        Ok(())
    }

    /// The largest rule that fits into `left`.
    fn rule(&self, cells: &[Cell], left: Duration, elapsed: Duration) -> Result<Rule> {
        let full = Rule::default();
        let mut needs = Duration::ZERO;
        let layouts = self.plan.layouts.len() as u32;
        for (screen_launches, confirm_launches) in SMALLER {
            if layouts > 0 && screen_launches + confirm_launches > layouts {
                continue;
            }
            let takes = |share: f64| {
                let rounds = |n: u32| ((f64::from(n) * share) as u32).max(FEWEST_ROUNDS);
                let rule = Rule {
                    screen_launches,
                    confirm_launches,
                    screen_rounds: rounds(full.screen_rounds),
                    confirm_rounds: rounds(full.confirm_rounds),
                    ..full.clone()
                };
                (takes(cells, &rule), rule)
            };
            // From all rounds down to the fewest.
            for step in (0..=30).rev() {
                let (time, rule) = takes(f64::from(step) / 30.0);
                needs = time;
                if time <= left {
                    rule.check()?;
                    return Ok(rule);
                }
            }
        }
        bail!(
            "--budget {}: too small for any verdict on {} cells; expected --budget {} or more, or fewer cells (--filter)",
            self.plan.budget.as_secs(),
            self.plan.cells.len(),
            (needs + elapsed).as_secs() + 2
        )
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
    fn warm_up(&mut self, sides: &mut Sides, cell: &Cell) -> Result<()> {
        let (old, new, _) = cell.who();
        let mut agreed = 0;
        for _ in 0..if cell.churn.is_some() { MOST_WARM_UPS } else { 1 } {
            let (first, _) = self.run(sides, old, cell, cell.compared.sweeps)?;
            let (second, _) = self.run(sides, new, cell, cell.compared.sweeps)?;
            agreed = if has_other_dose(cell, &first, &second) { 0 } else { agreed + 1 };
            if agreed == 2 {
                break;
            }
        }
        Ok(())
    }

    fn series(&mut self, sides: &mut Sides, cell: &Cell, comparison: usize, rounds: u32) -> Result<Series> {
        let (old, new, extra) = cell.who();
        let began = Instant::now();
        let mut both = [(old, 0), (new, extra)];
        self.rng.shuffle(&mut both);
        for (who, extra) in both {
            let prepared = self.prepare(sides, who, extra, &cell.compared.id);
            prepared.map_err(|e| anyhow::Error::from(e).context(cell.compared.id.clone()))?;
        }
        self.spent.setting_up_s += began.elapsed().as_secs_f64();
        let sweeps = cell.compared.sweeps;
        let mut series = Series { comparison, ..Series::default() };
        self.warm_up(sides, cell)?;
        let mut old_first = false;
        // What was void is made up for, up to half as many rounds again: otherwise a launch with a bad moment says nothing.
        for round in 0..rounds + rounds / 2 {
            if round - series.void.len() as u32 >= rounds {
                break;
            }
            // ABBA or BAAB: a coin for the first of two rounds, the mirror image for the second.
            old_first = if round % 2 == 0 { self.rng.next() & 1 == 0 } else { !old_first };
            let ticks = stolen::ticks(&self.walker_cpus);
            let (first, second) = if old_first { (old, new) } else { (new, old) };
            let (first, first_ns) = self.run(sides, first, cell, sweeps)?;
            let (second, second_ns) = self.run(sides, second, cell, sweeps)?;
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

/// The share of so many comparisons that is planned to be looked at again.
fn again(comparisons: usize) -> f64 {
    AGAIN.max(AGAIN_AT_LEAST / comparisons.max(1) as f64).min(1.0)
}

/// What a rule takes on these cells.
fn takes(cells: &[Cell], rule: &Rule) -> Duration {
    let of =
        |role_is_cell: bool| cells.iter().filter(move |c| (c.compared.role == Role::Cell) == role_is_cell);
    let launch = |cells: &mut dyn Iterator<Item = &Cell>, rounds: u32| -> Duration {
        cells.map(|c| c.set_up + c.round * (rounds * c.times + c.warm_ups())).sum()
    };
    let screen = launch(&mut of(true), rule.screen_rounds) * rule.screen_launches;
    let again = launch(&mut of(true), rule.confirm_rounds).mul_f64(again(of(true).count()));
    let controls = launch(&mut of(false), rule.confirm_rounds);
    screen + (again + controls) * rule.confirm_launches
}

/// Rounds that fit into `left`.
fn confirm_rounds(cells: &[Cell], who: &[usize], launches: u32, left: Duration) -> u32 {
    let set_up: Duration =
        who.iter().map(|c| cells[*c].set_up + cells[*c].round * cells[*c].warm_ups()).sum();
    let round: Duration = who.iter().map(|c| cells[*c].round * cells[*c].times).sum();
    let left = left.saturating_sub(set_up * launches).as_secs_f64();
    (left / (round * launches).as_secs_f64().max(1e-9)) as u32
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
