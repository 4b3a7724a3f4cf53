//! The doors to the operating system: one file each, and the only unsafe code of this crate.

pub(crate) mod usage;
