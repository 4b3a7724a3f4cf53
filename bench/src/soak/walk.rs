//! A walker of the soak: calls of any length, place and wish, with any policy, as fast as they come.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use walker::addr::PageRange;
use walker::backend::{Backend, Capability};
use walker::backends::Visitor;
use walker::counters::{Count, Counters, Erased};
use walker::mirror::RetryPolicy;
use walker::mm::Errno;
use walker::request::{Request, Wish};

use super::world::{Seat, World};
use super::{ATTEMPTS, CALL_PAGES, Mutant, below};
use crate::measure::order::Rng;

/// Counts collisions, and gives the processor away in the middle of a walk now and then: what a walk of microseconds
/// seldom meets, on few processors, otherwise.
struct Unsteady<'a> {
    collisions: u64,
    rng: &'a mut Rng,
}

impl Counters for Unsteady<'_> {
    const ENABLED: bool = false;
    #[inline]
    fn add(&mut self, what: Count, n: u64) {
        match what {
            Count::Retries => self.collisions += n,
            Count::PtesVisited | Count::PmdsVisited if below(self.rng, 256) == 0 => thread::yield_now(),
            _ => {}
        }
    }
    #[inline(always)]
    fn get(&self, _: Count) -> u64 {
        0
    }
    fn run_limit(&self) -> usize {
        64
    }
}

/// A walker until the round stops.
pub(super) struct Walk {
    pub(super) world: Arc<World>,
    pub(super) seat: Arc<Seat>,
    pub(super) range: PageRange,
    pub(super) rng: Rng,
    pub(super) mutant: Mutant,
}

impl Visitor for Walk {
    type Output = ();
    fn visit<B: Backend>(mut self) {
        let mut backend = B::new(CALL_PAGES as usize);
        let wishes: Vec<Wish> = [Wish::None, Wish::Read, Wish::Write]
            .into_iter()
            .filter(|w| {
                let asks = if *w == Wish::None { Capability::Snapshot } else { Capability::Fault };
                B::INFO.lacks(&[asks]).is_none()
            })
            .collect();
        while !self.world.stopped() {
            let n = 1 << below(&mut self.rng, 11);
            let first = below(&mut self.rng, self.range.nr_pages() - n + 1);
            let part = PageRange::pages(self.range.start().add_pages(first), n);
            let wish = wishes[below(&mut self.rng, wishes.len() as u64) as usize];
            let gate = Arc::clone(&self.world.gate);
            let pass = gate.read();
            let r = self.once(&mut backend, &Request::all(part, wish));
            drop(pass);
            let world = &self.world;
            match r {
                Ok(()) => {
                    world.tally.pages.fetch_add(n, Relaxed);
                    world.tally.operations.fetch_add(1, Relaxed);
                }
                Err(Errno::Busy | Errno::Intr) => _ = world.tally.gave_up.fetch_add(1, Relaxed),
                Err(_) => _ = world.tally.refused.fetch_add(1, Relaxed),
            }
        }
    }
}

impl Walk {
    fn once<B: Backend>(&mut self, backend: &mut B, request: &Request<'_>) -> Result<(), Errno> {
        let policies = [RetryPolicy::AtOnce, RetryPolicy::BackOff, RetryPolicy::Resumed, RetryPolicy::Locked];
        let policy = policies[below(&mut self.rng, 4) as usize];
        let mut unsteady = Unsteady { collisions: 0, rng: &mut self.rng };
        let mut c = Erased::new(&mut unsteady);
        let r = match self.mutant {
            Mutant::None => {
                let mirror = &self.seat.mirror;
                mirror.refresh_bounded(backend, request, policy, ATTEMPTS, &mut c, &mut |_, _| {})
            }
            #[cfg(test)]
            Mutant::SkipReadRetry => {
                let sub = self.seat.mirror.subscription();
                backend.prepare(request, &mut c);
                let seq = self.world.mm.notifier.read_begin(sub);
                let r = backend.walk(&self.world.mm, sub, seq, &mut c);
                r.map(|_| backend.consume(&mut self.seat.mirror.device(), &mut c))
            }
        };
        self.world.tally.collisions.fetch_add(unsteady.collisions, Relaxed);
        r
    }
}
