//! Bencher Metric Format (bencher.dev/bmf.json): benchmark, measure, value with bounds.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{rounded, rows};
use crate::results::Results;

/// Longest name that Bencher takes.
const LONGEST: usize = 1024;

/// The whole file.
///
/// # Errors
/// When a name is longer than Bencher takes.
pub(crate) fn bencher(results: &Results) -> Result<String> {
    let mut benchmarks = Map::new();
    for row in rows(results) {
        let Some(ns) = row.ns else { continue };
        let name = row.id.to_string();
        if name.chars().count() > LONGEST {
            anyhow::bail!("{name}: Bencher takes names of up to {LONGEST} characters");
        }
        let mut metric = Map::from_iter([("value".to_owned(), json!(rounded(ns.value)))]);
        metric.extend(ns.lo.map(|lo| ("lower_value".to_owned(), json!(rounded(lo)))));
        metric.extend(ns.hi.map(|hi| ("upper_value".to_owned(), json!(rounded(hi)))));
        benchmarks.insert(name, json!({"ns-per-page": metric}));
    }
    Ok(serde_json::to_string_pretty(&Value::Object(benchmarks)).context("metrics as JSON")? + "\n")
}
