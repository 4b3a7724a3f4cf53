//! Audits: what a device holds against the tables, and the tables against the struct pages.
//!
//! # [`device`]: at any instant, without stopping anybody
//!
//! The invariant: **while the driver's lock is held, every valid device entry names a frame and a right that the live
//! entry of its page gives.** It holds in the middle of every event, for this reason.
//!
//! 1. An entry is installed under the driver's lock, after `read_retry` was false: no callback ran for the
//!    subscription since `read_begin`, and every event whose callback had run before it had ended, since `read_begin`
//!    sleeps through the odd phase. So the walk read the entry with no event over it between callback and end, and
//!    none has called back since.
//! 2. Whatever takes a frame or a right away does so after its event's callbacks. From installation on, the first such
//!    callback takes the driver's lock and clears the entry. So as long as the entry is valid, none has run, and while
//!    somebody else holds the lock none can.
//!
//! Each kind of change, with what could be held against that:
//!
//! * *Non-blockable events*: a callback that cannot have the lock refuses, and the change does not happen.
//! * *Migration*: entries appear within the event; they resolve to another frame without one, but the device has had
//!   nothing there since the event, and a walk reports nothing there until the new entry stands.
//! * *Device memory*: `migrate_vma` announces both ways (MIGRATE); the mirror heeds its own, too. An entry of a caller's
//!   own device page counts as giving that page.
//! * *Collapse*: its event covers the removal of the table and ends before the leaf is there. The mmap lock is held for
//!   writing in between, so no walk can install anything.
//! * *Split, COW reuse, population, swap-in, hints that resolve*: the frame stays or comes, rights stay or grow. A device
//!   entry may lack what the tables give; that is no violation.
//! * *mprotect and the NUMA scan* announce once the first populated span is met; nothing before it had rights to take.
//! * *Tables*: those that lead to a valid entry cannot go away while the lock is held, for the same reason; the guard of
//!   [`rcu`] covers the reading of one that a collapse is about to detach.
//!
//! # [`pages`]: the world stopped
//!
//! With no operation in flight, every anonymous frame is mapped exactly as often as its struct page says, references
//! cover the mappings, an exclusive page has one mapping, and a writable entry of private memory maps an exclusive page.

use crate::addr::{Level, PTRS_PER_TABLE, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::memory::{PageKind, Phys, Table, rcu};
use crate::mm::Mm;
use crate::mm::tables::below;
use crate::mm::vma::{VmFlags, Vma};
use core::fmt;
use std::collections::HashMap;

/// A device entry that the tables do not back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The page.
    pub addr: VirtAddr,
    /// What the device holds.
    pub held: DeviceEntry,
    /// What the tables say: the entry, and the level it stands at. None where a table is missing.
    pub live: Option<(Entry, Level)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = if self.held.is_write() { "write" } else { "read" };
        write!(f, "page {:?}: the device may {right} frame {:?}, ", self.addr, self.held.pfn())?;
        match self.live {
            Some((e, level)) => write!(f, "the tables say {e:?} at {level:?}"),
            None => f.write_str("the tables say nothing"),
        }
    }
}
impl core::error::Error for Violation {}

/// What the audited device may do beyond the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The owner of the device memory that the caller may use as its own; 0 for none.
    pub owner: u64,
    /// NUMA hints up to this level count as present and readable: what the designs until 5.7 do, see their files.
    pub reads_hints: Option<Level>,
    /// Device memory of whomever counts as the caller's own: what the designs until 5.6 do, which know no owners.
    pub owns_all_devices: bool,
}

/// Compares every valid entry of `part`, which lies in `table`, with the live one; returns how many there were. The
/// caller holds the driver's lock, which is where it has the table from, and nothing else need stand still.
///
/// # Errors
/// The first entry that the tables do not back.
pub fn device(mm: &Mm, table: &DeviceTable, part: PageRange, rules: Rules) -> Result<u64, Violation> {
    let _rcu = rcu::read_lock();
    let mut valid = 0;
    for i in 0..part.nr_pages() {
        let addr = part.start().add_pages(i);
        let held = table.get(addr);
        if !held.is_valid() {
            continue;
        }
        let live = live(mm, addr);
        if !live.is_some_and(|(e, level)| gives(mm, e, level, addr, held, rules)) {
            return Err(Violation { addr, held, live });
        }
        valid += 1;
    }
    Ok(valid)
}

/// The entry that decides about `addr`.
fn live(mm: &Mm, addr: VirtAddr) -> Option<(Entry, Level)> {
    let mut table = mm.root();
    let mut level = mm.geometry().root();
    loop {
        let e = table.read(addr.index(level));
        if level == Level::Pte || e.is_huge() {
            return Some((e, level));
        }
        if !e.is_table() {
            return (!e.is_none()).then_some((e, level));
        }
        table = mm.phys().table(e.pfn());
        level = below(level);
    }
}

fn gives(mm: &Mm, e: Entry, level: Level, addr: VirtAddr, held: DeviceEntry, rules: Rules) -> bool {
    if !e.is_present() {
        let own = level == Level::Pte
            && e.is_swp()
            && e.swp().is_device_private()
            && (rules.owns_all_devices
                || rules.owner != 0 && mm.phys().page(e.swp().pfn()).owner() == rules.owner);
        return own && e.swp().pfn() == held.pfn() && (e.swp().is_device_private_write() || !held.is_write());
    }
    let within = addr.pages_since(addr.align_down(level));
    if e.pfn().add(within) != held.pfn() {
        return false;
    }
    if e.is_protnone() {
        return rules.reads_hints.is_some_and(|up_to| level <= up_to) && !held.is_write();
    }
    e.is_write() || !held.is_write()
}

/// A struct page that does not say what the tables do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miscounted {
    /// The frame.
    pub pfn: Pfn,
    /// What is wrong with it, with the numbers.
    pub what: String,
}

impl fmt::Display for Miscounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:?}: {}", self.pfn, self.what)
    }
}
impl core::error::Error for Miscounted {}

/// How a frame is mapped, by all relatives together.
#[derive(Clone, Copy, Debug, Default)]
struct Mapped {
    ptes: i32,
    leaves: i32,
    writable: bool,
}

/// Compares the anonymous and device pages that `mm` and its relatives map with their struct pages. Returns how many
/// there were. Nobody may change any of these address spaces meanwhile, and no event may be running.
///
/// # Errors
/// The first frame that differs.
pub fn pages(mm: &Mm) -> Result<u64, Miscounted> {
    let mut mapped: HashMap<u64, Mapped> = HashMap::new();
    for relative in mm.family() {
        let vmas = relative.mmap_read();
        for vma in vmas.iter() {
            if !vma.flags.intersects(VmFlags::HUGETLB | VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
                let root = relative.geometry().root();
                collect(&relative, vma, relative.root(), root, vma.range, &mut mapped);
            }
        }
    }
    let phys = mm.phys();
    for (&pfn, found) in &mapped {
        let pfn = Pfn::new(pfn);
        if let Some(what) = miscounted(phys, pfn, *found) {
            return Err(Miscounted { pfn, what });
        }
    }
    Ok(mapped.len() as u64)
}

fn collect(
    mm: &Mm,
    vma: &Vma,
    table: Table<'_>,
    level: Level,
    part: PageRange,
    to: &mut HashMap<u64, Mapped>,
) {
    let mut addr = part.start();
    while addr < part.end() {
        let next = addr.next_boundary(level, part.end());
        let e = table.read(addr.index(level));
        if level > Level::Pte && e.is_table() {
            let span = PageRange::between(addr, next);
            collect(mm, vma, mm.phys().table(e.pfn()), below(level), span, to);
        } else if level > Level::Pte && e.is_huge() {
            for i in 0..PTRS_PER_TABLE as u64 {
                to.entry(e.pfn().add(i).get()).or_default().leaves += 1;
            }
            to.entry(e.pfn().get()).or_default().writable |= e.is_write() && !vma.is_shared();
        } else if level == Level::Pte && e.is_present() && !e.is_special() {
            let page = to.entry(e.pfn().get()).or_default();
            page.ptes += 1;
            page.writable |= e.is_write() && !vma.is_shared();
        } else if level == Level::Pte && e.is_swp() && e.swp().is_device_private() {
            let page = to.entry(e.swp().pfn().get()).or_default();
            page.ptes += 1;
            page.writable |= e.swp().is_device_private_write() && !vma.is_shared();
        }
        addr = next;
    }
}

fn miscounted(phys: &Phys, pfn: Pfn, found: Mapped) -> Option<String> {
    let page = phys.page(pfn);
    if !matches!(page.kind(), PageKind::Anon | PageKind::DevicePrivate) {
        return matches!(page.kind(), PageKind::Table).then(|| format!("{found:?}, but it is a page table"));
    }
    let head = phys.page(phys.head(pfn));
    if page.pte_mappings() != found.ptes {
        return Some(format!("{} PTEs map it, its struct page counts {}", found.ptes, page.pte_mappings()));
    }
    if head.order() == Level::Pmd.order() && head.entire_mappings() != found.leaves {
        return Some(format!("{} leaves map it, its folio counts {}", found.leaves, head.entire_mappings()));
    }
    if head.refs() < phys.mapcount(pfn) {
        return Some(format!("{} references for {} mappings", head.refs(), phys.mapcount(pfn)));
    }
    if head.is_locked() {
        return Some("locked, although nobody works on it".to_owned());
    }
    // A large folio that one leaf maps has the flag on its head.
    let flagged = if found.leaves > 0 { head } else { page };
    if flagged.is_anon_exclusive() && found.ptes + found.leaves > 1 {
        return Some(format!("exclusive, but mapped {} times", found.ptes + found.leaves));
    }
    (found.writable && !flagged.is_anon_exclusive())
        .then(|| "writable in private memory, but not exclusive".to_owned())
}
