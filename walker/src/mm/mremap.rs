//! mremap(2) to a fixed place: `mremap_to`, `vma_to_resize`, `move_vma`, `copy_vma`, `move_page_tables`, `move_ptes`,
//! `move_normal_pmd`, `move_huge_pmd` (mm/mremap.c, mm/vma.c, mm/huge_memory.c, 6.12).
//!
//! Entries move in one UNMAP event over the old range (CLEAR for hugetlb); unmapping the old VMA afterwards issues
//! another. Whole PMD and PUD entries move where both sides are aligned, and then soft-dirty is not set.

use crate::addr::{Level, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::counters::NoCounts;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma, VmaTree, anon_pgoff};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};

impl Mm {
    /// mremap(2) with MREMAP_MAYMOVE | MREMAP_FIXED: moves `old` to `new`, which may be shorter or longer. What is
    /// mapped in `new` goes first, even if the call fails later.
    ///
    /// # Errors
    /// -EINVAL for overlapping or (hugetlb) unaligned ranges, -EFAULT where `old` is not inside one VMA or that may not
    /// grow, -ENOMEM out of memory for tables.
    pub fn mremap(&self, old: PageRange, new: PageRange) -> Result<(), Errno> {
        if new.is_empty() {
            return Err(Errno::Inval);
        }
        let mut vmas = self.mmap_write();
        let (mut old, mut new) = (old, new);
        let vma = vmas.find(old.start()).ok_or(Errno::Fault)?;
        if vma.has(VmFlags::HUGETLB) {
            let level = vma.hugetlb_level();
            let pages = 1 << level.order();
            if !old.start().is_aligned(level) || !new.start().is_aligned(level) {
                return Err(Errno::Inval);
            }
            old = PageRange::pages(old.start(), old.nr_pages().next_multiple_of(pages));
            new = PageRange::pages(new.start(), new.nr_pages().next_multiple_of(pages));
            if new.nr_pages() > old.nr_pages() {
                return Err(Errno::Inval);
            }
        }
        if new.end().get() > self.geometry().task_size() || old.overlaps(new) {
            return Err(Errno::Inval);
        }
        self.unmap_locked(&mut vmas, new)?;
        if old.nr_pages() > new.nr_pages() {
            let kept = old.start().add_pages(new.nr_pages());
            self.unmap_locked(&mut vmas, PageRange::between(kept, old.end()))?;
            old = PageRange::between(old.start(), kept);
        }
        // vma_to_resize
        let vma = vmas.find(old.start()).ok_or(Errno::Fault)?;
        if old.is_empty() && !vma.has(VmFlags::MAYSHARE) {
            return Err(Errno::Inval);
        }
        if old.end() > vma.end() {
            return Err(Errno::Fault);
        }
        if new.nr_pages() != old.nr_pages() && vma.flags.intersects(VmFlags::DONTEXPAND | VmFlags::PFNMAP) {
            return Err(Errno::Fault);
        }
        let locked = vma.has(VmFlags::LOCKED);
        self.move_vma(&mut vmas, old, new)?;
        drop(vmas);
        if locked && new.nr_pages() > old.nr_pages() {
            self.populate(PageRange::between(new.start().add_pages(old.nr_pages()), new.end()));
        }
        Ok(())
    }

    /// `move_vma`.
    fn move_vma(&self, vmas: &mut VmaTree, old: PageRange, new: PageRange) -> Result<(), Errno> {
        let copy = self.copy_vma(vmas, old.start(), new);
        let moved = self.move_page_tables(vmas, old, new.start());
        if moved.is_err() {
            // Tables ran out: everything goes back and the new VMA goes away.
            self.move_page_tables(vmas, PageRange::pages(new.start(), old.nr_pages()), old.start())?;
        }
        if moved.is_ok()
            && let Some(vma) = vmas.get_mut(copy)
            && vma.uffd != 0
        {
            // mremap_userfaultfd_prep without UFFD_FEATURE_EVENT_REMAP: the new place is not registered.
            vma.uffd = 0;
            vma.flags -= VmFlags::UFFD_WP | VmFlags::UFFD_MISSING;
        }
        let gone = if moved.is_ok() { old } else { new };
        if !gone.is_empty() && vmas.find(gone.start()).is_some_and(|v| v.has(VmFlags::HUGETLB)) {
            // clear_vma_resv_huge_pages: the other VMA has the reservation now, that of the part which moved. The kernel
            // does so before it cuts the rest off, and what that has reserved is lost.
            self.split_vma_at(vmas, gone.start())?;
            self.split_vma_at(vmas, gone.end())?;
            if let Some(vma) = vmas.get_mut(gone.start())
                && let Backing::Hugetlb(h) = &mut vma.backing
            {
                h.forget_reservation();
            }
        }
        if !gone.is_empty() {
            self.unmap_locked(vmas, gone)?;
        }
        moved
    }

    /// `copy_vma`: the VMA at `from` continues in `new`, joined to a neighbour there if it fits. Returns where the VMA
    /// that holds `new` starts.
    fn copy_vma(&self, vmas: &mut VmaTree, from: VirtAddr, new: PageRange) -> VirtAddr {
        let vma = vmas.find(from).expect("checked by vma_to_resize");
        let mut copy = vma.clone();
        copy.range = new;
        copy.pgoff = if vma.is_anonymous() && vma.anon_vma() == 0 {
            // Nothing has faulted yet: the offset may follow the place, so that it can merge.
            anon_pgoff(new.start())
        } else {
            vma.index_of(from)
        };
        self.link_file(&copy);
        vmas.insert(copy);
        vmas.merge_keeping_flags(new.start())
    }

    /// `move_page_tables`.
    fn move_page_tables(&self, vmas: &VmaTree, old: PageRange, to: VirtAddr) -> Result<(), Errno> {
        if old.is_empty() {
            return Ok(());
        }
        let (vma, new_vma) = (vmas.find(old.start()), vmas.find(to));
        let (vma, new_vma) = (vma.expect("still mapped"), new_vma.expect("just copied"));
        if vma.has(VmFlags::HUGETLB) {
            return self.move_hugetlb(vma, old, to);
        }
        let (mut addr, mut to) = (old.start(), to);
        let past = addr.get() & (Level::Pmd.size() - 1);
        if past != 0
            && (old.nr_pages() << 12) >= Level::Pmd.size() - past
            && to.get() & (Level::Pmd.size() - 1) == past
            && can_align_down(vmas, vma, addr)
            && can_align_down(vmas, new_vma, to)
        {
            (addr, to) = (addr.align_down(Level::Pmd), to.align_down(Level::Pmd));
        }
        let move_tables = vma.uffd == 0 && new_vma.uffd == 0;
        let range = PageRange::between(addr, old.end());
        self.notifier
            .during(&Event::new(EventKind::Unmap, range), || self.move_range(vma, range, to, move_tables))
    }

    fn move_range(&self, vma: &Vma, range: PageRange, to: VirtAddr, move_tables: bool) -> Result<(), Errno> {
        let (mut addr, mut to) = (range.start(), to);
        while addr < range.end() {
            let mut extent = move_extent(Level::Pud, addr, range.end(), to);
            if let Ok(old_pud) = self.lookup(addr, Level::Pud)
                && old_pud.read().is_table()
            {
                let new_pud = self.lookup_alloc(to, Level::Pud)?;
                let whole = extent << 12 == Level::Pud.size() && move_tables;
                if !(whole && move_table(old_pud, new_pud)) {
                    extent = move_extent(Level::Pmd, addr, range.end(), to);
                    self.move_pmd(vma, addr, to, extent, move_tables)?;
                }
            }
            (addr, to) = (addr.add_pages(extent), to.add_pages(extent));
        }
        Ok(())
    }

    /// What one round of `move_page_tables` does below the PUD: `extent` pages inside one PMD entry on either side.
    fn move_pmd(
        &self,
        vma: &Vma,
        addr: VirtAddr,
        to: VirtAddr,
        extent: u64,
        move_tables: bool,
    ) -> Result<(), Errno> {
        let Ok(old_pmd) = self.lookup(addr, Level::Pmd) else { return Ok(()) };
        if old_pmd.read().is_none() {
            return Ok(());
        }
        let new_pmd = self.lookup_alloc(to, Level::Pmd)?;
        let whole = extent << 12 == Level::Pmd.size();
        loop {
            let e = old_pmd.read();
            if e.is_none() {
                return Ok(());
            }
            if !e.is_table() {
                if whole && self.move_huge_pmd(vma, old_pmd, new_pmd) {
                    return Ok(());
                }
                self.split_huge_pmd(vma, old_pmd, addr, &mut NoCounts);
            } else if whole && move_tables && move_table(old_pmd, new_pmd) {
                return Ok(());
            }
            if old_pmd.read().is_none() {
                return Ok(());
            }
            if new_pmd.read().is_none() {
                self.install_table(new_pmd)?;
            }
            if self.move_ptes(vma, old_pmd, addr, new_pmd, to, extent) {
                return Ok(());
            }
        }
    }

    /// `move_huge_pmd`: the leaf and its spare table. False if the new entry is not free.
    fn move_huge_pmd(&self, vma: &Vma, old: Slot<'_>, new: Slot<'_>) -> bool {
        if !new.read().is_none() {
            return false;
        }
        let _old_guard = old.lock();
        let _new_guard = (old.table.pfn() != new.table.pfn()).then(|| new.lock());
        let e = old.read();
        if e.is_none() || e.is_table() {
            return false;
        }
        old.replace(Entry::NONE);
        if vma.is_anonymous() && old.table.pfn() != new.table.pfn() {
            self.deposit(new.table, self.withdraw(old.table));
        }
        new.set(moved_entry(vma, e));
        true
    }

    /// `move_ptes`. False if a table vanished meanwhile.
    fn move_ptes(
        &self,
        vma: &Vma,
        old_pmd: Slot<'_>,
        addr: VirtAddr,
        new_pmd: Slot<'_>,
        to: VirtAddr,
        extent: u64,
    ) -> bool {
        let Some((old, _old_guard)) = self.lock_pte_table(old_pmd) else { return false };
        // Both sides may lie in one table.
        let other = (new_pmd.read() != old_pmd.read()).then(|| self.lock_pte_table(new_pmd));
        let (new, _new_guard) = match other {
            None => (old, None),
            Some(Some((table, guard))) => (table, Some(guard)),
            Some(None) => return false,
        };
        let (from, to) = (addr.index(Level::Pte), to.index(Level::Pte));
        for i in 0..extent as usize {
            if old.ptep_get(from + i).is_none() {
                continue;
            }
            let e = old.replace(from + i, Entry::NONE);
            new.set(to + i, moved_entry(vma, e));
        }
        true
    }
}

/// `move_soft_dirty_pte`, and the end of write protection where the new VMA has no userfaultfd.
fn moved_entry(vma: &Vma, e: Entry) -> Entry {
    let uffd = vma.uffd != 0;
    if e.is_present() {
        let e = e.mksoft_dirty();
        return if uffd { e.clear_uffd_wp() } else { e };
    }
    if uffd && e.is_swp_uffd_wp_marker() {
        return Entry::NONE;
    }
    let e = e.with_swp_soft_dirty(true);
    if uffd { e.with_swp_uffd_wp(false) } else { e }
}

/// `move_normal_pmd`, `move_normal_pud`: the table itself moves. False if the new entry is not free.
fn move_table(old: Slot<'_>, new: Slot<'_>) -> bool {
    if !new.read().is_none() {
        return false;
    }
    let _old_guard = old.lock();
    let _new_guard = (old.table.pfn() != new.table.pfn()).then(|| new.lock());
    let e = old.read();
    if !e.is_table() {
        return false;
    }
    old.replace(Entry::NONE);
    new.set(e);
    true
}

/// `get_extent`: pages up to the next boundary of `level` on either side.
fn move_extent(level: Level, addr: VirtAddr, end: VirtAddr, to: VirtAddr) -> u64 {
    let left = |a: VirtAddr| (level.size() - (a.get() & (level.size() - 1))) >> 12;
    left(addr).min(left(to)).min(end.pages_since(addr))
}

/// `can_align_down`: `addr` is where `vma` starts, and nothing is mapped below it in the 2 MiB.
fn can_align_down(vmas: &VmaTree, vma: &Vma, addr: VirtAddr) -> bool {
    vma.start() == addr
        && vmas.overlapping(PageRange::between(addr.align_down(Level::Pmd), addr)).next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::madvise::Advice;
    use crate::mm::testing::{BASE, assert_used, machine, map_anon};
    use crate::mm::touch::{Access, Signal};

    fn range(off: u64, len: u64) -> PageRange {
        PageRange::pages(BASE.add_pages(off), len)
    }

    #[test]
    fn contents_move_and_the_old_place_is_gone() {
        let mm = machine();
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, 16);
        mm.touch(BASE.add_pages(3), Access::Write(7)).unwrap();
        mm.mremap(range(2, 4), range(20, 4)).unwrap();
        assert_eq!(mm.touch(BASE.add_pages(21), Access::Read), Ok(7));
        assert_eq!(mm.touch(BASE.add_pages(3), Access::Read), Err(Signal::Segv));
        mm.mremap(range(20, 4), range(2, 4)).unwrap();
        assert_eq!(mm.mmap_read().len(), 1, "back in place it merges again");
        assert_eq!(mm.touch(BASE.add_pages(3), Access::Read), Ok(7));
        mm.munmap(range(0, 32)).unwrap();
        assert_used(&mm, used);
    }

    #[test]
    fn errors_come_after_the_target_was_unmapped() {
        let mm = machine();
        map_anon(&mm, 0, 4);
        map_anon(&mm, 8, 4);
        assert_eq!(mm.mremap(range(0, 4), range(2, 4)), Err(Errno::Inval));
        assert_eq!(mm.mremap(range(5, 1), range(8, 1)), Err(Errno::Fault));
        assert_eq!(mm.mmap_read().len(), 2);
        assert_eq!(mm.mremap(range(2, 4), range(8, 4)), Err(Errno::Fault));
        assert_eq!(mm.mmap_read().len(), 1);
    }

    #[test]
    fn a_huge_page_moves_whole_where_aligned_and_is_split_elsewhere() {
        let mm = machine();
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, 512);
        mm.madvise(range(0, 512), Advice::Hugepage).unwrap();
        mm.touch(BASE, Access::Write(9)).unwrap();
        let huge = |page: u64| {
            let vmas = mm.mmap_read();
            drop(vmas);
            mm.lookup(BASE.add_pages(page), Level::Pmd).is_ok_and(|s| s.read().is_huge())
        };
        mm.mremap(range(0, 512), range(1024, 512)).unwrap();
        assert!(huge(1024));
        mm.mremap(range(1024, 512), range(1 << 18, 512)).unwrap();
        assert!(huge(1 << 18), "into another PMD table, with its spare table");
        mm.mremap(range(1 << 18, 512), range(100, 512)).unwrap();
        assert!(!huge(100));
        assert_eq!(mm.touch(BASE.add_pages(100), Access::Read), Ok(9));
        mm.munmap(range(100, 512)).unwrap();
        assert_used(&mm, used);
    }
}
