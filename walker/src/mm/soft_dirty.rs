//! Writing 4 to /proc/PID/clear_refs: `clear_refs_write`, `clear_refs_pte_range` (fs/proc/task_mmu.c, 6.12).
//!
//! Every entry loses its soft-dirty bit and its write permission, so that the next write faults and sets the bit
//! again. hugetlb entries are left alone, as the kernel's walk has no callback for them. Left out: pages pinned by
//! get_user_pages.

use crate::addr::{Level, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Locked, Mm};
use crate::notifier::{Event, EventKind};
use crate::walk::{Visit, WalkOps, walk_page_range};
use core::convert::Infallible;

impl Mm {
    /// Forgets what was written so far: VM_SOFTDIRTY of every VMA, soft-dirty of every entry, inside one SOFT_DIRTY
    /// event over the whole address space.
    pub fn clear_soft_dirty(&self) {
        let mut vmas = self.mmap_write();
        let starts: Vec<_> = vmas.iter().map(Vma::start).collect();
        for start in starts {
            if let Some(vma) = vmas.get_mut(start) {
                vma.flags -= VmFlags::SOFTDIRTY;
            }
        }
        let all = PageRange::between(VirtAddr::new(0), VirtAddr::new(self.geometry().task_size()));
        let at = self.locked(&vmas);
        self.notifier.during(&Event::new(EventKind::SoftDirty, all), || {
            let Ok(()) = walk_page_range(at, all, &mut ClearSoftDirty(at));
        });
    }
}

struct ClearSoftDirty<'a>(Locked<'a>);

/// `clear_soft_dirty`, `clear_soft_dirty_pmd`.
fn cleared(e: Entry) -> Entry {
    if e.is_present() {
        e.wrprotect().clear_soft_dirty()
    } else if e.is_swp() {
        e.with_swp_soft_dirty(false)
    } else {
        e
    }
}

impl<'a> WalkOps<'a> for ClearSoftDirty<'a> {
    type Break = Infallible;

    fn test_walk(&mut self, vma: &'a Vma, _part: PageRange) -> Result<Visit, Infallible> {
        Ok(if vma.has(VmFlags::PFNMAP) { Visit::Skip } else { Visit::Walk })
    }
    fn pte_hole(&mut self, _vma: Option<&'a Vma>, _part: PageRange) -> Result<(), Infallible> {
        Ok(())
    }
    fn pmd_entry(&mut self, _vma: &'a Vma, pmd: Slot<'a>, part: PageRange) -> Result<(), Infallible> {
        loop {
            let e = pmd.read();
            if e.is_none() {
                return Ok(());
            }
            if !e.is_table() {
                let _guard = pmd.lock();
                let e = pmd.read();
                if e.is_none() || e.is_table() {
                    continue;
                }
                pmd.replace(cleared(e));
                return Ok(());
            }
            let Some((table, _guard)) = self.0.mm.lock_pte_table(pmd) else { continue };
            let first = part.start().index(Level::Pte);
            for i in first..first + part.nr_pages() as usize {
                let old = table.ptep_get(i);
                let new = cleared(old);
                if new != old {
                    table.replace(i, new);
                }
            }
            return Ok(());
        }
    }
    fn pud_leaf(&mut self, _vma: &'a Vma, _e: Entry, _part: PageRange) -> Result<(), Infallible> {
        Ok(())
    }
    fn hugetlb_entry(&mut self, _vma: &'a Vma, _slot: Slot<'a>, _part: PageRange) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::mm::pagemap::PagemapBits;
    use crate::mm::testing::{BASE, machine, map_anon};
    use crate::mm::touch::Access;

    #[test]
    fn only_what_is_written_afterwards_is_soft_dirty_again() {
        let mm = machine();
        map_anon(&mm, 0, 8);
        (0..8).for_each(|i| assert_eq!(mm.touch(BASE.add_pages(i), Access::Write(1)), Ok(1)));
        mm.clear_soft_dirty();
        mm.touch(BASE.add_pages(2), Access::Write(2)).unwrap();
        mm.touch(BASE.add_pages(3), Access::Read).unwrap();
        let vmas = mm.mmap_read();
        let dirty = |i| mm.locked(&vmas).pagemap(BASE.add_pages(i)).contains(PagemapBits::SOFT_DIRTY);
        assert_eq!((0..8).filter(|&i| dirty(i)).collect::<Vec<_>>(), [2]);
    }
}
