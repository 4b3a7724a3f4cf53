//! The soak: walkers and churn of all kinds at once, with audits, until so many pages were mirrored.
//!
//! Rounds of a fraction of a second take the shapes in turn. In a round, churn threads of every kind that the shape can
//! have play at their doses beside a few walkers, each with a mirror and a design of its own, and two checkers look for
//! what must not be:
//! * the *auditor* takes a driver's lock, and with nothing else standing still compares every entry of that device with
//!   the live tables ([`walker::audit`] says why that must hold at any instant);
//! * the *warden* stops the world at random moments (a gate that every operation passes), and compares everything: every
//!   device, the struct page of every mapped frame, and that no event is left running.
//!
//! Each round ends with both, at quiescence. Odd rounds leave out the kinds that old designs cannot meet, so that every
//! design walks.

mod walk;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use walker::addr::PageRange;
use walker::backend::Info;
use walker::backends;
use walker::mirror::Mirror;
use workloads::churn::{ChurnKind, ChurnSpec, Ground};
use workloads::shape::{AbsentTables, Built, Memory, ShapeSpec};

use self::walk::Walk;
use self::world::{Seat, World};
use crate::measure::churn::Churning;
use crate::measure::member::NOOP;
use crate::measure::order::Rng;
use crate::oracle;

/// How long a round churns.
const ROUND: Duration = Duration::from_millis(400);
/// Bytes of each walked range.
const SIZE: u64 = 8 << 20;
/// Walkers of a round.
const WALKERS: usize = 3;
/// Collisions until a walker gives an operation up.
const ATTEMPTS: u32 = 20;
/// Pages of a walker's largest call.
const CALL_PAGES: u64 = 1024;
/// Violations that are told; more are counted only.
const TOLD: usize = 10;

/// What a soak shall do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pages to mirror under churn.
    pub(crate) pages: u64,
    /// Decides tables, scripts, walks and moments, as far as threads let it.
    pub(crate) seed: u64,
    /// This churn alone; every kind where none is named.
    pub(crate) churn: Vec<ChurnSpec>,
    /// A driver that is broken on purpose.
    pub(crate) mutant: Mutant,
}

/// How the walkers' driver is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// It is not.
    None,
    /// It programs the device without asking `read_retry`.
    #[cfg(test)]
    SkipReadRetry,
}

/// Events of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Events {
    /// That happened.
    pub(crate) events: u64,
    /// That did not: the operation returned an error.
    pub(crate) failures: u64,
}

/// What a soak came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    /// Rounds.
    pub(crate) rounds: u64,
    /// Pages of operations that ended with a valid mirror while churn ran.
    pub(crate) pages_mirrored: u64,
    /// Those operations.
    pub(crate) operations: u64,
    /// Attempts that collided.
    pub(crate) collisions: u64,
    /// Operations that gave up after too many collisions.
    pub(crate) gave_up: u64,
    /// Operations that ended in another error: a right was missing at that moment.
    pub(crate) refused: u64,
    /// By kind of churn.
    pub(crate) events: BTreeMap<&'static str, Events>,
    /// Device tables compared with the live tables, nothing stopped.
    pub(crate) audits: u64,
    /// Valid entries in them.
    pub(crate) entries_audited: u64,
    /// Times the world was stopped, the ends of rounds included.
    pub(crate) stops: u64,
    /// Mapped frames compared with their struct pages then.
    pub(crate) frames_audited: u64,
    /// What must not be: how often.
    pub(crate) nr_violations: u64,
    /// The first of them.
    pub(crate) violations: Vec<String>,
}

/// An address space with its churn.
struct Arena {
    name: &'static str,
    built: Built,
    ground: Ground,
    churn: Vec<ChurnSpec>,
}

/// Shapes that are soaked, by name.
fn shapes() -> [(&'static str, ShapeSpec); 4] {
    let memory = Memory::Pages;
    [
        ("dense_4k", ShapeSpec::Dense4k { run_pages: 1, memory }),
        ("dense_2m", ShapeSpec::Dense2m),
        ("after_fork", ShapeSpec::AfterFork { run_pages: 1, broken_permille: 100, memory }),
        ("absent_4k", ShapeSpec::Absent4k { tables: AbsentTables::Missing }),
    ]
}

/// One churn of every kind: slow enough that most calls get through beside all of them.
fn every_kind() -> Vec<ChurnSpec> {
    let of = |kind: &ChurnKind| {
        let rest = match kind {
            ChurnKind::Split | ChurnKind::Collapse => "2MiB-o90-uniform-400ps-t1",
            ChurnKind::Fork => "64KiB-o90-uniform-200ps-t1",
            ChurnKind::Mprotect | ChurnKind::NumaHint => "256KiB-o90-zipf-1500ps-t1",
            _ => "64KiB-o90-uniform-4000ps-t1",
        };
        format!("{}-{rest}", kind.name()).parse().ok()
    };
    ChurnKind::ALL.iter().filter_map(of).collect()
}

fn arenas(plan: &Plan) -> Result<Vec<Arena>> {
    let wanted = if plan.churn.is_empty() { every_kind() } else { plan.churn.clone() };
    let mut arenas = Vec::new();
    let mut refused = Vec::new();
    for (name, shape) in shapes() {
        let mut arena: Option<Arena> = None;
        for &churn in &wanted {
            // The first churn that the shape can have builds it; whether it can have the others is asked of copies.
            match Ground::build(&shape, SIZE, plan.seed, churn) {
                Ok((built, ground)) => match &mut arena {
                    Some(arena) => {
                        arena.churn.push(churn);
                        built.discard();
                    }
                    None => arena = Some(Arena { name, built, ground, churn: vec![churn] }),
                },
                Err(e) => refused.push(format!("{name}: {e}")),
            }
        }
        arenas.extend(arena);
    }
    if arenas.is_empty() {
        bail!("no shape can have this churn:\n{}", refused.join("\n"));
    }
    Ok(arenas)
}

/// Soaks. `progress` gets the pages mirrored so far after each round; `stop` is asked then too.
///
/// # Errors
/// What keeps it from running. What it finds is part of the outcome.
pub(crate) fn soak(plan: &Plan, progress: &dyn Fn(u64), stop: &dyn Fn() -> bool) -> Result<Outcome> {
    let arenas = arenas(plan)?;
    let mut outcome = Outcome::default();
    let mut rng = Rng::new(plan.seed, "soak");
    while outcome.pages_mirrored < plan.pages && outcome.nr_violations == 0 && !stop() {
        let arena = &arenas[outcome.rounds as usize % arenas.len()];
        let all_kinds = (outcome.rounds / arenas.len() as u64).is_multiple_of(2);
        round(arena, plan, all_kinds, &mut rng, &mut outcome)
            .with_context(|| format!("round {} on {}", outcome.rounds, arena.name))?;
        outcome.rounds += 1;
        progress(outcome.pages_mirrored);
    }
    arenas.into_iter().for_each(|a| a.built.discard());
    Ok(outcome)
}

fn round(arena: &Arena, plan: &Plan, all_kinds: bool, rng: &mut Rng, outcome: &mut Outcome) -> Result<()> {
    let needs_nothing = |c: &&ChurnSpec| c.requires().is_empty();
    let mut churn: Vec<ChurnSpec> =
        arena.churn.iter().filter(|c| all_kinds || needs_nothing(c)).copied().collect();
    if churn.is_empty() {
        churn.clone_from(&arena.churn);
    }
    let fits = |b: &&Info| b.id != NOOP && churn.iter().all(|c| b.lacks(c.requires()).is_none());
    let designs: Vec<&'static Info> = backends::ALL.iter().filter(fits).collect();
    let world = Arc::new(World::new(&arena.ground.mm));
    // A mirror for each walker, made and removed beside whatever runs.
    let seats: Vec<Arc<Seat>> = (0..WALKERS)
        .map(|_| {
            let backend = designs[below(rng, designs.len() as u64) as usize];
            let rules = oracle::audit_rules(backend.id, 0);
            Arc::new(Seat { backend, mirror: Mirror::new(&world.mm, arena.built.range), rules })
        })
        .collect();
    let mut churning = Vec::new();
    for &spec in &churn {
        let gate = Some(Arc::clone(&world.gate));
        churning.push((spec, Churning::start_gated(&arena.ground, spec, rng.next(), &[], gate)?));
    }
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let begun = Instant::now();
    let spawned = spawn(&mut threads, &world, &seats, arena.built.range, rng, plan.mutant);
    if spawned.is_ok() {
        thread::sleep(ROUND.saturating_sub(begun.elapsed()));
    }
    world.stop.store(true, Release);
    for thread in threads {
        if thread.join().is_err() {
            bail!("a thread of the soak panicked");
        }
    }
    spawned?;
    for (spec, churning) in churning {
        let tally = churning.stop().tally;
        let events = outcome.events.entry(spec.kind.name()).or_default();
        events.events += tally.events;
        events.failures += tally.failures;
    }
    world.audit_all(&seats, "at quiescence");
    outcome.add(&world);
    Ok(())
}

/// Below `n`; the bias of the modulo does not matter here.
fn below(rng: &mut Rng, n: u64) -> u64 {
    rng.next() % n
}

/// Starts the walkers and the checkers.
fn spawn(
    threads: &mut Vec<JoinHandle<()>>,
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    range: PageRange,
    rng: &mut Rng,
    mutant: Mutant,
) -> Result<()> {
    let mut start = |name: String, run: Box<dyn FnOnce() + Send>| -> Result<()> {
        let thread = thread::Builder::new().name(name.clone()).spawn(run);
        threads.push(thread.with_context(|| format!("starting the {name}"))?);
        Ok(())
    };
    for (i, seat) in seats.iter().enumerate() {
        let (world, seat) = (Arc::clone(world), Arc::clone(seat));
        let (id, rng) = (seat.backend.id, Rng::new(rng.next(), ""));
        let walk = Walk { world, seat, range, rng, mutant };
        start(format!("walker {i}"), Box::new(move || _ = backends::dispatch(id, walk)))?;
    }
    let (w, all, mut moments) = (Arc::clone(world), seats.to_vec(), Rng::new(rng.next(), ""));
    start(
        "auditor".to_owned(),
        Box::new(move || {
            while !w.stopped() {
                w.audit(&all[below(&mut moments, all.len() as u64) as usize], "at an instant");
                thread::sleep(Duration::from_micros(below(&mut moments, 3000)));
            }
        }),
    )?;
    let (w, all, mut moments) = (Arc::clone(world), seats.to_vec(), Rng::new(rng.next(), ""));
    start(
        "warden".to_owned(),
        Box::new(move || {
            while !w.stopped() {
                thread::sleep(Duration::from_micros(below(&mut moments, 40_000)));
                let gate = Arc::clone(&w.gate);
                let _closed = gate.write();
                w.audit_all(&all, "with the world stopped");
            }
        }),
    )
}

impl Outcome {
    fn add(&mut self, world: &World) {
        let of = |n: &AtomicU64| n.load(Relaxed);
        self.pages_mirrored += of(&world.tally.pages);
        self.operations += of(&world.tally.operations);
        self.collisions += of(&world.tally.collisions);
        self.gave_up += of(&world.tally.gave_up);
        self.refused += of(&world.tally.refused);
        self.audits += of(&world.tally.audits);
        self.entries_audited += of(&world.tally.entries);
        self.stops += of(&world.tally.stops);
        self.frames_audited += of(&world.tally.frames);
        self.nr_violations += of(&world.tally.nr_found);
        self.violations.extend(world.found.lock().drain(..));
        self.violations.truncate(TOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pages: u64, mutant: Mutant) -> Plan {
        Plan { pages, seed: 5, churn: Vec::new(), mutant }
    }

    #[test]
    fn a_short_soak_finds_nothing_and_does_everything() {
        // Through every shape, with all kinds and with those that every design can meet.
        let left = std::cell::Cell::new(8);
        let more = || left.replace(left.get() - 1) == 0;
        let outcome = soak(&plan(u64::MAX, Mutant::None), &|_| {}, &more).unwrap();
        assert_eq!(outcome.nr_violations, 0, "{outcome:#?}");
        assert_eq!(outcome.events.len(), ChurnKind::ALL.len(), "{outcome:#?}");
        assert!(outcome.events.values().all(|e| e.events > 0), "{outcome:#?}");
        assert!(outcome.pages_mirrored > 0 && outcome.entries_audited > 0, "{outcome:#?}");
        assert!(outcome.stops > outcome.rounds && outcome.frames_audited > 0, "{outcome:#?}");
    }

    #[test]
    fn a_driver_that_skips_read_retry_is_caught() {
        let outcome = soak(&plan(1 << 32, Mutant::SkipReadRetry), &|_| {}, &|| false).unwrap();
        assert!(outcome.nr_violations > 0, "{outcome:#?}");
    }

    #[test]
    fn churn_that_no_shape_can_have_is_refused_with_the_reason() {
        let churn = vec!["zap-1GiB-o100-uniform-max-t1".parse().unwrap()];
        let plan = Plan { churn, ..plan(1, Mutant::None) };
        let error = soak(&plan, &|_| {}, &|| false).unwrap_err().to_string();
        assert!(error.contains("dense_2m: ") && error.contains("no longer than the size"), "{error}");
    }
}
