//! madvise(2): `madvise_walk_vmas`, `madvise_vma_behavior`, `madvise_populate` (mm/madvise.c, 6.12).

use crate::addr::{PageRange, VirtAddr};
use crate::mm::fault::VmFault;
use crate::mm::vma::{VmFlags, Vma, VmaTree};
use crate::mm::zap::ZapDetails;
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};

/// MADV_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of madvise(2)
pub enum Advice {
    DontNeed,
    Hugepage,
    NoHugepage,
    PopulateRead,
    PopulateWrite,
    Random,
    Sequential,
    DontFork,
    DoFork,
    WipeOnFork,
    KeepOnFork,
    PageOut,
    Cold,
    Free,
    WillNeed,
    Collapse,
    Remove,
    HwPoison,
    SoftOffline,
}

impl Mm {
    /// madvise(2) on a page-aligned range.
    ///
    /// # Errors
    /// -ENOMEM where the range has gaps (mapped parts are advised all the same), -EINVAL where a VMA does not take the
    /// advice; -EFAULT when population ends in a signal, -EHWPOISON at poisoned memory.
    pub fn madvise(&self, range: PageRange, advice: Advice) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        match advice {
            Advice::PopulateRead => self.madvise_populate(range, false),
            Advice::PopulateWrite => self.madvise_populate(range, true),
            Advice::HwPoison => self.inject_error(range, false),
            Advice::SoftOffline => self.inject_error(range, true),
            Advice::Remove => self.madvise_remove_range(range),
            Advice::Collapse => self.madvise_collapse_range(range),
            Advice::DontNeed | Advice::PageOut | Advice::Cold | Advice::Free | Advice::WillNeed => {
                let vmas = self.mmap_read();
                let locked = self.locked(&vmas);
                let mut gap = false;
                let mut at = range.start();
                while let Some((vma, part)) = next_part(&vmas, range, &mut at, &mut gap) {
                    match advice {
                        Advice::PageOut => locked.madvise_cold(vma, part, true)?,
                        Advice::Cold => locked.madvise_cold(vma, part, false)?,
                        Advice::Free => locked.madvise_free(vma, part)?,
                        Advice::WillNeed => locked.madvise_willneed(vma, part),
                        _ => self.madvise_dontneed(vma, part)?,
                    }
                }
                if gap { Err(Errno::NoMem) } else { Ok(()) }
            }
            _ => self.madvise_flags(range, advice),
        }
    }

    /// `madvise_dontneed_single_vma`.
    fn madvise_dontneed(&self, vma: &Vma, part: PageRange) -> Result<(), Errno> {
        let part = if vma.has(VmFlags::HUGETLB) {
            self.hugetlb_dontneed_part(vma, part)?
        } else if vma.flags.intersects(VmFlags::PFNMAP | VmFlags::LOCKED) {
            return Err(Errno::Inval);
        } else {
            part
        };
        if !part.is_empty() {
            self.zap_page_range_single(vma, part);
        }
        Ok(())
    }

    /// `zap_page_range_single`: zaps inside one CLEAR event.
    pub fn zap_page_range_single(&self, vma: &Vma, part: PageRange) {
        self.zap_page_range_single_details(vma, part, ZapDetails::DISCARD);
    }
    /// As [`Mm::zap_page_range_single`], sparing what `details` says.
    pub(crate) fn zap_page_range_single_details(&self, vma: &Vma, part: PageRange, details: ZapDetails) {
        let event = Event::new(EventKind::Clear, part);
        self.notifier.during(&event, || self.zap_page_range_details(vma, part, details));
    }

    /// The advice that only changes VMA flags.
    fn madvise_flags(&self, range: PageRange, advice: Advice) -> Result<(), Errno> {
        let mut vmas = self.mmap_write();
        let mut at = range.start();
        let mut gap = false;
        while let Some((vma, part)) = next_part(&vmas, range, &mut at, &mut gap) {
            let flags = new_flags(vma, advice)?;
            if flags != vma.flags {
                self.modify_vma(&mut vmas, part, |v| v.flags = flags)?;
            }
        }
        if gap { Err(Errno::NoMem) } else { Ok(()) }
    }

    /// `madvise_populate`: `faultin_page_range` VMA by VMA.
    fn madvise_populate(&self, range: PageRange, write: bool) -> Result<(), Errno> {
        let vmas = self.mmap_read();
        let locked = self.locked(&vmas);
        let mut at = range.start();
        while at < range.end() {
            let Some(vma) = vmas.find(at) else { return Err(Errno::NoMem) };
            let part = PageRange::between(at, vma.end().min(range.end()));
            // check_vma_flags
            let right = if write { VmFlags::WRITE } else { VmFlags::READ };
            if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.has(right) {
                return Err(Errno::Inval);
            }
            locked.faultin_range(vma, part, write).map_err(|r| {
                if r.contains(VmFault::OOM) {
                    Errno::NoMem
                } else if r.contains(VmFault::HWPOISON) {
                    Errno::HwPoison
                } else {
                    Errno::Fault
                }
            })?;
            at = part.end();
        }
        Ok(())
    }
}

/// One step of `madvise_walk_vmas`: the next VMA at or after `at` and the part of it in `range`. Moves `at` behind it, and
/// sets `gap` where pages before it, or up to the end of the range, are not mapped.
fn next_part<'v>(
    vmas: &'v VmaTree,
    range: PageRange,
    at: &mut VirtAddr,
    gap: &mut bool,
) -> Option<(&'v Vma, PageRange)> {
    if *at >= range.end() {
        return None;
    }
    let found =
        vmas.find_from(*at).map(|vma| (vma, range.clip(vma.range))).filter(|(_, part)| !part.is_empty());
    *gap |= found.is_none_or(|(_, part)| part.start() > *at);
    *at = found?.1.end();
    found
}

/// `madvise_vma_behavior` for advice that only changes flags.
fn new_flags(vma: &Vma, advice: Advice) -> Result<VmFlags, Errno> {
    let f = vma.flags;
    let reads = VmFlags::SEQ_READ | VmFlags::RAND_READ;
    Ok(match advice {
        Advice::Hugepage => (f - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
        Advice::NoHugepage => (f - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
        Advice::Random => (f - reads) | VmFlags::RAND_READ,
        Advice::Sequential => (f - reads) | VmFlags::SEQ_READ,
        Advice::DontFork => f | VmFlags::DONTCOPY,
        Advice::DoFork if vma.has(VmFlags::IO) => return Err(Errno::Inval),
        Advice::DoFork => f - VmFlags::DONTCOPY,
        // Not of /dev/zero either: that is anonymous, but has a file.
        Advice::WipeOnFork if vma.file_id() != 0 || vma.is_shared() => return Err(Errno::Inval),
        Advice::WipeOnFork => f | VmFlags::WIPEONFORK,
        Advice::KeepOnFork => f - VmFlags::WIPEONFORK,
        _ => f,
    })
}
