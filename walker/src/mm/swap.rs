//! Swap.

use crate::addr::Pfn;
use crate::arch::Entry;
use crate::counters::Counters;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::file::Inode;
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
    /// `shmem_swapin_folio`: the page of shared memory in `slot`, its folio locked, with a reference, in the cache of
    /// `inode` again ([`Inode::replace_slot`]). None if the slot is not there any more.
    pub(crate) fn shmem_swap_in(
        &self,
        _inode: &Inode,
        _index: u64,
        _slot: u64,
    ) -> Result<Option<Pfn>, VmFault> {
        Err(VmFault::SIGBUS)
    }
}
impl Vmf<'_> {
    pub(crate) fn swap_in<C: Counters>(&self, _orig: Entry, _c: &mut C) -> VmFault {
        VmFault::SIGBUS
    }
}
