//! This machine's kernel as a peer: what its own snapshots and faults cost on real memory of this process.
//!
//! Not `hmm_range_fault`, which only drivers can call, but its neighbours that anybody can: they walk the same tables
//! (pagemap, PAGEMAP_SCAN, mincore) and take the same faults (populate, a first touch, a COW break). The unit of
//! replication is a launch of the process, as everywhere: new addresses, new frames, new tables.

mod churn;
mod shape;

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capture::scan::{self, Region};
use crate::measure::clock::Clock;
use crate::os::mapping::{Advice, Mapping, PAGE};
use crate::stats::Sorted;
use churn::{Churn, Churning};
use shape::Shape;

/// Rounds of a snapshot in a launch; the median counts.
const SNAPSHOTS: usize = 15;
/// Rounds of a fault, whose memory is put back before each, untimed.
const FAULTS: usize = 7;

/// What asks the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// read(2) of /proc/self/pagemap: 8 bytes a page.
    Pagemap,
    /// The PAGEMAP_SCAN ioctl (6.7): a record a run of pages alike.
    PagemapScan,
    /// mincore(2): a byte a page.
    Mincore,
    /// MADV_POPULATE_READ (5.14).
    PopulateRead,
    /// MADV_POPULATE_WRITE (5.14).
    PopulateWrite,
    /// A program writes a byte to each page.
    Touch,
    /// test_hmm's device.
    HmmDmirror,
    /// A module that calls hmm_range_fault for this program.
    HmmModule,
}

/// Whether the source only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Snapshot,
    Fault,
}

/// What is measured: a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) source: Source,
    pub(crate) shape: Shape,
    pub(crate) stage: Stage,
    pub(crate) churn: Churn,
}

/// What a launch says of a case: nanoseconds a page, or why there are none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) case: Case,
    pub(crate) ns_per_page: Result<f64, String>,
}

/// Every case, in the order of the rows.
pub(crate) fn cases() -> Vec<Case> {
    use Source::*;
    let looks = [Pagemap, PagemapScan, Mincore];
    let case = |source, shape, stage| Case { source, shape, stage, churn: Churn::None };
    let mut cases = Vec::new();
    for shape in Shape::SNAPSHOTS {
        cases.extend(looks.map(|source| case(source, shape, Stage::Snapshot)));
    }
    for churn in [Churn::Zap, Churn::Mprotect, Churn::Fork] {
        let shape = Shape::Dense4k;
        cases.extend(looks.map(|source| Case { source, shape, stage: Stage::Snapshot, churn }));
    }
    for (shape, sources) in [
        (Shape::Absent4k, &[PopulateRead, PopulateWrite, Touch][..]),
        (Shape::Absent2m, &[PopulateRead, PopulateWrite, Touch]),
        (Shape::ZeroPage, &[PopulateWrite, Touch]),
        (Shape::AfterFork, &[PopulateWrite, Touch]),
        (Shape::ChildGone, &[PopulateWrite, Touch]),
        (Shape::Swapped, &[PopulateRead, Touch]),
    ] {
        cases.extend(sources.iter().map(|source| case(*source, shape, Stage::Fault)));
    }
    for device in [HmmDmirror, HmmModule] {
        cases.push(case(device, Shape::Dense4k, Stage::Snapshot));
        cases.push(case(device, Shape::AfterFork, Stage::Fault));
    }
    cases
}

/// Measures the cases, one after the other, on `bytes` of memory.
pub(crate) fn launch(cases: &[Case], bytes: usize) -> Vec<Said> {
    let clock = Clock::measure();
    let said = |case: &Case| {
        let ns_per_page = one(case, bytes, clock).map_err(|e| e.to_string());
        Said { case: case.clone(), ns_per_page }
    };
    cases.iter().map(said).collect()
}

fn one(case: &Case, bytes: usize, clock: Clock) -> io::Result<f64> {
    match case.source {
        Source::HmmDmirror => return Err(device("/dev/hmm_dmirror0", "test_hmm is not loaded")),
        Source::HmmModule => return Err(device("/dev/walkbench_hmm", "no module of this program is loaded")),
        _ => {}
    }
    let mapping = Arc::new(Mapping::new(bytes)?);
    let mut asks = Asks::new(case.source, &mapping)?;
    let rounds = if case.stage == Stage::Snapshot { SNAPSHOTS } else { FAULTS };
    let mut ns = Vec::with_capacity(rounds);
    let mut prepared = None;
    let mut churning: Option<Churning> = None;
    for round in 0..=rounds {
        // A snapshot changes nothing: what was made once serves them all. What a fault changed is made anew.
        if prepared.is_none() || case.stage == Stage::Fault {
            drop(prepared.take());
            prepared = Some(case.shape.make(&mapping)?);
            if case.churn != Churn::None && churning.is_none() {
                churning = Some(Churning::start(&mapping, case.churn)?);
            }
        }
        let start = clock.now();
        asks.ask()?;
        let took = clock.span(start, clock.now());
        // The first round brings the caches and the kernel's own memory.
        if round > 0 {
            ns.push(took as f64);
        }
    }
    if let Some(churning) = churning {
        churning.stop()?;
    }
    drop(prepared);
    let median = Sorted::new(ns).map_or(f64::NAN, |ns| ns.median());
    Ok(median / (bytes / PAGE) as f64)
}

/// A device that this program would ask, if it were there.
fn device(path: &str, why: &str) -> io::Error {
    match File::open(path) {
        Ok(_) => io::Error::other(format!("{path} is there, but this version does not drive it")),
        Err(e) => io::Error::new(e.kind(), format!("{path}: {e}; {why}")),
    }
}

/// One way to ask the kernel about a mapping, with its buffers.
struct Asks<'a> {
    source: Source,
    mapping: &'a Mapping,
    pagemap: File,
    words: Vec<u8>,
    regions: Vec<Region>,
}

impl<'a> Asks<'a> {
    fn new(source: Source, mapping: &'a Mapping) -> io::Result<Asks<'a>> {
        let pages = mapping.len() / PAGE;
        let word = if source == Source::Mincore { 1 } else { 8 };
        let pagemap = File::open("/proc/self/pagemap")?;
        Ok(Asks { source, mapping, pagemap, words: vec![0; pages * word], regions: Vec::new() })
    }
    /// Asks once about all of it.
    fn ask(&mut self) -> io::Result<()> {
        let all = self.mapping.all();
        match self.source {
            Source::Pagemap => {
                let first = (self.mapping.start() / PAGE * 8) as u64;
                self.pagemap.read_exact_at(&mut self.words, first)?;
            }
            Source::PagemapScan => {
                scan::scan_all(&self.pagemap, self.mapping.addresses(), &mut self.regions, |_| {})?;
            }
            Source::Mincore => self.mapping.mincore(&mut self.words)?,
            Source::PopulateRead => self.mapping.advise(all, Advice::PopulateRead)?,
            Source::PopulateWrite => self.mapping.advise(all, Advice::PopulateWrite)?,
            Source::Touch => self.mapping.write(1),
            Source::HmmDmirror | Source::HmmModule => {}
        }
        black_box((&self.words, &self.regions));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_figure_or_a_reason() {
        let said = launch(&cases(), 4 << 20);
        assert_eq!(said.len(), cases().len());
        for Said { case, ns_per_page } in &said {
            match ns_per_page {
                Ok(ns) => assert!(*ns > 0.0 && ns.is_finite(), "{case:?}"),
                Err(reason) => assert!(reason.len() > 10, "{case:?}"),
            }
        }
        let figure = |source, shape| {
            said.iter()
                .find(|s| (s.case.source, s.case.shape) == (source, shape))
                .unwrap()
                .ns_per_page
                .clone()
        };
        assert!(figure(Source::Pagemap, Shape::Dense4k).is_ok());
        let (snapshot, fault) = (
            figure(Source::Mincore, Shape::Dense4k).unwrap(),
            figure(Source::Touch, Shape::AfterFork).unwrap(),
        );
        assert!(fault > snapshot, "copying a page takes longer than looking at it");
    }
}
