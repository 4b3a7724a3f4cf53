//! Recorded scenarios: what a real kernel did, operation by operation, as typed values.
//!
//! A recording is a JSONL file, plain or gzip; each line is one [`Scenario`]: a window of pages, settings, and
//! [`Step`]s. A step is an operation ([`Op`]) and what the kernel showed after it ([`Expected`]). The format is
//! described in `workloads/truth/FORMAT.md`.
//!
//! Three things can be wrong with a line, and they are kept apart:
//! - a value that no recorder writes (a count that does not add up, a letter that does not exist) is a
//!   [`RecordingError`] with file, line and what was expected;
//! - an operation, kind, advice or argument this version does not know is [`Op::Unsupported`]: the scenario is a
//!   counted skip with a reason ([`Scenario::unsupported`]), and the other scenarios of the file still run;
//! - a recording that is larger than the limits of [`limits`] is refused before it takes memory.
//!
//! [`generate`] makes new scenarios, [`to_line`] writes what became of them.
//!
//! Neighbours: [`crate::conform`] replays scenarios against a machine and compares.

mod codes;
mod error;
mod expected;
mod fields;
pub mod generate;
pub mod limits;
mod op;
mod parse;
mod race;
mod reader;
mod rle;
#[cfg(test)]
mod tests;
pub(crate) mod vma;
mod write;

pub use codes::{Code, Mark, PmCode, RawCode, RawKind, ScanCode, SnapshotCode};
pub use error::RecordingError;
pub use expected::Expected;
pub use op::{Advice, MapFlags, MapKind, Op, Prot, Span, Wish};
pub use parse::parse_line;
pub use race::{Access, AccessKind, Accesses};
pub use reader::{read, read_path};
pub use rle::{Rle, RleError};
pub use vma::{Perms, VmaRange, join, parse_perms};
pub use write::to_line;

/// Address of the window's first page when [`Scenario::misalign`] is 0. It lies on a 1 GiB boundary.
pub const WINDOW_BASE: u64 = 0x2000_0000_0000;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// One recorded scenario: settings, and operations with what the kernel showed after each.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Name, unique in its file: no white space, no control characters.
    pub id: String,
    /// Generator class: `small`, `medium`, `thp`, `thpmis`, `file`, `hugetlb`, `swap`, `fork`, `shthp`, `marks`, `offline`, `mthp`,
    /// `dev`, `held`, `waits`, `races`, `hand`.
    pub cls: String,
    /// Release of the kernel that was recorded.
    pub kernel: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// Pages of the window, 1 to [`limits::MAX_PAGES`].
    pub npages: usize,
    /// Pages by which the window's start is behind [`WINDOW_BASE`].
    pub misalign: u64,
    /// A swap device is active; without one `MADV_PAGEOUT` leaves anonymous memory alone.
    pub swap: bool,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub thp: ThpEnabled,
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled`.
    pub shthp: ShmemEnabled,
    /// Orders below 9 that anonymous memory may have huge pages of too, a bit each:
    /// `/sys/kernel/mm/transparent_hugepage/hugepages-*kB/enabled` is `inherit`, as it always is of order 9.
    pub mthp: u16,
    /// `/sys/kernel/mm/transparent_hugepage/use_zero_page`.
    pub zp: bool,
    /// Device 1 exists and what it sees is recorded too.
    pub dev1: bool,
    /// One 1 GiB hugetlb page is available.
    pub giga: bool,
    /// Steps at which the recorder found its two kinds of snapshot to disagree; 0 in every good recording.
    pub rawmismatch: u64,
    /// A setting this version does not know, which makes the whole scenario a skip.
    pub unknown_setting: Option<String>,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

/// One operation and what the kernel showed after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// What the kernel returned and showed.
    pub expected: Expected,
}

/// When anonymous memory may become transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpEnabled {
    /// Wherever a range fits.
    Always,
    /// Only where `MADV_HUGEPAGE` asked.
    Madvise,
    /// Nowhere.
    Never,
}

/// When shared anonymous memory may become transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShmemEnabled {
    /// Wherever a range fits.
    Always,
    /// Only within the file's size.
    WithinSize,
    /// Within the file's size, and only where `MADV_HUGEPAGE` asked.
    Advise,
    /// Nowhere.
    Never,
}

impl Scenario {
    /// Address of the window's first page.
    pub fn base(&self) -> u64 {
        WINDOW_BASE + self.misalign * PAGE_BYTES
    }

    /// Why this version cannot replay the scenario: the first thing in it that it does not know.
    pub fn unsupported(&self) -> Option<String> {
        if let Some(setting) = &self.unknown_setting {
            return Some(setting.clone());
        }
        self.steps.iter().enumerate().find_map(|(index, step)| match &step.op {
            Op::Unsupported { what } => Some(format!("step {index}: {what}")),
            _ => None,
        })
    }
}
