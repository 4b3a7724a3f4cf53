//! `walkbench report`: answers, charts, tables and a page from the results of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::calibrate::Calibration;
use crate::output;
use crate::report::{self, Report, splice};
use crate::results::Results;

/// Write answers, charts and a page from the results of a run
///
/// The folder of the report gets report.md, charts/*.svg and index.html: one page that needs no network, with every
/// chart and every cell. With --splice the generated parts of a document are replaced, those between
/// `<!-- walkbench:NAME -->` and `<!-- /walkbench -->`, and nothing else.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walkbench report results/MINE                              into results/MINE/report
  walkbench report results/MINE --out /tmp/mine
  walkbench report results/MINE results/AGAIN                does another run give the same answers?
  walkbench report results/MINE --splice REPORT.md
  walkbench report results/MINE --splice REPORT.md --check    do they still agree?
  walkbench report results/MINE --calibrate results/KERNEL   what changes with a kernel's fault cost?

What may stand between markers: machine, decisions, missing, runs (with several folders), calibrated (with --calibrate), and for each
question (walkbench list questions) answer ID, charts ID, tables ID.")]
pub(crate) struct ReportArgs {
    /// Results folders: the first is what is reported, further ones are held against it
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Folder for the report; by default report below the first DIR
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the generated parts of this document; again for more
    #[arg(long, value_name = "FILE")]
    splice: Vec<PathBuf>,
    /// Also say what the questions about faults and collisions answer with a kernel's cost of faults and reads in the
    /// model's place, marked as calibrated: DIR holds a run and, as live.json, a kernel's hmm_range_fault, measured on the
    /// same processor (scripts/kernel/run.sh WORKDIR beside)
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// Write nothing; fail if what was written before differs from what these results say
    #[arg(long)]
    check: bool,
}

/// Writes it.
///
/// # Errors
/// Results that cannot be read or hold nothing, wrong markers, or a place that cannot be written. Markers are looked at
/// before anything is written.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let documents = args.splice.iter().map(|path| {
        let text = fs::read_to_string(path)
            .with_context(|| format!("--splice {}: expected a document with markers", path.display()))?;
        splice::blocks(&text).with_context(|| format!("--splice {}", path.display()))?;
        Ok((path, text))
    });
    let documents = documents.collect::<Result<Vec<_>>>()?;
    let runs = args.folders.iter().map(|folder| {
        let results = Results::load(folder)?;
        if results.cells.is_empty() {
            bail!("{}: holds no measured cell; expected the results of `walkbench run`", folder.display());
        }
        Ok(results)
    });
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let mut report = Report::of(&runs);
    if let Some(folder) = &args.calibrate {
        let calibration = Calibration::load(folder).context("--calibrate")?;
        report = report.calibrated(&calibration).context("--calibrate")?;
    }
    let first = &args.folders[0];
    let out = args.out.clone().unwrap_or_else(|| first.join("report"));
    let spliced = documents.iter().map(|(path, text)| {
        let folder = path.parent().unwrap_or(Path::new("."));
        let new =
            report.spliced(text, folder, &out).with_context(|| format!("--splice {}", path.display()))?;
        Ok((path, text, new))
    });
    let spliced = spliced.collect::<Result<Vec<_>>>()?;
    if args.check {
        let documents = spliced.iter().filter(|(_, old, new)| old != &new);
        let mut stale: Vec<PathBuf> = documents.map(|(path, ..)| path.to_path_buf()).collect();
        stale.extend(report::stale(&report, &out)?);
        for path in &stale {
            eprintln!("{}: differs from what {} says", path.display(), first.display());
        }
        return Ok(ExitCode::from(u8::from(!stale.is_empty())));
    }
    let files = report::write(&report, &out)?;
    let mut text = format!("{}\n{} charts\n", out.join("index.html").display(), files.len() - 2);
    for (path, old, new) in spliced {
        let blocks = splice::blocks(&new)?.len();
        if *old == new {
            text += &format!("{}: {blocks} parts, nothing new\n", path.display());
        } else {
            output::replace(path, new.as_bytes())?;
            text += &format!("{}: {blocks} parts replaced\n", path.display());
        }
    }
    output::print(&text)?;
    runs.iter().flat_map(|r| &r.notes).for_each(|note| eprintln!("{note}"));
    Ok(ExitCode::SUCCESS)
}
