//! The cheapest of many over two shares at once: which places of a ranking lie on the map, and who leads there.

use super::answer::{Finding, Point, Ranking, Verdict};
use super::{Axis, CellId, Coordinate};

/// A ranking over two axes.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    /// The title of the comparison that ranks.
    pub(crate) by: String,
    /// From left to right.
    pub(crate) x: Axis,
    /// From bottom to top.
    pub(crate) y: Axis,
}

/// One place of a map.
#[derive(Clone, Debug)]
pub(crate) struct MapPlace<'a> {
    /// On the map's first axis.
    pub(crate) x: f64,
    /// On its second.
    pub(crate) y: f64,
    /// All designs, the cheapest first.
    pub(crate) ranking: &'a Ranking,
    /// The second against the first, with the verdict over all pairs.
    pub(crate) point: &'a Point,
}

impl Map {
    /// The places of `finding` that differ from its headline along the axes only; from the bottom left on, row by row.
    /// None unless there are two rows and two columns: less is no map.
    pub(crate) fn places<'a>(&self, finding: &'a Finding) -> Vec<MapPlace<'a>> {
        let Some(head) = finding.headline.as_ref().and_then(|p| CellId::parse(&p.a)) else {
            return Vec::new();
        };
        let is_fixed = |c: &Coordinate| ![Coordinate::Backend, self.x.of, self.y.of].contains(c);
        let place = |(ranking, point): (&'a Ranking, &'a Point)| {
            let cell = CellId::parse(&point.a)?;
            let is_here =
                Coordinate::ALL.iter().filter(|c| is_fixed(c)).all(|c| cell.get(*c) == head.get(*c));
            let (x, y) = (self.x.at(&cell)?, self.y.at(&cell)?);
            is_here.then_some(MapPlace { x, y, ranking, point })
        };
        let mut places: Vec<MapPlace<'a>> =
            finding.rankings.iter().zip(&finding.points).filter_map(place).collect();
        places.sort_by(|a, b| (a.y, a.x).partial_cmp(&(b.y, b.x)).unwrap_or(std::cmp::Ordering::Equal));
        let is_map = |of: fn(&MapPlace<'a>) -> f64| places.iter().any(|p| of(p) != of(&places[0]));
        if is_map(|p| p.x) && is_map(|p| p.y) { places } else { Vec::new() }
    }
}

impl MapPlace<'_> {
    /// Those that may be the cheapest as well as the first: whose distance to it is not resolved or does not count. The
    /// second is one of them wherever its own distance does not hold among all pairs.
    pub(crate) fn rivals(&self, percent: f64) -> Vec<&str> {
        let is_rival = |(i, place): &(usize, &super::answer::Place)| {
            (*i == 1 && self.point.verdict != Verdict::Differs)
                || place.behind.verdict(percent) != Verdict::Differs
        };
        let behind = self.ranking.order.iter().enumerate().skip(1);
        behind.filter(is_rival).map(|(_, p)| p.backend.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::questions::{answer, questions};
    use crate::results::testing::Made;

    const CALLS: [&str; 3] = ["sticky_flags", "map_order_step", "sparse_list"];

    fn cells(ns: impl Fn(&str, &str, &str) -> f64) -> Vec<(String, f64)> {
        let mut cells = Vec::new();
        for huge in ["50", "95"] {
            for absent in ["0", "5"] {
                for call in CALLS {
                    let id =
                        format!("huge_{huge}pct_absent_{absent}pct@320MiB/fault_write/512/none/1/{call}");
                    cells.push((id, ns(huge, absent, call)));
                }
            }
        }
        cells
    }

    #[test]
    fn a_map_names_who_leads_at_each_place_and_who_may_lead_as_well() {
        let cells = cells(|huge, absent, call| match (huge, absent, call) {
            ("95", "0", "sparse_list") => 1.0,
            ("95", "0", _) => 1.5,
            ("50", "0", "map_order_step") => 1.0,
            ("50", "0", "sticky_flags") => 2.0,
            ("50", "0", _) => 1.2,
            (_, _, "sticky_flags") => 9.5,
            _ => 9.0,
        });
        let cells: Vec<(&str, f64)> = cells.iter().map(|(id, ns)| (id.as_str(), *ns)).collect();
        let question = questions().iter().find(|q| q.id == "sizes").unwrap();
        let places = |made: &Made| -> Vec<(f64, f64, String, usize)> {
            let answer = answer::answer(question, &made.results());
            let map = &question.maps[0];
            let finding = answer.findings.iter().find(|f| f.title == map.by).unwrap();
            let rivals = map
                .places(finding)
                .into_iter()
                .map(|p| (p.x, p.y, p.ranking.order[0].backend.clone(), p.rivals(question.percent).len()));
            rivals.collect()
        };
        let all = places(&Made::new(&cells));
        let at: Vec<(f64, f64)> = all.iter().map(|p| (p.0, p.1)).collect();
        assert_eq!(at, [(50.0, 0.0), (95.0, 0.0), (50.0, 5.0), (95.0, 5.0)]);
        assert_eq!((all[0].2.as_str(), all[0].3), ("map_order_step", 0));
        assert_eq!((all[1].2.as_str(), all[1].3), ("sparse_list", 0));
        // Both sized calls are the same there, and the third is surely behind.
        assert_eq!(all[2].3, 1, "{all:?}");
        // Under noise nobody leads, and nobody is out of the race.
        let noisy = Made { launch_percent: 40.0, seed: 5, ..Made::new(&cells) };
        assert!(places(&noisy).iter().any(|p| p.3 == 2));
        // Without a second row there is no map.
        let row: Vec<(&str, f64)> =
            cells.iter().copied().filter(|(id, _)| id.contains("absent_5pct")).collect();
        assert!(places(&Made::new(&row)).is_empty());
    }
}
