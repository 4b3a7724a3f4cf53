//! `walkbench`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    walkbench::main()
}
