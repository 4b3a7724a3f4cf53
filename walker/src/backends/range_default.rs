//! `range_default`: hmm_range_snapshot and hmm_range_fault of 5.2 to 5.7, still in the driver's format.
//!
//! **Models** semantics 1.3, one generation per type: [`V5_2`] (5.2, 5.3), [`V5_5`] (5.5, 5.6), [`V5_7`]; the last is
//! registered. The wish of a page is `(slot & pfn_flags_mask) | default_flags`, in the driver's bits. The three uses of
//! the thread: a default alone (mask 0, slots not written), wishes alone (default 0, mask all ones), a read default
//! with the write flag for single pages (mask = the write flag).
//!
//! **Promises** answers at least as strong as the default; several VMAs a call. From 5.7 on, slots keep their inputs on
//! an error, and a snapshot is a call in which no wish can reach the walk. Before, wishes are destroyed inside the call.
//!
//! **Cannot say** how large a mapping is. The encoder sets VALID on a page behind a NUMA hint (5.5+ snapshots), and on
//! a hugetlb entry without a page. 5.2 refuses the zero page as special, never faults swap, never waits for migration
//! (until 5.6), and its snapshots end at a refused entry without an error: the count returned tells. It does not check
//! VM_WRITE either: a write default in a VMA that is not writable spins for ever, -EINTR here. Its `page_shift`
//! (one slot per hugetlb page) is not modelled, nor `ALLOW_RETRY` and the timeout.
//!
//! **Costs** a run-time format per load and store, otherwise as `fixed_flags`; before 5.7 a fault call reads every slot
//! even if no wish can be in it, and stores twice where it faults.
//!
//! 5.2's own validity rule (a boolean that turns true again when the last invalidation ends, so that a whole one may go
//! unnoticed) is not modelled: it runs under the interval notifier, where 5.2 answers -EAGAIN or -EBUSY.

use crate::backend::{Capability, Info, Kind};
use crate::backends::driver::{Driver, DriverSlots, RangeCall, old_call};
use crate::backends::hmm_core::{Quirks5_8, hmm_range_fault};
use crate::backends::hmm_old::{Call, Generation, Version};
use crate::counters::Counters;
use crate::mm::Errno;

/// The backend, of generation `G`. See the module.
pub type RangeDefault<G> = Driver<G>;

const fn info(kernel: &'static str) -> Info {
    Info {
        id: "range_default",
        kernel,
        kind: Kind::Historic,
        capabilities: &[
            Capability::Snapshot,
            Capability::Fault,
            Capability::PerPageRequest,
            Capability::Permission,
            Capability::DevicePrivate,
            Capability::Hugetlb,
            Capability::ErrorPerPage,
            Capability::CrossVma,
        ],
    }
}

macro_rules! old_generation {
    ($(#[$doc:meta])* $name:ident, $kernel:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Generation for $name {
            const VERSION: Version = Version::$name;
        }
        impl RangeCall for $name {
            const INFO: Info = info($kernel);
            const HAS_DEFAULT: bool = true;
            fn call<C: Counters>(call: Call<'_>, slots: &mut DriverSlots, c: &mut C) -> Result<usize, Errno> {
                old_call::<$name, C>(call, slots, c)
            }
        }
    };
}

old_generation! {
    /// 5.2 and 5.3.
    V5_2, "5.2-5.3"
}
old_generation! {
    /// 5.5 and 5.6.
    V5_5, "5.5-5.6"
}

/// 5.7: the machine of today with the formats of yesterday.
#[derive(Debug)]
pub struct V5_7;

impl RangeCall for V5_7 {
    const INFO: Info = info("5.2-5.7");
    const HAS_DEFAULT: bool = true;
    fn call<C: Counters>(call: Call<'_>, slots: &mut DriverSlots, c: &mut C) -> Result<usize, Errno> {
        let Call { at, sub, seq, range } = call;
        let owner = slots.owner();
        slots.decide_by_reach();
        hmm_range_fault::<_, Quirks5_8, C>(at, sub, seq, range, owner, slots, c)?;
        Ok(range.nr_pages() as usize)
    }
}
