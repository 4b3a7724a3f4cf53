//! `walkbench live`: this machine's kernel on memory of this process.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::interrupt;
use crate::live::{self, Case, Said};
use crate::measure::machine::{Build, Machine};
use crate::os::mapping::{HUGE_PAGE, PAGE};
use crate::os::process;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::record::JSON_SCHEMA;
use crate::results::LiveFigure;
use crate::stats::{LEAST_LAUNCHES, estimate};
use crate::tables;
use workloads::definition::parse_size;

/// Measure this machine's own kernel: snapshots and faults on real memory of this process
///
/// hmm_range_fault can be called by drivers only; pagemap, PAGEMAP_SCAN and mincore walk the same tables, MADV_POPULATE,
/// a first touch and a COW break take the same faults. Needs no rights. What the kernel lacks or refuses is a row with
/// the reason.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench live
  walkbench live --size 1GiB --launches 12
  walkbench live --format json | jq '.rows[] | select(.stage == \"fault\")'")]
pub(crate) struct LiveArgs {
    /// Memory of a row
    #[arg(long, default_value = "64MiB", value_parser = memory)]
    size: u64,
    /// Launches of the process; six at least for intervals that claim something
    #[arg(long, value_name = "N", default_value_t = LEAST_LAUNCHES as u32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    launches: u32,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// One launch: prints what it saw for the process that started it
    #[arg(long, hide = true)]
    launch: bool,
}

fn memory(text: &str) -> Result<u64, String> {
    let size = parse_size(text).filter(|s| *s > 0 && s.is_multiple_of(HUGE_PAGE as u64));
    size.ok_or_else(|| "expected a multiple of 2MiB, as 64MiB or 1GiB".to_owned())
}

/// A row of the result.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    /// Over launches.
    ns_per_page: Option<LiveFigure>,
    /// Why there is none.
    error: Option<String>,
}

/// Measures.
///
/// # Errors
/// Too little memory, or a launch that fails as a whole.
pub(crate) fn run(args: &LiveArgs) -> Result<ExitCode> {
    let cases = live::cases();
    let bytes = usize::try_from(args.size).context("--size")?;
    if args.launch {
        output::print_json(&live::launch(&cases, bytes))?;
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let machine = Machine::read();
    // A fork's copies come on top.
    let needs = 2 * args.size + (64 << 20);
    if machine.memory_available_bytes.is_some_and(|there| there < needs) {
        bail!("--size: needs {} MiB of memory, which are not available; try a smaller one", needs >> 20);
    }
    let progress = Progress::new(args.launches as usize);
    let mut launches = Vec::new();
    for n in 0..args.launches {
        progress.step(u64::from(n), "launches");
        let launch = launch(args);
        // Ctrl-C ended the launch too.
        if interrupt::is_asked() {
            progress.finish();
            eprintln!("stopped by Ctrl-C after {} launches", launches.len());
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        launches.push(launch?);
    }
    progress.finish();
    let rows: Vec<Row> = cases.into_iter().map(|case| row(case, &launches)).collect();
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "machine": machine,
            "build": Build::this(),
            "size_bytes": args.size,
            "nr_pages": args.size / PAGE as u64,
            "rows": rows,
        }))?,
        Format::Text => output::print(&text(&machine, args.size, &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn launch(args: &LiveArgs) -> Result<Vec<Said>> {
    let program = std::env::current_exe().context("the program's own path")?;
    let mut command = Command::new(program);
    command
        .args(["live", "--launch", "--size", &format!("{}MiB", args.size >> 20)])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    process::dies_with_this_thread(&mut command);
    let output = command.output().context("starting a launch")?;
    if !output.status.success() {
        bail!("a launch ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("what a launch printed")
}

fn row(case: Case, launches: &[Vec<Said>]) -> Row {
    let mut logs = Vec::new();
    let mut error = None;
    for said in launches.iter().flatten().filter(|s| s.case == case) {
        match &said.ns_per_page {
            Ok(ns) => logs.push(ns.ln()),
            Err(reason) => error = Some(reason.clone()),
        }
    }
    // A case that failed once has no figure: its launches would be a choice.
    let ns_per_page = if error.is_some() { None } else { estimate(&logs).map(LiveFigure::from) };
    Row { case, ns_per_page, error }
}

/// The word that a value has in JSON.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
}

fn text(machine: &Machine, size: u64, rows: &[Row]) -> String {
    let header = ["shape", "source", "stage", "churn", "ns/page", ""].map(str::to_owned).to_vec();
    let mut table = tables::table(header);
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Row { case, ns_per_page, error } in rows {
        let (shape, source) = (word(case.shape), word(case.source));
        if let Some(reason) = error {
            reasons.entry(reason).or_default().push(format!("{source} of {shape}"));
            continue;
        }
        let Some(f) = ns_per_page else { continue };
        let interval = match (f.lo, f.hi) {
            (Some(lo), Some(hi)) => format!("[{}..{}]", tables::number(lo), tables::number(hi)),
            _ => String::new(),
        };
        let cells = [shape, source, word(case.stage), word(case.churn), tables::number(f.median), interval];
        table.add_row(cells);
    }
    let mut text = tables::lines(&table);
    for (reason, what) in reasons {
        text += "\n";
        text += &tables::paragraph(&format!("not measured: {}: {reason}", what.join(", ")), 0, 2);
    }
    text + &format!("\n\n{} MiB a row. {}\n", size >> 20, tables::paragraph(&machine.line(), 0, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_failed_once_is_a_row_with_its_reason() {
        let case = live::cases().remove(0);
        let said = |ns_per_page| vec![Said { case: case.clone(), ns_per_page }];
        let right = row(case.clone(), &[said(Ok(2.0)), said(Ok(2.0))]);
        assert_eq!((right.ns_per_page.unwrap().median, right.error), (2.0, None));
        let wrong = row(case.clone(), &[said(Ok(2.0)), said(Err("no room".to_owned()))]);
        assert!(wrong.ns_per_page.is_none() && wrong.error.as_deref() == Some("no room"));
    }

    #[test]
    fn sizes_that_hold_no_huge_page_are_refused() {
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        for wrong in ["0", "4KiB", "3MiB", "much"] {
            assert!(memory(wrong).unwrap_err().contains("a multiple of 2MiB"), "{wrong}");
        }
    }
}
