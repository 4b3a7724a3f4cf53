//! Zipf-distributed page numbers, and which pages so many writes reach.
//!
//! Rejection-inversion (Hörmann and Derflinger, 1996). Logarithm and exponential are computed here from the basic
//! operations of IEEE 754, which every machine rounds alike: a mathematics library would not.

use crate::random::{self, Permutation, Purpose, generator};
use core::f64::consts::{LN_2, SQRT_2};
use rand_pcg::Pcg64Mcg;

/// Exponent of the distribution: YCSB's constant, the usual model of key popularity.
const THETA: f64 = 0.99;

/// Ranks 1..=n with probability proportional to rank^-THETA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zipf {
    n: f64,
    low: f64,
    high: f64,
    s: f64,
}

impl Zipf {
    pub(crate) fn new(n: u64) -> Zipf {
        let n = n as f64;
        Zipf { n, low: area(1.5) - 1.0, high: area(n + 0.5), s: 2.0 - area_inverse(area(2.5) - density(2.0)) }
    }
    /// A rank.
    pub(crate) fn sample(&self, rng: &mut Pcg64Mcg) -> u64 {
        loop {
            let u = self.high + random::unit(rng) * (self.low - self.high);
            let x = area_inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.n);
            if k - x <= self.s || u >= area(k + 0.5) - density(k) {
                return k as u64;
            }
        }
    }
}

fn density(x: f64) -> f64 {
    exp(-THETA * ln(x))
}
/// The integral of the density, up to a constant.
fn area(x: f64) -> f64 {
    (exp((1.0 - THETA) * ln(x)) - 1.0) / (1.0 - THETA)
}
fn area_inverse(y: f64) -> f64 {
    exp(ln(1.0 + y * (1.0 - THETA)) / (1.0 - THETA))
}

/// Natural logarithm of a positive normal number, to a few units of the last place.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    // 2 atanh(s), |s| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let mut sum = 0.0;
    for k in (0..12).rev() {
        sum = sum * s2 + 1.0 / (2 * k + 1) as f64;
    }
    e as f64 * LN_2 + 2.0 * s * sum
}

/// Exponential of a number in ±700, to a few units of the last place.
pub(super) fn exp(x: f64) -> f64 {
    let k = (x / LN_2 + 0.5).floor();
    let r = x - k * LN_2;
    let mut sum = 1.0;
    for i in (1..=14).rev() {
        sum = sum * r / i as f64 + 1.0;
    }
    sum * f64::from_bits(((1023 + k as i64) as u64) << 52)
}

/// Which of `nr_pages` pages were written, a bit each, once Zipf-distributed writes have reached `nr_written`
/// different ones. Popular pages lie anywhere.
pub(super) fn written(nr_pages: u64, nr_written: u64, seed: u64) -> Vec<u64> {
    debug_assert!(nr_written <= nr_pages);
    let mut bitmap = vec![0u64; nr_pages.div_ceil(64) as usize];
    let place = Permutation::new(&mut generator(seed, Purpose::Popularity), nr_pages);
    let mut rng = generator(seed, Purpose::Writes);
    let zipf = Zipf::new(nr_pages);
    let mut left = nr_written;
    while left > 0 {
        let page = place.get(zipf.sample(&mut rng) - 1);
        let word = &mut bitmap[(page / 64) as usize];
        let bit = 1 << (page % 64);
        left -= (*word & bit == 0) as u64;
        *word |= bit;
    }
    bitmap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_agree_with_the_library() {
        let mut x = 1e-3;
        while x < 1e12 {
            assert!((ln(x) - f64::ln(x)).abs() <= 1e-14 * f64::ln(x).abs().max(1.0), "{x}");
            x *= 1.37;
        }
        for i in -300..300 {
            let x = i as f64 * 0.7;
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn ranks_come_as_often_as_they_should() {
        let n = 1000;
        let zipf = Zipf::new(n);
        let mut rng = generator(3, Purpose::Writes);
        let mut counts = vec![0u32; n as usize + 1];
        let draws = 400_000;
        (0..draws).for_each(|_| counts[zipf.sample(&mut rng) as usize] += 1);
        let norm: f64 = (1..=n).map(|k| (k as f64).powf(-THETA)).sum();
        for k in [1, 2, 3, 10, 100] {
            let expected = draws as f64 * (k as f64).powf(-THETA) / norm;
            let off = (counts[k as usize] as f64 - expected).abs() / expected.sqrt();
            assert!(off < 5.0, "rank {k}: {} instead of {expected}", counts[k as usize]);
        }
    }

    #[test]
    fn exactly_so_many_pages_are_written() {
        for (n, w) in [(1, 0), (1, 1), (100, 100), (4096, 409), (5000, 2500)] {
            let bits: u32 = written(n, w, 9).iter().map(|x| x.count_ones()).sum();
            assert_eq!(bits as u64, w);
        }
    }
}
