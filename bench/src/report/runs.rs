//! Several runs side by side: does each give the same answers?
//!
//! Answers are ratios within a run, so that runs of different machines can be held against each other.

use serde_json::{Value, json};

use super::decisions::ratio;
use super::figure::{Body, Figure, Range, Ranges, Scale, Value as Drawn, plain};
use super::markdown::verdict;
use crate::compare::{self, Comparison, Said};
use crate::export::markdown::escape;
use crate::output;
use crate::questions::answer::{Answer, Effect, Verdict};
use crate::results::Results;

/// What is said of several runs.
pub(super) struct Runs {
    /// A, B, ... and what stands behind each.
    pub(super) names: Vec<(String, String)>,
    comparison: Comparison,
}

impl Runs {
    /// Of runs and what `compare` says of them.
    pub(super) fn new(runs: &[Results], comparison: Comparison) -> Runs {
        let name = |(i, r): (usize, &Results)| {
            let command = output::command(&r.run.command);
            let about = format!("{}; {}; {command}", r.folder.display(), r.run.machine.line());
            (crate::tables::letter(i), plain(&about))
        };
        Runs { names: runs.iter().enumerate().map(name).collect(), comparison }
    }
    /// The answers of each run to the questions that any of them answers.
    fn answered(&self) -> impl Iterator<Item = Vec<&Answer>> {
        let answers = &self.comparison.answers;
        let nr = answers.first().map_or(0, Vec::len);
        let all = (0..nr).map(|q| answers.iter().filter_map(|a| a.get(q)).collect::<Vec<_>>());
        all.filter(|of_question| of_question.iter().any(|a| a.verdict != Verdict::NotMeasured))
    }
    /// Every answer of every run.
    pub(super) fn figure(&self) -> Option<Figure> {
        let (mut rows, mut left_out) = (Vec::new(), Vec::new());
        for answers in self.answered() {
            for (answer, (letter, _)) in answers.iter().zip(&self.names) {
                let name = format!("{}, {letter}", answer.id);
                let value =
                    answer.effect.and_then(|e| Drawn::new(e.ratio, e.lo.zip(e.hi), e.is_claim(), true));
                match value {
                    Some(value) => {
                        let note = plain(&answer.answer);
                        rows.push(Range { name, value, is_limit: false, note });
                    }
                    None => left_out.push(format!("{name}: not measured")),
                }
            }
        }
        let x = Scale { label: "ratio of the two sides".to_owned(), is_log: true, ticks: Vec::new() };
        (!rows.is_empty()).then(|| Figure {
            id: "runs-1".to_owned(),
            title: "Every answer in every run".to_owned(),
            place: self
                .names
                .iter()
                .map(|(l, about)| format!("{l}: {about}"))
                .collect::<Vec<_>>()
                .join(" / "),
            body: Body::Ranges(Ranges { x, rows, is_bars: false, percent: None }),
            left_out,
        })
    }
    /// A table in Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text: String =
            self.names.iter().map(|(l, about)| format!("- {l}: {}\n", escape(about))).collect();
        let letters: Vec<&str> = self.names.iter().map(|(l, _)| l.as_str()).collect();
        text += &format!(
            "\n| question | {} | |\n|---|{}---|\n",
            letters.join(" | "),
            "---|".repeat(letters.len())
        );
        for answers in self.answered() {
            let said: Vec<String> = answers.iter().map(|a| escape(&said(a))).collect();
            text += &format!("| {} | {} | {} |\n", answers[0].id, said.join(" | "), agreement(&answers));
        }
        if let Some(why) = &self.comparison.refused {
            text += &format!("\nTimes are not compared: {}\n", escape(&plain(why)));
        }
        for note in &self.comparison.notes {
            text += &format!("\n{}\n", escape(&plain(note)));
        }
        text
    }
    /// For the page.
    pub(super) fn data(&self) -> Value {
        let effect = |e: Option<Effect>| {
            let round = crate::export::rounded;
            e.map(|e| json!({"y": round(e.ratio), "lo": e.lo.map(round), "hi": e.hi.map(round)}))
        };
        // What can be held against each other comes first.
        let (shared, alone): (Vec<_>, Vec<_>) = self.comparison.rows.iter().partition(|r| r.is_shared());
        let rows = shared.into_iter().chain(alone).map(|r| {
            json!({
                "id": plain(&r.id),
                "x": r.sides.iter().map(|s| effect(s.and_then(|s| s.x))).collect::<Vec<_>>(),
                "ratios": r.ratios.iter().map(|e| effect(*e)).collect::<Vec<_>>(),
                "times": r.times.iter().map(|e| effect(*e)).collect::<Vec<_>>(),
            })
        });
        let answers = self.answered().map(|a| {
            json!({
                "id": a[0].id,
                "said": a.iter().map(|a| said(a)).collect::<Vec<_>>(),
                "agreement": agreement(&a),
            })
        });
        json!({
            "names": self.names,
            "reference": self.comparison.reference,
            "refused": self.comparison.refused.as_deref().map(plain),
            "notes": self.comparison.notes.iter().map(|n| plain(n)).collect::<Vec<_>>(),
            "answers": answers.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "figure": self.figure(),
        })
    }
}

/// `1.31 [1.29..1.33] differs`
fn said(answer: &Answer) -> String {
    let figure = answer.effect.map(|e| ratio(&e));
    [figure.as_deref().unwrap_or_default(), verdict(answer.verdict)].join(" ").trim().to_owned()
}

/// Whether all runs say the same of a question.
fn agreement(answers: &[&Answer]) -> &'static str {
    let said = answers.iter().map(|a| Said { verdict: a.verdict, effect: a.effect, winner: None });
    compare::agreement(&said.collect::<Vec<_>>()).words()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::testing::Made;

    const AT: &str = "dense_4k@16MiB/snapshot/512/none/1";

    fn run(sticky_ns: f64, seed: u64) -> Results {
        let cells = [(format!("{AT}/sticky_flags"), sticky_ns), (format!("{AT}/map_order"), 2.0)];
        let cells = cells.each_ref().map(|(id, ns)| (id.as_str(), *ns));
        Made { seed, ..Made::new(&cells) }.results()
    }

    fn runs(list: &[Results]) -> Runs {
        Runs::new(list, crate::compare::compare(list, "decode", &|_| true))
    }

    #[test]
    fn runs_agree_where_verdict_direction_and_intervals_do() {
        for (a, b, expected) in [
            (2.4, 2.4, "agree"),
            (2.4, 3.0, "same verdict, intervals apart"),
            (2.4, 1.5, "disagree"),
            (2.4, 2.0, "disagree"),
        ] {
            let runs = runs(&[run(a, 1), run(b, 2)]);
            let text = runs.markdown();
            let line = text.lines().find(|l| l.starts_with("| sticky_bits |")).unwrap();
            assert!(line.ends_with(&format!("| {expected} |")), "{a} {b}: {line}");
            let Body::Ranges(r) = runs.figure().unwrap().body else { panic!("ranges") };
            assert!(r.rows.iter().any(|r| r.name == "sticky_bits, B"));
        }
        let other = Made::new(&[(&format!("{AT}/map_order"), 2.0)]).results();
        let text = runs(&[run(2.4, 1), other]).markdown();
        assert!(text.contains("not measured in all"), "{text}");
    }
}
