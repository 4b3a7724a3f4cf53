//! The kernel's own hmm_range_fault, where the device that calls it is there.

use std::io;

use super::shape::Shape;
use super::{Case, Source};
use crate::os::hmm::{Device, ORDER_SHIFT, Request, VALID, WRITE};
use crate::os::mapping::{Mapping, PAGE};

/// Asks it about a mapping, again and again.
pub(super) struct Hmm {
    device: Device,
    request: Request,
    shape: Shape,
    call_pages: u64,
    /// Whether the answers are known beforehand.
    is_quiet: bool,
    ns: Vec<u64>,
    answers: Vec<u8>,
    calls: u64,
    busy: u64,
    operations: u64,
}

impl Hmm {
    /// Opens the device for `case`, if hmm_range_fault is what it asks. A snapshot, which changes nothing, is taken
    /// `repeats` times at once into an array that stays, as drivers keep theirs.
    ///
    /// # Errors
    /// [`Device::open`]'s.
    pub(super) fn of(case: &Case, mapping: &Mapping, repeats: usize) -> io::Result<Option<Hmm>> {
        let request = match case.source {
            Source::HmmRangeFault => Request::Snapshot,
            Source::HmmRangeFaultRead => Request::FaultRead,
            Source::HmmRangeFaultWrite => Request::FaultWrite,
            _ => return Ok(None),
        };
        let repeats = if request == Request::Snapshot { repeats } else { 1 };
        Ok(Some(Hmm {
            device: Device::open()?,
            request,
            shape: case.shape,
            call_pages: case.call_pages.unwrap_or(0).into(),
            is_quiet: case.churn.is_none(),
            ns: vec![0; repeats],
            answers: vec![0; mapping.len() / PAGE],
            calls: 0,
            busy: 0,
            operations: 0,
        }))
    }
    /// Asks once and adds what the kernel says each repeat took.
    ///
    /// # Errors
    /// The kernel's; and answers that cannot be right.
    pub(super) fn ask(&mut self, mapping: &Mapping, ns: &mut Vec<f64>) -> io::Result<()> {
        let walked =
            self.device.walk(mapping, self.request, self.call_pages, &mut self.ns, &mut self.answers)?;
        self.calls += walked.calls;
        self.busy += walked.busy;
        self.operations += self.ns.len() as u64;
        ns.extend(self.ns.iter().map(|ns| *ns as f64));
        if !self.is_quiet {
            return Ok(());
        }
        for (page, answer) in self.answers.iter().enumerate() {
            if let Some(right) = expected(self.shape, self.request, page).filter(|right| right != answer) {
                return Err(io::Error::other(format!(
                    "hmm_range_fault says {answer:#x} of page {page}; expected {right:#x} ({VALID} valid, {WRITE} write, order << {ORDER_SHIFT})"
                )));
            }
        }
        Ok(())
    }
    /// Calls that a collision made void, for each operation.
    pub(super) fn busy(&self) -> f64 {
        self.busy as f64 / self.operations.max(1) as f64
    }
}

/// The answer of a page that shape and request leave no choice about. Whether a page went to swap, and how it comes
/// back, is the kernel's choice.
pub(super) fn expected(shape: Shape, request: Request, page: usize) -> Option<u8> {
    if shape == Shape::Swapped {
        return None;
    }
    let huge = if shape.is_huge() { 9 << ORDER_SHIFT } else { 0 };
    Some(match request {
        Request::FaultWrite => VALID | WRITE | huge,
        // What is there stays what it is.
        Request::FaultRead if shape == Shape::Dense4k => VALID | WRITE,
        // The zero page, or the huge one.
        Request::FaultRead => VALID | huge,
        Request::Snapshot => match shape {
            Shape::Dense4k | Shape::Dense2m | Shape::Hugetlb => VALID | WRITE | huge,
            Shape::Sparse if page.is_multiple_of(8) => VALID | WRITE,
            Shape::ManyVmas if shape.is_read_only(page) => VALID,
            Shape::ManyVmas => VALID | WRITE,
            Shape::ZeroPage | Shape::AfterFork | Shape::ChildGone => VALID,
            Shape::Sparse | Shape::EmptyTables | Shape::Absent4k | Shape::Absent2m | Shape::Swapped => 0,
        },
    })
}
