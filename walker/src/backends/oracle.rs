//! `oracle` (control): obviously right, never fast. Every other backend is judged by it.
//!
//! **Models** the truth table (semantics section 2) of the newest kernel, one page at a time: each page is looked up
//! from the root, a table says what is there and what a fault could do about it, and exactly one page is faulted until
//! its wish is fulfilled. It shares neither the walk nor the decisions with the historic machine, and faults nothing
//! that was not asked for.
//!
//! **Promises** views with everything a view can hold.
//!
//! **Cannot say** what an older kernel would: where generations differ, the suite knows.
//!
//! **Costs** a descent from the root and a VMA lookup per page.

use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::backends::program;
use crate::counters::{Count, Counters};
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::memory::rcu;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};

/// What stands between a page and its wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Nothing: the wish is as good as fulfilled.
    Fulfilled,
    /// A fault.
    Fault,
    /// The end of a migration, of the page or of the 2 MiB around it.
    Wait(Level),
    /// Nothing helps.
    Refuse,
}

/// What is there: the answer if nothing is wished, and the remedy if it does not fulfil the wish.
type Seen = (PageView, Remedy);

/// The backend. See the module.
#[derive(Debug)]
pub struct Oracle {
    range: PageRange,
    owner: u64,
    wishes: Vec<Wish>,
    views: Vec<PageView>,
}

fn mapped(pfn: Pfn, write: bool, order: u8, device: bool) -> PageView {
    PageView::Mapped {
        pfn,
        write: Some(write),
        order: Some(order),
        compound: Some(order > 0),
        device: Some(device),
    }
}

/// The page at `addr` according to the tables.
fn look(at: Locked<'_>, vma: Option<&Vma>, addr: VirtAddr, owner: u64) -> Seen {
    // Rows 1 to 3.
    let Some(vma) = vma else { return (PageView::Error, Remedy::Refuse) };
    if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.has(VmFlags::READ) {
        return (PageView::Error, Remedy::Refuse);
    }
    let _rcu = rcu::read_lock();
    if vma.has(VmFlags::HUGETLB) {
        let level = vma.hugetlb_level();
        return at
            .mm
            .lookup(addr, level)
            .map_or((PageView::Absent, Remedy::Fault), |slot| see_leaf(slot.read(), addr, level));
    }
    let slot = match at.mm.lookup(addr, Level::Pte) {
        Ok(slot) => return see_pte(at, slot.read(), owner),
        Err(level) => (at.mm.lookup(addr, level), level),
    };
    // The entry that ended the first descent may be a table by now: then the page is looked at again.
    let (Ok(slot), level) = slot else { return (PageView::Absent, Remedy::Fault) };
    let e = slot.read();
    if e.is_none() || e.is_table() {
        return (PageView::Absent, Remedy::Fault);
    }
    if e.is_huge() {
        return see_leaf(e, addr, level);
    }
    if e.is_swp() && e.swp().is_migration() {
        return (PageView::Absent, Remedy::Wait(level));
    }
    if e.is_swp() && e.swp().is_device_private() {
        let swp = e.swp();
        if at.mm.phys().page(swp.pfn()).owner() != owner {
            return (PageView::Error, Remedy::Fault);
        }
        let pfn = swp.pfn().add(addr.pages_since(addr.align_down(level)));
        return (mapped(pfn, swp.is_device_private_write(), level.order(), true), Remedy::Fulfilled);
    }
    (PageView::Error, Remedy::Refuse)
}

/// Rows 25 to 28 and 33 to 37: a leaf above the PTE level, or what stands in its place in hugetlb.
fn see_leaf(e: Entry, addr: VirtAddr, level: Level) -> Seen {
    if !e.is_present() || e.is_protnone() {
        return (PageView::Absent, Remedy::Fault);
    }
    let pfn = e.pfn().add(addr.page_start().pages_since(addr.align_down(level)));
    (mapped(pfn, e.is_write(), level.order(), false), Remedy::Fault)
}

/// Rows 4 to 23 at the PTE level.
fn see_pte(at: Locked<'_>, e: Entry, owner: u64) -> Seen {
    if e.is_none() {
        return (PageView::Absent, Remedy::Fault);
    }
    if e.is_present() {
        if e.is_protnone() {
            return (PageView::Absent, Remedy::Fault);
        }
        if e.is_special() && !e.is_devmap() && e.pfn() != at.mm.system().zero_pfn() {
            return (PageView::Error, Remedy::Refuse);
        }
        return (mapped(e.pfn(), e.is_write(), 0, false), Remedy::Fault);
    }
    let swp = e.swp();
    if swp.is_device_private() && at.mm.phys().page(swp.pfn()).owner() == owner {
        return (mapped(swp.pfn(), swp.is_device_private_write(), 0, true), Remedy::Fulfilled);
    }
    let remedy = if swp.is_migration() {
        Remedy::Wait(Level::Pte)
    } else if swp.is_hwpoison() {
        Remedy::Refuse
    } else {
        // Swap, markers, device-exclusive, another owner's device memory: the fault knows.
        Remedy::Fault
    };
    (PageView::Absent, remedy)
}

fn fulfils(view: PageView, wish: Wish) -> bool {
    match (wish, view) {
        (Wish::None, _) => true,
        (Wish::Read, PageView::Mapped { .. }) => true,
        (Wish::Write, PageView::Mapped { write, .. }) => write == Some(true),
        _ => false,
    }
}

impl Oracle {
    fn answer<C: Counters>(
        &self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        i: usize,
        c: &mut C,
    ) -> Result<PageView, Errno> {
        let addr = self.range.start().add_pages(i as u64);
        let wish = self.wishes[i];
        loop {
            if sub.check_retry(seq) {
                return Err(Errno::Busy);
            }
            c.add(Count::Walks, 1);
            let vma = at.vmas.find(addr);
            let (view, remedy) = look(at, vma, addr, self.owner);
            c.add(Count::PtesVisited, 1);
            if i == 0 || addr.index(Level::Pte) == 0 {
                // Every page is looked up from the root; a table is counted once, as for everybody else.
                c.add(Count::PmdsVisited, 1);
            }
            if fulfils(view, wish) {
                return Ok(view);
            }
            match (remedy, vma) {
                (Remedy::Fulfilled, _) => return Ok(view),
                (Remedy::Wait(level), _) => {
                    c.add(Count::MigrationWaits, 1);
                    let Ok(pmd) = at.mm.lookup(addr, Level::Pmd) else { continue };
                    match level {
                        Level::Pte => at.mm.migration_entry_wait(pmd, addr),
                        _ => at.mm.pmd_migration_entry_wait(pmd),
                    }
                }
                (Remedy::Fault, Some(vma)) => {
                    let mut flags = FaultFlags::REMOTE;
                    if wish == Wish::Write {
                        if !vma.has(VmFlags::WRITE) {
                            return Err(Errno::Perm);
                        }
                        flags |= FaultFlags::WRITE;
                    }
                    c.add(Count::FaultsNeeded, 1);
                    c.fault_enter();
                    let r = at.handle_mm_fault(vma, addr, flags, c);
                    c.fault_exit();
                    if r.intersects(VmFault::ERROR) {
                        return Err(Errno::Fault);
                    }
                }
                _ => return Err(Errno::Fault),
            }
        }
    }
}

impl Backend for Oracle {
    const INFO: Info = Info {
        id: "oracle",
        kernel: "none",
        kind: Kind::Control,
        capabilities: {
            use Capability::*;
            &[
                Snapshot,
                Fault,
                PerPageRequest,
                Permission,
                Order,
                Compound,
                DevicePrivate,
                Hugetlb,
                ErrorPerPage,
                ForeignDevice,
                CrossVma,
            ]
        },
    };

    fn new(capacity: usize) -> Self {
        Oracle {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            wishes: vec![Wish::None; capacity],
            views: vec![PageView::Unreached; capacity],
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, _: &mut C) {
        self.range = request.range;
        self.owner = request.owner;
        for i in 0..request.range.nr_pages() as usize {
            self.wishes[i] = request.wish(i);
        }
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        if self.range.is_empty() {
            return Err(Errno::Inval);
        }
        let n = self.range.nr_pages() as usize;
        self.views[..n].fill(PageView::Unreached);
        for i in 0..n {
            self.views[i] = self.answer(at, sub, seq, i, c)?;
        }
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        program(device, self.range, &self.views, c, |view| match *view {
            PageView::Mapped { pfn, write, .. } => DeviceEntry::new(pfn, write == Some(true), 0),
            _ => DeviceEntry::default(),
        });
    }

    fn view(&self, i: usize) -> PageView {
        self.views[i]
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
