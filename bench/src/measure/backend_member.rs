//! A backend as a member: one walker on the launch's own thread, or several on a crew's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use walker::backend::{Backend, Kind, PageView};
use walker::backends::Visitor;
use walker::counters::{Counts, Erased};
use walker::mirror::RetryPolicy;
use walker::mm::Errno;
use walker::request::Request;
use workloads::definition::Retry;

use super::clock::Clock;
use super::crew::{Crew, Meeting};
use super::lane::{Lane, LaneTiming, Work};
use super::member::{Checked, Member, NOOP, Plant, Timing, Turn};
use super::scene::Scene;
use super::watch::{Observed, Watch};
use crate::oracle;

/// Collisions after which an operation counts as given up, whatever the definition says: a walker that starves must not
/// hang the run. The calls of 4.14 to 5.5 start over inside and have a bound of their own there (`SPINS` of the walker's
/// `hmm_old.rs`).
const STARVED: u32 = 1 << 14;

/// Makes the member for the backend that it is dispatched to.
#[derive(Clone)]
pub(crate) struct MakeMember {
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// The clock of its spans.
    pub(crate) clock: Clock,
    /// After a collision.
    pub(crate) retry: Retry,
    /// Threads that walk; none for one walker on the calling thread.
    pub(crate) crew: Option<Arc<Crew>>,
    /// What its name has after the backend's.
    pub(crate) suffix: &'static str,
    /// What it does beyond its work.
    pub(crate) plant: Plant,
}

impl MakeMember {
    /// One walker, nothing special.
    pub(crate) fn plain(call_pages: u64, clock: Clock) -> MakeMember {
        MakeMember {
            call_pages,
            clock,
            retry: Retry::default(),
            crew: None,
            suffix: "",
            plant: Plant::default(),
        }
    }
}

impl Visitor for MakeMember {
    type Output = Box<dyn Member>;
    fn visit<B: Backend>(self) -> Box<dyn Member> {
        Box::new(BackendMember::<B>::new(self))
    }
}

/// A backend with its walkers.
pub(crate) struct BackendMember<B> {
    name: String,
    lanes: Arc<Vec<Mutex<Lane<B>>>>,
    make: MakeMember,
}

fn lock<T>(lane: &Mutex<T>) -> MutexGuard<'_, T> {
    // A lane whose thread panicked has arrays of no promise, but no broken ones.
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend> BackendMember<B> {
    fn new(make: MakeMember) -> Self {
        let walkers = make.crew.as_ref().map_or(1, |crew| crew.len());
        let lanes = (0..walkers).map(|_| Mutex::new(Lane::new(make.call_pages))).collect();
        BackendMember { name: format!("{}{}", B::INFO.id, make.suffix), lanes: Arc::new(lanes), make }
    }
    fn together(
        &self,
        crew: &Crew,
        scene: &Arc<Scene>,
        work: Work,
        counting: bool,
    ) -> Result<Vec<(Result<LaneTiming, Errno>, Observed)>> {
        let (lanes, scene) = (Arc::clone(&self.lanes), Arc::clone(scene));
        let meeting = Meeting::new(crew.len());
        crew.run(move |i, watch| {
            let mut lane = lock(&lanes[i]);
            watch.around(counting, || lane.block(&scene, i, &work, Some(&meeting)))
        })
    }
}

/// An answer, looked at after each call: the request, and slot i in the common vocabulary.
type Look<'a> = dyn FnMut(&Request<'_>, &dyn Fn(usize) -> PageView) -> Result<()> + 'a;

impl<B: Backend> BackendMember<B> {
    /// Goes over the range once, counts exactly, and looks at every answer. Not inlined: one instance a design.
    #[inline(never)]
    fn sweep(&mut self, scene: &Scene, look: &mut Look<'_>) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut lane = lock(&self.lanes[0]);
        let policy = RetryPolicy::Attempts(1 << 20);
        for k in 0..scene.nr_calls() {
            let request = scene.request(k);
            scene
                .mirror(scene.lane_of(k))
                .refresh(&mut lane.backend, &request, policy, &mut Erased::new(&mut counts))
                .map_err(failed)?;
            look(&request, &|i| lane.backend.view(i))?;
        }
        Ok(counts)
    }
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// A slot into a hash of answers: everything but the frame's number. Which frame a fault gets is the allocator's matter,
/// and whether it is the right one is the oracle's.
fn hashed(hash: u64, view: PageView) -> u64 {
    let maybe = |b: Option<bool>| b.map_or(2, u64::from);
    let word = match view {
        PageView::Absent => 0,
        PageView::Error => 1,
        PageView::Unreached => 2,
        PageView::Mapped { pfn: _, write, order, compound, device } => {
            let order = order.map_or(63, u64::from);
            3 | order << 2 | maybe(write) << 8 | maybe(compound) << 10 | maybe(device) << 12
        }
    };
    (hash ^ word).wrapping_mul(0x100_0000_01b3)
}

impl<B: Backend> Member for BackendMember<B> {
    fn name(&self) -> &str {
        &self.name
    }
    fn is_backend(&self) -> bool {
        true
    }
    fn is_compared(&self) -> bool {
        B::INFO.kind != Kind::Control || B::INFO.id == NOOP
    }
    fn block(&mut self, scene: &Arc<Scene>, turn: Turn, watch: &mut Watch) -> Result<Timing> {
        let Turn { what, sweeps, window, batch, counting, churning } = turn;
        let MakeMember { plant, retry, clock, .. } = self.make;
        let retry = Retry { attempts: retry.attempts.min(STARVED), ..retry };
        let work = Work { what, sweeps, window, plant, batch, retry, clock, churning };
        let lanes = match &self.make.crew {
            Some(crew) => self.together(crew, scene, work, counting)?,
            None => {
                let mut lane = lock(&self.lanes[0]);
                vec![watch.around(counting, || lane.block(scene, 0, &work, None))]
            }
        };
        let mut timing =
            Timing { observed: Observed { switches: Some(0), ..Observed::default() }, ..Timing::default() };
        let several = lanes.len() > 1;
        for (lane, observed) in lanes {
            let lane = lane.map_err(failed)?;
            timing.ns += lane.ns;
            if several {
                timing.thread_ns.push(lane.ns);
            }
            if let Some(stages) = lane.stages {
                timing.stages.get_or_insert_default().add(&stages);
            }
            if let Some(apart) = lane.apart {
                timing.apart.get_or_insert_default().add(&apart);
            }
            timing.collisions.add(&lane.collisions);
            timing.observed.add(observed);
        }
        Ok(timing)
    }
    fn checked(&mut self, scene: &Scene) -> Result<Option<Checked>> {
        let mut checked = Checked::default();
        checked.counts = self.sweep(scene, &mut |request, view| {
            // What says nothing cannot be wrong.
            if B::INFO.id != NOOP {
                let compared = oracle::check(scene.mm(), request, view, B::INFO.id);
                let deviations = compared.map_err(|m| anyhow!(m))?;
                checked.lost_wishes += deviations.lost_wishes;
                checked.hints_reported += deviations.hints_reported;
            }
            Ok(())
        })?;
        Ok(Some(checked))
    }
    fn counted(&mut self, scene: &Scene) -> Result<Counts> {
        self.sweep(scene, &mut |_, _| Ok(()))
    }
    fn answers(&mut self, scene: &Scene) -> Result<u64> {
        let mut hash = FNV_BASIS;
        self.sweep(scene, &mut |request, view| {
            (0..request.range.nr_pages() as usize).for_each(|i| hash = hashed(hash, view(i)));
            Ok(())
        })?;
        Ok(hash)
    }
    fn operations(&self) -> Option<Histogram<u64>> {
        let mut all = lock(&self.lanes[0]).operations.clone();
        for lane in &self.lanes[1..] {
            // The same bounds: nothing to refuse.
            let _ = all.add(&lock(lane).operations);
        }
        Some(all)
    }
}

fn failed(e: Errno) -> anyhow::Error {
    anyhow!("the call returned {e}")
}
