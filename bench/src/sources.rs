//! The sources of this program: what git knows of them, building them, linking them in several orders.

pub(crate) mod build;
pub(crate) mod git;
pub(crate) mod layouts;
pub(crate) mod scratch;
