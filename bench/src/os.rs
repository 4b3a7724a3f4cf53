//! The doors to the operating system: one file each, and the only unsafe code of this crate.

pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod dmirror;
pub(crate) mod hmm;
pub(crate) mod mapping;
pub(crate) mod pinning;
pub(crate) mod process;
pub(crate) mod stolen;
pub(crate) mod swap;
pub(crate) mod usage;
pub(crate) mod userfaultfd;
pub(crate) mod window;
