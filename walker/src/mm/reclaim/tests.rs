//! Swap, reclaim, migration, collapse and device memory, on machines small enough to look at.

use super::*;
use crate::arch::Geometry;
use crate::dmirror::Dmirror;
use crate::memory::PhysConfig;
use crate::mm::madvise::Advice;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::system::{Settings, System};
use crate::mm::touch::Access;
use crate::notifier::{Invalidate, Subscription};
use crate::sync::Mutex;

const BASE: u64 = 0x2000_0000_0000;
const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

struct World {
    system: Arc<System>,
    mm: Arc<Mm>,
    used: u64,
}

impl World {
    /// An anonymous mapping of `pages` at [`BASE`].
    fn new(pages: u64, swap_slots: u64) -> World {
        let memory = PhysConfig { nr_frames: 1 << 15, host_huge_pages: false };
        let system = System::new(memory, Settings { swap_slots, ..Settings::default() }).unwrap();
        let used = system.phys.nr_used();
        let mm = Mm::new(&system, Geometry::FourLevel).unwrap();
        mm.mmap(span(0, pages), RW, MapKind::Anon, MapFlags::default(), 0).unwrap();
        World { system, mm, used }
    }
    fn huge(pages: u64, swap_slots: u64) -> World {
        let w = World::new(pages, swap_slots);
        w.mm.madvise(span(0, pages), Advice::Hugepage).unwrap();
        w
    }
    fn write(&self, page: u64, byte: u8) {
        assert_eq!(self.mm.touch(at(page), Access::Write(byte)), Ok(byte));
    }
    fn entry(&self, page: u64) -> Entry {
        match self.mm.lookup(at(page), Level::Pte) {
            Ok(slot) => slot.read(),
            Err(level) => self.mm.lookup(at(page), level).unwrap().read(),
        }
    }
    /// Everything goes; nothing may stay behind.
    fn close(self) {
        drop(self.mm);
        for _ in 0..1000 {
            if self.system.phys.nr_used() == self.used {
                break;
            }
            crate::memory::rcu::flush();
            std::thread::yield_now();
        }
        assert_eq!((self.system.phys.nr_used(), self.system.swap.nr_used()), (self.used, 0));
    }
}

fn span(page: u64, pages: u64) -> PageRange {
    PageRange::pages(at(page), pages)
}
fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE).add_pages(page)
}

/// Notes the kinds of events.
#[derive(Default)]
struct Log(Mutex<Vec<EventKind>>);
impl Invalidate for Log {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        sub.set_seq(cur_seq);
        self.0.lock().push(event.kind);
        true
    }
}

#[test]
fn a_page_comes_back_from_swap_as_it_went_and_writable() {
    let w = World::new(4, 1 << 12);
    w.write(1, 7);
    w.mm.madvise(span(0, 4), Advice::PageOut).unwrap();
    assert!(w.entry(1).is_swp() && w.entry(1).swp().is_swap() && w.entry(1).is_swp_exclusive());
    assert_eq!(w.system.swap.nr_used(), 1);
    assert_eq!(w.mm.touch(at(1), Access::Read), Ok(7));
    assert!(w.entry(1).is_write());
    assert_eq!(w.system.swap.nr_used(), 0);
    w.close();
}

#[test]
fn without_swap_paging_out_leaves_small_pages_and_splits_huge_ones() {
    let w = World::huge(512, 0);
    w.write(3, 9);
    assert!(w.entry(3).is_huge());
    w.mm.madvise(span(0, 512), Advice::PageOut).unwrap();
    assert!(w.entry(3).is_write() && !w.entry(3).is_huge());
    assert_eq!(w.entry(4).pfn(), w.system.zero_pfn());
    w.close();
}

#[test]
fn a_swapped_page_shared_by_fork_is_copied_by_the_first_writer_and_kept_by_the_last() {
    let w = World::new(1, 1 << 12);
    w.write(0, 5);
    w.mm.madvise(span(0, 1), Advice::PageOut).unwrap();
    let child = w.mm.fork().unwrap();
    assert_eq!(w.mm.touch(at(0), Access::Write(6)), Ok(6));
    assert_eq!(child.touch(at(0), Access::Read), Ok(5));
    assert_eq!(child.touch(at(0), Access::Write(8)), Ok(8));
    assert_eq!(w.mm.touch(at(0), Access::Read), Ok(6));
    drop(child);
    w.close();
}

#[test]
fn a_lazily_freed_page_is_dropped_unless_it_was_written_again() {
    let w = World::new(2, 1 << 12);
    w.write(0, 1);
    w.write(1, 2);
    w.mm.madvise(span(0, 2), Advice::Free).unwrap();
    w.write(1, 3);
    w.mm.madvise(span(0, 2), Advice::PageOut).unwrap();
    assert!(w.entry(0).is_none());
    assert!(w.entry(1).is_present());
    assert_eq!(w.mm.touch(at(1), Access::Read), Ok(3));
    w.close();
}

#[test]
fn paging_out_a_part_of_a_huge_page_splits_it_and_maps_the_zero_page_for_zeros() {
    let w = World::huge(512, 1 << 12);
    w.write(0, 1);
    w.write(100, 2);
    w.mm.madvise(span(90, 20), Advice::PageOut).unwrap();
    assert!(w.entry(0).is_write());
    assert!(w.entry(100).is_swp());
    assert_eq!(w.entry(101).pfn(), w.system.zero_pfn());
    w.close();
}

#[test]
fn swap_space_fragments_and_heals() {
    let w = World::huge(512, 1 << 11);
    for round in 0..20 {
        w.write(0, round);
        w.mm.madvise(span(0, 512), Advice::PageOut).unwrap();
        assert_eq!(w.system.swap.nr_used(), 512);
        assert_eq!(w.mm.touch(at(0), Access::Read), Ok(round));
        w.mm.munmap(span(0, 512)).unwrap();
        assert_eq!(w.system.swap.nr_used(), 0);
        w.mm.mmap(span(0, 512), RW, MapKind::Anon, MapFlags::default(), 0).unwrap();
        w.mm.madvise(span(0, 512), Advice::Hugepage).unwrap();
    }
    w.close();
}

#[test]
fn migration_moves_pages_and_leaves_rights_and_contents() {
    let w = World::new(2, 0);
    w.write(0, 4);
    w.write(1, 5);
    let before = w.entry(0).pfn();
    let vmas = w.mm.mmap_read();
    let moved = w.mm.locked(&vmas).migrate_pages(span(0, 2), |n| {
        assert_eq!(n, 2);
        assert!(w.entry(0).swp().is_migration() && w.entry(1).swp().is_migration());
    });
    drop(vmas);
    assert_eq!(moved, 2);
    assert_ne!(w.entry(0).pfn(), before);
    assert!(w.entry(0).is_write() && w.entry(0).is_dirty());
    assert_eq!(w.mm.touch(at(0), Access::Read), Ok(4));
    w.close();
}

#[test]
fn a_fault_waits_for_a_migration_and_then_sees_the_new_page() {
    let w = World::new(1, 0);
    w.write(0, 4);
    std::thread::scope(|s| {
        let vmas = w.mm.mmap_read();
        let mut reader = None;
        w.mm.locked(&vmas).migrate_pages(span(0, 1), |_| {
            reader = Some(s.spawn(|| w.mm.touch(at(0), Access::Read)));
            std::thread::sleep(std::time::Duration::from_millis(5));
        });
        drop(vmas);
        assert_eq!(reader.unwrap().join().unwrap(), Ok(4));
    });
    w.close();
}

#[test]
fn pages_shared_with_a_child_migrate_in_both() {
    let w = World::new(1, 0);
    w.write(0, 4);
    let child = w.mm.fork().unwrap();
    assert_eq!(w.mm.migrate_range(span(0, 1)), 1);
    let theirs = child.lookup(at(0), Level::Pte).unwrap().read();
    assert_eq!(theirs.pfn(), w.entry(0).pfn());
    assert_eq!(w.system.phys.mapcount(theirs.pfn()), 2);
    drop(child);
    w.close();
}

#[test]
fn a_collapse_makes_one_huge_page_in_one_event_and_keeps_contents() {
    let w = World::new(512, 1 << 12);
    let log = Arc::new(Log::default());
    w.write(7, 7);
    w.write(300, 30);
    w.mm.madvise(span(7, 1), Advice::PageOut).unwrap();
    let sub = w.mm.notifier.insert(span(0, 512), Arc::clone(&log) as Arc<dyn Invalidate>);
    w.mm.madvise(span(0, 512), Advice::Collapse).unwrap();
    w.mm.notifier.remove(&sub);
    assert_eq!(*log.0.lock(), [EventKind::Clear]);
    assert!(w.entry(7).is_huge() && w.entry(7).is_write());
    assert_eq!(w.mm.touch(at(7), Access::Read), Ok(7));
    assert_eq!(w.mm.touch(at(300), Access::Read), Ok(30));
    w.close();
}

#[test]
fn what_cannot_collapse_says_why() {
    let w = World::new(1024, 0);
    assert_eq!(w.mm.madvise(span(0, 512), Advice::Collapse), Err(Errno::Inval), "no page yet");
    assert_eq!(w.mm.touch(at(0), Access::Read), Ok(0));
    w.write(600, 1);
    assert_eq!(w.mm.madvise(span(0, 512), Advice::Collapse), Err(Errno::Inval), "nothing writable");
    assert_eq!(w.mm.madvise(span(512, 512), Advice::Collapse), Ok(()));
    w.close();
}

#[test]
fn device_memory_keeps_contents_and_comes_back_at_a_touch() {
    let w = World::new(8, 0);
    w.write(2, 9);
    let mut device = Dmirror::open(&w.mm, 1);
    assert_eq!(device.migrate_to_device(span(0, 8)), Ok(8));
    assert!(w.entry(2).swp().is_device_private_write());
    assert_eq!(w.mm.touch(at(2), Access::Read), Ok(9));
    assert!(w.entry(2).is_write());
    assert_eq!(device.migrate_to_system(span(0, 8)), Ok(7));
    assert_eq!(device.migrate_to_device(span(2, 1)), Ok(1));
    drop(device);
    assert!(w.entry(2).is_present(), "closing the device sends its memory home");
    w.close();
}

#[test]
fn device_memory_is_shared_by_fork_and_read_back_in_one_of_them_only() {
    let w = World::new(1, 0);
    w.write(0, 9);
    let mut device = Dmirror::open(&w.mm, 1);
    device.migrate_to_device(span(0, 1)).unwrap();
    let child = w.mm.fork().unwrap();
    assert_eq!(child.touch(at(0), Access::Write(3)), Ok(3));
    assert_eq!(w.mm.touch(at(0), Access::Read), Ok(9));
    drop((child, device));
    w.close();
}

#[test]
fn exclusive_access_ends_when_the_processor_touches_the_page() {
    let w = World::new(4, 0);
    let mut device = Dmirror::open(&w.mm, 1);
    assert_eq!(device.exclusive(span(0, 4)), Ok(4));
    assert!(w.entry(1).swp().is_device_exclusive());
    w.write(1, 3);
    assert!(w.entry(1).is_write());
    let child = w.mm.fork().unwrap();
    assert!(w.entry(0).is_present() && !w.entry(0).is_write(), "fork takes it back");
    drop((child, device));
    w.close();
}

#[test]
fn a_huge_page_becomes_exclusive_as_a_whole_and_that_counts_as_busy() {
    let w = World::huge(512, 0);
    w.write(0, 1);
    let mut device = Dmirror::open(&w.mm, 1);
    assert_eq!(device.exclusive(span(0, 2)), Err(Errno::Busy));
    assert!(w.entry(400).swp().is_device_exclusive());
    assert_eq!(w.mm.touch(at(400), Access::Read), Ok(0));
    drop(device);
    w.close();
}

#[test]
fn paging_out_is_refused_where_pages_are_locked() {
    let w = World::new(4, 1 << 12);
    w.mm.mlock(span(0, 4), false).unwrap();
    for advice in [Advice::PageOut, Advice::Cold, Advice::Free] {
        assert_eq!(w.mm.madvise(span(0, 4), advice), Err(Errno::Inval), "{advice:?}");
    }
    w.close();
}

#[test]
fn swapping_migrating_forking_and_faulting_at_once_lose_nothing() {
    let w = World::huge(1024, 1 << 14);
    for page in 0..1024 {
        w.write(page, page as u8 | 1);
    }
    std::thread::scope(|s| {
        s.spawn(|| (0..30).for_each(|_| w.mm.madvise(span(100, 700), Advice::PageOut).unwrap()));
        s.spawn(|| {
            (0..30).for_each(|_| {
                w.mm.migrate_range(span(0, 1024));
            })
        });
        s.spawn(|| {
            (0..30).for_each(|_| {
                // Busy pages may refuse.
                let _ = w.mm.madvise(span(0, 1024), Advice::Collapse);
            })
        });
        s.spawn(|| (0..10).for_each(|_| drop(w.mm.fork())));
        for _ in 0..20 {
            for page in 0..1024 {
                assert_eq!(w.mm.touch(at(page), Access::Read), Ok(page as u8 | 1));
            }
        }
    });
    w.close();
}
