//! `walkbench run`: measures, records, prints.

mod beneath;
mod job;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use workloads::definition::Profile;

use crate::analysis::{self, Harness};
use crate::interrupt;
use crate::measure::matrix::Group;
use crate::output::{self, Format};
use crate::questions;
use crate::record::{Control, JSON_SCHEMA, Shard, State};
use crate::report::{self, Report};
use crate::results::Results;
use crate::tables;

use job::Job;

/// Measure, record every block, print tables
///
/// Backends and limits take turns on the same tables, in an order drawn from the seed, in several launches of the
/// process. The folder of the results holds run.json (machine, command, seed, results), samples.jsonl (one line a
/// block) and, below report, what `walkbench report` makes of them. A run that was stopped, or killed, goes on with --resume.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench run                                      the quick profile: what the questions look at
  walkbench run --profile smoke                      seconds: does everything work
  walkbench run --filter '^dense_4k@1GiB/.*/512/'    some cells; see `walkbench list cells`
  walkbench run --profile full --question all --filter '@([0-9]+MiB|1GiB)/' --launches 6 --budget 1500
                                                     what the questions look at, at every size up to 1 GiB
  walkbench run --profile full --filter .            everything, also what no question looks at: days
  walkbench run --launches 12 --layouts              figures that another build shall confirm
  walkbench run --resume results/2026-11-21-epyc     go on with a run that ended early
  walkbench run --out /tmp/mine --format json | jq '.cells[] | {id, ns_per_page}'")]
pub(crate) struct RunArgs {
    /// How much. Where no filter and no question is given, quick and full measure what the questions look at
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    profile: ProfileArg,
    /// Only cells whose id, workload@size/request/call_pages/churn/walkers/backend, matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Only cells that this question looks at; again for more, `all` for all: see `walkbench list questions`
    #[arg(long = "question", value_name = "ID")]
    questions: Vec<String>,
    /// Decides tables, wishes and the order of turns
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the results, new or empty; by default results/DATE-MACHINE
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in DIR, with everything as it was asked for then
    #[arg(long, value_name = "DIR", conflicts_with_all = ["profile", "filter", "questions", "seed", "out", "shard", "launches",
        "budget", "control", "layouts"])]
    resume: Option<PathBuf>,
    /// Only the I-th of N parts, for several machines alike or several days
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Launches of the process to aim at; by default the profile's: 2, 6, 12
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    launches: Option<u32>,
    /// Seconds that all launches together aim at; by default the profile's: 4, 95, as long as it takes. The fewest that
    /// decide anything, six, are made in any case
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    budget: Option<u64>,
    /// Give every launch a link of this tree of its own, with the functions in an order that SEED decides: what luck of
    /// placement does is part of the intervals then, and claims hold for another build as well (needs cargo and lld)
    #[arg(long, value_name = "SEED", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    layouts: Option<u32>,
    /// Measure a twin beside every backend, to see whether the measurement tells what is known
    #[arg(long, value_enum)]
    control: Option<Control>,
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
    /// Every size and call size, as long as it takes
    Full,
}

impl From<ProfileArg> for Profile {
    fn from(p: ProfileArg) -> Profile {
        match p {
            ProfileArg::Smoke => Profile::Smoke,
            ProfileArg::Quick => Profile::Quick,
            ProfileArg::Full => Profile::Full,
        }
    }
}

impl ProfileArg {
    /// Launches to aim at. Six are the fewest that resolve anything: see [`crate::stats::LEAST_LAUNCHES`].
    const fn launches(self) -> u32 {
        match self {
            ProfileArg::Smoke => 2,
            ProfileArg::Quick => 6,
            ProfileArg::Full => 12,
        }
    }
    /// What all launches together aim at. Too little time means fewer rounds, then fewer launches down to six, never fewer cells.
    const fn budget(self) -> Option<Duration> {
        match self {
            ProfileArg::Smoke => Some(Duration::from_secs(4)),
            ProfileArg::Quick => Some(Duration::from_secs(95)),
            ProfileArg::Full => None,
        }
    }
    /// How long a visit may take where the run has no budget.
    pub(super) const fn visit(self) -> Duration {
        Duration::from_millis(500)
    }
    /// Rounds of a visit at least: one of whole operations, one that takes them apart.
    pub(super) const fn min_rounds(self) -> u32 {
        match self {
            ProfileArg::Smoke | ProfileArg::Quick => 2,
            ProfileArg::Full => 6,
        }
    }
    /// Rounds of a visit at most.
    pub(super) const fn max_rounds(self) -> u32 {
        match self {
            ProfileArg::Smoke => 8,
            ProfileArg::Quick | ProfileArg::Full => 48,
        }
    }
}

/// The part of `groups` that is the shard's.
///
/// # Errors
/// When there is nothing in it.
fn sharded(groups: Vec<Group>, shard: Option<Shard>) -> Result<Vec<Group>> {
    let Some(shard) = shard else { return Ok(groups) };
    let nr = groups.len();
    let part: Vec<Group> =
        groups.into_iter().enumerate().filter(|(i, _)| shard.holds(*i)).map(|(_, g)| g).collect();
    if part.is_empty() {
        bail!("--shard {shard}: is empty, there are {nr} groups only; expected an I of at most {nr}");
    }
    Ok(part)
}

/// Measures.
///
/// # Errors
/// Bad input, or a results folder that cannot be written. A cell that fails is a row with an error instead.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    interrupt::listen()?;
    let mut job = match &args.resume {
        Some(folder) => Job::resume(folder)?,
        None => Job::start(args)?,
    };
    job.launch_all()?;
    let results = analysis::results(&job.run, &job.lines, &|id| job.selection.wants(id));
    let cells = results.iter().flat_map(|r| &r.cells);
    job.run.cells = cells.map(serde_json::to_value).collect::<Result<_, _>>().context("cells as JSON")?;
    // A disk that is full now: the figures are shown all the same.
    let written = job.folder.run(&job.run);
    let run = &job.run;
    let read = Results::of(job.folder.path(), run.clone(), &job.lines)?;
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "machine": run.machine,
            "build": run.build,
            "seed": run.seed,
            "settings": run.settings,
            "clock_cost_ps": run.clock_cost_ps,
            "results": job.folder.path(),
            "state": run.state,
            "launches": job.launches_done(),
            "cells": run.cells,
            "skips": run.skips,
            "questions": questions::answers(&read),
            "controls": read.controls(),
        }))?,
        Format::Text => {
            let report = Report::new(&read);
            let out = job.folder.path().join("report");
            let page = match report::write(&report, &out) {
                Ok(_) => out.join("index.html").display().to_string(),
                Err(e) => format!("none: {e:#}"),
            };
            let answers = questions::text::answers(report.answers());
            let text = tables::results(&results, &run.skips) + &answers + "\n";
            let controls = read.controls().map(|c| c.to_string());
            output::print(
                &(text + &beneath::beneath(&job, &results, Harness::of(&results), controls, &page)),
            )?;
        }
    }
    written?;
    if run.state == State::Interrupted {
        eprintln!(
            "stopped by Ctrl-C; what was measured is in {0}\nwalkbench run --resume {0}    goes on",
            job.folder.path().display()
        );
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    let failed = results.iter().flat_map(|r| &r.cells).filter(|c| c.error.is_some()).count();
    if failed > 0 {
        eprintln!("{failed} cells failed");
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}
