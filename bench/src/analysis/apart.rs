//! Stages of a member in one launch, without what it costs to take operations apart, and beside what the same operations
//! took from end to end.
//!
//! The clock's own cost is off already ([`crate::measure::timed`]). What is left is that nothing overlaps a reading, and the
//! code around it: some 10 ns a reading, a quarter of an operation of 100 ns. `noop` pays the same and does nothing else,
//! takes its turns in every group, and is timed both ways: what its operations take longer when they are taken apart,
//! shared out over its readings, comes off everybody's stages, as often as the clock was read in each; not under churn.
//! (Until 2026-11-30 three readings an operation were counted, and the two around each span of faults were not: calls of 16
//! pages with a fault or two were 6 % longer apart than whole.)

use super::clean::Clean;
use super::group::median;
use crate::measure::member::{NOOP, What};
use crate::measure::stages::Readings;
use crate::record::Sample;

/// The stages of one launch.
pub(super) struct Apart<'a> {
    /// The blocks that were taken apart.
    pub(super) clean: Clean<'a>,
    /// Nanoseconds a reading.
    reading_ns: f64,
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
        let reading_ns = match (apart, together, read) {
            (Some(apart), Some(together), Some(read)) if read > 0.0 => (apart - together).max(0.0) / read,
            _ => 0.0,
        };
        Apart { clean, reading_ns }
    }

    /// Every block of a member.
    pub(super) fn blocks(&self, member: &str) -> impl Iterator<Item = ApartBlock> + '_ {
        self.clean.blocks(member).filter_map(|block| {
            let pages = block.nr_pages.max(1) as f64;
            let readings = readings(block);
            let net = |ns: u64, readings: f64| (ns as f64 - self.reading_ns * readings).max(0.0) / pages;
            let mut stages = block.stages?.each().map(|(stage, ns)| (stage, ns as f64));
            for ((_, ns), readings) in stages.iter_mut().zip(readings) {
                *ns = net(*ns as u64, readings);
            }
            let whole_ns = block.apart.map(|a| net(a.whole_ns, readings.iter().sum()));
            Some(ApartBlock { stages, whole_ns })
        })
    }
}
