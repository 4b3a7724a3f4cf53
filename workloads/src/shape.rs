//! Shapes: definitions become live address spaces.
//!
//! Tables are written directly ([`walker::mm::build`]); tests prove that the result equals what operations reach. A
//! shape's parameters, a size and a seed decide every entry, byte for byte, on any machine.
//!
//! | shape | what | frames |
//! |---|---|---|
//! | `dense_4k` | one anonymous VMA, every PTE present and writable | in runs, runs shuffled |
//! | `dense_2m` | one anonymous VMA of PMD leaves | folios shuffled |
//! | `hugetlb` | one hugetlb VMA of PMD or PUD leaves | pages shuffled |
//! | `mixed_huge` | several VMAs, a share of PMD leaves, the rest PTEs, some absent | as `dense_2m`, as `dense_4k` |
//! | `split_permissions` | folios of 2 MiB mapped by PTEs, every second stripe read-only | as `dense_2m` |
//! | `after_fork` | parent and child share every page but those the parent wrote since | as `dense_4k` |
//! | `zero_mapped` | the zero page, or the huge zero page, everywhere | none |
//! | `swapped` | a share of swap entries, in runs | shuffled |
//! | `absent_4k` | one anonymous VMA with nothing in it | none |
//! | `sparse` | few pages in few spans, holes or empty tables between | shuffled |
//! | `many_vmas` | VMAs of log-normal lengths, with gaps and other rights | shuffled |
//! | `numa_hint` | a share of PTEs or PMD leaves with hints, in runs | as `dense_4k`, as `dense_2m` |
//! | `device_private` | a share in the caller's or another's device memory, in runs | shuffled |
//! | `migrating` | a share of PTEs or PMD leaves under migration, in runs | as `dense_4k`, as `dense_2m` |
//! | `poisoned` | a share of poison entries, in runs | shuffled |
//! | `pfnmap` | one VM_PFNMAP VMA | none |
//! | `captured` | what `walkbench capture` saw | where runs break, not where they lie |

pub mod captured;
mod counts;
mod dense;
mod device_private;
mod error;
mod fork;
mod hugetlb;
mod machine;
mod many_vmas;
mod mixed_huge;
mod numa_hint;
mod parameters;
mod pfnmap;
mod sparse;
mod spec;
mod split_permissions;
mod swapped;
mod unavailable;
mod zero_mapped;
pub(crate) mod zipf;

pub use counts::EntryCounts;
pub use device_private::{DevicePrivate, Owner};
pub use error::BuildError;
pub use hugetlb::{HugePage, Hugetlb};
pub use many_vmas::ManyVmas;
pub use mixed_huge::MixedHuge;
pub use numa_hint::NumaHint;
pub use parameters::RunLengths;
pub use sparse::Sparse;
pub use spec::ShapeSpec;
pub use split_permissions::{Protector, SplitPermissions};
pub use swapped::Swapped;
pub use unavailable::{Migrating, Poisoned};
pub use zero_mapped::ZeroMapped;

use crate::definition::Definition;
use serde::Deserialize;
use std::sync::Arc;
use walker::addr::PageRange;
use walker::mm::system::System;
use walker::mm::{Errno, Mm};

/// What exists of the data pages besides the entries that map them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Nothing: struct pages are in their untouched state (which means mapped once, exclusive), contents cost nothing.
    /// About 8.3 bytes a page. Reverse mapping cannot find the pages; walks, faults and zaps work.
    #[default]
    Tables,
    /// Struct pages know their place, so that reverse mapping works too (migration, reclaim). 64 bytes a page more.
    Pages,
    /// And the contents are real, zeroed memory, so that copies cost what they cost. 4 KiB a page more.
    Data,
}

/// What `absent_4k` has above the missing pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsentTables {
    /// PTE tables of none entries, as MADV_DONTNEED leaves them.
    Empty,
    /// No tables at all, as mmap leaves them.
    Missing,
}

/// A live address space of a shape, on a machine of its own.
#[derive(Debug)]
pub struct Built {
    /// The machine.
    pub system: Arc<System>,
    /// The address space to walk.
    pub mm: Arc<Mm>,
    /// What to walk.
    pub range: PageRange,
    /// Address spaces that share its pages; dropping one changes what a write fault does.
    pub children: Vec<Arc<Mm>>,
    /// What the entries of `range` are, computed from the definition.
    pub expected: EntryCounts,
    /// What the model cannot express and was left out: pages and why. Empty but for captured shapes.
    pub left_out: Vec<(u64, &'static str)>,
    /// Whose device memory is reported to requests (`dev_private_owner`): 0 for nobody's.
    pub owner: u64,
    undo: Undo,
}

/// How the state before the first fault comes back.
#[derive(Debug)]
enum Undo {
    /// Faults change nothing.
    Steady,
    /// Faults fill what was empty.
    Zap { unmap: bool },
    /// Faults break sharing.
    Share(fork::Sharing),
    /// Faults replace the zero page.
    Zero { huge: bool },
    /// Faults read pages in.
    Swap(swapped::Slots),
    /// Faults fill what was empty around what is there.
    Holes(sparse::Population),
    /// Faults fill what was absent among what is there.
    Absent(mixed_huge::Absent),
    /// Faults give rights back.
    Hints(numa_hint::Hints),
    /// Faults bring pages back from a device.
    Device(device_private::OnDevice),
    /// Not possible in place.
    Rebuild,
}

impl Built {
    fn new(system: Arc<System>, mm: Arc<Mm>, range: PageRange, expected: EntryCounts, undo: Undo) -> Built {
        Built { system, mm, range, children: vec![], expected, left_out: vec![], owner: 0, undo }
    }
    /// Whether [`Built::reset`] works for this shape; otherwise it has to be built again.
    pub const fn can_reset(&self) -> bool {
        !matches!(self.undo, Undo::Rebuild)
    }
    /// Gives the machine back in one piece. Dropping unmaps page by page instead, as a process that exits does, which
    /// touches the struct page of every frame: seconds for 64 GiB, and 16 GiB of memory for 1 TiB. All that still
    /// refers to the address spaces (mirrors) finds them empty.
    pub fn discard(self) {
        core::iter::once(&self.mm).chain(&self.children).for_each(|mm| mm.abandon());
    }
    /// Brings the tables of `range` back to the state they were built in, after faults. A mirror sees an event over what
    /// changes. Nobody else may use the address space meanwhile.
    ///
    /// Costs: nothing where faults change nothing; else one pass over the entries and a freed page for each that faults
    /// brought. Frames of entries are as built, but those in device memory; frames of tables that had to go may differ.
    ///
    /// # Errors
    /// Out of frames; [`Errno::Busy`] where somebody else has taken the swap slots; [`Errno::Inval`] for shapes that
    /// cannot ([`Built::can_reset`]).
    pub fn reset(&self) -> Result<(), BuildError> {
        let (mm, range) = (&self.mm, self.range);
        match &self.undo {
            Undo::Steady => Ok(()),
            Undo::Zap { unmap } => dense::reset_absent(mm, range, *unmap),
            Undo::Share(sharing) => sharing.restore(mm, range),
            Undo::Zero { huge } => zero_mapped::undo(mm, range, *huge),
            Undo::Swap(slots) => slots.undo(mm, range),
            Undo::Holes(population) => {
                population.undo(mm, range);
                Ok(())
            }
            Undo::Absent(absent) => {
                absent.undo(mm, range);
                Ok(())
            }
            Undo::Hints(hints) => {
                hints.place(mm, range);
                Ok(())
            }
            Undo::Device(on_device) => on_device.undo(mm, range),
            Undo::Rebuild => Err(BuildError::Errno(Errno::Inval)),
        }
    }
}

impl Definition {
    /// The shape at a size, in a machine of its own.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, size_bytes: u64, seed: u64) -> Result<Built, BuildError> {
        self.shape.build(size_bytes, seed)
    }
}

impl ShapeSpec {
    /// As [`Definition::build`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, size_bytes: u64, seed: u64) -> Result<Built, BuildError> {
        self.check_size(size_bytes)?;
        match self {
            ShapeSpec::Dense4k { run_pages, memory } => {
                dense::build_4k(size_bytes, seed, *run_pages, *memory)
            }
            ShapeSpec::Dense2m => dense::build_2m(size_bytes, seed),
            ShapeSpec::AfterFork { run_pages, broken_permille, memory } => {
                fork::build(size_bytes, seed, *run_pages, *broken_permille, *memory)
            }
            ShapeSpec::Absent4k { tables } => dense::build_absent(size_bytes, *tables),
            ShapeSpec::Hugetlb(spec) => hugetlb::build(size_bytes, seed, *spec),
            ShapeSpec::MixedHuge(spec) => mixed_huge::build(size_bytes, seed, *spec),
            ShapeSpec::SplitPermissions(spec) => split_permissions::build(size_bytes, seed, *spec),
            ShapeSpec::ZeroMapped(spec) => zero_mapped::build(size_bytes, *spec),
            ShapeSpec::Swapped(spec) => swapped::build(size_bytes, seed, *spec),
            ShapeSpec::Sparse(spec) => sparse::build(size_bytes, seed, *spec),
            ShapeSpec::ManyVmas(spec) => many_vmas::build(size_bytes, seed, *spec),
            ShapeSpec::NumaHint(spec) => numa_hint::build(size_bytes, seed, *spec),
            ShapeSpec::DevicePrivate(spec) => device_private::build(size_bytes, seed, *spec),
            ShapeSpec::Migrating(spec) => unavailable::build_migrating(size_bytes, seed, *spec),
            ShapeSpec::Poisoned(spec) => unavailable::build_poisoned(size_bytes, seed, *spec),
            ShapeSpec::Pfnmap {} => pfnmap::build(size_bytes),
            ShapeSpec::Captured(layout) => captured::build(layout, seed),
        }
    }
}
