//! This program against an older one, in every tier; and against itself, to try the gate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::arguments::{Format, GateArgs, Inconclusive, Tier};
use super::baseline::Baseline;
use super::look_again::{links, look_again};
use super::paired::{self, Plan};
use super::planted::Planted;
use super::self_test::{self, Kept};
use super::side::Program;
use super::untimed::Untimed;
use super::{EXIT_COUNTS, cells, exact, exit, instructions, print, stopped};
use crate::gate::counts;
use crate::gate::report::Around;
use crate::gate::rounds::Looks;
use crate::gate::verdict::{self, Verdict};
use crate::interrupt;
use crate::measure::machine::Machine;
use crate::output;
use crate::record::JSON_SCHEMA;
use crate::sources::git;
use crate::sources::scratch::Scratch;

/// What the tier of counts found: the note for the report, the difference as text, and whether it is over budget.
type Counted = (String, String, bool);

/// Compares counts with those that were committed with the baseline; none when Ctrl-C came first.
fn counted(args: &GateArgs, commit: Option<&str>) -> Result<Option<Counted>> {
    let skipped = |why: &str| Ok(Some((format!("counts not compared: {why}"), String::new(), false)));
    let before = match commit {
        Some(commit) => match git::file_of(commit, exact::FILE) {
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
    let Some(after) = exact::count(args.filter.as_ref(), false)? else { return Ok(None) };
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
        draws: "gate",
        patience: Duration::from_secs(args.patience),
        any_build: args.any_build,
    }
}

/// Tries the gate on this machine.
///
/// # Errors
/// Bad input, or what cannot be measured.
pub(super) fn try_itself(args: &GateArgs, n: u64) -> Result<ExitCode> {
    let cells = cells::cells(args.filter.as_ref())?;
    let scratch = Scratch::new()?;
    let programs = place(&scratch, Path::new("/proc/self/exe"))?;
    let mut kept = Kept::open(args.record.as_deref(), args.budget, &cells)?;
    let is_whole = self_test::run(&mut kept, &args.planted, n, args.seed, args.budget, |planted, seed| {
        let plan = plan(args, programs.clone(), cells.clone(), planted, seed);
        self_test::looks(plan)
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

/// Compares this program with an older one. What is found is the exit code.
///
/// # Errors
/// Bad input, or what cannot be measured.
pub(super) fn compare(args: &GateArgs, given: &str) -> Result<ExitCode> {
    let cells = cells::cells(args.filter.as_ref())?;
    let mut scratch = Scratch::new()?;
    let baseline = Baseline::find(given, &mut scratch)?;
    let Some(exe) = &baseline.exe else { return Ok(stopped()) };
    let mut linked = Vec::new();
    if let Some(nr) = args.layouts {
        let Some(links) = links(baseline.commit()?, nr, &mut scratch)? else { return Ok(stopped()) };
        linked = links;
    }
    let [old, new, copy] = place(&scratch, exe)?;
    let (mut notes, mut details, mut is_over) = (baseline.notes.clone(), String::new(), false);
    if args.tiers.contains(&Tier::Counts) {
        let Some((note, text, over)) = counted(args, baseline.commit.as_deref())? else {
            return Ok(stopped());
        };
        notes.push(note);
        (details, is_over) = (text, over);
    }
    let plan = Plan { layouts: linked, ..plan(args, [old, new, copy], cells, args.plant, args.seed) };
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
        return Untimed::new(executes_more, is_over, notes, details).print(args.format);
    }
    let Some(measured) = paired::measure(&plan)? else { return Ok(stopped()) };
    let mut looks = Looks { first: measured.recording, second: None };
    let mut spent = measured.spent.says();
    notes.extend(measured.notes);
    let mut decision = verdict::decide(&looks.first);
    // More time, perhaps two more builds, are for a verdict that somebody waits for.
    let is_decided = decision.verdict != Verdict::Regression && args.inconclusive == Inconclusive::Pass;
    if !is_decided {
        match look_again(args, &baseline, (plan, &decision), &mut scratch, &mut notes) {
            Ok(Some((orders, again))) => {
                notes.extend(again.notes.iter().map(|note| format!("second look: {note}")));
                spent += &format!("; {}: {}", orders.words(), again.spent.says());
                decision = verdict::decide_again(&decision, orders, &again.recording);
                looks.second = Some((orders, again.recording));
            }
            Ok(None) => {}
            // What was measured before is not lost for that.
            Err(e) => notes.push(format!("there was no second look: {e:#}")),
        }
    }
    let is_stopped = looks.second.is_none() && interrupt::is_asked();
    if is_stopped {
        notes.push("Ctrl-C ended the second look: this is what the first one found".to_owned());
    }
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
        command: output::command(&std::env::args().skip(1).collect::<Vec<_>>()),
        notes,
        details,
        time: spent,
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
    print(args.format, &decision, &looks, &around)?;
    Ok(if is_stopped { ExitCode::from(interrupt::EXIT_CODE) } else { code })
}
