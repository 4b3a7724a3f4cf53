//! Page migration.

use crate::addr::{Pfn, VirtAddr};
use crate::mm::Mm;
use crate::mm::tables::Slot;

impl Mm {
    pub(crate) fn migration_entry_wait(&self, _pmd: Slot<'_>, _addr: VirtAddr) {}
    pub(crate) fn pmd_migration_entry_wait(&self, _pmd: Slot<'_>) {}
    pub(crate) fn split_migrating_rmap(&self, _head: Pfn) {}
}
