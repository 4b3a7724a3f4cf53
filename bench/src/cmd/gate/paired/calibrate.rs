//! Every cell once, before anything is compared: do both sides give the same answers? How long are blocks, how long rounds?

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Bench, CONTROL, Cell, FAULTING_CONTROL, Sides};
use crate::cmd::gate::side::Failure;
use crate::gate::protocol::{Answers, Prepared, Ran};
use crate::gate::rounds::{Compared, Metric, Role};
use crate::interrupt;
use crate::measure::matrix::Group;
use crate::tables;

/// What a block should last. Six of 0.5 ms tell four times as much as one of 3 ms beside compilers on two processors.
const BLOCK_NS: u64 = 500_000;
/// What a round of a [`Rule`] is worth: as many rounds of shorter blocks as take a side so long.
const ROUND_NS: u64 = 3_000_000;
/// What a round may last, resets between sweeps included, if fewer sweeps can help it.
const LONGEST_ROUND: Duration = Duration::from_millis(60);
/// What a part of a sweep should last at least: what the other side left of the caches is gone by then.
const PART_NS: u64 = 50_000;
/// A sweep is cut into so many at least, of which the first does not count.
const FEWEST_PARTS: u64 = 2;
/// Operations of a block that a p99 is made of: the ten slowest of them decide it.
const TAIL_OPERATIONS: u64 = 1000;

impl Bench<'_> {
    /// Every cell once on both sides: the same answers? How long are blocks?
    pub(super) fn calibrate(
        &mut self,
        sides: &mut Sides,
        left_out: &mut Vec<(String, String)>,
    ) -> Result<Option<Vec<Cell>>> {
        let mut cells = Vec::new();
        let mut other_work = Vec::new();
        let mut wanted: Vec<(String, Role)> =
            self.plan.cells.iter().map(|c| (c.clone(), Role::Cell)).collect();
        self.rng.shuffle(&mut wanted);
        wanted.push((FAULTING_CONTROL.to_owned(), Role::Null));
        // The last one, of which the planted control is made.
        wanted.push((CONTROL.to_owned(), Role::Null));
        let (calibrating, all) = (Instant::now(), wanted.len());
        for (done, (id, role)) in wanted.into_iter().enumerate() {
            if interrupt::is_asked() {
                return Ok(None);
            }
            self.can_be_enough(&cells, (done, all), calibrating)?;
            self.progress.step(self.steps, &format!("trying {id}"));
            self.steps += 1;
            let group = id.rsplit_once('/').and_then(|(group, _)| Group::parse(group));
            let churn = group.and_then(|g| g.churn);
            let compared = Compared { id: id.clone(), role, sweeps: 1, metric: Metric::Block };
            let mut cell =
                Cell { compared, churn, set_up: Duration::ZERO, round: Duration::ZERO, times: 1, parts: 0 };
            let (old, new, _) = cell.who();
            let began = Instant::now();
            let prepared = match self.prepare(sides, new, 0, &id) {
                Ok(new) => new,
                Err(e) => {
                    return Err(anyhow::Error::from(e).context(format!("{id}: this program cannot do it")));
                }
            };
            let before = match self.prepare(sides, old, 0, &id) {
                Ok(prepared) => prepared,
                Err(Failure::Refused(why)) => {
                    left_out.push((id, format!("the baseline cannot do it: {why}")));
                    continue;
                }
                Err(Failure::Broken(e)) => return Err(e.context(id)),
            };
            cell.set_up = began.elapsed();
            self.spent.setting_up_s += cell.set_up.as_secs_f64();
            let ask = |sides: &mut Sides, who| -> Result<Answers> {
                sides.side(who).ask("answers").map_err(|e| cell.failed(e))
            };
            let answers = (ask(sides, old)?, ask(sides, new)?);
            if answers.0 != answers.1 || (before.calls, before.pages) != (prepared.calls, prepared.pages) {
                other_work.push(id);
                continue;
            }
            let block_ns = self.block_length(sides, &mut cell, &prepared)?;
            // The first time takes memory that the system has to find first, the later ones what was given back.
            let again = Instant::now();
            for who in [old, new] {
                self.prepare(sides, who, 0, &id).map_err(|e| cell.failed(e))?;
            }
            self.spent.setting_up_s += again.elapsed().as_secs_f64();
            cell.set_up = cell.set_up.min(again.elapsed());
            let sweep_ns = block_ns / u64::from(cell.compared.sweeps);
            self.parts(sides, &mut cell, sweep_ns, before.parts.min(prepared.parts))?;
            if role == Role::Cell && self.plan.tails.is_match(&id) {
                match self.tail(sides, &cell, &prepared)? {
                    Ok(tail) => cells.extend([cell, tail]),
                    Err(why) => {
                        left_out.push((Metric::P99.label(&id), why));
                        cells.push(cell);
                    }
                }
                continue;
            }
            cells.push(cell);
        }
        if !other_work.is_empty() {
            bail!(
                "{} with other answers than the baseline's, so their times say nothing of each other: {}{}\n\
                 `walkbench verify` says whether this program's are right; --filter leaves cells out",
                tables::cells(other_work.len()),
                other_work.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", "),
                if other_work.len() > 5 { ", ..." } else { "" }
            );
        }
        if cells.iter().all(|c| c.compared.role != Role::Cell) {
            bail!(
                "no cell can be compared: {}",
                left_out.first().map_or("none was asked for", |(_, why)| why)
            );
        }
        let planted = cells.last().map(|c| Cell {
            compared: Compared { role: Role::Planted, ..c.compared.clone() },
            churn: None,
            ..*c
        });
        cells.extend(planted);
        Ok(Some(cells))
    }
    /// The comparison of a cell's p99, or why there can be none.
    fn tail(&mut self, sides: &mut Sides, cell: &Cell, prepared: &Prepared) -> Result<Result<Cell, String>> {
        let of_block = prepared.calls * u64::from(cell.compared.sweeps);
        let times = TAIL_OPERATIONS.div_ceil(of_block.max(1));
        let round = cell.round * u32::try_from(times).unwrap_or(u32::MAX);
        if round > LONGEST_ROUND {
            return Ok(Err(format!(
                "a round of {TAIL_OPERATIONS} operations a side, fewer of which have no p99, would last {round:.0?}"
            )));
        }
        let sweeps = cell.compared.sweeps * times as u32;
        for who in [cell.who().0, cell.who().1] {
            match sides.side(who).ask::<Ran>(&format!("tail {sweeps}")) {
                Ok(_) => {}
                Err(Failure::Refused(why)) => return Ok(Err(format!("the baseline cannot do it: {why}"))),
                Err(Failure::Broken(e)) => return Err(e.context(cell.compared.id.clone())),
            }
        }
        let compared = Compared { metric: Metric::P99, sweeps, ..cell.compared.clone() };
        let times = (cell.times / times as u32).max(1);
        Ok(Ok(Cell { compared, round, times, parts: 0, ..*cell }))
    }

    /// How many sweeps make a block of about half a millisecond on the slower side; checked once, since a probe may be
    /// interrupted. Nanoseconds of such a block.
    fn block_length(&mut self, sides: &mut Sides, cell: &mut Cell, prepared: &Prepared) -> Result<u64> {
        let (old, new, _) = cell.who();
        let wanted_ns = BLOCK_NS.max(prepared.least_block_ns);
        let mut sweeps = 1u32;
        let (mut took, mut slower) = (Duration::ZERO, 1);
        for _ in 0..12 {
            let began = Instant::now();
            let ran = [self.run(sides, old, cell, sweeps)?, self.run(sides, new, cell, sweeps)?];
            took = began.elapsed();
            slower = ran.iter().map(|(r, _)| r.ns).max().unwrap_or(1);
            let is_long = slower * 2 >= wanted_ns && slower <= wanted_ns * 2;
            let is_single = sweeps == 1 && slower >= wanted_ns;
            if is_long || is_single || (took >= LONGEST_ROUND / 2 && slower * 8 >= wanted_ns) {
                break;
            }
            let next = (f64::from(sweeps) * wanted_ns as f64 / slower as f64).ceil();
            // No leap by a single, short, perhaps interrupted probe.
            sweeps = (next as u32).clamp(1, sweeps.saturating_mul(64));
        }
        if took > LONGEST_ROUND && sweeps > 1 {
            let fewer = f64::from(sweeps) * LONGEST_ROUND.as_secs_f64() / took.as_secs_f64();
            took = took.mul_f64(fewer.max(1.0) / f64::from(sweeps));
            sweeps = (fewer as u32).max(1);
        }
        // Calls of a block in hundreds, so that per cents of them are whole calls.
        let hundreds = 100 / gcd(100, prepared.calls.max(1)) as u32;
        cell.compared.sweeps = if sweeps > 2 * hundreds { sweeps.next_multiple_of(hundreds) } else { sweeps };
        let sweeps = cell.compared.sweeps;
        let mut rounds = vec![took];
        // One probe may be interrupted, and the budget is planned with it; of long ones a few would cost more than they tell.
        while rounds.len() < 5 && took < LONGEST_ROUND / 8 {
            let began = Instant::now();
            self.run(sides, old, cell, sweeps)?;
            self.run(sides, new, cell, sweeps)?;
            rounds.push(began.elapsed());
        }
        rounds.sort_unstable();
        cell.round = rounds[rounds.len() / 2];
        cell.times = u32::try_from(ROUND_NS / slower.max(BLOCK_NS)).unwrap_or(1).max(1);
        Ok(slower)
    }

    /// Cuts a sweep that takes `sweep_ns` into blocks, if it may be cut, into `most`.
    fn parts(&mut self, sides: &mut Sides, cell: &mut Cell, sweep_ns: u64, most: u64) -> Result<()> {
        let parts = most.min(sweep_ns / PART_NS);
        if parts < FEWEST_PARTS {
            return Ok(());
        }
        let (old, new, _) = cell.who();
        cell.compared.sweeps = 1;
        // The first sweep over new memory does not count: it touches it for the first time.
        cell.set_up += cell.round;
        cell.parts = parts;
        let began = Instant::now();
        for part in 0..parts {
            self.part(sides, old, cell, part)?;
            self.part(sides, new, cell, part)?;
        }
        cell.round = began.elapsed() / u32::try_from(parts - 1).unwrap_or(1);
        cell.times = (ROUND_NS / (sweep_ns / parts).max(BLOCK_NS / 2)) as u32;
        Ok(())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
