//! mlock, mlock2 and munlock: `do_mlock`, `apply_vma_lock_flags`, `mlock_fixup` (mm/mlock.c, 6.12).
//!
//! Left out: the resource limit, and moving pages to the unevictable list; reclaim looks at the VMA's flag.

use crate::addr::PageRange;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Mm};

impl Vma {
    /// `vma_supports_mlock`.
    pub fn supports_mlock(&self) -> bool {
        !self.flags.intersects(VmFlags::SPECIAL | VmFlags::HUGETLB)
    }
}

impl Mm {
    /// mlock(2), or mlock2(2) with MLOCK_ONFAULT if `on_fault`: pages stay, and unless `on_fault` all become present.
    ///
    /// # Errors
    /// -ENOMEM where the range has gaps (what lies before is locked) or is not accessible, -EAGAIN out of memory.
    pub fn mlock(&self, range: PageRange, on_fault: bool) -> Result<(), Errno> {
        let on_fault = if on_fault { VmFlags::LOCKONFAULT } else { VmFlags::empty() };
        self.apply_vma_lock_flags(range, VmFlags::LOCKED | on_fault)?;
        self.populate_strictly(range).map_err(|e| match e {
            Errno::Fault => Errno::NoMem,
            Errno::NoMem => Errno::Again,
            e => e,
        })
    }
    /// munlock(2).
    ///
    /// # Errors
    /// -ENOMEM where the range has gaps; what lies before is unlocked.
    pub fn munlock(&self, range: PageRange) -> Result<(), Errno> {
        self.apply_vma_lock_flags(range, VmFlags::empty())
    }

    /// `apply_vma_lock_flags`.
    fn apply_vma_lock_flags(&self, range: PageRange, flags: VmFlags) -> Result<(), Errno> {
        let mut vmas = self.mmap_write();
        let mut at = range.start();
        while at < range.end() {
            let Some(vma) = vmas.find(at) else { return Err(Errno::NoMem) };
            let part = range.clip(vma.range);
            at = part.end();
            let new = vma.flags - (VmFlags::LOCKED | VmFlags::LOCKONFAULT) | flags;
            if new != vma.flags && vma.supports_mlock() {
                self.modify_vma(&mut vmas, part, |v| v.flags = new)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtAddr;
    use crate::mm::madvise::Advice;
    use crate::mm::testing::{BASE, machine, map_anon};

    #[test]
    fn mlock_populates_what_it_reached_and_reports_the_gap() {
        let mm = machine();
        map_anon(&mm, 0, 4);
        map_anon(&mm, 6, 2);
        let range = |off, len| PageRange::pages(BASE.add_pages(off), len);
        assert_eq!(mm.mlock(range(0, 8), false), Err(Errno::NoMem));
        let locked = |a: VirtAddr| mm.mmap_read().find(a).unwrap().has(VmFlags::LOCKED);
        assert!(locked(BASE) && !locked(BASE.add_pages(6)));
        assert_eq!(mm.mlock(range(0, 4), false), Ok(()));
        assert_eq!(mm.madvise(range(1, 1), Advice::DontNeed), Err(Errno::Inval));
        assert_eq!(mm.munlock(range(1, 1)), Ok(()));
        assert_eq!(mm.mmap_read().len(), 4);
        assert_eq!(mm.madvise(range(1, 1), Advice::DontNeed), Ok(()));
        assert_eq!(mm.munlock(range(0, 4)), Ok(()));
        assert_eq!(mm.mmap_read().len(), 2);
    }

    #[test]
    fn mlock_of_inaccessible_memory_locks_but_cannot_populate() {
        let mm = machine();
        map_anon(&mm, 0, 4);
        let range = PageRange::pages(BASE, 4);
        mm.mprotect(range, VmFlags::empty()).unwrap();
        assert_eq!(mm.mlock(range, false), Err(Errno::NoMem));
        assert!(mm.mmap_read().find(BASE).unwrap().has(VmFlags::LOCKED));
        assert_eq!(mm.mlock(range, true), Ok(()));
    }
}
