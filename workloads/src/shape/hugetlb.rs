//! `dense_1g` and `dense_2m` of the catalogue on hugetlb: one private mapping whose pages are all there and writable.
//!
//! The leaves are PMD entries (2 MiB) or PUD entries (1 GiB) without spare tables, and a walk meets them through
//! `hugetlb_entry`, not `pmd_entry`. Pages are not zeroed: nothing reads them.

use super::machine::{START, system_with};
use super::{BuildError, Built, EntryCounts, Undo};
use crate::random::{Permutation, Purpose, generator};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PMD_ORDER, PMD_SIZE, PUD_ORDER, PageRange};
use walker::arch::Geometry;
use walker::mm::Mm;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::Settings;
use walker::mm::vma::VmFlags;

/// Parameters. The size is a multiple of `page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hugetlb {
    /// Size of the pages.
    pub page: HugePage,
}

/// A size of hugetlb pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum HugePage {
    /// PMD leaves.
    #[serde(rename = "2MiB")]
    Pmd,
    /// PUD leaves.
    #[serde(rename = "1GiB")]
    Pud,
}

impl HugePage {
    /// log2 of the base pages.
    pub const fn order(self) -> u8 {
        match self {
            HugePage::Pmd => PMD_ORDER,
            HugePage::Pud => PUD_ORDER,
        }
    }
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            HugePage::Pmd => PMD_SIZE,
            HugePage::Pud => PAGE_SIZE << PUD_ORDER,
        }
    }
}

pub(super) fn build(size: u64, seed: u64, spec: Hugetlb) -> Result<Built, BuildError> {
    let (nr_pages, nr_huge) = (size / PAGE_SIZE, size / spec.page.bytes());
    let mut settings = Settings::default();
    match spec.page {
        HugePage::Pmd => settings.hugetlb_2m = nr_huge,
        HugePage::Pud => settings.hugetlb_1g = nr_huge,
    }
    let system = system_with(nr_pages, 1, settings)?;
    let mm = Mm::new(&system, Geometry::FourLevel)?;
    let range = PageRange::pages(START, nr_pages);
    let kind = MapKind::Hugetlb { order: spec.page.order(), shared: false };
    mm.mmap(range, VmFlags::READ | VmFlags::WRITE, kind, MapFlags::default(), 0)?;
    let mut builder = mm.build();
    // The pool hands out its pages in a row; which address asks when is shuffled instead.
    let order = Permutation::new(&mut generator(seed, Purpose::Frames), nr_huge);
    for i in 0..nr_huge {
        builder.hugetlb_page(range.start().add_pages(order.get(i) << spec.page.order()), true)?;
    }
    drop(builder);
    let expected = match spec.page {
        HugePage::Pmd => EntryCounts { pmd_rw: nr_pages, ..EntryCounts::default() },
        HugePage::Pud => EntryCounts { pud: nr_pages, ..EntryCounts::default() },
    };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}
