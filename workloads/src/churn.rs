//! Churn: what happens to the tables while they are walked, and how much of it.
//!
//! A [`ChurnSpec`] is data. Its name is the churn part of a cell id, `KIND-SPAN-oOVERLAP-PLACE-DOSE-tTHREADS`, one
//! spelling for each: `zap-2MiB-o100-uniform-1000ps-t1`, `pageout-64KiB-o50-zipf-every8-t1`,
//! `mprotect-4KiB-o0-sweep-max-t2`. Nothing invalidates where a cell says `none`.

mod churner;
mod ground;
mod place;
mod spec;
pub mod virtual_time;

/// The churn part of a cell id where nothing invalidates.
pub const NO_CHURN: &str = "none";

/// The churn part of a cell id.
pub fn name(churn: Option<ChurnSpec>) -> String {
    churn.map_or_else(|| NO_CHURN.to_owned(), |c| c.to_string())
}

pub use churner::{Churner, Lock};
pub use ground::{Ground, GroundError};
pub use spec::{ChurnError, ChurnKind, ChurnSpec, Dose, EXPECTED, MAX_PER_SEC, Place};
pub use virtual_time::VirtualTime;
