//! What the address spaces of one machine share: memory, settings, zero pages, swap, the hugetlb pool, open files.

use crate::addr::{PMD_ORDER, Pfn};
use crate::memory::{OutOfFrames, PageKind, Phys, PhysConfig, PhysError};
use crate::sync::{AtomicU64, Mutex, Ordering::*};
use std::sync::Arc;

pub use crate::mm::block::BlockDevice;
pub use crate::mm::device::DevicePool;
pub use crate::mm::file::{File, FileKind};
pub use crate::mm::hugetlb::{HugetlbFile, HugetlbPool};
pub use crate::mm::swap::SwapArea;

/// `huge_zero_pfn` before there is one (`~0UL`).
const NO_HUGE_ZERO: u64 = u64::MAX;

/// A three-valued THP switch of sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ThpMode {
    /// Wherever it fits.
    Always,
    /// Only where madvise(MADV_HUGEPAGE) asked.
    #[default]
    Madvise,
    /// Nowhere.
    Never,
}

/// The settings that change what faults do. Fixed for the life of a [`System`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// /sys/kernel/mm/transparent_hugepage/enabled
    pub thp: ThpMode,
    /// Orders 2 to 8 of which .../hugepages-*kB/enabled is `inherit`, a bit each
    pub mthp: u16,
    /// .../shmem_enabled, as far as `advise`, `always` and `never` go
    pub shmem_thp: ThpMode,
    /// .../use_zero_page
    pub use_zero_page: bool,
    /// Slots of the swap device, 0 for none.
    pub swap_slots: u64,
    /// 2 MiB pages in the hugetlb pool.
    pub hugetlb_2m: u64,
    /// 1 GiB pages in the hugetlb pool.
    pub hugetlb_1g: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            thp: ThpMode::Madvise,
            mthp: 0,
            shmem_thp: ThpMode::Never,
            use_zero_page: true,
            swap_slots: 0,
            hugetlb_2m: 0,
            hugetlb_1g: 0,
        }
    }
}

/// One machine: everything outside an address space.
#[derive(Debug)]
pub struct System {
    /// Frames and struct pages.
    pub phys: Arc<Phys>,
    /// Settings of this machine.
    pub settings: Settings,
    /// The swap device.
    pub swap: SwapArea,
    /// hugetlb pages.
    pub hugetlb: HugetlbPool,
    /// Device-private memory.
    pub device: DevicePool,
    /// The block device.
    pub block: BlockDevice,
    /// One memory failure at a time.
    pub(crate) mf_mutex: Mutex<()>,
    zero_pfn: Pfn,
    /// [`NO_HUGE_ZERO`] until it is needed, as the kernel's `huge_zero_pfn`.
    huge_zero_pfn: AtomicU64,
    huge_zero_lock: Mutex<()>,
    next_id: AtomicU64,
}

impl System {
    /// A machine with this memory and these settings.
    ///
    /// # Errors
    /// [`PhysError`] when the host refuses the address space or the memory is too small.
    pub fn new(memory: PhysConfig, settings: Settings) -> Result<Arc<System>, PhysError> {
        let phys = Phys::new(memory)?;
        let zero =
            phys.alloc(PageKind::Zero, 0).map_err(|_| PhysError::TooSmall { nr_frames: memory.nr_frames })?;
        phys.zero(zero, 0);
        Ok(Arc::new(System {
            swap: SwapArea::new(settings.swap_slots),
            hugetlb: HugetlbPool::new(settings.hugetlb_2m, settings.hugetlb_1g),
            device: DevicePool::default(),
            block: BlockDevice::default(),
            mf_mutex: Mutex::new(()),
            zero_pfn: zero,
            huge_zero_pfn: AtomicU64::new(NO_HUGE_ZERO),
            huge_zero_lock: Mutex::new(()),
            next_id: AtomicU64::new(1),
            phys,
            settings,
        }))
    }
    /// The 4 KiB zero page (`is_zero_pfn`).
    #[inline(always)]
    pub fn zero_pfn(&self) -> Pfn {
        self.zero_pfn
    }
    /// The huge zero page, if it was ever needed (`is_huge_zero_pmd`).
    #[inline]
    pub fn huge_zero_pfn(&self) -> Option<Pfn> {
        // Acquire: who sees the number sees the page zeroed.
        match self.huge_zero_pfn.load(Acquire) {
            NO_HUGE_ZERO => None,
            pfn => Some(Pfn::new(pfn)),
        }
    }
    /// The huge zero page, allocated at the first call (`mm_get_huge_zero_folio`; its shrinker is left out).
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn get_huge_zero(&self) -> Result<Pfn, OutOfFrames> {
        if let Some(pfn) = self.huge_zero_pfn() {
            return Ok(pfn);
        }
        // One thread makes it: a second one made and given back would be counted by the exact counts.
        let _one = self.huge_zero_lock.lock();
        if let Some(pfn) = self.huge_zero_pfn() {
            return Ok(pfn);
        }
        let pfn = self.phys.alloc(PageKind::HugeZero, PMD_ORDER)?;
        self.phys.zero(pfn, PMD_ORDER);
        self.huge_zero_pfn.store(pfn.get(), Release);
        Ok(pfn)
    }
    /// An identity that nothing else on this machine has: anon_vma, open file, userfaultfd context. Never 0.
    pub fn new_id(&self) -> u64 {
        // Relaxed: only uniqueness matters.
        self.next_id.fetch_add(1, Relaxed)
    }
}
