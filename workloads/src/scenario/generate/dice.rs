//! Choices.

use rand_pcg::Pcg64Mcg;

use crate::random::below;
use crate::scenario::Span;

/// One stream of choices.
pub(super) struct Dice(Pcg64Mcg);

impl Dice {
    pub(super) fn new(rng: Pcg64Mcg) -> Self {
        Self(rng)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        below(&mut self.0, n)
    }

    /// A number of `least..=most`.
    pub(super) fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in `percent` of all cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// One of these, as often as its weight says.
    pub(super) fn weighted<T: Copy>(&mut self, from: &[(T, u64)]) -> T {
        let mut left = self.below(from.iter().map(|(_, weight)| weight).sum());
        for &(value, weight) in from {
            if left < weight {
                return value;
            }
            left -= weight;
        }
        unreachable!("a number below the sum of all weights")
    }

    /// Pages of a window of `n` (at least 1): all of them, blocks of 16, 64 or 512, a few, or any.
    pub(super) fn span(&mut self, n: u64) -> Span {
        match self.below(20) {
            0..3 => Span { off: 0, len: n },
            3..7 if n >= 64 => {
                let block = *self.pick(if n >= 1024 { &[16, 64, 512, 512] } else { &[16, 16, 64, 64] });
                let first = self.below(n / block);
                let last = self.within(first + 1, n / block);
                Span { off: first * block, len: (last - first) * block }
            }
            7..12 => self.short(n, 8),
            _ => {
                let off = self.below(n);
                Span { off, len: self.within(1, n - off) }
            }
        }
    }

    /// At most `most` pages of a window of `n`.
    pub(super) fn short(&mut self, n: u64, most: u64) -> Span {
        let len = self.within(1, n.min(most));
        Span { off: self.within(0, n - len), len }
    }
}
