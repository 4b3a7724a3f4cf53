//! What operations do to hugetlb entries: `__unmap_hugepage_range`, `hugetlb_change_protection`,
//! `copy_hugetlb_page_range`, `move_hugetlb_page_tables` (mm/hugetlb.c, 6.12).

use super::is_anon;
use crate::addr::{PageRange, VirtAddr};
use crate::arch::entry::MARKER_UFFD_WP;
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::memory::page::PG_RESTORE_RESERVE;
use crate::mm::protect::Change;
use crate::mm::vma::Vma;
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

impl Mm {
    /// `__unmap_hugepage_range`. With `keep_markers`, write protection by userfaultfd leaves a marker.
    pub(crate) fn zap_hugetlb(&self, vma: &Vma, range: PageRange, keep_markers: bool) {
        let (phys, level) = (self.phys(), vma.hugetlb_level());
        let marker = || SwpEntry::new(SwpType::PteMarker, MARKER_UFFD_WP).entry();
        // hugetlb_zap_begin: no fault between a page's return to the pool and its reservation's.
        let _no_faults = vma.hugetlb().resv.as_ref().map(|_| vma.hugetlb().file.fault.lock());
        let mut addr = range.start();
        while addr < range.end() {
            let at = addr;
            addr = addr.next_boundary(level, range.end());
            let Ok(slot) = self.lookup(at, level) else { continue };
            let guard = slot.lock();
            let e = slot.read();
            if e.is_none() {
                continue;
            }
            if !e.is_present() {
                let wp = e.is_swp_uffd_wp() || e.is_swp_uffd_wp_marker();
                // Migrating and poisoned pages are unmapped already.
                slot.replace(if wp && keep_markers { marker() } else { Entry::NONE });
                continue;
            }
            let head = e.pfn();
            let old = slot.replace(if e.is_uffd_wp() && keep_markers { marker() } else { Entry::NONE });
            if old.is_dirty() {
                phys.page(head).set(crate::memory::page::PG_DIRTY);
            }
            phys.remove_rmap_huge(head);
            drop(guard);
            if let Some(resv) = &vma.hugetlb().resv
                && phys.mapcount(head) == 0
                && is_anon(phys, head)
            {
                // The last mapping of the owner gives the reservation back with the page.
                phys.page(head).set(PG_RESTORE_RESERVE);
                resv.0.lock().remove(&vma.huge_index(at));
            }
            self.system().hugetlb.put(phys, head, 1);
        }
    }
    /// `hugetlb_change_protection`. `range` consists of whole huge pages: the event covers no more than it.
    pub(crate) fn change_hugetlb(&self, vma: &Vma, range: PageRange, change: Change) {
        let level = vma.hugetlb_level();
        debug_assert!(
            range.start().is_aligned(level) && range.end().is_aligned(level),
            "{range:?} cuts a page"
        );
        let (wp, resolve) = (change == Change::UffdWp, matches!(change, Change::UffdWpResolve { .. }));
        self.notifier.during(&Event::new(EventKind::ProtectionVma, range), || {
            let mut addr = range.start();
            while addr < range.end() {
                let at = addr;
                addr = addr.next_boundary(level, range.end());
                let slot = if wp { self.lookup_alloc(at, level).ok() } else { self.lookup(at, level).ok() };
                let Some(slot) = slot else { continue };
                let _guard = slot.lock();
                let old = slot.read();
                let new = self.change_hugetlb_entry(vma, old, wp, resolve);
                if new != old {
                    slot.replace(new);
                }
            }
        });
    }
    fn change_hugetlb_entry(&self, vma: &Vma, old: Entry, wp: bool, resolve: bool) -> Entry {
        if old.is_none() {
            return if wp { SwpEntry::new(SwpType::PteMarker, MARKER_UFFD_WP).entry() } else { old };
        }
        if old.is_present() {
            let e = old.modify(vma.page_prot()).mkhuge();
            return match (wp, resolve) {
                (true, _) => e.mkuffd_wp(),
                (_, true) => e.clear_uffd_wp(),
                _ => e,
            };
        }
        let swp = old.swp();
        if swp.is_marker() {
            return if old.is_swp_uffd_wp_marker() && resolve { Entry::NONE } else { old };
        }
        if !swp.is_migration() {
            return old;
        }
        let mut new = old;
        if swp.kind() == SwpType::MigrationWrite {
            let kind = if is_anon(self.phys(), swp.pfn()) {
                SwpType::MigrationReadExclusive
            } else {
                SwpType::MigrationRead
            };
            new = SwpEntry::new(kind, swp.offset()).entry().with_swp_uffd_wp(old.is_swp_uffd_wp());
        }
        match (wp, resolve) {
            (true, _) => new.with_swp_uffd_wp(true),
            (_, true) => new.with_swp_uffd_wp(false),
            _ => new,
        }
    }

    /// `copy_hugetlb_page_range`: a CLEAR event over the whole VMA if it can copy on write.
    pub(crate) fn copy_hugetlb_page_range(&self, child: &Arc<Mm>, vma: &Vma) -> Result<(), Errno> {
        let copy = || -> Result<(), Errno> {
            let level = vma.hugetlb_level();
            let mut addr = vma.start();
            while addr < vma.end() {
                let at = addr;
                addr = addr.next_boundary(level, vma.end());
                let Ok(src) = self.lookup(at, level) else { continue };
                let dst = child.lookup_alloc(at, level)?;
                let _dst_guard = dst.lock();
                let _src_guard = src.lock();
                let e = src.read();
                if !e.is_none() {
                    let (parent, copy) = self.copy_hugetlb_entry(vma, e);
                    if parent != e {
                        src.replace(parent);
                    }
                    dst.set(copy);
                }
            }
            Ok(())
        };
        if vma.is_cow() {
            self.notifier.during(&Event::new(EventKind::Clear, vma.range), copy)
        } else {
            copy()
        }
    }
    fn copy_hugetlb_entry(&self, vma: &Vma, old: Entry) -> (Entry, Entry) {
        let phys = self.phys();
        if old.is_present() {
            let head = old.pfn();
            phys.add_rmap_huge(head);
            if is_anon(phys, head) {
                phys.clear_anon_exclusive(head);
            }
            let parent = if vma.is_cow() { old.wrprotect() } else { old };
            return (parent, parent.clear_uffd_wp());
        }
        let swp = old.swp();
        if swp.is_marker() {
            let other = swp.offset() & !MARKER_UFFD_WP;
            let copy =
                if other != 0 { SwpEntry::new(SwpType::PteMarker, other).entry() } else { Entry::NONE };
            return (old, copy);
        }
        if swp.is_migration() && vma.is_cow() && swp.kind() != SwpType::MigrationRead {
            let read = SwpEntry::new(SwpType::MigrationRead, swp.offset()).entry();
            return (read.with_swp_uffd_wp(old.is_swp_uffd_wp()), read);
        }
        (old, old.with_swp_uffd_wp(false))
    }

    /// `move_hugetlb_page_tables`: entries of `old` go to where `vma` continues at `to`, inside a CLEAR event.
    pub(crate) fn move_hugetlb(&self, vma: &Vma, old: PageRange, to: VirtAddr) -> Result<(), Errno> {
        let level = vma.hugetlb_level();
        self.notifier.during(&Event::new(EventKind::Clear, old), || {
            let mut addr = old.start();
            while addr < old.end() {
                let at = addr;
                addr = addr.next_boundary(level, old.end());
                let Ok(src) = self.lookup(at, level) else { continue };
                if src.read().is_none() {
                    continue;
                }
                let dst = self.lookup_alloc(to.add_pages(at.pages_since(old.start())), level)?;
                let guard = src.lock();
                let e = src.replace(Entry::NONE);
                drop(guard);
                let _guard = dst.lock();
                // The new VMA is not registered with the userfaultfd.
                dst.set(match vma.uffd != 0 {
                    true if e.is_swp_uffd_wp_marker() => Entry::NONE,
                    true if e.is_present() => e.clear_uffd_wp(),
                    true => e.with_swp_uffd_wp(false),
                    false => e,
                });
            }
            Ok(())
        })
    }

    /// The part of a hugetlb VMA that MADV_DONTNEED takes: the start must fit, the end is rounded down.
    pub(crate) fn hugetlb_dontneed_part(&self, vma: &Vma, part: PageRange) -> Result<PageRange, Errno> {
        let level = vma.hugetlb_level();
        if !part.start().is_aligned(level) {
            return Err(Errno::Inval);
        }
        Ok(PageRange::between(part.start(), part.end().align_down(level).max(part.start())))
    }
}
