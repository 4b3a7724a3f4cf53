//! The CPU side: an address space, its VMAs, and everything that changes its page tables.
//!
//! One file per kernel concept; each modelled step names its function. All of it models Linux 6.12 unless said
//! otherwise.
//!
//! | file | what |
//! |------|------|
//! | [`vma`] | VMAs: flags, merging, splitting, lookup |
//! | [`system`] | what address spaces share: memory, settings, zero pages |
//! | [`tables`] | descent, allocation and freeing of tables, the lock of an entry |
//! | [`rmap`] | mapping counts and references of frames |
//! | [`fault`] | `handle_mm_fault`: dispatch, anonymous memory, markers |
//! | [`wp`] | write faults on read-only entries: COW copy and reuse |
//! | [`huge`] | transparent huge pages: fault, write protect, split |
//! | [`mod@file`], [`filemap`], [`shmem`], [`block`] | page cache; file faults; shared memory and tmpfs; a block device |
//! | [`swap`], [`hugetlb`] | swap; hugetlb pages |
//! | [`reclaim`] | what madvise gives up: paging out, lazy freeing |
//! | [`migrate`], [`device`] | migration entries, folio splits; device-private and device-exclusive memory |
//! | [`collapse`] | small pages become a huge one |
//! | [`zap`], [`protect`], [`fork`], [`mmap`], ... | operations, one each |
//! | [`build`] | tables written directly, for shapes too large to fault in |
//! | [`pagemap`], [`soft_dirty`], [`userfaultfd`], [`memory_failure`] | pagemap, clear_refs, userfaultfd, poison |
//! | [`touch`] | the processor's own access: what a load or a store by the CPU does |
//!
//! # Lock order
//!
//! `mf_mutex` of the machine, `i_rwsem` of a file > `mmap_lock` (this mm's, then a child's in fork) > notifier callbacks and the driver's lock >
//! folio lock > page-cache lock of a file > lock of a PMD table > lock of a PTE table > frame allocator, swap map,
//! hugetlb pool.
//! A notifier event starts before any table lock is taken and ends after the last one is dropped.

pub mod block;
pub mod build;
pub mod collapse;
pub mod device;
pub mod fault;
pub mod file;
pub mod filemap;
pub mod fork;
pub mod huge;
pub mod hugetlb;
pub mod madvise;
pub mod memory_failure;
pub mod migrate;
pub mod mlock;
pub mod mmap;
pub mod mremap;
mod mthp;
pub mod pagemap;
pub mod protect;
pub mod reclaim;
pub mod rmap;
pub mod shmem;
pub mod soft_dirty;
pub mod swap;
pub mod system;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;
pub mod touch;
pub mod userfaultfd;
pub mod vma;
pub mod wp;
pub mod zap;

use crate::addr::{AddrError, PageRange, Pfn};
use crate::arch::Geometry;
use crate::memory::{OutOfFrames, Phys};
use crate::notifier::Subscriptions;
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use core::fmt;
use crossbeam_utils::CachePadded;
use std::sync::{Arc, Weak};
use system::System;
use vma::VmaTree;

/// What a system call or a range walk answers besides success, with the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errno {
    /// Operation not permitted.
    Perm = 1,
    /// No such entry.
    NoEnt = 2,
    /// Interrupted.
    Intr = 4,
    /// Input/output error.
    Io = 5,
    /// Try again.
    Again = 11,
    /// Out of memory, or a hole where there must be none.
    NoMem = 12,
    /// Permission denied.
    Access = 13,
    /// Bad address.
    Fault = 14,
    /// Busy: the range was invalidated, call again.
    Busy = 16,
    /// Exists already.
    Exist = 17,
    /// No such device: the operation is not for this kind of file.
    NoDev = 19,
    /// Invalid argument.
    Inval = 22,
    /// Not supported by this file.
    OpNotSupp = 95,
    /// Memory page has a hardware error.
    HwPoison = 133,
}

impl Errno {
    /// The value a kernel function returns: negative.
    pub const fn code(self) -> i32 {
        -(self as i32)
    }
    /// The name in errno.h.
    pub const fn name(self) -> &'static str {
        match self {
            Errno::Perm => "EPERM",
            Errno::NoEnt => "ENOENT",
            Errno::Intr => "EINTR",
            Errno::Io => "EIO",
            Errno::Again => "EAGAIN",
            Errno::NoMem => "ENOMEM",
            Errno::Access => "EACCES",
            Errno::Fault => "EFAULT",
            Errno::Busy => "EBUSY",
            Errno::Exist => "EEXIST",
            Errno::NoDev => "ENODEV",
            Errno::Inval => "EINVAL",
            Errno::OpNotSupp => "EOPNOTSUPP",
            Errno::HwPoison => "EHWPOISON",
        }
    }
}
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.name())
    }
}
impl core::error::Error for Errno {}
impl From<OutOfFrames> for Errno {
    fn from(_: OutOfFrames) -> Errno {
        Errno::NoMem
    }
}
impl From<AddrError> for Errno {
    fn from(_: AddrError) -> Errno {
        Errno::Inval
    }
}

/// An address space (`struct mm_struct`).
#[derive(Debug)]
pub struct Mm {
    system: Arc<System>,
    /// The system's, at hand: every step of a walk asks it where a frame lies, which is a constant in a kernel.
    phys: Arc<Phys>,
    geometry: Geometry,
    pgd: Pfn,
    /// In a line of its own, as is what every call writes in `notifier`: what walks only read lies elsewhere.
    mmap_lock: CachePadded<RwLock<VmaTree>>,
    /// Who mirrors this address space.
    pub notifier: CachePadded<Subscriptions>,
    /// Every address space that may share anonymous pages with this one: itself, its parent, its children. Stands for
    /// the anon_vma trees in reverse mapping.
    family: Arc<Mutex<Vec<Weak<Mm>>>>,
}

/// The mmap lock held for reading: faults, walks, zaps.
pub type MmapRead<'a> = RwLockReadGuard<'a, VmaTree>;
/// The mmap lock held for writing: everything that changes VMAs.
pub type MmapWrite<'a> = RwLockWriteGuard<'a, VmaTree>;

/// Witness that the mmap lock of `mm` is held at least for reading, with the VMAs it protects.
#[derive(Clone, Copy, Debug)]
pub struct Locked<'a> {
    /// The address space.
    pub mm: &'a Mm,
    /// Its VMAs.
    pub vmas: &'a VmaTree,
}

impl Mm {
    /// An empty address space.
    ///
    /// # Errors
    /// [`OutOfFrames`] when there is no frame for the root table.
    pub fn new(system: &Arc<System>, geometry: Geometry) -> Result<Arc<Mm>, OutOfFrames> {
        Mm::with_family(system, geometry, Arc::default())
    }
    pub(crate) fn with_family(
        system: &Arc<System>,
        geometry: Geometry,
        family: Arc<Mutex<Vec<Weak<Mm>>>>,
    ) -> Result<Arc<Mm>, OutOfFrames> {
        let pgd = system.phys.alloc_table()?.pfn();
        let mm = Arc::new(Mm {
            system: Arc::clone(system),
            phys: Arc::clone(&system.phys),
            geometry,
            pgd,
            mmap_lock: CachePadded::new(RwLock::new(VmaTree::default())),
            notifier: CachePadded::default(),
            family: Arc::clone(&family),
        });
        let mut family = family.lock();
        family.retain(|m| m.strong_count() > 0);
        family.push(Arc::downgrade(&mm));
        drop(family);
        Ok(mm)
    }
    /// The machine this address space lives on.
    #[inline(always)]
    pub fn system(&self) -> &Arc<System> {
        &self.system
    }
    /// The machine's memory.
    #[inline(always)]
    pub fn phys(&self) -> &Arc<Phys> {
        &self.phys
    }
    /// Number of levels.
    #[inline(always)]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
    /// `mmap_read_lock`.
    #[inline]
    pub fn mmap_read(&self) -> MmapRead<'_> {
        self.mmap_lock.read()
    }
    /// `mmap_read_trylock`.
    pub fn try_mmap_read(&self) -> Option<MmapRead<'_>> {
        self.mmap_lock.try_read()
    }
    /// `mmap_write_lock`. Builders and scripted tests may change the tree directly; everything else goes through the
    /// operations.
    pub fn mmap_write(&self) -> MmapWrite<'_> {
        self.mmap_lock.write()
    }
    /// `mmap_write_trylock`.
    pub fn try_mmap_write(&self) -> Option<MmapWrite<'_>> {
        self.mmap_lock.try_write()
    }
    /// The witness for functions that need the mmap lock, from a guard of either kind.
    #[inline(always)]
    pub fn locked<'a>(&'a self, vmas: &'a VmaTree) -> Locked<'a> {
        Locked { mm: self, vmas }
    }
    /// A page-aligned range of this address space.
    ///
    /// # Errors
    /// [`AddrError`] if it is unaligned, wraps or leaves the address space.
    pub fn range(&self, start: u64, len: u64) -> Result<PageRange, AddrError> {
        PageRange::new(start, len, self.geometry.task_size())
    }
    /// The address spaces that may share anonymous pages with this one and still live, itself included.
    pub(crate) fn family(&self) -> Vec<Arc<Mm>> {
        self.family.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
