//! From one value a launch to a claim: an estimate, its interval, and the smallest effect that would have shown.
//!
//! | launches | interval | what it claims |
//! |---|---|---|
//! | 6 and more | order statistics of the launches | holds the median over launches in 95 % or more, whatever their distribution |
//! | 2 to 5 | from the least of them to the most | holds that median in 50 to 94 %, ditto: shown, never a verdict |
//! | 1 | none | nothing |
//!
//! The interval is not interpolated between order statistics. Hettmansperger and Sheather's interpolation (1986) would
//! be narrower, but it believes that launches are dense around their median. Launches with a placement lottery are not:
//! of two equally likely modes, seven launches of it cover 87.5 % (`coverage.rs` shows it). Uninterpolated, the
//! coverage is exact for every continuous distribution, and [`confidence`] says what it is: 96.9 % for 6 launches,
//! 96.1 % for 9 and 12, 96.5 % for 15, 95.1 % for 17, 95.9 % for 20; the counts between them are wider than they need
//! be, up to 99.2 % for 8. Plans should choose from these counts.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF, Normal};

use super::Sorted;
use super::interval::{confidence, median_interval, outside};

/// With fewer launches no interval without assumptions reaches 95 %, and nothing is resolved.
pub const LEAST_LAUNCHES: usize = 6;

/// How sure a run must have been to find the effect that it calls the smallest it could have seen.
const POWER: f64 = 0.8;

/// [`launches_needed`] gives up here.
const MOST_LAUNCHES: usize = 2000;

/// What an interval rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Order statistics of six or more launches: no assumption.
    OrderStatistics,
    /// All of two to five launches: no assumption, and not 95 %.
    Span,
    /// One launch: no interval.
    Single,
}

/// A positive quantity (a ratio, or nanoseconds a page) over launches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median over launches.
    pub value: f64,
    /// Lower end; none with one launch.
    pub lo: Option<f64>,
    /// Upper end; none with one launch.
    pub hi: Option<f64>,
    /// How likely the interval holds the truth: 0.95 or more from six launches on, 0 without an interval.
    pub confidence: f64,
    /// Launches behind it.
    pub launches: usize,
    /// What the interval rests on.
    pub basis: Basis,
    /// The smallest effect, in per cent, that so many launches with this spread would have found four times out of
    /// five: an interval that excludes 1. None where no effect of any size would count, with fewer than six.
    pub smallest_percent: Option<f64>,
}

impl Estimate {
    /// Whether the truth is not `value`: six launches or more whose interval excludes it.
    pub fn excludes(&self, value: f64) -> bool {
        let outside = |lo, hi| value < lo || hi < value;
        self.basis == Basis::OrderStatistics && self.lo.zip(self.hi).is_some_and(|(lo, hi)| outside(lo, hi))
    }
    /// The same for the quantity's inverse: b against a.
    pub fn inverse(&self) -> Estimate {
        Estimate {
            value: 1.0 / self.value,
            lo: self.hi.map(|x| 1.0 / x),
            hi: self.lo.map(|x| 1.0 / x),
            ..*self
        }
    }
}

/// One launch: the median over its rounds of ln(a / b), from `(a, b)` of each round. None without a round, or with a
/// value that is not positive.
pub fn log_ratio(rounds: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    Some(Sorted::new(rounds.map(|(a, b)| (a / b).ln()).collect())?.median())
}

/// From one logarithm a launch to an estimate of what they are the logarithms of. None without launches, or with a
/// number that is not finite.
pub fn estimate(logs: &[f64]) -> Option<Estimate> {
    let logs = Sorted::new(logs.to_vec())?;
    let n = logs.len();
    let basis = match n {
        LEAST_LAUNCHES.. => Basis::OrderStatistics,
        2.. => Basis::Span,
        _ => Basis::Single,
    };
    // Of fewer than six launches the ends are the least and the most of them.
    let i = median_interval(&logs);
    let ends = (n > 1).then_some((i.lo, i.hi));
    let smallest = (n >= LEAST_LAUNCHES).then(|| 100.0 * (detectable_sds(n) * logs.sd()).exp_m1());
    Some(Estimate {
        value: i.median.exp(),
        lo: ends.map(|(lo, _)| lo.exp()),
        hi: ends.map(|(_, hi)| hi.exp()),
        confidence: confidence(n),
        launches: n,
        basis,
        smallest_percent: smallest,
    })
}

/// How many launches resolve an effect of `percent`: the fewest, at least six, whose interval excludes "no effect" four
/// times out of five when launches scatter normally with standard deviation `launch_sd` of the logarithm. None if 2,000
/// do not.
pub fn launches_needed(launch_sd: f64, percent: f64) -> Option<usize> {
    let effect = (percent / 100.0).ln_1p();
    (LEAST_LAUNCHES..=MOST_LAUNCHES).find(|n| launch_sd * detectable_sds(*n) <= effect)
}

/// The effect, in standard deviations of a launch, that `n` launches find with probability [`POWER`]: their lower end,
/// the `outside(n)`th smallest from 0, is above zero when at most that many launches are below, and each is above with
/// probability p. P(binomial(n, p) >= k) is the beta distribution's P(beta(k, n - k + 1) <= p).
fn detectable_sds(n: usize) -> f64 {
    let above = (n - outside(n)) as f64;
    let p = Beta::new(above, n as f64 - above + 1.0).map_or(1.0, |b| b.inverse_cdf(POWER));
    Normal::standard().inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_depends_on_the_number_of_launches() {
        let logs = |n: usize| (0..n).map(|i| 0.01 + 0.001 * i as f64).collect::<Vec<_>>();
        assert!(estimate(&[]).is_none() && estimate(&[f64::INFINITY]).is_none());
        let one = estimate(&logs(1)).unwrap();
        assert_eq!((one.basis, one.lo, one.smallest_percent), (Basis::Single, None, None));
        for n in 2..6 {
            let few = estimate(&logs(n)).unwrap();
            assert_eq!((few.basis, few.smallest_percent), (Basis::Span, None));
            assert!(few.confidence < 0.95);
            assert!(few.lo.unwrap() < few.value && few.value < few.hi.unwrap());
            assert!(!few.excludes(1.0), "{n} launches resolve nothing");
        }
        let six = estimate(&logs(6)).unwrap();
        assert_eq!((six.basis, six.launches), (Basis::OrderStatistics, 6));
        assert!((six.confidence - 0.96875).abs() < 1e-9);
        assert!((six.lo.unwrap().ln() - 0.010).abs() < 1e-12 && (six.hi.unwrap().ln() - 0.015).abs() < 1e-12);
        assert!(six.excludes(1.0) && !six.excludes(six.value));
        assert_eq!(six.inverse().lo, six.hi.map(|x| 1.0 / x));
    }

    #[test]
    fn planned_launches_find_the_effect_four_times_out_of_five() {
        use super::super::coverage::{Draw, normal};
        let sd = 0.01;
        for percent in [1.0, 2.0] {
            let n = launches_needed(sd, percent).unwrap();
            let mut draw = Draw::new(7);
            let found = (0..2000).filter(|_| {
                let logs: Vec<f64> =
                    (0..n).map(|_| (percent / 100.0f64).ln_1p() + sd * normal(&mut draw)).collect();
                estimate(&logs).unwrap().excludes(1.0)
            });
            let share = found.count() as f64 / 2000.0;
            assert!((0.78..0.95).contains(&share), "{percent} %, {n} launches: {share}");
            if n > LEAST_LAUNCHES {
                assert!(sd * detectable_sds(n - 1) > (percent / 100.0f64).ln_1p());
            }
        }
        assert_eq!(launches_needed(0.0, 1.0), Some(6));
        assert_eq!(launches_needed(1.0, 1.0), None);
    }

    proptest::proptest! {
        #[test]
        fn a_unit_changes_nothing_but_the_value(
            logs in proptest::collection::vec(-1.0..1.0f64, 1..20), unit in 1e-6..1e6f64,
        ) {
            // 10^n in the clock's unit moves every value by 10^n and the smallest effect not at all.
            let a = estimate(&logs).unwrap();
            let b = estimate(&logs.iter().map(|x| x + unit.ln()).collect::<Vec<_>>()).unwrap();
            let close = |x: f64, y: f64| (x / y - 1.0).abs() < 1e-6;
            proptest::prop_assert!(close(b.value, a.value * unit));
            proptest::prop_assert!(a.lo.zip(b.lo).is_none_or(|(x, y)| close(y, x * unit)));
            let pairs = a.smallest_percent.zip(b.smallest_percent);
            proptest::prop_assert!(pairs.is_none_or(|(x, y)| (x - y).abs() < 1e-6 * x.abs().max(1.0)));
        }

        #[test]
        fn swapping_the_sides_inverts_the_estimate(logs in proptest::collection::vec(-1.0..1.0f64, 2..20)) {
            let a = estimate(&logs).unwrap().inverse();
            let b = estimate(&logs.iter().map(|x| -x).collect::<Vec<_>>()).unwrap();
            proptest::prop_assert!((a.value / b.value - 1.0).abs() < 1e-9);
            proptest::prop_assert!((a.lo.unwrap() / b.lo.unwrap() - 1.0).abs() < 1e-9);
            proptest::prop_assert_eq!(a.excludes(1.0), b.excludes(1.0));
        }
    }
}
