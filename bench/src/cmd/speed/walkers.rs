//! The lines about two walkers, each on its half of the range and on a processor of its own, against one on a half
//! alone: what they share costs them what is missing from twice as much.

use std::sync::Arc;

use anyhow::{Context, Result};
use walker::backends;
use workloads::request::RequestKind;
use workloads::shape::{Memory, ShapeSpec};

use super::lines::{IN_L2, IN_MEMORY, Line, middle};
use crate::measure::backend_member::MakeMember;
use crate::measure::clock::Clock;
use crate::measure::crew::Crew;
use crate::measure::member::{Member, Turn, What};
use crate::measure::order::{Rng, Turns};
use crate::measure::runner::Stage;
use crate::measure::scene::{Recipe, Window};
use crate::measure::visit::Seats;
use crate::measure::watch::Watch;
use crate::os::pinning;

const WALKERS: u32 = 2;
const ROUNDS: u32 = 41;
/// Pages a call: what a driver asks for, where every call writes two words that all calls of the process share (the mmap
/// lock's count, and the notifiers' lock in read_begin), and so many that only the walk itself shows.
const CALL_PAGES: [u64; 2] = [512, 16384];
/// Of one walker's throughput.
const GOAL: f64 = 1.9;

/// A snapshot by two walkers, in the caches and in memory.
///
/// # Errors
/// When tables cannot be built, or threads cannot be started.
pub(super) fn lines(seed: u64, clock: Clock) -> Result<Vec<Line>> {
    let cpus = pinning::allowed();
    if cpus.len() < WALKERS as usize {
        return Ok(vec![Line::failed(
            TITLE,
            format!("{TITLE}: expected {WALKERS} processors, there is one"),
        )]);
    }
    let seats = Seats::new(&cpus);
    pinning::pin(seats.walkers(1)[0]);
    let crew = Arc::new(Crew::start(&seats.walkers(WALKERS))?);
    // As many sweeps as make a block of a millisecond or so.
    let mut lines = Vec::new();
    for (size, place, sweeps) in [(IN_L2, "L2", 32), (IN_MEMORY, "memory", 1)] {
        for call_pages in CALL_PAGES {
            let title = format!("{TITLE}, {call_pages} a call, {place}");
            lines.push(line(&title, size, call_pages, sweeps, (seed, clock), &crew)?);
        }
    }
    Ok(lines)
}

const TITLE: &str = "4K, two walkers";

fn line(
    title: &str,
    size_bytes: u64,
    call_pages: u64,
    sweeps: u32,
    (seed, clock): (u64, Clock),
    crew: &Arc<Crew>,
) -> Result<Line> {
    let recipe = Recipe {
        shape: ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables },
        size_bytes,
        request: RequestKind::Snapshot,
        call_pages,
        walkers: WALKERS,
        churn: None,
        seed,
    };
    let mut stage = Stage::new(recipe, None)?;
    let plain = MakeMember::plain(call_pages, clock);
    let together = MakeMember { crew: Some(Arc::clone(crew)), ..plain.clone() };
    let member = |make| backends::dispatch("map_order", make).context("map_order: no such backend");
    let mut members: [Box<dyn Member>; 2] = [member(plain)?, member(together)?];
    let watch = &mut Watch::without_counters();
    let mut turns = Turns::new(Rng::new(seed, title), members.len());
    let (mut alone, mut each, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        let mut ns = [0.0; 2];
        for m in turns.round() {
            let turn = Turn {
                what: What::Call,
                sweeps,
                window: Window::WHOLE,
                batch: 1,
                counting: false,
                churning: None,
            };
            let timing = stage.block(members[m].as_mut(), turn, watch)??;
            ns[m] = timing.thread_ns.iter().copied().max().unwrap_or(timing.ns) as f64;
        }
        if round > 0 {
            let half = (size_bytes >> 12) as f64 / f64::from(WALKERS) * f64::from(sweeps);
            alone.push(ns[0] / half);
            each.push(ns[1] / half);
            gains.push(f64::from(WALKERS) * ns[0] / ns[1]);
        }
    }
    Ok(Line {
        what: title.to_owned(),
        who: "map_order".to_owned(),
        value: middle(gains),
        unit: "x one walker",
        goal: Some(GOAL),
        more_is_better: true,
        ns_per_page: middle(each),
        limit_ns_per_page: middle(alone),
        ..Line::default()
    }
    .judged())
}
