//! The arguments: one line a sub-command; each declares its own in its file.

use crate::cmd::capture::CaptureArgs;
use crate::cmd::compare::CompareArgs;
use crate::cmd::completions::CompletionsArgs;
use crate::cmd::conform::ConformArgs;
use crate::cmd::doctor::DoctorArgs;
use crate::cmd::export::ExportArgs;
use crate::cmd::gate::GateArgs;
use crate::cmd::kernels::KernelsArgs;
use crate::cmd::list::ListArgs;
use crate::cmd::live::LiveArgs;
use crate::cmd::record::RecordArgs;
use crate::cmd::report::ReportArgs;
use crate::cmd::run::RunArgs;
use crate::cmd::serve::ServeArgs;
use crate::cmd::soak::SoakArgs;
use crate::cmd::speed::SpeedArgs;
use crate::cmd::verify::VerifyArgs;
use crate::sources::scratch::JanitorArgs;

/// Measures every API for mirroring a process's page tables to a device.
#[derive(Debug, clap::Parser)]
#[command(
    name = "walkbench",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  walkbench run                                measure what the questions ask, in minutes
  walkbench run --filter '^dense_4k@16MiB/snapshot/512/'
  walkbench list cells --filter fault_write    what `run` would measure
  walkbench verify                             every answer against the oracle, exact counts
  walkbench soak                               every answer again, under churn of every kind at once
  walkbench compare results/A results/B        two runs side by side, as ratios
  walkbench report results/A                   answers, charts and a page from a run
  walkbench export results/A --to csv          for other tools
  walkbench doctor                             what on this machine spoils measuring
  walkbench gate --baseline HEAD~1             is this tree slower than that one?
  walkbench live                               this machine's own kernel on real memory
  walkbench kernels A B                        one kernel against another (scripts/kernel/run.sh)
  walkbench record --out new.jsonl             what a kernel answers to random scenarios (scripts/kernel/run.sh)
  walkbench speed                              how far the model is from what the machine allows

Exit codes: 0 all right, 1 something failed or differs, 2 bad usage or input, 130 Ctrl-C; `gate` has more.
Results go to standard output, everything else to standard error."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    List(ListArgs),
    Verify(VerifyArgs),
    Conform(ConformArgs),
    Soak(SoakArgs),
    Compare(CompareArgs),
    Report(ReportArgs),
    Export(ExportArgs),
    Doctor(DoctorArgs),
    Live(LiveArgs),
    Kernels(KernelsArgs),
    Record(RecordArgs),
    Speed(SpeedArgs),
    Gate(GateArgs),
    Capture(CaptureArgs),
    Completions(CompletionsArgs),
    /// One launch of a run; `run` starts it
    #[command(hide = true)]
    Launch,
    /// One side of a gate; `gate` starts it
    #[command(hide = true)]
    Serve(ServeArgs),
    /// What tidies up after a gate; `gate` starts it
    #[command(hide = true)]
    Janitor(JanitorArgs),
}
