//! The readable report: a table of classes, a table of fields, the first failures.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use workloads::conform::{Difference, Shown, Verdict};

use super::{Replayed, all_fields, is_failure};

/// Failures shown unless all are asked for.
const SHOWN_FAILURES: usize = 20;

/// Width of a line unless nothing is to be cut.
const COLUMNS: usize = 100;

/// The report; `verbose` shows every failure and skip, uncut.
pub(in super::super) fn text(results: &[Replayed<'_>], verbose: bool) -> String {
    let mut page = String::new();
    let columns = if verbose { usize::MAX } else { COLUMNS };
    classes(&mut page, results);
    fields(&mut page, results);
    skips(&mut page, results, verbose, columns);
    failures(&mut page, results, verbose, columns);
    page
}

#[derive(Default)]
struct Class {
    scenarios: usize,
    steps: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Class {
    fn add(&mut self, verdict: &Verdict, steps: usize) {
        self.scenarios += 1;
        self.steps += steps;
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Differs(_) | Verdict::Panicked { .. } => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
    }

    fn row(&self, name: &str) -> [String; 6] {
        let [scenarios, steps, passed, failed, skipped] =
            [self.scenarios, self.steps, self.passed, self.failed, self.skipped]
                .map(|count| count.to_string());
        [name.into(), scenarios, steps, passed, failed, skipped]
    }
}

fn classes(page: &mut String, results: &[Replayed<'_>]) {
    let mut classes: BTreeMap<&str, Class> = BTreeMap::new();
    let mut all = Class::default();
    for (job, outcome) in results {
        classes.entry(&job.scenario.cls).or_default().add(&outcome.verdict, outcome.steps);
        all.add(&outcome.verdict, outcome.steps);
    }
    let mut table = table(["class", "scenarios", "steps", "passed", "failed", "skipped"]);
    for (name, class) in &classes {
        table.add_row(class.row(name));
    }
    table.add_row(all.row("all"));
    push(page, &table);
}

fn fields(page: &mut String, results: &[Replayed<'_>]) {
    let mut table = table(["field", "compared", "differ"]);
    for (field, counts) in all_fields(results).iter() {
        table.add_row([field.to_string(), counts.compared.to_string(), counts.differ.to_string()]);
    }
    push(page, &table);
}

fn skips(page: &mut String, results: &[Replayed<'_>], verbose: bool, columns: usize) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (job, outcome) in results {
        let Verdict::Skipped(skip) = &outcome.verdict else { continue };
        if verbose {
            line(page, columns, &format!("skipped {} {}: {}", job.file, job.scenario.id, skip.reason));
        } else {
            // The step differs from scenario to scenario where the reason is the same.
            let reason = match skip.reason.split_once(": ") {
                Some((step, reason)) if step.starts_with("step ") => reason,
                _ => &skip.reason,
            };
            *reasons.entry(reason).or_default() += 1;
        }
    }
    for (reason, count) in reasons {
        line(page, columns, &format!("{count} skipped: {reason}"));
    }
}

fn failures(page: &mut String, results: &[Replayed<'_>], verbose: bool, columns: usize) {
    let failed = || results.iter().filter(|(_, outcome)| is_failure(&outcome.verdict));
    let shown = if verbose { usize::MAX } else { SHOWN_FAILURES };
    for (job, outcome) in failed().take(shown) {
        let place = format!("{}:{} {}", job.file, job.scenario.line, job.scenario.id);
        page.push('\n');
        match &outcome.verdict {
            Verdict::Differs(difference) => {
                line(page, columns, &format!("{place}, step {}: {}", difference.step, difference.op));
                show_difference(page, columns, difference);
            }
            Verdict::Panicked { step: Some(step), op, message } => {
                line(page, columns, &format!("{place}, step {step}: {op}"));
                line(page, columns, &format!("  panicked: {message}"));
            }
            Verdict::Panicked { step: None, message, .. } => {
                line(page, columns, &place);
                line(page, columns, &format!("  panicked before the first step: {message}"));
            }
            Verdict::Passed | Verdict::Skipped(_) => {}
        }
    }
    let rest = failed().count().saturating_sub(shown);
    if rest > 0 {
        line(page, columns, "");
        line(page, columns, &format!("{rest} more failed; --verbose shows all, --filter chooses by id"));
    }
}

fn show_difference(page: &mut String, columns: usize, difference: &Difference) {
    let Difference { field, page: at, differing, expected, got, .. } = difference;
    match at {
        Some(at) if *differing > 1 => {
            line(page, columns, &format!("  {field} differs on {differing} pages, first on page {at}"));
        }
        Some(at) => line(page, columns, &format!("  {field} differs on page {at}")),
        None => line(page, columns, &format!("  {field} differs")),
    }
    let wide = expected.value.chars().count().max(got.value.chars().count());
    for (side, shown) in [("expected", expected), ("got", got)] {
        line(page, columns, &format!("    {side:<8}  {}", around(shown, wide)));
    }
    for (side, shown) in [("expected", expected), ("got", got)] {
        if let Some(whole) = &shown.whole {
            line(page, columns, &format!("    all {side:<8}  {whole}"));
        }
    }
}

fn around(shown: &Shown, wide: usize) -> String {
    match &shown.around {
        None => shown.value.clone(),
        Some(around) => {
            let pages = &around.pages;
            format!("{:<wide$}  in {}..{}: {}", shown.value, pages.start, pages.end, around.list)
        }
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn push(page: &mut String, table: &Table) {
    for row in table.lines() {
        line(page, usize::MAX, row.trim_end());
    }
    page.push('\n');
}

/// Appends one line of at most `columns` characters, ending in `…` when cut.
fn line(page: &mut String, columns: usize, text: &str) {
    let cut = match text.char_indices().nth(columns) {
        None => text.to_owned(),
        Some(_) => text.chars().take(columns - 1).chain(['…']).collect(),
    };
    writeln!(page, "{}", cut.trim_end()).expect("writing into a String cannot fail");
}
