//! A faithful user-space model of Linux's page tables and of every API that mirrors them to a device.
pub mod addr;
pub mod arch;
pub mod backend;
pub mod backends;
#[cfg(all(test, not(loom)))]
mod conformance;
pub mod counters;
pub mod memory;
pub mod mirror;
pub mod mm;
pub mod notifier;
pub mod request;
pub mod sync;
pub mod walk;
