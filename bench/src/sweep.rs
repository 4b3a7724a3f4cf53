//! One quiet cell, swept by one thread: what `cargo bench` times. The measurements of `walkbench run` have
//! their own, with turns, stages and limits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use walker::backend::Backend;
use walker::backends::{self, Visitor};
use walker::mirror::RetryPolicy;
use walker::mm::Errno;
use workloads::churn::NO_CHURN;

use crate::measure::matrix::Group;
use crate::measure::scene::Scene;
use crate::measure::stages::Walked;
use crate::questions::{CellId, Coordinate, Kind, questions};

/// The cells that answer each question in its headline place: question and ids, in the order of the registry.
pub fn headlines() -> Vec<(&'static str, Vec<String>)> {
    let all = crate::questions::all_cells();
    let of = |q: &'static crate::questions::Question| {
        let mut cells: Vec<&CellId> = Vec::new();
        for compare in &q.compares {
            // Whatever differs by its backend only from the place that gives the answer.
            let side = |c: &&CellId| q.cells.matches(c) && compare.a.matches(c);
            let Some(headline) = all.iter().filter(side).find(|c| compare.is_headline(c)) else { continue };
            let group = headline.group();
            cells.extend(all.iter().filter(side).filter(|c| c.group() == group));
            if let Kind::Pair(b) = &compare.kind {
                let other = headline.with(b);
                cells.extend(all.iter().filter(|c| **c == other));
            }
        }
        cells.retain(|c| is_quiet(c));
        cells.sort_by_key(|c| (c.group(), crate::questions::registry_order(c.get(Coordinate::Backend))));
        cells.dedup();
        (q.id.as_str(), cells.into_iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    questions().iter().map(of).filter(|(_, cells)| !cells.is_empty()).collect()
}

/// No churn, one walker: what a sweep can time.
fn is_quiet(cell: &CellId) -> bool {
    cell.get(Coordinate::Churn) == NO_CHURN && cell.get(Coordinate::Walkers) == "1"
}

/// See the module.
pub struct Sweep {
    /// Gone only if it could not be put back.
    scene: Option<Scene>,
    walk: Box<dyn Walk>,
    is_used: bool,
}

/// One virtual call a sweep; everything below it is monomorphised.
trait Walk {
    fn sweep(&mut self, scene: &Scene) -> Result<(), Errno>;
}

struct With<B>(B);

impl<B: Backend> Walk for With<B> {
    fn sweep(&mut self, scene: &Scene) -> Result<(), Errno> {
        let mirror = scene.mirror(0);
        // What `walkbench run` times, for the same code.
        let mut walked = Walked::quiet();
        for k in 0..scene.nr_calls() {
            mirror.refresh(&mut self.0, &scene.request(k), RetryPolicy::AtOnce, &mut walked)?;
        }
        Ok(())
    }
}

struct Make(usize);

impl Visitor for Make {
    type Output = Box<dyn Walk>;
    fn visit<B: Backend>(self) -> Box<dyn Walk> {
        Box::new(With(B::new(self.0)))
    }
}

impl Sweep {
    /// Builds the tables of a cell and sweeps over them once, so that all memory is there.
    ///
    /// # Errors
    /// An id that is none, a cell with churn or several walkers, or what the builder or the design said.
    pub fn open(id: &str, seed: u64) -> Result<Sweep> {
        let (group, backend) = id.rsplit_once('/').unwrap_or((id, ""));
        let group = Group::parse(group)
            .with_context(|| format!("{id}: expected a cell of `walkbench list cells --profile full`"))?;
        if group.churn.is_some() || group.walkers != 1 {
            bail!("{id}: expected a cell without churn and with one walker");
        }
        let walk = backends::dispatch(backend, Make(group.call_pages as usize))
            .with_context(|| format!("{id}: {backend:?} is no backend"))?;
        let mut sweep = Sweep { scene: Some(Scene::new(group.recipe(seed))?), walk, is_used: false };
        sweep.time(1)?;
        Ok(sweep)
    }
    /// Pages of a sweep.
    pub fn nr_pages(&self) -> u64 {
        self.scene.as_ref().map_or(0, Scene::nr_pages)
    }
    /// What `n` sweeps take. Where a sweep faults pages in, the tables are put back before each, untimed.
    ///
    /// # Errors
    /// What the design or the builder said.
    pub fn time(&mut self, n: u64) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        let is_steady = self.scene.as_ref().is_some_and(Scene::is_steady);
        let (spans, sweeps) = if is_steady { (1, n) } else { (n, 1) };
        for _ in 0..spans {
            if self.is_used && !is_steady {
                self.scene = self.scene.take().map(Scene::reset).transpose()?;
            }
            self.is_used = true;
            let scene = self.scene.as_ref().context("the tables could not be put back")?;
            let start = Instant::now();
            for _ in 0..sweeps {
                self.walk.sweep(scene).map_err(|e| anyhow!("the call returned {e}"))?;
            }
            sum += start.elapsed();
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_with_cells_has_some_in_its_headline_and_each_can_be_swept() {
        let headlines = headlines();
        let named: Vec<&str> = headlines.iter().map(|(question, _)| *question).collect();
        // Nothing that is not there yet, and not the question that churn answers.
        let wanted = questions().iter().filter(|q| !q.compares.is_empty() && q.id != "under_churn");
        let wanted: Vec<&str> = wanted.map(|q| q.id.as_str()).collect();
        assert_eq!(named, wanted);
        for (question, cells) in &headlines {
            assert!(!cells.is_empty(), "{question}");
            let mut sweep = Sweep::open(&cells[0], 1).unwrap();
            assert!(sweep.nr_pages() > 0 && sweep.time(2).unwrap() > Duration::ZERO);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (id, expected) in [
            ("dense_4k", "expected a cell"),
            ("nothing@2MiB/snapshot/512/none/1/map_order", "expected a cell"),
            ("dense_4k@2MiB/snapshot/512/none/1/nobody", "is no backend"),
            ("dense_4k@2MiB/snapshot/512/zap-4KiB-o100-uniform-max-t1/1/map_order", "without churn"),
        ] {
            let error = Sweep::open(id, 1).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
