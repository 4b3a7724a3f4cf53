//! How many entries a cell reads and how many faults of each kind it takes, from the exact counts in its record.

use std::collections::BTreeMap;

use walker::addr::PAGE_SIZE;
use walker::counters::Count;
use workloads::churn::NO_CHURN;
use workloads::definition::{self, parse_size};
use workloads::shape::{AbsentTables, ShapeSpec};

use super::prices::{Corner, Entry, FAULTS, Prices};
use crate::questions::{CellId, Coordinate, Metric};
use crate::results::Results;

/// What a cell pays for, a page.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// What its entries are when they are read.
    entry: Entry,
    /// How many are read.
    reads: Reads,
    /// Faults: allocating, mapping the zero page, breaking it, copying.
    faults: [f64; 4],
    /// Faults that find nothing to do.
    vain: f64,
}

#[derive(Clone, Debug)]
enum Reads {
    Counted(f64),
    /// Where collisions decide.
    ByLaunch(BTreeMap<u32, f64>),
}

/// Counts that are no kind of fault.
const NO_KIND: [Count; 3] = [Count::FaultsIssued, Count::FaultsNeeded, Count::FaultsSpurious];

/// Kinds that a price is known of.
const PRICED: [Count; 3] = [Count::FaultsAnonZero, Count::FaultsZeroPage, Count::FaultsCowCopy];

/// An exact count of one sweep, of each page of the range.
pub(super) fn per_page(run: &Results, cell: &CellId, name: &str) -> Option<f64> {
    let pages = parse_size(cell.get(Coordinate::Size))? / PAGE_SIZE;
    Some(run.count(cell, name)? as f64 / pages as f64)
}

/// Faults of each kind that has a price, a page.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn faults(run: &Results, cell: &CellId) -> Result<[f64; 4], String> {
    let count = |c: Count| per_page(run, cell, c.name()).ok_or("its record has no exact counts");
    let mut without = Vec::new();
    for c in Count::ALL.iter().filter(|c| c.name().starts_with("faults_")) {
        if !NO_KIND.contains(c) && !PRICED.contains(c) && count(*c)? > 0.0 {
            without.push(c.name());
        }
    }
    if !without.is_empty() {
        return Err(format!("the kernel has no figure for {}", without.join(", ")));
    }
    // A private copy copies bytes, but for one of the zero page, which zeroes them.
    let copied = count(Count::BytesCopied)? / PAGE_SIZE as f64;
    let broken = count(Count::FaultsCowCopy)? - copied;
    if broken < 0.0 {
        return Err("it copies more than its faults explain".to_owned());
    }
    Ok([count(Count::FaultsAnonZero)?, count(Count::FaultsZeroPage)?, broken, copied])
}

impl Load {
    /// Of a cell.
    ///
    /// # Errors
    /// Why it cannot be calibrated.
    pub(super) fn of(run: &Results, cell: &CellId, prices: &Prices) -> Result<Load, String> {
        let at = |c| cell.get(c);
        let count =
            |name: &str| per_page(run, cell, name).ok_or_else(|| "its record has no exact counts".to_owned());
        if at(Coordinate::Walkers) != "1" {
            return Err("several walkers contend in ways that no row of the kernel has".to_owned());
        }
        if at(Coordinate::CallPages).parse::<u32>().is_ok_and(|n| n < super::CALL_PAGES) {
            return Err(format!(
                "a call has fewer than {} pages, and what a call itself costs the kernel has no price",
                super::CALL_PAGES
            ));
        }
        let before = entry_before(at(Coordinate::Workload))
            .ok_or("the kernel has no figure for what its entries hold")?;
        if count("huge_leaves")? > 0.0 || count("holes")? > 0.0 {
            return Err("the kernel has no figure for huge mappings and holes among pages".to_owned());
        }
        let faults = faults(run, cell)?;
        let vain = count("faults_spurious")?;
        let is_quiet = at(Coordinate::Churn) == NO_CHURN;
        if !is_quiet && at(Coordinate::Request) != "snapshot" {
            return Err("how many faults it takes under churn is not in the record".to_owned());
        }
        let entry = entry_read(before, faults)?;
        let reads = if is_quiet {
            Reads::Counted(count("ptes_visited")?)
        } else {
            Reads::ByLaunch(walked(run, cell))
        };
        let load = Load { entry, reads, faults, vain };
        match load.rows().into_iter().find_map(|row| prices.missing(row)) {
            Some(why) => return Err(why),
            None if vain > 0.0 => prices.vain_missing().map_or(Ok(()), Err)?,
            None => {}
        }
        Ok(load)
    }
    /// Rows of the price list that it needs.
    fn rows(&self) -> Vec<usize> {
        let faults = self.faults.iter().enumerate().filter(|(_, n)| **n > 0.0).map(|(kind, _)| FAULTS + kind);
        faults.flat_map(Prices::needs).chain([self.entry as usize]).collect()
    }
    /// Parts of prices that it depends on.
    pub(super) fn parts(&self) -> Vec<usize> {
        let vain = Prices::vain_parts().into_iter().filter(|_| self.vain > 0.0);
        self.rows().into_iter().chain(vain).collect()
    }
    /// What the kernel's prices add to a page in a launch, in ns; none where the launch lacks one of the model's.
    pub(super) fn added(&self, prices: &Prices, launch: u32, at: &Corner) -> Option<f64> {
        let difference = |(kernel, model): (f64, f64)| kernel - model;
        let reads = match &self.reads {
            Reads::Counted(n) => *n,
            Reads::ByLaunch(by) => *by.get(&launch)?,
        };
        let mut ns = reads * difference(prices.price(self.entry as usize, launch, at)?);
        for (kind, n) in self.faults.iter().enumerate().filter(|(_, n)| **n > 0.0) {
            ns += n * difference(prices.price(FAULTS + kind, launch, at)?);
        }
        if self.vain > 0.0 {
            ns += self.vain * difference(prices.vain(launch, at)?);
        }
        Some(ns)
    }
}

/// What every entry of a workload is before a call, where one of the kernel's rows has such memory.
fn entry_before(workload: &str) -> Option<Entry> {
    match &definition::find(workload)?.shape {
        ShapeSpec::Dense4k { .. } | ShapeSpec::AfterFork { .. } => Some(Entry::Present),
        ShapeSpec::Absent4k { tables: AbsentTables::Empty } => Some(Entry::Nothing),
        ShapeSpec::ZeroMapped(zero) if !zero.huge => Some(Entry::ZeroPage),
        _ => None,
    }
}

/// What its entries are when they are read. Before a fault a span is read up to the first entry that needs it, and
/// once more after all of it was faulted: what faults left is what is read.
fn entry_read(before: Entry, [allocated, zero_mapped, broken, copied]: [f64; 4]) -> Result<Entry, String> {
    let near = |x: f64, y: f64| (x - y).abs() < 1e-9;
    let zero = zero_mapped + f64::from(u8::from(before == Entry::ZeroPage)) - broken;
    let present = allocated + broken;
    match before {
        Entry::Present => Ok(Entry::Present),
        _ if near(allocated + zero_mapped + broken + copied, 0.0) => Ok(before),
        _ if near(present, 1.0) && near(zero, 0.0) => Ok(Entry::Present),
        _ if near(present, 0.0) && near(zero, 1.0) => Ok(Entry::ZeroPage),
        _ => Err("its entries are of several kinds when they are read".to_owned()),
    }
}

/// Entries that are read a page under churn, by launch: those in vain, and once more where the operation succeeded.
/// Blocks that time stages count pages in vain: a launch without one that counts says nothing.
fn walked(run: &Results, cell: &CellId) -> BTreeMap<u32, f64> {
    let churned = run.cells.get(cell).and_then(|f| f.churned).unwrap_or_default();
    let succeeded = 1.0 - churned.given_up as f64 / churned.tried.max(1) as f64;
    run.each_launch(cell, Metric::Vain).into_iter().map(|(l, vain)| (l, vain + succeeded)).collect()
}
