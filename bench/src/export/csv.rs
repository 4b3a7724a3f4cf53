//! Comma-separated values as RFC 4180 has them: a header, one row a cell.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::{rounded, rows};
use crate::questions::{Coordinate, Metric, Stage};
use crate::results::Results;

const STAGES: [Stage; 5] = [Stage::Prepare, Stage::Walk, Stage::Fault, Stage::Retry, Stage::Consume];

/// The whole file. A figure that is not there is an empty field, never 0.
///
/// # Errors
/// None that a correct writer has.
pub(crate) fn csv(results: &Results) -> Result<String> {
    let counts: BTreeSet<&str> =
        results.cells.values().flat_map(|f| f.counts.keys()).map(String::as_str).collect();
    let mut out = ::csv::Writer::from_writer(Vec::new());
    let mut header: Vec<String> = [
        "id",
        "workload",
        "size",
        "request",
        "call_pages",
        "churn",
        "walkers",
        "backend",
        "ns_per_page",
        "ns_per_page_lo",
        "ns_per_page_hi",
        "confidence",
        "launches",
        "x_decode",
        "x_decode_lo",
        "x_decode_hi",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(STAGES.map(|s| format!("{}_ns_per_page", s.name())));
    header.extend(["p50_ns", "p99_ns", "p999_ns", "max_ns", "marks", "error"].map(str::to_owned));
    header.extend(counts.iter().map(|c| format!("count_{c}")));
    out.write_record(&header)?;
    for row in rows(results) {
        let at = |c| row.id.get(c).to_owned();
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| rounded(x).to_string());
        let whole = |x: Option<u64>| x.map_or_else(String::new, |x| x.to_string());
        let x = results.against(row.id, "decode", Metric::Whole);
        let mut fields = vec![
            row.id.to_string(),
            at(Coordinate::Workload),
            at(Coordinate::Size),
            at(Coordinate::Request),
            at(Coordinate::CallPages),
            at(Coordinate::Churn),
            at(Coordinate::Walkers),
            at(Coordinate::Backend),
        ];
        for e in [row.ns, x] {
            fields.extend([
                number(e.map(|e| e.value)),
                number(e.and_then(|e| e.lo)),
                number(e.and_then(|e| e.hi)),
            ]);
            if fields.len() == 11 {
                fields.push(number(row.ns.filter(|e| e.lo.is_some()).map(|e| e.confidence)));
                fields.push(whole(row.ns.map(|e| e.launches as u64)));
            }
        }
        fields.extend(STAGES.map(|s| number(row.facts.stage_ns(s.name()))));
        let latency = row.facts.latency_ns;
        fields.extend([
            whole(latency.map(|l| l.p50)),
            whole(latency.map(|l| l.p99)),
            whole(latency.map(|l| l.p999)),
            whole(latency.map(|l| l.max)),
            row.facts.marks.join(" "),
            row.facts.error.clone().unwrap_or_default(),
        ]);
        fields.extend(counts.iter().map(|c| whole(row.facts.counts.get(*c).copied())));
        out.write_record(&fields)?;
    }
    String::from_utf8(out.into_inner().context("the rows")?).context("the rows as text")
}
