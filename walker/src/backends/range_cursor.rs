//! `range_cursor` (candidate): the driver's lock is held over walk and consume, so that nothing walked is ever in vain.
//!
//! **Idea.** The canonical loop walks first and asks afterwards whether it was allowed to. Here the walker takes the
//! driver's lock before it walks, asks then ([`crate::mirror::Mirror`] does), and programs the device before it lets go:
//! an event that comes meanwhile waits in its callback and tears down after. What must be faulted in is left for later, since a
//! fault calls back into the driver: the walk is programmed as far as it came, the lock dropped, the fault taken, and the
//! walk goes on there. The lock is held for [`SHARE_PAGES`] at most.
//!
//! **Promises** what `map_order` does, share by share; no walk is thrown away, and no -EBUSY. What an attempt may find is
//! an event that is running: it waits for its end, as read_begin does.
//!
//! **Cannot say** that the whole range was valid at one moment, where it took more than one share.
//!
//! **Costs** the others: every invalidation of the interval waits for the rest of a share. And a design rule: the
//! walk must not sleep and must take no lock under which somebody may start an event.
//!
//! **Asks of the kernel** that hmm_range_fault can stop at what it would fault, and say so; of drivers, a lock that may be
//! held for microseconds in their callback. It keeps events out by the driver's lock and not by those of the page tables: a
//! callback comes before its event takes a table's lock, so that holding these would not keep a torn-down device from
//! being programmed anew.

use crate::addr::{PageRange, VirtAddr};
use crate::backend::{Backend, Info, Kind, PageView, Programmed};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::{End, Later, Quirks};
use crate::backends::map_order::WITH_ORDER;
use crate::counters::Counters;
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::Subscription;
use crate::request::Request;

/// Pages that are walked and programmed under one hold of the driver's lock: some microseconds of base pages.
pub const SHARE_PAGES: u64 = 4096;

/// `map_order`'s layout.
#[derive(Debug)]
pub struct Cursor;

impl Quirks for Cursor {
    const FAULTS_LATER: bool = true;
}

impl Layout for Cursor {
    const INFO: Info =
        Info { id: "range_cursor", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
}

/// The backend. See the module.
#[derive(Debug)]
pub struct RangeCursor {
    fixed: Fixed<Cursor>,
    /// What the last walk answered; the next one begins at its end.
    share: PageRange,
    /// Before the next walk.
    later: Option<Later>,
}

impl RangeCursor {
    fn next(&self) -> VirtAddr {
        self.share.end()
    }
}

impl Backend for RangeCursor {
    const INFO: Info = Cursor::INFO;
    const WALKS_UNDER_DRIVER_LOCK: bool = true;

    fn new(capacity: usize) -> Self {
        RangeCursor { fixed: Fixed::new(capacity), share: PageRange::pages(VirtAddr::new(0), 0), later: None }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.fixed.prepare(request, c);
        self.share = PageRange::pages(request.range.start(), 0);
        self.later = None;
    }

    /// Nothing: a collision comes before its walk, and what was programmed is behind the cursor. Only a caller that walks
    /// without the lock has a share to walk again.
    fn refill<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        if !self.share.is_empty() {
            self.fixed.refill_part(&request.part(self.share), c);
            self.share = PageRange::pages(self.share.start(), 0);
        }
    }

    /// Faults what the last walk found missing, outside of every lock.
    fn read_begin<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, c: &mut C) -> Result<u64, Errno> {
        self.share = PageRange::pages(self.next(), 0);
        if let Some(later) = self.later.take() {
            let vmas = mm.mmap_read();
            self.fixed.do_later(mm.locked(&vmas), later, c)?;
            drop(vmas);
            c.mmap_unlocked();
        }
        Ok(mm.notifier.read_begin(sub))
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        _sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        if self.range().is_empty() {
            return Err(Errno::Inval);
        }
        let first = self.next();
        let left = self.range().end().pages_since(first);
        let part = PageRange::pages(first, left.min(SHARE_PAGES));
        let end = match self.fixed.call_part(at, part, c, &mut |_| Ok(())) {
            Ok(()) => part.end(),
            Err(End::Later(later)) => {
                self.later = Some(later);
                later.addr()
            }
            Err(end) => return Err(end.into()),
        };
        self.share = PageRange::between(first, end);
        Ok(seq)
    }

    fn program<C: Counters>(
        &mut self,
        _sub: &Subscription,
        _seq: u64,
        device: &mut DeviceTable,
        c: &mut C,
    ) -> Programmed {
        // The sequence was looked at under this lock, before the walk.
        self.consume(device, c);
        if self.has_more() { Programmed::Share } else { Programmed::All }
    }

    fn has_more(&self) -> bool {
        self.next() < self.range().end()
    }

    fn programmed(&self, part: &mut impl FnMut(PageRange)) {
        part(self.share);
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        self.fixed.consume_part(self.share, device, c);
    }

    fn view(&self, i: usize) -> PageView {
        self.fixed.view(i)
    }

    fn range(&self) -> PageRange {
        self.fixed.range()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::addr::PAGES_PER_PMD;
    use crate::backends::map_order::MapOrder;
    use crate::conformance::{RW, World};
    use crate::counters::{Count, Counts};
    use crate::mirror::{Mirror, RetryPolicy};
    use crate::mm::mmap::MapKind;
    use crate::notifier::{Event, EventKind};
    use crate::request::Wish;

    fn world() -> (World, PageRange) {
        let world = World::new();
        let range = World::pages(0, SHARE_PAGES + 2 * PAGES_PER_PMD);
        world.map(range, RW, MapKind::Anon);
        world.write(range);
        (world, range)
    }

    /// Tries an event that must not sleep, in the middle of a walk.
    struct Intrudes<'a> {
        world: &'a World,
        visits: u64,
        refused: Option<bool>,
    }

    impl Counters for Intrudes<'_> {
        const ENABLED: bool = true;
        fn add(&mut self, what: Count, n: u64) {
            if what == Count::PtesVisited {
                self.visits += n;
            }
            if self.visits >= 100 && self.refused.is_none() {
                let page = World::pages(0, 1);
                let event = Event { blockable: false, ..Event::new(EventKind::Clear, page) };
                self.refused = Some(self.world.mm.notifier.try_during(&event, || {}).is_err());
            }
        }
        fn get(&self, _: Count) -> u64 {
            0
        }
        fn run_limit(&self) -> usize {
            1
        }
    }

    fn intrude<B: Backend>() -> Option<bool> {
        let (world, range) = world();
        let mirror = Mirror::new(&world.mm, range);
        let mut c = Intrudes { world: &world, visits: 0, refused: None };
        let mut backend = B::new(range.nr_pages() as usize);
        mirror.refresh(&mut backend, &Request::all(range, Wish::None), RetryPolicy::AtOnce, &mut c).unwrap();
        c.refused
    }

    #[test]
    fn no_event_gets_past_its_callback_while_it_walks() {
        assert_eq!(intrude::<RangeCursor>(), Some(true));
        assert_eq!(intrude::<MapOrder>(), Some(false));
    }

    #[test]
    fn faults_are_taken_outside_of_the_lock_and_nothing_is_walked_in_vain() {
        let (mut world, range) = world();
        world.fork();
        let mirror = Mirror::new(&world.mm, range);
        let mut backend = RangeCursor::new(range.nr_pages() as usize);
        let mut c = Counts::default();
        // A fault under the driver's lock would wait for itself in the callback.
        let request = Request::all(range, Wish::Write);
        mirror.refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut c).unwrap();
        assert_eq!(c.get(Count::FaultsCowCopy), range.nr_pages());
        assert_eq!((c.get(Count::Retries), c.get(Count::DeviceEntries)), (0, range.nr_pages()));
        assert!(mirror.device().iter().all(|(_, entry)| entry.is_write()));
    }
}
