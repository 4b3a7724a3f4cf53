//! Where every random choice comes from: a portable generator for each purpose, and a bijection computed on the fly.
//!
//! Contract: the same seed gives the same values on every machine and in every version; tests pin them. Only integer
//! arithmetic and the basic operations of IEEE 754 are used, never a mathematics library.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// What a generator is for. Each purpose has its own stream, so that a new use of one does not shift another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Which page has which frame.
    Frames = 1,
    /// Which pages of a request are wished for.
    Wishes = 2,
    /// Which pages were written after a fork, in which order.
    Writes = 3,
    /// Which pages are popular.
    Popularity = 4,
    /// Frames of private copies.
    Copies = 5,
    /// Which pages are in another state than the rest, and in runs of which length.
    Runs = 16,
    /// Which 2 MiB spans are mapped huge, or hold anything.
    Spans = 17,
    /// Lengths of VMAs and of gaps between them.
    Lengths = 18,
    /// Rights of VMAs.
    Rights = 19,
    /// Behind which VMAs there are gaps.
    Gaps = 20,
    /// Where churn happens.
    Churn = 32,
    /// What a random scenario does.
    Scenario = 33,
}

/// The generator of `seed` for one purpose. Every seed is another one.
pub fn generator(seed: u64, purpose: Purpose) -> Pcg64Mcg {
    let stream = u128::from((purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
    // The state of a multiplicative generator is odd, whatever its seed says.
    let state = stream ^ (u128::from(seed) << 1);
    let mut rng = Pcg64Mcg::from_seed(state.to_le_bytes());
    // Nearby seeds give nearby first states: let them drift apart.
    for _ in 0..4 {
        rng.next_u64();
    }
    rng
}

/// A number below `n`, each as likely (Lemire's method, without its rejection: the bias is below n / 2^64).
#[inline]
pub fn below(rng: &mut Pcg64Mcg, n: u64) -> u64 {
    ((rng.next_u64() as u128 * n as u128) >> 64) as u64
}

/// A number in (0, 1], a multiple of 2^-53.
#[inline]
pub fn unit(rng: &mut Pcg64Mcg) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Picks exactly `wanted` of `n`, each set as likely as any other: true for what is picked, in order (selection sampling,
/// Knuth 3.4.2, algorithm S).
#[derive(Debug)]
pub struct Picks {
    rng: Pcg64Mcg,
    left: u64,
    wanted: u64,
}

impl Picks {
    /// Picks `wanted` of `n`, or all if there are fewer.
    pub fn new(rng: Pcg64Mcg, n: u64, wanted: u64) -> Picks {
        Picks { rng, left: n, wanted: wanted.min(n) }
    }
}

impl Iterator for Picks {
    type Item = bool;
    #[inline]
    fn next(&mut self) -> Option<bool> {
        if self.left == 0 {
            return None;
        }
        let take = below(&mut self.rng, self.left) < self.wanted;
        self.left -= 1;
        self.wanted -= take as u64;
        Some(take)
    }
}

/// A bijection of 0..n, computed for each value: a terabyte of shuffled frames needs no table.
///
/// Rounds of multiply, add and xor-shift on the next power of two, each invertible, walked again while the result lies
/// outside (cycle walking): under two evaluations a value on average.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    mask: u64,
    shift: u32,
    multiply: [u64; 3],
    add: [u64; 3],
}

impl Permutation {
    /// The bijection of 0..n that the generator's next values choose.
    pub fn new(rng: &mut Pcg64Mcg, n: u64) -> Permutation {
        let bits = n.max(2).next_power_of_two().trailing_zeros();
        Permutation {
            n,
            mask: u64::MAX >> (64 - bits),
            shift: bits.div_ceil(2),
            multiply: core::array::from_fn(|_| rng.next_u64() | 1),
            add: core::array::from_fn(|_| rng.next_u64()),
        }
    }
    /// Where `i` goes, below n for every `i` below n.
    #[inline(always)]
    pub fn get(&self, i: u64) -> u64 {
        debug_assert!(i < self.n);
        let mut x = i;
        loop {
            for round in 0..3 {
                x = x.wrapping_mul(self.multiply[round]).wrapping_add(self.add[round]) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_hits_every_value_once_whatever_the_length() {
        for n in [1, 2, 3, 5, 8, 511, 512, 513, 1000, 4096, 5000] {
            for seed in 0..4 {
                let p = Permutation::new(&mut generator(seed, Purpose::Frames), n);
                let mut seen = vec![false; n as usize];
                (0..n).for_each(|i| seen[p.get(i) as usize] = true);
                assert!(seen.iter().all(|s| *s), "{n} {seed}");
            }
        }
    }

    #[test]
    fn a_permutation_leaves_few_neighbours_together() {
        let n = 1 << 16;
        let p = Permutation::new(&mut generator(7, Purpose::Frames), n);
        let together = (1..n).filter(|i| p.get(*i) == p.get(i - 1) + 1).count();
        assert!(together < 64, "{together} of {n} pairs stay neighbours");
        let p = Permutation::new(&mut generator(7, Purpose::Frames), n - 1);
        let fixed = (0..n - 1).filter(|i| p.get(*i) == *i).count();
        assert!(fixed < 16, "{fixed} fixed points");
    }

    #[test]
    fn exactly_so_many_are_picked() {
        for (n, wanted) in [(0, 0), (1, 1), (10, 0), (10, 10), (1000, 137), (5, 9)] {
            let picks: Vec<bool> = Picks::new(generator(2, Purpose::Spans), n, wanted).collect();
            assert_eq!(picks.len() as u64, n);
            assert_eq!(picks.iter().filter(|p| **p).count() as u64, wanted.min(n));
        }
    }

    #[test]
    fn every_seed_and_every_purpose_gives_other_values() {
        let near = [0, 1, 2, 3, 4, 5, 6, 7];
        let far = near.map(|bit| 1 << (63 - bit));
        let purposes = [Purpose::Frames, Purpose::Wishes, Purpose::Churn];
        let drawn: std::collections::HashSet<u64> = [near, far]
            .concat()
            .into_iter()
            .flat_map(|seed| purposes.map(|purpose| generator(seed, purpose).next_u64()))
            .collect();
        assert_eq!(drawn.len(), 2 * near.len() * purposes.len());
    }

    #[test]
    fn values_are_pinned() {
        let mut rng = generator(1, Purpose::Wishes);
        assert_eq!([rng.next_u64(), rng.next_u64()], [12431187583831870181, 2543182869626190266]);
        let p = Permutation::new(&mut generator(1, Purpose::Frames), 1 << 20);
        assert_eq!([p.get(0), p.get(1), p.get(2)], [597551, 318209, 862575]);
    }
}
