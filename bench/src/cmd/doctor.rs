//! `walkbench doctor`: what on this machine spoils measuring.

mod aa;
mod findings;
mod lost;
mod text;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::interrupt;
use crate::measure::clock::Clock;
use crate::measure::machine::{Build, Machine};
use crate::output::{self, Format};
use crate::record::JSON_SCHEMA;

use findings::{Facts, findings};

/// Say what on this machine spoils measuring, and how many launches resolve which effect
///
/// Looks at the machine, watches the clock for a second, and measures two cells against themselves in a dozen launches
/// of the process. Takes under a minute.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  walkbench doctor
  walkbench doctor --format json | jq '.findings[] | select(.state != \"good\")'")]
pub(crate) struct DoctorArgs {
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Looks, measures, prints.
///
/// # Errors
/// When a launch fails, or standard output.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    interrupt::listen()?;
    let (machine, build) = (Machine::read(), Build::this());
    let before = Facts::read(&machine, &build);
    let clock = Clock::measure();
    let lost = lost::watch();
    let Some(results) = aa::measure()? else {
        eprintln!("stopped by Ctrl-C");
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    let noise = aa::noise(&results);
    let facts = Facts {
        stolen_ticks: before.stolen_since(),
        lost: Some(lost),
        clock_ns: Some(clock.cost_ns),
        ..before
    };
    let findings = findings(&facts);
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "machine": machine,
            "build": build,
            "findings": findings,
            "clock": {"cost_ns": clock.cost_ns, "resolution_ns": lost.resolution_ns},
            "lost": lost,
            "noise": noise,
        }))?,
        Format::Text => output::print(&text::text(&machine, &findings, clock.cost_ns, &lost, &noise))?,
    }
    Ok(ExitCode::SUCCESS)
}
