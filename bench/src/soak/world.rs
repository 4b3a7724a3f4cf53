//! What the threads of a round share, and both audits of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use walker::audit::{self, Rules};
use walker::backend::Info;
use walker::mirror::Mirror;
use walker::mm::Mm;
use walker::sync::{Mutex, RwLock};

use super::TOLD;
use crate::measure::churn::Gate;

/// What the threads of a round share.
pub(super) struct World {
    /// The address space.
    pub(super) mm: Arc<Mm>,
    /// Every operation passes it; closed, the world stands still.
    pub(super) gate: Gate,
    /// The round is over.
    pub(super) stop: AtomicBool,
    /// What happened so far.
    pub(super) tally: Tally,
    /// The first violations.
    pub(super) found: Mutex<Vec<String>>,
}

/// Fields as in [`super::Outcome`].
#[derive(Default)]
pub(super) struct Tally {
    pub(super) pages: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) collisions: AtomicU64,
    pub(super) gave_up: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) audits: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) stops: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) nr_found: AtomicU64,
}

impl World {
    pub(super) fn new(mm: &Arc<Mm>) -> World {
        World {
            mm: Arc::clone(mm),
            gate: Arc::new(RwLock::new(())),
            stop: AtomicBool::new(false),
            tally: Tally::default(),
            found: Mutex::new(Vec::new()),
        }
    }
    pub(super) fn violation(&self, what: String) {
        self.tally.nr_found.fetch_add(1, Relaxed);
        let mut found = self.found.lock();
        if found.len() < TOLD {
            found.push(what);
        }
    }
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Acquire)
    }
    /// One device against the live tables.
    pub(super) fn audit(&self, seat: &Seat, when: &str) {
        // The driver's lock for as long as it takes to compare, and nothing else.
        let table = seat.mirror.device();
        let held = audit::device(&self.mm, &table, table.range(), seat.rules);
        drop(table);
        self.tally.audits.fetch_add(1, Relaxed);
        match held {
            Ok(n) => _ = self.tally.entries.fetch_add(n, Relaxed),
            Err(v) => self.violation(format!("{when}, {}: {v}", seat.backend.id)),
        }
    }
    /// Everything, with the world stopped by the caller.
    pub(super) fn audit_all(&self, seats: &[Arc<Seat>], when: &str) {
        seats.iter().for_each(|seat| self.audit(seat, when));
        self.tally.stops.fetch_add(1, Relaxed);
        match audit::pages(&self.mm) {
            Ok(n) => _ = self.tally.frames.fetch_add(n, Relaxed),
            Err(m) => self.violation(format!("{when}: {m}")),
        }
        let (seq, events) = self.mm.notifier.debug_state();
        if events != 0 || seq % 2 != 0 {
            self.violation(format!("{when}: {events} events are running, sequence {seq}"));
        }
    }
}

/// A walker's place: a mirror and the design that fills it.
pub(super) struct Seat {
    pub(super) backend: &'static Info,
    pub(super) mirror: Mirror,
    pub(super) rules: Rules,
}
