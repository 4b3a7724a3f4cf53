//! Faults in file mappings.
//!
//! Models `do_fault` with `do_read_fault`, `do_cow_fault`, `do_shared_fault`, `finish_fault`, `do_set_pmd`,
//! `do_fault_around`, `wp_page_shared` (mm/memory.c) and `filemap_map_pages`, `filemap_fault`, `filemap_page_mkwrite`
//! (mm/filemap.c), 6.12. A page is mapped with its folio locked and in the cache, so that truncation, which locks the
//! folio after unmapping it, cannot miss the entry.

use crate::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_ORDER, PTRS_PER_TABLE, Pfn};
use crate::arch::Entry;
use crate::counters::{Count, Counters};
use crate::memory::page::{PG_DIRTY, PG_HWPOISON, PG_READAHEAD, Page};
use crate::memory::table::Ptl;
use crate::memory::{PageKind, Table};
use crate::mm::fault::{FaultFlags, VmFault, Vmf};
use crate::mm::file::{Cached, File, FileKind};
use crate::mm::vma::{Backing, VmFlags};

/// `fault_around_pages`: 64 KiB.
const FAULT_AROUND: u64 = 16;
/// What ends a fault before an entry is made.
const STOP: VmFault = VmFault::ERROR.union(VmFault::NOPAGE).union(VmFault::RETRY);

/// A fault in a mapping of a page-cache file.
struct FileFault<'f, 'a> {
    vmf: &'f Vmf<'a>,
    file: &'a File,
    /// The entry that the decision is based on: none, or a uffd-wp marker.
    orig: Entry,
    /// `prealloc_pte`: a table, allocated before any page is locked.
    spare: Option<Table<'a>>,
}

impl<'a> Vmf<'a> {
    /// `do_fault`; `orig` is none or a uffd-wp marker.
    pub(crate) fn do_fault<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let Backing::File(file) = &self.vma.backing else {
            // No ->fault: what mmap put in is all there is.
            let Some((table, _guard)) = self.mm().lock_pte_table(self.pmd) else { return VmFault::SIGBUS };
            let gone = table.ptep_get(self.pte_index()).is_none();
            return if gone { VmFault::SIGBUS } else { VmFault::NOPAGE };
        };
        let mut fault = FileFault { vmf: self, file, orig, spare: None };
        let r = if !self.is_write() {
            fault.read_fault(c)
        } else if !self.vma.is_shared() {
            fault.cow_fault(c)
        } else {
            fault.shared_fault(c)
        };
        if let Some(unused) = fault.spare {
            self.mm().phys().free_table(unused.pfn());
        }
        r
    }

    /// `wp_page_shared` and `wp_pfn_shared`: a shared page becomes writable in place. Takes over the table lock.
    pub(crate) fn wp_page_shared<C: Counters>(
        &self,
        table: Table<'a>,
        guard: Ptl<'a>,
        orig: Entry,
        c: &mut C,
    ) -> VmFault {
        let phys = self.mm().phys();
        if orig.is_special() {
            self.wp_page_reuse(table, orig);
            return VmFault::empty();
        }
        let head = phys.head(orig.pfn());
        let page = phys.page(head);
        page.get(1);
        match &self.vma.backing {
            Backing::File(file) if file.tracks_dirty() => {
                drop(guard);
                let r = page_mkwrite(self, file, head);
                if !r.is_empty() {
                    phys.put(head, 1);
                    return r;
                }
                // finish_mkwrite_fault
                let again = self.mm().lock_pte_table(self.pmd);
                let same = again.filter(|(t, _)| t.ptep_get(self.pte_index()) == orig);
                let Some((table, _guard)) = same else {
                    page.unlock();
                    phys.put(head, 1);
                    return VmFault::NOPAGE;
                };
                self.wp_page_reuse(table, orig);
            }
            _ => {
                self.wp_page_reuse(table, orig);
                drop(guard);
                page.lock_folio();
            }
        }
        // fault_dirty_shared_page
        page.set(PG_DIRTY);
        page.unlock();
        phys.put(head, 1);
        c.add(Count::FaultsFileWrite, 1);
        VmFault::empty()
    }
}

/// `folio_lock` of a fault, which says so before it waits.
pub(crate) fn folio_lock<C: Counters>(folio: &Page, c: &mut C) {
    if !folio.try_lock() {
        c.folio_wait();
        folio.lock_folio();
    }
}

/// `do_page_mkwrite` with `filemap_page_mkwrite`: leaves the folio locked and dirty, or unlocked with NOPAGE if it left
/// the cache.
fn page_mkwrite(vmf: &Vmf<'_>, file: &File, head: Pfn) -> VmFault {
    let page = vmf.mm().phys().page(head);
    page.lock_folio();
    if !file.inode().holds(head) {
        page.unlock();
        return VmFault::NOPAGE;
    }
    page.set(PG_DIRTY);
    VmFault::empty()
}

impl<'a> FileFault<'_, 'a> {
    /// Gives a locked folio back.
    fn unlock_put(&self, pfn: Pfn) {
        let phys = self.vmf.mm().phys();
        let head = phys.head(pfn);
        phys.page(head).unlock();
        phys.put(head, 1);
    }
    /// `pte_alloc_one` ahead of the page lock, if there is no table yet.
    fn prealloc(&mut self) -> Result<(), VmFault> {
        if self.spare.is_none() && self.vmf.pmd.read().is_none() {
            self.spare = Some(self.vmf.mm().phys().alloc_table().map_err(|_| VmFault::OOM)?);
        }
        Ok(())
    }
    /// `pmd_install`: the spare table goes below a PMD entry that is none.
    fn install(&mut self) -> Result<(), VmFault> {
        let pmd = self.vmf.pmd;
        if self.spare.is_none() && pmd.read().is_none() {
            return self.vmf.mm().install_table(pmd).map_err(|_| VmFault::OOM);
        }
        let _guard = pmd.lock();
        if pmd.read().is_none()
            && let Some(table) = self.spare.take()
        {
            pmd.set(Entry::table(table.pfn()));
        }
        Ok(())
    }

    /// `do_read_fault`.
    fn read_fault<C: Counters>(&mut self, c: &mut C) -> VmFault {
        // uffd_disable_fault_around
        if !self.vmf.vma.has(VmFlags::UFFD_WP) {
            let r = self.fault_around(c);
            if !r.is_empty() {
                return r;
            }
        }
        let (pfn, major) = match self.fetch(c) {
            Ok(page) => page,
            Err(r) => return r,
        };
        let r = self.finish(pfn, false);
        self.unlock_put(pfn);
        if !r.intersects(STOP) {
            c.add(Count::FaultsFileRead, 1);
        }
        r | major
    }

    /// `do_cow_fault`: a private copy, without ever mapping the page of the file.
    fn cow_fault<C: Counters>(&mut self, c: &mut C) -> VmFault {
        let phys = self.vmf.mm().phys();
        self.vmf.anon_prepare();
        let Ok(copy) = phys.alloc(PageKind::Anon, 0) else { return VmFault::OOM };
        let (pfn, major) = match self.fetch(c) {
            Ok(page) => page,
            Err(r) => {
                phys.free(copy);
                return r;
            }
        };
        phys.copy(copy, pfn, 0);
        c.add(Count::BytesCopied, PAGE_SIZE);
        let r = self.finish(copy, true);
        self.unlock_put(pfn);
        if r.intersects(STOP) {
            phys.free(copy);
        } else {
            c.add(Count::FaultsCowCopy, 1);
        }
        r | major
    }

    /// `do_shared_fault`.
    fn shared_fault<C: Counters>(&mut self, c: &mut C) -> VmFault {
        let phys = self.vmf.mm().phys();
        let (pfn, major) = match self.fetch(c) {
            Ok(page) => page,
            Err(r) => return r,
        };
        let head = phys.head(pfn);
        if self.file.tracks_dirty() {
            phys.page(head).unlock();
            let r = page_mkwrite(self.vmf, self.file, head);
            if !r.is_empty() {
                phys.put(head, 1);
                return r;
            }
        }
        let r = self.finish(pfn, false);
        if !r.intersects(STOP) {
            // fault_dirty_shared_page
            phys.page(head).set(PG_DIRTY);
            c.add(Count::FaultsFileWrite, 1);
        }
        self.unlock_put(pfn);
        r | major
    }

    /// `__do_fault`: the page of the file, its folio locked and with a reference; with MAJOR if it had to be read.
    fn fetch<C: Counters>(&mut self, c: &mut C) -> Result<(Pfn, VmFault), VmFault> {
        self.prealloc()?;
        let index = self.vmf.vma.index_of(self.vmf.addr);
        let (pfn, major) = match self.file.kind() {
            FileKind::Block => self.filemap_fault(index, c)?,
            FileKind::Shmem | FileKind::Tmpfs => {
                (self.file.inode().shmem_get(index, Some(self.vmf), c)?, VmFault::empty())
            }
        };
        if self.vmf.mm().phys().page(pfn).has(PG_HWPOISON) {
            self.unlock_put(pfn);
            return Err(VmFault::HWPOISON);
        }
        Ok((pfn, major))
    }

    /// `filemap_fault`. Whoever allows a retry waits for a read without the mmap lock and comes again.
    fn filemap_fault<C: Counters>(&self, index: u64, c: &mut C) -> Result<(Pfn, VmFault), VmFault> {
        let (vmf, inode) = (self.vmf, self.file.inode());
        let phys = vmf.mm().phys();
        if index >= inode.size() {
            return Err(VmFault::SIGBUS);
        }
        let may_retry = vmf.flags & (FaultFlags::ALLOW_RETRY | FaultFlags::TRIED) == FaultFlags::ALLOW_RETRY;
        loop {
            let (pfn, major) = match inode.get(index) {
                Some(Cached::Folio(pfn)) => {
                    let read = !vmf.flags.contains(FaultFlags::TRIED)
                        && self.file.async_mmap_readahead(vmf.vma, index, phys.head(pfn));
                    if read && may_retry {
                        phys.put_folio(pfn, 1);
                        return Err(VmFault::RETRY);
                    }
                    (pfn, VmFault::empty())
                }
                _ => {
                    self.file.sync_mmap_readahead(vmf.vma, index);
                    let pfn = self.file.read_one(index).ok_or(VmFault::OOM)?;
                    if may_retry {
                        phys.put_folio(pfn, 1);
                        return Err(VmFault::RETRY | VmFault::MAJOR);
                    }
                    (pfn, VmFault::MAJOR)
                }
            };
            let head = phys.head(pfn);
            folio_lock(phys.page(head), c);
            if inode.holds(head) {
                return Ok((pfn, major));
            }
            // Truncated meanwhile.
            self.unlock_put(pfn);
        }
    }

    /// `finish_fault`: maps the page whose folio is locked, or the private copy of it. The mapping takes a reference of
    /// its own for a page of the file; a copy's one reference becomes the mapping's.
    fn finish(&mut self, pfn: Pfn, copy: bool) -> VmFault {
        let (vmf, vma, mm) = (self.vmf, self.vmf.vma, self.vmf.mm());
        let phys = mm.phys();
        let head = phys.head(pfn);
        let order = phys.page(head).order();
        if vmf.pmd.read().is_none() {
            if order == PMD_ORDER && self.set_pmd(head) {
                return VmFault::empty();
            }
            if let Err(r) = self.install() {
                return r;
            }
        }
        let (nr, idx, pte_off) = (1u64 << order, pfn.get() - head.get(), vmf.pte_index() as u64);
        let vma_off = vma.index_of(vmf.addr) - vma.pgoff;
        let armed = vma.flags.intersects(VmFlags::UFFD_MISSING | VmFlags::UFFD_WP);
        // Anonymous shared memory maps all of a large folio, where VMA and table have the room.
        let whole = nr > 1
            && self.file.is_anon_shmem()
            && !armed
            && vma_off >= idx
            && vma_off + (nr - idx) <= vma.range.nr_pages()
            && pte_off >= idx
            && pte_off + (nr - idx) <= PTRS_PER_TABLE as u64;
        let Some((table, _guard)) = mm.lock_pte_table(vmf.pmd) else { return VmFault::NOPAGE };
        let i = vmf.pte_index();
        if whole {
            let from = i - idx as usize;
            if (from..from + nr as usize).all(|i| table.ptep_get(i).is_none()) {
                for k in 0..nr {
                    phys.add_rmap_pte(head.add(k));
                    table.set(from + k as usize, self.entry(head.add(k)));
                }
                return VmFault::empty();
            }
        }
        if table.ptep_get(i) != self.orig {
            return VmFault::NOPAGE;
        }
        if copy {
            phys.add_new_anon_rmap(pfn, vma.index_of(vmf.addr));
        } else {
            phys.add_rmap_pte(pfn);
        }
        table.set(i, self.entry(pfn));
        VmFault::empty()
    }

    /// The entry of `set_pte_range`. Pages mapped ahead are young too (x86 wants no old prefaulted entries).
    fn entry(&self, pfn: Pfn) -> Entry {
        let mut e = Entry::leaf(pfn, self.vmf.vma.page_prot());
        if self.vmf.is_write() {
            e = self.vmf.maybe_mkwrite(e);
        }
        if self.orig.is_swp_uffd_wp_marker() { e.mkuffd_wp() } else { e }
    }

    /// `do_set_pmd`: one leaf for the whole folio; false to map by PTE.
    fn set_pmd(&self, head: Pfn) -> bool {
        let (vmf, vma, phys) = (self.vmf, self.vmf.vma, self.vmf.mm().phys());
        let poisoned = || (0..PAGES_PER_PMD).any(|i| phys.page(head.add(i)).has(PG_HWPOISON));
        if vma.has(VmFlags::NOHUGEPAGE) || !vma.suits_pmd(vmf.addr) || poisoned() {
            return false;
        }
        let _guard = vmf.pmd.lock();
        if !vmf.pmd.read().is_none() {
            return false;
        }
        let e = Entry::leaf(head, vma.page_prot()).mkhuge();
        phys.add_rmap_huge(head);
        vmf.pmd.set(if vmf.is_write() { vmf.maybe_mkwrite(e) } else { e });
        true
    }

    /// `do_fault_around`: the window is 16 entries aligned by their place in the table, cut by the VMA. Where the VMA
    /// cuts its start, it ends 16 entries after that start.
    fn fault_around<C: Counters>(&mut self, c: &mut C) -> VmFault {
        let (vmf, vma) = (self.vmf, self.vmf.vma);
        let pte_off = vmf.pte_index() as u64;
        let index = vma.index_of(vmf.addr);
        let vma_off = index - vma.pgoff;
        let from = (pte_off - pte_off % FAULT_AROUND).max(pte_off - pte_off.min(vma_off));
        let to =
            (from + FAULT_AROUND).min(PTRS_PER_TABLE as u64).min(pte_off + vma.range.nr_pages() - vma_off);
        if let Err(r) = self.prealloc() {
            return r;
        }
        let r = self.map_pages(index + from - pte_off, index + to - pte_off);
        if r.contains(VmFault::NOPAGE) {
            c.add(Count::FaultsFileRead, 1);
        }
        r
    }

    /// `filemap_map_pages`: maps what is in the cache of the indices `first..end` where entries are none. NOPAGE if the
    /// page that faulted is mapped now.
    fn map_pages(&mut self, first: u64, end: u64) -> VmFault {
        let inode = self.file.inode();
        let end = end.min(inode.size());
        if first >= end {
            return VmFault::empty();
        }
        let mut found = [(0, Pfn::new(0)); FAULT_AROUND as usize];
        let n = inode.get_folios(first, end - 1, &mut found);
        let mut hits = 0;
        let r = self.map_found(&found[..n], first, end, &mut hits);
        if self.file.tracks_dirty() {
            self.file.note_hits(hits);
        }
        r
    }

    /// Maps the folios of `found` (first index, head, one reference each) as far as they are ready.
    fn map_found(&mut self, found: &[(u64, Pfn)], first: u64, end: u64, hits: &mut u64) -> VmFault {
        let (vmf, mm, inode) = (self.vmf, self.vmf.mm(), self.file.inode());
        let phys = mm.phys();
        let mut r = VmFault::empty();
        let mut held: Option<(Table<'_>, Ptl<'_>)> = None;
        let mut over = false;
        for &(at, head) in found {
            let page = phys.page(head);
            // next_uptodate_folio
            if over || page.has(PG_READAHEAD) || !page.try_lock() {
                phys.put(head, 1);
                continue;
            }
            if !inode.holds(head) || at.max(first) >= inode.size() {
                self.unlock_put(head);
                continue;
            }
            if held.is_none() {
                // filemap_map_pmd, then the table
                let e = vmf.pmd.read();
                if e.is_huge() || (e.is_none() && page.order() == PMD_ORDER && self.set_pmd(head)) {
                    (over, r) = (true, VmFault::NOPAGE);
                } else {
                    let _ = self.install();
                    held = mm.lock_pte_table(vmf.pmd);
                    over = held.is_none();
                }
            }
            if let Some((table, _)) = &held {
                for index in at.max(first)..end.min(at + (1 << page.order())) {
                    let pfn = head.add(index - at);
                    let slot = vmf.pte_index() as u64 + index - vmf.vma.index_of(vmf.addr);
                    if phys.page(pfn).has(PG_HWPOISON) {
                        continue;
                    }
                    *hits += 1;
                    if table.ptep_get(slot as usize).is_none() {
                        phys.add_rmap_pte(pfn);
                        table.set(slot as usize, Entry::leaf(pfn, vmf.vma.page_prot()));
                        if slot == vmf.pte_index() as u64 {
                            r = VmFault::NOPAGE;
                        }
                    }
                }
            }
            // A folio is freed outside the table lock only if the cache dropped it meanwhile; that is harmless here.
            self.unlock_put(head);
        }
        r
    }
}
