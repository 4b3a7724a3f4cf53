//! Tables written directly: how shapes of a terabyte come to be in seconds.
//!
//! Contract: what a [`Builder`] leaves behind is what operations could have left behind, provided that the caller keeps
//! each function's duties; tests compare the two (`workloads/tests/shapes.rs`). Entries are the caller's values, since a
//! shape knows them; tables, deposits, locks and the order of publication are kept here.
//!
//! Protocol: the builder holds the mmap lock for writing. A table is filled while nobody can reach it and published
//! with one release store, as `pmd_install` does, so walks that hold no mmap lock see all of it or none.
//! New entries need no notifier event; [`Builder::restore`], which replaces present ones, runs inside a CLEAR event.
//!
//! Neighbours: [`crate::memory::Phys::alloc_extent`] gives frames whose untouched struct page already means what a
//! PTE-mapped exclusive page needs; [`crate::mm::rmap`] counts everything else.

use crate::addr::{Level, PAGES_PER_PMD, PTRS_PER_TABLE, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::memory::OutOfFrames;
use crate::mm::tables::Slot;
use crate::mm::vma::{Backing, VmFlags, Vma, VmaTree};
use crate::mm::{Mm, MmapWrite};
use crate::notifier::{Event, EventKind};

/// Writes the tables of one address space. See the module.
#[derive(Debug)]
pub struct Builder<'a> {
    mm: &'a Mm,
    vmas: MmapWrite<'a>,
}

impl Mm {
    /// Starts building; takes the mmap lock for writing until the builder goes.
    pub fn build(&self) -> Builder<'_> {
        Builder { mm: self, vmas: self.mmap_write() }
    }
}

impl Mm {
    /// Forgets every VMA and table without freeing a frame, for machines that go away as a whole: the host takes the
    /// memory back in one piece, where [`Mm::exit`] would touch the struct page of every mapped frame (16 GiB of them
    /// for a terabyte). No event is issued. Anonymous frames stay in use for as long as the machine lives; mappings of
    /// files are taken away properly, since a file outlives them.
    pub fn abandon(&self) {
        let mut vmas = self.mmap_write();
        for vma in vmas.iter().filter(|v| !v.is_anonymous()) {
            self.zap_page_range(vma, vma.range);
            self.unlink_file(vma, vma.range);
        }
        *vmas = VmaTree::default();
        (0..PTRS_PER_TABLE).for_each(|i| self.root().set(i, Entry::NONE));
    }
}

impl Vma {
    /// The PTE-level entry that a write fault leaves behind for a new anonymous page: `mk_pte`, dirty, and writable
    /// where the VMA is (`do_anonymous_page`). [`Entry::mkhuge`] makes it that of `do_huge_pmd_anonymous_page`.
    pub fn anon_entry(&self, pfn: Pfn) -> Entry {
        let e = Entry::leaf(pfn, self.page_prot()).mkdirty();
        if self.has(VmFlags::WRITE) { e.mkwrite() } else { e }
    }
}

impl<'a> Builder<'a> {
    /// The address space and its VMAs.
    pub(crate) fn parts(&self) -> (&Mm, &VmaTree) {
        (self.mm, &self.vmas)
    }
    /// The VMA that holds `addr`.
    pub fn vma(&self, addr: VirtAddr) -> Option<&Vma> {
        self.vmas.find(addr)
    }
    /// Gives the VMA at `addr` its anon_vma, as its first anonymous fault would (`vmf_anon_prepare`). Needed before
    /// anonymous pages are mapped there.
    pub fn anon_prepare(&self, addr: VirtAddr) {
        if let Some(vma) = self.vmas.find(addr)
            && vma.anon_vma() == 0
        {
            let id = match self.vmas.reusable_anon_vma(vma) {
                0 => self.mm.system().new_id(),
                id => id,
            };
            vma.set_anon_vma(id);
        }
    }

    /// Writes the PTE-level entry of every page of `range`: `entry(i)` for page `i` of it, called once each in
    /// ascending order. Tables come into being where there are none; no entry may stand there yet.
    ///
    /// The caller accounts for the frames: each present entry is one mapping and one reference, which is what an
    /// untouched frame of [`crate::memory::Phys::alloc_extent`] has.
    ///
    /// # Errors
    /// [`OutOfFrames`] for tables; what was written so far stays.
    #[inline]
    pub fn ptes(&mut self, range: PageRange, mut entry: impl FnMut(u64) -> Entry) -> Result<(), OutOfFrames> {
        let mut addr = range.start();
        let mut page = 0;
        while addr < range.end() {
            let next = addr.next_boundary(Level::Pmd, range.end());
            let nr = next.pages_since(addr);
            let pmd = self.mm.lookup_alloc(addr, Level::Pmd)?;
            if nr == PAGES_PER_PMD && pmd.read().is_none() {
                // The whole table is new: nobody sees it before the store to the PMD. Leaving out its zeroing was tried:
                // no faster, since `rep stosq` brings the lines into the cache that the entries then fill.
                let table = self.mm.phys().alloc_table()?;
                for i in 0..PTRS_PER_TABLE {
                    table.set_unpublished(i, entry(page + i as u64));
                }
                let _guard = pmd.lock();
                pmd.set(Entry::table(table.pfn()));
            } else {
                self.ptes_of_part(pmd, addr, nr, |i| entry(page + i))?;
            }
            page += nr;
            addr = next;
        }
        Ok(())
    }

    fn ptes_of_part(
        &mut self,
        pmd: Slot<'_>,
        addr: VirtAddr,
        nr: u64,
        mut entry: impl FnMut(u64) -> Entry,
    ) -> Result<(), OutOfFrames> {
        if pmd.read().is_none() {
            self.mm.install_table(pmd)?;
        }
        let (table, _guard) = self.mm.lock_pte_table(pmd).expect("a PTE table, not a huge leaf");
        let first = addr.index(Level::Pte);
        for i in 0..nr as usize {
            debug_assert!(table.ptep_get(first + i).is_none(), "an entry already stands at {addr:?} + {i}");
            table.set(first + i, entry(i as u64));
        }
        Ok(())
    }

    /// A PTE table of none entries wherever `range` has none.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn empty_tables(&mut self, range: PageRange) -> Result<(), OutOfFrames> {
        let mut addr = range.start();
        while addr < range.end() {
            let pmd = self.mm.lookup_alloc(addr, Level::Pmd)?;
            if pmd.read().is_none() {
                self.mm.install_table(pmd)?;
            }
            addr = addr.next_boundary(Level::Pmd, range.end());
        }
        Ok(())
    }

    /// Puts the leaf `e`, or the migration entry of one, at the PMD entry of `addr`, which is none, and in anonymous VMAs
    /// deposits the table that a later split will need.
    ///
    /// The caller accounts for the folio, by [`crate::memory::Phys::add_new_anon_rmap_huge`] or
    /// [`crate::memory::Phys::add_rmap_huge`]; the huge zero page needs nothing.
    ///
    /// # Errors
    /// [`OutOfFrames`] for tables.
    pub fn pmd_leaf(&mut self, addr: VirtAddr, e: Entry) -> Result<(), OutOfFrames> {
        debug_assert!((e.is_huge() || e.is_swp()) && addr.is_aligned(Level::Pmd));
        let anonymous = self.vmas.find(addr).is_some_and(Vma::is_anonymous);
        let pmd = self.mm.lookup_alloc(addr, Level::Pmd)?;
        let spare = if anonymous { Some(self.mm.phys().alloc_table()?) } else { None };
        let _guard = pmd.lock();
        debug_assert!(pmd.read().is_none(), "an entry already stands at {addr:?}");
        if let Some(spare) = spare {
            self.mm.deposit(pmd.table, spare);
        }
        pmd.set(e);
        Ok(())
    }

    /// Puts the new folio headed by `head` into the page cache of the file that the VMA at `addr` maps, at the index
    /// mapped there (`filemap_add_folio`). The folio's one reference stays the caller's, for the entry to come. False
    /// if the VMA maps no file or something is cached there.
    pub fn add_to_cache(&self, addr: VirtAddr, head: Pfn) -> bool {
        let vma = self.vmas.find(addr);
        vma.is_some_and(|vma| match &vma.backing {
            Backing::File(file) => file.inode().add(vma.index_of(addr), head),
            _ => false,
        })
    }

    /// Takes away every entry of `range`, which lies in one VMA, in a CLEAR event, and every table that lies wholly inside.
    pub fn clear(&mut self, range: PageRange) {
        if let Some(vma) = self.vmas.find(range.start()) {
            self.mm.zap_page_range_single(vma, range);
            self.mm.free_pgtables(range, range);
        }
    }

    /// Brings PTE-level entries back to an earlier state: `entry(i, now)` says what page `i` of `range` shall hold.
    /// Where that is another frame than now, or none, the mapping of the present page is dropped (and the page freed with
    /// its last), and one of the other is added. What a non-present entry holds is the caller's to account for, and no
    /// such entry may be replaced. Spans without a PTE table are left alone. Runs in a CLEAR event.
    pub fn restore(&mut self, range: PageRange, mut entry: impl FnMut(u64, Entry) -> Entry) {
        let (mm, phys) = (self.mm, self.mm.phys());
        mm.notifier.during(&Event::new(EventKind::Clear, range), || {
            let mut addr = range.start();
            while addr < range.end() {
                let next = addr.next_boundary(Level::Pmd, range.end());
                if let Ok(pmd) = mm.lookup(addr, Level::Pmd)
                    && let Some((table, _guard)) = mm.lock_pte_table(pmd)
                {
                    let first = addr.pages_since(range.start());
                    for i in 0..next.pages_since(addr) {
                        let index = addr.add_pages(i).index(Level::Pte);
                        let now = table.ptep_get(index);
                        let then = entry(first + i, now);
                        if then == now {
                            continue;
                        }
                        let frame = |e: Entry| (e.is_present() && !e.is_special()).then(|| e.pfn());
                        if frame(then) != frame(now) {
                            frame(then).into_iter().for_each(|pfn| phys.add_rmap_pte(pfn));
                            table.replace(index, then);
                            frame(now).into_iter().for_each(|pfn| mm.system().unmap_pte(pfn));
                        } else {
                            table.replace(index, then);
                        }
                    }
                }
                addr = next;
            }
        });
    }
}
