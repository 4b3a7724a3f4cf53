//! Standard output: the result. Everything else goes to standard error.

use std::fs;
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

/// Writes a file beside its place and renames it, so that the place never holds half of it. A link is followed; a device
/// or a pipe is written, not replaced.
///
/// # Errors
/// With the path; what stood there is still whole then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Ok(fs::OpenOptions::new().write(true).open(path)?.write_all(bytes)?);
        }
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
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

/// What was typed, so that it can be pasted: `walkbench run --filter '^dense'`.
pub(crate) fn command(words: &[String]) -> String {
    let words = words.iter().map(|w| quoted(w));
    std::iter::once("walkbench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_devices_stay_devices() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&file, b"old").unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        replace(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let e = format!("{:#}", replace(Path::new("/dev/full"), b"more").unwrap_err());
        assert!(e.contains("/dev/full") && !fs::metadata("/dev/full").unwrap().is_file(), "{e}");
    }

    #[test]
    fn a_command_can_be_pasted() {
        let words = ["run", "--filter", "^a@1GiB/(x|y)$", "it's"].map(str::to_owned);
        assert_eq!(command(&words), r"walkbench run --filter '^a@1GiB/(x|y)$' 'it'\''s'");
    }
}
