//! The program `walkbench` as a library: what its main, its benchmarks and its tests share.
//!
//! Everything is private but what another target of this package needs: [`main()`], the statistics, and [`sweep`].

mod analysis;
mod calibrate;
mod capture;
mod cli;
mod cmd;
mod compare;
mod export;
mod gate;
mod interrupt;
mod kernels;
mod live;
mod marks;
mod measure;
mod oracle;
mod os;
mod output;
mod progress;
mod questions;
mod record;
mod recorder;
mod report;
mod results;
mod selection;
mod soak;
mod sources;
pub mod stats;
pub mod sweep;
mod tables;
mod workers;

use std::process::ExitCode;

use clap::Parser;

/// Parses the arguments, dispatches, and says what went wrong on standard error.
pub fn main() -> ExitCode {
    os::process::writes_fail_instead_of_killing();
    let result = match cli::Cli::parse().command {
        cli::Command::Run(args) => cmd::run::run(&args),
        cli::Command::List(args) => cmd::list::run(&args),
        cli::Command::Verify(args) => cmd::verify::run(&args),
        cli::Command::Conform(args) => cmd::conform::run(&args),
        cli::Command::Soak(args) => cmd::soak::run(&args),
        cli::Command::Compare(args) => cmd::compare::run(&args),
        cli::Command::Export(args) => cmd::export::run(&args),
        cli::Command::Record(args) => cmd::record::run(&args),
        cli::Command::Report(args) => cmd::report::run(&args),
        cli::Command::Doctor(args) => cmd::doctor::run(&args),
        cli::Command::Live(args) => cmd::live::run(&args),
        cli::Command::Kernels(args) => cmd::kernels::run(&args),
        cli::Command::Speed(args) => cmd::speed::run(&args),
        cli::Command::Capture(args) => cmd::capture::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::Gate(args) => cmd::gate::run(&args),
        cli::Command::Completions(args) => cmd::completions::run(&args),
        cli::Command::Launch => cmd::launch::run(),
        cli::Command::Janitor(args) => sources::scratch::tidy_up(&args),
        cli::Command::Serve(args) => cmd::serve::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
