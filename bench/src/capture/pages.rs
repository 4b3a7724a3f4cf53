//! The entries of one process, VMA by VMA: `PAGEMAP_SCAN` for where and how large, pagemap for the rest.

use std::fs::File;

use anyhow::Result;
use workloads::capture::{Leaf, PAGE_BYTES, PageFlags, PageState, ShapeKind, ShapeVma};

use super::pagemap::{self, Entry};
use super::process::Process;
use super::scan::{self, Region};
use super::smaps::Mapping;

/// What this kernel shows to this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// `PAGEMAP_SCAN` is there.
    pub(super) scan: bool,
    /// `PAGEMAP_SCAN` tells a none entry in a table from a missing table.
    pub(super) tables: bool,
    /// pagemap shows frame numbers.
    pub(super) frames: bool,
    /// The kernel tracks soft-dirty.
    pub(super) soft_dirty: bool,
}

/// Entries read at once: 1 GiB of address space, so that a PUD leaf is never cut.
const CHUNK_PAGES: u64 = Leaf::Pud.nr_pages();

/// Reads VMAs of one process in address order.
pub(super) struct Pages<'a> {
    process: &'a Process,
    pagemap: &'a File,
    sight: &'a Sight,
    entries: Vec<Entry>,
    regions: Vec<Region>,
    /// Frame of the last page pushed, if it had one.
    last_frame: Option<u64>,
    nr_done: u64,
    nr_changed: u64,
}

/// How the entries of a stretch are to be read.
#[derive(Clone, Copy)]
struct Hint {
    leaf: Leaf,
    zero: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(process: &'a Process, pagemap: &'a File, sight: &'a Sight) -> Self {
        let (entries, regions) = (Vec::new(), Vec::new());
        Self { process, pagemap, sight, entries, regions, last_frame: None, nr_done: 0, nr_changed: 0 }
    }

    /// Pages whose two readings disagreed.
    pub(super) fn nr_changed(&self) -> u64 {
        self.nr_changed
    }

    /// Fills `vma.runs`. `progress` gets the number of entries read so far, over all VMAs.
    pub(super) fn read(
        &mut self,
        mapping: &Mapping,
        vma: &mut ShapeVma,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.last_frame = None;
        if self.sight.scan {
            self.read_scanned(mapping, vma, progress)
        } else {
            self.read_all(mapping, vma, progress)
        }
    }

    fn read_scanned(
        &mut self,
        mapping: &Mapping,
        vma: &mut ShapeVma,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut at = mapping.start;
        while at < mapping.end {
            let mut regions = std::mem::take(&mut self.regions);
            let stop = scan::scan(self.pagemap, at, mapping.end, &mut regions)
                .map_err(|e| self.process.explain("pagemap (PAGEMAP_SCAN)", &e))?;
            if stop <= at {
                return Err(self.process.ended("PAGEMAP_SCAN made no progress"));
            }
            for region in &regions {
                // Pages between regions had no category at all.
                self.empty(vma, &mut at, region.start, 0);
                if region.categories & (scan::PRESENT | scan::SWAPPED) == 0 {
                    self.empty(vma, &mut at, region.end, region.categories);
                    continue;
                }
                let hint = Hint {
                    leaf: match vma.kind {
                        ShapeKind::Hugetlb { leaf } => leaf,
                        _ if region.categories & scan::HUGE != 0 => Leaf::Pmd,
                        _ => Leaf::Pte,
                    },
                    zero: region.categories & scan::ZERO != 0,
                };
                let mut leaves = u64::MAX;
                self.entries(vma, at, region.end, hint, &mut leaves, progress)?;
                at = region.end;
            }
            self.empty(vma, &mut at, stop, 0);
            self.regions = regions;
        }
        Ok(())
    }

    /// Without `PAGEMAP_SCAN`: every entry, unless smaps counts nothing; PMD leaves where whole aligned 2 MiB look
    /// like one, from the front, as many as smaps counts.
    fn read_all(
        &mut self,
        mapping: &Mapping,
        vma: &mut ShapeVma,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        if mapping.counted && mapping.resident_kb == 0 && mapping.swap_kb == 0 {
            // Reservations of terabytes; what smaps does not count (zero pages) is lost, as `missing` says.
            let mut at = mapping.start;
            self.empty(vma, &mut at, mapping.end, 0);
            return Ok(());
        }
        let (leaf, mut leaves) = match vma.kind {
            ShapeKind::Hugetlb { leaf } => (leaf, u64::MAX),
            _ => (Leaf::Pmd, mapping.pmd_kb / 2048),
        };
        self.entries(vma, mapping.start, mapping.end, Hint { leaf, zero: false }, &mut leaves, progress)
    }

    /// Pushes pages without an entry up to address `end`.
    fn empty(&mut self, vma: &mut ShapeVma, at: &mut u64, end: u64, categories: u64) {
        if *at < end {
            let in_table = !self.sight.tables || categories & scan::WRITTEN != 0;
            let state = if in_table { PageState::None } else { PageState::Hole };
            vma.push((end - *at) / PAGE_BYTES, state, true);
            self.last_frame = None;
            *at = end;
        }
    }

    /// Pushes the pages of addresses `start..end` by their pagemap entries, in chunks.
    fn entries(
        &mut self,
        vma: &mut ShapeVma,
        start: u64,
        end: u64,
        hint: Hint,
        leaves: &mut u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (mut page, end) = (start / PAGE_BYTES, end / PAGE_BYTES);
        while page < end {
            let stop = end.min((page / CHUNK_PAGES + 1) * CHUNK_PAGES);
            let mut entries = std::mem::take(&mut self.entries);
            pagemap::read(self.pagemap, page, stop - page, &mut entries)
                .map_err(|e| self.process.explain("pagemap", &e))?;
            if (entries.len() as u64) < stop - page {
                return Err(self.process.ended("reading pagemap"));
            }
            self.chunk(vma, page, &entries, hint, leaves);
            self.nr_done += stop - page;
            self.entries = entries;
            page = stop;
            progress(self.nr_done);
        }
        Ok(())
    }

    fn chunk(&mut self, vma: &mut ShapeVma, first: u64, entries: &[Entry], hint: Hint, leaves: &mut u64) {
        let hugetlb = matches!(vma.kind, ShapeKind::Hugetlb { .. });
        let unit = hint.leaf.nr_pages() as usize;
        let mut i = 0;
        while i < entries.len() {
            let aligned = (first + i as u64).is_multiple_of(unit as u64);
            if hint.leaf != Leaf::Pte && aligned && *leaves > 0 && i + unit <= entries.len() {
                let block = &entries[i..i + unit];
                if let Some(flags) = one_leaf(block, self.sight.frames) {
                    let flags = pagemap::present_flags(flags, hint.zero);
                    let state = PageState::Present { leaf: hint.leaf, flags };
                    self.push(vma, unit as u64, state, block[0], block[unit - 1]);
                    *leaves -= 1;
                    i += unit;
                    continue;
                }
                if hugetlb {
                    // No small pages there: all of it is none, or on its way.
                    let state = if block[0].is_present() { PageState::None } else { block[0].state(false) };
                    self.push(vma, unit as u64, state, block[0], block[unit - 1]);
                    i += unit;
                    continue;
                }
            }
            if self.sight.scan && (hint.leaf != Leaf::Pte || entries[i].state(false) == PageState::None) {
                self.nr_changed += 1;
            }
            self.push(vma, 1, entries[i].state(hint.zero), entries[i], entries[i]);
            i += 1;
        }
    }

    fn push(&mut self, vma: &mut ShapeVma, nr_pages: u64, state: PageState, first: Entry, last: Entry) {
        let follows = !self.sight.frames || self.last_frame.is_some_and(|frame| frame + 1 == first.frame());
        vma.push(nr_pages, state, follows);
        self.last_frame = state.has_frames().then(|| last.frame());
    }
}

/// The flags of a block if it may be one leaf: all present, of one kind, in frames that follow each other and start
/// aligned. Exclusive if every page is, dirty if any page is.
fn one_leaf(block: &[Entry], frames: bool) -> Option<PageFlags> {
    let first = block[0];
    let kind = PageFlags::FILE | PageFlags::UFFD_WP;
    let mut flags = first.flags();
    if frames && !first.frame().is_multiple_of(block.len() as u64) {
        return None;
    }
    for (expected, entry) in (first.frame()..).zip(block) {
        let same_kind = entry.flags() & kind == flags & kind;
        if !entry.is_present() || !same_kind || (frames && entry.frame() != expected) {
            return None;
        }
        flags = (flags & entry.flags()) | (flags | entry.flags()) & (PageFlags::SOFT_DIRTY | kind);
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leaf_needs_alike_present_aligned_consecutive_pages() {
        let block =
            |n: u64, first: u64| -> Vec<Entry> { (0..n).map(|i| Entry(0x81 << 56 | (first + i))).collect() };
        let good = block(512, 1024);
        assert_eq!(one_leaf(&good, true), Some(PageFlags::EXCLUSIVE));
        assert_eq!(one_leaf(&block(512, 1025), true), None);
        assert_eq!(one_leaf(&block(512, 1025), false), Some(PageFlags::EXCLUSIVE));
        let changed = |at: usize, entry: u64| {
            let mut block = good.clone();
            block[at] = Entry(entry);
            one_leaf(&block, true)
        };
        assert_eq!(changed(7, 0), None);
        assert_eq!(changed(7, 0x81 << 56 | 5), None);
        assert_eq!(changed(7, 0xa1 << 56 | 1031), None);
        assert_eq!(changed(7, 0x80 << 56 | 1031), Some(PageFlags::empty()));
        assert_eq!(
            changed(7, 0x81 << 56 | 1 << 55 | 1031),
            Some(PageFlags::EXCLUSIVE | PageFlags::SOFT_DIRTY)
        );
    }
}
