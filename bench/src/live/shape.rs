//! What the memory looks like before it is asked about.

use std::fs::{self, File};
use std::io;

use serde::{Deserialize, Serialize};

use crate::capture::scan::{self, Region};
use crate::os::mapping::{Advice, HUGE_PAGE, IdleChild, Mapping, PAGE};

/// Pages of a stripe of [`Shape::ManyVmas`].
const STRIPE: usize = 64;

/// As the workloads of the same names, as far as a process can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Every page there, mapped by PTEs.
    #[serde(rename = "dense_4k")]
    Dense4k,
    /// Every page there, in huge pages.
    #[serde(rename = "dense_2m")]
    Dense2m,
    /// Every page there, in huge pages of hugetlb.
    #[serde(rename = "hugetlb_2m")]
    Hugetlb,
    /// Every eighth page there.
    Sparse,
    /// Every page there, a VMA for each 64 pages.
    ManyVmas,
    /// The zero page everywhere.
    ZeroPage,
    /// Every page shared with a child.
    AfterFork,
    /// The same when the child is gone: a write may keep the page.
    ChildGone,
    /// Nothing there, but the tables that it was in.
    EmptyTables,
    /// Nothing there, huge pages unwanted. Nor are tables before the first fault.
    #[serde(rename = "absent_4k")]
    Absent4k,
    /// Nothing there, huge pages wanted.
    #[serde(rename = "absent_2m")]
    Absent2m,
    /// Every page in swap.
    Swapped,
}

impl Shape {
    /// Those that snapshots look at.
    pub(super) const SNAPSHOTS: [Shape; 10] = [
        Shape::Dense4k,
        Shape::Dense2m,
        Shape::Hugetlb,
        Shape::Sparse,
        Shape::ManyVmas,
        Shape::ZeroPage,
        Shape::AfterFork,
        Shape::EmptyTables,
        Shape::Absent4k,
        Shape::Swapped,
    ];

    /// Whether it wants transparent huge pages.
    fn wants_thp(self) -> bool {
        matches!(self, Shape::Dense2m | Shape::Absent2m)
    }
    /// Whether huge pages are what is mapped.
    pub(super) fn is_huge(self) -> bool {
        self.wants_thp() || self == Shape::Hugetlb
    }
    /// Fresh memory for it.
    ///
    /// # Errors
    /// The kernel's; too few huge pages in its pool.
    pub(super) fn mapping(self, bytes: usize) -> io::Result<Mapping> {
        if self != Shape::Hugetlb {
            return Mapping::new(bytes);
        }
        Mapping::hugetlb(bytes).map_err(|e| {
            let pages = bytes / HUGE_PAGE;
            io::Error::new(e.kind(), format!("expected {pages} free huge pages (vm.nr_hugepages): {e}"))
        })
    }
    /// Whether the VMA of the page with this index is read-only.
    pub(super) fn is_read_only(self, page: usize) -> bool {
        self == Shape::ManyVmas && (page / STRIPE).is_multiple_of(2)
    }

    /// Makes it of whatever `mapping` holds. What is returned keeps it so.
    ///
    /// # Errors
    /// What the kernel says, or lacks.
    pub(super) fn make(self, mapping: &Mapping) -> io::Result<Option<IdleChild>> {
        let all = mapping.all();
        if self == Shape::Hugetlb {
            // Whose size is no matter of advice. Filled once, it stays: nothing faults in it.
            return fill(mapping).map(|()| None);
        }
        mapping.advise(all.clone(), Advice::DontNeed)?;
        let advice = if self.wants_thp() { Advice::HugePage } else { Advice::NoHugePage };
        match mapping.advise(all.clone(), advice) {
            // A kernel without huge pages knows neither advice.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && self.wants_thp() => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("this kernel has no huge pages (MADV_HUGEPAGE: {e})"),
                ));
            }
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
            advised => advised?,
        }
        match self {
            Shape::Dense4k => fill(mapping)?,
            Shape::Dense2m => {
                fill(mapping)?;
                comes_in_huge_pages(mapping)?;
            }
            Shape::Sparse => mapping.write(8),
            Shape::ManyVmas => {
                fill(mapping)?;
                for first in (0..mapping.len()).step_by(STRIPE * PAGE).filter(|f| self.is_read_only(f / PAGE))
                {
                    mapping.protect(first..first + STRIPE * PAGE, false)?;
                }
            }
            Shape::ZeroPage => mapping.advise(all, Advice::PopulateRead)?,
            Shape::AfterFork => {
                fill(mapping)?;
                return IdleChild::fork().map(Some);
            }
            Shape::ChildGone => {
                fill(mapping)?;
                drop(IdleChild::fork()?);
            }
            Shape::EmptyTables => {
                fill(mapping)?;
                mapping.advise(all, Advice::DontNeed)?;
            }
            Shape::Absent4k | Shape::Hugetlb => {}
            Shape::Absent2m => {
                // Whether they come is only seen by trying.
                fill(mapping)?;
                comes_in_huge_pages(mapping)?;
                mapping.advise(all, Advice::DontNeed)?;
            }
            Shape::Swapped => {
                let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
                if swaps.lines().count() < 2 {
                    return Err(io::Error::other("this machine has no swap (/proc/swaps)"));
                }
                // A page of zeros would not be stored.
                mapping.write(1);
                mapping.advise(all, Advice::PageOut)?;
            }
        }
        Ok(None)
    }
}

/// Every page there, as a program that writes to each would have it.
fn fill(mapping: &Mapping) -> io::Result<()> {
    match mapping.advise(mapping.all(), Advice::PopulateWrite) {
        // Before 5.14.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            mapping.write(1);
            Ok(())
        }
        filled => filled,
    }
}

/// Whether the kernel gave huge pages for all of it.
fn comes_in_huge_pages(mapping: &Mapping) -> io::Result<()> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut huge = 0;
    let count = |regions: &[Region]| {
        let in_huge_pages = regions.iter().filter(|r| r.categories & scan::HUGE != 0);
        huge += in_huge_pages.map(|r| r.end - r.start).sum::<u64>();
    };
    scan::scan_all(&pagemap, mapping.addresses(), &mut Vec::new(), count).map_err(|e| {
        io::Error::new(e.kind(), format!("whether pages are huge only PAGEMAP_SCAN (6.7) says: {e}"))
    })?;
    if huge as usize == mapping.len() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the kernel gave huge pages for {} % of the memory; expected all of it (transparent_hugepage/enabled, memory)",
        100 * huge / mapping.len() as u64
    )))
}
