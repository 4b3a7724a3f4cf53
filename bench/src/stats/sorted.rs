//! A sample in ascending order, and what can be read off it.

/// Finite numbers in ascending order; at least one.
#[derive(Clone, Debug)]
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts `values`; none if there are none, or if one is not finite.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Sorted> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Sorted(values))
    }
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    /// The `i`th smallest, from 0.
    pub(crate) fn rank(&self, i: usize) -> f64 {
        self.0[i]
    }
    /// The middle, or the mean of the two middle ones.
    pub(crate) fn median(&self) -> f64 {
        let n = self.0.len();
        if n % 2 == 1 { self.0[n / 2] } else { (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0 }
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
    fn the_median_is_the_middle() {
        assert_eq!(Sorted::new(vec![3.0, 1.0, 2.0]).unwrap().median(), 2.0);
        assert_eq!(Sorted::new(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median(), 2.5);
    }
}
