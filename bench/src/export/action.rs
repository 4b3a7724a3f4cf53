//! The JSON that github-action-benchmark reads with `tool: customSmallerIsBetter`: name, unit, value, range, extra.

use anyhow::{Context, Result};
use serde_json::json;

use super::{rounded, rows};
use crate::output;
use crate::results::Results;
use crate::tables;

/// The whole file.
///
/// # Errors
/// None that JSON has.
pub(crate) fn action(results: &Results) -> Result<String> {
    let build = &results.run.build;
    let entries = rows(results).filter_map(|row| {
        let ns = row.ns?;
        let interval = ns.lo.zip(ns.hi).map(|(lo, hi)| {
            format!(
                "{}..{} ({:.0} % over {} launches)",
                tables::number(lo),
                tables::number(hi),
                100.0 * ns.confidence,
                ns.launches
            )
        });
        let extra = format!(
            "{}\ncommit {}\n{}",
            results.run.machine.line(),
            build.commit,
            output::command(&results.run.command)
        );
        let mut entry =
            json!({"name": row.id.to_string(), "unit": "ns/page", "value": rounded(ns.value), "extra": extra});
        if let (Some(interval), Some(entry)) = (interval, entry.as_object_mut()) {
            entry.insert("range".to_owned(), json!(interval));
        }
        Some(entry)
    });
    Ok(serde_json::to_string_pretty(&entries.collect::<Vec<_>>()).context("entries as JSON")? + "\n")
}
