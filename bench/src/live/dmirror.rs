//! hmm_range_fault through the kernel's own test driver, which is not made for measuring: timed is one ioctl for all of
//! the memory, from outside.
//!
//! A snapshot is in that time a system call and, for every 64 pages (lib/test_hmm.c, Linux 6.12): a notifier registered
//! and removed, read_begin, mmap lock, hmm_range_fault, read_retry under the driver's lock, a byte for each page, and
//! copying the bytes to the program. A read or a write is vmalloc of as many pages; for every 64 pages that calls and
//! read_retry, and for each an entry in the driver's XArray; then for each page a look into that XArray and a copy of 4 KiB,
//! and one more between the kernel and the program. Rows of pages that are there already say what all of that takes but
//! for the faults.

use std::io;

use workloads::scenario::{Mark, RawCode, RawKind};

use super::hmm::expected;
use super::shape::Shape;
use super::{Case, Source};
use crate::measure::clock::Clock;
use crate::os::dmirror::{Command, Dmirror, WRITTEN};
use crate::os::hmm::{ERROR, ORDER_SHIFT, Request, VALID, WRITE};
use crate::os::mapping::{Mapping, PAGE};

/// Asks it about a mapping, again and again.
pub(super) struct TestDriver {
    request: Request,
    shape: Shape,
    /// Whether the answers are known beforehand.
    is_quiet: bool,
    /// Of snapshots. A file remembers the pages that it was given until they change: faults take a new one each time.
    device: Option<Dmirror>,
    /// What goes to a device and comes from it: a page a page.
    bytes: Vec<u8>,
    /// Of a snapshot: a byte a page.
    answers: Vec<u8>,
}

impl TestDriver {
    /// Opens its device for `case`, if that asks it.
    ///
    /// # Errors
    /// [`Dmirror::open`]'s.
    pub(super) fn of(case: &Case, mapping: &Mapping) -> io::Result<Option<TestDriver>> {
        let request = match case.source {
            Source::HmmDmirror => Request::Snapshot,
            Source::HmmDmirrorRead => Request::FaultRead,
            Source::HmmDmirrorWrite => Request::FaultWrite,
            _ => return Ok(None),
        };
        let device = Dmirror::open(0)?;
        let looks = request == Request::Snapshot;
        Ok(Some(TestDriver {
            request,
            shape: case.shape,
            is_quiet: case.churn.is_none(),
            device: looks.then_some(device),
            // Written, and so in memory before it is timed.
            bytes: vec![WRITTEN; if looks { 0 } else { mapping.len() }],
            answers: vec![0; mapping.len() / PAGE],
        }))
    }
    /// Asks once: the nanoseconds that it took.
    ///
    /// # Errors
    /// The driver's; and answers that cannot be right.
    pub(super) fn ask(&mut self, mapping: &Mapping, clock: Clock) -> io::Result<f64> {
        let (command, bytes) = match self.request {
            Request::Snapshot => (Command::Snapshot, &mut self.answers),
            Request::FaultRead => (Command::Read, &mut self.bytes),
            Request::FaultWrite => (Command::Write, &mut self.bytes),
        };
        // A new one is of this process alone: a child of the shape's would keep it.
        let device = match self.device.take() {
            Some(device) => device,
            None => Dmirror::open(0)?,
        };
        let start = clock.now();
        let done = device.ask(command, mapping, bytes)?;
        let ns = clock.span(start, clock.now()) as f64;
        if done.cpages != (mapping.len() / PAGE) as u64 {
            return Err(io::Error::other(format!("hmm_dmirror says it saw {} pages", done.cpages)));
        }
        if command == Command::Snapshot {
            self.device = Some(device);
        } else {
            if done.faults == 0 {
                return Err(io::Error::other("hmm_dmirror says it had all pages before it was asked"));
            }
            copied(self.shape, command, &device, mapping, &mut self.bytes)?;
            device.ask(Command::Snapshot, mapping, &mut self.answers)?;
        }
        if self.is_quiet {
            seen(self.shape, self.request, &self.answers)?;
        }
        Ok(ns)
    }
}

/// Whether a snapshot says what `shape` looks like after `request`.
fn seen(shape: Shape, request: Request, answers: &[u8]) -> io::Result<()> {
    let is_zero_page = matches!(
        (shape, request),
        (Shape::ZeroPage, Request::Snapshot) | (Shape::Absent4k, Request::FaultRead)
    );
    for (page, answer) in answers.iter().enumerate() {
        let right = expected(shape, request, page).map(|right| byte(right, is_zero_page));
        if let Some(right) = right.filter(|right| right != answer) {
            return Err(io::Error::other(format!(
                "hmm_dmirror says {answer:#x} of page {page}; expected {right:#x} (HMM_DMIRROR_PROT_*: 1 read, 2 write, \
                 4 PMD, 0x10 the zero page)"
            )));
        }
    }
    Ok(())
}

/// Whether a read brought what the memory holds, and a write can be read. `bytes` are as before for the next one.
fn copied(
    shape: Shape,
    command: Command,
    device: &Dmirror,
    mapping: &Mapping,
    bytes: &mut [u8],
) -> io::Result<()> {
    let holds = match (command, shape) {
        (Command::Read, Shape::Absent4k | Shape::Absent2m) => Some(0),
        // Of which each page's first byte was written.
        (Command::Read, Shape::Swapped) => Some(1),
        (Command::Read, _) => None,
        _ => {
            bytes.fill(0);
            device.ask(Command::Read, mapping, bytes)?;
            Some(WRITTEN)
        }
    };
    let first = bytes.iter().step_by(PAGE);
    let wrong = first.enumerate().find(|(_, byte)| holds.is_some_and(|right| **byte != right));
    if let Some((page, byte)) = wrong {
        return Err(io::Error::other(format!(
            "hmm_dmirror copied {byte:#x} of page {page}; expected {holds:#x?}"
        )));
    }
    bytes.fill(WRITTEN);
    Ok(())
}

/// The driver's byte for a page of which the module says `answer`.
fn byte(answer: u8, is_zero_page: bool) -> u8 {
    let kind = match answer & (VALID | WRITE | ERROR) {
        VALID => RawKind::Read,
        both if both == VALID | WRITE => RawKind::Write,
        0 => RawKind::None,
        _ => RawKind::Error,
    };
    let mark = if is_zero_page { Mark::Zero } else { Mark::None };
    RawCode::new(kind, answer >> ORDER_SHIFT, mark).to_snapshot().0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lib/test_hmm_uapi.h of Linux 6.12.
    const PROT_ERROR: u8 = 0xff;
    const PROT_NONE: u8 = 0;
    const PROT_READ: u8 = 1;
    const PROT_WRITE: u8 = 2;
    const PROT_PMD: u8 = 4;
    const PROT_PUD: u8 = 8;
    const PROT_ZERO: u8 = 0x10;

    #[test]
    fn answers_of_the_module_become_bytes_of_the_driver() {
        for (answer, is_zero_page, right) in [
            (0, false, PROT_NONE),
            (0, true, PROT_NONE),
            (ERROR, false, PROT_ERROR),
            (VALID, false, PROT_READ),
            (VALID, true, PROT_READ | PROT_ZERO),
            (VALID | WRITE, false, PROT_WRITE),
            (VALID | 9 << ORDER_SHIFT, false, PROT_READ | PROT_PMD),
            (VALID | WRITE | 9 << ORDER_SHIFT, false, PROT_WRITE | PROT_PMD),
            (VALID | WRITE | 18 << ORDER_SHIFT, false, PROT_WRITE | PROT_PUD),
            // Another order is said of no page.
            (VALID | WRITE | 4 << ORDER_SHIFT, false, PROT_WRITE),
        ] {
            assert_eq!(byte(answer, is_zero_page), right, "{answer:#x}");
        }
    }

    #[test]
    fn a_snapshot_that_cannot_be_right_is_refused_with_the_page() {
        let zero = PROT_READ | PROT_ZERO;
        for (shape, request, right, wrong) in [
            (Shape::Dense4k, Request::Snapshot, PROT_WRITE, PROT_NONE),
            (Shape::Dense2m, Request::Snapshot, PROT_WRITE | PROT_PMD, PROT_WRITE),
            (Shape::ZeroPage, Request::Snapshot, zero, PROT_READ),
            (Shape::AfterFork, Request::Snapshot, PROT_READ, PROT_WRITE),
            (Shape::Absent4k, Request::Snapshot, PROT_NONE, zero),
            (Shape::Absent4k, Request::FaultRead, zero, PROT_READ),
            // The huge zero page is none that the driver knows.
            (Shape::Absent2m, Request::FaultRead, PROT_READ | PROT_PMD, zero | PROT_PMD),
            (Shape::ZeroPage, Request::FaultWrite, PROT_WRITE, zero),
            (Shape::AfterFork, Request::FaultWrite, PROT_WRITE, PROT_READ),
        ] {
            seen(shape, request, &[right; 9]).unwrap();
            let mut answers = [right; 9];
            answers[7] = wrong;
            let error = seen(shape, request, &answers).unwrap_err().to_string();
            assert!(error.contains("of page 7; expected") && error.contains("hmm_dmirror"), "{error}");
        }
        // Where it is the kernel's choice, nothing is.
        seen(Shape::Swapped, Request::FaultRead, &[PROT_NONE, zero]).unwrap();
    }
}
