//! `migrating` and `poisoned`: a share of the pages is not to be had, in runs, the rest is as in `dense_4k`.
//!
//! Both are states in passing. A page under migration is locked and held by whoever moves it, who here never ends: a
//! request that needs it would wait for ever, so these shapes can only be looked at. A poisoned page is lost.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::parameters::{Marks, RunLengths, part};
use super::{BuildError, Built, EntryCounts, Undo};
use crate::random::Purpose;
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, Pfn};
use walker::arch::{Entry, SwpEntry, SwpType};
use walker::memory::page::{PG_DIRTY, PG_HWPOISON, PG_LOCKED};
use walker::memory::{PageKind, Phys};
use walker::mm::system::ThpMode;

/// Parameters of `migrating`. The size is a multiple of 2 MiB where `huge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrating {
    /// Pages, or leaves, of a thousand that are under migration.
    #[serde(deserialize_with = "super::parameters::some_permille")]
    pub permille: u16,
    /// How many pages, or leaves, in a row.
    pub run_pages: RunLengths,
    /// PMD leaves, and PMD migration entries, instead of PTEs.
    #[serde(default)]
    pub huge: bool,
}

/// Parameters of `poisoned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poisoned {
    /// Pages of a thousand whose memory failed.
    #[serde(deserialize_with = "super::parameters::some_permille")]
    pub permille: u16,
    /// How many in a row.
    pub run_pages: RunLengths,
}

/// What `try_to_migrate` leaves of an exclusive, writable mapping: an unmapped folio, locked, with the reference of
/// whoever moves it.
fn migration_entry(phys: &Phys, head: Pfn, index: u64, order: u8) -> Entry {
    phys.compose(head, PageKind::Anon, order);
    let page = phys.page(head);
    page.set(PG_LOCKED | PG_DIRTY);
    page.set_index(index);
    phys.clear_anon_exclusive(head);
    SwpEntry::migration(SwpType::MigrationWrite, head, true, true).entry().with_swp_soft_dirty(true)
}

pub(super) fn build_migrating(size: u64, seed: u64, spec: Migrating) -> Result<Built, BuildError> {
    let order = if spec.huge { PMD_ORDER } else { 0 };
    let (nr_pages, nr) = (size / PAGE_SIZE, (size / PAGE_SIZE) >> order);
    let nr_moving = part(nr, spec.permille);
    let system = system(nr_pages, 1, if spec.huge { ThpMode::Always } else { ThpMode::Never })?;
    let phys = &system.phys;
    let (mm, range) = anonymous(&system, size)?;
    let frames = Frames::alloc(phys, nr_pages, 1 << order, seed, Purpose::Frames)?;
    let marks = Marks::in_runs(nr, nr_moving, spec.run_pages, seed);
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let mut expected = EntryCounts { migration: nr_moving << order, ..EntryCounts::default() };
    if spec.huge {
        for k in 0..nr {
            let i = k * PAGES_PER_PMD;
            let (head, index) = (frames.get(i), first_index + i);
            let e = if marks.has(k) {
                migration_entry(phys, head, index, order)
            } else {
                phys.compose(head, PageKind::Anon, order);
                phys.add_new_anon_rmap_huge(head, index);
                with_frame(model.mkhuge(), head)
            };
            builder.pmd_leaf(range.start().add_pages(i), e)?;
        }
        expected.pmd_rw = (nr - nr_moving) << order;
    } else {
        builder.ptes(range, |i| match marks.has(i) {
            true => migration_entry(phys, frames.get(i), first_index + i, order),
            false => with_frame(model, frames.get(i)),
        })?;
        expected.pte_rw = nr - nr_moving;
    }
    drop(builder);
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}

pub(super) fn build_poisoned(size: u64, seed: u64, spec: Poisoned) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let poison = part(nr_pages, spec.permille);
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let phys = &system.phys;
    let (mm, range) = anonymous(&system, size)?;
    let frames = Frames::alloc(phys, nr_pages, 1, seed, Purpose::Frames)?;
    let marks = Marks::in_runs(nr_pages, poison, spec.run_pages, seed);
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    builder.ptes(range, |i| {
        let pfn = frames.get(i);
        if !marks.has(i) {
            return with_frame(model, pfn);
        }
        // memory_failure keeps its reference for ever.
        phys.page(pfn).prepare(PageKind::Anon, 0, PG_HWPOISON);
        phys.page(pfn).set_index(first_index + i);
        SwpEntry::new(SwpType::Hwpoison, pfn.get()).entry()
    })?;
    drop(builder);
    let expected = EntryCounts { poison, pte_rw: nr_pages - poison, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}
