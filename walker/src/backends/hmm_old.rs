//! The state machine of the designs before 5.7: `hmm_vma_fault` and the first `hmm_range_fault`, with their callbacks.
//!
//! Models mm/hmm.c of 4.14, 4.18, 5.2 and 5.5. [`super::hmm_core`] is its successor and shares the need-fault
//! predicate and the fault of one page with it; the rest differs too much for one machine:
//! * the slot of a page is overwritten before the page is decided upon, and every slot of a span before its page is
//!   faulted: **wishes are destroyed inside the call** (4.17+), so what the walk finds the second time is reported
//!   whether it fulfils the wish or not;
//! * on an error the slots from there to the end of the range are cleared (until 5.4);
//! * there is no test of the sequence inside the call until 5.2;
//! * snapshots are another call, whose walk may end early without an error.
//!
//! What differs between these generations has a name and its versions in `Rules`.
//!
//! Where a kernel would spin for ever, the model gives up with -EINTR, as if the caller were killed: a write fault that
//! can never give write permission, with a wish that is not in the slots and so not destroyed (4.14, and a default of
//! 5.2, neither of which checks VM_WRITE).

use crate::addr::{Level, PageRange, VirtAddr};
use crate::arch::Entry;
use crate::backends::hmm_core::{device_flags, fault_page};
use crate::backends::slots::{Answer, Chunk, Flags, Quiet, Slots, cpu_flags, need_fault, quiet_run_where};
use crate::counters::{Count, Counters};
use crate::memory::{Table, rcu};
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::tables::Slot;
use crate::mm::vma::{VmFlags, Vma};
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::walk::{Visit, WalkOps, walk_page_range};

/// A generation of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 4.14 to 4.16.
    V4_14,
    /// 4.17 to 5.1.
    V4_17,
    /// 5.2 and 5.3.
    V5_2,
    /// 5.5 and 5.6.
    V5_5,
}

/// What a generation does; every field is a quirk.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// One VMA a call, and neither hugetlb nor VM_SPECIAL (until 5.1).
    single_vma: bool,
    /// Wishes lie in the slots and are destroyed (4.17+); before, the whole call has one.
    wishes_in_slots: bool,
    /// A fault starts over at the start of the slice (4.14), instead of at the page that needs it.
    restarts_at_slice: bool,
    /// The wishes of a span are read up to the first that needs anything (4.17 to 5.1), not up to the first write.
    stops_at_first_need: bool,
    /// An unreadable VMA is -EPERM for the whole range, cleared (4.17 to 5.4).
    refuses_unreadable: bool,
    /// VM_WRITE is checked before a write fault (5.4+).
    checks_vm_write: bool,
    /// NUMA hints count as present (until 5.4).
    protnone_is_present: bool,
    /// Special entries end the walk (5.2 to 5.6); before, they are reported like any other.
    refuses_special: bool,
    /// The zero page is refused as any special entry (5.2 to 5.4).
    refuses_zero_page: bool,
    /// Swap entries are never faulted, their need is not computed (5.2 to 5.4).
    ignores_swap: bool,
    /// Migration entries are never waited for, likewise (5.2 to 5.6).
    ignores_migration: bool,
    /// PMD migration entries are known (5.2+); before, they are bad entries.
    knows_pmd_migration: bool,
    /// Poison and the like are reported without an error (4.14).
    tolerates_poison: bool,
    /// The sequence is tested before each walk (5.2+).
    tests_sequence: bool,
    /// The slots from the failure on are cleared (until 5.4).
    clears_on_error: bool,
    /// A fault may drop the mmap lock (until 5.3).
    may_drop_lock: bool,
}

impl Version {
    const fn rules(self) -> Rules {
        let v = self as u8;
        let (v4_17, v5_2, v5_5) = (Version::V4_17 as u8, Version::V5_2 as u8, Version::V5_5 as u8);
        Rules {
            single_vma: v < v5_2,
            wishes_in_slots: v >= v4_17,
            restarts_at_slice: v < v4_17,
            stops_at_first_need: v == v4_17,
            refuses_unreadable: v == v4_17 || v == v5_2,
            checks_vm_write: v >= v5_5,
            protnone_is_present: v < v5_5,
            refuses_special: v >= v5_2,
            refuses_zero_page: v == v5_2,
            ignores_swap: v == v5_2,
            ignores_migration: v >= v5_2,
            knows_pmd_migration: v >= v5_2,
            tolerates_poison: v < v4_17,
            tests_sequence: v >= v5_2,
            clears_on_error: v < v5_5,
            may_drop_lock: v < v5_5,
        }
    }
}

/// Names a [`Version`] in a type.
pub trait Generation: Send + 'static {
    /// Which one.
    const VERSION: Version;
}

/// What a call asks.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The mmap lock.
    pub at: Locked<'a>,
    /// The mirror's subscription.
    pub sub: &'a Subscription,
    /// The sequence to test.
    pub seq: u64,
    /// The pages.
    pub range: PageRange,
}

/// Consecutive restarts at one page after which a call counts as spinning for ever: other threads can undo a fault only so
/// often. Each of them may fault 512 pages (4.14), which is why this is less than what an operation survives that starts
/// over outside of the call (`STARVED` of the program's `backend_member.rs`).
const SPINS: u32 = 1 << 10;

/// Why a walk ended early.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// Something was faulted in: walk again from `last`.
    Faulted,
    /// A migration has ended: likewise.
    Waited,
    /// The pages of the span from its first on are to be faulted, with this need; the first had this wish.
    Fault(PageRange, Flags, Flags),
    /// The page there is under migration.
    Wait(VirtAddr),
    /// The call ends.
    Failed(Errno),
    /// The call ends, and the slots stay as they are.
    FailedUncleared(Errno),
}

struct OldWalk<'a, 's, S, G, C> {
    call: Call<'a>,
    /// A fault call, not a snapshot.
    fault: bool,
    slots: &'s mut S,
    last: VirtAddr,
    /// Around the tables of a walk; gone before anything faults or waits.
    rcu: Option<rcu::Guard>,
    c: &'s mut C,
    generation: core::marker::PhantomData<G>,
}

/// The range call of generation `G`: a fault call if the slots may fault, else a snapshot. Returns how many slots hold
/// answers: 5.2+ says so itself, an earlier caller had to know.
///
/// # Errors
/// -EINVAL and -EPERM for a range or VMA that the generation refuses, -EBUSY or -EAGAIN when the sequence moved or the
/// lock was dropped, -EFAULT for everything else.
pub fn range_call<S: Slots, G: Generation, C: Counters>(
    call: Call<'_>,
    slots: &mut S,
    c: &mut C,
) -> Result<usize, Errno> {
    let mut walk: OldWalk<'_, '_, S, G, C> = OldWalk {
        call,
        fault: slots.may_fault(),
        slots,
        last: call.range.start(),
        rcu: None,
        c,
        generation: core::marker::PhantomData,
    };
    walk.run()
}

impl<'a, S: Slots, G: Generation, C: Counters> OldWalk<'a, '_, S, G, C> {
    const RULES: Rules = G::VERSION.rules();

    fn run(&mut self) -> Result<usize, Errno> {
        let range = self.call.range;
        if range.is_empty() {
            return Err(Errno::Inval);
        }
        if Self::RULES.single_vma && !self.admit_single_vma()? {
            return Ok(range.nr_pages() as usize);
        }
        let (mut fault_at, mut spins, mut first) = (range.end(), 0, true);
        loop {
            if Self::RULES.tests_sequence && self.call.sub.check_retry(self.call.seq) {
                // 5.2 has another errno, and clears nothing, before it has walked.
                let uncleared = first && Self::RULES.clears_on_error;
                return Err(if uncleared { Errno::Again } else { self.clear_from_last(Errno::Busy) });
            }
            first = false;
            self.c.add(Count::Walks, 1);
            self.rcu = rcu::read_lock_walk();
            let walked = walk_page_range(self.call.at, PageRange::between(self.last, range.end()), self);
            self.rcu = None;
            match walked {
                Ok(()) => return Ok(range.nr_pages() as usize),
                Err(Break::Faulted) if self.last == fault_at && spins == SPINS => return Err(Errno::Intr),
                Err(Break::Faulted) => {
                    spins = if self.last == fault_at { spins + 1 } else { 0 };
                    fault_at = self.last;
                }
                Err(Break::Waited) => {}
                Err(Break::FailedUncleared(e)) => return Err(e),
                // get_pfns and range_snapshot ignore how the walk of a VMA ended.
                Err(Break::Failed(_)) if !self.fault && Self::RULES.clears_on_error => {
                    let vma = self.call.at.vmas.find(self.last).map_or(range.end(), Vma::end);
                    if vma >= range.end() {
                        return Ok(self.slot_of(self.last));
                    }
                    self.last = vma;
                }
                Err(Break::Failed(e)) => return Err(self.clear_from_last(e)),
                Err(Break::Fault(..) | Break::Wait(_)) => unreachable!("done in the callback"),
            }
        }
    }

    /// The tests of the single-VMA calls. False: answered without a walk.
    fn admit_single_vma(&mut self) -> Result<bool, Errno> {
        let range = self.call.range;
        let Some(vma) = self.call.at.vmas.find(range.start()) else { return Err(Errno::Inval) };
        if range.end() > vma.end() {
            return Err(Errno::Inval);
        }
        if vma.flags.intersects(VmFlags::HUGETLB | VmFlags::SPECIAL) {
            self.fill(range, Answer { pfn: 0, flags: Flags::SPECIAL, order: 0 });
            // 4.14: a fault call answers 0 all the same.
            return if !Self::RULES.wishes_in_slots && self.fault { Ok(false) } else { Err(Errno::Inval) };
        }
        if Self::RULES.refuses_unreadable && !vma.has(VmFlags::READ) {
            self.fill(range, Answer::NONE);
            return Err(Errno::Perm);
        }
        Ok(true)
    }

    fn clear_from_last(&mut self, e: Errno) -> Errno {
        if Self::RULES.clears_on_error {
            self.fill(PageRange::between(self.last, self.call.range.end()), Answer::NONE);
        }
        e
    }

    #[inline(always)]
    fn slot_of(&self, addr: VirtAddr) -> usize {
        addr.pages_since(self.call.range.start()) as usize
    }

    fn fill(&mut self, part: PageRange, answer: Answer) {
        let (i, n) = (self.slot_of(part.start()), part.nr_pages() as usize);
        self.c.add(Count::SlotsWritten, n as u64);
        self.slots.fill(i, n, answer);
    }

    #[inline(always)]
    fn store(&mut self, i: usize, answer: Answer) {
        self.c.add(Count::SlotsWritten, 1);
        self.slots.put(i, answer);
    }

    /// The wish of slot `i`; nothing in a snapshot.
    #[inline(always)]
    fn wish(&mut self, i: usize) -> Flags {
        if !self.fault {
            return Flags::empty();
        }
        if Self::RULES.wishes_in_slots {
            self.c.add(Count::WishesRead, 1);
        }
        self.slots.wish(i)
    }

    /// `hmm_pte_need_fault`: device memory is faulted back only if the wish says DEVICE (4.17+), or if it must be
    /// written and may not (4.14).
    #[inline(always)]
    fn need(wish: Flags, cpu: Flags) -> Flags {
        if !cpu.contains(Flags::DEVICE) {
            return need_fault(wish, cpu);
        }
        if !Self::RULES.wishes_in_slots {
            return need_fault(wish & (Flags::VALID | Flags::WRITE), cpu | Flags::VALID);
        }
        if wish.contains(Flags::VALID | Flags::DEVICE) {
            Flags::VALID | wish & Flags::WRITE
        } else {
            Flags::empty()
        }
    }

    /// `hmm_range_need_fault`.
    fn range_need(&mut self, part: PageRange, cpu: Flags) -> Flags {
        let first = self.slot_of(part.start());
        let mut need = Flags::empty();
        if !self.fault {
            return need;
        }
        for i in first..first + part.nr_pages() as usize {
            need |= Self::need(self.wish(i), cpu);
            let enough = Self::RULES.stops_at_first_need && !need.is_empty();
            if enough || need.contains(Flags::WRITE) || !Self::RULES.wishes_in_slots {
                break;
            }
        }
        need
    }

    /// `hmm_vma_walk_hole_`: the slots of `span` become `absent`, and each page is faulted after that if `need` says
    /// so. `first` is the wish of the first page, whose slot no longer holds it.
    #[cold]
    fn fault_or_fill(
        &mut self,
        vma: Option<&'a Vma>,
        span: PageRange,
        need: Flags,
        first: Option<Flags>,
        absent: Answer,
    ) -> Result<(), Break> {
        self.last = span.start();
        if need.is_empty() {
            self.fill(span, absent);
            return Ok(());
        }
        let Some(vma) = vma else {
            // 5.5 answers so; 5.2 dereferences a null pointer here.
            self.store(self.slot_of(span.start()), Answer::ERROR);
            return Err(Break::Failed(Errno::Fault));
        };
        let mut flags = FaultFlags::REMOTE;
        if Self::RULES.may_drop_lock {
            flags |= FaultFlags::ALLOW_RETRY;
        }
        if need.contains(Flags::WRITE) {
            if Self::RULES.checks_vm_write && !vma.has(VmFlags::WRITE) {
                return Err(Break::Failed(Errno::Perm));
            }
            flags |= FaultFlags::WRITE;
        }
        self.c.fault_enter();
        let r = self.fault_pages(vma, span, flags, first, absent);
        self.c.fault_exit();
        Err(r.map_or_else(Break::Failed, |()| Break::Faulted))
    }

    fn fault_pages(
        &mut self,
        vma: &'a Vma,
        span: PageRange,
        flags: FaultFlags,
        mut first: Option<Flags>,
        absent: Answer,
    ) -> Result<(), Errno> {
        self.rcu = None;
        let mut addr = span.start();
        while addr < span.end() {
            let i = self.slot_of(addr);
            let wish = first.take().unwrap_or_else(|| self.slots.wish(i));
            self.store(i, absent);
            let r = fault_page(self.call.at, vma, addr, flags, || wish, self.c);
            if r.contains(VmFault::RETRY) {
                // -EBUSY until 5.1, -EAGAIN from then on.
                return Err(if Self::RULES.tests_sequence { Errno::Again } else { Errno::Busy });
            }
            if r.intersects(VmFault::ERROR) {
                self.store(i, Answer::ERROR);
                return Err(Errno::Fault);
            }
            addr = addr.add_pages(1);
        }
        Ok(())
    }

    /// The flags of a present entry, as this generation sees NUMA hints.
    #[inline(always)]
    fn present_flags(e: Entry) -> Flags {
        if !Self::RULES.protnone_is_present || !e.is_protnone() {
            return cpu_flags(e);
        }
        if e.is_write() { Flags::VALID | Flags::WRITE } else { Flags::VALID }
    }

    /// The inner loop of `hmm_vma_walk_pmd`. `part` is the slice. The kernel stores NONE in each slot before it
    /// decides; in the model whoever faults does it, the others overwrite it anyway.
    #[inline(always)]
    fn walk_ptes(&mut self, table: Table<'a>, part: PageRange) -> Result<(), Break> {
        let n = part.nr_pages() as usize;
        let slot = self.slot_of(part.start());
        let first = part.start().index(Level::Pte);
        let mut k = 0;
        while k < n {
            let most = (n - k).min(self.c.run_limit());
            let chunk = self.slots.chunk(slot + k, most);
            let done = if self.fault {
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
        self.c.add(Count::SlotsWritten, done as u64);
        if self.fault && Self::RULES.wishes_in_slots {
            self.c.add(Count::WishesRead, done as u64);
        }
    }

    /// What stopped a run, and whatever else is not plainly present behind it; returns where the next run begins.
    #[inline(never)]
    fn handle_ptes(&mut self, table: Table<'a>, part: PageRange, mut k: usize) -> Result<usize, Break> {
        let n = part.nr_pages() as usize;
        let slot = self.slot_of(part.start());
        let first = part.start().index(Level::Pte);
        let refused = Self::RULES.refuses_special && Self::RULES.refuses_zero_page;
        let quiet = Quiet {
            none: Answer { flags: Flags::EMPTY, ..Answer::NONE },
            zero_pfn: (!refused).then_some(self.call.at.mm.system().zero_pfn()),
        };
        loop {
            let most = (n - k).min(self.c.run_limit());
            let chunk = self.slots.chunk(slot + k, most);
            let done = quiet_run_where(self.fault, table, first + k, chunk, quiet);
            self.answered(done);
            k += done;
            if done == 0 {
                let e = table.ptep_get(first + k);
                self.c.add(Count::PtesVisited, 1);
                let wish = self.wish(slot + k);
                let at = part.start().add_pages(k as u64);
                let answer = self.handle_pte(e, at, part, wish)?;
                self.store(slot + k, answer);
                k += 1;
            }
            if k == n || table.ptep_get(first + k).is_plain_present() {
                return Ok(k);
            }
        }
    }

    /// The batch that a page which needs a fault starts: from there, or from the start of the slice (4.14).
    #[cold]
    fn fault_from(&self, at: VirtAddr, part: PageRange, need: Flags, wish: Flags) -> Break {
        let from = if Self::RULES.restarts_at_slice { part.start() } else { at };
        Break::Fault(PageRange::between(from, part.end()), need, wish)
    }

    /// `hmm_vma_handle_pte`.
    fn handle_pte(&mut self, e: Entry, at: VirtAddr, part: PageRange, wish: Flags) -> Result<Answer, Break> {
        let need = Self::need(wish, Flags::empty());
        if e.is_none_mostly() {
            if !need.is_empty() {
                return Err(self.fault_from(at, part, need, wish));
            }
            return Ok(Answer { flags: Flags::EMPTY, ..Answer::NONE });
        }
        if e.is_present() {
            return self.handle_present(e, at, part, wish);
        }
        let swp = e.swp();
        if swp.is_swap() {
            if !need.is_empty() && !Self::RULES.ignores_swap {
                return Err(self.fault_from(at, part, need, wish));
            }
            return Ok(Answer::NONE);
        }
        if swp.is_device_private() {
            let cpu = device_flags(swp);
            let need = Self::need(wish, cpu);
            if !need.is_empty() {
                return Err(self.fault_from(at, part, need, wish));
            }
            return Ok(Answer { pfn: swp.pfn().get(), flags: cpu, order: 0 });
        }
        if swp.is_migration() {
            if !need.is_empty() && !Self::RULES.ignores_migration {
                return Err(Break::Wait(at));
            }
            return Ok(Answer::NONE);
        }
        if Self::RULES.tolerates_poison {
            return Ok(Answer::ERROR);
        }
        self.refuse(at, Answer::ERROR)
    }

    fn handle_present(
        &mut self,
        e: Entry,
        at: VirtAddr,
        part: PageRange,
        wish: Flags,
    ) -> Result<Answer, Break> {
        let cpu = Self::present_flags(e);
        let need = Self::need(wish, cpu);
        if !need.is_empty() {
            return Err(self.fault_from(at, part, need, wish));
        }
        let zero = e.pfn() == self.call.at.mm.system().zero_pfn();
        let refused = !e.is_devmap() && (!zero || Self::RULES.refuses_zero_page);
        if Self::RULES.refuses_special && e.is_special() && refused {
            return self.refuse(at, Answer { flags: Flags::SPECIAL, ..Answer::NONE });
        }
        // The encoder sets VALID whatever the entry gives.
        Ok(Answer { pfn: e.pfn().get(), flags: cpu | Flags::VALID, order: 0 })
    }

    /// Leaves `answer` in the slot and fails, wanted or not.
    fn refuse(&mut self, at: VirtAddr, answer: Answer) -> Result<Answer, Break> {
        self.last = at;
        self.store(self.slot_of(at), answer);
        Err(Break::Failed(Errno::Fault))
    }

    /// What is left to do after `pte_unmap`: faults and waits.
    #[cold]
    fn leave_ptes(&mut self, vma: &'a Vma, pmd: Slot<'a>, b: Break) -> Break {
        match b {
            Break::Fault(span, need, wish) => {
                let first = Self::RULES.wishes_in_slots.then_some(wish);
                self.fault_or_fill(Some(vma), span, need, first, Answer::NONE).err().unwrap_or(Break::Faulted)
            }
            Break::Wait(addr) => {
                self.store(self.slot_of(addr), Answer::NONE);
                self.last = addr;
                self.c.add(Count::MigrationWaits, 1);
                self.rcu = None;
                self.call.at.mm.migration_entry_wait(pmd, addr);
                Break::Waited
            }
            other => other,
        }
    }

    /// `hmm_vma_handle_pmd` and its kin. A protnone leaf has no rights here in any generation, and is never reported.
    fn handle_leaf(&mut self, vma: &'a Vma, e: Entry, level: Level, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::HugeLeaves, 1);
        let cpu = cpu_flags(e);
        let need = self.range_need(part, cpu);
        if e.is_protnone() || !need.is_empty() {
            return self.fault_or_fill(Some(vma), part, need, None, Answer::NONE);
        }
        self.put_leaf(level, part, e, cpu);
        Ok(())
    }

    fn put_leaf(&mut self, level: Level, part: PageRange, e: Entry, flags: Flags) {
        let within = part.start().pages_since(part.start().align_down(level));
        let (i, n) = (self.slot_of(part.start()), part.nr_pages() as usize);
        self.c.add(Count::SlotsWritten, n as u64);
        self.slots.put_run(i, n, Answer { pfn: e.pfn().get() + within, flags, order: 0 });
    }

    /// A PMD entry that is neither none, a table nor a leaf.
    fn handle_absent_pmd(&mut self, pmd: Slot<'a>, e: Entry, part: PageRange) -> Result<(), Break> {
        if !Self::RULES.knows_pmd_migration || !e.is_swp() || !e.swp().is_migration() {
            self.fill(part, Answer::ERROR);
            return Ok(());
        }
        if self.range_need(part, Flags::empty()).is_empty() {
            // The slots stay as they are: inputs show as outputs.
            return Ok(());
        }
        self.last = part.start();
        self.c.add(Count::MigrationWaits, 1);
        self.rcu = None;
        self.call.at.mm.pmd_migration_entry_wait(pmd);
        Err(Break::Waited)
    }
}

impl<'a, S: Slots, G: Generation, C: Counters> WalkOps<'a> for OldWalk<'a, '_, S, G, C> {
    type Break = Break;

    /// The tests of the outer loop (5.2), or of `hmm_vma_walk_test` (5.5).
    fn test_walk(&mut self, vma: &'a Vma, part: PageRange) -> Result<Visit, Break> {
        self.c.add(Count::VmasVisited, 1);
        if Self::RULES.single_vma {
            return Ok(Visit::Walk);
        }
        if Self::RULES.clears_on_error {
            self.last = part.start();
            if self.call.sub.check_retry(self.call.seq) {
                return Err(Break::FailedUncleared(Errno::Again));
            }
        }
        if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
            return Err(Break::FailedUncleared(Errno::Fault));
        }
        if vma.has(VmFlags::READ) {
            return Ok(Visit::Walk);
        }
        if Self::RULES.refuses_unreadable {
            self.fill(self.call.range, Answer::NONE);
            return Err(Break::FailedUncleared(Errno::Perm));
        }
        if !self.range_need(part, Flags::empty()).is_empty() {
            return Err(Break::FailedUncleared(Errno::Fault));
        }
        self.fill(part, Answer::NONE);
        Ok(Visit::Skip)
    }

    /// `hmm_vma_walk_hole`.
    fn pte_hole(&mut self, vma: Option<&'a Vma>, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::Holes, 1);
        let behind = vma.is_none() && self.call.at.vmas.find_from(part.start()).is_none();
        if behind && Self::RULES.clears_on_error {
            // 5.2: find_vma finds nothing behind the last VMA.
            return Err(Break::FailedUncleared(Errno::Fault));
        }
        let need = self.range_need(part, Flags::empty());
        self.fault_or_fill(vma, part, need, None, Answer { flags: Flags::EMPTY, ..Answer::NONE })
    }

    /// `hmm_vma_walk_pmd`.
    fn pmd_entry(&mut self, vma: &'a Vma, pmd: Slot<'a>, part: PageRange) -> Result<(), Break> {
        // pte_offset_map .. pte_unmap: a table read here stays a table until the guard is gone.
        let rcu = self.rcu.is_none().then(rcu::read_lock);
        let e = pmd.read();
        self.c.add(Count::PmdsVisited, 1);
        if e.is_table() {
            let r = self.walk_ptes(self.call.at.mm.phys().table(e.table_pfn()), part);
            drop(rcu);
            return r.map_err(|b| self.leave_ptes(vma, pmd, b));
        }
        drop(rcu);
        if e.is_none() {
            self.pte_hole(Some(vma), part)
        } else if e.is_huge() {
            self.handle_leaf(vma, e, Level::Pmd, part)
        } else {
            self.handle_absent_pmd(pmd, e, part)
        }
    }

    /// `hmm_vma_walk_pud` on a leaf. Until 5.1 there is no such callback; the model does not split leaves of device
    /// DAX, and reports them.
    fn pud_leaf(&mut self, vma: &'a Vma, e: Entry, part: PageRange) -> Result<(), Break> {
        self.handle_leaf(vma, e, Level::Pud, part)
    }

    /// `hmm_vma_walk_hugetlb_entry` (5.2+): decides on the wish of the first slot alone. The encoder sets VALID even
    /// for an entry that is not present.
    fn hugetlb_entry(&mut self, vma: &'a Vma, slot: Slot<'a>, part: PageRange) -> Result<(), Break> {
        self.c.add(Count::HugeLeaves, 1);
        let guard = slot.lock();
        let e = slot.read();
        let cpu = Self::present_flags(e);
        let wish = self.wish(self.slot_of(part.start()));
        let need = Self::need(wish, cpu);
        if !need.is_empty() {
            drop(guard);
            return self.fault_or_fill(Some(vma), part, need, Some(wish), Answer::NONE);
        }
        self.put_leaf(vma.hugetlb_level(), part, e, cpu | Flags::VALID);
        Ok(())
    }
}
