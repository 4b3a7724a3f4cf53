//! `walkbench live`: this machine's kernel on memory of this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use regex::Regex;
use serde::Serialize;
use serde_json::json;

use crate::interrupt;
use crate::live::{self, Case, Said, word};
use crate::measure::machine::{Build, Machine};
use crate::os::mapping::{HUGE_PAGE, PAGE};
use crate::os::{dmirror, process};
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::record::JSON_SCHEMA;
use crate::results::LiveFigure;
use crate::stats::{LEAST_LAUNCHES, Sorted, estimate};
use crate::tables;
use workloads::definition::parse_size;

/// Measure this machine's own kernel: snapshots and faults on real memory of this process
///
/// hmm_range_fault can be called by drivers only: where /dev/walkbench_hmm is there (scripts/kernel/module), it calls it
/// for this program and times it (hmm_range_fault*); where /dev/hmm_dmirror0 is there, the kernel's own test driver
/// (CONFIG_TEST_HMM), that does too (hmm_dmirror*): a time from outside, which holds an ioctl, and of reads and writes a
/// copy of every page. Pagemap, PAGEMAP_SCAN and mincore walk the same tables, MADV_POPULATE, a first touch and a COW
/// break take the same faults; they need no rights. What the kernel lacks or refuses is a row with the reason.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench live
  walkbench live --size 1GiB --launches 12
  walkbench live --filter '^hmm_range_fault.*/(all|512)/none'    a row is source/shape/stage/pages a call/churn
  walkbench live --format json | jq '.rows[] | select(.stage == \"fault\")'")]
pub(crate) struct LiveArgs {
    /// Memory of a row
    #[arg(long, default_value = "64MiB", value_parser = memory)]
    size: u64,
    /// Launches of the process; six at least for intervals that claim something
    #[arg(long, value_name = "N", default_value_t = LEAST_LAUNCHES as u32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    launches: u32,
    /// Only rows whose source/shape/stage/call pages/churn matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
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
    /// Of each launch, in their order.
    ns_by_launch: Vec<f64>,
    /// Calls of hmm_range_fault that a collision made void, for each operation: the middle launch's.
    busy: Option<f64>,
    /// Why there is none.
    error: Option<String>,
}

/// Measures.
///
/// # Errors
/// Too little memory, or a launch that fails as a whole.
pub(crate) fn run(args: &LiveArgs) -> Result<ExitCode> {
    let mut cases = live::cases();
    if let Some(filter) = &args.filter {
        cases.retain(|case| filter.is_match(&case.to_string()));
        if cases.is_empty() {
            bail!(
                "--filter {filter}: matches no row; rows are named as hmm_range_fault/dense_4k/snapshot/512/none"
            );
        }
    }
    let bytes = usize::try_from(args.size).context("--size")?;
    if args.launch {
        output::print_json(&live::launch(&cases, bytes))?;
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let machine = Machine::read();
    let needs = needs(args.size, &cases, Path::new(dmirror::PATH).exists());
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

/// Bytes of memory that a launch may need at once.
fn needs(size: u64, cases: &[Case], is_driver_there: bool) -> u64 {
    // A fork's copies come on top, and what goes through the hands of the test driver: its copy and the program's.
    let times = if is_driver_there && cases.iter().any(|c| c.source.is_test_driver()) { 4 } else { 2 };
    times * size + (64 << 20)
}

fn launch(args: &LiveArgs) -> Result<Vec<Said>> {
    let program = std::env::current_exe().context("the program's own path")?;
    let mut command = Command::new(program);
    command
        .args(["live", "--launch", "--size", &format!("{}MiB", args.size >> 20)])
        .args(args.filter.iter().flat_map(|f| ["--filter", f.as_str()]))
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
    let (mut ns_by_launch, mut busy) = (Vec::new(), Vec::new());
    let mut error = None;
    for said in launches.iter().flatten().filter(|s| s.case == case) {
        match &said.figure {
            Ok(figure) => {
                ns_by_launch.push(figure.ns_per_page);
                busy.extend(figure.busy);
            }
            Err(reason) => error = Some(reason.clone()),
        }
    }
    // A case that failed once has no figure: its launches would be a choice.
    if error.is_some() {
        return Row { case, ns_per_page: None, ns_by_launch: Vec::new(), busy: None, error };
    }
    let logs: Vec<f64> = ns_by_launch.iter().map(|ns| ns.ln()).collect();
    let ns_per_page = estimate(&logs).map(LiveFigure::from);
    Row { case, ns_per_page, ns_by_launch, busy: Sorted::new(busy).map(|b| b.median()), error }
}

fn text(machine: &Machine, size: u64, rows: &[Row]) -> String {
    let header =
        ["shape", "source", "call", "stage", "churn", "busy", "ns/page", ""].map(str::to_owned).to_vec();
    let mut table = tables::table(header);
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Row { case, ns_per_page, busy, error, .. } in rows {
        let (shape, source) = (word(case.shape), word(case.source));
        if let Some(reason) = error {
            let whats = reasons.entry(reason).or_default();
            let what = format!("{source} of {shape}");
            // Call sizes and churn make no reason of their own.
            if !whats.contains(&what) {
                whats.push(what);
            }
            continue;
        }
        let Some(f) = ns_per_page else { continue };
        let interval = match (f.lo, f.hi) {
            (Some(lo), Some(hi)) => format!("[{}..{}]", tables::number(lo), tables::number(hi)),
            _ => String::new(),
        };
        let calls = case.call_pages.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let busy = busy.filter(|b| *b > 0.0).map_or_else(String::new, tables::number);
        let (stage, churn) = (word(case.stage), word(case.churn));
        table.add_row([shape, source, calls, stage, churn, busy, tables::number(f.median), interval]);
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
    use crate::live::Figure;

    #[test]
    fn a_case_that_failed_once_is_a_row_with_its_reason() {
        let case = live::cases().remove(0);
        let said = |figure| vec![Said { case: case.clone(), figure }];
        let two = || said(Ok(Figure { ns_per_page: 2.0, busy: Some(3.0) }));
        let right = row(case.clone(), &[two(), two()]);
        assert_eq!((right.ns_per_page.unwrap().median, right.error), (2.0, None));
        assert_eq!((right.ns_by_launch, right.busy), (vec![2.0, 2.0], Some(3.0)));
        let wrong = row(case.clone(), &[two(), said(Err("no room".to_owned()))]);
        assert!(wrong.ns_per_page.is_none() && wrong.error.as_deref() == Some("no room"));
    }

    #[test]
    fn copies_of_the_test_driver_need_memory_where_it_is_there() {
        let (all, mut others) = (live::cases(), live::cases());
        others.retain(|c| !c.source.is_test_driver());
        let mib = |cases: &[Case], is_there| needs(256 << 20, cases, is_there) >> 20;
        assert_eq!((mib(&all, true), mib(&all, false), mib(&others, true)), (1088, 576, 576));
    }

    #[test]
    fn sizes_that_hold_no_huge_page_are_refused() {
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        for wrong in ["0", "4KiB", "3MiB", "much"] {
            assert!(memory(wrong).unwrap_err().contains("a multiple of 2MiB"), "{wrong}");
        }
    }
}
