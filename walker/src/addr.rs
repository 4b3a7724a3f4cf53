//! Addresses, page ranges and levels, and the only arithmetic on them.
//!
//! Contract: every constructor checks; a value that exists is in range. Byte addresses are [`VirtAddr`], frame
//! numbers are [`Pfn`], and a walkable span is a [`PageRange`]: page aligned, inside the user half of the address
//! space, possibly empty.

use core::fmt;

/// log2 of the base page size in bytes (x86-64: 4 KiB).
pub const PAGE_SHIFT: u32 = 12;
/// Base page size in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Base pages in one PMD leaf. The tiny geometry of the model checker has four entries a table.
pub const PTRS_PER_TABLE: usize = if cfg!(loom) { 4 } else { 512 };
const TABLE_SHIFT: u32 = PTRS_PER_TABLE.trailing_zeros();
/// Base pages mapped by one PMD entry.
pub const PAGES_PER_PMD: u64 = PTRS_PER_TABLE as u64;
/// Base pages mapped by one PUD entry.
pub const PAGES_PER_PUD: u64 = PAGES_PER_PMD * PTRS_PER_TABLE as u64;
/// Bytes mapped by one PMD entry.
pub const PMD_SIZE: u64 = PAGES_PER_PMD * PAGE_SIZE;
/// Bytes mapped by one PUD entry.
pub const PUD_SIZE: u64 = PAGES_PER_PUD * PAGE_SIZE;
/// log2 of the base pages in a PMD leaf: the order the kernel reports for it (9 on x86-64).
pub const PMD_ORDER: u8 = TABLE_SHIFT as u8;
/// log2 of the base pages in a PUD leaf (18 on x86-64).
pub const PUD_ORDER: u8 = 2 * TABLE_SHIFT as u8;

/// Why an address or a range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrError {
    /// The start or the length is not a multiple of the page size.
    Unaligned {
        /// First byte of the range asked for.
        start: u64,
        /// Length asked for, in bytes.
        len: u64,
    },
    /// The end wraps or lies beyond the last user address.
    Beyond {
        /// First byte of the range asked for.
        start: u64,
        /// Length asked for, in bytes.
        len: u64,
        /// First byte that user mappings may not reach.
        task_size: u64,
    },
    /// A walk was asked for an empty range (`walk_page_range` answers -EINVAL).
    Empty {
        /// Where the empty range lies.
        start: u64,
    },
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AddrError::Unaligned { start, len } => {
                write!(f, "range {start:#x}+{len:#x} is not aligned: expected multiples of {PAGE_SIZE:#x}")
            }
            AddrError::Beyond { start, len, task_size } => {
                write!(f, "range {start:#x}+{len:#x} wraps or ends beyond the address space ({task_size:#x})")
            }
            AddrError::Empty { start } => {
                write!(f, "range at {start:#x} is empty: expected at least one page")
            }
        }
    }
}

impl core::error::Error for AddrError {}

/// A page-frame number: index into the struct-page array and, shifted by [`PAGE_SHIFT`], into the direct map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// The frame with this number.
    #[inline(always)]
    pub const fn new(n: u64) -> Pfn {
        Pfn(n)
    }
    /// The number itself.
    #[inline(always)]
    pub const fn get(self) -> u64 {
        self.0
    }
    /// The frame `n` frames further.
    #[inline(always)]
    pub const fn add(self, n: u64) -> Pfn {
        Pfn(self.0 + n)
    }
    /// The frame at the start of the naturally aligned block of `1 << order` frames around this one.
    #[inline(always)]
    pub const fn align_down(self, order: u8) -> Pfn {
        Pfn(self.0 & !((1 << order) - 1))
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

/// A user virtual address in bytes, not necessarily page aligned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// The address `a`. The caller keeps it below [`crate::arch::Geometry::task_size`]; ranges check.
    #[inline(always)]
    pub const fn new(a: u64) -> VirtAddr {
        VirtAddr(a)
    }
    /// The address as a number of bytes.
    #[inline(always)]
    pub const fn get(self) -> u64 {
        self.0
    }
    /// Start of the base page that holds this address.
    #[inline(always)]
    pub const fn page_start(self) -> VirtAddr {
        VirtAddr(self.0 & !(PAGE_SIZE - 1))
    }
    /// Index of the entry that maps this address in a table of `level`.
    #[inline(always)]
    pub const fn index(self, level: Level) -> usize {
        (self.0 >> level.shift()) as usize & (PTRS_PER_TABLE - 1)
    }
    /// Start of the span that one entry of `level` maps.
    #[inline(always)]
    pub const fn align_down(self, level: Level) -> VirtAddr {
        VirtAddr(self.0 & !(level.size() - 1))
    }
    /// The next boundary of `level` after this address, or `end` if that comes first (`pmd_addr_end` and kin).
    #[inline(always)]
    pub const fn next_boundary(self, level: Level, end: VirtAddr) -> VirtAddr {
        let next = (self.0 & !(level.size() - 1)).wrapping_add(level.size());
        // The kernel compares after subtracting one, so that a boundary that wraps to zero counts as the end.
        if next.wrapping_sub(1) < end.0.wrapping_sub(1) { VirtAddr(next) } else { end }
    }
    /// The address `pages` base pages further.
    #[inline(always)]
    pub const fn add_pages(self, pages: u64) -> VirtAddr {
        VirtAddr(self.0 + (pages << PAGE_SHIFT))
    }
    /// Base pages from `from` up to this address.
    #[inline(always)]
    pub const fn pages_since(self, from: VirtAddr) -> u64 {
        (self.0 - from.0) >> PAGE_SHIFT
    }
    /// Whether this is a multiple of what one entry of `level` maps.
    #[inline(always)]
    pub const fn is_aligned(self, level: Level) -> bool {
        self.0 & (level.size() - 1) == 0
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A level of the radix tree, named as the kernel names the table that holds the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Entries map one base page each.
    Pte = 0,
    /// Entries map 2 MiB: a PTE table or a leaf.
    Pmd = 1,
    /// Entries map 1 GiB: a PMD table or a leaf.
    Pud = 2,
    /// Entries map 512 GiB; folded away with four levels.
    P4d = 3,
    /// The root: entries map 256 TiB with five levels, 512 GiB with four (then the P4D is folded into it).
    Pgd = 4,
}

impl Level {
    /// log2 of the bytes that one entry of this level maps.
    #[inline(always)]
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + TABLE_SHIFT * self as u32
    }
    /// Bytes that one entry of this level maps.
    #[inline(always)]
    pub const fn size(self) -> u64 {
        1 << self.shift()
    }
    /// log2 of the base pages that one entry of this level maps.
    #[inline(always)]
    pub const fn order(self) -> u8 {
        (self.shift() - PAGE_SHIFT) as u8
    }
}

/// A page-aligned span of user addresses, `start` included, `end` not. Exists only inside the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl PageRange {
    /// `len` bytes from `start`, below `task_size` (see [`crate::arch::Geometry::task_size`]).
    ///
    /// # Errors
    /// [`AddrError::Unaligned`], [`AddrError::Beyond`]. An empty range is fine here; walks refuse it.
    pub const fn new(start: u64, len: u64, task_size: u64) -> Result<PageRange, AddrError> {
        if (start | len) & (PAGE_SIZE - 1) != 0 {
            return Err(AddrError::Unaligned { start, len });
        }
        match start.checked_add(len) {
            Some(end) if end <= task_size => Ok(PageRange { start: VirtAddr(start), end: VirtAddr(end) }),
            _ => Err(AddrError::Beyond { start, len, task_size }),
        }
    }
    /// The span between two page-aligned addresses that are already known to be user addresses.
    #[inline(always)]
    pub const fn between(start: VirtAddr, end: VirtAddr) -> PageRange {
        debug_assert!(start.0 <= end.0 && (start.0 | end.0) & (PAGE_SIZE - 1) == 0);
        PageRange { start, end }
    }
    /// `nr_pages` base pages from `start`.
    #[inline(always)]
    pub const fn pages(start: VirtAddr, nr_pages: u64) -> PageRange {
        PageRange::between(start, start.add_pages(nr_pages))
    }
    /// First byte.
    #[inline(always)]
    pub const fn start(self) -> VirtAddr {
        self.start
    }
    /// First byte after the range.
    #[inline(always)]
    pub const fn end(self) -> VirtAddr {
        self.end
    }
    /// Base pages in the range.
    #[inline(always)]
    pub const fn nr_pages(self) -> u64 {
        (self.end.0 - self.start.0) >> PAGE_SHIFT
    }
    /// Whether there is nothing in it.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }
    /// Whether `addr` lies inside.
    #[inline(always)]
    pub const fn contains(self, addr: VirtAddr) -> bool {
        self.start.0 <= addr.0 && addr.0 < self.end.0
    }
    /// Whether the two share a byte.
    #[inline(always)]
    pub const fn overlaps(self, other: PageRange) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }
    /// The part that lies inside `other`, empty (at the nearer edge) if there is none.
    pub fn clip(self, other: PageRange) -> PageRange {
        let start = self.start.max(other.start).min(self.end);
        PageRange { start, end: self.end.min(other.end).max(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const TASK: u64 = 1 << 47;

    #[test]
    fn ranges_that_wrap_or_leave_the_address_space_are_refused() {
        assert!(matches!(PageRange::new(u64::MAX - 0xfff, 0x2000, TASK), Err(AddrError::Beyond { .. })));
        assert!(matches!(PageRange::new(TASK, PAGE_SIZE, TASK), Err(AddrError::Beyond { .. })));
        assert!(matches!(PageRange::new(1, PAGE_SIZE, TASK), Err(AddrError::Unaligned { .. })));
        assert!(matches!(PageRange::new(0, 1, TASK), Err(AddrError::Unaligned { .. })));
        assert!(PageRange::new(TASK - PAGE_SIZE, PAGE_SIZE, TASK).is_ok());
    }

    #[test]
    fn next_boundary_stops_at_the_end_and_survives_the_top_of_the_address_space() {
        let end = VirtAddr::new(3 * PMD_SIZE + PAGE_SIZE);
        assert_eq!(VirtAddr::new(PAGE_SIZE).next_boundary(Level::Pmd, end).get(), PMD_SIZE);
        assert_eq!(VirtAddr::new(3 * PMD_SIZE).next_boundary(Level::Pmd, end), end);
        let top = VirtAddr::new(!(PAGE_SIZE - 1));
        assert_eq!(top.next_boundary(Level::Pgd, top), top);
    }

    #[test]
    fn clip_of_disjoint_ranges_is_empty() {
        let a = PageRange::pages(VirtAddr::new(0), 4);
        let b = PageRange::pages(VirtAddr::new(0x8000), 4);
        assert!(a.clip(b).is_empty() && b.clip(a).is_empty());
        assert_eq!(a.clip(PageRange::pages(VirtAddr::new(0x2000), 8)).nr_pages(), 2);
    }
}
