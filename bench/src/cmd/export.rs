//! `walkbench export`: results for other tools.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::export;
use crate::output;
use crate::results::Results;

/// Print the results of a run in the format of another tool
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench export results/MINE --to csv > mine.csv
  walkbench export results/MINE --to benchstat > mine.txt && benchstat -col /backend mine.txt
  walkbench export results/MINE --to markdown

benchstat gets a line for each launch, the others a median over launches with its interval.")]
pub(crate) struct ExportArgs {
    /// A results folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Which format
    #[arg(long, value_enum)]
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Comma-separated values: a row a cell, with stages, tails and counts
    Csv,
    /// The Go benchmark text format
    Benchstat,
    /// Bencher's metric JSON
    Bencher,
    /// github-action-benchmark's JSON, for tool: customSmallerIsBetter
    GithubActionBenchmark,
    /// Tables for a mail or a pull request
    Markdown,
}

/// Prints it.
///
/// # Errors
/// Results that cannot be read, or that hold nothing.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let results = Results::load(&args.folder)?;
    if results.cells.is_empty() {
        bail!("{}: holds no measured cell; expected the results of `walkbench run`", args.folder.display());
    }
    let text = match args.to {
        To::Csv => export::csv::csv(&results)?,
        To::Benchstat => export::benchstat::benchstat(&results),
        To::Bencher => export::bencher::bencher(&results)?,
        To::GithubActionBenchmark => export::action::action(&results)?,
        To::Markdown => export::markdown::markdown(&results),
    };
    output::print(&text)?;
    results.notes.iter().for_each(|note| eprintln!("{note}"));
    let without = export::nr_without_figure(&results);
    if without > 0 && !matches!(args.to, To::Csv | To::Markdown) {
        eprintln!("left out: {without} cells without a figure; --to csv has their errors");
    }
    Ok(ExitCode::SUCCESS)
}
