//! `walkbench`: parse and dispatch, nothing else.

mod capture;
mod cli;
mod cmd;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Capture(args) => cmd::capture::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::Conform(args) => cmd::conform::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("walkbench: {error:#}");
        ExitCode::from(2)
    })
}
