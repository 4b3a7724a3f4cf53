//! `walkbench`: parse and dispatch, nothing else.
fn main() {}
