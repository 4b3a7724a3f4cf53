//! `walkbench conform`: replays recorded kernel scenarios against the model.
//!
//! Exit code 0 when nothing failed (skips included), 1 when a scenario failed, 2 for bad input. The result goes to
//! standard output, progress to standard error. The order of the output is the order of the files and of the
//! scenarios in them, however many threads replay.

mod report;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use workloads::conform::{Machine, ScenarioOutcome, Skip, replay};
use workloads::replay::machine;
use workloads::scenario::{self, Scenario};

use crate::workers;

/// Replay recorded kernel scenarios against the model
///
/// Every step of a recording says what a real kernel returned and showed; the model must return and show the same.
/// The exit code is 1 when a scenario failed and 2 for bad input.
#[derive(Args, Debug)]
pub(crate) struct ConformArgs {
    /// Recordings: JSON Lines, plain or gzip
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Replay only scenarios whose id matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Show every failure and every skip, uncut
    #[arg(long, short)]
    verbose: bool,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and readable failures.
    Text,
    /// One JSON object.
    Json,
}

/// A scenario to replay, and the file it came from.
struct Job<'a> {
    file: &'a str,
    scenario: Scenario,
}

/// Runs the sub-command.
pub(crate) fn run(args: &ConformArgs) -> anyhow::Result<ExitCode> {
    run_with(args, &machine, &mut io::stdout().lock())
}

fn run_with<M: Machine>(
    args: &ConformArgs,
    make: &(impl Fn(&Scenario) -> Result<M, Skip> + Sync),
    output: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
    let mut jobs = Vec::new();
    for (file, name) in args.files.iter().zip(&names) {
        let scenarios = scenario::read_path(file)?;
        let wanted =
            |scenario: &Scenario| args.filter.as_ref().is_none_or(|filter| filter.is_match(&scenario.id));
        jobs.extend(scenarios.into_iter().filter(wanted).map(|scenario| Job { file: name, scenario }));
    }
    if let (Some(filter), true) = (&args.filter, jobs.is_empty()) {
        bail!(
            "--filter: expected a regular expression that matches an id of the files, `{filter}` matches none"
        );
    }
    let name = |job: &Job<'_>| job.scenario.id.clone();
    let outcomes = workers::map(&jobs, name, || true, |job| replay(&job.scenario, make));
    let results: Vec<(&Job<'_>, &ScenarioOutcome)> = jobs.iter().zip(outcomes.iter().flatten()).collect();
    let text = match args.format {
        Format::Text => report::text(&results, args.verbose),
        Format::Json => report::json(&results),
    };
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // A reader that closed the pipe has seen what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("standard output")?,
    }
    Ok(ExitCode::from(u8::from(report::has_failure(&results))))
}
