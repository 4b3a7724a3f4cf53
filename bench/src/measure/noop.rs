//! A backend that does nothing: what the loop around a call, the mirror and the harness cost by themselves.

use std::hint::black_box;

use walker::addr::{PageRange, VirtAddr};
use walker::backend::{Backend, Info, Kind, PageView};
use walker::counters::Counters;
use walker::mirror::DeviceTable;
use walker::mm::{Errno, Mm};
use walker::notifier::Subscription;
use walker::request::Request;

/// See the module.
#[derive(Debug)]
pub(crate) struct Noop(PageRange);

impl Backend for Noop {
    const INFO: Info = Info { id: "noop", kernel: "none", kind: Kind::Control, capabilities: &[] };

    fn new(_capacity: usize) -> Self {
        Noop(PageRange::pages(VirtAddr::new(0), 0))
    }
    #[inline]
    fn prepare<C: Counters>(&mut self, request: &Request<'_>, _c: &mut C) {
        self.0 = black_box(request.range);
    }
    #[inline]
    fn walk<C: Counters>(&mut self, _: &Mm, _: &Subscription, seq: u64, _c: &mut C) -> Result<u64, Errno> {
        Ok(black_box(seq))
    }
    #[inline]
    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, _c: &mut C) {
        black_box(device);
    }
    fn view(&self, _i: usize) -> PageView {
        PageView::Unreached
    }
    fn range(&self) -> PageRange {
        self.0
    }
}
