//! Pages that are halfway to a device, of files too.

use super::InMigration;
use crate::addr::{Level, PageRange, Pfn};
use crate::arch::{Entry, Geometry};
use crate::counters::{Count, Counters};
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::file::File;
use crate::mm::madvise::Advice;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::system::System;
use crate::mm::testing::{BASE, RW, assert_used, machine, map_anon};
use crate::mm::touch::Access;
use crate::mm::{Errno, Mm};
use std::sync::Arc;

const OWNER: u64 = 1;

fn pages(off: u64, len: u64) -> PageRange {
    PageRange::pages(BASE.add_pages(off), len)
}

fn map_file(mm: &Mm, file: &Arc<File>, len: u64) {
    let kind = MapKind::FileShared { file: Arc::clone(file), writable: true };
    mm.mmap(pages(0, len), RW, kind, MapFlags::default(), 0).unwrap();
}

fn entry(mm: &Mm, off: u64) -> Entry {
    mm.lookup(BASE.add_pages(off), Level::Pte).expect("a table").read()
}

fn is_migrating(mm: &Mm, off: u64) -> bool {
    let e = entry(mm, off);
    e.is_swp() && e.swp().is_migration()
}

fn frame(mm: &Mm, off: u64) -> Pfn {
    let e = entry(mm, off);
    assert!(e.is_present(), "{e:?}");
    e.pfn()
}

fn hold(mm: &Mm, range: PageRange, moves: bool, between: impl FnOnce(&InMigration<'_, '_>)) {
    mm.migrate_vma_held(range, OWNER, moves, between).unwrap();
}

/// Two relatives and a stranger, who map the four pages of a file and have written them.
fn mappers() -> (Arc<Mm>, Arc<Mm>, Arc<Mm>) {
    let mm = machine();
    let file = File::tmpfs(mm.system());
    file.truncate(4).unwrap();
    map_file(&mm, &file, 4);
    let stranger = Mm::new(mm.system(), Geometry::FourLevel).unwrap();
    map_file(&stranger, &file, 4);
    let child = mm.fork().unwrap();
    for mm in [&mm, &child, &stranger] {
        for i in 0..4 {
            mm.touch(BASE.add_pages(i), Access::Write(i as u8 + 1)).unwrap();
        }
    }
    (mm, child, stranger)
}

#[test]
fn pages_of_a_file_are_in_migration_for_all_who_map_them_and_come_back() {
    let (mm, child, stranger) = mappers();
    let all = [&mm, &child, &stranger];
    let before = all.map(|mm| [0, 1, 2, 3].map(|i| frame(mm, i)));
    for moves in [false, true] {
        hold(&mm, pages(1, 2), moves, |migration| {
            assert_eq!(migration.nr_pages(), 2);
            for mm in all {
                assert_eq!([0, 1, 2, 3].map(|i| is_migrating(mm, i)), [false, true, true, false]);
            }
            assert_eq!(mm.phys().mapcount(before[0][1]), 0);
        });
        assert_eq!(all.map(|mm| [0, 1, 2, 3].map(|i| frame(mm, i))), before);
        assert_eq!(mm.phys().mapcount(before[0][1]), 3);
        for mm in all {
            assert_eq!(mm.touch(BASE.add_pages(1), Access::Read), Ok(2));
            assert!(entry(mm, 1).is_write());
        }
    }
}

#[test]
fn a_page_stays_where_it_is_if_somebody_who_maps_it_is_busy() {
    let (mm, child, stranger) = mappers();
    let busy = stranger.mmap_write();
    hold(&mm, pages(0, 4), false, |migration| assert_eq!(migration.nr_pages(), 0));
    assert_eq!(mm.phys().mapcount(frame(&mm, 0)), 3);
    drop(busy);
    assert_eq!([&mm, &child, &stranger].map(|mm| frame(mm, 3)), [frame(&mm, 3); 3]);
    hold(&mm, pages(0, 4), false, |migration| assert_eq!(migration.nr_pages(), 4));
}

#[test]
fn anonymous_pages_and_places_without_any_move_and_keep_their_contents() {
    let mm = machine();
    let used = mm.phys().nr_used();
    map_anon(&mm, 0, 4);
    mm.touch(BASE, Access::Write(7)).unwrap();
    mm.touch(BASE.add_pages(1), Access::Read).unwrap();
    let (old, zero) = (frame(&mm, 0), frame(&mm, 1));
    hold(&mm, pages(0, 3), true, |migration| assert_eq!(migration.nr_pages(), 1));
    assert_ne!(frame(&mm, 0), old);
    assert_ne!(frame(&mm, 1), zero);
    assert!(entry(&mm, 2).is_write() && entry(&mm, 3).is_none());
    assert_eq!([0, 1, 2].map(|i| mm.touch(BASE.add_pages(i), Access::Read)), [Ok(7), Ok(0), Ok(0)]);
    mm.munmap(pages(0, 4)).unwrap();
    assert_used(&mm, used);
}

#[test]
fn nobody_moves_into_an_empty_place_of_a_file() {
    let mm = machine();
    let file = File::tmpfs(mm.system());
    file.truncate(4).unwrap();
    map_file(&mm, &file, 4);
    mm.touch(BASE, Access::Write(1)).unwrap();
    hold(&mm, pages(0, 4), true, |migration| assert_eq!(migration.nr_pages(), 1));
    assert!(entry(&mm, 1).is_none());
}

#[test]
fn a_migration_ends_once() {
    let mm = machine();
    map_anon(&mm, 0, 2);
    mm.touch(BASE, Access::Write(1)).unwrap();
    let page = frame(&mm, 0);
    hold(&mm, pages(0, 2), false, |migration| {
        assert!(is_migrating(&mm, 0));
        migration.end();
        assert_eq!(frame(&mm, 0), page);
        migration.end();
    });
    assert_eq!((frame(&mm, 0), mm.phys().page(page).refs()), (page, 1));
}

/// Notes that somebody was about to sleep, and ends what he would have waited for.
struct Wakes<'m, 'a, 'f>(&'m InMigration<'a, 'f>, u64);

impl Counters for Wakes<'_, '_, '_> {
    const ENABLED: bool = true;
    fn add(&mut self, what: Count, n: u64) {
        if what == Count::MigrationWaits {
            self.1 += n;
            self.0.end();
        }
    }
    fn get(&self, _: Count) -> u64 {
        self.1
    }
    fn folio_wait(&mut self) {
        self.add(Count::MigrationWaits, 1);
    }
}

/// Whoever has an entry for the page sleeps at that; who never mapped it finds the page locked.
#[test]
fn a_fault_says_that_it_is_about_to_sleep_at_the_entry_or_at_the_page() {
    let block = |system: &Arc<System>| File::block(system);
    for file in [File::tmpfs, block] {
        let mm = machine();
        let file = file(mm.system());
        let _ = file.truncate(1);
        map_file(&mm, &file, 1);
        mm.touch(BASE, Access::Write(3)).unwrap();
        let other = Mm::new(mm.system(), Geometry::FourLevel).unwrap();
        map_file(&other, &file, 1);
        for sleeper in [&mm, &other] {
            hold(&mm, pages(0, 1), false, |migration| {
                assert_eq!(migration.nr_pages(), 1);
                let mut wakes = Wakes(migration, 0);
                let vmas = sleeper.mmap_read();
                let vma = vmas.find(BASE).unwrap();
                for _ in 0..2 {
                    let r = sleeper.locked(&vmas).handle_mm_fault(vma, BASE, FaultFlags::WRITE, &mut wakes);
                    assert!(!r.intersects(VmFault::ERROR), "{r:?}");
                }
                assert_eq!((wakes.1, frame(sleeper, 0)), (1, frame(&mm, 0)));
            });
        }
    }
}

/// Entries that a fork copies, that a hole takes away, and that faults wait for, all at once: none is forgotten.
#[test]
fn no_migration_entry_of_a_file_outlives_its_migration() {
    let (mm, child, stranger) = mappers();
    let written =
        |mm: &Mm, i: u64| assert_eq!(mm.touch(BASE.add_pages(i), Access::Write(i as u8)), Ok(i as u8));
    let migrations = std::thread::scope(|scope| {
        let others = [&child, &stranger].map(|mm| {
            scope.spawn(move || {
                for i in 0..400 {
                    mm.madvise(pages(i % 4, 1), Advice::DontNeed).unwrap();
                    written(mm, i % 4);
                    let forked = mm.fork().unwrap();
                    written(&forked, (i + 1) % 4);
                    forked.exit();
                }
            })
        });
        let mut held = 0;
        while !others.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            hold(&mm, pages(0, 4), false, |migration| held += migration.nr_pages());
            written(&mm, held % 4);
        }
        held
    });
    assert!(migrations > 0);
    for mm in [&mm, &child, &stranger] {
        for i in 0..4 {
            assert!(!is_migrating(mm, i), "page {i}");
            written(mm, i);
            assert!(!mm.phys().page(frame(mm, i)).is_locked(), "page {i}");
        }
    }
    let mapped = [0, 1, 2, 3].map(|i| mm.phys().mapcount(frame(&mm, i)));
    assert_eq!(mapped, [3; 4]);
}

#[test]
fn what_no_device_may_have_is_refused() {
    let mm = machine();
    map_anon(&mm, 0, 2);
    let nothing = |_: &InMigration<'_, '_>| unreachable!();
    assert_eq!(mm.migrate_vma_held(pages(1, 2), OWNER, false, nothing), Err(Errno::Inval));
    assert_eq!(mm.migrate_vma_held(pages(4, 1), OWNER, false, nothing), Err(Errno::Inval));
}
