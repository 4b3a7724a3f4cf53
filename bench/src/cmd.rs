//! The sub-commands, one a file.

pub(crate) mod capture;
pub(crate) mod conform;
