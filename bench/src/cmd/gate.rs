//! `walkbench gate`: is this tree slower than that one?

mod against;
mod arguments;
mod baseline;
mod cells;
mod exact;
mod instructions;
mod look_again;
mod paired;
mod planted;
mod self_test;
mod side;
mod untimed;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

pub(crate) use self::arguments::GateArgs;
use self::arguments::{Format, Inconclusive};
use self::untimed::Untimed;
use crate::gate::counts;
use crate::gate::report::{self, Around};
use crate::gate::rounds::{Looks, Orders};
use crate::gate::verdict::{self, Verdict};
use crate::interrupt;
use crate::output;
use crate::record::JSON_SCHEMA;

/// Exact counts changed.
const EXIT_COUNTS: u8 = 5;

/// Gates.
///
/// # Errors
/// Bad input, or what cannot be written. What the gate finds is its exit code.
pub(crate) fn run(args: &GateArgs) -> Result<ExitCode> {
    args.check()?;
    interrupt::listen()?;
    match &args.replay {
        _ if args.renew_counts => renew(args),
        Some(file) => replay(args, file),
        None => match (&args.baseline, args.self_test) {
            (Some(baseline), _) => against::compare(args, baseline),
            (None, Some(n)) => against::try_itself(args, n),
            (None, None) => compare(args),
        },
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
    if let Some(untimed) = Untimed::parse(&text) {
        return untimed.print(args.format);
    }
    let looks = Looks::parse(&text).with_context(|| file.display().to_string())?;
    let decision = verdict::decide_both(&looks);
    let note = &looks.first.note;
    // What `gate` printed says more than the bare recording.
    let printed: Option<Around> = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|v| serde_json::from_value(v["around"].clone()).ok());
    let around = printed.unwrap_or_else(|| Around {
        headline: decision.verdict.words().to_owned(),
        sides: if note.is_empty() { Vec::new() } else { vec![note.clone()] },
        command: format!("walkbench gate --replay {}", file.display()),
        ..Around::default()
    });
    print(args.format, &decision, &looks, &around)?;
    Ok(exit(decision.verdict, args.inconclusive))
}

fn print(format: Format, decision: &verdict::Decision, looks: &Looks, around: &Around) -> Result<()> {
    match format {
        Format::Text => output::print(&report::text(decision, looks, around)),
        Format::Markdown => output::print(&report::markdown(decision, looks, around)),
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "verdict": decision.verdict,
            "reasons": decision.reasons,
            "cells": decision.decided,
            "around": around,
            "recording": looks.first,
            (Orders::Same.key()): looks.second(Orders::Same),
            (Orders::Others.key()): looks.second(Orders::Others),
        })),
    }
}

fn renew(args: &GateArgs) -> Result<ExitCode> {
    let path = exact::file(args.counts.as_deref())?;
    let Some(table) = exact::count(None, false)? else { return Ok(stopped()) };
    exact::write(&path, &table)?;
    output::print(&format!("{} cells counted; wrote {}\n", table.0.len(), path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &GateArgs) -> Result<ExitCode> {
    let path = exact::file(args.counts.as_deref())?;
    let before = exact::read(&path, args.filter.as_ref())?;
    let Some(after) = exact::count(args.filter.as_ref(), args.oracle)? else { return Ok(stopped()) };
    let difference = counts::compare(&before, &after);
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "verdict": if difference.is_none() { "pass" } else { "counts_changed" },
            "exact": difference,
        }))?,
        Format::Text | Format::Markdown if difference.is_none() => {
            output::print(&format!(
                "pass: {} cells count exactly what {} says{}\n",
                difference.cells,
                path.display(),
                if args.oracle { ", and answer what the oracle does" } else { "" }
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
