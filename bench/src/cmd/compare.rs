//! `walkbench compare`: runs, or the designs of a run, side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;

use crate::compare::{self, Agreement, Claim, Comparison, Row, Said};
use crate::output::{self, Format};
use crate::questions::answer::{Effect, Verdict};
use crate::questions::{CellId, Coordinate, LIMITS};
use crate::record::JSON_SCHEMA;
use crate::results::Results;
use crate::tables::{self, letter};

/// Compare runs side by side, or the designs within each run
///
/// Ratios within a run are of blocks next to each other in time; they are what runs and machines can be compared by.
/// Times are compared between runs of one machine only, and are for looking at: nothing pairs them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench compare results/MINE                           designs against the decode limit
  walkbench compare results/MINE --by backend --reference map_order
  walkbench compare results/BEFORE results/AFTER           the second in units of the first
  walkbench compare results/MINE results/AGAIN --by claim  is what was claimed of one run true of the next?
  walkbench compare results/AMD results/INTEL --filter '/(snapshot|fault_write)/512/'")]
pub(crate) struct CompareArgs {
    /// Results folders; the first is what the others are measured by
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// What stands side by side; by default runs if there are several
    #[arg(long, value_enum)]
    by: Option<By>,
    /// A design or a limit (copy, load, decode, fill): ratios within a run are against it
    #[arg(long, value_name = "NAME", default_value = "decode")]
    reference: String,
    /// Only cells whose id matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Designs, for each run
    Backend,
    /// Runs, for each design
    Run,
    /// Runs, for each comparison of every question: verdict, direction, and whether intervals overlap
    Claim,
}

/// Compares.
///
/// # Errors
/// Results that cannot be read or that have nothing in common.
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode> {
    if walker::backends::find(&args.reference).is_none() && !LIMITS.contains(&args.reference.as_str()) {
        bail!(
            "--reference {}: expected a backend (`walkbench list backends`) or a limit: {}",
            args.reference,
            LIMITS.join(", ")
        );
    }
    let runs = args.folders.iter().map(|f| Results::load(f)).collect::<Result<Vec<_>>>()?;
    let wanted = |id: &str| args.filter.as_ref().is_none_or(|f| f.is_match(id));
    let comparison = compare::compare(&runs, &args.reference, &wanted);
    if comparison.rows.is_empty() {
        bail!(
            "--filter {}: matches no cell of these results",
            args.filter.as_ref().map_or(".*", Regex::as_str)
        );
    }
    if args.format == Format::Json {
        let about = |r: &Results| json!({"folder": r.folder, "machine": r.run.machine, "build": r.run.build, "command": r.run.command, "notes": r.notes});
        output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "reference": comparison.reference,
            "runs": runs.iter().map(about).collect::<Vec<_>>(),
            "times_refused": comparison.refused,
            "notes": comparison.notes,
            "cells": comparison.rows,
            "questions": comparison.answers,
            "claims": comparison.claims,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let by = args.by.unwrap_or(if runs.len() > 1 { By::Run } else { By::Backend });
    let mut text = String::new();
    if by != By::Backend && runs.len() < 2 {
        let by = if by == By::Run { "run" } else { "claim" };
        bail!("--by {by}: expected two folders or more");
    }
    match by {
        By::Run => text += &(by_run(&comparison, &runs) + &questions(&comparison)),
        By::Claim => text += &by_claim(&comparison.claims, runs.len()),
        By::Backend => (0..runs.len()).for_each(|i| text += &by_backend(&comparison, &runs, i)),
    }
    text += &beneath(&comparison, &runs, by);
    output::print(&text)?;
    runs.iter().flat_map(|r| &r.notes).for_each(|note| eprintln!("{note}"));
    Ok(ExitCode::SUCCESS)
}

/// Runs that fit beside each other.
const COLUMNS: usize = 3;

fn group(row: &Row) -> String {
    CellId::parse(&row.id).map_or_else(|| row.id.clone(), |id| id.group())
}

fn backend(row: &Row) -> String {
    CellId::parse(&row.id).map_or_else(|| row.id.clone(), |id| id.get(Coordinate::Backend).to_owned())
}

/// The cells that two runs or more have; how many only one has stands beneath.
fn by_run(c: &Comparison, runs: &[Results]) -> String {
    let mut text = String::new();
    let shared: Vec<&Row> = c.rows.iter().filter(|r| r.is_shared()).collect();
    for rows in shared.chunk_by(|a, b| group(a) == group(b)) {
        text += &format!("{}\n", tables::paragraph(&group(rows[0]), 0, 2));
        // The first run, and so many of the others as fit.
        let others: Vec<usize> = (1..runs.len()).collect();
        for part in others.chunks(COLUMNS - 1) {
            let mut header = vec![format!("x {}", c.reference), letter(0)];
            for i in part {
                header.extend([letter(*i), format!("{}/{}", letter(*i), letter(0))]);
                if c.refused.is_none() {
                    header.push("ns/ns".to_owned());
                }
            }
            let mut table = tables::table(header);
            for row in rows {
                let x = |i: usize| row.sides[i].and_then(|s| s.x);
                let mut cells = vec![backend(row), figure(x(0))];
                for i in part {
                    cells.extend([figure(x(*i)), figure(row.ratios[i - 1])]);
                    if c.refused.is_none() {
                        cells.push(figure(row.times[i - 1]));
                    }
                }
                table.add_row(cells);
            }
            text += &tables::lines(&table);
        }
        text.push('\n');
    }
    text
}

fn by_backend(c: &Comparison, runs: &[Results], i: usize) -> String {
    let mut text = String::new();
    if runs.len() > 1 {
        text += &format!(
            "{}\n\n",
            tables::paragraph(&format!("{}: {}", letter(i), runs[i].folder.display()), 0, 2)
        );
    }
    for rows in c.rows.chunk_by(|a, b| group(a) == group(b)) {
        let mut table =
            tables::table(["", "ns/page", &format!("x {}", c.reference)].map(str::to_owned).to_vec());
        for row in rows {
            if let Some(side) = row.sides[i] {
                table.add_row([backend(row), figure(side.ns_per_page), figure(side.x)]);
            }
        }
        if table.row_iter().next().is_some() {
            text += &format!("{}\n{}\n", tables::paragraph(&group(&rows[0]), 0, 2), tables::lines(&table));
        }
    }
    text
}

/// Claims first, then of the other comparisons those of which the runs do not say the same, then how many did.
fn by_claim(claims: &[Claim], nr_runs: usize) -> String {
    let (made, others): (Vec<&Claim>, Vec<&Claim>) = claims.iter().partition(|c| c.is_made);
    let table = |claims: &[&Claim]| {
        let header = ["claim".to_owned()].into_iter().chain((0..nr_runs).map(letter));
        let mut table = tables::table(header.chain(["drift", "again"].map(str::to_owned)).collect());
        for c in claims {
            let first = format!("{}: {}", c.question, c.title);
            let row = std::iter::once(first).chain(c.said.iter().map(said));
            let drift = c.drift_percent.map_or_else(|| "-".to_owned(), percent);
            table.add_row(row.chain([drift, c.agreement.words().to_owned()]));
        }
        tables::lines(&table)
    };
    let mut text = table(&made);
    let is_held = |c: &&&Claim| matches!(c.agreement, Agreement::Agree | Agreement::NotMeasured);
    let odd: Vec<&Claim> = others.iter().filter(|c| !is_held(c)).copied().collect();
    if !odd.is_empty() {
        text += &format!("\nother comparisons of which the runs do not say the same\n\n{}", table(&odd));
    }
    text + &format!("\n{}{}\n", counted("claims", &made), counted("other comparisons", &others))
}

/// How many agree, and how the others do not.
fn counted(what: &str, claims: &[&Claim]) -> String {
    use Agreement::{Agree, Apart, Disagree, NotMeasured, Unresolved};
    let of = |a: Agreement| claims.iter().filter(|c| c.agreement == a).count();
    let measured = claims.len() - of(NotMeasured);
    let verdicts = of(Agree) + of(Apart);
    let mut text = format!("{what}: {measured} in all runs, {verdicts} with the same verdict");
    text += &format!(", of these {} with intervals that overlap", of(Agree));
    text += &format!("; {} resolved in some only, {} disagree", of(Unresolved), of(Disagree));
    // What nothing is claimed of may be anywhere.
    let is_same = |c: &&&Claim| matches!(c.agreement, Agree | Apart);
    let mut drifts: Vec<(f64, &Claim)> =
        claims.iter().filter(is_same).filter_map(|c| Some((c.drift_percent?, *c))).collect();
    drifts.sort_by(|a, b| a.0.total_cmp(&b.0));
    if let (Some((middle, _)), Some((most, claim))) = (drifts.get(drifts.len() / 2), drifts.last()) {
        let (middle, most) = (percent(*middle), percent(*most));
        text += &format!("; drift of those with the same verdict: {middle} in the middle, {most} at most");
        text += &format!(" ({}: {})", claim.question, claim.title);
    }
    tables::paragraph(&text, 0, 2) + "\n"
}

/// `4.9 %`
fn percent(x: f64) -> String {
    if x == 0.0 { "0 %".to_owned() } else { format!("{x:.1} %") }
}

/// `2.02 [2.00..2.03]`, with a sign before it where it is no difference
fn said(s: &Said) -> String {
    let verdict = match s.verdict {
        Verdict::NotMeasured => return "-".to_owned(),
        Verdict::Differs => "",
        Verdict::Same => "= ",
        Verdict::Unresolved => "? ",
    };
    let winner = s.winner.as_ref().map(|w| format!("{w}, ")).unwrap_or_default();
    let effect = s.effect.as_ref().map(crate::report::ratio).unwrap_or_default();
    format!("{verdict}{winner}{effect}")
}

/// What the runs answer, where any of them does.
fn questions(c: &Comparison) -> String {
    let header = std::iter::once("question".to_owned()).chain((0..c.answers.len()).map(letter));
    let mut table = tables::table(header.collect());
    for of_question in
        (0..c.answers[0].len()).map(|q| c.answers.iter().map(move |a| &a[q]).collect::<Vec<_>>())
    {
        if of_question.iter().all(|a| a.verdict == Verdict::NotMeasured) {
            continue;
        }
        let said = of_question.iter().map(|a| match (a.verdict, a.effect) {
            (Verdict::NotMeasured, _) | (_, None) => "-".to_owned(),
            (Verdict::Differs, Some(e)) => format!("{} differs", figure(Some(e))),
            (Verdict::Same, Some(e)) => format!("{} same", figure(Some(e))),
            (Verdict::Unresolved, Some(e)) => format!("{} ?", figure(Some(e))),
        });
        table.add_row(std::iter::once(of_question[0].id.clone()).chain(said));
    }
    if table.row_iter().next().is_none() { String::new() } else { tables::lines(&table) + "\n" }
}

/// `2.02 [2.00..2.03]`
fn figure(effect: Option<Effect>) -> String {
    let Some(e) = effect else { return "-".to_owned() };
    match (e.lo, e.hi) {
        (Some(lo), Some(hi)) if e.basis.is_some() => tables::with_ends(e.ratio, lo, hi),
        _ => tables::number(e.ratio),
    }
}

fn beneath(c: &Comparison, runs: &[Results], by: By) -> String {
    let mut notes = match by {
        By::Claim => vec![
            (
                "figures".to_owned(),
                "side a in units of side b, or the second in units of the cheapest; = no difference that counts, ? not resolved"
                    .to_owned(),
            ),
            (
                "agree".to_owned(),
                "the same verdict, direction and winner, and intervals that overlap".to_owned(),
            ),
            (
                "drift".to_owned(),
                "the largest figure of the runs beyond the smallest: an interval over launches of one run holds what \
                 differs between its launches, not what differs between runs. Where all runs have one verdict, the range \
                 from the lowest end to the highest has it too"
                    .to_owned(),
            ),
        ],
        By::Backend | By::Run => vec![(
            format!("x {}", c.reference),
            "a design against it in the same rounds [interval over launches; none with a single launch]"
                .to_owned(),
        )],
    };
    if by == By::Run {
        let ratio = format!("{}/{}", letter(1), letter(0));
        notes.push((ratio, "ratio of the runs' x: 1 where the machine or the day plays no part".to_owned()));
        notes.push(match &c.refused {
            Some(why) => {
                ("no ns/ns".to_owned(), format!("times of different machines are not compared: {why}"))
            }
            None => {
                ("ns/ns".to_owned(), "ratio of times measured at different times: for looking at".to_owned())
            }
        });
    }
    let alone = c.rows.iter().filter(|r| !r.is_shared()).count();
    if by == By::Run && alone > 0 {
        let text = format!("{alone} of {} cells are in one run only (--by backend has them)", c.rows.len());
        notes.push(("left out".to_owned(), text));
    }
    notes.extend(c.notes.iter().map(|n| ("note".to_owned(), n.clone())));
    for (i, r) in runs.iter().enumerate() {
        let name = if runs.len() > 1 { letter(i) } else { "machine".to_owned() };
        notes.push((name, format!("{}; {}", r.run.machine.line(), output::command(&r.run.command))));
    }
    let width = notes.iter().map(|(n, _)| n.chars().count()).max().unwrap_or(0).max(9) + 2;
    let lines = notes.iter().map(|(name, text)| {
        let lines = tables::paragraph(text, width, width);
        format!("{name:<width$}{}\n", lines.trim_start())
    });
    lines.collect()
}
