//! One suite for every backend: whatever its format, its answer must mean what the tables say.
//!
//! A scenario builds a small address space. Each backend is asked about it in every way it can be asked, by the
//! canonical loop, and judged three times:
//! * it ends as the oracle ends in a world built alike: the same errno, or none;
//! * its answer is the oracle's snapshot of the tables that it left behind, as far as its format can say it, and the
//!   wishes are fulfilled there;
//! * the device table holds that answer.
//!
//! Where a generation deviates by design, the scenario says which and why; what it does instead is in
//! `backends/truth_table.rs`.

use crate::addr::{Level, PAGE_SIZE, PAGES_PER_PMD, PMD_SIZE, PageRange, VirtAddr};
use crate::arch::{Entry, Geometry, SwpEntry, SwpType};
use crate::backend::{Backend, Capability, PageView};
use crate::backends::oracle::Oracle;
use crate::counters::{Count, Counters, Counts, NoCounts};
use crate::memory::{PageKind, PhysConfig};
use crate::mirror::{Mirror, RetryPolicy};
use crate::mm::madvise::Advice;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::protect::Change;
use crate::mm::system::{Settings, System};
use crate::mm::touch::Access;
use crate::mm::vma::VmFlags;
use crate::mm::{Errno, Mm};
use crate::request::{Request, Wish};
use std::sync::Arc;

/// The owner of the device memory that requests ask about.
pub(crate) const OWNER: u64 = 7;
/// Where worlds begin: aligned to 1 GiB.
pub(crate) const BASE: u64 = 1 << 40;
pub(crate) const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

/// A machine with one address space to ask about, and what must outlive the question.
pub(crate) struct World {
    pub(crate) mm: Arc<Mm>,
    /// Children that share its pages.
    keep: Vec<Arc<Mm>>,
}

impl World {
    pub(crate) fn new() -> World {
        let memory = PhysConfig { nr_frames: 1 << 15, host_huge_pages: false };
        let system =
            System::new(memory, Settings { hugetlb_2m: 4, swap_slots: 1024, ..Settings::default() }).unwrap();
        World { mm: Mm::new(&system, Geometry::FourLevel).unwrap(), keep: Vec::new() }
    }
    /// The page `page` pages behind [`BASE`].
    pub(crate) fn addr(page: u64) -> VirtAddr {
        VirtAddr::new(BASE + page * PAGE_SIZE)
    }
    /// `n` pages from page `page` on.
    pub(crate) fn pages(page: u64, n: u64) -> PageRange {
        PageRange::pages(World::addr(page), n)
    }
    pub(crate) fn map(&self, range: PageRange, prot: VmFlags, kind: MapKind) {
        self.mm.mmap(range, prot, kind, MapFlags::default(), 0).unwrap();
    }
    pub(crate) fn write(&self, pages: PageRange) {
        self.touch(pages, Access::Write(1));
    }
    pub(crate) fn read(&self, pages: PageRange) {
        self.touch(pages, Access::Read);
    }
    fn touch(&self, pages: PageRange, access: Access) {
        for i in 0..pages.nr_pages() {
            self.mm.touch(pages.start().add_pages(i), access).unwrap();
        }
    }
    /// A range that may be mapped huge, nothing in it yet.
    pub(crate) fn map_huge(&self, range: PageRange) {
        self.map(range, RW, MapKind::Anon);
        self.mm.madvise(range, Advice::Hugepage).unwrap();
    }
    pub(crate) fn protect(&self, range: PageRange, prot: VmFlags) {
        self.mm.mprotect(range, prot).unwrap();
    }
    /// Forks; the child lives on and shares every anonymous page.
    pub(crate) fn fork(&mut self) {
        self.keep.push(self.mm.fork().unwrap());
    }
    /// `change_protection` on the VMA around `range`.
    pub(crate) fn change(&self, range: PageRange, change: Change) {
        let vmas = self.mm.mmap_read();
        self.mm.change_protection(vmas.find(range.start()).unwrap(), range, change);
    }
    pub(crate) fn split(&self, addr: VirtAddr) {
        let vmas = self.mm.mmap_read();
        let pmd = self.mm.lookup(addr, Level::Pmd).unwrap();
        self.mm.split_huge_pmd(vmas.find(addr).unwrap(), pmd, addr, &mut NoCounts);
    }
    /// Adds flags to the VMA at `addr`.
    pub(crate) fn set_vma_flags(&self, addr: VirtAddr, flags: VmFlags) {
        let mut vmas = self.mm.mmap_write();
        let start = vmas.find(addr).unwrap().start();
        vmas.get_mut(start).unwrap().flags |= flags;
    }
    /// The children go away.
    pub(crate) fn reap(&mut self) {
        self.keep.clear();
    }
    /// Never tears the address space down: its entries name what nothing accounts for.
    pub(crate) fn leak(&self) {
        core::mem::forget(Arc::clone(&self.mm));
    }
    /// Writes an entry by hand, at any level, for kinds that no operation makes here.
    pub(crate) fn plant(&self, addr: VirtAddr, level: Level, e: Entry) {
        let slot = self.mm.lookup_alloc(addr, level).unwrap();
        let _guard = slot.lock();
        assert!(slot.replace(e).is_none(), "something else is mapped there");
    }
    /// The entry of a new device-private folio of `1 << order` pages that belongs to `owner`, to be planted once.
    pub(crate) fn device_page(&self, owner: u64, order: u8, kind: SwpType) -> Entry {
        let phys = self.mm.phys();
        let pfn = phys.alloc(PageKind::DevicePrivate, order).unwrap();
        if order == 0 {
            phys.add_new_anon_rmap(pfn, 0);
        } else {
            phys.add_new_anon_rmap_huge(pfn, 0);
        }
        phys.page(pfn).set_owner(owner);
        SwpEntry::new(kind, pfn.get()).entry()
    }
    pub(crate) fn plant_marker(&self, addr: VirtAddr, marker: u64) {
        self.plant(addr, Level::Pte, SwpEntry::new(SwpType::PteMarker, marker).entry());
    }
    /// One answered request by the canonical loop.
    pub(crate) fn ask<B: Backend>(&self, request: &Request<'_>) -> Asked<B> {
        let mut backend = B::new(request.range.nr_pages() as usize);
        let mut counts = Counts::default();
        let mirror = Mirror::new(&self.mm, request.range);
        let result = mirror.refresh(&mut backend, request, RetryPolicy::Attempts(5000), &mut counts);
        Asked { backend, result, counts, mirror }
    }
}

/// What came of a question.
pub(crate) struct Asked<B> {
    pub(crate) backend: B,
    pub(crate) result: Result<(), Errno>,
    pub(crate) counts: Counts,
    pub(crate) mirror: Mirror,
}

/// The ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Snapshot,
    Read,
    Write,
    /// Nothing, read, write, and so on, page by page.
    Mixed,
    /// Write for one page in sixteen, nothing for the others.
    Sparse,
    /// Read for all, write for one page in sixteen.
    ReadAndSparseWrite,
}

impl Ask {
    const ALL: [Ask; 6] =
        [Ask::Snapshot, Ask::Read, Ask::Write, Ask::Mixed, Ask::Sparse, Ask::ReadAndSparseWrite];
    fn is_per_page(self) -> bool {
        matches!(self, Ask::Mixed | Ask::Sparse | Ask::ReadAndSparseWrite)
    }
    fn needs(self) -> &'static [Capability] {
        match self {
            Ask::Snapshot => &[Capability::Snapshot],
            _ if self.is_per_page() => &[Capability::Fault, Capability::PerPageRequest],
            _ => &[Capability::Fault],
        }
    }
    fn default(self) -> Wish {
        match self {
            Ask::Read | Ask::ReadAndSparseWrite => Wish::Read,
            Ask::Write => Wish::Write,
            _ => Wish::None,
        }
    }
    fn wish(self, i: u64) -> Wish {
        match self {
            Ask::Mixed => [Wish::None, Wish::Read, Wish::Write][i as usize % 3],
            _ if i % 16 == 5 => Wish::Write,
            _ => Wish::None,
        }
    }
}

/// An address space, and who may answer differently.
struct Scenario {
    name: &'static str,
    build: fn(&mut World) -> PageRange,
    needs: &'static [Capability],
    /// Whether this backend, asked like this, deviates by design.
    deviates: fn(&str, Ask) -> bool,
}

const ONE_VMA: &[Capability] = &[];
const SEVERAL: &[Capability] = &[Capability::CrossVma];

fn nobody(_: &str, _: Ask) -> bool {
    false
}
/// 4.14 spins where write permission cannot be had, 4.17 has forgotten the wish by then.
fn no_vm_write(id: &str, ask: Ask) -> bool {
    matches!(id, "pfn_bits" | "driver_format") && !matches!(ask, Ask::Snapshot | Ask::Read)
}
/// Until 5.1 a VMA that is not walked has errors of its own.
fn not_walked(id: &str, _: Ask) -> bool {
    matches!(id, "pfn_bits" | "driver_format")
}
/// A NUMA hint counts as present until 5.4, and the encoder adds VALID until 5.7.
fn hinted(id: &str, _: Ask) -> bool {
    matches!(id, "pfn_bits" | "driver_format" | "range_default")
}
/// VM_MIXEDMAP is refused until 5.17.
fn mixed_map(id: &str, _: Ask) -> bool {
    matches!(
        id,
        "pfn_bits"
            | "driver_format"
            | "range_default"
            | "split_arrays"
            | "struct_page"
            | "struct_page_touch"
            | "fixed_flags"
            | "compound_flag"
    )
}
/// Until 5.1 poison ends a call, or is no error at all.
fn poison(id: &str, _: Ask) -> bool {
    matches!(id, "pfn_bits" | "driver_format")
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "anonymous memory: written, read and untouched pages, both ends inside a table",
        build: |w| {
            let range = World::pages(500, 600);
            w.map(range, RW, MapKind::Anon);
            w.write(World::pages(503, 20));
            w.read(World::pages(520, 20));
            w.write(World::pages(1030, 5));
            range
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "nothing but a VMA: holes above the table level",
        build: |w| {
            w.map(World::pages(0, 2000), RW, MapKind::Anon);
            World::pages(100, 1000)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "read-only anonymous memory",
        build: |w| {
            w.map(World::pages(0, 300), RW, MapKind::Anon);
            w.write(World::pages(0, 40));
            w.protect(World::pages(0, 300), VmFlags::READ);
            w.read(World::pages(50, 10));
            World::pages(0, 300)
        },
        needs: ONE_VMA,
        deviates: no_vm_write,
    },
    Scenario {
        name: "PROT_NONE over pages",
        build: |w| {
            w.map(World::pages(0, 100), RW, MapKind::Anon);
            w.write(World::pages(0, 40));
            w.protect(World::pages(0, 100), VmFlags::empty());
            World::pages(0, 100)
        },
        needs: ONE_VMA,
        deviates: not_walked,
    },
    Scenario {
        name: "pages made writable again",
        build: |w| {
            w.map(World::pages(0, 64), RW, MapKind::Anon);
            w.write(World::pages(0, 48));
            w.protect(World::pages(0, 64), VmFlags::READ);
            w.protect(World::pages(0, 64), RW);
            World::pages(0, 64)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "huge: a written leaf, a hole, the huge zero page",
        build: |w| {
            w.map_huge(World::pages(0, 3 * PAGES_PER_PMD));
            w.write(World::pages(7, 1));
            w.read(World::pages(2 * PAGES_PER_PMD, 1));
            World::pages(0, 3 * PAGES_PER_PMD)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "a range that starts and ends inside leaves",
        build: |w| {
            w.map_huge(World::pages(0, 3 * PAGES_PER_PMD));
            (0..3).for_each(|i| w.write(World::pages(i * PAGES_PER_PMD, 1)));
            World::pages(100, 2 * PAGES_PER_PMD)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "a huge page mapped by PTEs",
        build: |w| {
            w.map_huge(World::pages(0, PAGES_PER_PMD));
            w.write(World::pages(0, 1));
            w.split(World::addr(0));
            World::pages(10, 400)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "shared with a child: copy on write",
        build: |w| {
            w.map(World::pages(0, 200), RW, MapKind::Anon);
            w.write(World::pages(0, 50));
            w.read(World::pages(60, 10));
            w.fork();
            w.write(World::pages(20, 5));
            World::pages(0, 100)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "a huge leaf shared with a child",
        build: |w| {
            w.map_huge(World::pages(0, PAGES_PER_PMD));
            w.write(World::pages(0, 1));
            w.fork();
            World::pages(0, PAGES_PER_PMD)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "NUMA hints on pages and on a leaf",
        build: |w| {
            w.map(World::pages(0, PAGES_PER_PMD), RW, MapKind::Anon);
            w.write(World::pages(0, 30));
            w.change(World::pages(10, 10), Change::NumaHint);
            w.map_huge(World::pages(PAGES_PER_PMD, PAGES_PER_PMD));
            w.write(World::pages(PAGES_PER_PMD, 1));
            w.change(World::pages(PAGES_PER_PMD, PAGES_PER_PMD), Change::NumaHint);
            World::pages(0, 2 * PAGES_PER_PMD)
        },
        needs: SEVERAL,
        deviates: hinted,
    },
    Scenario {
        name: "gaps before, between and behind VMAs",
        build: |w| {
            w.map(World::pages(10, 20), RW, MapKind::Anon);
            w.write(World::pages(10, 20));
            w.map(World::pages(600, 20), RW, MapKind::Anon);
            w.write(World::pages(600, 20));
            World::pages(0, 700)
        },
        needs: SEVERAL,
        deviates: nobody,
    },
    Scenario {
        name: "VMAs side by side with different rights",
        build: |w| {
            w.map(World::pages(0, 90), RW, MapKind::Anon);
            w.write(World::pages(0, 90));
            w.protect(World::pages(30, 30), VmFlags::READ);
            World::pages(0, 90)
        },
        needs: SEVERAL,
        deviates: nobody,
    },
    Scenario {
        name: "page frames without struct pages",
        build: |w| {
            w.map(World::pages(0, 16), RW, MapKind::Pfnmap);
            World::pages(0, 16)
        },
        needs: ONE_VMA,
        deviates: not_walked,
    },
    Scenario {
        name: "a driver's pages",
        build: |w| {
            w.map(World::pages(0, 16), RW, MapKind::Driver);
            World::pages(2, 10)
        },
        needs: ONE_VMA,
        deviates: mixed_map,
    },
    Scenario {
        name: "shared memory",
        build: |w| {
            w.map(World::pages(0, 100), RW, MapKind::SharedAnon);
            w.write(World::pages(0, 10));
            w.read(World::pages(40, 1));
            World::pages(0, 100)
        },
        needs: ONE_VMA,
        deviates: nobody,
    },
    Scenario {
        name: "markers: write protection, poison, guard",
        build: |w| {
            use crate::arch::entry::{MARKER_GUARD, MARKER_POISONED, MARKER_UFFD_WP};
            w.map(World::pages(0, 64), RW, MapKind::Anon);
            w.write(World::pages(0, 8));
            w.plant_marker(World::addr(20), MARKER_UFFD_WP);
            w.plant_marker(World::addr(21), MARKER_POISONED);
            w.plant_marker(World::addr(22), MARKER_GUARD);
            World::pages(0, 64)
        },
        needs: ONE_VMA,
        // A mixed wish does not ask for the markers, but the batch from an earlier page faults them.
        deviates: |id, ask| id != "oracle" && ask.is_per_page(),
    },
    Scenario {
        name: "poison",
        build: |w| {
            w.map(World::pages(0, 8), RW, MapKind::Anon);
            w.write(World::pages(0, 4));
            let pfn = w.mm.phys().alloc(PageKind::Anon, 0).unwrap();
            w.plant(World::addr(4), Level::Pte, SwpEntry::new(SwpType::Hwpoison, pfn.get()).entry());
            World::pages(0, 8)
        },
        needs: ONE_VMA,
        deviates: poison,
    },
    Scenario {
        name: "the caller's own device memory",
        build: |w| {
            w.map(World::pages(0, 16), RW, MapKind::Anon);
            w.write(World::pages(0, 3));
            w.write(World::pages(5, 8));
            w.plant(World::addr(3), Level::Pte, w.device_page(OWNER, 0, SwpType::DeviceWrite));
            w.plant(World::addr(4), Level::Pte, w.device_page(OWNER, 0, SwpType::DeviceRead));
            World::pages(0, 16)
        },
        needs: &[Capability::DevicePrivate],
        // A batch of 4.14 begins at the start of the slice and brings device memory back. A handle has no rights: with
        // a write wish its owner takes read-only device memory for writable.
        deviates: |id, ask| match id {
            "pfn_bits" => ask != Ask::Snapshot,
            "struct_page" | "struct_page_touch" => ask == Ask::Write,
            _ => false,
        },
    },
];

/// Whether `got` says what `want` says, as far as `B` can.
fn agrees<B: Backend>(got: PageView, want: PageView) -> bool {
    let can = |c| B::INFO.capabilities.contains(&c);
    match (got, want) {
        (
            PageView::Mapped { pfn, write, order, compound, device },
            PageView::Mapped { pfn: p, write: w, order: o, compound: c, device: d },
        ) => {
            fn same<T: PartialEq>(said: bool, got: Option<T>, want: Option<T>) -> bool {
                got == want || !said && got.is_none()
            }
            pfn == p
                && same(can(Capability::Permission), write, w)
                && same(can(Capability::Order), order, o)
                && same(can(Capability::Compound), compound, c)
                && same(false, device, d)
        }
        // Who cannot report without faulting cannot tell an error either.
        (PageView::Absent, PageView::Error) => !can(Capability::Snapshot),
        (got, want) => got == want,
    }
}

fn check<B: Backend>(scenario: &Scenario, ask: Ask) {
    let mut world = World::new();
    let range = (scenario.build)(&mut world);
    let mut other = World::new();
    assert_eq!(range, (scenario.build)(&mut other));
    let wishes: Vec<Wish> = (0..range.nr_pages()).map(|i| ask.wish(i)).collect();
    let per_page = ask.is_per_page().then_some(&wishes[..]);
    let request = Request { range, default: ask.default(), per_page, owner: OWNER };
    let what = format!("{} on {:?}, {ask:?}", B::INFO.id, scenario.name);

    let expected = other.ask::<Oracle>(&request).result;
    let asked = world.ask::<B>(&request);
    assert_eq!(asked.result, expected, "{what}");
    assert_eq!(asked.backend.range(), range, "{what}");
    assert!(asked.counts.get(Count::FaultsNeeded) <= asked.counts.get(Count::FaultsIssued), "{what}");
    if B::INFO.id.ends_with("exact_fault") {
        assert_eq!(asked.counts.get(Count::FaultsNeeded), asked.counts.get(Count::FaultsIssued), "{what}");
    }
    if ask == Ask::Snapshot {
        assert_eq!(asked.counts.get(Count::FaultsIssued), 0, "{what}");
    }
    if expected.is_err() {
        return;
    }
    let truth = world.ask::<Oracle>(&Request { owner: OWNER, ..Request::all(range, Wish::None) }).backend;
    let device = asked.mirror.device();
    for i in 0..range.nr_pages() as usize {
        let (got, want) = (asked.backend.view(i), truth.view(i));
        // Who faults page by page may have looked at this one before a neighbour's fault brought it along.
        let since = request.wish(i) == Wish::None && got == PageView::Absent && ask != Ask::Snapshot;
        assert!(since || agrees::<B>(got, want), "{what}: page {i} is {got:?}, the tables say {want:?}");
        let fulfilled = match (request.wish(i), want) {
            (Wish::None, _) => true,
            (_, PageView::Mapped { device: Some(true), .. }) => true,
            (Wish::Read, PageView::Mapped { .. }) => true,
            (Wish::Write, PageView::Mapped { write, .. }) => write == Some(true),
            _ => false,
        };
        assert!(fulfilled, "{what}: page {i} is left {want:?}");
        let entry = device.get(range.start().add_pages(i as u64));
        match got {
            PageView::Mapped { pfn, write, .. } => {
                assert!(entry.is_valid() && entry.pfn() == pfn, "{what}: page {i}: device has {entry:?}");
                assert_eq!(entry.is_write(), write.unwrap_or(false), "{what}: page {i}");
            }
            _ => assert!(!entry.is_valid(), "{what}: page {i}: device has {entry:?}"),
        }
    }
}

/// Every scenario, asked in every way that `B` can be asked.
pub(crate) fn answers_are_what_the_tables_say<B: Backend>() {
    let id = B::INFO.id;
    for scenario in SCENARIOS.iter().filter(|s| B::INFO.lacks(s.needs).is_none()) {
        for ask in Ask::ALL {
            // 4.17 destroys wishes inside the call.
            let forgets = id == "driver_format" && ask.is_per_page();
            if B::INFO.lacks(ask.needs()).is_none() && !forgets && !(scenario.deviates)(id, ask) {
                check::<B>(scenario, ask);
            }
        }
    }
}

/// -EINVAL, as `walk_page_range` answers.
pub(crate) fn an_empty_range_is_invalid<B: Backend>() {
    let world = World::new();
    world.map(World::pages(0, 4), RW, MapKind::Anon);
    let wish = if B::INFO.lacks(&[Capability::Snapshot]).is_none() { Wish::None } else { Wish::Read };
    let asked = world.ask::<B>(&Request::all(World::pages(1, 0), wish));
    assert_eq!(asked.result, Err(Errno::Inval));
}

/// One session serves calls of different ranges and wishes, one after the other.
pub(crate) fn a_session_can_be_used_again<B: Backend>() {
    let world = World::new();
    world.map(World::pages(0, 600), RW, MapKind::Anon);
    let mut backend = B::new(600);
    let mirror = Mirror::new(&world.mm, World::pages(0, 600));
    let mut c = Counts::default();
    for (first, n, wish) in
        [(0, 600, Wish::Read), (5, 20, Wish::Write), (100, 480, Wish::Read), (3, 9, Wish::Write)]
    {
        let request = Request::all(World::pages(first, n), wish);
        mirror.refresh(&mut backend, &request, RetryPolicy::default(), &mut c).unwrap();
        let truth = world.ask::<Oracle>(&Request::all(request.range, Wish::None)).backend;
        for i in 0..n as usize {
            let (got, want) = (backend.view(i), truth.view(i));
            assert!(agrees::<B>(got, want), "{}: page {i} is {got:?}, not {want:?}", B::INFO.id);
        }
    }
}

/// A sequence that moved before the call gives -EBUSY at the latest from `read_retry`, and the loop gets it right.
pub(crate) fn a_stale_sequence_is_never_installed<B: Backend>() {
    let world = World::new();
    world.map(World::pages(0, 16), RW, MapKind::Anon);
    world.write(World::pages(0, 16));
    let range = World::pages(0, 16);
    let mirror = Mirror::new(&world.mm, range);
    let mut backend = B::new(16);
    let mut c = Counts::default();
    let seq = world.mm.notifier.read_begin(mirror.subscription());
    world.mm.munmap(World::pages(0, 1)).unwrap();
    backend.prepare(&Request::all(World::pages(1, 15), Wish::Read), &mut c);
    match backend.walk(&world.mm, mirror.subscription(), seq, &mut c) {
        Ok(seq) => {
            let fresh = !mirror.subscription().read_retry(seq);
            assert_eq!(fresh, B::INFO.capabilities.contains(&Capability::Unlocked) && B::INFO.id != "noop");
        }
        Err(e) => assert!(matches!(e, Errno::Busy | Errno::Again), "{e}"),
    }
}

/// The device keeps its size in mind: nothing beyond the asked pages is written.
pub(crate) fn consume_writes_the_asked_pages_alone<B: Backend>() {
    let world = World::new();
    world.map(World::pages(0, 64), RW, MapKind::Anon);
    world.write(World::pages(0, 64));
    let mirror = Mirror::new(&world.mm, World::pages(0, 64));
    let mut backend = B::new(64);
    let request = Request::all(World::pages(10, 20), Wish::Read);
    mirror.refresh(&mut backend, &request, RetryPolicy::default(), &mut NoCounts).unwrap();
    for (addr, entry) in mirror.device().iter() {
        let asked = request.range.contains(addr) && B::INFO.id != "noop";
        assert_eq!(entry.is_valid(), asked, "{} at {addr:?}", B::INFO.id);
    }
}

const _: () = assert!(BASE.is_multiple_of(512 * PMD_SIZE));

/// Stamps the suite out for one backend type.
macro_rules! suite {
    ($id:ident, $backend:ty) => {
        #[test]
        fn id_is_that_of_the_registry_in_lower_case_with_underscores() {
            let id = <$backend as $crate::backend::Backend>::INFO.id;
            assert_eq!(id, stringify!($id));
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{id}");
        }
        #[test]
        fn a_stale_sequence_is_never_installed() {
            $crate::conformance::a_stale_sequence_is_never_installed::<$backend>();
        }
        #[test]
        fn consume_writes_the_asked_pages_alone() {
            $crate::conformance::consume_writes_the_asked_pages_alone::<$backend>();
        }
        $crate::conformance::suite!(@answers $id, $backend);
    };
    // The harness's own cost answers nothing.
    (@answers noop, $backend:ty) => {
        #[test]
        fn every_slot_is_unreached() {
            use $crate::backend::{Backend, PageView};
            assert_eq!(<$backend>::new(1).view(0), PageView::Unreached);
        }
    };
    (@answers $id:ident, $backend:ty) => {
        #[test]
        fn answers_are_what_the_tables_say() {
            $crate::conformance::answers_are_what_the_tables_say::<$backend>();
        }
        #[test]
        fn an_empty_range_is_invalid() {
            $crate::conformance::an_empty_range_is_invalid::<$backend>();
        }
        #[test]
        fn a_session_can_be_used_again() {
            $crate::conformance::a_session_can_be_used_again::<$backend>();
        }
    };
}
pub(crate) use suite;
