//! `walkbench verify`: every cell once against the oracle, with exact counts.

mod churned;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use regex::Regex;
use serde::Serialize;
use walker::backends;
use walker::counters::{Count, Counters};
use walker::request::Wish;
use workloads::churn::ChurnSpec;
use workloads::definition::{Point, Profile, definitions};

use crate::analysis::named;
use crate::interrupt;
use crate::measure::backend_member::MakeMember;
use crate::measure::clock::Clock;
use crate::measure::matrix::{self, Group};
use crate::measure::member::Checked;
use crate::measure::scene::Scene;
use crate::output::{self, Format};
use crate::record::{JSON_SCHEMA, Skip};
use crate::tables;
use crate::workers;

/// Check every answer of every backend against the oracle, once, at small sizes
///
/// Every slot of every call is compared with the page tables as far as the API can speak, and every wish must be
/// fulfilled. Each cell runs twice on tables built from the same seed: its counts must be the same. Cells under churn run
/// in virtual time, events at exact visits of the walk, and the device's table is audited after every call.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench verify
  walkbench verify --filter /map_order$ --format json | jq .counts")]
pub(crate) struct VerifyArgs {
    /// Only cells whose id matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Decides tables and wishes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Mismatch {
    id: String,
    what: String,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    cells: usize,
    mismatches: Vec<Mismatch>,
    /// Wishes that designs lost as they say they may: cell and how many.
    lost_wishes: BTreeMap<String, u64>,
    /// Pages behind NUMA hints that designs reported as they say they may: cell and how many.
    hints_reported: BTreeMap<String, u64>,
    skipped: Vec<Skip>,
    counts: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// The smallest cells of every definition: each request with each call size that any profile uses and that fits.
pub(super) fn groups(filter: Option<&Regex>) -> Result<Vec<Group>> {
    let wanted = |id: &str| filter.is_none_or(|f| f.is_match(id));
    let mut chosen: Vec<Group> = Vec::new();
    for definition in definitions() {
        let everyday: &[Profile] = &[Profile::Smoke, Profile::Quick];
        let smallest = |of: &[Profile]| of.iter().flat_map(|p| &definition.grid(*p).sizes).min().copied();
        // What only the full profile has is checked too, at its smallest size and with calls of 512 pages.
        let everyday_size = smallest(everyday);
        let Some(size) = everyday_size.or_else(|| smallest(&[Profile::Full])) else { continue };
        let mut calls: Vec<u64> =
            everyday.iter().flat_map(|p| definition.grid(*p).call_pages.clone()).collect();
        if everyday_size.is_none() {
            calls.push(512);
        }
        // A call of 7 pages starts and ends in the middle of everything.
        calls.push(7);
        calls.sort_unstable();
        calls.dedup();
        calls.retain(|n| *n <= size >> 12);
        for call_pages in calls {
            for &request in &definition.requests {
                let point = Point { size_bytes: size, call_pages, churn: None, walkers: 1 };
                chosen.extend(matrix::group(definition, request, point, &wanted));
            }
        }
    }
    chosen.extend(churned::groups(&wanted));
    if chosen.is_empty() {
        bail!("--filter {}: matches no cell of `walkbench verify`", filter.map_or("", Regex::as_str));
    }
    Ok(chosen)
}

/// Checks.
///
/// # Errors
/// Bad input. What differs is part of the result.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let groups = groups(args.filter.as_ref())?;
    interrupt::listen()?;
    let clock = Clock::measure();
    let mut report = Report {
        schema: JSON_SCHEMA,
        cells: 0,
        mismatches: Vec::new(),
        lost_wishes: BTreeMap::new(),
        hints_reported: BTreeMap::new(),
        skipped: Vec::new(),
        counts: BTreeMap::new(),
    };
    let cells: Vec<(&Group, &str)> =
        groups.iter().flat_map(|g| g.backends.iter().map(move |b| (g, b.id))).collect();
    let checked = workers::map(
        &cells,
        |(group, backend)| group.cell_id(backend),
        || !interrupt::is_asked(),
        |(group, backend)| check(group, backend, args.seed, clock),
    );
    for ((group, backend), checked) in cells.iter().zip(checked) {
        let Some(checked) = checked else {
            eprintln!("stopped by Ctrl-C; the first {} cells were checked, and perhaps others", report.cells);
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        };
        report.add(group.cell_id(backend), checked);
    }
    for group in &groups {
        for (backend, reason) in &group.skips {
            report.skipped.push(Skip { id: group.cell_id(backend.id), reason: reason.clone() });
        }
    }
    match args.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report))?,
    }
    Ok(ExitCode::from(u8::from(!report.mismatches.is_empty())))
}

/// What a right cell came to.
struct Right {
    counts: BTreeMap<&'static str, u64>,
    lost_wishes: u64,
    hints_reported: u64,
}

impl Report {
    fn add(&mut self, id: String, checked: Result<Right>) {
        self.cells += 1;
        match checked {
            Ok(right) => {
                if right.lost_wishes > 0 {
                    self.lost_wishes.insert(id.clone(), right.lost_wishes);
                }
                if right.hints_reported > 0 {
                    self.hints_reported.insert(id.clone(), right.hints_reported);
                }
                self.counts.insert(id, right.counts);
            }
            Err(e) => self.mismatches.push(Mismatch { id, what: format!("{e:#}") }),
        }
    }
}

fn check(group: &Group, backend: &str, seed: u64, clock: Clock) -> Result<Right> {
    let Some(churn) = group.churn else {
        let Checked { counts, lost_wishes, hints_reported } = cell(group, backend, seed, clock)?;
        return Ok(Right { counts: named(&counts), lost_wishes, hints_reported });
    };
    let churned = churned_cell(group, churn, backend, seed)?;
    let mut counts = named(&churned.counts);
    counts.extend(churned.script);
    Ok(Right { counts, lost_wishes: churned.lost_wishes, hints_reported: 0 })
}

/// The counts of one cell, once: what `walkbench gate` keeps. With `is_checked` its answers are compared with the oracle's on
/// the way, which changes none of them.
///
/// # Errors
/// What differs, what an API returned, or tables that cannot be built.
pub(super) fn counts(
    group: &Group,
    backend: &str,
    seed: u64,
    clock: Clock,
    is_checked: bool,
) -> Result<BTreeMap<&'static str, u64>> {
    if let Some(churn) = group.churn {
        let churned = churned::cell(group, churn, backend, seed, is_checked)?;
        let mut counts = named(&churned.counts);
        counts.extend(churned.script.into_iter().filter(|(name, _)| *name != churned::AUDITED));
        return Ok(counts);
    }
    if is_checked {
        return Ok(named(&checked(group, backend, seed, clock)?.counts));
    }
    let scene = Scene::new(group.recipe(seed))?;
    let make = MakeMember::plain(group.call_pages, clock);
    let Some(mut member) = backends::dispatch(backend, make) else { bail!("no backend {backend}") };
    let counts = member.counted(&scene);
    scene.discard();
    Ok(named(&counts?))
}

/// One cell under churn in virtual time, twice.
fn churned_cell(group: &Group, churn: ChurnSpec, backend: &str, seed: u64) -> Result<churned::Churned> {
    let first = churned::cell(group, churn, backend, seed, true)?;
    let second = churned::cell(group, churn, backend, seed, true)?;
    if first != second {
        bail!("counts differ between two runs of the same script:\n{first:?}\n{second:?}");
    }
    Ok(first)
}

/// One cell, once.
fn checked(group: &Group, backend: &str, seed: u64, clock: Clock) -> Result<Checked> {
    let scene = Scene::new(group.recipe(seed))?;
    let make = MakeMember::plain(group.call_pages, clock);
    let Some(mut member) = backends::dispatch(backend, make) else { bail!("no backend {backend}") };
    let checked = member.checked(&scene);
    scene.discard();
    let checked = checked?.unwrap_or_default();
    let (issued, needed) = (checked.counts.get(Count::FaultsIssued), checked.counts.get(Count::FaultsNeeded));
    if group.request.strongest() == Wish::None && issued > 0 {
        bail!("a snapshot issued {issued} faults");
    }
    if needed > issued {
        bail!("{needed} faults needed, {issued} issued");
    }
    Ok(checked)
}

/// One cell, twice.
fn cell(group: &Group, backend: &str, seed: u64, clock: Clock) -> Result<Checked> {
    let (first, second) = (checked(group, backend, seed, clock)?, checked(group, backend, seed, clock)?);
    let differs = first.counts.iter().zip(second.counts.iter()).find(|(a, b)| a != b);
    if let Some(((count, a), (_, b))) = differs {
        bail!("{}: {a} the first time, {b} the second, on the same tables", count.name());
    }
    Ok(first)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Mismatch { id, what } in &report.mismatches {
        text += &format!("{id}\n    {what}\n");
    }
    let mut table = tables::table(["backend", "cells", "differ", "skipped"].map(str::to_owned).to_vec());
    let of = |id: &str, backend: &str| id.rsplit('/').next() == Some(backend);
    for backend in backends::ALL {
        let differ = report.mismatches.iter().filter(|m| of(&m.id, backend.id)).count();
        let right = report.counts.keys().filter(|id| of(id, backend.id)).count();
        let skipped = report.skipped.iter().filter(|s| of(&s.id, backend.id)).count();
        if differ + right + skipped > 0 {
            table.add_row([
                backend.id.to_owned(),
                (differ + right).to_string(),
                differ.to_string(),
                skipped.to_string(),
            ]);
        }
    }
    text += &tables::lines(&table);
    for (id, lost) in &report.lost_wishes {
        text += &format!("{id}: {lost} wishes lost, as its documentation says\n");
    }
    for (id, pages) in &report.hints_reported {
        text += &format!("{id}: {pages} pages behind NUMA hints reported, as its documentation says\n");
    }
    text + &format!(
        "{} cells, {} differ from the oracle, {} skipped for want of a capability\n",
        report.cells,
        report.mismatches.len(),
        report.skipped.len()
    )
}
