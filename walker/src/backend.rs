//! What every API design under test has in common: three stages, capabilities, and one vocabulary for its answer.
//!
//! * `prepare`: the caller writes its wishes where this API reads them.
//! * `walk`: the API call, its internal restarts and faults included.
//! * `consume`: the caller turns the API's output into device page-table entries, under its lock, after `read_retry`.
//!
//! A backend owns the arrays its API needs, allocated once for a capacity of pages; the stages allocate nothing.

use crate::addr::{PageRange, Pfn};
use crate::counters::Counters;
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::Subscription;
use crate::request::Request;

/// Where a design comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Merged in a kernel, or proposed on the lists.
    Historic,
    /// Ours.
    Candidate,
    /// Not an API: the oracle, and the harness's own cost.
    Control,
}

impl Kind {
    /// As in the JSON output.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Historic => "historic",
            Kind::Candidate => "candidate",
            Kind::Control => "control",
        }
    }
}

/// What a design can express. A cell that needs one that is missing is a recorded skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Reports without faulting.
    Snapshot,
    /// Faults what is asked for.
    Fault,
    /// A wish for each page.
    PerPageRequest,
    /// Says whether each page is writable.
    Permission,
    /// Says how large the mapping of each page is.
    Order,
    /// Says at least that a page is part of a huge mapping.
    Compound,
    /// Reports the caller's own device memory.
    DevicePrivate,
    /// Walks hugetlb mappings; designs without it (before 5.2) refuse them.
    Hugetlb,
    /// Says of a single page that it is not to be had and goes on; designs without it (before 5.2) end the call there,
    /// refuse the VMA, or take what is merely absent for lost.
    ErrorPerPage,
    /// Faults another owner's device memory back; designs without it end the call with an error (before 5.19).
    ForeignDevice,
    /// A range may cross VMAs.
    CrossVma,
    /// May drop the mmap lock inside.
    Unlocked,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Capability; 12] = {
        use Capability::*;
        [
            Snapshot,
            Fault,
            PerPageRequest,
            Permission,
            Order,
            Compound,
            DevicePrivate,
            Hugetlb,
            ErrorPerPage,
            ForeignDevice,
            CrossVma,
            Unlocked,
        ]
    };
    /// As in the JSON output and in `requires` of definitions.
    pub const fn name(self) -> &'static str {
        match self {
            Capability::Snapshot => "snapshot",
            Capability::Fault => "fault",
            Capability::PerPageRequest => "per_page_request",
            Capability::Permission => "permission",
            Capability::Order => "order",
            Capability::Compound => "compound",
            Capability::DevicePrivate => "device_private",
            Capability::Hugetlb => "hugetlb",
            Capability::ErrorPerPage => "error_per_page",
            Capability::ForeignDevice => "foreign_device",
            Capability::CrossVma => "cross_vma",
            Capability::Unlocked => "unlocked",
        }
    }
    /// The capability with this name.
    pub fn parse(name: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// One row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Names the mechanism: lower case, underscores.
    pub id: &'static str,
    /// Kernel versions or the proposal.
    pub kernel: &'static str,
    /// Where it comes from.
    pub kind: Kind,
    /// What it can express.
    pub capabilities: &'static [Capability],
}

impl Info {
    /// The first capability of `required` that this design lacks.
    pub fn lacks(&self, required: &[Capability]) -> Option<Capability> {
        required.iter().copied().find(|c| !self.capabilities.contains(c))
    }
}

/// Slot i of any API's answer, in one vocabulary. What an API cannot say is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageView {
    /// Nothing there (a later fault could help), or a frame number without rights that must not be used.
    Absent,
    /// The page cannot be given to the device.
    Error,
    /// Mapped.
    Mapped {
        /// The frame.
        pfn: Pfn,
        /// Whether the device may write.
        write: Option<bool>,
        /// log2 of the base pages of the mapping it is part of.
        order: Option<u8>,
        /// Whether it is part of a huge mapping.
        compound: Option<bool>,
        /// The caller's own device memory.
        device: Option<bool>,
    },
    /// The call ended before it got here.
    Unreached,
}

/// What of a call's range an attempt has programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// What was left of it: the call is done.
    All,
    /// Some of it; the rest collided.
    Some,
    /// All that was walked; the call goes on with what is left ([`Backend::has_more`]).
    Share,
    /// None of it.
    Nothing,
}

/// One API design.
pub trait Backend: Send + Sized + 'static {
    /// Its row in the registry.
    const INFO: Info;
    /// The driver's lock is held over walk and consume: nothing that was walked can collide.
    const WALKS_UNDER_DRIVER_LOCK: bool = false;

    /// Arrays for calls of up to `capacity` pages.
    fn new(capacity: usize) -> Self;

    /// Stage 1. Writes the wishes where the API reads them. The request asks for nothing that the design lacks.
    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C);

    /// Makes a call with the request of the last `prepare` possible again, after a walk that may have overwritten
    /// wishes. Designs whose inputs survive have nothing to do.
    ///
    /// A caller may leave it out: the walk then runs over whatever the last one left in the arrays, as in a driver that
    /// does not refill.
    fn refill<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.prepare(request, c);
    }

    /// Stage 2. One API call over the range of the last `prepare`. Takes the mmap lock for reading itself, as its
    /// caller would around the call, so that every design pays for it alike.
    ///
    /// Returns the sequence under which the answer must be validated by `read_retry`.
    ///
    /// # Errors
    /// What the API returns; slots before the failure hold answers where the API promises that.
    fn walk<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, seq: u64, c: &mut C) -> Result<u64, Errno> {
        let vmas = mm.mmap_read();
        self.walk_locked(mm.locked(&vmas), sub, seq, c)
    }

    /// As [`Backend::walk`] under the caller's mmap lock, of either kind.
    ///
    /// # Errors
    /// As there.
    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno>;

    /// For designs that retry inside the call: at most so many passes without progress, none for no limit. Returns
    /// whether this is one; its -EBUSY is final then, and the caller's own policy has nothing left to decide.
    fn bound_passes(&mut self, _passes: Option<u32>) -> bool {
        false
    }

    /// Before a walk: the sequence to walk under. Sleeps while an event runs that a walk would collide with.
    /// No lock is held.
    ///
    /// # Errors
    /// Of designs that have something to do between two walks: what came of it.
    #[inline]
    fn read_begin<C: Counters>(&mut self, mm: &Mm, sub: &Subscription, _: &mut C) -> Result<u64, Errno> {
        Ok(mm.notifier.read_begin(sub))
    }

    /// After a walk, under the driver's lock: whether some of it must be walked again.
    #[inline]
    fn read_retry(&self, sub: &Subscription, seq: u64) -> bool {
        sub.read_retry(seq)
    }

    /// Validates the answer and consumes what holds of it. The caller holds the device's lock.
    #[inline]
    fn program<C: Counters>(
        &mut self,
        sub: &Subscription,
        seq: u64,
        device: &mut DeviceTable,
        c: &mut C,
    ) -> Programmed {
        if self.read_retry(sub, seq) {
            return Programmed::Nothing;
        }
        self.consume(device, c);
        Programmed::All
    }

    /// Whether the walk did its share and what is left of the range is for another one: not a collision.
    #[inline]
    fn has_more(&self) -> bool {
        false
    }

    /// Hands the parts of the range to `part` that the last [`Backend::program`] consumed; it was not in vain.
    #[inline]
    fn programmed(&self, part: &mut impl FnMut(PageRange)) {
        part(self.range());
    }

    /// Stage 3. Writes device entries from the answer. The caller holds the device's lock and has validated.
    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C);

    /// Slot `i` of the answer to the last walk.
    fn view(&self, i: usize) -> PageView;

    /// The range of the last `prepare`.
    fn range(&self) -> PageRange;
}
