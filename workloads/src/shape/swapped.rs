//! `swapped`: a share of the pages is on the swap device, in runs, the rest is as in `dense_4k`.
//!
//! Slots ascend with addresses, as reclaim of a run allocates them. Slots hold real bytes where `memory` says that pages
//! do, else zeros, which cost no read (the kernel's zeromap).

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system_with};
use super::parameters::{Marks, RunLengths, part};
use super::{BuildError, Built, EntryCounts, Memory, Undo};
use crate::random::Purpose;
use core::cell::Cell;
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PageRange, Pfn};
use walker::arch::{Entry, SwpEntry, SwpType};
use walker::mm::system::{Settings, ThpMode};
use walker::mm::{Errno, Mm};

/// Parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swapped {
    /// Pages of a thousand that are swapped out.
    #[serde(deserialize_with = "super::parameters::some_permille")]
    pub permille: u16,
    /// How many in a row.
    pub run_pages: RunLengths,
    /// What exists besides the tables.
    #[serde(default)]
    pub memory: Memory,
}

/// What comes back at a reset.
#[derive(Debug)]
pub(super) struct Slots {
    marks: Marks,
    first: u64,
    word: u64,
}

impl Slots {
    /// The entry that reclaim leaves for an exclusive page.
    fn entry(&self, nth: u64) -> Entry {
        let swp = SwpEntry::new(SwpType::Swap, self.first + nth);
        swp.entry().with_swp_exclusive(true).with_swp_soft_dirty(true)
    }
    /// Frees the pages that were read in; their slots hold what they held.
    pub(super) fn undo(&self, mm: &Mm, range: PageRange) -> Result<(), BuildError> {
        let swap = &mm.system().swap;
        let (mut nth, taken) = (0, Cell::new(false));
        mm.build().restore(range, |i, now| {
            if !self.marks.has(i) {
                return now;
            }
            let then = self.entry(nth);
            nth += 1;
            if now == then || swap.retake(self.first + nth - 1, self.word) {
                return then;
            }
            taken.set(true);
            now
        });
        if taken.get() { Err(BuildError::Errno(Errno::Busy)) } else { Ok(()) }
    }
}

/// What a swapped page is full of.
const WORD: u64 = 0x7761_6c6b_6265_6e63;

pub(super) fn build(size: u64, seed: u64, spec: Swapped) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let nr_swapped = part(nr_pages, spec.permille);
    // Room to swap out the rest too.
    let swap_slots = (nr_pages + 4 * PAGES_PER_PMD).next_multiple_of(PAGES_PER_PMD);
    let settings = Settings { thp: ThpMode::Never, swap_slots, ..Settings::default() };
    let system = system_with(nr_pages, 1, settings)?;
    let (mm, range) = anonymous(&system, size)?;
    let frames = match nr_pages - nr_swapped {
        0 => None,
        n => Some(Frames::alloc(&system.phys, n, 1, seed, Purpose::Frames)?),
    };
    let word = if spec.memory == Memory::Data { WORD } else { 0 };
    let first = system.swap.alloc_extent(nr_swapped, word).ok_or(BuildError::Frames)?;
    let slots = Slots { marks: Marks::in_runs(nr_pages, nr_swapped, spec.run_pages, seed), first, word };
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let (mut nth_swapped, mut nth_present) = (0, 0);
    builder.ptes(range, |i| match &frames {
        Some(frames) if !slots.marks.has(i) => {
            let pfn = frames.get(nth_present);
            nth_present += 1;
            Frames::furnish_one(&system.phys, pfn, first_index + i, spec.memory);
            with_frame(model, pfn)
        }
        _ => {
            nth_swapped += 1;
            slots.entry(nth_swapped - 1)
        }
    })?;
    drop(builder);
    let expected = EntryCounts { swap: nr_swapped, pte_rw: nr_pages - nr_swapped, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Swap(slots)))
}
