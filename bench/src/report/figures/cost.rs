//! Cost a page against call size or footprint.

use std::collections::BTreeMap;

use super::{Maker, count, measured, names, place, scale};
use crate::questions::{CellId, Coordinate};
use crate::report::figure::{Body, Curves, Mark, Scale, Series, Value};

impl Maker<'_> {
    /// The designs and requests of the question at the headline's place, with the decode limit beneath.
    pub(super) fn costs(&mut self) {
        let Some(head) = self.headline() else { return };
        let along = self.question.compares.iter().find_map(|c| c.axis.as_ref()).map(|a| a.of);
        let axis = along.filter(|c| *c == Coordinate::Size).unwrap_or(Coordinate::CallPages);
        let other = if axis == Coordinate::Size { Coordinate::CallPages } else { Coordinate::Size };
        let shared = [Coordinate::Workload, other, Coordinate::Churn, Coordinate::Walkers];
        let cells = self.cells_like(&head, &shared);
        let at = |c: &CellId| -> Option<(f64, String)> {
            let word = c.get(axis);
            if axis == Coordinate::Size {
                Some((workloads::definition::parse_size(word)? as f64, word.to_owned()))
            } else {
                word.parse().ok().map(|x| (x, count(x)))
            }
        };
        let named = names(cells.iter().map(|(c, _)| *c), &[Coordinate::Request, Coordinate::Backend]);
        let mut series: Vec<Series> = Vec::new();
        let mut limit: BTreeMap<u64, Mark> = BTreeMap::new();
        let mut left_out = Vec::new();
        for (cell, facts) in &cells {
            let Some((x, _)) = at(cell) else { continue };
            let Some(value) = measured(facts.ns_per_page, facts.nr_launches) else {
                let why = facts.error.as_deref().unwrap_or("no figure");
                left_out.push(super::plain(&format!("{cell}: {why}")));
                continue;
            };
            let name = &named[*cell];
            let mark = Mark { x, value, note: super::plain(&cell.to_string()) };
            match series.iter_mut().find(|s| s.name == *name) {
                Some(s) => s.points.push(mark),
                None => series.push(Series { name: name.clone(), is_limit: false, points: vec![mark] }),
            }
            if let Some(value) = facts.limit_ns("decode").and_then(|y| Value::new(y, None, true, true)) {
                let note = "the barest loop that loads, tests, builds a slot and stores it".to_owned();
                limit.insert(x as u64, Mark { x, value, note });
            }
        }
        if series.is_empty() {
            return;
        }
        let ticks = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect::<Vec<_>>();
        let name = |x: f64| {
            if axis == Coordinate::Size { workloads::definition::size_name(x as u64) } else { count(x) }
        };
        let label = if axis == Coordinate::Size { "walked address space" } else { "pages a call" };
        let x = scale(label.to_owned(), ticks.into_iter().map(|x| (x, name(x))));
        for s in &mut series {
            s.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        }
        if !limit.is_empty() {
            let points = limit.into_values().collect();
            series.push(Series { name: "decode limit".to_owned(), is_limit: true, points });
        }
        let requests: Vec<&str> = cells.iter().map(|(c, _)| c.get(Coordinate::Request)).collect();
        let several = requests.iter().any(|r| *r != requests[0]);
        let place = if several {
            place(&head, Some(axis)).replace(&format!(", {}", head.get(Coordinate::Request)), "")
        } else {
            place(&head, Some(axis))
        };
        let y = Scale { label: "ns a page".to_owned(), is_log: true, ticks: Vec::new() };
        let title = if axis == Coordinate::Size {
            "Cost of a page by footprint"
        } else {
            "Cost of a page by call size"
        };
        let body = Body::Curves(Curves { x, y, series, level: None, flips: None });
        self.push(title, &place, body, left_out);
    }
}
