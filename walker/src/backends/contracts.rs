//! What each generation does to its inputs, how it restarts, and what that costs: tests that are not a table.

use crate::addr::{Level, PAGES_PER_PMD, PageRange};
use crate::arch::{SwpEntry, SwpType};
use crate::backend::{Backend, PageView};
use crate::backends::compound_flag::CompoundFlag;
use crate::backends::driver::{Driver, Format, RangeCall};
use crate::backends::driver_format::{DriverFormat, LOW_BITS, SHIFT_7, TOP_BITS, V4_17};
use crate::backends::fixed::{ERROR, Layout, VALID, WRITE};
use crate::backends::fixed_flags::FixedFlags;
use crate::backends::map_order::MapOrder;
use crate::backends::oracle::Oracle;
use crate::backends::pfn_bits::{self, PfnBits};
use crate::backends::range_default::{RangeDefault, V5_2, V5_5, V5_7};
use crate::backends::split_arrays::SplitArrays;
use crate::backends::sticky_flags::{DMA_MAPPED, P2PDMA, STICKY, StickyFlags};
use crate::backends::struct_page::PointerOnly;
use crate::backends::unlocked::Unlocked;
use crate::conformance::{Asked, OWNER, RW, World};
use crate::counters::{Count, Counters, Counts};
use crate::memory::page::PG_WAITERS;
use crate::mirror::Mirror;
use crate::mm::Errno;
use crate::mm::madvise::Advice;
use crate::mm::mmap::MapKind;
use crate::mm::vma::VmFlags;
use crate::notifier::{Event, EventKind};
use crate::request::{Request, Wish};

fn wishes(n: u64, of: impl Fn(u64) -> Wish) -> Vec<Wish> {
    (0..n).map(of).collect()
}

fn ask_each<B: Backend>(world: &World, range: PageRange, wishes: &[Wish]) -> Asked<B> {
    world.ask(&Request { range, default: Wish::None, per_page: Some(wishes), owner: OWNER })
}

fn is_writable<B: Backend>(backend: &B, i: usize) -> bool {
    matches!(backend.view(i), PageView::Mapped { write: Some(true), .. })
}

/// One call of `hmm_range_fault` on a session, collisions included, never refilled.
fn call<B: Backend>(backend: &mut B, world: &World, mirror: &Mirror) -> (Result<(), Errno>, Counts) {
    let mut c = Counts::default();
    loop {
        let seq = world.mm.notifier.read_begin(mirror.subscription());
        match backend.walk(&world.mm, mirror.subscription(), seq, &mut c) {
            Err(Errno::Busy) => {}
            r => return (r.map(|_| ()), c),
        }
    }
}

/// Semantics 1.5: what one call leaves in the slot is what the next one reads as a wish.
#[test]
fn outputs_escalate_to_wishes_when_the_caller_does_not_refill() {
    const FAULT: u64 = VALID;
    // Wish, state, output, and what the same call does to the page after a fork or a zap.
    struct Case {
        wish: u64,
        build: fn(&World),
        output: u64,
        meanwhile: fn(&mut World),
        second: (Count, u64),
    }
    fn zap(w: &mut World) {
        w.mm.madvise(World::pages(0, 1), Advice::DontNeed).unwrap();
    }
    fn map_read(w: &World) {
        w.read(World::pages(0, 1));
    }
    fn map_write(w: &World) {
        w.write(World::pages(0, 1));
    }
    let cases = [
        // Absent stays a snapshot.
        Case { wish: 0, build: |_| {}, output: 0, meanwhile: |_| {}, second: (Count::FaultsIssued, 0) },
        // Read-only becomes REQ_FAULT: a page that vanished is faulted in.
        Case { wish: 0, build: map_read, output: VALID, meanwhile: zap, second: (Count::FaultsZeroPage, 1) },
        // Writable becomes REQ_FAULT and REQ_WRITE: a page shared since is copied.
        Case {
            wish: 0,
            build: map_write,
            output: VALID | WRITE,
            meanwhile: World::fork,
            second: (Count::FaultsCowCopy, 1),
        },
        Case {
            wish: FAULT,
            build: map_write,
            output: VALID | WRITE,
            meanwhile: World::fork,
            second: (Count::FaultsCowCopy, 1),
        },
        // These stay what they were.
        Case {
            wish: FAULT,
            build: map_read,
            output: VALID,
            meanwhile: |_| {},
            second: (Count::FaultsIssued, 0),
        },
        Case {
            wish: FAULT | WRITE,
            build: map_read,
            output: VALID | WRITE,
            meanwhile: World::fork,
            second: (Count::FaultsCowCopy, 1),
        },
    ];
    for (i, case) in cases.iter().enumerate() {
        let mut world = World::new();
        world.map(World::pages(0, 1), RW, MapKind::Anon);
        (case.build)(&world);
        let mirror = Mirror::new(&world.mm, World::pages(0, 1));
        let mut b = FixedFlags::new(1);
        b.prepare_raw(World::pages(0, 1), 0, VALID | WRITE, 0, |slots| slots[0] = case.wish);
        assert_eq!(call(&mut b, &world, &mirror).0, Ok(()));
        assert_eq!(b.hmm_pfns()[0] & (VALID | WRITE | ERROR), case.output, "case {i}");
        (case.meanwhile)(&mut world);
        let (r, c) = call(&mut b, &world, &mirror);
        assert_eq!((r, c.get(case.second.0)), (Ok(()), case.second.1), "case {i}");
    }
}

#[test]
fn an_array_of_its_own_keeps_wishes_from_escalating() {
    let mut world = World::new();
    let range = World::pages(0, 2);
    world.map(range, RW, MapKind::Anon);
    world.write(range);
    let mirror = Mirror::new(&world.mm, range);
    let mut b = SplitArrays::new(2);
    let each = [Wish::None, Wish::Read];
    b.prepare(
        &Request { range, default: Wish::None, per_page: Some(&each), owner: 0 },
        &mut Counts::default(),
    );
    assert_eq!(call(&mut b, &world, &mirror).0, Ok(()));
    world.fork();
    let (r, c) = call(&mut b, &world, &mirror);
    assert_eq!((r, c.get(Count::FaultsIssued)), (Ok(()), 0));
    assert_eq!(b.req_flags(), [0, VALID]);
}

/// 1.2: a read wish and a write wish in one hole give a read fault for both; the write wish is gone by then.
#[test]
fn wishes_are_destroyed_inside_the_call_until_5_6() {
    fn loses<B: Backend>() -> bool {
        let world = World::new();
        world.map(World::pages(0, 8), RW, MapKind::Anon);
        let each = wishes(8, |i| if i == 5 { Wish::Write } else { Wish::Read });
        let asked = ask_each::<B>(&world, World::pages(0, 8), &each);
        assert_eq!(asked.result, Ok(()));
        assert!(matches!(asked.backend.view(5), PageView::Mapped { .. }));
        !is_writable(&asked.backend, 5)
    }
    assert!(loses::<DriverFormat>());
    // The span is faulted with the strongest need of its slots from 5.2 on.
    assert!(!loses::<RangeDefault<V5_5>>());
    assert!(!loses::<RangeDefault<V5_7>>());
    assert!(!loses::<FixedFlags>());

    // 4.17 and 5.5 forget it where the first fault only makes a hint readable; 5.8 comes back for the rest.
    fn left<B: Backend>() -> bool {
        let world = World::new();
        world.map(World::pages(0, 8), RW, MapKind::Anon);
        world.read(World::pages(0, 1));
        world.change(World::pages(0, 1), crate::mm::protect::Change::NumaHint);
        let each = wishes(8, |i| if i == 7 { Wish::Write } else { Wish::Read });
        let asked = ask_each::<B>(&world, World::pages(0, 8), &each);
        assert_eq!(asked.result, Ok(()));
        is_writable(&asked.backend, 7)
    }
    assert!(!left::<DriverFormat>() && !left::<RangeDefault<V5_5>>());
    assert!(left::<RangeDefault<V5_7>>() && left::<FixedFlags>() && left::<SplitArrays>());
}

/// Slots before the failing span are outputs, later ones untouched inputs (5.7+); before 5.5 they are cleared.
#[test]
fn an_error_leaves_outputs_before_it_and_inputs_behind() {
    let world = World::new();
    let range = World::pages(0, 8);
    world.map(range, RW, MapKind::Anon);
    world.write(World::pages(0, 4));
    world.plant_marker(World::addr(5), crate::arch::entry::MARKER_POISONED);
    let mirror = Mirror::new(&world.mm, range);

    let mut b = MapOrder::new(8);
    b.prepare_raw(range, 0, VALID | WRITE, 0, |s| s.copy_from_slice(&[0, 0, 0, 0, 7, VALID | 9, 11, 13]));
    assert_eq!(call(&mut b, &world, &mirror).0, Err(Errno::Fault));
    assert!(b.hmm_pfns()[..4].iter().all(|s| s & (VALID | WRITE) == VALID | WRITE));
    assert_eq!(b.hmm_pfns()[4..], [0, VALID | 9, 11, 13]);

    fn slots<G: RangeCall>(world: &World, range: PageRange) -> Vec<u64> {
        let each = wishes(8, |i| if i >= 5 { Wish::Read } else { Wish::None });
        let asked = ask_each::<Driver<G>>(world, range, &each);
        assert_eq!(asked.result, Err(Errno::Fault));
        asked.backend.slots().pfns()[4..].to_vec()
    }
    assert_eq!(slots::<V4_17>(&world, range), [LOW_BITS.none; 4]);
    assert_eq!(slots::<V5_2>(&world, range), [LOW_BITS.none; 4]);
    // Faulted up to there, the failing slot ERROR, the rest inputs.
    assert_eq!(slots::<V5_5>(&world, range), [LOW_BITS.none, LOW_BITS.error, LOW_BITS.valid, LOW_BITS.valid]);
    assert_eq!(slots::<V5_7>(&world, range), [LOW_BITS.none, LOW_BITS.valid, LOW_BITS.valid, LOW_BITS.valid]);
}

#[test]
fn slots_under_a_migrating_leaf_show_their_inputs_from_5_2_to_5_6() {
    let world = World::new();
    let range = World::pages(0, PAGES_PER_PMD);
    world.map(range, RW, MapKind::Anon);
    world.leak();
    world.plant(range.start(), Level::Pmd, SwpEntry::new(SwpType::MigrationRead, 0x600).entry());
    fn second_answer<G: RangeCall>(world: &World, range: PageRange) -> u64 {
        let mirror = Mirror::new(&world.mm, range);
        let mut b = Driver::<G>::with_format(512, SHIFT_7);
        let stale = Request::all(range, Wish::None);
        b.prepare(&stale, &mut Counts::default());
        b.slots_mut()[3] = 0xabc0;
        assert_eq!(call(&mut b, world, &mirror).0, Ok(()));
        b.slots().pfns()[3]
    }
    assert_eq!(second_answer::<V5_2>(&world, range), 0xabc0);
    assert_eq!(second_answer::<V5_5>(&world, range), 0xabc0);
    assert_eq!(second_answer::<V5_7>(&world, range), SHIFT_7.none);
    assert_eq!(second_answer::<V4_17>(&world, range), SHIFT_7.error);
}

/// N1: hugetlb decides on the first slot of the clipped huge page alone.
#[test]
fn hugetlb_hears_the_first_slot_alone() {
    let mut world = World::new();
    let range = World::pages(0, PAGES_PER_PMD);
    world.map(range, RW, MapKind::Hugetlb { order: 9, shared: false });
    world.write(World::pages(0, 1));
    world.fork();
    let part = World::pages(3, 100);
    let second = wishes(100, |i| if i == 1 { Wish::Write } else { Wish::None });
    let asked = ask_each::<StickyFlags>(&world, part, &second);
    assert_eq!((asked.result, asked.counts.get(Count::FaultsIssued)), (Ok(()), 0));
    assert!(!is_writable(&asked.backend, 1), "the wish of the second slot is not heard");
    let first = wishes(100, |i| if i == 0 { Wish::Write } else { Wish::None });
    let asked = ask_each::<StickyFlags>(&world, part, &first);
    assert_eq!((asked.result, asked.counts.get(Count::FaultsIssued)), (Ok(()), 100));
    assert!(is_writable(&asked.backend, 1));
}

/// 0.5: a 2 MiB hole that is mapped huge costs one fault that does something and 511 that do nothing.
#[test]
fn a_huge_hole_is_faulted_page_by_page() {
    fn faults<B: Backend>() -> [u64; 5] {
        let world = World::new();
        let range = World::pages(0, PAGES_PER_PMD);
        world.map_huge(range);
        let c = world.ask::<B>(&Request::all(range, Wish::Write)).counts;
        use Count::*;
        [FaultsIssued, FaultsNeeded, FaultsThp, FaultsSpurious, Walks].map(|w| c.get(w))
    }
    let batched = [512, 1, 1, 511, 2];
    assert_eq!(faults::<PfnBits>(), batched);
    assert_eq!(faults::<DriverFormat>(), batched);
    assert_eq!(faults::<RangeDefault<V5_7>>(), batched);
    assert_eq!(faults::<PointerOnly>(), batched);
    assert_eq!(faults::<CompoundFlag>(), batched);
    assert_eq!(faults::<StickyFlags>(), batched);
    assert_eq!(faults::<Unlocked>(), batched);
    assert_eq!(faults::<Oracle>()[..4], [1, 1, 1, 0]);
}

/// 0.5: one write wish in a slice shared copy on write copies every later page of the slice.
#[test]
fn one_write_wish_copies_the_rest_of_a_shared_slice() {
    fn copies<B: Backend>() -> [u64; 4] {
        let mut world = World::new();
        let range = World::pages(0, 100);
        world.map(range, RW, MapKind::Anon);
        world.write(range);
        world.fork();
        let c = ask_each::<B>(&world, range, &wishes(100, |i| [Wish::Read, Wish::Write][(i == 10) as usize]));
        use Count::*;
        [FaultsIssued, FaultsNeeded, FaultsCowCopy, CopiesNotAskedFor].map(|w| c.counts.get(w))
    }
    let batched = [90, 1, 90, 89];
    assert_eq!(copies::<DriverFormat>(), batched);
    assert_eq!(copies::<RangeDefault<V5_5>>(), batched);
    assert_eq!(copies::<RangeDefault<V5_7>>(), batched);
    assert_eq!(copies::<SplitArrays>(), batched);
    assert_eq!(copies::<MapOrder>(), batched);
    assert_eq!(copies::<Oracle>(), [1, 1, 1, 0]);
}

#[test]
fn a_fault_of_4_14_starts_over_at_the_start_of_the_slice() {
    fn issued<B: Backend>() -> u64 {
        let world = World::new();
        world.map(World::pages(0, 100), RW, MapKind::Anon);
        world.write(World::pages(0, 50));
        world.ask::<B>(&Request::all(World::pages(0, 100), Wish::Read)).counts.get(Count::FaultsIssued)
    }
    assert_eq!(issued::<PfnBits>(), 100);
    assert_eq!(issued::<DriverFormat>(), 50);
    assert_eq!(issued::<FixedFlags>(), 50);
}

/// 0.4: a default reads every slot of a huge leaf; a write need stops at the first slot; a snapshot reads none.
#[test]
fn a_default_reads_every_slot_of_a_leaf() {
    let world = World::new();
    let range = World::pages(0, PAGES_PER_PMD);
    world.map_huge(range);
    world.write(World::pages(0, 1));
    let read = |wish| world.ask::<MapOrder>(&Request::all(range, wish)).counts.get(Count::WishesRead);
    assert_eq!((read(Wish::None), read(Wish::Read), read(Wish::Write)), (0, 512, 512));
}

#[test]
fn the_compound_bit_is_clear_where_rights_may_differ() {
    let world = World::new();
    let range = World::pages(0, PAGES_PER_PMD);
    world.map_huge(range);
    world.write(World::pages(0, 1));
    let compound =
        |w: &World, i| match w.ask::<CompoundFlag>(&Request::all(range, Wish::None)).backend.view(i) {
            PageView::Mapped { compound, .. } => compound,
            _ => None,
        };
    assert_eq!(compound(&world, 9), Some(true));
    world.protect(World::pages(0, 8), VmFlags::READ);
    assert_eq!((compound(&world, 0), compound(&world, 9)), (Some(false), Some(false)));
}

#[test]
fn an_order_reaches_beyond_the_range_at_both_ends() {
    let world = World::new();
    world.map_huge(World::pages(0, PAGES_PER_PMD));
    world.write(World::pages(0, 1));
    let asked = world.ask::<MapOrder>(&Request::all(World::pages(100, 10), Wish::Read));
    let head = world.mm.lookup(World::addr(0), Level::Pmd).unwrap().read().pfn();
    for i in 0..10 {
        let PageView::Mapped { pfn, order, .. } = asked.backend.view(i) else {
            panic!("page {i} is not mapped")
        };
        assert_eq!((pfn, order), (head.add(100 + i as u64), Some(9)));
    }
}

#[test]
fn sticky_bits_survive_every_store_and_refill() {
    let world = World::new();
    let range = World::pages(0, 2 * PAGES_PER_PMD);
    world.map(World::pages(0, 40), RW, MapKind::Anon);
    world.write(World::pages(0, 20));
    world.map_huge(World::pages(PAGES_PER_PMD, PAGES_PER_PMD));
    world.write(World::pages(PAGES_PER_PMD, 1));
    let mirror = Mirror::new(&world.mm, range);
    let mut b = StickyFlags::new(1024);
    b.prepare(&Request::all(range, Wish::None), &mut Counts::default());
    // One of each kind: entry, none, gap, leaf.
    for i in [3, 30, 100, 700] {
        b.hmm_pfns_mut()[i] = DMA_MAPPED | P2PDMA;
    }
    let sticky = |b: &StickyFlags| -> Vec<usize> {
        (0..1024).filter(|&i| b.hmm_pfns()[i] & STICKY == DMA_MAPPED | P2PDMA).collect()
    };
    assert_eq!(call(&mut b, &world, &mirror).0, Ok(()));
    assert_eq!(sticky(&b), [3, 30, 100, 700]);
    assert!(b.hmm_pfns().iter().filter(|s| *s & STICKY != 0).count() == 4);
    // READ prefetch, then WRITE, on the same array.
    let each = wishes(40, |_| Wish::Write);
    let part = World::pages(0, 40);
    b.prepare(
        &Request { range: part, default: Wish::None, per_page: Some(&each), owner: 0 },
        &mut Counts::default(),
    );
    assert_eq!(call(&mut b, &world, &mirror).0, Ok(()));
    b.prepare(&Request::all(range, Wish::None), &mut Counts::default());
    assert_eq!(sticky(&b), [3, 30, 100, 700]);
}

#[test]
fn all_driver_formats_give_the_same_answers() {
    fn views(format: Format, wish: Wish) -> Vec<PageView> {
        let world = World::new();
        world.map(World::pages(0, 64), RW, MapKind::Anon);
        world.write(World::pages(0, 8));
        world.read(World::pages(8, 8));
        world.plant(World::addr(20), Level::Pte, world.device_page(OWNER, 0, SwpType::DeviceRead));
        let mirror = Mirror::new(&world.mm, World::pages(0, 64));
        let mut b = DriverFormat::with_format(64, format);
        b.prepare(&Request::all(World::pages(0, 32), wish), &mut Counts::default());
        assert_eq!(
            call(&mut b, &world, &mirror).0,
            if wish == Wish::Write { Err(Errno::Fault) } else { Ok(()) }
        );
        (0..32).map(|i| b.view(i)).collect()
    }
    for wish in [Wish::None, Wish::Read] {
        let low = views(LOW_BITS, wish);
        assert_eq!(low, views(TOP_BITS, wish));
        assert_eq!(low, views(SHIFT_7, wish));
    }
}

#[test]
fn formats_leave_room_for_every_frame_and_keep_values_apart() {
    for f in [LOW_BITS, TOP_BITS, SHIFT_7] {
        let flags = f.valid | f.write | f.device;
        assert_eq!(flags.count_ones(), 3);
        assert_eq!((((1 << 40) - 1) << f.pfn_shift) & flags, 0);
        assert!(f.none != f.error && f.none != f.special && f.none & f.valid == 0);
    }
}

/// The thread of March 2019: a default alone, wishes alone, a read default with write for single pages.
#[test]
fn the_three_uses_of_a_default_and_a_mask() {
    fn asked<G: RangeCall>(default: Wish, each: Option<&[Wish]>) -> (Vec<PageView>, u64) {
        let world = World::new();
        let range = World::pages(0, 4);
        world.map(range, RW, MapKind::Anon);
        world.write(World::pages(0, 1));
        let asked = world.ask::<RangeDefault<G>>(&Request { range, default, per_page: each, owner: OWNER });
        assert_eq!(asked.result, Ok(()));
        let prepared = asked.counts.get(Count::ArrayBytes)
            - 8 * (asked.counts.get(Count::WishesRead) + asked.counts.get(Count::SlotsWritten))
            - 8 * 4;
        ((0..4).map(|i| asked.backend.view(i)).collect(), prepared)
    }
    let mapped = |views: &[PageView]| views.iter().filter(|v| matches!(v, PageView::Mapped { .. })).count();
    let writable =
        |views: &[PageView], i: usize| matches!(views[i], PageView::Mapped { write: Some(true), .. });

    let (views, prepared) = asked::<V5_7>(Wish::Read, None);
    assert_eq!((mapped(&views), prepared), (4, 0), "a default writes no slots");
    let each = [Wish::None, Wish::None, Wish::None, Wish::Read];
    let (views, prepared) = asked::<V5_7>(Wish::None, Some(&each));
    assert_eq!((mapped(&views), prepared), (2, 32));
    let each = [Wish::None, Wish::None, Wish::Write, Wish::None];
    let (views, _) = asked::<V5_7>(Wish::Read, Some(&each));
    assert_eq!((mapped(&views), writable(&views, 2)), (4, true));
    // Until 5.6 the read fault of page 1 destroys the wish of page 2.
    let (views, _) = asked::<V5_5>(Wish::Read, Some(&each));
    assert_eq!((mapped(&views), writable(&views, 2)), (4, false));
}

/// 1.4: 16 bytes of array a page with a default, 24 with wishes, which are written once and read in place.
#[test]
fn split_arrays_move_two_or_three_words_a_page() {
    let world = World::new();
    let range = World::pages(0, 64);
    world.map(range, RW, MapKind::Anon);
    world.write(range);
    let bytes = |each: Option<&[Wish]>| {
        let default = if each.is_none() { Wish::None } else { Wish::Read };
        world
            .ask::<SplitArrays>(&Request { range, default, per_page: each, owner: 0 })
            .counts
            .get(Count::ArrayBytes)
    };
    assert_eq!(bytes(None), 64 * 16);
    let each = wishes(64, |_| Wish::Read);
    assert_eq!(bytes(Some(&each)), 64 * (24 + 8));
}

#[test]
fn the_read_bit_of_4_14_follows_the_vma() {
    let world = World::new();
    let range = World::pages(0, 2);
    world.map(range, RW, MapKind::Anon);
    world.write(World::pages(0, 1));
    let bits = |w: &World| {
        let asked = w.ask::<PfnBits>(&Request::all(range, Wish::None));
        asked.backend.pfns().iter().map(|s| s & 0x7f).collect::<Vec<_>>()
    };
    assert_eq!(bits(&world), [pfn_bits::VALID | pfn_bits::READ | pfn_bits::WRITE, pfn_bits::EMPTY]);
    world.protect(range, VmFlags::empty());
    assert_eq!(bits(&world), [pfn_bits::VALID, pfn_bits::EMPTY]);
}

/// 1.8: the call reads its own sequence, starts over on a collision, and gives up when its budget is spent.
#[test]
fn the_unlocked_call_starts_over_by_itself() {
    let mut world = World::new();
    let range = World::pages(0, 4);
    world.map(range, RW, MapKind::Anon);
    world.write(range);
    world.fork();
    let mirror = Mirror::new(&world.mm, range);
    let walk = |budget| {
        let mut b = Unlocked::new(4);
        b.set_budget(budget);
        let mut c = Counts::default();
        b.prepare(&Request::all(range, Wish::Write), &mut c);
        let r = b.walk(&world.mm, mirror.subscription(), 0, &mut c);
        (r, c.get(Count::Retries), c.get(Count::FaultsCowCopy))
    };
    // The copies invalidate what the first pass walks under: one pass is not enough.
    assert_eq!(walk(Some(1)), (Err(Errno::Busy), 1, 4));
    let (r, retries, _) = walk(None);
    assert!(!mirror.subscription().read_retry(r.unwrap()) && retries == 0);
}

/// 1.8: wishes in the slots are unsafe in a call that restarts by itself, which is why it offers none.
#[test]
fn the_unlocked_call_escalates_wishes_of_single_pages() {
    let mut world = World::new();
    let range = World::pages(0, 600);
    world.map(range, RW, MapKind::Anon);
    world.write(World::pages(0, 1));
    world.write(World::pages(599, 1));
    world.fork();
    world.write(World::pages(0, 1));
    // Page 0 is writable and only looked at; the copy of page 599 makes the call start over.
    let mirror = Mirror::new(&world.mm, range);
    let mut b = Unlocked::new(600);
    let each = wishes(600, |i| if i == 599 { Wish::Write } else { Wish::None });
    let mut c = Counts::default();
    b.prepare(&Request { range, default: Wish::None, per_page: Some(&each), owner: 0 }, &mut c);
    b.set_budget(Some(1));
    assert_eq!(b.walk(&world.mm, mirror.subscription(), 0, &mut c), Err(Errno::Busy));
    assert_eq!(
        b.fixed_mut().hmm_pfns()[0] & (VALID | WRITE),
        VALID | WRITE,
        "the next pass reads this as a wish"
    );
}

#[test]
fn a_file_page_read_in_without_the_lock_starts_the_unlocked_call_over() {
    let world = World::new();
    let file = crate::mm::system::File::block(world.mm.system());
    world.map(World::pages(0, 1), VmFlags::READ, MapKind::FilePrivate(file));
    let mirror = Mirror::new(&world.mm, World::pages(0, 1));
    let mut b = Unlocked::new(1);
    let mut c = Counts::default();
    b.prepare(&Request::all(World::pages(0, 1), Wish::Read), &mut c);
    b.set_budget(Some(1));
    // A budget of one pass: every fault that drops the lock is progress and gives it back.
    assert!(b.walk(&world.mm, mirror.subscription(), 0, &mut c).is_ok());
    assert!(c.get(Count::FaultsIssued) > 1 && matches!(b.view(0), PageView::Mapped { .. }));
}

#[test]
fn a_moved_sequence_is_busy_or_again_before_anything_is_touched() {
    fn result<B: Backend>() -> Errno {
        let world = World::new();
        let range = World::pages(0, 1);
        world.map(range, RW, MapKind::Anon);
        let mirror = Mirror::new(&world.mm, range);
        let seq = world.mm.notifier.read_begin(mirror.subscription());
        world.mm.notifier.during(&Event::new(EventKind::Clear, range), || {});
        let mut b = B::new(1);
        b.prepare(&Request::all(range, Wish::Read), &mut Counts::default());
        b.walk(&world.mm, mirror.subscription(), seq, &mut Counts::default()).unwrap_err()
    }
    assert_eq!(result::<RangeDefault<V5_2>>(), Errno::Again);
    assert_eq!(result::<RangeDefault<V5_5>>(), Errno::Busy);
    assert_eq!(result::<RangeDefault<V5_7>>(), Errno::Busy);
    assert_eq!(result::<StickyFlags>(), Errno::Busy);
}

/// Rows 16 and 29: a wish waits for the end of a migration, and then finds the page.
#[test]
fn a_wish_waits_for_migration() {
    fn asked<B: Backend>(world: &World, range: PageRange) -> Asked<B> {
        std::thread::scope(|scope| {
            let vmas = world.mm.mmap_read();
            let mut asker = None;
            world.mm.locked(&vmas).migrate_pages(range, |_| {
                let thread = scope.spawn(move || world.ask::<B>(&Request::all(range, Wish::Read)));
                // It waits, or it ended without: then the counts below say so.
                while !is_waited_for(world, range) && !thread.is_finished() {
                    std::thread::yield_now();
                }
                asker = Some(thread);
            });
            asker.expect("something migrates").join().unwrap()
        })
    }
    /// Whether somebody waits for the page that the first migration entry of `range` names.
    fn is_waited_for(world: &World, range: PageRange) -> bool {
        let at = |level| world.mm.lookup(range.start(), level).ok().map(|slot| slot.read());
        let entry = at(Level::Pte).or_else(|| at(Level::Pmd)).expect("something is mapped");
        assert!(entry.is_swp() && entry.swp().is_migration());
        let phys = world.mm.phys();
        phys.page(phys.head(entry.swp().pfn())).has(PG_WAITERS)
    }
    fn pages() -> (World, PageRange) {
        let world = World::new();
        let range = World::pages(0, 4);
        world.map(range, RW, MapKind::Anon);
        world.write(range);
        (world, range)
    }
    fn leaf() -> (World, PageRange) {
        let world = World::new();
        let range = World::pages(0, PAGES_PER_PMD);
        world.map_huge(range);
        world.write(World::pages(0, 1));
        (world, range)
    }
    fn waits<B: Backend>((world, range): (World, PageRange)) {
        let asked = asked::<B>(&world, range);
        assert_eq!(asked.result, Ok(()), "{}", B::INFO.id);
        assert!(asked.counts.get(Count::MigrationWaits) > 0, "{}", B::INFO.id);
        assert!(matches!(asked.backend.view(0), PageView::Mapped { .. }), "{}", B::INFO.id);
    }
    waits::<PfnBits>(pages());
    waits::<DriverFormat>(pages());
    waits::<RangeDefault<V5_7>>(pages());
    waits::<MapOrder>(pages());
    waits::<Unlocked>(pages());
    waits::<Oracle>(pages());
    waits::<RangeDefault<V5_5>>(leaf());
    waits::<MapOrder>(leaf());
    waits::<Oracle>(leaf());
}

/// The bits of layouts do not overlap, and every order of the machine fits.
#[test]
fn layouts_keep_their_fields_apart() {
    fn check<L: Layout>() {
        let flags = VALID | WRITE | ERROR;
        let size = L::size(18) | L::size(9) | L::size(0);
        assert_eq!(flags & L::STICKY, 0);
        assert_eq!((flags | L::STICKY) & size, 0);
        assert_eq!((flags | L::STICKY | size) & L::PFN_MASK, 0);
        for order in [0, 9, 18] {
            assert!(L::order(L::size(order)).is_none_or(|o| o == order));
            assert!(L::compound(L::size(order)).is_none_or(|c| c == (order > 0)));
        }
    }
    check::<crate::backends::fixed_flags::V5_8>();
    check::<crate::backends::compound_flag::Proposed>();
    check::<crate::backends::map_order::V5_9>();
    check::<crate::backends::sticky_flags::V6_16>();
    check::<crate::backends::unlocked::V7_3>();
}
