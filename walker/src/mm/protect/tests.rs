//! Events of mprotect, huge shared memory under userfaultfd, and NUMA hints.

use super::*;
use crate::addr::PAGES_PER_PMD;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::system::{Settings, System, ThpMode};
use crate::mm::testing::{BASE, Heard, RW, machine, map_anon};
use crate::mm::touch::Access;
use crate::mm::userfaultfd::{UffdMode, Userfaultfd};
use crate::notifier::Invalidate;
use std::sync::Arc;

fn pages(off: u64, len: u64) -> PageRange {
    PageRange::pages(BASE.add_pages(off), len)
}

/// A machine where everything is huge that can be.
fn huge_machine() -> Arc<Mm> {
    let memory = crate::memory::PhysConfig { nr_frames: 1 << 14, host_huge_pages: false };
    let settings = Settings { thp: ThpMode::Always, shmem_thp: ThpMode::Always, ..Settings::default() };
    Mm::new(&System::new(memory, settings).unwrap(), crate::arch::Geometry::FourLevel).unwrap()
}

fn entry(mm: &Mm, page: u64) -> Entry {
    mm.lookup(BASE.add_pages(page), Level::Pte).expect("a PTE table").read()
}

fn hint(mm: &Mm, range: PageRange) {
    let vmas = mm.mmap_read();
    mm.change_protection(vmas.find(range.start()).unwrap(), range, Change::NumaHint);
}

#[test]
fn the_event_begins_at_the_first_gib_with_a_table_and_ends_with_the_512_gib() {
    const GIB: u64 = PAGES_PER_PMD * 512;
    let mm = machine();
    // The middle of three PUD entries has a table; the last one's page is in the next 512 GiB.
    let start = 509 * GIB;
    map_anon(&mm, start, 4 * GIB);
    mm.touch(BASE.add_pages(510 * GIB + 700), Access::Write(1)).unwrap();
    mm.touch(BASE.add_pages(512 * GIB + 7), Access::Write(1)).unwrap();
    let heard = Arc::new(Heard::default());
    let sub = mm.notifier.insert(pages(start, 4 * GIB), Arc::clone(&heard) as Arc<dyn Invalidate>);
    mm.mprotect(pages(start, 4 * GIB), VmFlags::READ).unwrap();
    let both = [pages(510 * GIB, 2 * GIB), pages(512 * GIB, GIB)];
    assert_eq!(*heard.0.lock(), both.map(|range| (EventKind::ProtectionVma, range)));
    // Nothing at all is there: no event.
    mm.mprotect(pages(start, GIB), RW).unwrap();
    assert_eq!(heard.0.lock().len(), 2);
    mm.notifier.remove(&sub);
}

#[test]
fn unprotecting_shared_memory_leaves_its_huge_leaves_alone() {
    let mm = huge_machine();
    let range = pages(0, PAGES_PER_PMD);
    mm.mmap(range, RW, MapKind::SharedAnon, MapFlags::default(), 0).unwrap();
    mm.touch(BASE, Access::Write(1)).unwrap();
    let pmd = mm.lookup(BASE, Level::Pmd).unwrap();
    assert!(pmd.read().is_huge());
    mm.uffd_register(Userfaultfd::new(mm.system(), true), range, UffdMode::WriteProtect).unwrap();
    mm.uffd_writeprotect(range, false).unwrap();
    assert!(pmd.read().is_huge());
    mm.uffd_writeprotect(range, true).unwrap();
    assert!(pmd.read().is_table());
}

#[test]
fn the_numa_scan_passes_over_what_is_shared_copy_on_write() {
    let mm = machine();
    map_anon(&mm, 0, 4);
    (0..3).for_each(|page| assert_eq!(mm.touch(BASE.add_pages(page), Access::Write(1)), Ok(1)));
    mm.touch(BASE.add_pages(3), Access::Read).unwrap();
    let child = mm.fork().unwrap();
    mm.touch(BASE.add_pages(1), Access::Write(2)).unwrap();
    hint(&mm, pages(0, 4));
    let hinted = (0..4).filter(|&page| entry(&mm, page).is_protnone()).collect::<Vec<_>>();
    assert_eq!(hinted, [1], "shared, its own, shared, the zero page");
    child.exit();
    hint(&mm, pages(0, 4));
    let hinted = (0..4).filter(|&page| entry(&mm, page).is_protnone()).collect::<Vec<_>>();
    assert_eq!(hinted, [0, 1, 2]);
}

#[test]
fn one_hint_fault_resolves_all_hints_on_a_large_folio_in_its_table_and_vma() {
    let mm = huge_machine();
    map_anon(&mm, 0, PAGES_PER_PMD + 8);
    mm.touch(BASE, Access::Write(1)).unwrap();
    // By PTEs, in three VMAs; the page behind them is another folio.
    mm.mprotect(pages(100, 10), VmFlags::READ).unwrap();
    mm.touch(BASE.add_pages(PAGES_PER_PMD), Access::Write(1)).unwrap();
    [pages(0, 100), pages(100, 10), pages(110, PAGES_PER_PMD - 102)].into_iter().for_each(|r| hint(&mm, r));
    let hinted = || (0..PAGES_PER_PMD + 1).filter(|&page| entry(&mm, page).is_protnone()).collect::<Vec<_>>();
    assert_eq!(hinted().len() as u64, PAGES_PER_PMD + 1);
    mm.touch(BASE.add_pages(300), Access::Read).unwrap();
    assert_eq!(hinted(), (0..110).chain([PAGES_PER_PMD]).collect::<Vec<_>>());
    assert!(entry(&mm, 400).is_write(), "exclusive, so that it may be written as before");
    mm.touch(BASE.add_pages(105), Access::Read).unwrap();
    assert!(!entry(&mm, 105).is_write());
    assert_eq!(hinted(), (0..100).chain([PAGES_PER_PMD]).collect::<Vec<_>>());
}
