//! The limits of faults: the same number of frames zeroed or copied, and nothing else.

use anyhow::{Context, Result};
use walker::addr::Pfn;
use walker::memory::{PageKind, Phys};

/// Frames taken from the allocator for one block: those that a fault block would get.
#[derive(Debug)]
pub(crate) struct Frames(Vec<Pfn>);

impl Frames {
    /// `nr` frames.
    ///
    /// # Errors
    /// When the model has fewer.
    pub(crate) fn take(phys: &Phys, nr: u64) -> Result<Frames> {
        let frames = (0..nr).map(|_| phys.alloc(PageKind::Anon, 0));
        Ok(Frames(frames.collect::<Result<_, _>>().context("frames to zero or copy")?))
    }
    /// Gives them back in the order in which they came.
    pub(crate) fn give_back(self, phys: &Phys) {
        self.0.into_iter().rev().for_each(|pfn| phys.free(pfn));
    }
    /// Zeroes each.
    #[inline(never)]
    pub(crate) fn zero(&self, phys: &Phys) {
        self.0.iter().for_each(|pfn| phys.zero(*pfn, 0));
    }
    /// Copies `from`, as many, into them.
    #[inline(never)]
    pub(crate) fn copy(&self, phys: &Phys, from: &[Pfn]) {
        self.0.iter().zip(from).for_each(|(to, from)| phys.copy(*to, *from, 0));
    }
}
