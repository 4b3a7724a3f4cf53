//! Shapes captured from live processes, built again.
//!
//! VMAs keep their order, their length and their place within 2 MiB; gaps between them shrink to what is left of a
//! 2 MiB span, so that one walk can cross them all. Every entry stays in the PTE table it was in. Frames are
//! neighbours within a run and shuffled between runs: a capture says where physical memory breaks, not where it lies.
//!
//! Pages that another process maps too get a child that maps them. What the capture cannot tell (the write bit) is
//! inferred by [`ShapeVma::likely_writable`]. Reserves of more than 2 GiB, without a right and without a table, shrink to
//! 2 to 4 MiB: a browser's terabyte of them would be all that a walk does. What the model cannot express is left out and
//! counted: [`Built::left_out`].

use super::machine::{START, system_with};
use super::{BuildError, Built, EntryCounts, Undo};
use crate::capture::{Leaf, PageFlags, PageState, Prot, Run, Shape, ShapeKind, ShapeVma, ThpAdvice};
use crate::random::{Permutation, Purpose, generator};
use std::collections::BTreeSet;
use std::sync::Arc;
use walker::addr::{PAGE_SHIFT, PAGES_PER_PMD, PMD_ORDER, PageRange, Pfn, VirtAddr};
use walker::arch::entry::MARKER_GUARD;
use walker::arch::{Entry, Geometry, SwpEntry, SwpType};
use walker::memory::PageKind;
use walker::mm::Mm;
use walker::mm::build::Builder;
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{File, Settings, System, ThpMode};
use walker::mm::vma::VmFlags;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        /// Names of the captured shapes that come with the program.
        pub const NAMES: &[&str] = &[$($name),*];
        const FILES: &[&[u8]] = &[$(include_bytes!(concat!("../../captured/", $name, ".shape.gz"))),*];
    };
}
embedded![
    "browser",
    "cache",
    "compiler",
    "database",
    "interpreter",
    "jvm_thp",
    "kv_bgsave",
    "prefork_worker",
    "training"
];

/// The embedded shape called `name`.
pub(super) fn embedded(name: &str) -> Option<Shape> {
    let at = NAMES.iter().position(|n| *n == name)?;
    // A test reads each.
    Some(Shape::read(FILES[at]).expect("an embedded shape is well-formed"))
}

/// A captured shape and where its VMAs go.
#[derive(Debug, PartialEq)]
pub struct Layout {
    shape: Shape,
    starts: Vec<VirtAddr>,
    end: VirtAddr,
    /// Pages of reserves that were cut off.
    shortened: u64,
}

/// Longer reserves are shortened.
const LONGEST_RESERVE: u64 = 2 << 30 >> PAGE_SHIFT;

/// Shortens the reserves in `vma`, by whole 2 MiB spans. Returns by how many pages.
fn shorten_reserves(vma: &mut ShapeVma) -> u64 {
    let before = vma.nr_pages;
    if vma.prot.is_empty() {
        for run in vma.runs.iter_mut().filter(|r| r.state == PageState::Hole && r.nr_pages > LONGEST_RESERVE)
        {
            let kept = PAGES_PER_PMD + run.nr_pages % PAGES_PER_PMD;
            vma.nr_pages -= run.nr_pages - kept;
            run.nr_pages = kept;
        }
    }
    before - vma.nr_pages
}

impl Layout {
    /// Places the VMAs.
    pub fn new(mut shape: Shape) -> Layout {
        let mut shortened = 0;
        let mut starts = Vec::with_capacity(shape.vmas.len());
        let mut end = START;
        let mut old_end = 0;
        for vma in &mut shape.vmas {
            let first = vma.start >> PAGE_SHIFT;
            // Where the VMA before still has pages in the same 2 MiB span, the gap is kept, else the next span begins.
            let gap = if old_end != 0 && (old_end - 1) / PAGES_PER_PMD == first / PAGES_PER_PMD {
                first - old_end
            } else {
                let page = end.get() >> PAGE_SHIFT;
                page.next_multiple_of(PAGES_PER_PMD) - page + first % PAGES_PER_PMD
            };
            let start = aligned(vma, end.add_pages(gap));
            starts.push(start);
            old_end = first + vma.nr_pages;
            shortened += shorten_reserves(vma);
            end = start.add_pages(vma.nr_pages);
        }
        Layout { shape, starts, end, shortened }
    }
    /// The shape as captured, but for reserves that were shortened.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }
    /// From the first VMA to the last; empty for a shape without VMAs.
    pub fn range(&self) -> PageRange {
        PageRange::between(self.starts.first().copied().unwrap_or(self.end), self.end)
    }
    /// Bytes of address space from the first VMA to the last.
    pub fn size_bytes(&self) -> u64 {
        self.range().nr_pages() << PAGE_SHIFT
    }
}

/// Where a VMA may start: huge pages of 1 GiB need more than the place within 2 MiB.
fn aligned(vma: &ShapeVma, start: VirtAddr) -> VirtAddr {
    match vma.kind {
        ShapeKind::Hugetlb { leaf: Leaf::Pud } => {
            VirtAddr::new(start.get().next_multiple_of(walker::addr::PUD_SIZE))
        }
        _ => start,
    }
}

const SPECIAL: &str = "vdso and driver VMAs: not mapped";
const SHARED_SWAP: &str = "swap entries of shared memory: none entries instead";
const PUD_LEAF: &str = "PUD leaves outside hugetlb: holes instead";
const FILE: &str = "pages of files on a disk: of a tmpfs file instead";
const RESERVE: &str = "reserves of more than 2 GiB: shortened";

/// Why a whole VMA cannot be built.
const fn unmappable(kind: ShapeKind) -> Option<&'static str> {
    match kind {
        ShapeKind::Special => Some(SPECIAL),
        _ => None,
    }
}

/// Adds up what was left out.
#[derive(Default)]
struct LeftOut(Vec<(u64, &'static str)>);

impl LeftOut {
    fn add(&mut self, nr_pages: u64, what: &'static str) {
        match self.0.iter_mut().find(|(_, w)| *w == what) {
            Some((n, _)) => *n += nr_pages,
            None => self.0.push((nr_pages, what)),
        }
    }
}

pub(super) fn build(layout: &Layout, seed: u64) -> Result<Built, BuildError> {
    let range = layout.range();
    let summary = layout.shape.summary();
    let huge = |leaf: Leaf| {
        let of = |v: &&ShapeVma| v.kind == ShapeKind::Hugetlb { leaf };
        layout.shape.vmas.iter().filter(of).map(|v| v.nr_pages >> leaf.order()).sum()
    };
    let settings = Settings {
        thp: ThpMode::Madvise,
        swap_slots: (summary.nr_swap + 4 * PAGES_PER_PMD).next_multiple_of(PAGES_PER_PMD),
        hugetlb_2m: huge(Leaf::Pmd),
        hugetlb_1g: huge(Leaf::Pud),
        ..Settings::default()
    };
    let system = system_with(summary.nr_mapped.max(range.nr_pages() / 64), 2, settings)?;
    let first_slot = system.swap.alloc_extent(summary.nr_swap, 0).ok_or(BuildError::Frames)?;
    let mm = Mm::new(&system, Geometry::FourLevel)?;
    let mut left_out = LeftOut::default();
    let mut expected = EntryCounts::default();
    let mut end = range.start();
    for (vma, start) in layout.shape.vmas.iter().zip(&layout.starts) {
        expected.gap += start.pages_since(end);
        end = start.add_pages(vma.nr_pages);
        match unmappable(vma.kind) {
            Some(why) => {
                left_out.add(vma.nr_pages, why);
                expected.gap += vma.nr_pages;
            }
            None => map(&system, &mm, vma, PageRange::pages(*start, vma.nr_pages))?,
        }
    }
    let is_shared = |run: &Run| match run.state {
        PageState::Present { flags, .. } => !flags.intersects(OURS),
        _ => false,
    };
    let child = match layout.shape.vmas.iter().flat_map(|v| &v.runs).any(is_shared) {
        // The tables are empty: fork copies the VMAs only.
        true => Some(mm.fork()?),
        false => None,
    };
    let frames = frames_of_runs(layout, &system, seed)?;
    let mut out = Writer {
        system: &system,
        parent: mm.build(),
        child: child.as_ref().map(|c| c.build()),
        expected: &mut expected,
        left_out: &mut left_out,
        next_slot: first_slot,
        holes: Vec::new(),
        tables: BTreeSet::new(),
    };
    let mut first_run = 0;
    for (vma, start) in layout.shape.vmas.iter().zip(&layout.starts) {
        let frames = &frames[first_run..first_run + vma.runs.len()];
        first_run += vma.runs.len();
        if unmappable(vma.kind).is_none() {
            let mut addr = *start;
            for (run, first) in vma.runs.iter().zip(frames) {
                out.run(vma, PageRange::pages(addr, run.nr_pages), run.state, *first)?;
                addr = addr.add_pages(run.nr_pages);
            }
        }
    }
    out.count_holes();
    drop(out);
    if layout.shortened > 0 {
        left_out.add(layout.shortened, RESERVE);
    }
    let children = child.into_iter().collect();
    Ok(Built { children, left_out: left_out.0, ..Built::new(system, mm, range, expected, Undo::Rebuild) })
}

/// An anonymous page without any of these is mapped by another process too.
const OURS: PageFlags = PageFlags::EXCLUSIVE.union(PageFlags::FILE).union(PageFlags::ZERO);

/// The VMA alone.
fn map(system: &Arc<System>, mm: &Mm, vma: &ShapeVma, range: PageRange) -> Result<(), BuildError> {
    let mut prot = VmFlags::empty();
    for (ours, flag) in
        [(Prot::READ, VmFlags::READ), (Prot::WRITE, VmFlags::WRITE), (Prot::EXEC, VmFlags::EXEC)]
    {
        prot.set(flag, vma.prot.contains(ours));
    }
    let file = || {
        let file = if vma.kind == ShapeKind::File { File::tmpfs(system) } else { File::shmem(system, 0) };
        file.truncate(range.nr_pages()).map(|()| file)
    };
    let kind = match (vma.kind, vma.shared) {
        (ShapeKind::Hugetlb { leaf }, shared) => MapKind::Hugetlb { order: leaf.order(), shared },
        (ShapeKind::File | ShapeKind::Shmem, false) => MapKind::FilePrivate(file()?),
        (_, false) => MapKind::Anon,
        (_, true) => MapKind::FileShared { file: file()?, writable: true },
    };
    mm.mmap(range, prot, kind, MapFlags::default(), 0)?;
    let is_anon = |state| match state {
        PageState::Present { flags, .. } => !flags.intersects(PageFlags::FILE | PageFlags::ZERO),
        _ => false,
    };
    let hugetlb = matches!(vma.kind, ShapeKind::Hugetlb { .. });
    if !hugetlb && vma.runs.iter().any(|r| is_anon(r.state)) {
        mm.build().anon_prepare(range.start());
    }
    match vma.thp {
        ThpAdvice::Default => {}
        ThpAdvice::Advise => mm.madvise(range, Advice::Hugepage)?,
        ThpAdvice::Never => mm.madvise(range, Advice::NoHugepage)?,
    }
    Ok(())
}

/// The first frame of each run that is mapped by PTEs: all runs in one extent, in shuffled order.
fn frames_of_runs(layout: &Layout, system: &System, seed: u64) -> Result<Vec<Pfn>, BuildError> {
    let length = |vma: &ShapeVma, run: &Run| {
        let hugetlb = matches!(vma.kind, ShapeKind::Hugetlb { .. });
        let own = run.state.has_frames()
            && run.state.leaf() == Leaf::Pte
            && unmappable(vma.kind).is_none()
            && !hugetlb;
        if own { run.nr_pages } else { 0 }
    };
    let vmas = &layout.shape.vmas;
    let lengths: Vec<u64> = vmas.iter().flat_map(|v| v.runs.iter().map(|r| length(v, r))).collect();
    let total: u64 = lengths.iter().sum();
    if total == 0 {
        return Ok(vec![Pfn::new(0); lengths.len()]);
    }
    let mut next = system.phys.alloc_extent(total)?;
    let order = Permutation::new(&mut generator(seed, Purpose::Frames), lengths.len() as u64);
    let mut firsts = vec![Pfn::new(0); lengths.len()];
    for i in 0..lengths.len() as u64 {
        let run = order.get(i) as usize;
        firsts[run] = next;
        next = next.add(lengths[run]);
    }
    Ok(firsts)
}

struct Writer<'a> {
    system: &'a System,
    parent: Builder<'a>,
    child: Option<Builder<'a>>,
    expected: &'a mut EntryCounts,
    left_out: &'a mut LeftOut,
    next_slot: u64,
    /// Runs without a table of their own.
    holes: Vec<PageRange>,
    /// 2 MiB spans with one.
    tables: BTreeSet<u64>,
}

/// The 2 MiB spans that `range` lies in.
fn spans(range: PageRange) -> core::ops::Range<u64> {
    let page = |addr: VirtAddr| addr.get() >> PAGE_SHIFT;
    page(range.start()) / PAGES_PER_PMD..page(range.end()).div_ceil(PAGES_PER_PMD)
}

impl Writer<'_> {
    fn run(
        &mut self,
        vma: &ShapeVma,
        range: PageRange,
        state: PageState,
        first: Pfn,
    ) -> Result<(), BuildError> {
        let n = range.nr_pages();
        if let ShapeKind::Hugetlb { leaf } = vma.kind {
            return self.hugetlb_pages(vma, range, state, leaf);
        }
        if state != PageState::Hole && state.leaf() == Leaf::Pte {
            self.tables.extend(spans(range));
        }
        match state {
            PageState::Hole => self.holes.push(range),
            PageState::Swap { flags } if !vma.shared => self.swapped(range, flags)?,
            PageState::None | PageState::Swap { .. } => {
                self.parent.empty_tables(range)?;
                self.expected.none += n;
                if state != PageState::None {
                    self.left_out.add(n, SHARED_SWAP);
                }
            }
            PageState::Guard => {
                let guard = SwpEntry::new(SwpType::PteMarker, MARKER_GUARD).entry();
                self.parent.ptes(range, |_| guard)?;
                self.expected.poison += n;
            }
            PageState::Present { leaf: Leaf::Pud, .. } => {
                self.expected.hole += n;
                self.left_out.add(n, PUD_LEAF);
            }
            PageState::Present { leaf: Leaf::Pte, flags } => {
                self.base_pages(vma, range, state, flags, first)?
            }
            PageState::Present { leaf: Leaf::Pmd, flags } => self.huge_pages(vma, range, state, flags)?,
        }
        Ok(())
    }

    /// A hole in a span that another run has a table for is none entries of that table. A process that is at work while it
    /// is captured shows such.
    fn count_holes(&mut self) {
        for hole in &self.holes {
            for span in spans(*hole) {
                let (first, last) = (span * PAGES_PER_PMD, (span + 1) * PAGES_PER_PMD);
                let (low, high) = (hole.start().get() >> PAGE_SHIFT, hole.end().get() >> PAGE_SHIFT);
                let n = high.min(last) - low.max(first);
                *if self.tables.contains(&span) {
                    &mut self.expected.none
                } else {
                    &mut self.expected.hole
                } += n;
            }
        }
    }

    /// Slots in a row for pages in a row. That a page was exclusive when it went out is not shown: here it was.
    fn swapped(&mut self, range: PageRange, flags: PageFlags) -> Result<(), BuildError> {
        let first = self.next_slot;
        self.next_slot += range.nr_pages();
        self.parent.ptes(range, |i| {
            let e = SwpEntry::new(SwpType::Swap, first + i).entry().with_swp_exclusive(true);
            e.with_swp_soft_dirty(flags.contains(PageFlags::SOFT_DIRTY))
                .with_swp_uffd_wp(flags.contains(PageFlags::UFFD_WP))
        })?;
        self.expected.swap += range.nr_pages();
        Ok(())
    }

    fn hugetlb_pages(
        &mut self,
        vma: &ShapeVma,
        range: PageRange,
        state: PageState,
        leaf: Leaf,
    ) -> Result<(), BuildError> {
        let n = range.nr_pages();
        if !state.is_present() {
            // No table below, whatever the capture calls it.
            self.expected.hole += n;
            return Ok(());
        }
        let writable = vma.likely_writable(state);
        for i in (0..n).step_by(leaf.nr_pages() as usize) {
            self.parent.hugetlb_page(range.start().add_pages(i), writable)?;
        }
        let to = match (leaf, vma.prot.is_empty(), writable) {
            (_, true, _) => &mut self.expected.protnone,
            (Leaf::Pud, ..) => &mut self.expected.pud,
            (_, _, true) => &mut self.expected.pmd_rw,
            (_, _, false) => &mut self.expected.pmd_ro,
        };
        *to += n;
        Ok(())
    }

    /// The entry for frame `pfn`, with the flags that the capture saw.
    fn entry(&self, vma: &ShapeVma, addr: VirtAddr, state: PageState, pfn: Pfn) -> Entry {
        let flags = state.flags();
        let prot = self.parent.vma(addr).expect("mapped above").page_prot();
        let mut e = Entry::leaf(pfn, prot.without_write());
        if flags.contains(PageFlags::ZERO) {
            e = if state.leaf() == Leaf::Pte { e.mkspecial() } else { e };
        } else if !flags.contains(PageFlags::FILE) {
            e = e.mkdirty();
        }
        if vma.likely_writable(state) {
            e = e.mkdirty().mkwrite();
        }
        e = if flags.contains(PageFlags::SOFT_DIRTY) { e.mksoft_dirty() } else { e.clear_soft_dirty() };
        if flags.contains(PageFlags::UFFD_WP) { e.mkuffd_wp() } else { e }
    }

    fn base_pages(
        &mut self,
        vma: &ShapeVma,
        range: PageRange,
        state: PageState,
        flags: PageFlags,
        first: Pfn,
    ) -> Result<(), BuildError> {
        let (phys, n) = (&self.system.phys, range.nr_pages());
        if flags.contains(PageFlags::ZERO) {
            let zero = self.entry(vma, range.start(), state, self.system.zero_pfn());
            self.parent.ptes(range, |_| zero)?;
            self.expected.pte_zero += n;
            return Ok(());
        }
        let entry = self.entry(vma, range.start(), state, first);
        let step = |e: Entry, i: u64| {
            // PROT_NONE stores the frame inverted: leaf() knows.
            let pfn = first.add(i);
            if e.is_protnone() {
                Entry::leaf(pfn, e.prot())
            } else {
                Entry::from_bits(e.bits() + (i << PAGE_SHIFT))
            }
        };
        self.parent.ptes(range, |i| step(entry, i))?;
        let to = match (entry.is_protnone(), entry.is_write()) {
            (true, _) => &mut self.expected.protnone,
            (_, true) => &mut self.expected.pte_rw,
            (_, false) => &mut self.expected.pte_ro,
        };
        *to += n;
        if flags.contains(PageFlags::FILE) {
            if vma.kind == ShapeKind::File {
                self.left_out.add(n, FILE);
            }
            for i in 0..n {
                let pfn = first.add(i);
                phys.compose(pfn, PageKind::File, 0);
                phys.page(pfn).set_pte_mappings(1);
                let cached = self.parent.add_to_cache(range.start().add_pages(i), pfn);
                debug_assert!(cached, "a file VMA of its own file");
            }
        } else if !flags.contains(PageFlags::EXCLUSIVE)
            && let Some(child) = &mut self.child
        {
            let old = entry.wrprotect().mkold().clear_uffd_wp();
            child.ptes(range, |i| step(old, i))?;
            for i in 0..n {
                phys.add_rmap_pte(first.add(i));
                phys.clear_anon_exclusive(first.add(i));
            }
        }
        Ok(())
    }

    fn huge_pages(
        &mut self,
        vma: &ShapeVma,
        range: PageRange,
        state: PageState,
        flags: PageFlags,
    ) -> Result<(), BuildError> {
        let phys = &self.system.phys;
        let file = flags.contains(PageFlags::FILE);
        if file && vma.kind == ShapeKind::File {
            self.left_out.add(range.nr_pages(), FILE);
        }
        let first_index = self.parent.vma(range.start()).expect("mapped above").index_of(range.start());
        for i in (0..range.nr_pages()).step_by(PAGES_PER_PMD as usize) {
            let addr = range.start().add_pages(i);
            let zero = flags.contains(PageFlags::ZERO);
            let head = if zero {
                self.system.get_huge_zero()?
            } else {
                let head = phys.alloc(if file { PageKind::File } else { PageKind::Anon }, PMD_ORDER)?;
                phys.add_new_anon_rmap_huge(head, first_index + i);
                let cached = file && self.parent.add_to_cache(addr, head);
                debug_assert_eq!(cached, file, "a file VMA of its own file");
                head
            };
            let e = self.entry(vma, addr, state, head).mkhuge();
            self.parent.pmd_leaf(addr, e)?;
            let to = match (e.is_protnone(), zero, e.is_write()) {
                (true, _, _) => &mut self.expected.protnone,
                (_, true, _) => &mut self.expected.pmd_zero,
                (_, _, true) => &mut self.expected.pmd_rw,
                (_, _, false) => &mut self.expected.pmd_ro,
            };
            *to += PAGES_PER_PMD;
            if !flags.intersects(OURS)
                && let Some(child) = &mut self.child
            {
                child.pmd_leaf(addr, e.wrprotect().mkold().clear_uffd_wp())?;
                phys.add_rmap_huge(head);
                phys.clear_anon_exclusive(head);
            }
        }
        Ok(())
    }
}
