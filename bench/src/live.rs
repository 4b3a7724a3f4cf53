//! This machine's kernel as a peer: what its own snapshots and faults cost on real memory of this process.
//!
//! `hmm_range_fault` itself, which only drivers can call, where a device calls it for this program
//! (scripts/kernel/module, and the kernel's own test driver); and its neighbours that anybody can call: they walk the
//! same tables (pagemap, PAGEMAP_SCAN, mincore) and take the same faults (populate, a first touch, a COW break). The unit
//! of replication is a launch of the process, as everywhere: new addresses, new frames, new tables.

mod churn;
mod dmirror;
mod hmm;
mod shape;

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capture::scan::{self, Region};
use crate::measure::clock::Clock;
use crate::os::dmirror::CALL_PAGES as DRIVER_CALL_PAGES;
use crate::os::mapping::{Advice, Mapping, PAGE};
use crate::stats::Sorted;
use churn::{Churn, Churning};
use dmirror::TestDriver;
use hmm::Hmm;
use shape::Shape;

/// Rounds of a snapshot in a launch; the median counts.
const SNAPSHOTS: usize = 15;
/// Rounds of a fault, whose memory is put back before each, untimed.
const FAULTS: usize = 7;
/// Pages of a call of hmm_range_fault: all of them, a page table's, and as few as small callers ask for.
const CALL_PAGES: [Option<u32>; 3] = [None, Some(512), Some(64)];

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
    /// MADV_DONTNEED: what a fault brought goes.
    DontNeed,
    /// hmm_range_fault as a snapshot, through the device of the kernel's own test driver (lib/test_hmm.c), which answers a
    /// byte a page: an ioctl that registers a notifier for every 64 pages.
    HmmDmirror,
    /// What a device of that driver does to read: hmm_range_fault, its page table, and a copy of every page.
    HmmDmirrorRead,
    /// The same to write.
    HmmDmirrorWrite,
    /// hmm_range_fault as a snapshot, through the device of scripts/kernel/module.
    HmmRangeFault,
    /// hmm_range_fault, whose default is to fault for read.
    HmmRangeFaultRead,
    /// hmm_range_fault, whose default is to fault for write.
    HmmRangeFaultWrite,
}

impl Source {
    /// Whether a caller says how many pages it asks for at a time.
    fn chooses_calls(self) -> bool {
        use Source::*;
        matches!(self, HmmRangeFault | HmmRangeFaultRead | HmmRangeFaultWrite)
    }
    /// Whether the kernel's test driver is asked.
    pub(crate) fn is_test_driver(self) -> bool {
        use Source::*;
        matches!(self, HmmDmirror | HmmDmirrorRead | HmmDmirrorWrite)
    }
}

/// Whether the source looks, brings pages, or takes them away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Snapshot,
    Fault,
    Zap,
}

/// What is measured: a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) source: Source,
    pub(crate) shape: Shape,
    pub(crate) stage: Stage,
    pub(crate) churn: Churn,
    /// Pages of a call of hmm_range_fault, or none: all of them, or no such calls.
    pub(crate) call_pages: Option<u32>,
}

impl std::fmt::Display for Case {
    /// source/shape/stage/call pages/churn, as in JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [source, shape] = [word(self.source), word(self.shape)];
        let calls = self.call_pages.map_or_else(|| "all".to_owned(), |n| n.to_string());
        write!(f, "{source}/{shape}/{}/{calls}/{}", word(self.stage), word(self.churn))
    }
}

/// The word that a value has in JSON.
pub(crate) fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
}

/// What a launch says of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) case: Case,
    /// A figure, or why there is none.
    pub(crate) figure: Result<Figure, String>,
}

/// Of a case in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Nanoseconds a page, the median of the rounds.
    pub(crate) ns_per_page: f64,
    /// Calls of hmm_range_fault that a collision made void, for each operation.
    pub(crate) busy: Option<f64>,
}

/// Every case, in the order of the rows.
pub(crate) fn cases() -> Vec<Case> {
    use Source::*;
    let looks = [Pagemap, PagemapScan, Mincore];
    let case = |source, shape, stage| Case { source, shape, stage, churn: Churn::None, call_pages: None };
    let mut cases = Vec::new();
    for shape in Shape::SNAPSHOTS {
        cases.extend(looks.map(|source| case(source, shape, Stage::Snapshot)));
        let calls = CALL_PAGES.iter();
        cases.extend(calls.map(|n| Case { call_pages: *n, ..case(HmmRangeFault, shape, Stage::Snapshot) }));
    }
    for churn in [Churn::Zap, Churn::Mprotect, Churn::Fork] {
        let under = |case: Case| Case { churn, ..case };
        cases.extend(looks.map(|source| under(case(source, Shape::Dense4k, Stage::Snapshot))));
        let calls = CALL_PAGES.iter();
        let snapshot = case(HmmRangeFault, Shape::Dense4k, Stage::Snapshot);
        cases.extend(calls.map(|n| under(Case { call_pages: *n, ..snapshot.clone() })));
    }
    for (shape, sources) in [
        (Shape::Absent4k, &[PopulateRead, PopulateWrite, Touch, HmmRangeFaultRead, HmmRangeFaultWrite][..]),
        (Shape::Absent2m, &[PopulateRead, PopulateWrite, Touch, HmmRangeFaultRead, HmmRangeFaultWrite]),
        (Shape::ZeroPage, &[PopulateWrite, Touch, HmmRangeFaultWrite]),
        (Shape::AfterFork, &[PopulateWrite, Touch, HmmRangeFaultWrite]),
        (Shape::ChildGone, &[PopulateWrite, Touch, HmmRangeFaultWrite]),
        (Shape::Swapped, &[PopulateRead, Touch, HmmRangeFaultRead]),
    ] {
        for source in sources {
            let calls = if source.chooses_calls() { &CALL_PAGES[..] } else { &[None] };
            cases.extend(calls.iter().map(|n| Case { call_pages: *n, ..case(*source, shape, Stage::Fault) }));
        }
    }
    for shape in [Shape::Dense4k, Shape::Dense2m] {
        cases.push(case(DontNeed, shape, Stage::Zap));
    }
    // What is there already, with a wish to write it.
    let calls = CALL_PAGES.iter();
    cases.extend(
        calls.map(|n| Case { call_pages: *n, ..case(HmmRangeFaultWrite, Shape::Dense4k, Stage::Fault) }),
    );
    // Last, since a process that was mirrored once asks its notifiers about every change.
    cases.extend(cases_of_test_driver());
    cases
}

/// The same through the kernel's test driver, which alone chooses how many pages it calls for.
fn cases_of_test_driver() -> impl Iterator<Item = Case> {
    use Source::*;
    let case = |(source, shape, stage, churn)| {
        let call_pages = Some(DRIVER_CALL_PAGES);
        Case { source, shape, stage, churn, call_pages }
    };
    let quiet = Shape::SNAPSHOTS.map(|shape| (HmmDmirror, shape, Stage::Snapshot, Churn::None));
    let churned = [Churn::Zap, Churn::Mprotect, Churn::Fork]
        .map(|churn| (HmmDmirror, Shape::Dense4k, Stage::Snapshot, churn));
    // Of pages that are there already nothing is timed but what else the driver does.
    let faults = [
        (HmmDmirrorRead, Shape::Dense4k),
        (HmmDmirrorWrite, Shape::Dense4k),
        (HmmDmirrorRead, Shape::Absent4k),
        (HmmDmirrorWrite, Shape::Absent4k),
        (HmmDmirrorRead, Shape::Absent2m),
        (HmmDmirrorWrite, Shape::Absent2m),
        (HmmDmirrorWrite, Shape::ZeroPage),
        (HmmDmirrorWrite, Shape::AfterFork),
        (HmmDmirrorWrite, Shape::ChildGone),
        (HmmDmirrorRead, Shape::Swapped),
    ]
    .map(|(source, shape)| (source, shape, Stage::Fault, Churn::None));
    quiet.into_iter().chain(churned).chain(faults).map(case)
}

/// Measures the cases, one after the other, on `bytes` of memory.
pub(crate) fn launch(cases: &[Case], bytes: usize) -> Vec<Said> {
    let clock = Clock::measure();
    let said = |case: &Case| {
        let figure = one(case, bytes, clock).map_err(|e| e.to_string());
        Said { case: case.clone(), figure }
    };
    cases.iter().map(said).collect()
}

fn one(case: &Case, bytes: usize, clock: Clock) -> io::Result<Figure> {
    let mapping = Arc::new(case.shape.mapping(bytes)?);
    let rounds = if case.stage == Stage::Snapshot { SNAPSHOTS } else { FAULTS };
    let mut asks = Asks::new(case, &mapping, 1 + rounds)?;
    let mut ns = Vec::with_capacity(1 + rounds);
    let mut prepared = None;
    let mut churning: Option<Churning> = None;
    while ns.len() <= rounds {
        // A snapshot changes nothing: what was made once serves them all. What a fault changed is made anew.
        if prepared.is_none() || case.stage != Stage::Snapshot {
            drop(prepared.take());
            prepared = Some(case.shape.make(&mapping)?);
            if !case.churn.is_none() && churning.is_none() {
                churning = Some(Churning::start(&mapping, case.churn)?);
            }
        }
        asks.ask(clock, &mut ns)?;
    }
    if let Some(churning) = churning {
        churning.stop()?;
    }
    drop(prepared);
    // The first round brings the caches and the kernel's own memory.
    let median = Sorted::new(ns.split_off(1)).map_or(0.0, |ns| ns.median());
    if median <= 0.0 {
        return Err(io::Error::other(format!(
            "took no longer than reading the clock, {:.0} ns; try a larger --size",
            clock.cost_ns
        )));
    }
    let busy = asks.hmm.as_ref().map(Hmm::busy);
    Ok(Figure { ns_per_page: median / (bytes / PAGE) as f64, busy })
}

/// One way to ask the kernel about a mapping, with its buffers.
struct Asks<'a> {
    source: Source,
    mapping: &'a Mapping,
    pagemap: File,
    words: Vec<u8>,
    regions: Vec<Region>,
    hmm: Option<Hmm>,
    driver: Option<TestDriver>,
}

impl<'a> Asks<'a> {
    fn new(case: &Case, mapping: &'a Mapping, repeats: usize) -> io::Result<Asks<'a>> {
        let source = case.source;
        let pages = mapping.len() / PAGE;
        let word = if source == Source::Mincore { 1 } else { 8 };
        let pagemap = File::open("/proc/self/pagemap")?;
        let hmm = Hmm::of(case, mapping, repeats)?;
        let driver = TestDriver::of(case, mapping)?;
        Ok(Asks { source, mapping, pagemap, words: vec![0; pages * word], regions: Vec::new(), hmm, driver })
    }
    /// Asks about all of it and adds the nanoseconds that it took: once, or for every repeat that the kernel timed.
    fn ask(&mut self, clock: Clock, ns: &mut Vec<f64>) -> io::Result<()> {
        if let Some(hmm) = &mut self.hmm {
            return hmm.ask(self.mapping, ns);
        }
        if let Some(driver) = &mut self.driver {
            ns.push(driver.ask(self.mapping, clock)?);
            return Ok(());
        }
        let start = clock.now();
        self.ask_once()?;
        ns.push(clock.span(start, clock.now()) as f64);
        Ok(())
    }
    fn ask_once(&mut self) -> io::Result<()> {
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
            Source::DontNeed => self.mapping.advise(all, Advice::DontNeed)?,
            Source::HmmDmirror
            | Source::HmmDmirrorRead
            | Source::HmmDmirrorWrite
            | Source::HmmRangeFault
            | Source::HmmRangeFaultRead
            | Source::HmmRangeFaultWrite => {}
        }
        black_box((&self.words, &self.regions));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_named_apart() {
        let names: std::collections::BTreeSet<String> = cases().iter().map(Case::to_string).collect();
        assert_eq!(names.len(), cases().len());
        assert!(names.contains("hmm_range_fault/dense_4k/snapshot/512/none"));
        assert!(names.contains("hmm_range_fault_write/after_fork/fault/all/none"));
        assert!(names.contains("pagemap/dense_4k/snapshot/all/zap"));
        assert!(names.contains("hmm_dmirror/dense_4k/snapshot/64/fork"));
        assert!(names.contains("hmm_dmirror_write/after_fork/fault/64/none"));
    }

    #[test]
    fn the_test_driver_is_asked_whatever_the_module_is() {
        let of_driver = cases_of_test_driver();
        let (mut of_driver, mut of_module): (Vec<Case>, Vec<Case>) = (of_driver.collect(), cases());
        of_module.retain(|c| c.source.chooses_calls() && c.call_pages == Some(DRIVER_CALL_PAGES));
        for case in &mut of_driver {
            case.source = match case.source {
                Source::HmmDmirror => Source::HmmRangeFault,
                Source::HmmDmirrorRead => Source::HmmRangeFaultRead,
                _ => Source::HmmRangeFaultWrite,
            };
        }
        // What is there is read to see what copying takes, of which the module does none.
        of_driver.retain(|c| (c.source, c.shape) != (Source::HmmRangeFaultRead, Shape::Dense4k));
        let names =
            |cases: &[Case]| cases.iter().map(Case::to_string).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&of_driver), names(&of_module));
    }

    #[test]
    fn every_case_is_a_figure_or_a_reason() {
        let said = launch(&cases(), 4 << 20);
        assert_eq!(said.len(), cases().len());
        for Said { case, figure } in &said {
            match figure {
                Ok(f) => assert!(f.ns_per_page > 0.0 && f.ns_per_page.is_finite(), "{case}"),
                Err(reason) => assert!(reason.len() > 10, "{case}"),
            }
        }
        let figure = |source, shape| {
            said.iter().find(|s| (s.case.source, s.case.shape) == (source, shape)).unwrap().figure.clone()
        };
        assert!(figure(Source::Pagemap, Shape::Dense4k).is_ok());
        // Either the device is there and says a figure of everything that the machine can make, or it says why not.
        match figure(Source::HmmRangeFault, Shape::Dense4k) {
            Ok(f) => assert!(f.busy.is_some()),
            Err(reason) => assert!(reason.starts_with(crate::os::hmm::PATH), "{reason}"),
        }
        for (source, shape) in
            [(Source::HmmDmirror, Shape::Dense4k), (Source::HmmDmirrorWrite, Shape::AfterFork)]
        {
            match figure(source, shape) {
                // It does not say how often it collided.
                Ok(f) => assert!(f.busy.is_none()),
                Err(reason) => assert!(reason.starts_with(crate::os::dmirror::PATH), "{reason}"),
            }
        }
        let (snapshot, fault) = (
            figure(Source::Mincore, Shape::Dense4k).unwrap(),
            figure(Source::Touch, Shape::AfterFork).unwrap(),
        );
        assert!(fault.ns_per_page > snapshot.ns_per_page, "copying a page takes longer than looking at it");
    }
}
