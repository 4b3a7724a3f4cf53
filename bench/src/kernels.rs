//! One kernel against another: `walkbench live` of both, launch by launch in turns (scripts/kernel/run.sh ab).
//!
//! Launches stand in pairs, next to each other in time, so what drifts hits both. A row's value of a pair is ln(b / a);
//! the interval is that of [`estimate`], and one test for all rows together ([`sign_flip_max_t`], as the gate's) says
//! which differ: a false alarm anywhere is as rare as [`ALPHA`].

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::LiveRow;
use crate::stats::{Alternative, COUNTS_FROM, Estimate, estimate, sign_flip_max_t};

/// How rare a false alarm is.
pub(crate) const ALPHA: f64 = 0.05;

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The second kernel surely takes less, by however little.
    Faster,
    /// It surely takes more.
    Slower,
    /// The interval lies within [`COUNTS_FROM`] on both sides.
    Same,
    /// Neither is sure.
    Unresolved,
}

/// A row of both kernels.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    /// source/shape/stage/call pages/churn.
    pub(crate) name: String,
    /// Nanoseconds a page of the first.
    pub(crate) a: Estimate,
    /// Of the second.
    pub(crate) b: Estimate,
    /// Second over first.
    pub(crate) ratio: Estimate,
    /// Adjusted for all rows.
    pub(crate) p: f64,
    /// What follows.
    pub(crate) verdict: Verdict,
}

/// Every row that both kernels have in every launch, and why the others are not there.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// In the order of the first launch.
    pub(crate) rows: Vec<Compared>,
    /// Names by reason.
    pub(crate) missing: BTreeMap<String, Vec<String>>,
}

/// Compares: launch i of `a` was next to launch i of `b`.
pub(crate) fn compare(a: &[Vec<LiveRow>], b: &[Vec<LiveRow>]) -> Comparison {
    let mut comparison = Comparison::default();
    let mut there = Vec::new();
    for row in a.first().into_iter().flatten() {
        let name = row.name();
        match (logs(a, &name), logs(b, &name)) {
            (Ok(a), Ok(b)) => there.push((name, a, b)),
            (Err(why), _) | (_, Err(why)) => comparison.missing.entry(why).or_default().push(name),
        }
    }
    let differences =
        |(_, a, b): &(String, Vec<f64>, Vec<f64>)| a.iter().zip(b).map(|(a, b)| b - a).collect();
    let effects: Vec<Vec<f64>> = there.iter().map(differences).collect();
    let Some(test) = sign_flip_max_t(&effects, Alternative::TwoSided, 1) else {
        return comparison;
    };
    for (((name, a, b), effect), p) in there.into_iter().zip(&effects).zip(test.p) {
        if let (Some(a), Some(b), Some(ratio)) = (estimate(&a), estimate(&b), estimate(effect)) {
            comparison.rows.push(Compared { name, a, b, ratio, p, verdict: verdict(&ratio, p) });
        }
    }
    comparison
}

fn verdict(ratio: &Estimate, p: f64) -> Verdict {
    let near = 1.0 + COUNTS_FROM / 100.0;
    match ratio.lo.zip(ratio.hi) {
        _ if p <= ALPHA && ratio.excludes(1.0) && ratio.value < 1.0 => Verdict::Faster,
        _ if p <= ALPHA && ratio.excludes(1.0) => Verdict::Slower,
        // Fewer launches resolve nothing, sameness neither.
        Some((lo, hi)) if ratio.smallest_percent.is_some() && 1.0 / near < lo && hi < near => Verdict::Same,
        _ => Verdict::Unresolved,
    }
}

/// The logarithm of a row's figure for each launch, or why one has none.
fn logs(launches: &[Vec<LiveRow>], name: &str) -> Result<Vec<f64>, String> {
    let of = |rows: &Vec<LiveRow>| {
        let row = rows.iter().find(|r| r.name() == name).ok_or("not in every launch")?;
        match (row.ns_per_page, &row.error) {
            (Some(figure), _) => Ok(figure.median.ln()),
            (None, error) => Err(error.clone().unwrap_or_else(|| "no figure".to_owned())),
        }
    };
    launches.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::LiveFigure;
    use crate::stats::LEAST_LAUNCHES;

    fn row(shape: &str, ns: Option<f64>) -> LiveRow {
        let word = str::to_owned;
        LiveRow {
            source: word("hmm_range_fault"),
            shape: word(shape),
            stage: word("snapshot"),
            churn: word("none"),
            call_pages: Some(512),
            ns_per_page: ns.map(|median| LiveFigure { median, lo: None, hi: None, launches: 1 }),
            error: ns.is_none().then(|| word("no huge pages")),
        }
    }

    /// Launches of a kernel: the machine drifts, each scatters by its own small amount.
    fn launches(n: usize, factor: f64, salt: usize) -> Vec<Vec<LiveRow>> {
        let each = (0..n).map(|i| {
            let drift = 1.0 + 0.3 * i as f64;
            let own = 1.0 + 0.001 * ((i * 7 + salt * 3) % 5) as f64;
            let dense = row("dense_4k", Some(4.0 * drift * own * factor));
            vec![dense, row("zero_page", Some(5.0 * drift * own)), row("dense_2m", None)]
        });
        each.collect()
    }

    #[test]
    fn a_faster_kernel_is_found_whatever_the_machine_does_meanwhile() {
        for (factor, expected) in [(0.95, Verdict::Faster), (1.05, Verdict::Slower), (1.0, Verdict::Same)] {
            let c = compare(&launches(12, 1.0, 0), &launches(12, factor, 1));
            assert_eq!(c.rows.len(), 2);
            assert_eq!(c.rows[0].verdict, expected, "{:?}", c.rows[0]);
            assert!((c.rows[0].ratio.value / factor - 1.0).abs() < 0.005);
            assert_eq!(
                (c.rows[0].name.as_str(), c.rows[1].verdict),
                ("hmm_range_fault/dense_4k/snapshot/512/none", Verdict::Same)
            );
            assert_eq!(c.missing["no huge pages"], ["hmm_range_fault/dense_2m/snapshot/512/none"]);
        }
    }

    #[test]
    fn few_launches_resolve_nothing() {
        let few = LEAST_LAUNCHES - 1;
        let c = compare(&launches(few, 1.0, 0), &launches(few, 0.5, 1));
        assert!(c.rows.iter().all(|r| r.verdict == Verdict::Unresolved), "{:?}", c.rows);
        assert!(compare(&[], &[]).rows.is_empty());
    }

    #[test]
    fn a_row_that_one_launch_lacks_is_named_with_the_reason() {
        let (a, mut b) = (launches(6, 1.0, 0), launches(6, 1.0, 1));
        b[3].remove(0);
        let c = compare(&a, &b);
        assert_eq!(c.rows.len(), 1);
        assert_eq!(c.missing["not in every launch"], ["hmm_range_fault/dense_4k/snapshot/512/none"]);
    }
}
