//! The formats with fixed bits in one in/out array (5.8 to today), as one backend over a [`Layout`].
//!
//! Bits 63 VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR; the frame at the bottom. A layout adds how large the
//! mapping is and which bits belong to the caller; the behaviour behind it is [`hmm_range_fault`] with its quirks.
//!
//! One property of all of them: input and output share the slot, so an output left in place asks for more the next
//! time (the table of semantics 1.5). [`Backend::prepare`] refills.

use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::backend::{Backend, Capability, Info, PageView};
use crate::backends::hmm_core::{Answer, Chunk, End, Flags, Quirks, Slots, hmm_range_fault};
use crate::backends::program;
use crate::counters::{Count, Counters};
use crate::mirror::{DeviceEntry, DeviceTable};
use crate::mm::{Errno, Locked, Mm};
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
    /// The frame.
    const PFN_MASK: u64;
    /// Bits that belong to the caller and survive every store.
    const STICKY: u64 = 0;
    /// The bits that tell the size of a mapping of `1 << order` pages.
    fn size(order: u8) -> u64;
    /// log2 of the base pages of the mapping, if the slot says it.
    fn order(slot: u64) -> Option<u8>;
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
    hmm_pfns: Vec<u64>,
    default_flags: u64,
    pfn_flags_mask: u64,
    layout: PhantomData<L>,
}

struct InOut<'a, L> {
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

/// Whether a present page with this new slot lacks something that `req` asks for: only if FAULT (bit 63) and WRITE (62)
/// are asked for and the slot has no WRITE. All in the sign bit, so that the old slot is read for every page, as the
/// kernel reads it.
#[inline(always)]
pub(super) fn lacks(req: u64, slot: u64) -> bool {
    ((((req & !slot) << 1) & req) as i64) < 0
}

/// The request bits of a wish.
pub(super) fn req_flags(wish: Wish) -> u64 {
    match wish {
        Wish::None => 0,
        Wish::Read => VALID,
        Wish::Write => VALID | WRITE,
    }
}

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

impl<L: Layout> InOut<'_, L> {
    #[inline(always)]
    fn encode(a: Answer) -> u64 {
        a.pfn | flag_bits(a.flags) | L::size(a.order)
    }
    #[inline(always)]
    fn req(&self, k: usize) -> u64 {
        self.hmm_pfns[k] & self.pfn_flags_mask | self.default_flags
    }
    /// The plain store, or a read-modify-write where the caller owns bits.
    #[inline(always)]
    fn store(slot: &mut u64, new: u64) {
        *slot = if L::STICKY == 0 { new } else { *slot & L::STICKY | new };
    }
}

impl<L: Layout> Slots for InOut<'_, L> {
    type Chunk<'s>
        = InOut<'s, L>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        (self.default_flags | self.pfn_flags_mask) & VALID != 0
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> InOut<'_, L> {
        InOut { hmm_pfns: &mut self.hmm_pfns[i..i + n], ..*self }
    }
    #[inline(always)]
    fn put_run(&mut self, i: usize, n: usize, first: Answer) {
        let base = Self::encode(first);
        for (k, slot) in self.hmm_pfns[i..i + n].iter_mut().enumerate() {
            Self::store(slot, base + k as u64);
        }
    }
    #[inline(always)]
    fn fill(&mut self, i: usize, n: usize, answer: Answer) {
        let new = Self::encode(answer);
        for slot in &mut self.hmm_pfns[i..i + n] {
            Self::store(slot, new);
        }
    }
}

impl<L: Layout> Chunk for InOut<'_, L> {
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
        let n = self.range.nr_pages() as usize;
        let mut slots: InOut<'_, L> = InOut {
            hmm_pfns: &mut self.hmm_pfns[..n],
            default_flags: self.default_flags,
            pfn_flags_mask: self.pfn_flags_mask,
            layout: PhantomData,
        };
        hmm_range_fault::<_, L::Quirks, C>(at, sub, seq, self.range, self.owner, &mut slots, c)
    }
}

impl<L: Layout> Backend for Fixed<L> {
    const INFO: Info = L::INFO;

    fn new(capacity: usize) -> Self {
        Fixed {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            hmm_pfns: vec![0; capacity],
            default_flags: 0,
            pfn_flags_mask: 0,
            layout: PhantomData,
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        let mask = if request.per_page.is_some() { VALID | WRITE } else { 0 };
        self.prepare_raw(request.range, req_flags(request.default), mask, request.owner, |_| {});
        if let Some(wishes) = request.per_page {
            for (slot, wish) in self.hmm_pfns.iter_mut().zip(wishes) {
                *slot = *slot & L::STICKY | req_flags(*wish);
            }
            c.add(Count::ArrayBytes, 8 * wishes.len() as u64);
        }
    }

    fn walk<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, seq: u64, c: &mut C) -> Result<u64, Errno> {
        let vmas = mm.mmap_read();
        self.call(mm.locked(&vmas), sub, seq, c)?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        program(device, self.range, &self.hmm_pfns, c, |&slot| device_entry(slot, L::PFN_MASK));
    }

    fn view(&self, i: usize) -> PageView {
        let slot = self.hmm_pfns[i];
        match view(slot, L::PFN_MASK) {
            PageView::Mapped { pfn, write, device, .. } => {
                PageView::Mapped { pfn, write, order: L::order(slot), compound: L::compound(slot), device }
            }
            other => other,
        }
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
