//! `map_order`: hmm_range_fault of 5.9 to 6.15, with the order of the mapping in five bits of each slot.
//!
//! **Models** semantics 1.6 and 1.7 up to 6.15 (Campbell v3, 1 July 2020): fixed flags in one in/out array, bits 63
//! VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR, 56..60 order, the rest the frame. Behaviour is that of 6.12.
//!
//! **Promises** one slot per base page; order 9 for PMD leaves, 18 for PUD leaves, the hugetlb order for hugetlb; the
//! mapping may reach beyond the range at both ends.
//!
//! **Cannot say**: that a large folio mapped by PTEs is contiguous (order 0); whether a page is the caller's device
//! memory (the struct page tells).
//!
//! **Costs** a store per slot, a load per slot as soon as anything may fault, also under huge leaves.

use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::arch::Entry;
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::backends::hmm_core::{Answer, Chunk, Flags, Quirks, Slots, hmm_range_fault};
use crate::counters::{Count, Counters};
use crate::mirror::{DeviceEntry, DeviceTable};
use crate::mm::{Errno, Mm};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};

/// HMM_PFN_VALID and HMM_PFN_REQ_FAULT.
pub const VALID: u64 = 1 << 63;
/// HMM_PFN_WRITE and HMM_PFN_REQ_WRITE.
pub const WRITE: u64 = 1 << 62;
/// HMM_PFN_ERROR.
pub const ERROR: u64 = 1 << 61;
/// Position of the order field.
pub const ORDER_SHIFT: u32 = 56;
/// The order field.
pub const ORDER_MASK: u64 = 0x1f << ORDER_SHIFT;
const PFN_MASK: u64 = (1 << ORDER_SHIFT) - 1;

struct MapOrderQuirks;
impl Quirks for MapOrderQuirks {}

/// The backend. See the module.
#[derive(Debug)]
pub struct MapOrder {
    range: PageRange,
    owner: u64,
    hmm_pfns: Vec<u64>,
    default_flags: u64,
    pfn_flags_mask: u64,
}

struct InOut<'a> {
    hmm_pfns: &'a mut [u64],
    default_flags: u64,
    pfn_flags_mask: u64,
}

impl Slots for InOut<'_> {
    type Chunk<'s>
        = InOut<'s>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        (self.default_flags | self.pfn_flags_mask) & VALID != 0
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> InOut<'_> {
        InOut { hmm_pfns: &mut self.hmm_pfns[i..i + n], ..*self }
    }
    #[inline(always)]
    fn put_run(&mut self, i: usize, n: usize, first: Answer) {
        let base = encode(first);
        for (k, slot) in self.hmm_pfns[i..i + n].iter_mut().enumerate() {
            *slot = base + k as u64;
        }
    }
    #[inline(always)]
    fn fill(&mut self, i: usize, n: usize, answer: Answer) {
        self.hmm_pfns[i..i + n].fill(encode(answer));
    }
}

impl Chunk for InOut<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.hmm_pfns.len()
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        let req = self.hmm_pfns[k] & self.pfn_flags_mask | self.default_flags;
        // Bits 63 and 62 become bits 0 and 1.
        Flags::from_bits_retain(((req >> 63) | (req >> 61) & 2) as u8)
    }
    #[inline(always)]
    fn put(&mut self, k: usize, answer: Answer) {
        self.hmm_pfns[k] = encode(answer);
    }
    #[inline(always)]
    fn answer_present<const MAY_FAULT: bool>(&mut self, k: usize, e: Entry) -> bool {
        // RW is bit 1 of the entry, WRITE bit 62 of the slot.
        let slot = e.plain_pfn() | VALID | (e.is_write() as u64) << 62;
        if MAY_FAULT {
            // A present page lacks something only if FAULT (bit 63) and WRITE (62) are wished and the new slot has no
            // WRITE: all in the sign bit, so that the old slot is read for every page, as the kernel reads it.
            let req = self.hmm_pfns[k] & self.pfn_flags_mask | self.default_flags;
            if ((((req & !slot) << 1) & req) as i64) < 0 {
                return false;
            }
        }
        self.hmm_pfns[k] = slot;
        true
    }
}

#[inline(always)]
fn encode(a: Answer) -> u64 {
    let f = a.flags.bits() as u64;
    a.pfn | (f & 1) << 63 | (f & 2) << 61 | (f & 4) << 59 | (a.order as u64) << ORDER_SHIFT
}

fn req_flags(wish: Wish) -> u64 {
    match wish {
        Wish::None => 0,
        Wish::Read => VALID,
        Wish::Write => VALID | WRITE,
    }
}

impl MapOrder {
    /// The slots of the last call, as the kernel's caller sees them.
    pub fn hmm_pfns(&self) -> &[u64] {
        &self.hmm_pfns[..self.range.nr_pages() as usize]
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
        fill(&mut self.hmm_pfns[..range.nr_pages() as usize]);
    }
}

impl Backend for MapOrder {
    const INFO: Info = Info {
        id: "map_order",
        kernel: "5.9-6.15",
        kind: Kind::Historic,
        capabilities: &[
            Capability::Snapshot,
            Capability::Fault,
            Capability::PerPageRequest,
            Capability::Permission,
            Capability::Order,
            Capability::Compound,
            Capability::DevicePrivate,
            Capability::CrossVma,
        ],
    };

    fn new(capacity: usize) -> Self {
        let range = PageRange::pages(VirtAddr::new(0), 0);
        MapOrder { range, owner: 0, hmm_pfns: vec![0; capacity], default_flags: 0, pfn_flags_mask: 0 }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.range = request.range;
        self.owner = request.owner;
        self.default_flags = req_flags(request.default);
        self.pfn_flags_mask = 0;
        if let Some(wishes) = request.per_page {
            self.pfn_flags_mask = VALID | WRITE;
            for (slot, wish) in self.hmm_pfns.iter_mut().zip(wishes) {
                *slot = req_flags(*wish);
            }
            c.add(Count::ArrayBytes, 8 * wishes.len() as u64);
        }
    }

    fn walk<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, seq: u64, c: &mut C) -> Result<u64, Errno> {
        let n = self.range.nr_pages() as usize;
        let mut slots = InOut {
            hmm_pfns: &mut self.hmm_pfns[..n],
            default_flags: self.default_flags,
            pfn_flags_mask: self.pfn_flags_mask,
        };
        let vmas = mm.mmap_read();
        hmm_range_fault::<_, MapOrderQuirks, C>(
            mm.locked(&vmas),
            sub,
            seq,
            self.range,
            self.owner,
            &mut slots,
            c,
        )?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        let out = device.entries_mut(self.range);
        let n = out.len();
        for (d, &slot) in out.iter_mut().zip(&self.hmm_pfns) {
            // One entry per base page: the order is there for a consumer that steps by it.
            *d = if slot & VALID != 0 {
                DeviceEntry::new(Pfn::new(slot & PFN_MASK), slot & WRITE != 0, 0)
            } else {
                DeviceEntry::default()
            };
        }
        c.add(Count::ArrayBytes, 8 * n as u64);
        c.add(Count::DeviceEntries, n as u64);
    }

    fn view(&self, i: usize) -> PageView {
        let slot = self.hmm_pfns[i];
        if slot & ERROR != 0 {
            PageView::Error
        } else if slot & VALID == 0 {
            PageView::Absent
        } else {
            let order = ((slot & ORDER_MASK) >> ORDER_SHIFT) as u8;
            PageView::Mapped {
                pfn: Pfn::new(slot & PFN_MASK),
                write: Some(slot & WRITE != 0),
                order: Some(order),
                compound: Some(order > 0),
                device: None,
            }
        }
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
