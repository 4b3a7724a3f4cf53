//! The accounting of the stages, with a clock that stands still unless somebody works.

use super::*;
use std::cell::Cell;
use walker::addr::{PageRange, VirtAddr};
use walker::backend::{Capability, Kind};
use walker::counters::NoCounts;
use walker::mirror::RetryPolicy;
use walker::request::Wish;
use workloads::shape::{Memory, ShapeSpec};

thread_local! {
    /// Nanoseconds since the test began.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// What a reading takes, after it has read.
const READING_NS: u64 = 3;

fn work(ns: u64) {
    NOW.set(NOW.get() + ns);
}

/// Time in units of so many nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Scripted {
    unit_ns: u64,
}

impl Time for Scripted {
    type Point = u64;
    fn now(self) -> u64 {
        let now = NOW.get() / self.unit_ns;
        work(READING_NS);
        now
    }
    fn ns_between(self, from: u64, to: u64) -> u64 {
        (to - from) * self.unit_ns
    }
}

/// A backend whose stages take known times: 1000 to prepare, 500 to refill, 2000 to walk of which 700 are a fault, 400 to
/// consume. The first walks after a prepare collide.
#[derive(Debug)]
struct Known {
    range: PageRange,
    collisions: u32,
    left: u32,
}

impl Known {
    fn walks<C: Counters>(&mut self, seq: u64, c: &mut C) -> Result<u64, Errno> {
        work(800);
        c.fault_enter();
        work(700);
        c.fault_exit();
        work(500);
        c.add(Count::SlotsWritten, 8);
        if self.left > 0 {
            self.left -= 1;
            return Err(Errno::Busy);
        }
        Ok(seq)
    }
}

impl Backend for Known {
    const INFO: Info =
        Info { id: "known", kernel: "none", kind: Kind::Control, capabilities: &Capability::ALL };
    fn new(_: usize) -> Self {
        Known { range: PageRange::pages(VirtAddr::new(0), 0), collisions: 0, left: 0 }
    }
    fn prepare<C: Counters>(&mut self, request: &Request<'_>, _: &mut C) {
        self.range = request.range;
        self.left = self.collisions;
        work(1000);
    }
    fn refill<C: Counters>(&mut self, _: &Request<'_>, _: &mut C) {
        work(500);
    }
    fn walk<C: Counters>(&mut self, _: &Mm, _: &Subscription, seq: u64, c: &mut C) -> Result<u64, Errno> {
        self.walks(seq, c)
    }
    fn walk_locked<C: Counters>(
        &mut self,
        _: Locked<'_>,
        _: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        self.walks(seq, c)
    }
    fn consume<C: Counters>(&mut self, _: &mut DeviceTable, _: &mut C) {
        work(400);
    }
    fn view(&self, _: usize) -> PageView {
        PageView::Unreached
    }
    fn range(&self) -> PageRange {
        self.range
    }
}

/// Operations of [`Known`] over two tables: their stages, what collided, and the time that all took without readings. Each
/// reading is one of some stage, but for the first.
fn operations(unit_ns: u64, nr: u64, collisions: u32, retry: Retry) -> (Stages, Collisions, u64) {
    let shape = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    let built = shape.build(4 << 20, 1).unwrap();
    let mirror = Mirror::new(&built.mm, built.range);
    let request = Request { range: built.range, default: Wish::None, per_page: None, owner: 0 };
    // A clock that does not tell a reading from nothing does not take it off either.
    let cost_ns = if unit_ns > READING_NS { 0.0 } else { READING_NS as f64 };
    let clock = Clock::new(Scripted { unit_ns }, cost_ns);
    let known = Known { collisions, ..Known::new(512) };
    let readings = Cell::new(0);
    let began = NOW.get();
    let mut timed = Timed::start(known, clock, NoCounts);
    let mut seen = Collisions::default();
    for _ in 0..nr {
        timed.operation(&mirror, &request, retry, &mut seen).unwrap();
    }
    let took = NOW.get() - began;
    let (_, stages, read, inside) = timed.finish();
    seen.add(&inside);
    let pieces = if retry.policy == RetryPolicy::Resumed { 2 } else { 1 };
    let tries = |attempts: u32| u64::from(collisions.min(attempts - 1)) + 1;
    let attempts = tries(retry.attempts) * pieces * nr;
    // One to start the chain; a prepare a piece and one between pieces; two around the fault and one behind the walk in
    // each attempt; one behind each refill; one at the end of each operation.
    let refills = attempts - pieces * nr;
    readings.set(1 + pieces * nr + (pieces - 1) * nr + 3 * attempts + refills + nr);
    assert_eq!(1 + read.sum(), readings.get());
    assert_eq!((read.prepare, read.fault), (pieces * nr, attempts));
    drop(mirror);
    built.discard();
    (stages, seen, took - READING_NS * readings.get())
}

const FOREVER: Retry = Retry { policy: RetryPolicy::AtOnce, attempts: u32::MAX };

#[test]
fn each_stage_is_what_was_done_in_it_and_they_sum_to_the_whole() {
    for nr in [1, 5] {
        let (stages, collisions, took) = operations(1, nr, 0, FOREVER);
        let expected = Stages {
            prepare_ns: 1000 * nr,
            walk_ns: 1300 * nr,
            fault_ns: 700 * nr,
            retry_ns: 0,
            consume_ns: 400 * nr,
        };
        assert_eq!((stages, stages.sum()), (expected, took));
        assert_eq!(collisions, Collisions::default());
    }
}

#[test]
fn what_collisions_cost_is_apart_and_the_sum_still_holds() {
    for policy in [RetryPolicy::AtOnce, RetryPolicy::BackOff, RetryPolicy::Locked] {
        let (stages, collisions, took) = operations(1, 1, 3, Retry { policy, attempts: u32::MAX });
        let expected = Stages {
            prepare_ns: 1000,
            walk_ns: 1300,
            fault_ns: 4 * 700,
            retry_ns: 3 * (1300 + 500),
            consume_ns: 400,
        };
        assert_eq!((stages, stages.sum()), (expected, took), "{policy:?}");
        assert_eq!(collisions, Collisions { collided: 3, given_up: 0, pages_in_vain: 24 });
    }
}

#[test]
fn pieces_are_summed() {
    let (stages, collisions, took) =
        operations(1, 1, 1, Retry { policy: RetryPolicy::Resumed, attempts: u32::MAX });
    let expected = Stages {
        prepare_ns: 2000,
        walk_ns: 2600,
        fault_ns: 4 * 700,
        retry_ns: 2 * (1300 + 500),
        consume_ns: 800,
    };
    assert_eq!((stages, stages.sum()), (expected, took));
    assert_eq!(collisions, Collisions { collided: 2, given_up: 0, pages_in_vain: 16 });
}

#[test]
fn an_operation_that_is_given_up_is_all_retry() {
    let (stages, collisions, took) = operations(1, 1, 9, Retry { policy: RetryPolicy::AtOnce, attempts: 2 });
    let expected =
        Stages { prepare_ns: 1000, walk_ns: 0, fault_ns: 2 * 700, retry_ns: 2 * 1300 + 500, consume_ns: 0 };
    assert_eq!((stages, stages.sum()), (expected, took));
    assert_eq!(collisions, Collisions { collided: 2, given_up: 1, pages_in_vain: 16 });
}

#[test]
fn the_clocks_unit_changes_no_figure() {
    let (by_ns, ..) = operations(1, 50, 1, FOREVER);
    let (by_tens, ..) = operations(10, 50, 1, FOREVER);
    for ((name, a), (_, b)) in by_ns.each().into_iter().zip(by_tens.each()) {
        let apart = (a as f64 / b as f64 - 1.0).abs();
        assert!(apart < 0.02, "{name}: {a} ns by a clock of nanoseconds, {b} by one of tens");
    }
}
