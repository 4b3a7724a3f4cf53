//! Taking entries away: `unmap_vmas`, `zap_page_range_single`, `zap_pte_range`, `zap_huge_pmd` (mm/memory.c,
//! mm/huge_memory.c, 6.12).
//!
//! The caller issues the event around the whole zap: UNMAP for munmap, CLEAR for MADV_DONTNEED and truncation. Frames
//! are dropped inside it. Left out: the TLB batch, whose flush comes after the event in the kernel.

use crate::addr::{Level, PTRS_PER_TABLE, PageRange};
use crate::arch::entry::MARKER_UFFD_WP;
use crate::arch::{Entry, SwpEntry, SwpType};
use crate::counters::NoCounts;
use crate::memory::PageKind;
use crate::memory::Table;
use crate::memory::page::PG_DIRTY;
use crate::mm::Mm;
use crate::mm::tables::{Slot, below};
use crate::mm::vma::{VmFlags, Vma};

/// What a zap spares (`struct zap_details`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZapDetails {
    /// Private pages go too, also those of a file mapping that were copied on write.
    pub even_cows: bool,
    /// uffd-wp markers of file mappings go, and none is left behind (ZAP_FLAG_DROP_MARKER).
    pub drop_markers: bool,
}

impl ZapDetails {
    /// munmap and exit: nothing stays.
    pub const UNMAP: ZapDetails = ZapDetails { even_cows: true, drop_markers: true };
    /// MADV_DONTNEED: a file mapping under uffd-wp keeps markers.
    pub const DISCARD: ZapDetails = ZapDetails { even_cows: true, drop_markers: false };
}

impl Mm {
    /// `unmap_page_range` for munmap: every entry of `range`, which lies in `vma`, becomes none. Needs the mmap lock at
    /// least for reading.
    pub fn zap_page_range(&self, vma: &Vma, range: PageRange) {
        self.zap_page_range_details(vma, range, ZapDetails::UNMAP);
    }
    /// `unmap_page_range`: the entries of `range` that `details` does not spare become none, or uffd-wp markers.
    pub fn zap_page_range_details(&self, vma: &Vma, range: PageRange, details: ZapDetails) {
        if vma.has(VmFlags::HUGETLB) {
            return self.zap_hugetlb(vma, range, !details.drop_markers);
        }
        self.zap_level(vma, self.root(), self.geometry().root(), range, details);
    }

    fn zap_level(&self, vma: &Vma, table: Table<'_>, level: Level, range: PageRange, details: ZapDetails) {
        let mut addr = range.start();
        while addr < range.end() {
            let next = addr.next_boundary(level, range.end());
            let slot = Slot { table, index: addr.index(level) };
            let part = PageRange::between(addr, next);
            let e = slot.read();
            if level == Level::Pmd && !e.is_table() {
                if !e.is_none() {
                    self.zap_pmd_leaf(vma, slot, part, details);
                }
            } else if level == Level::Pmd {
                self.zap_pte_range(vma, slot, part, details);
            } else if e.is_table() {
                self.zap_level(vma, self.phys().table(e.pfn()), below(level), part, details);
            }
            addr = next;
        }
    }

    /// A huge leaf: whole, or split first and then by PTE.
    fn zap_pmd_leaf(&self, vma: &Vma, pmd: Slot<'_>, part: PageRange, details: ZapDetails) {
        if part.nr_pages() as usize != PTRS_PER_TABLE {
            self.split_huge_pmd(vma, pmd, part.start(), &mut NoCounts);
        } else {
            let guard = pmd.lock();
            let e = pmd.read();
            if e.is_huge() || e.is_swp() {
                // zap_huge_pmd
                pmd.replace(Entry::NONE);
                let spare = vma.is_anonymous().then(|| self.withdraw(pmd.table).pfn());
                drop(guard);
                if let Some(spare) = spare {
                    self.phys().free_table(spare);
                }
                if e.is_swp() {
                    // A migration entry holds neither a mapping nor a reference.
                } else if !vma.is_anonymous() {
                    self.zap_huge_file_leaf(vma, e);
                } else if self.phys().page(e.pfn()).kind() != PageKind::HugeZero {
                    self.system().unmap_huge(e.pfn());
                }
                return;
            }
        }
        self.zap_pte_range(vma, pmd, part, details);
    }

    /// `zap_pte_range`.
    fn zap_pte_range(&self, vma: &Vma, pmd: Slot<'_>, part: PageRange, details: ZapDetails) {
        let Some((table, _guard)) = self.lock_pte_table(pmd) else { return };
        let mut addr = part.start();
        while addr < part.end() {
            let i = addr.index(Level::Pte);
            let e = table.ptep_get(i);
            if !e.is_none() {
                let keep = self.zap_entry(vma, e, details);
                if keep != e {
                    table.replace(i, keep);
                }
            }
            addr = addr.add_pages(1);
        }
    }

    /// Drops what one PTE-level entry holds; returns what must stay in its place.
    fn zap_entry(&self, vma: &Vma, e: Entry, details: ZapDetails) -> Entry {
        // zap_install_uffd_wp_if_needed
        let marked = if e.is_present() { e.is_uffd_wp() } else { e.is_swp_uffd_wp() };
        let left = if marked && !details.drop_markers && !vma.is_anonymous() && vma.has(VmFlags::UFFD_WP) {
            SwpEntry::new(SwpType::PteMarker, MARKER_UFFD_WP).entry()
        } else {
            Entry::NONE
        };
        // should_zap_folio
        let spared = |pfn| !details.even_cows && self.phys().page(pfn).kind() != PageKind::File;
        if e.is_present() {
            if !e.is_special() {
                if spared(self.phys().head(e.pfn())) {
                    return e;
                }
                if e.is_dirty() && self.phys().page(e.pfn()).kind() == PageKind::File {
                    self.phys().page(self.phys().head(e.pfn())).set(PG_DIRTY);
                }
                self.system().unmap_pte(e.pfn());
            }
            return left;
        }
        let swp = e.swp();
        if swp.is_swap() {
            if !details.even_cows {
                return e;
            }
            self.system().swap_free_entry(swp.offset());
        } else if swp.is_device_private() || swp.is_device_exclusive() {
            if spared(swp.pfn()) {
                return e;
            }
            if swp.is_device_private() {
                self.phys().unmap_pte(swp.pfn());
            } else {
                // A reference, but no mapping.
                self.system().free_swap_cache(swp.pfn());
                self.phys().put_folio(swp.pfn(), 1);
            }
        } else if swp.is_migration() {
            // Neither a reference nor a mapping.
            if spared(swp.pfn()) {
                return e;
            }
        } else if e.is_swp_uffd_wp_marker() {
            if !vma.is_anonymous() && !details.drop_markers {
                return e;
            }
        } else if !details.even_cows {
            // Poison and guard markers are private.
            return e;
        }
        left
    }

    /// Drops what a huge leaf of a file mapping holds.
    pub(crate) fn zap_huge_file_leaf(&self, _vma: &Vma, e: Entry) {
        if e.is_present() {
            if e.is_dirty() {
                self.phys().page(e.pfn()).set(PG_DIRTY);
            }
            self.phys().remove_rmap_huge(e.pfn());
            self.phys().put(e.pfn(), 1);
        }
    }
}
