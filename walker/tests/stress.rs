//! Everything at once: mirrors, faulting CPUs and every operation on one address space, then an audit.
//!
//! A device must never hold a frame or a right that the tables lack, and in the end no frame, swap slot or hugetlb page
//! may be missing. Runs for two seconds; WALKBENCH_STRESS_SECONDS makes it longer. Threads that do not stop are named.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};
use walker::addr::{Level, PageRange, Pfn, VirtAddr};
use walker::arch::Geometry;
use walker::backend::Backend;
use walker::backends::map_order::MapOrder;
use walker::counters::NoCounts;
use walker::dmirror::Dmirror;
use walker::memory::page::PG_HWPOISON;
use walker::memory::{PageKind, PhysConfig};
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::device::{Device, DeviceMirror};
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{File, Settings, System, ThpMode};
use walker::mm::touch::Access;
use walker::mm::userfaultfd::{UffdMode, Userfaultfd};
use walker::mm::vma::VmFlags;
use walker::mm::{Errno, Mm};
use walker::request::{Request, Wish};

const START: VirtAddr = VirtAddr::new(0x2000_0000_0000);
const PAGES: u64 = 4 * 512;

/// xorshift64*: enough to mix operations.
struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// A part of the arena: a few pages, or aligned to huge pages.
    fn range(&mut self) -> PageRange {
        let (off, len) = match self.below(3) {
            0 => (self.below(4) * 512, 512),
            1 => {
                let off = self.below(PAGES - 64);
                (off, 1 + self.below(64))
            }
            _ => {
                let off = self.below(PAGES - 1);
                (off, 1 + self.below(PAGES - off))
            }
        };
        PageRange::pages(START.add_pages(off), len)
    }
}

/// Errors are answers here: gaps, unmapped or locked parts.
fn ignore(_: Result<(), Errno>) {}

/// What one thread of a round does; it stores the operation it is in.
type Work = Box<dyn FnOnce(&World, &AtomicU64) + Send>;

struct World {
    mm: Arc<Mm>,
    file: Arc<File>,
    uffd: Userfaultfd,
    stop: AtomicBool,
    mirrored_pages: AtomicU64,
    operations: AtomicU64,
}

const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

fn arena() -> PageRange {
    PageRange::pages(START, PAGES)
}

/// The owner of the device memory that the mirrors of the device with an owner put pages into.
const OWNER: u64 = 1000;

/// A device with memory of its own: what the kernel's migration tells it takes the page from its table.
struct Owned {
    mirror: Mirror,
    device: std::sync::OnceLock<Device>,
}

impl Owned {
    fn device(&self) -> Device {
        *self.device.get().unwrap()
    }
}

impl DeviceMirror for Owned {
    fn erase(&self, addr: VirtAddr) {
        self.mirror.device().clear(PageRange::pages(addr, 1));
    }
}

/// Entry of `addr` as `(frame, writable)`, if it maps anything for the processor, or for a device its own memory.
fn table_says(mm: &Mm, addr: VirtAddr, owner: u64) -> Option<(u64, bool)> {
    for level in [Level::Pte, Level::Pmd, Level::Pud] {
        let Ok(slot) = mm.lookup(addr, level) else { continue };
        let e = slot.read();
        if level == Level::Pte && e.is_swp() && e.swp().is_device_private() {
            let ours = mm.phys().page(e.swp().pfn()).owner() == owner;
            return ours.then(|| (e.swp().pfn().get(), e.swp().is_device_private_write()));
        }
        let leaf = e.is_present() && !e.is_protnone() && (level == Level::Pte || e.is_huge());
        let within = (addr.get() >> 12) & ((1 << level.order()) - 1);
        return leaf.then(|| (e.pfn().get() + within, e.is_write()));
    }
    None
}

/// No device entry that the tables do not back. Nothing else may run.
fn audit(mm: &Mm, mirror: &Mirror, owner: u64) -> u64 {
    let mut valid = 0;
    for (addr, entry) in mirror.device().iter().filter(|(_, e)| e.is_valid()) {
        let (pfn, write) = table_says(mm, addr, owner)
            .unwrap_or_else(|| panic!("{addr:?}: the device maps {:?}, the tables nothing", entry.pfn()));
        assert_eq!(entry.pfn().get(), pfn, "{addr:?}: another frame");
        assert!(!entry.is_write() || write, "{addr:?}: the device may write, the tables say no");
        valid += 1;
    }
    valid
}

fn run_mirror(w: &World, mirror: &Mirror, owner: u64, seed: u64) {
    let mut rng = Rng(seed);
    let mut backend = MapOrder::new(PAGES as usize);
    let mut wishes = vec![Wish::None; PAGES as usize];
    while !w.stop.load(Relaxed) {
        let range = rng.range();
        let mut request = Request::all(range, [Wish::None, Wish::Read, Wish::Write][rng.below(3) as usize]);
        request.owner = owner;
        if rng.below(3) == 0 {
            let n = range.nr_pages() as usize;
            wishes[..n].fill_with(|| [Wish::None, Wish::Read, Wish::Write][rng.below(3) as usize]);
            request = Request { default: Wish::None, per_page: Some(&wishes[..n]), ..request };
        }
        if mirror.refresh(&mut backend, &request, RetryPolicy::Attempts(20), &mut NoCounts).is_ok() {
            w.mirrored_pages.fetch_add(range.nr_pages(), Relaxed);
        }
    }
}

fn run_cpu(w: &World, seed: u64) {
    let mut rng = Rng(seed);
    while !w.stop.load(Relaxed) {
        let addr = VirtAddr::new(START.add_pages(rng.below(PAGES)).get() + 8);
        let access = if rng.below(2) == 0 { Access::Read } else { Access::Write(rng.below(255) as u8) };
        let _ = w.mm.touch(addr, access);
    }
}

fn run_operations(w: &World, owned: &Owned, doing: &AtomicU64, seed: u64) {
    let mut rng = Rng(seed);
    // A second driver with memory of its own.
    let mut driver = Dmirror::open(&w.mm, OWNER + 1 + seed % 2);
    let few = |range: PageRange| PageRange::pages(range.start(), range.nr_pages().min(100));
    let mut child: Option<Arc<Mm>> = None;
    while !w.stop.load(Relaxed) {
        let range = rng.range();
        let op = rng.below(46);
        doing.store(op, Relaxed);
        match op {
            0 | 1 => ignore(w.mm.madvise(range, Advice::DontNeed)),
            2 => ignore(w.mm.mprotect(range, VmFlags::READ)),
            3 | 4 => ignore(w.mm.mprotect(range, RW)),
            5 => ignore(w.mm.munmap(range)),
            6 | 7 | 14 | 15 => {
                let flags = MapFlags { fixed: true, ..MapFlags::default() };
                let kind = match rng.below(6) {
                    0 => MapKind::SharedAnon,
                    1 => MapKind::FilePrivate(Arc::clone(&w.file)),
                    2 => MapKind::FileShared { file: Arc::clone(&w.file), writable: true },
                    3 => MapKind::Hugetlb { order: 9, shared: rng.below(2) == 0 },
                    _ => MapKind::Anon,
                };
                let pgoff = range.start().pages_since(START);
                let pgoff = if matches!(kind, MapKind::Anon | MapKind::SharedAnon) { 0 } else { pgoff };
                ignore(w.mm.mmap(range, RW, kind, flags, pgoff));
            }
            8 => ignore(w.mm.madvise(range, Advice::PopulateWrite)),
            9 => ignore(w.mm.madvise(range, Advice::NoHugepage)),
            10 => ignore(w.mm.madvise(range, Advice::Hugepage)),
            16 | 17 => ignore(w.mm.madvise(range, Advice::PageOut)),
            18 => ignore(w.mm.madvise(range, Advice::Free)),
            19 => ignore(w.mm.madvise(range, Advice::Cold)),
            20 => {
                let to = PageRange::pages(
                    START.add_pages(rng.below(PAGES - range.nr_pages() + 1)),
                    range.nr_pages(),
                );
                ignore(w.mm.mremap(range, to));
            }
            21 => ignore(w.mm.mlock(range, rng.below(2) == 0)),
            22 => ignore(w.mm.munlock(range)),
            23 => ignore(w.mm.madvise(range, Advice::Remove)),
            24 => ignore(w.mm.madvise(range, Advice::WillNeed)),
            25 => ignore(w.file.punch(rng.below(PAGES / 2), 1 + rng.below(64))),
            13 => ignore(w.mm.msync(range)),
            11 => w.mm.change_prot_numa(range),
            12 => child = w.mm.fork().ok(),
            26 => ignore(w.mm.madvise(range, Advice::Collapse)),
            27 => {
                w.mm.khugepaged_step(range.start());
            }
            28 => {
                w.mm.migrate_range(range);
            }
            29 => ignore(w.file.truncate(PAGES / 2 + rng.below(PAGES / 2))),
            30 => ignore(w.file.write(rng.below(PAGES), 1 + rng.below(16), 7)),
            31 => {
                let kind = MapKind::Hugetlb { order: 9, shared: rng.below(2) == 0 };
                let flags = MapFlags {
                    fixed: true,
                    populate: rng.below(2) == 0,
                    noreserve: rng.below(2) == 0,
                    locked: rng.below(2) == 0,
                };
                ignore(w.mm.mmap(range, RW, kind, flags, 0));
            }
            32 => ignore(w.mm.migrate_to_device(range, owned.device(), &mut |addr, _, _| owned.erase(addr))),
            33 => ignore(w.mm.migrate_to_system(range, OWNER).map(|_| ())),
            34 => ignore(driver.migrate_to_device(few(range)).map(|_| ())),
            35 => ignore(driver.migrate_to_system(few(range)).map(|_| ())),
            36 => ignore(driver.exclusive(few(range)).map(|_| ())),
            37 => ignore(w.mm.make_device_exclusive(range, 0, &mut |_, _| {})),
            38 => ignore(driver.read(few(range)).map(|_| ())),
            40 => w.mm.clear_soft_dirty(),
            41 => {
                let mode = if rng.below(4) == 0 { UffdMode::Missing } else { UffdMode::WriteProtect };
                ignore(w.mm.uffd_register(w.uffd, range, mode));
            }
            42 => ignore(w.mm.uffd_writeprotect(range, rng.below(2) == 0)),
            39 => ignore(w.mm.madvise(range, Advice::PopulateRead)),
            // Seldom, and one page: it is gone for ever, and its block is never whole again.
            43 if rng.below(32) == 0 => {
                let page = PageRange::pages(range.start(), 1);
                let advice = if rng.below(2) == 0 { Advice::HwPoison } else { Advice::SoftOffline };
                // A long run must not end without hugetlb pages.
                let scarce = w.mm.system().hugetlb.nr_huge_pages(9) <= 8;
                let hugetlb = w.mm.mmap_read().find(page.start()).is_some_and(|v| v.has(VmFlags::HUGETLB));
                if !(hugetlb && scarce) {
                    ignore(w.mm.madvise(page, advice));
                }
            }
            43 => {}
            44 => ignore(driver.write(few(range), rng.below(255) as u8).map(|_| ())),
            _ => {
                if let Some(c) = &child {
                    for _ in 0..20 {
                        let _ = c.touch(START.add_pages(rng.below(PAGES)), Access::Write(1));
                    }
                    c.exit();
                }
                child = None;
            }
        }
        w.operations.fetch_add(1, Relaxed);
    }
}

#[test]
fn no_device_ever_holds_what_the_tables_lack() {
    let seconds = std::env::var("WALKBENCH_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let memory = PhysConfig { nr_frames: 1 << 19, host_huge_pages: false };
    let settings = Settings {
        thp: ThpMode::Always,
        shmem_thp: ThpMode::Always,
        swap_slots: 4 * PAGES,
        hugetlb_2m: 16,
        ..Settings::default()
    };
    let system = System::new(memory, settings).unwrap();
    let before = system.phys.nr_used();
    let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
    mm.mmap(arena(), RW, MapKind::Anon, MapFlags::default(), 0).unwrap();
    let file = File::tmpfs(&system);
    file.truncate(PAGES).unwrap();
    let world = Arc::new(World {
        mm: Arc::clone(&mm),
        file,
        uffd: Userfaultfd::new(&system, false),
        stop: AtomicBool::new(false),
        mirrored_pages: AtomicU64::new(0),
        operations: AtomicU64::new(0),
    });
    let mirrors = [Arc::new(Mirror::new(&mm, arena())), Arc::new(Mirror::new(&mm, arena()))];
    let owned = Arc::new(Owned { mirror: Mirror::new(&mm, arena()), device: std::sync::OnceLock::new() });
    let weak: std::sync::Weak<Owned> = Arc::downgrade(&owned);
    owned.device.set(Device { owner: OWNER, mirror: system.device.register(weak) }).unwrap();
    let mut valid = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    // Rounds of a quarter second, each ended by an audit at quiescence.
    while Instant::now() < end {
        round += 1;
        world.stop.store(false, Relaxed);
        // Plain threads, joined: ThreadSanitizer knows pthread_join, not the scope of an uninstrumented std.
        let mut threads = Vec::new();
        let mut start = |name: String, run: Work| {
            let (w, doing) = (Arc::clone(&world), Arc::new(AtomicU64::new(u64::MAX)));
            let there = Arc::clone(&doing);
            threads.push((name, doing, spawn(move || run(&w, &there))));
        };
        for (i, m) in mirrors.iter().enumerate() {
            let (m, seed) = (Arc::clone(m), 1000 * round + i as u64 + 1);
            start(format!("mirror {i}"), Box::new(move |w, _| run_mirror(w, &m, 0, seed)));
        }
        let o = Arc::clone(&owned);
        start(
            "owner's mirror".into(),
            Box::new(move |w, _| run_mirror(w, &o.mirror, OWNER, 1000 * round + 50)),
        );
        for i in 0..2 {
            start(format!("CPU {i}"), Box::new(move |w, _| run_cpu(w, 1000 * round + 100 + i)));
            let o = Arc::clone(&owned);
            let run =
                move |w: &World, doing: &AtomicU64| run_operations(w, &o, doing, 1000 * round + 200 + i);
            start(format!("operations {i}"), Box::new(run));
        }
        sleep(Duration::from_millis(250));
        world.stop.store(true, Relaxed);
        join(threads);
        valid += mirrors.iter().map(|m| audit(&mm, m, 0)).sum::<u64>() + audit(&mm, &owned.mirror, OWNER);
        assert_eq!(mm.notifier.debug_state().1, 0, "an event never ended");
    }
    println!(
        "{} pages mirrored, {} operations, {valid} device entries audited in {round} rounds",
        world.mirrored_pages.load(Relaxed),
        world.operations.load(Relaxed)
    );
    // A few rounds may all end right after an event over the whole address space.
    assert!((valid > 0 || round < 8) && world.mirrored_pages.load(Relaxed) > 0, "nothing was tested");
    drop((mirrors, owned, world));
    mm.exit();
    drop(mm);
    let (failed, failed_hugetlb) = failed(&system);
    let expected = before + failed + system.huge_zero_pfn().map_or(0, |_| 512);
    // Detached tables may still wait for their grace period.
    for _ in 0..1000 {
        walker::memory::rcu::flush();
        if system.phys.nr_used() == expected {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let left = system.phys.nr_used() - expected;
    assert_eq!(left, 0, "frames leaked: {:#?}", leaked(&system));
    assert_eq!(system.swap.nr_used(), 0, "swap slots leaked");
    let free = system.hugetlb.nr_huge_pages(9) - failed_hugetlb;
    assert_eq!(system.hugetlb.available(9), (free, 0), "hugetlb pages or reservations leaked");
    println!("{failed} frames failed, {free} hugetlb pages are left");
}

/// Waits for the threads; one that runs on for a minute after it was told to stop is a deadlock or a livelock.
fn join(threads: Vec<(String, Arc<AtomicU64>, JoinHandle<()>)>) {
    let told = Instant::now();
    while threads.iter().any(|(_, _, t)| !t.is_finished()) {
        if told.elapsed() > Duration::from_secs(60) {
            let stuck = threads.iter().filter(|(_, _, t)| !t.is_finished());
            let names: Vec<_> =
                stuck.map(|(name, doing, _)| format!("{name} (operation {})", doing.load(Relaxed))).collect();
            panic!("no progress for a minute: {}", names.join(", "));
        }
        sleep(Duration::from_millis(1));
    }
    for (name, doing, t) in threads {
        assert!(t.join().is_ok(), "{name} failed in operation {}", doing.load(Relaxed));
    }
}

/// Frames that failed or were taken out of service, and hugetlb pages among them. Nothing may use them again.
fn failed(system: &System) -> (u64, u64) {
    let (mut frames, mut hugetlb) = (0, 0);
    for pfn in 512..system.phys.high_water() {
        let page = system.phys.page(Pfn::new(pfn));
        if page.has(PG_HWPOISON) && page.tail_distance() == 0 {
            assert_eq!(page.refs(), 1, "{pfn:#x}: {page:?}");
            frames += 1 << page.order();
            hugetlb += u64::from(page.kind() == PageKind::Hugetlb);
        }
    }
    (frames, hugetlb)
}

/// The first frames that are in use although nothing uses them any more.
fn leaked(system: &System) -> Vec<String> {
    let page = |pfn| system.phys.page(Pfn::new(pfn));
    let known = [Some(system.zero_pfn()), system.huge_zero_pfn()];
    (512..system.phys.high_water())
        .filter(|&pfn| page(pfn).tail_distance() == 0 && !known.contains(&Some(Pfn::new(pfn))))
        // A free frame's struct page is all zero: one mapping.
        .filter(|&pfn| !page(pfn).has(PG_HWPOISON))
        .filter(|&pfn| page(pfn).kind() != PageKind::Anon || page(pfn).pte_mappings() != 1)
        .take(8)
        .map(|pfn| format!("{pfn:#x}: {:?}", page(pfn)))
        .collect()
}

#[test]
#[should_panic(expected = "the tables nothing")]
fn the_audit_sees_a_change_that_no_event_announced() {
    let memory = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
    let system = System::new(memory, Settings::default()).unwrap();
    let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
    mm.mmap(arena(), RW, MapKind::Anon, MapFlags::default(), 0).unwrap();
    let mirror = Mirror::new(&mm, arena());
    let mut backend = MapOrder::new(PAGES as usize);
    let request = Request::all(arena(), Wish::Write);
    mirror.refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut NoCounts).unwrap();
    let vmas = mm.mmap_read();
    mm.zap_page_range(vmas.find(START).unwrap(), PageRange::pages(START, 1));
    audit(&mm, &mirror, 0);
}
