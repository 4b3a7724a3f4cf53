//! One page with everything on it, that asks no network for anything.
//!
//! Data goes into it as JSON in which nothing can end a script, and from there into the document as text. The charts are
//! drawn by Observable Plot (`page/vendor/README.md` says why that one).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figure::{STAGES, plain};
use super::{Part, Report, markdown};
use crate::output;
use crate::questions::answer::Verdict;
use crate::questions::{CellId, Coordinate, order, registry_order};
use crate::results::{CellFacts, Results};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One function in parts.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/script/document.js"),
    include_str!("page/script/table.js"),
    include_str!("page/script/axis.js"),
    include_str!("page/script/chart.js"),
    include_str!("page/script/question.js"),
    include_str!("page/script/cells.js"),
    include_str!("page/script/start.js"),
    "})();\n"
);
const D3: &str = include_str!("page/vendor/d3.min.js");
const PLOT: &str = include_str!("page/vendor/plot.min.js");
const LICENCES: [&str; 2] =
    [include_str!("page/vendor/LICENSE.d3"), include_str!("page/vendor/LICENSE.plot")];

/// Cells on the page at most: 5 MB hold so many. Beyond, those that no question looks at are left out.
const CELLS: usize = 12_000;

/// The page.
///
/// # Errors
/// None that data has which JSON can hold.
pub(super) fn page(report: &Report<'_>) -> Result<String> {
    let data = embedded(&data(report))?;
    let licences = LICENCES.join("\n").replace("*/", "* /");
    let fill = |name: &str| match name {
        "style" => Some(STYLE),
        "script" => Some(SCRIPT),
        "d3" => Some(D3),
        "plot" => Some(PLOT),
        "licences" => Some(licences.as_str()),
        "data" => Some(data.as_str()),
        _ => None,
    };
    let mut page = String::with_capacity(TEMPLATE.len() + D3.len() + PLOT.len() + data.len());
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("page.html: a {{ without its }}")?;
        page.push_str(before);
        page.push_str(fill(name).with_context(|| format!("page.html: nothing is called {name:?}"))?);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

/// JSON that can stand in a script element, whatever is in it.
fn embedded(data: &Value) -> Result<String> {
    let json = serde_json::to_string(data).context("the page's data")?;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn data(report: &Report<'_>) -> Value {
    let results = report.results;
    let (ids, left_out) = on_page(report);
    let mut missing = markdown::missing_lines(report, usize::MAX);
    if left_out > 0 {
        missing.push(format!(
            "{left_out} cells that no question looks at are not on this page: walkbench export has them"
        ));
    }
    let mut backends: Vec<String> = ids.iter().map(|c| c.get(Coordinate::Backend).to_owned()).collect();
    backends.sort_by_key(|b| (registry_order(b), b.clone()));
    backends.dedup();
    let marks: Vec<&str> = results.cells.values().flat_map(|c| &c.marks).map(String::as_str).collect();
    json!({
        "marks": crate::marks::explained(marks.iter().copied()),
        "machine": plain(&results.run.machine.line()),
        "command": plain(&output::command(&results.run.command)),
        "facts": markdown::facts(report),
        "missing": missing.iter().map(|m| plain(m)).collect::<Vec<_>>(),
        "backends": backends.iter().map(|b| plain(b)).collect::<Vec<_>>(),
        "controls": backends.iter().filter(|b| is_control(b)).map(|b| plain(b)).collect::<Vec<_>>(),
        "decisions": report.parts().flat_map(|p| p.decided).collect::<Vec<_>>(),
        "questions": report.parts().map(|p| question(&p, &ids)).collect::<Vec<_>>(),
        "cells": cells(results, &ids),
        "runs": report.runs.as_ref().map(super::runs::Runs::data),
        "calibrated": report.in_proportion.as_ref().map(super::calibrated::InProportion::data),
    })
}

/// The harness's own: not an API.
fn is_control(backend: &str) -> bool {
    walker::backends::find(backend).is_some_and(|b| b.kind == walker::backend::Kind::Control)
}

/// Which cells the page has, and how many it leaves out.
fn on_page<'a>(report: &'a Report<'_>) -> (Vec<&'a CellId>, usize) {
    let all: Vec<&CellId> = report.results.cells.keys().collect();
    if all.len() <= CELLS {
        return (all, 0);
    }
    let is_asked_for = |c: &CellId| report.parts().any(|p| p.question.wants(c));
    let mut kept: Vec<&CellId> = all.iter().copied().filter(|c| is_asked_for(c)).collect();
    kept.truncate(CELLS);
    let left_out = all.len() - kept.len();
    (kept, left_out)
}

fn question(part: &Part<'_>, ids: &[&CellId]) -> Value {
    let Part { question: q, answer: a, figures, .. } = part;
    let first = a.findings.first();
    let head = first.and_then(|f| f.headline.as_ref()).and_then(|p| CellId::parse(&p.a));
    let points: Vec<Value> = a
        .findings
        .iter()
        .enumerate()
        .flat_map(|(i, finding)| {
            let unit = plain(q.compares.get(i).map_or("ns a page", |c| c.metric.unit()));
            finding.points.iter().map(move |p| {
                json!({
                    "finding": plain(&finding.title),
                    "unit": unit,
                    "a": plain(&p.a),
                    "b": p.b.as_deref().map(plain),
                    "av": finite(p.a_value),
                    "bv": finite(p.b_value),
                    "ratio": finite(Some(p.effect.ratio)),
                    "lo": finite(p.effect.lo),
                    "hi": finite(p.effect.hi),
                    "launches": p.effect.launches,
                    "verdict": p.verdict,
                    "marks": p.marks.iter().map(|m| plain(m)).collect::<Vec<_>>(),
                })
            })
        })
        .collect();
    let wanted = ids.iter().enumerate().filter(|(_, c)| q.wants(c)).map(|(i, _)| i);
    let flips = first
        .filter(|f| f.verdict != Verdict::NotMeasured)
        .zip(q.compares.first().and_then(|c| c.axis.as_ref()))
        .map(|(finding, axis)| markdown::flips(axis, finding));
    json!({
        "id": q.id,
        "title": q.title,
        "argument": q.argument,
        "threads": q.threads,
        "analysis": q.analysis,
        "answer": plain(&a.answer),
        "verdict": a.verdict,
        "figure": a.effect.map(|e| super::decisions::ratio(&e)),
        "how_sure": super::decisions::how_sure(a.verdict, a.effect.as_ref(), q.percent),
        "flips": flips,
        "calibrated": part.calibrated,
        "command": plain(&a.command),
        "figures": figures,
        "points": points,
        "cells": wanted.collect::<Vec<_>>(),
        "headline": head.and_then(|h| ids.iter().position(|c| **c == h)).map_or(-1, |i| i as i64),
    })
}

/// A number that JSON can hold, with the digits that mean something.
fn finite(x: Option<f64>) -> Option<f64> {
    x.filter(|x| x.is_finite()).map(crate::export::rounded)
}

/// All cells, column by column.
fn cells(results: &Results, ids: &[&CellId]) -> Value {
    let none = CellFacts::default();
    let facts: Vec<&CellFacts> = ids.iter().map(|id| results.cells.get(*id).unwrap_or(&none)).collect();
    let coordinates: BTreeMap<&str, Value> = Coordinate::ALL
        .iter()
        .map(|c| {
            let words: BTreeSet<&str> = ids.iter().map(|id| id.get(*c)).collect();
            let mut names: Vec<&str> = words.into_iter().collect();
            names.sort_by_cached_key(|n| order::natural(n));
            let places: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (*n, i)).collect();
            let at: Vec<usize> = ids.iter().map(|id| places[id.get(*c)]).collect();
            (c.name(), json!({"names": names.iter().map(|n| plain(n)).collect::<Vec<_>>(), "at": at}))
        })
        .collect();
    let mut columns: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    let mut column = |name: &str, of: &dyn Fn(&CellFacts) -> Option<f64>| {
        let values: Vec<Option<f64>> = facts.iter().map(|f| finite(of(f))).collect();
        if values.iter().any(Option::is_some) {
            columns.insert(name.to_owned(), values);
        }
    };
    column("ns", &|f| f.ns_per_page?.median);
    column("ns_lo", &|f| f.ns_per_page?.lo);
    column("ns_hi", &|f| f.ns_per_page?.hi);
    column("x", &|f| f.x_decode?.median);
    column("x_lo", &|f| f.x_decode?.lo);
    column("x_hi", &|f| f.x_decode?.hi);
    for stage in STAGES {
        column(stage, &|f| f.stage_ns(stage));
    }
    column("p50", &|f| f.latency_ns.map(|l| l.p50 as f64));
    column("p99", &|f| f.latency_ns.map(|l| l.p99 as f64));
    column("p999", &|f| f.latency_ns.map(|l| l.p999 as f64));
    column("max", &|f| f.latency_ns.map(|l| l.max as f64));
    column("events", &|f| f.churned?.events_per_s);
    column("vain", &|f| f.churned?.vain_per_page);
    column("decode", &|f| f.limit_ns("decode"));
    column("launches", &|f| Some(f.nr_launches as f64));
    let names: BTreeSet<&str> = facts.iter().flat_map(|f| f.counts.keys()).map(String::as_str).collect();
    let count =
        |name: &str| -> Vec<Option<u64>> { facts.iter().map(|f| f.counts.get(name).copied()).collect() };
    let is_ever = |name: &str| facts.iter().any(|f| f.counts.get(name).is_some_and(|n| *n > 0));
    let counts: BTreeMap<String, Vec<Option<u64>>> =
        names.into_iter().filter(|n| is_ever(n)).map(|n| (plain(n), count(n))).collect();
    let by_index = |of: &dyn Fn(&CellFacts) -> Option<String>| -> BTreeMap<usize, String> {
        facts.iter().enumerate().filter_map(|(i, f)| Some((i, plain(&of(f)?)))).collect()
    };
    // The page opens on a design that most people know, where it was measured.
    let start = ids.iter().position(|c| {
        let at = |of| c.get(of);
        at(Coordinate::Backend) == "map_order"
            && at(Coordinate::Request) == "snapshot"
            && at(Coordinate::Workload) == "dense_4k"
    });
    json!({
        "coordinates": coordinates,
        "columns": columns,
        "counts": counts,
        "marks": by_index(&|f| (!f.marks.is_empty()).then(|| f.marks.join(", "))),
        "errors": by_index(&|f| f.error.clone()),
        "start": start.unwrap_or(0),
    })
}

#[cfg(test)]
mod browser;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_its_script() {
        let text = embedded(&json!({"x": "</script><!--<script>&\u{2028}\"'"})).unwrap();
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["x"], "</script><!--<script>&\u{2028}\"'");
    }

    #[test]
    fn vendored_files_are_what_their_list_says_and_end_no_script() {
        let list = include_str!("page/vendor/README.md");
        for (name, text) in [("d3.min.js", D3), ("plot.min.js", PLOT)] {
            assert!(list.contains(name) && !text.to_lowercase().contains("</script"), "{name}");
        }
        assert!(LICENCES.iter().all(|l| l.contains("Permission to use, copy, modify")));
    }
}
