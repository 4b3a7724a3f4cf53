//! The truth table of semantics section 2, and what earlier generations do otherwise (2.7), as data.
//!
//! Each row builds one state and asks for it without a wish, with FAULT, and with FAULT and WRITE. The answer is
//! written as in the document: `0`, `E`, `V`, `VW`, with `o9` where the format knows an order, or the errno; `none`
//! where a call ended before it got there; `?` where the outcome is not the range call's (it is not asked then).
//!
//! Migration (16, 29) has tests of its own in `contracts.rs`, since somebody else must end it. Not here either: row 24b,
//! which is later than the model, and the fault of row 31, since nothing makes such an entry. userfaultfd is the one
//! with FEATURE_SIGBUS, so that rows 23 and 24 are the same for the unlocked call.

use crate::addr::{Level, PAGES_PER_PMD, PUD_SIZE, PageRange, Pfn, VirtAddr};
use crate::arch::entry::{MARKER_GUARD, MARKER_POISONED, MARKER_UFFD_WP};
use crate::arch::{Entry, Prot, SwpEntry, SwpType};
use crate::backend::{Backend, Capability, PageView};
use crate::backends::driver_format::DriverFormat;
use crate::backends::fixed_flags::FixedFlags;
use crate::backends::map_order::MapOrder;
use crate::backends::oracle::Oracle;
use crate::backends::pfn_bits::PfnBits;
use crate::backends::range_default::{RangeDefault, V5_2, V5_5, V5_7};
use crate::backends::sticky_flags::StickyFlags;
use crate::backends::unlocked::Unlocked;
use crate::conformance::{OWNER, RW, World};
use crate::memory::PageKind;
use crate::mm::device::Device;
use crate::mm::madvise::Advice;
use crate::mm::mmap::MapKind;
use crate::mm::protect::Change;
use crate::mm::system::File;
use crate::mm::vma::VmFlags;
use crate::request::{Request, Wish};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gen {
    V4_14,
    V4_17,
    V5_2,
    V5_5,
    V5_7,
    V5_8,
    V5_9,
    V6_16,
    V7_3,
    /// Not a generation: the newest truth, found another way.
    Oracle,
}
type Answers = [&'static str; 3];

struct Row {
    row: &'static str,
    state: &'static str,
    build: fn(&mut World) -> PageRange,
    newest: Answers,
    /// First and last generation that answer otherwise.
    earlier: &'static [(Gen, Gen, Answers)],
}

const ONE: u64 = 1;

fn anon(w: &World, n: u64) -> PageRange {
    w.map(World::pages(0, n), RW, MapKind::Anon);
    World::pages(0, n)
}
fn written(w: &World, n: u64) -> PageRange {
    let range = anon(w, n);
    w.write(range);
    range
}
fn huge(w: &World) -> PageRange {
    w.map_huge(World::pages(0, PAGES_PER_PMD));
    World::pages(0, PAGES_PER_PMD)
}
fn huge_written(w: &World) -> PageRange {
    let range = huge(w);
    w.write(World::pages(0, 1));
    range
}
/// An entry that names a frame nobody accounts for.
fn planted(w: &World, level: Level, e: Entry) -> PageRange {
    let n = if level == Level::Pte { ONE } else { PAGES_PER_PMD };
    let range = anon(w, n);
    w.leak();
    w.plant(World::addr(0), level, e);
    range
}
fn hugetlb(w: &World) -> PageRange {
    let range = World::pages(0, PAGES_PER_PMD);
    w.map(range, RW, MapKind::Hugetlb { order: 9, shared: false });
    range
}
fn on_device(w: &World, owner: u64) -> PageRange {
    let range = written(w, 4);
    w.mm.migrate_to_device(range, Device { owner, mirror: 0 }, &mut |_, _, _| {}).unwrap();
    range
}
fn device_pmd(w: &World, owner: u64) -> PageRange {
    planted(w, Level::Pmd, w.device_page(owner, 9, SwpType::DeviceWrite))
}
fn frame(w: &World) -> Pfn {
    w.mm.phys().alloc(PageKind::Driver, 0).unwrap()
}

const EINVAL: Answers = ["-EINVAL"; 3];
const EFAULT: Answers = ["-EFAULT"; 3];
const EPERM: Answers = ["-EPERM"; 3];
const NOT_HERE: Answers = ["?"; 3];

const ROWS: &[Row] = &[
    Row {
        row: "1",
        state: "no VMA, none behind",
        build: |_| World::pages(0, 4),
        newest: ["E", "-EFAULT", "-EFAULT"],
        earlier: &[
            (Gen::V4_14, Gen::V4_17, EINVAL),
            (Gen::V5_2, Gen::V5_2, EFAULT),
            (Gen::V5_5, Gen::V5_5, ["0", "-EFAULT", "-EFAULT"]),
        ],
    },
    Row {
        row: "1",
        state: "a gap before a VMA",
        build: |w| {
            w.map(World::pages(8, 1), RW, MapKind::Anon);
            World::pages(0, 4)
        },
        newest: ["E", "-EFAULT", "-EFAULT"],
        // 5.2 dereferences a null pointer on a fault.
        earlier: &[(Gen::V4_14, Gen::V4_17, EINVAL), (Gen::V5_2, Gen::V5_5, ["0", "-EFAULT", "-EFAULT"])],
    },
    Row {
        row: "2",
        state: "PROT_NONE over a page",
        build: |w| {
            let range = written(w, ONE);
            w.protect(range, VmFlags::empty());
            range
        },
        newest: ["E", "-EFAULT", "-EFAULT"],
        // 4.14 has VALID without READ, and write permission never comes.
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["0", "0", "-EINTR"]),
            (Gen::V4_17, Gen::V5_2, EPERM),
            (Gen::V5_5, Gen::V5_5, ["0", "-EFAULT", "-EFAULT"]),
        ],
    },
    Row {
        row: "3",
        state: "VM_PFNMAP",
        build: |w| {
            w.map(World::pages(0, 4), RW, MapKind::Pfnmap);
            World::pages(0, 4)
        },
        newest: ["E", "-EFAULT", "-EFAULT"],
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]),
            (Gen::V4_17, Gen::V4_17, EINVAL),
            (Gen::V5_2, Gen::V5_5, EFAULT),
        ],
    },
    Row {
        row: "3",
        state: "VM_MIXEDMAP",
        build: |w| {
            w.map(World::pages(0, 4), RW, MapKind::Driver);
            World::pages(0, 4)
        },
        newest: ["VW"; 3],
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]),
            (Gen::V4_17, Gen::V4_17, EINVAL),
            (Gen::V5_2, Gen::V5_5, EFAULT),
            (Gen::V5_7, Gen::V5_8, ["E", "-EFAULT", "-EFAULT"]),
        ],
    },
    Row {
        row: "4",
        state: "none, anonymous",
        build: |w| anon(w, 3),
        newest: ["0", "V", "VW"],
        // The zero page that comes is special.
        earlier: &[(Gen::V5_2, Gen::V5_2, ["0", "-EFAULT", "VW"])],
    },
    Row {
        row: "4",
        state: "none, anonymous, VMA not writable",
        build: |w| {
            w.map(World::pages(0, 3), VmFlags::READ, MapKind::Anon);
            World::pages(0, 3)
        },
        newest: ["0", "V", "-EPERM"],
        // Until 5.3 VM_WRITE is not checked: a wish in the slot is destroyed, one for the whole call is never
        // fulfilled.
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["0", "V", "-EINTR"]),
            (Gen::V4_17, Gen::V4_17, ["0", "V", "V"]),
            (Gen::V5_2, Gen::V5_2, ["0", "-EFAULT", "-EINTR"]),
        ],
    },
    Row {
        row: "5",
        state: "none PMD, THP",
        build: |w| huge(w),
        newest: ["0", "V o9", "VW o9"],
        earlier: &[],
    },
    Row {
        row: "6",
        state: "none, shared memory",
        build: |w| {
            w.map(World::pages(0, 4), RW, MapKind::SharedAnon);
            World::pages(0, 4)
        },
        newest: ["0", "VW", "VW"],
        earlier: &[],
    },
    Row {
        row: "6",
        state: "none, private file, beyond its end",
        build: |w| {
            let file = File::tmpfs(w.mm.system());
            w.map(World::pages(0, 4), RW, MapKind::FilePrivate(file));
            World::pages(0, 4)
        },
        newest: ["0", "-EFAULT", "-EFAULT"],
        earlier: &[],
    },
    Row {
        row: "7",
        state: "zero page",
        build: |w| {
            let range = anon(w, ONE);
            w.read(range);
            range
        },
        newest: ["V", "V", "VW"],
        earlier: &[(Gen::V5_2, Gen::V5_2, ["none", "-EFAULT", "VW"])],
    },
    Row {
        row: "8",
        state: "present, VMA not writable",
        build: |w| {
            let range = written(w, ONE);
            w.protect(range, VmFlags::READ);
            range
        },
        newest: ["V", "V", "-EPERM"],
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["V", "V", "-EINTR"]),
            (Gen::V4_17, Gen::V4_17, ["V", "V", "V"]),
            (Gen::V5_2, Gen::V5_2, ["V", "V", "-EINTR"]),
        ],
    },
    Row {
        row: "12",
        state: "shared file page, read-only to track dirt",
        build: |w| {
            let file = File::block(w.mm.system());
            w.map(World::pages(0, 2), RW, MapKind::FileShared { file, writable: true });
            w.read(World::pages(0, 2));
            World::pages(0, 2)
        },
        newest: ["V", "V", "VW"],
        earlier: &[],
    },
    Row {
        row: "9",
        state: "read-only, shared with a child",
        build: |w| {
            let range = written(w, 4);
            w.fork();
            range
        },
        newest: ["V", "V", "VW"],
        earlier: &[],
    },
    Row {
        row: "10",
        state: "read-only, the child is gone",
        build: |w| {
            let range = written(w, 4);
            w.fork();
            w.reap();
            range
        },
        newest: ["V", "V", "VW"],
        earlier: &[],
    },
    Row { row: "11", state: "writable", build: |w| written(w, 4), newest: ["VW"; 3], earlier: &[] },
    Row {
        row: "13",
        state: "NUMA hint",
        build: |w| {
            let range = written(w, ONE);
            w.change(range, Change::NumaHint);
            range
        },
        newest: ["0", "VW", "VW"],
        // Present until 5.4; then the encoder's VALID until 5.7.
        earlier: &[(Gen::V4_14, Gen::V5_2, ["V", "V", "VW"]), (Gen::V5_5, Gen::V5_7, ["V", "VW", "VW"])],
    },
    Row {
        row: "14",
        state: "writable special entry",
        build: |w| {
            let prot = Prot::of(true, true, false, true);
            planted(w, Level::Pte, Entry::leaf(frame(w), prot).mkspecial())
        },
        newest: ["E", "-EFAULT", "-EFAULT"],
        earlier: &[
            (Gen::V4_14, Gen::V4_17, ["VW"; 3]),
            (Gen::V5_2, Gen::V5_2, ["none", "-EFAULT", "-EFAULT"]),
            (Gen::V5_5, Gen::V5_5, EFAULT),
        ],
    },
    Row {
        row: "15",
        state: "swap",
        build: |w| {
            let range = written(w, 4);
            w.mm.madvise(range, Advice::PageOut).unwrap();
            range
        },
        newest: ["0", "VW", "VW"],
        earlier: &[(Gen::V5_2, Gen::V5_2, ["0"; 3])],
    },
    Row {
        row: "16",
        state: "migration",
        build: |w| planted(w, Level::Pte, SwpEntry::new(SwpType::MigrationWrite, frame(w).get()).entry()),
        newest: ["0", "?", "?"],
        earlier: &[(Gen::V5_2, Gen::V5_5, ["0"; 3])],
    },
    Row {
        row: "17",
        state: "own device memory, writable",
        build: |w| on_device(w, OWNER),
        newest: ["VW"; 3],
        earlier: &[],
    },
    Row {
        row: "17",
        state: "own device memory, read-only",
        build: |w| {
            let range = anon(w, ONE);
            w.plant(range.start(), Level::Pte, w.device_page(OWNER, 0, SwpType::DeviceRead));
            range
        },
        newest: ["V"; 3],
        // 4.14 brings it back to write it; this page has nothing to come back to.
        earlier: &[(Gen::V4_14, Gen::V4_14, ["V", "V", "?"])],
    },
    Row {
        row: "18",
        state: "another's device memory",
        build: |w| on_device(w, OWNER + 1),
        newest: ["0", "VW", "VW"],
        earlier: &[(Gen::V4_14, Gen::V5_5, ["VW"; 3]), (Gen::V5_7, Gen::V5_8, ["0", "-EFAULT", "-EFAULT"])],
    },
    Row {
        row: "19",
        state: "device-exclusive",
        build: |w| {
            let range = written(w, 4);
            w.mm.make_device_exclusive(range, OWNER, &mut |_, _| {}).unwrap();
            range
        },
        newest: ["0", "VW", "VW"],
        // Before 5.14 nothing made such an entry: it is like poison.
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["E"; 3]),
            (Gen::V4_17, Gen::V5_2, ["none", "-EFAULT", "-EFAULT"]),
            (Gen::V5_5, Gen::V5_5, EFAULT),
            (Gen::V5_7, Gen::V5_8, ["0", "-EFAULT", "-EFAULT"]),
        ],
    },
    Row {
        row: "20",
        state: "poison",
        build: |w| planted(w, Level::Pte, SwpEntry::new(SwpType::Hwpoison, frame(w).get()).entry()),
        newest: ["0", "-EFAULT", "-EFAULT"],
        // A snapshot until 5.3 stops there and says nothing.
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["E"; 3]),
            (Gen::V4_17, Gen::V5_2, ["none", "-EFAULT", "-EFAULT"]),
            (Gen::V5_5, Gen::V5_5, EFAULT),
        ],
    },
    Row {
        row: "21",
        state: "uffd-wp marker",
        build: |w| {
            let range = anon(w, ONE);
            w.plant_marker(World::addr(0), MARKER_UFFD_WP);
            range
        },
        newest: ["0", "V", "VW"],
        earlier: &[(Gen::V4_14, Gen::V5_7, NOT_HERE)],
    },
    Row {
        row: "22",
        state: "poison marker",
        build: |w| {
            let range = anon(w, ONE);
            w.plant_marker(World::addr(0), MARKER_POISONED);
            range
        },
        newest: ["0", "-EFAULT", "-EFAULT"],
        earlier: &[],
    },
    Row {
        row: "22",
        state: "guard marker",
        build: |w| {
            let range = anon(w, ONE);
            w.plant_marker(World::addr(0), MARKER_GUARD);
            range
        },
        newest: ["0", "-EFAULT", "-EFAULT"],
        earlier: &[],
    },
    Row {
        row: "23",
        state: "present, write-protected by userfaultfd",
        build: |w| {
            let range = written(w, ONE);
            w.set_vma_flags(range.start(), VmFlags::UFFD_WP);
            w.change(range, Change::UffdWp);
            range
        },
        newest: ["V", "V", "-EFAULT"],
        earlier: &[],
    },
    Row {
        row: "24",
        state: "none, userfaultfd missing",
        build: |w| {
            let range = anon(w, ONE);
            w.set_vma_flags(range.start(), VmFlags::UFFD_MISSING);
            range
        },
        newest: ["0", "-EFAULT", "-EFAULT"],
        earlier: &[],
    },
    Row {
        row: "25",
        state: "PMD leaf, writable",
        build: |w| huge_written(w),
        newest: ["VW o9"; 3],
        earlier: &[],
    },
    Row {
        row: "26",
        state: "PMD leaf, read-only, the child is gone",
        build: |w| {
            let range = huge_written(w);
            w.fork();
            w.reap();
            range
        },
        newest: ["V o9", "V o9", "VW o9"],
        earlier: &[],
    },
    Row {
        row: "26",
        state: "PMD leaf, read-only, shared with a child",
        build: |w| {
            let range = huge_written(w);
            w.fork();
            range
        },
        newest: ["V o9", "V o9", "VW o0"],
        earlier: &[],
    },
    Row {
        row: "27",
        state: "huge zero page",
        build: |w| {
            let range = huge(w);
            w.read(World::pages(0, 1));
            range
        },
        // N7: the CPU side is 6.12, which splits; 6.13 maps a huge page.
        newest: ["V o9", "V o9", "VW o0"],
        earlier: &[],
    },
    Row {
        row: "28",
        state: "PMD leaf, NUMA hint",
        build: |w| {
            let range = huge_written(w);
            w.change(range, Change::NumaHint);
            range
        },
        newest: ["0", "VW o9", "VW o9"],
        // 5.7 no longer tests for it, and the encoder adds VALID.
        earlier: &[(Gen::V5_7, Gen::V5_7, ["V", "VW", "VW"])],
    },
    Row {
        row: "29",
        state: "PMD migration",
        build: |w| planted(w, Level::Pmd, SwpEntry::new(SwpType::MigrationWrite, 0x600).entry()),
        newest: ["0", "?", "?"],
        earlier: &[(Gen::V4_14, Gen::V4_17, ["E"; 3])],
    },
    Row {
        row: "30",
        state: "PMD, own device memory",
        build: |w| device_pmd(w, OWNER),
        newest: ["VW o9"; 3],
        earlier: &[(Gen::V4_14, Gen::V5_5, ["E"; 3]), (Gen::V5_7, Gen::V5_9, ["E", "-EFAULT", "-EFAULT"])],
    },
    Row {
        row: "31",
        state: "PMD, another's device memory",
        build: |w| device_pmd(w, OWNER + 1),
        newest: ["E", "?", "?"],
        earlier: &[(Gen::V4_14, Gen::V5_5, ["E"; 3]), (Gen::V5_7, Gen::V5_9, ["E", "-EFAULT", "-EFAULT"])],
    },
    Row {
        row: "32",
        state: "PMD, not present otherwise",
        build: |w| planted(w, Level::Pmd, SwpEntry::new(SwpType::Hwpoison, 0x600).entry()),
        newest: ["E", "-EFAULT", "-EFAULT"],
        earlier: &[(Gen::V4_14, Gen::V5_5, ["E"; 3])],
    },
    Row {
        row: "33",
        state: "PUD none",
        build: |w| anon(w, 3 * PAGES_PER_PMD),
        newest: ["0", "V", "VW"],
        earlier: &[(Gen::V5_2, Gen::V5_2, ["0", "-EFAULT", "VW"])],
    },
    Row {
        row: "34",
        state: "PUD leaf, writable",
        build: |w| {
            let start = VirtAddr::new(World::addr(0).get() + PUD_SIZE);
            w.map(PageRange::pages(start, 700), RW, MapKind::Anon);
            w.leak();
            let prot = Prot::of(true, true, false, true);
            w.plant(start, Level::Pud, Entry::leaf(Pfn::new(1 << 18), prot).mkhuge());
            PageRange::pages(start, 700)
        },
        newest: ["VW o18"; 3],
        earlier: &[(Gen::V4_14, Gen::V4_17, NOT_HERE)],
    },
    Row {
        row: "35",
        state: "hugetlb, present",
        build: |w| {
            let range = hugetlb(w);
            w.write(World::pages(0, 1));
            range
        },
        newest: ["VW o9"; 3],
        earlier: &[(Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]), (Gen::V4_17, Gen::V4_17, EINVAL)],
    },
    Row {
        row: "35",
        state: "hugetlb, read-only, shared with a child",
        build: |w| {
            let range = hugetlb(w);
            w.write(World::pages(0, 1));
            w.fork();
            range
        },
        newest: ["V o9", "V o9", "VW o9"],
        earlier: &[(Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]), (Gen::V4_17, Gen::V4_17, EINVAL)],
    },
    Row {
        row: "36",
        state: "hugetlb, a slot but no page",
        build: |w| {
            let range = hugetlb(w);
            w.write(World::pages(0, 1));
            w.mm.madvise(range, Advice::DontNeed).unwrap();
            range
        },
        newest: ["0", "V o9", "VW o9"],
        // The encoder adds VALID to nothing at all.
        earlier: &[
            (Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]),
            (Gen::V4_17, Gen::V4_17, EINVAL),
            (Gen::V5_2, Gen::V5_7, ["V", "V", "VW"]),
        ],
    },
    Row {
        row: "37",
        state: "hugetlb, no table",
        build: |w| hugetlb(w),
        newest: ["0", "V o9", "VW o9"],
        earlier: &[(Gen::V4_14, Gen::V4_14, ["-EINVAL", "E", "E"]), (Gen::V4_17, Gen::V4_17, EINVAL)],
    },
];

/// The answer in the document's words; all pages of a state have the same.
fn answer<B: Backend>(world: &World, range: PageRange, wish: Wish) -> String {
    let asked = world.ask::<B>(&Request { owner: OWNER, ..Request::all(range, wish) });
    if let Err(e) = asked.result {
        return e.to_string();
    }
    let say = |i| match asked.backend.view(i) {
        PageView::Absent => "0".to_owned(),
        PageView::Error => "E".to_owned(),
        PageView::Unreached => "none".to_owned(),
        PageView::Mapped { write, order, .. } => {
            let order = order.map_or(String::new(), |o| format!(" o{o}"));
            format!("V{}{order}", if write == Some(true) { "W" } else { "" })
        }
    };
    let first = say(0);
    for i in 1..range.nr_pages() as usize {
        assert_eq!(say(i), first, "page {i}");
    }
    first
}

/// As a format without an order says it; an order of 0 is left out in the table.
fn in_format<B: Backend>(expected: &str) -> String {
    let (rights, order) = expected.split_once(' ').unwrap_or((expected, "o0"));
    let knows = B::INFO.capabilities.contains(&Capability::Order);
    if knows && rights.starts_with('V') { format!("{rights} {order}") } else { rights.to_owned() }
}

fn check<B: Backend>(generation: Gen) {
    for row in ROWS {
        let expected = row
            .earlier
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&generation))
            .map_or(row.newest, |(_, _, answers)| *answers);
        for (wish, expected) in [Wish::None, Wish::Read, Wish::Write].into_iter().zip(expected) {
            if expected == "?" {
                continue;
            }
            let mut world = World::new();
            let range = (row.build)(&mut world);
            assert_eq!(
                answer::<B>(&world, range, wish),
                in_format::<B>(expected),
                "row {} ({}), wish {wish:?}, {}",
                row.row,
                row.state,
                B::INFO.id
            );
        }
    }
}

macro_rules! generations {
    ($($name:ident: $backend:ty = $generation:expr),* $(,)?) => {
        $(#[test]
        fn $name() {
            check::<$backend>($generation);
        })*
    };
}

generations! {
    pfn_bits_of_4_14: PfnBits = Gen::V4_14,
    driver_format_of_4_17: DriverFormat = Gen::V4_17,
    range_default_of_5_2: RangeDefault<V5_2> = Gen::V5_2,
    range_default_of_5_5: RangeDefault<V5_5> = Gen::V5_5,
    range_default_of_5_7: RangeDefault<V5_7> = Gen::V5_7,
    fixed_flags_of_5_8: FixedFlags = Gen::V5_8,
    map_order_of_6_12: MapOrder = Gen::V5_9,
    sticky_flags_of_7_2: StickyFlags = Gen::V6_16,
    unlocked_of_the_7_3_cycle: Unlocked = Gen::V7_3,
    the_oracle: Oracle = Gen::Oracle,
}
