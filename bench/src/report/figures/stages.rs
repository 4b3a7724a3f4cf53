//! Where the time of an operation goes.

use super::{Maker, measured};
use crate::questions::{CellId, Coordinate};
use crate::report::figure::{Bar, Body, Panel, STAGES, Stages, plain};

/// Panels of one figure at most: more would be a table.
const PANELS: usize = 6;

impl Maker<'_> {
    /// Stacked bars for each shape and request at the headline's size.
    pub(super) fn stages(&mut self) {
        let Some(head) = self.headline() else { return };
        let shared = [Coordinate::Size, Coordinate::CallPages, Coordinate::Churn, Coordinate::Walkers];
        let cells = self.cells_like(&head, &shared);
        let mut panels: Vec<Panel> = Vec::new();
        let mut left_out = Vec::new();
        // The headline's panel first.
        let title =
            |c: &CellId| plain(&format!("{}, {}", c.get(Coordinate::Workload), c.get(Coordinate::Request)));
        let first = title(&head);
        for (cell, facts) in cells {
            let parts = STAGES.map(|s| facts.stage_ns(s).unwrap_or(0.0));
            let whole = measured(facts.ns_per_page, facts.nr_launches);
            let is_drawable =
                parts.iter().all(|p| p.is_finite() && *p >= 0.0) && parts.iter().sum::<f64>() > 0.0;
            if !is_drawable {
                let why = facts.error.as_deref().unwrap_or("no stages");
                left_out.push(plain(&format!("{cell}: {why}")));
                continue;
            }
            let limit = facts.limit_ns("decode").filter(|x| x.is_finite() && *x > 0.0);
            let bar = Bar { name: plain(cell.get(Coordinate::Backend)), parts, whole };
            let title = title(cell);
            match panels.iter_mut().find(|p| p.title == title) {
                Some(p) => p.bars.push(bar),
                None => panels.push(Panel { title, bars: vec![bar], limit }),
            }
        }
        panels.sort_by_key(|p| p.title != first);
        for p in panels.drain(PANELS.min(panels.len())..) {
            left_out.push(format!("{}: is in the table of cells", p.title));
        }
        if panels.is_empty() {
            return;
        }
        let place =
            format!("{}, {} pages a call", head.get(Coordinate::Size), head.get(Coordinate::CallPages));
        let body = Body::Stages(Stages { unit: "ns a page".to_owned(), panels });
        self.push("Where the time goes", &place, body, left_out);
    }
}
