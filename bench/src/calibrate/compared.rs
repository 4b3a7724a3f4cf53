//! Comparisons in the kernel's proportions, beside what was measured.
//!
//! Each launch has its ratio as it was measured, moved by what the kernel's prices add to both sides of it. A ratio of
//! sums is monotone in every price, so over the intervals of all prices together it is least and greatest at a corner:
//! the interval shown goes from the lowest lower end to the highest upper end of all corners. It holds the truth at least
//! as often as the launches' interval and all of the prices' do together.

use std::collections::BTreeMap;

use super::load::Load;
use super::prices::{Corner, Prices};
use crate::questions::answer::{BreakEven, Effect, Finding, Point, Verdict, break_even};
use crate::questions::{Answer, CellId, Compare, Metric, Question};
use crate::results::Results;
use crate::stats::{Basis, LEAST_LAUNCHES, Sorted, confidence, estimate};

/// One comparison of a question.
#[derive(Clone, Debug)]
pub(crate) struct Calibrated {
    /// The question.
    pub(crate) question: String,
    /// The comparison.
    pub(crate) title: String,
    /// As it was measured; none where it was not.
    pub(crate) measured: Option<Point>,
    /// In the kernel's proportions.
    pub(crate) outcome: Outcome,
}

/// What can be said of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A time.
    Priced(Box<Priced>),
    /// A count, which no price changes.
    Count,
    /// Why it cannot be calibrated.
    Not(String),
}

/// A comparison of times with the kernel's prices.
#[derive(Clone, Debug)]
pub(crate) struct Priced {
    /// At the headline.
    pub(crate) headline: Point,
    /// Along the axis, measured and calibrated, where there are several.
    pub(crate) points: Vec<(Point, Point)>,
    /// Where it flips, measured and calibrated.
    pub(crate) break_even: [Option<BreakEven>; 2],
    /// Places on the axis that have no calibrated figure, and why.
    pub(crate) left_out: Vec<String>,
    /// What is said otherwise: nothing, where it is empty.
    pub(crate) changes: Vec<String>,
}

/// Every comparison of the questions that faults decide.
pub(crate) fn calibrated(
    questions: &[Question],
    answers: &[Answer],
    run: &Results,
    prices: &Prices,
) -> Vec<Calibrated> {
    let both = questions.iter().zip(answers).filter(|(q, _)| super::QUESTIONS.contains(&q.id.as_str()));
    let each = both.flat_map(|(question, answer)| {
        let findings = question.compares.iter().zip(&answer.findings);
        findings.map(|(compare, finding)| Calibrated {
            question: question.id.clone(),
            title: finding.title.clone(),
            measured: finding.headline.clone(),
            outcome: outcome(question, compare, finding, run, prices),
        })
    });
    each.collect()
}

fn outcome(
    question: &Question,
    compare: &Compare,
    finding: &Finding,
    run: &Results,
    prices: &Prices,
) -> Outcome {
    let Some(headline) = &finding.headline else { return Outcome::Not("it was not measured".to_owned()) };
    match compare.metric {
        Metric::Whole => {}
        Metric::Count(_) | Metric::CountRatio(..) => return Outcome::Count,
        Metric::P99 => {
            return Outcome::Not("what the slowest operations met with is not in the record".to_owned());
        }
        Metric::Vain | Metric::Events => {
            return Outcome::Not("how often a dearer walk would collide is not in the record".to_owned());
        }
        Metric::Stage(_) => return Outcome::Not("prices are of whole operations".to_owned()),
    }
    match point(headline, question.percent, run, prices) {
        Ok(calibrated) => {
            Outcome::Priced(Box::new(priced(question, compare, finding, headline, calibrated, run, prices)))
        }
        Err(why) => Outcome::Not(why),
    }
}

fn priced(
    question: &Question,
    compare: &Compare,
    finding: &Finding,
    measured: &Point,
    headline: Point,
    run: &Results,
    prices: &Prices,
) -> Priced {
    let axis = compare.axis.as_ref().filter(|_| finding.points.len() > 1);
    let (mut points, mut left_out) = (Vec::new(), Vec::new());
    for p in axis.iter().flat_map(|_| &finding.points) {
        match point(p, question.percent, run, prices) {
            Ok(calibrated) => points.push((p.clone(), calibrated)),
            Err(why) => left_out.push(format!("{}: {why}", p.a)),
        }
    }
    let flips = |of: Vec<Point>| axis.and_then(|axis| break_even(axis, compare.level, &of));
    let break_even = [
        finding.break_even.clone(),
        flips(points.iter().map(|(_, calibrated)| calibrated.clone()).collect()),
    ];
    let mut changes = Vec::new();
    let (was, is) = (measured.verdict, headline.verdict);
    let launches = headline.effect.launches;
    if was != is && launches < LEAST_LAUNCHES {
        changes.push(format!("not resolved: {launches} launches have every price"));
    } else if was != is {
        changes.push(format!("{} becomes {}", word(was), word(is)));
    } else if was == Verdict::Differs && (measured.effect.ratio > 1.0) != (headline.effect.ratio > 1.0) {
        changes.push("the other side is the dearer one".to_owned());
    }
    let place = |b: &Option<BreakEven>| b.as_ref().map(|b| (b.from, b.to));
    // Where places on the axis have no calibrated figure, none of them says where it flips.
    if left_out.is_empty() && place(&break_even[0]) != place(&break_even[1]) {
        let what = if break_even[1].is_some() { "where it flips" } else { "where it flips is not resolved" };
        changes.push(what.to_owned());
    }
    Priced { headline, points, break_even, left_out, changes }
}

/// A verdict.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Differs => "differs",
        Verdict::Same => "same",
        Verdict::Unresolved => "not resolved",
        Verdict::NotMeasured => "not measured",
    }
}

/// One side of a comparison.
struct Side {
    /// Nanoseconds a page by launch, as measured.
    ns: BTreeMap<u32, f64>,
    load: Load,
}

impl Side {
    fn of(id: &str, run: &Results, prices: &Prices) -> Result<Side, String> {
        let cell = CellId::parse(id).ok_or_else(|| format!("{id}: is no cell"))?;
        let load = Load::of(run, &cell, prices)?;
        let ns = run.each_launch(&cell, Metric::Whole);
        Ok(Side { ns, load })
    }
    /// As measured, and with the kernel's prices.
    fn both(&self, prices: &Prices, launch: u32, at: &Corner) -> Option<(f64, f64)> {
        let ns = *self.ns.get(&launch)?;
        Some((ns, ns + self.load.added(prices, launch, at)?))
    }
    fn median(&self, prices: &Prices, at: &Corner) -> Option<f64> {
        let each = self.ns.keys().filter_map(|l| Some(self.both(prices, *l, at)?.1));
        Some(Sorted::new(each.collect())?.median())
    }
}

/// The same point with the kernel's prices.
fn point(measured: &Point, percent: f64, run: &Results, prices: &Prices) -> Result<Point, String> {
    let b_id = measured.b.as_deref().ok_or("it has one side only")?;
    let (a, b) = (Side::of(&measured.a, run, prices)?, Side::of(b_id, run, prices)?);
    let ids = CellId::parse(&measured.a).zip(CellId::parse(b_id));
    let ratios = ids.map(|(a, b)| run.log_ratios(&a, &b, Metric::Whole)).unwrap_or_default();
    let moved = |at: &Corner| -> Result<Vec<f64>, String> {
        let mut logs = Vec::new();
        for (launch, log) in &ratios {
            let both = a.both(prices, *launch, at).zip(b.both(prices, *launch, at));
            let Some(((a_was, a_is), (b_was, b_is))) = both else { continue };
            if a_is <= 0.0 || b_is <= 0.0 {
                return Err("the kernel's prices take more away than was measured".to_owned());
            }
            logs.push(log + (a_is / a_was).ln() - (b_is / b_was).ln());
        }
        Ok(logs)
    };
    let middle = prices.middle();
    let estimated = |at: &Corner| {
        let none = || "no launch has both sides and every price".to_owned();
        estimate(&moved(at)?).ok_or_else(none)
    };
    let value = estimated(&middle)?;
    let mut parts: Vec<usize> = a.load.parts().into_iter().chain(b.load.parts()).collect();
    parts.sort_unstable();
    parts.dedup();
    let (mut lo, mut hi) = (value.lo, value.hi);
    for corner in corners(prices, &parts, middle) {
        let e = estimated(&corner)?;
        lo = lo.zip(e.lo).map(|(x, y)| x.min(y));
        hi = hi.zip(e.hi).map(|(x, y)| x.max(y));
    }
    let kernel: Vec<usize> = parts.iter().filter_map(|p| prices.launches(*p)).collect();
    let misses: f64 = kernel.iter().map(|n| 1.0 - confidence(*n)).sum();
    let launches = kernel.into_iter().chain([value.launches]).min().unwrap_or_default();
    let effect = Effect {
        ratio: value.value,
        lo,
        hi,
        launches,
        confidence: (value.confidence - misses).max(0.0),
        basis: Some(match launches {
            LEAST_LAUNCHES.. => Basis::OrderStatistics,
            2.. => Basis::Span,
            _ => Basis::Single,
        }),
        smallest_percent: None,
    };
    Ok(Point {
        a_value: a.median(prices, &middle),
        b_value: b.median(prices, &middle),
        effect,
        verdict: effect.verdict(percent),
        ..measured.clone()
    })
}

/// Both ends of every part, in every combination.
fn corners(prices: &Prices, parts: &[usize], middle: Corner) -> impl Iterator<Item = Corner> {
    let ends: Vec<(usize, [f64; 3])> = parts.iter().map(|p| (*p, prices.part(*p))).collect();
    (0..1u32 << ends.len()).map(move |which| {
        let mut at = middle;
        for (i, (part, [lo, _, hi])) in ends.iter().enumerate() {
            at[*part] = if which >> i & 1 == 0 { *lo } else { *hi };
        }
        at
    })
}
