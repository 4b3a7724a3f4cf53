use crate::addr::{Level, PageRange, VirtAddr};
use crate::counters::NoCounts;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::madvise::Advice;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::testing::{BASE, RW, assert_used, machine};
use crate::mm::touch::{Access, Signal};
use crate::mm::userfaultfd::{UffdMode, Userfaultfd};
use crate::mm::vma::VmFlags;
use crate::mm::{Errno, Mm};

fn range(first: u64, nr: u64) -> PageRange {
    PageRange::pages(BASE.add_pages(first << 9), nr << 9)
}
fn page(i: u64) -> VirtAddr {
    BASE.add_pages(i << 9)
}
fn map(mm: &Mm, first: u64, nr: u64, shared: bool, noreserve: bool) -> Result<(), Errno> {
    let flags = MapFlags { noreserve, ..MapFlags::default() };
    mm.mmap(range(first, nr), RW, MapKind::Hugetlb { order: 9, shared }, flags, 0)
}

#[test]
fn reservations_bound_what_can_be_mapped_and_come_back() {
    let mm = machine();
    let pool = &mm.system().hugetlb;
    let used = mm.phys().nr_used();
    assert_eq!(map(&mm, 0, 9, false, false), Err(Errno::NoMem));
    map(&mm, 0, 6, false, false).unwrap();
    assert_eq!(pool.available(9), (8, 6));
    assert_eq!(map(&mm, 8, 3, true, false), Err(Errno::NoMem));
    map(&mm, 8, 2, true, false).unwrap();
    mm.touch(page(0), Access::Write(1)).unwrap();
    mm.touch(page(8), Access::Read).unwrap();
    assert_eq!(pool.available(9), (6, 6));
    mm.madvise(range(0, 1), Advice::DontNeed).unwrap();
    assert_eq!(pool.available(9), (7, 7));
    mm.munmap(range(3, 1)).unwrap();
    assert_eq!(pool.available(9), (7, 6));
    map(&mm, 16, 2, false, true).unwrap();
    mm.touch(page(16), Access::Write(1)).unwrap();
    assert_eq!(mm.touch(page(17), Access::Write(1)), Err(Signal::Bus), "the rest is promised");
    mm.munmap(range(0, 20)).unwrap();
    assert_eq!(pool.available(9), (8, 0));
    assert_used(&mm, used);
}

#[test]
fn edges_inside_a_huge_page_are_refused_and_dontneed_rounds_its_end_down() {
    let mm = machine();
    map(&mm, 0, 2, false, false).unwrap();
    let odd = PageRange::pages(BASE, 100);
    assert_eq!(mm.munmap(odd), Err(Errno::Inval));
    assert_eq!(mm.mprotect(odd, VmFlags::READ), Err(Errno::Inval));
    assert_eq!(mm.mprotect(odd, RW), Ok(()), "nothing to change, nothing to cut");
    mm.touch(BASE, Access::Write(3)).unwrap();
    assert_eq!(mm.madvise(odd, Advice::DontNeed), Ok(()));
    assert_eq!(mm.touch(BASE, Access::Read), Ok(3));
    let inside = PageRange::pages(BASE.add_pages(1), 600);
    assert_eq!(mm.madvise(inside, Advice::DontNeed), Err(Errno::Inval));
}

#[test]
fn the_owner_takes_the_page_from_its_child_when_the_pool_is_empty() {
    let mm = machine();
    let used = mm.phys().nr_used();
    map(&mm, 0, 5, false, false).unwrap();
    (0..5).for_each(|i| assert_eq!(mm.touch(page(i), Access::Write(1)), Ok(1)));
    let child = mm.fork().unwrap();
    (0..5).for_each(|i| assert_eq!(mm.touch(page(i), Access::Write(2)), Ok(2)));
    // Three copies, then the pool was empty.
    let alive = (0..5).filter(|&i| child.touch(page(i), Access::Read) == Ok(1)).count();
    assert_eq!(alive, 3);
    assert_eq!(child.touch(page(4), Access::Read), Err(Signal::Bus));
    child.exit();
    mm.munmap(range(0, 5)).unwrap();
    assert_eq!(mm.system().hugetlb.available(9), (8, 0));
    drop(child);
    assert_used(&mm, used);
}

#[test]
fn shared_pages_are_one_page_for_parent_and_child() {
    let mm = machine();
    map(&mm, 0, 1, true, false).unwrap();
    let child = mm.fork().unwrap();
    mm.touch(BASE, Access::Write(4)).unwrap();
    assert_eq!(child.touch(BASE, Access::Read), Ok(4));
    child.exit();
    mm.munmap(range(0, 1)).unwrap();
    drop(child);
    assert_eq!(mm.system().hugetlb.available(9), (8, 0));
}

#[test]
fn a_write_protection_that_outlived_its_registration_ends_with_the_next_write() {
    let mm = machine();
    let uffd = Userfaultfd::new(mm.system(), false);
    for shared in [false, true] {
        map(&mm, 0, 1, shared, false).unwrap();
        mm.touch(BASE, Access::Write(1)).unwrap();
        mm.uffd_register(uffd, range(0, 1), UffdMode::WriteProtect).unwrap();
        mm.uffd_writeprotect(range(0, 1), true).unwrap();
        assert_eq!(mm.touch(BASE, Access::Write(2)), Err(Signal::Bus));
        mm.uffd_register(uffd, range(0, 1), UffdMode::Missing).unwrap();
        let vmas = mm.mmap_read();
        let vma = vmas.find(BASE).unwrap();
        let r = mm.locked(&vmas).handle_mm_fault(vma, BASE, FaultFlags::WRITE, &mut NoCounts);
        assert_eq!(r, VmFault::empty());
        drop(vmas);
        assert!(mm.lookup(BASE, Level::Pmd).unwrap().read().is_write(), "shared: {shared}");
        mm.munmap(range(0, 1)).unwrap();
    }
}

#[test]
fn moving_takes_pages_and_reservation_along() {
    let mm = machine();
    map(&mm, 0, 2, false, false).unwrap();
    mm.touch(BASE, Access::Write(5)).unwrap();
    mm.mremap(range(0, 2), range(4, 2)).unwrap();
    assert_eq!(mm.touch(page(4), Access::Read), Ok(5));
    assert_eq!(mm.system().hugetlb.available(9), (7, 1));
    mm.munmap(range(0, 8)).unwrap();
    assert_eq!(mm.system().hugetlb.available(9), (8, 0));
}
