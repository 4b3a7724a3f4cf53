//! `split_arrays`: an optional array of wishes and a separate array of answers, proposed and not merged.
//!
//! **Models** semantics 1.4 (Hellwig, March 2020): the wishes are the caller's and are only read; the answers have
//! fixed high bits (63 VALID, 62 WRITE, 61 ERROR) above the frame. Behaviour is that of 5.8.
//!
//! **Promises** that wishes survive: after a collision the call is simply repeated, nothing is refilled and nothing
//! escalates. Without a wish array the range default alone holds.
//!
//! **Cannot say** how large a mapping is; whether a page is the caller's device memory.
//!
//! **Costs** a second stream: 16 bytes of array a page (answer written, answer consumed) with a default alone, 24 with
//! wishes, and 8 more when the caller writes them.

use super::kvarray::KvArray;
use crate::addr::{PageRange, VirtAddr};
use crate::arch::Entry;
use crate::backend::{Backend, Info, Kind, PageView};
use crate::backends::fixed::{
    CAPABILITIES, ERROR, REQ, VALID, device_entry, flag_bits, lacks, present_bits, req_flags, view,
    wish_flags,
};
use crate::backends::hmm_core::{Quirks5_8, hmm_range_fault};
use crate::backends::program;
use crate::backends::slots::{Answer, Chunk, Flags, Slots};
use crate::counters::{Count, Counters};
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::Request;

const PFN_MASK: u64 = ERROR - 1;

/// The backend. See the module.
#[derive(Debug)]
pub struct SplitArrays {
    range: PageRange,
    owner: u64,
    default_flags: u64,
    has_wishes: bool,
    req_flags: KvArray<u64>,
    pfns: KvArray<u64>,
}

struct InAndOut<'a> {
    default_flags: u64,
    req_flags: Option<&'a [u64]>,
    pfns: &'a mut [u64],
}

impl Slots for InAndOut<'_> {
    type Chunk<'s>
        = InAndOut<'s>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        self.default_flags & VALID != 0 || self.req_flags.is_some()
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> InAndOut<'_> {
        InAndOut {
            default_flags: self.default_flags,
            req_flags: self.req_flags.map(|r| &r[i..i + n]),
            pfns: &mut self.pfns[i..i + n],
        }
    }
}

impl InAndOut<'_> {
    #[inline(always)]
    fn req(&self, k: usize) -> u64 {
        (self.default_flags | self.req_flags.map_or(0, |r| r[k])) & REQ
    }
}

impl Chunk for InAndOut<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.pfns.len()
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        wish_flags(self.req(k))
    }
    #[inline(always)]
    fn put(&mut self, k: usize, answer: Answer) {
        self.pfns[k] = answer.pfn | flag_bits(answer.flags);
    }
    #[inline(always)]
    fn answer_present<const MAY_FAULT: bool>(&mut self, k: usize, e: Entry) -> bool {
        let slot = present_bits(e);
        if MAY_FAULT && lacks(self.req(k), slot) {
            return false;
        }
        self.pfns[k] = slot;
        true
    }
}

impl SplitArrays {
    /// The wishes as the caller left them.
    pub fn req_flags(&self) -> &[u64] {
        &self.req_flags[..self.range.nr_pages() as usize]
    }
}

impl Backend for SplitArrays {
    const INFO: Info = Info {
        id: "split_arrays",
        kernel: "proposed 2020-03",
        kind: Kind::Historic,
        capabilities: &CAPABILITIES,
    };

    fn new(capacity: usize) -> Self {
        SplitArrays {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            default_flags: 0,
            has_wishes: false,
            req_flags: KvArray::new(0, capacity),
            pfns: KvArray::new(0, capacity),
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.range = request.range;
        self.owner = request.owner;
        self.default_flags = req_flags(request.default);
        self.has_wishes = request.per_page.is_some();
        let Some(wishes) = request.per_page else { return };
        for (req, wish) in self.req_flags.iter_mut().zip(wishes) {
            *req = req_flags(*wish);
        }
        c.add(Count::ArrayBytes, 8 * wishes.len() as u64);
    }

    /// Nothing: the wishes are still there.
    fn refill<C: Counters>(&mut self, _: &Request<'_>, _: &mut C) {}

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        let mut slots = InAndOut {
            default_flags: self.default_flags,
            req_flags: self.has_wishes.then_some(&self.req_flags),
            pfns: &mut self.pfns,
        };
        hmm_range_fault::<_, Quirks5_8, C>(at, sub, seq, self.range, self.owner, &mut slots, c)?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        program(device, self.range, &self.pfns, c, |&slot| device_entry(slot, PFN_MASK));
    }

    fn view(&self, i: usize) -> PageView {
        view(self.pfns[i], PFN_MASK)
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
