//! userfaultfd: `userfaultfd_register`, `mwriteprotect_range` (fs/userfaultfd.c, mm/userfaultfd.c, 6.12).
//!
//! Faults are never queued: the model knows UFFD_FEATURE_SIGBUS only, where a touch ends in a signal. Left out: minor
//! mode, asynchronous write protection, filling pages, events for fork, mremap and unmap.

use crate::addr::PageRange;
use crate::mm::protect::Change;
use crate::mm::system::{FileKind, System};
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};

/// Set in the identity of a context that asked for UFFD_FEATURE_WP_UNPOPULATED.
const WP_UNPOPULATED: u64 = 1 << 63;

/// A userfaultfd (`struct userfaultfd_ctx`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Userfaultfd(u64);

impl Userfaultfd {
    /// A new context. With `wp_unpopulated`, write protection of anonymous memory also marks what is not there yet.
    pub fn new(system: &System, wp_unpopulated: bool) -> Userfaultfd {
        Userfaultfd(system.new_id() | if wp_unpopulated { WP_UNPOPULATED } else { 0 })
    }
}

/// What a registration watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdMode {
    /// Pages that are not there.
    Missing,
    /// Writes to protected pages.
    WriteProtect,
}

impl Vma {
    /// `vma_can_userfault` for missing and write-protect mode.
    fn can_userfault(&self) -> bool {
        match &self.backing {
            Backing::Hugetlb(_) => true,
            _ if self.flags.intersects(VmFlags::SPECIAL) => false,
            Backing::File(f) => matches!(f.kind(), FileKind::Shmem | FileKind::Tmpfs),
            _ => self.is_anonymous(),
        }
    }
    /// `userfaultfd_wp_use_markers`: file mappings always, anonymous memory with UFFD_FEATURE_WP_UNPOPULATED.
    pub(crate) fn uses_uffd_markers(&self) -> bool {
        self.has(VmFlags::UFFD_WP) && (!self.is_anonymous() || self.uffd & WP_UNPOPULATED != 0)
    }
}

impl Mm {
    /// UFFDIO_REGISTER.
    ///
    /// # Errors
    /// -EINVAL for an empty or unmapped range, kinds of memory that cannot, and cut huge pages; -EPERM where a mapping
    /// can never be writable; -EBUSY where another context watches.
    pub fn uffd_register(&self, ctx: Userfaultfd, range: PageRange, mode: UffdMode) -> Result<(), Errno> {
        let mode = match mode {
            UffdMode::Missing => VmFlags::UFFD_MISSING,
            UffdMode::WriteProtect => VmFlags::UFFD_WP,
        };
        let mut vmas = self.mmap_write();
        let first = vmas.overlapping(range).next().ok_or(Errno::Inval)?;
        let cuts = |vma: &Vma, at: crate::addr::VirtAddr| {
            vma.has(VmFlags::HUGETLB) && !at.is_aligned(vma.hugetlb_level())
        };
        if range.is_empty() || cuts(first, range.start()) {
            return Err(Errno::Inval);
        }
        for vma in vmas.overlapping(range) {
            if !vma.can_userfault() {
                return Err(Errno::Inval);
            }
            if !vma.has(VmFlags::MAYWRITE) {
                return Err(Errno::Perm);
            }
            if range.end() <= vma.end() && cuts(vma, range.end()) {
                return Err(Errno::Inval);
            }
            if vma.uffd != 0 && vma.uffd != ctx.0 {
                return Err(Errno::Busy);
            }
        }
        // userfaultfd_register_range
        let mut at = range.start();
        while at < range.end()
            && let Some(vma) = vmas.find_from(at).filter(|v| v.start() < range.end())
        {
            let part = range.clip(vma.range);
            at = part.end();
            if vma.uffd == ctx.0 && vma.has(mode) {
                continue;
            }
            self.modify_vma(&mut vmas, part, |v| {
                v.flags = v.flags.difference(VmFlags::UFFD_MISSING | VmFlags::UFFD_WP) | mode;
                v.uffd = ctx.0;
            })?;
        }
        Ok(())
    }

    /// UFFDIO_WRITEPROTECT: protects, or lifts the protection.
    ///
    /// # Errors
    /// -ENOENT where nothing is registered for it (what lies before has changed), -EINVAL for cut huge pages or an
    /// empty range.
    pub fn uffd_writeprotect(&self, range: PageRange, protect: bool) -> Result<(), Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let vmas = self.mmap_read();
        let mut done = Err(Errno::NoEnt);
        for vma in vmas.overlapping(range) {
            if !vma.has(VmFlags::UFFD_WP) {
                return Err(Errno::NoEnt);
            }
            if vma.has(VmFlags::HUGETLB) {
                let pages = 1 << vma.hugetlb_level().order();
                if (range.start().get() >> 12 | range.nr_pages()) & (pages - 1) != 0 {
                    return Err(Errno::Inval);
                }
            }
            let change = if protect {
                Change::UffdWp
            } else {
                Change::UffdWpResolve { try_write: vma.wants_manual_write_upgrade() }
            };
            self.change_protection(vma, range.clip(vma.range), change);
            done = Ok(());
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::testing::{BASE, RW, assert_used, machine, map_anon};
    use crate::mm::touch::{Access, Signal};

    fn range(off: u64, len: u64) -> PageRange {
        PageRange::pages(BASE.add_pages(off), len)
    }

    #[test]
    fn protected_pages_raise_sigbus_on_write_until_the_protection_is_lifted() {
        let mm = machine();
        let used = mm.phys().nr_used();
        map_anon(&mm, 0, 8);
        mm.touch(BASE, Access::Write(1)).unwrap();
        let fd = Userfaultfd::new(mm.system(), true);
        assert_eq!(mm.uffd_writeprotect(range(0, 4), true), Err(Errno::NoEnt));
        mm.uffd_register(fd, range(0, 4), UffdMode::WriteProtect).unwrap();
        assert_eq!(mm.mmap_read().len(), 2);
        mm.uffd_writeprotect(range(0, 4), true).unwrap();
        assert_eq!(mm.touch(BASE, Access::Write(2)), Err(Signal::Bus));
        assert_eq!(mm.touch(BASE.add_pages(1), Access::Write(2)), Err(Signal::Bus), "a marker remembers");
        assert_eq!(mm.touch(BASE, Access::Read), Ok(1));
        mm.uffd_writeprotect(range(0, 4), false).unwrap();
        assert_eq!(mm.touch(BASE, Access::Write(2)), Ok(2));
        mm.munmap(range(0, 8)).unwrap();
        assert_used(&mm, used);
    }

    #[test]
    fn registration_refuses_other_contexts_gaps_and_cut_huge_pages() {
        let mm = machine();
        let (a, b) = (Userfaultfd::new(mm.system(), true), Userfaultfd::new(mm.system(), true));
        let huge = MapKind::Hugetlb { order: 9, shared: false };
        mm.mmap(range(512, 1024), RW, huge, MapFlags::default(), 0).unwrap();
        assert_eq!(mm.uffd_register(a, range(0, 8), UffdMode::Missing), Err(Errno::Inval));
        assert_eq!(mm.uffd_register(a, range(513, 8), UffdMode::Missing), Err(Errno::Inval));
        assert_eq!(mm.uffd_register(a, range(512, 8), UffdMode::Missing), Err(Errno::Inval));
        assert_eq!(mm.uffd_register(a, range(512, 512), UffdMode::Missing), Ok(()));
        assert_eq!(mm.uffd_register(b, range(512, 1024), UffdMode::Missing), Err(Errno::Busy));
        assert_eq!(mm.touch(BASE.add_pages(512), Access::Read), Err(Signal::Bus));
        assert_eq!(mm.touch(BASE.add_pages(1024), Access::Read), Ok(0));
    }
}
