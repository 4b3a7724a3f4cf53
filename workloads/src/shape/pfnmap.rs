//! `pfnmap`: /dev/mem, page frames without struct pages in a shared VM_PFNMAP mapping.

use super::machine::{START, system};
use super::{BuildError, Built, EntryCounts, Undo};
use walker::addr::{PAGE_SIZE, PageRange};
use walker::arch::Geometry;
use walker::mm::Mm;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::ThpMode;
use walker::mm::vma::VmFlags;

pub(super) fn build(size: u64) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let mm = Mm::new(&system, Geometry::FourLevel)?;
    let range = PageRange::pages(START, nr_pages);
    // mmap puts every entry in at once (remap_pfn_range): nothing is left to build.
    mm.mmap(range, VmFlags::READ | VmFlags::WRITE, MapKind::Pfnmap, MapFlags::default(), 0)?;
    let expected = EntryCounts { pfnmap: nr_pages, ..EntryCounts::default() };
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}
