//! `pfn_bits`: hmm_vma_get_pfns and hmm_vma_fault of 4.14 to 4.16, the first format.
//!
//! **Models** semantics 1.1: slots are pure output, frame << 7 under VALID, READ, WRITE, ERROR, EMPTY, SPECIAL and
//! DEVICE_UNADDRESSABLE. READ was dropped in 4.17: writable but not readable makes no sense, so VALID implies READ.
//! The input is one `write` for the whole call, and a fault call wants every page.
//!
//! **Promises** one VMA a call. A fault batch starts over at the *start* of its 2 MiB slice and faults all of it.
//!
//! **Cannot say** what is wanted of single pages, and how large a mapping is. A NUMA hint counts as present; an
//! unreadable VMA is walked, and faulted, with VALID slots that lack READ (no view of the page). hugetlb and
//! VM_SPECIAL are all SPECIAL: -EINVAL for a snapshot, success for a fault call. Poison is ERROR without an errno.
//!
//! **Costs** a store per slot and no load. The wish cannot be destroyed, so a write fault that never gives write
//! permission (VMA not writable) spins for ever in the kernel, and ends in -EINTR here.
//!
//! Its own validity rule (slots zeroed at the *end* of an invalidation, after the entries changed) is not modelled: it
//! runs under the interval notifier as all do. Nothing tests the sequence inside the call. The kernel's type test of
//! an uninitialised swap entry is not reproduced either.

use super::kvarray::KvArray;
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::backends::hmm_core::counting_array_bytes;
use crate::backends::hmm_old::{Call, Generation, Version, range_call};
use crate::backends::program;
use crate::backends::slots::{Answer, Chunk, Flags, Slots};
use crate::counters::Counters;
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::mm::vma::VmFlags;
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};

/// HMM_PFN_VALID.
pub const VALID: u64 = 1 << 0;
/// HMM_PFN_READ.
pub const READ: u64 = 1 << 1;
/// HMM_PFN_WRITE.
pub const WRITE: u64 = 1 << 2;
/// HMM_PFN_ERROR.
pub const ERROR: u64 = 1 << 3;
/// HMM_PFN_EMPTY.
pub const EMPTY: u64 = 1 << 4;
/// HMM_PFN_SPECIAL.
pub const SPECIAL: u64 = 1 << 5;
/// HMM_PFN_DEVICE_UNADDRESSABLE.
pub const DEVICE_UNADDRESSABLE: u64 = 1 << 6;
/// HMM_PFN_SHIFT.
pub const PFN_SHIFT: u32 = 7;

struct V4_14;
impl Generation for V4_14 {
    const VERSION: Version = Version::V4_14;
}

/// The backend. See the module.
#[derive(Debug)]
pub struct PfnBits {
    range: PageRange,
    write: Option<bool>,
    reached: usize,
    pfns: KvArray<u64>,
}

struct Output<'a> {
    pfns: &'a mut [u64],
    /// None for a snapshot.
    write: Option<bool>,
    /// READ if the VMA, which the driver hands over, is readable.
    read: u64,
}

impl Slots for Output<'_> {
    type Chunk<'s>
        = Output<'s>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        self.write.is_some()
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> Output<'_> {
        Output { pfns: &mut self.pfns[i..i + n], ..*self }
    }
}

impl Chunk for Output<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.pfns.len()
    }
    #[inline(always)]
    fn wish(&self, _: usize) -> Flags {
        match self.write {
            None => Flags::empty(),
            Some(false) => Flags::VALID,
            Some(true) => Flags::VALID | Flags::WRITE,
        }
    }
    #[inline(always)]
    fn put(&mut self, k: usize, a: Answer) {
        let mut slot = a.pfn << PFN_SHIFT;
        for (flag, bits) in [
            (Flags::VALID, VALID | self.read),
            (Flags::WRITE, WRITE),
            (Flags::ERROR, ERROR),
            (Flags::EMPTY, EMPTY),
            (Flags::SPECIAL, SPECIAL),
            (Flags::DEVICE, DEVICE_UNADDRESSABLE),
        ] {
            if a.flags.contains(flag) {
                slot |= bits;
            }
        }
        self.pfns[k] = slot;
    }
}

impl PfnBits {
    /// The slots of the last call, as the driver sees them.
    pub fn pfns(&self) -> &[u64] {
        &self.pfns[..self.range.nr_pages() as usize]
    }
    fn is_readable(slot: u64) -> bool {
        slot & (VALID | READ) == VALID | READ
    }
}

impl Backend for PfnBits {
    const INFO: Info = Info {
        id: "pfn_bits",
        kernel: "4.14-4.16",
        kind: Kind::Historic,
        capabilities: &[
            Capability::Snapshot,
            Capability::Fault,
            Capability::Permission,
            Capability::DevicePrivate,
        ],
    };

    fn new(capacity: usize) -> Self {
        let range = PageRange::pages(VirtAddr::new(0), 0);
        PfnBits { range, write: None, reached: 0, pfns: KvArray::new(0, capacity) }
    }

    /// Wishes for single pages cannot be said: the strongest holds for all.
    fn prepare<C: Counters>(&mut self, request: &Request<'_>, _c: &mut C) {
        let wish = request.per_page.into_iter().flatten().fold(request.default, |all, w| all.or(*w));
        self.range = request.range;
        self.write = (wish != Wish::None).then_some(wish == Wish::Write);
        self.reached = 0;
    }

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        let call = Call { at, sub, seq, range: self.range };
        let readable = at.vmas.find(self.range.start()).is_some_and(|v| v.has(VmFlags::READ));
        let mut slots =
            Output { pfns: &mut self.pfns, write: self.write, read: if readable { READ } else { 0 } };
        self.reached = 0;
        self.reached = counting_array_bytes(8, c, |c| range_call::<_, V4_14, C>(call, &mut slots, c))?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        let answered = PageRange::pages(self.range.start(), self.reached as u64);
        program(device, answered, &self.pfns, c, |&slot| {
            if Self::is_readable(slot) {
                DeviceEntry::new(Pfn::new(slot >> PFN_SHIFT), slot & WRITE != 0, 0)
            } else {
                DeviceEntry::default()
            }
        });
    }

    fn view(&self, i: usize) -> PageView {
        let slot = self.pfns[i];
        if i >= self.reached {
            PageView::Unreached
        } else if Self::is_readable(slot) {
            PageView::Mapped {
                pfn: Pfn::new(slot >> PFN_SHIFT),
                write: Some(slot & WRITE != 0),
                order: None,
                compound: None,
                device: Some(slot & DEVICE_UNADDRESSABLE != 0),
            }
        } else if slot & (ERROR | SPECIAL) != 0 {
            PageView::Error
        } else {
            PageView::Absent
        }
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
