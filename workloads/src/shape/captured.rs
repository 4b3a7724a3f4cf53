//! Shapes captured from live processes.

use super::{BuildError, Built};
use crate::capture::Shape;
use walker::mm::Errno;

/// Names of the captured shapes that come with the program.
pub const NAMES: [&str; 4] = ["interpreter", "jvm_thp", "kv_bgsave", "prefork_worker"];

/// A captured shape and where its VMAs go.
#[derive(Debug, PartialEq)]
pub struct Layout {
    shape: Shape,
}

impl Layout {
    /// Places the VMAs.
    pub fn new(shape: Shape) -> Layout {
        Layout { shape }
    }
    /// The shape as captured.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }
    /// Bytes of address space from the first VMA to the last.
    pub const fn size_bytes(&self) -> u64 {
        4096
    }
}

pub(super) fn embedded(_name: &str) -> Option<Shape> {
    None
}

pub(super) fn build(_layout: &Layout, _seed: u64) -> Result<Built, BuildError> {
    Err(BuildError::Errno(Errno::Inval))
}
