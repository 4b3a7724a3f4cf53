//! Answers in a kernel's proportions: a part of its own, in which every figure says which of two it is.

use serde_json::{Value, json};

use super::decisions::ratio;
use super::figure::plain;
use super::markdown::{flips, verdict};
use crate::calibrate::{self, Calibrated, Calibration, MARK, Outcome, Price, Priced, Prices};
use crate::export::{markdown::escape, rounded};
use crate::questions::answer::{BreakEven, Finding, Point};
use crate::questions::{Answer, Question, questions};
use crate::results::Results;
use crate::tables::{capital, number, with_ends};

/// What is said of a run with the prices of a kernel.
pub(super) struct InProportion {
    folder: String,
    kernel: String,
    prices: Vec<Price>,
    compared: Vec<Calibrated>,
}

impl InProportion {
    /// From both; whether they may be put together was looked at before.
    pub(super) fn new(run: &Results, answers: &[Answer], calibration: &Calibration) -> InProportion {
        let prices = Prices::new(run, calibration);
        InProportion {
            folder: plain(&calibration.folder().display().to_string()),
            kernel: plain(&calibration.kernel()),
            compared: calibrate::calibrated(questions(), answers, run, &prices),
            prices: prices.list(),
        }
    }
    fn priced(&self) -> impl Iterator<Item = (&Calibrated, &Priced)> {
        self.compared.iter().filter_map(|c| match &c.outcome {
            Outcome::Priced(p) => Some((c, &**p)),
            _ => None,
        })
    }
    /// What was not calibrated, and why; and what needs no calibrating.
    fn others(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for c in &self.compared {
            let name = format!("{}: {}", c.question, plain(&c.title));
            match &c.outcome {
                Outcome::Count => {
                    lines.push((name, "an exact count, the same in any proportions".to_owned()))
                }
                Outcome::Not(why) => lines.push((name, format!("not {MARK}: {}", plain(why)))),
                Outcome::Priced(p) => {
                    lines.extend(
                        p.left_out.iter().map(|why| (name.clone(), format!("not {MARK}: {}", plain(why)))),
                    );
                }
            }
        }
        lines
    }
    /// What changes, in a sentence.
    fn summary(&self) -> String {
        let changed: Vec<String> = self
            .priced()
            .filter(|(_, p)| !p.changes.is_empty())
            .map(|(c, p)| format!("{} ({}: {})", c.question, plain(&c.title), p.changes.join(", ")))
            .collect();
        let n = self.priced().count();
        let what = match (n, changed.is_empty()) {
            (0, _) => "no comparison of times could be calibrated".to_owned(),
            (_, true) => format!(
                "none of {n} comparisons of times changes its verdict, its direction, or where it flips"
            ),
            (_, false) => {
                format!("{} of {n} comparisons of times change: {}", changed.len(), changed.join("; "))
            }
        };
        format!(
            "{} (the kernel's prices of faults and reads put in the model's place, from {}): {what}.",
            capital(MARK),
            self.folder
        )
    }
    /// How a dose under churn is to be read.
    fn churn(&self) -> Option<String> {
        let read = self.prices.first().filter(|p| p.model[0] > 0.0 && p.kernel[0] > 0.0)?;
        let [times, lo, hi] = [(0, 0), (1, 2), (2, 1)].map(|(k, m)| read.kernel[k] / read.model[m]);
        Some(format!(
            "Under churn the walks that collided are priced as often as they happened. Reading a present entry takes the \
             kernel {} times as long, so its walks would meet with as many collisions where invalidations come \
             that many times as seldom; at the same rate they meet with more, and starting over is worse than these \
             figures say.",
            with_ends(times, lo, hi)
        ))
    }
    /// Beneath a question's own answer, where it has a calibrated one.
    pub(super) fn line(&self, question: &str) -> Option<String> {
        let (_, p) = self.priced().find(|(c, _)| c.question == question)?;
        let first = self.compared.iter().find(|c| c.question == question)?;
        // The first comparison is the answer; where it is a count, the first time stands for it and says so.
        let of = if matches!(first.outcome, Outcome::Priced(_)) {
            String::new()
        } else {
            let (c, _) = self.priced().find(|(c, _)| c.question == question)?;
            format!("{}: ", plain(&c.title))
        };
        Some(format!(
            "{of}{}, {}; {} (the kernel's prices, from {})",
            ratio(&p.headline.effect),
            verdict(p.headline.verdict),
            if p.changes.is_empty() { "nothing changes".to_owned() } else { change(p) },
            self.folder
        ))
    }
    /// The block `calibrated`.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "**{}**\n\n| | |\n|---|---|\n| calibration | {} |\n| kernel | {} |\n\n",
            escape(&self.summary()),
            escape(&self.folder),
            escape(&self.kernel)
        );
        text += "| price, ns | kernel | model | added | the same cell beside the kernel / here | from |\n|---|---:|---:|---:|---:|---|\n";
        for p in &self.prices {
            let drift = p.drift.map_or_else(|| "-".to_owned(), |d| format!("{d:.2}"));
            text += &format!(
                "| {} | {} | {} | {} | {drift} | {} |\n",
                p.what,
                escape(&ends(p.kernel)),
                escape(&ends(p.model)),
                escape(&ends(p.added)),
                escape(&p.from)
            );
        }
        text += &format!(
            "\n| question | comparison | a / b measured | a / b {MARK} | a, ns a page measured, {MARK} | b, ns a page measured, {MARK} | what changes |\n|---|---|---:|---:|---:|---:|---|\n"
        );
        for (c, p) in self.priced() {
            let Some(m) = &c.measured else { continue };
            let both = |was: Option<f64>, is: Option<f64>| {
                let figure = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), number);
                format!("{}, {}", figure(was), figure(is))
            };
            text += &format!(
                "| [{}](#{}) | {} | {} {} | {} {} | {} | {} | {} |\n",
                c.question,
                c.question,
                escape(&plain(&c.title)),
                escape(&ratio(&m.effect)),
                verdict(m.verdict),
                escape(&ratio(&p.headline.effect)),
                verdict(p.headline.verdict),
                both(m.a_value, p.headline.a_value),
                both(m.b_value, p.headline.b_value),
                escape(&change(p))
            );
        }
        let sure = self.priced().map(|(_, p)| p.headline.effect.confidence).min_by(f64::total_cmp);
        if let Some(sure) = sure {
            text += &format!("\nEvery {MARK} interval holds in {:.0} % or more.\n", 100.0 * sure);
        }
        for (c, p) in self.priced().filter(|(_, p)| p.points.len() > 1) {
            text += &curve(c, p);
        }
        if self.priced().any(|(c, _)| c.question == "under_churn") {
            text += &self.churn().map(|s| format!("\n{}\n", escape(&s))).unwrap_or_default();
        }
        let others: Vec<String> = self
            .others()
            .iter()
            .map(|(name, why)| format!("- {}: {}\n", escape(name), escape(why)))
            .collect();
        if !others.is_empty() {
            text += &format!("\n{}", others.concat());
        }
        text
    }
    /// For the page.
    pub(super) fn data(&self) -> Value {
        let round = |x: f64| Some(x).filter(|x| x.is_finite()).map(rounded);
        let prices = self.prices.iter().map(|p| {
            json!({
                "what": p.what, "from": p.from, "drift": p.drift.and_then(round),
                "kernel": p.kernel.map(round), "model": p.model.map(round), "added": p.added.map(round),
            })
        });
        let side = |p: &Point| {
            json!({
                "y": round(p.effect.ratio), "lo": p.effect.lo.and_then(round), "hi": p.effect.hi.and_then(round),
                "verdict": p.verdict, "a": p.a_value.and_then(round), "b": p.b_value.and_then(round),
            })
        };
        let compared = self.priced().flat_map(|(c, p)| {
            let head = c.measured.as_ref().map(|m| (m, &p.headline, change(p)));
            let along = p.points.iter().filter(|(m, _)| c.measured.as_ref().is_none_or(|h| h.a != m.a));
            let along = along.map(|(m, is)| (m, is, String::new()));
            head.into_iter().chain(along).map(move |(m, is, changes)| {
                json!({
                    "question": c.question, "comparison": plain(&c.title), "place": plain(&m.a),
                    "measured": side(m), "calibrated": side(is), "changes": changes,
                })
            })
        });
        json!({
            "summary": self.summary(),
            "about": [["calibration", self.folder], ["kernel", self.kernel]],
            "churn": self.churn(),
            "prices": prices.collect::<Vec<_>>(),
            "compared": compared.collect::<Vec<_>>(),
            "others": self.others(),
        })
    }
}

/// `2.3 [2.1..4.4]`
fn ends([middle, lo, hi]: [f64; 3]) -> String {
    with_ends(middle, lo, hi)
}

fn change(priced: &Priced) -> String {
    if priced.changes.is_empty() { "nothing".to_owned() } else { priced.changes.join("; ") }
}

/// Places along the axis of a comparison, with both.
fn curve(calibrated: &Calibrated, priced: &Priced) -> String {
    let compare = of_question(&calibrated.question)
        .and_then(|q| q.compares.iter().find(|c| c.title == calibrated.title));
    let Some((compare, axis)) = compare.and_then(|c| Some((c, c.axis.as_ref()?))) else {
        return String::new();
    };
    let mut text = format!(
        "\n{}:\n\n| {} | a / b measured | a / b {MARK} |\n|---|---:|---:|\n",
        escape(&plain(&calibrated.title)),
        axis.of.name().replace('_', " ")
    );
    for (was, is) in &priced.points {
        let at = was.x.map_or_else(|| was.a.clone(), |x| axis.name(x));
        text += &format!(
            "| {} | {} {} | {} {} |\n",
            escape(&plain(&at)),
            escape(&ratio(&was.effect)),
            verdict(was.verdict),
            escape(&ratio(&is.effect)),
            verdict(is.verdict)
        );
    }
    let says = |points: Vec<Point>, break_even: &Option<BreakEven>| {
        let finding = Finding {
            title: compare.title.clone(),
            metric: String::new(),
            sentence: String::new(),
            verdict: priced.headline.verdict,
            headline: None,
            points,
            break_even: break_even.clone(),
            rankings: Vec::new(),
        };
        let is_open =
            finding.break_even.is_none() && finding.points.iter().any(|p| p.effect.side(compare.level) == 0);
        if is_open { "not resolved".to_owned() } else { flips(axis, &finding) }
    };
    let (was, is): (Vec<Point>, Vec<Point>) = priced.points.iter().cloned().unzip();
    let [measured, calibrated] = &priced.break_even;
    text + &format!(
        "\nBreak-even, measured: {}; {MARK}: {}\n",
        escape(&says(was, measured)),
        escape(&says(is, calibrated))
    )
}

fn of_question(id: &str) -> Option<&'static Question> {
    questions().iter().find(|q| q.id == id)
}
