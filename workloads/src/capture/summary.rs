//! Counts of a shape.

use super::{Leaf, PageFlags, PageState, Shape};

/// What a shape holds, all in 4 KiB pages unless a name says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// VMAs.
    pub nr_vmas: u64,
    /// Pages inside VMAs.
    pub nr_pages: u64,
    /// Pages that an entry maps, the zero page included.
    pub nr_mapped: u64,
    /// Of those, pages mapped above PTE level.
    pub nr_huge: u64,
    /// Of the mapped, pages that show the zero page.
    pub nr_zero: u64,
    /// Of the mapped, anonymous pages that another process maps too (or did when it was read).
    pub nr_anon_shared: u64,
    /// Of the mapped, pages that are [likely writable](super::ShapeVma::likely_writable).
    pub nr_likely_writable: u64,
    /// Pages with a swap or other non-present entry.
    pub nr_swap: u64,
    /// Runs of mapped pages.
    pub nr_runs: u64,
}

impl Summary {
    /// Share of mapped pages that a PMD or PUD leaf maps, 0 to 1; 0 if nothing is mapped.
    pub fn huge_share(&self) -> f64 {
        ratio(self.nr_huge, self.nr_mapped)
    }

    /// Mapped pages a run, 0 if nothing is mapped. Physically contiguous only if [`Shape::physical`].
    pub fn mean_run_pages(&self) -> f64 {
        ratio(self.nr_mapped, self.nr_runs)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Shape {
    /// Counts the shape's parts, each [`Run`](super::Run) once.
    pub fn summary(&self) -> Summary {
        let mut sum = Summary::default();
        for vma in &self.vmas {
            sum.nr_vmas += 1;
            sum.nr_pages += vma.nr_pages;
            for run in &vma.runs {
                let n = run.nr_pages;
                match run.state {
                    PageState::Present { leaf, flags } => {
                        sum.nr_runs += 1;
                        sum.nr_mapped += n;
                        let count = |yes: bool| if yes { n } else { 0 };
                        sum.nr_huge += count(leaf != Leaf::Pte);
                        sum.nr_zero += count(flags.contains(PageFlags::ZERO));
                        let own = PageFlags::FILE | PageFlags::ZERO | PageFlags::EXCLUSIVE;
                        sum.nr_anon_shared += count(!flags.intersects(own));
                        sum.nr_likely_writable += count(vma.likely_writable(run.state));
                    }
                    PageState::Swap { .. } => sum.nr_swap += n,
                    PageState::Hole | PageState::None | PageState::Guard => {}
                }
            }
        }
        sum
    }
}
