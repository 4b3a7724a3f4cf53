//! Rates of rare events.

use statrs::distribution::{Beta, ContinuousCDF};

/// Where the true rate lies when `hits` of `tries` hit, with at least this confidence (0 to 1): the exact interval of
/// Clopper and Pearson (Biometrika 26, 1934).
///
/// # Panics
/// With more hits than tries, or a confidence that is not between 0 and 1.
pub fn clopper_pearson(hits: u64, tries: u64, confidence: f64) -> (f64, f64) {
    assert!(hits <= tries && (0.0..1.0).contains(&confidence), "{hits} of {tries} at {confidence}");
    let (k, n, tail) = (hits as f64, tries as f64, (1.0 - confidence) / 2.0);
    let quantile = |a, b, p, at_the_end| Beta::new(a, b).map_or(at_the_end, |beta| beta.inverse_cdf(p));
    let lo = if hits == 0 { 0.0 } else { quantile(k, n - k + 1.0, tail, 0.0) };
    let hi = if hits == tries { 1.0 } else { quantile(k + 1.0, n - k, 1.0 - tail, 1.0) };
    (lo, hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_published_ones() {
        // Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I.
        for (hits, tries, lo, hi) in [
            (81, 263, 0.2527, 0.3676),
            (15, 148, 0.0578, 0.1617),
            (0, 20, 0.0, 0.1684),
            (1, 29, 0.0009, 0.1776),
        ] {
            let found = clopper_pearson(hits, tries, 0.95);
            assert!((found.0 - lo).abs() < 5e-5 && (found.1 - hi).abs() < 5e-5, "{hits}/{tries}: {found:?}");
        }
        assert_eq!(clopper_pearson(0, 0, 0.95), (0.0, 1.0));
    }

    proptest::proptest! {
        #[test]
        fn the_ends_leave_the_tails_that_they_say(tries in 1..60u64, share in 0.0..1.0f64) {
            let hits = (share * tries as f64) as u64;
            let (lo, hi) = clopper_pearson(hits, tries, 0.9);
            // Naively: P(binomial(n, p) in range) summed term by term.
            let term = |i: u64, p: f64| {
                let choose: f64 = (0..i).map(|j| (tries - j) as f64 / (i - j) as f64).product();
                choose * p.powi(i as i32) * (1.0 - p).powi((tries - i) as i32)
            };
            let at_least: f64 = (hits..=tries).map(|i| term(i, lo)).sum();
            let at_most: f64 = (0..=hits).map(|i| term(i, hi)).sum();
            proptest::prop_assert!(hits == 0 || (at_least - 0.05).abs() < 1e-6, "{at_least}");
            proptest::prop_assert!(hits == tries || (at_most - 0.05).abs() < 1e-6, "{at_most}");
        }
    }
}
