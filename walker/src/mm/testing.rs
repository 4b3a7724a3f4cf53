//! What the unit tests of the operations share.

use crate::addr::{PageRange, VirtAddr};
use crate::arch::Geometry;
use crate::memory::PhysConfig;
use crate::mm::Mm;
use crate::mm::mmap::{MapFlags, MapKind};
use crate::mm::system::{Settings, System};
use crate::mm::vma::VmFlags;
use crate::notifier::{Event, EventKind, Invalidate, Subscription};
use crate::sync::Mutex;
use std::sync::Arc;

/// Where the tests map things: a boundary at every level.
pub(crate) const BASE: VirtAddr = VirtAddr::new(0x2000_0000_0000);
/// Read and write.
pub(crate) const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

/// An address space on a small machine with 8 huge pages.
pub(crate) fn machine() -> Arc<Mm> {
    let config = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
    let settings = Settings { hugetlb_2m: 8, ..Settings::default() };
    let system = System::new(config, settings).expect("address space for a small machine");
    Mm::new(&system, Geometry::FourLevel).expect("a frame for the root table")
}

/// Maps `len` pages of anonymous memory at page `off`.
pub(crate) fn map_anon(mm: &Mm, off: u64, len: u64) {
    let range = PageRange::pages(BASE.add_pages(off), len);
    mm.mmap(range, RW, MapKind::Anon, MapFlags::default(), 0).expect("nothing is there");
}

/// That the machine uses `frames` again, once freed tables had their grace period.
pub(crate) fn assert_used(mm: &Mm, frames: u64) {
    for _ in 0..10_000 {
        if mm.phys().nr_used() == frames {
            return;
        }
        crate::memory::rcu::flush();
        std::thread::yield_now();
    }
    assert_eq!(mm.phys().nr_used(), frames);
}

/// Notes the events it hears of.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<(EventKind, PageRange)>>);

impl Invalidate for Heard {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        sub.set_seq(cur_seq);
        self.0.lock().push((event.kind, event.range));
        true
    }
}
