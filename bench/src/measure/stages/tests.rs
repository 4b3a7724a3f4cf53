//! The accounting of the stages, with a clock that stands still unless somebody works.

use super::*;
use std::cell::Cell;
use std::sync::Arc;
use walker::addr::PageRange;
use walker::backend::{Capability, Info, Kind, PageView};
use walker::mirror::DeviceTable;
use walker::notifier::Subscription;
use walker::request::Wish;
use workloads::shape::{Memory, ShapeSpec};

thread_local! {
    /// Nanoseconds since the test began.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// What a reading takes.
const READING_NS: u64 = 3;

fn work(ns: u64) {
    NOW.set(NOW.get() + ns);
}

/// Time in units of so many nanoseconds. A reading costs what readings do.
#[derive(Clone, Copy)]
struct Scripted {
    unit_ns: u64,
}

impl Time for Scripted {
    type Point = u64;
    fn now(self) -> u64 {
        // Half before the moment, half after, as in a real reading; here: all of it after.
        let now = NOW.get() / self.unit_ns;
        work(READING_NS);
        now
    }
    fn ns_between(self, from: u64, to: u64) -> u64 {
        (to - from) * self.unit_ns
    }
}

/// A backend whose stages take known times: 1000 to prepare, 500 to refill, 2000 to walk of which 700 are a fault, 400 to
/// consume. The first walks of an operation collide.
struct Known {
    range: PageRange,
    collisions: u32,
    left: u32,
}

impl Backend for Known {
    const INFO: Info =
        Info { id: "known", kernel: "none", kind: Kind::Control, capabilities: &Capability::ALL };
    fn new(_: usize) -> Self {
        Known { range: PageRange::pages(walker::addr::VirtAddr::new(0), 0), collisions: 0, left: 0 }
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

/// One operation of [`Known`]: its stages, what collided, and the time that the whole took without readings.
fn operation(unit_ns: u64, collisions: u32, policy: RetryPolicy) -> (Stages, Collisions, u64) {
    let shape = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    let built = shape.build(2 << 20, 1).unwrap();
    let mirror = Mirror::new(&built.mm, built.range);
    let request = Request { range: built.range, default: Wish::None, per_page: None, owner: 0 };
    let clock = Clock::new(Scripted { unit_ns }, READING_NS as f64);
    let mut faults = FaultClock::new(clock, walker::counters::NoCounts);
    let mut backend = Known { collisions, ..Known::new(512) };
    let mm: &Mm = &Arc::clone(&built.mm);
    let began = NOW.get();
    let stages = refresh_staged(mm, &mirror, &mut backend, &request, policy, &mut faults).unwrap();
    let took = NOW.get() - began;
    let attempts = u64::from(collisions.min(match policy {
        RetryPolicy::Attempts(n) => n - 1,
        _ => u32::MAX,
    })) + 1;
    // Two to begin with, two around the fault and two behind it in each attempt, one after each refill.
    let readings = 2 + 4 * attempts + (attempts - 1);
    drop(mirror);
    built.discard();
    (stages, faults.walked.collisions, took - READING_NS * readings)
}

#[test]
fn each_stage_is_what_was_done_in_it_and_they_sum_to_the_whole() {
    let (stages, collisions, took) = operation(1, 0, RetryPolicy::AtOnce);
    let expected = Stages { prepare_ns: 1000, walk_ns: 1300, fault_ns: 700, retry_ns: 0, consume_ns: 400 };
    assert_eq!((stages, stages.sum()), (expected, took));
    assert_eq!(collisions, Collisions::default());
}

#[test]
fn what_collisions_cost_is_apart_and_the_sum_still_holds() {
    let (stages, collisions, took) = operation(1, 3, RetryPolicy::AtOnce);
    let expected = Stages {
        prepare_ns: 1000,
        walk_ns: 1300,
        fault_ns: 4 * 700,
        retry_ns: 3 * (1300 + 500),
        consume_ns: 400,
    };
    assert_eq!((stages, stages.sum()), (expected, took));
    assert_eq!(collisions, Collisions { collided: 3, given_up: 0, pages_in_vain: 24 });
}

#[test]
fn an_operation_that_is_given_up_is_all_retry() {
    let (stages, collisions, took) = operation(1, 9, RetryPolicy::Attempts(2));
    let expected =
        Stages { prepare_ns: 1000, walk_ns: 0, fault_ns: 2 * 700, retry_ns: 2 * 1300 + 500, consume_ns: 0 };
    assert_eq!((stages, stages.sum()), (expected, took));
    assert_eq!(collisions, Collisions { collided: 2, given_up: 1, pages_in_vain: 16 });
}

#[test]
fn the_clocks_unit_changes_no_figure() {
    // Everything a multiple of 100 ns but the readings, which are taken off where they are noticed.
    let (ns, ..) = operation(1, 1, RetryPolicy::AtOnce);
    let (tens, ..) = operation(10, 1, RetryPolicy::AtOnce);
    for ((name, a), (_, b)) in ns.each().into_iter().zip(tens.each()) {
        assert!(a.abs_diff(b) <= 40, "{name}: {a} ns by a clock of nanoseconds, {b} by one of tens");
    }
}

#[test]
fn parts_are_told_apart_by_difference() {
    let stages = Parts { prepare_ns: 100, call_ns: 350, whole_ns: 400 }.stages();
    let expected = Stages { prepare_ns: 100, walk_ns: 250, consume_ns: 50, ..Stages::default() };
    assert_eq!((stages, stages.sum()), (expected, 400));
    // Noise below zero shows in the sum, which is held against whole operations.
    assert_eq!(Parts { prepare_ns: 120, call_ns: 100, whole_ns: 90 }.stages().sum(), 120);
}
