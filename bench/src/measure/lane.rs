//! One walker of a backend: its arrays, and the loops that are timed.
//!
//! The loops are monomorphised for the backend. Inside a span they allocate nothing, take no lock of ours, call no
//! system and dispatch nothing dynamically.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use walker::backend::Backend;
use walker::counters::{Counters, NoCounts};
use walker::mirror::Mirror;
use walker::mm::Errno;
use workloads::definition::Retry;

use super::churn::{Churning, Tokens};
use super::clock::Clock;
use super::crew::Meeting;
use super::member::{Plant, What};
use super::scene::{Scene, Window};
use super::stages::{Collisions, Parts, Readings, Stages, TakenApart, Walked};
use super::timed::Timed;

/// Operations longer than this are recorded as this: ten seconds.
const LONGEST_NS: u64 = 10_000_000_000;
/// Values of the histogram are within 1 %.
const DIGITS: u8 = 2;

/// What one walker does in a block.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// What is timed.
    pub(super) what: What,
    /// Sweeps over the walker's window.
    pub(super) sweeps: u32,
    /// What of its share.
    pub(super) window: Window,
    /// What is done beyond it.
    pub(super) plant: Plant,
    /// Operations that are timed together when single operations are.
    pub(super) batch: u64,
    /// After a collision.
    pub(super) retry: Retry,
    /// The clock.
    pub(super) clock: Clock,
    /// What invalidates meanwhile.
    pub(super) churning: Option<Arc<Churning>>,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneTiming {
    /// Nanoseconds; with stages their sum.
    pub(super) ns: u64,
    /// Where stages were timed.
    pub(super) stages: Option<Stages>,
    /// Where stages were timed.
    pub(super) apart: Option<TakenApart>,
    /// Collisions.
    pub(super) collisions: Collisions,
}

/// One walker.
pub(super) struct Lane<B> {
    pub(super) backend: B,
    pub(super) operations: Histogram<u64>,
}

/// Waits until what began at `start` has taken so many per cent longer than it took.
#[cold]
fn linger(clock: Clock, start: Instant, percent: f64) {
    let ns = (clock.span(start, clock.now()) as f64 * (1.0 + percent / 100.0)) as u64;
    while clock.span(start, clock.now()) < ns {
        std::hint::spin_loop();
    }
}

/// The calls of one walker.
struct Share<'a> {
    scene: &'a Scene,
    mirror: &'a Mirror,
    calls: Range<u64>,
}

impl<B: Backend> Lane<B> {
    pub(super) fn new(call_pages: u64) -> Self {
        // Bounds that are known to be valid: the histogram never grows.
        let operations = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("bounds of a histogram");
        Lane { backend: B::new(call_pages as usize), operations }
    }

    /// Does the work on share `lane` of the scene.
    pub(super) fn block(
        &mut self,
        scene: &Scene,
        lane: usize,
        work: &Work,
        meeting: Option<&Meeting>,
    ) -> Result<LaneTiming, Errno> {
        let share = Share { scene, mirror: scene.mirror(lane), calls: scene.window(lane, work.window) };
        // Two instances of the loop: one that tells churn how far the walk is, and one that counts nothing. What is taken
        // apart by the clock has one only: an addition a table is nothing beside the clock.
        match &work.churning {
            None => self.block_with(&share, work, meeting, || NoCounts),
            Some(churning) => self.block_with(&share, work, meeting, || churning.tokens()),
        }
    }

    fn block_with<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        meeting: Option<&Meeting>,
        tokens: impl Fn() -> C,
    ) -> Result<LaneTiming, Errno> {
        let Some(meeting) = meeting else { return self.timed(share, work, tokens()) };
        let done = self.together(share, work, meeting, tokens);
        if done.is_err() {
            meeting.leave();
        }
        done
    }

    /// With other walkers: all of them run while one is timed. Where a walk changes the tables, they only start
    /// together: a call more would be other work.
    fn together<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        meeting: &Meeting,
        tokens: impl Fn() -> C,
    ) -> Result<LaneTiming, Errno> {
        let can_go_on = share.scene.can_repeat();
        let mut calls = share.calls.clone().cycle();
        let mut untimed = Walked { collisions: Collisions::default(), tokens: tokens() };
        let mut one = |lane: &mut Self| {
            if !can_go_on {
                std::hint::spin_loop();
                std::thread::yield_now();
                return Ok(());
            }
            let Some(k) = calls.next() else { return Ok(()) };
            lane.whole(share, k..k + 1, work.retry, &mut untimed)
        };
        meeting.begin(|| one(self))?;
        let timing = self.timed(share, work, tokens())?;
        meeting.end(|| one(self))?;
        Ok(timing)
    }

    fn timed<C: Counters>(&mut self, share: &Share<'_>, work: &Work, tokens: C) -> Result<LaneTiming, Errno> {
        let clock = work.clock;
        let mut walked = Walked { collisions: Collisions::default(), tokens };
        let start = clock.now();
        match work.what {
            What::Stages => {
                let (stages, apart, collisions) = self.staged(share, work)?;
                let (stages, apart) = (Some(stages), Some(apart));
                return Ok(LaneTiming { ns: stages.map_or(0, |s| s.sum()), stages, apart, collisions });
            }
            What::Parts => {
                let parts = self.parts(share, work, &mut walked)?;
                let apart = TakenApart { whole_ns: parts.whole_ns, readings: Readings::default() };
                let stages = parts.stages();
                return Ok(LaneTiming {
                    ns: stages.sum(),
                    stages: Some(stages),
                    apart: Some(apart),
                    collisions: walked.collisions,
                });
            }
            What::Call => self.calls(share, work)?,
            What::Operations => self.operations(share, work, &mut walked)?,
            What::Whole => {
                self.wholes(share, work, &mut walked)?;
                if !self.extra(share, work, &mut walked)? {
                    linger(clock, start, work.plant.extra_percent as f64);
                }
                if work.plant.late_percent > 0 {
                    linger(clock, start, work.plant.late_percent as f64 / Plant::LATE_EVERY as f64);
                }
            }
        }
        let ns = clock.span(start, clock.now());
        Ok(LaneTiming { ns, collisions: walked.collisions, ..LaneTiming::default() })
    }

    /// The calls, one after the other: the loop of everything that is timed as a whole.
    #[inline(never)]
    fn whole<C: Counters>(
        &mut self,
        share: &Share<'_>,
        calls: Range<u64>,
        retry: Retry,
        walked: &mut Walked<C>,
    ) -> Result<(), Errno> {
        for k in calls {
            let request = share.scene.request(k);
            let Retry { policy, attempts } = retry;
            let backend = &mut self.backend;
            match share.mirror.refresh_bounded(backend, &request, policy, attempts, walked, &mut |_, _| {}) {
                Ok(()) => {}
                Err(Errno::Busy | Errno::Intr) => walked.collisions.given_up += 1,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn wholes<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        walked: &mut Walked<C>,
    ) -> Result<(), Errno> {
        for _ in 0..work.sweeps {
            self.whole(share, share.calls.clone(), work.retry, walked)?;
        }
        Ok(())
    }

    /// The calls that are planted; false where they cannot be.
    fn extra<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        walked: &mut Walked<C>,
    ) -> Result<bool, Errno> {
        let calls = share.calls.end - share.calls.start;
        let extra = work.plant.extra_calls(calls * u64::from(work.sweeps));
        let Some(mut extra) = extra.filter(|n| *n == 0 || share.scene.can_repeat()) else { return Ok(false) };
        while extra > 0 {
            let some = extra.min(calls);
            self.whole(share, share.calls.start..share.calls.start + some, work.retry, walked)?;
            extra -= some;
        }
        Ok(true)
    }

    fn operations<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        walked: &mut Walked<C>,
    ) -> Result<(), Errno> {
        let mut nth = 0;
        for _ in 0..work.sweeps {
            let mut first = share.calls.start;
            while first < share.calls.end {
                let end = (first + work.batch).min(share.calls.end);
                let start = work.clock.now();
                self.whole(share, first..end, work.retry, walked)?;
                nth += 1;
                if work.plant.late_percent > 0 && nth % Plant::LATE_EVERY == 0 {
                    linger(work.clock, start, work.plant.late_percent as f64);
                }
                let ns = work.clock.span(start, work.clock.now());
                // The rest of a share is no whole batch.
                if end - first == work.batch {
                    self.operations.saturating_record(ns);
                }
                first = end;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn staged(&mut self, share: &Share<'_>, work: &Work) -> Result<(Stages, TakenApart, Collisions), Errno> {
        let tokens = work.churning.as_ref().map_or_else(Tokens::none, |churning| churning.tokens());
        // Arrays for no page: only to have something in its place meanwhile.
        let backend = std::mem::replace(&mut self.backend, B::new(0));
        let ticks = Clock::ticks();
        let (start, first) = (work.clock.now(), ticks.now());
        let mut timed = Timed::start(backend, ticks, tokens);
        let mut outside = Collisions::default();
        let mut all = || {
            for _ in 0..work.sweeps {
                for k in share.calls.clone() {
                    timed.operation(share.mirror, &share.scene.request(k), work.retry, &mut outside)?;
                }
            }
            Ok(())
        };
        let done = all();
        let end = ticks.now();
        let whole_ns = work.clock.span(start, work.clock.now());
        let ns_per_tick = whole_ns as f64 / ticks.between(first, end).max(1) as f64;
        let (backend, stages, readings, inside) = timed.finish();
        self.backend = backend;
        outside.add(&inside);
        let read_ns = ticks.cost_ns * ns_per_tick * readings.sum() as f64;
        let apart = TakenApart { whole_ns: whole_ns.saturating_sub(read_ns as u64), readings };
        done.map(|()| (stages.scaled(ns_per_tick), apart, outside))
    }

    /// The three blocks of [`Parts`], one after the other; the whole one, as ever, behind another member's.
    fn parts<C: Counters>(
        &mut self,
        share: &Share<'_>,
        work: &Work,
        walked: &mut Walked<C>,
    ) -> Result<Parts, Errno> {
        let clock = work.clock;
        let start = clock.now();
        self.prepares(share, work);
        let prepared = clock.now();
        self.wholes(share, work, walked)?;
        let done = clock.now();
        self.calls(share, work)?;
        let end = clock.now();
        Ok(Parts {
            prepare_ns: clock.span(start, prepared),
            call_ns: clock.span(done, end),
            whole_ns: clock.span(prepared, done),
        })
    }

    #[inline(never)]
    fn prepares(&mut self, share: &Share<'_>, work: &Work) {
        for _ in 0..work.sweeps {
            for k in share.calls.clone() {
                self.backend.prepare(&share.scene.request(k), &mut NoCounts);
                // Every one of them is done, also where the next one overwrites it.
                black_box(&mut self.backend);
            }
        }
    }

    #[inline(never)]
    fn calls(&mut self, share: &Share<'_>, work: &Work) -> Result<(), Errno> {
        let walked = &mut Walked::quiet();
        let mm: &walker::mm::Mm = share.scene.mm();
        let sub = share.mirror.subscription();
        for _ in 0..work.sweeps {
            for k in share.calls.clone() {
                let request = share.scene.request(k);
                self.backend.prepare(&request, walked);
                loop {
                    let seq = self.backend.read_begin(mm, sub, walked)?;
                    match self.backend.walk(mm, sub, seq, walked) {
                        Ok(seq) => {
                            let device = share.mirror.device();
                            let again = black_box(self.backend.read_retry(sub, seq));
                            drop(device);
                            match (again, self.backend.has_more()) {
                                (false, false) => break,
                                (false, true) => continue,
                                (true, _) => {}
                            }
                        }
                        Err(Errno::Busy | Errno::Again) => {}
                        Err(e) => return Err(e),
                    }
                    self.backend.refill(&request, walked);
                }
            }
        }
        Ok(())
    }
}
