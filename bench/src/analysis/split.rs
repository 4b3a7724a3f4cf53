//! A cell's stages, from the blocks that were taken apart in all launches, and what they are held against.
//!
//! A stage is its share of the very block that it was timed in, times the cell's whole operations. Two things must hold for
//! that, and a cell in which one does not is marked `stages_off`:
//!
//! * **Nothing is lost or counted twice**: a block's stages, each added up where it was read, come to what the block took
//!   from end to end by another clock. This holds whatever happens meanwhile, and is what `stages_of_whole` says.
//! * **Taking apart changes nothing**: such blocks take as long as whole ones of the same launch (`apart_of_whole`). Blocks
//!   differ by more than 5 % where a machine is noisy, so off is what the interval over launches shows to be off.
//!
//! Under churn the second cannot be asked: one collision more or less, and a block is another one. There the blocks that
//! were taken apart need not be like the whole ones either: where half of the operations collide and wait for a
//! millisecond, shares of all blocks are those of neither half. So the shares are those of the blocks that took most nearly
//! what the middle whole one did.

use std::collections::BTreeMap;

use super::apart::ApartBlock;
use super::group::{median, over_launches};
use crate::stats::Interval;

/// Stages must sum to the whole within this.
const OFF: f64 = 0.05;

/// One launch's blocks of a member.
pub(super) struct Launch {
    /// Those that were taken apart.
    pub(super) apart: Vec<ApartBlock>,
    /// The middle of those that were not, in nanoseconds a page.
    pub(super) whole_ns: Option<f64>,
}

/// What a cell says of its stages.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Nanoseconds a page.
    pub(super) stages: BTreeMap<&'static str, f64>,
    /// Their sum against the whole.
    pub(super) stages_of_whole: Option<f64>,
    /// Blocks that were taken apart against whole ones.
    pub(super) apart_of_whole: Option<Interval>,
    /// One of the two is off.
    pub(super) is_off: bool,
}

impl Split {
    /// Of a cell that takes `whole_ns` a page.
    pub(super) fn new(launches: &[Launch], whole_ns: f64, is_churned: bool) -> Split {
        let against = against_whole(launches);
        let is_shown =
            against.is_some_and(|i| (i.median - 1.0).abs() > OFF && (i.lo > 1.0 + OFF || i.hi < 1.0 - OFF));
        let apart_of_whole = against.filter(|_| !is_churned);
        let Some(shares) = shares(launches, is_churned.then_some(whole_ns)) else {
            // Runs of before 2026-11-30 know no other whole, and no other sum.
            let stages_of_whole = against.map(|i| i.median);
            return Split { stages: middle(launches), stages_of_whole, apart_of_whole, is_off: is_shown };
        };
        let sum: f64 = shares.values().sum();
        let stages = shares.into_iter().map(|(stage, share)| (stage, share * whole_ns)).collect();
        Split {
            stages,
            stages_of_whole: Some(sum),
            apart_of_whole,
            is_off: (sum - 1.0).abs() > OFF || (is_shown && !is_churned),
        }
    }
}

/// Blocks that were taken apart over whole ones of the same launch, and its interval over launches.
fn against_whole(launches: &[Launch]) -> Option<Interval> {
    let ratio = |l: &Launch| {
        let apart = median(l.apart.iter().map(|b| b.whole_ns.unwrap_or_else(|| b.sum())))?;
        Some((apart / l.whole_ns?).ln())
    };
    let logs: Vec<f64> = launches.iter().filter_map(ratio).collect();
    let middle = median(logs.iter().copied())?.exp();
    // Too few launches for an interval: the value has to do.
    over_launches(&logs, || Some(Interval { median: middle, lo: middle, hi: middle }))
}

/// Each stage's share of its block: the mean of a launch's blocks, and of launches the middle, since a launch with few
/// rounds may have had one block only, and a neighbour in one of its parts. Or the mean of the third of all blocks that took
/// most nearly `like_ns`, if that is given. None for runs that do not say what a block took from end to end.
fn shares(launches: &[Launch], like_ns: Option<f64>) -> Option<BTreeMap<&'static str, f64>> {
    type Shares = Vec<(&'static str, f64)>;
    let of_block = |b: &ApartBlock| -> Option<Shares> {
        let whole_ns = b.whole_ns.filter(|ns| *ns > 0.0)?;
        Some(b.stages.iter().map(|(stage, ns)| (*stage, ns / whole_ns)).collect())
    };
    let mean = |all: Vec<Shares>| -> Option<Shares> {
        let mut mean = all.first()?.clone();
        for (i, (_, share)) in mean.iter_mut().enumerate() {
            *share = all.iter().map(|shares| shares[i].1).sum::<f64>() / all.len() as f64;
        }
        Some(mean)
    };
    let mean_of = |blocks: &[ApartBlock]| mean(blocks.iter().filter_map(of_block).collect());
    let Some(like_ns) = like_ns else {
        let launches: Vec<Shares> = launches.iter().filter_map(|l| mean_of(&l.apart)).collect();
        let names = launches.first()?.iter().enumerate();
        let middle = |i: usize| median(launches.iter().map(|shares| shares[i].1));
        return names.map(|(i, (stage, _))| Some((*stage, middle(i)?))).collect();
    };
    let mut blocks: Vec<ApartBlock> = launches.iter().flat_map(|l| &l.apart).copied().collect();
    let apart = |b: &ApartBlock| (b.whole_ns.unwrap_or(0.0) / like_ns).ln().abs();
    blocks.sort_by(|a, b| apart(a).total_cmp(&apart(b)));
    blocks.truncate(blocks.len().div_ceil(3));
    Some(mean_of(&blocks)?.into_iter().collect())
}

/// Nanoseconds in each stage, of the middle launch and there of the middle block.
fn middle(launches: &[Launch]) -> BTreeMap<&'static str, f64> {
    let stage = |blocks: &[ApartBlock], i: usize| median(blocks.iter().map(|b| b.stages[i].1));
    let Some(some) = launches.iter().find_map(|l| l.apart.first()) else { return BTreeMap::new() };
    let names = some.stages.iter().enumerate();
    let of = |i: usize| median(launches.iter().filter_map(|l| stage(&l.apart, i)));
    names.filter_map(|(i, (name, _))| Some((*name, of(i)?))).collect()
}

#[cfg(test)]
mod tests;
