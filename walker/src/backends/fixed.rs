//! The formats with fixed bits in one in/out array (5.8 to today), as one backend over a [`Layout`].
//!
//! Bits 63 VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR; the frame at the bottom. A layout adds how large the
//! mapping is and which bits belong to the caller; the behaviour behind it is [`super::hmm_core::hmm_range_fault`] with
//! its quirks.
//!
//! One property of all of them: input and output share the slot, so an output left in place asks for more the next
//! time (the table of semantics 1.5). [`Backend::prepare`] refills.

use super::kvarray::KvArray;
use crate::addr::{Level, PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::backend::{Backend, Capability, Info, PageView};
use crate::backends::hmm_core::{End, Later, Part, Quirks, do_later, hmm_range_fault_part, unless_moved};
use crate::backends::map_order;
use crate::backends::program;
use crate::backends::slots::{Answer, Chunk, Flags, Slots, plain_run};
use crate::counters::{Count, Counters};
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::memory::Table;
use crate::memory::table::in_general_register;
#[cfg(not(loom))]
use crate::memory::wide::Decode;
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};
use core::marker::PhantomData;

/// HMM_PFN_VALID and HMM_PFN_REQ_FAULT.
pub const VALID: u64 = 1 << 63;
/// HMM_PFN_WRITE and HMM_PFN_REQ_WRITE.
pub const WRITE: u64 = 1 << 62;
/// HMM_PFN_ERROR.
pub const ERROR: u64 = 1 << 61;

/// What all of these designs can express; each adds what it says about the size of a mapping.
pub const CAPABILITIES: [Capability; 8] = [
    Capability::Snapshot,
    Capability::Fault,
    Capability::PerPageRequest,
    Capability::Permission,
    Capability::DevicePrivate,
    Capability::Hugetlb,
    Capability::ErrorPerPage,
    Capability::CrossVma,
];

/// The bits of a slot below the three flags, and the generation behind them.
pub trait Layout: Send + 'static {
    /// The row of the registry.
    const INFO: Info;
    /// Behaviour of that generation.
    type Quirks: Quirks;
    /// Position of the order field, five bits; by default as 5.9 has it.
    const ORDER_SHIFT: u32 = map_order::ORDER_SHIFT;
    /// The frame.
    const PFN_MASK: u64 = (1 << Self::ORDER_SHIFT) - 1;
    /// Bits that belong to the caller and survive every store.
    const STICKY: u64 = 0;
    /// With a mask of 0 the wish of every page is the default: decided once a call, no slot is read, and entries are
    /// tested in groups.
    const HOISTS_MASK: bool = false;
    /// Of a mapping above the PTE level only the first slot in the range is written; the others hold anything.
    const FIRST_SLOT_ONLY: bool = false;
    /// The consumer steps from mapping to mapping by the order in the slots, and writes one device entry for each.
    const CONSUMER_STEPS: bool = false;
    /// Where the mask is hoisted, plainly present entries are decoded with vectors.
    const WIDE: bool = false;
    /// The bits that tell the size of a mapping of `1 << order` pages.
    #[inline(always)]
    fn size(order: u8) -> u64 {
        u64::from(order) << Self::ORDER_SHIFT
    }
    /// log2 of the base pages of the mapping, if the slot says it.
    #[inline(always)]
    fn order(slot: u64) -> Option<u8> {
        Some((slot >> Self::ORDER_SHIFT & 0x1f) as u8)
    }
    /// Whether the mapping is a huge one, if the slot says it.
    fn compound(slot: u64) -> Option<bool> {
        Self::order(slot).map(|o| o > 0)
    }
}

/// The backend with layout `L`.
#[derive(Debug)]
pub struct Fixed<L> {
    range: PageRange,
    owner: u64,
    hmm_pfns: KvArray<u64>,
    default_flags: u64,
    pfn_flags_mask: u64,
    layout: PhantomData<L>,
}

/// The arrays of one call. Only the bits of [`REQ`] are left in default and mask: nothing else is a wish.
///
/// `READS` is false where the default is the wish of every page, so that no slot is read to know it.
struct InOut<'a, L, const READS: bool> {
    hmm_pfns: &'a mut [u64],
    default_flags: u64,
    pfn_flags_mask: u64,
    layout: PhantomData<L>,
}

/// Bits 63, 62 and 61 for VALID, WRITE and ERROR.
#[inline(always)]
pub(super) fn flag_bits(flags: Flags) -> u64 {
    let f = flags.bits() as u64;
    (f & 1) << 63 | (f & 2) << 61 | (f & 4) << 59
}

/// VALID and WRITE of the bits 63 and 62.
#[inline(always)]
pub(super) fn wish_flags(req: u64) -> Flags {
    Flags::from_bits_retain(((req >> 63) | (req >> 61) & 2) as u8)
}

/// The slot of a plainly present entry: the frame moves to bit 0, RW (bit 1) to WRITE (bit 62), and one mask clears what
/// both bring along.
#[inline(always)]
pub(super) fn present_bits(e: Entry) -> u64 {
    const FRAME: u64 = (1 << 40) - 1;
    (e.bits() >> 12 | e.bits() << 61) & (FRAME | WRITE) | VALID
}

/// [`present_bits`] for many entries at once; with `needs_write` only for those that are writable.
#[cfg(not(loom))]
fn plain_decode(needs_write: bool) -> Decode<12, 61> {
    const FRAME: u64 = (1 << 40) - 1;
    let (mask, value) = Entry::plain_test(needs_write);
    Decode { mask, value, keep: FRAME | WRITE, set: VALID }
}

/// The bits of a slot that can be a wish.
pub(super) const REQ: u64 = VALID | WRITE;

/// Whether a present page with this new slot lacks something that `req`, which holds no other bits than [`REQ`], asks
/// for: only if both are asked for and the slot has no WRITE. Then, and only then, the wish is the larger number: a slot
/// has VALID on top and a frame at the bottom. One comparison, which needs the old slot of every page, as the kernel
/// reads it.
#[inline(always)]
pub(super) fn lacks(req: u64, slot: u64) -> bool {
    req > slot
}

/// The request bits of a wish: its two bits moved to the top, without a branch, since prepare does it page by page.
#[inline(always)]
pub(super) fn req_flags(wish: Wish) -> u64 {
    let wish = wish as u64;
    (wish & 1) << 63 | (wish & 2) << 61
}

const _: () = assert!(Wish::None as u8 == 0 && Wish::Read as u8 == 1 && Wish::Write as u8 == 3);

/// The device entry of a slot whose frame lies under `pfn_mask`.
#[inline(always)]
pub(super) fn device_entry(slot: u64, pfn_mask: u64) -> DeviceEntry {
    if slot & VALID == 0 {
        return DeviceEntry::default();
    }
    // One entry per base page: where the slot knows an order, it is there for a consumer that steps by it.
    DeviceEntry::new(Pfn::new(slot & pfn_mask), slot & WRITE != 0, 0)
}

/// What a slot says whose frame lies under `pfn_mask` and that knows no size.
pub(super) fn view(slot: u64, pfn_mask: u64) -> PageView {
    if slot & ERROR != 0 {
        PageView::Error
    } else if slot & VALID == 0 {
        PageView::Absent
    } else {
        PageView::Mapped {
            pfn: Pfn::new(slot & pfn_mask),
            write: Some(slot & WRITE != 0),
            order: None,
            compound: None,
            device: None,
        }
    }
}

impl<L: Layout, const READS: bool> InOut<'_, L, READS> {
    #[inline(always)]
    fn encode(a: Answer) -> u64 {
        a.pfn | flag_bits(a.flags) | L::size(a.order)
    }
    #[inline(always)]
    fn req(&self, k: usize) -> u64 {
        if READS { self.hmm_pfns[k] & self.pfn_flags_mask | self.default_flags } else { self.default_flags }
    }
    /// [`plain_run`] where all entries must pass one and the same test, since no slot holds a wish: one branch for a
    /// group of them. A group with an entry that does not pass is looked at again one by one.
    #[inline(always)]
    fn alike_run<const NEEDS_WRITE: bool>(self, table: Table<'_>, first: usize) -> usize {
        const GROUP: usize = 4;
        let (mask, value) = Entry::plain_test(NEEDS_WRITE);
        let out = self.hmm_pfns;
        let run = table.ptep_run(first, out.len());
        let mut done = 0;
        for (slots, group) in out.as_chunks_mut::<GROUP>().0.iter_mut().zip(run.groups::<GROUP>()) {
            // What must be set is set in all of them, what must not be is set in none.
            let all = group.iter().fold(!0, |bits, e| bits & e.bits());
            let any = group.iter().fold(0, |bits, e| bits | e.bits());
            if (all & value | any & !value) & mask != value {
                break;
            }
            for (slot, e) in slots.iter_mut().zip(group) {
                Self::store(slot, in_general_register(present_bits(e)));
            }
            done += GROUP;
        }
        for (k, slot) in out.iter_mut().enumerate().skip(done) {
            let e = run.ptep_get(k);
            if e.bits() & mask != value {
                return k;
            }
            Self::store(slot, present_bits(e));
        }
        out.len()
    }
    /// The plain store, or a read-modify-write where the caller owns bits.
    #[inline(always)]
    fn store(slot: &mut u64, new: u64) {
        *slot = if L::STICKY == 0 { new } else { *slot & L::STICKY | new };
    }
}

impl<L: Layout, const READS: bool> Slots for InOut<'_, L, READS> {
    const UNIFORM: bool = !READS;
    type Chunk<'s>
        = InOut<'s, L, READS>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        (self.default_flags | self.pfn_flags_mask) & VALID != 0
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> InOut<'_, L, READS> {
        InOut { hmm_pfns: &mut self.hmm_pfns[i..i + n], ..*self }
    }
    #[inline(always)]
    fn put_run(&mut self, i: usize, n: usize, first: Answer) -> u64 {
        let base = Self::encode(first);
        let n = if L::FIRST_SLOT_ONLY && first.order > 0 { 1 } else { n };
        for (k, slot) in self.hmm_pfns[i..i + n].iter_mut().enumerate() {
            Self::store(slot, base + k as u64);
        }
        n as u64
    }
    #[inline(always)]
    fn fill(&mut self, i: usize, n: usize, answer: Answer) -> u64 {
        let new = Self::encode(answer);
        for slot in &mut self.hmm_pfns[i..i + n] {
            Self::store(slot, new);
        }
        n as u64
    }
}

impl<L: Layout, const READS: bool> Chunk for InOut<'_, L, READS> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.hmm_pfns.len()
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        wish_flags(self.req(k))
    }
    #[inline(always)]
    fn put(&mut self, k: usize, answer: Answer) {
        Self::store(&mut self.hmm_pfns[k], Self::encode(answer));
    }
    #[inline(always)]
    fn plain_run<const MAY_FAULT: bool>(self, table: Table<'_>, first: usize) -> usize {
        if !L::HOISTS_MASK || (MAY_FAULT && READS) {
            return plain_run::<_, MAY_FAULT>(table, first, self);
        }
        let needs_write = MAY_FAULT && self.default_flags & WRITE != 0;
        #[cfg(not(loom))] // loom's entries are no words
        if L::WIDE {
            return table.decode_run(first, self.hmm_pfns, plain_decode(needs_write));
        }
        if needs_write { self.alike_run::<true>(table, first) } else { self.alike_run::<false>(table, first) }
    }
    #[inline(always)]
    fn answer_present<const MAY_FAULT: bool>(&mut self, k: usize, e: Entry) -> bool {
        let slot = present_bits(e);
        if MAY_FAULT && lacks(self.req(k), slot) {
            return false;
        }
        Self::store(&mut self.hmm_pfns[k], slot);
        true
    }
}

impl<L: Layout> Fixed<L> {
    /// The slots of the last call, as the kernel's caller sees them.
    pub fn hmm_pfns(&self) -> &[u64] {
        &self.hmm_pfns[..self.range.nr_pages() as usize]
    }
    /// The same, for the caller to write to between calls.
    pub fn hmm_pfns_mut(&mut self) -> &mut [u64] {
        &mut self.hmm_pfns[..self.range.nr_pages() as usize]
    }
    /// A call with raw flags, for recorded scenarios: `fill` writes the inputs.
    pub fn prepare_raw(
        &mut self,
        range: PageRange,
        default_flags: u64,
        pfn_flags_mask: u64,
        owner: u64,
        fill: impl FnOnce(&mut [u64]),
    ) {
        self.range = range;
        self.default_flags = default_flags;
        self.pfn_flags_mask = pfn_flags_mask;
        self.owner = owner;
        fill(self.hmm_pfns_mut());
    }
    /// `hmm_range_fault` of this generation.
    pub(super) fn call<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<(), End> {
        self.call_part(at, self.range, c, &mut unless_moved(sub, seq))
    }
    /// The same over a part of the range, with the caller's own test of the sequence.
    pub(super) fn call_part<C: Counters>(
        &mut self,
        at: Locked<'_>,
        part: PageRange,
        c: &mut C,
        before_walk: &mut impl FnMut(VirtAddr) -> Result<(), End>,
    ) -> Result<(), End> {
        if L::HOISTS_MASK && self.pfn_flags_mask & REQ == 0 {
            self.call_with::<C, false>(at, part, c, before_walk)
        } else {
            self.call_with::<C, true>(at, part, c, before_walk)
        }
    }
    /// What a call over a part left to be done.
    #[cold]
    pub(super) fn do_later<C: Counters>(
        &mut self,
        at: Locked<'_>,
        later: Later,
        c: &mut C,
    ) -> Result<(), End> {
        let n = self.range.nr_pages() as usize;
        let mut slots: InOut<'_, L, true> = InOut {
            hmm_pfns: &mut self.hmm_pfns[..n],
            default_flags: self.default_flags & REQ,
            pfn_flags_mask: self.pfn_flags_mask & REQ,
            layout: PhantomData,
        };
        let call = Part { part: self.range, range: self.range, owner: self.owner };
        do_later::<_, L::Quirks, C>(at, call, later, &mut slots, c)
    }
    fn call_with<C: Counters, const READS: bool>(
        &mut self,
        at: Locked<'_>,
        part: PageRange,
        c: &mut C,
        before_walk: &mut impl FnMut(VirtAddr) -> Result<(), End>,
    ) -> Result<(), End> {
        let n = self.range.nr_pages() as usize;
        let mut slots: InOut<'_, L, READS> = InOut {
            hmm_pfns: &mut self.hmm_pfns[..n],
            default_flags: self.default_flags & REQ,
            pfn_flags_mask: self.pfn_flags_mask & REQ,
            layout: PhantomData,
        };
        let call = Part { part, range: self.range, owner: self.owner };
        hmm_range_fault_part::<_, L::Quirks, C>(at, call, &mut slots, c, before_walk)
    }

    /// Stage 3 of a consumer that steps by the order in the slots.
    #[inline(always)]
    fn consume_by_order<C: Counters>(&self, part: PageRange, device: &mut DeviceTable, c: &mut C) {
        let n = part.nr_pages() as usize;
        let slots = self.slots(part);
        let mut writer = device.write(part);
        let (mut i, mut read, mut entries) = (0, 0, 0);
        while i < n {
            // Single pages, up to the next larger mapping.
            let mut single = 0;
            for (d, &slot) in writer.pages_from(i).iter_mut().zip(&slots[i..n]) {
                if slot & VALID != 0 && L::order(slot) != Some(0) {
                    break;
                }
                *d = device_entry(slot, L::PFN_MASK);
                single += 1;
            }
            (i, read, entries) = (i + single, read + single, entries + single as u64);
            if i == n {
                break;
            }
            let slot = slots[i];
            let (pfn, order) = (Pfn::new(slot & L::PFN_MASK), L::order(slot).unwrap_or(0));
            // Frames of a mapping are aligned as its addresses are.
            let left = (1 << order) - (pfn.get() & ((1 << order) - 1));
            let pages = (n - i).min(left as usize);
            entries += writer.leaf(i, pages, pfn, slot & WRITE != 0, order);
            (i, read) = (i + pages, read + 1);
        }
        c.add(Count::ArrayBytes, 8 * read as u64);
        c.add(Count::DeviceEntries, entries);
    }

    /// The slots of a part of the range.
    fn slots(&self, part: PageRange) -> &[u64] {
        let first = part.start().pages_since(self.range.start()) as usize;
        &self.hmm_pfns[first..first + part.nr_pages() as usize]
    }

    /// Stage 3 of a part of the range.
    #[inline(always)]
    pub(super) fn consume_part<C: Counters>(&self, part: PageRange, device: &mut DeviceTable, c: &mut C) {
        if L::CONSUMER_STEPS {
            return self.consume_by_order(part, device, c);
        }
        program(device, part, self.slots(part), c, |&slot| device_entry(slot, L::PFN_MASK));
    }

    /// Writes the wishes of a request for a part of the range of the last `prepare`, over what stands there.
    pub(super) fn refill_part<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        let Some(wishes) = request.per_page else { return };
        let first = request.range.start().pages_since(self.range.start()) as usize;
        for (slot, wish) in self.hmm_pfns[first..].iter_mut().zip(wishes) {
            *slot = *slot & L::STICKY | req_flags(*wish);
        }
        c.add(Count::ArrayBytes, 8 * wishes.len() as u64);
    }

    /// The slot that answers for page `i` after a walk that started at `origin`, and how many pages before it that slot
    /// stands.
    fn slot_for(&self, i: usize, origin: VirtAddr) -> (u64, u64) {
        if L::FIRST_SLOT_ONLY {
            let addr = self.range.start().add_pages(i as u64);
            // A slot at the start of a block, or of the walk, is written by every walk, unless a larger mapping covers
            // it: so the larger blocks are asked first.
            for level in [Level::Pud, Level::Pmd] {
                let start = addr.align_down(level).max(origin);
                let within = addr.pages_since(start);
                let slot = self.hmm_pfns[i - within as usize];
                if slot & VALID != 0 && L::order(slot) == Some(level.order()) {
                    return (slot, within);
                }
            }
        }
        (self.hmm_pfns[i], 0)
    }
}

impl<L: Layout> Backend for Fixed<L> {
    const INFO: Info = L::INFO;

    fn new(capacity: usize) -> Self {
        Fixed {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            hmm_pfns: KvArray::new(0, capacity),
            default_flags: 0,
            pfn_flags_mask: 0,
            layout: PhantomData,
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        let mask = if request.per_page.is_some() { VALID | WRITE } else { 0 };
        self.prepare_raw(request.range, req_flags(request.default), mask, request.owner, |_| {});
        self.refill_part(request, c);
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        self.call(at, sub, seq, c)?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        self.consume_part(self.range, device, c);
    }

    fn view(&self, i: usize) -> PageView {
        self.view_after(i, self.range.start())
    }

    fn range(&self) -> PageRange {
        self.range
    }
}

impl<L: Layout> Fixed<L> {
    /// Slot `i` of the answer of a walk that started at `origin`.
    pub(super) fn view_after(&self, i: usize, origin: VirtAddr) -> PageView {
        let (slot, within) = self.slot_for(i, origin);
        match view(slot, L::PFN_MASK) {
            PageView::Mapped { pfn, write, device, .. } => {
                let (order, compound) = (L::order(slot), L::compound(slot));
                PageView::Mapped { pfn: pfn.add(within), write, order, compound, device }
            }
            other => other,
        }
    }
}
