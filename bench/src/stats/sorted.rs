//! A sample in ascending order, and what can be read off it.

/// Finite numbers in ascending order; at least one.
#[derive(Clone, Debug)]
pub struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts `values`; none if there are none, or if one is not finite.
    pub fn new(mut values: Vec<f64>) -> Option<Sorted> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Sorted(values))
    }
    /// How many there are; never 0.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// The `i`th smallest, from 0.
    pub fn rank(&self, i: usize) -> f64 {
        self.0[i]
    }
    /// The middle, or the mean of the two middle ones.
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        if n % 2 == 1 { self.0[n / 2] } else { (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0 }
    }
    /// The `p` quantile, 0 to 1, linear between the values with the smallest at 0 and the largest at 1: type 7 of
    /// Hyndman & Fan (1996), what R, NumPy and spreadsheets give.
    ///
    /// # Panics
    /// If `p` is not between 0 and 1.
    pub fn quantile(&self, p: f64) -> f64 {
        assert!((0.0..=1.0).contains(&p), "quantile {p}: expected 0 to 1");
        let at = p * (self.0.len() - 1) as f64;
        let below = at.floor() as usize;
        let above = (below + 1).min(self.0.len() - 1);
        self.0[below] + (at - at.floor()) * (self.0[above] - self.0[below])
    }
    /// The mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
    /// The standard deviation with n - 1; 0 for a single value.
    pub fn sd(&self) -> f64 {
        let (mean, n) = (self.mean(), self.0.len());
        if n < 2 {
            return 0.0;
        }
        (self.0.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_nonsense_are_refused() {
        assert!(Sorted::new(vec![]).is_none());
        assert!(Sorted::new(vec![1.0, f64::NAN]).is_none());
    }

    #[test]
    fn quantiles_are_those_of_a_worked_example() {
        // NIST/SEMATECH e-Handbook of Statistical Methods 7.2.6.2, twelve gauge measurements; the text's method is
        // another type, the figure for "1 + p (N - 1)" is this one.
        let gauge = [
            95.1772, 95.1567, 95.1937, 95.1959, 95.1442, 95.0610, 95.1591, 95.1195, 95.1065, 95.0925,
            95.1990, 95.1682,
        ];
        let gauge = Sorted::new(gauge.to_vec()).unwrap();
        assert!((gauge.quantile(0.9) - 95.19568).abs() < 1e-9);
        assert_eq!((gauge.quantile(0.0), gauge.quantile(1.0)), (95.0610, 95.1990));
    }

    proptest::proptest! {
        #[test]
        fn quantiles_rise_stay_inside_and_meet_the_median(
            values in proptest::collection::vec(-1e6..1e6f64, 1..40), p in 0.0..1.0f64, q in 0.0..1.0f64,
        ) {
            let s = Sorted::new(values.clone()).unwrap();
            proptest::prop_assert!((p <= q) == (s.quantile(p) <= s.quantile(q)) || s.quantile(p) == s.quantile(q));
            proptest::prop_assert!((s.quantile(0.5) - s.median()).abs() <= 1e-9 * s.median().abs().max(1.0));
            // Naively: at most a share p of the values lies below, at most 1 - p above.
            let (n, x) = (values.len() as f64, s.quantile(p));
            let below = values.iter().filter(|v| **v < x).count() as f64;
            let above = values.iter().filter(|v| **v > x).count() as f64;
            proptest::prop_assert!(below <= p * (n - 1.0) + 1.0 && above <= (1.0 - p) * (n - 1.0) + 1.0);
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Sorted::new(vec![3.0, 1.0, 2.0]).unwrap().median(), 2.0);
        assert_eq!(Sorted::new(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median(), 2.5);
    }
}
