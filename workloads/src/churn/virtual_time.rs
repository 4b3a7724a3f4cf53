//! Virtual time: the script on one thread, its events at visit k of the walk.
//!
//! [`VirtualTime`] is what the walk counts with. The clock is the number of entries that walks have read: when it
//! reaches an event's visit, the event happens right there, between two reads of the walk, with everything the walk
//! holds (the mmap lock for reading, its read-side critical section) held. What needs the mmap lock for writing waits
//! until the walk drops it, as a writer does; beside a walk that holds the driver's lock every event waits for that. So
//! every count is a function of the seed alone.
//!
//! * A visit is a PTE, a PMD entry, a leaf above it, or a hole. A PTE's event comes after its read and before what is
//!   decided on it.
//! * An open dose counts a visit as a microsecond, slow motion: n events a second are one every 10^6 / n visits over all
//!   threads. `max` is as fast as can be when each half of an event lasts [`HALF_VISITS`] visits.
//! * A closed dose counts PMD entries and holes: the k-th event is due at table k * n.
//! * The second half of an event follows [`HALF_VISITS`] visits after the first. A thread whose event is late starts
//!   the next one late, none is left out. One half a visit and thread at most.
//! * Whoever waits for a migration waits for its thread: the folios are copied at once then.
//! * A pause of the caller (a retry policy's) passes virtual time.

use super::{ChurnSpec, Churner, Dose, Ground, Lock};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use walker::counters::{Count, Counters, Counts};
use walker::mm::Mm;

/// Visits from one half of an event to the next.
pub const HALF_VISITS: u64 = 16;
/// Visits a virtual second.
pub const VISITS_PER_SEC: u64 = 1_000_000;

/// When a thread's next half is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Visit(u64),
    Table(u64),
}

#[derive(Debug)]
struct Thread {
    churner: Churner,
    due: Due,
    /// Events begun.
    nth: u64,
    /// Due, and waiting for the mmap lock.
    waits: bool,
}

/// What the script has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// First halves that happened: events.
    pub events: u64,
    /// First halves that failed.
    pub failures: u64,
    /// Second halves.
    pub undone: u64,
    /// Halves that waited for the walk to drop the mmap lock or the driver's.
    pub waited: u64,
}

/// See the module.
#[derive(Debug)]
pub struct VirtualTime {
    counts: Counts,
    spec: ChurnSpec,
    mm: Arc<Mm>,
    threads: Vec<Thread>,
    visits: u64,
    tables: u64,
    /// The walk holds the driver's lock: events wait for it in their callback.
    driver_held: bool,
    /// The earliest visit and table at which something is due.
    next_visit: u64,
    next_table: u64,
    played: Rc<Cell<Played>>,
}

impl VirtualTime {
    /// The script of `spec` and `seed`, from its start.
    pub fn new(spec: ChurnSpec, ground: &Ground, seed: u64) -> VirtualTime {
        let thread = |t| Thread {
            churner: Churner::new(spec, ground, t, seed),
            due: Due::Visit(u64::MAX),
            nth: 0,
            waits: false,
        };
        let mut time = VirtualTime {
            counts: Counts::default(),
            spec,
            mm: Arc::clone(&ground.mm),
            threads: (0..spec.threads).map(thread).collect(),
            visits: 0,
            tables: 0,
            driver_held: false,
            next_visit: 0,
            next_table: 0,
            played: Rc::default(),
        };
        for t in 0..time.threads.len() {
            time.threads[t].due = time.first_half_due(t);
        }
        time.look_ahead();
        time
    }
    /// What was counted; the events' own faults are not in it.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
    /// What the script has done so far.
    pub fn played(&self) -> Played {
        self.played.get()
    }
    /// Where [`VirtualTime::played`] can be read while a walk counts with this.
    pub fn watch(&self) -> Rc<Cell<Played>> {
        Rc::clone(&self.played)
    }
    fn count(&self, add: impl FnOnce(&mut Played)) {
        let mut played = self.played.get();
        add(&mut played);
        self.played.set(played);
    }
    /// Ends what has begun, outside of any walk: quiescence.
    pub fn finish(&mut self) {
        let begun = self.threads.iter().filter(|t| t.churner.has_begun()).count();
        self.count(|p| p.undone += begun as u64);
        for thread in &mut self.threads {
            thread.churner.finish();
            thread.due = Due::Visit(u64::MAX);
            thread.waits = false;
        }
        self.look_ahead();
    }

    /// When thread `t` starts its next event.
    fn first_half_due(&self, t: usize) -> Due {
        let Thread { nth, .. } = self.threads[t];
        let nth_of_all = u128::from(nth) * u128::from(self.spec.threads) + t as u128 + 1;
        let clip = |due: u128| u64::try_from(due).unwrap_or(u64::MAX);
        match self.spec.dose {
            Dose::PerSec(n) => Due::Visit(clip(nth_of_all * u128::from(VISITS_PER_SEC) / u128::from(n))),
            Dose::Max => Due::Visit(self.visits + HALF_VISITS),
            Dose::EveryTables(n) => Due::Table(clip(nth_of_all * u128::from(n))),
        }
    }

    fn look_ahead(&mut self) {
        (self.next_visit, self.next_table) = (u64::MAX, u64::MAX);
        for thread in self.threads.iter().filter(|t| !t.waits) {
            match thread.due {
                // One half a visit: what is late comes with the next one.
                Due::Visit(v) => self.next_visit = self.next_visit.min(v.max(self.visits + 1)),
                Due::Table(n) => self.next_table = self.next_table.min(n.max(self.tables + 1)),
            }
        }
    }

    fn is_due(&self, thread: &Thread) -> bool {
        match thread.due {
            Due::Visit(v) => v <= self.visits,
            Due::Table(n) => n <= self.tables,
        }
    }

    /// Runs what is due and what waited, as far as the mmap lock can be had. Kept out of the counting.
    #[inline(never)]
    fn run(&mut self) {
        for t in 0..self.threads.len() {
            let thread = &self.threads[t];
            if !thread.waits && !self.is_due(thread) {
                continue;
            }
            let free = !self.driver_held
                && match thread.churner.lock() {
                    Lock::Read => self.mm.try_mmap_read().is_some(),
                    Lock::Write => self.mm.try_mmap_write().is_some(),
                };
            if free {
                self.half(t);
            } else if !thread.waits {
                self.threads[t].waits = true;
                self.count(|p| p.waited += 1);
            }
        }
        self.look_ahead();
    }

    fn half(&mut self, t: usize) {
        let thread = &mut self.threads[t];
        thread.waits = false;
        if thread.churner.has_begun() {
            // What could not be undone stays as it is.
            let _ = thread.churner.half();
            self.count(|p| p.undone += 1);
        } else {
            let done = thread.churner.half();
            thread.nth += 1;
            self.count(|p| match done {
                Ok(()) => p.events += 1,
                Err(_) => p.failures += 1,
            });
        }
        self.threads[t].due = if self.threads[t].churner.has_begun() {
            Due::Visit(self.visits + HALF_VISITS)
        } else {
            self.first_half_due(t)
        };
    }

    /// The entries that somebody waits for resolve.
    #[inline(never)]
    fn resolve(&mut self) {
        for t in 0..self.threads.len() {
            if self.threads[t].churner.is_awaited() {
                self.half(t);
            }
        }
        self.look_ahead();
    }

    #[inline]
    fn pass(&mut self, visits: u64, tables: u64) {
        self.visits += visits;
        self.tables += tables;
        if self.visits >= self.next_visit || self.tables >= self.next_table {
            self.run();
        }
    }
}

impl Counters for VirtualTime {
    const ENABLED: bool = true;
    #[inline]
    fn add(&mut self, what: Count, n: u64) {
        self.counts.add(what, n);
        match what {
            Count::PtesVisited | Count::HugeLeaves => self.pass(n, 0),
            Count::PmdsVisited | Count::Holes => self.pass(n, n),
            Count::MigrationWaits => self.resolve(),
            _ => {}
        }
    }
    fn get(&self, what: Count) -> u64 {
        self.counts.get(what)
    }
    fn run_limit(&self) -> usize {
        usize::try_from(self.next_visit - self.visits).unwrap_or(usize::MAX)
    }
    fn mmap_unlocked(&mut self) {
        if self.threads.iter().any(|t| t.waits) {
            self.run();
        }
    }
    fn driver_lock(&mut self) {
        self.driver_held = true;
    }
    fn driver_unlocked(&mut self) {
        self.driver_held = false;
        self.mmap_unlocked();
    }
    fn mmap_write_lock(&mut self) {
        // Who migrates holds the mmap lock for reading until the entries have resolved.
        self.resolve();
    }
    fn pause(&mut self, ns: u64) {
        // A visit is a microsecond; step by step, as many halves happen as would have.
        for _ in 0..ns.div_ceil(1_000_000_000 / VISITS_PER_SEC) {
            self.pass(1, 0);
        }
    }
}
