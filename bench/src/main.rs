//! `walkbench`: parse and dispatch, nothing else.

mod cmd;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures every API ever merged or proposed for mirroring a process's page tables to a device.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Conform(cmd::conform::ConformArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Conform(args) => cmd::conform::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("walkbench: {error:#}");
        ExitCode::from(2)
    })
}
