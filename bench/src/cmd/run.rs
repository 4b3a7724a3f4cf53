//! `walkbench run`: measures, records, prints.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use walker::backends;
use workloads::definition::Profile;

use crate::analysis::{GroupResult, failed_group, group_result};
use crate::interrupt;
use crate::measure::clock::Clock;
use crate::measure::limits::Limit;
use crate::measure::machine::{Build, Machine};
use crate::measure::matrix::{self, Group};
use crate::measure::member::{LimitMember, MakeMember, Member, NOOP, What};
use crate::measure::order::Rng;
use crate::measure::runner::{Block, Plan, Stage, run_group};
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::questions;
use crate::record::{self, Recorder, Run, SCHEMA, Sample, Skip, State};
use crate::results::Results;
use crate::tables;

/// Measure, record every block, print tables
///
/// Backends and limits take turns on the same tables, in an order drawn from the seed. The folder of the results holds
/// run.json (machine, command, seed, results) and samples.jsonl (one line a block).
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench run                                      the quick profile, under two minutes
  walkbench run --profile smoke                      seconds: does everything work
  walkbench run --filter '^dense_4k@1GiB/.*/512/'    some cells; see `walkbench list cells`
  walkbench run --out /tmp/mine --format json | jq '.cells[] | {id, ns_per_page}'")]
pub(crate) struct RunArgs {
    /// How much
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    profile: ProfileArg,
    /// Only cells whose id, workload@size/request/call_pages/churn/walkers/backend, matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Decides tables, wishes and the order of turns
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the results, new or empty; by default results/DATE-MACHINE
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// `--profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileArg {
    /// Seconds
    Smoke,
    /// Under two minutes
    Quick,
}

impl From<ProfileArg> for Profile {
    fn from(p: ProfileArg) -> Profile {
        match p {
            ProfileArg::Smoke => Profile::Smoke,
            ProfileArg::Quick => Profile::Quick,
        }
    }
}

impl ProfileArg {
    /// What all groups together aim at. The least number of rounds of slow groups comes on top.
    const fn budget(self) -> Duration {
        match self {
            ProfileArg::Smoke => Duration::from_secs(3),
            ProfileArg::Quick => Duration::from_secs(60),
        }
    }
    const fn min_rounds(self) -> u32 {
        match self {
            ProfileArg::Smoke => 2,
            ProfileArg::Quick => 3,
        }
    }
}

/// The groups of a profile with the cells that a filter lets through.
///
/// # Errors
/// When there are none.
pub(crate) fn wanted(profile: Profile, filter: Option<&Regex>) -> Result<Vec<Group>> {
    let groups = matrix::groups(profile, &|id| filter.is_none_or(|f| f.is_match(id)));
    if groups.is_empty() {
        bail!(
            "--filter {}: matches no cell of the {} profile; `walkbench list cells` prints them",
            filter.map_or("", Regex::as_str),
            profile.name()
        );
    }
    Ok(groups)
}

/// Measures.
///
/// # Errors
/// Bad input, or a results folder that cannot be written. A cell that fails is a row with an error instead.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let profile = Profile::from(args.profile);
    let groups = wanted(profile, args.filter.as_ref())?;
    let machine = Machine::read();
    let clock = Clock::measure();
    let started =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    let (day, time) = record::date(started.as_secs());
    let mut recorder = Recorder::create(args.out.as_deref(), &day, &machine)?;
    let mut run = Run {
        schema: SCHEMA,
        state: State::Running,
        started_unix_s: started.as_secs(),
        started: time,
        command: std::env::args().skip(1).collect(),
        profile: profile.name().to_owned(),
        seed: args.seed,
        clock_cost_ps: (clock.cost_ns * 1000.0) as u64,
        machine,
        build: Build::this(),
        groups: groups.iter().map(Group::id).collect(),
        skips: groups
            .iter()
            .flat_map(|g| {
                g.skips.iter().map(|(b, reason)| Skip { id: g.cell_id(b.id), reason: reason.clone() })
            })
            .collect(),
        cells: Vec::new(),
    };
    recorder.run(&run)?;
    interrupt::listen()?;

    let results = measure(args, groups, clock, &mut recorder)?;

    run.state = if interrupt::is_asked() { State::Interrupted } else { State::Complete };
    let cells = results.iter().flat_map(|(_, r)| &r.cells);
    run.cells = cells.map(serde_json::to_value).collect::<Result<_, _>>().context("cells as JSON")?;
    recorder.run(&run)?;

    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": SCHEMA,
            "machine": run.machine,
            "build": run.build,
            "seed": run.seed,
            "clock_cost_ps": run.clock_cost_ps,
            "results": recorder.folder(),
            "state": run.state,
            "cells": run.cells,
            "skips": run.skips,
            "questions": questions::answers(&Results::load(recorder.folder())?),
        }))?,
        Format::Text => {
            let answers = questions::answers(&Results::load(recorder.folder())?);
            let text = tables::results(&results) + &questions::text::answers(&answers) + "\n";
            output::print(&(text + &beneath(&run, &results, &recorder)))?;
        }
    }
    if run.state == State::Interrupted {
        eprintln!(
            "stopped by Ctrl-C after {} of {} groups; what was measured is in {}",
            results.len(),
            run.groups.len(),
            recorder.folder().display()
        );
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    let failed = results.iter().flat_map(|(_, r)| &r.cells).filter(|c| c.error.is_some()).count();
    if failed > 0 {
        eprintln!("{failed} cells failed");
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn measure(
    args: &RunArgs,
    groups: Vec<Group>,
    clock: Clock,
    recorder: &mut Recorder,
) -> Result<Vec<(Group, GroupResult)>> {
    let deadline = Instant::now() + args.profile.budget();
    let progress = Progress::new(groups.len());
    let mut results = Vec::new();
    let total = groups.len();
    for (i, group) in groups.into_iter().enumerate() {
        if interrupt::is_asked() {
            break;
        }
        let id = group.id();
        progress.step(i, &id);
        let left = deadline.saturating_duration_since(Instant::now());
        let result = one_group(args, &group, left / (total - i) as u32, clock, recorder)?;
        results.push((group, result));
    }
    progress.finish();
    Ok(results)
}

fn one_group(
    args: &RunArgs,
    group: &Group,
    budget: Duration,
    clock: Clock,
    recorder: &mut Recorder,
) -> Result<GroupResult> {
    let id = group.id();
    let mut stage = match Stage::new(group.recipe(args.seed)) {
        Ok(stage) => stage,
        Err(e) => return Ok(failed_group(group, &format!("{e:#}"))),
    };
    let make = MakeMember { call_pages: group.call_pages, clock };
    let mut members: Vec<Box<dyn Member>> = Vec::new();
    members.extend(group.backends.iter().filter_map(|b| backends::dispatch(b.id, make)));
    for limit in Limit::ALL {
        members.push(Box::new(LimitMember::new(limit, group.call_pages, clock)));
    }
    if !group.backends.iter().any(|b| b.id == NOOP) {
        members.extend(backends::dispatch(NOOP, make));
    }
    let plan = Plan {
        budget,
        min_rounds: args.profile.min_rounds(),
        max_rounds: 48,
        // A dozen rounds of blocks in the budget, set-up taken off.
        block: (budget / (16 * members.len() as u32))
            .clamp(Duration::from_micros(100), Duration::from_millis(1)),
        what: What::Whole,
        stages_every: if args.profile == ProfileArg::Smoke { 2 } else { 4 },
    };
    let (nr_pages, nr_calls) = stage.nr_pages_and_calls()?;
    let mut samples = Vec::new();
    // Not a property of the cell: a full disk ends the run.
    let mut unwritten = None;
    let mut sink = |block: Block<'_>| {
        let sample = Sample {
            group: id.clone(),
            member: block.member.to_owned(),
            round: block.round,
            turn: block.turn,
            what: block.what,
            nr_pages: nr_pages * u64::from(block.sweeps),
            nr_calls: nr_calls * u64::from(block.sweeps),
            block_ns: block.timing.ns,
            stages: block.timing.stages,
            involuntary_switches: block.switches,
        };
        if let Err(e) = recorder.sample(&sample) {
            unwritten = Some(e);
            bail!("a sample could not be written");
        }
        samples.push(sample);
        Ok(())
    };
    let mut rng = Rng::new(args.seed, &id);
    let outcomes = run_group(&mut stage, &mut members, &plan, &mut rng, &mut sink, &interrupt::is_asked);
    if let Some(e) = unwritten {
        return Err(e);
    }
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(e) => return Ok(failed_group(group, &format!("{e:#}"))),
    };
    Ok(group_result(group, &outcomes, &samples, clock.cost_ns))
}

/// What stands beneath the tables: how to read them, the machine, the spread, the command.
fn beneath(run: &Run, results: &[(Group, GroupResult)], recorder: &Recorder) -> String {
    let mut spreads: Vec<f64> = results
        .iter()
        .flat_map(|(_, r)| &r.cells)
        .filter_map(|c| c.ns_per_page)
        .map(|i| i.spread_percent())
        .collect();
    spreads.sort_by(f64::total_cmp);
    let typical = spreads.get(spreads.len() / 2).copied().unwrap_or(0.0);
    let widest = spreads.last().copied().unwrap_or(0.0);
    format!(
        "ns/page    whole operations: prepare, walk, retry, consume; median [95 % interval] over blocks\n\
         x          against (decode), from blocks next to each other in time\n\
         (limits)   copy, load, decode, fill: the machine on the same tables; noop: the harness itself\n\
         spread     half the interval is {typical:.1} % of the median in the middle cell, {widest:.1} % in the widest\n\
         clock      {:.1} ns a reading, taken off\n\
         machine    {}\n\
         build      {}, commit {}{}\n\
         command    walkbench {}\n\
         results    {}\n",
        run.clock_cost_ps as f64 / 1000.0,
        run.machine.line(),
        run.build.rustc,
        run.build.commit.get(..12).unwrap_or(&run.build.commit),
        if run.build.dirty == "true" { " (dirty)" } else { "" },
        if run.command.is_empty() { "run".to_owned() } else { run.command.join(" ") },
        recorder.folder().display(),
    )
}
