//! Both sides of churn: what it did to the walk, and what the walk did to it.

use serde::Serialize;

use crate::measure::churn::Tally;
use crate::record::{ChurnCost, Sample};
use crate::stats::Sorted;

/// What churn did to the walk, and the walk to churn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ChurnResult {
    /// Events a second while this backend walked.
    pub(crate) events_per_s: f64,
    /// Events that failed, of a thousand.
    pub(crate) failed_permille: f64,
    /// What an event took of its thread while this backend walked.
    pub(crate) event_ns: Option<f64>,
    /// Operations that were tried.
    pub(crate) tried: u64,
    /// Times that one had to walk again.
    pub(crate) collided: u64,
    /// Operations that the policy gave up.
    pub(crate) given_up: u64,
    /// Pages walked in vain, of each that was wanted.
    pub(crate) vain_per_page: f64,
}

/// The churn threads' side of a group: alone, and while its backends walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ChurnSide {
    /// Events a second.
    pub(crate) events_per_s: f64,
    /// From the intended start of an event.
    pub(crate) p50_ns: f64,
    /// Ditto.
    pub(crate) p99_ns: f64,
}

/// From the blocks of one backend; none where nothing invalidated.
pub(super) fn churned<'a>(blocks: impl Iterator<Item = &'a Sample>) -> Option<ChurnResult> {
    let mut result = ChurnResult::default();
    let mut all = Tally::default();
    let (mut pages, mut vain) = (0, 0);
    for block in blocks {
        let Some(churn) = block.churn else { continue };
        let t = churn.tally();
        all.ns += t.ns;
        all.events += t.events;
        all.failures += t.failures;
        all.busy_ns += t.busy_ns;
        result.tried += block.nr_calls;
        result.collided += churn.collided;
        result.given_up += churn.given_up;
        if block.what.is_staged() {
            pages += block.nr_pages;
            vain += churn.pages_in_vain;
        }
    }
    result.events_per_s = all.events as f64 * 1e9 / all.ns as f64;
    result.failed_permille = 1000.0 * all.failures as f64 / (all.events + all.failures).max(1) as f64;
    result.event_ns = all.ns_per_event();
    result.vain_per_page = vain as f64 / pages.max(1) as f64;
    (all.ns > 0).then_some(result)
}

/// The middle launch's.
pub(super) fn side(costs: &[ChurnCost]) -> Option<ChurnSide> {
    let middle = |f: &dyn Fn(&ChurnCost) -> f64| Some(Sorted::new(costs.iter().map(f).collect())?.median());
    Some(ChurnSide {
        events_per_s: middle(&|c| c.events as f64 * 1e9 / c.wall_ns.max(1) as f64)?,
        p50_ns: middle(&|c| c.p50_ns as f64)?,
        p99_ns: middle(&|c| c.p99_ns as f64)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::sample;
    use super::*;
    use crate::measure::member::What;
    use crate::record::ChurnDose;

    #[test]
    fn both_sides_add_up_over_blocks() {
        let dose = ChurnDose {
            wall_ns: 1_000_000,
            events: 90,
            failures: 10,
            busy_ns: 500_000,
            tables: 0,
            collided: 5,
            given_up: 1,
            pages_in_vain: 250,
        };
        let whole = Sample { churn: Some(ChurnDose { pages_in_vain: 0, ..dose }), ..sample("a", 0, 1) };
        let staged = Sample { churn: Some(dose), what: What::Stages, ..sample("a", 1, 1) };
        let r = churned([&whole, &staged, &sample("a", 2, 1)].into_iter()).unwrap();
        assert_eq!((r.tried, r.collided, r.given_up), (20, 10, 2));
        assert!((r.events_per_s - 90_000.0).abs() < 1e-6 && (r.failed_permille - 100.0).abs() < 1e-9);
        assert_eq!((r.event_ns, r.vain_per_page), (Some(5000.0), 0.25));
        assert!(churned([&sample("a", 0, 1)].into_iter()).is_none(), "nothing invalidated");
    }

    #[test]
    fn the_churn_threads_side_is_the_middle_launch() {
        let cost = |events, p99_ns| ChurnCost {
            events,
            wall_ns: 1_000_000_000,
            p50_ns: 10,
            p99_ns,
            ..ChurnCost::default()
        };
        let s = side(&[cost(100, 50), cost(300, 1000), cost(200, 70)]).unwrap();
        assert_eq!((s.events_per_s, s.p50_ns, s.p99_ns), (200.0, 10.0, 70.0));
        assert!(side(&[]).is_none());
    }
}
