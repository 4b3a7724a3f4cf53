//! Standard output: the result. Everything else goes to standard error.

use std::io::{self, Write};
use std::path::Path;

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

/// Writes a file beside its place and renames it, so that the place never holds half of it.
///
/// # Errors
/// With the path; what stood there is still whole then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".walkbench-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{}: expected a file that can be written", path.display()))
}
