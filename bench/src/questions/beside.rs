//! The kernel beside the model: rows of `walkbench live` against cells.
//!
//! Two programs measured at different times, of which one recorded intervals only: the ratio's interval is made of their
//! ends, and holds the truth in 90 % or more if each of them does in 95 %.

use super::answer::{Answer, Effect, Finding, Point, Verdict};
use super::{Beside, CellId, Metric, Question};
use crate::results::{LiveFigure, Results};
use crate::stats::{Basis, Estimate, LEAST_LAUNCHES};
use crate::tables;

/// Answers a question of that kind.
pub(super) fn answer(question: &Question, results: &Results, command: String) -> Answer {
    let mut findings: Vec<Finding> = question
        .besides
        .iter()
        .map(|b| (b, finding(question, b, results)))
        .filter(|(b, finding)| !b.optional || finding.verdict != Verdict::NotMeasured)
        .map(|(_, finding)| finding)
        .collect();
    // Few kernels say everything: what was measured comes first, and its first row is the answer.
    findings.sort_by_key(|f| f.verdict == Verdict::NotMeasured);
    let first = findings.first();
    let verdict = first.map_or(Verdict::NotMeasured, |f| f.verdict);
    let command = format!("walkbench live --format json; {command}");
    let said = first.map_or("Not measured.", |f| f.sentence.as_str());
    let sentence = if verdict == Verdict::NotMeasured {
        format!(
            "Not measured: expected live.json, of walkbench live --format json, beside the run; {command}"
        )
    } else {
        format!("{said} [{}; {command}]", results.run.machine.line())
    };
    Answer {
        id: question.id.clone(),
        title: question.title.clone(),
        answer: sentence,
        resolved: verdict == Verdict::Differs,
        verdict,
        effect: first.and_then(|f| f.headline.as_ref()).map(|p| p.effect),
        break_even: None,
        findings,
        awaiting: question.awaiting.words(),
        command,
    }
}

fn finding(question: &Question, beside: &Beside, results: &Results) -> Finding {
    let headline = point(question, beside, results);
    let kernel = results.live.guest.as_deref().unwrap_or("this machine's kernel");
    let sentence = headline.as_ref().map_or_else(
        || "Not measured.".to_owned(),
        |p| {
            let figure = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), tables::number);
            let ends = p.effect.lo.zip(p.effect.hi);
            let ends = ends.map(|(lo, hi)| format!(" ({}..{})", tables::number(lo), tables::number(hi)));
            format!(
                "For {} {kernel} takes {} ns a page ({}), {}{} times the model's {} ({}).",
                beside.title,
                figure(p.a_value),
                beside.source,
                tables::number(p.effect.ratio),
                ends.unwrap_or_default(),
                figure(p.b_value),
                beside.cell
            )
        },
    );
    Finding {
        title: beside.title.clone(),
        metric: Metric::Whole.to_string(),
        sentence,
        verdict: headline.as_ref().map_or(Verdict::NotMeasured, |p| p.verdict),
        points: headline.iter().cloned().collect(),
        headline,
        break_even: None,
        rankings: Vec::new(),
    }
}

fn point(question: &Question, beside: &Beside, results: &Results) -> Option<Point> {
    let is_row = |r: &&crate::results::LiveRow| {
        r.source == beside.source
            && r.shape == beside.shape
            && r.stage == beside.stage
            && r.call_pages == beside.call_pages
            && ["", "none"].contains(&r.churn.as_str())
    };
    let kernel = results.live.rows.iter().find(is_row)?.ns_per_page?;
    let cell = CellId::parse(&beside.cell)?;
    let model = results.level(&cell, Metric::Whole)?;
    let effect = ratio(&kernel, &model)?;
    let calls = beside.call_pages.map_or_else(String::new, |n| format!(", {n} a call"));
    Some(Point {
        a: format!("kernel: {}, {}, {}{}", beside.source, beside.shape, beside.stage, calls),
        b: Some(beside.cell.clone()),
        x: None,
        a_value: Some(kernel.median),
        b_value: Some(model.value),
        effect,
        verdict: effect.verdict(question.percent),
        marks: results.cells.get(&cell).map(|f| f.marks.clone()).unwrap_or_default(),
    })
}

fn ratio(kernel: &LiveFigure, model: &Estimate) -> Option<Effect> {
    let value = kernel.median / model.value;
    let launches = kernel.launches.min(model.launches);
    (value.is_finite() && value > 0.0).then(|| Effect {
        ratio: value,
        lo: kernel.lo.zip(model.hi).map(|(k, m)| k / m),
        hi: kernel.hi.zip(model.lo).map(|(k, m)| k / m),
        launches,
        confidence: 0.9,
        basis: Some(if launches >= LEAST_LAUNCHES { Basis::OrderStatistics } else { Basis::Span }),
        smallest_percent: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::questions;
    use crate::results::LiveRow;
    use crate::results::testing::Made;

    #[test]
    fn the_kernel_stands_beside_the_model_where_both_were_measured() {
        let question = questions().iter().find(|q| q.id == "kernel").unwrap();
        let beside = &question.besides[0];
        let mut results = Made::new(&[(&beside.cell, 2.0)]).results();
        let without = super::super::answer::answer(question, &results);
        assert!(
            without.verdict == Verdict::NotMeasured && without.answer.contains("live.json"),
            "{}",
            without.answer
        );
        let row = |churn: &str, median: f64| LiveRow {
            source: beside.source.clone(),
            shape: beside.shape.clone(),
            stage: beside.stage.clone(),
            call_pages: beside.call_pages,
            churn: churn.to_owned(),
            ns_per_page: Some(LiveFigure {
                median,
                lo: Some(0.9 * median),
                hi: Some(1.1 * median),
                launches: 6,
            }),
            error: None,
        };
        results.live.rows = vec![row("zap", 99.0), row("none", 10.0)];
        let with = super::super::answer::answer(question, &results);
        let effect = with.effect.unwrap();
        assert!(
            (effect.ratio / 5.0 - 1.0).abs() < 0.02 && with.verdict == Verdict::Differs,
            "{}",
            with.answer
        );
        assert!(effect.lo.unwrap() < 4.5 && effect.hi.unwrap() > 5.5, "both intervals: {effect:?}");
        assert_eq!(effect.launches, 6);
    }

    #[test]
    fn what_few_kernels_say_is_not_missed_and_stands_behind_the_rest() {
        let question = questions().iter().find(|q| q.id == "kernel").unwrap();
        let (driver, others): (Vec<&Beside>, Vec<&Beside>) =
            question.besides.iter().partition(|b| b.optional);
        assert!(driver.iter().all(|b| b.source.starts_with("hmm_dmirror")) && driver.len() > 3);
        assert!(others.iter().all(|b| !b.source.starts_with("hmm_dmirror")));
        let cells: Vec<(&str, f64)> = question.besides.iter().map(|b| (b.cell.as_str(), 2.0)).collect();
        let mut results = Made::new(&cells).results();
        let row = |b: &Beside| LiveRow {
            source: b.source.clone(),
            shape: b.shape.clone(),
            stage: b.stage.clone(),
            churn: "none".to_owned(),
            call_pages: b.call_pages,
            ns_per_page: Some(LiveFigure { median: 9.0, lo: None, hi: None, launches: 1 }),
            error: None,
        };
        results.live.rows = vec![row(driver[1]), row(others[2])];
        let titles = |results: &Results| {
            let answer = super::super::answer::answer(question, results);
            answer.findings.into_iter().map(|f| f.title).collect::<Vec<String>>()
        };
        let said = titles(&results);
        assert_eq!(said.len(), others.len() + 1, "{said:?}");
        assert_eq!(said[..2], [others[2].title.clone(), driver[1].title.clone()]);
        results.live.rows.remove(0);
        assert_eq!(titles(&results).len(), others.len());
    }

    #[test]
    fn what_the_kernel_did_not_say_stands_behind_what_it_said() {
        let question = questions().iter().find(|q| q.id == "kernel").unwrap();
        let last = question.besides.iter().rfind(|b| !b.optional).unwrap();
        let mut results = Made::new(&[(&last.cell, 2.0)]).results();
        results.live.rows = vec![LiveRow {
            source: last.source.clone(),
            shape: last.shape.clone(),
            stage: last.stage.clone(),
            churn: "none".to_owned(),
            call_pages: last.call_pages,
            ns_per_page: Some(LiveFigure { median: 9.0, lo: None, hi: None, launches: 1 }),
            error: None,
        }];
        let answer = super::super::answer::answer(question, &results);
        assert_eq!(answer.findings[0].title, last.title);
        assert!(answer.findings[1..].iter().all(|f| f.verdict == Verdict::NotMeasured));
        assert!(answer.answer.contains(&last.title), "{}", answer.answer);
        assert!(answer.answer.contains("this machine's kernel"));
        results.live.guest = Some("Linux 6.12 in User Mode Linux".to_owned());
        let guest = super::super::answer::answer(question, &results).answer;
        assert!(guest.contains("Linux 6.12 in User Mode Linux takes"), "{guest}");
        // Another call size is another row.
        results.live.rows[0].call_pages = Some(3);
        assert_eq!(super::super::answer::answer(question, &results).verdict, Verdict::NotMeasured);
    }
}
