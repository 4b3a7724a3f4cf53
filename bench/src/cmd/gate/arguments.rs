//! What `walkbench gate` is told.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use regex::Regex;

use super::cells::TAILS;
use super::paired;
use super::planted::Planted;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: tables that fit 100 columns
    Text,
    /// For programs: one JSON object with a schema number, and every raw round
    Json,
    /// For a pull request
    Markdown,
}

/// A way to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tier {
    /// Exact counts of every cell
    Counts,
    /// Instructions of cells with one thread, where valgrind is installed
    Instructions,
    /// Both programs in turns
    Time,
}

/// What an inconclusive run is for whoever looks at the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Inconclusive {
    /// Exit code 0
    Pass,
    /// Exit code 3 (environment) or 4 (power)
    Fail,
}

/// Decide whether this program is slower than an older one
///
/// The older one is built from a git revision (once; it is kept) or is given as an executable. Three tiers: exact counts
/// of every cell, which any machine gives to the last digit; instructions, where valgrind is installed; and time, both
/// programs in turns on this machine, judged over fresh launches with one error rate for all cells together. Cells that are
/// not shown to be as fast are compared once more with their functions in other orders, which takes another build of
/// either side: what the change did remains, what the linker's order did does not. Where nothing can be linked anew, what
/// was not resolved is compared once more as it is. Every run carries its own controls: a copy of this program that must
/// not be flagged, and 3 % more work that must be found.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("what").required(true).args(["baseline", "exact", "renew_counts", "replay", "self_test"])),
    after_help = "\
Examples:
  walkbench gate --baseline HEAD~1       counts, then old and new in turns, about two minutes
  walkbench gate --baseline main --format markdown --inconclusive pass > comment.md
  walkbench gate --baseline ./walkbench.old --filter '^dense_4k@16MiB/.*/512/none/1/'
  walkbench gate --exact                 counts of every cell against the committed ones; any machine
  walkbench gate --self-test 40 --budget 20 --filter '@16MiB/.*/512/none/1/map_order$' --record runs.jsonl
  walkbench gate --renew-counts          accept the counts as they are now; commit what it writes

Exit codes: 0 pass, 1 regression, 2 usage, input or output, 3 inconclusive: environment,
4 inconclusive: power, 5 exact counts changed, 130 Ctrl-C."
)]
pub(crate) struct GateArgs {
    /// What to compare with: a git revision, or an executable
    #[arg(long, value_name = "REV|EXE")]
    pub(super) baseline: Option<String>,
    /// Try the gate on this machine: N runs with each of --planted, each with its own --budget
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) self_test: Option<u64>,
    /// Seconds that a look of the paired tier aims at
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) budget: u64,
    /// Which tiers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "counts,instructions,time")]
    pub(super) tiers: Vec<Tier>,
    /// Counts may rise by so many per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub(super) count_budget: f64,
    /// Decides tables and orders
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Link either side so many times with its functions in other orders, another link for every launch, for all cells:
    /// what luck of placement does is noise then and no difference (22 is enough for any budget; needs lld). Without this,
    /// only cells that are not shown to be as fast as the baseline's are compared once more in this way
    #[arg(long, value_name = "LINKS", num_args = 0..=1, default_missing_value = "22",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) layouts: Option<u32>,
    /// Judge this one build of either side, also in a second look; where in memory the linker happened to put a loop is part
    /// of the change then
    #[arg(long, conflicts_with = "layouts")]
    pub(super) as_built: bool,
    /// Compare programs of different compilers or profiles all the same
    #[arg(long)]
    pub(super) any_build: bool,
    /// Seconds that a side may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true)]
    pub(super) patience: u64,
    /// Plant a slowdown, to see the gate find it: PERCENT more work, PERCENT:churn only under churn, PERCENT:late in every
    /// 64th operation; if negative, in the old side
    #[arg(long, value_name = "WHAT", default_value = "0", allow_hyphen_values = true, hide = true)]
    pub(super) plant: Planted,
    /// What --self-test plants, in turns: PERCENT of work, PERCENT:churn only under churn, PERCENT:late in some operations
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "0,3,2,-3,3:churn,40:late",
        allow_hyphen_values = true
    )]
    pub(super) planted: Vec<Planted>,
    /// Keep every run of --self-test here, and go on with those that are here already
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Cells whose slowest operations (p99) are compared as well
    #[arg(long, value_name = "REGEX", default_value = TAILS)]
    pub(super) tails: Regex,
    /// Compare the exact counts of every cell with the committed ones
    #[arg(long)]
    pub(super) exact: bool,
    /// With --exact, compare every answer with the oracle's in the same pass, as `walkbench verify` does
    #[arg(long, requires = "exact")]
    pub(super) oracle: bool,
    /// Write the committed counts anew
    #[arg(long)]
    pub(super) renew_counts: bool,
    /// Decide once more on what an earlier gate recorded with --format json
    #[arg(long, value_name = "FILE")]
    pub(super) replay: Option<PathBuf>,
    /// What to make of a run that could not decide; with `pass` there is no second look at it either
    #[arg(long, value_enum, default_value_t = Inconclusive::Fail)]
    pub(super) inconclusive: Inconclusive,
    /// Where the committed counts are; by default bench/counts.txt of the project
    #[arg(long, value_name = "FILE")]
    pub(super) counts: Option<PathBuf>,
    /// Only cells whose id matches
    #[arg(long, value_name = "REGEX", conflicts_with = "renew_counts")]
    pub(super) filter: Option<Regex>,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

impl GateArgs {
    /// Refuses options of another mode, which would go unheard.
    ///
    /// # Errors
    /// Which, and what it expects.
    pub(super) fn check(&self) -> Result<()> {
        if self.record.is_some() && self.self_test.is_none() {
            bail!(
                "--record keeps the runs of --self-test N; `--format json` has every round of a single run"
            );
        }
        if self.layouts.is_some() && self.baseline.is_none() {
            bail!("--layouts links this tree and a --baseline REVISION; expected one");
        }
        if self.as_built && self.baseline.is_none() {
            bail!("--as-built says how to compare with a --baseline; expected one");
        }
        paired::enough_layouts(self.layouts)
    }
}
