//! `driver_format`: hmm_vma_get_pfns and hmm_vma_fault of 4.17 to 5.1, in the driver's own format.
//!
//! **Models** semantics 1.2: a wish in each slot, in the driver's bits; the answer in the driver's bits or one of its
//! three values. Three formats are known as data: [`LOW_BITS`] (registered), [`TOP_BITS`], [`SHIFT_7`]; the format is
//! looked up at run time, so all have the same cost and the same answers.
//!
//! **Promises** one VMA a call; that a page it reports is in the tables. Not that it fulfils the wish: wishes are
//! destroyed inside the call, before the fault, and the span is faulted with the need of its first page that has one.
//! A read and a write wish in one hole give a read fault for both, and the write wish is lost. A write wish in a VMA
//! that is not writable gives a read-only page, not an error.
//!
//! **Cannot say** how large a mapping is; that a NUMA hint is no access (it counts as present). hugetlb, VM_SPECIAL and
//! ranges beyond the VMA are -EINVAL, unreadable VMAs -EPERM, also for a snapshot. A snapshot that meets poison stops
//! there and answers 0; the model knows where, the driver did not.
//!
//! **Costs** a wish written and read per slot, a run-time format per load and store, two stores per slot that faults.
//!
//! Its own validity rule (a flag cleared at the start of an invalidation, 4.20+, or its end) is not modelled: it runs
//! under the interval notifier as all do. Nothing tests the sequence inside the call.

use crate::backend::{Capability, Info, Kind};
use crate::backends::driver::{Driver, DriverSlots, RangeCall, old_call};
use crate::backends::hmm_old::{Call, Generation, Version};
use crate::counters::Counters;
use crate::mm::Errno;

pub use crate::backends::driver::{LOW_BITS, SHIFT_7, TOP_BITS};

/// The backend. See the module.
pub type DriverFormat = Driver<V4_17>;

/// 4.17 to 5.1.
#[derive(Debug)]
pub struct V4_17;

impl Generation for V4_17 {
    const VERSION: Version = Version::V4_17;
}

impl RangeCall for V4_17 {
    const INFO: Info = Info {
        id: "driver_format",
        kernel: "4.17-5.1",
        kind: Kind::Historic,
        capabilities: &[
            Capability::Snapshot,
            Capability::Fault,
            Capability::PerPageRequest,
            Capability::Permission,
            Capability::DevicePrivate,
        ],
    };
    const HAS_DEFAULT: bool = false;
    fn call<C: Counters>(call: Call<'_>, slots: &mut DriverSlots, c: &mut C) -> Result<usize, Errno> {
        old_call::<V4_17, C>(call, slots, c)
    }
}
