//! `zero_mapped`: read and never written, the zero page everywhere.

use super::machine::{anonymous, map, system};
use super::{BuildError, Built, EntryCounts, Undo};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PageRange};
use walker::arch::Entry;
use walker::mm::Mm;
use walker::mm::system::ThpMode;

/// Parameters. The size is a multiple of 2 MiB where `huge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroMapped {
    /// The huge zero page, one leaf for 2 MiB; else the zero page, one entry for 4 KiB.
    pub huge: bool,
}

pub(super) fn build(size: u64, spec: ZeroMapped) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, if spec.huge { ThpMode::Always } else { ThpMode::Never })?;
    let (mm, range) = anonymous(&system, size)?;
    let mut expected = EntryCounts::default();
    if spec.huge {
        write_huge(&mm, range)?;
        expected.pmd_zero = nr_pages;
    } else {
        let zero = zero_entry(&mm, range);
        mm.build().ptes(range, |_| zero)?;
        expected.pte_zero = nr_pages;
    }
    Ok(Built::new(system, mm, range, expected, Undo::Zero { huge: spec.huge }))
}

/// What `do_anonymous_page` leaves after a read.
fn zero_entry(mm: &Mm, range: PageRange) -> Entry {
    let builder = mm.build();
    let vma = builder.vma(range.start()).expect("just mapped");
    Entry::leaf(mm.system().zero_pfn(), vma.page_prot()).mkspecial()
}

/// What `do_huge_pmd_anonymous_page` leaves after a read.
fn write_huge(mm: &Mm, range: PageRange) -> Result<(), BuildError> {
    let zero = mm.system().get_huge_zero()?;
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let prot = builder.vma(range.start()).expect("just mapped").page_prot();
    for i in (0..range.nr_pages()).step_by(PAGES_PER_PMD as usize) {
        builder.pmd_leaf(range.start().add_pages(i), Entry::leaf(zero, prot).mkhuge())?;
    }
    Ok(())
}

/// Private pages become the zero page again. Split leaves become whole by mapping afresh: no operation joins them.
pub(super) fn undo(mm: &Mm, range: PageRange, huge: bool) -> Result<(), BuildError> {
    if huge {
        mm.munmap(range)?;
        map(mm, range)?;
        walker::memory::rcu::flush();
        return write_huge(mm, range);
    }
    let zero = zero_entry(mm, range);
    mm.build().restore(range, |_, _| zero);
    Ok(())
}
