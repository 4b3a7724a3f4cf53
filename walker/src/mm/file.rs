//! Page cache and shared memory.

use crate::addr::PageRange;
use crate::arch::Entry;
use crate::counters::Counters;
use crate::memory::Table;
use crate::memory::table::Ptl;
use crate::mm::Mm;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::system::System;
use crate::mm::vma::Vma;
use std::sync::Arc;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Shared anonymous memory.
    Shmem,
    /// A file on tmpfs mounted without huge pages.
    Tmpfs,
    /// A block device: dirty pages are tracked for write-back.
    Block,
}

/// An open file with its page cache.
#[derive(Debug)]
pub struct File {
    id: u64,
    kind: FileKind,
}

impl File {
    /// The file behind a shared anonymous mapping.
    pub fn shmem(system: &Arc<System>, _nr_pages: u64) -> Arc<File> {
        Arc::new(File { id: system.new_id(), kind: FileKind::Shmem })
    }
    /// Identity: VMAs of the same file may merge.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// `vma_fs_can_writeback` or page_mkwrite: writable shared entries start read-only.
    pub fn tracks_dirty(&self) -> bool {
        self.kind == FileKind::Block
    }
}

impl Mm {
    pub(crate) fn link_file(&self, _vma: &Vma) {}
    pub(crate) fn unlink_file(&self, _vma: &Vma, _range: PageRange) {}
}

impl<'a> Vmf<'a> {
    pub(crate) fn do_fault<C: Counters>(&self, _orig: Entry, _c: &mut C) -> VmFault {
        VmFault::SIGBUS
    }
    pub(crate) fn wp_page_shared<C: Counters>(
        &self,
        _table: Table<'a>,
        _guard: Ptl<'a>,
        _orig: Entry,
        _c: &mut C,
    ) -> VmFault {
        VmFault::SIGBUS
    }
}
