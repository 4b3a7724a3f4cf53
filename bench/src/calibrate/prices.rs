//! What an entry that is read and a fault cost the kernel and the model.
//!
//! A row of the kernel and a cell of the model stand for each price: memory of which every page is alike, asked for in
//! the same way. What the kernel's device times (read_begin, lock, walk with its faults, read_retry, again after a
//! collision) is of the model's operation all but prepare and consume. The price of an entry is what a snapshot takes for
//! a page; that of a fault, what a faulting call takes beyond reading the entries that the fault leaves.

use std::collections::BTreeMap;

use super::Calibration;
use super::load::per_page;
use crate::questions::{CellId, Metric, Stage};
use crate::results::{LiveFigure, Results};
use crate::stats::{Sorted, median_interval};

/// What the walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Maps a page.
    Present,
    /// Maps the zero page.
    ZeroPage,
    /// None, in a table.
    Nothing,
}

/// What a price is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Reading an entry.
    Read,
    /// A fault, and what it leaves.
    Fault(Entry),
}

/// What stands for a price.
#[derive(Debug)]
pub(super) struct Row {
    /// In words.
    pub(super) what: &'static str,
    pub(super) of: Of,
    /// As in `live.json`.
    pub(super) source: &'static str,
    pub(super) shape: &'static str,
    pub(super) stage: &'static str,
    /// The cell.
    pub(super) cell: &'static str,
}

/// Entries in the order of [`Entry`], then faults in that of [`super::load::Load::faults`]. Each pair is one of the
/// question about the kernel (a test).
pub(super) const ROWS: [Row; 7] = [
    Row {
        what: "an entry that maps a page, read",
        of: Of::Read,
        source: "hmm_range_fault",
        shape: "dense_4k",
        stage: "snapshot",
        cell: "dense_4k@16MiB/snapshot/512/none/1/map_order",
    },
    Row {
        what: "an entry that maps the zero page, read",
        of: Of::Read,
        source: "hmm_range_fault",
        shape: "zero_page",
        stage: "snapshot",
        cell: "zero_mapped@16MiB/snapshot/512/none/1/map_order",
    },
    Row {
        what: "a none entry, read",
        of: Of::Read,
        source: "hmm_range_fault",
        shape: "empty_tables",
        stage: "snapshot",
        cell: "absent_4k@16MiB/snapshot/512/none/1/map_order",
    },
    Row {
        what: "a fault that allocates and zeroes a page",
        of: Of::Fault(Entry::Present),
        source: "hmm_range_fault_write",
        shape: "absent_4k",
        stage: "fault",
        cell: "absent_4k@16MiB/fault_write/512/none/1/map_order",
    },
    Row {
        what: "a fault that maps the zero page",
        of: Of::Fault(Entry::ZeroPage),
        source: "hmm_range_fault_read",
        shape: "absent_4k",
        stage: "fault",
        cell: "absent_4k@16MiB/fault_read/512/none/1/map_order",
    },
    Row {
        what: "a fault that breaks the zero page",
        of: Of::Fault(Entry::Present),
        source: "hmm_range_fault_write",
        shape: "zero_page",
        stage: "fault",
        cell: "zero_mapped@16MiB/fault_write/512/none/1/map_order",
    },
    Row {
        what: "a fault that copies a page (COW)",
        of: Of::Fault(Entry::Present),
        source: "hmm_range_fault_write",
        shape: "after_fork",
        stage: "fault",
        cell: "after_fork_write@16MiB/fault_write/512/none/1/map_order",
    },
];

/// Where faults begin in [`ROWS`].
pub(super) const FAULTS: usize = 3;

/// The fault that does least, and still changes an entry: a fault that finds nothing to do costs the model no more.
const LEAST_FAULT: usize = 4;

/// What a fault that finds nothing to do costs: between nothing and a bound, in both. The kernel's is taking over the
/// page as it is, which does all of it and more.
const REUSE: (&str, &str, &str) = ("hmm_range_fault_write", "child_gone", "fault");

/// How many figures prices are made of: a kernel's for each row, and what a fault that finds nothing to do costs the
/// kernel, in ns, and the model, as a share of its bound.
pub(super) const PARTS: usize = ROWS.len() + 2;
const VAIN_KERNEL: usize = ROWS.len();
const VAIN_MODEL: usize = ROWS.len() + 1;

/// One value of every part.
pub(super) type Corner = [f64; PARTS];

/// What a cell stands for, by exact counts: entries read, faults of the kind, and faults that found nothing to do.
#[derive(Clone, Copy, Debug)]
struct Shares {
    reads: f64,
    faults: f64,
    vain: f64,
}

/// All prices of a run and a calibration.
#[derive(Debug)]
pub(crate) struct Prices {
    kernel: [Option<LiveFigure>; ROWS.len()],
    reuse: Option<LiveFigure>,
    shares: [Option<Shares>; ROWS.len()],
    /// Nanoseconds a page without prepare and consume, by launch.
    model: BTreeMap<u32, [Option<f64>; ROWS.len()]>,
    /// The calibration's own model in units of the run's.
    drift: [Option<f64>; ROWS.len()],
}

/// One of them, for people: nanoseconds of an entry or a fault.
#[derive(Clone, Debug)]
pub(crate) struct Price {
    pub(crate) what: &'static str,
    /// Row and cell.
    pub(crate) from: String,
    /// Median, lower and upper end.
    pub(crate) kernel: [f64; 3],
    pub(crate) model: [f64; 3],
    /// The difference, with the ends of both.
    pub(crate) added: [f64; 3],
    /// What the cell took when the kernel was measured, in units of what it took in the run.
    pub(crate) drift: Option<f64>,
}

impl Prices {
    /// From what both measured.
    pub(crate) fn new(run: &Results, calibration: &Calibration) -> Prices {
        let cells = ROWS.each_ref().map(|row| CellId::parse(row.cell));
        let shares = std::array::from_fn(|i| shares(run, cells[i].as_ref()?, i));
        let mut model: BTreeMap<u32, [Option<f64>; ROWS.len()]> = BTreeMap::new();
        for (i, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            for (launch, ns) in without_the_caller(run, cell) {
                model.entry(launch).or_default()[i] = Some(ns);
            }
        }
        let level = |of: &Results, i: usize| Some(of.level(cells[i].as_ref()?, Metric::Whole)?.value);
        Prices {
            kernel: ROWS.each_ref().map(|r| calibration.figure(r.source, r.shape, r.stage)),
            reuse: calibration.figure(REUSE.0, REUSE.1, REUSE.2),
            shares,
            model,
            drift: std::array::from_fn(|i| Some(level(&calibration.results, i)? / level(run, i)?)),
        }
    }
    /// Why the price of a row is not known, if it is not.
    pub(super) fn missing(&self, row: usize) -> Option<String> {
        let r = &ROWS[row];
        if self.kernel[row].is_none() {
            let name = format!("{}/{}/{}/{}", r.source, r.shape, r.stage, super::CALL_PAGES);
            return Some(format!("{}: the calibration has no figure {name}", r.what));
        }
        let has = self.shares[row].is_some() && self.model.values().any(|m| m[row].is_some());
        (!has).then(|| format!("{}: the run has no figure of {}", r.what, r.cell))
    }
    /// Why faults that find nothing to do cannot be bounded, if they cannot.
    pub(super) fn vain_missing(&self) -> Option<String> {
        let (source, shape, stage) = REUSE;
        if self.reuse.is_none() {
            return Some(format!(
                "faults that find nothing to do: the calibration has no figure {source}/{shape}/{stage}/{}",
                super::CALL_PAGES
            ));
        }
        self.missing(LEAST_FAULT)
    }
    /// Rows that the price of `row` is made of.
    pub(super) fn needs(row: usize) -> Vec<usize> {
        match ROWS[row].of {
            Of::Read => vec![row],
            Of::Fault(leaves) => vec![row, leaves as usize],
        }
    }
    /// Which parts faults that find nothing to do depend on.
    pub(super) const fn vain_parts() -> [usize; 2] {
        [VAIN_KERNEL, VAIN_MODEL]
    }
    /// Lower end, median and upper end of a part.
    pub(super) fn part(&self, part: usize) -> [f64; 3] {
        match part {
            // Between nothing and the bound there is no reason for any value: half of it stands for a median.
            VAIN_MODEL => [0.0, 0.5, 1.0],
            VAIN_KERNEL => {
                let most = self.reuse.map_or(0.0, |f| f.hi.unwrap_or(f.median));
                [0.0, most / 2.0, most]
            }
            row => self.kernel[row]
                .map_or([0.0; 3], |f| [f.lo.unwrap_or(f.median), f.median, f.hi.unwrap_or(f.median)]),
        }
    }
    /// Launches of the kernel behind a part, where there are some.
    pub(super) fn launches(&self, part: usize) -> Option<usize> {
        let figure = if part == VAIN_KERNEL { self.reuse } else { *self.kernel.get(part)? };
        figure.map(|f| f.launches)
    }
    /// The medians.
    pub(super) fn middle(&self) -> Corner {
        std::array::from_fn(|part| self.part(part)[1])
    }
    /// The kernel's price of a row, and the model's in a launch.
    pub(super) fn price(&self, row: usize, launch: u32, at: &Corner) -> Option<(f64, f64)> {
        let shares = self.shares[row]?;
        let model = self.model.get(&launch)?[row]?;
        match ROWS[row].of {
            Of::Read => Some((at[row] / shares.reads, model / shares.reads)),
            Of::Fault(leaves) => {
                let (kernel_read, model_read) = self.price(leaves as usize, launch, at)?;
                // Of the kernel's row every page takes the fault; of the model's cell not all need to.
                let vain = if shares.vain > 0.0 { shares.vain * self.vain(launch, at)?.1 } else { 0.0 };
                let kernel = at[row] - shares.reads * kernel_read;
                Some((kernel, (model - shares.reads * model_read - vain) / shares.faults))
            }
        }
    }
    /// The same of a fault that finds nothing to do.
    pub(super) fn vain(&self, launch: u32, at: &Corner) -> Option<(f64, f64)> {
        let most = self.model.get(&launch)?[LEAST_FAULT]?;
        Some((at[VAIN_KERNEL], at[VAIN_MODEL] * most))
    }
    /// Every price that is known, for people.
    pub(crate) fn list(&self) -> Vec<Price> {
        (0..ROWS.len()).filter_map(|row| self.shown(row)).collect()
    }
    fn shown(&self, row: usize) -> Option<Price> {
        if Prices::needs(row).into_iter().any(|r| self.missing(r).is_some()) {
            return None;
        }
        let middle = self.middle();
        // The less reading takes, the more is left for the fault.
        let mut ends = [middle; 2];
        for part in Prices::needs(row) {
            let [lo, _, hi] = self.part(part);
            (ends[0][part], ends[1][part]) = if part == row { (lo, hi) } else { (hi, lo) };
        }
        let launches = || self.model.keys().copied();
        let kernel_at = |at: &Corner| launches().find_map(|l| Some(self.price(row, l, at)?.0));
        let kernel = [kernel_at(&middle)?, kernel_at(&ends[0])?, kernel_at(&ends[1])?];
        let model = launches().filter_map(|l| Some(self.price(row, l, &middle)?.1));
        let model = median_interval(&Sorted::new(model.collect())?);
        let model = [model.median, model.lo, model.hi];
        Some(Price {
            what: ROWS[row].what,
            from: format!(
                "{}/{}/{}/{}; {}",
                ROWS[row].source,
                ROWS[row].shape,
                ROWS[row].stage,
                super::CALL_PAGES,
                ROWS[row].cell
            ),
            kernel,
            model,
            added: [kernel[0] - model[0], kernel[1] - model[2], kernel[2] - model[1]],
            drift: self.drift[row],
        })
    }
}

/// What the cell of a row holds a page, by exact counts; none where that is not what the row stands for.
fn shares(run: &Results, cell: &CellId, row: usize) -> Option<Shares> {
    let counted = |name: &str| per_page(run, cell, name);
    let reads = counted("ptes_visited")?;
    let faults = match row.checked_sub(FAULTS) {
        None => 0.0,
        Some(kind) => super::load::faults(run, cell).ok()?[kind],
    };
    let vain = counted("faults_spurious")?;
    let is_of = match ROWS[row].of {
        Of::Read => counted("faults_issued")? == 0.0,
        Of::Fault(_) => faults > 0.0 && (faults + vain - counted("faults_issued")?).abs() < 1e-9,
    };
    (is_of && reads > 0.0).then_some(Shares { reads, faults, vain })
}

/// Nanoseconds a page of what the kernel's device times too, by launch.
fn without_the_caller(run: &Results, cell: &CellId) -> BTreeMap<u32, f64> {
    let stage = |s| run.each_launch(cell, Metric::Stage(s));
    let (prepare, consume) = (stage(Stage::Prepare), stage(Stage::Consume));
    let whole = run.each_launch(cell, Metric::Whole).into_iter();
    whole.filter_map(|(l, ns)| Some((l, ns - prepare.get(&l)? - consume.get(&l)?))).collect()
}
