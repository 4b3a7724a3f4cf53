//! Findings in words: what a kernel developer would paste into a thread.

use super::answer::{ALPHA, Effect, Finding, Point, Ranking, Verdict};
use super::{CellId, Compare, Coordinate, Kind, Metric, Question};
use crate::results::Results;
use crate::stats::{Basis, LEAST_LAUNCHES};
use crate::tables;

/// The answer: the first finding, where it holds, on what, and how to get it again.
pub(super) fn answer(
    question: &Question,
    first: Option<&Finding>,
    results: &Results,
    command: &str,
) -> String {
    let missing = question.awaiting.words();
    let missing =
        if missing.is_empty() { String::new() } else { format!(" Not there yet: {}.", missing.join("; ")) };
    let Some(finding) = first else { return format!("Not measured.{missing}") };
    let is_there =
        || question.compares.first().is_some_and(|c| super::answer::has_place(question, c, results));
    if finding.headline.is_none() && is_there() {
        return format!(
            "Not measured: what these results hold of its place has no undisturbed figure on both sides; {command} tries \
             again.{missing}"
        );
    }
    if finding.headline.is_none() {
        return format!("Not measured: these results hold none of its cells; {command} does.{missing}");
    }
    let place = format!("{}; {command}", results.run.machine.line());
    format!("{} [{place}]{missing}", finding.sentence)
}

/// What a comparison found, in a sentence.
pub(super) fn finding(
    question: &Question,
    compare: &Compare,
    headline: Option<&Point>,
    ranking: Option<&Ranking>,
) -> String {
    let Some(point) = headline else { return "Not measured.".to_owned() };
    let Some(a) = CellId::parse(&point.a) else { return "Not measured.".to_owned() };
    match (&compare.kind, ranking) {
        (Kind::Value, _) => value(compare, point, &a),
        (Kind::Rank, Some(ranking)) => ranked(question, compare, point, ranking, &a),
        _ => paired(question, compare, point, &a),
    }
}

fn paired(question: &Question, compare: &Compare, point: &Point, a: &CellId) -> String {
    let b = point.b.as_deref().and_then(CellId::parse);
    let (a_is, b_is) = (&compare.a_is, &compare.b_is);
    let what = part(compare.metric);
    let at = place(compare, a, b.as_ref());
    let (figures, effect) = (figures(compare, point), &point.effect);
    match point.verdict {
        Verdict::Differs => {
            let than = than(effect, compare.metric, &format!("{b_is}{what}"));
            format!("{} {than}: {figures}, {at}.", tables::capital(a_is))
        }
        Verdict::Same => format!(
            "No difference above {} % between {a_is} and {b_is}{what}: {}; {figures}, {at}.",
            question.percent,
            ratio(effect)
        ),
        Verdict::Unresolved if effect.side(1.0) != 0 => format!(
            "{} and {b_is}{what} differ, but not surely by {} % or more: {}; {figures}, {at}.",
            tables::capital(a_is),
            question.percent,
            ratio(effect)
        ),
        Verdict::Unresolved | Verdict::NotMeasured => format!(
            "Not resolved between {a_is} and {b_is}{what}: {}; {figures}, {at}; {}.",
            ratio(effect),
            unseen(effect, question.percent)
        ),
    }
}

fn ranked(question: &Question, compare: &Compare, point: &Point, ranking: &Ranking, a: &CellId) -> String {
    let b: Option<CellId> = None;
    let names: Vec<&str> = ranking.order.iter().map(|p| p.backend.as_str()).collect();
    let [first, second, ..] = names[..] else { return "Not measured.".to_owned() };
    let of = format!("of {} designs{}", names.len(), part(compare.metric));
    let p = ranking.p.map(|p| if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") });
    let p = p.map(|p| format!(", {p} over all pairs")).unwrap_or_default();
    let at = place(compare, a, b.as_ref());
    let figures = figures(compare, point);
    match point.verdict {
        Verdict::Differs => format!(
            "{first} is the cheapest {of}; {second}, the next, {}{p}: {figures}, {at}.",
            than(&point.effect, compare.metric, "it")
        ),
        Verdict::Same => format!(
            "{first} and {second} are the cheapest {of}, and no more than {} % apart: {}{p}; {figures}, {at}.",
            question.percent,
            ratio(&point.effect)
        ),
        Verdict::Unresolved if point.effect.side(1.0) != 0 && ranking.p.is_some_and(|p| p <= ALPHA) => {
            format!(
                "{first} is the cheapest {of}, but {second} is not surely {} % or more behind it: {}{p}; {figures}, {at}.",
                question.percent,
                ratio(&point.effect)
            )
        }
        Verdict::Unresolved | Verdict::NotMeasured => format!(
            "Which is the cheapest {of} is not resolved: {second} against {first} {}{p}; {figures}, {at}; {}.",
            ratio(&point.effect),
            unseen(&point.effect, question.percent)
        ),
    }
}

fn value(compare: &Compare, point: &Point, a: &CellId) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "?".to_owned(), |x| format!("{x}"));
    format!(
        "{}: {} ({} to {}, exact counts of one pass), {}.",
        tables::capital(&compare.a_is),
        tables::number(point.effect.ratio),
        number(point.a_value),
        number(point.b_value),
        place(compare, a, None)
    )
}

/// ` in walk`, where the metric is a part of the whole.
fn part(metric: Metric) -> String {
    match metric {
        Metric::Whole | Metric::Count(_) | Metric::Events | Metric::Vain => String::new(),
        Metric::P99 => ", p99 of single operations".to_owned(),
        Metric::Stage(stage) => format!(", {} alone", stage.name()),
        Metric::CountRatio(..) => format!(" in {metric}"),
    }
}

/// `4.83 against 3.68 ns a page`
fn figures(compare: &Compare, point: &Point) -> String {
    match (point.a_value, point.b_value) {
        (Some(a), Some(b)) => {
            format!("{} against {} {}", tables::number(a), tables::number(b), compare.metric.unit())
        }
        _ => "no figures".to_owned(),
    }
}

/// Where: what both sides have in common, and `A against B` where they differ.
fn place(compare: &Compare, a: &CellId, b: Option<&CellId>) -> String {
    let get = |c: Coordinate| {
        let (x, y) = (a.get(c), b.map_or(a.get(c), |b| b.get(c)));
        if x == y { x.to_owned() } else { format!("{x} against {y}") }
    };
    let churn = get(Coordinate::Churn);
    let walkers = get(Coordinate::Walkers);
    let mut parts = vec![
        format!("{}@{}", get(Coordinate::Workload), get(Coordinate::Size)),
        get(Coordinate::Request),
        match get(Coordinate::CallPages).as_str() {
            "1" => "1 page a call".to_owned(),
            pages => format!("{pages} pages a call"),
        },
    ];
    parts.extend((churn != workloads::churn::NO_CHURN).then(|| format!("churn {churn}")));
    parts.extend((walkers != "1").then(|| format!("{walkers} walkers")));
    if compare.kind != Kind::Rank {
        parts.push(get(Coordinate::Backend));
    }
    parts.join(", ")
}

/// `costs 31 % more than B (29..33 %, 96 % sure over 9 launches)`
fn than(effect: &Effect, metric: Metric, b_is: &str) -> String {
    let r = effect.ratio;
    let (verb, what) = match metric {
        Metric::Count(c) => ("has", format!(" {}", c.name())),
        Metric::Events => ("lets through", " events a second".to_owned()),
        Metric::Vain => ("walks", " pages in vain".to_owned()),
        _ => ("costs", String::new()),
    };
    let in_percent = (0.5..2.0).contains(&r);
    let claim = if in_percent {
        let percent = tables::number(100.0 * (r - 1.0).abs());
        let direction = if r < 1.0 { "less" } else { "more" };
        format!("{verb} {percent} % {direction}{what} than {b_is}")
    } else {
        let as_much = if what.is_empty() { "as much as".to_owned() } else { format!("the{what} of") };
        format!("{verb} {} times {as_much} {b_is}", tables::number(r))
    };
    let (Some(lo), Some(hi), 1..) = (effect.lo, effect.hi, effect.launches) else { return claim };
    let interval = if in_percent {
        let signed = |x: f64| format!("{:+.1}", 100.0 * (x - 1.0));
        format!("{}..{} %", signed(lo), signed(hi))
    } else {
        format!("{}..{}", tables::number(lo), tables::number(hi))
    };
    format!("{claim} ({interval}, {:.0} % sure over {} launches)", 100.0 * effect.confidence, effect.launches)
}

/// `ratio 1.003 [0.98..1.02] over 9 launches`
fn ratio(effect: &Effect) -> String {
    let number = |x: f64| format!("{x:.3}");
    let over = match (effect.basis, effect.launches) {
        (None, _) => String::new(),
        (Some(Basis::Span), n) => format!(", all of {n} launches"),
        (_, 1) => " in one launch".to_owned(),
        (_, n) => format!(" over {n} launches"),
    };
    match (effect.lo, effect.hi) {
        (Some(lo), Some(hi)) => {
            format!("ratio {} [{}..{}]{over}", number(effect.ratio), number(lo), number(hi))
        }
        _ => format!("ratio {}{over}", number(effect.ratio)),
    }
}

/// What it would have taken.
fn unseen(effect: &Effect, percent: f64) -> String {
    match effect.smallest_percent {
        Some(smallest) => format!(
            "the smallest effect that this run could have seen is {} %, and {percent} % counts",
            tables::number(smallest)
        ),
        None => format!("nothing counts with fewer than {LEAST_LAUNCHES} launches"),
    }
}
