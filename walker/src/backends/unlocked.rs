//! `unlocked`: hmm_range_fault_unlocked_timeout of the 7.3 development cycle.
//!
//! **Models** semantics 1.8: the format of `sticky_flags`. Callbacks record what must be faulted; the faults run
//! outside the walk, with nothing but the mmap lock, and may drop it (userfaultfd, I/O). The call takes the lock and
//! the sequence itself, starts over on a collision, and returns the fresh sequence.
//!
//! **Promises** that no -EBUSY reaches the caller while the budget lasts. The kernel's budget is a time; a model without
//! a clock counts passes. As the kernel's deadline, it starts anew when a fault dropped the lock (progress) and not on
//! a plain collision, and is looked at only with the lock held, after the sequence was read.
//!
//! **Cannot say** wishes for single pages: a pass that collided leaves outputs in the array, and the next one would
//! read them as wishes (semantics 1.5). Only range defaults are safe, so that is all it offers; the mechanism is still
//! there for a test to show it. There are no signals in the model: no -EINTR. An unstable mm (OOM reaper) is not
//! modelled.
//!
//! **Costs** as `sticky_flags`, and a second lookup of the VMA for each span that faults.

use crate::addr::PageRange;
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::{End, Quirks};
use crate::backends::sticky_flags::{ORDER_SHIFT, STICKY};
use crate::counters::{Count, Counters};
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::Subscription;
use crate::request::Request;

/// The layout and behaviour of the 7.3 cycle.
#[derive(Debug)]
pub struct V7_3;

impl Quirks for V7_3 {
    const KNOWS_DEVICE_PMD: bool = true;
    const FAULTS_OUTSIDE: bool = true;
    const MAY_DROP_LOCK: bool = true;
    const EXACT_ERRNO: bool = true;
}

impl Layout for V7_3 {
    const INFO: Info = Info {
        id: "unlocked",
        kernel: "7.3 cycle",
        kind: Kind::Historic,
        capabilities: &[
            Capability::Snapshot,
            Capability::Fault,
            Capability::Permission,
            Capability::DevicePrivate,
            Capability::Hugetlb,
            Capability::ErrorPerPage,
            Capability::ForeignDevice,
            Capability::CrossVma,
            Capability::Order,
            Capability::Compound,
            Capability::Unlocked,
        ],
    };
    type Quirks = V7_3;
    const ORDER_SHIFT: u32 = ORDER_SHIFT;
    const STICKY: u64 = STICKY;
}

/// The backend. See the module.
#[derive(Debug)]
pub struct Unlocked {
    fixed: Fixed<V7_3>,
    budget: Option<u32>,
}

impl Unlocked {
    /// Passes without progress that a call may make before it answers -EBUSY; none (timeout 0) for no limit.
    pub fn set_budget(&mut self, passes: Option<u32>) {
        self.budget = passes;
    }
    /// The slots and the raw way to fill them.
    pub fn fixed_mut(&mut self) -> &mut Fixed<V7_3> {
        &mut self.fixed
    }
}

impl Backend for Unlocked {
    const INFO: Info = V7_3::INFO;

    fn new(capacity: usize) -> Self {
        Unlocked { fixed: Fixed::new(capacity), budget: None }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.fixed.prepare(request, c);
    }

    /// The caller's `seq` is not used: the call reads its own.
    fn walk<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, _seq: u64, c: &mut C) -> Result<u64, Errno> {
        let backoff = crossbeam_utils::Backoff::new();
        let mut left = self.budget;
        loop {
            let seq = mm.notifier.read_begin(sub);
            let vmas = mm.mmap_read();
            if left == Some(0) {
                return Err(Errno::Busy);
            }
            left = left.map(|n| n - 1);
            let r = self.fixed.call(mm.locked(&vmas), sub, seq, c);
            drop(vmas);
            match r {
                Ok(()) => return Ok(seq),
                Err(End::Errno(Errno::Busy)) => c.add(Count::Retries, 1),
                Err(end @ (End::Errno(_) | End::Later(_))) => return Err(end.into()),
                Err(End::LockDropped) => {
                    left = self.budget;
                    // The kernel sleeps in the fault until user space has answered.
                    backoff.snooze();
                }
            }
            c.mmap_unlocked();
        }
    }

    /// One pass: hmm_range_fault_locked.
    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        self.fixed.call(at, sub, seq, c)?;
        Ok(seq)
    }

    fn bound_passes(&mut self, passes: Option<u32>) -> bool {
        self.budget = passes;
        true
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        self.fixed.consume(device, c);
    }

    fn view(&self, i: usize) -> PageView {
        self.fixed.view(i)
    }

    fn range(&self) -> PageRange {
        self.fixed.range()
    }
}
