//! The designs whose slots have a format of the driver's own (4.17 to 5.7), as one backend over a [`RangeCall`]:
//! `driver_format` and `range_default`. The format is looked up at run time, as `flags[]`, `values[]` and `pfn_shift`
//! of `struct hmm_range`.

use super::kvarray::KvArray;
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::backend::{Backend, Info, PageView};
use crate::backends::hmm_core::counting_array_bytes;
use crate::backends::hmm_old::{Call, Generation, range_call};
use crate::backends::program;
use crate::backends::slots::{Answer, Chunk, Flags, Slots};
use crate::counters::{Count, Counters};
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};
use core::marker::PhantomData;

/// What a driver tells HMM about its page-table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// `flags[HMM_PFN_VALID]`.
    pub valid: u64,
    /// `flags[HMM_PFN_WRITE]`.
    pub write: u64,
    /// `flags[HMM_PFN_DEVICE_PRIVATE]`.
    pub device: u64,
    /// `values[HMM_PFN_ERROR]`, a whole slot.
    pub error: u64,
    /// `values[HMM_PFN_NONE]`.
    pub none: u64,
    /// `values[HMM_PFN_SPECIAL]`.
    pub special: u64,
    /// `pfn_shift`.
    pub pfn_shift: u32,
}

/// Flags in the low three bits, as amdgpu has them.
pub const LOW_BITS: Format =
    Format { valid: 1, write: 2, device: 4, error: !1, none: 0, special: !3, pfn_shift: 12 };
/// Flags at the top, the frame at the bottom: what 5.8 made the only format.
pub const TOP_BITS: Format = Format {
    valid: 1 << 63,
    write: 1 << 62,
    device: 1 << 61,
    error: 1 << 60,
    none: 0,
    special: 1 << 59,
    pfn_shift: 0,
};
/// The bits of 4.14 below a frame shifted by seven.
pub const SHIFT_7: Format =
    Format { valid: 1, write: 4, device: 64, error: 8, none: 16, special: 32, pfn_shift: 7 };

/// A range in a driver's format: the array, and how wishes reach the walk.
#[derive(Debug)]
pub struct DriverSlots {
    format: Format,
    pfns: KvArray<u64>,
    default_flags: u64,
    pfn_flags_mask: u64,
    may_fault: bool,
    range: PageRange,
    owner: u64,
    reached: usize,
}

impl DriverSlots {
    /// Slots for calls of up to `capacity` pages.
    fn new(capacity: usize, format: Format) -> Self {
        DriverSlots {
            format,
            pfns: KvArray::new(format.none, capacity),
            default_flags: 0,
            pfn_flags_mask: !0,
            may_fault: false,
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            reached: 0,
        }
    }
    /// The range of the last `prepare`.
    pub fn range(&self) -> PageRange {
        self.range
    }
    /// `dev_private_owner` of the last `prepare`.
    pub fn owner(&self) -> u64 {
        self.owner
    }
    /// The slots of the last call, as the driver sees them.
    pub fn pfns(&self) -> &[u64] {
        &self.pfns[..self.range.nr_pages() as usize]
    }
    /// 5.7: a fault call is one in which a wish can reach the walk.
    pub(super) fn decide_by_reach(&mut self) {
        self.may_fault = (self.default_flags | self.pfn_flags_mask) & self.format.valid != 0;
    }
    fn flags_of(&self, wish: Wish) -> u64 {
        match wish {
            Wish::None => 0,
            Wish::Read => self.format.valid,
            Wish::Write => self.format.valid | self.format.write,
        }
    }
    /// A call with these range-wide flags: `pfns` is written by the caller next.
    fn begin(&mut self, request: &Request<'_>, default_flags: u64, pfn_flags_mask: u64) {
        self.range = request.range;
        self.owner = request.owner;
        self.default_flags = default_flags;
        self.pfn_flags_mask = pfn_flags_mask;
        self.may_fault = !request.is_snapshot();
        self.reached = 0;
    }
    /// Wishes for a call that reads nothing but slots (4.17): every one is written.
    fn prepare_slots<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.begin(request, 0, !0);
        if self.may_fault {
            self.write_wishes(|i| request.wish(i), c);
        }
    }
    /// Wishes for a call with range-wide flags (5.2+): slots are written only if some page differs. A read default
    /// leaves only the write flag to the slots, the third use of the thread.
    fn prepare_default<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        let default_flags = self.flags_of(request.default);
        let Some(wishes) = request.per_page else { return self.begin(request, default_flags, 0) };
        let mask = match request.default {
            Wish::None => !0,
            Wish::Read => self.format.write,
            Wish::Write => 0,
        };
        self.begin(request, default_flags, mask);
        self.write_wishes(|i| wishes[i], c);
    }
    fn write_wishes<C: Counters>(&mut self, wish: impl Fn(usize) -> Wish, c: &mut C) {
        let n = self.range.nr_pages() as usize;
        for i in 0..n {
            self.pfns[i] = match wish(i) {
                Wish::None => self.format.none,
                wish => self.flags_of(wish),
            };
        }
        c.add(Count::ArrayBytes, 8 * n as u64);
    }
    /// `hmm_device_entry_to_page`: a slot that is none of the values and has the valid flag.
    #[inline(always)]
    fn is_valid(&self, slot: u64) -> bool {
        let f = &self.format;
        slot != f.none && slot != f.error && slot != f.special && slot & f.valid != 0
    }
    /// The frame of a valid slot.
    #[inline(always)]
    fn pfn(&self, slot: u64) -> Pfn {
        let f = &self.format;
        Pfn::new((slot & !(f.valid | f.write | f.device)) >> f.pfn_shift)
    }
    /// Stage 3.
    fn consume<C: Counters>(&self, device: &mut DeviceTable, c: &mut C) {
        let answered = PageRange::pages(self.range.start(), self.reached as u64);
        program(device, answered, &self.pfns, c, |&slot| {
            if self.is_valid(slot) {
                DeviceEntry::new(self.pfn(slot), slot & self.format.write != 0, 0)
            } else {
                DeviceEntry::default()
            }
        });
    }
    /// Slot `i` of the answer.
    fn view(&self, i: usize) -> PageView {
        let slot = self.pfns[i];
        if i >= self.reached {
            PageView::Unreached
        } else if self.is_valid(slot) {
            PageView::Mapped {
                pfn: self.pfn(slot),
                write: Some(slot & self.format.write != 0),
                order: None,
                compound: None,
                device: Some(slot & self.format.device != 0),
            }
        } else if slot == self.format.error || slot == self.format.special {
            PageView::Error
        } else {
            PageView::Absent
        }
    }
}

/// Some slots with what their meaning hangs on.
#[derive(Debug)]
pub struct DriverChunk<'a> {
    format: &'a Format,
    default_flags: u64,
    pfn_flags_mask: u64,
    pfns: &'a mut [u64],
}

impl Slots for DriverSlots {
    type Chunk<'s> = DriverChunk<'s>;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        self.may_fault
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> DriverChunk<'_> {
        DriverChunk {
            format: &self.format,
            default_flags: self.default_flags,
            pfn_flags_mask: self.pfn_flags_mask,
            pfns: &mut self.pfns[i..i + n],
        }
    }
}

impl Chunk for DriverChunk<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.pfns.len()
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        let req = self.pfns[k] & self.pfn_flags_mask | self.default_flags;
        let mut wish = Flags::empty();
        for (bit, flag) in [
            (self.format.valid, Flags::VALID),
            (self.format.write, Flags::WRITE),
            (self.format.device, Flags::DEVICE),
        ] {
            if req & bit != 0 {
                wish |= flag;
            }
        }
        wish
    }
    #[inline(always)]
    fn put(&mut self, k: usize, a: Answer) {
        let f = self.format;
        let has = |flag| a.flags.contains(flag);
        self.pfns[k] = if has(Flags::ERROR) {
            f.error
        } else if has(Flags::SPECIAL) {
            f.special
        } else if Answer::NONE == (Answer { flags: a.flags & Flags::VALID, ..a }) {
            f.none
        } else {
            // hmm_pfn_from_pfn sets VALID whatever the entry gives, protnone included.
            let write = if has(Flags::WRITE) { f.write } else { 0 };
            let device = if has(Flags::DEVICE) { f.device } else { 0 };
            a.pfn << f.pfn_shift | f.valid | write | device
        };
    }
}

/// The range call of one generation.
pub trait RangeCall: Send + 'static {
    /// The row of the registry.
    const INFO: Info;
    /// Whether there are range-wide flags besides the slots.
    const HAS_DEFAULT: bool;
    /// Does it; returns how many slots hold answers.
    ///
    /// # Errors
    /// What the call returns.
    fn call<C: Counters>(call: Call<'_>, slots: &mut DriverSlots, c: &mut C) -> Result<usize, Errno>;
}

/// The range call of the generations before 5.7.
pub(super) fn old_call<G: Generation, C: Counters>(
    call: Call<'_>,
    slots: &mut DriverSlots,
    c: &mut C,
) -> Result<usize, Errno> {
    counting_array_bytes(8, c, |c| range_call::<_, G, C>(call, slots, c))
}

/// The backend of generation `G`.
#[derive(Debug)]
pub struct Driver<G> {
    slots: DriverSlots,
    generation: PhantomData<G>,
}

impl<G> Driver<G> {
    /// A session of a driver with this format.
    pub fn with_format(capacity: usize, format: Format) -> Self {
        Driver { slots: DriverSlots::new(capacity, format), generation: PhantomData }
    }
    /// The slots as the driver sees them.
    pub fn slots(&self) -> &DriverSlots {
        &self.slots
    }
    /// The same, for the driver to write to between calls.
    pub fn slots_mut(&mut self) -> &mut [u64] {
        let n = self.slots.pfns().len();
        &mut self.slots.pfns[..n]
    }
}

impl<G: RangeCall> Backend for Driver<G> {
    const INFO: Info = G::INFO;

    fn new(capacity: usize) -> Self {
        Driver::with_format(capacity, LOW_BITS)
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        if G::HAS_DEFAULT {
            self.slots.prepare_default(request, c);
        } else {
            self.slots.prepare_slots(request, c);
        }
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        let call = Call { at, sub, seq, range: self.slots.range };
        self.slots.reached = 0;
        self.slots.reached = G::call(call, &mut self.slots, c)?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        self.slots.consume(device, c);
    }

    fn view(&self, i: usize) -> PageView {
        self.slots.view(i)
    }

    fn range(&self) -> PageRange {
        self.slots.range
    }
}
