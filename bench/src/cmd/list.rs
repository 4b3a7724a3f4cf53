//! `walkbench list`: what there is.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::json;
use walker::backends;
use workloads::definition::{Profile, definitions, size_name};

use super::run::{ProfileArg, wanted};
use crate::measure::matrix;
use crate::output::{self, Format};
use crate::record::JSON_SCHEMA;
use crate::tables;

/// List backends, workloads, questions or cells
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench list backends
  walkbench list cells --profile smoke --filter /map_order$
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
            let mut table = text_table(&["id", "what", "requests"]);
            for d in definitions() {
                let requests: Vec<_> = d.requests.iter().map(ToString::to_string).collect();
                table.add_row([&d.id, &d.title, &requests.join(" ")]);
            }
            output::print(&tables::lines(&table))?;
        }
        (What::Questions, Format::Json) => {
            output::print_json(&json!({"schema": JSON_SCHEMA, "questions": []}))?
        }
        (What::Questions, Format::Text) => eprintln!("there are no questions yet"),
        (What::Cells, format) => cells(args, format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(args: &ListArgs, format: Format) -> Result<()> {
    let groups = wanted(args.profile.into(), args.filter.as_ref())?;
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

fn grid(d: &workloads::definition::Definition, profile: Profile) -> serde_json::Value {
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
