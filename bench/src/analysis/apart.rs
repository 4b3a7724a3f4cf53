//! Stages of a member in one launch, without what it costs to take operations apart.
//!
//! The clock's own cost is off already ([`crate::measure::timed`]). What is left is that nothing overlaps a reading, and the
//! code around it: some 30 ns an operation, a quarter of an operation of 100 ns. `noop` pays the same and does nothing else,
//! takes its turns in every group, and is timed both ways: what its operations take longer when they are taken apart comes
//! off everybody's, a third for each of the three readings that end prepare, walk and consume.

use super::clean::Clean;
use super::group::median;
use crate::measure::member::{NOOP, What};
use crate::record::Sample;

/// The stages of one launch.
pub(super) struct Apart<'a> {
    /// The blocks that were taken apart.
    pub(super) clean: Clean<'a>,
    /// Nanoseconds a reading.
    reading_ns: f64,
}

const READINGS: f64 = 3.0;

impl<'a> Apart<'a> {
    pub(super) fn new(clean: Clean<'a>, whole: &Clean<'_>) -> Self {
        let chained = clean.blocks(NOOP).filter(|s| s.what == What::Stages);
        let apart = median(chained.map(ns_per_call));
        let together = median(whole.blocks(NOOP).map(ns_per_call));
        let extra = apart.zip(together).map_or(0.0, |(a, t)| (a - t).max(0.0));
        Apart { clean, reading_ns: extra / READINGS }
    }

    /// Nanoseconds a page in each stage, block by block.
    pub(super) fn blocks(&self, member: &str) -> impl Iterator<Item = [(&'static str, f64); 5]> + '_ {
        self.clean.blocks(member).filter_map(|block| {
            let is_chained = block.what == What::Stages;
            let extra = if is_chained { self.reading_ns * block.nr_calls as f64 } else { 0.0 };
            let pages = block.nr_pages.max(1) as f64;
            Some(block.stages?.each().map(|(stage, ns)| {
                let has_reading = matches!(stage, "prepare" | "walk" | "consume");
                let extra = if has_reading { extra } else { 0.0 };
                (stage, (ns as f64 - extra).max(0.0) / pages)
            }))
        })
    }
}

fn ns_per_call(block: &Sample) -> f64 {
    block.block_ns as f64 / block.nr_calls.max(1) as f64
}
