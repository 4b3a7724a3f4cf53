//! A block device: its contents, readahead into its page cache, write-back.
//!
//! Models a RAM disk (drivers/block/brd.c), whose transfers end before they return, mm/readahead.c
//! (`page_cache_ra_unbounded`, `page_cache_sync_ra`, `page_cache_async_ra`), `do_sync_mmap_readahead` and
//! `do_async_mmap_readahead` (mm/filemap.c), `folio_clear_dirty_for_io` and `folio_mkclean`, 6.12. Left out: large
//! folios in its cache (6.12 has none), periodic write-back, dirty throttling.

use crate::addr::{Level, PAGE_SIZE, PAGES_PER_PMD, PageRange, Pfn};
use crate::arch::Entry;
use crate::memory::page::{PG_DIRTY, PG_READAHEAD};
use crate::memory::{PageKind, Phys};
use crate::mm::file::{Cached, File, FileKind, Inode};
use crate::mm::system::System;
use crate::mm::vma::{Backing, VmFlags, Vma};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Pages of the device: 256 MiB.
const NR_PAGES: u64 = (256 << 20) / PAGE_SIZE;
/// `ra_pages`: 128 KiB.
const RA_PAGES: u64 = 32;
/// Misses in a row after which mmap read-around stops (MMAP_LOTSAMISS).
const LOTSAMISS: u64 = 100;

type Block = [u8; PAGE_SIZE as usize];

/// The block device of a machine.
#[derive(Debug, Default)]
pub struct BlockDevice {
    /// Blocks that were ever written; the rest read as zeroes.
    blocks: Mutex<BTreeMap<u64, Box<Block>>>,
    /// Its inode, while it is open.
    inode: Mutex<Weak<Inode>>,
}

impl BlockDevice {
    /// The inode that every open file of the device shares.
    pub(crate) fn inode(&self, system: &Arc<System>) -> Arc<Inode> {
        let mut slot = self.inode.lock();
        if let Some(inode) = slot.upgrade() {
            return inode;
        }
        let inode = Inode::new(system, FileKind::Block, NR_PAGES);
        *slot = Arc::downgrade(&inode);
        inode
    }
    /// Stores a page on the device.
    pub(crate) fn write(&self, phys: &Phys, index: u64, from: Pfn) {
        let mut block = Box::new([0; PAGE_SIZE as usize]);
        block.iter_mut().enumerate().for_each(|(i, b)| *b = phys.load_byte(from, i));
        self.blocks.lock().insert(index, block);
    }
    fn read(&self, phys: &Phys, index: u64, to: Pfn) {
        match self.blocks.lock().get(&index) {
            None => phys.zero(to, 0),
            Some(block) => block.iter().enumerate().for_each(|(i, &b)| phys.store_byte(to, i, b)),
        }
    }
}

/// Readahead state of an open file (`struct file_ra_state`).
#[derive(Debug, Default)]
pub(crate) struct Readahead {
    start: u64,
    size: u64,
    async_size: u64,
    /// Cache misses of mmap accesses, less the hits.
    pub(crate) mmap_miss: u64,
}

impl Inode {
    /// One page of the device comes into the cache (`filemap_read_folio` on a new folio), unless it is there.
    pub(crate) fn read_page(&self, index: u64, marked: bool) -> bool {
        if self.any_in(index, 1) {
            return true;
        }
        let Ok(pfn) = self.phys().alloc(PageKind::File, 0) else { return false };
        self.system.block.read(self.phys(), index, pfn);
        if marked {
            self.phys().page(pfn).set(PG_READAHEAD);
        }
        self.add(index, pfn);
        self.phys().put(pfn, 1);
        true
    }
    /// `do_page_cache_ra`: reads what is missing of `nr` pages and marks the page `lookahead` before the end, where the
    /// next window is to be started.
    fn read_ahead(&self, first: u64, nr: u64, lookahead: u64) {
        let Some(left) = self.size().checked_sub(first).filter(|&l| l > 0) else { return };
        let nr = nr.min(left);
        for i in 0..nr {
            if !self.read_page(first + i, i + lookahead == nr) {
                break;
            }
        }
    }
    /// The first index from `index` on at which nothing is cached, looking at `max` of them (`page_cache_next_miss`).
    fn next_miss(&self, index: u64, max: u64) -> u64 {
        (index..index + max).find(|&i| !self.any_in(i, 1)).unwrap_or(index + max)
    }
    /// How many pages in a row are cached that end with `last`, looking at `max` of them (`page_cache_prev_miss`), and
    /// whether they reach the start of the file.
    fn cached_before(&self, last: u64, max: u64) -> (u64, bool) {
        let nr = (0..max.min(last + 1)).take_while(|&i| self.any_in(last - i, 1)).count() as u64;
        (nr, nr == last + 1)
    }
    /// `filemap_fdatawrite_range` and the wait: dirty pages of `range` become clean, read-only where they are mapped
    /// shared, and reach the device.
    pub(crate) fn write_back(self: &Arc<Self>, range: core::ops::Range<u64>) {
        let dirty = self.folios_in(range, |h| self.phys().page(h).has(PG_DIRTY));
        for head in dirty {
            let page = self.phys().page(head);
            page.lock_folio();
            if !self.holds(head) || !page.has(PG_DIRTY) {
                page.unlock();
                self.phys().put(head, 1);
                continue;
            }
            // The dirty bit goes first, under the folio lock: whoever makes an entry writable afterwards sets it again,
            // and an entry that was made writable before is cleaned below.
            page.clear(PG_DIRTY);
            let index = page.index();
            page.unlock();
            self.mkclean(head, index);
            self.system.block.write(self.phys(), index, head);
            self.phys().put(head, 1);
        }
    }
    /// `folio_mkclean`: takes write permission and dirt from every shared mapping of an order-0 folio.
    fn mkclean(self: &Arc<Self>, head: Pfn, index: u64) {
        if self.phys().mapcount(head) == 0 {
            return;
        }
        self.each_mapping(index..index + 1, |mm, vma, part| {
            if vma.is_shared() {
                let event = Event::new(EventKind::ProtectionPage, part);
                mm.notifier.during(&event, || mm.mkclean_pte(part, head));
            }
            true
        });
    }
}

impl Mm {
    fn mkclean_pte(&self, part: PageRange, pfn: Pfn) {
        let Ok(pmd) = self.lookup(part.start(), Level::Pmd) else { return };
        let Some((table, _guard)) = self.lock_pte_table(pmd) else { return };
        let i = part.start().index(Level::Pte);
        let e = table.ptep_get(i);
        if e.is_present() && e.pfn() == pfn && (e.is_dirty() || e.is_write()) {
            table.replace(i, Entry::NONE);
            table.set(i, e.wrprotect().mkclean());
        }
    }

    /// msync(2) with MS_SYNC.
    ///
    /// # Errors
    /// -ENOMEM if part of the range is not mapped (the rest is written all the same), -EINVAL at a mapping of a device
    /// that cannot be synced.
    pub fn msync(&self, range: PageRange) -> Result<(), Errno> {
        let mut result = Ok(());
        let mut at = range.start();
        while at < range.end() {
            let vmas = self.mmap_read();
            let Some(vma) = vmas.find_from(at).filter(|v| v.start() < range.end()) else {
                return Err(Errno::NoMem);
            };
            if vma.start() > at {
                result = Err(Errno::NoMem);
                at = vma.start();
            }
            let end = vma.end().min(range.end());
            let (first, last) = (vma.index_of(at), vma.index_of(at) + end.pages_since(at));
            let backing = vma.is_shared().then(|| vma.backing.clone());
            // vfs_fsync_range runs without the mmap lock.
            drop(vmas);
            match backing {
                Some(Backing::File(file)) if file.kind() == FileKind::Block => {
                    file.inode().write_back(first..last);
                }
                Some(Backing::Pfnmap { .. } | Backing::Driver(_)) => return Err(Errno::Inval),
                _ => {}
            }
            at = end;
        }
        result
    }
}

impl File {
    /// `do_sync_mmap_readahead`: the page at `index` is not cached.
    pub(crate) fn sync_mmap_readahead(&self, vma: &Vma, index: u64) {
        let mut ra = self.readahead.lock();
        let (start, size, async_size) = if vma.has(VmFlags::HUGEPAGE) {
            // Two huge pages' worth, but in base pages: the cache of a block device has no large folios.
            ra.size = PAGES_PER_PMD * if vma.has(VmFlags::RAND_READ) { 1 } else { 2 };
            ra.async_size = PAGES_PER_PMD;
            (index - index % PAGES_PER_PMD, ra.size, ra.async_size)
        } else if vma.has(VmFlags::RAND_READ) {
            return;
        } else if vma.has(VmFlags::SEQ_READ) {
            match self.sequential_window(&mut ra, index) {
                Some(()) => (ra.start, ra.size, ra.async_size),
                None => (index, RA_PAGES, 0),
            }
        } else {
            if ra.mmap_miss < LOTSAMISS * 10 {
                ra.mmap_miss += 1;
            }
            if ra.mmap_miss > LOTSAMISS {
                return;
            }
            ra.start = index.saturating_sub(RA_PAGES / 2);
            ra.size = RA_PAGES;
            ra.async_size = RA_PAGES / 4;
            (ra.start, ra.size, ra.async_size)
        };
        self.inode().read_ahead(start, size, async_size);
    }
    /// `page_cache_sync_ra` for a request of the whole window: sets the window, or none to read just that much.
    fn sequential_window(&self, ra: &mut Readahead, index: u64) -> Option<()> {
        if index == 0 {
            (ra.start, ra.size, ra.async_size) = (0, RA_PAGES, RA_PAGES / 2);
            return Some(());
        }
        let (mut contiguous, from_start) = self.inode().cached_before(index - 1, RA_PAGES);
        if contiguous <= RA_PAGES {
            return None;
        }
        if from_start {
            contiguous *= 2;
        }
        (ra.start, ra.size, ra.async_size) = (index, (contiguous + RA_PAGES).min(RA_PAGES), 1);
        Some(())
    }
    /// `do_async_mmap_readahead`: the page at `index` is cached. True if it carried the mark and the next window was
    /// read (`page_cache_async_ra`).
    pub(crate) fn async_mmap_readahead(&self, vma: &Vma, index: u64, head: Pfn) -> bool {
        if vma.has(VmFlags::RAND_READ) {
            return false;
        }
        let mut ra = self.readahead.lock();
        ra.mmap_miss = ra.mmap_miss.saturating_sub(1);
        let page = self.inode().phys().page(head);
        if !page.has(PG_READAHEAD) {
            return false;
        }
        page.clear(PG_READAHEAD);
        if index == (ra.start + ra.size).wrapping_sub(ra.async_size) {
            ra.start += ra.size;
            ra.size = ra.size.max(next_size(ra.size));
        } else {
            let start = self.inode().next_miss(index + 1, RA_PAGES);
            if start - index > RA_PAGES {
                return true;
            }
            ra.start = start;
            ra.size = next_size(start - index + RA_PAGES);
        }
        ra.async_size = ra.size;
        self.inode().read_ahead(ra.start, ra.size, ra.async_size);
        true
    }
    /// `filemap_map_pages`, its end: pages that fault-around found take misses back.
    pub(crate) fn note_hits(&self, hits: u64) {
        let mut ra = self.readahead.lock();
        ra.mmap_miss = ra.mmap_miss.saturating_sub(hits);
    }
    /// `force_page_cache_readahead` for MADV_WILLNEED on a block device.
    pub(crate) fn will_need(&self, first: u64, nr: u64) {
        debug_assert_eq!(self.kind(), FileKind::Block);
        self.inode().read_ahead(first, nr, 0);
    }
    /// The page of the device at `index`, read if need be, with a reference.
    pub(crate) fn read_one(&self, index: u64) -> Option<Pfn> {
        loop {
            if let Some(Cached::Folio(pfn)) = self.inode().get(index) {
                return Some(pfn);
            }
            if !self.inode().read_page(index, false) {
                return None;
            }
        }
    }
}

/// `get_next_ra_size`.
fn next_size(cur: u64) -> u64 {
    match cur {
        c if c < RA_PAGES / 16 => 4 * c,
        c if c <= RA_PAGES / 2 => 2 * c,
        _ => RA_PAGES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtAddr;
    use crate::arch::Geometry;
    use crate::memory::PhysConfig;
    use crate::mm::mmap::{MapFlags, MapKind};
    use crate::mm::system::Settings;
    use crate::mm::testing::Heard;
    use crate::mm::touch::Access;
    use crate::notifier::Invalidate;

    const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

    fn page(i: u64) -> VirtAddr {
        VirtAddr::new(0x2000_0000_0000).add_pages(i)
    }
    fn pages(i: u64, nr: u64) -> PageRange {
        PageRange::pages(page(i), nr)
    }
    fn setup(nr: u64) -> (Arc<System>, Arc<Mm>) {
        let memory = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
        let sys = System::new(memory, Settings::default()).unwrap();
        let mm = Mm::new(&sys, Geometry::FourLevel).unwrap();
        let kind = MapKind::FileShared { file: File::block(&sys), writable: true };
        mm.mmap(pages(0, nr), RW, kind, MapFlags::default(), 0).unwrap();
        (sys, mm)
    }
    fn entry(mm: &Mm, i: u64) -> Entry {
        let Ok(pmd) = mm.lookup(page(i), Level::Pmd) else { return Entry::NONE };
        mm.lock_pte_table(pmd).map_or(Entry::NONE, |(t, _)| t.ptep_get(page(i).index(Level::Pte)))
    }

    #[test]
    fn a_read_page_becomes_writable_by_a_write_fault_and_msync_takes_that_back_in_an_event() {
        let (_sys, mm) = setup(8);
        mm.touch(page(2), Access::Read).unwrap();
        assert!(entry(&mm, 2).is_present() && !entry(&mm, 2).is_write());
        mm.touch(page(2), Access::Write(5)).unwrap();
        assert!(entry(&mm, 2).is_write() && entry(&mm, 2).is_dirty());
        let heard = Arc::new(Heard::default());
        let sub = mm.notifier.insert(pages(0, 8), Arc::clone(&heard) as Arc<dyn Invalidate>);
        mm.msync(pages(0, 8)).unwrap();
        assert!(!entry(&mm, 2).is_write() && !entry(&mm, 2).is_dirty());
        assert_eq!(*heard.0.lock(), [(EventKind::ProtectionPage, pages(2, 1))]);
        mm.msync(pages(0, 8)).unwrap();
        assert_eq!(heard.0.lock().len(), 1, "nothing is dirty any more");
        mm.notifier.remove(&sub);
        assert_eq!(mm.msync(pages(4, 8)), Err(Errno::NoMem));
    }

    #[test]
    fn the_cache_goes_with_the_last_close_and_the_contents_stay() {
        let (sys, mm) = setup(8);
        mm.touch(page(1), Access::Write(77)).unwrap();
        assert_eq!(File::block(&sys).inode().nr_cached(), RA_PAGES);
        mm.munmap(pages(0, 8)).unwrap();
        let file = File::block(&sys);
        assert_eq!(file.inode().nr_cached(), 0);
        mm.mmap(pages(0, 8), RW, MapKind::FilePrivate(file), MapFlags::default(), 0).unwrap();
        assert_eq!(mm.touch(page(1), Access::Read), Ok(77));
    }

    #[test]
    fn a_cpu_that_waited_for_the_read_faults_around_and_a_device_maps_one_page() {
        let (_sys, mm) = setup(64);
        // Read-around brings the 32 pages from 4 on and marks 28, 8 before their end: that one is not mapped ahead.
        mm.touch(page(20), Access::Read).unwrap();
        let mapped: Vec<_> = (0..64).filter(|&i| entry(&mm, i).is_present()).collect();
        assert_eq!(mapped, (16..32).filter(|&i| i != 28).collect::<Vec<_>>());
        let (_sys, mm) = setup(64);
        let vmas = mm.mmap_read();
        let vma = vmas.find(page(20)).unwrap();
        let flags = crate::mm::fault::FaultFlags::REMOTE;
        mm.locked(&vmas).handle_mm_fault(vma, page(20), flags, &mut crate::counters::NoCounts);
        assert_eq!((0..64).filter(|&i| entry(&mm, i).is_present()).collect::<Vec<_>>(), [20]);
    }
}
