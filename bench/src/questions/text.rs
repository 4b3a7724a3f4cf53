//! Answers as text of 100 columns.

use super::answer::{Answer, Effect, Finding, Point, Ranking, Verdict};
use super::{Axis, Kind, Question, questions};
use crate::tables;

/// Rows of a table along an axis at most.
const ROWS: usize = 16;

/// What was answered: the question, the answer, a small table, what explains it; then what was not.
pub(crate) fn answers(answers: &[Answer]) -> String {
    let mut text = String::new();
    let mut open = Vec::new();
    let mut marks: Vec<&str> = Vec::new();
    for (question, answer) in questions().iter().zip(answers) {
        if answer.verdict == Verdict::NotMeasured {
            open.push(question.id.as_str());
        } else {
            text += &one(question, answer);
            let of_curves = question.compares.iter().zip(&answer.findings).filter(|(c, _)| c.axis.is_some());
            marks.extend(of_curves.flat_map(|(_, f)| &f.points).flat_map(|p| &p.marks).map(String::as_str));
            text.push('\n');
        }
    }
    if !text.is_empty() {
        text += "differs    the interval lies beyond what does not count; same: it lies within that\n\
                 interval   95 % or more for the median over launches, whatever their distribution, from six on\n";
        let explained = crate::marks::explained(marks.iter().copied());
        let width = explained.iter().map(|(mark, _)| mark.len() + 2).max().unwrap_or(0).max(11);
        for (mark, words) in explained {
            text += &tables::wrap(&format!("{mark:<width$}"), &" ".repeat(width), words);
        }
    }
    if !open.is_empty() {
        text += &format!("{}\n", tables::paragraph(&format!("not measured: {}", open.join(", ")), 0, 2));
    }
    text
}

fn one(question: &Question, answer: &Answer) -> String {
    let mut text = format!("{}\n", tables::paragraph(&format!("{}: {}", question.id, question.title), 0, 2));
    text += &format!("{}\n", tables::paragraph(&answer.answer, 2, 2));
    for (i, (compare, finding)) in question.compares.iter().zip(&answer.findings).enumerate() {
        if finding.verdict == Verdict::NotMeasured {
            continue;
        }
        if i > 0 {
            text += &format!(
                "{}\n",
                tables::paragraph(&format!("{}: {}", finding.title, finding.sentence), 2, 2)
            );
        }
        if let (Some(axis), true) = (&compare.axis, finding.points.len() > 1) {
            text += &curve(axis, finding);
            text += &format!("{}\n", tables::paragraph(&flip(axis, finding), 4, 4));
        }
        if let (Kind::Rank, Some(ranking)) = (&compare.kind, finding.rankings.first()) {
            text += &order(ranking);
        }
    }
    text
}

fn curve(axis: &Axis, finding: &Finding) -> String {
    let mut table = tables::table(["", "a / b", "interval", "a", "b", ""].map(str::to_owned).to_vec());
    let points = &finding.points;
    // The ends are what a break-even is read from: of too many, the middle is thinned out.
    let step = points.len().div_ceil(ROWS);
    let shown = points.iter().enumerate().filter(|(i, _)| i % step == 0 || i + 1 == points.len());
    for (_, p) in shown {
        let Some(x) = p.x else { continue };
        let figure = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), tables::number);
        table.add_row([
            format!("    {}", axis.name(x)),
            tables::number(p.effect.ratio),
            interval(&p.effect),
            figure(p.a_value),
            figure(p.b_value),
            word(p),
        ]);
    }
    tables::lines(&table)
}

fn word(point: &Point) -> String {
    let verdict = match point.verdict {
        Verdict::Differs => "differs",
        Verdict::Same => "same",
        Verdict::Unresolved => "not resolved",
        Verdict::NotMeasured => "not measured",
    };
    std::iter::once(verdict).chain(point.marks.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
}

fn flip(axis: &Axis, finding: &Finding) -> String {
    let level =
        |level: f64| if level == 1.0 { String::new() } else { format!(" {} times", tables::number(level)) };
    match &finding.break_even {
        Some(b) => {
            let about = b.estimate.map(|x| {
                let x = 10f64.powf(x.log10() - 1.0).max(1.0).floor() * 10.0;
                format!(", about {}", axis.name(x.max(b.from).min(b.to)))
            });
            format!(
                "flips{} between {} and {}{}",
                level(b.level),
                axis.name(b.from),
                axis.name(b.to),
                about.unwrap_or_default()
            )
        }
        None if finding.points.iter().all(|p| p.effect.is_claim()) => {
            "does not flip in what was measured".to_owned()
        }
        None => "where it flips is not resolved".to_owned(),
    }
}

fn order(ranking: &Ranking) -> String {
    let mut table = tables::table(["", "ns/page", "x", "interval"].map(str::to_owned).to_vec());
    for place in &ranking.order {
        table.add_row([
            format!("    {}", place.backend),
            tables::number(place.value),
            tables::number(place.behind.ratio),
            interval(&place.behind),
        ]);
    }
    tables::lines(&table)
}

fn interval(effect: &Effect) -> String {
    match (effect.lo, effect.hi) {
        (Some(lo), Some(hi)) if lo < hi => format!("[{}..{}]", tables::number(lo), tables::number(hi)),
        (Some(_), Some(_)) if effect.basis.is_none() => "exact".to_owned(),
        (Some(lo), Some(_)) => format!("[{0}..{0}]", tables::number(lo)),
        _ => "-".to_owned(),
    }
}
