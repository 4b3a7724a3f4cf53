//! Many comparisons at once: p-values that hold for all of them together.
//!
//! Under "no effect" which side of a launch is called a and which b is arbitrary, so the sign of a whole launch may be
//! flipped. All comparisons of a launch flip together, which keeps what they have in common. Each flip gives the
//! largest t over the comparisons; a comparison's adjusted p-value is the share of flips whose largest t is at least
//! its own (Westfall & Young 1993, single step). The chance that any true "no effect" gets p <= alpha is at most alpha.

use crate::measure::order::Rng;

/// Up to this many launches every flip is tried, beyond it this many drawn ones: 2^16.
const EXACT_LAUNCHES: usize = 16;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alternative {
    /// An effect in any direction.
    TwoSided,
    /// An effect above a margin, in units of the effects: "slower by more than".
    Greater {
        /// What is still no effect; 0 or more.
        margin: f64,
    },
}

/// Adjusted p-values.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxT {
    /// One for each comparison.
    pub p: Vec<f64>,
    /// The smallest that so many launches can give: a test whose alpha is below it can never find anything.
    pub floor: f64,
}

/// Tests comparisons together. `effects[c][l]` is comparison c in launch l, a log ratio; every comparison needs all
/// launches. `seed` decides the drawn flips where there are more than 16 launches.
///
/// None without comparisons or launches, if their numbers differ, or if one is not finite.
pub fn sign_flip_max_t(effects: &[Vec<f64>], alternative: Alternative, seed: u64) -> Option<MaxT> {
    let whole: Vec<Vec<Option<f64>>> =
        effects.iter().map(|e| e.iter().copied().map(Some).collect()).collect();
    sign_flip_max_t_with_gaps(&whole, alternative, seed)
}

/// As [`sign_flip_max_t`], where comparisons may lack launches: why one is lacking must not depend on which side is called
/// a. A launch still flips for all that have it, and each is judged by its own ones; n of them give no p below 2^-n.
///
/// None without comparisons or launches, if their numbers differ, or if one is not finite.
pub fn sign_flip_max_t_with_gaps(
    effects: &[Vec<Option<f64>>],
    alternative: Alternative,
    seed: u64,
) -> Option<MaxT> {
    let launches = effects.first()?.len();
    let is_whole = |e: &Vec<Option<f64>>| e.len() == launches && e.iter().flatten().all(|x| x.is_finite());
    if launches == 0 || !effects.iter().all(is_whole) {
        return None;
    }
    let margin = match alternative {
        Alternative::TwoSided => 0.0,
        Alternative::Greater { margin } => margin,
    };
    // t rises with sum / sqrt(sum of squares), which never divides by zero where the launches agree, and whose denominator
    // no flip changes. It is enough while all comparisons have as many launches.
    let rows: Vec<(f64, Vec<f64>)> = effects
        .iter()
        .map(|e| {
            let shifted = e.iter().map(|x| x.map_or(0.0, |x| x - margin));
            let norm = shifted.clone().map(|x| x * x).sum::<f64>().sqrt();
            let nr = e.iter().flatten().count() as f64;
            (nr, shifted.map(|x| if norm > 0.0 { x / norm } else { 0.0 }).collect())
        })
        .collect();
    let is_even = rows.iter().all(|(nr, _)| *nr == rows[0].0);
    let statistic = |flips: u64, (nr, row): &(f64, Vec<f64>)| -> f64 {
        let signed = row.iter().enumerate().map(|(l, x)| if flips >> (l % 64) & 1 == 1 { -x } else { *x });
        let sum: f64 = signed.sum();
        let sum = if alternative == Alternative::TwoSided { sum.abs() } else { sum };
        // Launches that agree have a t without bounds.
        if is_even { sum } else { sum * ((nr - 1.0).max(0.0) / (nr - sum * sum).max(1e-9)).sqrt() }
    };
    let seen: Vec<f64> = rows.iter().map(|row| statistic(0, row)).collect();
    let mut reached = vec![0u64; rows.len()];
    let mut count = |flips: u64| {
        let largest = rows.iter().map(|row| statistic(flips, row)).fold(f64::NEG_INFINITY, f64::max);
        for (n, seen) in reached.iter_mut().zip(&seen) {
            // The same sum in another order is the same sum.
            *n += u64::from(largest >= seen - if is_even { 1e-12 } else { 1e-5 * seen.abs() });
        }
    };
    let all = 1u64 << launches.min(EXACT_LAUNCHES);
    if launches <= EXACT_LAUNCHES {
        (0..all).for_each(&mut count);
    } else {
        let mut rng = Rng::new(seed, "sign flips");
        count(0);
        (1..all).for_each(|_| count(rng.next()));
    }
    let same = if alternative == Alternative::TwoSided { 2.0 } else { 1.0 };
    let floor = if launches <= EXACT_LAUNCHES { same / all as f64 } else { 1.0 / all as f64 };
    Some(MaxT { p: reached.iter().map(|n| *n as f64 / all as f64).collect(), floor })
}

#[cfg(test)]
mod tests {
    use super::super::coverage::{Draw, normal};
    use super::*;

    /// Fisher, The Design of Experiments (1935), section 21: of the 2^15 ways to sign the differences of Darwin's 15
    /// pairs, 863 have a sum as large as the one seen or larger, in either direction 1,726.
    #[test]
    fn darwins_plants_have_fishers_p() {
        let darwin = vec![vec![49., -67., 8., 16., 6., 23., 28., 41., 14., 29., 56., 24., 75., 60., -48.]];
        let one = sign_flip_max_t(&darwin, Alternative::Greater { margin: 0.0 }, 0).unwrap();
        assert_eq!(one.p[0], 863.0 / 32768.0);
        let two = sign_flip_max_t(&darwin, Alternative::TwoSided, 0).unwrap();
        assert_eq!(two.p[0], 1726.0 / 32768.0);
        assert_eq!((one.floor, two.floor), (1.0 / 32768.0, 2.0 / 32768.0));
    }

    #[test]
    fn nonsense_is_refused_and_no_difference_is_never_found() {
        let flip = |e: &[Vec<f64>]| sign_flip_max_t(e, Alternative::TwoSided, 0);
        assert!(flip(&[]).is_none() && flip(&[vec![]]).is_none());
        assert!(flip(&[vec![1.0], vec![1.0, 2.0]]).is_none() && flip(&[vec![f64::NAN]]).is_none());
        assert_eq!(flip(&[vec![0.0; 8]]).unwrap().p, [1.0]);
        // Six launches that agree reach the floor and no less.
        let six = flip(&[vec![0.01; 6]]).unwrap();
        assert_eq!((six.p[0], six.floor), (2.0 / 64.0, 2.0 / 64.0));
    }

    #[test]
    fn a_comparison_that_lacks_launches_is_judged_by_those_it_has() {
        let gaps =
            |n: usize| (0..14).map(|l| (l < n).then_some(0.03 + 0.001 * f64::from(l as u8 % 5))).collect();
        let mut draw = Draw::new(3);
        let nothing: Vec<Option<f64>> = (0..14).map(|_| Some(0.01 * normal(&mut draw))).collect();
        let p = |n: usize| {
            let above = Alternative::Greater { margin: 0.0 };
            sign_flip_max_t_with_gaps(&[gaps(n), nothing.clone()], above, 0).unwrap().p
        };
        assert!(p(14)[0] < 0.001 && p(8)[0] < 0.01 && p(8)[1] > 0.05, "{:?} {:?}", p(14), p(8));
        assert!(p(5)[0] >= 0.5f64.powi(5) && p(0)[0] == 1.0 && p(1)[0] > 0.4, "{:?}", p(5));
        // Without an effect, whatever is lacking: alarms are no more frequent than they say.
        let tries = 4000;
        let alarms = (0..tries).filter(|_| {
            let common: Vec<f64> = (0..10).map(|_| normal(&mut draw)).collect();
            let effects: Vec<Vec<Option<f64>>> = (0..6)
                .map(|c| {
                    let has = |draw: &mut Draw| normal(draw) > f64::from(c) * 0.2 - 2.0;
                    common.iter().map(|x| has(&mut draw).then(|| x + normal(&mut draw))).collect()
                })
                .collect();
            let found = sign_flip_max_t_with_gaps(&effects, Alternative::TwoSided, 0).unwrap();
            found.p.iter().any(|p| *p <= 0.05)
        });
        let (least, _) = super::super::clopper_pearson(alarms.count() as u64, tries, 0.99);
        assert!(least <= 0.05, "rate of alarms: at least {least}");
    }

    #[test]
    fn a_margin_forgives_what_is_below_it() {
        let slower = vec![(0..14).map(|i| 0.004 + 0.0001 * f64::from(i)).collect()];
        let p = |margin| sign_flip_max_t(&slower, Alternative::Greater { margin }, 0).unwrap().p[0];
        assert!(p(0.0) < 0.001 && p(0.006) > 0.999, "{} {}", p(0.0), p(0.006));
    }

    #[test]
    fn drawn_flips_agree_with_all_flips() {
        // 17 launches are drawn; the same effects with a zero appended change neither sums nor squares.
        let mut draw = Draw::new(5);
        let effects: Vec<f64> = (0..16).map(|_| 0.4 + normal(&mut draw)).collect();
        let mut longer = effects.clone();
        longer.push(0.0);
        let p = |e: Vec<f64>| sign_flip_max_t(&[e], Alternative::TwoSided, 9).unwrap().p[0];
        let (all, drawn) = (p(effects), p(longer));
        assert!((all - drawn).abs() < 0.01, "{all} {drawn}");
    }

    #[test]
    fn over_many_comparisons_a_false_alarm_is_as_rare_as_it_says() {
        // 20 comparisons without an effect, launches in common, skewed noise on both sides: any p <= 5 % in 5 %.
        let mut draw = Draw::new(11);
        let tries = 4000;
        let alarms = (0..tries).filter(|_| {
            let common: Vec<f64> = (0..8).map(|_| normal(&mut draw)).collect();
            let mut noise = || (normal(&mut draw)).exp();
            let effects: Vec<Vec<f64>> =
                (0..20).map(|_| common.iter().map(|c| c + noise() - noise()).collect()).collect();
            let found = sign_flip_max_t(&effects, Alternative::TwoSided, 0).unwrap();
            found.p.iter().any(|p| *p <= 0.05)
        });
        // 12 of the 256 flips: p moves in steps of 2 / 256, and the last one below 5 % is 4.7 %.
        let (least, most) = super::super::clopper_pearson(alarms.count() as u64, tries, 0.99);
        assert!(least <= 12.0 / 256.0 && 12.0 / 256.0 <= most, "rate of alarms: {least} to {most}");
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_students_t_over_every_flip_written_naively(
            effects in (2..7usize).prop_flat_map(|l| proptest::collection::vec(
                proptest::collection::vec(-1.0..1.0f64, l), 1..4)),
        ) {
            let l = effects[0].len();
            let t = |x: &[f64]| {
                let mean = x.iter().sum::<f64>() / l as f64;
                let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (l - 1) as f64;
                (mean / (var / l as f64).sqrt()).abs()
            };
            let largest = |flips: u32| effects.iter().map(|e| {
                t(&e.iter().enumerate().map(|(i, x)| if flips >> i & 1 == 1 { -x } else { *x }).collect::<Vec<_>>())
            }).fold(0.0, f64::max);
            let found = sign_flip_max_t(&effects, Alternative::TwoSided, 0).unwrap();
            for (e, p) in effects.iter().zip(&found.p) {
                let reached = (0..1u32 << l).filter(|f| largest(*f) >= t(e) * (1.0 - 1e-9)).count();
                proptest::prop_assert!((reached as f64 / f64::from(1u32 << l) - p).abs() < 1e-9);
            }
        }
    }
    use proptest::strategy::Strategy;
}
