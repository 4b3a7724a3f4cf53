//! The arguments.

use crate::cmd::capture::CaptureArgs;

/// Measures every API for mirroring a process's page tables to a device.
#[derive(Debug, clap::Parser)]
#[command(name = "walkbench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Conform(crate::cmd::conform::ConformArgs),
    Capture(CaptureArgs),
}
