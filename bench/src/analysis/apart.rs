//! Stages of a member in one launch, without what it costs to take operations apart, and beside what the same operations
//! took from end to end.
//!
//! The clock's own cost is off already ([`crate::measure::timed`]). What is left is that nothing overlaps a reading, and the
//! code around it: some 10 ns a reading, a quarter of an operation of 100 ns. It comes off each stage as often as the clock
//! was read in it; not under churn, where operations are long beside it and blocks differ in their collisions.
//!
//! How much it is depends on what stands around the reading, so every member says it of itself: what its operations take
//! longer when they are taken apart, shared out over its readings. That would explain any difference, so `noop`, which does
//! nothing else and is timed both ways in every group, bounds it: a reading costs from nothing to twice what it costs
//! `noop`. What is left beyond that is [`super::split`]'s to judge. (On 2026-11-30 `noop`'s cost, 12 ns, was everybody's. In
//! single-page calls that fault a reading costs 8, in calls of 16 pages 16: 26 of 2,716 cells came out up to a tenth shorter
//! or longer apart than whole. Before that the two readings around each span of faults were not counted.)

use super::clean::Clean;
use super::group::median;
use crate::measure::member::{NOOP, What};
use crate::measure::stages::Readings;
use crate::record::Sample;

/// The stages of one launch.
pub(super) struct Apart<'a> {
    /// The blocks that were taken apart.
    pub(super) clean: Clean<'a>,
    /// Nanoseconds that a reading costs `noop`.
    noop_reading_ns: f64,
}

/// One block, in nanoseconds a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ApartBlock {
    /// Its stages.
    pub(super) stages: [(&'static str, f64); 5],
    /// What the same operations took from end to end, if the run says so.
    pub(super) whole_ns: Option<f64>,
}

impl ApartBlock {
    /// All stages together.
    pub(super) fn sum(&self) -> f64 {
        self.stages.iter().map(|(_, ns)| ns).sum()
    }
}

/// Of an operation of which a run does not say how often the clock was read: the ends of prepare, walk and consume.
const READINGS: Readings = Readings { prepare: 1, walk: 1, fault: 0, retry: 0, consume: 1 };

/// A reading costs at most so many times what it costs `noop`.
const MOST_OF_NOOP: f64 = 2.0;

/// How often the clock was read in each stage of a block: never where the stages are differences.
fn readings(block: &Sample) -> [f64; 5] {
    match block.apart {
        Some(apart) => apart.readings.each().map(|n| n as f64),
        None if block.what == What::Stages => READINGS.each().map(|n| (n * block.nr_calls) as f64),
        None => [0.0; 5],
    }
}

impl<'a> Apart<'a> {
    pub(super) fn new(clean: Clean<'a>, whole: &Clean<'_>) -> Self {
        // Under churn noop waits for events, which says nothing of readings, and operations are long beside them.
        let tells = |s: &Sample| s.what == What::Stages && (s.churn.is_none() || s.apart.is_none());
        let chained = || clean.blocks(NOOP).filter(|s| tells(s));
        let a_call = |s: &Sample, n: f64| n / s.nr_calls.max(1) as f64;
        let apart = median(chained().map(|s| a_call(s, s.block_ns as f64)));
        let read = median(chained().map(|s| a_call(s, readings(s).iter().sum())));
        let together = median(whole.blocks(NOOP).map(|s| a_call(s, s.block_ns as f64)));
        let noop_reading_ns = match (apart, together, read) {
            (Some(apart), Some(together), Some(read)) if read > 0.0 => (apart - together).max(0.0) / read,
            _ => 0.0,
        };
        Apart { clean, noop_reading_ns }
    }

    /// Nanoseconds that a reading costs a member whose whole operations take `whole_ns` a page.
    fn reading_ns(&self, member: &str, whole_ns: Option<f64>) -> f64 {
        let a_page = |ns: f64, block: &Sample| ns / block.nr_pages.max(1) as f64;
        let blocks = || self.clean.blocks(member);
        let apart = median(blocks().filter_map(|b| Some(a_page(b.apart?.whole_ns as f64, b))));
        let read = median(blocks().map(|b| a_page(readings(b).iter().sum(), b)));
        match (apart, whole_ns, read) {
            (Some(apart), Some(whole), Some(read)) if read > 0.0 => {
                ((apart - whole) / read).clamp(0.0, MOST_OF_NOOP * self.noop_reading_ns)
            }
            // Nothing was read, or runs of before 2026-11-30.
            _ => self.noop_reading_ns,
        }
    }

    /// Every block of a member whose whole operations take `whole_ns` a page.
    pub(super) fn blocks(
        &self,
        member: &str,
        whole_ns: Option<f64>,
    ) -> impl Iterator<Item = ApartBlock> + '_ {
        let reading_ns = self.reading_ns(member, whole_ns);
        self.clean.blocks(member).filter_map(move |block| {
            let pages = block.nr_pages.max(1) as f64;
            let readings = readings(block);
            let net = |ns: u64, readings: f64| (ns as f64 - reading_ns * readings).max(0.0) / pages;
            let mut stages = block.stages?.each().map(|(stage, ns)| (stage, ns as f64));
            for ((_, ns), readings) in stages.iter_mut().zip(readings) {
                *ns = net(*ns as u64, readings);
            }
            let whole_ns = block.apart.map(|a| net(a.whole_ns, readings.iter().sum()));
            Some(ApartBlock { stages, whole_ns })
        })
    }
}
