//! The JSON contract of `conform`, schema 1.

use std::collections::BTreeMap;

use serde::Serialize;
use workloads::conform::Verdict;

use super::{Replayed, all_fields};

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    scenarios: usize,
    steps: usize,
    passed: usize,
    failed: Vec<Failed<'a>>,
    skipped: Vec<Skipped<'a>>,
    fields: BTreeMap<&'static str, FieldCounts>,
}

#[derive(Serialize)]
struct Failed<'a> {
    file: &'a str,
    line: usize,
    id: &'a str,
    cls: &'a str,
    /// `null` when the model panicked before the first step.
    step: Option<usize>,
    op: &'a str,
    /// `panic` when the model panicked.
    field: &'static str,
    page: Option<usize>,
    expected: String,
    got: String,
}

#[derive(Serialize)]
struct Skipped<'a> {
    file: &'a str,
    id: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct FieldCounts {
    compared: u64,
    differ: u64,
}

/// The report as one line of JSON.
pub(in super::super) fn json(results: &[Replayed<'_>]) -> String {
    let mut report = Report {
        schema: 1,
        scenarios: results.len(),
        steps: results.iter().map(|(_, outcome)| outcome.steps).sum(),
        passed: 0,
        failed: Vec::new(),
        skipped: Vec::new(),
        fields: all_fields(results)
            .iter()
            .map(|(field, counts)| {
                (field.name(), FieldCounts { compared: counts.compared, differ: counts.differ })
            })
            .collect(),
    };
    for (job, outcome) in results {
        let (file, line) = (job.file, job.scenario.line);
        let (id, cls) = (job.scenario.id.as_str(), job.scenario.cls.as_str());
        match &outcome.verdict {
            Verdict::Passed => report.passed += 1,
            Verdict::Differs(difference) => report.failed.push(Failed {
                file,
                line,
                id,
                cls,
                step: Some(difference.step),
                op: &difference.op,
                field: difference.field.name(),
                page: difference.page,
                expected: difference.expected.to_string(),
                got: difference.got.to_string(),
            }),
            Verdict::Panicked { step, op, message } => report.failed.push(Failed {
                file,
                line,
                id,
                cls,
                step: *step,
                op,
                field: "panic",
                page: None,
                expected: "no panic".into(),
                got: message.clone(),
            }),
            Verdict::Skipped(skip) => report.skipped.push(Skipped { file, id, reason: &skip.reason }),
        }
    }
    // Only maps with keys that are not texts and failing writers can make this fail; here is neither.
    let mut text = serde_json::to_string(&report).expect("a report is plain data");
    text.push('\n');
    text
}
