//! Which blocks of a launch count.

use std::collections::{BTreeMap, BTreeSet};

use workloads::churn::{ChurnSpec, Dose};

use crate::measure::churn::{DOSE_TOLERANCE, Tally, doses_differ};
use crate::measure::member::What;
use crate::record::Sample;
use crate::stats::{Interval, Sorted, log_ratio, median_interval, ratio_interval};

/// Rounds may be disturbed up to this share before a group counts as noisy.
const NOISY: f64 = 0.3;
/// Blocks that a member must have left for its disturbed ones to be void.
const FEW: usize = 3;

/// A block without an event that lasts as long as so many events take on average was not churned: who churns as fast as
/// possible had no processor.
const STALLED_EVENTS: f64 = 5.0;

/// Nanoseconds in which some event must have happened, where churn goes as fast as it can.
fn stalled_after_ns(samples: &[&Sample], churn: Option<&ChurnSpec>) -> f64 {
    if churn.is_none_or(|spec| !matches!(spec.dose, Dose::Max)) {
        return f64::INFINITY;
    }
    let tallies = || samples.iter().filter_map(|s| Some(s.churn?.tally()));
    let (ns, events) = tallies().fold((0, 0), |(ns, events), t| (ns + t.ns, events + t.events));
    if events == 0 { 0.0 } else { STALLED_EVENTS * ns as f64 / events as f64 }
}

/// The samples of one launch and group that count. A disturbed round is void for all members, and so is one in which
/// they did not get the same dose of churn; where that would void too many, only the disturbed blocks themselves are,
/// and the group is noisy. A member that has hardly any other blocks keeps them all. Blocks that churn slept through are of
/// another cell, and never count.
pub(crate) struct Clean<'a> {
    by_member: BTreeMap<&'a str, BTreeMap<u32, &'a Sample>>,
    rounds: usize,
    disturbed: usize,
    unequal: usize,
}

impl<'a> Clean<'a> {
    /// Of the samples that timed what `wanted` accepts; `churn` is what invalidated meanwhile.
    pub(crate) fn new(
        samples: impl Iterator<Item = &'a Sample>,
        churn: Option<&ChurnSpec>,
        wanted: impl Fn(What) -> bool,
    ) -> Clean<'a> {
        let samples: Vec<&Sample> = samples.filter(|s| wanted(s.what)).collect();
        let stalled_after_ns = stalled_after_ns(&samples, churn);
        let is_stalled =
            |s: &Sample| s.churn.is_some_and(|c| c.events == 0 && c.wall_ns as f64 > stalled_after_ns);
        let mut rounds: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
        for s in samples.into_iter().filter(|s| !is_stalled(s)) {
            rounds.entry(s.round).or_default().push(s);
        }
        let is_disturbed = |r: &[&Sample]| r.iter().any(|s| s.is_disturbed());
        let is_unequal = |r: &[&Sample]| {
            let doses: Vec<Tally> = r.iter().filter_map(|s| Some(s.churn?.tally())).collect();
            churn.is_some_and(|spec| !doses.is_empty() && doses_differ(spec, &doses, DOSE_TOLERANCE))
        };
        let numbers = |is: &dyn Fn(&[&Sample]) -> bool| -> BTreeSet<u32> {
            rounds.iter().filter(|(_, r)| is(r)).map(|(n, _)| *n).collect()
        };
        let (disturbed, unequal) = (numbers(&is_disturbed), numbers(&is_unequal));
        let void: BTreeSet<u32> = disturbed.union(&unequal).copied().collect();
        let noisy = void.len() as f64 > NOISY * rounds.len() as f64;
        let mut by_member: BTreeMap<&str, BTreeMap<u32, &Sample>> = BTreeMap::new();
        for s in rounds.values().flatten() {
            by_member.entry(&s.member).or_default().insert(s.round, s);
        }
        for blocks in by_member.values_mut() {
            let is_kept = |s: &Sample| if noisy { !s.is_disturbed() } else { !void.contains(&s.round) };
            if blocks.values().filter(|s| is_kept(s)).count() >= FEW {
                blocks.retain(|_, s| is_kept(s));
            }
        }
        Clean { by_member, rounds: rounds.len(), disturbed: disturbed.len(), unequal: unequal.len() }
    }
    /// Of the samples of one visit that timed `what`.
    pub(crate) fn of(samples: &'a [Sample], what: What) -> Clean<'a> {
        Clean::new(samples.iter(), None, |w| w == what)
    }
    /// Blocks of `member`.
    pub(crate) fn len(&self, member: &str) -> usize {
        self.by_member.get(member).map_or(0, BTreeMap::len)
    }
    /// The blocks of `member`.
    pub(crate) fn blocks(&self, member: &str) -> impl Iterator<Item = &'a Sample> + '_ {
        self.by_member.get(member).into_iter().flat_map(|b| b.values().copied())
    }
    /// Nanoseconds a page of `member`, over the rounds.
    pub(crate) fn ns_per_page(&self, member: &str) -> Option<Interval> {
        let blocks = self.blocks(member).map(Sample::ns_per_page);
        Some(median_interval(&Sorted::new(blocks.collect())?))
    }
    fn pairs(&self, member: &str, other: &str) -> Option<impl Iterator<Item = (f64, f64)> + '_> {
        let (m, o) = (self.by_member.get(member)?, self.by_member.get(other)?);
        Some(m.iter().filter_map(|(round, s)| Some((s.ns_per_page(), o.get(round)?.ns_per_page()))))
    }
    /// `member` against `other`, from the rounds that have both.
    pub(crate) fn ratio(&self, member: &str, other: &str) -> Option<Interval> {
        ratio_interval(self.pairs(member, other)?)
    }
    /// Ditto: the logarithm of the launch's ratio.
    pub(crate) fn log_ratio(&self, member: &str, other: &str) -> Option<f64> {
        log_ratio(self.pairs(member, other)?)
    }
    /// More rounds were disturbed than can be left out.
    pub(crate) fn is_noisy(&self) -> bool {
        self.disturbed as f64 > NOISY * self.rounds as f64
    }
    /// Rounds, those that were disturbed, and those with unequal doses of churn.
    pub(crate) fn rounds(&self) -> Rounds {
        Rounds { all: self.rounds, disturbed: self.disturbed, unequal: self.unequal }
    }
}

/// Rounds, of one launch or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rounds {
    all: usize,
    disturbed: usize,
    unequal: usize,
}

impl Rounds {
    /// Those of another launch too.
    pub(super) fn add(&mut self, other: Rounds) {
        self.all += other.all;
        self.disturbed += other.disturbed;
        self.unequal += other.unequal;
    }
    /// More were disturbed than can be left out.
    pub(super) fn are_noisy(self) -> bool {
        self.disturbed as f64 > NOISY * self.all as f64
    }
    /// More had unequal doses than can be left out.
    pub(super) fn are_unequal(self) -> bool {
        self.unequal as f64 > NOISY * self.all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::sample;
    use super::*;
    use crate::record::ChurnDose;

    fn disturbed(s: Sample) -> Sample {
        Sample { involuntary_switches: Some(1), ..s }
    }

    #[test]
    fn a_disturbed_round_is_void_for_all_members() {
        let mut samples: Vec<Sample> =
            (0..10).flat_map(|r| [sample("a", r, 20), sample("decode", r, 10)]).collect();
        samples[6] = disturbed(sample("a", 3, 9_000));
        samples[9] = Sample { stolen_ticks: Some(2), ..sample("decode", 4, 10) };
        let clean = Clean::of(&samples, What::Whole);
        assert!(!clean.is_noisy());
        assert_eq!((clean.len("a"), clean.len("decode")), (8, 8));
        assert_eq!(clean.ratio("a", "decode").unwrap().hi, 2.0);
        assert_eq!(clean.log_ratio("a", "decode").unwrap().exp(), 2.0);
    }

    #[test]
    fn in_a_noisy_group_only_the_disturbed_blocks_are_void() {
        let mut samples: Vec<Sample> = (0..10)
            .flat_map(|r| [sample("a", r, 20), disturbed(sample("b", r, 20)), sample("decode", r, 10)])
            .collect();
        for i in [3, 9, 15, 21, 27] {
            samples[i] = disturbed(samples[i].clone());
        }
        let clean = Clean::of(&samples, What::Whole);
        assert!(clean.is_noisy());
        assert_eq!((clean.len("a"), clean.len("b"), clean.len("decode")), (5, 10, 10));
        assert_eq!(clean.ratio("a", "decode").unwrap().median, 2.0);
    }

    #[test]
    fn a_round_with_unequal_doses_is_void_for_all_members() {
        let spec: ChurnSpec = "zap-4KiB-o100-uniform-1000000ps-t1".parse().unwrap();
        let dosed = |member, round, events| Sample {
            churn: Some(ChurnDose { wall_ns: 1_000_000, events, ..ChurnDose::default() }),
            ..sample(member, round, 10)
        };
        let mut samples: Vec<Sample> =
            (0..10).flat_map(|r| [dosed("a", r, 1000), dosed("b", r, 1010)]).collect();
        let all = Clean::new(samples.iter(), Some(&spec), |_| true);
        assert_eq!((all.len("a"), all.rounds().unequal), (10, 0));
        samples[4] = dosed("a", 2, 700);
        let clean = Clean::new(samples.iter(), Some(&spec), |_| true);
        assert_eq!((clean.len("a"), clean.len("b"), clean.rounds().unequal), (9, 9, 1));
    }
    #[test]
    fn a_block_that_churn_slept_through_never_counts() {
        let churned = |round, events, block_ns| Sample {
            block_ns,
            churn: Some(ChurnDose { wall_ns: block_ns, events, ..ChurnDose::default() }),
            ..sample("a", round, 10)
        };
        // An event takes 10 us or so; noop is done before the first.
        let mut samples = vec![churned(0, 100, 1_000_000), churned(1, 0, 400_000), churned(2, 90, 1_000_000)];
        samples.push(Sample { member: "noop".to_owned(), ..churned(0, 0, 5_000) });
        let clean = |spec: &str| {
            let spec: ChurnSpec = spec.parse().unwrap();
            let clean = Clean::new(samples.iter(), Some(&spec), |_| true);
            (clean.len("a"), clean.len("noop"))
        };
        assert_eq!(clean("zap-64KiB-o100-uniform-max-t1"), (2, 1));
        assert_eq!(clean("zap-64KiB-o100-uniform-10ps-t1"), (3, 1), "so seldom that a block may have none");
        // A member with no other block has none left.
        samples.remove(2);
        samples.remove(0);
        samples.push(Sample { member: "b".to_owned(), ..churned(0, 100, 1_000_000) });
        let spec: ChurnSpec = "zap-64KiB-o100-uniform-max-t1".parse().unwrap();
        let clean = Clean::new(samples.iter(), Some(&spec), |_| true);
        assert_eq!((clean.len("a"), clean.len("b")), (0, 1));
    }
}
