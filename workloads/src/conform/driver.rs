//! Drives one machine through one scenario.

use super::compare::StepCompare;
use super::panics::catch;
use super::{Difference, FieldTable, Machine, ScenarioOutcome, Skip, Verdict};
use crate::scenario::Scenario;

/// Replays `scenario` on the machine that `make` builds for it.
pub fn replay<M: Machine>(
    scenario: &Scenario,
    make: impl FnOnce(&Scenario) -> Result<M, Skip>,
) -> ScenarioOutcome {
    let mut run =
        Run { scenario, fields: FieldTable::default(), steps: 0, current: None, first: None, skip: None };
    let mut machine = None;
    // The machine lives outside, so that dropping a broken one can be caught as well.
    let result = catch(|| run.all(&mut machine, make));
    let dropped = catch(|| drop(machine));
    let Run { fields, steps, current, first, skip, .. } = run;
    let verdict = match (first, result.and(dropped), skip) {
        (Some(first), _, _) => Verdict::Differs(first),
        (None, Err(message), _) => {
            let op = current.map_or_else(String::new, |step| scenario.steps[step].op.to_string());
            Verdict::Panicked { step: current, op, message }
        }
        (None, Ok(()), Some(skip)) => Verdict::Skipped(skip),
        (None, Ok(()), None) => Verdict::Passed,
    };
    ScenarioOutcome { steps, fields, verdict }
}

/// What is known so far; survives a panic of the machine.
struct Run<'a> {
    scenario: &'a Scenario,
    fields: FieldTable,
    steps: usize,
    current: Option<usize>,
    first: Option<Box<Difference>>,
    skip: Option<Skip>,
}

impl Run<'_> {
    fn all<M: Machine>(&mut self, machine: &mut Option<M>, make: impl FnOnce(&Scenario) -> Result<M, Skip>) {
        if let Some(reason) = self.scenario.unsupported() {
            self.skip = Some(Skip { reason });
            return;
        }
        let machine = match make(self.scenario) {
            Ok(made) => machine.insert(made),
            Err(skip) => {
                self.skip = Some(skip);
                return;
            }
        };
        for (index, step) in self.scenario.steps.iter().enumerate() {
            self.current = Some(index);
            let applied = machine.apply(&step.op);
            if let Some(what) = applied.unsupported {
                self.skip = Some(Skip::new(format!("step {index}: {what}")));
                return;
            }
            self.steps += 1;
            let observation = step.expected.is_observed().then(|| machine.observe());
            let mut compare =
                StepCompare { step: index, op: &step.op, fields: &mut self.fields, first: &mut self.first };
            compare.applied(&step.expected, &applied);
            if let Some(observation) = observation {
                let giga = self.scenario.giga;
                compare.observed(&step.expected, &observation, machine.keeps_soft_dirty(), giga);
            }
        }
    }
}
