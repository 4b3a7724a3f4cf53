//! Where churn happens: the walked range, and memory of the same shape beside it.

use super::{ChurnKind, ChurnSpec};
use crate::request::RequestKind;
use crate::shape::{BuildError, Built, EntryCounts, ShapeSpec};
use core::fmt;
use std::sync::Arc;
use walker::addr::{Level, PAGE_SIZE, PAGES_PER_PMD, PMD_SIZE, PageRange};
use walker::mm::Mm;
use walker::mm::vma::VmFlags;
use walker::request::Wish;

/// Why churn cannot go with a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroundError {
    /// The shape cannot be built.
    Build(BuildError),
    /// What the churn does cannot happen there.
    Refused {
        /// The churn.
        churn: ChurnSpec,
        /// Why not, and what would go.
        why: &'static str,
    },
}

impl fmt::Display for GroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroundError::Build(e) => e.fmt(f),
            GroundError::Refused { churn, why } => write!(f, "churn {churn}: {why}"),
        }
    }
}
impl core::error::Error for GroundError {}
impl From<BuildError> for GroundError {
    fn from(e: BuildError) -> Self {
        GroundError::Build(e)
    }
}

/// The memory that churn changes.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The address space.
    pub mm: Arc<Mm>,
    /// What is walked.
    pub walked: PageRange,
    /// As much memory of the same shape, which is not; none where all events overlap the walk.
    pub beside: Option<PageRange>,
    /// The process is idle: what reclaim and the NUMA scan take from the walked range, the walk has to bring back.
    pub idle: bool,
}

impl Ground {
    /// Builds `shape` with room for the churn: where some events lie beside the walked range, twice the size, of which
    /// [`Built::range`] is the first half.
    ///
    /// # Errors
    /// The shape cannot be built, or the churn cannot happen there. Nothing of that shows later, while measuring.
    pub fn build(
        shape: &ShapeSpec,
        size_bytes: u64,
        seed: u64,
        churn: ChurnSpec,
    ) -> Result<(Built, Ground), GroundError> {
        if let Some(why) = churn.refusal(shape, size_bytes) {
            return Err(GroundError::Refused { churn, why });
        }
        let mut built;
        let mut beside = None;
        if churn.overlap_percent == 100 {
            built = shape.build(size_bytes, seed)?;
        } else {
            // Doubled without overflow: `build` refuses what is too large before anything else.
            built = shape.build(size_bytes.saturating_mul(2), seed)?;
            let half = size_bytes / PAGE_SIZE;
            beside = Some(PageRange::between(built.range.start().add_pages(half), built.range.end()));
            built.range = PageRange::pages(built.range.start(), half);
            built.expected = EntryCounts::of(&built.mm, built.range);
        }
        let ground = Ground { mm: Arc::clone(&built.mm), walked: built.range, beside, idle: false };
        match ground.refusal(churn) {
            Some(why) => {
                built.discard();
                Err(GroundError::Refused { churn, why })
            }
            None => Ok((built, ground)),
        }
    }

    /// For walks that ask this: where they fault, the process is idle, else nobody would bring anything back.
    #[must_use]
    pub fn walked_by(self, request: RequestKind) -> Ground {
        Ground { idle: request.strongest() != Wish::None, ..self }
    }

    /// Why this memory cannot have that happen to it.
    fn refusal(&self, churn: ChurnSpec) -> Option<&'static str> {
        let vmas = self.mm.mmap_read();
        let mut leaves = 0;
        for part in core::iter::once(self.walked).chain(self.beside) {
            let mut addr = part.start();
            for vma in vmas.overlapping(part) {
                let fits = vma.start() <= addr
                    && vma.is_anonymous()
                    && vma.has(VmFlags::READ | VmFlags::WRITE)
                    && !vma.flags.intersects(VmFlags::HUGETLB | VmFlags::SPECIAL | VmFlags::LOCKED);
                if !fits {
                    break;
                }
                addr = vma.end();
            }
            if addr < part.end() {
                return Some(
                    "expected a shape of private anonymous memory, readable and writable, without gaps",
                );
            }
            let mut addr = part.start();
            while addr < part.end() && leaves == 0 {
                leaves += u64::from(self.mm.lookup(addr, Level::Pmd).is_ok_and(|pmd| pmd.read().is_huge()));
                addr = addr.next_boundary(Level::Pmd, part.end());
            }
        }
        (churn.kind == ChurnKind::Split && leaves == 0)
            .then_some("nothing to split: expected a shape with PMD leaves, like dense_2m")
    }
}

impl ChurnSpec {
    /// Why this churn cannot go with a shape of this size, as far as can be said before it is built.
    pub fn refusal(&self, shape: &ShapeSpec, size_bytes: u64) -> Option<&'static str> {
        let by_pmd = matches!(self.kind, ChurnKind::Split | ChurnKind::Collapse);
        if by_pmd && self.span_pages < PAGES_PER_PMD {
            Some("splits and collapses are of 2MiB: expected a span of 2MiB or more")
        } else if self.span_pages > size_bytes / PAGE_SIZE {
            Some("one event is longer than the walked range: expected a span no longer than the size")
        } else if self.overlap_percent == 100 {
            None
        } else if shape.own_size().is_some() {
            Some("a captured shape has no memory beside it: expected overlap o100")
        } else if !size_bytes.is_multiple_of(PMD_SIZE) {
            Some("memory beside the range would share a table with it: expected a size in multiples of 2MiB")
        } else {
            None
        }
    }

    /// Why this request cannot be made while that happens.
    pub fn refuses_request(&self, request: RequestKind) -> Option<&'static str> {
        let read_only = self.kind == ChurnKind::Mprotect && self.overlap_percent > 0;
        (read_only && request.strongest() == Wish::Write).then_some(
            "a wish to write where mprotect just took the right to is -EPERM: expected snapshot or reads",
        )
    }
}
