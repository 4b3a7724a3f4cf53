//! Do intervals cover what they say? Thousands of draws from distributions that launches have: normal, skewed, and in
//! two modes (a placement lottery). Seeds are fixed: the figures are the same everywhere.

use super::{confidence, estimate, log_ratio};
use crate::measure::order::Rng;

/// Draws.
pub(super) struct Draw(Rng);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(Rng::new(seed, "draws"))
    }
    /// Between 0 and 1, neither included.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.0.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// Standard normal (Box & Muller).
pub(super) fn normal(draw: &mut Draw) -> f64 {
    let (u, v) = (draw.uniform(), draw.uniform());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Median 1.
fn skewed(draw: &mut Draw) -> f64 {
    normal(draw).exp()
}

/// Two modes as likely as each other, ten of their widths apart; median 0.
fn bimodal(draw: &mut Draw) -> f64 {
    let mode = if draw.uniform() < 0.5 { -5.0 } else { 5.0 };
    mode + normal(draw)
}

const DRAWS: u32 = 2000;

/// The share of draws of `n` launches whose interval holds `truth`.
fn coverage(n: usize, truth: f64, seed: u64, from: fn(&mut Draw) -> f64) -> f64 {
    let mut draw = Draw::new(seed);
    let holds = (0..DRAWS).filter(|_| {
        let logs: Vec<f64> = (0..n).map(|_| from(&mut draw)).collect();
        let e = estimate(&logs).expect("finite");
        let (lo, hi) = (e.lo.expect("an end").ln(), e.hi.expect("an end").ln());
        lo <= truth && truth <= hi
    });
    holds.count() as f64 / f64::from(DRAWS)
}

type Case = (&'static str, f64, fn(&mut Draw) -> f64);
const CASES: [Case; 3] = [("normal", 0.0, normal), ("skewed", 1.0, skewed), ("bimodal", 0.0, bimodal)];

#[test]
fn ninety_five_per_cent_means_93_to_97_on_every_shape() {
    for n in [9, 12, 17, 20, 25] {
        for (name, truth, from) in CASES {
            let covered = coverage(n, truth, n as u64, from);
            assert!((0.93..=0.97).contains(&covered), "{name}, {n} launches: {covered}");
        }
    }
}

#[test]
fn counts_in_between_cover_more_and_say_how_much() {
    for n in [6, 7, 8, 10, 11, 13] {
        for (name, truth, from) in CASES {
            let covered = coverage(n, truth, 100 + n as u64, from);
            let three_sigma = 3.0 * (0.05 * 0.95 / f64::from(DRAWS)).sqrt();
            assert!((covered - confidence(n)).abs() < three_sigma, "{name}, {n} launches: {covered}");
            assert!(confidence(n) >= 0.95);
        }
    }
}

#[test]
fn the_span_of_few_launches_covers_what_it_says_which_is_too_little_to_resolve_anything() {
    for n in [2, 3, 5] {
        for (name, truth, from) in CASES {
            let covered = coverage(n, truth, 200 + n as u64, from);
            let three_sigma = 3.0 * (0.25 / f64::from(DRAWS)).sqrt();
            assert!((covered - confidence(n)).abs() < three_sigma, "{name}, {n} launches: {covered}");
            assert!(confidence(n) < 0.95);
        }
    }
}

/// Hettmansperger & Sheather, Statistics and Probability Letters 4 (1986): between the interval that is too wide and the
/// one that is too narrow.
fn interpolated(sorted: &[f64], d: usize) -> (f64, f64) {
    let n = sorted.len();
    let gamma = |d: usize| {
        let choose = |i: usize| (0..i).map(|j| (n - j) as f64 / (j + 1) as f64).product::<f64>();
        1.0 - 2.0 * (0..d).map(choose).sum::<f64>() * 0.5f64.powi(n as i32)
    };
    let i = (gamma(d) - 0.95) / (gamma(d) - gamma(d + 1));
    let lambda = (n - d) as f64 * i / (d as f64 + (n as f64 - 2.0 * d as f64) * i);
    let at = |a: f64, b: f64| (1.0 - lambda) * a + lambda * b;
    (at(sorted[d - 1], sorted[d]), at(sorted[n - d], sorted[n - d - 1]))
}

#[test]
fn interpolation_would_not_cover_two_modes() {
    let share = |from: fn(&mut Draw) -> f64| {
        let mut draw = Draw::new(300);
        let holds = (0..DRAWS).filter(|_| {
            let mut x: Vec<f64> = (0..7).map(|_| from(&mut draw)).collect();
            x.sort_by(f64::total_cmp);
            let (lo, hi) = interpolated(&x, 1);
            lo <= 0.0 && 0.0 <= hi
        });
        holds.count() as f64 / f64::from(DRAWS)
    };
    assert!((0.94..=0.96).contains(&share(normal)), "{}", share(normal));
    assert!((0.86..=0.89).contains(&share(bimodal)), "{}", share(bimodal));
}

#[test]
fn two_equal_backends_with_spikes_and_a_lottery_differ_by_nothing() {
    // Rounds with 3 % noise, spikes on either side in 8 % of them, launches in two modes 1 % apart: the truth is 1.
    let mut draw = Draw::new(400);
    let side = |draw: &mut Draw| {
        let spike = if draw.uniform() < 0.08 { -0.24 * draw.uniform().ln() } else { 0.0 };
        100.0 * (0.03 * normal(draw) + spike).exp()
    };
    let holds = (0..DRAWS).filter(|_| {
        let logs: Vec<f64> = (0..9)
            .map(|_| {
                let lottery = (0.005 * bimodal(&mut draw) / 5.0).exp();
                let rounds: Vec<(f64, f64)> =
                    (0..8).map(|_| (lottery * side(&mut draw), side(&mut draw))).collect();
                log_ratio(rounds.into_iter()).expect("positive")
            })
            .collect();
        !estimate(&logs).expect("finite").excludes(1.0)
    });
    let covered = holds.count() as f64 / f64::from(DRAWS);
    assert!((0.93..=0.97).contains(&covered), "{covered}");
}
