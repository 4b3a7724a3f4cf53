//! Model checking with loom: `RUSTFLAGS="--cfg loom" cargo test -p walker --test loom --release`.
//!
//! The tiny geometry (four entries a table) and the real code: notifier, tables, grace periods, range walk. Each model
//! has a mutant beside it that breaks the protocol and must be caught, so that a model that checks nothing shows.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use std::sync::Arc;
use walker::addr::{Level, PAGES_PER_PMD, PageRange, Pfn, VirtAddr};
use walker::arch::{Entry, Geometry, Prot};
use walker::backend::{Backend, PageView};
use walker::backends::map_order::MapOrder;
use walker::counters::NoCounts;
use walker::memory::PhysConfig;
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::Mm;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{Settings, System, ThpMode};
use walker::mm::touch::Access;
use walker::mm::vma::VmFlags;
use walker::notifier::{Event, EventKind, Invalidate, Subscription, Subscriptions};
use walker::request::{Request, Wish};
use walker::sync::Mutex;

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Three forced switches reach every interleaving of the protocol steps; more only repeats them.
    builder.preemption_bound = Some(3);
    builder.max_branches = 100_000;
    builder.check(f);
}

/// Whether `f` fails under the model checker.
fn fails(f: impl Fn() + Sync + Send + 'static) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(f))).is_err()
}

const START: VirtAddr = VirtAddr::new(0);

fn one_page() -> PageRange {
    PageRange::pages(START, 1)
}

// ---- notifier ----------------------------------------------------------------------------------------------------

/// One page-table word and one device word. 1 is a right to the page; the device must never keep it once it is gone.
struct Toy {
    subs: Subscriptions,
    entry: AtomicU64,
    device: Arc<Device>,
}

struct Device {
    word: Mutex<u64>,
    forgets_seq: bool,
}

impl Invalidate for Device {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        let mut word = self.word.lock();
        if !self.forgets_seq {
            sub.set_seq_of(event.range, cur_seq);
        }
        *word = 0;
        true
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    SkipReadRetry,
    ForgetSeq,
    ChangeAfterEvent,
    /// What is read in an odd phase counts as read after it.
    TakesOddPhase,
}

fn toy(m: Mutant) -> (Arc<Toy>, Arc<Subscription>) {
    let device = Arc::new(Device { word: Mutex::new(0), forgets_seq: m == Mutant::ForgetSeq });
    let toy = Arc::new(Toy { subs: Subscriptions::default(), entry: AtomicU64::new(1), device });
    let sub = toy.subs.insert_sliced(one_page(), Arc::clone(&toy.device) as Arc<dyn Invalidate>);
    (toy, sub)
}

fn zap(toy: &Toy, m: Mutant) {
    let event = Event::new(EventKind::Clear, one_page());
    if m == Mutant::ChangeAfterEvent {
        toy.subs.during(&event, || {});
        toy.entry.store(0, Relaxed);
    } else {
        toy.subs.during(&event, || toy.entry.store(0, Relaxed));
    }
}

/// One try of the canonical loop.
fn mirror(toy: &Toy, sub: &Subscription, m: Mutant) {
    let seq = toy.subs.read_begin(sub);
    let seen = toy.entry.load(Relaxed);
    let mut word = toy.device.word.lock();
    if m == Mutant::SkipReadRetry || !sub.read_retry(seq) {
        *word = seen;
    }
}

/// The same with the sequence of a slice: it may begin while an event is running.
fn mirror_slice(toy: &Toy, sub: &Subscription, m: Mutant) {
    let seq = toy.subs.read_begin_slices(|_| true);
    let seen = toy.entry.load(Relaxed);
    let mut word = toy.device.word.lock();
    let slice = sub.slice_seq(START);
    if m == Mutant::SkipReadRetry || slice < seq || m == Mutant::TakesOddPhase && slice == seq {
        *word = seen;
    }
}

fn reader_against_zap(m: Mutant, mirror: fn(&Toy, &Subscription, Mutant)) {
    let (toy, sub) = toy(m);
    let writer = {
        let toy = Arc::clone(&toy);
        thread::spawn(move || zap(&toy, m))
    };
    mirror(&toy, &sub, m);
    writer.join().unwrap();
    let (device, entry) = (*toy.device.word.lock(), toy.entry.load(Relaxed));
    assert!(device <= entry, "the device kept a right that the tables lost");
    let (seq, active) = toy.subs.debug_state();
    assert!(seq % 2 == 0 && active == 0, "the phase ended");
    toy.subs.remove(&sub);
}

#[test]
fn a_reader_never_keeps_what_an_event_took() {
    check(|| reader_against_zap(Mutant::None, mirror));
    check(|| reader_against_zap(Mutant::None, mirror_slice));
}

#[test]
fn mutants_of_the_notifier_protocol_are_caught() {
    for m in [Mutant::SkipReadRetry, Mutant::ForgetSeq, Mutant::ChangeAfterEvent] {
        assert!(fails(move || reader_against_zap(m, mirror)));
        assert!(fails(move || reader_against_zap(m, mirror_slice)));
    }
    assert!(fails(|| reader_against_zap(Mutant::TakesOddPhase, mirror_slice)));
}

#[test]
fn nested_events_keep_the_phase_open_until_the_last_ends() {
    check(|| {
        let (toy, sub) = toy(Mutant::None);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let toy = Arc::clone(&toy);
                thread::spawn(move || zap(&toy, Mutant::None))
            })
            .collect();
        mirror(&toy, &sub, Mutant::None);
        writers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(*toy.device.word.lock(), 0);
        assert_eq!(toy.subs.debug_state().0 % 2, 0);
    });
}

#[test]
fn insert_and_remove_during_an_event_are_deferred_and_lose_nothing() {
    check(|| {
        let (toy, sub) = toy(Mutant::None);
        let writer = {
            let toy = Arc::clone(&toy);
            thread::spawn(move || zap(&toy, Mutant::None))
        };
        let second = toy.subs.insert(one_page(), Arc::clone(&toy.device) as Arc<dyn Invalidate>);
        mirror(&toy, &second, Mutant::None);
        toy.subs.remove(&sub);
        writer.join().unwrap();
        assert!(*toy.device.word.lock() <= toy.entry.load(Relaxed));
        toy.subs.remove(&second);
        assert_eq!(toy.subs.debug_state().1, 0);
    });
}

// ---- tables ------------------------------------------------------------------------------------------------------

fn tiny_mm() -> Arc<Mm> {
    let memory = PhysConfig { nr_frames: 32, host_huge_pages: false };
    let system = System::new(memory, Settings { thp: ThpMode::Always, ..Settings::default() }).unwrap();
    let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
    let rw = VmFlags::READ | VmFlags::WRITE;
    mm.mmap(slice(), rw, MapKind::Anon, MapFlags::default(), 0).unwrap();
    mm
}

fn slice() -> PageRange {
    PageRange::pages(START, PAGES_PER_PMD)
}

fn rw() -> Prot {
    Prot::of(true, true, false, true)
}

/// The frames of a snapshot, or none where a slot is absent.
fn snapshot(mm: &Arc<Mm>, mirror: &Mirror) -> Vec<Option<Pfn>> {
    let mut backend = MapOrder::new(PAGES_PER_PMD as usize);
    let request = Request::all(slice(), Wish::None);
    mirror.refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut NoCounts).unwrap();
    let _ = mm;
    (0..PAGES_PER_PMD as usize)
        .map(|i| match backend.view(i) {
            PageView::Mapped { pfn, .. } => Some(pfn),
            PageView::Absent => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A walk reads a PTE table while somebody detaches it and somebody else gets its frame.
fn walk_against_detach(waits_for_readers: bool) {
    let mm = tiny_mm();
    // Frames that nothing else uses stand for what each table maps.
    let (right, wrong) = (Pfn::new(30), Pfn::new(31));
    let pmd = mm.lookup_alloc(START, Level::Pmd).unwrap();
    mm.install_table(pmd).unwrap();
    let old = mm.phys().table(pmd.read().pfn());
    old.set(0, Entry::leaf(right, rw()));
    let detacher = {
        let mm = Arc::clone(&mm);
        thread::spawn(move || {
            let pmd = mm.lookup(START, Level::Pmd).unwrap();
            let table = mm.phys().table(pmd.read().pfn());
            {
                let _guard = pmd.lock();
                pmd.set(Entry::NONE);
            }
            if waits_for_readers {
                mm.phys().free_table_rcu(table.pfn());
            } else {
                mm.phys().free_table(table.pfn());
            }
            // The frame's next owner fills it with something else, if it is free already.
            let next = mm.phys().alloc_table().unwrap();
            next.set(0, Entry::leaf(wrong, rw()));
            next.pfn()
        })
    };
    let mut backend = MapOrder::new(1);
    backend.prepare(&Request::all(one_page(), Wish::None), &mut NoCounts);
    let device = Arc::new(Device { word: Mutex::new(0), forgets_seq: false });
    let sub = mm.notifier.insert(one_page(), device);
    let seq = mm.notifier.read_begin(&sub);
    backend.walk(&mm, &sub, seq, &mut NoCounts).unwrap();
    let seen = backend.view(0);
    assert!(
        !matches!(seen, PageView::Mapped { pfn, .. } if pfn == wrong),
        "the walk read a table that already belonged to somebody else"
    );
    let next = detacher.join().unwrap();
    mm.notifier.remove(&sub);
    mm.phys().table(next).set(0, Entry::NONE);
    mm.phys().free_table(next);
    let _ = mm.lookup(START, Level::Pmd).map(|s| s.table.set(s.index, Entry::NONE));
}

#[test]
fn a_walk_never_reads_a_table_that_was_freed_under_it() {
    check(|| walk_against_detach(true));
}

#[test]
fn freeing_a_table_without_a_grace_period_is_caught() {
    assert!(fails(|| walk_against_detach(false)));
}

#[test]
fn a_snapshot_during_a_split_sees_every_page_at_its_frame() {
    check(|| {
        let mm = tiny_mm();
        mm.touch(START, Access::Write(1)).unwrap();
        let leaf = mm.lookup(START, Level::Pmd).unwrap().read();
        assert!(leaf.is_huge(), "the fault mapped a leaf");
        let head = leaf.pfn();
        let mirror = Mirror::new(&mm, slice());
        let splitter = {
            let mm = Arc::clone(&mm);
            thread::spawn(move || {
                let vmas = mm.mmap_read();
                let vma = vmas.find(START).unwrap();
                let pmd = mm.lookup(START, Level::Pmd).unwrap();
                mm.split_huge_pmd(vma, pmd, START, &mut NoCounts);
            })
        };
        let frames = snapshot(&mm, &mirror);
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!(*frame, Some(head.add(i as u64)), "page {i}");
        }
        splitter.join().unwrap();
    });
}
