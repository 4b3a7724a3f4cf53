//! Swap.

use crate::addr::Pfn;
use crate::arch::Entry;
use crate::counters::Counters;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::system::System;

/// The swap device.
#[derive(Debug)]
pub struct SwapArea;
impl SwapArea {
    /// A device with this many slots.
    pub fn new(_slots: u64) -> SwapArea {
        SwapArea
    }
}
impl System {
    /// Takes the folio out of the swap cache and frees its slots if nobody refers to them (`folio_free_swap`).
    pub(crate) fn free_swap(&self, _head: Pfn) {}
    /// `free_swap_cache` after a copy.
    pub(crate) fn free_swap_cache(&self, _pfn: Pfn) {}
    /// An entry that named this slot is gone.
    pub(crate) fn swap_free_entry(&self, _slot: u64) {}
    /// One more entry names this slot.
    pub(crate) fn swap_duplicate(&self, _slot: u64) {}
}
impl Vmf<'_> {
    pub(crate) fn swap_in<C: Counters>(&self, _orig: Entry, _c: &mut C) -> VmFault {
        VmFault::SIGBUS
    }
}
