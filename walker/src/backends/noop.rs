//! `noop` (control): touches nothing, so that what remains is the harness.
//!
//! **Models** no kernel: it is the loop of a caller whose API does nothing.
//!
//! **Promises** nothing; it has every capability, so that no cell skips it.
//!
//! **Cannot say** anything: every slot is unreached.
//!
//! **Costs** the canonical loop around it: the sequence, the driver's lock, the check.

use crate::addr::{PageRange, VirtAddr};
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::counters::Counters;
use crate::device_table::DeviceTable;
use crate::mm::{Errno, Locked, Mm};
use crate::notifier::Subscription;
use crate::request::Request;

/// The backend. See the module.
#[derive(Debug)]
pub struct Noop {
    range: PageRange,
}

impl Backend for Noop {
    const INFO: Info =
        Info { id: "noop", kernel: "none", kind: Kind::Control, capabilities: &Capability::ALL };

    fn new(_: usize) -> Self {
        Noop { range: PageRange::pages(VirtAddr::new(0), 0) }
    }
    fn prepare<C: Counters>(&mut self, request: &Request<'_>, _: &mut C) {
        self.range = request.range;
    }
    fn walk<C: Counters>(&mut self, _: &Mm, _: &Subscription, seq: u64, _: &mut C) -> Result<u64, Errno> {
        Ok(seq)
    }
    fn walk_locked<C: Counters>(
        &mut self,
        _: Locked<'_>,
        _: &Subscription,
        seq: u64,
        _: &mut C,
    ) -> Result<u64, Errno> {
        Ok(seq)
    }
    fn consume<C: Counters>(&mut self, _: &mut DeviceTable, _: &mut C) {}
    fn view(&self, _: usize) -> PageView {
        PageView::Unreached
    }
    fn range(&self) -> PageRange {
        self.range
    }
}
