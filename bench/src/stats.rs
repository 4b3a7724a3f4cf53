//! Statistics as pure functions. What depends on order takes a [`Sorted`].

mod interval;
mod sorted;

pub(crate) use interval::{Interval, median_interval, ratio_interval};
pub(crate) use sorted::Sorted;
