//! The order of turns: seeded, so that a recorded run can be repeated in the same order.

/// splitmix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A generator that depends on `seed` and on what `name` calls, so that one group's draws do not move another's.
    pub(crate) fn new(seed: u64, name: &str) -> Rng {
        // FNV-1a.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Rng(seed ^ hash)
    }
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Shuffles `items` (Fisher-Yates; the bias of the modulo is far below what matters for turns).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

/// Whose turn it is, round by round: ABBA or BAAB by the toss of a coin for two members, rows of Latin squares for more,
/// each square with its rows, columns and members shuffled. Over a square, which takes as many rounds as there are
/// members, each has each place once: what depends on the place, like a cache left warm, falls on all alike.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    rng: Rng,
    members: usize,
    /// Rounds to come, the next one last.
    rounds: Vec<Vec<usize>>,
}

impl Turns {
    /// Of so many members.
    pub(crate) fn new(rng: Rng, members: usize) -> Turns {
        Turns { rng, members, rounds: Vec::new() }
    }
    /// The members in the order of the next round.
    pub(crate) fn round(&mut self) -> Vec<usize> {
        if self.rounds.is_empty() {
            self.rounds = self.square();
        }
        self.rounds.pop().unwrap_or_default()
    }
    fn square(&mut self) -> Vec<Vec<usize>> {
        let n = self.members;
        let mut shuffled = || {
            let mut items: Vec<usize> = (0..n).collect();
            self.rng.shuffle(&mut items);
            items
        };
        // For two members this is the coin: the second row is the first one reversed.
        let (rows, columns, members) = (shuffled(), shuffled(), shuffled());
        let row = |r: usize| columns.iter().map(|c| members[(r + c) % n]).collect();
        rows.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_every_item_its_turn() {
        let order = |seed, name| {
            let mut items: Vec<u32> = (0..20).collect();
            Rng::new(seed, name).shuffle(&mut items);
            items
        };
        assert_eq!(order(1, "a"), order(1, "a"));
        assert_ne!(order(1, "a"), order(2, "a"));
        assert_ne!(order(1, "a"), order(1, "b"));
        let mut back = order(3, "c");
        back.sort_unstable();
        assert_eq!(back, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn two_members_go_abba_or_baab() {
        let mut seen = Vec::new();
        for seed in 0..20 {
            let mut turns = Turns::new(Rng::new(seed, "g"), 2);
            let (first, second) = (turns.round(), turns.round());
            assert_eq!(first.iter().rev().copied().collect::<Vec<_>>(), second);
            seen.push(first[0]);
        }
        assert!(seen.contains(&0) && seen.contains(&1), "the coin has two sides");
    }

    #[test]
    fn over_a_square_every_member_has_every_place_once() {
        for n in [1, 3, 4, 17] {
            let mut turns = Turns::new(Rng::new(5, "g"), n);
            for _ in 0..3 {
                let square: Vec<Vec<usize>> = (0..n).map(|_| turns.round()).collect();
                for place in 0..n {
                    let mut there: Vec<usize> = square.iter().map(|round| round[place]).collect();
                    there.sort_unstable();
                    assert_eq!(there, (0..n).collect::<Vec<_>>(), "place {place} of {n}");
                }
            }
        }
        assert!(Turns::new(Rng::new(5, "g"), 0).round().is_empty());
    }

    #[test]
    fn squares_differ_from_each_other_and_between_launches() {
        let rounds = |name: &str| {
            let mut turns = Turns::new(Rng::new(1, name), 6);
            (0..12).map(|_| turns.round()).collect::<Vec<_>>()
        };
        let all = rounds("launch 0");
        assert_ne!(all[..6], all[6..]);
        assert_ne!(all, rounds("launch 1"));
        assert_eq!(all, rounds("launch 0"));
    }
}
