//! hugetlb pages.

use crate::addr::{PageRange, VirtAddr};
use crate::counters::Counters;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::protect::Change;
use crate::mm::system::System;
use crate::mm::vma::Vma;
use crate::mm::{Errno, Locked, Mm};
use std::sync::Arc;

/// The pool of huge pages of a machine.
#[derive(Debug)]
pub struct HugetlbPool;
impl HugetlbPool {
    /// A pool with this many pages.
    pub fn new(_nr_2m: u64, _nr_1g: u64) -> HugetlbPool {
        HugetlbPool
    }
}

/// A hugetlbfs file, one per mapping.
#[derive(Debug)]
pub struct HugetlbFile {
    id: u64,
}
impl HugetlbFile {
    /// Reserves pages for a mapping.
    ///
    /// # Errors
    /// -ENOMEM when the pool is too small.
    pub fn reserve(
        system: &Arc<System>,
        _order: u8,
        _nr_pages: u64,
        _shared: bool,
        _noreserve: bool,
    ) -> Result<Arc<HugetlbFile>, Errno> {
        Ok(Arc::new(HugetlbFile { id: system.new_id() }))
    }
    /// Identity.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Locked<'_> {
    pub(crate) fn hugetlb_fault<C: Counters>(
        &self,
        _vma: &Vma,
        _addr: VirtAddr,
        _flags: FaultFlags,
        _c: &mut C,
    ) -> VmFault {
        VmFault::SIGBUS
    }
}
impl Mm {
    pub(crate) fn zap_hugetlb(&self, _vma: &Vma, _range: PageRange) {}
    pub(crate) fn change_hugetlb(&self, _vma: &Vma, _range: PageRange, _change: Change) {}
    pub(crate) fn copy_hugetlb_page_range(&self, _child: &Arc<Mm>, _vma: &Vma) -> Result<(), Errno> {
        Ok(())
    }
    pub(crate) fn hugetlb_aligned(&self, _vma: &Vma, _part: PageRange) -> bool {
        true
    }
    pub(crate) fn hugetlb_dontneed_part(&self, _vma: &Vma, part: PageRange) -> Result<PageRange, Errno> {
        Ok(part)
    }
}
impl Vma {
    /// The level whose entries are this VMA's pages: PMD for 2 MiB, PUD for 1 GiB.
    pub fn hugetlb_level(&self) -> crate::addr::Level {
        crate::addr::Level::Pmd
    }
}
