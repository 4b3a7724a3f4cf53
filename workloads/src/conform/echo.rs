//! The control: a machine that plays a recording back.

use super::{Applied, Machine, Observation};
use crate::scenario::{Expected, Op, Rle, Scenario, Step};

/// Shows exactly what a scenario expects, whatever is applied: replaying that scenario must pass, and replaying one
/// that differs from it in a compared value must fail. It proves the comparison, and is its cost without any model.
#[derive(Clone, Debug)]
pub struct Echo {
    steps: Vec<Step>,
    next: usize,
}

impl Echo {
    /// The echo of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        Self { steps: scenario.steps.clone(), next: 0 }
    }

    fn last(&self) -> Option<&Expected> {
        let last = self.next.checked_sub(1)?;
        Some(&self.steps.get(last)?.expected)
    }
}

impl Machine for Echo {
    fn apply(&mut self, _op: &Op) -> Applied {
        self.next += 1;
        let Some(expected) = self.last() else { return Applied::unsupported("the recording is over") };
        Applied {
            ret: expected.ret,
            segv: expected.segv,
            bus: expected.bus,
            calls: expected.calls,
            cpages: expected.cpages,
            waited: expected.waited,
            faults: expected.faults,
            out: expected.out.as_ref().map(Rle::to_vec),
            order: expected.order,
            unsupported: None,
        }
    }

    fn observe(&mut self) -> Observation {
        let Some(expected) = self.last() else { return Observation::default() };
        Observation {
            raw: expected.raw.as_ref().map(Rle::to_vec).unwrap_or_default(),
            snapshot: expected.snapshot.as_ref().map(Rle::to_vec).unwrap_or_default(),
            snapshot1: expected.snapshot1.as_ref().map(Rle::to_vec),
            pm: expected.pm.as_ref().map(Rle::to_vec).unwrap_or_default(),
            scan: expected.scan.as_ref().map(Rle::to_vec),
            vma: expected.vma.clone().unwrap_or_default(),
        }
    }

    fn keeps_soft_dirty(&self) -> bool {
        true
    }
}
