//! Captured shapes: what the page tables of a live process looked like, without its contents.
//!
//! `walkbench capture` writes such a file from a process; the builder loads it on any machine. A shape says where
//! the VMAs are, what each page's entry is (none, PTE, PMD leaf, swapped, …) and, where it could be read, where
//! physical memory stops being contiguous. It holds no memory, no path, no pfn and no absolute address.
//!
//! # The file
//!
//! JSON lines in UTF-8, plain or compressed with gzip (readers look at the first two bytes, not at the name).
//!
//! ```text
//! {"schema":1,"format":"walkbench-shape","name":"jvm","description":"…","made":"…","kernel":"6.18.0",
//!  "page_bytes":4096,"physical":true,"missing":["…"],"vmas":2}                                    (one line)
//! {"start":"0x40000000","pages":4,"prot":"rw-","shared":false,"kind":"anon","thp":"default","runs":"pte.x:3 none:1"}
//! {"start":"0x40200000","pages":1024,"prot":"rw-","shared":false,"kind":"heap","thp":"advise","runs":"pmd.x:512*2"}
//! ```
//!
//! Line 1 is the header; line *i* + 2 is VMA *i*, in address order, exactly as many as the header's `vmas`, so that a
//! file cut anywhere is noticed. `start` is a hexadecimal byte address, `pages` counts 4 KiB pages.
//!
//! `runs` tiles the VMA from its start: words separated by one space, each `state:lengths`, lengths in 4 KiB pages
//! separated by commas, `L*k` meaning *k* runs of *L* pages. States are `hole` (no page table), `none` (a zero entry),
//! `swap`, `guard`, and the leaves `pte`, `pmd`, `pud`. A dot and letters add flags: `f` file, `x` exclusive, `z` zero
//! page, `d` soft-dirty, `w` userfaultfd write-protected. See [`Run`] for what ends a run.
//!
//! # Neighbours
//!
//! The process side (procfs, `PAGEMAP_SCAN`) is in `bench`; this module is bytes in, values out. The invariants of a
//! [`Shape`] are checked in one place, [`Shape::check`], by the reader and by the writer.

mod check;
mod error;
mod read;
mod rebase;
mod runs;
mod shape;
mod summary;
mod tables;
mod write;

pub use error::{ShapeError, ShapeFileError, ShapeProblem};
pub use shape::{Leaf, PageFlags, PageState, Prot, Run, Shape, ShapeKind, ShapeVma, ThpAdvice};
pub use summary::Summary;

/// The newest format this program reads, and the one it writes.
pub const SCHEMA: u64 = 1;
/// The header's `format` field.
pub const FORMAT: &str = "walkbench-shape";
/// Bytes in a page; captures of kernels with other page sizes are refused.
pub const PAGE_BYTES: u64 = 4096;
/// First address past user space: 47 bits, what four levels of x86-64 tables give a process.
pub const USER_END: u64 = 1 << 47;

/// Runs one file may hold. A full 64 GiB of shuffled 4 KiB pages; more is a damaged or hostile file.
pub const MAX_RUNS: usize = 1 << 24;
/// Uncompressed bytes one file may hold, so that a small gzip file cannot take all memory.
pub const MAX_BYTES: u64 = 256 << 20;
