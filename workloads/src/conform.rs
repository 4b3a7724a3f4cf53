//! Replays recorded scenarios against a machine and compares what both show, step by step.
//!
//! The driver knows nothing of any model: a [`Machine`] applies operations and says what it shows. [`replay`]
//! compares exactly what `workloads/truth/FORMAT.md` names: what the operation returned, and after it `raw`,
//! `snapshot`, `snapshot1`, `vma` and of `pm` the letters P S F U X (X not for 1 GiB pages, whose exclusive bit the
//! recorded kernel does not keep stable); soft-dirty and `scan` where the machine keeps what they need. What a
//! recording leaves out is not compared. Every compared value is counted ([`FieldTable`]), so that a field which
//! silently stopped being compared shows.
//!
//! A scenario ends in one [`Verdict`]. A panic of the machine is a failed scenario with the message, never an abort.
//!
//! Neighbours: [`crate::scenario`] reads recordings, [`crate::replay`] is the model as a machine, [`Echo`] is the
//! control: it plays the recording back and must pass.

mod compare;
mod difference;
mod driver;
mod echo;
mod field;
mod panics;
#[cfg(test)]
mod tests;

pub use difference::{Around, Difference, Shown};
pub use driver::replay;
pub use echo::Echo;
pub use field::{Counts, Field, FieldTable};

use crate::scenario::{Op, PmCode, RawCode, ScanCode, SnapshotCode, VmaRange};

/// Something that runs the operations of a scenario.
pub trait Machine {
    /// Runs one operation. [`Op::Unsupported`] never arrives here.
    fn apply(&mut self, op: &Op) -> Applied;

    /// Shows the window after the last operation, changing nothing. Not asked after an operation that the recorder
    /// did not observe either.
    fn observe(&mut self) -> Observation;

    /// Whether the soft-dirty letter of [`Observation::pm`] means anything.
    fn keeps_soft_dirty(&self) -> bool {
        false
    }
}

/// What an operation returned. A value that the recording has and the machine has not is a difference; one that only
/// the machine has is not looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// 0, `-errno`, or for touches the number of pages that worked.
    pub ret: i64,
    /// Pages whose touch raised `SIGSEGV`.
    pub segv: Option<u64>,
    /// Pages whose touch raised `SIGBUS`.
    pub bus: Option<u64>,
    /// Calls of `hmm_range_fault()`.
    pub calls: Option<u64>,
    /// Pages copied or migrated.
    pub cpages: Option<u64>,
    /// Whether somebody waited for a page in migration: 1 or 0.
    pub waited: Option<u64>,
    /// Device faults.
    pub faults: Option<u64>,
    /// Of a race: 1 where some order makes what was recorded, else 0.
    pub order: Option<u64>,
    /// `hmm_pfns` afterwards, one per page of the operation.
    pub out: Option<Vec<RawCode>>,
    /// Set when the machine cannot run the operation, with what it lacks: the scenario ends as a skip.
    pub unsupported: Option<String>,
}

impl Applied {
    /// An operation that returned `ret` and nothing else.
    pub fn ret(ret: i64) -> Self {
        Self { ret, ..Self::default() }
    }

    /// An operation the machine cannot run.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self { unsupported: Some(what.into()), ..Self::default() }
    }
}

/// What a machine shows; every list has one value per page of the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// One snapshot call over the whole window.
    pub raw: Vec<RawCode>,
    /// What the driver's snapshot of device 0 says; [`RawCode::to_snapshot`] makes it from `raw`.
    pub snapshot: Vec<SnapshotCode>,
    /// The same of device 1, where there is one.
    pub snapshot1: Option<Vec<SnapshotCode>>,
    /// Page map bits.
    pub pm: Vec<PmCode>,
    /// Scan categories; `None` when the machine does not keep what they need, then they are not compared.
    pub scan: Option<Vec<ScanCode>>,
    /// Mapped ranges in ascending order; the driver joins neighbours with equal permissions.
    pub vma: Vec<VmaRange>,
}

/// Why a scenario is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The reason, in words.
    pub reason: String,
}

impl Skip {
    /// A skip for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What became of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioOutcome {
    /// Steps that the machine ran.
    pub steps: usize,
    /// What was compared and how much of it differed. After the first difference the replay goes on, so that
    /// consequences are counted too.
    pub fields: FieldTable,
    /// The result.
    pub verdict: Verdict,
}

/// The result of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing differed.
    Passed,
    /// The first difference.
    Differs(Box<Difference>),
    /// The machine panicked before anything differed.
    Panicked {
        /// Step, from 0; `None` when the machine panicked while it was made.
        step: Option<usize>,
        /// The operation; empty when the machine panicked while it was made.
        op: String,
        /// The panic's message and place.
        message: String,
    },
    /// The scenario, or the machine, cannot be replayed, and nothing differed up to there.
    Skipped(Skip),
}
