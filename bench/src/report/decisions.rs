//! What follows for an API: rules fixed in the questions, applied to what was found.

use serde::Serialize;

use crate::questions::answer::{Answer, Effect, Verdict};
use crate::questions::{Decision, Kind, Question};
use crate::stats::Basis;
use crate::tables;

/// One row of the table that a report opens with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decided {
    /// The question.
    pub(crate) question: String,
    /// What an API may have or not.
    pub(crate) property: String,
    /// What to do.
    pub(crate) recommendation: String,
    /// The sides and their ratio.
    pub(crate) figure: String,
    /// On what it rests.
    pub(crate) how_sure: String,
}

/// The rows of one question.
pub(crate) fn decided(question: &Question, answer: &Answer) -> Vec<Decided> {
    question.decisions.iter().filter_map(|d| row(d, question, answer)).collect()
}

fn row(decision: &Decision, question: &Question, answer: &Answer) -> Option<Decided> {
    let mut sides = question.compares.iter().zip(&answer.findings);
    let (compare, finding) = sides.find(|(c, _)| c.title == decision.by)?;
    let effect = finding.headline.as_ref().map(|p| p.effect);
    let more = effect.is_some_and(|e| e.ratio > 1.0);
    let recommendation = match finding.verdict {
        Verdict::Differs if more => decision.more.clone(),
        Verdict::Differs => decision.less.clone(),
        Verdict::Same => decision.same.clone(),
        Verdict::Unresolved => "Not resolved on this machine".to_owned(),
        Verdict::NotMeasured => "Not measured".to_owned(),
    };
    let sides = match compare.kind {
        Kind::Value => compare.a_is.clone(),
        _ => format!("{} / {}", compare.a_is.trim_end_matches(','), compare.b_is.trim_end_matches(',')),
    };
    Some(Decided {
        question: question.id.clone(),
        property: decision.property.clone(),
        recommendation,
        figure: effect.map_or_else(|| "-".to_owned(), |e| format!("{sides}: {}", ratio(&e))),
        how_sure: how_sure(finding.verdict, effect.as_ref(), question.percent),
    })
}

/// `1.31 [1.29..1.33]`
pub(crate) fn ratio(e: &Effect) -> String {
    match (e.lo, e.hi) {
        (Some(lo), Some(hi)) if e.basis.is_some() => tables::ratio_with_ends(e.ratio, lo, hi),
        _ => tables::ratio(e.ratio),
    }
}

/// In words, on what a verdict rests; and what would have shown where there is none.
pub(crate) fn how_sure(verdict: Verdict, effect: Option<&Effect>, percent: f64) -> String {
    let Some(e) = effect else { return "no figures".to_owned() };
    let over = match e.basis {
        None => "exact counts".to_owned(),
        Some(Basis::OrderStatistics) => format!("{:.1} % over {} launches", 100.0 * e.confidence, e.launches),
        Some(Basis::Span) => format!("{} launches only, six are the least", e.launches),
        Some(Basis::Single) => "one launch only, six are the least".to_owned(),
    };
    match (verdict, e.smallest_percent) {
        (Verdict::Unresolved, _) if e.side(1.0) != 0 => {
            format!(
                "{over}; surely {}, but not surely by {percent} %",
                if e.ratio > 1.0 { "more" } else { "less" }
            )
        }
        (Verdict::Unresolved, Some(smallest)) => {
            format!("{over}; {} % would have shown, {percent} % counts", tables::number(smallest))
        }
        _ => over,
    }
}
