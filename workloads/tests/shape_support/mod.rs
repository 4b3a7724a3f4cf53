//! Looking at whole address spaces: hashes, comparison modulo frame numbers, teardown.

#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::sync::Arc;
use walker::addr::{Level, PageRange, Pfn, VirtAddr};
use walker::arch::{Entry, Geometry};
use walker::memory::{PageKind, PhysConfig, Table};
use walker::mm::Mm;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{Settings, System, ThpMode};
use walker::mm::tables::below;
use walker::mm::touch::Access;
use walker::mm::vma::VmFlags;
use workloads::shape::Built;

const PFN_BITS: u64 = 0x000f_ffff_ffff_f000;

/// The frame that an entry maps or stands for, if it has one of its own.
fn frame(e: Entry) -> Option<Pfn> {
    if e.is_present() {
        return (!e.is_special()).then(|| e.pfn());
    }
    let swp = e.swp();
    let names_a_frame =
        swp.is_migration() || swp.is_device_private() || swp.is_device_exclusive() || swp.is_hwpoison();
    (e.is_swp() && names_a_frame).then(|| swp.pfn())
}

/// Everything that an entry says but the number of its frame or swap slot.
fn without_frame(e: Entry) -> u64 {
    if e.is_present() {
        // Some are stored inverted: all bits of the frame go, whichever they are.
        return e.bits() & !PFN_BITS;
    }
    if !e.is_swp() {
        return e.bits();
    }
    let (swp, on) = (e.swp(), |bit, yes: bool| if yes { bit } else { 0 });
    let kind = (swp.kind() as u64) << 8;
    let marker = if swp.is_marker() { swp.offset() } else { 0 };
    let aged = on(8, swp.is_migration() && swp.is_migration_young())
        | on(16, swp.is_migration() && swp.is_migration_dirty());
    let bits = on(1, e.is_swp_exclusive()) | on(2, e.is_swp_soft_dirty()) | on(4, e.is_swp_uffd_wp());
    kind | aged | bits | marker << 16
}

pub(crate) fn pages(range: PageRange) -> impl Iterator<Item = VirtAddr> {
    (0..range.nr_pages()).map(move |i| range.start().add_pages(i))
}

/// Every non-none entry with its level and address, tables before what they hold.
pub(crate) fn entries(mm: &Mm) -> Vec<(Level, VirtAddr, Entry)> {
    fn below_table(
        mm: &Mm,
        table: Table<'_>,
        level: Level,
        base: u64,
        out: &mut Vec<(Level, VirtAddr, Entry)>,
    ) {
        for i in 0..512 {
            let (e, addr) = (table.read(i), base + i as u64 * level.size());
            if e.is_none() {
                continue;
            }
            out.push((level, VirtAddr::new(addr), e));
            if level > Level::Pte && e.is_table() {
                below_table(mm, mm.phys().table(e.pfn()), below(level), addr, out);
            }
        }
    }
    let mut out = Vec::new();
    below_table(mm, mm.root(), mm.geometry().root(), 0, &mut out);
    out
}

pub(crate) fn leaf(mm: &Mm, addr: VirtAddr) -> Entry {
    match mm.lookup(addr, Level::Pte) {
        Ok(slot) => slot.read(),
        Err(level) => mm.lookup(addr, level).map(|s| s.read()).unwrap_or(Entry::NONE),
    }
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
}

/// Of every entry at every level of every address space, as it stands.
pub(crate) fn raw_hash(built: &Built) -> u64 {
    let mms = std::iter::once(&built.mm).chain(&built.children);
    mms.flat_map(|mm| entries(mm)).fold(0xcbf2_9ce4_8422_2325, |h, (level, addr, e)| {
        mix(mix(mix(h, level as u64), addr.get()), e.bits())
    })
}

/// Of every leaf of every address space, with frames counted from the lowest one: tables and the frames that the
/// allocator gave out before do not matter.
pub(crate) fn leaf_hash(built: &Built) -> u64 {
    let is_leaf = |level: Level, e: Entry| level == Level::Pte || !e.is_table();
    let zero = built.system.zero_pfn();
    // Also the frames of entries without a struct page.
    let frame = |e: Entry| frame(e).or(e.is_present().then(|| e.pfn())).filter(|pfn| *pfn != zero);
    let mms = std::iter::once(&built.mm).chain(&built.children);
    let leaves: Vec<_> = mms.flat_map(|mm| entries(mm)).filter(|(l, _, e)| is_leaf(*l, *e)).collect();
    let lowest = leaves.iter().filter_map(|l| frame(l.2)).map(Pfn::get).min().unwrap_or(0);
    leaves.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, (level, addr, e)| {
        let from_lowest = frame(e).map_or(0, |pfn| pfn.get() - lowest + 1);
        // What a present entry says beside its frame, and all that any other says.
        let bits = match frame(e) {
            Some(_) if !e.is_present() => without_frame(e),
            _ if e.is_present() => e.bits() & !PFN_BITS,
            _ => e.bits(),
        };
        mix(mix(mix(mix(h, level as u64), addr.get()), bits), from_lowest)
    })
}

/// What the struct page of a mapped frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageState {
    kind: PageKind,
    refs: i32,
    pte_mappings: i32,
    entire_mappings: i32,
    large_mappings: i32,
    order: u8,
    tail_distance: u64,
    exclusive: bool,
    locked: bool,
    owner: u64,
    index: u64,
}

fn page_state(mm: &Mm, pfn: Pfn) -> PageState {
    let page = mm.phys().page(pfn);
    PageState {
        kind: page.kind(),
        refs: page.refs(),
        pte_mappings: page.pte_mappings(),
        entire_mappings: page.entire_mappings(),
        large_mappings: page.large_mappings(),
        order: page.order(),
        tail_distance: page.tail_distance(),
        exclusive: page.is_anon_exclusive(),
        locked: page.is_locked(),
        // Identities of files and VMAs count up: only a device's is a property.
        owner: if page.kind() == PageKind::DevicePrivate { page.owner() } else { 0 },
        index: page.index(),
    }
}

/// Leaves of every address space with the struct pages behind them, for comparing before and after. Of device memory only
/// that it is there: a page that comes back to a device lies in another frame.
pub(crate) fn states(built: &Built) -> Vec<BTreeMap<u64, (u64, Vec<PageState>)>> {
    let one = |mm: &Arc<Mm>| {
        let with_pages = |(level, addr, e): (Level, VirtAddr, Entry)| {
            let pages = frame(e).map(|pfn| (0..1 << level.order()).map(move |i| page_state(mm, pfn.add(i))));
            let moves = e.is_swp() && e.swp().is_device_private();
            let bits = if moves { without_frame(e) } else { e.bits() };
            (addr.get(), (bits, pages.into_iter().flatten().collect()))
        };
        let leaf = |(level, _, e): &(Level, VirtAddr, Entry)| *level == Level::Pte || !e.is_table();
        entries(mm).into_iter().filter(leaf).map(with_pages).collect()
    };
    std::iter::once(&built.mm).chain(&built.children).map(one).collect()
}

/// Whether the struct pages' offsets must agree too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    Compared,
    Ignored,
}

/// The same entries at every level, frame numbers aside, with the same struct pages behind them and the same VMAs.
pub(crate) fn assert_same(a: &Mm, b: &Mm, index: Index) {
    let (left, right) = (entries(a), entries(b));
    assert_eq!(left.len(), right.len(), "number of entries");
    for ((la, aa, ea), (lb, ab, eb)) in left.into_iter().zip(right) {
        assert_eq!((la, aa), (lb, ab));
        assert_eq!(without_frame(ea), without_frame(eb), "{la:?} {aa:?}: {ea:?} and {eb:?}");
        if la > Level::Pte && ea.is_table() {
            continue;
        }
        if ea.is_swp() && ea.swp().is_swap() {
            let count = |mm: &Mm, e: Entry| mm.system().swap_count(e.swp().offset());
            assert_eq!(count(a, ea), count(b, eb), "{aa:?}: names of the slot");
        }
        let (Some(fa), Some(fb)) = (frame(ea), frame(eb)) else {
            assert_eq!(frame(ea).is_some(), frame(eb).is_some(), "{aa:?}");
            continue;
        };
        for i in 0..1 << la.order() {
            let (mut pa, mut pb) = (page_state(a, fa.add(i)), page_state(b, fb.add(i)));
            if index == Index::Ignored {
                (pa.index, pb.index) = (0, 0);
            }
            assert_eq!(pa, pb, "{la:?} {aa:?} + {i}");
        }
    }
    let vmas = |mm: &Mm| -> Vec<_> {
        let vmas = mm.mmap_read();
        vmas.iter().map(|v| (v.range, v.flags, v.pgoff, v.cloned, v.anon_vma() != 0)).collect()
    };
    assert_eq!(vmas(a), vmas(b));
}

pub(crate) fn empty_machine(thp: ThpMode) -> (Arc<System>, Arc<Mm>) {
    machine_with(1 << 16, Settings { thp, ..Settings::default() })
}

pub(crate) fn machine_with(nr_frames: u64, settings: Settings) -> (Arc<System>, Arc<Mm>) {
    let memory = PhysConfig { nr_frames, host_huge_pages: false };
    let system = System::new(memory, settings).unwrap();
    let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
    (system, mm)
}

pub(crate) fn map_anon(mm: &Mm, range: PageRange) {
    mm.mmap(range, VmFlags::READ | VmFlags::WRITE, MapKind::Anon, MapFlags::default(), 0).unwrap();
}

/// A machine with an empty anonymous mapping where `built` has its range.
pub(crate) fn by_operations(built: &Built, thp: ThpMode) -> (Arc<System>, Arc<Mm>) {
    let (system, mm) = empty_machine(thp);
    map_anon(&mm, built.range);
    (system, mm)
}

pub(crate) fn write_all(mm: &Mm, range: PageRange) {
    pages(range).for_each(|p| {
        mm.touch(p, Access::Write(1)).unwrap();
    });
}

/// Pushes deferred frees until `used` frames are in use.
pub(crate) fn settle(built: &Built, used: u64) {
    for _ in 0..1000 {
        walker::memory::rcu::flush();
        if built.system.phys.nr_used() == used {
            return;
        }
        std::thread::yield_now();
    }
    assert_eq!(built.system.phys.nr_used(), used);
}

/// Unmapping everything and dropping the address spaces gives every frame back.
pub(crate) fn assert_torn_down(built: Built) {
    assert_torn_down_but(built, 0);
}

/// The same for all but `kept` frames, which somebody outside the address spaces holds.
pub(crate) fn assert_torn_down_but(built: Built, kept: u64) {
    let Built { ref system, ref mm, .. } = built;
    let system = Arc::clone(system);
    mm.munmap(built.range).unwrap();
    assert!(
        entries(mm).iter().all(|(level, _, e)| *level > Level::Pte && e.is_table()),
        "entries survive munmap"
    );
    drop(built);
    // The zero page, and the huge one where it was needed.
    let zero = kept + 1 + system.huge_zero_pfn().map_or(0, |_| 512);
    for _ in 0..1000 {
        walker::memory::rcu::flush();
        if system.phys.nr_used() == zero {
            return;
        }
        std::thread::yield_now();
    }
    assert_eq!(system.phys.nr_used(), zero, "frames were lost");
}
