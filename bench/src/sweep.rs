//! One quiet cell, swept by one thread: what `cargo bench` and the doctor time. The measurements of `walkbench run` have
//! their own, with turns, stages and limits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use walker::addr::PageRange;
use walker::backend::Backend;
use walker::backends::{self, Visitor};
use walker::counters::NoCounts;
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::Errno;
use walker::request::Wish;
use workloads::churn::NO_CHURN;
use workloads::definition::{self, Definition};
use workloads::request::RequestKind;
use workloads::shape::Built;

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
        cells.retain(|c| c.get(Coordinate::Churn) == NO_CHURN && c.get(Coordinate::Walkers) == "1");
        cells.sort_by_key(|c| (c.group(), crate::questions::registry_order(c.get(Coordinate::Backend))));
        cells.dedup();
        (q.id.as_str(), cells.into_iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    questions().iter().map(of).filter(|(_, cells)| !cells.is_empty()).collect()
}

/// See the module.
pub struct Sweep {
    table: Table,
    walks: Vec<Box<dyn Walk>>,
}

/// The tables, the mirror, and what is asked.
struct Table {
    definition: &'static Definition,
    request: RequestKind,
    size_bytes: u64,
    call_pages: u64,
    seed: u64,
    wishes: Option<Vec<Wish>>,
    built: Option<(Built, Mirror)>,
}

/// One virtual call a sweep; everything below it is monomorphised.
trait Walk {
    fn sweep(&mut self, table: &Table) -> Result<(), Errno>;
}

struct With<B>(B);

impl<B: Backend> Walk for With<B> {
    fn sweep(&mut self, table: &Table) -> Result<(), Errno> {
        let Some((built, mirror)) = &table.built else { return Ok(()) };
        let nr_pages = built.range.nr_pages();
        let mut first = 0;
        while first < nr_pages {
            let nr = table.call_pages.min(nr_pages - first);
            let part = PageRange::pages(built.range.start().add_pages(first), nr);
            let wishes = table.wishes.as_deref().map(|w| &w[first as usize..(first + nr) as usize]);
            for request in table.request.requests(part, wishes) {
                mirror.refresh(&mut self.0, &request, RetryPolicy::AtOnce, &mut NoCounts)?;
            }
            first += nr;
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
        Sweep::open_twins(id, seed, 1)
    }
    /// The same with so many of the cell's design, each with arrays of its own, on the same tables.
    ///
    /// # Errors
    /// As [`Sweep::open`].
    pub fn open_twins(id: &str, seed: u64, twins: usize) -> Result<Sweep> {
        let cell = CellId::parse(id).with_context(|| {
            format!("{id}: expected workload@size/request/call_pages/churn/walkers/backend")
        })?;
        let get = |c| cell.get(c);
        if get(Coordinate::Churn) != NO_CHURN || get(Coordinate::Walkers) != "1" {
            bail!("{id}: expected a cell without churn and with one walker");
        }
        let definition =
            definition::find(get(Coordinate::Workload)).with_context(|| format!("{id}: no such workload"))?;
        let size_bytes =
            definition::parse_size(get(Coordinate::Size)).with_context(|| format!("{id}: no such size"))?;
        let request = get(Coordinate::Request).parse().map_err(|_| anyhow!("{id}: no such request"))?;
        let call_pages =
            get(Coordinate::CallPages).parse().with_context(|| format!("{id}: no such call size"))?;
        let make = |_| backends::dispatch(get(Coordinate::Backend), Make(call_pages as usize));
        let walks = (0..twins).map(make).collect::<Option<Vec<_>>>();
        let walks = walks.with_context(|| format!("{id}: no such backend"))?;
        let table = Table { definition, request, size_bytes, call_pages, seed, wishes: None, built: None };
        let mut sweep = Sweep { table, walks };
        sweep.table.build()?;
        for twin in 0..twins {
            sweep.time(twin, 1)?;
        }
        Ok(sweep)
    }
    /// Pages of a sweep.
    pub fn nr_pages(&self) -> u64 {
        self.table.built.as_ref().map_or(0, |(built, _)| built.range.nr_pages())
    }
    /// What `n` sweeps of a twin take. Where a sweep faults pages in, the tables are put back before each, untimed.
    ///
    /// # Errors
    /// What the design or the builder said.
    ///
    /// # Panics
    /// If there are not so many twins.
    pub fn time(&mut self, twin: usize, n: u64) -> Result<Duration> {
        let walk = &mut self.walks[twin];
        if self.table.definition.is_steady(self.table.request) {
            let start = Instant::now();
            for _ in 0..n {
                walk.sweep(&self.table).map_err(failed)?;
            }
            return Ok(start.elapsed());
        }
        let mut sum = Duration::ZERO;
        for _ in 0..n {
            self.table.reset()?;
            let start = Instant::now();
            walk.sweep(&self.table).map_err(failed)?;
            sum += start.elapsed();
        }
        Ok(sum)
    }
}

fn failed(e: Errno) -> anyhow::Error {
    anyhow!("the call returned {e}")
}

impl Table {
    fn build(&mut self) -> Result<()> {
        let built = self.definition.shape.build(self.size_bytes, self.seed)?;
        self.wishes = self.request.wishes(built.range.nr_pages(), self.seed);
        let mirror = Mirror::new(&built.mm, built.range);
        self.built = Some((built, mirror));
        Ok(())
    }
    /// The state before the first fault.
    fn reset(&mut self) -> Result<()> {
        match &mut self.built {
            Some((built, _)) if built.can_reset() => Ok(built.reset()?),
            built => {
                drop(built.take());
                self.build()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_with_cells_has_some_in_its_headline_and_each_can_be_swept() {
        let headlines = headlines();
        let with_cells = questions().iter().filter(|q| !q.compares.is_empty()).count();
        assert_eq!(headlines.len(), with_cells);
        for (question, cells) in &headlines {
            assert!(!cells.is_empty(), "{question}");
            let mut sweep = Sweep::open(&cells[0], 1).unwrap();
            assert!(sweep.nr_pages() > 0 && sweep.time(0, 2).unwrap() > Duration::ZERO);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (id, expected) in [
            ("dense_4k", "expected workload@size"),
            ("nothing@2MiB/snapshot/512/none/1/map_order", "no such workload"),
            ("dense_4k@2MiB/snapshot/512/none/1/nobody", "no such backend"),
            ("dense_4k@2MiB/snapshot/512/zap-4KiB-o100-uniform-max-t1/1/map_order", "without churn"),
        ] {
            let error = Sweep::open(id, 1).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
