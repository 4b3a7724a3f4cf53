//! `walkbench gate`: is this tree slower than that one?

mod baseline;
mod build;
mod exact;
mod instructions;
mod paired;
mod planted;
pub(crate) mod scratch;
mod self_test;
mod side;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use workloads::definition::Profile;

use self::baseline::Baseline;
use self::build::Links;
use self::paired::Plan;
use self::planted::Planted;
use self::scratch::Scratch;
use self::self_test::Kept;
use self::side::Program;
use crate::gate::counts;
use crate::gate::report::{self, Around};
use crate::gate::rounds::Recording;
use crate::gate::verdict::{self, Verdict};
use crate::interrupt;
use crate::measure::machine::Machine;
use crate::measure::matrix::{self, Group};
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

/// A way to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Exact counts of every cell
    Counts,
    /// Instructions of cells with one thread, where valgrind is installed
    Instructions,
    /// Both programs in turns
    Time,
}

/// What an inconclusive run is for whoever looks at the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inconclusive {
    /// Exit code 0
    Pass,
    /// Exit code 3 (environment) or 4 (power)
    Fail,
}

/// Decide whether this program is slower than an older one
///
/// The older one is built from a git revision (once; it is kept) or is given as an executable. Three tiers: exact counts
/// of every cell, which any machine gives to the last digit; instructions, where valgrind is installed; and time, both programs in turns on this machine, judged
/// over fresh launches with one error rate for all cells together. Every run carries its own controls: a copy of this
/// program that must not be flagged, and 3 % more work that must be found.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("what").required(true).args(["baseline", "exact", "renew_counts", "replay", "self_test"])),
    after_help = "\
Examples:
  walkbench gate --baseline HEAD~1       counts, then old and new in turns, about two minutes
  walkbench gate --baseline main --format markdown --inconclusive pass > comment.md
  walkbench gate --baseline ./walkbench.old --filter '^dense_4k@16MiB/.*/512/none/1/'
  walkbench gate --exact                 counts of every cell against the committed ones; any machine
  walkbench gate --self-test 40 --budget 20 --filter '@16MiB/.*/512/none/1/map_order$'
  walkbench gate --renew-counts          accept the counts as they are now; commit what it writes

Exit codes: 0 pass, 1 regression, 2 usage, input or output, 3 inconclusive: environment,
4 inconclusive: power, 5 exact counts changed, 130 Ctrl-C."
)]
pub(crate) struct GateArgs {
    /// What to compare with: a git revision, or an executable
    #[arg(long, value_name = "REV|EXE")]
    baseline: Option<String>,
    /// Try the gate on this machine: N runs with each of --planted, each with its own --budget
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    self_test: Option<u64>,
    /// Seconds that the paired tier aims at
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    budget: u64,
    /// Which tiers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "counts,instructions,time")]
    tiers: Vec<Tier>,
    /// Counts may rise by so many per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    count_budget: f64,
    /// Decides tables and orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Link either side so many times with its functions in other orders, another link for every launch: what luck of
    /// placement does is noise then and no difference (22 is enough for any budget; needs lld)
    #[arg(long, value_name = "LINKS", num_args = 0..=1, default_missing_value = "22", requires = "baseline",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    layouts: Option<u32>,
    /// Compare programs of different compilers or profiles all the same
    #[arg(long)]
    any_build: bool,
    /// Seconds that a side may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true)]
    patience: u64,
    /// Plant a slowdown, to see the gate find it: PERCENT more work, PERCENT:churn only under churn, PERCENT:late in every
    /// 64th operation; if negative, in the old side
    #[arg(long, value_name = "WHAT", default_value = "0", allow_hyphen_values = true, hide = true)]
    plant: Planted,
    /// What --self-test plants, in turns: PERCENT of work, PERCENT:churn only under churn, PERCENT:late in some operations
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "0,3,2,-3,3:churn,40:late",
        allow_hyphen_values = true
    )]
    planted: Vec<Planted>,
    /// Keep every run of --self-test here, and go on with those that are here already
    #[arg(long, value_name = "FILE", requires = "self_test")]
    record: Option<PathBuf>,
    /// Cells whose slowest operations (p99) are compared as well
    #[arg(long, value_name = "REGEX", default_value = TAILS)]
    tails: Regex,
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
        Some(file) => replay(args, file),
        None => match (&args.baseline, args.self_test) {
            (Some(baseline), _) => against(args, baseline),
            (None, Some(n)) => try_itself(args, n),
            (None, None) => compare(args),
        },
    }
}

/// Cells under churn that the gate adds to those of the quick profile: an open dose each, one for each way to collide.
const CHURNED: [&str; 3] = [
    "dense_4k@16MiB/snapshot/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order",
    "dense_4k@16MiB/fault_write/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order",
    "dense_4k@16MiB/snapshot/512/migrate-64KiB-o50-zipf-1400ps-t1/1/map_order",
];
/// What is compared where no filter says otherwise: every kind of shape and entry at a size whose tables are built in
/// milliseconds, through the design that kernels have now and the one that faults outside of the walk.
const USUAL: &str = "^(dense_4k|dense_2m|split_permissions|after_fork_10pct|after_fork_write|absent_4k|zero_mapped|\
                     swapped|sparse|numa_hint|device_private_own)@16MiB/\
                     (snapshot|fault_read|fault_write)/512/none/1/(map_order|unlocked)$";

/// Whose p99 is compared where nothing else is said: calls of a microsecond or two, alone and under churn.
const TAILS: &str = "^dense_4k@16MiB/snapshot/512/.*/1/map_order$";

/// The cells to compare.
fn cells(filter: Option<&Regex>) -> Result<Vec<String>> {
    let usual = Regex::new(USUAL).context("the usual cells")?;
    let is_wanted = |id: &str| filter.unwrap_or(&usual).is_match(id);
    let groups = matrix::groups(Profile::Quick, &is_wanted);
    let of = |g: &Group| g.backends.iter().map(|b| g.cell_id(b.id)).collect::<Vec<_>>();
    let mut cells: Vec<String> = groups.iter().flat_map(of).collect();
    let churned = CHURNED.iter().filter(|id| filter.is_none_or(|f| f.is_match(id)));
    cells.extend(churned.map(|id| (*id).to_owned()));
    if cells.is_empty() {
        bail!(
            "--filter {}: matches no cell of the quick profile; `walkbench list cells` prints them",
            filter.map_or("", Regex::as_str)
        );
    }
    Ok(cells)
}

/// What the tier of counts found: the note for the report, the difference as text, and whether it is over budget.
type Counted = (String, String, bool);

/// Compares counts with those that were committed with the baseline; none when Ctrl-C came first.
fn counted(args: &GateArgs, commit: Option<&str>) -> Result<Option<Counted>> {
    let skipped = |why: &str| Ok(Some((format!("counts not compared: {why}"), String::new(), false)));
    let before = match commit {
        Some(commit) => match baseline::file_of(commit, exact::FILE) {
            Some(text) => exact::parse(&text, args.filter.as_ref()).context("the baseline's counts")?,
            None => return skipped("the baseline has none committed"),
        },
        None => match exact::file(args.counts.as_deref()) {
            Ok(path) if path.is_file() => exact::read(&path, args.filter.as_ref())?,
            _ => return skipped("an executable says nothing of its own, and there is no project around"),
        },
    };
    if before.0.is_empty() {
        return skipped("--filter matches none of them (they are of small sizes; see `walkbench verify`)");
    }
    let Some(after) = exact::count(args.filter.as_ref())? else { return Ok(None) };
    let difference = counts::compare(&before, &after);
    let over = difference.over(args.count_budget).len();
    let note = if difference.moved.is_empty() {
        format!("counts: all of {} cells are exactly the baseline's", difference.cells)
    } else {
        format!(
            "counts: {} of {} cells' counts moved, {over} of them up by more than the budget of {} %",
            difference.moved.len(),
            difference.cells,
            args.count_budget
        )
    };
    Ok(Some((note, difference.text(), over > 0)))
}

/// The old program, this one, and a copy of this one, each under a path of the same length: what is rebuilt meanwhile is
/// not measured by halves.
fn place(scratch: &Scratch, old: &Path) -> Result<[PathBuf; 3]> {
    let place = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = scratch.path().join(name);
        fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(to)
    };
    let this = Path::new("/proc/self/exe");
    Ok([place(old, "old")?, place(this, "new")?, place(this, "two")?])
}

fn plan(
    args: &GateArgs,
    [old, new, copy]: [PathBuf; 3],
    cells: Vec<String>,
    planted: Planted,
    seed: u64,
) -> Plan {
    let [for_old, for_new] = planted.arguments();
    Plan {
        old: Program { name: "old", exe: old, args: for_old },
        new: Program { name: "new", exe: new, args: for_new },
        copy,
        cells,
        layouts: Vec::new(),
        tails: args.tails.clone(),
        budget: Duration::from_secs(args.budget),
        seed,
        patience: Duration::from_secs(args.patience),
        any_build: args.any_build,
    }
}

fn try_itself(args: &GateArgs, n: u64) -> Result<ExitCode> {
    let cells = cells(args.filter.as_ref())?;
    let scratch = Scratch::new()?;
    let programs = place(&scratch, Path::new("/proc/self/exe"))?;
    let mut kept = Kept::open(args.record.as_deref(), args.budget, &cells)?;
    let is_whole = self_test::run(&mut kept, &args.planted, n, args.seed, args.budget, |planted, seed| {
        let plan = plan(args, programs.clone(), cells.clone(), planted, seed);
        Ok(paired::measure(&plan)?.map(|measured| measured.recording))
    })?;
    let tally = kept.tally();
    let machine = Machine::read().line();
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "cells": cells.len(),
            "budget_s": args.budget,
            "machine": machine,
            "self_test": tally,
        }))?,
        Format::Text | Format::Markdown => output::print(&format!(
            "{} cells, --budget {} for each run\n{machine}\n\n{}",
            cells.len(),
            args.budget,
            tally.text()
        ))?,
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { stopped() })
}

fn against(args: &GateArgs, given: &str) -> Result<ExitCode> {
    let cells = cells(args.filter.as_ref())?;
    let mut scratch = Scratch::new()?;
    paired::enough_layouts(args.layouts)?;
    // Other seeds for either side: the order of one says nothing of the other's.
    let links = |seed| args.layouts.map(|nr| Links { nr, seed });
    let baseline = Baseline::find(given, links(1), &mut scratch)?;
    let Some(exe) = baseline.exe else { return Ok(stopped()) };
    let mut layouts = Vec::new();
    if let Some(links) = links(1001) {
        let Some(new) = baseline::link_this(links, &mut scratch)? else { return Ok(stopped()) };
        layouts = baseline.links.into_iter().zip(new).map(|(old, new)| [old, new]).collect();
    }
    let [old, new, copy] = place(&scratch, &exe)?;
    let (mut notes, mut details, mut is_over) = (baseline.notes, String::new(), false);
    if args.tiers.contains(&Tier::Counts) {
        let Some((note, text, over)) = counted(args, baseline.commit.as_deref())? else {
            return Ok(stopped());
        };
        notes.push(note);
        (details, is_over) = (text, over);
    }
    let plan = Plan { layouts, ..plan(args, [old, new, copy], cells, args.plant, args.seed) };
    let mut executes_more = false;
    if args.tiers.contains(&Tier::Instructions) {
        if instructions::is_available() {
            let counted =
                instructions::compare(&plan.old, &plan.new, &plan.cells, args.seed, scratch.path())?;
            let Some(found) = counted else { return Ok(stopped()) };
            notes.push(found.says());
            details += &found.text();
            executes_more = found.over().next().is_some();
        } else {
            notes.push("instructions not counted: there is no valgrind in PATH".to_owned());
        }
    }
    if !args.tiers.contains(&Tier::Time) {
        let verdict = match (executes_more, is_over) {
            (true, _) => "regression: more instructions",
            (false, true) => "exact counts changed",
            (false, false) => "pass",
        };
        match args.format {
            Format::Json => output::print_json(&json!({
                "schema": JSON_SCHEMA,
                "verdict": verdict,
                "notes": notes,
                "details": details,
            }))?,
            Format::Text | Format::Markdown => {
                output::print(&format!("{verdict}\n{}\n{details}", notes.join("\n")))?;
            }
        }
        let code = if is_over { EXIT_COUNTS } else { 0 };
        return Ok(ExitCode::from(if executes_more { 1 } else { code }));
    }
    let Some(measured) = paired::measure(&plan)? else { return Ok(stopped()) };
    let decision = verdict::decide(&measured.recording);
    notes.extend(measured.notes);
    if let Some((first, why)) = measured.left_out.first() {
        notes.push(format!("{} cells not compared, the first is {first}: {why}", measured.left_out.len()));
    }
    if !args.plant.is_none() {
        notes.push(args.plant.says());
    }
    let machine = Machine::read();
    let load = machine.load_milli.map(|l| format!(", load {:.1}", l as f64 / 1000.0)).unwrap_or_default();
    let around = Around {
        sides: measured.sides,
        machine: machine.line() + &load,
        command: format!("walkbench {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        notes,
        details,
        time: measured.spent.says(),
        ..Around::default()
    };
    let time = decision.verdict.words();
    let (words, code) = match decision.verdict {
        Verdict::Regression => (time.to_owned(), ExitCode::from(1)),
        _ if executes_more => (format!("regression: more instructions (time: {time})"), ExitCode::from(1)),
        _ if is_over => (format!("exact counts changed (time: {time})"), ExitCode::from(EXIT_COUNTS)),
        other => (time.to_owned(), exit(other, args.inconclusive)),
    };
    let around = Around { headline: format!("{words}, against {}", baseline.says), ..around };
    print(args.format, &decision, &measured.recording, &around)?;
    Ok(code)
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
    let decision = verdict::decide(&recording);
    // What `gate` printed says more than the bare recording.
    let printed: Option<Around> = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|v| serde_json::from_value(v["around"].clone()).ok());
    let around = printed.unwrap_or_else(|| Around {
        headline: decision.verdict.words().to_owned(),
        sides: if recording.note.is_empty() { Vec::new() } else { vec![recording.note.clone()] },
        command: format!("walkbench gate --replay {}", file.display()),
        ..Around::default()
    });
    print(args.format, &decision, &recording, &around)?;
    Ok(exit(decision.verdict, args.inconclusive))
}

fn print(format: Format, decision: &verdict::Decision, recording: &Recording, around: &Around) -> Result<()> {
    match format {
        Format::Text => output::print(&report::text(decision, recording, around)),
        Format::Markdown => output::print(&report::markdown(decision, recording, around)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_cells_are_fifty_or_more_exist_and_have_churn_among_them() {
        let usual = cells(None).unwrap();
        assert!((50..100).contains(&usual.len()), "{}", usual.len());
        for id in &usual {
            let (group, backend) = id.rsplit_once('/').unwrap();
            let group = Group::parse(group).unwrap_or_else(|| panic!("{id}"));
            assert!(walker::backends::find(backend).is_some() && group.cell_id(backend) == *id, "{id}");
        }
        assert_eq!(usual.iter().filter(|id| !id.contains("/none/")).count(), CHURNED.len());
        let some = Regex::new("/zap-").unwrap();
        assert_eq!(cells(Some(&some)).unwrap().len(), 2 + quick("/zap-"));
        assert!(cells(Some(&Regex::new("no_such_cell").unwrap())).is_err());
    }

    /// Cells of the quick profile with this in their id.
    fn quick(part: &str) -> usize {
        let groups = matrix::groups(Profile::Quick, &|id| id.contains(part));
        groups.iter().map(|g| g.backends.len()).sum()
    }

    #[test]
    fn every_verdict_has_its_exit_code() {
        use Inconclusive::{Fail, Pass};
        let code = |v, i| format!("{:?}", exit(v, i));
        let is = |n: u8| format!("{:?}", ExitCode::from(n));
        assert_eq!((code(Verdict::Pass, Fail), code(Verdict::Regression, Pass)), (is(0), is(1)));
        assert_eq!(code(Verdict::InconclusiveEnvironment, Fail), is(3));
        assert_eq!(code(Verdict::InconclusivePower, Fail), is(4));
        assert_eq!(code(Verdict::InconclusivePower, Pass), is(0));
    }
}
