//! Shapes: what is built is what the definition says, what operations would have made, and always the same.

mod shape_support;

use shape_support::*;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PMD_SIZE, PageRange};
use walker::counters::{Count, Counters, Counts};
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{Settings, ThpMode};
use walker::mm::touch::Access;
use walker::mm::vma::VmFlags;
use walker::request::{Request, Wish};
use workloads::capture::{Leaf, PageFlags, PageState, Prot, Run, Shape, ShapeKind, ShapeVma, ThpAdvice};
use workloads::definition::{Definition, Profile, definitions};
use workloads::request::RequestKind;
use workloads::shape::*;

const MIB: u64 = 1 << 20;

/// The smallest size a definition names.
fn smallest(d: &Definition) -> u64 {
    [Profile::Smoke, Profile::Quick, Profile::Full]
        .into_iter()
        .filter_map(|p| d.grid(p).sizes.first().copied())
        .min()
        .expect("a profile with a size")
}

#[test]
fn every_definition_holds_what_it_expects() {
    for d in definitions() {
        let built = d.build(smallest(d), 1).unwrap_or_else(|e| panic!("{}: {e}", d.id));
        assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected, "{}", d.id);
        assert_eq!(built.expected.nr_pages(), built.range.nr_pages(), "{}", d.id);
        assert_eq!(built.range.nr_pages() * PAGE_SIZE, smallest(d), "{}", d.id);
    }
}

#[test]
fn sizes_that_fill_no_table_or_run_work_too() {
    let fork = |run_pages| ShapeSpec::AfterFork { run_pages, broken_permille: 300, memory: Memory::Tables };
    for pages in [1, 3, 511, 513, 1000, 5 * 512 + 7] {
        for spec in [
            ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Pages },
            ShapeSpec::Dense4k { run_pages: 16, memory: Memory::Data },
            fork(1),
            fork(64),
            ShapeSpec::Absent4k { tables: AbsentTables::Empty },
        ] {
            let built = spec.build(pages * PAGE_SIZE, 5).unwrap();
            assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected, "{spec:?} {pages}");
            assert_torn_down(built);
        }
    }
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let dense = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    for (spec, size) in
        [(&dense, 0), (&dense, 1), (&dense, 128 << 40), (&ShapeSpec::Dense2m, PAGE_SIZE), (&dense, u64::MAX)]
    {
        assert!(matches!(spec.build(size, 1), Err(BuildError::Size { .. })), "{spec:?} {size}");
    }
    let own = definitions().iter().find(|d| d.shape.own_size().is_some()).unwrap();
    let e = own.build(PAGE_SIZE, 1).unwrap_err();
    assert!(matches!(e, BuildError::Size { exact: true, .. }), "{e}");
}

#[test]
fn the_same_seed_gives_the_same_tables_byte_for_byte() {
    for d in definitions() {
        let size = smallest(d);
        let (a, b, c) = (d.build(size, 1).unwrap(), d.build(size, 1).unwrap(), d.build(size, 2).unwrap());
        assert_eq!(raw_hash(&a), raw_hash(&b), "{}", d.id);
        // One folio can lie in one place only, and nothing in none.
        let one_way = matches!(
            d.shape,
            ShapeSpec::Dense2m
                | ShapeSpec::Absent4k { .. }
                | ShapeSpec::ZeroMapped(_)
                | ShapeSpec::Hugetlb(_)
                | ShapeSpec::Pfnmap {}
                | ShapeSpec::SplitPermissions(_)
        );
        if !one_way && !["dense_4k_runs_512", "numa_hint_2m"].contains(&d.id.as_str()) {
            assert_ne!(raw_hash(&a), raw_hash(&c), "{}: the seed does nothing", d.id);
        }
    }
}

/// Leaf entries with frames relative to the lowest: a change here means that recorded results no longer describe the
/// tables that this version builds.
#[test]
fn tables_are_those_of_earlier_versions_and_other_machines() {
    let dense = |run_pages| ShapeSpec::Dense4k { run_pages, memory: Memory::Tables };
    let fork = ShapeSpec::AfterFork { run_pages: 1, broken_permille: 100, memory: Memory::Tables };
    let captured = ShapeSpec::embedded("prefork_worker").unwrap();
    let captured_size = captured.own_size().unwrap();
    let lengths = RunLengths { min: 16, max: 64 };
    let device = |owner| DevicePrivate { permille: 500, run_pages: lengths, owner, memory: Memory::Tables };
    let hint = |huge| NumaHint { permille: 500, run_pages: RunLengths { min: 1, max: 4 }, huge };
    let moving = |huge| Migrating { permille: 300, run_pages: RunLengths { min: 1, max: 4 }, huge };
    let sparse = |tables| ShapeSpec::Sparse(Sparse { permille: 10, tables });
    let vmas = ManyVmas { vmas: 1000, read_only_permille: 300, no_access_permille: 50, gap_permille: 100 };
    let mixed = |absent_permille| {
        ShapeSpec::MixedHuge(MixedHuge { huge_permille: 500, vmas: 8, run_pages: 4, absent_permille })
    };
    let pinned: [(ShapeSpec, u64, u64); 23] = [
        (dense(1), 16 * MIB, 0x68ac_8a6d_9053_7e6f),
        (dense(16), 16 * MIB, 0xe6c6_3ea3_aa3d_3f15),
        (ShapeSpec::Dense2m, 64 * MIB, 0x147b_6eee_e431_9bae),
        (fork, 16 * MIB, 0x25c2_48d8_8c0a_eb25),
        (captured, captured_size, 0xf399_a94d_7a8a_c82e),
        (ShapeSpec::Hugetlb(Hugetlb { page: HugePage::Pmd }), 64 * MIB, 0xfe46_9383_47bb_1088),
        (ShapeSpec::Hugetlb(Hugetlb { page: HugePage::Pud }), 2048 * MIB, 0xf2ee_0ee9_2f27_053b),
        (mixed(0), 64 * MIB, 0x39fa_551e_752c_00c9),
        (mixed(100), 64 * MIB, 0x4167_9618_071a_5e8e),
        (
            ShapeSpec::SplitPermissions(SplitPermissions { stripe_pages: 1, by: Protector::Mprotect }),
            16 * MIB,
            0xf4b1_d7a4_3130_6e15,
        ),
        (
            ShapeSpec::SplitPermissions(SplitPermissions { stripe_pages: 4, by: Protector::UffdWp }),
            16 * MIB,
            0x152a_663a_d891_bcda,
        ),
        (ShapeSpec::ZeroMapped(ZeroMapped { huge: false }), 16 * MIB, 0xa3d4_ca34_582a_ebbe),
        (ShapeSpec::ZeroMapped(ZeroMapped { huge: true }), 16 * MIB, 0x868b_0b5a_0309_22f3),
        (
            ShapeSpec::Swapped(Swapped { permille: 250, run_pages: lengths, memory: Memory::Tables }),
            16 * MIB,
            0xbcdf_1004_e188_34b4,
        ),
        (sparse(AbsentTables::Missing), 64 * MIB, 0x584a_4584_1525_d9c1),
        (sparse(AbsentTables::Missing), 8192 * MIB, 0xb884_c4ab_7c0d_32af),
        (ShapeSpec::ManyVmas(vmas), 64 * MIB, 0xda59_6f61_043b_64da),
        (ShapeSpec::NumaHint(hint(false)), 16 * MIB, 0xc710_b7d0_a759_e638),
        (ShapeSpec::NumaHint(hint(true)), 64 * MIB, 0x703c_9dc3_03de_1cfb),
        (ShapeSpec::DevicePrivate(device(Owner::Other)), 16 * MIB, 0xc4a1_8dcc_4a01_2d20),
        (ShapeSpec::Migrating(moving(false)), 16 * MIB, 0x197a_9a58_6573_de70),
        (ShapeSpec::Migrating(moving(true)), 64 * MIB, 0x64a9_9a3f_f9fa_ef16),
        (
            ShapeSpec::Poisoned(Poisoned { permille: 10, run_pages: RunLengths { min: 1, max: 1 } }),
            16 * MIB,
            0x60af_e8ec_f953_74e5,
        ),
    ];
    let got: Vec<String> =
        pinned.iter().map(|(s, size, _)| format!("{:#x}", leaf_hash(&s.build(*size, 1).unwrap()))).collect();
    let want: Vec<String> = pinned.iter().map(|p| format!("{:#x}", p.2)).collect();
    assert_eq!(got, want);
}

#[test]
fn dense_4k_equals_writing_every_page() {
    let size = 3 * PMD_SIZE + 17 * PAGE_SIZE;
    let built = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Pages }.build(size, 1).unwrap();
    let (system, mm) = by_operations(&built, ThpMode::Never);
    write_all(&mm, built.range);
    assert_same(&built.mm, &mm, Index::Compared);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    assert_torn_down(built);
}

#[test]
fn dense_2m_equals_writing_every_huge_page() {
    let built = ShapeSpec::Dense2m.build(8 * MIB, 1).unwrap();
    let (system, mm) = by_operations(&built, ThpMode::Always);
    write_all(&mm, built.range);
    assert_same(&built.mm, &mm, Index::Compared);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    // The deposited tables are there: a split needs one.
    for m in [&built.mm, &mm] {
        m.munmap(PageRange::pages(built.range.start().add_pages(3), 5)).unwrap();
    }
    assert_same(&built.mm, &mm, Index::Compared);
    assert_torn_down(built);
}

#[test]
fn after_fork_equals_fork_and_writes() {
    for broken_permille in [0, 10, 100, 500, 1000] {
        let spec = ShapeSpec::AfterFork { run_pages: 1, broken_permille, memory: Memory::Pages };
        let built = spec.build(4 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, ThpMode::Never);
        write_all(&mm, built.range);
        let child = mm.fork().unwrap();
        for page in pages(built.range) {
            if leaf(&built.mm, page).is_write() {
                mm.touch(page, Access::Write(1)).unwrap();
            }
        }
        assert_same(&built.mm, &mm, Index::Compared);
        assert_same(&built.children[0], &child, Index::Compared);
        assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
        assert_torn_down(built);
    }
}

#[test]
fn absent_4k_equals_dontneed_or_a_fresh_mapping() {
    let built = ShapeSpec::Absent4k { tables: AbsentTables::Empty }.build(5 * MIB, 1).unwrap();
    let (_, mm) = by_operations(&built, ThpMode::Never);
    write_all(&mm, built.range);
    mm.madvise(built.range, Advice::DontNeed).unwrap();
    assert_same(&built.mm, &mm, Index::Compared);
    assert_torn_down(built);
    let built = ShapeSpec::Absent4k { tables: AbsentTables::Missing }.build(5 * MIB, 1).unwrap();
    let (_, mm) = by_operations(&built, ThpMode::Never);
    assert_same(&built.mm, &mm, Index::Compared);
    assert_torn_down(built);
}

fn anon_vma(start: u64, thp: ThpAdvice, runs: Vec<(u64, PageState)>) -> ShapeVma {
    ShapeVma {
        start,
        nr_pages: runs.iter().map(|r| r.0).sum(),
        prot: Prot::READ | Prot::WRITE,
        shared: false,
        kind: ShapeKind::Anon,
        thp,
        runs: runs.into_iter().map(|(nr_pages, state)| Run { nr_pages, state }).collect(),
    }
}

#[test]
fn a_captured_shape_equals_the_operations_that_made_it() {
    let own = PageFlags::EXCLUSIVE | PageFlags::SOFT_DIRTY;
    let pte = |flags| PageState::Present { leaf: Leaf::Pte, flags };
    let huge = PageState::Present { leaf: Leaf::Pmd, flags: own };
    let shape = Shape {
        name: "t".into(),
        made: String::new(),
        description: String::new(),
        kernel: String::new(),
        physical: true,
        missing: vec![],
        vmas: vec![
            anon_vma(0x4000_0000, ThpAdvice::Advise, vec![(1024, huge), (512, PageState::Hole)]),
            anon_vma(
                0x5000_3000,
                ThpAdvice::Never,
                vec![
                    (3, pte(own)),
                    (2, pte(own)),
                    (100, PageState::None),
                    (4, pte(PageFlags::ZERO)),
                    (400, PageState::None),
                    (600, PageState::Hole),
                ],
            ),
            ShapeVma {
                kind: ShapeKind::Shmem,
                shared: true,
                ..anon_vma(
                    0x7000_0000,
                    ThpAdvice::Default,
                    vec![(8, pte(own | PageFlags::FILE)), (504, PageState::None)],
                )
            },
        ],
    };
    shape.check().unwrap();
    let spec = ShapeSpec::captured(shape);
    let built = spec.build(spec.own_size().unwrap(), 1).unwrap();
    assert_eq!((built.expected.pmd_rw, built.expected.pte_rw, built.expected.pte_zero), (1024, 13, 4));
    assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
    assert!(built.left_out.is_empty());

    let (system, mm) = empty_machine(ThpMode::Madvise);
    let start = built.range.start();
    let first = PageRange::pages(start, 1536);
    // The second VMA begins 3 pages into the next 2 MiB span.
    let second = PageRange::pages(start.add_pages(1536 + 3), 3 + 2 + 100 + 4 + 400 + 600);
    let third = PageRange::pages(start.add_pages(1536 + 3 * 512), 512);
    map_anon(&mm, first);
    map_anon(&mm, second);
    let rw = VmFlags::READ | VmFlags::WRITE;
    mm.mmap(third, rw, MapKind::SharedAnon, MapFlags::default(), 0).unwrap();
    for i in 0..8 {
        mm.touch(third.start().add_pages(i), Access::Write(1)).unwrap();
    }
    mm.madvise(first, Advice::Hugepage).unwrap();
    mm.madvise(second, Advice::NoHugepage).unwrap();
    for i in 0..2 {
        mm.touch(start.add_pages(i * PAGES_PER_PMD), Access::Write(1)).unwrap();
    }
    for i in 0..5 {
        mm.touch(second.start().add_pages(i), Access::Write(1)).unwrap();
    }
    for i in 105..109 {
        mm.touch(second.start().add_pages(i), Access::Read).unwrap();
    }
    assert_same(&built.mm, &mm, Index::Ignored);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    assert_torn_down(built);
}

#[test]
fn captured_pages_of_two_processes_equal_a_fork() {
    let shared = PageState::Present { leaf: Leaf::Pte, flags: PageFlags::SOFT_DIRTY };
    let huge = PageState::Present { leaf: Leaf::Pmd, flags: PageFlags::SOFT_DIRTY };
    let shape = Shape {
        name: "t".into(),
        made: String::new(),
        description: String::new(),
        kernel: String::new(),
        physical: false,
        missing: vec![],
        vmas: vec![
            anon_vma(0x4000_0000, ThpAdvice::Advise, vec![(512, huge)]),
            anon_vma(0x5000_0000, ThpAdvice::Never, vec![(20, shared), (492, PageState::None)]),
        ],
    };
    let spec = ShapeSpec::captured(shape);
    let built = spec.build(spec.own_size().unwrap(), 1).unwrap();
    assert_eq!((built.expected.pmd_ro, built.expected.pte_ro), (512, 20));
    let (system, mm) = empty_machine(ThpMode::Madvise);
    let (first, second) = (PageRange::pages(built.range.start(), 512), built.range.start().add_pages(512));
    let second = PageRange::pages(second, 512);
    map_anon(&mm, first);
    mm.madvise(first, Advice::Hugepage).unwrap();
    mm.touch(first.start(), Access::Write(1)).unwrap();
    map_anon(&mm, second);
    mm.madvise(second, Advice::NoHugepage).unwrap();
    write_all(&mm, PageRange::pages(second.start(), 20));
    let child = mm.fork().unwrap();
    assert_same(&built.mm, &mm, Index::Ignored);
    assert_same(&built.children[0], &child, Index::Ignored);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    assert_torn_down(built);
}

#[test]
fn captured_swap_and_hugetlb_equal_paging_out_and_writing_huge_pages() {
    let own = PageFlags::EXCLUSIVE | PageFlags::SOFT_DIRTY;
    let huge = PageState::Present { leaf: Leaf::Pmd, flags: own };
    let hugetlb = |start, shared, state| ShapeVma {
        kind: ShapeKind::Hugetlb { leaf: Leaf::Pmd },
        shared,
        ..anon_vma(start, ThpAdvice::Default, vec![(1024, state), (512, PageState::Hole)])
    };
    let swap = PageState::Swap { flags: PageFlags::SOFT_DIRTY };
    let page = PageState::Present { leaf: Leaf::Pte, flags: own };
    let shared = PageState::Present { leaf: Leaf::Pmd, flags: PageFlags::FILE | PageFlags::SOFT_DIRTY };
    let shape = Shape {
        name: "t".into(),
        made: String::new(),
        description: String::new(),
        kernel: String::new(),
        physical: true,
        missing: vec![],
        vmas: vec![
            hugetlb(0x4000_0000, false, huge),
            hugetlb(0x5000_0000, true, shared),
            anon_vma(0x6000_0000, ThpAdvice::Never, vec![(20, page), (40, swap), (452, page)]),
        ],
    };
    let spec = ShapeSpec::captured(shape);
    let built = spec.build(spec.own_size().unwrap(), 1).unwrap();
    assert_eq!((built.expected.pmd_rw, built.expected.swap, built.left_out.len()), (2048, 40, 0));
    assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
    let settings = Settings { swap_slots: 4096, hugetlb_2m: 6, ..Settings::default() };
    let (system, mm) = machine_with(1 << 16, settings);
    let rw = VmFlags::READ | VmFlags::WRITE;
    let part = |first| PageRange::pages(built.range.start().add_pages(first), 1536);
    for (range, shared) in [(part(0), false), (part(1536), true)] {
        let kind = MapKind::Hugetlb { order: 9, shared };
        mm.mmap(range, rw, kind, MapFlags::default(), 0).unwrap();
        for i in [0, 512] {
            mm.touch(range.start().add_pages(i), Access::Write(1)).unwrap();
        }
    }
    let small = PageRange::pages(built.range.start().add_pages(3072), 512);
    map_anon(&mm, small);
    mm.madvise(small, Advice::NoHugepage).unwrap();
    write_all(&mm, small);
    mm.madvise(PageRange::pages(small.start().add_pages(20), 40), Advice::PageOut).unwrap();
    assert_same(&built.mm, &mm, Index::Ignored);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    assert_eq!(built.system.hugetlb.available(9), system.hugetlb.available(9));
    assert_torn_down(built);
}

#[test]
fn a_large_reserve_shrinks_to_its_place_within_2_mib() {
    let reserve = |pages| ShapeVma {
        prot: Prot::empty(),
        ..anon_vma(0x4000_0000, ThpAdvice::Default, vec![(pages, PageState::Hole)])
    };
    for (pages, placed) in [(1 << 19, 1 << 19), ((1 << 28) + 7, 519)] {
        let shape = Shape {
            name: "t".into(),
            made: String::new(),
            description: String::new(),
            kernel: String::new(),
            physical: true,
            missing: vec![],
            vmas: vec![reserve(pages)],
        };
        let spec = ShapeSpec::captured(shape);
        assert_eq!(spec.own_size(), Some(placed * PAGE_SIZE));
        let built = spec.build(placed * PAGE_SIZE, 1).unwrap();
        assert_eq!(built.left_out.iter().map(|l| l.0).sum::<u64>(), pages - placed);
        assert_eq!(EntryCounts::of(&built.mm, built.range).hole, placed);
    }
}

#[test]
fn captured_shapes_say_what_they_leave_out_and_tear_down() {
    for name in workloads::shape::captured::NAMES {
        let spec = ShapeSpec::embedded(name).unwrap();
        let built = spec.build(spec.own_size().unwrap(), 3).unwrap();
        let ShapeSpec::Captured(layout) = &spec else { panic!("{name}") };
        let summary = layout.shape().summary();
        let skipped: u64 =
            built.left_out.iter().filter(|(_, why)| why.contains("not mapped")).map(|(n, _)| n).sum();
        assert!(!built.left_out.is_empty() && skipped < 16, "{name}: {:?}", built.left_out);
        assert!(summary.nr_mapped - built.expected.nr_mapped() <= skipped, "{name}");
        assert_eq!(summary.nr_huge, built.expected.pmd_rw + built.expected.pmd_ro + built.expected.pmd_zero);
        assert_eq!(summary.nr_likely_writable, built.expected.pte_rw + built.expected.pmd_rw, "{name}");
        assert_eq!(built.children.is_empty(), summary.nr_anon_shared == 0, "{name}");
        assert!(!built.can_reset() && built.reset().is_err());
        assert_torn_down(built);
    }
}

/// Asks a design for `kind` over the whole shape in calls of `call` pages and returns what was counted.
fn ask(built: &Built, kind: RequestKind, call: u64) -> Counts {
    let mut counts = Counts::default();
    let mut backend = <walker::backends::map_order::MapOrder as walker::backend::Backend>::new(call as usize);
    let mirror = Mirror::new(&built.mm, built.range);
    let wishes = kind.wishes(built.range.nr_pages(), 7);
    for first in (0..built.range.nr_pages()).step_by(call as usize) {
        let n = call.min(built.range.nr_pages() - first);
        let range = PageRange::pages(built.range.start().add_pages(first), n);
        let part = wishes.as_deref().map(|w| &w[first as usize..(first + n) as usize]);
        for request in kind.requests(range, part) {
            let request = Request { owner: built.owner, ..request };
            mirror.refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut counts).unwrap();
        }
    }
    counts
}

#[test]
fn steady_requests_change_nothing_and_the_others_are_undone_by_reset() {
    for d in definitions().iter().filter(|d| d.shape.own_size().is_none()) {
        let size = smallest(d).max(2 * PMD_SIZE);
        let built = d.build(size, 1).unwrap();
        let (raw, state, used) = (raw_hash(&built), states(&built), built.system.phys.nr_used());
        for &kind in &d.requests {
            let counts = ask(&built, kind, 512);
            if d.is_steady(kind) {
                assert_eq!(counts.get(Count::FaultsIssued), 0, "{} {kind}", d.id);
                assert_eq!(raw_hash(&built), raw, "{} {kind}", d.id);
            } else {
                assert!(counts.get(Count::FaultsIssued) > 0, "{} {kind}", d.id);
                assert_ne!(raw_hash(&built), raw, "{} {kind}", d.id);
            }
            built.reset().unwrap();
            assert!(states(&built) == state, "{} {kind}: reset left a trace", d.id);
            settle(&built, used);
            assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
        }
        // And again, so that a reset shape is as good as a fresh one.
        if let Some(&kind) = d.requests.iter().find(|k| !d.is_steady(**k)) {
            let first = ask(&built, kind, 64);
            built.reset().unwrap();
            assert_eq!(first, ask(&built, kind, 64), "{} {kind}", d.id);
        }
        let kept = built.expected.migration + built.expected.poison;
        assert_torn_down_but(built, kept);
    }
}

#[test]
fn a_discarded_machine_leaves_empty_address_spaces_behind() {
    let built = definitions().iter().find(|d| d.id == "after_fork_10pct").unwrap().build(4 * MIB, 1).unwrap();
    let (mm, child) = (built.mm.clone(), built.children[0].clone());
    built.discard();
    for mm in [mm, child] {
        assert!(entries(&mm).is_empty() && mm.mmap_read().is_empty());
    }
    // With files, whose caches want their pages back unmapped.
    let spec = ShapeSpec::embedded("kv_bgsave").unwrap();
    let built = spec.build(spec.own_size().unwrap(), 1).unwrap();
    let machine = std::sync::Arc::downgrade(&built.system);
    built.discard();
    assert!(machine.upgrade().is_none(), "somebody holds the machine");
}

#[test]
fn copies_after_fork_are_as_many_as_were_asked_for() {
    let spec = ShapeSpec::AfterFork { run_pages: 1, broken_permille: 250, memory: Memory::Data };
    let built = spec.build(4 * MIB, 1).unwrap();
    let counts = ask(&built, RequestKind::FaultWrite, 512);
    assert_eq!(counts.get(Count::FaultsCowCopy), built.expected.pte_ro);
    assert_eq!(RequestKind::FaultWrite.strongest(), Wish::Write);
}

#[test]
fn wishes_are_those_of_earlier_versions_and_other_machines() {
    let wishes = "read_all_write_1pct".parse::<RequestKind>().unwrap().wishes(1000, 1).unwrap();
    let picked: Vec<usize> = (0..1000).filter(|i| wishes[*i] == Wish::Write).collect();
    assert_eq!(picked, [15, 20, 40, 145, 331, 429, 449, 619, 632, 942]);
}
