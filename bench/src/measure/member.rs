//! Who takes turns on a scene: a backend, or a limit.
//!
//! A member's block is one virtual call; everything inside it is monomorphised.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use walker::addr::Pfn;
use walker::backend::Backend;
use walker::backends::Visitor;
use walker::counters::{Counts, NoCounts};
use walker::memory::bulk::BulkCopy;
use walker::mirror::RetryPolicy;
use walker::mm::Errno;

use super::clock::Clock;
use super::frames::Frames;
use super::limits::{self, Limit, Slots};
use super::scene::{Scene, Span};
use super::stages::{FaultClock, Stages, refresh_staged};
use crate::oracle;

/// The backend that does nothing: what the loop around a call, the mirror and the harness cost by themselves.
pub(crate) const NOOP: &str = "noop";

/// What of an operation is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// All of it, as one span around the block.
    Whole,
    /// Its stages apart.
    Stages,
    /// Prepare, read_begin, walk and read_retry, without what the consumer does; one span around the block.
    Call,
}

/// What a block took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Nanoseconds; with [`What::Stages`] their sum.
    pub(crate) ns: u64,
    /// With [`What::Stages`].
    pub(crate) stages: Option<Stages>,
}

/// A right answer, and what it took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    /// Exact counts of one sweep.
    pub(crate) counts: Counts,
    /// Wishes that the design lost, as it says it may; see [`oracle::may_lose_wishes`].
    pub(crate) lost_wishes: u64,
    /// Pages behind NUMA hints that the design reported, as it says it may; see [`oracle::may_report_hint`].
    pub(crate) hints_reported: u64,
}

/// A backend or a limit with its arrays.
pub(crate) trait Member {
    /// Its name in tables and files.
    fn name(&self) -> &str;
    /// Whether it is a backend, with stages, an answer and a state that it may change.
    fn is_backend(&self) -> bool;
    /// Goes `sweeps` times over the scene's range.
    ///
    /// # Errors
    /// What the backend's API returned.
    fn block(&mut self, scene: &Scene, what: What, sweeps: u32) -> Result<Timing>;
    /// Goes over the range once, compares every slot with the oracle and counts exactly. None for limits.
    ///
    /// # Errors
    /// What the backend's API returned, or the first slot that differs.
    fn checked(&mut self, scene: &Scene) -> Result<Option<Checked>>;
    /// Single operations seen so far, in nanoseconds.
    fn latency(&self) -> Option<&Histogram<u64>> {
        None
    }
    /// For the copy limit, what moved the bytes fastest.
    fn note(&self) -> Option<String> {
        None
    }
}

/// Makes the member for the backend that it is dispatched to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MakeMember {
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// The clock of its spans.
    pub(crate) clock: Clock,
}

impl Visitor for MakeMember {
    type Output = Box<dyn Member>;
    fn visit<B: Backend>(self) -> Box<dyn Member> {
        Box::new(BackendMember::<B>::new(self.call_pages, self.clock))
    }
}

/// A backend with its arrays.
pub(crate) struct BackendMember<B> {
    backend: B,
    clock: Clock,
    latency: Histogram<u64>,
}

/// Operations longer than this are recorded as this: ten seconds.
const LONGEST_NS: u64 = 10_000_000_000;

impl<B: Backend> BackendMember<B> {
    pub(crate) fn new(call_pages: u64, clock: Clock) -> Self {
        // Bounds that are known to be valid: the histogram never grows.
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds of a histogram");
        BackendMember { backend: B::new(call_pages as usize), clock, latency }
    }

    #[inline(never)]
    fn whole(&mut self, scene: &Scene, sweeps: u32) -> Result<(), Errno> {
        for _ in 0..sweeps {
            for k in 0..scene.nr_calls() {
                let request = scene.request(k);
                scene.mirror.refresh(&mut self.backend, &request, RetryPolicy::AtOnce, &mut NoCounts)?;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn staged(&mut self, scene: &Scene, sweeps: u32) -> Result<Stages, Errno> {
        let mut sum = Stages::default();
        let mut faults = FaultClock::new(self.clock);
        let mm: &walker::mm::Mm = scene.mm();
        for _ in 0..sweeps {
            for k in 0..scene.nr_calls() {
                let request = scene.request(k);
                let one = refresh_staged(mm, &scene.mirror, &mut self.backend, &request, &mut faults)?;
                self.latency.saturating_record(one.sum());
                sum.add(&one);
            }
        }
        Ok(sum)
    }

    #[inline(never)]
    fn calls(&mut self, scene: &Scene, sweeps: u32) -> Result<(), Errno> {
        let mm: &walker::mm::Mm = scene.mm();
        let sub = scene.mirror.subscription();
        for _ in 0..sweeps {
            for k in 0..scene.nr_calls() {
                let request = scene.request(k);
                loop {
                    self.backend.prepare(&request, &mut NoCounts);
                    let seq = mm.notifier.read_begin(sub);
                    match self.backend.walk(mm, sub, seq, &mut NoCounts) {
                        Ok(seq) => {
                            let device = scene.mirror.device();
                            let again = black_box(sub.read_retry(seq));
                            drop(device);
                            if !again {
                                break;
                            }
                        }
                        Err(Errno::Busy) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        Ok(())
    }
}

impl<B: Backend> Member for BackendMember<B> {
    fn name(&self) -> &str {
        B::INFO.id
    }
    fn is_backend(&self) -> bool {
        true
    }
    fn block(&mut self, scene: &Scene, what: What, sweeps: u32) -> Result<Timing> {
        let start = self.clock.now();
        let stages = match what {
            What::Whole => self.whole(scene, sweeps).map(|()| None),
            What::Stages => self.staged(scene, sweeps).map(Some),
            What::Call => self.calls(scene, sweeps).map(|()| None),
        };
        let ns = self.clock.net(self.clock.between(start, self.clock.now()), 1);
        let stages = stages.map_err(failed)?;
        Ok(Timing { ns: stages.map_or(ns, |s| s.sum()), stages })
    }
    fn checked(&mut self, scene: &Scene) -> Result<Option<Checked>> {
        let mut checked = Checked::default();
        for k in 0..scene.nr_calls() {
            let request = scene.request(k);
            scene
                .mirror
                .refresh(&mut self.backend, &request, RetryPolicy::Attempts(1 << 20), &mut checked.counts)
                .map_err(failed)?;
            // What says nothing cannot be wrong.
            if B::INFO.id != NOOP {
                let compared = oracle::check(scene.mm(), &request, |i| self.backend.view(i), B::INFO.id);
                let deviations = compared.map_err(|m| anyhow!(m))?;
                checked.lost_wishes += deviations.lost_wishes;
                checked.hints_reported += deviations.hints_reported;
            }
        }
        Ok(Some(checked))
    }
    fn latency(&self) -> Option<&Histogram<u64>> {
        Some(&self.latency)
    }
}

fn failed(e: Errno) -> anyhow::Error {
    anyhow!("the call returned {e}")
}

/// A limit with its slots.
#[derive(Debug)]
pub(crate) struct LimitMember {
    limit: Limit,
    slots: Slots,
    way: Option<BulkCopy>,
    clock: Clock,
}

impl LimitMember {
    pub(crate) fn new(limit: Limit, call_pages: u64, clock: Clock) -> LimitMember {
        LimitMember { limit, slots: Slots::new(call_pages as usize), way: None, clock }
    }
}

impl Member for LimitMember {
    fn name(&self) -> &str {
        self.limit.name()
    }
    fn is_backend(&self) -> bool {
        false
    }
    fn block(&mut self, scene: &Scene, _: What, sweeps: u32) -> Result<Timing> {
        let way = match self.way {
            Some(way) => way,
            None if self.limit == Limit::Copy => limits::fastest_copy(scene, &mut self.slots),
            None => BulkCopy::String,
        };
        self.way = Some(way);
        let start = self.clock.now();
        for _ in 0..sweeps {
            limits::sweep(scene, self.limit, way, &mut self.slots);
        }
        Ok(Timing { ns: self.clock.net(self.clock.between(start, self.clock.now()), 1), stages: None })
    }
    fn checked(&mut self, _: &Scene) -> Result<Option<Checked>> {
        Ok(None)
    }
    fn note(&self) -> Option<String> {
        self.way.filter(|_| self.limit == Limit::Copy).map(|way| way.name().to_owned())
    }
}

/// As many frames as the range has pages, zeroed or copied.
#[derive(Debug)]
pub(crate) struct FrameMember {
    copies: bool,
    clock: Clock,
}

impl FrameMember {
    /// Zeroes.
    pub(crate) fn zeroing(clock: Clock) -> FrameMember {
        FrameMember { copies: false, clock }
    }
    /// Copies what the range maps by PTEs.
    pub(crate) fn copying(clock: Clock) -> FrameMember {
        FrameMember { copies: true, clock }
    }
}

impl Member for FrameMember {
    fn name(&self) -> &str {
        if self.copies { "copy_page" } else { "zero" }
    }
    fn is_backend(&self) -> bool {
        false
    }
    fn block(&mut self, scene: &Scene, _: What, sweeps: u32) -> Result<Timing> {
        if sweeps != 1 {
            bail!("frames are zeroed and copied once a block");
        }
        let phys = Arc::clone(scene.mm().phys());
        let from: Vec<Pfn> = if self.copies { mapped(scene) } else { Vec::new() };
        let frames = Frames::take(&phys, scene.nr_pages())?;
        let start = self.clock.now();
        if self.copies {
            frames.copy(&phys, &from);
        } else {
            frames.zero(&phys);
        }
        let ns = self.clock.net(self.clock.between(start, self.clock.now()), 1);
        frames.give_back(&phys);
        Ok(Timing { ns, stages: None })
    }
    fn checked(&mut self, _: &Scene) -> Result<Option<Checked>> {
        Ok(None)
    }
}

/// The frames that PTEs of the range map, in address order.
fn mapped(scene: &Scene) -> Vec<Pfn> {
    let phys = scene.phys();
    let tables = scene.spans.iter().filter_map(|span| match *span {
        Span::Ptes { table, first, len } => Some((phys.table(table), first, len)),
        Span::Leaf { .. } | Span::Hole { .. } => None,
    });
    tables.flat_map(|(t, first, len)| (first..first + len).map(move |i| t.ptep_get(i).pfn())).collect()
}
