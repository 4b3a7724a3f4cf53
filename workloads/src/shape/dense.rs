//! `dense_4k`, `dense_2m`, `absent_4k`: one anonymous VMA, all alike.

use super::machine::{anonymous, map, system};
use super::{AbsentTables, BuildError, Built, EntryCounts, Memory, Undo};
use crate::random::{Permutation, Purpose, generator};
use walker::addr::{PAGE_SHIFT, PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, PageRange, Pfn};
use walker::arch::Entry;
use walker::memory::{PageKind, Phys};
use walker::mm::Mm;
use walker::mm::madvise::Advice;
use walker::mm::system::ThpMode;

/// Which frame each page has: runs of neighbours, the runs shuffled over one extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    first: Pfn,
    runs: Permutation,
    run_shift: u32,
}

impl Frames {
    /// Frames for `nr_pages` pages from a fresh extent, each mapped once and exclusively by what the caller writes.
    pub(super) fn alloc(
        phys: &Phys,
        nr_pages: u64,
        run_pages: u64,
        seed: u64,
        purpose: Purpose,
    ) -> Result<Frames, BuildError> {
        let nr_runs = nr_pages.div_ceil(run_pages);
        let first = phys.alloc_extent(nr_runs * run_pages)?;
        let runs = Permutation::new(&mut generator(seed, purpose), nr_runs);
        let frames = Frames { first, runs, run_shift: run_pages.trailing_zeros() };
        // The last run may be cut short, wherever it lies.
        (nr_pages..nr_runs * run_pages).for_each(|i| phys.free(frames.get(i)));
        Ok(frames)
    }
    /// The frame of page `i`.
    #[inline(always)]
    pub(super) fn get(&self, i: u64) -> Pfn {
        let run = self.runs.get(i >> self.run_shift);
        self.first.add(run << self.run_shift | i & ((1 << self.run_shift) - 1))
    }
    /// Calls `f` for the frame of each of the first `nr_pages` pages, all that there are, in the order of memory where
    /// that is possible: struct pages are then met one after the other.
    pub(super) fn in_memory_order(&self, nr_pages: u64, mut f: impl FnMut(Pfn)) {
        if nr_pages.is_multiple_of(1 << self.run_shift) {
            (0..nr_pages).for_each(|i| f(self.first.add(i)));
        } else {
            (0..nr_pages).for_each(|i| f(self.get(i)));
        }
    }
    /// Gives the frames what `memory` asks for; page `i` is page `first_index + i` of its VMA's backing.
    pub(super) fn furnish(&self, phys: &Phys, nr_pages: u64, first_index: u64, memory: Memory) {
        if memory == Memory::Tables {
            return;
        }
        (0..nr_pages).for_each(|i| Frames::furnish_one(phys, self.get(i), first_index + i, memory));
    }
    /// Gives one frame what `memory` asks for.
    pub(super) fn furnish_one(phys: &Phys, pfn: Pfn, index: u64, memory: Memory) {
        if memory != Memory::Tables {
            phys.page(pfn).set_index(index);
        }
        if memory == Memory::Data {
            phys.zero(pfn, 0);
        }
    }
}

/// An entry like `model` for any frame: adds the frame number to the bits.
#[inline(always)]
pub(super) fn with_frame(model: Entry, pfn: Pfn) -> Entry {
    // `model` maps frame 0 and is present for the processor, so its frame is stored as it is.
    Entry::from_bits(model.bits() | pfn.get() << PAGE_SHIFT)
}

pub(super) fn build_4k(size: u64, seed: u64, run_pages: u64, memory: Memory) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let (mm, range) = anonymous(&system, size)?;
    let frames = Frames::alloc(&system.phys, nr_pages, run_pages, seed, Purpose::Frames)?;
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    builder.ptes(range, |i| with_frame(model, frames.get(i)))?;
    drop(builder);
    frames.furnish(&system.phys, nr_pages, first_index, memory);
    let expected = EntryCounts { pte_rw: nr_pages, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}

pub(super) fn build_2m(size: u64, seed: u64) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, ThpMode::Always)?;
    let (mm, range) = anonymous(&system, size)?;
    let phys = &system.phys;
    let frames = Frames::alloc(phys, nr_pages, PAGES_PER_PMD, seed, Purpose::Frames)?;
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)).mkhuge(), vma.index_of(range.start()));
    for i in (0..nr_pages).step_by(PAGES_PER_PMD as usize) {
        let head = frames.get(i);
        phys.compose(head, PageKind::Anon, PMD_ORDER);
        phys.add_new_anon_rmap_huge(head, first_index + i);
        builder.pmd_leaf(range.start().add_pages(i), with_frame(model, head))?;
    }
    drop(builder);
    let expected = EntryCounts { pmd_rw: nr_pages, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}

pub(super) fn build_absent(size: u64, tables: AbsentTables) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let (mm, range) = anonymous(&system, size)?;
    let mut expected = EntryCounts::default();
    match tables {
        AbsentTables::Empty => {
            let mut builder = mm.build();
            // What MADV_DONTNEED leaves: pages were there once.
            builder.anon_prepare(range.start());
            builder.empty_tables(range)?;
            drop(builder);
            expected.none = nr_pages;
        }
        AbsentTables::Missing => expected.hole = nr_pages,
    }
    let undo = Undo::Zap { unmap: tables == AbsentTables::Missing };
    Ok(Built::new(system, mm, range, expected, undo))
}

/// MADV_DONTNEED; or munmap and mmap again, which takes the tables away too.
pub(super) fn reset_absent(mm: &Mm, range: PageRange, unmap: bool) -> Result<(), BuildError> {
    if unmap {
        mm.munmap(range)?;
        map(mm, range)?;
        // Detached tables come back to the allocator now rather than in somebody's timed walk.
        walker::memory::rcu::flush();
        return Ok(());
    }
    Ok(mm.madvise(range, Advice::DontNeed)?)
}
