//! Maps of the cheapest design over two axes, and what every design costs at each of their places.

use super::{Maker, place};
use crate::questions::answer::Finding;
use crate::questions::{CellId, Map, MapPlace, registry_order};
use crate::report::figure::{Body, Field, Grid, plain};
use crate::tables;

impl Maker<'_> {
    /// Every map of the question that has places.
    pub(super) fn decision_maps(&mut self) {
        for map in &self.question.maps {
            let Some(finding) = self.answer.findings.iter().find(|f| f.title == map.by) else { continue };
            let places = map.places(finding);
            if places.is_empty() {
                continue;
            }
            let at = where_of(map, finding);
            let title = "The cheapest call; hatched where others may be as cheap";
            self.push(title, &at, Body::Grid(cheapest(map, &places, self.question.percent)), Vec::new());
            let title = "What the others cost there, in units of the cheapest";
            self.push(title, &at, Body::Grid(behind(map, &places)), Vec::new());
        }
    }
}

/// What all places of a map share.
fn where_of(map: &Map, finding: &Finding) -> String {
    let Some(head) = finding.headline.as_ref().and_then(|p| CellId::parse(&p.a)) else {
        return String::new();
    };
    place(&head, [map.x.of, map.y.of])
}

/// The different values of an axis, ascending.
fn steps(places: &[MapPlace<'_>], of: fn(&MapPlace<'_>) -> f64) -> Vec<f64> {
    let mut steps: Vec<f64> = places.iter().map(of).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    steps
}

/// `+46 %`, or `x 2.3` from twice as much on.
fn more(ratio: f64) -> String {
    if ratio < 2.0 {
        format!("+{} %", tables::number(100.0 * (ratio - 1.0)))
    } else {
        format!("x {}", tables::number(ratio))
    }
}

fn cheapest(map: &Map, places: &[MapPlace<'_>], percent: f64) -> Grid {
    let columns = steps(places, |p| p.x);
    let mut rows = steps(places, |p| p.y);
    rows.reverse();
    let fields = places.iter().filter_map(|p| {
        let [first, second, ..] = &p.ranking.order[..] else { return None };
        let rivals = p.rivals(percent);
        let (says, note) = match rivals[..] {
            [] => (
                format!("next {}", more(second.behind.ratio)),
                format!("{} takes {} times as much", second.backend, tables::number(second.behind.ratio)),
            ),
            [one] => (format!("or {one}"), format!("{one} is not told from it")),
            [..] => {
                (format!("or {} others", rivals.len()), format!("{} are not told from it", rivals.join(", ")))
            }
        };
        Some(Field {
            column: columns.iter().position(|x| *x == p.x)?,
            row: rows.iter().position(|y| *y == p.y)?,
            text: format!("{}\n{}", plain(&first.backend), plain(&says)),
            value: None,
            name: Some(plain(&first.backend)),
            is_hatched: !rivals.is_empty(),
            note: plain(&format!("{}, {} ns a page; {note}", p.ranking.group, tables::number(first.value))),
        })
    });
    Grid {
        x: plain(&map.x.unit),
        y: plain(&map.y.unit),
        fields: fields.collect(),
        columns: columns.iter().map(|x| format!("{x}")).collect(),
        rows: rows.iter().map(|y| format!("{y}")).collect(),
        unit: None,
        is_log: false,
    }
}

fn behind(map: &Map, places: &[MapPlace<'_>]) -> Grid {
    let mut designs: Vec<&str> =
        places.iter().flat_map(|p| &p.ranking.order).map(|o| o.backend.as_str()).collect();
    designs.sort_by_key(|d| (registry_order(d), *d));
    designs.dedup();
    let mut fields = Vec::new();
    // From top to bottom as on the map, row by row.
    let mut places: Vec<&MapPlace<'_>> = places.iter().collect();
    places.sort_by(|a, b| b.y.total_cmp(&a.y).then(a.x.total_cmp(&b.x)));
    for (row, p) in places.iter().enumerate() {
        for o in p.ranking.order.iter().filter(|o| o.behind.ratio.is_finite() && o.behind.ratio > 0.0) {
            let ends = o.behind.lo.zip(o.behind.hi);
            let ends = ends.map(|(lo, hi)| format!(" [{}..{}]", tables::number(lo), tables::number(hi)));
            let ratio = tables::number(o.behind.ratio);
            fields.push(Field {
                column: designs.iter().position(|d| *d == o.backend).unwrap_or(0),
                row,
                text: ratio.clone(),
                value: Some(o.behind.ratio),
                name: None,
                is_hatched: false,
                note: plain(&format!(
                    "{ratio}{} times the cheapest, {} ns a page, {}/{}",
                    ends.unwrap_or_default(),
                    tables::number(o.value),
                    p.ranking.group,
                    o.backend
                )),
            });
        }
    }
    Grid {
        x: "call".to_owned(),
        y: "place".to_owned(),
        columns: designs.into_iter().map(plain).collect(),
        rows: places.iter().map(|p| format!("{}, {}", map.x.name(p.x), map.y.name(p.y))).collect(),
        fields,
        unit: Some("times the cheapest".to_owned()),
        is_log: true,
    }
}
