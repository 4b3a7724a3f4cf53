//! Every view of the window, in the codes of a recording.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use workloads::scenario::{
    Expected, Mark, PAGE_BYTES, PmCode, RawCode, RawKind, Rle, ScanCode, SnapshotCode, Span, VmaRange, join,
    parse_perms,
};

use crate::capture::scan::{self, Region};
use crate::os::dmirror::Dmirror;
use crate::os::hmm::{self, Device, Flags};
use crate::os::window::Window;

/// Pages of a call of the driver that recordings know as `snapshot` (`dmirror_snapshot` of lib/test_hmm.c, Linux 6.12).
const SNAPSHOT_CALL_PAGES: u64 = 64;

/// What looks at the window.
pub(super) struct Eyes {
    window: Window,
    pagemap: File,
    kpageflags: File,
    regions: Vec<Region>,
}

fn open(path: &str) -> io::Result<File> {
    File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

impl Eyes {
    pub(super) fn open(window: Window) -> io::Result<Eyes> {
        Ok(Eyes {
            window,
            pagemap: open("/proc/self/pagemap")?,
            kpageflags: open("/proc/kpageflags")?,
            regions: Vec::new(),
        })
    }

    /// Fills in what the window looks like; whether calls of 64 pages say the same as one call: those of the test driver,
    /// where it is there. `with_other`: also what its device 1 sees.
    pub(super) fn observe(
        &mut self,
        device: &Device,
        dmirror: Option<&[Dmirror; 2]>,
        with_other: bool,
        expected: &mut Expected,
    ) -> io::Result<bool> {
        let all = Span { off: 0, len: self.window.npages() };
        let entries = self.entries(all)?;
        let categories = self.categories(all)?;
        let mut snapshots = [0, SNAPSHOT_CALL_PAGES].map(|_| vec![0; all.len as usize]);
        for (answers, call_pages) in snapshots.iter_mut().zip([0, SNAPSHOT_CALL_PAGES]) {
            let flags = Flags::default();
            let (_, ret) = device.walk_at(self.window.base(), call_pages, flags, &mut [0], answers)?;
            if ret != 0 {
                return Err(io::Error::other(format!("a snapshot failed with {ret}")));
            }
        }
        let [raw, by_64] = snapshots.map(|answers| self.marked(&answers, &entries, &categories));
        let (raw, by_64) = (raw?, by_64?);
        let snapshots =
            [&raw, &by_64].map(|codes| Rle::from_values(codes.iter().map(|code| code.to_snapshot())));
        let mut is_same = snapshots[0] == snapshots[1];
        let [_, by_64] = snapshots;
        if let Some([own, other]) = dmirror {
            let seen = |by: &Dmirror| -> io::Result<Rle<SnapshotCode>> {
                Ok(Rle::from_values(by.snapshot(self.window)?.into_iter().map(SnapshotCode)))
            };
            is_same &= seen(own)? == by_64;
            if with_other {
                expected.snapshot1 = Some(seen(other)?);
            }
        }
        expected.raw = Some(Rle::from_values(raw));
        expected.snapshot = Some(by_64);
        expected.pm = Some(Rle::from_values(entries.iter().map(|entry| letters(*entry))));
        expected.scan = Some(Rle::from_values(categories));
        expected.vma = Some(self.vmas()?);
        Ok(is_same)
    }

    /// The device's answers for `span`, as codes.
    pub(super) fn codes(&mut self, span: Span, answers: &[u8]) -> io::Result<Vec<RawCode>> {
        let entries = self.entries(span)?;
        let categories = self.categories(span)?;
        self.marked(answers, &entries, &categories)
    }

    /// The device tells no frame numbers, so which page is a zero page comes from elsewhere: the small one from
    /// PAGEMAP_SCAN, the huge one, which that does not know (Linux 6.12), from /proc/kpageflags. And what is valid while
    /// pagemap has it swapped is memory of the device's own.
    fn marked(&self, answers: &[u8], entries: &[u64], categories: &[ScanCode]) -> io::Result<Vec<RawCode>> {
        let mut huge = (u64::MAX, false);
        let mut codes = Vec::with_capacity(answers.len());
        for ((&answer, &entry), &category) in answers.iter().zip(entries).zip(categories) {
            let mut code = code(answer);
            // Valid though the processor does not have it: a device has.
            let away = entry >> 62 == 0b01;
            if away && matches!(code.kind, RawKind::Read | RawKind::Write) {
                code.mark = Mark::DevicePrivate;
            } else if code.kind == RawKind::Read && code.order == 0 {
                let zero = matches!(category, ScanCode::Categories(set) if u64::from(set) & scan::ZERO != 0);
                code.mark = if zero { Mark::Zero } else { Mark::None };
            } else if code.kind == RawKind::Read && code.order == 9 {
                let head = frame(entry) >> 9 << 9;
                if huge.0 != head {
                    huge = (head, self.is_zero_page(head)?);
                }
                code.mark = if huge.1 { Mark::HugeZero } else { Mark::None };
            }
            codes.push(code);
        }
        Ok(codes)
    }

    /// `KPF_ZERO_PAGE` of /proc/kpageflags.
    fn is_zero_page(&self, frame: u64) -> io::Result<bool> {
        if frame == 0 {
            return Err(io::Error::other("pagemap hides frame numbers: expected root, with CAP_SYS_ADMIN"));
        }
        let mut flags = [0; 8];
        self.kpageflags.read_exact_at(&mut flags, frame * 8)?;
        Ok(u64::from_ne_bytes(flags) >> 24 & 1 == 1)
    }

    /// /proc/self/pagemap.
    fn entries(&self, span: Span) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; span.len as usize * 8];
        let first = self.window.address(span.off) / PAGE_BYTES;
        self.pagemap.read_exact_at(&mut bytes, first * 8)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_ne_bytes(*entry)).collect())
    }

    /// PAGEMAP_SCAN, all categories.
    fn categories(&mut self, span: Span) -> io::Result<Vec<ScanCode>> {
        let (start, end) = (self.window.address(span.off), self.window.address(span.end()));
        let mut categories = vec![ScanCode::NotReported; span.len as usize];
        let mut at = start;
        while at < end {
            let stop = scan::scan_for(&self.pagemap, at..end, scan::ALL, &mut self.regions)?;
            for region in &self.regions {
                let pages = (region.start - start) / PAGE_BYTES..(region.end - start) / PAGE_BYTES;
                categories[pages.start as usize..pages.end as usize]
                    .fill(ScanCode::Categories(region.categories as u8));
            }
            if stop <= at {
                return Err(io::Error::other("PAGEMAP_SCAN made no progress"));
            }
            at = stop;
        }
        Ok(categories)
    }

    /// /proc/self/maps inside the window.
    fn vmas(&self) -> io::Result<Vec<VmaRange>> {
        let (base, end) = (self.window.base(), self.window.address(self.window.npages()));
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let range = |line: &str| {
            let mut words = line.split(' ');
            let (from, to) = words.next()?.split_once('-')?;
            let perms = parse_perms(words.next()?)?;
            let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16));
            let (from, to) = (from.ok()?.max(base), to.ok()?.min(end));
            (from < to).then(|| VmaRange {
                off: (from - base) / PAGE_BYTES,
                len: (to - from) / PAGE_BYTES,
                perms,
            })
        };
        Ok(join(maps.lines().filter_map(range)))
    }
}

/// The frame number of a present entry.
fn frame(entry: u64) -> u64 {
    if entry >> 63 == 1 { entry & ((1 << 55) - 1) } else { 0 }
}

fn letters(entry: u64) -> PmCode {
    let bits = [
        (63, PmCode::PRESENT),
        (62, PmCode::SWAPPED),
        (61, PmCode::FILE),
        (57, PmCode::UFFD_WP),
        (56, PmCode::EXCLUSIVE),
        (55, PmCode::SOFT_DIRTY),
    ];
    bits.iter().fold(PmCode::NONE, |code, (bit, letter)| code.with_if(entry >> bit & 1 == 1, *letter))
}

/// An answer of the device, without what it does not tell.
pub(super) fn code(answer: u8) -> RawCode {
    if answer == hmm::UNWRITTEN {
        return RawCode::UNTOUCHED;
    }
    let kind = if answer & hmm::ERROR != 0 {
        RawKind::Error
    } else {
        match (answer & hmm::VALID != 0, answer & hmm::WRITE != 0) {
            (true, true) => RawKind::Write,
            (true, false) => RawKind::Read,
            (false, true) => RawKind::WriteOnly,
            (false, false) => RawKind::None,
        }
    };
    RawCode::new(kind, answer >> hmm::ORDER_SHIFT, Mark::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_the_codes_of_recordings() {
        for (answer, text) in [
            (hmm::UNWRITTEN, "u"),
            (0, "-"),
            (hmm::ERROR, "E"),
            (hmm::VALID, "R"),
            (hmm::VALID | hmm::WRITE, "W"),
            (hmm::VALID | hmm::WRITE | 9 << hmm::ORDER_SHIFT, "W9"),
            (9 << hmm::ORDER_SHIFT, "-9"),
            (hmm::WRITE, "!"),
        ] {
            assert_eq!(code(answer).to_string(), text);
        }
        assert_eq!(letters(0x8180_0000_0000_1234).to_string(), "PXD");
        assert_eq!(letters(1 << 62 | 1 << 61 | 1 << 57).to_string(), "SFU");
        assert_eq!((frame(0x8180_0000_0000_1234), frame(0x1234)), (0x1234, 0));
    }
}
