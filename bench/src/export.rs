//! Results in the formats of other tools, one file each; pure functions to text.
//!
//! | format | for | says |
//! |---|---|---|
//! | [`csv`] | spreadsheets, data frames | one row a cell, everything |
//! | [`benchstat`] | golang.org/x/perf/cmd/benchstat | one line a cell and launch: what it compares are launches |
//! | [`bencher`] | bencher.dev | one metric a cell with its interval |
//! | [`action`] | github-action-benchmark, customSmallerIsBetter | one entry a cell |
//! | [`markdown`] | mails, pull requests | a table for each group |
//!
//! Names come from files that anybody may have written: each format quotes them so that they stay text.

pub(crate) mod action;
pub(crate) mod bencher;
pub(crate) mod benchstat;
pub(crate) mod csv;
pub(crate) mod markdown;

use crate::questions::{CellId, Metric, order};
use crate::results::{CellFacts, Results};
use crate::stats::Estimate;

/// A cell with its figure.
struct Row<'a> {
    id: &'a CellId,
    facts: &'a CellFacts,
    ns: Option<Estimate>,
}

/// Every cell, group by group as people sort them, in each the designs in the order of the registry.
fn rows(results: &Results) -> impl Iterator<Item = Row<'_>> {
    let mut cells: Vec<(&CellId, &CellFacts)> = results.cells.iter().collect();
    cells.sort_by_cached_key(|(id, _)| order::of_cells(id));
    cells.into_iter().map(|(id, facts)| Row { id, facts, ns: results.level(id, Metric::Whole) })
}

/// How many cells have no figure: formats that have no place for an error leave them out.
pub(crate) fn nr_without_figure(results: &Results) -> usize {
    rows(results).filter(|r| r.ns.is_none()).count()
}

/// Six significant digits: more than any of these figures has.
pub(crate) fn rounded(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests;
