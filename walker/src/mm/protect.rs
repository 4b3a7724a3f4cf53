//! mprotect: `do_mprotect_pkey`, `mprotect_fixup`, `change_protection` (mm/mprotect.c, mm/huge_memory.c, 6.12).
//!
//! The PROTECTION_VMA event is issued lazily, once the first PUD entry is met that is not none, and covers what is left of
//! that PUD table's 512 GiB (`change_pud_range`; until 6.11 one for each GiB, from the first PMD entry on).

use crate::addr::{Level, PTRS_PER_TABLE, PageRange};
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::NoCounts;
use crate::memory::page::PG_DIRTY;
use crate::memory::{PageKind, Table};
use crate::mm::file::FileKind;
use crate::mm::tables::{Slot, below};
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};

/// What `change_protection` does to each entry (MM_CP_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// New rights, and write permission where the entry could have it (MM_CP_TRY_CHANGE_WRITABLE) if set.
    Protect {
        /// Try to make entries writable at once.
        try_write: bool,
    },
    /// Rights go to protnone for a NUMA hint (MM_CP_PROT_NUMA).
    NumaHint,
    /// userfaultfd write-protects (MM_CP_UFFD_WP).
    UffdWp,
    /// userfaultfd lifts the protection (MM_CP_UFFD_WP_RESOLVE).
    UffdWpResolve {
        /// Try to make entries writable at once.
        try_write: bool,
    },
}

impl Vma {
    /// `vma_wants_manual_pte_write_upgrade`. Of a shared mapping it asks `vma_wants_writenotify` about the rights that
    /// new entries get, and where these lost their write bit for soft-dirty or uffd-wp already, the answer is no: only a
    /// backer that tracks writes, which is asked before, says yes.
    pub fn wants_manual_write_upgrade(&self) -> bool {
        self.has(VmFlags::WRITE) && (!self.is_shared() || self.backer_tracks_dirty())
    }
}

impl Mm {
    /// `can_change_pte_writable` / `can_change_pmd_writable`: whether this present entry of a writable VMA may get the
    /// write bit without a fault.
    pub fn can_change_writable(&self, vma: &Vma, e: Entry) -> bool {
        if !vma.has(VmFlags::WRITE) || e.is_protnone() {
            return false;
        }
        if !vma.has(VmFlags::SOFTDIRTY) && !e.is_soft_dirty() {
            return false;
        }
        if e.is_uffd_wp() && vma.has(VmFlags::UFFD_WP) {
            return false;
        }
        if !vma.is_shared() {
            if e.is_special() || matches!(self.phys().page(e.pfn()).kind(), PageKind::HugeZero) {
                return false;
            }
            let page = self.phys().page(e.pfn());
            return page.kind() == PageKind::Anon && page.is_anon_exclusive();
        }
        e.is_dirty()
    }

    /// mprotect(2) on a page-aligned range; `prot` is READ, WRITE and EXEC of [`VmFlags`].
    ///
    /// # Errors
    /// -ENOMEM at the first gap (what lies before it has changed), -EACCES where MAYWRITE and kin forbid.
    pub fn mprotect(&self, range: PageRange, prot: VmFlags) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        let mut vmas = self.mmap_write();
        if vmas.find(range.start()).is_none() {
            return Err(Errno::NoMem);
        }
        let mut at = range.start();
        while at < range.end() {
            let Some(vma) = vmas.find(at) else { return Err(Errno::NoMem) };
            let part = PageRange::between(at, vma.end().min(range.end()));
            let old = vma.flags;
            let new = old.difference(VmFlags::ACCESS) | prot;
            if !(VmFlags::from_bits_retain(!(new.bits() >> 4)) & new & VmFlags::ACCESS).is_empty() {
                return Err(Errno::Access);
            }
            at = part.end();
            if new == old {
                continue;
            }
            let mut new = new;
            // Private memory that becomes writable is accounted from now on.
            if new.contains(VmFlags::WRITE)
                && !old.intersects(
                    VmFlags::ACCOUNT
                        | VmFlags::WRITE
                        | VmFlags::HUGETLB
                        | VmFlags::SHARED
                        | VmFlags::NORESERVE,
                )
            {
                new |= VmFlags::ACCOUNT;
            } else if !new.contains(VmFlags::WRITE) && vma.is_anonymous() && vma.anon_vma() == 0 {
                // Never faulted: the commitment can be taken back, so that it merges with what never had one.
                new -= VmFlags::ACCOUNT;
            }
            self.modify_vma(&mut vmas, part, |v| v.flags = new)?;
            let vma = vmas.find(part.start()).expect("just modified");
            let try_write = vma.wants_manual_write_upgrade();
            self.change_protection(vma, part, Change::Protect { try_write });
            // A locked private VMA that becomes writable is populated with private copies.
            if old & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::LOCKED) == VmFlags::LOCKED
                && new.contains(VmFlags::WRITE)
            {
                let _ = self.locked(&vmas).populate_vma_range(vma, part);
            }
        }
        Ok(())
    }

    /// `change_protection`: applies `change` to the entries of `range`, which lies in `vma`.
    pub fn change_protection(&self, vma: &Vma, range: PageRange, change: Change) {
        if vma.has(VmFlags::HUGETLB) {
            return self.change_hugetlb(vma, range, change);
        }
        self.change_level(vma, self.root(), self.geometry().root(), range, change);
    }

    /// `change_p4d_range` .. `change_pmd_range`. At most four deep.
    fn change_level(&self, vma: &Vma, table: Table<'_>, level: Level, range: PageRange, change: Change) {
        let mut started = false;
        let mut addr = range.start();
        while addr < range.end() {
            let next = addr.next_boundary(level, range.end());
            let slot = Slot { table, index: addr.index(level) };
            let part = PageRange::between(addr, next);
            let mut e = slot.read();
            if e.is_none() && self.wants_markers(vma, change) {
                // pgtable_populate_needed: markers go into a fresh table.
                let _ = self.install_table(slot);
                e = slot.read();
            }
            if level == Level::Pud && !e.is_none() && !started {
                let event = Event::new(EventKind::ProtectionVma, PageRange::between(addr, range.end()));
                let _ = self.notifier.invalidate_start(&event);
                started = true;
            }
            if level == Level::Pmd {
                if !e.is_none() {
                    self.change_pmd(vma, slot, e, part, change);
                }
            } else if e.is_table() {
                self.change_level(vma, self.phys().table(e.pfn()), below(level), part, change);
            }
            addr = next;
        }
        if started {
            self.notifier.invalidate_end();
        }
    }

    fn wants_markers(&self, vma: &Vma, change: Change) -> bool {
        change == Change::UffdWp && vma.uses_uffd_markers()
    }

    fn change_pmd(&self, vma: &Vma, pmd: Slot<'_>, e: Entry, part: PageRange, change: Change) {
        if !e.is_table() {
            let whole = part.nr_pages() as usize == PTRS_PER_TABLE;
            // pgtable_split_needed: markers are PTEs.
            if !whole || (change == Change::UffdWp && !vma.is_anonymous()) {
                self.split_huge_pmd(vma, pmd, part.start(), &mut NoCounts);
                if pmd.read().is_none() && self.wants_markers(vma, change) {
                    let _ = self.install_table(pmd);
                }
            } else {
                return self.change_huge_pmd(vma, pmd, change);
            }
        }
        let Some((table, _guard)) = self.lock_pte_table(pmd) else { return };
        let mut addr = part.start();
        while addr < part.end() {
            let i = addr.index(Level::Pte);
            let old = table.ptep_get(i);
            let new = self.change_entry(vma, old, change);
            if new != old {
                table.replace(i, new);
            }
            addr = addr.add_pages(1);
        }
    }

    /// `change_pte_range` for one entry.
    fn change_entry(&self, vma: &Vma, old: Entry, change: Change) -> Entry {
        if old.is_present() {
            if change == Change::NumaHint && self.spares_from_hint(vma, old) {
                return old;
            }
            return self.change_present(vma, old, change);
        }
        if old.is_none() {
            return if self.wants_markers(vma, change) {
                SwpEntry::new(SwpType::PteMarker, crate::arch::entry::MARKER_UFFD_WP).entry()
            } else {
                old
            };
        }
        let swp = old.swp();
        if swp.is_marker() {
            let wp = swp.offset() & crate::arch::entry::MARKER_UFFD_WP != 0;
            return if wp && matches!(change, Change::UffdWpResolve { .. }) { Entry::NONE } else { old };
        }
        let mut new = old;
        let keep = |e: SwpEntry, dirty: bool| {
            e.entry()
                .with_swp_soft_dirty(dirty && old.is_swp_soft_dirty())
                .with_swp_uffd_wp(old.is_swp_uffd_wp())
                .with_swp_exclusive(old.is_swp_exclusive())
        };
        match swp.kind() {
            SwpType::MigrationWrite => {
                let exclusive = self.phys().page(swp.pfn()).kind() == PageKind::Anon;
                let kind = if exclusive { SwpType::MigrationReadExclusive } else { SwpType::MigrationRead };
                new = keep(SwpEntry::new(kind, swp.offset()), true);
            }
            SwpType::DeviceWrite => new = keep(SwpEntry::new(SwpType::DeviceRead, swp.offset()), false),
            SwpType::DeviceExclusiveWrite => {
                new = keep(SwpEntry::new(SwpType::DeviceExclusiveRead, swp.offset()), true);
            }
            _ => {}
        }
        match change {
            Change::UffdWp => new.with_swp_uffd_wp(true),
            Change::UffdWpResolve { .. } => new.with_swp_uffd_wp(false),
            _ => new,
        }
    }

    /// Whether the NUMA scan passes over this present PTE: no normal page, shared copy-on-write, or a dirty page of a file.
    /// That it also passes over what lies on the node of a process with a single thread is left out: there is one node.
    fn spares_from_hint(&self, vma: &Vma, e: Entry) -> bool {
        if e.is_special() {
            return true;
        }
        let phys = self.phys();
        let head = phys.head(e.pfn());
        let folio = phys.page(head);
        // folio_is_file_lru: shared memory is swap-backed.
        let on_disk = matches!(&vma.backing, Backing::File(f) if f.kind() == FileKind::Block);
        vma.is_cow() && phys.likely_mapped_shared(head)
            || on_disk && folio.kind() == PageKind::File && folio.has(PG_DIRTY)
    }

    fn change_present(&self, vma: &Vma, old: Entry, change: Change) -> Entry {
        let (mut e, try_write) = match change {
            Change::NumaHint if old.is_protnone() => return old,
            Change::NumaHint => return old.modify(crate::arch::Prot::NONE),
            Change::Protect { try_write } => (old.modify(vma.page_prot()), try_write),
            Change::UffdWp => (old.modify(vma.page_prot()).mkuffd_wp(), false),
            Change::UffdWpResolve { try_write } => (old.modify(vma.page_prot()).clear_uffd_wp(), try_write),
        };
        if try_write && !e.is_write() && self.can_change_writable(vma, e) {
            e = e.mkwrite();
        }
        e
    }

    /// `change_huge_pmd`.
    fn change_huge_pmd(&self, vma: &Vma, pmd: Slot<'_>, change: Change) {
        let _guard = pmd.lock();
        let old = pmd.read();
        if old.is_swp() {
            // As change_pte_range does with a migration entry.
            pmd.replace(self.change_entry(vma, old, change));
        } else if old.is_huge() {
            if change == Change::NumaHint && self.phys().page(old.pfn()).kind() == PageKind::HugeZero {
                return;
            }
            pmd.replace(self.change_present(vma, old, change));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
