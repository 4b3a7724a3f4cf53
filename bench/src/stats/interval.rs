//! Medians with intervals that assume nothing about the distribution.
//!
//! The interval of a median is read off the order statistics: the number of sample values below the true median is
//! binomial(n, 1/2) whatever the distribution. With fewer than six values no pair of them reaches 95 %; then it is the
//! whole span, and covers less than it says: [`confidence`] says how much.

use super::Sorted;
use serde::{Deserialize, Serialize};

/// A median and where the true one lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The sample's median.
    pub median: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

impl Interval {
    /// Half the width of the interval in per cent of the median.
    pub fn spread_percent(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { 50.0 * (self.hi - self.lo) / self.median }
    }
}

/// The median of a sample with its 95 % interval.
pub fn median_interval(sample: &Sorted) -> Interval {
    let skip = outside(sample.len());
    Interval { median: sample.median(), lo: sample.rank(skip), hi: sample.rank(sample.len() - 1 - skip) }
}

/// The ratio of paired values as a median over the pairs, from their logarithms; none without a pair, or with a value
/// that is not positive.
pub fn ratio_interval(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Interval> {
    let logs = Sorted::new(pairs.map(|(a, b)| (a / b).ln()).collect())?;
    let log = median_interval(&logs);
    Some(Interval { median: log.median.exp(), lo: log.lo.exp(), hi: log.hi.exp() })
}

/// How many values at each end lie outside the interval: the largest d with 2 P(binomial(n, 1/2) <= d) <= 5 %, or 0.
pub(super) fn outside(n: usize) -> usize {
    let mut ln_term = n as f64 * 0.5f64.ln();
    let mut up_to = 0.0;
    for d in 0..n / 2 {
        up_to += ln_term.exp();
        if 2.0 * up_to > 0.05 {
            return d.saturating_sub(1);
        }
        ln_term += ((n - d) as f64).ln() - ((d + 1) as f64).ln();
    }
    (n / 2).saturating_sub(1)
}

/// How likely the interval of [`median_interval`] from `n` values holds the true median, whatever the distribution of
/// the values: exact for continuous ones, at least this much for others.
pub fn confidence(n: usize) -> f64 {
    let mut ln_term = n as f64 * 0.5f64.ln();
    let mut up_to = 0.0;
    for d in 0..=outside(n) {
        up_to += ln_term.exp();
        ln_term += ((n - d) as f64).ln() - ((d + 1) as f64).ln();
    }
    (1.0 - 2.0 * up_to).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_tables() {
        // Conover, confidence intervals for the median: (n, values outside at each end).
        for (n, d) in [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (15, 3), (20, 5), (50, 17), (100, 39)] {
            assert_eq!(outside(n), d, "n = {n}");
        }
        assert!(outside(2000) > 950, "long samples do not underflow");
    }

    #[test]
    fn confidence_is_that_of_the_tables() {
        // Gibbons & Chakraborti, Nonparametric Statistical Inference: 1 - 2 P(binomial(n, 1/2) <= d).
        for (n, percent) in
            [(1, 0.0), (3, 75.0), (5, 93.75), (6, 96.875), (9, 96.09), (12, 96.14), (20, 95.86)]
        {
            assert!((100.0 * confidence(n) - percent).abs() < 0.01, "n = {n}: {}", confidence(n));
        }
    }

    #[test]
    fn the_interval_holds_the_median_and_a_ratio_of_equals_is_one() {
        let sample = Sorted::new((0..40).map(f64::from).collect()).unwrap();
        let i = median_interval(&sample);
        assert!(i.lo < i.median && i.median < i.hi);
        let r = ratio_interval([(2.0, 2.0), (3.0, 3.0)].into_iter()).unwrap();
        assert_eq!((r.median, r.lo, r.hi), (1.0, 1.0, 1.0));
        assert!(ratio_interval([(1.0, 0.0)].into_iter()).is_none());
        assert!(ratio_interval(std::iter::empty()).is_none());
    }
}
