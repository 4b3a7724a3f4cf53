//! One page-table entry as a value, bit for bit as x86-64 Linux 6.12 lays it out.
//!
//! | bits  | present entry                         | swap entry (not present)        |
//! |-------|---------------------------------------|---------------------------------|
//! | 0     | PRESENT                               | 0                               |
//! | 1     | RW                                    | soft-dirty                      |
//! | 2     | USER                                  | uffd-wp                         |
//! | 3     | PWT                                   | exclusive (PG_anon_exclusive)   |
//! | 5, 6  | ACCESSED, DIRTY                       | 0                               |
//! | 7     | PSE (leaf above the PTE level), PAT   | 0                               |
//! | 8     | GLOBAL; PROTNONE when PRESENT is clear | 0                              |
//! | 9     | SPECIAL                               | ~offset, bits 9..58             |
//! | 10    | UFFD_WP                               |                                 |
//! | 11    | SOFT_DIRTY                            |                                 |
//! | 12-51 | frame number (inverted under PROTNONE: L1TF) |                          |
//! | 57    | DEVMAP                                |                                 |
//! | 58    | SAVED_DIRTY                           |                                 |
//! | 59-63 | protection key; 63 NX                 | type                            |
//!
//! Sources: arch/x86/include/asm/pgtable_types.h, pgtable_64.h, pgtable-invert.h; include/linux/swap.h, swapops.h.
//! An `Entry` is always a copy; the slot it came from is an atomic that only `memory/table.rs` touches.

use crate::addr::Pfn;
use core::fmt;

const PRESENT: u64 = 1 << 0;
const RW: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const PSE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const SPECIAL: u64 = 1 << 9;
const UFFD_WP: u64 = 1 << 10;
const SOFT_DIRTY: u64 = 1 << 11;
const DEVMAP: u64 = 1 << 57;
const SAVED_DIRTY: u64 = 1 << 58;
const NX: u64 = 1 << 63;
const PFN_MASK: u64 = 0x000f_ffff_ffff_f000;
/// Bits that survive `pte_modify` (_PAGE_CHG_MASK), the frame aside.
const CHG_KEEP: u64 = ACCESSED | DIRTY | SAVED_DIRTY | SPECIAL | SOFT_DIRTY | UFFD_WP | DEVMAP | PSE;

const SWP_SOFT_DIRTY: u64 = 1 << 1;
const SWP_UFFD_WP: u64 = 1 << 2;
const SWP_EXCLUSIVE: u64 = 1 << 3;
const SWP_TYPE_SHIFT: u32 = 59;
const SWP_OFFSET_SHIFT: u32 = 9 + 5;
/// SWP_PFN_BITS: what of an offset is a frame number; a migration entry keeps age and dirt above it.
const SWP_PFN_MASK: u64 = (1 << 40) - 1;
const MIGRATION_YOUNG: u64 = 1 << 40;
const MIGRATION_DIRTY: u64 = 1 << 41;

/// Access rights of an entry, as `vm_page_prot` gives them (protection_map of arch/x86/mm/pgprot.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prot(u64);

impl Prot {
    /// PAGE_NONE: no access, and PROTNONE set so that the entry still counts as present.
    pub const NONE: Prot = Prot(PROTNONE | ACCESSED | NX);
    /// The rights that a VMA with these flags gives, before dirty tracking takes the write bit away:
    /// private mappings never get it here, a write fault gives it.
    pub const fn of(read: bool, write: bool, exec: bool, shared: bool) -> Prot {
        if !(read || write || exec) {
            return Prot::NONE;
        }
        // x86 has no write-only and, without protection keys, no execute-only mapping: any right makes it readable.
        let rw = if write && shared { RW } else { 0 };
        Prot(PRESENT | USER | ACCESSED | rw | if exec { 0 } else { NX })
    }
    /// The same rights without the write bit (`vm_pgprot_modify(.., ~VM_SHARED)` under dirty tracking).
    pub const fn without_write(self) -> Prot {
        Prot(self.0 & !RW)
    }
    /// PAGE_NONE: an entry with these rights faults on every access.
    pub const fn is_none(self) -> bool {
        self.0 & PROTNONE != 0
    }
}

/// A page-table entry at any level, as a value.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub(crate) u64);

impl Entry {
    /// The zero entry: nothing here, and no table below.
    pub const NONE: Entry = Entry(0);

    /// The entry with these bits, as read from a table.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Entry {
        Entry(bits)
    }
    /// The bits.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// A leaf that maps `pfn` with the rights `prot` (`pfn_pte`). At the PTE level; see [`Entry::mkhuge`].
    #[inline(always)]
    pub const fn leaf(pfn: Pfn, prot: Prot) -> Entry {
        Entry(((pfn.get() << 12) ^ invert_mask(prot.0)) & PFN_MASK | prot.0)
    }
    /// An entry that points to the table in frame `pfn` (_PAGE_TABLE).
    #[inline(always)]
    pub const fn table(pfn: Pfn) -> Entry {
        Entry(pfn.get() << 12 | PRESENT | RW | USER | ACCESSED | DIRTY)
    }

    /// `pte_none`: the zero entry.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 & !(DIRTY | ACCESSED) == 0
    }
    /// `pte_present` / `pmd_present`: maps memory or a table, even if PROT_NONE or a NUMA hint denies access.
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.0 & (PRESENT | PROTNONE) != 0
    }
    /// `pte_protnone`: present to the kernel, faulting for the processor.
    #[inline(always)]
    pub const fn is_protnone(self) -> bool {
        self.0 & (PRESENT | PROTNONE) == PROTNONE
    }
    /// `pte_write`.
    #[inline(always)]
    pub const fn is_write(self) -> bool {
        self.0 & RW != 0
    }
    /// `pte_dirty`: the hardware bit or the one saved when write permission was taken away.
    #[inline(always)]
    pub const fn is_dirty(self) -> bool {
        self.0 & (DIRTY | SAVED_DIRTY) != 0
    }
    /// `pte_young`.
    #[inline(always)]
    pub const fn is_young(self) -> bool {
        self.0 & ACCESSED != 0
    }
    /// `pte_special`: no struct page that the core may use (zero page, PFNMAP).
    #[inline(always)]
    pub const fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    /// `pte_uffd_wp`.
    #[inline(always)]
    pub const fn is_uffd_wp(self) -> bool {
        self.0 & UFFD_WP != 0
    }
    /// `pte_soft_dirty`.
    #[inline(always)]
    pub const fn is_soft_dirty(self) -> bool {
        self.0 & SOFT_DIRTY != 0
    }
    /// `pte_devmap`.
    #[inline(always)]
    pub const fn is_devmap(self) -> bool {
        self.0 & DEVMAP != 0
    }
    /// Present for the processor and not special: what all but a few entries of a table are. One mask and compare.
    #[inline(always)]
    pub const fn is_plain_present(self) -> bool {
        self.0 & (PRESENT | SPECIAL) == PRESENT
    }
    /// Present for the processor, and special: the zero page, or memory without struct page.
    #[inline(always)]
    pub const fn is_special_present(self) -> bool {
        self.0 & (PRESENT | SPECIAL) == PRESENT | SPECIAL
    }
    /// [`Entry::is_plain_present`], and writable if asked for, as mask and value for who tests many at once.
    pub const fn plain_test(write: bool) -> (u64, u64) {
        let rw = if write { RW } else { 0 };
        (PRESENT | SPECIAL | rw, PRESENT | rw)
    }
    /// The frame number of an entry with PRESENT set, which is never stored inverted.
    #[inline(always)]
    pub const fn plain_pfn(self) -> u64 {
        (self.0 & PFN_MASK) >> 12
    }
    /// The frame of the table that an entry with [`Entry::is_table`] points to, which is never stored inverted
    /// (`pmd_page_vaddr`, `pud_pgtable`).
    #[inline(always)]
    pub const fn table_pfn(self) -> Pfn {
        Pfn::new(self.plain_pfn())
    }
    /// A leaf above the PTE level (`pmd_trans_huge`, `pud_leaf`): PSE set. Also true for PROTNONE leaves.
    #[inline(always)]
    pub const fn is_huge(self) -> bool {
        self.0 & PSE != 0 && self.is_present()
    }
    /// A table below (present, not a leaf).
    #[inline(always)]
    pub const fn is_table(self) -> bool {
        self.0 & (PRESENT | PSE) == PRESENT
    }
    /// The frame of a present entry: leaf or table. Undoes the L1TF inversion of PROTNONE entries.
    #[inline(always)]
    pub const fn pfn(self) -> Pfn {
        Pfn::new(((self.0 ^ invert_mask(self.0)) & PFN_MASK) >> 12)
    }

    /// As a leaf above the PTE level (`pmd_mkhuge`).
    #[inline(always)]
    #[must_use]
    pub const fn mkhuge(self) -> Entry {
        Entry(self.0 | PSE)
    }
    /// A PTE-level leaf again (used when a huge leaf is split into base pages).
    #[inline(always)]
    #[must_use]
    pub const fn mksmall(self) -> Entry {
        Entry(self.0 & !PSE)
    }
    /// `pte_mkwrite`: sets RW; a saved dirty bit becomes the hardware one again.
    #[inline(always)]
    #[must_use]
    pub const fn mkwrite(self) -> Entry {
        let dirty = if self.0 & SAVED_DIRTY != 0 { DIRTY } else { 0 };
        Entry(self.0 & !SAVED_DIRTY | RW | dirty)
    }
    /// `pte_wrprotect`: clears RW; a dirty bit moves to SAVED_DIRTY (shadow-stack encoding of 6.6+).
    #[inline(always)]
    #[must_use]
    pub const fn wrprotect(self) -> Entry {
        let saved = if self.0 & DIRTY != 0 { SAVED_DIRTY } else { 0 };
        Entry(self.0 & !(RW | DIRTY) | saved)
    }
    /// `pte_mkdirty`: dirty (saved where the entry is read-only) and soft-dirty.
    #[inline(always)]
    #[must_use]
    pub const fn mkdirty(self) -> Entry {
        let dirty = if self.0 & RW != 0 { DIRTY } else { SAVED_DIRTY };
        Entry(self.0 | dirty | SOFT_DIRTY)
    }
    /// `pte_mkclean`.
    #[inline(always)]
    #[must_use]
    pub const fn mkclean(self) -> Entry {
        Entry(self.0 & !(DIRTY | SAVED_DIRTY))
    }
    /// `pte_mkyoung`.
    #[inline(always)]
    #[must_use]
    pub const fn mkyoung(self) -> Entry {
        Entry(self.0 | ACCESSED)
    }
    /// `pte_mkold`.
    #[inline(always)]
    #[must_use]
    pub const fn mkold(self) -> Entry {
        Entry(self.0 & !ACCESSED)
    }
    /// `pte_mkspecial`.
    #[inline(always)]
    #[must_use]
    pub const fn mkspecial(self) -> Entry {
        Entry(self.0 | SPECIAL)
    }
    /// `pte_mkuffd_wp`: marks and write-protects.
    #[inline(always)]
    #[must_use]
    pub const fn mkuffd_wp(self) -> Entry {
        Entry(self.0 | UFFD_WP).wrprotect()
    }
    /// `pte_clear_uffd_wp`.
    #[inline(always)]
    #[must_use]
    pub const fn clear_uffd_wp(self) -> Entry {
        Entry(self.0 & !UFFD_WP)
    }
    /// `pte_mksoft_dirty`.
    #[inline(always)]
    #[must_use]
    pub const fn mksoft_dirty(self) -> Entry {
        Entry(self.0 | SOFT_DIRTY)
    }
    /// `pte_clear_soft_dirty`.
    #[inline(always)]
    #[must_use]
    pub const fn clear_soft_dirty(self) -> Entry {
        Entry(self.0 & !SOFT_DIRTY)
    }
    /// `pte_modify`: new rights; accessed, dirty, special, soft-dirty, uffd-wp and the frame stay.
    #[inline]
    #[must_use]
    pub const fn modify(self, prot: Prot) -> Entry {
        let pfn = self.pfn();
        let e = Entry(
            ((pfn.get() << 12) ^ invert_mask(prot.0)) & PFN_MASK | self.0 & CHG_KEEP | prot.0 & !CHG_KEEP,
        );
        // pte_modify: a dirty bit without RW becomes SAVED_DIRTY, with RW the hardware bit.
        if e.0 & RW != 0 {
            if e.0 & SAVED_DIRTY != 0 { Entry(e.0 & !SAVED_DIRTY | DIRTY) } else { e }
        } else if e.0 & DIRTY != 0 {
            Entry(e.0 & !DIRTY | SAVED_DIRTY)
        } else {
            e
        }
    }
    /// The rights of this entry alone, as [`Entry::leaf`] takes them.
    #[inline]
    pub const fn prot(self) -> Prot {
        Prot(self.0 & (PRESENT | RW | USER | PROTNONE | ACCESSED | NX))
    }

    /// The swap entry of a non-present, non-none entry.
    #[inline(always)]
    pub const fn swp(self) -> SwpEntry {
        SwpEntry(self.0 & !(SWP_SOFT_DIRTY | SWP_UFFD_WP | SWP_EXCLUSIVE))
    }
    /// A non-none entry that is not present: swap, migration, device, poison or marker.
    #[inline(always)]
    pub const fn is_swp(self) -> bool {
        !self.is_none() && !self.is_present()
    }
    /// `pte_swp_exclusive`: the page was exclusively this mm's when it was swapped out.
    #[inline(always)]
    pub const fn is_swp_exclusive(self) -> bool {
        self.0 & SWP_EXCLUSIVE != 0
    }
    /// `pte_swp_soft_dirty`.
    #[inline(always)]
    pub const fn is_swp_soft_dirty(self) -> bool {
        self.0 & SWP_SOFT_DIRTY != 0
    }
    /// `pte_swp_uffd_wp`.
    #[inline(always)]
    pub const fn is_swp_uffd_wp(self) -> bool {
        self.0 & SWP_UFFD_WP != 0
    }
    /// `pte_swp_mkexclusive`, or its opposite.
    #[inline(always)]
    #[must_use]
    pub const fn with_swp_exclusive(self, on: bool) -> Entry {
        Entry(if on { self.0 | SWP_EXCLUSIVE } else { self.0 & !SWP_EXCLUSIVE })
    }
    /// `pte_swp_mksoft_dirty`, or its opposite.
    #[inline(always)]
    #[must_use]
    pub const fn with_swp_soft_dirty(self, on: bool) -> Entry {
        Entry(if on { self.0 | SWP_SOFT_DIRTY } else { self.0 & !SWP_SOFT_DIRTY })
    }
    /// `pte_swp_mkuffd_wp`, or its opposite.
    #[inline(always)]
    #[must_use]
    pub const fn with_swp_uffd_wp(self, on: bool) -> Entry {
        Entry(if on { self.0 | SWP_UFFD_WP } else { self.0 & !SWP_UFFD_WP })
    }
    /// `pte_none_mostly`: nothing, or a marker that only remembers uffd-wp. Poison and guard markers are also
    /// "mostly none" in 6.12 (`is_pte_marker` alone decides).
    #[inline(always)]
    pub const fn is_none_mostly(self) -> bool {
        self.is_none() || (self.is_swp() && self.0 >> SWP_TYPE_SHIFT == SwpType::PteMarker as u64)
    }
}

/// `protnone_mask`: frame bits are stored inverted when PRESENT is clear and something else is set (L1TF).
#[inline(always)]
const fn invert_mask(bits: u64) -> u64 {
    if bits != 0 && bits & PRESENT == 0 { !0 } else { 0 }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        if self.is_swp() {
            return write!(f, "{:?}({:#x})", self.swp().kind(), self.swp().offset());
        }
        write!(f, "{:#x}", self.pfn().get())?;
        for (bit, name) in [
            (RW, "w"),
            (PSE, "P"),
            (DIRTY, "d"),
            (SAVED_DIRTY, "s"),
            (ACCESSED, "a"),
            (SPECIAL, "S"),
            (UFFD_WP, "u"),
            (SOFT_DIRTY, "D"),
        ] {
            if self.0 & bit != 0 {
                f.write_str(name)?;
            }
        }
        if self.is_protnone() { f.write_str(" protnone") } else { Ok(()) }
    }
}

/// What a swap-format entry stands for; the numbers are those of a 6.12 kernel with every option on
/// (include/linux/swap.h: MAX_SWAPFILES = 32 - 4 - 3 - 1 - 1 = 23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SwpType {
    /// A page on the one swap device.
    Swap = 0,
    /// A page whose memory failed.
    Hwpoison = 23,
    /// Under migration, read-only.
    MigrationRead = 24,
    /// Under migration, read-only and exclusive to this mm.
    MigrationReadExclusive = 25,
    /// Under migration, writable.
    MigrationWrite = 26,
    /// Device-private memory, writable.
    DeviceWrite = 27,
    /// Device-private memory, read-only.
    DeviceRead = 28,
    /// Host memory that a device has exclusively, writable.
    DeviceExclusiveWrite = 29,
    /// Host memory that a device has exclusively, read-only.
    DeviceExclusiveRead = 30,
    /// A marker without a page.
    PteMarker = 31,
}

/// A decoded swap-format entry: type and offset (a swap slot, a frame number, or marker bits).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct SwpEntry(u64);

/// PTE_MARKER_UFFD_WP.
pub const MARKER_UFFD_WP: u64 = 1;
/// PTE_MARKER_POISONED.
pub const MARKER_POISONED: u64 = 2;
/// PTE_MARKER_GUARD (6.13).
pub const MARKER_GUARD: u64 = 4;

impl SwpEntry {
    /// `swp_entry(type, offset)`.
    #[inline(always)]
    pub const fn new(kind: SwpType, offset: u64) -> SwpEntry {
        SwpEntry((!offset << SWP_OFFSET_SHIFT >> 5) | (kind as u64) << SWP_TYPE_SHIFT)
    }
    /// `swp_offset`: the slot on the swap device, the frame number, or the marker bits.
    #[inline(always)]
    pub const fn offset(self) -> u64 {
        !self.0 << 5 >> SWP_OFFSET_SHIFT
    }
    /// `swp_offset_pfn`: the frame of a migration, device or poison entry.
    #[inline(always)]
    pub const fn pfn(self) -> Pfn {
        Pfn::new(self.offset() & SWP_PFN_MASK)
    }
    /// A migration entry of this kind that remembers age and dirt of the entry it replaces
    /// (`make_migration_entry_young` / `_dirty`).
    #[inline]
    pub const fn migration(kind: SwpType, pfn: Pfn, young: bool, dirty: bool) -> SwpEntry {
        let young = if young { MIGRATION_YOUNG } else { 0 };
        let dirty = if dirty { MIGRATION_DIRTY } else { 0 };
        SwpEntry::new(kind, pfn.get() | young | dirty)
    }
    /// `is_migration_entry_young`.
    #[inline]
    pub const fn is_migration_young(self) -> bool {
        self.offset() & MIGRATION_YOUNG != 0
    }
    /// `is_migration_entry_dirty`.
    #[inline]
    pub const fn is_migration_dirty(self) -> bool {
        self.offset() & MIGRATION_DIRTY != 0
    }
    /// `swp_type`.
    #[inline(always)]
    pub const fn kind(self) -> SwpType {
        match self.0 >> SWP_TYPE_SHIFT {
            23 => SwpType::Hwpoison,
            24 => SwpType::MigrationRead,
            25 => SwpType::MigrationReadExclusive,
            26 => SwpType::MigrationWrite,
            27 => SwpType::DeviceWrite,
            28 => SwpType::DeviceRead,
            29 => SwpType::DeviceExclusiveWrite,
            30 => SwpType::DeviceExclusiveRead,
            31 => SwpType::PteMarker,
            _ => SwpType::Swap,
        }
    }
    /// As an entry for a table (`swp_entry_to_pte`), with no exclusive, soft-dirty or uffd-wp bit.
    #[inline(always)]
    pub const fn entry(self) -> Entry {
        Entry(self.0)
    }
    /// A real slot on the swap device (`!non_swap_entry`).
    #[inline(always)]
    pub const fn is_swap(self) -> bool {
        self.0 >> SWP_TYPE_SHIFT < SwpType::Hwpoison as u64
    }
    /// `is_migration_entry`.
    #[inline(always)]
    pub const fn is_migration(self) -> bool {
        let t = self.0 >> SWP_TYPE_SHIFT;
        t >= SwpType::MigrationRead as u64 && t <= SwpType::MigrationWrite as u64
    }
    /// `is_device_private_entry`.
    #[inline(always)]
    pub const fn is_device_private(self) -> bool {
        let t = self.0 >> SWP_TYPE_SHIFT;
        t == SwpType::DeviceWrite as u64 || t == SwpType::DeviceRead as u64
    }
    /// `is_writable_device_private_entry`.
    #[inline(always)]
    pub const fn is_device_private_write(self) -> bool {
        self.0 >> SWP_TYPE_SHIFT == SwpType::DeviceWrite as u64
    }
    /// `is_device_exclusive_entry`.
    #[inline(always)]
    pub const fn is_device_exclusive(self) -> bool {
        let t = self.0 >> SWP_TYPE_SHIFT;
        t == SwpType::DeviceExclusiveWrite as u64 || t == SwpType::DeviceExclusiveRead as u64
    }
    /// `is_hwpoison_entry`.
    #[inline(always)]
    pub const fn is_hwpoison(self) -> bool {
        self.0 >> SWP_TYPE_SHIFT == SwpType::Hwpoison as u64
    }
    /// `is_pte_marker_entry`.
    #[inline(always)]
    pub const fn is_marker(self) -> bool {
        self.0 >> SWP_TYPE_SHIFT == SwpType::PteMarker as u64
    }
}

impl fmt::Debug for SwpEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:#x})", self.kind(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [SwpType; 10] = [
        SwpType::Swap,
        SwpType::Hwpoison,
        SwpType::MigrationRead,
        SwpType::MigrationReadExclusive,
        SwpType::MigrationWrite,
        SwpType::DeviceWrite,
        SwpType::DeviceRead,
        SwpType::DeviceExclusiveWrite,
        SwpType::DeviceExclusiveRead,
        SwpType::PteMarker,
    ];

    #[test]
    fn swap_entries_survive_the_round_trip_and_never_look_present_or_none() {
        for kind in KINDS {
            for offset in [0, 1, 0xfff, (1 << 40) - 1] {
                for flags in 0..8 {
                    let e = SwpEntry::new(kind, offset)
                        .entry()
                        .with_swp_exclusive(flags & 1 != 0)
                        .with_swp_soft_dirty(flags & 2 != 0)
                        .with_swp_uffd_wp(flags & 4 != 0);
                    assert!(!e.is_present() && !e.is_none() && e.is_swp(), "{e:?}");
                    assert_eq!((e.swp().kind(), e.swp().offset()), (kind, offset));
                    assert_eq!(e.is_swp_exclusive(), flags & 1 != 0);
                }
            }
        }
    }

    #[test]
    fn protnone_entries_store_the_frame_inverted_and_read_it_back() {
        let e = Entry::leaf(Pfn::new(0x1234), Prot::NONE);
        assert!(e.is_present() && e.is_protnone() && !e.is_none());
        assert_eq!(e.pfn(), Pfn::new(0x1234));
        assert_ne!(e.bits() & PFN_MASK, 0x1234 << 12);
        let back = e.modify(Prot::of(true, true, false, true));
        assert_eq!((back.pfn(), back.is_write(), back.is_protnone()), (Pfn::new(0x1234), true, false));
    }

    #[test]
    fn dirty_moves_to_saved_dirty_and_back() {
        let e = Entry::leaf(Pfn::new(1), Prot::of(true, true, false, true)).mkdirty();
        assert!(e.bits() & DIRTY != 0 && e.bits() & SAVED_DIRTY == 0);
        let ro = e.wrprotect();
        assert!(ro.bits() & DIRTY == 0 && ro.bits() & SAVED_DIRTY != 0 && ro.is_dirty());
        assert!(ro.mkwrite().bits() & DIRTY != 0);
        assert!(e.modify(Prot::of(true, false, false, false)).bits() & DIRTY == 0);
    }

    #[test]
    fn bits_are_those_of_x86_64_linux() {
        let e = Entry::leaf(Pfn::new(0x42), Prot::of(true, true, true, true)).mkdirty().mkhuge();
        assert_eq!(e.bits(), 0x42 << 12 | 1 | 2 | 4 | 0x20 | 0x40 | 0x80 | 0x800);
        assert_eq!(Entry::table(Pfn::new(7)).bits(), 7 << 12 | 0x67);
        assert_eq!(SwpEntry::new(SwpType::PteMarker, 1).entry().bits() >> 59, 31);
    }
}
