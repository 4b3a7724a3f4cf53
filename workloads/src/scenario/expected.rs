//! What the kernel returned and showed at one step.

use super::codes::{PmCode, RawCode, ScanCode, SnapshotCode};
use super::rle::Rle;
use super::vma::VmaRange;

/// What the kernel returned from an operation and showed after it. What the recording leaves out is `None` and is
/// not compared. Lists are over the whole window, `out` over the pages of the operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// 0, `-errno`, or for touches the number of pages that worked.
    pub ret: i64,
    /// Pages whose touch raised `SIGSEGV`.
    pub segv: Option<u64>,
    /// Pages whose touch raised `SIGBUS`.
    pub bus: Option<u64>,
    /// Calls of `hmm_range_fault()` until it did not return `-EBUSY`.
    pub calls: Option<u64>,
    /// Pages the driver says it copied or migrated.
    pub cpages: Option<u64>,
    /// Whether somebody waited for a page in migration: 1 or 0.
    pub waited: Option<u64>,
    /// Of a `race`: 1, an order of the walk and the accesses of the CPU makes all of what was recorded.
    pub order: Option<u64>,
    /// Of a `race`: calls of `hmm_range_fault()` that a collision made void. Not compared.
    pub busy: Option<u64>,
    /// Of a `race`: accesses to pages that were over when the walk began. Not compared: a bound for `order`.
    pub began: Option<u64>,
    /// Of a `race`: accesses to pages that had begun when the walk was over. Not compared: a bound for `order`.
    pub ended: Option<u64>,
    /// Device faults the driver counted.
    pub faults: Option<u64>,
    /// `hmm_pfns` after `hfault`, `hpage`, `held`, `hwait` or `race`.
    pub out: Option<Rle<RawCode>>,
    /// `hmm_pfns` of one snapshot call over the window.
    pub raw: Option<Rle<RawCode>>,
    /// Bytes of `HMM_DMIRROR_SNAPSHOT` of device 0.
    pub snapshot: Option<Rle<SnapshotCode>>,
    /// The same of device 1.
    pub snapshot1: Option<Rle<SnapshotCode>>,
    /// `/proc/self/pagemap`.
    pub pm: Option<Rle<PmCode>>,
    /// `PAGEMAP_SCAN`.
    pub scan: Option<Rle<ScanCode>>,
    /// `/proc/self/maps`.
    pub vma: Option<Vec<VmaRange>>,
}

impl Expected {
    /// Whether anything was observed after the operation, so that a machine has to be observed too.
    pub fn is_observed(&self) -> bool {
        self.raw.is_some()
            || self.snapshot.is_some()
            || self.snapshot1.is_some()
            || self.pm.is_some()
            || self.scan.is_some()
            || self.vma.is_some()
    }
}
