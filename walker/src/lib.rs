//! A faithful user-space model of Linux's page tables, of the kernel's side of them, and of every API that mirrors
//! them to a device (`hmm_range_fault` and its ancestors).
//!
//! # What is modelled
//!
//! x86-64 page tables bit for bit, in real memory, with struct pages; VMAs; faults that really allocate, zero and copy
//! under the kernel's locks; the operations that change tables, each with its notifier events in the kernel's order;
//! interval notifiers with their sequence; the range walk; and each generation of the API on top of it as a
//! [`backend`]. The behaviour is that of Linux 6.12 unless an item names another version. Recordings of a real 6.12
//! kernel are replayed against it (crate `workloads`).
//!
//! # What is not
//!
//! TLBs and their flushes, NUMA placement, memory cgroups, the LRU, KSM, interrupts and preemption; per-VMA locks
//! (hmm_range_fault takes none). METHODOLOGY.md lists what that means for the numbers.
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | [`addr`], [`arch`] | addresses, levels, the bits of an entry |
//! | [`memory`] | frames, struct pages, tables, grace periods: the only unsafe code |
//! | [`mm`] | the CPU side: VMAs, faults, operations |
//! | [`notifier`] | interval notifiers |
//! | [`walk`] | the range walk; knows no output format |
//! | [`request`], [`backend`], [`backends`] | what a caller wants, what every API has in common, the registry |
//! | [`mirror`], [`device_table`] | the device's side: callback, the canonical retry loop; its page table |
//! | [`audit`] | what a device holds against the tables, the tables against the struct pages |
//! | [`counters`] | exact counts, a type parameter |
//! | [`sync`] | the only door to atomics and locks |
//!
//! Nothing here reads a clock, draws a random number, prints, or touches a file.

pub mod addr;
pub mod arch;
pub mod audit;
pub mod backend;
pub mod backends;
#[cfg(all(test, not(loom)))]
mod conformance;
pub mod counters;
pub mod device_table;
pub mod dmirror;
pub mod memory;
pub mod mirror;
pub mod mm;
pub mod notifier;
pub mod request;
pub mod sync;
pub mod walk;
