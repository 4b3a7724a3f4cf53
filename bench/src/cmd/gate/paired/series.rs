//! A cell's rounds in a launch: both sides set up, and block by block next to each other.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Bench, Cell, MOST_WARM_UPS, Sides, Who};
use crate::cmd::gate::side::Failure;
use crate::gate::protocol::{Churned, Forgotten, Prepared, Ran};
use crate::gate::rounds::{Metric, Series};
use crate::measure::churn::{DOSE_TOLERANCE, Tally, doses_differ};
use crate::os::stolen;

impl Bench<'_> {
    pub(super) fn prepare(
        &self,
        sides: &mut Sides,
        who: Who,
        extra: u64,
        id: &str,
    ) -> Result<Prepared, Failure> {
        sides.side(who).ask(&format!("prepare {} {extra} {id}", self.plan.seed))
    }

    /// A block of whole sweeps, and what of it is compared.
    pub(super) fn run(
        &mut self,
        sides: &mut Sides,
        who: Who,
        cell: &Cell,
        sweeps: u32,
    ) -> Result<(Ran, u64)> {
        let verb = match cell.compared.metric {
            Metric::Block => "run",
            Metric::P99 => "tail",
        };
        self.ask(sides, who, cell, &format!("{verb} {sweeps}"))
    }

    /// A block that is a part of a sweep.
    pub(super) fn part(&mut self, sides: &mut Sides, who: Who, cell: &Cell, part: u64) -> Result<(Ran, u64)> {
        self.ask(sides, who, cell, &format!("part {part} {}", cell.parts))
    }

    fn ask(&mut self, sides: &mut Sides, who: Who, cell: &Cell, request: &str) -> Result<(Ran, u64)> {
        let ran: Ran = sides.side(who).ask(request).map_err(|e| cell.failed(e))?;
        if ran.ns == 0 {
            bail!("{}: a side says that `{request}` took 0 ns", cell.compared.id);
        }
        self.spent.in_blocks_s += ran.ns as f64 / 1e9;
        let ns = match cell.compared.metric {
            Metric::Block => ran.ns,
            Metric::P99 => ran.tail.filter(|t| t.p99_ns > 0).map(|t| t.p99_ns).with_context(|| {
                format!("{}: a side timed no operations when asked to `{request}`", cell.compared.id)
            })?,
        };
        Ok((ran, ns))
    }

    /// Rounds that do not count. What processes do for the first time is other work; events of churn, which then touch
    /// memory that the host never gave before, come late: half of the first rounds got other doses, and one of ten after
    /// some rounds.
    fn warm_up(&mut self, sides: &mut Sides, cell: &Cell, both: [Who; 2]) -> Result<()> {
        let mut agreed = 0;
        for _ in 0..if cell.churn.is_some() { MOST_WARM_UPS } else { 1 } {
            let (first, _) = self.run(sides, both[0], cell, cell.compared.sweeps)?;
            let (second, _) = self.run(sides, both[1], cell, cell.compared.sweeps)?;
            agreed = if has_other_dose(cell, &first, &second) { 0 } else { agreed + 1 };
            if agreed == 2 {
                break;
            }
        }
        Ok(())
    }

    /// Tables on both sides, in this order. Before anybody takes memory, both give back what they had, in the same order: since
    /// what was given back last is given out first, they exchange it.
    fn set_up(&mut self, sides: &mut Sides, cell: &Cell, both: [Who; 2]) -> Result<()> {
        let began = Instant::now();
        for who in both {
            let side = sides.side(who);
            if side.hello.forgets {
                let _: Forgotten = side.ask("forget").map_err(|e| cell.failed(e))?;
            }
        }
        let (_, new, extra) = cell.who();
        for who in both {
            let extra = if who == new { extra } else { 0 };
            self.prepare(sides, who, extra, &cell.compared.id).map_err(|e| cell.failed(e))?;
        }
        self.spent.setting_up_s += began.elapsed().as_secs_f64();
        self.warm_up(sides, cell, both)
    }

    /// The rounds of a cell in a launch.
    ///
    /// Who is set up first is the slower one until both are set up again, by a tenth in cells that write much: it is the one
    /// in half of the rounds and the other in the other half.
    pub(super) fn series(
        &mut self,
        sides: &mut Sides,
        cell: &Cell,
        comparison: usize,
        rounds: u32,
    ) -> Result<Series> {
        let (old, new, _) = cell.who();
        let (draws, of_draw) = cell.draws(rounds);
        let mut series = Series { comparison, ..Series::default() };
        let mut both = self.mirrored([old, new], 0);
        for draw in 0..draws {
            if draw > 0 {
                both.reverse();
                series.draws.push(series.old_ns.len() as u32);
            }
            self.set_up(sides, cell, both)?;
            self.draw(sides, cell, both, of_draw, &mut series)?;
        }
        Ok(series)
    }

    /// AB or BA by a coin the first time, the mirror image the second time, and so on.
    fn mirrored<T: Copy>(&mut self, [a, b]: [T; 2], nth: u32) -> [T; 2] {
        if nth % 2 == 1 || self.rng.next() & 1 == 0 { [b, a] } else { [a, b] }
    }

    /// The rounds between one set-up and the next.
    fn draw(
        &mut self,
        sides: &mut Sides,
        cell: &Cell,
        both: [Who; 2],
        rounds: u32,
        series: &mut Series,
    ) -> Result<()> {
        let (old, ..) = cell.who();
        let (mut order, mut put_back) = (both, both);
        let (mut part, mut void) = (0, 0);
        // What was void is made up for, up to half as many rounds again: otherwise a launch with a bad moment says nothing.
        for round in 0..rounds + rounds / 2 {
            if round - void >= rounds {
                break;
            }
            if cell.parts > 0 && part % cell.parts == 0 {
                // Whose tables were put back last has more of them in the caches: by turns.
                put_back.swap(0, 1);
                for who in put_back {
                    self.part(sides, who, cell, 0)?;
                }
                part = 1;
            }
            order = self.mirrored(order, round);
            let ticks = stolen::ticks(&self.walker_cpus);
            let mut block = |who| match cell.parts {
                0 => self.run(sides, who, cell, cell.compared.sweeps),
                _ => self.part(sides, who, cell, part),
            };
            let (first, first_ns) = block(order[0])?;
            let (second, second_ns) = block(order[1])?;
            part += 1;
            let was_stolen =
                ticks.zip(stolen::ticks(&self.walker_cpus)).is_some_and(|(before, after)| after > before);
            let lost = |r: &Ran| r.switches.is_some_and(|n| n > 0);
            if was_stolen || lost(&first) || lost(&second) || has_other_dose(cell, &first, &second) {
                series.void.push(series.old_ns.len() as u32);
                void += 1;
            }
            let [old_ns, new_ns] =
                if order[0] == old { [first_ns, second_ns] } else { [second_ns, first_ns] };
            series.old_ns.push(old_ns);
            series.new_ns.push(new_ns);
        }
        Ok(())
    }
}

/// Whether churn beside the two blocks was not the same.
fn has_other_dose(cell: &Cell, first: &Ran, second: &Ran) -> bool {
    let Some(spec) = &cell.churn else { return false };
    let tally = |churn: &Option<Churned>| {
        let Churned { ns, events, tables } = (*churn)?;
        Some(Tally { ns, events, tables, ..Tally::default() })
    };
    let (Some(a), Some(b)) = (tally(&first.churn), tally(&second.churn)) else { return true };
    doses_differ(spec, &[a, b], DOSE_TOLERANCE)
}
