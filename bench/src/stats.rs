//! Statistics as pure functions. What depends on order takes a [`Sorted`].
//!
//! Two levels of repetition, never pooled: **rounds** within a launch of the process, and **launches**. Rounds share
//! the placement of code, tables and frames, so a thousand of them know nothing about the next launch; the launch is
//! the unit that an interval is made from.
//!
//! The way of a comparison, a against b in one cell:
//!
//! 1. [`log_ratio`]: per launch the median over its rounds of ln(a / b);
//! 2. [`estimate`]: over the launches the ratio with an interval, on what it rests, and the smallest effect that so
//!    many launches with that spread would have resolved;
//! 3. [`sign_flip_max_t`]: where many comparisons are looked at together, p-values that hold for all of them.
//!
//! [`components`] takes the spread apart (within and between launches) and [`launches_needed`] turns it into a plan.

mod interval;
mod launches;
mod max_t;
mod nested;
mod proportion;
mod sorted;
mod two_samples;

#[cfg(test)]
mod coverage;

/// Effects below this, in per cent, count as none, where a question says nothing else.
pub const COUNTS_FROM: f64 = 2.0;

pub use interval::{Interval, confidence, median_interval, ratio_interval};
pub use launches::{Basis, Estimate, LEAST_LAUNCHES, estimate, launches_needed, log_ratio};
pub use max_t::{Alternative, MaxT, sign_flip_max_t, sign_flip_max_t_with_gaps};
pub use nested::{Components, components};
pub use proportion::clopper_pearson;
pub use sorted::Sorted;
pub use two_samples::two_samples;
