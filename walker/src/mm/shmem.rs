//! Shared memory and tmpfs: where their pages come from and go.
//!
//! Models mm/shmem.c of 6.12: `shmem_get_folio_gfp`, `shmem_allowable_huge_orders`, `shmem_suitable_orders`,
//! `shmem_setattr`, `shmem_fallocate` (holes), `shmem_write_begin` / `_end`; `madvise_remove` of mm/madvise.c. Left
//! out: limits of the mount, fallocate of new pages, seals, within_size, sizes other than 2 MiB.

use crate::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, PMD_SIZE, PageRange, Pfn};
use crate::counters::{Count, Counters, NoCounts};
use crate::memory::PageKind;
use crate::memory::page::PG_DIRTY;
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::file::{Cached, File, FileKind, Inode};
use crate::mm::filemap::folio_lock;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use std::sync::Arc;

impl Inode {
    /// `shmem_get_folio_gfp`: the page at `index`, allocated if need be, its folio locked and with a reference. A fault
    /// may get a huge folio; a write(2) on this mount never does.
    ///
    /// # Errors
    /// SIGBUS beyond the end of the file, OOM, or what a userfaultfd in missing mode answers.
    pub(crate) fn shmem_get<C: Counters>(
        self: &Arc<Self>,
        index: u64,
        fault: Option<&Vmf<'_>>,
        c: &mut C,
    ) -> Result<Pfn, VmFault> {
        loop {
            if fault.is_some() && index >= self.size() {
                return Err(VmFault::SIGBUS);
            }
            let pfn = match self.get(index) {
                Some(Cached::Folio(pfn)) => {
                    folio_lock(self.phys().page(self.phys().head(pfn)), c);
                    pfn
                }
                Some(Cached::Swapped(slot)) => match self.system.shmem_swap_in(self, index, slot)? {
                    Some(pfn) => pfn,
                    None => continue,
                },
                None => {
                    if let Some(vmf) = fault
                        && vmf.vma.has(VmFlags::UFFD_MISSING)
                    {
                        return Err(vmf.handle_userfault());
                    }
                    match self.shmem_alloc(index, fault, c)? {
                        Some(pfn) => pfn,
                        None => continue,
                    }
                }
            };
            // Has the folio been truncated or swapped out, or the file truncated, since we looked?
            let head = self.phys().head(pfn);
            if !self.holds(head) {
                self.phys().page(head).unlock();
                self.phys().put(head, 1);
                continue;
            }
            if fault.is_some() && index >= self.size() {
                self.phys().page(head).unlock();
                self.phys().put(head, 1);
                return Err(VmFault::SIGBUS);
            }
            return Ok(pfn);
        }
    }
    /// `shmem_alloc_and_add_folio`: a zeroed folio, locked, in the cache. None if something came to stand there.
    fn shmem_alloc<C: Counters>(
        &self,
        index: u64,
        fault: Option<&Vmf<'_>>,
        c: &mut C,
    ) -> Result<Option<Pfn>, VmFault> {
        let first = index - index % PAGES_PER_PMD;
        let huge = fault.is_some_and(|vmf| {
            self.allows_huge(vmf.vma) && vmf.vma.suits_pmd(vmf.addr) && !self.any_in(first, PAGES_PER_PMD)
        });
        if huge && let Ok(head) = self.phys().alloc(PageKind::File, PMD_ORDER) {
            self.phys().zero(head, PMD_ORDER);
            c.add(Count::BytesZeroed, PMD_SIZE);
            if self.add_locked(first, head) {
                return Ok(Some(head.add(index - first)));
            }
        }
        let pfn = self.phys().alloc(PageKind::File, 0).map_err(|_| VmFault::OOM)?;
        self.phys().zero(pfn, 0);
        c.add(Count::BytesZeroed, PAGE_SIZE);
        Ok(self.add_locked(index, pfn).then_some(pfn))
    }
    fn add_locked(&self, index: u64, head: Pfn) -> bool {
        let page = self.phys().page(head);
        page.lock_folio();
        let added = self.add(index, head);
        if !added {
            page.unlock();
            self.phys().put(head, 1);
        }
        added
    }
    /// `shmem_allowable_huge_orders` for the 2 MiB order, whose own switch inherits the global one.
    fn allows_huge(&self, vma: &Vma) -> bool {
        self.kind() == FileKind::Shmem && vma.allows_thp(self.system.settings.shmem_thp)
    }
    /// The hole of `shmem_fallocate`: mappings of the pages go, private copies stay, then the pages go.
    fn punch(self: &Arc<Self>, first: u64, nr: u64) {
        let _one = self.rwsem.lock();
        self.unmap_mapping_pages(first..first + nr, false);
        self.remove_range(first..first + nr);
    }
}

impl File {
    /// Whether mappings of it are anonymous shared memory (`vma_is_anon_shmem`).
    pub fn is_anon_shmem(&self) -> bool {
        self.kind() == FileKind::Shmem
    }
    /// ftruncate(2), in pages: `shmem_setattr`. Beyond the new end mappings go, private copies too.
    ///
    /// # Errors
    /// -EINVAL for a block device.
    pub fn truncate(&self, nr_pages: u64) -> Result<(), Errno> {
        if self.kind() == FileKind::Block {
            return Err(Errno::Inval);
        }
        let inode = self.inode();
        let _one = inode.rwsem.lock();
        let old = inode.set_size(nr_pages);
        if nr_pages < old {
            inode.unmap_mapping_pages(nr_pages..u64::MAX, true);
        }
        if nr_pages <= old {
            inode.remove_range(nr_pages..u64::MAX);
        }
        if nr_pages < old {
            // Again, for private pages that were copied meanwhile.
            inode.unmap_mapping_pages(nr_pages..u64::MAX, true);
        }
        Ok(())
    }
    /// fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, in pages.
    ///
    /// # Errors
    /// -EINVAL for no pages at all; -EOPNOTSUPP for a block device that cannot write zeroes by itself, after its cache
    /// of that range is gone.
    pub fn punch(&self, first: u64, nr: u64) -> Result<(), Errno> {
        let inode = self.inode();
        if nr == 0 {
            return Err(Errno::Inval);
        }
        if self.kind() == FileKind::Block {
            // blkdev_fallocate
            let Some(left) = inode.size().checked_sub(first).filter(|&l| l > 0) else {
                return Err(Errno::Inval);
            };
            let _one = inode.rwsem.lock();
            inode.remove_range(first..first + nr.min(left));
            return Err(Errno::OpNotSupp);
        }
        inode.punch(first, nr);
        Ok(())
    }
    /// write(2) of `nr` pages full of `byte`, from page `first` on, to shared memory or tmpfs.
    ///
    /// # Errors
    /// -EINVAL for a block device, -ENOMEM.
    pub fn write(&self, first: u64, nr: u64, byte: u8) -> Result<(), Errno> {
        if self.kind() == FileKind::Block {
            return Err(Errno::Inval);
        }
        let inode = self.inode();
        let _one = inode.rwsem.lock();
        for index in first..first + nr {
            let pfn = inode.shmem_get(index, None, &mut NoCounts).map_err(|_| Errno::NoMem)?;
            (0..PAGE_SIZE as usize).for_each(|i| inode.phys().store_byte(pfn, i, byte));
            if index >= inode.size() {
                inode.set_size(index + 1);
            }
            let head = inode.phys().head(pfn);
            let page = inode.phys().page(head);
            page.set(PG_DIRTY);
            page.unlock();
            inode.phys().put(head, 1);
        }
        Ok(())
    }
}

impl Mm {
    /// `madvise_remove` of one VMA; `file` is what it maps. The mmap lock is not held.
    pub(crate) fn madvise_remove(&self, file: &Backing, first: u64, nr: u64) -> Result<(), Errno> {
        match file {
            Backing::File(file) => file.punch(first, nr),
            // vfs_fallocate knows regular files and block devices only.
            Backing::Pfnmap { .. } | Backing::Driver(_) => Err(Errno::NoDev),
            Backing::Hugetlb(mapping) => {
                self.punch_hugetlb(&mapping.file, first, nr);
                Ok(())
            }
            Backing::Anon | Backing::AnonZeroDev(_) => Err(Errno::Inval),
        }
    }
    /// What MADV_REMOVE refuses before it looks at the file.
    pub(crate) fn may_remove(vma: &Vma) -> Result<(), Errno> {
        if vma.has(VmFlags::LOCKED) || matches!(vma.backing, Backing::Anon) {
            Err(Errno::Inval)
        } else if !vma.has(VmFlags::SHARED | VmFlags::MAYWRITE) {
            Err(Errno::Access)
        } else {
            Ok(())
        }
    }
    /// MADV_REMOVE: punches holes into the files mapped shared in `range`. Drops the mmap lock for each.
    pub(crate) fn madvise_remove_range(&self, range: PageRange) -> Result<(), Errno> {
        let mut at = range.start();
        let mut gap = false;
        while at < range.end() {
            let vmas = self.mmap_read();
            let Some(vma) = vmas.find_from(at).filter(|v| v.start() < range.end()) else {
                return Err(Errno::NoMem);
            };
            let part = range.clip(vma.range);
            let part = PageRange::between(part.start().max(at), part.end());
            gap |= part.start() > at;
            Mm::may_remove(vma)?;
            let (backing, first) = (vma.backing.clone(), vma.index_of(part.start()));
            drop(vmas);
            self.madvise_remove(&backing, first, part.nr_pages())?;
            at = part.end();
        }
        if gap { Err(Errno::NoMem) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Level, VirtAddr};
    use crate::arch::Geometry;
    use crate::memory::PhysConfig;
    use crate::mm::madvise::Advice;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::system::{Settings, System, ThpMode};
    use crate::mm::touch::Access;

    const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);
    const AT: u64 = 0x2000_0000_0000;

    fn system(shmem_thp: ThpMode) -> Arc<System> {
        let memory = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
        System::new(memory, Settings { shmem_thp, ..Settings::default() }).unwrap()
    }
    fn page(i: u64) -> VirtAddr {
        VirtAddr::new(AT).add_pages(i)
    }
    fn pages(i: u64, nr: u64) -> PageRange {
        PageRange::pages(page(i), nr)
    }
    fn present(mm: &Mm, i: u64) -> bool {
        let Ok(pmd) = mm.lookup(page(i), Level::Pmd) else { return false };
        let e = pmd.read();
        e.is_huge()
            || e.is_table() && mm.phys().table(e.pfn()).ptep_get(page(i).index(Level::Pte)).is_present()
    }
    fn is_huge(mm: &Mm, i: u64) -> bool {
        mm.lookup(page(i), Level::Pmd).is_ok_and(|pmd| pmd.read().is_huge())
    }

    #[test]
    fn a_hole_in_a_huge_folio_splits_it_and_only_the_hole_loses_its_contents() {
        let sys = system(ThpMode::Always);
        let before = sys.phys.nr_used();
        {
            let mm = Mm::new(&sys, Geometry::FourLevel).unwrap();
            mm.mmap(pages(0, 512), RW, MapKind::SharedAnon, MapFlags::default(), 0).unwrap();
            mm.touch(page(278), Access::Write(7)).unwrap();
            assert!(is_huge(&mm, 0));
            for i in 0..512 {
                mm.touch(page(i), Access::Write(i as u8)).unwrap();
            }
            mm.madvise(pages(290, 8), Advice::Remove).unwrap();
            assert!(!present(&mm, 289) && !present(&mm, 298));
            for i in (218..446).chain(0..512) {
                let expected = if (290..298).contains(&i) { 0 } else { i as u8 };
                if i % 2 == 0 {
                    mm.touch(page(i), Access::Write(expected)).unwrap();
                }
                assert_eq!(mm.touch(page(i), Access::Read), Ok(expected), "page {i}");
            }
            assert!(!is_huge(&mm, 0));
        }
        crate::memory::rcu::flush();
        assert_eq!(sys.phys.nr_used(), before);
    }

    #[test]
    fn a_partial_mprotect_of_a_huge_shared_folio_drops_its_leaf_and_faults_bring_base_pages_back() {
        let sys = system(ThpMode::Madvise);
        let mm = Mm::new(&sys, Geometry::FourLevel).unwrap();
        mm.mmap(pages(0, 512), RW, MapKind::SharedAnon, MapFlags::default(), 0).unwrap();
        mm.touch(page(0), Access::Write(1)).unwrap();
        assert!(!is_huge(&mm, 0), "shmem_enabled=advise wants MADV_HUGEPAGE");
        mm.munmap(pages(0, 512)).unwrap();
        mm.mmap(pages(0, 512), RW, MapKind::SharedAnon, MapFlags::default(), 0).unwrap();
        mm.madvise(pages(0, 512), Advice::Hugepage).unwrap();
        mm.touch(page(5), Access::Write(9)).unwrap();
        assert!(is_huge(&mm, 0));
        mm.mprotect(pages(0, 8), VmFlags::READ).unwrap();
        assert!(!present(&mm, 0) && !present(&mm, 100));
        assert_eq!(mm.touch(page(5), Access::Read), Ok(9));
        assert!(present(&mm, 5) && !is_huge(&mm, 0));
    }

    #[test]
    fn truncation_takes_private_copies_too_and_a_hole_leaves_them() {
        let sys = system(ThpMode::Never);
        let before = sys.phys.nr_used();
        {
            let file = File::tmpfs(&sys);
            file.truncate(32).unwrap();
            file.write(0, 32, b'f').unwrap();
            let mm = Mm::new(&sys, Geometry::FourLevel).unwrap();
            mm.mmap(pages(0, 40), RW, MapKind::FilePrivate(Arc::clone(&file)), MapFlags::default(), 0)
                .unwrap();
            mm.touch(page(3), Access::Write(3)).unwrap();
            mm.touch(page(20), Access::Write(20)).unwrap();
            let child = mm.fork().unwrap();
            assert_eq!(mm.touch(page(32), Access::Read), Err(crate::mm::touch::Signal::Bus));
            assert_eq!(mm.touch(page(4), Access::Read), Ok(b'f'));
            file.punch(0, 16).unwrap();
            assert!(present(&mm, 3) && !present(&mm, 4));
            assert_eq!(mm.touch(page(3), Access::Read), Ok(3));
            assert_eq!(mm.touch(page(4), Access::Read), Ok(0));
            file.truncate(20).unwrap();
            assert!(!present(&mm, 20) && !present(&child, 20) && present(&child, 3));
            assert_eq!(mm.touch(page(20), Access::Read), Err(crate::mm::touch::Signal::Bus));
        }
        crate::memory::rcu::flush();
        assert_eq!(sys.phys.nr_used(), before);
    }

    #[test]
    fn a_hole_needs_a_shared_writable_mapping() {
        let sys = system(ThpMode::Never);
        let file = File::tmpfs(&sys);
        file.truncate(8).unwrap();
        let mm = Mm::new(&sys, Geometry::FourLevel).unwrap();
        let map = |i, kind| mm.mmap(pages(i, 4), VmFlags::READ, kind, MapFlags::default(), 0).unwrap();
        map(0, MapKind::Anon);
        map(8, MapKind::FilePrivate(Arc::clone(&file)));
        map(16, MapKind::FileShared { file: file.reopen(), writable: false });
        map(24, MapKind::FileShared { file, writable: true });
        let remove = |i| mm.madvise(pages(i, 4), Advice::Remove);
        assert_eq!(remove(0), Err(Errno::Inval));
        assert_eq!(remove(8), Err(Errno::Access));
        assert_eq!(remove(16), Err(Errno::Access));
        assert_eq!(remove(24), Ok(()));
        assert_eq!(remove(26), Err(Errno::NoMem));
    }
}
