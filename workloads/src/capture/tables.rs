//! Which empty pages have a PTE table, for kernels that do not say.
//!
//! A kernel without `PAGEMAP_SCAN` shows a none entry and a missing table alike. A PTE table covers 2 MiB; if any page
//! of such a span has an entry of its own, in whichever VMA, the table is there, and the span's empty pages are none.
//! In all other spans they become holes. Wrong only where every entry of a table was zapped and the table stayed
//! (`MADV_DONTNEED`).

use std::collections::BTreeSet;

use super::{Leaf, PAGE_BYTES, PageState, Run, Shape};

const TABLE_PAGES: u64 = 512;

impl Shape {
    /// Sets every [`PageState::None`] and [`PageState::Hole`] by the rule above.
    pub fn infer_tables(&mut self) {
        let mut with_table = BTreeSet::new();
        for vma in &self.vmas {
            for (page, run) in vma.pages_and_runs() {
                let at_pte = match run.state {
                    PageState::Hole | PageState::None => false,
                    state => state.leaf() == Leaf::Pte,
                };
                if at_pte {
                    with_table.extend(page / TABLE_PAGES..=(page + run.nr_pages - 1) / TABLE_PAGES);
                }
            }
        }
        for vma in &mut self.vmas {
            let runs: Vec<(u64, Run)> = vma.pages_and_runs().collect();
            vma.runs.clear();
            for (mut page, run) in runs {
                if !matches!(run.state, PageState::Hole | PageState::None) {
                    // A run's edge is a state's edge or a physical break: never joined to the one before.
                    vma.push(run.nr_pages, run.state, false);
                    continue;
                }
                let end = page + run.nr_pages;
                while page < end {
                    let span = page / TABLE_PAGES;
                    // Up to the next span with a table, or to the end of this one.
                    let (state, stop) = if with_table.contains(&span) {
                        (PageState::None, (span + 1) * TABLE_PAGES)
                    } else {
                        let next = with_table.range(span..).next().map_or(end, |next| next * TABLE_PAGES);
                        (PageState::Hole, next)
                    };
                    let stop = stop.min(end);
                    vma.push(stop - page, state, false);
                    page = stop;
                }
            }
        }
    }
}

impl super::ShapeVma {
    /// The runs, each with the page number (address / 4096) of its first page.
    pub fn pages_and_runs(&self) -> impl Iterator<Item = (u64, Run)> {
        self.runs.iter().scan(self.start / PAGE_BYTES, |page, run| {
            let first = *page;
            *page += run.nr_pages;
            Some((first, *run))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::{Leaf, PageFlags, PageState, Prot, Run, Shape, ShapeKind, ShapeVma, ThpAdvice};

    #[test]
    fn empty_pages_are_none_beside_an_entry_and_holes_elsewhere() {
        let page = PageState::Present { leaf: Leaf::Pte, flags: PageFlags::EXCLUSIVE };
        let huge = PageState::Present { leaf: Leaf::Pmd, flags: PageFlags::EXCLUSIVE };
        let vma = |start_page: u64, runs: Vec<(u64, PageState)>| ShapeVma {
            start: start_page * 4096,
            nr_pages: runs.iter().map(|r| r.0).sum(),
            prot: Prot::READ,
            shared: false,
            kind: ShapeKind::Anon,
            thp: ThpAdvice::Default,
            runs: runs.into_iter().map(|(nr_pages, state)| Run { nr_pages, state }).collect(),
        };
        let mut shape = Shape {
            name: "t".into(),
            made: String::new(),
            description: String::new(),
            kernel: String::new(),
            physical: true,
            missing: vec![],
            vmas: vec![
                // A table at span 0, none at 1, a huge leaf at 2, none at 3; span 4 has the next VMA's entry.
                vma(
                    10,
                    vec![(1, page), (1, page), (1012, PageState::None), (512, huge), (520, PageState::None)],
                ),
                vma(2057, vec![(1, page)]),
            ],
        };
        shape.infer_tables();
        let got: Vec<_> = shape.vmas[0].runs.iter().map(|r| (r.nr_pages, r.state)).collect();
        assert_eq!(
            got,
            [
                (1, page),
                (1, page),
                (500, PageState::None),
                (512, PageState::Hole),
                (512, huge),
                (512, PageState::Hole),
                (8, PageState::None),
            ]
        );
        assert!(shape.check().is_ok());
    }
}
