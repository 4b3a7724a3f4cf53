//! What the harness costs by itself, as a share of what it measures.

use super::GroupResult;

/// A cell whose harness costs more than this of a thousand is marked.
pub(super) const TOO_MUCH_PERMILLE: f64 = 10.0;

/// Over the cells of a run that are not marked for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Harness {
    /// The middle cell, in per cent.
    pub(crate) median_percent: f64,
    /// The worst one, in per cent.
    pub(crate) worst_percent: f64,
    /// Cells.
    pub(crate) cells: usize,
    /// Cells that are marked, since they are too close to the harness or the clock.
    pub(crate) marked: usize,
}

impl Harness {
    /// None if no cell has a result.
    pub(crate) fn of(results: &[GroupResult]) -> Option<Harness> {
        let cells: Vec<_> =
            results.iter().flat_map(|r| &r.cells).filter(|c| c.harness_permille.is_some()).collect();
        let is_marked = |marks: &[String]| marks.iter().any(|m| m.starts_with("near_") || m == "harness");
        let mut shares: Vec<f64> =
            cells.iter().filter(|c| !is_marked(&c.marks)).filter_map(|c| c.harness_permille).collect();
        shares.sort_by(f64::total_cmp);
        Some(Harness {
            median_percent: shares.get(shares.len() / 2)? / 10.0,
            worst_percent: shares.last()? / 10.0,
            cells: shares.len(),
            marked: cells.len() - shares.len(),
        })
    }
}

/// Of a thousand: the loop that makes requests, and the two halves of the block's two clock readings that fall into it.
pub(super) fn permille(
    loop_ns_per_page: f64,
    clock_cost_ns: f64,
    pages_a_block: f64,
    ns_per_page: f64,
) -> f64 {
    1000.0 * (loop_ns_per_page + clock_cost_ns / pages_a_block.max(1.0)) / ns_per_page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_and_clock_are_shares_of_the_cell() {
        // 0.01 ns of 2 ns a page, and 20 ns of a block of 1000 pages.
        let p = permille(0.01, 20.0, 1000.0, 2.0);
        assert!((p - 15.0).abs() < 1e-9, "{p}");
    }
}
