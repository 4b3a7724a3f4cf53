//! `walkbench gate --self-test N`: how often does this gate cry wolf on this machine, and how often does it find what is
//! there? N runs each of this program against itself as it is, with 3 % more work, with 2 %, and with 3 % less.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::gate::rounds::Role;
use crate::gate::verdict::{Decision, State, Verdict};
use crate::stats::clopper_pearson;

/// What is planted, in per cent of work, in turns.
pub(super) const PLANTED: [i64; 4] = [0, 3, 2, -3];

/// Runs with the same plant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Series {
    /// Per cent more work in the new side; less if negative.
    planted_percent: i64,
    /// Runs that came to an end.
    runs: u64,
    /// Verdicts.
    pass: u64,
    regression: u64,
    inconclusive_environment: u64,
    inconclusive_power: u64,
    /// Runs that showed some cell faster.
    faster: u64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tally(Vec<Series>);

impl Tally {
    pub(super) fn new() -> Tally {
        let series = |planted_percent| Series {
            planted_percent,
            runs: 0,
            pass: 0,
            regression: 0,
            inconclusive_environment: 0,
            inconclusive_power: 0,
            faster: 0,
        };
        Tally(PLANTED.map(series).to_vec())
    }
    /// A run is over.
    pub(super) fn add(&mut self, planted_percent: i64, decision: &Decision) {
        for s in self.0.iter_mut().filter(|s| s.planted_percent == planted_percent) {
            s.runs += 1;
            let faster = decision.decided.iter().any(|d| d.role == Role::Cell && d.state == State::Faster);
            s.faster += u64::from(faster);
            let count = match decision.verdict {
                Verdict::Pass => &mut s.pass,
                Verdict::Regression => &mut s.regression,
                Verdict::InconclusiveEnvironment => &mut s.inconclusive_environment,
                Verdict::InconclusivePower => &mut s.inconclusive_power,
            };
            *count += 1;
        }
    }
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<10}{:>6}{:>7}{:>12}{:>8}{:>13}{:>7}\n",
            "planted", "runs", "pass", "regression", "faster", "environment", "power"
        );
        for s in &self.0 {
            let _ = writeln!(
                text,
                "{:<10}{:>6}{:>7}{:>12}{:>8}{:>13}{:>7}",
                format!("{:+} %", s.planted_percent),
                s.runs,
                s.pass,
                s.regression,
                s.faster,
                s.inconclusive_environment,
                s.inconclusive_power
            );
        }
        text.push('\n');
        for s in self.0.iter().filter(|s| s.runs > 0) {
            let (what, hits) = match s.planted_percent {
                0 => ("false alarms", s.regression),
                p if p > 0 => ("found", s.regression),
                _ => ("shown as faster", s.faster),
            };
            let rate = |hits: u64, runs: u64| {
                let (lo, hi) = clopper_pearson(hits, runs, 0.95);
                format!("{hits} of {runs}, {:.1} % to {:.1} %", 100.0 * lo, 100.0 * hi)
            };
            let decided = s.runs - s.inconclusive_environment - s.inconclusive_power;
            let _ =
                write!(text, "{:<10}{what}: {}", format!("{:+} %", s.planted_percent), rate(hits, s.runs));
            if decided < s.runs && s.planted_percent != 0 {
                let _ =
                    write!(text, " of all runs; of those that decided {}", rate(hits.min(decided), decided));
            }
            text.push('\n');
        }
        text + "Rates with the exact interval of Clopper and Pearson, 95 %.\n"
    }
}

/// Runs all series by turns; `run` makes one run with a plant and a seed, none when Ctrl-C came.
///
/// # Errors
/// What a run says.
pub(super) fn run(
    n: u64,
    seed: u64,
    mut run: impl FnMut(i64, u64) -> Result<Option<Decision>>,
) -> Result<(Tally, bool)> {
    let mut tally = Tally::new();
    for i in 0..n {
        for planted in PLANTED {
            let Some(decision) = run(planted, seed + i)? else { return Ok((tally, false)) };
            let reasons = decision.reasons.join("; ");
            eprintln!("{} of {n}, planted {planted:+} %: {}: {reasons}", i + 1, decision.verdict.words());
            tally.add(planted, &decision);
        }
    }
    Ok((tally, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_plant_and_rates_are_exact() {
        let decision = |verdict| Decision { verdict, reasons: Vec::new(), decided: Vec::new() };
        let (tally, done) = run(20, 1, |planted, seed| {
            Ok(Some(decision(match planted {
                3 if seed == 5 => Verdict::InconclusivePower,
                3 | 2 => Verdict::Regression,
                _ => Verdict::Pass,
            })))
        })
        .unwrap();
        assert!(done);
        let text = tally.text();
        for part in [
            "+0 %      false alarms: 0 of 20, 0.0 % to 16.8 %",
            "+3 %      found: 19 of 20, 75.1 % to 99.9 % of all runs; of those that decided 19 of 19",
            "+2 %      found: 20 of 20, 83.2 % to 100.0 %",
            "-3 %      shown as faster: 0 of 20",
        ] {
            assert!(text.contains(part), "{part:?} not in\n{text}");
        }
        let (stopped, done) = run(20, 1, |_, seed| Ok((seed < 2).then(|| decision(Verdict::Pass)))).unwrap();
        assert!(!done && stopped.0.iter().all(|s| s.runs == 1));
    }
}
