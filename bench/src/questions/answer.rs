//! From results to answers: a pure function.
//!
//! | verdict | when |
//! |---|---|
//! | differs | the whole interval over launches lies beyond the question's per cent, on one side |
//! | same | the interval lies within those per cent on both sides |
//! | unresolved | neither, or fewer than six launches; the smallest effect that would have shown is said, or that there is one which may be too small to count |
//! | not measured | the results lack the cells |
//!
//! Where designs compete, which one is best was chosen by looking: it counts as resolved only if its lead over the
//! second survives a test over all pairs together ([`sign_flip_max_t`]) at 5 %.

use std::collections::BTreeMap;

use serde::Serialize;
use walker::counters::Count;

use super::sentence;
use super::{Axis, CellId, Compare, Coordinate, Kind, Metric, Question};
use crate::output;
use crate::results::Results;
use crate::stats::{Alternative, Basis, Estimate, estimate, sign_flip_max_t};

/// A lead counts if so many tests of nothing would show one as large.
pub(super) const ALPHA: f64 = 0.05;

/// What can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// A difference.
    Differs,
    /// No difference that counts.
    Same,
    /// Neither.
    Unresolved,
    /// No figures.
    NotMeasured,
}

/// A ratio: measured over launches, or of exact counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Effect {
    /// Side a in units of side b.
    pub(crate) ratio: f64,
    /// Lower end of the interval.
    pub(crate) lo: Option<f64>,
    /// Upper end.
    pub(crate) hi: Option<f64>,
    /// Launches behind it; 0 for counts, which need one look.
    pub(crate) launches: usize,
    /// How likely the interval holds the truth.
    pub(crate) confidence: f64,
    /// What the interval rests on; none for exact counts.
    pub(crate) basis: Option<Basis>,
    /// See [`Estimate::smallest_percent`].
    pub(crate) smallest_percent: Option<f64>,
}

impl Effect {
    /// From launches.
    pub(crate) fn measured(e: &Estimate) -> Effect {
        Effect {
            ratio: e.value,
            lo: e.lo,
            hi: e.hi,
            launches: e.launches,
            confidence: e.confidence,
            basis: Some(e.basis),
            smallest_percent: e.smallest_percent,
        }
    }
    fn exact(ratio: f64) -> Effect {
        let (lo, hi) = (Some(ratio), Some(ratio));
        Effect { ratio, lo, hi, launches: 0, confidence: 1.0, basis: None, smallest_percent: Some(0.0) }
    }
    /// Whether six launches or a count stand behind it.
    pub(crate) fn is_claim(&self) -> bool {
        matches!(self.basis, None | Some(Basis::OrderStatistics))
    }
    /// -1 or 1 if it is surely below or above `level`, 0 if neither.
    pub(crate) fn side(&self, level: f64) -> i8 {
        match (self.is_claim(), self.lo, self.hi) {
            (true, Some(lo), _) if lo > level => 1,
            (true, _, Some(hi)) if hi < level => -1,
            _ => 0,
        }
    }
    /// What it says where so many per cent count.
    pub(crate) fn verdict(&self, percent: f64) -> Verdict {
        let least = 1.0 + percent / 100.0;
        let (Some(lo), Some(hi), true) = (self.lo, self.hi, self.is_claim()) else {
            return Verdict::Unresolved;
        };
        if lo >= least || hi <= 1.0 / least {
            Verdict::Differs
        } else if lo >= 1.0 / least && hi <= least {
            Verdict::Same
        } else {
            Verdict::Unresolved
        }
    }
}

/// A comparison in one place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    /// Side a.
    pub(crate) a: String,
    /// Side b; none where a figure stands for itself.
    pub(crate) b: Option<String>,
    /// Where on the axis.
    pub(crate) x: Option<f64>,
    /// Side a's figure, in the metric's unit.
    pub(crate) a_value: Option<f64>,
    /// Side b's figure.
    pub(crate) b_value: Option<f64>,
    /// a in units of b.
    pub(crate) effect: Effect,
    /// What that says.
    pub(crate) verdict: Verdict,
    /// What a reader must know of either side.
    pub(crate) marks: Vec<String>,
}

/// All designs in one place, the best first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ranking {
    /// The cells without their backends.
    pub(crate) group: String,
    /// Backend, figure, and how many times the best one's, in that order.
    pub(crate) order: Vec<Place>,
    /// The chance of a lead like the first's over the second if no two designs differed, over all pairs.
    pub(crate) p: Option<f64>,
}

/// One design's place in a ranking.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    /// Who.
    pub(crate) backend: String,
    /// Its figure.
    pub(crate) value: f64,
    /// In units of the first.
    pub(crate) behind: Effect,
}

/// Where a comparison flips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BreakEven {
    /// The coordinate.
    pub(crate) axis: String,
    /// The last place where it surely was on one side.
    pub(crate) from: f64,
    /// The first where it surely was on the other.
    pub(crate) to: f64,
    /// In between, on a line through both on logarithmic scales; none where an end of the axis is 0.
    pub(crate) estimate: Option<f64>,
    /// The ratio at which it flips.
    pub(crate) level: f64,
}

/// One comparison, answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) title: String,
    /// What was compared.
    pub(crate) metric: String,
    /// What is said, in a sentence.
    pub(crate) sentence: String,
    /// Whether it can be said.
    pub(crate) verdict: Verdict,
    /// The place that it is said of.
    pub(crate) headline: Option<Point>,
    /// Everywhere that was measured, by the axis.
    pub(crate) points: Vec<Point>,
    /// Where it flips.
    pub(crate) break_even: Option<BreakEven>,
    /// Where many compete, the order in each place; the headline's first.
    pub(crate) rankings: Vec<Ranking>,
}

/// One question, answered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// The question.
    pub(crate) id: String,
    /// In a line.
    pub(crate) title: String,
    /// In a sentence with figures, spread, processor and command.
    pub(crate) answer: String,
    /// Whether there is a difference that counts.
    pub(crate) resolved: bool,
    /// What can be said.
    pub(crate) verdict: Verdict,
    /// The figure behind it.
    pub(crate) effect: Option<Effect>,
    /// Where it flips.
    pub(crate) break_even: Option<BreakEven>,
    /// The first is the answer's.
    pub(crate) findings: Vec<Finding>,
    /// What the question needs and nobody has made.
    pub(crate) awaiting: Vec<String>,
    /// What gives the figures again.
    pub(crate) command: String,
}

/// Answers one question.
pub(crate) fn answer(question: &Question, results: &Results) -> Answer {
    let findings: Vec<Finding> = question.compares.iter().map(|c| finding(question, c, results)).collect();
    let first = findings.first();
    let verdict = first.map_or(Verdict::NotMeasured, |f| f.verdict);
    let command = again(&results.run.command, &question.id);
    if !question.besides.is_empty() {
        return super::beside::answer(question, results, command);
    }
    Answer {
        id: question.id.clone(),
        title: question.title.clone(),
        answer: sentence::answer(question, first, results, &command),
        resolved: verdict == Verdict::Differs,
        verdict,
        effect: first.and_then(|f| f.headline.as_ref()).map(|p| p.effect),
        break_even: first.and_then(|f| f.break_even.clone()),
        findings,
        awaiting: question.awaiting.words(),
        command,
    }
}

/// The command of a run, for one question and a new folder.
pub(crate) fn again(command: &[String], question: &str) -> String {
    const OTHERS: [&str; 5] = ["--question", "--out", "--resume", "--shard", "--format"];
    let mut words = vec!["walkbench run".to_owned()];
    let mut rest = command.iter().skip_while(|word| *word == "run");
    while let Some(word) = rest.next() {
        if OTHERS.contains(&word.as_str()) {
            rest.next();
        } else if !OTHERS.iter().any(|o| word.strip_prefix(o).is_some_and(|w| w.starts_with('='))) {
            words.push(output::quoted(word));
        }
    }
    words.push(format!("--question {question}"));
    words.join(" ")
}

fn finding(question: &Question, compare: &Compare, results: &Results) -> Finding {
    let cells = || results.cells.keys().filter(|c| question.cells.matches(c) && compare.a.matches(c));
    let (points, rankings) = match &compare.kind {
        Kind::Rank => {
            let mut groups: BTreeMap<String, Vec<&CellId>> = BTreeMap::new();
            cells().for_each(|c| groups.entry(c.group()).or_default().push(c));
            let mut ranked: Vec<(Ranking, Point)> =
                groups.values().filter_map(|g| rank(question, compare, g, results)).collect();
            ranked.sort_by_key(|(_, p)| !is_headline(compare, p));
            let (rankings, points) = ranked.into_iter().unzip();
            (points, rankings)
        }
        Kind::Pair(b) => {
            let points = cells().filter_map(|a| pair(question, compare, a, Some(a.with(b)), results));
            (points.collect::<Vec<_>>(), Vec::new())
        }
        Kind::Value => {
            let points = cells().filter_map(|a| pair(question, compare, a, None, results));
            (points.collect(), Vec::new())
        }
    };
    // Results that never asked for its place may answer at another one. Those that did, and have no figure there, have no
    // answer: one of another place would pass for it.
    let other = points.first().filter(|_| !has_place(question, compare, results));
    let headline = points.iter().find(|p| is_headline(compare, p)).or(other).cloned();
    let points = along(compare, headline.as_ref(), points);
    let break_even = compare.axis.as_ref().and_then(|axis| break_even(axis, compare.level, &points));
    let verdict = headline.as_ref().map_or(Verdict::NotMeasured, |p| p.verdict);
    Finding {
        title: compare.title.clone(),
        metric: compare.metric.to_string(),
        sentence: sentence::finding(question, compare, headline.as_ref(), rankings.first()),
        verdict,
        headline,
        points,
        break_even,
        rankings,
    }
}

/// Whether results have the cell of side a at the comparison's own place, with or without a figure.
pub(super) fn has_place(question: &Question, compare: &Compare, results: &Results) -> bool {
    let mut cells = results.cells.keys().filter(|c| question.cells.matches(c) && compare.a.matches(c));
    cells.any(|c| compare.is_headline(c))
}

fn is_headline(compare: &Compare, point: &Point) -> bool {
    CellId::parse(&point.a).is_some_and(|a| compare.is_headline(&a))
}

/// The points that differ from the headline along the axis only, by the axis; all of them without an axis.
fn along(compare: &Compare, headline: Option<&Point>, points: Vec<Point>) -> Vec<Point> {
    let (Some(axis), Some(headline)) = (&compare.axis, headline.and_then(|p| CellId::parse(&p.a))) else {
        return points;
    };
    let moved = |point: &Point| {
        let a = CellId::parse(&point.a)?;
        let same = a.with(&BTreeMap::from([(axis.of, headline.get(axis.of).to_owned())]));
        (same == headline).then_some(())
    };
    let mut points: Vec<Point> = points.into_iter().filter(|p| p.x.is_some() && moved(p).is_some()).collect();
    points.sort_by(|a, b| a.x.partial_cmp(&b.x).unwrap_or(std::cmp::Ordering::Equal));
    points
}

/// One point of two sides, or of one that stands for itself.
fn pair(
    question: &Question,
    compare: &Compare,
    a: &CellId,
    b: Option<CellId>,
    results: &Results,
) -> Option<Point> {
    let metric = compare.metric;
    let count = |cell: &CellId, what: Count| results.count(cell, what.name()).map(|n| n as f64);
    let (a_value, b_value, effect) = match (metric, &b) {
        (Metric::CountRatio(over, under), None) => {
            let (over, under) = (count(a, over)?, count(a, under)?);
            let ratio = (under > 0.0).then(|| over / under)?;
            (Some(over), Some(under), Effect::exact(ratio))
        }
        (Metric::CountRatio(over, under), Some(b)) => {
            let of = |cell: &CellId| {
                let under = count(cell, under)?;
                (under > 0.0).then(|| Some(count(cell, over)? / under))?
            };
            let (x, y) = (of(a)?, of(b)?);
            (Some(x), Some(y), Effect::exact((y > 0.0).then(|| x / y)?))
        }
        (Metric::Count(what), Some(b)) => {
            let (x, y) = (count(a, what)?, count(b, what)?);
            (Some(x), Some(y), Effect::exact((y > 0.0).then(|| x / y)?))
        }
        (_, Some(b)) if a != b => {
            let logs: Vec<f64> = results.log_ratios(a, b, metric).into_values().collect();
            let effect = Effect::measured(&estimate(&logs)?);
            let value = |cell: &CellId| results.level(cell, metric).map(|e| e.value);
            (value(a), value(b), effect)
        }
        _ => return None,
    };
    let sides = [Some(a), b.as_ref()];
    let mut marks: Vec<String> =
        sides.iter().flatten().filter_map(|c| results.cells.get(c)).flat_map(|f| f.marks.clone()).collect();
    marks.sort();
    marks.dedup();
    Some(Point {
        x: compare.axis.as_ref().and_then(|axis| axis.at(a)),
        a: a.to_string(),
        b: b.as_ref().map(ToString::to_string),
        a_value,
        b_value,
        verdict: effect.verdict(question.percent),
        effect,
        marks,
    })
}

/// The designs of one group from the best to the worst, and the point of the second against the first.
fn rank(
    question: &Question,
    compare: &Compare,
    group: &[&CellId],
    results: &Results,
) -> Option<(Ranking, Point)> {
    let metric = compare.metric;
    let mut cells: Vec<(&CellId, f64)> =
        group.iter().filter_map(|c| Some((*c, results.level(c, metric)?.value))).collect();
    cells.sort_by(|a, b| a.1.total_cmp(&b.1));
    let [(first, _), (second, _), ..] = cells[..] else { return None };
    let mut point = pair(question, compare, second, Some(first.clone()), results)?;
    // Every pair, since the two were chosen among all.
    let launches: Vec<BTreeMap<u32, f64>> =
        cells.iter().map(|(c, _)| results.log_ratios(c, first, metric)).collect();
    let shared: Vec<u32> =
        launches[1].keys().copied().filter(|l| launches[2..].iter().all(|m| m.contains_key(l))).collect();
    let at = |i: usize, l: u32| if i == 0 { 0.0 } else { launches[i][&l] };
    let pairs: Vec<Vec<f64>> = (0..cells.len())
        .flat_map(|i| (i + 1..cells.len()).map(move |j| (i, j)))
        .map(|(i, j)| shared.iter().map(|l| at(j, *l) - at(i, *l)).collect())
        .collect();
    // The first pair is the first two.
    let p = sign_flip_max_t(&pairs, Alternative::TwoSided, 0).map(|t| t.p[0]);
    if point.verdict == Verdict::Differs && p.is_none_or(|p| p > ALPHA) {
        point.verdict = Verdict::Unresolved;
    }
    let order = cells.iter().filter_map(|(c, value)| {
        let logs: Vec<f64> = results.log_ratios(c, first, metric).into_values().collect();
        Some(Place {
            backend: c.get(Coordinate::Backend).to_owned(),
            value: *value,
            behind: Effect::measured(&estimate(&logs)?),
        })
    });
    Some((Ranking { group: first.group(), order: order.collect(), p }, point))
}

/// The first place along the axis where the ratio goes surely from one side of `level` to the other.
pub(crate) fn break_even(axis: &Axis, level: f64, points: &[Point]) -> Option<BreakEven> {
    let sure: Vec<(f64, &Effect)> =
        points.iter().filter(|p| p.effect.side(level) != 0).filter_map(|p| Some((p.x?, &p.effect))).collect();
    let flip = sure.windows(2).find(|w| w[0].1.side(level) != w[1].1.side(level))?;
    let [(from, f), (to, t)] = flip else { return None };
    let (height, drop) = ((f.ratio / level).ln(), (f.ratio / t.ratio).ln());
    let estimate = (*from > 0.0).then(|| (from.ln() + height / drop * (to / from).ln()).exp());
    Some(BreakEven { axis: axis.of.name().to_owned(), from: *from, to: *to, estimate, level })
}

#[cfg(test)]
mod tests;
