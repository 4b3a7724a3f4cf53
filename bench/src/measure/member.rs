//! Who takes turns on a scene: a backend, or a limit.
//!
//! A member's block is one virtual call; everything inside it is monomorphised.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use walker::addr::Pfn;
use walker::counters::Counts;

use super::churn::Churning;
use super::clock::Clock;
use super::frames::Frames;
use super::limits::{self, CopyWay, Limit, Slots};
use super::scene::{Scene, Span, Window};
use super::stages::{Collisions, Stages, TakenApart};
use super::watch::{Observed, Watch};

/// The backend that does nothing: what the loop around a call, the mirror and the harness cost by themselves.
pub(crate) const NOOP: &str = "noop";

/// The harness alone: the loop that makes requests, without mirror and backend.
pub(crate) const LOOP: &str = "loop";

/// What of an operation is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// All of it, as one span around the block.
    Whole,
    /// Its stages apart, by a chain of clock readings.
    Stages,
    /// Its stages apart, by difference of blocks with more and more in them.
    Parts,
    /// Single operations, into a histogram.
    Operations,
    /// Prepare, read_begin, walk and read_retry, without what the consumer does; one span around the block.
    Call,
}

impl What {
    /// Whether the block tells stages.
    pub(crate) const fn is_staged(self) -> bool {
        matches!(self, What::Stages | What::Parts)
    }
}

/// A block to do.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// What is timed.
    pub(crate) what: What,
    /// Sweeps over the window.
    pub(crate) sweeps: u32,
    /// What of the scene's range.
    pub(crate) window: Window,
    /// Operations that are timed together with [`What::Operations`].
    pub(crate) batch: u64,
    /// Whether the counters are read around it.
    pub(crate) counting: bool,
    /// What invalidates meanwhile.
    pub(crate) churning: Option<Arc<Churning>>,
}

/// What a backend does beyond its work: a slowdown that is known, for trying what should find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plant {
    /// Per cent of a block's calls that are done once more; where that is no whole number, or they would find less to do,
    /// the block takes so much longer.
    pub(crate) extra_percent: u64,
    /// Every [`Plant::LATE_EVERY`]th operation takes so many per cent longer.
    pub(crate) late_percent: u64,
}

impl Plant {
    /// More than one of a hundred, so that a p99 sees it, and hardly more, so that a mean does not.
    pub(crate) const LATE_EVERY: u64 = 64;
    /// How many of a block's calls are done once more; none if that would be no whole number of them.
    pub(crate) fn extra_calls(self, calls: u64) -> Option<u64> {
        let hundredths = calls * self.extra_percent;
        hundredths.is_multiple_of(100).then_some(hundredths / 100)
    }
}

/// What a block took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    /// Nanoseconds, the sum over the walkers; where stages are timed, their sum.
    pub(crate) ns: u64,
    /// The same by walker, where there are several.
    pub(crate) thread_ns: Vec<u64>,
    /// Where stages are timed.
    pub(crate) stages: Option<Stages>,
    /// Where stages are timed.
    pub(crate) apart: Option<TakenApart>,
    /// What collisions did.
    pub(crate) collisions: Collisions,
    /// What the walkers met with.
    pub(crate) observed: Observed,
}

/// A right answer, and what it took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    /// Exact counts of one sweep.
    pub(crate) counts: Counts,
    /// Wishes that the design lost, as it says it may; see [`crate::oracle::may_lose_wishes`].
    pub(crate) lost_wishes: u64,
    /// Pages behind NUMA hints that the design reported, as it says it may; see [`oracle::may_report_hint`].
    pub(crate) hints_reported: u64,
}

/// A backend or a limit with its arrays.
pub(crate) trait Member {
    /// Its name in tables and files.
    fn name(&self) -> &str;
    /// Whether it is a backend, with stages, an answer and a state that it may change.
    fn is_backend(&self) -> bool {
        false
    }
    /// Whether it is compared with others. What is not, takes fewer turns.
    fn is_compared(&self) -> bool {
        true
    }
    /// Goes over the scene's range.
    ///
    /// # Errors
    /// What the backend's API returned.
    fn block(&mut self, scene: &Arc<Scene>, turn: Turn, watch: &mut Watch) -> Result<Timing>;
    /// Goes over the range once, compares every slot with the oracle and counts exactly. None for limits.
    ///
    /// # Errors
    /// What the backend's API returned, or the first slot that differs.
    fn checked(&mut self, _: &Scene) -> Result<Option<Checked>> {
        Ok(None)
    }
    /// Goes over the range once and counts exactly, without comparing. Nothing for limits.
    ///
    /// # Errors
    /// What the backend's API returned.
    fn counted(&mut self, _: &Scene) -> Result<Counts> {
        Ok(Counts::default())
    }
    /// Goes over the range once and hashes the answers: what two builds that did the same work agree on. 0 for limits.
    ///
    /// # Errors
    /// What the backend's API returned.
    fn answers(&mut self, _: &Scene) -> Result<u64> {
        Ok(0)
    }
    /// Single operations seen so far, in nanoseconds a batch. None for limits.
    fn operations(&self) -> Option<Histogram<u64>> {
        None
    }
    /// For the copy limit, what moved the bytes fastest.
    fn note(&self) -> Option<String> {
        None
    }
}

/// A limit with its slots.
#[derive(Debug)]
pub(crate) struct LimitMember {
    limit: Limit,
    slots: Slots,
    way: Option<CopyWay>,
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
    fn block(&mut self, scene: &Arc<Scene>, turn: Turn, watch: &mut Watch) -> Result<Timing> {
        let (limit, clock, slots) = (self.limit, self.clock, &mut self.slots);
        let way = match self.way {
            Some(way) => way,
            None if limit == Limit::Copy => limits::fastest_copy(scene, scene.alone(turn.window), slots),
            None => CopyWay::default(),
        };
        self.way = Some(way);
        let calls = scene.alone(turn.window);
        let (ns, observed) = watch.around(turn.counting, || {
            let start = clock.now();
            for _ in 0..turn.sweeps {
                limits::sweep(scene, calls.clone(), limit, way, slots);
            }
            clock.span(start, clock.now())
        });
        Ok(Timing { ns, observed, ..Timing::default() })
    }
    fn note(&self) -> Option<String> {
        self.way.filter(|_| self.limit == Limit::Copy).map(|way| way.to_string())
    }
}

/// The harness alone; see [`LOOP`].
#[derive(Debug)]
pub(crate) struct LoopMember(pub(crate) Clock);

impl Member for LoopMember {
    fn name(&self) -> &str {
        LOOP
    }
    fn block(&mut self, scene: &Arc<Scene>, turn: Turn, watch: &mut Watch) -> Result<Timing> {
        let scene: &Scene = scene;
        let calls = scene.alone(turn.window);
        let (ns, observed) = watch.around(turn.counting, || {
            let start = self.0.now();
            for _ in 0..turn.sweeps {
                for k in calls.clone() {
                    black_box(scene.request(k));
                }
            }
            self.0.span(start, self.0.now())
        });
        Ok(Timing { ns, observed, ..Timing::default() })
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
    fn block(&mut self, scene: &Arc<Scene>, turn: Turn, watch: &mut Watch) -> Result<Timing> {
        if (turn.sweeps, turn.window) != (1, Window::WHOLE) {
            bail!("frames are zeroed and copied once a block");
        }
        let phys = Arc::clone(scene.mm().phys());
        let from: Vec<Pfn> = if self.copies { mapped(scene) } else { Vec::new() };
        let frames = Frames::take(&phys, scene.nr_pages())?;
        let (ns, observed) = watch.around(turn.counting, || {
            let start = self.clock.now();
            if self.copies {
                frames.copy(&phys, &from);
            } else {
                frames.zero(&phys);
            }
            self.clock.span(start, self.clock.now())
        });
        frames.give_back(&phys);
        Ok(Timing { ns, observed, ..Timing::default() })
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
