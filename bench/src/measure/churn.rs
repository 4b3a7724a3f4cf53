//! The churn threads of a cell: start, ramp, read what they achieved, stop.
//!
//! Each thread plays its part of the script ([`workloads::churn::Churner`]) at the dose:
//! * an open dose is paced by intended start times, fixed when the threads start; an event that starts late is timed
//!   from when it should have started, so that a stall counts for every event that it delayed;
//! * `max` starts the next event when the last one is over;
//! * a closed dose waits for a token, which the walk hands out every so many tables ([`Churning::tokens`]).
//!
//! ```text
//! let churning = Churning::start(&ground, spec, seed, &cpus)?;
//! churning.ramp()?;                                // every thread runs at its dose
//! let before = churning.tally();
//! ... a timed block; for a closed dose its Counters is churning.tokens() ...
//! let achieved = churning.tally().since(&before);  // events, failures, time
//! let report = churning.stop();                    // latencies; nothing is left half done
//! ```
//! [`doses_differ`] says whether the blocks that are compared got the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use walker::counters::{Count, Counters};
use walker::sync::{RwLock, RwLockReadGuard};
use workloads::churn::{ChurnSpec, Churner, Dose, Ground};

/// How much the doses of compared blocks may differ.
pub(crate) const DOSE_TOLERANCE: f64 = 0.05;

/// Longest latency that is told from longer ones: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// How long every thread has until it runs at its dose.
const RAMP: Duration = Duration::from_secs(10);

/// Sleeping shorter than this is spinning instead: the host wakes nobody more exactly.
const SPIN: Duration = Duration::from_micros(100);

/// What the threads have done so far. Differences of two are what happened in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Nanoseconds since the threads started.
    pub(crate) ns: u64,
    /// Events that happened.
    pub(crate) events: u64,
    /// Events that did not: the operation returned an error.
    pub(crate) failures: u64,
    /// Nanoseconds that the threads spent in events, what undoes them included; waiting for the next one is not.
    pub(crate) busy_ns: u64,
    /// Tables that walks have reported, for closed doses.
    pub(crate) tables: u64,
}

impl Tally {
    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Tally) -> Tally {
        Tally {
            ns: self.ns - before.ns,
            events: self.events - before.events,
            failures: self.failures - before.failures,
            busy_ns: self.busy_ns - before.busy_ns,
            tables: self.tables - before.tables,
        }
    }
    /// The dose: events a second, or events a walked table for a closed one. None where nothing was there to divide by.
    pub(crate) fn dose(&self, spec: &ChurnSpec) -> Option<f64> {
        let per = match spec.dose {
            Dose::PerSec(_) | Dose::Max => self.ns as f64 / 1e9,
            Dose::EveryTables(_) => self.tables as f64,
        };
        (per > 0.0).then(|| self.events as f64 / per)
    }
    /// What an event took of its thread, in nanoseconds. None without events.
    pub(crate) fn ns_per_event(&self) -> Option<f64> {
        let all = self.events + self.failures;
        (all > 0).then(|| self.busy_ns as f64 / all as f64)
    }
}

/// Whether blocks with these achieved doses must not be compared: the highest is more than `tolerance` above the lowest,
/// beyond what one event more or less makes of each. Blocks without a dose are void.
pub(crate) fn doses_differ(spec: &ChurnSpec, blocks: &[Tally], tolerance: f64) -> bool {
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    for block in blocks {
        let Some(dose) = block.dose(spec) else { return true };
        // A block cannot cut an event in two: one more or less is within the clock of the script.
        let one = dose / (block.events.max(1)) as f64;
        low = low.min(dose + one);
        high = high.max(dose - one);
    }
    high > low * (1.0 + tolerance)
}

/// One thread's part of the tally, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    events: AtomicU64,
    failures: AtomicU64,
    busy_ns: AtomicU64,
    /// Its first event is over, or it waits for its first token.
    ramped: AtomicBool,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Tables(AtomicU64);

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    lanes: Vec<Lane>,
    /// Tables walked, by everybody.
    tables: Tables,
    /// Tokens taken, by everybody.
    taken: Tables,
}

/// A gate that a checker closes to stop the world: every thread passes it before each event.
pub(crate) type Gate = Arc<RwLock<()>>;

/// Threads that churn.
#[derive(Debug)]
pub(crate) struct Churning {
    spec: ChurnSpec,
    shared: Arc<Shared>,
    started: Instant,
    threads: Vec<JoinHandle<Histogram<u64>>>,
}

/// What the churn was, in the end.
#[derive(Debug)]
pub(crate) struct ChurnReport {
    /// All of it.
    pub(crate) tally: Tally,
    /// Nanoseconds from the intended start of an event to the end of its first half, which is what invalidates.
    pub(crate) latency_ns: Histogram<u64>,
}

impl Churning {
    /// Starts the threads of `spec` on `ground`, the n-th pinned to the n-th of `cpus`, which are taken again from the
    /// first when there are more threads; not pinned where there are none. Returns when all are there.
    ///
    /// # Errors
    /// A thread cannot be started or pinned.
    pub(crate) fn start(ground: &Ground, spec: ChurnSpec, seed: u64, cpus: &[usize]) -> Result<Churning> {
        Churning::start_gated(ground, spec, seed, cpus, None)
    }

    /// As [`Churning::start`], with a gate.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn start_gated(
        ground: &Ground,
        spec: ChurnSpec,
        seed: u64,
        cpus: &[usize],
        gate: Option<Gate>,
    ) -> Result<Churning> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            lanes: (0..spec.threads).map(|_| Lane::default()).collect(),
            tables: Tables::default(),
            taken: Tables::default(),
        });
        // Intended start times count from here, a little ahead, so that the first ones are not late already.
        let started = Instant::now() + Duration::from_millis(1);
        let mut churning = Churning { spec, shared, started, threads: Vec::new() };
        for thread in 0..spec.threads {
            let cpu = (!cpus.is_empty()).then(|| cpus[thread as usize % cpus.len()]);
            let worker = Worker {
                spins: cpu.is_some(),
                churner: Churner::new(spec, ground, thread, seed),
                spec,
                thread,
                started,
                shared: Arc::clone(&churning.shared),
                gate: gate.clone(),
            };
            let builder = thread::Builder::new().name(format!("churn {thread}"));
            let spawned = builder.spawn(move || {
                if let Some(id) = cpu {
                    core_affinity::set_for_current(CoreId { id });
                }
                worker.run()
            });
            match spawned {
                Ok(handle) => churning.threads.push(handle),
                Err(e) => {
                    return Err(e).context(format!("starting churn thread {thread} of {}", spec.threads));
                }
            }
        }
        Ok(churning)
    }

    /// Waits until every thread runs at its dose.
    ///
    /// # Errors
    /// One does not within ten seconds, or all events fail.
    pub(crate) fn ramp(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.shared.lanes.iter().all(|l| l.ramped.load(Acquire)) {
            if begun.elapsed() > RAMP {
                bail!("churn {}: some thread has not finished an event after {RAMP:?}", self.spec);
            }
            thread::sleep(Duration::from_micros(200));
        }
        let tally = self.tally();
        if tally.events == 0 && tally.failures > 0 {
            bail!("churn {}: all of the first {} events failed", self.spec, tally.failures);
        }
        Ok(())
    }

    /// What was achieved so far: a few loads.
    pub(crate) fn tally(&self) -> Tally {
        // Relaxed: statistics.
        let sum = |f: fn(&Lane) -> &AtomicU64| self.shared.lanes.iter().map(|l| f(l).load(Relaxed)).sum();
        Tally {
            ns: Instant::now().saturating_duration_since(self.started).as_nanos() as u64,
            events: sum(|l| &l.events),
            failures: sum(|l| &l.failures),
            busy_ns: sum(|l| &l.busy_ns),
            tables: self.shared.tables.0.load(Relaxed),
        }
    }

    /// The walk's side of a closed dose: what a walker counts with. Harmless for open ones.
    pub(crate) fn tokens(&self) -> Tokens {
        let batch = match self.spec.dose {
            Dose::EveryTables(n) => n,
            Dose::PerSec(_) | Dose::Max => u64::MAX,
        };
        Tokens { shared: Arc::clone(&self.shared), batch, tables: 0 }
    }

    /// Ends every thread after its event, with nothing left half done.
    pub(crate) fn stop(mut self) -> ChurnReport {
        let latency_ns = self.join();
        ChurnReport { tally: self.tally(), latency_ns }
    }

    fn join(&mut self) -> Histogram<u64> {
        self.shared.stop.store(true, Release);
        let mut latency_ns = histogram();
        for handle in self.threads.drain(..) {
            match handle.join() {
                Ok(h) => latency_ns.add(h).expect("the same bounds"),
                Err(panic) if !thread::panicking() => std::panic::resume_unwind(panic),
                Err(_) => {}
            }
        }
        latency_ns
    }
}

impl Drop for Churning {
    fn drop(&mut self) {
        self.join();
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds of a histogram")
}

/// Hands out a token every so many walked tables. Costs the walk a local addition a table, and an atomic one a token.
#[derive(Debug)]
pub(crate) struct Tokens {
    shared: Arc<Shared>,
    batch: u64,
    tables: u64,
}

impl Tokens {
    /// Of no churn: nobody waits for them.
    pub(crate) fn none() -> Tokens {
        let shared = Shared {
            stop: AtomicBool::new(true),
            lanes: Vec::new(),
            tables: Tables::default(),
            taken: Tables::default(),
        };
        Tokens { shared: Arc::new(shared), batch: u64::MAX, tables: 0 }
    }
}

impl Counters for Tokens {
    const ENABLED: bool = false;
    #[inline(always)]
    fn add(&mut self, what: Count, n: u64) {
        // A none PMD entry is a hole, every other one is visited.
        if matches!(what, Count::PmdsVisited | Count::Holes) {
            self.tables += n;
            if self.tables >= self.batch {
                // Release: the event comes after what the walk has seen; pairs with the acquire in `take_token`.
                self.shared.tables.0.fetch_add(self.tables, Release);
                self.tables = 0;
            }
        }
    }
    #[inline(always)]
    fn get(&self, _: Count) -> u64 {
        0
    }
}

struct Worker {
    /// It has a processor, so that spinning is exact; otherwise it would take somebody else's.
    spins: bool,
    churner: Churner,
    spec: ChurnSpec,
    thread: u32,
    started: Instant,
    shared: Arc<Shared>,
    gate: Option<Gate>,
}

impl Worker {
    fn stopped(&self) -> bool {
        self.shared.stop.load(Acquire)
    }

    fn run(mut self) -> Histogram<u64> {
        let mut latency = histogram();
        let mut nth = 0;
        while let Some(intended) = self.wait(nth) {
            nth += 1;
            let gate = self.gate.clone();
            let _pass: Option<RwLockReadGuard<'_, ()>> = gate.as_ref().map(|g| g.read());
            let begun = Instant::now();
            let r = self.churner.event(|first| {
                if first.is_ok() {
                    let ns = Instant::now().saturating_duration_since(intended).as_nanos() as u64;
                    latency.saturating_record(ns);
                }
            });
            let busy = begun.elapsed().as_nanos() as u64;
            let lane = &self.shared.lanes[self.thread as usize];
            let count = if r.is_ok() { &lane.events } else { &lane.failures };
            count.fetch_add(1, Relaxed);
            lane.busy_ns.fetch_add(busy, Relaxed);
            lane.ramped.store(true, Release);
        }
        self.churner.finish();
        latency
    }

    /// Waits for the n-th event of this thread and returns when it should start. None: stop.
    fn wait(&self, nth: u64) -> Option<Instant> {
        match self.spec.dose {
            Dose::Max => (!self.stopped()).then(Instant::now),
            Dose::PerSec(per_sec) => {
                // Threads take turns: event k of all threads starts at k / per_sec.
                let k = u128::from(nth) * u128::from(self.spec.threads) + u128::from(self.thread);
                let ns = k * 1_000_000_000 / u128::from(per_sec);
                let due = self.started + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
                self.sleep_until(due).then_some(due)
            }
            Dose::EveryTables(n) => self.take_token(n).then(Instant::now),
        }
    }

    /// False: stopped meanwhile.
    fn sleep_until(&self, due: Instant) -> bool {
        loop {
            if self.stopped() {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if left > Duration::from_millis(50) {
                // The dose is slow: the thread is as ready as it will ever be.
                self.shared.lanes[self.thread as usize].ramped.store(true, Release);
            }
            if left > SPIN {
                thread::sleep((left - SPIN / 2).min(Duration::from_millis(10)));
            } else if self.spins {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// One token for each `every` walked tables. False: stopped meanwhile.
    fn take_token(&self, every: u64) -> bool {
        let mut tries = 0u32;
        loop {
            if self.stopped() {
                return false;
            }
            let handed_out = self.shared.tables.0.load(Acquire) / every;
            let take = |taken| (taken < handed_out).then_some(taken + 1);
            if self.shared.taken.0.fetch_update(Relaxed, Relaxed, take).is_ok() {
                return true;
            }
            self.shared.lanes[self.thread as usize].ramped.store(true, Release);
            tries = tries.saturating_add(1);
            match tries {
                0..200 => std::hint::spin_loop(),
                200..2000 => thread::yield_now(),
                _ => thread::sleep(Duration::from_micros(50)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workloads::shape::{Memory, ShapeSpec};

    const SHAPE: ShapeSpec = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Pages };

    fn spec(name: &str) -> ChurnSpec {
        name.parse().unwrap()
    }
    fn block(events: u64, ns: u64, tables: u64) -> Tally {
        Tally { ns, events, tables, ..Tally::default() }
    }

    #[test]
    fn blocks_with_other_doses_are_void() {
        let open = spec("zap-4KiB-o100-uniform-1000ps-t1");
        let second = 1_000_000_000;
        assert!(!doses_differ(&open, &[block(1000, second, 0), block(1049, second, 0)], DOSE_TOLERANCE));
        assert!(doses_differ(&open, &[block(1000, second, 0), block(1060, second, 0)], DOSE_TOLERANCE));
        // The same dose over another time.
        assert!(!doses_differ(&open, &[block(1000, second, 0), block(500, second / 2, 0)], DOSE_TOLERANCE));
        // One event more or less says nothing.
        assert!(!doses_differ(&open, &[block(1, second, 0), block(2, second, 0)], DOSE_TOLERANCE));
        // Nobody churned beside one of them.
        assert!(doses_differ(&open, &[block(1000, second, 0), block(0, second, 0)], DOSE_TOLERANCE));
        assert!(doses_differ(&open, &[block(1000, second, 0), block(0, 0, 0)], DOSE_TOLERANCE));
        let closed = spec("zap-4KiB-o100-uniform-every8-t1");
        assert!(!doses_differ(&closed, &[block(100, 1, 800), block(200, 9, 1600)], DOSE_TOLERANCE));
        assert!(doses_differ(&closed, &[block(100, 1, 800), block(100, 1, 1600)], DOSE_TOLERANCE));
    }

    #[test]
    fn an_open_dose_is_kept_and_timed_from_the_intended_start() {
        let spec = spec("zap-4KiB-o50-zipf-500ps-t2");
        let (built, ground) = Ground::build(&SHAPE, 4 << 20, 1, spec).unwrap();
        let churning = Churning::start(&ground, spec, 1, &[]).unwrap();
        churning.ramp().unwrap();
        let before = churning.tally();
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        while churning.tally().since(&before).events == 0 && begun.elapsed() < RAMP {
            thread::yield_now();
        }
        let achieved = churning.tally().since(&before);
        let report = churning.stop();
        // However busy the machine: late events are made up for, never skipped.
        let due = report.tally.ns as f64 * 500.0 / 1e9;
        assert!(report.tally.events as f64 <= due + 2.0, "{:?}", report.tally);
        assert!(achieved.events > 0 && achieved.ns_per_event().is_some());
        assert_eq!(report.latency_ns.len(), report.tally.events);
        assert_eq!(report.tally.failures, 0);
        built.discard();
    }

    #[test]
    fn a_closed_dose_follows_the_walk() {
        let spec = spec("mprotect-64KiB-o100-sweep-every4-t1");
        let (built, ground) = Ground::build(&SHAPE, 4 << 20, 1, spec).unwrap();
        let churning = Churning::start(&ground, spec, 1, &[]).unwrap();
        churning.ramp().unwrap();
        assert_eq!(churning.tally().events, 0);
        let mut tokens = churning.tokens();
        (0..40).for_each(|_| tokens.add(Count::PmdsVisited, 1));
        let begun = Instant::now();
        while churning.tally().events < 10 && begun.elapsed() < RAMP {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        let tally = churning.tally();
        assert_eq!((tally.events, tally.tables, tally.dose(&spec)), (10, 40, Some(0.25)));
        churning.stop();
        built.discard();
    }

    #[test]
    fn every_kind_runs_on_threads_and_leaves_nothing_half_done() {
        for (kind, shape, span) in [
            ("zap", SHAPE, "64KiB"),
            ("mprotect", SHAPE, "64KiB"),
            ("fork", SHAPE, "64KiB"),
            ("split", ShapeSpec::Dense2m, "2MiB"),
            ("collapse", SHAPE, "2MiB"),
            ("migrate", SHAPE, "64KiB"),
            ("pageout", SHAPE, "64KiB"),
            ("numa_hint", SHAPE, "2MiB"),
            ("device_migrate", SHAPE, "64KiB"),
        ] {
            let spec = spec(&format!("{kind}-{span}-o50-uniform-max-t2"));
            let (built, ground) = Ground::build(&shape, 4 << 20, 1, spec).unwrap();
            let churning = Churning::start(&ground, spec, 1, &[]).unwrap();
            churning.ramp().unwrap_or_else(|e| panic!("{kind}: {e}"));
            let report = churning.stop();
            assert!(report.tally.events > 0, "{kind}: {:?}", report.tally);
            assert_eq!(built.mm.notifier.debug_state().1, 0, "{kind}: an event never ended");
            built.discard();
        }
    }
}
