//! Cells under churn, in virtual time: every count exact, and the device right at every moment.
//!
//! A cell sweeps its range a few times. After each mirror that holds, the answer is compared with the oracle's (strictly
//! if nothing happened during the operation, else as far as it gives anything) and the device table with the tables; at
//! the end, with everything undone, also the struct pages. An operation that gives up is a count, not a difference.

use anyhow::{Result, anyhow, bail};
use walker::addr::PageRange;
use walker::audit::{self, Rules};
use walker::backend::Backend;
use walker::backends::{self, Visitor};
use walker::counters::{Counts, Erased};
use walker::mirror::Mirror;
use walker::mm::{Errno, Mm};
use walker::request::Request;
use workloads::churn::{ChurnKind, ChurnSpec, Ground, VirtualTime};
use workloads::definition::{self, Definition, Point, Profile};
use workloads::request::RequestKind;

use crate::measure::matrix::{self, Group};
use crate::measure::member::NOOP;
use crate::oracle;

/// Sweeps over the range.
const SWEEPS: u32 = 6;
/// Collisions after which an operation gives up, where the definition has more patience.
const ATTEMPTS: u32 = 50;
/// What only a checked cell counts.
pub(super) const AUDITED: &str = "entries_audited";

/// What a cell under churn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Churned {
    /// Exact counts of the walks.
    pub(super) counts: Counts,
    /// See [`oracle::may_lose_wishes`].
    pub(super) lost_wishes: u64,
    /// Name and number of what else was counted.
    pub(super) script: [(&'static str, u64); 6],
}

/// Cells of every kind, whatever the definitions have: the workload that the kind needs, an open dose, a closed one.
const KINDS: [(ChurnKind, &str, &str, &str); 9] = [
    (ChurnKind::Zap, "dense_4k", "64KiB", "1400ps"),
    (ChurnKind::Mprotect, "dense_4k", "64KiB", "1400ps"),
    (ChurnKind::Fork, "after_fork_10pct", "64KiB", "500ps"),
    (ChurnKind::Split, "dense_2m", "2MiB", "150000ps"),
    (ChurnKind::Collapse, "dense_4k", "2MiB", "1400ps"),
    (ChurnKind::Migrate, "dense_4k", "64KiB", "1400ps"),
    (ChurnKind::Pageout, "dense_4k", "64KiB", "1400ps"),
    (ChurnKind::NumaHint, "dense_4k", "2MiB", "1400ps"),
    (ChurnKind::DeviceMigrate, "dense_4k", "64KiB", "1400ps"),
];

const SIZE: u64 = 4 << 20;
const CALLS: [u64; 2] = [7, 512];
const REQUESTS: [RequestKind; 3] = [RequestKind::Snapshot, RequestKind::FaultRead, RequestKind::FaultWrite];

/// The groups of every kind, and those that definitions have under churn, at their smallest size.
pub(super) fn groups(wanted: &dyn Fn(&str) -> bool) -> Vec<Group> {
    let mut chosen: Vec<Group> = Vec::new();
    let mut add = |definition: &'static Definition, request, size_bytes, call_pages, churn: ChurnSpec| {
        if churn.refuses_request(request).is_none() {
            let point = Point { size_bytes, call_pages, churn: Some(churn), walkers: 1 };
            chosen.extend(matrix::group(definition, request, point, wanted));
        }
    };
    for (kind, workload, span, open) in KINDS {
        let Some(definition) = definition::find(workload) else { continue };
        for rest in [format!("{span}-o50-zipf-{open}-t2"), format!("{span}-o100-uniform-every5-t1")] {
            let Ok(churn) = format!("{}-{rest}", kind.name()).parse::<ChurnSpec>() else { continue };
            for request in REQUESTS {
                CALLS.iter().for_each(|&call| add(definition, request, SIZE, call, churn));
            }
        }
    }
    for definition in definition::definitions() {
        let grid = [Profile::Smoke, Profile::Quick, Profile::Full]
            .map(|p| definition.grid(p))
            .into_iter()
            .find(|g| g.churn.iter().any(Option::is_some) && !g.sizes.is_empty());
        let Some(grid) = grid else { continue };
        let size = grid.sizes[0];
        for churn in grid.churn.iter().flatten() {
            for &request in &definition.requests {
                let calls = grid.call_pages.iter().filter(|c| **c << 12 <= size);
                calls.for_each(|&call| add(definition, request, size, call, *churn));
            }
        }
    }
    chosen
}

/// Walks one cell; with `is_checked` its answers are compared and its device is audited on the way, which changes no
/// count but that of the entries audited.
///
/// # Errors
/// What differs, or what an API returned.
pub(super) fn cell(
    group: &Group,
    churn: ChurnSpec,
    backend: &str,
    seed: u64,
    is_checked: bool,
) -> Result<Churned> {
    let Some(result) = backends::dispatch(backend, Cell { group, churn, seed, is_checked }) else {
        bail!("no backend {backend}");
    };
    result
}

struct Cell<'a> {
    group: &'a Group,
    churn: ChurnSpec,
    seed: u64,
    is_checked: bool,
}

impl Visitor for Cell<'_> {
    type Output = Result<Churned>;
    fn visit<B: Backend>(self) -> Result<Churned> {
        let Cell { group, churn, seed, is_checked } = self;
        let (built, ground) = Ground::build(&group.definition.shape, group.size_bytes, seed, churn)?;
        let ground = ground.walked_by(group.request);
        let mut sweeps = Sweeps {
            mirror: Mirror::new(&built.mm, built.range),
            mm: &built.mm,
            rules: oracle::audit_rules(B::INFO.id, 0),
            time: VirtualTime::new(churn, &ground, seed),
            backend: B::new(group.call_pages as usize),
            is_checked,
            lost_wishes: 0,
            gave_up: 0,
            audited: 0,
        };
        let result = sweeps.run(group, built.range, seed);
        let Sweeps { time, lost_wishes, gave_up, audited, mirror, .. } = sweeps;
        drop(mirror);
        let played = time.played();
        let churned = Churned {
            counts: time.counts().clone(),
            lost_wishes,
            script: [
                ("churn_events", played.events),
                ("churn_failures", played.failures),
                ("churn_undone", played.undone),
                ("churn_waited", played.waited),
                ("gave_up", gave_up),
                (AUDITED, audited),
            ],
        };
        built.discard();
        result.map(|()| churned)
    }
}

struct Sweeps<'a, B> {
    mirror: Mirror,
    mm: &'a Mm,
    rules: Rules,
    time: VirtualTime,
    backend: B,
    is_checked: bool,
    lost_wishes: u64,
    gave_up: u64,
    audited: u64,
}

impl<B: Backend> Sweeps<'_, B> {
    fn run(&mut self, group: &Group, range: PageRange, seed: u64) -> Result<()> {
        let wishes = group.request.wishes(range.nr_pages(), seed);
        for _ in 0..SWEEPS {
            let mut first = 0;
            while first < range.nr_pages() {
                let n = group.call_pages.min(range.nr_pages() - first);
                let part = PageRange::pages(range.start().add_pages(first), n);
                let own = wishes.as_deref().map(|w| &w[first as usize..(first + n) as usize]);
                for request in group.request.requests(part, own) {
                    self.call(group, &request)?;
                }
                first += n;
            }
        }
        self.time.finish();
        self.audit(range)?;
        if self.is_checked {
            audit::pages(self.mm).map_err(|m| anyhow!("in the end: {m}"))?;
        }
        let (seq, events) = self.mm.notifier.debug_state();
        if events != 0 || seq % 2 != 0 {
            bail!("in the end: {events} events never ended");
        }
        Ok(())
    }

    fn call(&mut self, group: &Group, request: &Request<'_>) -> Result<()> {
        let retry = group.definition.retry;
        let (mm, played, before) = (self.mm, self.time.watch(), self.time.played());
        let is_checked = self.is_checked && B::INFO.id != NOOP;
        let (mut lost, mut wrong) = (0, None);
        let mut held = |backend: &B, part: &Request<'_>| {
            // What says nothing cannot be wrong.
            if !is_checked || wrong.is_some() {
                return;
            }
            let first = part.range.start().pages_since(backend.range().start()) as usize;
            let view = |i: usize| backend.view(first + i);
            let checked = if played.get() == before {
                oracle::check(mm, part, view, B::INFO.id).map(|d| d.lost_wishes)
            } else {
                oracle::check_gives(mm, part, view, B::INFO.id)
            };
            match checked {
                Ok(n) => lost += n,
                Err(m) => wrong = Some(m),
            }
        };
        let attempts = retry.attempts.min(ATTEMPTS);
        let (backend, time) = (&mut self.backend, &mut Erased::new(&mut self.time));
        let r = self.mirror.refresh_bounded(backend, request, retry.policy, attempts, time, &mut held);
        self.lost_wishes += lost;
        if let Some(m) = wrong {
            bail!("{m}");
        }
        match r {
            Ok(()) => {}
            // -EINTR: a design that would go round in the call for ever, as if its caller were killed.
            Err(Errno::Busy | Errno::Intr) => self.gave_up += 1,
            Err(e) => bail!("the call returned {e}"),
        }
        self.audit(request.range)
    }

    fn audit(&mut self, part: PageRange) -> Result<()> {
        if !self.is_checked {
            return Ok(());
        }
        let held = audit::device(self.mm, &self.mirror.device(), part, self.rules);
        self.audited += held.map_err(|v| anyhow!("audit: {v}"))?;
        Ok(())
    }
}
