//! VMAs: flags, what backs them, lookup, merging and splitting.
//!
//! Models `struct vm_area_struct`, mm/vma.c (`is_mergeable_vma`, `is_mergeable_anon_vma`, `vma_modify`, `split_vma`)
//! and `anon_vma_compatible` of 6.12. The tree stands for the maple tree: sorted by start, no overlaps. It is reached
//! only through the mmap lock. Left out: memory policies, names, the per-VMA lock (hmm_range_fault never takes it).

use crate::addr::{PAGE_SHIFT, PageRange, VirtAddr};
use crate::arch::Prot;
use crate::mm::hugetlb::HugetlbMapping;
use crate::mm::system::File;
use crate::sync::{AtomicU64, Ordering::*};
use bitflags::bitflags;
use std::collections::BTreeMap;
use std::sync::Arc;

bitflags! {
    /// VM_* of include/linux/mm.h, with the kernel's values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct VmFlags: u64 {
        /// Readable. hmm_range_fault walks nothing else.
        const READ = 0x1;
        /// Writable.
        const WRITE = 0x2;
        /// Executable.
        const EXEC = 0x4;
        /// Shared mapping.
        const SHARED = 0x8;
        /// mprotect may make it readable.
        const MAYREAD = 0x10;
        /// mprotect may make it writable.
        const MAYWRITE = 0x20;
        /// mprotect may make it executable.
        const MAYEXEC = 0x40;
        /// Shared, or a private mapping of a file opened for writing.
        const MAYSHARE = 0x80;
        /// userfaultfd, missing mode.
        const UFFD_MISSING = 0x200;
        /// Page frames without struct pages.
        const PFNMAP = 0x400;
        /// userfaultfd, write-protect mode.
        const UFFD_WP = 0x1000;
        /// mlock.
        const LOCKED = 0x2000;
        /// Memory-mapped I/O.
        const IO = 0x4000;
        /// MADV_SEQUENTIAL.
        const SEQ_READ = 0x8000;
        /// MADV_RANDOM.
        const RAND_READ = 0x1_0000;
        /// MADV_DONTFORK.
        const DONTCOPY = 0x2_0000;
        /// mremap may not enlarge it.
        const DONTEXPAND = 0x4_0000;
        /// mlock2(MLOCK_ONFAULT).
        const LOCKONFAULT = 0x8_0000;
        /// Accounted to the commit limit.
        const ACCOUNT = 0x10_0000;
        /// MAP_NORESERVE.
        const NORESERVE = 0x20_0000;
        /// hugetlb pages.
        const HUGETLB = 0x40_0000;
        /// MADV_WIPEONFORK.
        const WIPEONFORK = 0x200_0000;
        /// Not in core dumps.
        const DONTDUMP = 0x400_0000;
        /// Created or grown since the last clear_refs: all of it counts as soft-dirty.
        const SOFTDIRTY = 0x800_0000;
        /// Page frames with and without struct pages.
        const MIXEDMAP = 0x1000_0000;
        /// MADV_HUGEPAGE.
        const HUGEPAGE = 0x2000_0000;
        /// MADV_NOHUGEPAGE.
        const NOHUGEPAGE = 0x4000_0000;
        /// READ, WRITE and EXEC: VM_ACCESS_FLAGS.
        const ACCESS = 0x7;
        /// IO, DONTEXPAND, PFNMAP, MIXEDMAP: VM_SPECIAL.
        const SPECIAL = 0x4000 | 0x4_0000 | 0x400 | 0x1000_0000;
    }
}

/// What a VMA maps.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Anonymous memory.
    Anon,
    /// Private /dev/zero: anonymous in every way, but bound to its open file, so it never merges with others.
    AnonZeroDev(u64),
    /// A page-cache file: shared memory, tmpfs, or a block device.
    File(Arc<File>),
    /// hugetlb pages.
    Hugetlb(HugetlbMapping),
    /// /dev/mem: page frames without struct pages (VM_PFNMAP | VM_IO).
    Pfnmap {
        /// First frame.
        first_pfn: u64,
    },
    /// Pages that a driver inserted with vm_insert_page at mmap (VM_MIXEDMAP).
    Driver(Arc<Vec<crate::addr::Pfn>>),
}

/// One virtual memory area.
#[derive(Debug)]
pub struct Vma {
    /// The addresses it covers.
    pub range: PageRange,
    /// Rights and properties.
    pub flags: VmFlags,
    /// `vm_pgoff`: page offset of its start in the file, or for anonymous memory its original page number.
    pub pgoff: u64,
    /// What it maps.
    pub backing: Backing,
    /// Identity of its anon_vma, 0 until the first anonymous fault. Set under the mmap lock for read.
    anon_vma: AtomicU64,
    /// Its anon_vma chain came from a parent (not `list_is_singular`).
    pub cloned: bool,
    /// Identity of the userfaultfd context, 0 for none.
    pub uffd: u64,
}

impl Clone for Vma {
    fn clone(&self) -> Self {
        Vma {
            range: self.range,
            flags: self.flags,
            pgoff: self.pgoff,
            backing: self.backing.clone(),
            anon_vma: AtomicU64::new(self.anon_vma()),
            cloned: self.cloned,
            uffd: self.uffd,
        }
    }
}

impl Vma {
    /// A VMA that nothing has faulted in yet.
    pub fn new(range: PageRange, flags: VmFlags, pgoff: u64, backing: Backing) -> Vma {
        Vma { range, flags, pgoff, backing, anon_vma: AtomicU64::new(0), cloned: false, uffd: 0 }
    }
    /// First address.
    #[inline]
    pub fn start(&self) -> VirtAddr {
        self.range.start()
    }
    /// First address after it.
    #[inline]
    pub fn end(&self) -> VirtAddr {
        self.range.end()
    }
    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: VmFlags) -> bool {
        self.flags.contains(flags)
    }
    /// `vma_is_anonymous`: no vm_ops, so faults give anonymous memory.
    #[inline]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anon | Backing::AnonZeroDev(_))
    }
    /// VM_SHARED.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.has(VmFlags::SHARED)
    }
    /// `is_cow_mapping`: private and possibly writable.
    #[inline]
    pub fn is_cow(&self) -> bool {
        self.flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE
    }
    /// Identity of the anon_vma, 0 for none.
    #[inline]
    pub fn anon_vma(&self) -> u64 {
        self.anon_vma.load(Relaxed)
    }
    /// Sets the anon_vma unless one is there; several faults may race under the mmap lock for read.
    pub fn set_anon_vma(&self, id: u64) {
        let _ = self.anon_vma.compare_exchange(0, id, Relaxed, Relaxed);
    }
    /// Overwrites the anon_vma (merge, fork); needs the mmap lock for write.
    pub fn replace_anon_vma(&mut self, id: u64) {
        self.anon_vma = AtomicU64::new(id);
    }
    /// `linear_page_index`: page offset of `addr` in what is mapped.
    #[inline]
    pub fn index_of(&self, addr: VirtAddr) -> u64 {
        self.pgoff + addr.page_start().pages_since(self.start())
    }
    /// Address at which page `index` is mapped, if it is (`vma_address`).
    pub fn address_of(&self, index: u64) -> Option<VirtAddr> {
        let off = index.checked_sub(self.pgoff)?;
        (off < self.range.nr_pages()).then(|| self.start().add_pages(off))
    }
    /// Identity of the open file, 0 for none: VMAs merge only if it is the same.
    pub fn file_id(&self) -> u64 {
        match &self.backing {
            Backing::Anon => 0,
            Backing::AnonZeroDev(id) => *id,
            Backing::File(f) => f.id(),
            Backing::Hugetlb(h) => h.file.id(),
            Backing::Pfnmap { first_pfn } => 1 << 62 | first_pfn,
            Backing::Driver(p) => Arc::as_ptr(p) as u64,
        }
    }
    /// `vma_set_page_prot`: rights of new entries. Shared mappings lose the write bit where write notification is
    /// wanted ([`Vma::wants_writenotify`]).
    #[inline]
    pub fn page_prot(&self) -> Prot {
        let p = Prot::of(
            self.has(VmFlags::READ),
            self.has(VmFlags::WRITE),
            self.has(VmFlags::EXEC),
            self.is_shared(),
        );
        if self.is_shared() && self.wants_writenotify() { p.without_write() } else { p }
    }
    /// `vma_wants_writenotify`: entries of a writable shared mapping start read-only, for dirty tracking, soft-dirty or
    /// uffd-wp.
    pub fn wants_writenotify(&self) -> bool {
        if self.flags & (VmFlags::WRITE | VmFlags::SHARED) != VmFlags::WRITE | VmFlags::SHARED {
            return false;
        }
        if self.backer_tracks_dirty() {
            return true;
        }
        // vma_soft_dirty_enabled: the VMA flag is clear, so the entries track; hugetlb does not support that.
        let soft_dirty = !self.has(VmFlags::SOFTDIRTY) && !self.has(VmFlags::HUGETLB);
        soft_dirty || self.has(VmFlags::UFFD_WP)
    }

    /// `vm_ops_needs_writenotify`: whether the backer wants to know of first writes.
    pub(crate) fn backer_tracks_dirty(&self) -> bool {
        matches!(&self.backing, Backing::File(f) if f.tracks_dirty())
    }

    /// `is_mergeable_vma` and `is_mergeable_anon_vma`: whether this new or changed VMA may join the existing
    /// `neighbour`, places aside. Without an anon_vma it may join a neighbour that has its own; the other way round
    /// 6.12 refuses (`list_is_singular` is false for an empty chain).
    fn joins(&self, neighbour: &Vma) -> bool {
        let (a, b) = (self.anon_vma(), neighbour.anon_vma());
        (self.flags ^ neighbour.flags).difference(VmFlags::SOFTDIRTY).is_empty()
            && !self.flags.intersects(VmFlags::SPECIAL)
            && self.file_id() == neighbour.file_id()
            && self.uffd == neighbour.uffd
            && (a == b || (a == 0 && !neighbour.cloned))
    }
    fn continues(&self, next: &Vma) -> bool {
        self.end() == next.start() && self.pgoff + self.range.nr_pages() == next.pgoff
    }
}

/// All VMAs of an address space, by start.
#[derive(Debug, Default)]
pub struct VmaTree {
    vmas: BTreeMap<u64, Vma>,
}

impl VmaTree {
    /// `vma_lookup`: the VMA that holds `addr`.
    #[inline]
    pub fn find(&self, addr: VirtAddr) -> Option<&Vma> {
        let (_, vma) = self.vmas.range(..=addr.get()).next_back()?;
        (addr < vma.end()).then_some(vma)
    }
    /// `find_vma`: the first VMA that ends after `addr`.
    #[inline]
    pub fn find_from(&self, addr: VirtAddr) -> Option<&Vma> {
        self.find(addr).or_else(|| self.vmas.range(addr.get()..).next().map(|(_, v)| v))
    }
    /// The VMAs that overlap `range`, in address order.
    pub fn overlapping(&self, range: PageRange) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start()).map_or(range.start().get(), |v| v.start().get());
        self.vmas.range(first..range.end().get().max(first)).map(|(_, v)| v)
    }
    /// The last VMA that starts before `addr`.
    pub fn last_before(&self, addr: VirtAddr) -> Option<&Vma> {
        self.vmas.range(..addr.get()).next_back().map(|(_, v)| v)
    }
    /// Every VMA in address order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.vmas.values()
    }
    /// Number of VMAs.
    pub fn len(&self) -> usize {
        self.vmas.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.vmas.is_empty()
    }
    /// The neighbour that ends where `vma` starts, and the one that starts where it ends.
    pub fn neighbours(&self, vma: &Vma) -> (Option<&Vma>, Option<&Vma>) {
        let prev = self.vmas.range(..vma.start().get()).next_back().map(|(_, v)| v);
        let next = self.vmas.get(&vma.end().get());
        (prev.filter(|p| p.end() == vma.start()), next)
    }
    /// Starts of the VMAs that overlap `range`.
    pub fn starts(&self, range: PageRange) -> Vec<VirtAddr> {
        self.overlapping(range).map(Vma::start).collect()
    }
    /// The VMA that starts at `start`, to change what does not move it.
    pub fn get_mut(&mut self, start: VirtAddr) -> Option<&mut Vma> {
        self.vmas.get_mut(&start.get())
    }
    /// Puts a VMA where nothing is.
    pub fn insert(&mut self, vma: Vma) {
        debug_assert!(self.overlapping(vma.range).next().is_none());
        self.vmas.insert(vma.start().get(), vma);
    }
    /// Takes out the VMA that starts at `start`.
    pub fn remove(&mut self, start: VirtAddr) -> Option<Vma> {
        self.vmas.remove(&start.get())
    }
    /// `split_vma` without the THP part: a boundary at `addr`, if a VMA crosses it. True if it did.
    pub fn split_at(&mut self, addr: VirtAddr) -> bool {
        let Some(vma) = self.find(addr) else { return false };
        let start = vma.start();
        if start == addr {
            return false;
        }
        let mut high = vma.clone();
        high.pgoff += addr.pages_since(start);
        high.range = PageRange::between(addr, high.end());
        let low = self.vmas.get_mut(&start.get()).expect("just found");
        low.range = PageRange::between(start, addr);
        self.vmas.insert(addr.get(), high);
        true
    }
    /// Joins the changed VMA that starts at `start` with its neighbours where they are alike; returns the start of the
    /// result, whose flags, soft-dirty included, are those of the changed part (`vma_merge_existing_range`; `vma_modify`
    /// and mmap set them again after the merge).
    pub fn merge_around(&mut self, start: VirtAddr) -> VirtAddr {
        let Some(flags) = self.vmas.get(&start.get()).map(|v| v.flags) else { return start };
        let start = self.merge_keeping_flags(start);
        if let Some(vma) = self.get_mut(start) {
            vma.flags = flags;
        }
        start
    }
    /// As [`VmaTree::merge_around`], but a neighbour that was there keeps its flags (`copy_vma`).
    pub fn merge_keeping_flags(&mut self, start: VirtAddr) -> VirtAddr {
        let Some(vma) = self.vmas.get(&start.get()) else { return start };
        let (prev, next) = self.neighbours(vma);
        let left = prev.filter(|p| p.continues(vma) && vma.joins(p));
        let mut right = next.filter(|n| vma.continues(n) && vma.joins(n));
        if let (Some(p), Some(n)) = (left, right)
            && p.anon_vma() != 0
            && n.anon_vma() != 0
            && p.anon_vma() != n.anon_vma()
        {
            right = None;
        }
        let (left, right) = (left.map(Vma::start), right.map(Vma::start));
        if let Some(next) = right {
            let flags = self.vmas[&next.get()].flags;
            self.join(start, next);
            if let Some(vma) = self.get_mut(start) {
                vma.flags = flags;
            }
        }
        if let Some(prev) = left {
            self.join(prev, start);
            return prev;
        }
        start
    }
    fn join(&mut self, low: VirtAddr, high: VirtAddr) {
        let gone = self.vmas.remove(&high.get()).expect("both exist");
        let vma = self.vmas.get_mut(&low.get()).expect("both exist");
        vma.range = PageRange::between(low, gone.end());
        if vma.anon_vma() == 0 {
            // dup_anon_vma
            vma.replace_anon_vma(gone.anon_vma());
            vma.cloned = gone.cloned;
        }
    }
    /// `find_mergeable_anon_vma`: a neighbour's anon_vma that `vma` may share, so that they can merge later; next
    /// first, as the kernel asks.
    pub fn reusable_anon_vma(&self, vma: &Vma) -> u64 {
        let (prev, next) = self.neighbours(vma);
        let usable = |a: &Vma, b: &Vma, old: &Vma| {
            let diff = (a.flags ^ b.flags).difference(VmFlags::ACCESS | VmFlags::SOFTDIRTY);
            a.end() == b.start()
                && diff.is_empty()
                && a.file_id() == b.file_id()
                && b.pgoff == a.pgoff + a.range.nr_pages()
                && old.anon_vma() != 0
                && !old.cloned
        };
        if let Some(n) = next
            && usable(vma, n, n)
        {
            return n.anon_vma();
        }
        if let Some(p) = prev
            && usable(p, vma, p)
        {
            return p.anon_vma();
        }
        0
    }
}

/// Page offset of a private anonymous mapping at `addr`: its own page number.
pub const fn anon_pgoff(addr: VirtAddr) -> u64 {
    addr.get() >> PAGE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anon(start: u64, pages: u64, flags: VmFlags) -> Vma {
        let start = VirtAddr::new(start << PAGE_SHIFT);
        Vma::new(PageRange::pages(start, pages), flags, anon_pgoff(start), Backing::Anon)
    }
    const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

    #[test]
    fn alike_neighbours_merge_and_a_different_anon_vma_keeps_them_apart() {
        let mut t = VmaTree::default();
        t.insert(anon(0, 4, RW));
        t.insert(anon(4, 4, RW));
        t.insert(anon(8, 4, RW));
        t.get_mut(VirtAddr::new(0)).unwrap().set_anon_vma(1);
        t.get_mut(VirtAddr::new(8 << 12)).unwrap().set_anon_vma(2);
        t.merge_around(VirtAddr::new(4 << 12));
        assert_eq!(t.iter().map(|v| v.range.nr_pages()).collect::<Vec<_>>(), [8, 4]);
        assert_eq!(t.find(VirtAddr::new(5 << 12)).unwrap().anon_vma(), 1);
    }

    #[test]
    fn split_keeps_page_offsets_and_merge_undoes_it() {
        let mut t = VmaTree::default();
        t.insert(anon(16, 16, RW));
        assert!(t.split_at(VirtAddr::new(20 << 12)));
        assert!(!t.split_at(VirtAddr::new(20 << 12)));
        let high = t.find(VirtAddr::new(21 << 12)).unwrap();
        assert_eq!((high.pgoff, high.index_of(VirtAddr::new(22 << 12))), (20, 22));
        t.merge_around(VirtAddr::new(16 << 12));
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn lookup_knows_gaps() {
        let mut t = VmaTree::default();
        t.insert(anon(16, 4, RW));
        t.insert(anon(32, 4, RW));
        assert!(t.find(VirtAddr::new(24 << 12)).is_none());
        assert_eq!(t.find_from(VirtAddr::new(24 << 12)).unwrap().pgoff, 32);
        assert_eq!(t.overlapping(PageRange::pages(VirtAddr::new(18 << 12), 20)).count(), 2);
        assert_eq!(t.overlapping(PageRange::pages(VirtAddr::new(20 << 12), 2)).count(), 0);
    }
}
