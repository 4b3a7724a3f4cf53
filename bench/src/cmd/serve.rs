//! `walkbench serve`, which people do not call: does blocks of cells for `walkbench gate`, on request.
//!
//! See [`crate::gate::protocol`]. Between requests the process sleeps in `read`: while the other side runs, it has no
//! thread that could, churn included.

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::gate::protocol::{Answers, Churned, Forgotten, Hello, PROTOCOL, Prepared, Ran, Refused, Tail};
use crate::measure::churn::Churning;
use crate::measure::machine::Build;
use crate::measure::matrix::Group;
use crate::measure::member::{Member, Plant, Timing, Turn, What};
use crate::measure::runner::{Stage, churn_block};
use crate::measure::scene::Window;
use crate::measure::visit::Launching;
use crate::measure::watch::Watch;
use crate::os::pinning;

/// Shortest block that anything is compared with.
const BLOCK: std::time::Duration = std::time::Duration::from_millis(2);

/// What it is started with.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Do so many per cent more work in every block: a slowdown that is known, for trying the gate
    #[arg(long, default_value_t = 0)]
    plant: u64,
    /// Make every 64th operation take so many per cent longer: a slowdown of the p99 that a mean hardly shows
    #[arg(long, default_value_t = 0)]
    plant_late: u64,
    /// Plant either under churn only
    #[arg(long)]
    plant_under_churn: bool,
}

/// Serves until the input ends.
///
/// # Errors
/// When the gate cannot be talked to.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    let Build { rustc, profile, flags, commit, dirty, .. } = Build::without_hash();
    say(&Hello { walkbench_serve: PROTOCOL, rustc, profile, flags, commit, dirty, forgets: true })?;
    let mut server = Server {
        launching: Launching::new(&pinning::allowed(), None),
        watch: Watch::without_counters(),
        cell: None,
        args,
    };
    for line in io::stdin().lock().lines() {
        let line = line.context("reading a request")?;
        match server.answer(&line) {
            Ok(Answer::Prepared(a)) => say(&a)?,
            Ok(Answer::Forgotten(a)) => say(&a)?,
            Ok(Answer::Answers(a)) => say(&a)?,
            Ok(Answer::Ran(a)) => say(&a)?,
            Err(e) => say(&Refused { error: format!("{e:#}") })?,
        }
        mark();
    }
    Ok(ExitCode::SUCCESS)
}

/// Where Callgrind writes what it counted; see the gate's tier of instructions.
#[inline(never)]
fn mark() {
    std::hint::black_box(());
}

fn say(answer: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(answer).context("an answer as JSON")?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("answering the gate")
}

enum Answer {
    Prepared(Prepared),
    Forgotten(Forgotten),
    Answers(Answers),
    Ran(Ran),
}

struct Server<'a> {
    launching: Launching,
    watch: Watch,
    cell: Option<Cell>,
    args: &'a ServeArgs,
}

struct Cell {
    stage: Stage,
    member: Box<dyn Member>,
    extra_percent: u64,
    seed: u64,
    churn_cpus: Vec<usize>,
    /// See [`Prepared`].
    parts: u64,
    /// Parts of a sweep that were done since the tables were put back.
    done: u64,
}

/// Sweeps over everything, beside no churn.
fn turn(what: What, sweeps: u32) -> Turn {
    Turn { what, sweeps, window: Window::WHOLE, batch: 1, counting: false, churning: None }
}

/// What a block that was no churn's and nobody's tail took.
fn ran(timing: &Timing) -> Ran {
    Ran { ns: timing.ns, switches: timing.observed.switches, churn: None, tail: None }
}

impl Server<'_> {
    fn answer(&mut self, line: &str) -> Result<Answer> {
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| -> Result<u64> {
            word.and_then(|w| w.parse().ok()).with_context(|| format!("{line:?}: expected a number"))
        };
        match words.next() {
            Some("prepare") => {
                let (seed, extra) = (number(words.next())?, number(words.next())?);
                let id = words.next().with_context(|| format!("{line:?}: expected a cell"))?;
                self.prepare(seed, extra, id).map(Answer::Prepared)
            }
            Some("forget") => {
                self.cell = None;
                Ok(Answer::Forgotten(Forgotten {}))
            }
            Some("answers") => {
                let Cell { stage, member, .. } = self.cell()?;
                let answers = stage.answers(member.as_mut())?;
                Ok(Answer::Answers(Answers { answers: format!("{answers:016x}") }))
            }
            Some(verb @ ("run" | "tail")) => {
                let sweeps = number(words.next())?;
                let sweeps = u32::try_from(sweeps).ok().filter(|n| *n > 0);
                let sweeps = sweeps.with_context(|| format!("{line:?}: expected sweeps, 1 or more"))?;
                let ran = if verb == "tail" { self.tail(sweeps) } else { self.block(sweeps, What::Whole) };
                ran.map(Answer::Ran)
            }
            Some("part") => {
                let (index, of) = (number(words.next())?, number(words.next())?);
                self.part(Window { index, of }).with_context(|| line.to_owned()).map(Answer::Ran)
            }
            _ => bail!("{line:?}: expected prepare, forget, answers, run, part or tail"),
        }
    }

    fn cell(&mut self) -> Result<&mut Cell> {
        self.cell.as_mut().context("expected `prepare` first")
    }

    fn prepare(&mut self, seed: u64, extra: u64, id: &str) -> Result<Prepared> {
        // The tables of the cell before go first: both need not fit into memory.
        self.cell = None;
        let (group, backend) = id.rsplit_once('/').with_context(|| format!("{id}: no such cell"))?;
        let group = Group::parse(group).with_context(|| format!("{id}: no such cell"))?;
        let is_planted = !self.args.plant_under_churn || group.churn.is_some();
        let planted = |percent: u64| if is_planted { percent } else { 0 };
        let extra_percent = extra + planted(self.args.plant);
        let stage = Stage::new(group.recipe(seed), None)?;
        let (repeats, calls, pages) = stage.extent()?;
        // Where tables are reset between sweeps, whole sweeps are done again; else calls are.
        let of_member = if repeats { extra_percent } else { 0 };
        let plant = Plant { extra_percent: of_member, late_percent: planted(self.args.plant_late) };
        let member = self.launching.member(&group, backend, plant)?;
        let least_block_ns = group.churn.map_or(0, |c| churn_block(c, BLOCK).as_nanos() as u64);
        let churn_cpus = self.launching.seats.churn(group.walkers, group.churn.map_or(0, |c| c.threads));
        let again = if repeats { 0 } else { extra_percent };
        // What does more work than it must does whole sweeps again.
        let is_plain = plant == Plant::default() && again == 0;
        let has_parts = !repeats && is_plain && group.churn.is_none() && group.walkers == 1;
        let parts = if has_parts { stage.nr_parts()? } else { 0 };
        self.cell = Some(Cell { stage, member, extra_percent: again, seed, churn_cpus, parts, done: 0 });
        Ok(Prepared { calls, pages, least_block_ns, parts })
    }

    /// A part of a sweep over tables that are put back between sweeps, but not between its parts.
    fn part(&mut self, window: Window) -> Result<Ran> {
        let Server { cell, watch, .. } = self;
        let cell = cell.as_mut().context("expected `prepare` first")?;
        let Window { index, of } = window;
        if of == 0 || of > cell.parts || index >= of || (index > 0 && index != cell.done) {
            bail!(
                "expected the first part of at most {}, or part {} of as many as before",
                cell.parts,
                cell.done
            );
        }
        let turn = Turn { window, ..turn(What::Whole, 1) };
        let member = cell.member.as_mut();
        let timing = match index {
            0 => cell.stage.block(member, turn, watch)??,
            _ => cell.stage.next_part(member, turn, watch)??,
        };
        cell.done = index + 1;
        Ok(ran(&timing))
    }

    /// A block of operations that are timed one by one.
    fn tail(&mut self, sweeps: u32) -> Result<Ran> {
        // The histogram goes on from block to block.
        let before = self.cell()?.member.operations();
        let ran = self.block(sweeps, What::Operations)?;
        let (after, before) = self.cell()?.member.operations().zip(before).context("operations")?;
        let mut of_block = after;
        of_block.subtract(&before).context("operations of one block")?;
        let tail = Tail { operations: of_block.len(), p99_ns: of_block.value_at_quantile(0.99) };
        Ok(Ran { tail: Some(tail), ..ran })
    }

    fn block(&mut self, sweeps: u32, what: What) -> Result<Ran> {
        let Server { cell, watch, .. } = self;
        let cell = cell.as_mut().context("expected `prepare` first")?;
        cell.done = 0;
        let (repeats, ..) = cell.stage.extent()?;
        let member = cell.member.as_mut();
        if let Some((ground, spec)) = cell.stage.churn()? {
            let churning = std::sync::Arc::new(Churning::start(&ground, spec, cell.seed, &cell.churn_cpus)?);
            churning.ramp()?;
            let before = churning.tally();
            let timing = cell.stage.block(
                member,
                Turn { churning: Some(std::sync::Arc::clone(&churning)), ..turn(what, sweeps) },
                watch,
            )??;
            let tally = churning.tally().since(&before);
            // Dropped here, it ends its threads with nothing half done.
            drop(churning);
            let churn = Some(Churned { ns: tally.ns, events: tally.events, tables: tally.tables });
            return Ok(Ran { churn, ..ran(&timing) });
        }
        // The processor's caches were the other side's meanwhile.
        let warm_up = if repeats { (sweeps / 8).max(1) } else { 1 };
        cell.stage.block(member, turn(What::Whole, warm_up), watch)??;
        if repeats {
            let timing = cell.stage.block(member, turn(what, sweeps), watch)??;
            return Ok(ran(&timing));
        }
        let mut ran = Ran { ns: 0, switches: Some(0), churn: None, tail: None };
        let again = (u64::from(sweeps) * cell.extra_percent).div_ceil(100);
        for _ in 0..u64::from(sweeps) + again {
            let timing = cell.stage.block(member, turn(what, 1), watch)??;
            ran.ns += timing.ns;
            ran.switches = ran.switches.zip(timing.observed.switches).map(|(a, b)| a + b);
        }
        Ok(ran)
    }
}
