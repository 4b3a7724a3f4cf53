//! `split_permissions`: 2 MiB folios mapped by 4 KiB entries, since rights differ within them.
//!
//! Every second stripe of pages is read-only. By mprotect each stripe is a VMA of its own, as a guard or a collector's
//! card table makes them; by userfaultfd the same entries lie in one VMA, which tells the cost of the rights from the
//! cost of the VMAs.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::{BuildError, Built, EntryCounts, Undo};
use crate::random::Purpose;
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, PageRange, Pfn};
use walker::memory::page::PG_DIRTY;
use walker::memory::{PageKind, Phys};
use walker::mm::Mm;
use walker::mm::system::ThpMode;
use walker::mm::userfaultfd::{UffdMode, Userfaultfd};
use walker::mm::vma::VmFlags;

/// Parameters. The size is a multiple of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPermissions {
    /// Pages in a row with the same rights.
    #[serde(deserialize_with = "super::parameters::stripe_pages")]
    pub stripe_pages: u64,
    /// What made the rights differ.
    pub by: Protector,
}

/// What takes the right to write away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protector {
    /// mprotect: a VMA for each stripe.
    Mprotect,
    /// userfaultfd's write protection: one VMA.
    UffdWp,
}

/// The stripes that are read-only.
fn protected(range: PageRange, stripe: u64) -> impl Iterator<Item = PageRange> {
    let nr = range.nr_pages();
    (stripe..nr)
        .step_by(2 * stripe as usize)
        .map(move |i| PageRange::pages(range.start().add_pages(i), stripe))
}

/// Protects before anything is mapped: cheap, since only VMAs change.
fn protect(mm: &Mm, range: PageRange, spec: SplitPermissions) -> Result<(), BuildError> {
    match spec.by {
        Protector::Mprotect => {
            for stripe in protected(range, spec.stripe_pages) {
                mm.mprotect(stripe, VmFlags::READ)?;
            }
        }
        Protector::UffdWp => {
            mm.uffd_register(Userfaultfd::new(mm.system(), false), range, UffdMode::WriteProtect)?;
        }
    }
    Ok(())
}

/// The struct pages of a folio whose PMD leaf was split: a reference and a mapping a page.
fn split_folio(phys: &Phys, head: Pfn, index: u64) {
    phys.compose(head, PageKind::Anon, PMD_ORDER);
    let page = phys.page(head);
    page.set(PG_DIRTY);
    page.set_index(index);
    page.get(PAGES_PER_PMD as i32 - 1);
    page.add_large_mappings(PAGES_PER_PMD as i32);
    (0..PAGES_PER_PMD).for_each(|i| phys.page(head.add(i)).set_pte_mappings(1));
}

pub(super) fn build(size: u64, seed: u64, spec: SplitPermissions) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, ThpMode::Always)?;
    let phys = &system.phys;
    let (mm, range) = anonymous(&system, size)?;
    mm.build().anon_prepare(range.start());
    protect(&mm, range, spec)?;
    let frames = Frames::alloc(phys, nr_pages, PAGES_PER_PMD, seed, Purpose::Frames)?;
    let mut builder = mm.build();
    let vma = builder.vma(range.start()).expect("just mapped");
    let (own, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let read_only = match spec.by {
        Protector::Mprotect => own.wrprotect(),
        Protector::UffdWp => own.mkuffd_wp(),
    };
    for i in (0..nr_pages).step_by(PAGES_PER_PMD as usize) {
        split_folio(phys, frames.get(i), first_index + i);
    }
    builder.ptes(range, |i| {
        let model = if (i / spec.stripe_pages).is_multiple_of(2) { own } else { read_only };
        with_frame(model, frames.get(i))
    })?;
    drop(builder);
    let expected = EntryCounts { pte_rw: nr_pages / 2, pte_ro: nr_pages / 2, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}
