//! `after_fork`: a parent that is being walked, a child that holds its past, and what the parent has written since.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::{BuildError, Built, EntryCounts, Memory, Undo, zipf};
use crate::random::Purpose;
use std::sync::Arc;
use walker::addr::{PAGE_SIZE, PageRange, Pfn};
use walker::arch::Entry;
use walker::mm::Mm;
use walker::mm::system::ThpMode;

/// What parent and child share.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Frames as they were before the fork.
    frames: Frames,
    /// Pages that the parent has its own copy of, a bit each.
    broken: Vec<u64>,
    /// The parent's entry of a shared page, for frame 0.
    shared: Entry,
}

impl Sharing {
    #[inline(always)]
    fn is_broken(&self, i: u64) -> bool {
        self.broken[(i / 64) as usize] >> (i % 64) & 1 != 0
    }
    /// Takes the copies of shared pages away again. Pages broken at the time of building keep theirs.
    pub(super) fn restore(&self, mm: &Arc<Mm>, range: PageRange) -> Result<(), BuildError> {
        mm.build().restore(range, |i, now| {
            if self.is_broken(i) { now } else { with_frame(self.shared, self.frames.get(i)) }
        });
        Ok(())
    }
}

pub(super) fn build(
    size: u64,
    seed: u64,
    run_pages: u64,
    broken_permille: u16,
    memory: Memory,
) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let nr_broken = (nr_pages as u128 * broken_permille as u128 / 1000) as u64;
    // Room for the copies of every page that is still shared, beside those made here.
    let system = system(nr_pages + nr_broken, 2, ThpMode::Never)?;
    let phys = &system.phys;
    let (mm, range) = anonymous(&system, size)?;
    mm.build().anon_prepare(range.start());
    // The tables are empty: fork copies the VMAs only.
    let child = mm.fork()?;

    let frames = Frames::alloc(phys, nr_pages, run_pages, seed, Purpose::Frames)?;
    let copies = match nr_broken {
        0 => None,
        n => Some(Frames::alloc(phys, n, 1, seed, Purpose::Copies)?),
    };
    let mut builder = mm.build();
    let vma = builder.vma(range.start()).expect("just mapped");
    let (own, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let shared = own.wrprotect();
    let sharing = Sharing { frames, broken: zipf::written(nr_pages, nr_broken, seed), shared };
    frames.furnish(phys, nr_pages, first_index, memory);
    let mut copy = 0;
    builder.ptes(range, |i| match &copies {
        Some(copies) if sharing.is_broken(i) => {
            let pfn = copies.get(copy);
            copy += 1;
            Frames::furnish_one(phys, pfn, first_index + i, memory);
            with_frame(own, pfn)
        }
        _ => with_frame(shared, frames.get(i)),
    })?;
    drop(builder);
    let old = shared.mkold();
    // Every page was shared: the child's mapping beside the parent's. Where the parent has its copy, its mapping went.
    frames.in_memory_order(nr_pages, |pfn| {
        phys.add_rmap_pte(pfn);
        phys.clear_anon_exclusive(pfn);
    });
    child.build().ptes(range, |i| {
        let pfn = frames.get(i);
        if sharing.is_broken(i) {
            phys.unmap_pte(pfn);
        }
        with_frame(old, pfn)
    })?;
    let expected = EntryCounts { pte_rw: nr_broken, pte_ro: nr_pages - nr_broken, ..EntryCounts::default() };
    let undo = Undo::Share(sharing);
    Ok(Built { children: vec![child], ..Built::new(system, mm, range, expected, undo) })
}
