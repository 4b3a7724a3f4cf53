//! `walkbench speed`: how far the model is from what the machine allows, line by line, each with its goal.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::interrupt;
use crate::measure::clock::Clock;
use crate::measure::machine::Machine;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::record::JSON_SCHEMA;
use crate::tables;

mod build;
mod designs;
mod lines;
mod scale;
mod walkers;

use lines::Line;

/// Measure how far the model is from what the machine allows
///
/// Calls (prepare, read_begin, walk, read_retry) against the barest loop over the same tables, in a footprint that
/// fits the second-level cache and in one that fits no cache; faults against zeroing or copying as many pages; how
/// fast shapes are built, and from how much memory. Members of a line take turns; the ratio is that of neighbours in
/// time.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench speed                    takes half a minute and 2 GiB of memory
  walkbench speed --scale            takes two minutes and, for the last size, 6 GiB
  walkbench speed --designs          takes two minutes and 2 GiB
  walkbench speed --format json | jq '.lines[] | select(.met == false)'")]
pub(crate) struct SpeedArgs {
    /// Instead: cost per page from 1 GiB to 1 TiB of 4 KiB entries, and from 10 to 100,000 VMAs in 1 GiB
    #[arg(long)]
    scale: bool,
    /// Instead: the candidates against the limits and against the designs that they would replace
    #[arg(long, conflicts_with = "scale")]
    designs: bool,
    /// Decides tables and the order of turns
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Measures. The exit code does not depend on what was met: this is a report, not a gate.
///
/// # Errors
/// When something cannot be built, or standard output.
pub(crate) fn run(args: &SpeedArgs) -> Result<ExitCode> {
    interrupt::listen()?;
    // Before anything is pinned: it counts the processors that there are for this process.
    let machine = Machine::read();
    let clock = Clock::measure();
    let is_plain = !args.scale && !args.designs;
    let duels = match (args.scale, args.designs) {
        (true, _) => scale::duels(),
        (_, true) => designs::duels(),
        _ => lines::duels(),
    };
    let progress = Progress::new(duels.len() + 1);
    let mut found: Vec<Line> = Vec::new();
    for (i, duel) in duels.iter().enumerate() {
        progress.step(i as u64, &duel.title);
        match duel.run(args.seed, clock) {
            Ok(lines) => found.extend(lines),
            // A machine with less memory has shorter scales.
            Err(e) if !is_plain => found.push(Line::failed(&duel.title, format!("{e:#}"))),
            Err(e) => return Err(e),
        }
        if interrupt::is_asked() {
            break;
        }
    }
    if is_plain && !interrupt::is_asked() {
        progress.step(duels.len() as u64, "building");
        found.extend(build::lines(args.seed)?);
    }
    if args.designs && !interrupt::is_asked() {
        progress.step(duels.len() as u64, "two walkers");
        found.extend(walkers::lines(args.seed, clock)?);
    }
    progress.finish();
    match args.format {
        Format::Json => {
            output::print_json(&json!({"schema": JSON_SCHEMA, "machine": machine, "lines": found}))?
        }
        Format::Text => output::print(&text(&found, &machine))?,
    }
    Ok(if interrupt::is_asked() { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::SUCCESS })
}

fn text(found: &[Line], machine: &Machine) -> String {
    let header = ["what", "who", "ns/page", "limit", "ratio [95 %]", "goal", "met"];
    let mut table = tables::table(header.map(str::to_owned).to_vec());
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    let dash = || "-".to_owned();
    let mut last = "";
    for line in found {
        let what = if line.what == last { "" } else { line.what.as_str() };
        last = &line.what;
        table.add_row([
            what.to_owned(),
            line.who.clone(),
            line.ns_per_page.as_ref().map_or_else(dash, |i| tables::number(i.median)),
            line.limit_ns_per_page.as_ref().map_or_else(dash, |i| tables::number(i.median)),
            line.value.as_ref().map_or_else(dash, tables::interval),
            line.goal_text(),
            match line.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            }
            .to_owned(),
        ]);
    }
    let failed = found.iter().filter_map(|l| Some(format!("{}\n", l.error.as_ref()?))).collect::<String>();
    let noisy = found.iter().filter(|l| l.noisy).count();
    let mut text = tables::lines(&table) + &failed;
    if noisy > 0 {
        text += &format!("{noisy} lines are too noisy: more than 30 % of their rounds were disturbed\n");
    }
    text + &format!("machine    {}\n", machine.line())
}
