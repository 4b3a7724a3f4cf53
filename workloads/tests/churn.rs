//! Churn in virtual time: exact, right at every instant, and broken on purpose.

use std::process::Command;
use std::sync::Arc;

use walker::addr::{Level, PageRange, VirtAddr};
use walker::audit::{self, Rules};
use walker::backend::{Backend, Capability};
use walker::backends::map_order::MapOrder;
use walker::backends::{self, Visitor};
use walker::counters::{Count, Counters, Counts, Erased};
use walker::device_table::DeviceTable;
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::{Errno, Mm};
use walker::notifier::{Event, EventKind, Invalidate, Subscription};
use walker::request::{Request, Wish};
use walker::sync::{AtomicU64, Mutex, Ordering::Relaxed};
use workloads::churn::virtual_time::Played;
use workloads::churn::{ChurnKind, ChurnSpec, Dose, Ground, GroundError, VirtualTime};
use workloads::request::RequestKind;
use workloads::shape::{Memory, ShapeSpec};

const SIZE: u64 = 4 << 20;
const CALL_PAGES: u64 = 64;

const DENSE: ShapeSpec = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Pages };
const FORKED: ShapeSpec = ShapeSpec::AfterFork { run_pages: 1, broken_permille: 100, memory: Memory::Pages };

fn spec(name: &str) -> ChurnSpec {
    name.parse().unwrap_or_else(|_| panic!("{name}"))
}

/// A churn of every kind, with the shape that it needs. DOSE becomes an open dose that lets most calls through: a call
/// is some 70 visits, on PMD leaves 2.
fn every_kind(rest: &str) -> Vec<(ShapeSpec, ChurnSpec)> {
    let mut all = Vec::new();
    for &kind in ChurnKind::ALL {
        let (shape, span) = match kind {
            ChurnKind::Split => (ShapeSpec::Dense2m, "2MiB"),
            ChurnKind::Collapse => (DENSE, "2MiB"),
            ChurnKind::Fork | ChurnKind::NumaHint => (FORKED, "64KiB"),
            _ => (DENSE, "64KiB"),
        };
        let rest = rest.replace("DOSE", if kind == ChurnKind::Split { "40000ps" } else { "3000ps" });
        all.push((shape, spec(&format!("{}-{span}-{rest}", kind.name()))));
    }
    all
}

/// What a few sweeps under churn came to.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    counts: Counts,
    played: Played,
    gave_up: u64,
    audited: u64,
}

struct Sweeps<'a> {
    shape: &'a ShapeSpec,
    churn: ChurnSpec,
    wish: Wish,
    policy: RetryPolicy,
    seed: u64,
}

impl Visitor for Sweeps<'_> {
    type Output = Outcome;
    fn visit<B: Backend>(self) -> Outcome {
        let (built, ground) = Ground::build(self.shape, SIZE, self.seed, self.churn).unwrap();
        let mirror = Mirror::new(&built.mm, built.range);
        let mut time = VirtualTime::new(self.churn, &ground, self.seed);
        let mut backend = B::new(CALL_PAGES as usize);
        let rules = Rules {
            reads_hints: match B::INFO.id {
                "pfn_bits" | "driver_format" => Some(Level::Pte),
                "range_default" => Some(Level::Pmd),
                _ => None,
            },
            ..Rules::default()
        };
        let (mut gave_up, mut audited) = (0, 0);
        for _ in 0..3 {
            for first in (0..built.range.nr_pages()).step_by(CALL_PAGES as usize) {
                let part = PageRange::pages(built.range.start().add_pages(first), CALL_PAGES);
                let request = Request::all(part, self.wish);
                let r = mirror.refresh_bounded(
                    &mut backend,
                    &request,
                    self.policy,
                    50,
                    &mut Erased::new(&mut time),
                    &mut |_, _| {},
                );
                match r {
                    Ok(()) => {
                        let held = audit::device(&built.mm, &mirror.device(), built.range, rules);
                        audited += held.unwrap_or_else(|v| panic!("{} {}: {v}", B::INFO.id, self.churn));
                    }
                    Err(Errno::Busy) => gave_up += 1,
                    Err(e) => panic!("{} {}: {e}", B::INFO.id, self.churn),
                }
            }
        }
        time.finish();
        let held = audit::device(&built.mm, &mirror.device(), built.range, rules);
        held.unwrap_or_else(|v| panic!("{} {}, in the end: {v}", B::INFO.id, self.churn));
        audit::pages(&built.mm).unwrap_or_else(|m| panic!("{} {}: {m}", B::INFO.id, self.churn));
        assert_eq!(built.mm.notifier.debug_state().1, 0, "an event never ended");
        let outcome = Outcome { counts: time.counts().clone(), played: time.played(), gave_up, audited };
        drop(mirror);
        built.discard();
        outcome
    }
}

fn sweeps(id: &str, shape: &ShapeSpec, churn: ChurnSpec, wish: Wish, policy: RetryPolicy) -> Outcome {
    backends::dispatch(id, Sweeps { shape, churn, wish, policy, seed: 7 }).unwrap()
}

fn walks(info: &walker::backend::Info, churn: &ChurnSpec, wish: Wish) -> bool {
    let asks = if wish == Wish::None { Capability::Snapshot } else { Capability::Fault };
    // The control looks at every page of a leaf by itself: an open dose that lets the others through does not let it.
    let collides =
        info.id == "oracle" && churn.kind == ChurnKind::Split && matches!(churn.dose, Dose::PerSec(_));
    info.id != "noop" && !collides && info.lacks(&[asks]).or(info.lacks(churn.requires())).is_none()
}

#[test]
fn every_kind_beside_every_backend_counts_exactly_and_holds_up_to_the_audit() {
    for rest in ["o100-uniform-DOSE-t2", "o50-zipf-every3-t1"] {
        for (shape, churn) in every_kind(rest) {
            for info in backends::ALL {
                for wish in [Wish::None, Wish::Read] {
                    if !walks(info, &churn, wish) {
                        continue;
                    }
                    let first = sweeps(info.id, &shape, churn, wish, RetryPolicy::AtOnce);
                    let again = sweeps(info.id, &shape, churn, wish, RetryPolicy::AtOnce);
                    assert_eq!(first, again, "{} {churn} {wish:?}", info.id);
                    assert!(first.played.events > 0, "{} {churn} {wish:?}: {first:?}", info.id);
                    assert!(first.audited > 0, "{} {churn} {wish:?}: {first:?}", info.id);
                }
            }
        }
    }
}

#[test]
fn write_wishes_are_fulfilled_beside_every_kind_but_mprotect() {
    for (shape, churn) in every_kind("o100-sweep-DOSE-t1") {
        if churn.refuses_request(RequestKind::FaultWrite).is_some() {
            assert_eq!(churn.kind, ChurnKind::Mprotect);
            continue;
        }
        for id in ["driver_format", "map_order", "unlocked", "oracle"] {
            if !walks(backends::find(id).unwrap(), &churn, Wish::Write) {
                continue;
            }
            let outcome = sweeps(id, &shape, churn, Wish::Write, RetryPolicy::AtOnce);
            assert!(outcome.played.events > 0 && outcome.audited > 0, "{id} {churn}: {outcome:?}");
        }
    }
}

#[test]
fn what_needs_the_lock_for_writing_waits_for_the_walk() {
    let churn = spec("mprotect-4KiB-o100-sweep-50000ps-t1");
    let outcome = sweeps("map_order", &DENSE, churn, Wish::None, RetryPolicy::AtOnce);
    assert!(outcome.played.waited > 0, "{outcome:?}");
    let churn = spec("zap-4KiB-o100-sweep-50000ps-t1");
    let outcome = sweeps("map_order", &DENSE, churn, Wish::None, RetryPolicy::AtOnce);
    assert_eq!(outcome.played.waited, 0, "{outcome:?}");
    // The policy that holds the lock for writing keeps even that one out.
    let churn = spec("zap-4KiB-o100-sweep-max-t1");
    let at_once = sweeps("map_order", &DENSE, churn, Wish::None, RetryPolicy::AtOnce);
    let locked = sweeps("map_order", &DENSE, churn, Wish::None, RetryPolicy::Locked);
    assert!(at_once.gave_up > 0 && locked.gave_up == 0, "{at_once:?}\n{locked:?}");
    assert!(locked.played.waited > 0, "{locked:?}");
}

#[test]
fn a_walk_that_waits_for_a_migration_goes_on() {
    let churn = spec("migrate-2MiB-o100-sweep-3000ps-t1");
    let outcome = sweeps("map_order", &DENSE, churn, Wish::Read, RetryPolicy::AtOnce);
    assert!(outcome.counts.get(Count::MigrationWaits) > 0, "{outcome:?}");
    assert_eq!(outcome.gave_up, 0);
}

#[test]
fn a_collision_costs_a_resumed_walk_one_piece() {
    struct Whole(RetryPolicy);
    impl Visitor for Whole {
        type Output = (bool, Counts);
        fn visit<B: Backend>(self) -> (bool, Counts) {
            let churn = spec("zap-4KiB-o100-uniform-700ps-t1");
            let (built, ground) = Ground::build(&DENSE, 16 << 20, 3, churn).unwrap();
            let mirror = Mirror::new(&built.mm, built.range);
            let mut time = VirtualTime::new(churn, &ground, 3);
            let mut backend = B::new(built.range.nr_pages() as usize);
            let request = Request::all(built.range, Wish::Read);
            let r = mirror.refresh_bounded(&mut backend, &request, self.0, 40, &mut time, &mut |_, _| {});
            let held = audit::device(&built.mm, &mirror.device(), built.range, Rules::default()).unwrap();
            assert!(r.is_err() || held > 0);
            drop(mirror);
            built.discard();
            (r.is_ok(), time.counts().clone())
        }
    }
    // An event every 1400 visits, 4096 pages: the whole never holds, a piece of 512 does.
    let (at_once, _) = Whole(RetryPolicy::AtOnce).visit::<MapOrder>();
    let (resumed, counts) = Whole(RetryPolicy::Resumed).visit::<MapOrder>();
    assert!(!at_once && resumed, "{counts:?}");
    // After a millisecond it is the same: the whole is still too long.
    assert!(!Whole(RetryPolicy::After { ns: 1_000_000 }).visit::<MapOrder>().0);
}

#[test]
fn counts_are_the_same_in_another_process() {
    const ONLY: &str = "WALKBENCH_PRINT_COUNTS";
    let text = || {
        let mut text = String::new();
        for (shape, churn) in every_kind("o75-uniform-DOSE-t3") {
            let wish = if churn.kind == ChurnKind::Mprotect { Wish::Read } else { Wish::Write };
            let outcome = sweeps("map_order", &shape, churn, wish, RetryPolicy::BackOff);
            text += &format!("@{churn} {:?} {:?}\n", outcome.played, outcome.counts);
        }
        text
    };
    let ours = text();
    if std::env::var_os(ONLY).is_some() {
        print!("{ours}");
        return;
    }
    let me = std::env::current_exe().unwrap();
    let test = "counts_are_the_same_in_another_process";
    let output = Command::new(me).args([test, "--exact", "--nocapture"]).env(ONLY, "1").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let theirs: String =
        printed.lines().filter_map(|l| l.find('@').map(|at| format!("{}\n", &l[at..]))).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn churn_that_cannot_happen_is_refused_before_anything_is_measured() {
    for (shape, churn, why) in [
        (&DENSE, "split-2MiB-o100-uniform-max-t1", "like dense_2m"),
        (&DENSE, "collapse-64KiB-o100-uniform-max-t1", "2MiB or more"),
        (&DENSE, "zap-1GiB-o100-uniform-max-t1", "no longer than the size"),
    ] {
        let error = Ground::build(shape, SIZE, 1, spec(churn)).unwrap_err();
        assert!(matches!(error, GroundError::Refused { .. }) && error.to_string().contains(why), "{error}");
    }
    let captured = ShapeSpec::embedded("interpreter").unwrap();
    let size = captured.own_size().unwrap();
    for churn in ["zap-4KiB-o50-uniform-max-t1", "zap-4KiB-o100-uniform-max-t1"] {
        let error = Ground::build(&captured, size, 1, spec(churn)).unwrap_err();
        assert!(matches!(error, GroundError::Refused { .. }), "{error}");
    }
    let mprotect = spec("mprotect-4KiB-o100-uniform-max-t1");
    assert!(mprotect.refuses_request(RequestKind::FaultWrite).is_some());
    assert!(mprotect.refuses_request(RequestKind::FaultRead).is_none());
}

// What must be caught. Each mutant is a driver or an operation with one fault; the rest is the real thing.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// The driver programs what it walked, whatever `read_retry` would say.
    SkipReadRetry,
    /// The callback tears down at once but stores the sequence only when the event is over.
    SeqAfterChange,
    /// The event is over before the entries change.
    EndEarly,
}

/// A driver with a device table, as [`Mirror`] has one.
struct Driver {
    mutant: Mutant,
    device: Mutex<DeviceTable>,
    late_seq: AtomicU64,
}

impl Invalidate for Driver {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        let mut device = self.device.lock();
        if self.mutant == Mutant::SeqAfterChange {
            self.late_seq.store(cur_seq, Relaxed);
        } else {
            sub.set_seq(cur_seq);
        }
        device.clear(event.range);
        true
    }
}

/// Zaps a page at visit 40 of the walk, once.
struct AtVisit<'a> {
    mm: &'a Arc<Mm>,
    mutant: Mutant,
    victim: VirtAddr,
    visits: u64,
    /// Whether the device's view was right in the middle of the change, too.
    audit: &'a dyn Fn(),
}

impl Counters for AtVisit<'_> {
    const ENABLED: bool = true;
    fn add(&mut self, what: Count, n: u64) {
        if matches!(what, Count::PtesVisited | Count::PmdsVisited) {
            let before = self.visits;
            self.visits += n;
            if before < 40 && self.visits >= 40 {
                self.zap();
            }
        }
    }
    fn get(&self, _: Count) -> u64 {
        0
    }
    fn run_limit(&self) -> usize {
        1
    }
}

impl AtVisit<'_> {
    fn zap(&self) {
        let vmas = self.mm.mmap_read();
        let vma = vmas.find(self.victim).unwrap();
        let part = PageRange::pages(self.victim, 1);
        let event = Event::new(EventKind::Clear, part);
        if self.mutant == Mutant::EndEarly {
            self.mm.notifier.during(&event, || {});
            // In between another walk, of another thread, takes the page.
            (self.audit)();
            self.mm.zap_page_range(vma, part);
        } else {
            self.mm.notifier.during(&event, || self.mm.zap_page_range(vma, part));
        }
    }
}

/// Two drivers mirror a page that is zapped at visit 40 of the walk of the first: the first walks across the change,
/// the second just before the change, after the event if that ends early.
fn zap_across_a_walk(mutant: Mutant) -> Result<u64, audit::Violation> {
    struct Run(Mutant);
    impl Visitor for Run {
        type Output = Result<u64, audit::Violation>;
        fn visit<B: Backend>(self) -> Self::Output {
            let Run(mutant) = self;
            let built = DENSE.build(SIZE, 1).unwrap();
            let mm = &built.mm;
            let driver = Arc::new(Driver {
                mutant,
                device: Mutex::new(DeviceTable::new(built.range)),
                late_seq: AtomicU64::new(0),
            });
            let sub = mm.notifier.insert(built.range, Arc::clone(&driver) as Arc<dyn Invalidate>);
            let second = Mirror::new(mm, built.range);
            let request = Request::all(PageRange::pages(built.range.start(), CALL_PAGES), Wish::None);
            let walk_second = || {
                let mut backend = B::new(CALL_PAGES as usize);
                let c = &mut walker::counters::NoCounts;
                second.refresh(&mut backend, &request, RetryPolicy::AtOnce, c).unwrap();
            };
            // Read at visit 11, gone at visit 40.
            let victim = built.range.start().add_pages(10);
            let mut c = AtVisit { mm, mutant, victim, visits: 0, audit: &walk_second };
            let mut backend = B::new(CALL_PAGES as usize);
            loop {
                backend.prepare(&request, &mut c);
                let seq = mm.notifier.read_begin(&sub);
                let walked = backend.walk(mm, &sub, seq, &mut c);
                let mut device = driver.device.lock();
                if walked.is_ok() && (mutant == Mutant::SkipReadRetry || !sub.read_retry(seq)) {
                    backend.consume(&mut device, &mut c);
                    break;
                }
            }
            let late = driver.late_seq.load(Relaxed);
            if late > 0 {
                sub.set_seq(late);
            }
            assert!(c.visits >= 40);
            let rules = Rules::default();
            let r = audit::device(mm, &driver.device.lock(), built.range, rules)
                .and_then(|n| Ok(n + audit::device(mm, &second.device(), built.range, rules)?));
            drop(second);
            mm.notifier.remove(&sub);
            built.discard();
            r
        }
    }
    Run(mutant).visit::<MapOrder>()
}

#[test]
fn the_audit_catches_each_mutant_of_the_protocol() {
    assert!(zap_across_a_walk(Mutant::None).unwrap() >= CALL_PAGES - 1);
    for mutant in [Mutant::SkipReadRetry, Mutant::SeqAfterChange, Mutant::EndEarly] {
        let violation = zap_across_a_walk(mutant).expect_err("caught");
        assert_eq!(violation.live.map(|(e, _)| e.is_none()), Some(true), "{mutant:?}: {violation}");
    }
}

#[test]
fn the_audit_of_struct_pages_sees_a_mapping_that_is_not_counted() {
    let built = DENSE.build(SIZE, 1).unwrap();
    assert_eq!(audit::pages(&built.mm), Ok(built.range.nr_pages()));
    let slot = built.mm.lookup(built.range.start(), Level::Pte).unwrap();
    let pfn = slot.read().pfn();
    built.mm.phys().page(pfn).add_pte_mappings(1);
    assert_eq!(audit::pages(&built.mm).unwrap_err().pfn, pfn);
    built.mm.phys().page(pfn).add_pte_mappings(-1);
    built.mm.phys().clear_anon_exclusive(pfn);
    assert_eq!(audit::pages(&built.mm).unwrap_err().pfn, pfn);
    built.discard();
}
