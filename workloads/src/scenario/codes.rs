//! The codes of the per-page lists: small copyable values, each with the recorder's text form.

use std::fmt;

use super::op::Wish;

/// A value with a text form inside a run-length list.
pub trait Code: Copy + PartialEq + fmt::Display {
    /// What a valid text is, for error messages.
    const EXPECTED: &'static str;

    /// The value of a text in exactly the form that `Display` writes.
    fn parse(text: &str) -> Option<Self>;
}

/// One entry of `hmm_pfns` after one call of `hmm_range_fault()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawCode {
    /// The flags.
    pub kind: RawKind,
    /// The map order: 0, 9 or 18.
    pub order: u8,
    /// What kind of page it is, where it is valid.
    pub mark: Mark,
}

/// The flags of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RawKind {
    /// `-`: no flag.
    None = b'-',
    /// `E`: `HMM_PFN_ERROR`.
    Error = b'E',
    /// `R`: `HMM_PFN_VALID`.
    Read = b'R',
    /// `W`: `HMM_PFN_VALID | HMM_PFN_WRITE`.
    Write = b'W',
    /// `u`: never written by the call.
    Untouched = b'u',
    /// `!`: `HMM_PFN_WRITE` without `HMM_PFN_VALID`, which no kernel should show.
    WriteOnly = b'!',
}

/// The page behind a valid entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// An ordinary page.
    None,
    /// `z`: the 4 KiB zero page.
    Zero,
    /// `Z`: part of the huge zero page.
    HugeZero,
    /// `d`: device private memory of device 0.
    DevicePrivate,
}

impl RawCode {
    /// No flag, order 0.
    pub const NONE: Self = Self::new(RawKind::None, 0, Mark::None);
    /// `HMM_PFN_ERROR`.
    pub const ERROR: Self = Self::new(RawKind::Error, 0, Mark::None);
    /// Never written.
    pub const UNTOUCHED: Self = Self::new(RawKind::Untouched, 0, Mark::None);

    /// An entry.
    pub const fn new(kind: RawKind, order: u8, mark: Mark) -> Self {
        Self { kind, order, mark }
    }

    /// The same without the mark.
    pub const fn unmarked(self) -> Self {
        Self { mark: Mark::None, ..self }
    }

    /// The byte that `HMM_DMIRROR_SNAPSHOT` of device 0 makes of this entry (`dmirror_mkentry` of lib/test_hmm.c,
    /// Linux 6.12).
    pub fn to_snapshot(self) -> SnapshotCode {
        let access = match self.kind {
            RawKind::Error => return SnapshotCode(0xff),
            RawKind::Read => 1,
            RawKind::Write => 2,
            RawKind::None | RawKind::Untouched | RawKind::WriteOnly => return SnapshotCode(0),
        };
        let page = match self.mark {
            Mark::DevicePrivate => 0x20,
            Mark::Zero => 0x10,
            Mark::None | Mark::HugeZero => 0,
        };
        let size = match self.order {
            9 => 4,
            18 => 8,
            _ => 0,
        };
        SnapshotCode(access | page | size)
    }
}

impl Code for RawCode {
    const EXPECTED: &'static str = "one of - E R W u !, an order when not 0, then z, Z or d for R and W";

    fn parse(text: &str) -> Option<Self> {
        let (&first, rest) = text.as_bytes().split_first()?;
        let kind = match first {
            b'-' => RawKind::None,
            b'E' => RawKind::Error,
            b'R' => RawKind::Read,
            b'W' => RawKind::Write,
            b'u' => RawKind::Untouched,
            b'!' => RawKind::WriteOnly,
            _ => return None,
        };
        let (mark, digits) = match rest {
            [digits @ .., b'z'] => (Mark::Zero, digits),
            [digits @ .., b'Z'] => (Mark::HugeZero, digits),
            [digits @ .., b'd'] => (Mark::DevicePrivate, digits),
            digits => (Mark::None, digits),
        };
        if mark != Mark::None && !matches!(kind, RawKind::Read | RawKind::Write) {
            return None;
        }
        // The order has five bits in the kernel, and is not written when it is 0.
        let order = match *digits {
            [] => 0,
            [ones @ b'1'..=b'9'] => ones - b'0',
            [tens @ b'1'..=b'3', ones @ b'0'..=b'9'] => (tens - b'0') * 10 + (ones - b'0'),
            _ => return None,
        };
        if order > 31 || (kind == RawKind::Untouched && order != 0) {
            return None;
        }
        Some(Self { kind, order, mark })
    }
}

impl fmt::Display for RawCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind as u8 as char)?;
        if self.order > 0 {
            write!(f, "{}", self.order)?;
        }
        f.write_str(match self.mark {
            Mark::None => "",
            Mark::Zero => "z",
            Mark::HugeZero => "Z",
            Mark::DevicePrivate => "d",
        })
    }
}

/// One byte of `HMM_DMIRROR_SNAPSHOT`:
///
/// | bits | meaning |
/// |---|---|
/// | `ff` | error |
/// | `03` | 0 none, 1 read-only, 2 writable |
/// | `04` | mapped by a PMD |
/// | `08` | mapped by a PUD |
/// | `10` | the 4 KiB zero page |
/// | `20` | device private memory of the asking device |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotCode(pub u8);

impl Code for SnapshotCode {
    const EXPECTED: &'static str = "two lower-case hexadecimal digits";

    fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            &[high, low] => Some(Self(hex(high)? << 4 | hex(low)?)),
            _ => None,
        }
    }
}

impl fmt::Display for SnapshotCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// Bits of `/proc/self/pagemap` for one page, as a set of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PmCode(u8);

impl PmCode {
    /// `-`: no bit.
    pub const NONE: Self = Self(0);
    /// `P`, bit 63: present.
    pub const PRESENT: Self = Self(1);
    /// `S`, bit 62: swapped; also device private and exclusive memory, hwpoison, a uffd-wp marker.
    pub const SWAPPED: Self = Self(2);
    /// `F`, bit 61: a file's page or shared anonymous memory.
    pub const FILE: Self = Self(4);
    /// `U`, bit 57: write-protected by userfaultfd.
    pub const UFFD_WP: Self = Self(8);
    /// `X`, bit 56: exclusively mapped.
    pub const EXCLUSIVE: Self = Self(16);
    /// `D`, bit 55: soft-dirty.
    pub const SOFT_DIRTY: Self = Self(32);

    const LETTERS: [(u8, Self); 6] = [
        (b'P', Self::PRESENT),
        (b'S', Self::SWAPPED),
        (b'F', Self::FILE),
        (b'U', Self::UFFD_WP),
        (b'X', Self::EXCLUSIVE),
        (b'D', Self::SOFT_DIRTY),
    ];

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits of both when `condition` holds, else these alone.
    #[must_use]
    pub const fn with_if(self, condition: bool, other: Self) -> Self {
        if condition { self.with(other) } else { self }
    }

    /// The bits that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These bits but not those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Code for PmCode {
    const EXPECTED: &'static str = "- or letters of PSFUXD in that order";

    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::NONE);
        }
        let mut rest = text.as_bytes();
        let mut code = Self::NONE;
        for (letter, bit) in Self::LETTERS {
            if rest.first() == Some(&letter) {
                code = code.with(bit);
                rest = &rest[1..];
            }
        }
        (rest.is_empty() && code != Self::NONE).then_some(code)
    }
}

impl fmt::Display for PmCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("-");
        }
        for (letter, bit) in Self::LETTERS {
            if self.contains(bit) {
                write!(f, "{}", letter as char)?;
            }
        }
        Ok(())
    }
}

/// What `PAGEMAP_SCAN` says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanCode {
    /// `x`: not reported, there is no VMA.
    NotReported,
    /// The categories: 1 WPALLOWED, 2 WRITTEN, 4 FILE, 8 PRESENT, 10 SWAPPED, 20 PFNZERO, 40 HUGE, 80 SOFT_DIRTY.
    Categories(u8),
}

impl Code for ScanCode {
    const EXPECTED: &'static str = "x or one or two lower-case hexadecimal digits";

    fn parse(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [b'x'] => Some(Self::NotReported),
            [low] => Some(Self::Categories(hex(low)?)),
            [high, low] if high != b'0' => Some(Self::Categories(hex(high)? << 4 | hex(low)?)),
            _ => None,
        }
    }
}

impl fmt::Display for ScanCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReported => f.write_str("x"),
            Self::Categories(categories) => write!(f, "{categories:x}"),
        }
    }
}

impl Code for Wish {
    const EXPECTED: &'static str = "one of n r w W";

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "n" => Self::None,
            "r" => Self::Read,
            "w" => Self::Write,
            "W" => Self::WriteOnly,
            _ => return None,
        })
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
