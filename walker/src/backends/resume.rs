//! `resume` (candidate): after a collision only what was invalidated is walked again.
//!
//! **Idea.** A collision throws a whole call away, however small the event and however long the range: `read_retry`
//! compares one sequence for the whole interval. Here the interval keeps a sequence for each 2 MiB slice
//! ([`crate::notifier::Subscription::slice_seq`]); after a walk the slices that no event has touched are programmed, and
//! the next attempt walks the others alone. It never answers -EBUSY: a walk that meets a collision goes on, since the
//! slices behind it may hold.
//!
//! **Promises** what `map_order` does, slice by slice: every slice was right at a moment of the call, not all of them at
//! the same one. That is all a device needs, for an event tears its pages down at any time, before the call returns or
//! after. A call of one slice behaves as `map_order` with its -EBUSY taken away.
//!
//! **Cannot say** that the whole range was valid at one moment.
//!
//! **Costs** 8 bytes for each 2 MiB of an interval, one store a slice in the callback (which every design pays here, for
//! all share the subscription), one comparison a slice under the driver's lock. A fault of the call's own that invalidates
//! (COW) costs a second walk of its slice instead of one of everything before it.
//!
//! **Asks of the kernel** the sequences, and that hmm_range_fault and read_retry tell which slices hold; of drivers, to
//! program a part of a range. Drivers that subscribe in small intervals have it already, for the price of as many tree
//! entries and callbacks.

use crate::addr::{Level, PageRange, VirtAddr};
use crate::backend::{Backend, Info, Kind, PageView, Programmed};
use crate::backends::exact_fault::Exact;
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;
use crate::counters::Counters;
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::Subscription;
use crate::request::Request;
use core::marker::PhantomData;
use core::ops::Range;

/// `resume`: `map_order`'s layout and faults.
pub type Resume = ResumeOf<Plain>;

/// `sparse_exact_resume`: one slot a mapping, exact faults, and resumed.
pub type SparseExactResume = ResumeOf<Sparse>;

/// See [`Resume`].
#[derive(Debug)]
pub struct Plain;

impl Quirks for Plain {}

impl Layout for Plain {
    const INFO: Info =
        Info { id: "resume", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
}

/// See [`SparseExactResume`].
#[derive(Debug)]
pub struct Sparse;

impl Layout for Sparse {
    const INFO: Info =
        Info { id: "sparse_exact_resume", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Exact;
    const HOISTS_MASK: bool = true;
    const FIRST_SLOT_ONLY: bool = true;
    const CONSUMER_STEPS: bool = true;
}

/// What is known of a 2 MiB slice of the range.
#[derive(Clone, Copy, Debug)]
struct Slice {
    part: PageRange,
    /// The sequence that its last walk began under.
    seq: u64,
    /// Where that walk started.
    origin: VirtAddr,
    /// Programmed.
    done: bool,
    /// By the last attempt.
    just_done: bool,
}

impl Slice {
    fn holds(&self, sub: &Subscription) -> bool {
        sub.slice_seq(self.part.start()) < self.seq
    }
}

/// The backend over a layout. See the module.
#[derive(Debug)]
pub struct ResumeOf<L> {
    fixed: Fixed<L>,
    /// In the order of their addresses.
    slices: Vec<Slice>,
    layout: PhantomData<L>,
}

/// The pages of neighbours; there is one at least.
fn span(run: &[Slice]) -> PageRange {
    PageRange::between(run[0].part.start(), run[run.len() - 1].part.end())
}

/// The next run of neighbours at or behind index `from` that all are as `is` wants them. By hand: a call of one slice
/// pays for this three times, and `chunk_by` compares what it does not need to.
#[inline(always)]
fn next_run(slices: &[Slice], from: usize, is: impl Fn(&Slice) -> bool) -> Option<Range<usize>> {
    let mut first = from;
    while first < slices.len() && !is(&slices[first]) {
        first += 1;
    }
    let mut end = first;
    while end < slices.len() && is(&slices[end]) {
        end += 1;
    }
    (first < end).then_some(first..end)
}

impl<L: Layout> ResumeOf<L> {
    /// What the last attempt has made certain, neighbours as one.
    #[inline(always)]
    fn for_each_just_done(&self, mut part: impl FnMut(PageRange)) {
        let mut from = 0;
        while let Some(run) = next_run(&self.slices, from, |s| s.just_done) {
            from = run.end;
            part(span(&self.slices[run]));
        }
    }
}

impl<L: Layout> Backend for ResumeOf<L> {
    const INFO: Info = L::INFO;

    fn new(capacity: usize) -> Self {
        // A range that starts and ends in the middle of a slice touches two more than it fills.
        let slices = Vec::with_capacity((capacity >> Level::Pmd.order()) + 2);
        ResumeOf { fixed: Fixed::new(capacity), slices, layout: PhantomData }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.fixed.prepare(request, c);
        self.slices.clear();
        let range = request.range;
        let mut addr = range.start();
        while addr < range.end() {
            let next = addr.next_boundary(Level::Pmd, range.end());
            let part = PageRange::between(addr, next);
            self.slices.push(Slice { part, seq: 0, origin: range.start(), done: false, just_done: false });
            addr = next;
        }
    }

    /// Only what is not programmed yet.
    fn refill<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        for slice in self.slices.iter().filter(|s| !s.done) {
            self.fixed.refill_part(&request.part(slice.part), c);
        }
    }

    /// Sleeps only while events run over everything that is left.
    fn read_begin<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, _: &mut C) -> Result<u64, Errno> {
        let left = || self.slices.iter().filter(|s| !s.done);
        Ok(mm.notifier.read_begin_slices(|seq| {
            seq & 1 == 0 || left().next().is_none() || left().any(|s| sub.slice_seq(s.part.start()) != seq)
        }))
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        _sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        if self.slices.is_empty() {
            return Err(Errno::Inval);
        }
        let mut from = 0;
        while let Some(run) = next_run(&self.slices, from, |s| !s.done) {
            from = run.end;
            let slices = &mut self.slices[run];
            let part = span(slices);
            let mut begun = Some(seq);
            self.fixed.call_part(at, part, c, &mut |last| {
                // What a fault of this call invalidated is walked under a sequence from after it.
                let seq = begun.take().unwrap_or_else(|| at.mm.notifier.read_begin_slices(|_| true));
                // A walk that goes on inside a slice leaves what stands there before it, and that was read earlier.
                for slice in slices.iter_mut().rev().take_while(|s| s.part.start() >= last) {
                    (slice.seq, slice.origin) = (seq, last);
                }
                Ok(())
            })?;
        }
        Ok(seq)
    }

    fn read_retry(&self, sub: &Subscription, _seq: u64) -> bool {
        self.slices.iter().any(|s| !s.done && !s.holds(sub))
    }

    fn program<C: Counters>(
        &mut self,
        sub: &Subscription,
        _seq: u64,
        device: &mut DeviceTable,
        c: &mut C,
    ) -> Programmed {
        let (mut some, mut all) = (false, true);
        for slice in &mut self.slices {
            slice.just_done = !slice.done && slice.holds(sub);
            slice.done |= slice.just_done;
            some |= slice.just_done;
            all &= slice.done;
        }
        self.consume(device, c);
        match (all, some) {
            (true, _) => Programmed::All,
            (false, true) => Programmed::Some,
            (false, false) => Programmed::Nothing,
        }
    }

    fn programmed(&self, part: &mut impl FnMut(PageRange)) {
        self.for_each_just_done(part);
    }

    /// What the last attempt has made certain.
    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        self.for_each_just_done(|part| self.fixed.consume_part(part, device, c));
    }

    fn view(&self, i: usize) -> PageView {
        let addr = self.range().start().add_pages(i as u64);
        let slice = self.slices.partition_point(|s| s.part.end() <= addr);
        self.fixed.view_after(i, self.slices[slice].origin)
    }

    fn range(&self) -> PageRange {
        self.fixed.range()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::addr::PAGES_PER_PMD;
    use crate::audit::{self, Rules};
    use crate::conformance::{RW, World};
    use crate::counters::{Count, Counts};
    use crate::mirror::{Mirror, RetryPolicy};
    use crate::mm::madvise::Advice;
    use crate::mm::mmap::MapKind;
    use crate::request::Wish;
    use proptest::prelude::*;

    const SLICES: u64 = 4;

    /// Counts, and drops `page` when the walk has read `at` entries, once.
    struct DropsAt<'a> {
        world: &'a World,
        at: u64,
        page: u64,
        counts: Counts,
    }

    impl Counters for DropsAt<'_> {
        const ENABLED: bool = true;
        fn add(&mut self, what: Count, n: u64) {
            let before = self.counts.get(Count::PtesVisited);
            self.counts.add(what, n);
            if before < self.at && self.counts.get(Count::PtesVisited) >= self.at {
                self.world.mm.madvise(World::pages(self.page, 1), Advice::DontNeed).unwrap();
            }
        }
        fn get(&self, what: Count) -> u64 {
            self.counts.get(what)
        }
        fn run_limit(&self) -> usize {
            1
        }
    }

    fn world() -> (World, PageRange) {
        let world = World::new();
        let range = World::pages(0, SLICES * PAGES_PER_PMD);
        world.map(range, RW, MapKind::Anon);
        world.write(range);
        (world, range)
    }

    /// Mirrors the range for reading, with `hole` absent so that the walk stops there, while `page` goes at entry `at`.
    fn collide_and_fault(at: u64, page: u64, hole: u64) -> Result<(), String> {
        let (world, range) = world();
        world.mm.madvise(World::pages(hole, 1), Advice::DontNeed).unwrap();
        let mirror = Mirror::new(&world.mm, range);
        let mut backend = Resume::new(range.nr_pages() as usize);
        let mut c = DropsAt { world: &world, at, page, counts: Counts::default() };
        mirror.refresh(&mut backend, &Request::all(range, Wish::Read), RetryPolicy::AtOnce, &mut c).unwrap();
        let held = audit::device(&world.mm, &mirror.device(), range, Rules::default());
        held.map(drop).map_err(|v| v.to_string())
    }

    #[test]
    fn what_was_walked_before_a_fault_in_the_same_slice_collides() {
        // Page 3 goes when the walk meets the hole at page 200: from there, in the same slice, it starts anew.
        collide_and_fault(200, 3, 200).unwrap();
    }

    /// Mirrors the range while `page` goes at entry `at`; what was counted, and what the device lacks in the end.
    fn collide(at: u64, page: u64) -> (Counts, Vec<u64>) {
        let (world, range) = world();
        let mirror = Mirror::new(&world.mm, range);
        let mut backend = Resume::new(range.nr_pages() as usize);
        let mut c = DropsAt { world: &world, at, page, counts: Counts::default() };
        mirror.refresh(&mut backend, &Request::all(range, Wish::None), RetryPolicy::AtOnce, &mut c).unwrap();
        let device = mirror.device();
        let lacks = |i: &u64| !device.get(World::addr(*i)).is_valid();
        (c.counts, (0..range.nr_pages()).filter(lacks).collect())
    }

    #[test]
    fn only_the_slice_that_was_hit_is_walked_again() {
        let (counts, lacks) = collide(1100, 700);
        let all = SLICES * PAGES_PER_PMD;
        assert_eq!(
            (counts.get(Count::Retries), counts.get(Count::PtesVisited)),
            (1, all + PAGES_PER_PMD),
            "{counts:?}"
        );
        assert_eq!(counts.get(Count::DeviceEntries), all);
        assert_eq!(lacks, [700]);
    }

    #[test]
    fn what_its_own_faults_invalidate_is_no_collision() {
        let (mut world, range) = world();
        world.fork();
        let mirror = Mirror::new(&world.mm, range);
        let mut backend = Resume::new(range.nr_pages() as usize);
        let mut c = Counts::default();
        let request = Request::all(range, Wish::Write);
        mirror.refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut c).unwrap();
        assert_eq!(c.get(Count::FaultsCowCopy), range.nr_pages());
        assert_eq!(c.get(Count::Retries), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        /// Wherever it goes and whenever: the device never keeps it, and has all the rest.
        #[test]
        fn a_page_that_goes_is_never_kept(at in 1..SLICES * PAGES_PER_PMD, page in 0..SLICES * PAGES_PER_PMD) {
            let (counts, lacks) = collide(at, page);
            prop_assert_eq!(lacks, [page]);
            // Nothing is walked a third time.
            prop_assert!(counts.get(Count::PtesVisited) <= (SLICES + 1) * PAGES_PER_PMD);
        }
        #[test]
        fn nor_beside_faults(
            at in 1..SLICES * PAGES_PER_PMD,
            page in 0..SLICES * PAGES_PER_PMD,
            hole in 0..SLICES * PAGES_PER_PMD,
        ) {
            prop_assert_eq!(collide_and_fault(at, page, hole), Ok(()));
        }
    }
}
