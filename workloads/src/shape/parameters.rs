//! Parameters that several shapes have, and what of them is refused.
//!
//! Each refuses while it is read, so that the error has the line of the value. A message starts with "is", the reader
//! puts the name of the key before it.

use crate::random::{Purpose, below, generator};
use serde::de::{Deserialize, Deserializer, Error};

fn checked<'de, D, T>(d: D, ok: impl FnOnce(&T) -> bool, expected: &str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + core::fmt::Debug,
{
    let value = T::deserialize(d)?;
    if ok(&value) { Ok(value) } else { Err(D::Error::custom(format!("is {value:?}: expected {expected}"))) }
}

/// Pages in a row with neighbouring frames.
pub(super) fn run_pages<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    checked(d, |n: &u64| n.is_power_of_two() && *n <= 512, "a power of two from 1 to 512")
}
/// Pages in a row with the same rights; below 512, or nothing is split.
pub(super) fn stripe_pages<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    checked(d, |n: &u64| n.is_power_of_two() && *n <= 256, "a power of two from 1 to 256")
}
/// A share that may be nothing and may be all.
pub(super) fn permille<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    checked(d, |n: &u16| *n <= 1000, "0 to 1000")
}
/// A share of something.
pub(super) fn some_permille<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    checked(d, |n: &u16| (1..=1000).contains(n), "1 to 1000: without any it is another shape")
}
/// A share that leaves most of a range empty.
pub(super) fn small_permille<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    checked(d, |n: &u16| (1..=500).contains(n), "1 to 500")
}
/// How many VMAs.
pub(super) fn nr_vmas<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    checked(d, |n: &u64| (1..=1 << 24).contains(n), "1 to 16777216")
}

/// The shortest and the longest run, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLengths {
    /// Shortest; the last run may be cut shorter.
    pub min: u64,
    /// Longest.
    pub max: u64,
}

impl<'de> Deserialize<'de> for RunLengths {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let fits = |[min, max]: &[u64; 2]| 1 <= *min && min <= max && *max <= 1 << 20;
        let expected = "the shortest and the longest run in pages, like [16, 64]";
        checked(d, fits, expected).map(|[min, max]| RunLengths { min, max })
    }
}

/// Pages that are in another state than the rest: exactly so many, in runs, a bit each.
#[derive(Debug)]
pub(super) struct Marks {
    bits: Vec<u64>,
    nr_pages: u64,
}

impl Marks {
    /// None of so many pages.
    pub(super) fn none(nr_pages: u64) -> Marks {
        Marks { bits: vec![0; nr_pages.div_ceil(64) as usize], nr_pages }
    }
    /// `nr_marked` of `nr_pages` pages, in runs of `lengths`, each length as likely, with gaps of varying length between.
    pub(super) fn in_runs(nr_pages: u64, nr_marked: u64, lengths: RunLengths, seed: u64) -> Marks {
        let mut rng = generator(seed, Purpose::Runs);
        let mut marks = Marks::none(nr_pages);
        let mut runs = Vec::new();
        let mut left = nr_marked.min(nr_pages);
        let mut clear = nr_pages - left;
        while left > 0 {
            let run = (lengths.min + below(&mut rng, lengths.max - lengths.min + 1)).min(left);
            runs.push(run);
            left -= run;
        }
        let mut at = 0;
        for (k, run) in runs.iter().enumerate() {
            // Gaps before this and every later run, and one at the end, share what is clear: up to twice its part each.
            let gaps = (runs.len() - k + 1) as u64;
            let gap = below(&mut rng, 2 * clear / gaps + 1).max(u64::from(k > 0)).min(clear);
            clear -= gap;
            at += gap;
            (at..at + run).for_each(|i| marks.set(i));
            at += run;
        }
        marks
    }
    pub(super) fn set(&mut self, i: u64) {
        self.bits[(i / 64) as usize] |= 1 << (i % 64);
    }
    #[inline(always)]
    pub(super) fn has(&self, i: u64) -> bool {
        self.bits[(i / 64) as usize] >> (i % 64) & 1 != 0
    }
    /// How many pages from `first` on are marked like it, as far as the pages go.
    fn alike(&self, first: u64) -> u64 {
        let mark = self.has(first);
        (first..self.nr_pages).take_while(|i| self.has(*i) == mark).count() as u64
    }
    /// Every stretch of pages that are marked alike: first page, pages, whether marked.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (u64, u64, bool)> + '_ {
        let mut at = 0;
        core::iter::from_fn(move || {
            let first = at;
            (first < self.nr_pages).then(|| {
                at += self.alike(first);
                (first, at - first, self.has(first))
            })
        })
    }
}

/// How many pages `permille` of `nr_pages` are, rounded down.
pub(super) const fn part(nr_pages: u64, permille: u16) -> u64 {
    (nr_pages as u128 * permille as u128 / 1000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_so_many_pages_are_marked_and_runs_have_their_lengths() {
        let lengths = RunLengths { min: 16, max: 64 };
        for (n, marked) in [(1, 1), (512, 0), (512, 512), (5000, 1250), (1 << 16, 1 << 14), (100, 1)] {
            let marks = Marks::in_runs(n, marked, lengths, 3);
            assert_eq!((0..n).filter(|i| marks.has(*i)).count() as u64, marked);
            assert_eq!(marks.stretches().map(|s| s.1).sum::<u64>(), n);
            if marked * 4 <= n {
                let runs: Vec<u64> = marks.stretches().filter(|s| s.2).map(|s| s.1).collect();
                let short = runs.iter().filter(|r| **r < 16).count();
                assert!(short <= 1 && runs.iter().all(|r| *r <= 64), "{runs:?}");
            }
        }
    }
}
