//! Shapes: definitions become live address spaces.
//!
//! Tables are written directly ([`walker::mm::build`]); tests prove that the result equals what operations reach. A
//! shape's parameters, a size and a seed decide every entry, byte for byte, on any machine.
//!
//! | shape | what | frames |
//! |---|---|---|
//! | `dense_4k` | one anonymous VMA, every PTE present and writable | in runs, runs shuffled |
//! | `dense_2m` | one anonymous VMA of PMD leaves | folios shuffled |
//! | `after_fork` | parent and child share every page but those the parent wrote since | as `dense_4k` |
//! | `absent_4k` | one anonymous VMA with nothing in it | none |
//! | `captured` | what `walkbench capture` saw | where runs break, not where they lie |

pub mod captured;
mod counts;
mod dense;
mod fork;
mod machine;
pub(crate) mod zipf;

pub use counts::EntryCounts;

use crate::definition::{Definition, size_name};
use core::fmt;
use serde::Deserialize;
use std::sync::Arc;
use walker::addr::{PAGE_SIZE, PMD_SIZE, PageRange};
use walker::memory::{OutOfFrames, PhysError};
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

/// A shape with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum ShapeSpec {
    /// One anonymous VMA, every PTE present, writable, young and dirty, as write faults leave it.
    Dense4k {
        /// Pages in a row that are neighbours in physical memory too: a power of two, 1 to 512.
        run_pages: u64,
        /// What exists besides the tables.
        memory: Memory,
    },
    /// One anonymous VMA of PMD leaves (THP), each a 2 MiB folio with its spare table.
    Dense2m,
    /// As `Dense4k`, then forked, then written: the parent is walked, the child lives.
    AfterFork {
        /// As in `Dense4k`.
        run_pages: u64,
        /// Pages of a thousand that the parent has written since, by Zipf(0.99) writes.
        broken_permille: u16,
        /// What exists besides the tables; struct pages of shared frames exist in any case.
        memory: Memory,
    },
    /// One anonymous VMA with nothing in it.
    Absent4k {
        /// What is above the missing pages.
        tables: AbsentTables,
    },
    /// A shape of a live process.
    Captured(Arc<captured::Layout>),
}

impl ShapeSpec {
    /// Sizes are multiples of this.
    pub const fn unit_bytes(&self) -> u64 {
        match self {
            ShapeSpec::Dense2m => PMD_SIZE,
            _ => PAGE_SIZE,
        }
    }
    /// The one size that a captured shape can have.
    pub fn own_size(&self) -> Option<u64> {
        match self {
            ShapeSpec::Captured(layout) => Some(layout.size_bytes()),
            _ => None,
        }
    }
    /// Whether every page of the range is present.
    pub const fn is_all_readable(&self) -> bool {
        !matches!(self, ShapeSpec::Absent4k { .. } | ShapeSpec::Captured(_))
    }
    /// Whether every page of the range is present and writable.
    pub const fn is_all_writable(&self) -> bool {
        matches!(self, ShapeSpec::Dense4k { .. } | ShapeSpec::Dense2m)
    }
    /// The captured shape of this name that comes with the program.
    pub fn embedded(name: &str) -> Option<ShapeSpec> {
        captured::embedded(name).map(ShapeSpec::captured)
    }
    /// A captured shape.
    pub fn captured(shape: crate::capture::Shape) -> ShapeSpec {
        ShapeSpec::Captured(Arc::new(captured::Layout::new(shape)))
    }
}

/// Why a shape could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The host refuses the machine's address space.
    Phys(PhysError),
    /// The modelled machine ran out of frames.
    Frames,
    /// An operation failed on the way.
    Errno(Errno),
    /// The shape does not come in this size.
    Size {
        /// Bytes asked for.
        asked: u64,
        /// Sizes are multiples of this, or exactly this where `exact`.
        expected: u64,
        /// The shape has one size only.
        exact: bool,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Phys(e) => e.fmt(f),
            BuildError::Frames => OutOfFrames.fmt(f),
            BuildError::Errno(e) => write!(f, "building the shape ended in {e}"),
            BuildError::Size { asked, expected, exact: true } => {
                write!(f, "size {}: expected exactly {}", size_name(*asked), size_name(*expected))
            }
            BuildError::Size { asked, expected, exact: false } => {
                write!(
                    f,
                    "size {}: expected a multiple of {}, at most 64TiB and not 0",
                    size_name(*asked),
                    size_name(*expected)
                )
            }
        }
    }
}
impl core::error::Error for BuildError {}
impl From<PhysError> for BuildError {
    fn from(e: PhysError) -> Self {
        BuildError::Phys(e)
    }
}
impl From<OutOfFrames> for BuildError {
    fn from(_: OutOfFrames) -> Self {
        BuildError::Frames
    }
}
impl From<Errno> for BuildError {
    fn from(e: Errno) -> Self {
        if e == Errno::NoMem { BuildError::Frames } else { BuildError::Errno(e) }
    }
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
    /// What the model cannot express yet and was left out: pages and why. Empty but for captured shapes.
    pub left_out: Vec<(u64, &'static str)>,
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
    /// Not possible in place.
    Rebuild,
}

impl Built {
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
    /// Brings the tables of `range` back to the state they were built in, after faults. A mirror sees a CLEAR (or
    /// UNMAP) event over the range. Nobody else may use the address space meanwhile.
    ///
    /// Costs: nothing for dense shapes; `absent_4k` a zap of what was faulted in; `after_fork` one pass over the
    /// entries and one freed page for each broken one. Frames of entries are as built; frames of tables that had to go
    /// may differ.
    ///
    /// # Errors
    /// Out of frames; [`Errno::Inval`] for shapes that cannot ([`Built::can_reset`]).
    pub fn reset(&self) -> Result<(), BuildError> {
        match &self.undo {
            Undo::Steady => Ok(()),
            Undo::Zap { unmap } => dense::reset_absent(&self.mm, self.range, *unmap),
            Undo::Share(sharing) => sharing.restore(&self.mm, self.range),
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
        let (expected, exact) = match self.own_size() {
            Some(own) => (own, true),
            None => (self.unit_bytes(), false),
        };
        let fits = if exact {
            size_bytes == expected
        } else {
            size_bytes != 0 && size_bytes.is_multiple_of(expected) && size_bytes <= machine::MAX_SIZE
        };
        if !fits {
            return Err(BuildError::Size { asked: size_bytes, expected, exact });
        }
        match self {
            ShapeSpec::Dense4k { run_pages, memory } => {
                dense::build_4k(size_bytes, seed, *run_pages, *memory)
            }
            ShapeSpec::Dense2m => dense::build_2m(size_bytes, seed),
            ShapeSpec::AfterFork { run_pages, broken_permille, memory } => {
                fork::build(size_bytes, seed, *run_pages, *broken_permille, *memory)
            }
            ShapeSpec::Absent4k { tables } => dense::build_absent(size_bytes, *tables),
            ShapeSpec::Captured(layout) => captured::build(layout, seed),
        }
    }
}
