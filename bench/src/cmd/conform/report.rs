//! What `conform` prints: a JSON object, or tables and readable failures.

mod json;
mod text;

pub(super) use json::json;
pub(super) use text::text;

use workloads::conform::{FieldTable, ScenarioOutcome, Verdict};

use super::Job;

/// A scenario and what became of it.
pub(super) type Replayed<'a> = (&'a Job<'a>, &'a ScenarioOutcome);

/// Whether a scenario failed.
pub(super) fn has_failure(results: &[Replayed<'_>]) -> bool {
    results.iter().any(|(_, outcome)| is_failure(&outcome.verdict))
}

fn is_failure(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Differs(_) | Verdict::Panicked { .. })
}

fn all_fields(results: &[Replayed<'_>]) -> FieldTable {
    let mut fields = FieldTable::default();
    for (_, outcome) in results {
        fields.merge(&outcome.fields);
    }
    fields
}
