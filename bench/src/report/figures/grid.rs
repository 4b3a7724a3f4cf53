//! Designs by workloads, and distances to the limits.

use std::collections::BTreeMap;

use super::{Maker, measured, names, place};
use crate::questions::{CellId, Coordinate, Kind, order, registry_order};
use crate::report::figure::{Body, Field, Figure, Grid, Range, Ranges, Scale, Value, plain};
use crate::results::Results;
use crate::tables;
use walker::backend::Kind as BackendKind;

/// Limits beside decode that a distance is said of.
const LIMITS: [&str; 3] = ["copy", "load", "fill"];

impl Maker<'_> {
    /// Ratios of counts, design by workload and request.
    pub(super) fn heat_maps(&mut self) {
        for (compare, finding) in self.question.compares.iter().zip(&self.answer.findings) {
            let head = finding.headline.as_ref().and_then(|p| CellId::parse(&p.a));
            let Some(head) = head.filter(|_| compare.kind == Kind::Value) else { continue };
            let shared = [Coordinate::Size, Coordinate::CallPages, Coordinate::Churn, Coordinate::Walkers];
            let points: Vec<(CellId, f64, String)> = finding
                .points
                .iter()
                .filter_map(|p| {
                    let note = match (p.a_value, p.b_value) {
                        (Some(a), Some(b)) => format!("{}: {a} to {b}, exact counts", p.a),
                        _ => p.a.clone(),
                    };
                    Some((CellId::parse(&p.a)?, p.effect.ratio, plain(&note)))
                })
                .filter(|(c, ..)| shared.iter().all(|s| c.get(*s) == head.get(*s)))
                .collect();
            let unit = plain(&compare.metric.to_string());
            let place =
                format!("{}, {} pages a call", head.get(Coordinate::Size), head.get(Coordinate::CallPages));
            let of = [Coordinate::Request, Coordinate::Workload];
            if let Some((body, left_out)) = matrix(&points, &of, unit) {
                self.push(&finding.title, &place, body, left_out);
            }
        }
    }
    /// Bars of distances to the decode limit at the headline's place, and a map of them over footprints.
    pub(super) fn limits(&mut self) {
        let Some(head) = self.headline() else { return };
        let shared = [Coordinate::Workload, Coordinate::Request, Coordinate::CallPages, Coordinate::Churn];
        let cells = self.cells_like(&head, &shared);
        let (mut rows, mut limits, mut left_out) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut points = Vec::new();
        for (cell, facts) in cells {
            let value = measured(facts.x_decode, facts.nr_launches);
            if let Some(value) = value {
                points.push((cell.clone(), value.y, plain(&cell.to_string())));
            }
            if cell.get(Coordinate::Size) != head.get(Coordinate::Size) {
                continue;
            }
            let Some(value) = value else {
                let why = facts.error.as_deref().unwrap_or("no distance");
                left_out.push(plain(&format!("{cell}: {why}")));
                continue;
            };
            let note = plain(&format!("{cell}: {} times the decode limit", tables::number(value.y)));
            rows.push(Range { name: plain(cell.get(Coordinate::Backend)), value, is_limit: false, note });
            let decode = facts.limit_ns("decode");
            for limit in LIMITS {
                let ratio = facts.limit_ns(limit).zip(decode).map(|(l, d)| l / d);
                if let Some(value) = ratio.and_then(|y| Value::new(y, None, true, true)) {
                    limits.insert(limit, value);
                }
            }
        }
        if rows.is_empty() {
            return;
        }
        rows.sort_by(|a, b| a.value.y.total_cmp(&b.value.y));
        for (limit, value) in limits {
            let note = format!("{limit}: {} times the decode limit", tables::number(value.y));
            rows.push(Range { name: format!("({limit})"), value, is_limit: true, note });
        }
        let x = Scale { label: "times the decode limit".to_owned(), is_log: true, ticks: Vec::new() };
        let body = Body::Ranges(Ranges { x, rows, is_bars: true, percent: None });
        let title = "Distance to the decode limit";
        self.push(title, &place(&head, None), body, left_out);
        let unit = "times the decode limit".to_owned();
        if let Some((body, left_out)) = matrix(&points, &[Coordinate::Size], unit) {
            self.push("The same by footprint", &place(&head, Some(Coordinate::Size)), body, left_out);
        }
        self.figures.extend(overview(self.results, &head, &self.question.id, self.figures.len() + 1));
    }
}

/// Every design on every workload that was measured with 512 pages a call, undisturbed.
fn overview(results: &Results, head: &CellId, question: &str, number: usize) -> Option<Figure> {
    let is_shown = |c: &CellId| {
        c.get(Coordinate::Request) == "snapshot"
            && c.get(Coordinate::CallPages) == "512"
            && c.get(Coordinate::Churn) == workloads::churn::NO_CHURN
            && c.get(Coordinate::Walkers) == "1"
            && walker::backends::find(c.get(Coordinate::Backend))
                .is_none_or(|b| b.kind != BackendKind::Control)
    };
    // The headline's size where a workload has it, so that rows are of one size as far as they can be and a run of more
    // sizes shows the same; else its smallest, which a cache holds.
    let size = |c: &CellId| workloads::definition::parse_size(c.get(Coordinate::Size)).unwrap_or(u64::MAX);
    let preferred = size(head);
    let rank = |bytes: u64| (bytes != preferred, bytes);
    let mut chosen: BTreeMap<&str, u64> = BTreeMap::new();
    for cell in results.cells.keys().filter(|c| is_shown(c)) {
        let at = chosen.entry(cell.get(Coordinate::Workload)).or_insert(u64::MAX);
        *at = std::cmp::min_by_key(*at, size(cell), |bytes| rank(*bytes));
    }
    let of = |(cell, facts): (&CellId, &crate::results::CellFacts)| {
        let value = measured(facts.x_decode, facts.nr_launches)?;
        Some((cell.clone(), value.y, plain(&cell.to_string())))
    };
    let is_chosen = |c: &CellId| chosen.get(c.get(Coordinate::Workload)) == Some(&size(c));
    let cells = results.cells.iter().filter(|(c, _)| is_shown(c) && is_chosen(c));
    let points: Vec<_> = cells.filter_map(of).collect();
    let (body, left_out) = matrix(&points, &[Coordinate::Workload], "times the decode limit".to_owned())?;
    let Body::Grid(grid) = body else { return None };
    (grid.rows.len() > 1).then(|| Figure {
        id: format!("{question}-{number}"),
        title: "Every design on every shape".to_owned(),
        place: format!(
            "snapshot, 512 pages a call, {}, or the smallest size of what has no such",
            plain(head.get(Coordinate::Size))
        ),
        body: Body::Grid(grid),
        left_out,
    })
}

/// Designs in columns, the coordinates of `of` in rows; none with fewer than two fields.
fn matrix(points: &[(CellId, f64, String)], of: &[Coordinate], unit: String) -> Option<(Body, Vec<String>)> {
    let named = names(points.iter().map(|(c, ..)| c), of);
    let mut rows: Vec<(Option<u64>, String)> = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for (cell, ..) in points {
        let size = workloads::definition::parse_size(cell.get(Coordinate::Size));
        let row = (size.filter(|_| of.contains(&Coordinate::Size)), named[cell].clone());
        if !rows.contains(&row) {
            rows.push(row);
        }
        let backend = cell.get(Coordinate::Backend).to_owned();
        if !columns.contains(&backend) {
            columns.push(backend);
        }
    }
    rows.sort_by_cached_key(|(size, name)| (*size, order::natural(name)));
    columns.sort_by_key(|b| (registry_order(b), b.clone()));
    let (mut fields, mut left_out) = (Vec::new(), Vec::new());
    for (cell, value, note) in points {
        if !value.is_finite() {
            left_out.push(format!("{note}: {value}"));
            continue;
        }
        fields.push(Field {
            column: columns.iter().position(|c| c == cell.get(Coordinate::Backend))?,
            row: rows.iter().position(|(_, name)| *name == named[cell])?,
            text: tables::number(*value),
            value: Some(*value),
            name: None,
            is_hatched: false,
            note: note.clone(),
        });
    }
    let is_log = fields.iter().all(|f| f.value.is_some_and(|v| v > 0.0));
    let grid = Grid {
        is_log,
        x: "design".to_owned(),
        y: of.iter().rev().map(|c| c.name()).collect::<Vec<_>>().join(", "),
        columns: columns.iter().map(|c| plain(c)).collect(),
        rows: rows.into_iter().map(|(_, name)| name).collect(),
        fields,
        unit: Some(unit),
    };
    (grid.fields.len() > 1).then_some((Body::Grid(grid), left_out))
}
