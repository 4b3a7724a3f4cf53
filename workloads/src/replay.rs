//! Recorded scenarios on the model: the [`Machine`] that [`crate::conform`] drives.
//!
//! A stand-in until the model exists: every scenario is skipped, with the reason.

use crate::conform::{Applied, Machine, Observation, Skip};
use crate::scenario::{Op, Scenario};

/// The model behind one scenario.
pub enum ModelMachine {}

/// Builds the model for `scenario`, or says why it cannot run it.
pub fn machine(_scenario: &Scenario) -> Result<ModelMachine, Skip> {
    Err(Skip::new("there is no model yet"))
}

impl Machine for ModelMachine {
    fn apply(&mut self, _op: &Op) -> Applied {
        match *self {}
    }

    fn observe(&mut self) -> Observation {
        match *self {}
    }
}
