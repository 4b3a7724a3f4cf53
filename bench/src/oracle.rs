//! What a correct answer says about each page, read off the tables by the slowest and plainest means.
//!
//! Shares no code with any backend: a descent from the root for every page, and the VMA. An answer is compared as far
//! as its API can speak; what it cannot say is not held against it.

use std::fmt;

use walker::addr::{Level, Pfn, VirtAddr};
use walker::arch::Entry;
use walker::audit::Rules;
use walker::backend::PageView;
use walker::mm::vma::VmFlags;
use walker::mm::{Locked, Mm};
use walker::request::{Request, Wish};

/// What the tables say about one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// The device cannot have it: no VMA, no right to read, or no struct page.
    Error,
    /// Nothing there now.
    Absent,
    /// Mapped.
    Mapped {
        /// The frame.
        pfn: Pfn,
        /// May be written.
        write: bool,
        /// log2 of the base pages of the mapping.
        order: u8,
        /// The caller's own device memory.
        device: bool,
    },
}

/// The first page whose answer is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mismatch {
    /// The page.
    pub(crate) addr: VirtAddr,
    /// What the tables say.
    pub(crate) expected: Truth,
    /// What the answer says.
    pub(crate) got: PageView,
    /// What was wished, if the wish is what was not fulfilled.
    pub(crate) wish: Option<Wish>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { addr, expected, got, wish } = self;
        match wish {
            Some(wish) => {
                write!(f, "page {addr:?}: the wish {wish:?} was not fulfilled, the tables say {expected:?}")
            }
            None => write!(f, "page {addr:?}: expected {expected:?}, got {got:?}"),
        }
    }
}

/// Whether `backend` documents that it may end a call with success and a wish unfulfilled: hmm_vma_fault of 4.17 to
/// 5.1 destroys wishes inside the call, so that a read and a write wish in one hole become a read fault for both.
pub(crate) fn may_lose_wishes(backend: &str, request: &Request<'_>) -> bool {
    backend == "driver_format" && request.per_page.is_some()
}

/// Whether `backend` documents that it reports the frame behind a NUMA hint at `level`, read-only, though the entry denies
/// every access: protnone PTEs count as present until 5.4, and the encoder of 5.5 to 5.7 does not look.
pub(crate) fn may_report_hint(backend: &str, level: Level) -> bool {
    match backend {
        "pfn_bits" | "driver_format" => level == Level::Pte,
        "range_default" => true,
        _ => false,
    }
}

/// What an answer says that is not so, as its design documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deviations {
    /// Wishes that were not fulfilled.
    pub(crate) lost_wishes: u64,
    /// Pages reported although a hint denies them.
    pub(crate) hints_reported: u64,
}

/// Compares the answer to `request`, slot by slot, with the tables as they stand after the call. Returns what differs as
/// `backend` says it may.
///
/// # Errors
/// The first page that differs, or whose wish was not fulfilled.
pub(crate) fn check(
    mm: &Mm,
    request: &Request<'_>,
    view: impl Fn(usize) -> PageView,
    backend: &str,
) -> Result<Deviations, Mismatch> {
    let may_lose = may_lose_wishes(backend, request);
    let vmas = mm.mmap_read();
    let at = mm.locked(&vmas);
    let mut deviations = Deviations::default();
    for i in 0..request.range.nr_pages() as usize {
        let addr = request.range.start().add_pages(i as u64);
        let expected = truth(at, addr, request.owner);
        let got = view(i);
        if !agrees(expected, got) {
            if reports_hint(mm, addr, got, backend) {
                deviations.hints_reported += 1;
                continue;
            }
            return Err(Mismatch { addr, expected, got, wish: None });
        }
        let wish = request.wish(i);
        let fulfilled = match (wish, expected) {
            (Wish::None, _) | (Wish::Read, Truth::Mapped { .. }) => true,
            // The caller's device memory is never faulted for a write (semantics: item 8 of the measured kernel).
            (Wish::Write, Truth::Mapped { write, device, .. }) => write || device,
            (Wish::Read | Wish::Write, Truth::Error | Truth::Absent) => false,
        };
        if !fulfilled && may_lose {
            deviations.lost_wishes += 1;
        } else if !fulfilled {
            return Err(Mismatch { addr, expected, got, wish: Some(wish) });
        }
    }
    Ok(deviations)
}

/// Whether the entry of `addr` is a hint that `backend` may report, and `got` the frame behind it without the right to write.
fn reports_hint(mm: &Mm, addr: VirtAddr, got: PageView, backend: &str) -> bool {
    let (level, slot) = match mm.lookup(addr, Level::Pte) {
        Ok(slot) => (Level::Pte, Some(slot)),
        Err(level) => (level, mm.lookup(addr, level).ok()),
    };
    let entry = slot.map_or(Entry::NONE, |slot| slot.read());
    let PageView::Mapped { pfn, write, .. } = got else { return false };
    let within = addr.pages_since(addr.align_down(level));
    may_report_hint(backend, level)
        && entry.is_protnone()
        && pfn == entry.pfn().add(within)
        && write == Some(false)
}

/// What a device that `backend` fills may hold beside what the tables give the processor.
pub(crate) fn audit_rules(backend: &str, owner: u64) -> Rules {
    let owns_all_devices = matches!(backend, "pfn_bits" | "driver_format");
    let levels = [Level::Pmd, Level::Pte];
    let reads_hints = levels.into_iter().find(|&level| may_report_hint(backend, level));
    Rules { owner, reads_hints, owns_all_devices }
}

/// Compares an answer that was right at some moment of the call with the tables as they stand now, when something may
/// have happened in between that needs no event: a page that was absent may be there, a right may have grown. What the
/// answer does give, the tables must give. Returns how many wishes were not fulfilled, as [`check`].
///
/// # Errors
/// The first page that differs, or whose wish was not fulfilled.
pub(crate) fn check_gives(
    mm: &Mm,
    request: &Request<'_>,
    view: impl Fn(usize) -> PageView,
    backend: &str,
) -> Result<u64, Mismatch> {
    let vmas = mm.mmap_read();
    let at = mm.locked(&vmas);
    let mut lost = 0;
    for i in 0..request.range.nr_pages() as usize {
        let addr = request.range.start().add_pages(i as u64);
        let (expected, got, wish) = (truth(at, addr, request.owner), view(i), request.wish(i));
        let (given, fulfilled) = match got {
            PageView::Mapped { pfn, write, device, .. } => match expected {
                Truth::Mapped { pfn: p, write: w, device: d, .. } => {
                    let given = pfn == p && (w || write != Some(true)) && device.is_none_or(|x| x == d);
                    (given, wish != Wish::Write || w)
                }
                _ => (reports_hint(mm, addr, got, backend), wish != Wish::Write),
            },
            PageView::Error => (expected == Truth::Error, wish == Wish::None),
            PageView::Absent => (expected != Truth::Error, wish == Wish::None),
            PageView::Unreached => (false, false),
        };
        if !given {
            return Err(Mismatch { addr, expected, got, wish: None });
        }
        if !fulfilled && may_lose_wishes(backend, request) {
            lost += 1;
        } else if !fulfilled {
            return Err(Mismatch { addr, expected, got, wish: Some(wish) });
        }
    }
    Ok(lost)
}

/// Whether `got` says nothing that is untrue.
fn agrees(expected: Truth, got: PageView) -> bool {
    match (expected, got) {
        (Truth::Error, PageView::Error) | (Truth::Absent, PageView::Absent) => true,
        (
            Truth::Mapped { pfn, write, order, device },
            PageView::Mapped { pfn: p, write: w, order: o, compound: c, device: d },
        ) => {
            pfn == p
                && w.is_none_or(|w| w == write)
                && o.is_none_or(|o| o == order)
                && c.is_none_or(|c| c == (order > 0))
                && d.is_none_or(|d| d == device)
        }
        _ => false,
    }
}

/// What the tables say about the page at `addr` to a caller whose device memory is `owner`'s.
pub(crate) fn truth(at: Locked<'_>, addr: VirtAddr, owner: u64) -> Truth {
    let Some(vma) = at.vmas.find(addr) else { return Truth::Error };
    if !vma.has(VmFlags::READ) || vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
        return Truth::Error;
    }
    let mut level = Level::Pte;
    let entry = loop {
        match at.mm.lookup(addr, level) {
            Ok(slot) => break slot.read(),
            // Not a table there: the entry at that level decides.
            Err(at_level) => level = at_level,
        }
    };
    leaf(at, entry, level, addr, owner)
}

fn leaf(at: Locked<'_>, e: Entry, level: Level, addr: VirtAddr, owner: u64) -> Truth {
    let within = addr.pages_since(addr.align_down(level));
    if e.is_none() {
        return Truth::Absent;
    }
    if !e.is_present() {
        let own =
            e.swp().is_device_private() && owner != 0 && at.mm.phys().page(e.swp().pfn()).owner() == owner;
        if !own {
            return Truth::Absent;
        }
        return Truth::Mapped {
            pfn: e.swp().pfn(),
            write: e.swp().is_device_private_write(),
            order: 0,
            device: true,
        };
    }
    if e.is_protnone() {
        return Truth::Absent;
    }
    if e.is_special() && !e.is_devmap() && level == Level::Pte && e.pfn() != at.mm.system().zero_pfn() {
        return Truth::Error;
    }
    Truth::Mapped { pfn: e.pfn().add(within), write: e.is_write(), order: level.order(), device: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_cannot_say_is_not_held_against_it() {
        let truth = Truth::Mapped { pfn: Pfn::new(7), write: true, order: 9, device: false };
        let says = |write, order, compound| PageView::Mapped {
            pfn: Pfn::new(7),
            write,
            order,
            compound,
            device: None,
        };
        assert!(agrees(truth, says(None, None, None)));
        assert!(agrees(truth, says(Some(true), Some(9), Some(true))));
        for wrong in [says(Some(false), None, None), says(None, Some(0), None), says(None, None, Some(false))]
        {
            assert!(!agrees(truth, wrong), "{wrong:?}");
        }
        assert!(!agrees(truth, PageView::Absent) && !agrees(Truth::Absent, PageView::Unreached));
        assert!(!agrees(Truth::Error, PageView::Absent));
    }
}
