//! Twins beside backends (`run --control`): what the measurement says where the truth is known.

use serde::Serialize;

use super::Results;
use crate::measure::visit::twin;
use crate::questions::{CellId, Coordinate, Metric};
use crate::stats::{Basis, COUNTS_FROM, Sorted};

/// All twins of a run against the backends that they copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Controls {
    /// What twins cost more, in per cent: the truth.
    pub(crate) planted_percent: u64,
    /// Twins with a figure.
    pub(crate) twins: usize,
    /// Distance of a ratio from the truth, in per cent, of the middle twin and of the one that 95 % are no worse than.
    pub(crate) error_percent: [f64; 2],
    /// Twins behind which six launches stand.
    pub(crate) claims: usize,
    /// Of these, found to differ by so much that it counts; the ids, with what was planted nothing.
    pub(crate) differ: Vec<String>,
    /// Of these, found to differ the way that was planted, however little.
    pub(crate) found: usize,
    /// Of these, those whose interval holds the truth.
    pub(crate) held: usize,
}

impl Results {
    /// What the run's twins say; none without twins.
    pub(crate) fn controls(&self) -> Option<Controls> {
        let (suffix, planted_percent) = twin(self.run.settings.control?);
        let truth = 1.0 + planted_percent as f64 / 100.0;
        let mut errors = Vec::new();
        let (mut claims, mut differ, mut found, mut held) = (0, Vec::new(), 0, 0);
        for cell in self.cells.keys() {
            let Some(twin) = CellId::parse(&format!("{cell}{suffix}")) else { continue };
            let backend = cell.get(Coordinate::Backend);
            let Some(e) = self.against(&twin, backend, Metric::Whole) else { continue };
            errors.push(100.0 * (e.value / truth - 1.0).abs());
            let (Basis::OrderStatistics, Some(lo), Some(hi)) = (e.basis, e.lo, e.hi) else { continue };
            claims += 1;
            held += usize::from(lo <= truth && truth <= hi);
            found += usize::from(lo > 1.0);
            if e.excludes(1.0) && 100.0 * (e.value - 1.0).abs() >= COUNTS_FROM {
                differ.push(cell.to_string());
            }
        }
        let errors = Sorted::new(errors)?;
        let error_percent = [errors.median(), errors.quantile(0.95)];
        let twins = errors.len();
        Some(Controls { planted_percent, twins, error_percent, claims, differ, found, held })
    }
}

impl std::fmt::Display for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Controls { planted_percent, twins, error_percent: [middle, most], claims, differ, found, held } =
            self;
        write!(
            f,
            "of {twins} twins that do {planted_percent} % more the middle one is off by {middle:.2} %, 95 % by at most \
             {most:.2} %; of {claims} with an interval {held} hold the truth, "
        )?;
        if *planted_percent > 0 {
            return write!(f, "{found} were found to cost more");
        }
        write!(f, "{} were found to differ by {COUNTS_FROM} % or more", differ.len())?;
        differ.iter().try_for_each(|id| write!(f, "\n{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Control;
    use crate::results::testing::Made;

    fn controls(control: Control, twins: &[(&str, f64)]) -> Controls {
        let made = Made { round_percent: 0.1, launch_percent: 0.05, ..Made::new(twins) };
        let mut results = made.results();
        results.run.settings.control = Some(control);
        results.controls().expect("twins")
    }

    #[test]
    fn a_twin_that_differs_by_nothing_is_not_found_and_one_that_differs_is() {
        let a = "dense_4k@2MiB/snapshot/512/none/1/map_order";
        let b = "dense_2m@2MiB/snapshot/512/none/1/map_order";
        let [a2, b2] = [format!("{a}+aa"), format!("{b}+aa")];
        let c = controls(Control::Aa, &[(a, 2.0), (&a2, 2.0), (b, 2.0), (&b2, 2.2)]);
        assert_eq!((c.planted_percent, c.twins, c.claims, c.held), (0, 2, 2, 1));
        assert_eq!(c.differ, [b]);
        assert!(c.to_string().contains("1 were found to differ by 2 % or more\ndense_2m@2MiB"), "{c}");
    }

    #[test]
    fn a_planted_slowdown_is_found_and_its_interval_holds_it() {
        let a = "dense_4k@2MiB/snapshot/512/none/1/map_order";
        let slow = format!("{a}+3pct");
        let c = controls(Control::Planted, &[(a, 2.0), (&slow, 2.06)]);
        assert_eq!((c.planted_percent, c.twins, c.found, c.held), (3, 1, 1, 1));
        assert!(c.error_percent[0] < 0.5, "{c:?}");
        let absent = controls(Control::Planted, &[(a, 2.0), (&slow, 2.0)]);
        assert_eq!((absent.found, absent.held), (0, 0));
    }

    #[test]
    fn without_twins_there_is_nothing_to_say() {
        assert!(
            Made::new(&[("dense_4k@2MiB/snapshot/512/none/1/map_order", 2.0)]).results().controls().is_none()
        );
    }
}
