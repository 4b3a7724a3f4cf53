//! The kernel's own test driver for range faults and device memory: what its ioctls do, and with which errors.
//!
//! Models lib/test_hmm.c (6.12): HMM_DMIRROR_READ, _WRITE, _MIGRATE_TO_DEV, _MIGRATE_TO_SYS, _EXCLUSIVE, the device
//! page table that one interval notifier over the whole address space keeps right, 64 pages per call. Closing a file
//! of the driver sends all memory of its device home.
//!
//! The order is the kernel's, two races of the test driver are not. It maps what it migrated between
//! `migrate_vma_pages` and `migrate_vma_finalize`, when a zap may have taken the page away already; and it ignores its
//! own migrations altogether, so that a range fault may store a device page that the processor took back meanwhile.
//! Here a page is mapped only if nothing was invalidated since the pages were unmapped, and the own migrations move the
//! sequence, though they tear nothing down.

use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::backend::Backend;
use crate::backends::map_order::{self, MapOrder};
use crate::counters::NoCounts;
use crate::mm::device::{CHUNK, Device, DeviceMirror, MigrateDriver};
use crate::mm::{Errno, Mm};
use crate::notifier::{Event, EventKind, Invalidate, Subscription};
use crate::request::{Request, Wish};
use crate::sync::Mutex;
use core::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What the device may do with a page (the tag of an entry in the driver's table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Read,
    Write,
    Atomic,
}

#[derive(Default)]
struct Table {
    /// By address.
    pages: BTreeMap<u64, (Pfn, Tag)>,
    /// Events of others so far.
    invalidations: u64,
}

/// The driver's lock and its device page table.
struct State {
    owner: u64,
    table: Mutex<Table>,
}

impl Invalidate for State {
    fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
        let mut table = if event.blockable {
            self.table.lock()
        } else {
            match self.table.try_lock() {
                Some(table) => table,
                None => return false,
            }
        };
        sub.set_seq(cur_seq);
        // Its own migrations keep the table right themselves.
        if event.kind == EventKind::Migrate && event.owner == self.owner {
            return true;
        }
        table.invalidations += 1;
        // dmirror_do_update takes the end for the last page: the one behind the event goes too.
        let (start, end) = (event.range.start().get(), event.range.end().get());
        let gone: Vec<u64> = table.pages.range(start..=end).map(|(&at, _)| at).collect();
        for at in gone {
            table.pages.remove(&at);
        }
        true
    }
}

impl DeviceMirror for State {
    fn erase(&self, addr: VirtAddr) {
        self.table.lock().pages.remove(&addr.get());
    }
}

/// What a read or a write tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// Pages copied.
    pub cpages: u64,
    /// Times the driver had to fault.
    pub faults: u64,
}

/// An open file of the driver.
pub struct Dmirror {
    mm: Arc<Mm>,
    device: Device,
    state: Arc<State>,
    sub: Arc<Subscription>,
    backend: MapOrder,
}

impl core::fmt::Debug for Dmirror {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Dmirror({:?})", self.device)
    }
}

impl Dmirror {
    /// Opens the device whose memory is `owner`'s (not 0), for the address space `mm`.
    pub fn open(mm: &Arc<Mm>, owner: u64) -> Dmirror {
        let state = Arc::new(State { owner, table: Mutex::default() });
        let mirror: Weak<State> = Arc::downgrade(&state);
        let device = Device { owner, mirror: mm.system().device.register(mirror) };
        let all = PageRange::between(VirtAddr::new(0), VirtAddr::new(mm.geometry().task_size()));
        let sub = mm.notifier.insert(all, Arc::clone(&state) as Arc<dyn Invalidate>);
        Dmirror { mm: Arc::clone(mm), device, state, sub, backend: MapOrder::new(CHUNK as usize) }
    }

    /// The pages of `range` from its start that the table has with the tag wanted; ENOENT unless all.
    fn copy(&self, range: PageRange, done: &mut u64, write: Option<u8>) -> Result<(), Errno> {
        let table = self.state.table.lock();
        for i in *done..range.nr_pages() {
            let at = range.start().add_pages(i).get();
            match (table.pages.get(&at), write) {
                (Some((pfn, Tag::Write)), Some(byte)) => {
                    let word = u64::from_ne_bytes([byte; 8]);
                    self.mm.phys().load_page(*pfn, Some(&[word; crate::addr::PTRS_PER_TABLE]));
                }
                (None, _) | (_, Some(_)) => return Err(Errno::NoEnt),
                (Some(_), None) => {}
            }
            *done += 1;
        }
        Ok(())
    }

    /// `dmirror_fault`.
    fn fault(&mut self, range: PageRange, write: bool) -> Result<(), Errno> {
        let mut addr = range.start();
        while addr < range.end() {
            let next = range.end().min(addr.add_pages(CHUNK));
            self.fault_chunk(PageRange::between(addr, next), write)?;
            addr = next;
        }
        Ok(())
    }

    /// `dmirror_range_fault` and `dmirror_do_fault`.
    fn fault_chunk(&mut self, range: PageRange, write: bool) -> Result<(), Errno> {
        let default = if write { Wish::Write } else { Wish::Read };
        let request = Request { range, default, per_page: None, owner: self.device.owner };
        loop {
            self.backend.prepare(&request, &mut NoCounts);
            let seq = self.mm.notifier.read_begin(&self.sub);
            match self.backend.walk(&self.mm, &self.sub, seq, &mut NoCounts) {
                Ok(_) => {}
                Err(Errno::Busy) => continue,
                Err(e) => return Err(e),
            }
            let mut table = self.state.table.lock();
            if self.sub.read_retry(seq) {
                continue;
            }
            for (i, slot) in self.backend.hmm_pfns().iter().enumerate() {
                let may_write = slot & map_order::WRITE != 0;
                if write && !may_write {
                    return Err(Errno::Fault);
                }
                let pfn = Pfn::new(slot & ((1 << map_order::ORDER_SHIFT) - 1));
                let tag = if may_write { Tag::Write } else { Tag::Read };
                table.pages.insert(range.start().add_pages(i as u64).get(), (pfn, tag));
            }
            return Ok(());
        }
    }

    fn access(&mut self, range: PageRange, write: Option<u8>) -> Result<Access, Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let mut done = Access::default();
        loop {
            match self.copy(range, &mut done.cpages, write) {
                Err(Errno::NoEnt) => {}
                r => return r.map(|()| done),
            }
            let rest = PageRange::between(range.start().add_pages(done.cpages), range.end());
            self.fault(rest, write.is_some())?;
            done.faults += 1;
        }
    }

    /// HMM_DMIRROR_READ.
    ///
    /// # Errors
    /// What the range fault returned; chunks before stay faulted in.
    pub fn read(&mut self, range: PageRange) -> Result<Access, Errno> {
        self.access(range, None)
    }
    /// HMM_DMIRROR_WRITE: fills the pages with `byte`.
    ///
    /// # Errors
    /// As [`Dmirror::read`].
    pub fn write(&mut self, range: PageRange, byte: u8) -> Result<Access, Errno> {
        self.access(range, Some(byte))
    }

    /// HMM_DMIRROR_MIGRATE_TO_DEV. Returns the pages that the device has now.
    ///
    /// # Errors
    /// -EINVAL for ranges that cannot migrate, -ENOENT when some page did not come; others may have migrated.
    pub fn migrate_to_device(&mut self, range: PageRange) -> Result<u64, Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let (state, seen) = (&self.state, Cell::new(None));
        let mut unmapped = || {
            let table = state.table.lock();
            // Those that are running may have called back before, and change the tables after this.
            let quiet = !self.mm.notifier.is_invalidating(&self.sub);
            seen.set(quiet.then_some(table.invalidations));
        };
        let mut map = |addr: VirtAddr, pfn, write| {
            let tag = if write { Tag::Write } else { Tag::Read };
            let mut table = state.table.lock();
            if seen.get() == Some(table.invalidations) {
                table.pages.insert(addr.get(), (pfn, tag));
            }
        };
        let driver = MigrateDriver { unmapped: &mut unmapped, map: &mut map };
        self.mm.migrate_for_driver(range, self.device, driver)?;
        let mut cpages = 0;
        self.copy(range, &mut cpages, None).map(|()| cpages)
    }
    /// HMM_DMIRROR_MIGRATE_TO_SYS. Returns the pages that came back.
    ///
    /// # Errors
    /// -EINVAL for ranges that cannot migrate.
    pub fn migrate_to_system(&mut self, range: PageRange) -> Result<u64, Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        self.mm.migrate_to_system(range, self.device.owner)
    }
    /// HMM_DMIRROR_EXCLUSIVE. The events that it issues carry no owner.
    ///
    /// # Errors
    /// -EBUSY when some page could not be had exclusively; -ENOENT when one was taken back meanwhile.
    pub fn exclusive(&mut self, range: PageRange) -> Result<u64, Errno> {
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        let state = Arc::clone(&self.state);
        self.mm.make_device_exclusive(range, 0, &mut |addr, pfn| {
            state.table.lock().pages.insert(addr.get(), (pfn, Tag::Atomic));
        })?;
        let mut cpages = 0;
        self.copy(range, &mut cpages, None).map(|()| cpages)
    }
}

impl Drop for Dmirror {
    /// `dmirror_fops_release`.
    fn drop(&mut self) {
        self.mm.notifier.remove(&self.sub);
        let vmas = self.mm.mmap_read();
        self.mm.locked(&vmas).evict_device(self.device.owner);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mm::madvise::Advice;
    use crate::mm::testing::{BASE, machine, map_anon};
    use crate::mm::touch;
    use crate::sync::{AtomicU64, Ordering::Relaxed};

    /// Discards the first page when a migration puts device pages where nothing was.
    struct Discards(Weak<Mm>, AtomicU64);

    impl Invalidate for Discards {
        fn invalidate(&self, sub: &Subscription, event: &Event, cur_seq: u64) -> bool {
            sub.set_seq(cur_seq);
            if event.kind == EventKind::Migrate
                && self.1.fetch_add(1, Relaxed) == 1
                && let Some(mm) = self.0.upgrade()
            {
                mm.madvise(PageRange::pages(BASE, 1), Advice::DontNeed).unwrap();
            }
            true
        }
    }

    #[test]
    fn a_page_that_was_discarded_while_it_migrated_is_not_mapped() {
        let mm = machine();
        map_anon(&mm, 0, 2);
        mm.touch(BASE, touch::Access::Write(1)).unwrap();
        let range = PageRange::pages(BASE, 2);
        let mut driver = Dmirror::open(&mm, 1);
        let discards = Arc::new(Discards(Arc::downgrade(&mm), AtomicU64::new(0)));
        let sub = mm.notifier.insert(range, discards as Arc<dyn Invalidate>);
        assert_eq!(driver.migrate_to_device(range), Err(Errno::NoEnt));
        assert!(!driver.state.table.lock().pages.contains_key(&BASE.get()));
        mm.notifier.remove(&sub);
        assert_eq!(driver.write(range, 7).map(|done| done.cpages), Ok(2));
        assert_eq!(mm.touch(BASE, touch::Access::Read), Ok(7));
    }

    #[test]
    fn a_walk_from_before_a_page_went_back_to_the_processor_is_thrown_away() {
        let mm = machine();
        map_anon(&mm, 0, 1);
        let mut driver = Dmirror::open(&mm, 1);
        assert_eq!(driver.migrate_to_device(PageRange::pages(BASE, 1)), Ok(1));
        let seq = mm.notifier.read_begin(&driver.sub);
        assert_eq!(mm.touch(BASE, touch::Access::Write(2)), Ok(2));
        assert!(driver.sub.read_retry(seq));
    }
}
