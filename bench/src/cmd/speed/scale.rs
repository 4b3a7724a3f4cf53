//! The lines about scale: the same work on more memory, and the same memory in more VMAs.
//!
//! A snapshot of 4 KiB entries should cost what the entries cost to bring in: its distance to the barest loop over the
//! same tables stays, and both follow the caches. VMAs should cost a descent in their tree and the edges of their walks.

use workloads::definition::size_name;
use workloads::shape::{ManyVmas, Memory, ShapeSpec};

use super::lines::Duel;

/// From what fits caches to what fits none.
const SIZES: [u64; 6] = [1 << 30, 4 << 30, 16 << 30, 64 << 30, 256 << 30, 1 << 40];
/// VMAs in [`WITH_VMAS`] bytes.
const VMAS: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];
const WITH_VMAS: u64 = 1 << 30;
/// What a VMA may cost, in entries: the descent of find_vma from the root of the tree, which the kernel's walk makes for each
/// VMA too (mm/pagewalk.c, 6.12), and the walk from the PGD to the PTE table.
const ENTRIES_A_VMA: u64 = 200;

/// All of them, in the order of the report.
pub(super) fn duels() -> Vec<Duel> {
    let by_size = SIZES.map(|size| {
        let shape = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
        Duel::snapshot(format!("4K, {}", size_name(size)), shape, size, 1.5)
    });
    let by_vmas = VMAS.map(|vmas| {
        let spec = ManyVmas { vmas, read_only_permille: 0, no_access_permille: 0, gap_permille: 0 };
        let title = format!("{}, {vmas} VMAs", size_name(WITH_VMAS));
        // Where VMAs are short each shows: it may cost as much as so many entries of the barest loop.
        let goal = 1.5 + (ENTRIES_A_VMA * vmas) as f64 / (WITH_VMAS >> 12) as f64;
        let goal = (goal * 10.0).round() / 10.0;
        Duel::snapshot(title, ShapeSpec::ManyVmas(spec), WITH_VMAS, goal)
    });
    by_size.into_iter().chain(by_vmas).collect()
}
