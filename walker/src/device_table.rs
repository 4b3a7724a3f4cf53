//! The device's page table: what consumers write and invalidations clear.
//!
//! As a GPU's or an RDMA device's, it has three levels: an entry maps 1 GiB, 2 MiB or 4 KiB, the larger one first. A
//! consumer that knows how large a mapping is writes one entry for it; one that does not writes one a page.
//!
//! Invariant: every valid entry at every level was written after the last invalidation that touched any page of it. A
//! large entry may therefore be dropped at any time: what it hid is either invalid or still true.

use crate::addr::{Level, PAGE_SHIFT, PMD_ORDER, PUD_ORDER, PageRange, Pfn, VirtAddr};

/// A device page-table entry: frame << 12, order in bits 2..7, bit 1 write, bit 0 valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct DeviceEntry(pub u64);

impl DeviceEntry {
    /// An entry for one base page or for the first page of a larger mapping.
    #[inline(always)]
    pub const fn new(pfn: Pfn, write: bool, order: u8) -> DeviceEntry {
        DeviceEntry(pfn.get() << PAGE_SHIFT | (order as u64) << 2 | (write as u64) << 1 | 1)
    }
    /// Whether it maps anything.
    #[inline(always)]
    pub const fn is_valid(self) -> bool {
        self.0 & 1 != 0
    }
    /// Whether the device may write.
    #[inline(always)]
    pub const fn is_write(self) -> bool {
        self.0 & 2 != 0
    }
    /// log2 of the base pages that it maps.
    #[inline(always)]
    pub const fn order(self) -> u8 {
        (self.0 >> 2 & 0x1f) as u8
    }
    /// The frame.
    #[inline(always)]
    pub const fn pfn(self) -> Pfn {
        Pfn::new(self.0 >> PAGE_SHIFT)
    }
    /// The entry of the page `n` pages into what this one maps.
    const fn page(self, n: u64) -> DeviceEntry {
        DeviceEntry(self.0 + (n << PAGE_SHIFT))
    }
}

/// Entries of one large size, one for every block of that size that the table's range touches.
#[derive(Debug)]
struct Large {
    level: Level,
    /// Number of the first block, counted from address 0.
    first: u64,
    entries: Vec<DeviceEntry>,
    /// None was written since all of them were last cleared: a device whose upper entries only name tables has nothing to
    /// clear there.
    is_empty: bool,
}

impl Large {
    fn new(range: PageRange, level: Level) -> Large {
        let blocks = Large::blocks(range, level);
        let entries = vec![DeviceEntry::default(); (blocks.end - blocks.start) as usize];
        Large { level, first: blocks.start, entries, is_empty: true }
    }
    /// The blocks that `range` touches.
    #[inline(always)]
    fn blocks(range: PageRange, level: Level) -> core::ops::Range<u64> {
        let shift = PAGE_SHIFT + level.order() as u32;
        if range.is_empty() {
            return 0..0;
        }
        range.start().get() >> shift..((range.end().get() - 1) >> shift) + 1
    }
    /// Invalidates what overlaps `range`, which lies inside the table.
    #[inline(always)]
    fn clear(&mut self, range: PageRange) {
        if self.is_empty || range.is_empty() {
            return;
        }
        let blocks = Large::blocks(range, self.level);
        let (from, to) = ((blocks.start - self.first) as usize, (blocks.end - self.first) as usize);
        self.entries[from..to].fill(DeviceEntry::default());
        self.is_empty = to - from == self.entries.len();
    }
    #[inline(always)]
    fn set(&mut self, addr: VirtAddr, entry: DeviceEntry) {
        let block = addr.get() >> (PAGE_SHIFT + self.level.order() as u32);
        self.entries[(block - self.first) as usize] = entry;
        self.is_empty = false;
    }
    /// The entry of the page at `addr`, if a valid one of this size covers it.
    fn get(&self, addr: VirtAddr) -> Option<DeviceEntry> {
        let block = addr.get() >> (PAGE_SHIFT + self.level.order() as u32);
        let entry = self.entries[(block - self.first) as usize];
        entry.is_valid().then(|| entry.page(addr.pages_since(addr.align_down(self.level))))
    }
}

/// The device page table of one mirrored range.
#[derive(Debug)]
pub struct DeviceTable {
    range: PageRange,
    pages: Vec<DeviceEntry>,
    pmds: Large,
    puds: Large,
}

impl DeviceTable {
    /// An empty table over `range`.
    pub fn new(range: PageRange) -> DeviceTable {
        DeviceTable {
            range,
            pages: vec![DeviceEntry::default(); range.nr_pages() as usize],
            pmds: Large::new(range, Level::Pmd),
            puds: Large::new(range, Level::Pud),
        }
    }
    /// What it covers.
    pub fn range(&self) -> PageRange {
        self.range
    }
    /// Replaces what it holds for `range`, which lies inside: larger entries that overlap it are dropped, and the writer
    /// says what comes instead. 4 KiB entries that it leaves alone stay.
    #[inline]
    pub fn write(&mut self, range: PageRange) -> Writer<'_> {
        self.pmds.clear(range);
        self.puds.clear(range);
        let from = range.start().pages_since(self.range.start()) as usize;
        let pages = &mut self.pages[from..from + range.nr_pages() as usize];
        Writer { start: range.start(), pages, pmds: &mut self.pmds, puds: &mut self.puds }
    }
    /// The 4 KiB entries of `range`, which lies inside, to be written all: larger ones that overlap it are dropped.
    #[inline]
    pub fn entries_mut(&mut self, range: PageRange) -> &mut [DeviceEntry] {
        self.write(range).pages
    }
    /// What the device would use for the page at `addr`. The order is that of the entry that maps it.
    pub fn get(&self, addr: VirtAddr) -> DeviceEntry {
        let small = || self.pages[addr.pages_since(self.range.start()) as usize];
        self.puds.get(addr).or_else(|| self.pmds.get(addr)).unwrap_or_else(small)
    }
    /// What the device would use for each page, with its address.
    pub fn iter(&self) -> impl Iterator<Item = (VirtAddr, DeviceEntry)> + '_ {
        (0..self.range.nr_pages()).map(|i| {
            let addr = self.range.start().add_pages(i);
            (addr, self.get(addr))
        })
    }
    /// Forgets what it knows of `range`. A larger mapping that overlaps it is dropped whole.
    pub fn clear(&mut self, range: PageRange) {
        let part = range.clip(self.range);
        self.entries_mut(part).fill(DeviceEntry::default());
    }
}

/// Writes entries of one range. Pages are counted from its start.
#[derive(Debug)]
pub struct Writer<'a> {
    start: VirtAddr,
    pages: &'a mut [DeviceEntry],
    pmds: &'a mut Large,
    puds: &'a mut Large,
}

impl Writer<'_> {
    /// The 4 KiB entries from page `i` to the end of the range.
    #[inline(always)]
    pub fn pages_from(&mut self, i: usize) -> &mut [DeviceEntry] {
        &mut self.pages[i..]
    }
    /// Maps pages `i..i + n`, which lie inside one leaf of `1 << order` pages; `pfn` is the frame of the first. One entry
    /// if they are the whole leaf and the device has its size, else one a page. Returns how many entries it wrote.
    #[inline]
    pub fn leaf(&mut self, i: usize, n: usize, pfn: Pfn, write: bool, order: u8) -> u64 {
        if n == 1 << order {
            let addr = self.start.add_pages(i as u64);
            let level = match order {
                PMD_ORDER => Some(&mut *self.pmds),
                PUD_ORDER => Some(&mut *self.puds),
                _ => None,
            };
            if let Some(level) = level {
                level.set(addr, DeviceEntry::new(pfn, write, order));
                return 1;
            }
        }
        self.small(i, n, pfn, write)
    }
    /// Maps pages `i..i + n` to the frames from `pfn` on, with the largest entries that addresses and frames allow.
    /// Returns how many entries it wrote.
    #[inline(always)]
    pub fn run(&mut self, i: usize, n: usize, pfn: Pfn, write: bool) -> u64 {
        if n < 1 << PMD_ORDER {
            return self.small(i, n, pfn, write);
        }
        // Most long runs are one leaf.
        let addr = self.start.add_pages(i as u64);
        if n == 1 << PMD_ORDER && addr.align_down(Level::Pmd) == addr && pfn.align_down(PMD_ORDER) == pfn {
            self.pmds.set(addr, DeviceEntry::new(pfn, write, PMD_ORDER));
            return 1;
        }
        self.long_run(i, n, pfn, write)
    }
    fn long_run(&mut self, i: usize, n: usize, pfn: Pfn, write: bool) -> u64 {
        let end = i + n;
        let (mut i, mut pfn, mut entries) = (i, pfn, 0);
        while i < end {
            let addr = self.start.add_pages(i as u64);
            let fits = |level: Level| {
                addr.align_down(level) == addr
                    && pfn.align_down(level.order()) == pfn
                    && end - i >= 1 << level.order()
            };
            let (n, order) = if fits(Level::Pud) {
                (1 << PUD_ORDER, PUD_ORDER)
            } else if fits(Level::Pmd) {
                (1 << PMD_ORDER, PMD_ORDER)
            } else {
                // What is smaller ends where the next larger block begins, so that it gets its chance there.
                let next = addr.next_boundary(Level::Pmd, addr.add_pages((end - i) as u64));
                (next.pages_since(addr) as usize, 0)
            };
            entries += self.leaf(i, n, pfn, write, order);
            (i, pfn) = (i + n, pfn.add(n as u64));
        }
        entries
    }
    #[inline(always)]
    fn small(&mut self, i: usize, n: usize, pfn: Pfn, write: bool) -> u64 {
        let first = DeviceEntry::new(pfn, write, 0);
        for (k, entry) in self.pages[i..i + n].iter_mut().enumerate() {
            *entry = first.page(k as u64);
        }
        n as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PMD: u64 = 1 << PMD_ORDER;

    fn pages(first: u64, n: u64) -> PageRange {
        PageRange::pages(VirtAddr::new((first << PAGE_SHIFT) + (1 << 40)), n)
    }
    fn pfns(table: &DeviceTable, range: PageRange) -> Vec<Option<u64>> {
        let each = table.iter().filter(|(a, _)| range.start() <= *a && *a < range.end());
        each.map(|(_, e)| e.is_valid().then(|| e.pfn().get())).collect()
    }

    #[test]
    fn a_leaf_is_one_entry_and_reads_as_its_pages() {
        let mut table = DeviceTable::new(pages(10, 4 * PMD));
        let blocks = pages(PMD, PMD);
        assert_eq!(table.write(blocks).leaf(0, PMD as usize, Pfn::new(0x1000), true, PMD_ORDER), 1);
        let entry = table.get(pages(PMD + 5, 1).start());
        assert_eq!((entry.pfn().get(), entry.is_write(), entry.order()), (0x1005, true, PMD_ORDER));
        assert!(!table.get(pages(PMD - 1, 1).start()).is_valid());
        assert!(!table.get(pages(2 * PMD, 1).start()).is_valid());
    }

    #[test]
    fn a_part_of_a_leaf_is_an_entry_a_page() {
        let mut table = DeviceTable::new(pages(10, 4 * PMD));
        assert_eq!(table.write(pages(PMD + 1, 3)).leaf(0, 3, Pfn::new(0x1001), false, PMD_ORDER), 3);
        let found = pfns(&table, pages(PMD, 5));
        assert_eq!(found, [None, Some(0x1001), Some(0x1002), Some(0x1003), None]);
    }

    #[test]
    fn a_run_gets_the_largest_entries_that_fit() {
        let mut table = DeviceTable::new(pages(0, 4 * PMD));
        let run = pages(PMD - 2, 2 * PMD + 3);
        let n = run.nr_pages() as usize;
        assert_eq!(table.write(run).run(0, n, Pfn::new(0x1000 - 2), true), 2 + 2 + 1);
        assert_eq!(
            table.write(run).run(0, n, Pfn::new(0x1000 - 1), true),
            run.nr_pages(),
            "nothing is aligned"
        );
        for (i, pfn) in pfns(&table, run).into_iter().enumerate() {
            assert_eq!(pfn, Some(0xfff + i as u64));
        }
    }

    #[test]
    fn an_invalidation_of_one_page_drops_the_leaf_but_not_what_it_hid() {
        let mut table = DeviceTable::new(pages(0, 2 * PMD));
        table.entries_mut(pages(0, 2)).copy_from_slice(&[DeviceEntry::new(Pfn::new(7), false, 0); 2]);
        table.write(pages(0, PMD)).leaf(0, PMD as usize, Pfn::new(0x2000), true, PMD_ORDER);
        table.clear(pages(1, 1));
        assert_eq!(pfns(&table, pages(0, 3)), [Some(7), None, None]);
    }

    #[test]
    fn a_leaf_outlives_the_clearing_of_others_and_none_outlives_its_own() {
        let mut table = DeviceTable::new(pages(0, 4 * PMD));
        let leaf = |table: &mut DeviceTable, k: u64| {
            table.write(pages(k * PMD, PMD)).leaf(
                0,
                PMD as usize,
                Pfn::new((k + 1) << PMD_ORDER),
                true,
                PMD_ORDER,
            )
        };
        assert_eq!((leaf(&mut table, 0), leaf(&mut table, 3)), (1, 1));
        table.clear(pages(0, 3 * PMD));
        assert_eq!(pfns(&table, pages(0, 1)), [None]);
        assert_eq!(pfns(&table, pages(3 * PMD, 1)), [Some(4 << PMD_ORDER)]);
        table.clear(pages(0, 4 * PMD));
        assert_eq!(pfns(&table, pages(3 * PMD, 1)), [None]);
        leaf(&mut table, 1);
        table.clear(pages(PMD, 1));
        assert_eq!(
            pfns(&table, pages(PMD, 2)),
            [None, None],
            "what came after the table was empty is cleared too"
        );
    }

    #[test]
    fn smaller_entries_replace_larger_ones() {
        const PUD: u64 = 1 << PUD_ORDER;
        let mut table = DeviceTable::new(pages(0, PUD));
        assert_eq!(table.write(pages(0, PUD)).leaf(0, PUD as usize, Pfn::new(1 << 20), true, PUD_ORDER), 1);
        table.write(pages(0, PMD)).leaf(0, PMD as usize, Pfn::new(0x2000), true, PMD_ORDER);
        assert_eq!(table.get(pages(3, 1).start()).pfn().get(), 0x2003);
        assert!(!table.get(pages(PMD, 1).start()).is_valid());
        table.entries_mut(pages(3, 1))[0] = DeviceEntry::new(Pfn::new(9), true, 0);
        assert_eq!(pfns(&table, pages(2, 3)), [None, Some(9), None]);
    }
}
