//! Shapes whose entries are of the rarer kinds: what is built equals what the operations that make them leave behind,
//! entries, struct pages, VMAs and frames in use alike.

mod shape_support;

use shape_support::*;
use std::sync::Arc;
use walker::addr::{Level, PAGE_SIZE, PAGES_PER_PMD, PMD_SIZE, PUD_SIZE, PageRange, VirtAddr};
use walker::arch::Entry;
use walker::mm::Mm;
use walker::mm::device::Device;
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::protect::Change;
use walker::mm::system::{Settings, System, ThpMode};
use walker::mm::touch::Access;
use walker::mm::userfaultfd::{UffdMode, Userfaultfd};
use walker::mm::vma::VmFlags;
use workloads::shape::*;

const MIB: u64 = 1 << 20;

fn touch(mm: &Mm, at: VirtAddr, access: Access) {
    mm.touch(at, access).unwrap();
}

/// The stretches of pages of `built` whose leaf is one of those.
fn runs(built: &Built, is: impl Fn(Entry) -> bool) -> Vec<PageRange> {
    let mut runs: Vec<PageRange> = Vec::new();
    for page in pages(built.range).filter(|p| is(leaf(&built.mm, *p))) {
        match runs.last_mut() {
            Some(last) if last.end() == page => *last = PageRange::between(last.start(), page.add_pages(1)),
            _ => runs.push(PageRange::pages(page, 1)),
        }
    }
    runs
}

fn assert_equal(built: Built, system: &System, mm: &Mm, kept: u64) {
    assert_same(&built.mm, mm, Index::Ignored);
    assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
    assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
    assert_torn_down_but(built, kept);
}

#[test]
fn hugetlb_equals_writing_every_page() {
    for (page, size) in [(HugePage::Pmd, 8 * MIB), (HugePage::Pud, PUD_SIZE)] {
        let built = ShapeSpec::Hugetlb(Hugetlb { page }).build(size, 1).unwrap();
        let settings = Settings { hugetlb_2m: 4, hugetlb_1g: 1, ..Settings::default() };
        let (system, mm) = machine_with(1 << 20, settings);
        let kind = MapKind::Hugetlb { order: page.order(), shared: false };
        mm.mmap(built.range, VmFlags::READ | VmFlags::WRITE, kind, MapFlags::default(), 0).unwrap();
        for i in (0..built.range.nr_pages()).step_by(1 << page.order()) {
            touch(&mm, built.range.start().add_pages(i), Access::Write(1));
        }
        let pool = |s: &System| s.hugetlb.available(page.order());
        assert_eq!(pool(&built.system), pool(&system));
        let built_system = Arc::clone(&built.system);
        assert_equal(built, &system, &mm, 0);
        // Pages are in the pool again, and nobody has a claim on them.
        assert_eq!(pool(&built_system), (size / page.bytes(), 0));
    }
}

#[test]
fn mixed_huge_equals_small_writes_before_the_advice_and_large_ones_after() {
    for (huge_permille, absent_permille) in
        [(0, 0), (250, 0), (950, 0), (1000, 0), (0, 1000), (250, 50), (500, 500)]
    {
        let spec = MixedHuge { huge_permille, vmas: 3, run_pages: 4, absent_permille };
        let built = ShapeSpec::MixedHuge(spec).build(16 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, ThpMode::Madvise);
        let is_huge = |p| mm_level(&built.mm, p) == Level::Pmd;
        pages(built.range).filter(|p| !is_huge(*p)).for_each(|p| touch(&mm, p, Access::Write(1)));
        mm.madvise(built.range, Advice::Hugepage).unwrap();
        pages(built.range).filter(|p| is_huge(*p)).for_each(|p| touch(&mm, p, Access::Write(1)));
        for vma in built.mm.mmap_read().iter().filter(|v| v.has(VmFlags::DONTCOPY)) {
            mm.madvise(vma.range, Advice::DontFork).unwrap();
        }
        assert_eq!(built.mm.mmap_read().len(), 3);
        let is_absent =
            |p: &VirtAddr| built.mm.lookup(*p, Level::Pte).is_ok_and(|slot| slot.read().is_none());
        for page in pages(built.range).filter(is_absent) {
            mm.madvise(PageRange::pages(page, 1), Advice::DontNeed).unwrap();
        }
        assert_equal(built, &system, &mm, 0);
    }
}

fn mm_level(mm: &Mm, at: VirtAddr) -> Level {
    mm.lookup(at, Level::Pte).map_or_else(|level| level, |_| Level::Pte)
}

#[test]
fn split_permissions_equals_protecting_every_second_stripe_of_huge_pages() {
    for (stripe_pages, by) in [(1, Protector::Mprotect), (64, Protector::Mprotect), (4, Protector::UffdWp)] {
        let spec = SplitPermissions { stripe_pages, by };
        let built = ShapeSpec::SplitPermissions(spec).build(4 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, ThpMode::Always);
        write_all(&mm, built.range);
        if by == Protector::UffdWp {
            let uffd = Userfaultfd::new(&system, false);
            mm.uffd_register(uffd, built.range, UffdMode::WriteProtect).unwrap();
        }
        for i in (stripe_pages..built.range.nr_pages()).step_by(2 * stripe_pages as usize) {
            let stripe = PageRange::pages(built.range.start().add_pages(i), stripe_pages);
            match by {
                Protector::Mprotect => mm.mprotect(stripe, VmFlags::READ).unwrap(),
                Protector::UffdWp => {
                    let vmas = mm.mmap_read();
                    mm.change_protection(vmas.find(stripe.start()).unwrap(), stripe, Change::UffdWp);
                }
            }
        }
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn zero_mapped_equals_reading_every_page() {
    for huge in [false, true] {
        let built = ShapeSpec::ZeroMapped(ZeroMapped { huge }).build(4 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, if huge { ThpMode::Always } else { ThpMode::Never });
        pages(built.range).for_each(|p| touch(&mm, p, Access::Read));
        assert_equal(built, &system, &mm, 0);
    }
}

const LENGTHS: RunLengths = RunLengths { min: 3, max: 20 };

#[test]
fn swapped_equals_paging_out_and_reads_what_was_written() {
    for memory in [Memory::Pages, Memory::Data] {
        let spec = Swapped { permille: 250, run_pages: LENGTHS, memory };
        let built = ShapeSpec::Swapped(spec).build(3 * PMD_SIZE + 5 * PAGE_SIZE, 1).unwrap();
        let settings = Settings { swap_slots: 1 << 12, thp: ThpMode::Never, ..Settings::default() };
        let (system, mm) = machine_with(1 << 16, settings);
        map_anon(&mm, built.range);
        write_all(&mm, built.range);
        let swapped = runs(&built, Entry::is_swp);
        for run in &swapped {
            mm.madvise(*run, Advice::PageOut).unwrap();
        }
        assert_eq!(built.system.swap.nr_used(), system.swap.nr_used());
        // What is read back is what such a slot holds.
        let byte = built.mm.touch(swapped[0].start(), Access::Read).unwrap();
        assert_eq!(byte != 0, memory == Memory::Data);
        mm.touch(swapped[0].start(), Access::Read).unwrap();
        assert_same(&built.mm, &mm, Index::Ignored);
        built.reset().unwrap();
        mm.madvise(PageRange::pages(swapped[0].start(), 1), Advice::PageOut).unwrap();
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn sparse_equals_touching_the_pages_that_are_there() {
    for tables in [AbsentTables::Missing, AbsentTables::Empty] {
        let built = ShapeSpec::Sparse(Sparse { permille: 20, tables }).build(32 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, ThpMode::Never);
        if tables == AbsentTables::Empty {
            write_all(&mm, built.range);
            mm.madvise(built.range, Advice::DontNeed).unwrap();
        }
        pages(built.range)
            .filter(|p| leaf(&built.mm, *p).is_present())
            .for_each(|p| touch(&mm, p, Access::Write(1)));
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn sparse_leaves_holes_at_every_level() {
    let spec = ShapeSpec::Sparse(Sparse { permille: 10, tables: AbsentTables::Missing });
    let built = spec.build(4 * PUD_SIZE, 1).unwrap();
    assert_eq!(built.expected.pte_rw, 4 * PUD_SIZE / PAGE_SIZE / 100);
    let levels: Vec<Level> =
        (0..4 * 512).map(|i| mm_level(&built.mm, built.range.start().add_pages(i * PAGES_PER_PMD))).collect();
    let of = |level| levels.iter().filter(|l| **l == level).count();
    assert_eq!(of(Level::Pud), 2 * 512, "every second gigabyte has no PMD table");
    assert!(of(Level::Pmd) > 0 && of(Level::Pte) > 0);
    // A reset takes tables away that faults brought.
    let used = built.system.phys.nr_used();
    for i in [0, 600, 1500] {
        let page = built.range.start().add_pages(i * PAGES_PER_PMD + 7);
        touch(&built.mm, page, Access::Write(1));
    }
    built.reset().unwrap();
    settle(&built, used);
    assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
    assert_torn_down(built);
}

#[test]
fn many_vmas_equals_mapping_writing_and_protecting_them() {
    let spec = ManyVmas { vmas: 300, read_only_permille: 300, no_access_permille: 100, gap_permille: 150 };
    for spec in [spec, ManyVmas { read_only_permille: 0, no_access_permille: 0, gap_permille: 0, ..spec }] {
        let built = ShapeSpec::ManyVmas(spec).build(16 * MIB, 1).unwrap();
        assert_eq!(built.mm.mmap_read().len(), 300);
        let (system, mm) = empty_machine(ThpMode::Never);
        let vmas: Vec<_> = built.mm.mmap_read().iter().map(|v| (v.range, v.flags)).collect();
        let mut at = 0;
        while at < vmas.len() {
            let len = 1 + vmas[at..].windows(2).take_while(|w| w[0].0.end() == w[1].0.start()).count();
            let chain = &vmas[at..at + len];
            map_anon(&mm, PageRange::between(chain[0].0.start(), chain[len - 1].0.end()));
            for (range, _) in chain.iter().filter(|(_, f)| f.contains(VmFlags::READ)) {
                write_all(&mm, *range);
            }
            for (range, flags) in chain {
                mm.mprotect(*range, *flags & VmFlags::ACCESS).unwrap();
                if flags.contains(VmFlags::DONTCOPY) {
                    mm.madvise(*range, Advice::DontFork).unwrap();
                }
            }
            at += len;
        }
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn numa_hint_equals_a_scan() {
    for huge in [false, true] {
        let spec = NumaHint { permille: 500, run_pages: LENGTHS, huge };
        let built = ShapeSpec::NumaHint(spec).build(16 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, if huge { ThpMode::Always } else { ThpMode::Never });
        write_all(&mm, built.range);
        runs(&built, Entry::is_protnone).into_iter().for_each(|run| mm.change_prot_numa(run));
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn device_private_equals_migrating_there() {
    for owner in [Owner::Caller, Owner::Other] {
        let spec = DevicePrivate { permille: 300, run_pages: LENGTHS, owner, memory: Memory::Pages };
        let built = ShapeSpec::DevicePrivate(spec).build(4 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, ThpMode::Never);
        write_all(&mm, built.range);
        let id = if owner == Owner::Caller { built.owner } else { built.owner + 1 };
        for run in runs(&built, Entry::is_swp) {
            mm.migrate_to_device(run, Device::new(id), &mut |_, _, _| {}).unwrap();
        }
        assert_equal(built, &system, &mm, 0);
    }
}

#[test]
fn migrating_equals_a_migration_halfway() {
    for huge in [false, true] {
        let spec = Migrating { permille: 300, run_pages: LENGTHS, huge };
        let built = ShapeSpec::Migrating(spec).build(32 * MIB, 1).unwrap();
        let (system, mm) = by_operations(&built, if huge { ThpMode::Always } else { ThpMode::Never });
        write_all(&mm, built.range);
        let moving = runs(&built, Entry::is_swp);
        let kept = built.expected.migration;
        let mut built = Some(built);
        halfway(&mm, &moving, &mut || {
            let built = built.take().unwrap();
            assert_same(&built.mm, &mm, Index::Ignored);
            assert_eq!(built.system.phys.nr_used(), system.phys.nr_used());
            assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
            assert_torn_down_but(built, kept);
        });
        assert!(built.is_none());
    }
}

/// Runs `look` while the pages of every run are under migration.
fn halfway(mm: &Mm, runs: &[PageRange], look: &mut dyn FnMut()) {
    let Some((first, rest)) = runs.split_first() else { return look() };
    let vmas = mm.mmap_read();
    let moved = mm.locked(&vmas).migrate_pages(*first, |_| halfway(mm, rest, look));
    assert!(moved > 0);
}

#[test]
fn poisoned_equals_failing_pages() {
    let spec = Poisoned { permille: 30, run_pages: RunLengths { min: 1, max: 3 } };
    let built = ShapeSpec::Poisoned(spec).build(4 * MIB, 1).unwrap();
    let (system, mm) = by_operations(&built, ThpMode::Never);
    write_all(&mm, built.range);
    for run in runs(&built, Entry::is_swp) {
        mm.madvise(run, Advice::HwPoison).unwrap();
    }
    let kept = built.expected.poison;
    assert_equal(built, &system, &mm, kept);
}

#[test]
fn pfnmap_holds_frames_without_struct_pages() {
    let built = ShapeSpec::Pfnmap {}.build(4 * MIB, 1).unwrap();
    assert!(pages(built.range).all(|p| {
        let e = leaf(&built.mm, p);
        e.is_special() && e.pfn().get() == 0xa0000 + p.pages_since(built.range.start())
    }));
    assert_eq!(EntryCounts::of(&built.mm, built.range), built.expected);
    assert_torn_down(built);
}
