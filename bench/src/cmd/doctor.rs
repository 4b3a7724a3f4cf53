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
use crate::progress::Progress;
use crate::record::SCHEMA;

use findings::{Facts, findings};

/// Launches of the process that the noise is taken from.
const LAUNCHES: u32 = 12;

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
    /// Be one of the launches, with this number
    #[arg(long, hide = true, value_name = "N")]
    launch: Option<u32>,
}

/// Looks, measures, prints.
///
/// # Errors
/// When a launch fails, or standard output.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    if let Some(launch) = args.launch {
        output::print(&(serde_json::to_string(&aa::launch(launch)?)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let progress = Progress::new(LAUNCHES as usize + 2);
    progress.step(0, "the machine");
    let (machine, build) = (Machine::read(), Build::this());
    let before = Facts::read(&machine, &build);
    progress.step(1, "the clock");
    let clock = Clock::measure();
    let lost = lost::watch();
    let mut launches = Vec::new();
    for i in 0..LAUNCHES {
        if interrupt::is_asked() {
            progress.finish();
            eprintln!("stopped by Ctrl-C");
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        progress.step(2 + u64::from(i), "a cell against itself");
        launches.push(aa::spawn(i)?);
    }
    progress.finish();
    let noise = aa::noise(&launches);
    let facts = Facts {
        stolen_ticks: before.stolen_since(),
        lost: Some(lost),
        clock_ns: Some(clock.cost_ns),
        ..before
    };
    let findings = findings(&facts);
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": SCHEMA,
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
