//! `sparse`: a reserve of which little is used, as an allocator's arenas or a sanitizer's shadow memory.
//!
//! What is used lies in few 2 MiB spans, in short runs; from 4 GiB on every second gigabyte has no used span at all. The
//! rest is none PMDs and none PUDs, as mmap leaves it, or empty PTE tables, as MADV_DONTNEED leaves it.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::parameters::{Marks, part};
use super::{AbsentTables, BuildError, Built, EntryCounts, Undo};
use crate::random::{Picks, Purpose, below, generator};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PAGES_PER_PUD, PUD_SIZE, PageRange, Pfn};
use walker::arch::Entry;
use walker::mm::Mm;
use walker::mm::system::ThpMode;

/// Parameters. The size is a multiple of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparse {
    /// Pages of a thousand that are present.
    #[serde(deserialize_with = "super::parameters::small_permille")]
    pub permille: u16,
    /// What is above the missing pages of spans that hold nothing.
    pub tables: AbsentTables,
}

/// Present pages in a used span, but for rounding.
const PAGES_A_SPAN: u64 = 64;

/// Which pages are there, and what stands where none is.
#[derive(Debug)]
pub(super) struct Population {
    marks: Marks,
    /// 2 MiB spans with a present page.
    used: Marks,
    tables: AbsentTables,
}

impl Population {
    fn new(nr_pages: u64, nr_present: u64, tables: AbsentTables, seed: u64) -> Population {
        let nr_spans = nr_pages / PAGES_PER_PMD;
        let mut population = Population { marks: Marks::none(nr_pages), used: Marks::none(nr_spans), tables };
        let spans_a_pud = PAGES_PER_PUD / PAGES_PER_PMD;
        let leaves_gigabytes = nr_pages * PAGE_SIZE >= 4 * PUD_SIZE;
        let usable = |span: u64| !leaves_gigabytes || (span / spans_a_pud).is_multiple_of(2);
        let nr_usable = (0..nr_spans).filter(|s| usable(*s)).count() as u64;
        // So many spans that each gets PAGES_A_SPAN, or more where there are not enough.
        let nr_used = nr_present.div_ceil(PAGES_A_SPAN).min(nr_usable);
        let mut picks = Picks::new(generator(seed, Purpose::Spans), nr_usable, nr_used);
        let mut rng = generator(seed, Purpose::Runs);
        let (mut spans_left, mut pages_left) = (nr_used, nr_present);
        for span in (0..nr_spans).filter(|s| usable(*s)) {
            if !picks.next().unwrap_or(false) {
                continue;
            }
            let nr = pages_left.div_ceil(spans_left).min(PAGES_PER_PMD);
            (spans_left, pages_left) = (spans_left - 1, pages_left - nr);
            population.used.set(span);
            population.fill_span(span * PAGES_PER_PMD, nr, &mut rng);
        }
        debug_assert_eq!(pages_left, 0);
        population
    }
    /// Marks `nr` pages of the span at page `first`, in runs of 1 to 16.
    fn fill_span(&mut self, first: u64, nr: u64, rng: &mut rand_pcg::Pcg64Mcg) {
        let (mut clear, mut left, mut at) = (PAGES_PER_PMD - nr, nr, first);
        while left > 0 {
            let run = (1 + below(rng, 16)).min(left);
            // About as many gaps as there are runs to come.
            let gap = below(rng, 2 * clear / (1 + left.div_ceil(8)) + 1);
            (clear, left, at) = (clear - gap, left - run, at + gap);
            (at..at + run).for_each(|i| self.marks.set(i));
            at += run;
        }
    }
    fn stretches(&self, range: PageRange) -> impl Iterator<Item = (u64, PageRange, bool)> + '_ {
        self.used.stretches().map(move |(span, nr, used)| {
            let first = span * PAGES_PER_PMD;
            (first, PageRange::pages(range.start().add_pages(first), nr * PAGES_PER_PMD), used)
        })
    }
    /// Frees what was faulted in, and the tables above it where there were none.
    pub(super) fn undo(&self, mm: &Mm, range: PageRange) {
        for (first, part, used) in self.stretches(range) {
            if used || self.tables == AbsentTables::Empty {
                mm.build().restore(part, |i, now| if self.marks.has(first + i) { now } else { Entry::NONE });
            } else {
                mm.build().clear(part);
            }
        }
        walker::memory::rcu::flush();
    }
}

pub(super) fn build(size: u64, seed: u64, spec: Sparse) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let nr_present = part(nr_pages, spec.permille);
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let (mm, range) = anonymous(&system, size)?;
    let frames = Frames::alloc(&system.phys, nr_present, 1, seed, Purpose::Frames)?;
    let population = Population::new(nr_pages, nr_present, spec.tables, seed);
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let model = builder.vma(range.start()).expect("just mapped").anon_entry(Pfn::new(0));
    let (mut next, mut none) = (0, 0);
    for (first, part, used) in population.stretches(range) {
        if used {
            none += part.nr_pages();
            builder.ptes(part, |i| {
                if !population.marks.has(first + i) {
                    return Entry::NONE;
                }
                next += 1;
                with_frame(model, frames.get(next - 1))
            })?;
        } else if spec.tables == AbsentTables::Empty {
            none += part.nr_pages();
            builder.empty_tables(part)?;
        }
    }
    drop(builder);
    let hole = nr_pages - none;
    let expected =
        EntryCounts { pte_rw: nr_present, none: none - nr_present, hole, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Holes(population)))
}
