//! fork and exit: `dup_mmap`, `copy_page_range`, `exit_mmap` (kernel/fork.c, mm/memory.c, mm/huge_memory.c, 6.12).
//!
//! The parent's entries are write-protected while they are copied, inside a PROTECTION_PAGE event over each VMA that
//! can copy on write; both mmap locks are held for writing. AnonExclusive ends for every page shared this way. Left
//! out: pinned pages (none exist here), which would be copied at once.

use crate::addr::{Level, PTRS_PER_TABLE, PageRange};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::memory::{PageKind, Table};
use crate::mm::tables::{Slot, below};
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

impl Mm {
    /// fork(2): a child with the same VMAs that shares all private pages copy-on-write.
    ///
    /// # Errors
    /// -ENOMEM when frames for tables run out; the parent stays write-protected as far as copying got.
    pub fn fork(&self) -> Result<Arc<Mm>, Errno> {
        let child = Mm::with_family(self.system(), self.geometry(), Arc::clone(&self.family))?;
        let copied = self.dup_mmap(&child);
        if copied.is_err() {
            child.exit();
        }
        copied.map(|()| child)
    }

    /// `dup_mmap`.
    fn dup_mmap(&self, child: &Arc<Mm>) -> Result<(), Errno> {
        let parent_vmas = self.mmap_write();
        let mut child_vmas = child.mmap_write();
        for vma in parent_vmas.iter() {
            if vma.has(VmFlags::DONTCOPY) {
                continue;
            }
            let mut copy = vma.clone();
            copy.flags -= VmFlags::LOCKED | VmFlags::LOCKONFAULT | VmFlags::UFFD_WP | VmFlags::UFFD_MISSING;
            copy.uffd = 0;
            if let Backing::Hugetlb(h) = &mut copy.backing {
                h.forget_reservation();
            }
            if vma.has(VmFlags::WIPEONFORK) {
                copy.replace_anon_vma(0);
                copy.cloned = false;
            } else if vma.anon_vma() != 0 {
                // anon_vma_fork: the parent's chain and one of its own.
                copy.replace_anon_vma(self.system().new_id());
                copy.cloned = true;
            }
            let copied = if vma.has(VmFlags::WIPEONFORK) { Ok(()) } else { self.copy_page_range(child, vma) };
            child.link_file(&copy);
            child_vmas.insert(copy);
            copied?;
        }
        Ok(())
    }

    /// `copy_page_range`.
    fn copy_page_range(&self, child: &Arc<Mm>, vma: &Vma) -> Result<(), Errno> {
        // vma_needs_copy: page-cache pages come back by faults.
        let needs = vma.flags.intersects(VmFlags::PFNMAP | VmFlags::MIXEDMAP) || vma.anon_vma() != 0;
        if !needs {
            return Ok(());
        }
        if vma.has(VmFlags::HUGETLB) {
            return self.copy_hugetlb_page_range(child, vma);
        }
        let copy = || self.copy_level(child, vma, self.root(), self.geometry().root(), vma.range);
        if vma.is_cow() {
            self.notifier.during(&Event::new(EventKind::ProtectionPage, vma.range), copy)
        } else {
            copy()
        }
    }

    fn copy_level(
        &self,
        child: &Arc<Mm>,
        vma: &Vma,
        table: Table<'_>,
        level: Level,
        range: PageRange,
    ) -> Result<(), Errno> {
        let mut addr = range.start();
        while addr < range.end() {
            let next = addr.next_boundary(level, range.end());
            let slot = Slot { table, index: addr.index(level) };
            let part = PageRange::between(addr, next);
            let e = slot.read();
            if level > Level::Pmd {
                if e.is_table() {
                    self.copy_level(child, vma, self.phys().table(e.pfn()), below(level), part)?;
                }
            } else if e.is_table() {
                self.copy_pte_range(child, vma, slot, part)?;
            } else if !e.is_none() {
                self.copy_huge_pmd(child, vma, slot, part)?;
            }
            addr = next;
        }
        Ok(())
    }

    /// `copy_huge_pmd`.
    fn copy_huge_pmd(&self, child: &Arc<Mm>, vma: &Vma, src: Slot<'_>, part: PageRange) -> Result<(), Errno> {
        if !vma.is_anonymous() {
            return Ok(());
        }
        let phys = self.phys();
        let dst = child.lookup_alloc(part.start(), Level::Pmd)?;
        let spare = phys.alloc_table()?;
        let _dst_guard = dst.lock();
        let _src_guard = src.lock();
        let mut e = src.read();
        if e.is_swp() {
            // A writable migration entry becomes readable on both sides.
            let swp = e.swp();
            if swp.kind() != SwpType::MigrationRead {
                e = SwpEntry::new(SwpType::MigrationRead, swp.offset())
                    .entry()
                    .with_swp_soft_dirty(e.is_swp_soft_dirty())
                    .with_swp_uffd_wp(e.is_swp_uffd_wp());
                src.replace(e);
            }
            child.deposit(dst.table, spare);
            dst.set(e.with_swp_uffd_wp(false));
            return Ok(());
        }
        if !e.is_huge() {
            phys.free_table(spare.pfn());
            return Ok(());
        }
        if phys.page(e.pfn()).kind() == PageKind::Anon {
            phys.add_rmap_huge(e.pfn());
            phys.clear_anon_exclusive(e.pfn());
        }
        child.deposit(dst.table, spare);
        e = e.wrprotect();
        src.replace(e);
        dst.set(e.mkold().clear_uffd_wp());
        Ok(())
    }

    /// `copy_pte_range`: `copy_nonpresent_pte` and `copy_present_ptes`.
    fn copy_pte_range(
        &self,
        child: &Arc<Mm>,
        vma: &Vma,
        src: Slot<'_>,
        part: PageRange,
    ) -> Result<(), Errno> {
        let dst = child.lookup_alloc(part.start(), Level::Pmd)?;
        if dst.read().is_none() {
            child.install_table(dst)?;
        }
        let Some((dst, _dst_guard)) = child.lock_pte_table(dst) else { return Ok(()) };
        let Some((src, _src_guard)) = self.lock_pte_table(src) else { return Ok(()) };
        let mut addr = part.start();
        while addr < part.end() {
            let i = addr.index(Level::Pte);
            let old = src.ptep_get(i);
            if !old.is_none() {
                let (parent, copy) = self.copy_entry(vma, old);
                if parent != old {
                    src.replace(i, parent);
                }
                dst.set(i, copy);
            }
            addr = addr.add_pages(1);
        }
        Ok(())
    }

    /// What parent and child hold after one non-none entry was copied.
    fn copy_entry(&self, vma: &Vma, old: Entry) -> (Entry, Entry) {
        let phys = self.phys();
        if old.is_present() {
            if !old.is_special() {
                phys.add_rmap_pte(old.pfn());
                if phys.page(old.pfn()).kind() == PageKind::Anon {
                    phys.clear_anon_exclusive(old.pfn());
                }
            }
            let parent = if vma.is_cow() && old.is_write() { old.wrprotect() } else { old };
            let copy = if vma.is_shared() { parent.mkclean() } else { parent };
            return (parent, copy.mkold().clear_uffd_wp());
        }
        let swp = old.swp();
        let like = |kind| {
            SwpEntry::new(kind, swp.offset())
                .entry()
                .with_swp_soft_dirty(old.is_swp_soft_dirty())
                .with_swp_uffd_wp(old.is_swp_uffd_wp())
        };
        let parent = match swp.kind() {
            SwpType::Swap => {
                self.system().swap_duplicate(swp.offset());
                old.with_swp_exclusive(false)
            }
            SwpType::MigrationWrite | SwpType::MigrationReadExclusive | SwpType::MigrationRead => {
                if vma.is_cow() { like(SwpType::MigrationRead) } else { old }
            }
            SwpType::DeviceWrite | SwpType::DeviceRead => {
                phys.add_rmap_pte(swp.pfn());
                phys.clear_anon_exclusive(swp.pfn());
                if vma.is_cow() && swp.is_device_private_write() {
                    // copy_nonpresent_pte does not keep soft-dirty here.
                    like(SwpType::DeviceRead).with_swp_soft_dirty(false)
                } else {
                    old
                }
            }
            SwpType::DeviceExclusiveWrite | SwpType::DeviceExclusiveRead => {
                // The exclusive entry is restored in the parent, then copied as a present one.
                let restored = self.restored_exclusive(vma, old);
                return self.copy_entry(vma, restored);
            }
            // uffd-wp markers stay behind: the child has no userfaultfd.
            SwpType::PteMarker => {
                let other = swp.offset() & !crate::arch::entry::MARKER_UFFD_WP;
                let copy =
                    if other != 0 { SwpEntry::new(SwpType::PteMarker, other).entry() } else { Entry::NONE };
                return (old, copy);
            }
            SwpType::Hwpoison => old,
        };
        (parent, parent.with_swp_uffd_wp(false))
    }

    /// `exit_mmap`: a RELEASE event over everything (`mmu_notifier_release`, nothing changes in it), an UNMAP event over
    /// everything in which all entries go, then the tables. Further calls find nothing.
    pub fn exit(&self) {
        if self.mmap_read().is_empty() {
            return;
        }
        let all = PageRange::between(
            crate::addr::VirtAddr::new(0),
            crate::addr::VirtAddr::new(self.geometry().task_size()),
        );
        self.notifier.during(&Event::new(EventKind::Release, all), || {});
        let mut vmas = self.mmap_write();
        self.notifier.during(&Event::new(EventKind::Unmap, all), || {
            vmas.iter().for_each(|v| self.zap_page_range(v, v.range));
        });
        let starts: Vec<_> = vmas.iter().map(Vma::start).collect();
        for start in starts {
            if let Some(vma) = vmas.remove(start) {
                self.close_vma(&vma);
            }
        }
        let root = self.root();
        for i in 0..PTRS_PER_TABLE {
            let e = root.read(i);
            if e.is_table() {
                root.set(i, Entry::NONE);
                self.free_tree(self.phys().table(e.pfn()), below(self.geometry().root()));
            }
        }
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        self.exit();
        self.phys().free_table(self.pgd);
    }
}
