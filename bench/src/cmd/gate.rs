//! `walkbench gate`: is this tree slower than that one?

mod exact;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, ValueEnum};
use regex::Regex;
use serde_json::json;

use crate::gate::counts;
use crate::gate::report::{self, Around};
use crate::gate::rounds::Recording;
use crate::gate::verdict::{self, Verdict};
use crate::interrupt;
use crate::output;
use crate::record::JSON_SCHEMA;

/// Exact counts changed.
const EXIT_COUNTS: u8 = 5;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: tables that fit 100 columns
    Text,
    /// For programs: one JSON object with a schema number, and every raw round
    Json,
    /// For a pull request
    Markdown,
}

/// What an inconclusive run is for whoever looks at the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inconclusive {
    /// Exit code 0
    Pass,
    /// Exit code 3 (environment) or 4 (power)
    Fail,
}

/// Stop a change that makes the walk slower, without crying wolf
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("what").required(true).args(["exact", "renew_counts", "replay"])),
    after_help = "\
Examples:
  walkbench gate --exact                 counts of every cell against the committed ones; any machine
  walkbench gate --renew-counts          accept the counts as they are now; commit what it writes

Exit codes: 0 pass, 2 usage, input or output, 5 exact counts changed, 130 Ctrl-C."
)]
pub(crate) struct GateArgs {
    /// Compare the exact counts of every cell with the committed ones
    #[arg(long)]
    exact: bool,
    /// Write the committed counts anew
    #[arg(long)]
    renew_counts: bool,
    /// Decide once more on what an earlier gate recorded with --format json
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// What to make of a run that could not decide
    #[arg(long, value_enum, default_value_t = Inconclusive::Fail)]
    inconclusive: Inconclusive,
    /// Where the committed counts are; by default bench/counts.txt of the project
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// Only cells whose id matches
    #[arg(long, value_name = "REGEX", conflicts_with = "renew_counts")]
    filter: Option<Regex>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Gates.
///
/// # Errors
/// Bad input, or what cannot be written. What the gate finds is its exit code.
pub(crate) fn run(args: &GateArgs) -> Result<ExitCode> {
    interrupt::listen()?;
    match &args.replay {
        _ if args.renew_counts => renew(args),
        None => compare(args),
        Some(file) => replay(args, file),
    }
}

/// Exit code of a verdict.
fn exit(verdict: Verdict, inconclusive: Inconclusive) -> ExitCode {
    ExitCode::from(match (verdict, inconclusive) {
        (Verdict::Pass, _) => 0,
        (Verdict::Regression, _) => 1,
        (_, Inconclusive::Pass) => 0,
        (Verdict::InconclusiveEnvironment, Inconclusive::Fail) => 3,
        (Verdict::InconclusivePower, Inconclusive::Fail) => 4,
    })
}

fn replay(args: &GateArgs, file: &Path) -> Result<ExitCode> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let recording = Recording::parse(&text).with_context(|| file.display().to_string())?;
    let sides = if recording.note.is_empty() { Vec::new() } else { vec![recording.note.clone()] };
    let around =
        Around { sides, command: format!("walkbench gate --replay {}", file.display()), ..Around::default() };
    let decision = verdict::decide(&recording);
    print(args.format, decision.verdict.words(), &decision, &recording, &around)?;
    Ok(exit(decision.verdict, args.inconclusive))
}

fn print(
    format: Format,
    verdict: &str,
    decision: &verdict::Decision,
    recording: &Recording,
    around: &Around,
) -> Result<()> {
    match format {
        Format::Text => output::print(&report::text(verdict, decision, recording, around)),
        Format::Markdown => output::print(&report::markdown(verdict, decision, recording, around)),
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "verdict": decision.verdict,
            "reasons": decision.reasons,
            "cells": decision.decided,
            "around": around,
            "recording": recording,
        })),
    }
}

fn renew(args: &GateArgs) -> Result<ExitCode> {
    let path = exact::file(args.counts.as_deref())?;
    let Some(table) = exact::count(None)? else { return Ok(stopped()) };
    exact::write(&path, &table)?;
    output::print(&format!("{} cells counted; wrote {}\n", table.0.len(), path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &GateArgs) -> Result<ExitCode> {
    let path = exact::file(args.counts.as_deref())?;
    let before = exact::read(&path, args.filter.as_ref())?;
    let Some(after) = exact::count(args.filter.as_ref())? else { return Ok(stopped()) };
    let difference = counts::compare(&before, &after);
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "verdict": if difference.is_none() { "pass" } else { "counts_changed" },
            "exact": difference,
        }))?,
        Format::Text | Format::Markdown if difference.is_none() => {
            output::print(&format!(
                "pass: {} cells count exactly what {} says\n",
                difference.cells,
                path.display()
            ))?;
        }
        Format::Text | Format::Markdown => output::print(&format!(
            "counts changed: {} counts in {} cells compared are not what {} says\n\n{}\n\
             Is this meant? Then `walkbench gate --renew-counts` accepts it: commit the file with the change.\n",
            difference.moved.len(),
            difference.cells,
            path.display(),
            difference.text()
        ))?,
    }
    Ok(if difference.is_none() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_COUNTS) })
}

fn stopped() -> ExitCode {
    eprintln!("stopped by Ctrl-C: nothing was compared");
    ExitCode::from(interrupt::EXIT_CODE)
}
