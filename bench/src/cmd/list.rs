//! `walkbench list`: what there is.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use walker::backends;
use workloads::definition::{Definition, Profile, definitions, size_name};

use super::run::ProfileArg;
use crate::measure::matrix;
use crate::output::{self, Format};
use crate::questions::{CellId, Question, questions};
use crate::record::JSON_SCHEMA;
use crate::selection::{Selection, spelled_out};
use crate::tables;

/// List backends, workloads, questions or cells
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench list backends
  walkbench list cells --profile smoke --filter /map_order$
  walkbench list cells --profile full --question all     what `walkbench run --profile full` measures
  walkbench list workloads --format json | jq -r .workloads[].id")]
pub(crate) struct ListArgs {
    /// Of what
    what: What,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Cells of which profile
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    profile: ProfileArg,
    /// Only cells whose id matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Only cells that this question looks at; again for more, `all` for all
    #[arg(long = "question", value_name = "ID")]
    questions: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// API designs
    Backends,
    /// Shapes of address spaces and what is asked of them
    Workloads,
    /// What the measurements answer
    Questions,
    /// Everything that a profile measures, by id
    Cells,
}

/// Prints the list.
///
/// # Errors
/// A filter that matches nothing; standard output.
pub(crate) fn run(args: &ListArgs) -> Result<ExitCode> {
    match (args.what, args.format) {
        (What::Backends, Format::Json) => {
            let each = backends::ALL.iter().map(|b| {
                let capabilities: Vec<_> = b.capabilities.iter().map(|c| c.name()).collect();
                json!({"id": b.id, "kernel": b.kernel, "kind": b.kind.name(), "capabilities": capabilities})
            });
            output::print_json(&json!({"schema": JSON_SCHEMA, "backends": each.collect::<Vec<_>>()}))?;
        }
        (What::Backends, Format::Text) => {
            let mut table = text_table(&["id", "kernel", "kind", "can"]);
            for b in backends::ALL {
                let can: Vec<_> = b.capabilities.iter().map(|c| c.name()).collect();
                table.add_row([b.id, b.kernel, b.kind.name(), &can.join(" ")]);
            }
            output::print(&tables::lines(&table))?;
        }
        (What::Workloads, Format::Json) => {
            let each = definitions().iter().map(|d| {
                json!({
                    "id": d.id,
                    "title": d.title,
                    "analysis": d.analysis,
                    "requires": d.requires.iter().map(|c| c.name()).collect::<Vec<_>>(),
                    "requests": d.requests.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "smoke": grid(d, Profile::Smoke),
                    "quick": grid(d, Profile::Quick),
                    "full": grid(d, Profile::Full),
                })
            });
            output::print_json(&json!({"schema": JSON_SCHEMA, "workloads": each.collect::<Vec<_>>()}))?;
        }
        (What::Workloads, Format::Text) => {
            output::print(&definitions().iter().map(workload).collect::<String>())?;
        }
        (What::Questions, Format::Json) => {
            let each = questions().iter().map(|q| {
                json!({
                    "id": q.id,
                    "title": q.title,
                    "argument": q.argument,
                    "threads": q.threads,
                    "analysis": q.analysis,
                    "chart": q.chart,
                    "percent": q.percent,
                    "comparisons": q.compares.iter().map(|c| &c.title).collect::<Vec<_>>(),
                    "awaiting": q.awaiting,
                    "cells": cells_of(q),
                })
            });
            output::print_json(&json!({"schema": JSON_SCHEMA, "questions": each.collect::<Vec<_>>()}))?;
        }
        (What::Questions, Format::Text) => {
            let text: String = questions().iter().map(question).collect();
            output::print(&(text + "cells: in the quick profile, of the full one\n"))?;
        }
        (What::Cells, format) => cells(args, format)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A question in a few lines of 100 columns: its name, what it asks, the argument, where that was had.
fn question(q: &Question) -> String {
    let cells = cells_of(q);
    let mut text =
        wrapped(&format!("{}: {} ({} of {} cells)", q.id, q.title, cells["quick"], cells["full"]), "");
    text += &wrapped(&q.argument, "    ");
    text + &q.threads.iter().map(|thread| wrapped(thread, "    ")).collect::<String>()
}

/// A workload in a few lines of 100 columns: its name, what it is, what it decides, what is asked of it.
fn workload(d: &Definition) -> String {
    let requests: Vec<_> = d.requests.iter().map(ToString::to_string).collect();
    let mut text = wrapped(&format!("{}: {}", d.id, d.title), "");
    text += &wrapped(&gist(&d.analysis), "    ");
    text + &wrapped(&format!("asks {}", requests.join(", ")), "    ")
}

/// The first sentence of an analysis, and what it says that the workload decides or checks.
fn gist(analysis: &str) -> String {
    let text = analysis.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = text.split_inclusive(". ").enumerate();
    let says = |s: &str| s.starts_with("Decides") || s.starts_with("Checks");
    sentences.by_ref().filter(|(i, s)| *i == 0 || says(s)).map(|(_, s)| s).collect::<String>()
}

/// Words in lines of at most 100 columns behind `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    tables::wrap(indent, indent, text)
}

/// How many cells of each profile a question looks at.
fn cells_of(question: &Question) -> serde_json::Value {
    let count = |profile| {
        let wants = |id: &str| CellId::parse(id).is_some_and(|c| question.wants(&c));
        matrix::groups(profile, &wants).iter().map(|g| g.backends.len()).sum::<usize>()
    };
    json!({"smoke": count(Profile::Smoke), "quick": count(Profile::Quick), "full": count(Profile::Full)})
}

fn cells(args: &ListArgs, format: Format) -> Result<()> {
    let asked = spelled_out(&args.questions);
    let groups = Selection::new(args.filter.as_ref(), &asked)?.groups(args.profile.into())?;
    if format == Format::Text {
        let each = groups.iter().flat_map(|g| g.backends.iter().map(|b| format!("{}\n", g.cell_id(b.id))));
        return output::print(&each.collect::<String>());
    }
    let cell = |g: &matrix::Group, backend: &str| {
        json!({
            "id": g.cell_id(backend),
            "backend": backend,
            "workload": g.definition.id,
            "size": size_name(g.size_bytes),
            "size_bytes": g.size_bytes,
            "request": g.request.to_string(),
            "call_pages": g.call_pages,
            "churn": workloads::churn::name(g.churn),
            "walkers": g.walkers,
        })
    };
    let cells = groups.iter().flat_map(|g| g.backends.iter().map(|b| cell(g, b.id)));
    let skips = groups
        .iter()
        .flat_map(|g| g.skips.iter().map(|(b, reason)| json!({"id": g.cell_id(b.id), "reason": reason})));
    output::print_json(&json!({
        "schema": JSON_SCHEMA,
        "cells": cells.collect::<Vec<_>>(),
        "skips": skips.collect::<Vec<_>>(),
    }))
}

fn grid(d: &Definition, profile: Profile) -> serde_json::Value {
    let grid = d.grid(profile);
    json!({
        "sizes": grid.sizes.iter().map(|s| size_name(*s)).collect::<Vec<_>>(),
        "call_pages": grid.call_pages,
        "churn": grid.churn.iter().map(|c| workloads::churn::name(*c)).collect::<Vec<_>>(),
        "walkers": grid.walkers,
    })
}

fn text_table(header: &[&str]) -> comfy_table::Table {
    let mut table = tables::table(header.iter().map(|h| (*h).to_owned()).collect());
    for column in table.column_iter_mut() {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_says_in_100_columns_what_it_decides() {
        for d in definitions() {
            let text = workload(d);
            assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
            assert!(text.lines().count() >= 3 && text.lines().count() <= 12, "{text}");
            let gist = gist(&d.analysis);
            assert!(gist.contains("Decides") || gist.contains("Checks"), "{}: {gist}", d.id);
        }
    }
}
