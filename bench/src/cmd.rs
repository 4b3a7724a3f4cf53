//! The sub-commands, one a file.

pub(crate) mod conform;
