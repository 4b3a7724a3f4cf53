//! Device-private and device-exclusive memory.

use crate::arch::Entry;
use crate::counters::Counters;
use crate::mm::Mm;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::vma::Vma;

impl Vmf<'_> {
    pub(crate) fn remove_device_exclusive_entry<C: Counters>(&self, _orig: Entry, _c: &mut C) -> VmFault {
        VmFault::SIGBUS
    }
    pub(crate) fn migrate_to_ram<C: Counters>(&self, _orig: Entry, _c: &mut C) -> VmFault {
        VmFault::SIGBUS
    }
}
impl Mm {
    pub(crate) fn restored_exclusive(&self, _vma: &Vma, old: Entry) -> Entry {
        old
    }
}
