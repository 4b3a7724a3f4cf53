//! `device_private`: a share of the pages has migrated to the memory of a device, in runs.
//!
//! The device is the caller's own, or another's: requests of this shape name an owner, and the pages' owner is the same
//! or not. The caller's own pages are reported; another's are absent, and a fault brings them back.

use super::dense::{Frames, with_frame};
use super::machine::{anonymous, system};
use super::parameters::{Marks, RunLengths, part};
use super::{BuildError, Built, EntryCounts, Memory, Undo};
use crate::random::Purpose;
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PageRange, Pfn};
use walker::arch::{Entry, SwpEntry, SwpType};
use walker::memory::{PageKind, Phys};
use walker::mm::Mm;
use walker::mm::system::ThpMode;

/// Who asks (`dev_private_owner`).
const CALLER: u64 = 1;
/// Somebody else.
const OTHER: u64 = 2;

/// Parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePrivate {
    /// Pages of a thousand that are in device memory.
    #[serde(deserialize_with = "super::parameters::some_permille")]
    pub permille: u16,
    /// How many in a row.
    pub run_pages: RunLengths,
    /// Whose memory.
    pub owner: Owner,
    /// What exists besides the tables.
    #[serde(default)]
    pub memory: Memory,
}

/// Whose device memory the pages are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// That of whoever asks.
    Caller,
    /// That of another device.
    Other,
}

/// What comes back at a reset.
#[derive(Debug)]
pub(super) struct OnDevice {
    marks: Marks,
    first_index: u64,
    memory: Memory,
    owner: u64,
}

impl OnDevice {
    /// Makes `pfn` the device page of page `i`, mapped once and exclusively, and returns the entry that stands for it.
    fn entry(&self, phys: &Phys, pfn: Pfn, i: u64) -> Entry {
        let page = phys.page(pfn);
        page.prepare(PageKind::DevicePrivate, 0, 0);
        page.set_owner(self.owner);
        Frames::furnish_one(phys, pfn, self.first_index + i, self.memory);
        // Memory::Tables asks for no index; a device page needs one all the same, its struct page being there.
        page.set_index(self.first_index + i);
        page.set_pte_mappings(1);
        SwpEntry::new(SwpType::DeviceWrite, pfn.get()).entry().with_swp_soft_dirty(true)
    }
    /// Pages that came back to system memory are on the device again, in other frames: a freed one is anybody's.
    pub(super) fn undo(&self, mm: &Mm, range: PageRange) -> Result<(), BuildError> {
        let phys = mm.phys();
        let mut full = Ok(());
        mm.build().restore(range, |i, now| {
            if !self.marks.has(i) || now.is_swp() {
                return now;
            }
            match phys.alloc(PageKind::DevicePrivate, 0) {
                Ok(pfn) => self.entry(phys, pfn, i),
                Err(e) => {
                    full = Err(e);
                    now
                }
            }
        });
        Ok(full?)
    }
}

pub(super) fn build(size: u64, seed: u64, spec: DevicePrivate) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let device = part(nr_pages, spec.permille);
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let (mm, range) = anonymous(&system, size)?;
    let frames = Frames::alloc(&system.phys, nr_pages, 1, seed, Purpose::Frames)?;
    let mut builder = mm.build();
    builder.anon_prepare(range.start());
    let vma = builder.vma(range.start()).expect("just mapped");
    let (model, first_index) = (vma.anon_entry(Pfn::new(0)), vma.index_of(range.start()));
    let on_device = OnDevice {
        marks: Marks::in_runs(nr_pages, device, spec.run_pages, seed),
        first_index,
        memory: spec.memory,
        owner: if spec.owner == Owner::Caller { CALLER } else { OTHER },
    };
    builder.ptes(range, |i| {
        let pfn = frames.get(i);
        if on_device.marks.has(i) {
            return on_device.entry(&system.phys, pfn, i);
        }
        Frames::furnish_one(&system.phys, pfn, first_index + i, spec.memory);
        with_frame(model, pfn)
    })?;
    drop(builder);
    let expected = EntryCounts { device, pte_rw: nr_pages - device, ..EntryCounts::default() };
    Ok(Built { owner: CALLER, ..Built::new(system, mm, range, expected, Undo::Device(on_device)) })
}
