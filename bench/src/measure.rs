//! Measuring: what is measured ([`matrix`]), on what ([`scene`]), by whom ([`member`], [`limits`]), in which order
//! ([`runner`], [`order`]), with which clock ([`clock`]). Nothing in here prints or writes files.
//!
//! Inside a timed span the harness allocates nothing, takes no lock, makes no system call and dispatches nothing
//! dynamically: a span is the body of a member's block, monomorphised for its backend.

pub(crate) mod backend_member;
pub(crate) mod churn;
pub(crate) mod clock;
pub(crate) mod crew;
pub(crate) mod frames;
mod lane;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod matrix;
pub(crate) mod member;
mod memory;
pub(crate) mod order;
pub(crate) mod runner;
pub(crate) mod scene;
pub(crate) mod stages;
#[cfg(test)]
mod tests;
pub(crate) mod timed;
pub(crate) mod visit;
pub(crate) mod watch;
