//! `walkbench soak`: walkers and churn of all kinds at once, audited, until so many pages were mirrored.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use workloads::churn::{self, ChurnSpec};

use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::record::JSON_SCHEMA;
use crate::soak::{self, Mutant, Outcome, Plan};
use crate::tables;

/// Mirror under churn of every kind and look for any entry of a device that the page tables do not back
///
/// Walkers of every design and churn threads of every kind run at once over several shapes. One checker compares devices
/// with the live tables at any moment, without stopping anybody; another stops the world at random moments and compares
/// everything, struct pages included. Ends after so many mirrored pages, or at the first violation.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench soak
  walkbench soak --pages 1000000000 --seed 7
  walkbench soak --churn migrate-64KiB-o100-zipf-max-t2 --format json")]
pub(crate) struct SoakArgs {
    /// Pages to mirror under churn
    #[arg(long, default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Decides tables, scripts and walks, as far as threads let it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// This churn instead of one of every kind; may be given more than once
    #[arg(long, value_name = "ID", value_parser = parse_churn)]
    churn: Vec<ChurnSpec>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn parse_churn(text: &str) -> Result<ChurnSpec, String> {
    text.parse().map_err(|_| format!("expected {}", churn::EXPECTED))
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    seed: u64,
    pages_wanted: u64,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// Steps of the bar: a step is a thousandth of the pages.
const STEPS: u64 = 1000;

/// Soaks.
///
/// # Errors
/// Bad input. What is found is part of the result.
pub(crate) fn run(args: &SoakArgs) -> Result<ExitCode> {
    interrupt::listen()?;
    let plan = Plan { pages: args.pages, seed: args.seed, churn: args.churn.clone(), mutant: Mutant::None };
    let progress = Progress::new(STEPS as usize);
    let step = |pages: u64| {
        let done = u128::from(pages) * u128::from(STEPS) / u128::from(args.pages);
        progress.step(done.min(u128::from(STEPS)) as u64, &format!("{pages} pages mirrored"));
    };
    let outcome = soak::soak(&plan, &step, &interrupt::is_asked)?;
    progress.finish();
    match args.format {
        Format::Json => output::print_json(&Report {
            schema: JSON_SCHEMA,
            seed: args.seed,
            pages_wanted: args.pages,
            outcome: &outcome,
        })?,
        Format::Text => output::print(&text(&outcome))?,
    }
    if outcome.nr_violations == 0 && outcome.pages_mirrored < args.pages {
        eprintln!("stopped by Ctrl-C");
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(ExitCode::from(u8::from(outcome.nr_violations > 0)))
}

fn text(outcome: &Outcome) -> String {
    let mut events = tables::table(["churn", "events", "failed"].map(str::to_owned).to_vec());
    for (kind, e) in &outcome.events {
        events.add_row([(*kind).to_owned(), e.events.to_string(), e.failures.to_string()]);
    }
    let mut tally = tables::table(["what", "how many"].map(str::to_owned).to_vec());
    for (what, n) in [
        ("pages mirrored under churn", outcome.pages_mirrored),
        ("operations that mirrored them", outcome.operations),
        ("attempts that collided", outcome.collisions),
        ("operations that gave up", outcome.gave_up),
        ("operations refused a right", outcome.refused),
        ("devices audited, nothing stopped", outcome.audits),
        ("device entries audited", outcome.entries_audited),
        ("stops of the world", outcome.stops),
        ("mapped frames audited", outcome.frames_audited),
        ("violations", outcome.nr_violations),
    ] {
        tally.add_row([what.to_owned(), n.to_string()]);
    }
    let violations: String = outcome.violations.iter().map(|v| format!("violation: {v}\n")).collect();
    format!("{violations}{}\n{}", tables::lines(&events), tables::lines(&tally))
}
