//! `mixed_huge`: a heap of which a share is mapped by PMD leaves and the rest by PTEs, over several VMAs.
//!
//! The VMAs lie side by side and every second one has MADV_DONTFORK, as buffers registered for RDMA have, so that they
//! do not merge and a request may cross them.
//!
//! Of what no PMD leaf maps, pages may be absent, in runs, below tables that are there: as MADV_DONTNEED leaves what an
//! allocator gave back. Faults fill them page by page, since a table stands where a huge page would have to.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::parameters::{Marks, RunLengths, part, permille};
use super::{BuildError, Built, EntryCounts, Undo};
use crate::random::{Picks, Purpose, generator};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, PMD_SIZE, PageRange, Pfn};
use walker::arch::Entry;
use walker::memory::PageKind;
use walker::mm::Mm;
use walker::mm::madvise::Advice;
use walker::mm::system::ThpMode;

/// Parameters. The size is a multiple of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedHuge {
    /// 2 MiB spans of a thousand that one PMD leaf maps; which ones is drawn.
    #[serde(deserialize_with = "permille")]
    pub huge_permille: u16,
    /// VMAs, of the same length but for rounding to 2 MiB.
    #[serde(deserialize_with = "super::parameters::nr_vmas")]
    pub vmas: u64,
    /// Neighbouring frames of what is mapped by PTEs, as in `dense_4k`.
    #[serde(deserialize_with = "super::parameters::run_pages")]
    pub run_pages: u64,
    /// Pages of a thousand of the whole range that are absent; none of them below a PMD leaf.
    #[serde(default, deserialize_with = "permille")]
    pub absent_permille: u16,
}

/// Pages in a row that are absent: what an allocator gives back at a time.
const ABSENT_RUN: RunLengths = RunLengths { min: 16, max: 64 };

impl MixedHuge {
    /// What is wrong with the shares together.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let (huge, absent) = (self.huge_permille, self.absent_permille);
        (huge + absent > 1000).then(|| {
            let most = 1000 - huge;
            (
                "absent_permille",
                format!("is {absent}: expected at most {most}, what {huge} in huge pages leave"),
            )
        })
    }
}

/// Which pages are absent.
#[derive(Debug)]
pub(super) struct Absent(Marks);

impl Absent {
    /// Frees what was faulted in.
    pub(super) fn undo(&self, mm: &Mm, range: PageRange) {
        mm.build().restore(range, |i, now| if self.0.has(i) { Entry::NONE } else { now });
    }
}

/// Why it does not come in this size.
pub(super) fn misfit(size: u64, spec: MixedHuge) -> Option<String> {
    let spans = size / PMD_SIZE;
    (spans < spec.vmas).then(|| {
        format!("{} VMAs of whole 2 MiB spans do not fit: expected at least {} MiB", spec.vmas, 2 * spec.vmas)
    })
}

/// Cuts the mapping at `range` into `nr` VMAs of whole spans.
fn cut(mm: &Mm, range: PageRange, nr: u64) -> Result<(), BuildError> {
    let spans = range.nr_pages() / PAGES_PER_PMD;
    let start =
        |k: u64| range.start().add_pages((spans as u128 * k as u128 / nr as u128) as u64 * PAGES_PER_PMD);
    for k in (1..nr).step_by(2) {
        mm.madvise(PageRange::between(start(k), start(k + 1)), Advice::DontFork)?;
    }
    Ok(())
}

pub(super) fn build(size: u64, seed: u64, spec: MixedHuge) -> Result<Built, BuildError> {
    let (nr_pages, nr_spans) = (size / PAGE_SIZE, size / PMD_SIZE);
    let nr_huge = part(nr_spans, spec.huge_permille);
    let system = system(nr_pages, 1, ThpMode::Madvise)?;
    let phys = &system.phys;
    let (mm, range) = anonymous(&system, size)?;
    mm.madvise(range, Advice::Hugepage)?;
    mm.build().anon_prepare(range.start());
    cut(&mm, range, spec.vmas)?;
    let frames = |spans: u64, run| match spans {
        0 => Ok(None),
        n => Frames::alloc(phys, n * PAGES_PER_PMD, run, seed, Purpose::Frames).map(Some),
    };
    let (huge, small) = (frames(nr_huge, PAGES_PER_PMD)?, frames(nr_spans - nr_huge, spec.run_pages)?);
    let (nr_small, nr_absent) = (nr_pages - nr_huge * PAGES_PER_PMD, part(nr_pages, spec.absent_permille));
    let absent_small = Marks::in_runs(nr_small, nr_absent, ABSENT_RUN, seed);
    let mut absent = Marks::none(nr_pages);
    let mut builder = mm.build();
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let (mut next_huge, mut next_small) = (0, 0);
    for (k, is_huge) in Picks::new(generator(seed, Purpose::Spans), nr_spans, nr_huge).enumerate() {
        let first = k as u64 * PAGES_PER_PMD;
        let span = PageRange::pages(range.start().add_pages(first), PAGES_PER_PMD);
        match (&huge, &small) {
            (Some(huge), _) if is_huge => {
                let head = huge.get(next_huge);
                next_huge += PAGES_PER_PMD;
                phys.compose(head, PageKind::Anon, PMD_ORDER);
                phys.add_new_anon_rmap_huge(head, first_index + first);
                builder.pmd_leaf(span.start(), with_frame(model.mkhuge(), head))?;
            }
            (_, Some(small)) => {
                builder.ptes(span, |i| {
                    let frame = small.get(next_small + i);
                    if absent_small.has(next_small + i) {
                        absent.set(first + i);
                        phys.free(frame);
                        return Entry::NONE;
                    }
                    with_frame(model, frame)
                })?;
                next_small += PAGES_PER_PMD;
            }
            _ => unreachable!("as many spans of each kind as were picked"),
        }
    }
    drop(builder);
    let pmd_rw = nr_huge * PAGES_PER_PMD;
    let expected = EntryCounts {
        pmd_rw,
        pte_rw: nr_pages - pmd_rw - nr_absent,
        none: nr_absent,
        ..EntryCounts::default()
    };
    let undo = if nr_absent == 0 { Undo::Steady } else { Undo::Absent(Absent(absent)) };
    Ok(Built::new(system, mm, range, expected, undo))
}
