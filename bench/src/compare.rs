//! Runs side by side.
//!
//! Times of two runs are ratios of what was measured at different times: for looking at. Times of two machines say which
//! machine is faster and nothing about a design: they are not compared. What both kinds have in common are ratios
//! within a run, a design against a reference measured in the same rounds, and how far those agree.
//!
//! A claim is a comparison that a question answers with, or that decides a recommendation. Claimed of one run, it is held
//! against what another run found: a claim that the next run does not make was made of too little.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::measure::machine::Machine;
use crate::questions::answer::{Answer, Effect, Finding, Verdict};
use crate::questions::{self, CellId, Coordinate, Kind, Metric, order, questions};
use crate::results::Results;
use crate::stats::{estimate, two_samples};

/// What passes from one minute to the next, or follows from something else.
const PASSING: &[&str] = &["load_milli", "memory_available_bytes"];

/// One cell in one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Side {
    /// Nanoseconds a page.
    pub(crate) ns_per_page: Option<Effect>,
    /// Against the reference, in the same rounds.
    pub(crate) x: Option<Effect>,
}

/// One cell in all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The cell.
    pub(crate) id: String,
    /// In the order of the runs; none where a run lacks it.
    pub(crate) sides: Vec<Option<Side>>,
    /// Of each further run: its time in units of the first one's; none across machines.
    pub(crate) times: Vec<Option<Effect>>,
    /// Of each further run: its `x` in units of the first one's.
    pub(crate) ratios: Vec<Option<Effect>>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Against what `x` is.
    pub(crate) reference: String,
    /// Why times are not compared, if they are not.
    pub(crate) refused: Option<String>,
    /// Group by group, as people sort them.
    pub(crate) rows: Vec<Row>,
    /// For each run.
    pub(crate) answers: Vec<Vec<Answer>>,
    /// Every comparison of every question.
    pub(crate) claims: Vec<Claim>,
    /// What differs between the runs beside the machine.
    pub(crate) notes: Vec<String>,
}

/// How far runs say the same of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Agreement {
    /// Verdict and direction, and the intervals have a value in common.
    Agree,
    /// Verdict and direction, but not the figure: days differ by more than launches do.
    Apart,
    /// Some resolve what others do not.
    Unresolved,
    /// Other verdicts, or the other direction, or another winner.
    Disagree,
    /// Some lack it.
    NotMeasured,
}

impl Agreement {
    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Agreement::Agree => "agree",
            Agreement::Apart => "same verdict, intervals apart",
            Agreement::Unresolved => "not resolved in all",
            Agreement::Disagree => "disagree",
            Agreement::NotMeasured => "not measured in all",
        }
    }
}

/// What one run says of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Said {
    /// Whether there is a difference.
    pub(crate) verdict: Verdict,
    /// How large.
    pub(crate) effect: Option<Effect>,
    /// Who is the cheapest, where many compete.
    pub(crate) winner: Option<String>,
}

impl Said {
    fn of(finding: &Finding, kind: Option<&Kind>) -> Said {
        let first = finding.rankings.first().and_then(|r| r.order.first());
        let winner = first.filter(|_| kind == Some(&Kind::Rank)).map(|p| p.backend.clone());
        let effect = finding.headline.as_ref().map(|p| p.effect);
        Said { verdict: finding.verdict, effect, winner }
    }
}

/// A comparison in all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claim {
    /// The question.
    pub(crate) question: String,
    /// The comparison.
    pub(crate) title: String,
    /// Whether a question answers with it or a recommendation rests on it.
    pub(crate) is_made: bool,
    /// In the order of the runs.
    pub(crate) said: Vec<Said>,
    /// Whether they say the same.
    pub(crate) agreement: Agreement,
    /// The largest of their figures in units of the smallest, less one, in per cent: what a day, or a minute, makes of a
    /// ratio, which the launches of one run do not show. 0 for exact counts that agree; none with less than two figures.
    pub(crate) drift_percent: Option<f64>,
}

/// How far runs say the same.
pub(crate) fn agreement(said: &[Said]) -> Agreement {
    let Some(first) = said.first() else { return Agreement::NotMeasured };
    if said.iter().any(|s| s.verdict == Verdict::NotMeasured) {
        return Agreement::NotMeasured;
    }
    let direction = |s: &Said| s.effect.map(|e| e.ratio > 1.0);
    let is_alike = |s: &Said| match (s.verdict, first.verdict) {
        (Verdict::Differs, Verdict::Differs) => direction(s) == direction(first) && s.winner == first.winner,
        (a, b) => a == b,
    };
    if !said.iter().all(is_alike) {
        let is_open = said.iter().any(|s| s.verdict == Verdict::Unresolved);
        return if is_open { Agreement::Unresolved } else { Agreement::Disagree };
    }
    let ends = said.iter().filter_map(|s| s.effect.and_then(|e| e.lo.zip(e.hi)));
    let (lo, hi) = ends.fold((0.0, f64::INFINITY), |(l, h): (f64, f64), (lo, hi)| (l.max(lo), h.min(hi)));
    if lo <= hi { Agreement::Agree } else { Agreement::Apart }
}

/// How far the figures of runs lie apart.
fn drift_percent(said: &[Said]) -> Option<f64> {
    let figures: Vec<f64> = said.iter().filter_map(|s| Some(s.effect?.ratio)).collect();
    let (lo, hi) = figures.iter().fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), r| (l.min(*r), h.max(*r)));
    let drift = 100.0 * (hi / lo - 1.0);
    (figures.len() > 1 && drift.is_finite()).then_some(drift)
}

/// Every comparison that any of the runs has, question by question.
fn claims(answers: &[Vec<Answer>]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (q, question) in questions().iter().enumerate() {
        let of_runs: Vec<&Answer> = answers.iter().filter_map(|a| a.get(q)).collect();
        let titles = of_runs.first().into_iter().flat_map(|a| a.findings.iter().map(|f| f.title.as_str()));
        for (i, title) in titles.enumerate() {
            let kind = question.compares.iter().find(|c| c.title == title).map(|c| &c.kind);
            // By title: what stands beside the kernel is in the order of what was measured.
            let found = of_runs.iter().filter_map(|a| a.findings.iter().find(|f| f.title == title));
            let said: Vec<Said> = found.map(|f| Said::of(f, kind)).collect();
            if said.iter().all(|s| s.verdict == Verdict::NotMeasured) {
                continue;
            }
            claims.push(Claim {
                question: question.id.clone(),
                title: title.to_owned(),
                is_made: i == 0 || question.decisions.iter().any(|d| d.by == title),
                agreement: agreement(&said),
                drift_percent: drift_percent(&said),
                said,
            });
        }
    }
    claims
}

/// What differs between two machines, as `name: this / that`.
pub(crate) fn differences(a: &Machine, b: &Machine) -> Vec<String> {
    let map = |m: &Machine| match serde_json::to_value(m) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (a, b) = (map(a), map(b));
    let names: BTreeSet<&String> =
        a.keys().chain(b.keys()).filter(|n| !PASSING.contains(&n.as_str())).collect();
    let differ = names.into_iter().filter(|n| a.get(*n) != b.get(*n));
    let word = |v: Option<&Value>| match v {
        Some(Value::String(s)) => s.clone(),
        // What is too long for a line differs, and that is all that can be said in one.
        Some(v @ (Value::Array(_) | Value::Object(_))) => format!(
            "{} entries",
            v.as_array().map_or_else(|| v.as_object().map_or(0, serde_json::Map::len), Vec::len)
        ),
        Some(Value::Null) | None => "not known".to_owned(),
        Some(v) => v.to_string(),
    };
    differ.map(|n| format!("{n}: {} / {}", word(a.get(n)), word(b.get(n)))).collect()
}

impl Row {
    /// Whether there is anything to hold against each other.
    pub(crate) fn is_shared(&self) -> bool {
        self.sides.iter().flatten().count() > 1
    }
}

/// Compares runs, the first being the one that the others are measured by. `wanted` says which cells.
pub(crate) fn compare(runs: &[Results], reference: &str, wanted: &dyn Fn(&str) -> bool) -> Comparison {
    let first = &runs[0];
    let machines = runs.iter().skip(1).map(|r| (r, differences(&first.run.machine, &r.run.machine)));
    let refused = machines.filter(|(_, d)| !d.is_empty()).map(|(r, d)| {
        format!(
            "{} is of another machine than {} ({})",
            r.folder.display(),
            first.folder.display(),
            d.join("; ")
        )
    });
    let refused: Vec<String> = refused.collect();
    let refused = (!refused.is_empty()).then(|| refused.join("; "));
    let ids: BTreeSet<&CellId> = runs.iter().flat_map(|r| r.cells.keys()).collect();
    let is_wanted = |id: &&CellId| wanted(&id.to_string()) && id.get(Coordinate::Backend) != reference;
    let mut ids: Vec<&CellId> = ids.into_iter().filter(is_wanted).collect();
    ids.sort_by_cached_key(|id| order::of_cells(id));
    let rows = ids.into_iter().map(|id| row(runs, id, reference, refused.is_none())).collect();
    let mut notes = Vec::new();
    for run in &runs[1..] {
        let (a, b) = (&first.run, &run.run);
        for (what, x, y) in [
            ("seeds", a.seed.to_string(), b.seed.to_string()),
            ("profiles", a.profile.clone(), b.profile.clone()),
            ("commits", a.build.commit.clone(), b.build.commit.clone()),
            ("compilers", a.build.rustc.clone(), b.build.rustc.clone()),
            ("flags", a.build.flags.clone(), b.build.flags.clone()),
        ] {
            if x != y {
                notes.push(format!("{what} differ: {x} / {y}"));
            }
        }
    }
    let answers: Vec<Vec<Answer>> = runs.iter().map(questions::answers).collect();
    let claims = claims(&answers);
    Comparison { reference: reference.to_owned(), refused, rows, answers, claims, notes }
}

fn row(runs: &[Results], id: &CellId, reference: &str, same_machine: bool) -> Row {
    let other = id.with(&BTreeMap::from([(Coordinate::Backend, reference.to_owned())]));
    let values = |map: BTreeMap<u32, f64>| map.into_values().collect::<Vec<f64>>();
    let ns: Vec<Vec<f64>> = runs.iter().map(|r| values(r.per_launch(id, Metric::Whole))).collect();
    let x: Vec<Vec<f64>> = runs.iter().map(|r| values(r.log_ratios(id, &other, Metric::Whole))).collect();
    let one = |logs: &[f64]| estimate(logs).map(|e| Effect::measured(&e));
    let two = |logs: &[Vec<f64>], i: usize| two_samples(&logs[i], &logs[0]).map(|e| Effect::measured(&e));
    let sides = runs
        .iter()
        .enumerate()
        .map(|(i, r)| r.cells.contains_key(id).then(|| Side { ns_per_page: one(&ns[i]), x: one(&x[i]) }));
    Row {
        id: id.to_string(),
        sides: sides.collect(),
        times: (1..runs.len()).map(|i| if same_machine { two(&ns, i) } else { None }).collect(),
        ratios: (1..runs.len()).map(|i| two(&x, i)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::testing::Made;

    const AT: &str = "dense_4k@16MiB/snapshot/512/none/1";

    fn made(factor: f64, seed: u64) -> Results {
        let ids = ["map_order", "sticky_flags", "decode"].map(|b| format!("{AT}/{b}"));
        let ns = [2.0 * factor, 2.5 * factor, 1.0 * factor];
        let cells: Vec<(&str, f64)> = ids.iter().map(String::as_str).zip(ns).collect();
        Made { seed, ..Made::new(&cells) }.results()
    }

    #[test]
    fn one_machine_twice_has_times_and_ratios() {
        let c = compare(&[made(1.0, 1), made(1.1, 2)], "decode", &|_| true);
        assert!(c.refused.is_none() && c.rows.len() == 2);
        let row = c.rows.iter().find(|r| r.id.ends_with("map_order")).unwrap();
        let (time, ratio) = (row.times[0].unwrap(), row.ratios[0].unwrap());
        assert!(time.lo.unwrap() > 1.08 && time.hi.unwrap() < 1.12, "{time:?}");
        assert!((ratio.ratio - 1.0).abs() < 0.01, "within a run nothing moved: {ratio:?}");
        let x = row.sides[0].unwrap().x.unwrap();
        assert!((x.ratio - 2.0).abs() < 0.03);
        assert_eq!(c.answers.len(), 2);
    }

    #[test]
    fn what_one_run_alone_has_is_not_shared() {
        let fewer = [format!("{AT}/map_order"), format!("{AT}/decode")];
        let fewer = Made::new(&[(&fewer[0], 2.0), (&fewer[1], 1.0)]).results();
        let c = compare(&[made(1.0, 1), fewer], "decode", &|_| true);
        let shared: Vec<_> =
            c.rows.iter().map(|r| (r.id.rsplit('/').next().unwrap(), r.is_shared())).collect();
        assert_eq!(shared, [("map_order", true), ("sticky_flags", false)]);
    }

    #[test]
    fn times_of_another_machine_are_refused_with_what_differs() {
        let mut other = made(3.0, 2);
        other.run.machine.cpu_model = Some("Another".to_owned());
        other.run.machine.load_milli = Some(123_456);
        let c = compare(&[made(1.0, 1), other], "decode", &|_| true);
        let why = c.refused.unwrap();
        assert!(why.contains("cpu_model: ") && why.contains("/ Another") && !why.contains("load"), "{why}");
        assert!(c.rows.iter().all(|r| r.times == [None] && r.ratios[0].is_some()));
    }

    #[test]
    fn a_claim_is_made_again_where_verdict_direction_and_interval_are() {
        let at = |sticky: f64, launch_percent: f64, seed: u64| {
            let cells = [(format!("{AT}/sticky_flags"), sticky), (format!("{AT}/map_order"), 2.0)];
            let cells = cells.each_ref().map(|(id, ns)| (id.as_str(), *ns));
            Made { seed, launch_percent, ..Made::new(&cells) }.results()
        };
        let quiet = 0.3;
        for (a, b, noise, expected) in [
            (2.4, 2.4, quiet, Agreement::Agree),
            (2.4, 3.0, quiet, Agreement::Apart),
            (2.4, 1.5, quiet, Agreement::Disagree),
            (2.4, 2.0, quiet, Agreement::Disagree),
            (2.0, 2.0, quiet, Agreement::Agree),
            (2.4, 2.06, 8.0, Agreement::Unresolved),
        ] {
            let claims = compare(&[at(a, quiet, 1), at(b, noise, 3)], "decode", &|_| true).claims;
            let claim = claims.iter().find(|c| c.question == "sticky_bits" && c.is_made).unwrap();
            assert_eq!(claim.agreement, expected, "{a} {b}: {:?}", claim.said);
            let (drift, planted) =
                (claim.drift_percent.unwrap(), 100.0 * (f64::max(a, b) / f64::min(a, b) - 1.0));
            assert!((drift - planted).abs() < 3.0 + 2.0 * noise, "{a} {b}: {drift} % is not {planted} %");
        }
        let other = Made::new(&[(&format!("{AT}/map_order"), 2.0)]).results();
        let claims = compare(&[at(2.4, quiet, 1), other], "decode", &|_| true).claims;
        assert!(
            claims
                .iter()
                .filter(|c| c.question == "sticky_bits")
                .all(|c| c.agreement == Agreement::NotMeasured)
        );
    }

    #[test]
    fn another_winner_is_no_agreement_whatever_its_lead() {
        let said = |winner: &str| Said {
            verdict: Verdict::Differs,
            effect: Some(Effect {
                ratio: 1.3,
                lo: Some(1.2),
                hi: Some(1.4),
                launches: 12,
                confidence: 0.96,
                basis: Some(crate::stats::Basis::OrderStatistics),
                smallest_percent: None,
            }),
            winner: Some(winner.to_owned()),
        };
        assert_eq!(agreement(&[said("extents"), said("extents")]), Agreement::Agree);
        assert_eq!(agreement(&[said("extents"), said("sparse_list")]), Agreement::Disagree);
    }

    #[test]
    fn a_cell_of_one_run_only_is_a_row_with_a_gap() {
        let one = Made::new(&[(&format!("{AT}/map_order"), 2.0)]).results();
        let other = Made::new(&[(&format!("{AT}/noop"), 2.0)]).results();
        let c = compare(&[one, other], "decode", &|_| true);
        assert_eq!(c.rows.len(), 2);
        assert!(c.rows.iter().all(|r| r.sides.iter().flatten().count() == 1 && r.times == [None]));
        let filtered = compare(&[made(1.0, 1)], "decode", &|id| id.contains("sticky"));
        assert_eq!(filtered.rows.len(), 1);
    }
}
