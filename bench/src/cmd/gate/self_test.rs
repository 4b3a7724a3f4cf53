//! `walkbench gate --self-test N`: how often does this gate cry wolf on this machine, and how often does it find what is
//! there? N runs of this program against itself with each of what is planted.
//!
//! With `--record FILE` every run is appended as a line with all of its raw rounds, and runs that the file has are not
//! made again: it may be stopped and added to, and what another rule would have decided can be asked of it. A file that was
//! packed with gzip is read and no more.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::paired::{self, CONTROLS, Plan, TooSmall};
use super::planted::Planted;
use crate::gate::rounds::{Looks, Orders, Recording, Role};
use crate::gate::verdict::{self, Decision, State, Verdict};
use crate::interrupt;
use crate::stats::clopper_pearson;

/// Runs in a row for which the budget may be too small.
const REFUSED_IN_A_ROW: u32 = 5;

/// A run, as the file has it.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    planted: Planted,
    /// Decided tables and orders.
    seed: u64,
    /// Seconds that it was to take.
    budget_s: u64,
    recording: Recording,
    /// The second look, if the first resolved too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<Recording>,
}

impl Run {
    fn new(planted: Planted, seed: u64, budget_s: u64, looks: Looks) -> Run {
        let again = looks.second.map(|(_, recording)| recording);
        Run { planted, seed, budget_s, recording: looks.first, again }
    }
    fn decide(&self) -> Decision {
        let first = verdict::decide(&self.recording);
        match &self.again {
            Some(again) => verdict::decide_again(&first, Orders::Same, again),
            None => first,
        }
    }
}

/// Runs that were made.
#[derive(Debug)]
pub(super) struct Kept {
    file: Option<File>,
    /// Nothing can be added.
    is_packed: bool,
    runs: Vec<Run>,
}

impl Kept {
    /// Those of a file, which new ones are appended to; none, and nothing is kept, without a file.
    ///
    /// # Errors
    /// A file that cannot be read or written, or holds runs of other cells or budgets.
    pub(super) fn open(path: Option<&Path>, budget_s: u64, cells: &[String]) -> Result<Kept> {
        let Some(path) = path else { return Ok(Kept { file: None, is_packed: false, runs: Vec::new() }) };
        let name = || path.display().to_string();
        let is_packed = path.extension().is_some_and(|e| e == "gz");
        let mut text = String::new();
        if path.exists() {
            let file = File::open(path).with_context(name)?;
            let mut reader: Box<dyn Read> =
                if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
            reader.read_to_string(&mut text).with_context(name)?;
        }
        // A run that was being written when the gate was killed never ended.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let mut runs = Vec::new();
        for (i, line) in BufReader::new(&text.as_bytes()[..whole]).lines().enumerate() {
            let run: Run = serde_json::from_str(&line?)
                .with_context(|| format!("{}, line {}: expected a run of --self-test", name(), i + 1))?;
            for recording in [Some(&run.recording), run.again.as_ref()].into_iter().flatten() {
                recording.check().with_context(|| format!("{}, line {}", name(), i + 1))?;
            }
            let mut others: Vec<&String> = run.recording.comparisons.iter().map(|c| &c.id).collect();
            others.retain(|id| !cells.contains(id) && !CONTROLS.contains(&id.as_str()));
            if run.budget_s != budget_s || !others.is_empty() {
                bail!(
                    "{}, line {}: a run with --budget {}{}; expected the budget and the cells of this one, or another file",
                    name(),
                    i + 1,
                    run.budget_s,
                    others.first().map_or(String::new(), |id| format!(" and the cell {id}"))
                );
            }
            runs.push(run);
        }
        let file = if is_packed {
            None
        } else {
            let file = OpenOptions::new().append(true).create(true).open(path).with_context(name)?;
            file.set_len(whole as u64).with_context(name)?;
            Some(file)
        };
        Ok(Kept { file, is_packed, runs })
    }
    fn add(&mut self, run: Run) -> Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(&run).context("a run as JSON")?;
            line.push('\n');
            file.write_all(line.as_bytes()).context("recording a run")?;
        }
        self.runs.push(run);
        Ok(())
    }
    /// The seeds from `first` on that `planted` was not tried with.
    fn missing(&self, planted: Planted, first: u64) -> impl Iterator<Item = u64> + use<> {
        let done: HashSet<u64> = self.runs.iter().filter(|r| r.planted == planted).map(|r| r.seed).collect();
        (first..).filter(move |seed| !done.contains(seed))
    }
    fn count(&self, planted: Planted) -> u64 {
        self.runs.iter().filter(|r| r.planted == planted).count() as u64
    }
    /// What all of them came to.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for run in &self.runs {
            tally.add(run.planted, &run.decide(), run.again.is_some());
        }
        tally
    }
}

/// What a gate does that cannot link anew: a look, and another one if that resolved too little; none if Ctrl-C came.
///
/// # Errors
/// What [`paired::measure`] says of the first; without the second the first decides.
pub(super) fn looks(plan: Plan) -> Result<Option<Looks>> {
    let Some(first) = paired::measure(&plan)?.map(|m| m.recording) else { return Ok(None) };
    let cells = verdict::decide(&first).suspects(Orders::Same);
    if cells.is_empty() {
        return Ok(Some(Looks { first, second: None }));
    }
    let again = paired::measure(&plan.again(cells));
    if interrupt::is_asked() {
        return Ok(None);
    }
    let second = again.ok().flatten().map(|again| (Orders::Same, again.recording));
    Ok(Some(Looks { first, second }))
}

/// Runs with the same plant.
#[derive(Clone, Debug, Default, Serialize)]
struct Series {
    planted: Planted,
    /// Runs that came to an end.
    runs: u64,
    /// Verdicts.
    pass: u64,
    regression: u64,
    inconclusive_environment: u64,
    inconclusive_power: u64,
    /// Runs that showed some cell faster.
    faster: u64,
    /// Runs that called a cell slower or faster that is not.
    wrong: u64,
    /// Runs that took a second look.
    second_looks: u64,
}

/// All of them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally(Vec<Series>);

impl Tally {
    /// A run is over.
    fn add(&mut self, planted: Planted, decision: &Decision, is_second: bool) {
        let at = self.0.iter().position(|s| s.planted == planted).unwrap_or_else(|| {
            self.0.push(Series { planted, ..Series::default() });
            self.0.len() - 1
        });
        let s = &mut self.0[at];
        s.runs += 1;
        s.second_looks += u64::from(is_second);
        let is_judged = matches!(decision.verdict, Verdict::Pass | Verdict::Regression);
        s.wrong += u64::from(is_judged && planted.is_contradicted(decision));
        let faster = decision.decided.iter().any(|d| d.role == Role::Cell && d.state == State::Faster);
        s.faster += u64::from(is_judged && faster);
        let count = match decision.verdict {
            Verdict::Pass => &mut s.pass,
            Verdict::Regression => &mut s.regression,
            Verdict::InconclusiveEnvironment => &mut s.inconclusive_environment,
            Verdict::InconclusivePower => &mut s.inconclusive_power,
        };
        *count += 1;
    }
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<14}{:>5}{:>7}{:>12}{:>8}{:>13}{:>7}{:>7}{:>12}\n",
            "planted", "runs", "pass", "regression", "faster", "environment", "power", "wrong", "two looks"
        );
        for s in &self.0 {
            let _ = writeln!(
                text,
                "{:<14}{:>5}{:>7}{:>12}{:>8}{:>13}{:>7}{:>7}{:>12}",
                s.planted.to_string(),
                s.runs,
                s.pass,
                s.regression,
                s.faster,
                s.inconclusive_environment,
                s.inconclusive_power,
                s.wrong,
                s.second_looks
            );
        }
        text.push('\n');
        for s in &self.0 {
            let (what, hits) = match s.planted {
                p if p.is_none() => ("false alarms", s.regression),
                p if p.is_slower() => ("found", s.regression),
                _ => ("shown as faster", s.faster),
            };
            let rate = |hits: u64, runs: u64| {
                let (lo, hi) = clopper_pearson(hits, runs, 0.95);
                format!("{hits} of {runs}, {:.1} % to {:.1} %", 100.0 * lo, 100.0 * hi)
            };
            let decided = s.runs - s.inconclusive_environment - s.inconclusive_power;
            let name = s.planted.to_string();
            let _ = write!(text, "{name:<14}{what}: {}", rate(hits, s.runs));
            if decided < s.runs && !s.planted.is_none() {
                let _ =
                    write!(text, " of all runs; of those that decided {}", rate(hits.min(decided), decided));
            }
            text.push('\n');
        }
        text + "Rates with the exact interval of Clopper and Pearson, 95 %. Wrong: a cell without the plant, or the other \
                way round.\n"
    }
}

/// Runs all of `plants` by turns until each has `n`; `run` makes one with a plant and a seed, none when Ctrl-C came, which
/// is what it says then. A run for which the budget was too small, since the machine was busier than before, has measured
/// nothing, and is made again.
///
/// # Errors
/// What a run says; of a budget that is too small if none fitted into it before, or some in a row do not.
pub(super) fn run(
    kept: &mut Kept,
    plants: &[Planted],
    n: u64,
    seed: u64,
    budget_s: u64,
    mut run: impl FnMut(Planted, u64) -> Result<Option<Looks>>,
) -> Result<bool> {
    for i in 1..=n {
        for &planted in plants {
            if kept.count(planted) >= i {
                continue;
            }
            let Some(seed) = kept.missing(planted, seed).next() else { continue };
            if kept.is_packed {
                bail!(
                    "--record: the file has {} runs with {planted} planted and is packed; expected a smaller --self-test, or \
                     the file unpacked, to which new runs are appended",
                    kept.count(planted)
                );
            }
            let mut refused = 0;
            let looks = loop {
                match run(planted, seed) {
                    Err(e) if e.is::<TooSmall>() && !kept.runs.is_empty() && refused < REFUSED_IN_A_ROW => {
                        refused += 1;
                        eprintln!("{i} of {n}, planted {planted}: refused, and made again: {e}");
                    }
                    looks => break looks?,
                }
            };
            let Some(looks) = looks else { return Ok(false) };
            let run = Run::new(planted, seed, budget_s, looks);
            let decision = run.decide();
            let reasons = decision.reasons.join("; ");
            eprintln!("{i} of {n}, planted {planted}: {}: {reasons}", decision.verdict.words());
            kept.add(run)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(text: &str) -> Planted {
        text.parse().unwrap()
    }

    #[test]
    fn runs_are_counted_by_plant_and_rates_are_exact() {
        let decision = |verdict| Decision { verdict, reasons: Vec::new(), decided: Vec::new() };
        let mut tally = Tally::default();
        for i in 0..20 {
            for what in ["0", "3", "2", "-3"] {
                let verdict = match what {
                    "3" if i == 5 => Verdict::InconclusivePower,
                    "3" | "2" => Verdict::Regression,
                    _ => Verdict::Pass,
                };
                tally.add(planted(what), &decision(verdict), verdict == Verdict::InconclusivePower);
            }
        }
        let text = tally.text();
        for part in [
            "+0 %          false alarms: 0 of 20, 0.0 % to 16.8 %",
            "+3 %          found: 19 of 20, 75.1 % to 99.9 % of all runs; of those that decided 19 of 19",
            "+2 %          found: 20 of 20, 83.2 % to 100.0 %",
            "-3 %          shown as faster: 0 of 20",
        ] {
            assert!(text.contains(part), "{part:?} not in\n{text}");
        }
    }

    #[test]
    fn a_run_that_is_refused_is_made_again_but_not_for_ever_nor_the_first() {
        let quiet = Recording::parse(include_str!("../../../recordings/quiet.json")).unwrap();
        let go = |runs: &[bool]| {
            let mut kept = Kept::open(None, 20, &[]).unwrap();
            let mut runs = runs.iter();
            let ended = run(&mut kept, &[planted("0")], 3, 1, 20, |_, _| match runs.next() {
                Some(true) => Ok(Some(Looks { first: quiet.clone(), second: None })),
                Some(false) => Err(TooSmall { budget_s: 20, cells: 2, expected_s: 25 }.into()),
                None => Ok(None),
            });
            (
                ended.map_err(|e| e.to_string()),
                kept.runs.iter().map(|r| r.seed).collect::<Vec<_>>(),
                runs.len(),
            )
        };
        assert_eq!(go(&[true, false, true, false, false, true]), (Ok(true), vec![1, 2, 3], 0));
        let (error, seeds, left) = go(&[false, true]);
        assert!(
            error
                .unwrap_err()
                .contains("--budget 20: too small for any verdict on 2 cells; expected --budget 25")
        );
        assert_eq!((seeds, left), (vec![], 1));
        let (error, seeds, left) = go(&[true, false, false, false, false, false, false, true]);
        assert!(error.is_err());
        assert_eq!((seeds, left), (vec![1], 1));
    }

    #[test]
    fn what_was_recorded_is_not_run_again_and_a_torn_line_is() {
        let quiet = Recording::parse(include_str!("../../../recordings/quiet.json")).unwrap();
        let cells: Vec<String> = quiet.comparisons.iter().map(|c| c.id.clone()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        let plants = [planted("0"), planted("3:churn")];
        let go_on = |n: u64, limit: usize| {
            let mut kept = Kept::open(Some(&path), 20, &cells).unwrap();
            let mut made = Vec::new();
            let is_whole = run(&mut kept, &plants, n, 7, 20, |planted, seed| {
                made.push((planted.to_string(), seed));
                Ok((made.len() <= limit).then(|| Looks { first: quiet.clone(), second: None }))
            });
            (made, is_whole.unwrap(), kept.tally().text())
        };
        let made = |list: &[(&str, u64)]| list.iter().map(|(p, s)| ((*p).to_owned(), *s)).collect::<Vec<_>>();
        let (first, is_whole, _) = go_on(2, 3);
        assert_eq!(first, made(&[("+0 %", 7), ("+3 % churn", 7), ("+0 %", 8), ("+3 % churn", 8)]));
        assert!(!is_whole, "stopped in the last one");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 100]).unwrap();
        let (second, is_whole, tally) = go_on(2, 9);
        assert_eq!(
            second,
            made(&[("+0 %", 8), ("+3 % churn", 8)]),
            "the torn one, and the one that never ran"
        );
        assert!(is_whole && tally.contains("false alarms: 0 of 2,"), "{tally}");
        assert!(go_on(2, 9).0.is_empty());
        for (budget, cells, says) in
            [(21, &cells[..], "a run with --budget 20;"), (20, &[][..], " and the cell ")]
        {
            let error = Kept::open(Some(&path), budget, cells).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // Packed, it is read and not added to.
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&std::fs::read(&path).unwrap()).unwrap();
        let packed_path = folder.path().join("runs.jsonl.gz");
        std::fs::write(&packed_path, packed.finish().unwrap()).unwrap();
        let mut kept = Kept::open(Some(&packed_path), 20, &cells).unwrap();
        assert!(run(&mut kept, &plants, 2, 7, 20, |_, _| unreachable!("nothing is missing")).unwrap());
        let error = run(&mut kept, &plants, 3, 7, 20, |_, _| unreachable!()).unwrap_err().to_string();
        assert!(error.contains("has 2 runs with +0 % planted and is packed"), "{error}");

        std::fs::write(&path, "{}\n").unwrap();
        let error = format!("{:#}", Kept::open(Some(&path), 20, &cells).unwrap_err());
        assert!(error.contains("line 1: expected a run of --self-test"), "{error}");
    }
}
