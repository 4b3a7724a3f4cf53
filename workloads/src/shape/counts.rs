//! How many entries of each kind a range holds.

use walker::addr::{Level, PageRange};
use walker::arch::Entry;
use walker::memory::PageKind;
use walker::mm::Mm;

/// Pages of a range by what the tables say of them. All in base pages: a PMD leaf counts 512.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// In no VMA.
    pub gap: u64,
    /// In a VMA, no PTE table.
    pub hole: u64,
    /// A zero entry in a PTE table.
    pub none: u64,
    /// Present at the PTE level with the write bit.
    pub pte_rw: u64,
    /// Present at the PTE level without it.
    pub pte_ro: u64,
    /// The zero page.
    pub pte_zero: u64,
    /// Part of a PMD leaf with the write bit.
    pub pmd_rw: u64,
    /// Part of a PMD leaf without it.
    pub pmd_ro: u64,
    /// Part of the huge zero page.
    pub pmd_zero: u64,
    /// Part of a PUD leaf, whatever its rights.
    pub pud: u64,
    /// A swap entry.
    pub swap: u64,
    /// Present for the kernel, denied to the processor (PROT_NONE, NUMA hint).
    pub protnone: u64,
    /// Under migration.
    pub migration: u64,
    /// In device memory, or a device's alone.
    pub device: u64,
    /// Poison entries, and markers that make every access fail.
    pub poison: u64,
    /// Present, but without a struct page (PFNMAP).
    pub pfnmap: u64,
}

impl EntryCounts {
    /// Each count with its name, in a fixed order.
    pub const fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("gap", self.gap),
            ("hole", self.hole),
            ("none", self.none),
            ("pte_rw", self.pte_rw),
            ("pte_ro", self.pte_ro),
            ("pte_zero", self.pte_zero),
            ("pmd_rw", self.pmd_rw),
            ("pmd_ro", self.pmd_ro),
            ("pmd_zero", self.pmd_zero),
            ("pud", self.pud),
            ("swap", self.swap),
            ("protnone", self.protnone),
            ("migration", self.migration),
            ("device", self.device),
            ("poison", self.poison),
            ("pfnmap", self.pfnmap),
        ]
    }
    /// All pages.
    pub fn nr_pages(&self) -> u64 {
        self.named().iter().map(|(_, n)| n).sum()
    }
    /// Pages that an entry maps, whatever its rights.
    pub const fn nr_mapped(&self) -> u64 {
        self.pte_rw
            + self.pte_ro
            + self.pte_zero
            + self.pmd_rw
            + self.pmd_ro
            + self.pmd_zero
            + self.pud
            + self.protnone
            + self.pfnmap
    }
    /// Counts what the tables of `mm` hold, under the mmap lock. For checking shapes, not backends.
    pub fn of(mm: &Mm, range: PageRange) -> EntryCounts {
        let mut counts = EntryCounts::default();
        let vmas = mm.mmap_read();
        let mut addr = range.start();
        while addr < range.end() {
            let Some(vma) = vmas.find(addr) else {
                let next = vmas.find_from(addr).map_or(range.end(), |v| v.start().min(range.end()));
                counts.gap += next.pages_since(addr);
                addr = next;
                continue;
            };
            let end = vma.end().min(range.end());
            let (level, entry) = match mm.lookup(addr, Level::Pte) {
                Ok(slot) => (Level::Pte, Some(slot.read())),
                Err(level) => (level, mm.lookup(addr, level).ok().map(|s| s.read())),
            };
            let next = addr.next_boundary(level, end);
            counts.add(mm, level, entry.unwrap_or(Entry::NONE), next.pages_since(addr));
            addr = next;
        }
        counts
    }
    fn add(&mut self, mm: &Mm, level: Level, e: Entry, n: u64) {
        let kind = || mm.phys().page(e.pfn()).kind();
        let to = if e.is_none() {
            if level == Level::Pte { &mut self.none } else { &mut self.hole }
        } else if e.is_swp() {
            let swp = e.swp();
            if swp.is_swap() {
                &mut self.swap
            } else if swp.is_migration() {
                &mut self.migration
            } else if swp.is_device_private() || swp.is_device_exclusive() {
                &mut self.device
            } else {
                &mut self.poison
            }
        } else if e.is_protnone() {
            &mut self.protnone
        } else {
            match level {
                Level::Pte if e.is_special() && e.pfn() == mm.system().zero_pfn() => &mut self.pte_zero,
                Level::Pte if e.is_special() => &mut self.pfnmap,
                Level::Pte if e.is_write() => &mut self.pte_rw,
                Level::Pte => &mut self.pte_ro,
                Level::Pmd if kind() == PageKind::HugeZero => &mut self.pmd_zero,
                Level::Pmd if e.is_write() => &mut self.pmd_rw,
                Level::Pmd => &mut self.pmd_ro,
                _ => &mut self.pud,
            }
        };
        *to += n;
    }
}
