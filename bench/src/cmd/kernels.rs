//! `walkbench kernels`: one kernel against another.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::compare::differences;
use crate::kernels::{self, ALPHA, Comparison, Verdict};
use crate::measure::machine::Machine;
use crate::output::{self, Format};
use crate::record::JSON_SCHEMA;
use crate::results::{LiveRow, read_live};
use crate::stats::{COUNTS_FROM, Estimate, LEAST_LAUNCHES};
use crate::tables;

/// Hold one kernel against another: `walkbench live` of both, taken in turns
///
/// Each folder holds what `walkbench live --launches 1 --format json` said in launches of its kernel, a file a launch. Files of the same
/// name were measured next to each other. `scripts/kernel/run.sh --patch FILE WORKDIR ab` makes both folders.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  scripts/kernel/run.sh --patch my.patch /var/tmp/wb ab
  walkbench kernels /var/tmp/wb/ab/a /var/tmp/wb/ab/b")]
pub(crate) struct KernelsArgs {
    /// Launches of the first kernel
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Launches of the second one
    #[arg(value_name = "B")]
    b: PathBuf,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Compares.
///
/// # Errors
/// Folders that cannot be read, hold other launches than each other, or come from different machines.
pub(crate) fn run(args: &KernelsArgs) -> Result<ExitCode> {
    let names = names(&args.a)?;
    if names != self::names(&args.b)? {
        bail!(
            "{} and {}: expected files of the same names, a launch of each kernel in turns",
            args.a.display(),
            args.b.display()
        );
    }
    let (machine, a) = launches(&args.a, &names)?;
    let (other, b) = launches(&args.b, &names)?;
    // What a kernel leaves of the memory is its own.
    let alike =
        Machine { kernel: machine.kernel.clone(), memory_bytes: machine.memory_bytes, ..other.clone() };
    let differ = differences(&machine, &alike);
    if !differ.is_empty() {
        bail!("{} is of another machine than {} ({})", args.b.display(), args.a.display(), differ.join("; "));
    }
    let comparison = kernels::compare(&a, &b);
    match args.format {
        Format::Json => output::print_json(&json!({
            "schema": JSON_SCHEMA,
            "a": {"folder": args.a, "machine": machine},
            "b": {"folder": args.b, "machine": other},
            "alpha": ALPHA,
            "percent": COUNTS_FROM,
            "launches": names.len(),
            "rows": comparison.rows,
            "missing": comparison.missing,
        }))?,
        Format::Text => output::print(&text(&comparison, &machine, names.len()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The launches of a folder.
fn names(folder: &Path) -> Result<BTreeSet<OsString>> {
    let there = fs::read_dir(folder).with_context(|| format!("{}: expected a folder", folder.display()))?;
    let mut names = BTreeSet::new();
    for entry in there {
        let name = entry.with_context(|| folder.display().to_string())?.file_name();
        if Path::new(&name).extension().is_some_and(|e| e == "json") {
            names.insert(name);
        }
    }
    if names.is_empty() {
        bail!("{}: holds no *.json, of walkbench live --launches 1 --format json", folder.display());
    }
    Ok(names)
}

/// What they said, and the machine of the first.
fn launches(folder: &Path, names: &BTreeSet<OsString>) -> Result<(Machine, Vec<Vec<LiveRow>>)> {
    let mut all = Vec::new();
    let mut machine = None;
    for name in names {
        let (its, rows) = read_live(&folder.join(name))?;
        machine.get_or_insert(its);
        all.push(rows);
    }
    Ok((machine.context("no launch")?, all))
}

fn text(comparison: &Comparison, machine: &Machine, nr_launches: usize) -> String {
    let header = ["ns/page", "a", "b", "b / a", "p", ""].map(str::to_owned).to_vec();
    let mut table = tables::table(header);
    for row in &comparison.rows {
        let word = match row.verdict {
            Verdict::Faster => "faster".to_owned(),
            Verdict::Slower => "slower".to_owned(),
            Verdict::Same => "same".to_owned(),
            Verdict::Unresolved => match row.ratio.smallest_percent {
                Some(percent) => format!("? ({percent:.1} %)"),
                None => "?".to_owned(),
            },
        };
        let p = format!("{:.3}", row.p);
        // Sources say what they ask: the stage and no churn go without saying.
        let name = row.name.replace("/snapshot/", "/").replace("/fault/", "/");
        table.add_row([
            name.trim_end_matches("/none").to_owned(),
            tables::number(row.a.value),
            tables::number(row.b.value),
            ratio(&row.ratio),
            p,
            word,
        ]);
    }
    let mut text = tables::lines(&table);
    for (reason, names) in &comparison.missing {
        text += "\n";
        text += &tables::paragraph(&format!("not compared: {}: {reason}", names.join(", ")), 0, 2);
    }
    let few = if nr_launches < LEAST_LAUNCHES {
        format!(" Fewer than {LEAST_LAUNCHES} resolve nothing.")
    } else {
        String::new()
    };
    text += &format!(
        "\n{}\n{}\n",
        tables::paragraph(
            &format!(
                "{nr_launches} launches of each, in turns.{few} faster, slower: one test for all rows, p <= {ALPHA}, and an interval \
                 that excludes 1; same: within {COUNTS_FROM} % on both sides; ?: neither, and the effect that so many launches \
                 would have found four times out of five."
            ),
            0,
            0
        ),
        tables::paragraph(&machine.line(), 0, 2)
    );
    text
}

fn ratio(e: &Estimate) -> String {
    match e.lo.zip(e.hi) {
        Some((lo, hi)) => format!("{:.3} [{lo:.3}..{hi:.3}]", e.value),
        None => format!("{:.3}", e.value),
    }
}
