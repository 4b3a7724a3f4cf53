//! Runs side by side.
//!
//! Times of two runs are ratios of what was measured at different times: for looking at. Times of two machines say which
//! machine is faster and nothing about a design: they are not compared. What both kinds have in common are ratios
//! within a run, a design against a reference measured in the same rounds, and how far those agree.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::measure::machine::Machine;
use crate::questions::answer::Effect;
use crate::questions::{self, Answer, CellId, Coordinate, Metric};
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
    /// By id.
    pub(crate) rows: Vec<Row>,
    /// For each run.
    pub(crate) answers: Vec<Vec<Answer>>,
    /// What differs between the runs beside the machine.
    pub(crate) notes: Vec<String>,
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
    let ids =
        ids.into_iter().filter(|id| wanted(&id.to_string()) && id.get(Coordinate::Backend) != reference);
    let rows = ids.map(|id| row(runs, id, reference, refused.is_none())).collect();
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
    Comparison {
        reference: reference.to_owned(),
        refused,
        rows,
        answers: runs.iter().map(questions::answers).collect(),
        notes,
    }
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
