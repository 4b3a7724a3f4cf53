//! What the processor and the architecture port fix: how many levels, and what the bits of an entry mean.

pub mod entry;
pub mod geometry;

pub use entry::{Entry, Prot, SwpEntry, SwpType};
pub use geometry::Geometry;
