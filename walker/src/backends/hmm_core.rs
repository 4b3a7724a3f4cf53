//! The state machine that the historic designs share: `hmm_range_fault` with its walk callbacks.
//!
//! Models mm/hmm.c. Generic over where the wish of slot i comes from and how an answer is stored ([`Slots`]), and over
//! the quirks of a generation ([`Quirks`]); monomorphised, without allocation or dynamic dispatch. The baseline is
//! 6.12; a quirk names the version that differs.
//!
//! Two costs that every generation has are transcribed exactly and counted:
//! * a slot that needs a fault makes `handle_mm_fault` run for every base page from there to the end of the slice
//!   (PMD, hole, leaf), with that slot's write need (semantics 0.5);
//! * a range-wide default still reads every slot of a huge leaf (semantics 0.4).

use crate::addr::{Level, PMD_ORDER, PUD_ORDER, PageRange, VirtAddr};
use crate::arch::{Entry, SwpEntry};
use crate::backends::slots::{Answer, Chunk, Flags, Quiet, Slots, cpu_flags, need_fault, quiet_run_where};
use crate::counters::{Count, Counters};
use crate::memory::{Table, rcu};
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::walk::{Visit, WalkOps, walk_page_range};

/// What differs between generations. The defaults are 6.12.
pub trait Quirks {
    /// VM_MIXEDMAP is refused like VM_PFNMAP (until 5.17).
    const REFUSES_MIXEDMAP: bool = false;
    /// Another owner's device-private page faults back (5.19+) instead of failing with -EFAULT.
    const FAULTS_FOREIGN_DEVICE: bool = true;
    /// A device-exclusive entry faults back (5.14+) instead of failing with -EFAULT.
    const FAULTS_EXCLUSIVE: bool = true;
    /// A PMD entry may be device-private memory (6.19+).
    const KNOWS_DEVICE_PMD: bool = false;
    /// Faults run outside the walk callbacks, after looking the VMA up again (7.3 cycle).
    const FAULTS_OUTSIDE: bool = false;
    /// A fault may drop the mmap lock: ALLOW_RETRY and KILLABLE (7.3 cycle, unlocked call).
    const MAY_DROP_LOCK: bool = false;
    /// Out of memory is -ENOMEM instead of -EFAULT (7.3 cycle).
    const EXACT_ERRNO: bool = false;
    /// Of a span that needs a fault only those pages are faulted whose own wish is not fulfilled, each with its own
    /// need (no kernel).
    const FAULTS_EXACTLY: bool = false;
    /// Faults and waits are left to the caller, which holds a lock that they may need (no kernel).
    const FAULTS_LATER: bool = false;
}

/// 5.7 and 5.8, and what was proposed in between.
#[derive(Clone, Copy, Debug)]
pub struct Quirks5_8;
impl Quirks for Quirks5_8 {
    const REFUSES_MIXEDMAP: bool = true;
    const FAULTS_FOREIGN_DEVICE: bool = false;
    const FAULTS_EXCLUSIVE: bool = false;
}

/// How a call ends without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this error.
    Errno(Errno),
    /// A fault dropped the mmap lock: the VMAs may be others now ([`Quirks::MAY_DROP_LOCK`] alone).
    LockDropped,
    /// Everything before this is answered; the caller does it and walks on from there ([`Quirks::FAULTS_LATER`] alone).
    Later(Later),
}

/// What a walk needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// Faults of this span.
    Fault(PageRange, Flags),
    /// That the page there comes out of its migration.
    Wait(VirtAddr),
}

impl Later {
    /// Where the walk goes on.
    pub(super) fn addr(self) -> VirtAddr {
        match self {
            Later::Fault(span, _) => span.start(),
            Later::Wait(addr) => addr,
        }
    }
}

impl From<End> for Errno {
    /// The kernel's own answer to a dropped lock is -EBUSY.
    fn from(end: End) -> Errno {
        match end {
            End::Errno(e) => e,
            End::LockDropped | End::Later(_) => Errno::Busy,
        }
    }
}

/// Why a walk ended early.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// Something was faulted in: walk again from `last`.
    Again,
    /// A span needs faults.
    Fault(PageRange, Flags),
    /// The page there is under migration.
    Wait(VirtAddr),
    /// The call ends.
    Ended(End),
}

impl Break {
    const fn failed(e: Errno) -> Break {
        Break::Ended(End::Errno(e))
    }
}

struct HmmWalk<'a, 's, S, Q, C> {
    at: Locked<'a>,
    range: PageRange,
    owner: u64,
    may_fault: bool,
    slots: &'s mut S,
    last: VirtAddr,
    /// Around the tables of a walk; gone before anything faults or waits.
    rcu: Option<rcu::Guard>,
    c: &'s mut C,
    quirks: core::marker::PhantomData<Q>,
}

/// `hmm_range_fault`: fills the slots of `range`, faulting where wishes demand it. The mmap lock is held for reading.
///
/// # Errors
/// -EBUSY when the sequence moved, -EINVAL for an empty range, -EPERM for a write wish in a VMA that is not writable,
/// -EFAULT for everything else. Slots before the failing span hold answers, later ones their inputs.
pub fn hmm_range_fault<S: Slots, Q: Quirks, C: Counters>(
    at: Locked<'_>,
    sub: &Subscription,
    seq: u64,
    range: PageRange,
    owner: u64,
    slots: &mut S,
    c: &mut C,
) -> Result<(), End> {
    hmm_range_fault_part::<S, Q, C>(
        at,
        Part { part: range, range, owner },
        slots,
        c,
        &mut unless_moved(sub, seq),
    )
}

/// The kernel's test before each walk: -EBUSY when the sequence moved.
#[inline(always)]
pub(super) fn unless_moved(sub: &Subscription, seq: u64) -> impl FnMut(VirtAddr) -> Result<(), End> {
    move |_| if sub.check_retry(seq) { Err(End::Errno(Errno::Busy)) } else { Ok(()) }
}

/// A part of the range of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// What is walked.
    pub(super) part: PageRange,
    /// The range whose first page has slot 0.
    pub(super) range: PageRange,
    /// Whose device memory is reported.
    pub(super) owner: u64,
}

/// [`hmm_range_fault`] over a part of the range. `before_walk` takes the place of the test of the sequence: it is asked
/// before each walk, with the address at which that one starts.
///
/// # Errors
/// As there, and those of `before_walk`.
#[inline]
pub(super) fn hmm_range_fault_part<S: Slots, Q: Quirks, C: Counters>(
    at: Locked<'_>,
    call: Part,
    slots: &mut S,
    c: &mut C,
    before_walk: &mut impl FnMut(VirtAddr) -> Result<(), End>,
) -> Result<(), End> {
    counting_array_bytes(S::RECORD_BYTES, c, |c| walk_until_done::<S, Q, C>(at, call, slots, c, before_walk))
}

/// Runs `walk`, and counts the bytes of the wishes that it read and of the records that it wrote.
pub(super) fn counting_array_bytes<C: Counters, R>(
    record_bytes: u64,
    c: &mut C,
    walk: impl FnOnce(&mut C) -> R,
) -> R {
    let moved = |c: &C| 8 * c.get(Count::WishesRead) + record_bytes * c.get(Count::SlotsWritten);
    let before = moved(c);
    let r = walk(c);
    c.add(Count::ArrayBytes, moved(c) - before);
    r
}

fn walk_until_done<S: Slots, Q: Quirks, C: Counters>(
    at: Locked<'_>,
    Part { part, range, owner }: Part,
    slots: &mut S,
    c: &mut C,
    before_walk: &mut impl FnMut(VirtAddr) -> Result<(), End>,
) -> Result<(), End> {
    let may_fault = slots.may_fault();
    let mut walk: HmmWalk<'_, '_, S, Q, C> = HmmWalk {
        at,
        range,
        owner,
        may_fault,
        slots,
        last: part.start(),
        rcu: None,
        c,
        quirks: core::marker::PhantomData,
    };
    loop {
        before_walk(walk.last)?;
        // walk_page_range: start >= end.
        if range.is_empty() {
            return Err(End::Errno(Errno::Inval));
        }
        walk.c.add(Count::Walks, 1);
        let i = walk.slot_of(walk.last);
        walk.slots.begin(i);
        walk.rcu = rcu::read_lock_walk();
        let walked = walk_page_range(at, PageRange::between(walk.last, part.end()), &mut walk);
        walk.rcu = None;
        match walked {
            Ok(()) => return Ok(()),
            Err(Break::Again) => {}
            Err(Break::Fault(span, need)) if Q::FAULTS_LATER => {
                return Err(End::Later(Later::Fault(span, need)));
            }
            Err(Break::Fault(span, need)) => walk.fault_outside(span, need)?,
            Err(Break::Ended(end)) => return Err(end),
            // Otherwise waited for in the callback.
            Err(Break::Wait(addr)) => return Err(End::Later(Later::Wait(addr))),
        }
    }
}

/// What a walk with [`Quirks::FAULTS_LATER`] left to be done.
///
/// # Errors
/// Those of the fault; -EFAULT if its VMA is gone.
pub(super) fn do_later<S: Slots, Q: Quirks, C: Counters>(
    at: Locked<'_>,
    Part { range, owner, .. }: Part,
    later: Later,
    slots: &mut S,
    c: &mut C,
) -> Result<(), End> {
    let (span, need) = match later {
        Later::Fault(span, need) => (span, need),
        Later::Wait(addr) => {
            c.add(Count::MigrationWaits, 1);
            match at.mm.lookup(addr, Level::Pmd) {
                Ok(pmd) if pmd.read().is_table() => at.mm.migration_entry_wait(pmd, addr),
                Ok(pmd) => at.mm.pmd_migration_entry_wait(pmd),
                Err(_) => {}
            }
            return Ok(());
        }
    };
    let quirks = core::marker::PhantomData;
    let walk: &mut HmmWalk<'_, '_, S, Q, C> =
        &mut HmmWalk { at, range, owner, may_fault: true, slots, last: span.start(), rcu: None, c, quirks };
    walk.fault_outside(span, need)
}

/// What a device-private entry gives its owner.
pub(super) fn device_flags(swp: SwpEntry) -> Flags {
    let write = if swp.is_device_private_write() { Flags::WRITE } else { Flags::empty() };
    Flags::VALID | Flags::DEVICE | write
}

/// What the mapping of the page at `addr` gives, and where that mapping ends: behind the page if there is none.
fn mapping_at(at: Locked<'_>, addr: VirtAddr) -> (Flags, VirtAddr) {
    let _rcu = rcu::read_lock();
    let next = addr.add_pages(1);
    match at.mm.lookup(addr, Level::Pte) {
        Ok(slot) => (cpu_flags(slot.read()), next),
        Err(level) => match at.mm.lookup(addr, level).map(Slot::read) {
            Ok(e) if e.is_huge() => (cpu_flags(e), addr.align_down(level).add_pages(1 << level.order())),
            _ => (Flags::empty(), next),
        },
    }
}

/// One page of a fault batch, counted: whether the page itself needed the fault, given its wish, and whether a copy was
/// made that it did not ask for.
pub(super) fn fault_page<'a, C: Counters>(
    at: Locked<'a>,
    vma: &'a Vma,
    addr: VirtAddr,
    flags: FaultFlags,
    wish: impl FnOnce() -> Flags,
    c: &mut C,
) -> VmFault {
    if !C::ENABLED {
        return at.handle_mm_fault(vma, addr, flags, c);
    }
    let wish = wish();
    let (cpu, _) = mapping_at(at, addr);
    if !need_fault(wish, cpu).is_empty() {
        c.add(Count::FaultsNeeded, 1);
    }
    let before = c.get(Count::FaultsCowCopy);
    let r = at.handle_mm_fault(vma, addr, flags, c);
    if !wish.contains(Flags::VALID | Flags::WRITE) {
        c.add(Count::CopiesNotAskedFor, c.get(Count::FaultsCowCopy) - before);
    }
    r
}

impl<'a, S: Slots, Q: Quirks, C: Counters> HmmWalk<'a, '_, S, Q, C> {
    #[inline(always)]
    fn slot_of(&self, addr: VirtAddr) -> usize {
        addr.pages_since(self.range.start()) as usize
    }

    /// `hmm_range_need_fault`: OR over the slots of the span, until both bits are set.
    #[inline]
    fn range_need_fault(&mut self, part: PageRange, cpu: Flags) -> Flags {
        if !self.may_fault {
            return Flags::empty();
        }
        if S::UNIFORM {
            return need_fault(self.slots.wish(self.slot_of(part.start())), cpu);
        }
        let n = part.nr_pages() as usize;
        let chunk = self.slots.chunk(self.slot_of(part.start()), n);
        let mut need = Flags::empty();
        let mut k = 0;
        while k < n && need != Flags::VALID.union(Flags::WRITE) {
            need |= need_fault(chunk.wish(k), cpu);
            k += 1;
        }
        self.c.add(Count::WishesRead, k as u64);
        need
    }

    fn fill(&mut self, part: PageRange, answer: Answer) {
        let (i, n) = (self.slot_of(part.start()), part.nr_pages() as usize);
        let written = self.slots.fill(i, n, answer);
        self.c.add(Count::SlotsWritten, written);
    }

    /// Ends a callback that needs faults: takes them (`hmm_vma_fault`), or records them for later (7.3 cycle).
    #[cold]
    fn fault(&mut self, vma: &'a Vma, span: PageRange, need: Flags) -> Break {
        self.last = span.start();
        self.rcu = None;
        if Q::FAULTS_OUTSIDE || Q::FAULTS_LATER {
            return Break::Fault(span, need);
        }
        self.fault_span(vma, span, need).map_or_else(Break::Ended, |()| Break::Again)
    }

    /// `handle_mm_fault` for every base page of `span`, whoever asked.
    fn fault_span(&mut self, vma: &'a Vma, span: PageRange, need: Flags) -> Result<(), End> {
        self.c.fault_enter();
        let r = if Q::FAULTS_EXACTLY {
            self.fault_exactly(vma, span)
        } else {
            (0..span.nr_pages()).try_for_each(|k| self.fault_page(vma, span.start().add_pages(k), need))
        };
        self.c.fault_exit();
        r
    }

    /// `handle_mm_fault` for the pages of `span` that need it, in the order of their addresses. A mapping that a fault
    /// brought is taken in one step.
    fn fault_exactly(&mut self, vma: &'a Vma, span: PageRange) -> Result<(), End> {
        // What the mapping that was looked up last gives, and where it ends.
        let (mut cpu, mut end) = (Flags::empty(), span.start());
        let mut from = span.start();
        while let Some((addr, wish)) = self.next_wish(PageRange::between(from, span.end())) {
            from = addr.add_pages(1);
            if addr >= end {
                (cpu, end) = mapping_at(self.at, addr);
            }
            let need = need_fault(wish, cpu);
            if !need.is_empty() {
                self.fault_page(vma, addr, need)?;
                end = addr;
            } else if S::UNIFORM {
                from = end.min(span.end());
            }
        }
        Ok(())
    }

    /// The first page of `part` that anything is wished of, and the wish. Most pages of a span may wish for nothing.
    #[inline]
    fn next_wish(&mut self, part: PageRange) -> Option<(VirtAddr, Flags)> {
        let n = part.nr_pages() as usize;
        let chunk = self.slots.chunk(self.slot_of(part.start()), n);
        let k = (0..n).find(|&k| chunk.wish(k).contains(Flags::VALID))?;
        Some((part.start().add_pages(k as u64), chunk.wish(k)))
    }

    fn fault_page(&mut self, vma: &'a Vma, addr: VirtAddr, need: Flags) -> Result<(), End> {
        let mut flags = FaultFlags::REMOTE;
        if Q::MAY_DROP_LOCK {
            flags |= FaultFlags::ALLOW_RETRY | FaultFlags::KILLABLE;
        }
        if need.contains(Flags::WRITE) {
            if !vma.has(VmFlags::WRITE) {
                return Err(End::Errno(Errno::Perm));
            }
            flags |= FaultFlags::WRITE;
        }
        let i = self.slot_of(addr);
        let r = fault_page(self.at, vma, addr, flags, || self.slots.wish(i), self.c);
        if r.intersects(VmFault::ERROR) {
            let oom = Q::EXACT_ERRNO && r.contains(VmFault::OOM);
            return Err(End::Errno(if oom { Errno::NoMem } else { Errno::Fault }));
        }
        if Q::MAY_DROP_LOCK && r.contains(VmFault::RETRY) {
            return Err(End::LockDropped);
        }
        Ok(())
    }

    /// `hmm_do_fault` of the 7.3 cycle: the VMA is looked up again, nothing but the mmap lock is held.
    fn fault_outside(&mut self, span: PageRange, need: Flags) -> Result<(), End> {
        match self.at.vmas.find(span.start()) {
            Some(vma) => self.fault_span(vma, span, need),
            None => Err(End::Errno(Errno::Fault)),
        }
    }

    /// The inner loop of `hmm_vma_walk_pmd` over one PTE table: runs of plainly present entries, which every table is
    /// full of, and `hmm_vma_handle_pte` for what interrupts them.
    #[inline(always)]
    fn walk_ptes(&mut self, table: Table<'a>, part: PageRange) -> Result<(), Break> {
        let n = part.nr_pages() as usize;
        let slot = self.slot_of(part.start());
        let first = part.start().index(Level::Pte);
        let mut k = 0;
        while k < n {
            let may_fault = self.may_fault;
            let most = (n - k).min(self.c.run_limit());
            let chunk = self.slots.chunk(slot + k, most);
            let done = if may_fault {
                chunk.plain_run::<true>(table, first + k)
            } else {
                chunk.plain_run::<false>(table, first + k)
            };
            self.answered(done);
            k += done;
            if done < most {
                k = self.handle_ptes(table, part, k)?;
            }
        }
        Ok(())
    }

    /// Counts a run of `done` entries.
    #[inline(always)]
    fn answered(&mut self, done: usize) {
        self.c.add(Count::PtesVisited, done as u64);
        self.c.add(Count::SlotsWritten, self.slots.stored(done));
        if self.may_fault && !S::UNIFORM {
            self.c.add(Count::WishesRead, done as u64);
        }
    }

    /// What stopped a run, and whatever else is not plainly present behind it; returns where the next run begins. Apart
    /// from the runs, so that their loop keeps its registers.
    #[inline(never)]
    fn handle_ptes(&mut self, table: Table<'a>, part: PageRange, mut k: usize) -> Result<usize, Break> {
        let n = part.nr_pages() as usize;
        let slot = self.slot_of(part.start());
        let first = part.start().index(Level::Pte);
        let quiet = Quiet { none: Answer::NONE, zero_pfn: Some(self.at.mm.system().zero_pfn()) };
        let may_fault = self.may_fault;
        loop {
            let most = (n - k).min(self.c.run_limit());
            let chunk = self.slots.chunk(slot + k, most);
            let done = quiet_run_where(may_fault, table, first + k, chunk, quiet);
            self.answered(done);
            k += done;
            if done == 0 {
                let e = table.ptep_get(first + k);
                self.c.add(Count::PtesVisited, 1);
                let rest = PageRange::between(part.start().add_pages(k as u64), part.end());
                self.handle_pte(e, rest)?;
                k += 1;
            }
            if k == n || table.ptep_get(first + k).is_plain_present() {
                return Ok(k);
            }
        }
    }

    /// `hmm_vma_handle_pte` for an entry that is not plainly present: `rest` runs from its page to the end of the
    /// slice.
    fn handle_pte(&mut self, e: Entry, rest: PageRange) -> Result<(), Break> {
        let i = self.slot_of(rest.start());
        let wish = if self.may_fault {
            self.c.add(Count::WishesRead, u64::from(!S::UNIFORM));
            self.slots.wish(i)
        } else {
            Flags::empty()
        };
        if e.is_none_mostly() {
            let need = need_fault(wish, Flags::empty());
            if !need.is_empty() {
                return Err(Break::Fault(rest, need));
            }
            self.store(i, Answer::NONE);
            return Ok(());
        }
        if !e.is_present() {
            return self.handle_nonpresent(e, rest, wish);
        }
        let cpu = cpu_flags(e);
        let need = need_fault(wish, cpu);
        if !need.is_empty() {
            return Err(Break::Fault(rest, need));
        }
        // vm_normal_page() is NULL, and it is neither device memory nor the zero page.
        if e.is_special() && !e.is_devmap() && e.pfn() != self.at.mm.system().zero_pfn() {
            if !need_fault(wish, Flags::empty()).is_empty() {
                return Err(Break::failed(Errno::Fault));
            }
            self.store(i, Answer::ERROR);
            return Ok(());
        }
        self.store(i, Answer { pfn: e.pfn().get(), flags: cpu, order: 0 });
        Ok(())
    }

    fn handle_nonpresent(&mut self, e: Entry, rest: PageRange, wish: Flags) -> Result<(), Break> {
        let i = self.slot_of(rest.start());
        let swp = e.swp();
        if swp.is_device_private() && self.owns(swp) {
            self.store(i, Answer { pfn: swp.pfn().get(), flags: device_flags(swp), order: 0 });
            return Ok(());
        }
        let need = need_fault(wish, Flags::empty());
        if need.is_empty() {
            self.store(i, Answer::NONE);
            return Ok(());
        }
        let faults = swp.is_swap()
            || swp.is_device_exclusive() && Q::FAULTS_EXCLUSIVE
            || swp.is_device_private() && Q::FAULTS_FOREIGN_DEVICE;
        Err(if faults {
            Break::Fault(rest, need)
        } else if swp.is_migration() {
            Break::Wait(rest.start())
        } else {
            Break::failed(Errno::Fault)
        })
    }

    /// Whether the device-private page is the caller's own.
    fn owns(&self, swp: SwpEntry) -> bool {
        self.at.mm.phys().page(swp.pfn()).owner() == self.owner
    }

    #[inline(always)]
    fn store(&mut self, i: usize, answer: Answer) {
        self.slots.put(i, answer);
        self.c.add(Count::SlotsWritten, self.slots.stored(1));
    }

    /// What is left to do after `pte_unmap`: faults and waits.
    #[cold]
    fn leave_ptes(&mut self, vma: &'a Vma, pmd: Slot<'a>, b: Break) -> Break {
        match b {
            Break::Fault(span, need) => self.fault(vma, span, need),
            Break::Wait(addr) => {
                self.last = addr;
                if Q::FAULTS_LATER {
                    return b;
                }
                self.c.add(Count::MigrationWaits, 1);
                self.rcu = None;
                self.at.mm.migration_entry_wait(pmd, addr);
                Break::Again
            }
            other => other,
        }
    }

    /// `hmm_vma_handle_pmd` and its kin: a leaf above the PTE level, clipped to `part`.
    fn handle_leaf(&mut self, vma: &'a Vma, e: Entry, level: Level, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::HugeLeaves, 1);
        let flags = cpu_flags(e);
        let need = self.range_need_fault(part, flags);
        if !need.is_empty() {
            return Err(self.fault(vma, part, need));
        }
        let order = match level {
            // A protnone leaf reports its frame without flags and without order.
            _ if flags.is_empty() => 0,
            Level::Pmd => PMD_ORDER,
            _ => PUD_ORDER,
        };
        self.put_leaf(level, part, Answer { pfn: e.pfn().get(), flags, order });
        Ok(())
    }

    /// Stores the slots of `part`, which lies in a leaf of `level` whose first page has the answer `head`.
    fn put_leaf(&mut self, level: Level, part: PageRange, head: Answer) {
        let within = part.start().pages_since(part.start().align_down(level));
        let (i, n) = (self.slot_of(part.start()), part.nr_pages() as usize);
        let written = self.slots.put_run(i, n, Answer { pfn: head.pfn + within, ..head });
        self.c.add(Count::SlotsWritten, written);
    }

    /// `hmm_vma_handle_absent_pmd` and the tests before it: an entry that is neither none, a table nor a leaf.
    fn handle_absent_pmd(
        &mut self,
        vma: &'a Vma,
        pmd: Slot<'a>,
        e: Entry,
        part: PageRange,
    ) -> Result<(), Break> {
        let device = Q::KNOWS_DEVICE_PMD && e.is_swp() && e.swp().is_device_private();
        if device && self.owns(e.swp()) {
            let flags = device_flags(e.swp());
            self.put_leaf(Level::Pmd, part, Answer { pfn: e.swp().pfn().get(), flags, order: PMD_ORDER });
            return Ok(());
        }
        let migration = e.is_swp() && e.swp().is_migration();
        let need = self.range_need_fault(part, Flags::empty());
        if need.is_empty() {
            self.fill(part, if migration { Answer::NONE } else { Answer::ERROR });
            return Ok(());
        }
        if migration {
            self.last = part.start();
            if Q::FAULTS_LATER {
                return Err(Break::Wait(part.start()));
            }
            self.c.add(Count::MigrationWaits, 1);
            self.rcu = None;
            self.at.mm.pmd_migration_entry_wait(pmd);
            return Err(Break::Again);
        }
        Err(if device { self.fault(vma, part, need) } else { Break::failed(Errno::Fault) })
    }
}

impl<'a, S: Slots, Q: Quirks, C: Counters> WalkOps<'a> for HmmWalk<'a, '_, S, Q, C> {
    type Break = Break;

    /// `hmm_vma_walk_test`.
    fn test_walk(&mut self, vma: &'a Vma, part: PageRange) -> Result<Visit, Break> {
        self.c.add(Count::VmasVisited, 1);
        let mut refused = VmFlags::IO | VmFlags::PFNMAP;
        if Q::REFUSES_MIXEDMAP {
            refused |= VmFlags::MIXEDMAP;
        }
        if !vma.flags.intersects(refused) && vma.has(VmFlags::READ) {
            return Ok(Visit::Walk);
        }
        if !self.range_need_fault(part, Flags::empty()).is_empty() {
            return Err(Break::failed(Errno::Fault));
        }
        self.fill(part, Answer::ERROR);
        Ok(Visit::Skip)
    }

    /// `hmm_vma_walk_hole`.
    fn pte_hole(&mut self, vma: Option<&'a Vma>, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::Holes, 1);
        let need = self.range_need_fault(part, Flags::empty());
        let Some(vma) = vma else {
            if !need.is_empty() {
                return Err(Break::failed(Errno::Fault));
            }
            self.fill(part, Answer::ERROR);
            return Ok(());
        };
        if !need.is_empty() {
            return Err(self.fault(vma, part, need));
        }
        self.fill(part, Answer::NONE);
        Ok(())
    }

    /// `hmm_vma_walk_pmd`.
    fn pmd_entry(&mut self, vma: &'a Vma, pmd: Slot<'a>, part: PageRange) -> Result<(), Break> {
        loop {
            let e = pmd.read();
            self.c.add(Count::PmdsVisited, 1);
            if e.is_table() {
                // pte_offset_map .. pte_unmap: a table read under the guard stays a table until the guard is gone.
                let rcu = self.rcu.is_none().then(rcu::read_lock);
                let e = pmd.read();
                if !e.is_table() {
                    continue;
                }
                let r = self.walk_ptes(self.at.mm.phys().table(e.table_pfn()), part);
                drop(rcu);
                return r.map_err(|b| self.leave_ptes(vma, pmd, b));
            }
            if e.is_none() {
                return self.pte_hole(Some(vma), part);
            }
            if !e.is_huge() {
                return self.handle_absent_pmd(vma, pmd, e, part);
            }
            // Read once more: it may be split by now, then the loop meets the table.
            let again = pmd.read();
            if again.is_huge() {
                return self.handle_leaf(vma, again, Level::Pmd, part);
            }
        }
    }

    /// `hmm_vma_walk_pud` on a leaf.
    fn pud_leaf(&mut self, vma: &'a Vma, e: Entry, part: PageRange) -> Result<(), Break> {
        self.handle_leaf(vma, e, Level::Pud, part)
    }

    /// `hmm_vma_walk_hugetlb_entry`: decides on the wish of the first slot alone, and stores order (and meaningless
    /// frame bits) even for an entry that is not present.
    fn hugetlb_entry(&mut self, vma: &'a Vma, slot: Slot<'a>, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::HugeLeaves, 1);
        let level = vma.hugetlb_level();
        let guard = slot.lock();
        let e = slot.read();
        let flags = cpu_flags(e);
        let i = self.slot_of(part.start());
        if self.may_fault {
            self.c.add(Count::WishesRead, u64::from(!S::UNIFORM));
            let need = need_fault(self.slots.wish(i), flags);
            if !need.is_empty() {
                drop(guard);
                return Err(self.fault(vma, part, need));
            }
        }
        self.put_leaf(level, part, Answer { pfn: e.pfn().get(), flags, order: level.order() });
        Ok(())
    }
}
