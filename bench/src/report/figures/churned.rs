//! Tails, throughput and waste where others invalidate.

use std::collections::BTreeMap;

use super::{Maker, count, names, place, scale};
use crate::questions::{CellId, Coordinate};
use crate::report::figure::{Body, Curves, Mark, Scale, Series, Value, plain};
use crate::stats::{Basis, estimate};

/// Of a million, and its name.
const QUANTILES: [(u64, &str); 7] = [
    (100_000, "10 %"),
    (500_000, "50 %"),
    (750_000, "75 %"),
    (900_000, "90 %"),
    (990_000, "99 %"),
    (999_000, "99.9 %"),
    (999_900, "99.99 %"),
];

impl Maker<'_> {
    /// Curves of percentiles of single operations, for both sides of every comparison at its headline.
    pub(super) fn percentiles(&mut self) {
        let Some(head) = self.headline() else { return };
        let mut cells: Vec<CellId> = Vec::new();
        for point in self.answer.findings.iter().filter_map(|f| f.headline.as_ref()) {
            for id in
                [Some(&point.a), point.b.as_ref()].into_iter().flatten().filter_map(|id| CellId::parse(id))
            {
                if !cells.contains(&id) && id.get(Coordinate::Churn) == head.get(Coordinate::Churn) {
                    cells.push(id);
                }
            }
        }
        let named = names(cells.iter(), &[Coordinate::Backend, Coordinate::Request, Coordinate::Workload]);
        let (mut series, mut left_out) = (Vec::new(), Vec::new());
        for cell in &cells {
            let points: Vec<Mark> = QUANTILES
                .iter()
                .filter_map(|(ppm, name)| {
                    let logs = self.results.log_quantiles(cell, *ppm);
                    let e = estimate(&logs)?;
                    let is_sure = e.basis == Basis::OrderStatistics;
                    let value = Value::new(e.value, e.lo.zip(e.hi), is_sure, true)?;
                    let note = plain(&format!("{cell}: {name} took no longer, over {} launches", e.launches));
                    Some(Mark { x: rarity(*ppm), value, note })
                })
                .collect();
            if points.is_empty() {
                left_out.push(plain(&format!("{cell}: too few single operations were timed")));
            } else {
                series.push(Series { name: named[cell].clone(), is_limit: false, points });
            }
        }
        if series.is_empty() {
            return;
        }
        // As in the figures that follow, so that a policy keeps its colour.
        series.sort_by(|a: &Series, b| a.name.cmp(&b.name));
        let is_there = |x: f64| series.iter().flat_map(|s: &Series| &s.points).any(|p| p.x == x);
        let ticks = QUANTILES.iter().map(|(ppm, name)| (rarity(*ppm), (*name).to_owned()));
        let x = Scale {
            label: "of all operations took no longer".to_owned(),
            is_log: true,
            ticks: ticks.filter(|(x, _)| is_there(*x)).collect(),
        };
        let y = Scale { label: "ns until the mirror is valid".to_owned(), is_log: true, ticks: Vec::new() };
        let place = place(&head, Some(Coordinate::Workload));
        let body = Body::Curves(Curves { x, y, series, level: None, flips: None });
        self.push("Time to a valid mirror", &place, body, left_out);
    }
    /// What the walk achieves and what it wastes, against the events that happened meanwhile.
    pub(super) fn doses(&mut self) {
        let Some(head) = self.headline() else { return };
        let shared = [
            Coordinate::Size,
            Coordinate::Request,
            Coordinate::CallPages,
            Coordinate::Walkers,
            Coordinate::Backend,
        ];
        let mut pages: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
        let mut waste: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
        let mut quiet = None;
        let mut left_out = Vec::new();
        for (cell, facts) in self.cells_like(&head, &shared) {
            let workload = cell.get(Coordinate::Workload);
            let value = super::measured(facts.ns_per_page, facts.nr_launches);
            let inverse =
                |v: Value| Value { y: 1e9 / v.y, lo: v.hi.map(|x| 1e9 / x), hi: v.lo.map(|x| 1e9 / x), ..v };
            let Some(churned) = facts.churned else {
                // Nothing invalidates: the height that curves start from.
                if workload == head.get(Coordinate::Workload) {
                    quiet = value.map(|v| 1e9 / v.y);
                }
                continue;
            };
            let dose = churned.events_per_s.filter(|x| x.is_finite() && *x > 0.0);
            let Some(((x, value), vain)) = dose.zip(value).zip(churned.vain_per_page) else {
                let why = facts.error.as_deref().unwrap_or("no event happened, or nothing was walked");
                left_out.push(plain(&format!("{cell}: {why}")));
                continue;
            };
            let note = plain(&format!("{cell}: {} operations, {} given up", churned.tried, churned.given_up));
            pages.entry(plain(workload)).or_default().push(Mark {
                x,
                value: inverse(value),
                note: note.clone(),
            });
            if let Some(value) = Value::new(vain, None, value.is_sure, false) {
                waste.entry(plain(workload)).or_default().push(Mark { x, value, note });
            }
        }
        if pages.values().all(|p| p.len() < 2) {
            return;
        }
        let place = place(&head, Some(Coordinate::Churn))
            .replace(&format!("{}@", head.get(Coordinate::Workload)), "");
        let quiet = quiet.filter(|y| y.is_finite()).map(|y| (y, "quiet".to_owned()));
        let all = [
            ("Pages mirrored a second, by dose", "pages a second", true, pages, quiet, left_out),
            (
                "Pages walked in vain for each that was wanted, by dose",
                "pages in vain a page",
                false,
                waste,
                None,
                Vec::new(),
            ),
        ];
        for (title, label, is_log, curves, level, left_out) in all {
            let series: Vec<Series> = curves
                .into_iter()
                .map(|(name, mut points)| {
                    points.sort_by(|a, b| a.x.total_cmp(&b.x));
                    Series { name, is_limit: false, points }
                })
                .collect();
            let ends = series.iter().flat_map(|s| &s.points).map(|p| p.x);
            let mut x = scale("events a second that happened".to_owned(), ends.map(|x| (x, count(x))));
            // Doses that were achieved are no round numbers: the axis names itself.
            x.ticks.clear();
            let y = Scale { label: label.to_owned(), is_log, ticks: Vec::new() };
            let body = Body::Curves(Curves { x, y, series, level, flips: None });
            self.push(title, &place, body, left_out);
        }
    }
}

/// One operation of so many takes longer: where a percentile lies on the axis.
fn rarity(ppm: u64) -> f64 {
    1e6 / (1_000_000 - ppm) as f64
}
