//! Real memory: frames, struct pages, tables and their grace periods. The only unsafe floor of the crate.
//!
//! * [`phys`]: reserved address space for a direct map and a struct-page array, so that a frame number is arithmetic
//!   and an untouched frame costs nothing; the primitives that zero and copy frames.
//! * [`page`]: `struct page`, 64 bytes, with the meaning of its all-zero state.
//! * [`frames`]: the frame allocator, orders 0, 9 and 18, with per-thread lists.
//! * [`table`]: one page-table node of atomic entries and its lock.
//! * [`bulk`]: copies of many entries at once, for measuring the machine's limit.
//! * [`wide`]: many entries decoded at once, with vectors.
//! * [`rcu`]: grace periods, so that a walk may read a table that somebody detaches.

#[cfg(not(loom))]
pub mod bulk;
pub mod frames;
pub mod page;
pub mod phys;
pub mod rcu;
pub mod table;
#[cfg(not(loom))]
pub mod wide;

pub use frames::OutOfFrames;
pub use page::{Page, PageKind};
pub use phys::{Phys, PhysConfig, PhysError};
pub use table::Table;
