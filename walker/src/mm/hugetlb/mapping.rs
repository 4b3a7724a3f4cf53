//! What a hugetlb VMA maps, and what is reserved for it: `hugetlb_file_setup`, `hugetlb_reserve_pages`,
//! `vma_needs_reservation` and kin, `hugetlb_vm_op_close` (mm/hugetlb.c), `hugetlbfs_evict_inode`
//! (fs/hugetlbfs/inode.c), 6.12.

use crate::addr::{PageRange, Pfn};
use crate::mm::Errno;
use crate::mm::system::System;
use crate::mm::vma::{VmFlags, Vma};
use crate::sync::{AtomicBool, Mutex, Ordering::*};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A hugetlbfs file. Anonymous mappings have one each.
#[derive(Debug)]
pub struct HugetlbFile {
    pub(super) id: u64,
    pub(super) order: u8,
    pub(super) nr_huge: u64,
    system: Arc<System>,
    /// Page cache, by huge page index.
    pub(super) cache: Mutex<BTreeMap<u64, Pfn>>,
    /// `inode_resv_map`: huge pages that are reserved or in use for shared mappings.
    reserved: Mutex<BTreeSet<u64>>,
    /// `hugetlb_fault_mutex_table`: one fault at a time.
    pub(super) fault: Mutex<()>,
}

impl HugetlbFile {
    /// `hugetlb_file_setup` for a mapping of `nr_pages` base pages.
    pub fn new(system: &Arc<System>, order: u8, nr_pages: u64) -> Arc<HugetlbFile> {
        Arc::new(HugetlbFile {
            id: system.new_id(),
            order,
            nr_huge: nr_pages >> order,
            system: Arc::clone(system),
            cache: Mutex::default(),
            reserved: Mutex::default(),
            fault: Mutex::default(),
        })
    }
    /// Identity.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Order of its pages.
    pub fn order(&self) -> u8 {
        self.order
    }
    /// `hugetlb_unreserve_pages` for a page that left the file.
    pub(super) fn unreserve(&self, index: u64) {
        self.reserved.lock().remove(&index);
    }
}

impl Drop for HugetlbFile {
    /// `hugetlbfs_evict_inode`: the page cache goes, and what was reserved and never used.
    fn drop(&mut self) {
        let cache = core::mem::take(&mut *self.cache.lock());
        let unused = self.reserved.lock().len() as u64 - cache.len() as u64;
        for &head in cache.values() {
            self.system.hugetlb.put(&self.system.phys, head, 1);
        }
        self.system.hugetlb.unreserve(self.order, unused);
    }
}

/// The reservation of a private mapping (`struct resv_map`): what is in it has been used. Shared by all VMAs that the
/// mapping was cut into.
#[derive(Debug, Default)]
pub(super) struct ResvMap(pub(super) Mutex<BTreeSet<u64>>);

/// What a hugetlb VMA maps.
#[derive(Debug)]
pub struct HugetlbMapping {
    /// The file.
    pub file: Arc<HugetlbFile>,
    /// HPAGE_RESV_OWNER: the reservation of a private mapping, until fork or mremap takes it away.
    pub(super) resv: Option<Arc<ResvMap>>,
    /// HPAGE_RESV_UNMAPPED: the owner took a page away from this VMA, so faults here end in SIGBUS.
    pub(super) unmapped: AtomicBool,
}

impl Clone for HugetlbMapping {
    fn clone(&self) -> Self {
        HugetlbMapping {
            file: Arc::clone(&self.file),
            resv: self.resv.clone(),
            unmapped: AtomicBool::new(self.unmapped.load(Relaxed)),
        }
    }
}

impl HugetlbMapping {
    /// A mapping without a reservation.
    pub(crate) fn new(file: Arc<HugetlbFile>) -> HugetlbMapping {
        HugetlbMapping { file, resv: None, unmapped: AtomicBool::new(false) }
    }
    /// `hugetlb_reserve_pages` for a new mapping of a new file over `range`.
    ///
    /// # Errors
    /// -ENOMEM when the pool is too small.
    pub(crate) fn reserve(&mut self, system: &System, range: PageRange, flags: VmFlags) -> Result<(), Errno> {
        if flags.contains(VmFlags::NORESERVE) {
            return Ok(());
        }
        let nr = range.nr_pages() >> self.file.order;
        system.hugetlb.reserve(self.file.order, nr)?;
        if flags.contains(VmFlags::MAYSHARE) {
            self.file.reserved.lock().extend(0..nr);
        } else {
            self.resv = Some(Arc::default());
        }
        Ok(())
    }
    /// `hugetlb_dup_vma_private`: the reservation belongs to another VMA now.
    pub(crate) fn forget_reservation(&mut self) {
        self.resv = None;
        self.unmapped = AtomicBool::new(false);
    }
    /// `hugetlb_vm_op_close`: what `vma` reserved and did not use goes back.
    pub(crate) fn close(&self, system: &System, vma: &Vma) {
        if let Some(resv) = &self.resv {
            let (start, end) = (vma.huge_index(vma.start()), vma.huge_index(vma.end()));
            let used = resv.0.lock().range(start..end).count() as u64;
            system.hugetlb.unreserve(self.file.order, end - start - used);
        }
    }
    /// `vma_needs_reservation`: no reservation is waiting for page `index`.
    pub(super) fn needs_reservation(&self, shared: bool, index: u64) -> bool {
        match &self.resv {
            _ if shared => !self.file.reserved.lock().contains(&index),
            Some(resv) => resv.0.lock().contains(&index),
            None => true,
        }
    }
    /// `vma_commit_reservation`: page `index` is in use.
    pub(super) fn commit(&self, shared: bool, index: u64) {
        if shared {
            self.file.reserved.lock().insert(index);
        } else if let Some(resv) = &self.resv {
            resv.0.lock().insert(index);
        }
    }
    /// `restore_reserve_on_error` for a page that was allocated for `index` and will be freed unused.
    pub(super) fn restore_on_error(&self, shared: bool, index: u64, consumed: bool) {
        if consumed {
            if !shared && let Some(resv) = &self.resv {
                resv.0.lock().remove(&index);
            }
        } else if shared {
            self.file.reserved.lock().remove(&index);
        }
    }
}
