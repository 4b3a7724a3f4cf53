//! The gate: is this tree slower than that one? What is decided here is decided by pure functions over records.

pub(crate) mod counts;
pub(crate) mod protocol;
pub(crate) mod report;
pub(crate) mod rounds;
pub(crate) mod verdict;
