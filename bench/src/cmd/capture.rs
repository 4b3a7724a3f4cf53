//! `walkbench capture`: the shape of a live process to a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use workloads::capture::PAGE_BYTES;

use crate::capture::{Capture, Labels, capture};
use crate::output;

/// Write the shape of a live process: VMAs and page-table entries, no contents, paths or addresses.
///
/// To measure on it: put the file into workloads/captured, its name into the list of workloads/src/shape/captured.rs, a
/// definition like workloads/definitions/captured_cache.toml beside that, and build.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  walkbench capture --pid $(pidof redis-server) --out workloads/captured/mine.shape.gz
  zcat mine.shape.gz | head -1     what could not be read, and why")]
pub(crate) struct CaptureArgs {
    /// Process to read; your own, or any as root. Frame numbers need CAP_SYS_ADMIN.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: u32,
    /// Shape file to write; compressed if its name ends in .gz. An existing file is replaced, a device or pipe is written.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the shape; by default the command name of the process.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How the process was made, for readers of the file.
    #[arg(long, value_name = "TEXT")]
    made: Option<String>,
    /// What the shape shows, for readers of the file.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// How long a capture is silent.
const QUIET: Duration = Duration::from_secs(2);

/// Captures and writes; the summary goes to standard error.
///
/// # Errors
///
/// What [`capture`] says, or a file that cannot be written. No file is left behind then, an older one is as it was.
pub(crate) fn run(args: &CaptureArgs) -> Result<()> {
    let folder = match args.out.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    // Before the work, not after it.
    if !folder.is_dir() {
        bail!(
            "{}: the folder {} does not exist; expected a file in a folder that does",
            args.out.display(),
            folder.display()
        );
    }
    if args.out.is_dir() {
        bail!("{}: is a folder; expected the name of a file", args.out.display());
    }
    let labels =
        Labels { name: args.name.clone(), made: args.made.clone(), description: args.description.clone() };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let began = Instant::now();
    let mut progress = |done: u64, total: u64| {
        if bar.is_hidden() && began.elapsed() >= QUIET {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} pages, {eta} left")
            {
                bar.set_style(style);
            }
        }
        // Pages come while we read: the end moves along.
        bar.set_length(total.max(done));
        bar.set_position(done);
    };
    let captured = capture(args.pid, &labels, &mut progress)?;
    bar.finish_and_clear();

    let zipped = args.out.extension().is_some_and(|e| e == "gz");
    let bytes = if zipped { captured.shape.to_gzip() } else { captured.shape.to_text() }
        .with_context(|| format!("shape of process {}", args.pid))?;
    output::replace(&args.out, &bytes)?;
    eprint!("{}", summary(&captured, args, bytes.len() as u64));
    Ok(())
}

fn summary(captured: &Capture, args: &CaptureArgs, file_bytes: u64) -> String {
    let sum = captured.shape.summary();
    let pages = |n: u64| format!("{n} pages, {}", HumanBytes(n * PAGE_BYTES));
    let of_mapped = |n: u64| match sum.nr_mapped {
        0 => pages(n),
        all => format!("{}, {:.1} %", pages(n), 100.0 * n as f64 / all as f64),
    };
    let run_kind = if captured.shape.physical { "physically contiguous" } else { "of one state" };
    let lines = [
        ("VMAs", format!("{} over {}", sum.nr_vmas, HumanBytes(sum.nr_pages.saturating_mul(PAGE_BYTES)))),
        ("mapped", format!("{} (smaps counts {})", pages(sum.nr_mapped), captured.resident_pages)),
        ("huge", of_mapped(sum.nr_huge)),
        ("zero page", of_mapped(sum.nr_zero)),
        ("anon, shared", of_mapped(sum.nr_anon_shared)),
        ("likely writable", of_mapped(sum.nr_likely_writable)),
        ("swap", pages(sum.nr_swap)),
        ("runs", format!("{}, {run_kind}, mean {:.1} pages", sum.nr_runs, sum.mean_run_pages())),
    ];
    let mut text = format!(
        "{} (pid {}, {}, kernel {})\n",
        captured.shape.name, args.pid, captured.command, captured.shape.kernel
    );
    for (what, value) in lines {
        let _ = writeln!(text, "  {what:<16}{value}");
    }
    text.push_str("not in it:\n");
    for line in &captured.shape.missing {
        let _ = writeln!(text, "  - {line}");
    }
    let _ = writeln!(text, "wrote {} ({})", args.out.display(), HumanBytes(file_bytes));
    text
}
