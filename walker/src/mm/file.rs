//! Files and their page cache: `struct file`, `struct address_space`, the list of its mappings, truncation.
//!
//! Models mm/filemap.c (lookup, removal), mm/truncate.c and `unmap_mapping_pages` of mm/memory.c, 6.12. Sizes are
//! whole pages. What the kernel keeps in the inode is [`Inode`]; a [`File`] is one open of it.
//!
//! | file | what |
//! |------|------|
//! | [`crate::mm::filemap`] | faults in file mappings, fault-around, reads of a block device |
//! | [`crate::mm::shmem`] | shared memory and tmpfs: allocation, writes, hole punching |
//! | [`crate::mm::block`] | the block device: its contents, readahead, write-back, msync |
//!
//! # Locks
//!
//! A folio is in the cache while its `owner` names the inode; that changes only under the folio lock and the lock of
//! the cache together, so whoever holds a locked folio with the right owner may map it. A folio leaves the cache only
//! unmapped: it is unmapped first, then locked, and unmapped again if a fault was faster (the kernel unmaps under the
//! folio lock; here the mmap lock, which stands for i_mmap_rwsem, comes first).

use crate::addr::{PAGES_PER_PMD, PMD_ORDER, PageRange, Pfn};
use crate::memory::page::{PG_DIRTY, PG_LOCKED, PG_REFERENCED};
use crate::memory::{PageKind, Phys};
use crate::mm::Mm;
use crate::mm::block::Readahead;
use crate::mm::system::System;
use crate::mm::vma::{Backing, Vma};
use crate::mm::zap::ZapDetails;
use crate::notifier::{Event, EventKind};
use crate::sync::{AtomicU64, Mutex, Ordering::*};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Shared anonymous memory.
    Shmem,
    /// A file on tmpfs mounted without huge pages.
    Tmpfs,
    /// A block device: dirty pages are tracked for write-back.
    Block,
}

/// An open file (`struct file`).
#[derive(Debug)]
pub struct File {
    id: u64,
    inode: Arc<Inode>,
    /// `f_ra`.
    pub(crate) readahead: Mutex<Readahead>,
}

impl File {
    pub(crate) fn open(system: &System, inode: Arc<Inode>) -> Arc<File> {
        Arc::new(File { id: system.new_id(), inode, readahead: Mutex::default() })
    }
    /// The file behind a shared anonymous mapping.
    pub fn shmem(system: &Arc<System>, nr_pages: u64) -> Arc<File> {
        File::open(system, Inode::new(system, FileKind::Shmem, nr_pages))
    }
    /// A new, empty file on tmpfs.
    pub fn tmpfs(system: &Arc<System>) -> Arc<File> {
        File::open(system, Inode::new(system, FileKind::Tmpfs, 0))
    }
    /// Opens the machine's one block device. Its cache goes when the last open file of it does.
    pub fn block(system: &Arc<System>) -> Arc<File> {
        File::open(system, system.block.inode(system))
    }
    /// Opens the same file again: another `struct file`, so that mappings of the two never merge.
    pub fn reopen(&self) -> Arc<File> {
        File::open(&self.inode.system, Arc::clone(&self.inode))
    }
    /// Identity: VMAs of the same open file may merge.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The cache and size behind it.
    pub fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }
    /// What kind of file it is.
    pub fn kind(&self) -> FileKind {
        self.inode.kind
    }
    /// `vma_fs_can_writeback` or page_mkwrite: writable shared entries start read-only.
    pub fn tracks_dirty(&self) -> bool {
        self.inode.kind == FileKind::Block
    }
}

/// What stands at an index of the cache (an entry of `i_pages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// A folio, by its head; it stands at the folio's first index alone.
    Folio(Pfn),
    /// One page of shared memory that is on the swap device (a value entry).
    Swapped(u64),
}

/// `struct address_space` and the inode around it.
#[derive(Debug)]
pub struct Inode {
    id: u64,
    kind: FileKind,
    pub(crate) system: Arc<System>,
    /// `i_size` in pages.
    size: AtomicU64,
    /// `i_rwsem`: one truncation, hole or write at a time.
    pub(crate) rwsem: Mutex<()>,
    /// `i_pages`, by first index.
    pages: Mutex<BTreeMap<u64, Cached>>,
    /// Address spaces that mapped the file and still live (`i_mmap`).
    mms: Mutex<Vec<Weak<Mm>>>,
}

impl Inode {
    pub(crate) fn new(system: &Arc<System>, kind: FileKind, nr_pages: u64) -> Arc<Inode> {
        Arc::new(Inode {
            id: system.new_id(),
            kind,
            system: Arc::clone(system),
            size: AtomicU64::new(nr_pages),
            rwsem: Mutex::new(()),
            pages: Mutex::default(),
            mms: Mutex::default(),
        })
    }
    /// Identity; the `owner` of its folios.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// What kind of file it is.
    pub fn kind(&self) -> FileKind {
        self.kind
    }
    /// `i_size` in pages.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Acquire)
    }
    pub(crate) fn set_size(&self, nr_pages: u64) -> u64 {
        self.size.swap(nr_pages, AcqRel)
    }
    #[inline]
    pub(crate) fn phys(&self) -> &Arc<Phys> {
        &self.system.phys
    }
    /// Pages in the cache, swapped-out ones not counted (`nrpages`).
    pub fn nr_cached(&self) -> u64 {
        let pages = self.pages.lock();
        pages.values().map(|c| if let Cached::Folio(h) = c { self.nr_pages(*h) } else { 0 }).sum()
    }
    fn nr_pages(&self, head: Pfn) -> u64 {
        1 << self.phys().page(head).order()
    }
    /// Whether the locked folio `head` is (still) in this cache (`folio->mapping == mapping`).
    #[inline]
    pub(crate) fn holds(&self, head: Pfn) -> bool {
        let page = self.phys().page(head);
        page.kind() == PageKind::File && page.owner() == self.id
    }

    /// `filemap_get_entry`: what stands at `index`, a folio with a reference taken on it, and the frame of the page.
    pub(crate) fn get(&self, index: u64) -> Option<Cached> {
        let pages = self.pages.lock();
        let (&first, &found) = pages.range(..=index).next_back()?;
        match found {
            Cached::Folio(head) if index - first < self.nr_pages(head) => {
                self.phys().page(head).get(1);
                Some(Cached::Folio(head.add(index - first)))
            }
            Cached::Swapped(_) if first == index => Some(found),
            _ => None,
        }
    }
    /// The folios that overlap the indices `first..=last`, at most as many as `into` takes, each with a reference.
    pub(crate) fn get_folios(&self, first: u64, last: u64, into: &mut [(u64, Pfn)]) -> usize {
        let pages = self.pages.lock();
        let before = pages.range(..first).next_back();
        let mut n = 0;
        for (&at, &cached) in before.into_iter().chain(pages.range(first..=last)) {
            let Cached::Folio(head) = cached else { continue };
            if n < into.len() && at + self.nr_pages(head) > first {
                self.phys().page(head).get(1);
                into[n] = (at, head);
                n += 1;
            }
        }
        n
    }
    /// Whether anything stands in `first..first + nr` (`xa_find(.., XA_PRESENT)`).
    pub(crate) fn any_in(&self, first: u64, nr: u64) -> bool {
        overlaps(&self.pages.lock(), self.phys(), first, nr)
    }
    /// `filemap_add_folio`: puts a new folio at `index`, unless something is there. The folio's one reference stays the
    /// caller's; the cache takes one per page.
    pub(crate) fn add(&self, index: u64, head: Pfn) -> bool {
        let page = self.phys().page(head);
        let mut pages = self.pages.lock();
        if overlaps(&pages, self.phys(), index, self.nr_pages(head)) {
            return false;
        }
        page.get(self.nr_pages(head) as i32);
        page.set_owner(self.id);
        page.set_index(index);
        pages.insert(index, Cached::Folio(head));
        true
    }
    /// `filemap_remove_folio`: the caller holds the folio lock and a reference of its own.
    pub(crate) fn remove(&self, head: Pfn) {
        let page = self.phys().page(head);
        debug_assert!(page.is_locked() && self.holds(head));
        let mut pages = self.pages.lock();
        pages.remove(&page.index());
        page.set_owner(0);
        page.clear(PG_DIRTY);
        drop(pages);
        self.phys().put(head, self.nr_pages(head) as i32);
    }
    /// Swap-out of shared memory (`shmem_delete_from_page_cache`): `slot` takes the place of the locked order-0 folio.
    /// The caller's reference stays.
    pub fn replace_by_slot(&self, head: Pfn, slot: u64) {
        let page = self.phys().page(head);
        debug_assert!(page.is_locked() && self.holds(head) && page.order() == 0);
        let mut pages = self.pages.lock();
        pages.insert(page.index(), Cached::Swapped(slot));
        page.set_owner(0);
        drop(pages);
        self.phys().put(head, 1);
    }
    /// Swap-in of shared memory (`shmem_add_to_page_cache` over a value entry): `head` takes the place of `slot`, if
    /// it is still there. As `Inode::add` otherwise.
    pub fn replace_slot(&self, index: u64, slot: u64, head: Pfn) -> bool {
        let page = self.phys().page(head);
        let mut pages = self.pages.lock();
        if pages.get(&index) != Some(&Cached::Swapped(slot)) {
            return false;
        }
        page.get(1);
        page.set_owner(self.id);
        page.set_index(index);
        pages.insert(index, Cached::Folio(head));
        true
    }
    /// The end of a collapse (`collapse_file`): the locked huge folio `new` takes the place of the locked small folios
    /// `old`, which must be all there is in its span. False, with nothing changed, if something else came there. The
    /// references of the caller stay.
    pub(crate) fn replace_by_huge(&self, start: u64, new: Pfn, old: &[Pfn]) -> bool {
        let phys = self.phys();
        let mut pages = self.pages.lock();
        let span = start..start + self.nr_pages(new);
        if !pages.range(span.clone()).map(|(_, c)| *c).eq(old.iter().map(|&h| Cached::Folio(h))) {
            return false;
        }
        for &head in old {
            pages.remove(&phys.page(head).index());
            phys.page(head).set_owner(0);
        }
        let page = phys.page(new);
        page.get(self.nr_pages(new) as i32);
        page.set_owner(self.id);
        page.set_index(start);
        pages.insert(start, Cached::Folio(new));
        drop(pages);
        old.iter().for_each(|&head| phys.put(head, self.nr_pages(head) as i32));
        true
    }
    /// What stands in `range`, wholly, by first index.
    fn whole_entries(&self, range: core::ops::Range<u64>) -> Vec<(u64, Cached)> {
        let pages = self.pages.lock();
        let within = |&(&at, &c): &(&u64, &Cached)| match c {
            Cached::Folio(h) => at + self.nr_pages(h) <= range.end,
            Cached::Swapped(_) => true,
        };
        pages.range(range.clone()).filter(within).map(|(&at, &c)| (at, c)).collect()
    }
    /// The folios in `range` that `wanted` accepts, each with a reference, by index.
    pub(crate) fn folios_in(&self, range: core::ops::Range<u64>, wanted: impl Fn(Pfn) -> bool) -> Vec<Pfn> {
        let pages = self.pages.lock();
        let folio = |(_, c): (&u64, &Cached)| match *c {
            Cached::Folio(h) if wanted(h) => {
                self.phys().page(h).get(1);
                Some(h)
            }
            _ => None,
        };
        pages.range(range).filter_map(folio).collect()
    }

    /// The address spaces that may map this file.
    pub fn mms(&self) -> Vec<Arc<Mm>> {
        self.mms.lock().iter().filter_map(Weak::upgrade).collect()
    }
    /// `vma_interval_tree_foreach`: every part of a VMA that maps indices of `range`, with the mmap lock held for
    /// reading, until `f` answers false.
    pub(crate) fn each_mapping(
        self: &Arc<Self>,
        range: core::ops::Range<u64>,
        mut f: impl FnMut(&Mm, &Vma, PageRange) -> bool,
    ) {
        for mm in self.mms() {
            let vmas = mm.mmap_read();
            for vma in vmas.iter() {
                let Backing::File(file) = &vma.backing else { continue };
                let (first, end) =
                    (range.start.max(vma.pgoff), range.end.min(vma.pgoff + vma.range.nr_pages()));
                if !Arc::ptr_eq(&file.inode, self) || first >= end {
                    continue;
                }
                let part = PageRange::pages(vma.start().add_pages(first - vma.pgoff), end - first);
                if !f(&mm, vma, part) {
                    return;
                }
            }
        }
    }
    /// `unmap_mapping_pages`: every mapping of `range` goes, private copies too if `even_cows`.
    pub(crate) fn unmap_mapping_pages(self: &Arc<Self>, range: core::ops::Range<u64>, even_cows: bool) {
        let details = ZapDetails { even_cows, drop_markers: false };
        self.each_mapping(range, |mm, vma, part| {
            mm.zap_page_range_single_details(vma, part, details);
            true
        });
    }
    /// Unmaps a folio everywhere and returns with it locked and in the cache, or false if it left the cache. The caller
    /// has a reference. `unmap_mapping_folio` (drops uffd-wp markers) or `try_to_unmap` (leaves them).
    fn lock_unmapped(self: &Arc<Self>, head: Pfn, drop_markers: bool) -> bool {
        let page = self.phys().page(head);
        loop {
            page.lock_folio();
            if !self.holds(head) {
                page.unlock();
                return false;
            }
            if self.phys().mapcount(head) == 0 {
                return true;
            }
            let first = page.index();
            let range = first..first + self.nr_pages(head);
            page.unlock();
            self.each_mapping(range, |mm, vma, part| {
                let details = ZapDetails { even_cows: false, drop_markers };
                mm.notifier.during(&Event::new(EventKind::Clear, part), || {
                    mm.zap_page_range_details(vma, part, details);
                });
                self.phys().mapcount(head) > 0
            });
        }
    }
    /// `truncate_inode_folio`. The caller has a reference.
    fn truncate_folio(self: &Arc<Self>, head: Pfn) {
        if self.lock_unmapped(head, true) {
            self.remove(head);
            self.phys().page(head).unlock();
        }
    }
    /// `truncate_inode_partial_folio`: zeroes what lies in `range` of a folio that crosses its edge, and splits the
    /// folio. The caller has a reference.
    fn truncate_partial(self: &Arc<Self>, head: Pfn, range: &core::ops::Range<u64>) {
        let page = self.phys().page(head);
        let (first, nr) = (page.index(), self.nr_pages(head));
        if range.start <= first && first + nr <= range.end {
            return self.truncate_folio(head);
        }
        for i in range.start.max(first)..range.end.min(first + nr) {
            self.phys().zero(head.add(i - first), 0);
        }
        page.set(PG_DIRTY);
        if nr > 1 && self.lock_unmapped(head, false) {
            self.split_folio(head, None);
            page.unlock();
        }
    }
    /// `split_huge_page_to_list_to_order` to base pages: the folio is locked, unmapped, and the caller has one
    /// reference; `kept`, any page of it, has both afterwards. Pages beyond the end of the file leave the cache and, but
    /// for `kept`, are gone. The tails that stay go to `list`, each with a reference. False if somebody else holds a
    /// reference.
    pub(crate) fn split_folio(&self, kept: Pfn, mut list: Option<&mut Vec<Pfn>>) -> bool {
        let phys = self.phys();
        let head = phys.head(kept);
        let page = phys.page(head);
        debug_assert!(page.is_locked() && phys.mapcount(head) == 0 && page.order() == PMD_ORDER);
        let (first, end) = (page.index(), self.size());
        let mut pages = self.pages.lock();
        if !page.freeze(1 + PAGES_PER_PMD as i32) {
            return false;
        }
        phys.cut(head);
        let inherited = [PG_DIRTY, PG_REFERENCED].into_iter().filter(|&f| page.has(f)).sum::<u64>();
        let mut dropped = Vec::new();
        for i in 1..PAGES_PER_PMD {
            let tail = phys.page(head.add(i));
            tail.set_order(0);
            tail.set(inherited);
            tail.set_index(first + i);
            let ours = head.add(i) == kept;
            if ours {
                tail.set(PG_LOCKED);
            }
            if first + i < end {
                tail.set_owner(self.id);
                pages.insert(first + i, Cached::Folio(head.add(i)));
                tail.unfreeze(1 + i32::from(ours) + i32::from(list.is_some()));
                list.iter_mut().for_each(|list| list.push(head.add(i)));
            } else if ours {
                tail.unfreeze(1);
            } else {
                dropped.push(head.add(i));
            }
        }
        page.set_order(0);
        if head != kept {
            page.unlock();
        }
        page.unfreeze(1 + i32::from(head == kept));
        drop(pages);
        dropped.into_iter().for_each(|pfn| phys.free(pfn));
        true
    }
    /// `shmem_undo_range`, `truncate_inode_pages_range`: everything in `range` leaves the cache; a folio that crosses
    /// an edge is split first.
    pub(crate) fn remove_range(self: &Arc<Self>, range: core::ops::Range<u64>) {
        self.remove_whole(range.clone());
        // The folios that hold the first and the last page of the range, if they reach beyond it.
        for index in [range.start, range.end - 1] {
            if let Some(Cached::Folio(pfn)) = self.get(index) {
                let head = self.phys().head(pfn);
                self.truncate_partial(head, &range);
                // On the head, which keeps the reference even if the folio was split under it.
                self.phys().put(head, 1);
            }
        }
        self.remove_whole(range);
    }
    fn remove_whole(self: &Arc<Self>, range: core::ops::Range<u64>) {
        for (index, cached) in self.whole_entries(range) {
            match cached {
                Cached::Folio(_) => {
                    // The reference is taken under the lock of the cache; the folio may be gone by now.
                    let Some(Cached::Folio(pfn)) = self.get(index) else { continue };
                    let head = self.phys().head(pfn);
                    self.truncate_folio(head);
                    self.phys().put(head, 1);
                }
                Cached::Swapped(slot) => {
                    let removed = {
                        let mut pages = self.pages.lock();
                        pages.get(&index) == Some(&cached) && pages.remove(&index).is_some()
                    };
                    if removed {
                        self.system.swap_free_entry(slot);
                    }
                }
            }
        }
    }
}

fn overlaps(pages: &BTreeMap<u64, Cached>, phys: &Phys, first: u64, nr: u64) -> bool {
    let Some((&at, cached)) = pages.range(..first + nr).next_back() else { return false };
    let len = if let Cached::Folio(h) = cached { 1 << phys.page(*h).order() } else { 1 };
    at + len > first
}

impl Drop for Inode {
    /// `evict_inode`; for a block device `blkdev_flush_mapping`, which writes back first.
    fn drop(&mut self) {
        let pages = core::mem::take(&mut *self.pages.lock());
        for (index, cached) in pages {
            match cached {
                Cached::Folio(head) => {
                    let page = self.phys().page(head);
                    if self.kind == FileKind::Block && page.has(PG_DIRTY) {
                        self.system.block.write(self.phys(), index, head);
                    }
                    debug_assert_eq!(self.phys().mapcount(head), 0, "a mapped page of a file that is gone");
                    page.set_owner(0);
                    self.phys().put(head, self.nr_pages(head) as i32);
                }
                Cached::Swapped(slot) => self.system.swap_free_entry(slot),
            }
        }
    }
}

impl Mm {
    /// `vma_link_file`: truncation must find this address space from now on. Needs the mmap lock for write.
    pub(crate) fn link_file(&self, vma: &Vma) {
        let Backing::File(file) = &vma.backing else { return };
        let mut mms = file.inode.mms.lock();
        mms.retain(|m| m.strong_count() > 0);
        let me = |m: &&Weak<Mm>| core::ptr::eq(m.as_ptr(), self);
        if mms.iter().find(me).is_none()
            && let Some(this) = self.family.lock().iter().find(me)
        {
            mms.push(Weak::clone(this));
        }
    }
    /// `unlink_file_vma`. The address space stays on the list until it dies: another VMA may map the same file, and
    /// one that maps it no more is only looked at.
    pub(crate) fn unlink_file(&self, _vma: &Vma, _range: PageRange) {}
}
