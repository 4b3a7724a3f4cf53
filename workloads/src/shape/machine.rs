//! The machine a shape is built on, and where its address space lies.

use super::BuildError;
use std::sync::Arc;
use walker::addr::{PAGE_SIZE, PAGES_PER_PUD, PageRange, VirtAddr};
use walker::arch::Geometry;
use walker::memory::PhysConfig;
use walker::mm::Mm;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{Settings, System, ThpMode};
use walker::mm::vma::VmFlags;

/// Largest shape: half of what four levels address.
pub(super) const MAX_SIZE: u64 = 64 << 40;
/// Where shapes start: a boundary of every level.
pub(super) const START: VirtAddr = VirtAddr::new(16 << 40);

/// A machine with room for `nr_pages` mapped pages, as many private copies, and tables for `nr_mms` address spaces.
pub(super) fn system(nr_pages: u64, nr_mms: u64, thp: ThpMode) -> Result<Arc<System>, BuildError> {
    system_with(nr_pages, nr_mms, Settings { thp, ..Settings::default() })
}

/// The same with other settings.
pub(super) fn system_with(nr_pages: u64, nr_mms: u64, settings: Settings) -> Result<Arc<System>, BuildError> {
    // A PTE table a 512 pages and 1/512 of that above; blocks and gigabyte runs round up; lists of threads hold some.
    let tables = (nr_pages / 512 + nr_pages / (512 * 256) + 64) * nr_mms;
    let nr_frames = nr_pages * 2 + tables + 4 * PAGES_PER_PUD + (1 << 16);
    // Room to swap all of it out; slots cost nothing until they are used.
    let settings = Settings { swap_slots: settings.swap_slots.max(nr_pages + 512), ..settings };
    Ok(System::new(PhysConfig { nr_frames, host_huge_pages: true }, settings)?)
}

/// An address space with one private anonymous mapping, readable and writable, of `size_bytes`.
pub(super) fn anonymous(system: &Arc<System>, size_bytes: u64) -> Result<(Arc<Mm>, PageRange), BuildError> {
    let mm = Mm::new(system, Geometry::FourLevel)?;
    let range = PageRange::pages(START, size_bytes / PAGE_SIZE);
    map(&mm, range)?;
    Ok((mm, range))
}

/// The mapping of [`anonymous`].
pub(super) fn map(mm: &Mm, range: PageRange) -> Result<(), BuildError> {
    Ok(mm.mmap(range, VmFlags::READ | VmFlags::WRITE, MapKind::Anon, MapFlags::default(), 0)?)
}
