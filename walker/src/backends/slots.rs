//! What the historic state machines ask of an API design: where the wish of a page comes from, where its answer goes.
//!
//! [`Slots`] are the arrays of a call and [`Chunk`] a few of them in a row; [`Flags`] and [`Answer`] are the words in
//! which wishes and answers are said before a format puts them into bits. [`super::hmm_core`] and [`super::hmm_old`] are
//! generic over them; monomorphised, without allocation or dynamic dispatch. Below them the two loops over a table:
//! `plain_run` for what every table is full of, `quiet_run` for what it has besides.

use crate::addr::Pfn;
use crate::arch::Entry;
use crate::memory::Table;
use bitflags::bitflags;

bitflags! {
    /// What the CPU entry gives, or what a slot wishes: HMM_PFN_VALID / REQ_FAULT and HMM_PFN_WRITE / REQ_WRITE share
    /// their positions, as they do in the kernel.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// The page is valid; as a wish: it must become so.
        const VALID = 1;
        /// The page is writable; as a wish: it must become so (only together with VALID).
        const WRITE = 2;
        /// The page cannot be given to the device.
        const ERROR = 4;
        /// The caller's own device-private memory.
        const DEVICE = 8;
        /// A page without struct page (formats until 5.7 tell it from an error).
        const SPECIAL = 16;
        /// Nothing is mapped (4.14 tells it from what is mapped but not present).
        const EMPTY = 32;
    }
}

/// What a slot is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Frame number; meaningless without VALID, yet stored where the kernel stores it.
    pub pfn: u64,
    /// What may be done with it.
    pub flags: Flags,
    /// log2 of the base pages of the mapping.
    pub order: u8,
}

impl Answer {
    /// Nothing there.
    pub const NONE: Answer = Answer { pfn: 0, flags: Flags::empty(), order: 0 };
    /// Not to be had.
    pub const ERROR: Answer = Answer { pfn: 0, flags: Flags::ERROR, order: 0 };
}

/// The caller's arrays: where wishes are read and answers written. Slot 0 is the first page of the call's range. A slot
/// has 8 bytes in every design, and so has a wish.
pub trait Slots {
    /// Slots `i..i + n` as local slices, so that the loop over a table keeps their addresses in registers.
    type Chunk<'s>: Chunk
    where
        Self: 's;
    /// Every slot wishes the same, and none is read to know it: one wish stands for a whole span.
    const UNIFORM: bool = false;
    /// Bytes of one record of the answer.
    const RECORD_BYTES: u64 = 8;
    /// Whether any wish can reach the walk at all; if not, it is a snapshot and no wish is read (5.7+).
    fn may_fault(&self) -> bool;
    /// The walk begins, or begins again, at slot `i`: what was answered from there on is void.
    #[inline(always)]
    fn begin(&mut self, i: usize) {
        let _ = i;
    }
    /// The slots `i..i + n`.
    fn chunk(&mut self, i: usize, n: usize) -> Self::Chunk<'_>;
    /// Stores answers of slots `i..i + n`, frames ascending (`hmm_vma_handle_pmd`); returns how many records it wrote.
    fn put_run(&mut self, i: usize, n: usize, first: Answer) -> u64 {
        let mut chunk = self.chunk(i, n);
        for k in 0..n {
            chunk.put(k, Answer { pfn: first.pfn + k as u64, ..first });
        }
        n as u64
    }
    /// Stores the same answer in slots `i..i + n` (`hmm_pfns_fill`); returns how many records it wrote.
    fn fill(&mut self, i: usize, n: usize, answer: Answer) -> u64 {
        let mut chunk = self.chunk(i, n);
        for k in 0..n {
            chunk.put(k, answer);
        }
        n as u64
    }
    /// How many records the answers to `n` slots, stored one by one since the last call, came to.
    #[inline(always)]
    fn stored(&mut self, n: usize) -> u64 {
        n as u64
    }
    /// The wish of slot `i`.
    fn wish(&mut self, i: usize) -> Flags {
        self.chunk(i, 1).wish(0)
    }
    /// Stores the answer of slot `i`.
    fn put(&mut self, i: usize, answer: Answer) {
        self.chunk(i, 1).put(0, answer);
    }
}

/// A few slots in a row. Indices are below the length that [`Slots::chunk`] was given.
#[allow(clippy::len_without_is_empty)] // never empty
pub trait Chunk {
    /// How many slots.
    fn len(&self) -> usize;
    /// The wish of slot `k`: `(slot & pfn_flags_mask) | default_flags`. VALID and WRITE, and DEVICE until 5.6.
    fn wish(&self, k: usize) -> Flags;
    /// Stores the answer of slot `k`.
    fn put(&mut self, k: usize, answer: Answer);
    /// Answers plainly present entries `first..` of `table`, one a slot, until one is not or needs a fault; returns how
    /// many it answered.
    #[inline(always)]
    fn plain_run<const MAY_FAULT: bool>(self, table: Table<'_>, first: usize) -> usize
    where
        Self: Sized,
    {
        plain_run::<_, MAY_FAULT>(table, first, self)
    }
    /// Answers a plainly present PTE, or the zero page's, unless `MAY_FAULT` and slot `k` wishes more than the entry
    /// gives: then it returns false and leaves the slot alone. Override where the bits of the entry map to the slot
    /// directly.
    #[inline(always)]
    fn answer_present<const MAY_FAULT: bool>(&mut self, k: usize, e: Entry) -> bool {
        // cpu_flags, of which PRESENT is known.
        let flags = if e.is_write() { Flags::VALID.union(Flags::WRITE) } else { Flags::VALID };
        if MAY_FAULT && !need_fault(self.wish(k), flags).is_empty() {
            return false;
        }
        self.put(k, Answer { pfn: e.plain_pfn(), flags, order: 0 });
        true
    }
}

/// `hmm_pte_need_fault`: what a page with these CPU flags needs to fulfil the wish. Empty, VALID (a read fault) or
/// VALID and WRITE.
#[inline(always)]
pub fn need_fault(wish: Flags, cpu: Flags) -> Flags {
    if !wish.contains(Flags::VALID) {
        return Flags::empty();
    }
    if wish.contains(Flags::WRITE) && !cpu.contains(Flags::WRITE) {
        return Flags::VALID.union(Flags::WRITE);
    }
    if !cpu.contains(Flags::VALID) { Flags::VALID } else { Flags::empty() }
}

/// `pte_to_hmm_pfn_flags` / `pmd_to_hmm_pfn_flags` without the order.
#[inline(always)]
pub(super) fn cpu_flags(e: Entry) -> Flags {
    if !e.is_present() || e.is_protnone() {
        Flags::empty()
    } else if e.is_write() {
        Flags::VALID.union(Flags::WRITE)
    } else {
        Flags::VALID
    }
}

/// Answers plainly present entries until one is not, or needs a fault; returns how many it answered.
///
/// A function of its own on local slices: the loop is a load, a test, a few shifts and a store. The entry that stops
/// it is read again by the caller, as good as the first read.
#[inline(always)]
pub(super) fn plain_run<K: Chunk, const MAY_FAULT: bool>(
    table: Table<'_>,
    first: usize,
    mut chunk: K,
) -> usize {
    let n = chunk.len();
    // Both lengths are stated once, so that the loop carries no bounds check.
    let run = table.ptep_run(first, n);
    assert!(run.len() == n && chunk.len() == n);
    let mut answer = |k: usize| {
        let e = run.ptep_get(k);
        e.is_plain_present() && chunk.answer_present::<MAY_FAULT>(k, e)
    };
    // Eight at a time while eight are left: a loop that may end early is not unrolled by the compiler.
    let mut k = 0;
    while k + 8 <= n {
        for j in k..k + 8 {
            if !answer(j) {
                return j;
            }
        }
        k += 8;
    }
    (k..n).find(|&k| !answer(k)).unwrap_or(n)
}

/// What a generation says of the entries that are not plainly present, and yet all that most tables have besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// Of a none entry.
    pub(super) none: Answer,
    /// The zero page, if it is reported as any page is.
    pub(super) zero_pfn: Option<Pfn>,
}

/// [`quiet_run`], where anything may fault and where nothing can.
#[inline(always)]
pub(super) fn quiet_run_where<K: Chunk>(
    may_fault: bool,
    table: Table<'_>,
    first: usize,
    chunk: K,
    quiet: Quiet,
) -> usize {
    if may_fault {
        quiet_run::<_, true>(table, first, chunk, quiet)
    } else {
        quiet_run::<_, false>(table, first, chunk, quiet)
    }
}

/// Answers none entries and the zero page, as far as they need no fault, until an entry is neither; returns how many it
/// answered. What a kernel does in the one loop that it has for all entries; the entry that stops it is read again.
#[inline(always)]
fn quiet_run<K: Chunk, const MAY_FAULT: bool>(
    table: Table<'_>,
    first: usize,
    mut chunk: K,
    quiet: Quiet,
) -> usize {
    let n = chunk.len();
    let run = table.ptep_run(first, n);
    assert!(run.len() == n && chunk.len() == n);
    for k in 0..n {
        let e = run.ptep_get(k);
        if e.is_none() {
            if MAY_FAULT && chunk.wish(k).contains(Flags::VALID) {
                return k;
            }
            chunk.put(k, quiet.none);
        } else if !e.is_special_present()
            || quiet.zero_pfn.is_none_or(|zero| zero.get() != e.plain_pfn())
            || !chunk.answer_present::<MAY_FAULT>(k, e)
        {
            return k;
        }
    }
    n
}
