//! The 64-bit entries of `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst, kernel 6.18).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use workloads::capture::{Leaf, PageFlags, PageState};

/// One entry.
///
/// | bits | meaning |
/// |---|---|
/// | 0-54 | frame number if present; else swap type (0-4) and offset (5-54). 0 without `CAP_SYS_ADMIN` |
/// | 55 | soft-dirty |
/// | 56 | mapped exclusively |
/// | 57 | write-protected by userfaultfd |
/// | 58 | guard region |
/// | 61 | file page or shared anonymous page |
/// | 62 | swap entry, or any other entry that is neither none nor present |
/// | 63 | present |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

/// `SWP_PTE_MARKER`, the last swap type: no page was ever swapped there.
const MARKER_TYPE: u64 = 31;
/// `PTE_MARKER_POISONED` in a marker's offset.
const MARKER_POISONED: u64 = 2;

impl Entry {
    pub(super) fn is_present(self) -> bool {
        self.bit(63)
    }

    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Frame number, 0 if hidden. Only for present entries.
    pub(super) fn frame(self) -> u64 {
        self.0 & ((1 << 55) - 1)
    }

    /// What it says of a present page.
    pub(super) fn flags(self) -> PageFlags {
        let bits = [
            (61, PageFlags::FILE),
            (56, PageFlags::EXCLUSIVE),
            (55, PageFlags::SOFT_DIRTY),
            (57, PageFlags::UFFD_WP),
        ];
        bits.iter().filter(|(bit, _)| self.bit(*bit)).map(|(_, flag)| *flag).collect()
    }

    /// The state of a small page; `zero` as `PAGEMAP_SCAN` said of it.
    pub(super) fn state(self, zero: bool) -> PageState {
        if self.is_present() {
            return PageState::Present { leaf: Leaf::Pte, flags: present_flags(self.flags(), zero) };
        }
        if !self.bit(62) {
            return PageState::None;
        }
        let (swap_type, offset) = (self.0 & 31, self.0 >> 5 & ((1 << 50) - 1));
        if self.bit(58) || (swap_type == MARKER_TYPE && offset & MARKER_POISONED != 0) {
            return PageState::Guard;
        }
        if swap_type == MARKER_TYPE {
            // A userfaultfd marker on an empty page: hmm_range_fault sees none (pte_none_mostly).
            return PageState::None;
        }
        PageState::Swap { flags: self.flags() & (PageFlags::SOFT_DIRTY | PageFlags::UFFD_WP) }
    }
}

/// Flags of a mapped page. The huge zero page is no anonymous folio, so pagemap calls it a file page; it is not.
pub(super) fn present_flags(flags: PageFlags, zero: bool) -> PageFlags {
    if zero { (flags - PageFlags::FILE) | PageFlags::ZERO } else { flags }
}

/// Reads the entries of `nr_pages` pages from page number `first` into `entries`. Fewer come back where the process
/// has ended.
pub(super) fn read(file: &File, first: u64, nr_pages: u64, entries: &mut Vec<Entry>) -> io::Result<()> {
    entries.clear();
    let mut bytes = vec![0u8; nr_pages as usize * 8];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], first * 8 + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    entries.extend(bytes[..done].as_chunks::<8>().0.iter().map(|b| Entry(u64::from_ne_bytes(*b))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_seen_on_a_6_18_kernel_decode() {
        let pte = |flags| PageState::Present { leaf: Leaf::Pte, flags };
        let x = PageFlags::EXCLUSIVE;
        let cases = [
            (0x8100_0000_001a_08c8, false, pte(x)),
            (0x8000_0000_0000_3b34, true, pte(PageFlags::ZERO)),
            // The huge zero page, with the file bit.
            (0xa000_0000_001d_5a00, true, pte(PageFlags::ZERO)),
            (0xa100_0000_0016_3fc6, false, pte(x | PageFlags::FILE)),
            // MADV_GUARD_INSTALL as root, and as another user, who does not see the marker's type.
            (0x4400_0000_0000_009f, false, PageState::Guard),
            (0x4400_0000_0000_0000, false, PageState::Guard),
            // A poison marker, a userfaultfd marker.
            (0x4000_0000_0000_005f, false, PageState::Guard),
            (0x4200_0000_0000_003f, false, PageState::None),
            (0, false, PageState::None),
            (0x4080_0000_0000_1000, false, PageState::Swap { flags: PageFlags::SOFT_DIRTY }),
        ];
        for (raw, zero, state) in cases {
            assert_eq!(Entry(raw).state(zero), state, "{raw:#x}");
        }
        assert_eq!(Entry(0x8100_0000_001a_08c8).frame(), 0x1a_08c8);
    }
}
