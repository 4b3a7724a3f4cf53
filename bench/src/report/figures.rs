//! From a question, its answer and the results to figures: pure.
//!
//! The question's kind of chart comes first; then a curve for each comparison along an axis, with the level at which it
//! flips; last all comparisons at their own places, each with its interval.

mod churned;
mod cost;
mod grid;
mod map;
mod stages;

use std::collections::BTreeMap;

use super::figure::{Body, Curves, Figure, Mark, Range, Ranges, Scale, Series, Value, plain};
use crate::questions::answer::{Answer, Effect, Finding, Point, Verdict};
use crate::questions::{Axis, CellId, Chart, Compare, Coordinate, Kind, Question};
use crate::results::{CellFacts, Results, Span};
use crate::stats::LEAST_LAUNCHES;

/// Everything that figures of a question are made from.
struct Maker<'a> {
    question: &'a Question,
    answer: &'a Answer,
    results: &'a Results,
    figures: Vec<Figure>,
}

/// All figures of a question, those that have something to show.
pub(crate) fn figures(question: &Question, answer: &Answer, results: &Results) -> Vec<Figure> {
    let mut maker = Maker { question, answer, results, figures: Vec::new() };
    match question.chart {
        Chart::CallSize => maker.costs(),
        Chart::Stages => maker.stages(),
        Chart::BreakEven => {}
        Chart::Percentiles => {
            maker.percentiles();
            maker.doses();
        }
        Chart::Dose => maker.doses(),
        Chart::DecisionMap => maker.decision_maps(),
        Chart::Limits => maker.limits(),
        Chart::HeatMap => maker.heat_maps(),
    }
    for (compare, finding) in question.compares.iter().zip(&answer.findings) {
        maker.ratios(compare, finding);
    }
    maker.overview();
    maker.figures
}

impl Maker<'_> {
    fn push(&mut self, title: &str, place: &str, body: Body, left_out: Vec<String>) {
        self.figures.push(Figure {
            id: format!("{}-{}", self.question.id, self.figures.len() + 1),
            title: crate::tables::capital(&plain(title)),
            place: plain(place),
            body,
            left_out,
        });
    }
    /// Where the answer comes from.
    fn headline(&self) -> Option<CellId> {
        self.answer.findings.iter().find_map(|f| CellId::parse(&f.headline.as_ref()?.a))
    }
    /// The cells of the question that share these coordinates with `head`, in the order of requests and the registry.
    fn cells_like(&self, head: &CellId, shared: &[Coordinate]) -> Vec<(&CellId, &CellFacts)> {
        let is_like = |c: &CellId| shared.iter().all(|s| c.get(*s) == head.get(*s));
        let all = self.results.cells.iter();
        let mut cells: Vec<_> = all.filter(|(c, _)| is_like(c) && self.question.wants(c)).collect();
        cells.sort_by_cached_key(|(c, _)| {
            let backend = c.get(Coordinate::Backend);
            let place = [Coordinate::Workload, Coordinate::Request].map(|at| c.get(at).to_owned());
            (place, crate::questions::registry_order(backend), backend.to_owned())
        });
        cells
    }
    /// A comparison along its axis.
    fn ratios(&mut self, compare: &Compare, finding: &Finding) {
        let (Some(axis), Some(head)) = (&compare.axis, &finding.headline) else { return };
        let mut left_out = Vec::new();
        let mut points = Vec::new();
        for p in &finding.points {
            let (Some(x), value) = (p.x, effect(&p.effect)) else { continue };
            match value {
                Some(value) => points.push(Mark { x, value, note: said(p) }),
                None => left_out.push(format!("{}: a ratio of {}", plain(&p.a), p.effect.ratio)),
            }
        }
        if points.len() < 2 {
            return;
        }
        let x = scale(axis_label(axis), points.iter().map(|p| (p.x, short(axis, p.x))));
        let y = Scale { label: "ratio a / b".to_owned(), is_log: true, ticks: Vec::new() };
        let level = if compare.level == 1.0 { "equal".to_owned() } else { format!("x {}", compare.level) };
        let series = vec![Series { name: plain(&compare.metric.to_string()), is_limit: false, points }];
        let flips = finding.break_even.as_ref().map(|b| (b.from, b.to));
        let level = Some((compare.level, level));
        let place = CellId::parse(&head.a).map(|a| place(&a, Some(axis.of))).unwrap_or_default();
        let sides = [&compare.a_is, &compare.b_is].map(|s| s.trim_end_matches(','));
        let place = format!("a: {}; b: {}; {place}", sides[0], sides[1]);
        let body = Body::Curves(Curves { x, y, series, level, flips });
        self.push(&compare.title, &place, body, left_out);
    }
    /// All comparisons at their own places.
    fn overview(&mut self) {
        let (mut rows, mut left_out) = (Vec::new(), Vec::new());
        for (i, finding) in self.answer.findings.iter().enumerate() {
            // A count for itself has no sides; what stands beside the kernel has no comparison of cells.
            let is_value = self.question.compares.get(i).is_some_and(|c| c.kind == Kind::Value);
            let Some(head) = finding.headline.as_ref().filter(|_| !is_value) else {
                continue;
            };
            match effect(&head.effect) {
                Some(value) => rows.push(Range {
                    name: plain(&finding.title),
                    value,
                    is_limit: false,
                    note: plain(&finding.sentence),
                }),
                None => left_out.push(format!("{}: a ratio of {}", plain(&finding.title), head.effect.ratio)),
            }
        }
        if rows.is_empty() {
            return;
        }
        let x = Scale { label: "ratio of the two sides".to_owned(), is_log: true, ticks: Vec::new() };
        let body = Body::Ranges(Ranges { x, rows, is_bars: false, percent: Some(self.question.percent) });
        let place = if self.question.besides.is_empty() { "" } else { "the kernel / the model" };
        self.push("Every comparison at its own place", place, body, left_out);
    }
}

/// A ratio that can be drawn.
fn effect(e: &Effect) -> Option<Value> {
    Value::new(e.ratio, e.lo.zip(e.hi), e.is_claim(), true)
}

/// A measured figure that can be drawn on a logarithmic scale.
fn measured(span: Option<Span>, nr_launches: u64) -> Option<Value> {
    let span = span?;
    Value::new(span.median?, span.lo.zip(span.hi), nr_launches >= LEAST_LAUNCHES as u64, true)
}

/// What is said of one point.
fn said(p: &Point) -> String {
    let verdict = match p.verdict {
        Verdict::Differs => "differs",
        Verdict::Same => "no difference that counts",
        Verdict::Unresolved => "not resolved",
        Verdict::NotMeasured => "not measured",
    };
    let against = p.b.as_ref().map(|b| format!(" against {b}")).unwrap_or_default();
    plain(&format!("{}{against}: {verdict}", p.a))
}

/// A horizontal axis with a tick at each place that was measured; logarithmic where the places are.
fn scale(label: String, places: impl Iterator<Item = (f64, String)>) -> Scale {
    let mut ticks: Vec<(f64, String)> = places.filter(|(x, _)| x.is_finite()).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks.dedup_by(|a, b| a.0 == b.0);
    let ends = ticks.first().zip(ticks.last()).map_or((0.0, 0.0), |(a, b)| (a.0, b.0));
    Scale { label, is_log: ends.0 > 0.0 && ends.1 / ends.0 >= 8.0, ticks }
}

fn axis_label(axis: &Axis) -> String {
    match axis.of {
        Coordinate::Size => "walked address space".to_owned(),
        Coordinate::CallPages => "pages a call".to_owned(),
        _ => plain(&axis.unit),
    }
}

/// A place on an axis whose label has the unit.
fn short(axis: &Axis, x: f64) -> String {
    if axis.of == Coordinate::Size { axis.name(x) } else { count(x) }
}

/// `512`, `8K`, `512K`: call sizes and events.
fn count(x: f64) -> String {
    match x {
        x if x >= 1048576.0 && x % 1048576.0 == 0.0 => format!("{}M", x / 1048576.0),
        x if x >= 1024.0 && x % 1024.0 == 0.0 => format!("{}K", x / 1024.0),
        x if x >= 1e6 && x % 1e5 == 0.0 => format!("{}M", x / 1e6),
        x if x >= 1e4 && x % 1e3 == 0.0 => format!("{}k", x / 1e3),
        x => format!("{x}"),
    }
}

/// A cell in words, but for its backend and for the coordinates that are axes.
fn place(cell: &CellId, axes: impl IntoIterator<Item = Coordinate>) -> String {
    let axes: Vec<Coordinate> = axes.into_iter().collect();
    let is_shown = |c| !axes.contains(&c);
    let mut parts = Vec::new();
    let mut shape = String::new();
    if is_shown(Coordinate::Workload) {
        shape += cell.get(Coordinate::Workload);
    }
    if is_shown(Coordinate::Size) {
        shape = format!("{shape}@{}", cell.get(Coordinate::Size));
    }
    parts.push(shape.trim_start_matches('@').to_owned());
    if is_shown(Coordinate::Request) {
        parts.push(cell.get(Coordinate::Request).to_owned());
    }
    if is_shown(Coordinate::CallPages) {
        parts.push(format!("{} pages a call", cell.get(Coordinate::CallPages)));
    }
    let churn = cell.get(Coordinate::Churn);
    if is_shown(Coordinate::Churn) && churn != workloads::churn::NO_CHURN {
        parts.push(format!("churn {churn}"));
    }
    parts.retain(|p| !p.is_empty());
    parts.join(", ")
}

/// Names of cells by what tells them apart: the coordinates of `of` that differ among them.
fn names<'a>(cells: impl Iterator<Item = &'a CellId> + Clone, of: &[Coordinate]) -> BTreeMap<CellId, String> {
    let differs = |c: Coordinate| {
        let mut values = cells.clone().map(|cell| cell.get(c));
        let first = values.next();
        values.any(|v| Some(v) != first)
    };
    let mut told: Vec<Coordinate> = of.iter().copied().filter(|c| differs(*c)).collect();
    if told.is_empty() {
        told = of.last().copied().into_iter().collect();
    }
    let name = |cell: &CellId| plain(&told.iter().rev().map(|c| cell.get(*c)).collect::<Vec<_>>().join(", "));
    cells.clone().map(|cell| (cell.clone(), name(cell))).collect()
}
