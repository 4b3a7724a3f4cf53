//! Standard output: the result. Everything else goes to standard error.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// What a sub-command prints on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: tables that fit 100 columns.
    Text,
    /// For programs: one JSON object with a schema number.
    Json,
}

/// Columns that tables may take.
pub(crate) const WIDTH: u16 = 100;

/// Prints the whole result. A reader that closes the pipe early has seen what it wanted.
///
/// # Errors
/// When standard output cannot be written for any other reason.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// Prints a JSON object and a line break.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("the result as JSON")?;
    text.push('\n');
    print(&text)
}
