//! mmap, munmap, population, and the change of a VMA part: `do_mmap`, `mmap_region`, `do_vmi_munmap`, `vma_modify`,
//! `populate_vma_page_range` (mm/mmap.c, mm/vma.c, mm/gup.c, 6.12).

use crate::addr::{Level, PageRange, VirtAddr};
use crate::counters::NoCounts;
use crate::memory::PageKind;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::hugetlb::{HugetlbFile, HugetlbMapping, hugetlb_map_range};
use crate::mm::system::File;
use crate::mm::vma::{Backing, VmFlags, Vma, VmaTree, anon_pgoff};
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::{Event, EventKind};
use std::sync::Arc;

/// What mmap maps.
#[derive(Clone, Debug)]
pub enum MapKind {
    /// MAP_PRIVATE | MAP_ANONYMOUS.
    Anon,
    /// MAP_SHARED | MAP_ANONYMOUS, and a shared /dev/zero: shared memory.
    SharedAnon,
    /// MAP_PRIVATE of /dev/zero: anonymous, bound to its own open file.
    ZeroDev,
    /// MAP_PRIVATE of a file.
    FilePrivate(Arc<File>),
    /// MAP_SHARED of a file; `writable` is whether the descriptor is open for writing.
    FileShared {
        /// The file.
        file: Arc<File>,
        /// Opened O_RDWR.
        writable: bool,
    },
    /// MAP_HUGETLB, private or shared, of `1 << order` base pages each.
    Hugetlb {
        /// 9 or 18.
        order: u8,
        /// MAP_SHARED.
        shared: bool,
    },
    /// MAP_SHARED of /dev/mem: page frames without struct pages.
    Pfnmap,
    /// A driver's mapping with its own pages put in by vm_insert_page.
    Driver,
}

/// MAP_* flags beside the kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapFlags {
    /// MAP_FIXED: what is there is unmapped first. Otherwise MAP_FIXED_NOREPLACE.
    pub fixed: bool,
    /// MAP_POPULATE.
    pub populate: bool,
    /// MAP_NORESERVE.
    pub noreserve: bool,
    /// MAP_LOCKED.
    pub locked: bool,
}

impl Mm {
    /// mmap(2) at a given place. `prot` is READ, WRITE, EXEC of [`VmFlags`]; `pgoff` in pages of the file.
    ///
    /// # Errors
    /// -EINVAL for an empty range, -EEXIST where something is mapped and `fixed` is not set, -EACCES for a writable
    /// shared mapping of a read-only descriptor, -ENOMEM when reservation or a driver's pages fail.
    pub fn mmap(
        &self,
        range: PageRange,
        prot: VmFlags,
        kind: MapKind,
        flags: MapFlags,
        pgoff: u64,
    ) -> Result<(), Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let range = match kind {
            MapKind::Hugetlb { order, .. } => hugetlb_map_range(range, order)?,
            _ => range,
        };
        let mut vmas = self.mmap_write();
        if !flags.fixed && vmas.overlapping(range).next().is_some() {
            return Err(Errno::Exist);
        }
        let mut vm_flags = prot | VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
        if flags.locked {
            vm_flags |= VmFlags::LOCKED;
        }
        let shared = VmFlags::SHARED | VmFlags::MAYSHARE;
        let (backing, pgoff) = match &kind {
            MapKind::Anon => (Backing::Anon, anon_pgoff(range.start())),
            MapKind::ZeroDev => (Backing::AnonZeroDev(self.system().new_id()), pgoff),
            MapKind::SharedAnon => {
                vm_flags |= shared;
                (Backing::File(File::shmem(self.system(), range.nr_pages())), 0)
            }
            MapKind::FilePrivate(f) => (Backing::File(Arc::clone(f)), pgoff),
            MapKind::FileShared { file, writable } => {
                vm_flags |= shared;
                if !writable {
                    if prot.contains(VmFlags::WRITE) {
                        return Err(Errno::Access);
                    }
                    vm_flags -= VmFlags::MAYWRITE | VmFlags::SHARED;
                }
                (Backing::File(Arc::clone(file)), pgoff)
            }
            MapKind::Hugetlb { order, shared: s } => {
                if *s {
                    vm_flags |= shared;
                }
                vm_flags |= VmFlags::HUGETLB | VmFlags::DONTEXPAND;
                let file = HugetlbFile::new(self.system(), *order, range.nr_pages());
                (Backing::Hugetlb(HugetlbMapping::new(file)), 0)
            }
            MapKind::Pfnmap => {
                vm_flags |= shared | VmFlags::PFNMAP | VmFlags::IO | VmFlags::DONTEXPAND | VmFlags::DONTDUMP;
                (Backing::Pfnmap { first_pfn: 0xa0000 + pgoff }, 0xa0000 + pgoff)
            }
            MapKind::Driver => {
                vm_flags |= shared | VmFlags::MIXEDMAP;
                let pages = (0..range.nr_pages())
                    .map(|_| {
                        let pfn = self.phys().alloc(PageKind::Driver, 0)?;
                        self.phys().zero(pfn, 0);
                        Ok(pfn)
                    })
                    .collect::<Result<Vec<_>, Errno>>()?;
                (Backing::Driver(Arc::new(pages)), pgoff)
            }
        };
        if flags.noreserve {
            vm_flags |= VmFlags::NORESERVE;
        }
        // accountable_mapping
        let accounted = VmFlags::NORESERVE | VmFlags::SHARED | VmFlags::WRITE;
        if vm_flags & accounted == VmFlags::WRITE && !vm_flags.contains(VmFlags::HUGETLB) {
            vm_flags |= VmFlags::ACCOUNT;
        }
        self.unmap_locked(&mut vmas, range)?;
        vm_flags |= VmFlags::SOFTDIRTY;
        if vm_flags.intersects(VmFlags::SPECIAL) {
            // !vma_supports_mlock
            vm_flags -= VmFlags::LOCKED;
        }
        let mut vma = Vma::new(range, vm_flags, pgoff, backing);
        if let Backing::Hugetlb(h) = &mut vma.backing {
            h.reserve(self.system(), range, vm_flags)?;
        }
        self.link_file(&vma);
        self.insert_special_pages(&vma);
        vmas.insert(vma);
        vmas.merge_around(range.start());
        drop(vmas);
        if flags.populate || flags.locked {
            self.populate(range);
        }
        Ok(())
    }

    /// The entries that a driver's mmap puts in at once: remap_pfn_range for /dev/mem, vm_insert_page for a driver.
    fn insert_special_pages(&self, vma: &Vma) {
        let leaf = |i: u64| match &vma.backing {
            Backing::Pfnmap { first_pfn } => Some(
                crate::arch::Entry::leaf(crate::addr::Pfn::new(first_pfn + i), vma.page_prot()).mkspecial(),
            ),
            Backing::Driver(pages) => {
                self.phys().add_rmap_pte(pages[i as usize]);
                Some(crate::arch::Entry::leaf(pages[i as usize], vma.page_prot()))
            }
            _ => None,
        };
        if !matches!(vma.backing, Backing::Pfnmap { .. } | Backing::Driver(_)) {
            return;
        }
        for i in 0..vma.range.nr_pages() {
            let addr = vma.start().add_pages(i);
            let Ok(pmd) = self.lookup_alloc(addr, Level::Pmd) else { return };
            if pmd.read().is_none() && self.install_table(pmd).is_err() {
                return;
            }
            if let (Some((table, _guard)), Some(e)) = (self.lock_pte_table(pmd), leaf(i)) {
                table.set(addr.index(Level::Pte), e);
            }
        }
    }

    /// munmap(2).
    ///
    /// # Errors
    /// -EINVAL for an empty range, or one that would cut a huge page of a hugetlb VMA.
    pub fn munmap(&self, range: PageRange) -> Result<(), Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let mut vmas = self.mmap_write();
        self.unmap_locked(&mut vmas, range)
    }

    /// `do_vmi_align_munmap`: cuts the VMAs at the edges, zaps in one UNMAP event, frees tables that nothing needs.
    ///
    /// # Errors
    /// -EINVAL where an edge would cut a huge page of a hugetlb VMA; a cut made at the other edge stays.
    pub(crate) fn unmap_locked(&self, vmas: &mut VmaTree, range: PageRange) -> Result<(), Errno> {
        if vmas.overlapping(range).next().is_none() {
            return Ok(());
        }
        self.split_vma_at(vmas, range.start())?;
        self.split_vma_at(vmas, range.end())?;
        let starts = vmas.starts(range);
        let gone: Vec<Vma> = starts.into_iter().filter_map(|s| vmas.remove(s)).collect();
        let (first, last) = (gone[0].start(), gone[gone.len() - 1].end());
        let span = PageRange::between(first, last);
        self.notifier.during(&Event::new(EventKind::Unmap, span), || {
            gone.iter().for_each(|v| self.zap_page_range(v, v.range));
        });
        let floor = vmas.last_before(first).map_or(VirtAddr::new(0), Vma::end);
        let ceiling =
            vmas.find_from(last).map_or(VirtAddr::new(self.geometry().task_size() + 0x1000), Vma::start);
        self.free_pgtables(span, PageRange::between(floor, ceiling));
        for vma in &gone {
            self.close_vma(vma);
        }
        Ok(())
    }

    /// `vma_close` of a VMA that left the tree.
    pub(crate) fn close_vma(&self, vma: &Vma) {
        self.unlink_file(vma, vma.range);
        if let Backing::Hugetlb(h) = &vma.backing {
            h.close(self.system(), vma);
        }
    }

    /// `split_vma`: a VMA boundary at `addr`; a huge leaf that would cross it is split too (`vma_adjust_trans_huge`).
    ///
    /// # Errors
    /// -EINVAL where a hugetlb VMA would be cut inside a page (`hugetlb_vm_op_split`).
    pub(crate) fn split_vma_at(&self, vmas: &mut VmaTree, addr: VirtAddr) -> Result<(), Errno> {
        if let Some(vma) = vmas.find(addr)
            && vma.start() != addr
        {
            if vma.has(VmFlags::HUGETLB) && !addr.is_aligned(vma.hugetlb_level()) {
                return Err(Errno::Inval);
            }
            self.split_leaf_across(vma, addr);
            vmas.split_at(addr);
        }
        Ok(())
    }

    /// `split_huge_pmd_if_needed`: no huge leaf crosses `addr`.
    pub(crate) fn split_leaf_across(&self, vma: &Vma, addr: VirtAddr) {
        if addr.is_aligned(Level::Pmd) || vma.has(VmFlags::HUGETLB) || !vma.suits_pmd_span(addr) {
            return;
        }
        if let Ok(pmd) = self.lookup(addr, Level::Pmd)
            && !pmd.read().is_none()
            && !pmd.read().is_table()
        {
            self.split_huge_pmd(vma, pmd, addr, &mut NoCounts);
        }
    }

    /// `vma_modify`: changes a part of one VMA, splitting it off where needed and merging it with neighbours that it
    /// now resembles.
    ///
    /// # Errors
    /// -EINVAL where a hugetlb VMA would be cut inside a page.
    pub(crate) fn modify_vma(
        &self,
        vmas: &mut VmaTree,
        part: PageRange,
        change: impl FnOnce(&mut Vma),
    ) -> Result<(), Errno> {
        self.split_vma_at(vmas, part.start())?;
        self.split_vma_at(vmas, part.end())?;
        let vma = vmas.get_mut(part.start()).expect("part of one VMA");
        change(vma);
        vmas.merge_around(part.start());
        Ok(())
    }

    /// `mm_populate`: faults in what is missing, VMA by VMA, and ignores errors.
    pub fn populate(&self, range: PageRange) {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        for vma in vmas.overlapping(range) {
            let _ = at.populate_vma_range(vma, range.clip(vma.range));
        }
    }

    /// `__mm_populate` that stops at the first error.
    ///
    /// # Errors
    /// What `get_user_pages` says: -EFAULT or -ENOMEM.
    pub fn populate_strictly(&self, range: PageRange) -> Result<(), Errno> {
        let vmas = self.mmap_read();
        let at = self.locked(&vmas);
        vmas.overlapping(range).try_for_each(|vma| at.populate_vma_range(vma, range.clip(vma.range)))
    }
}

impl<'a> Locked<'a> {
    /// `populate_vma_page_range`: writes where the VMA is private and writable, reads otherwise; stops at the first
    /// page that fails.
    ///
    /// # Errors
    /// -EFAULT where the VMA gives no access or the fault ends in a signal, -ENOMEM out of memory.
    pub(crate) fn populate_vma_range(&self, vma: &'a Vma, range: PageRange) -> Result<(), Errno> {
        if vma.has(VmFlags::LOCKONFAULT) || vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
            return Ok(());
        }
        let write = vma.flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE;
        // FOLL_FORCE reaches whatever is accessible at all and could be readable.
        if !vma.flags.intersects(VmFlags::ACCESS) {
            return Err(Errno::Fault);
        }
        self.faultin_range(vma, range, write)
            .map_err(|r| if r.contains(VmFault::OOM) { Errno::NoMem } else { Errno::Fault })
    }

    /// The loop of `__get_user_pages` without pages: every page of `range` becomes present, and writable if `write`.
    ///
    /// # Errors
    /// What the failing fault said.
    pub(crate) fn faultin_range(&self, vma: &'a Vma, range: PageRange, write: bool) -> Result<(), VmFault> {
        let mut flags = FaultFlags::ALLOW_RETRY | FaultFlags::KILLABLE;
        flags.set(FaultFlags::WRITE, write);
        let mut addr = range.start();
        while addr < range.end() {
            match self.follow_page(addr, write) {
                Some(level) => addr = addr.next_boundary(level, range.end()),
                None => {
                    let r = self.handle_mm_fault(vma, addr, flags, &mut NoCounts);
                    if r.intersects(VmFault::ERROR) {
                        return Err(r);
                    }
                    flags.set(FaultFlags::TRIED, r.contains(VmFault::RETRY));
                }
            }
        }
        Ok(())
    }

    /// `follow_page_mask`: the level that maps `addr` present, and writable if `write`. Marks it young (FOLL_TOUCH).
    fn follow_page(&self, addr: VirtAddr, write: bool) -> Option<Level> {
        let mut table = self.mm.root();
        let mut level = self.mm.geometry().root();
        loop {
            let e = table.read(addr.index(level));
            if e.is_table() && level > Level::Pte {
                table = self.mm.phys().table(e.pfn());
                level = crate::mm::tables::below(level);
                continue;
            }
            let leaf = e.is_present() && (level == Level::Pte || e.is_huge());
            return (leaf && (!write || e.is_write())).then_some(level);
        }
    }
}

impl Vma {
    /// Whether the whole 2 MiB span around `addr` lies in the VMA, whatever backs it.
    fn suits_pmd_span(&self, addr: VirtAddr) -> bool {
        let span = crate::mm::huge::pmd_span(addr);
        span.start() >= self.start() && span.end() <= self.end()
    }
}
