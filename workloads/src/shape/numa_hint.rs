//! `numa_hint`: the scanner of NUMA balancing has taken the rights of a share of the entries away, to see who comes.
//!
//! The share lies in runs; with 1000 per mille it is what the scanner leaves behind right after its pass. An entry stays
//! present and keeps its frame, a device sees nothing until a fault gives the rights back.

use super::parameters::{Marks, RunLengths, part};
use super::{BuildError, Built, EntryCounts, Memory, Undo, dense};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PageRange};
use walker::mm::Mm;

/// Parameters. The size is a multiple of 2 MiB where `huge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaHint {
    /// Pages, or leaves, of a thousand with a hint.
    #[serde(deserialize_with = "super::parameters::some_permille")]
    pub permille: u16,
    /// How many pages, or leaves, in a row.
    pub run_pages: RunLengths,
    /// PMD leaves instead of PTEs.
    #[serde(default)]
    pub huge: bool,
}

/// Which entries have hints, and how many pages each maps.
#[derive(Debug)]
pub(super) struct Hints {
    marks: Marks,
    pages_each: u64,
}

impl Hints {
    /// `change_prot_numa` over every run: what the scanner does, and what it does again after faults.
    pub(super) fn place(&self, mm: &Mm, range: PageRange) {
        for (first, nr, _) in self.marks.stretches().filter(|s| s.2) {
            let start = range.start().add_pages(first * self.pages_each);
            mm.change_prot_numa(PageRange::pages(start, nr * self.pages_each));
        }
    }
}

pub(super) fn build(size: u64, seed: u64, spec: NumaHint) -> Result<Built, BuildError> {
    let pages_each = if spec.huge { PAGES_PER_PMD } else { 1 };
    let nr = size / PAGE_SIZE / pages_each;
    let nr_hints = part(nr, spec.permille);
    let built = if spec.huge {
        dense::build_2m(size, seed)?
    } else {
        dense::build_4k(size, seed, 1, Memory::Tables)?
    };
    let hints = Hints { marks: Marks::in_runs(nr, nr_hints, spec.run_pages, seed), pages_each };
    hints.place(&built.mm, built.range);
    let (protnone, rest) = (nr_hints * pages_each, (nr - nr_hints) * pages_each);
    let (pte_rw, pmd_rw) = if spec.huge { (0, rest) } else { (rest, 0) };
    let expected = EntryCounts { protnone, pte_rw, pmd_rw, ..EntryCounts::default() };
    Ok(Built { expected, undo: Undo::Hints(hints), ..built })
}
