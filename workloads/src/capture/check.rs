//! The invariants of a shape, tested in one place for the reader and the writer.

use super::error::ShapeProblem;
use super::runs::TILE;
use super::{Leaf, PAGE_BYTES, PageFlags, PageState, Shape, ShapeError, ShapeKind, ShapeVma, USER_END};

impl Shape {
    /// Tests every invariant that the types document.
    ///
    /// # Errors
    ///
    /// The first broken one, with the line it has or would have in a file.
    pub fn check(&self) -> Result<(), ShapeError> {
        check_name(&self.name).map_err(|p| p.at(1))?;
        let mut floor = 0;
        for (i, vma) in self.vmas.iter().enumerate() {
            check_place(vma, floor).and_then(|()| check_runs(vma, self.physical)).map_err(|p| p.at(i + 2))?;
            floor = vma.end();
        }
        Ok(())
    }
}

fn invalid(found: impl Into<String>, expected: &'static str) -> ShapeProblem {
    ShapeProblem::invalid(found, expected)
}

pub(super) fn check_name(name: &str) -> Result<(), ShapeProblem> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    let cut: String = name.chars().take(40).collect();
    Err(invalid(format!("name {cut:?}"), "1 to 64 of a-z A-Z 0-9 . _ -"))
}

/// Tests address and length against user space and against `floor`, the end of the VMA before.
pub(super) fn check_place(vma: &ShapeVma, floor: u64) -> Result<(), ShapeProblem> {
    if !vma.start.is_multiple_of(PAGE_BYTES) {
        return Err(invalid(format!("start {:#x}", vma.start), "a multiple of 4096"));
    }
    if vma.nr_pages == 0 {
        return Err(invalid("0 pages", "at least 1"));
    }
    let end = vma.nr_pages.checked_mul(PAGE_BYTES).and_then(|n| n.checked_add(vma.start));
    if end.is_none_or(|end| end > USER_END) {
        let found = format!("{} pages from {:#x}", vma.nr_pages, vma.start);
        return Err(invalid(found, "a VMA that ends at or below 2^47"));
    }
    if vma.start < floor {
        let found = format!("start {:#x}, below the end {floor:#x} of the VMA before", vma.start);
        return Err(invalid(found, "VMAs in address order without overlap"));
    }
    Ok(())
}

/// Tests the runs of a VMA whose place is right.
pub(super) fn check_runs(vma: &ShapeVma, physical: bool) -> Result<(), ShapeProblem> {
    if let ShapeKind::Hugetlb { leaf } = vma.kind {
        let unit = leaf.nr_pages();
        let whole = (vma.start / PAGE_BYTES).is_multiple_of(unit) && vma.nr_pages.is_multiple_of(unit);
        if leaf == Leaf::Pte || !whole {
            return Err(invalid(
                "a hugetlb VMA that cuts a huge page",
                "start and length in whole huge pages",
            ));
        }
    }
    let mut page = vma.start / PAGE_BYTES;
    let end = page + vma.nr_pages;
    let mut before = None;
    for run in &vma.runs {
        if run.nr_pages == 0 || run.nr_pages > end - page {
            return Err(invalid(format!("a run of {} pages, {} are left", run.nr_pages, end - page), TILE));
        }
        let unit = run.state.leaf().nr_pages();
        if !page.is_multiple_of(unit) || !run.nr_pages.is_multiple_of(unit) {
            let found =
                format!("a run of {} pages at {:#x} in leaves of {unit}", run.nr_pages, page * PAGE_BYTES);
            return Err(invalid(found, "huge leaves whole and aligned to their size"));
        }
        if before == Some(run.state) && !(physical && run.state.has_frames()) {
            return Err(invalid(
                "two runs of one state side by side",
                "one run: no physical break is known there",
            ));
        }
        check_state(vma.kind, run.state)?;
        before = Some(run.state);
        page += run.nr_pages;
    }
    if page != end {
        return Err(invalid(
            format!("runs over {} of {} pages", vma.nr_pages - (end - page), vma.nr_pages),
            TILE,
        ));
    }
    Ok(())
}

fn check_state(kind: ShapeKind, state: PageState) -> Result<(), ShapeProblem> {
    let flags = state.flags();
    match state {
        PageState::Present { leaf, .. } => {
            if flags.contains(PageFlags::ZERO | PageFlags::FILE) {
                return Err(invalid("a zero page of a file", "z or f, not both"));
            }
            if let ShapeKind::Hugetlb { leaf: page } = kind
                && leaf != page
            {
                return Err(invalid("another leaf in a hugetlb VMA", "leaves of its page size"));
            }
            Ok(())
        }
        PageState::Swap { .. } if !(PageFlags::SOFT_DIRTY | PageFlags::UFFD_WP).contains(flags) => {
            Err(invalid("flags of a mapped page on a swap entry", "d and w only"))
        }
        _ => Ok(()),
    }
}
