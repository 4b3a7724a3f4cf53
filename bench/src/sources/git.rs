//! What git knows of the repository around.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// What git says to a question; none where it says no.
///
/// # Errors
/// There is no git.
pub(crate) fn ask(args: &[&str]) -> Result<Option<String>> {
    let git = Command::new("git").args(args).stdin(Stdio::null()).output();
    let output = git.context("git cannot be started; expected it in PATH")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(said))
}

/// Its top folder.
///
/// # Errors
/// There is no repository around.
pub(crate) fn root() -> Result<PathBuf> {
    let top = ask(&["rev-parse", "--show-toplevel"])?;
    Ok(PathBuf::from(top.context("this is no git repository; expected to run inside the one of walkbench")?))
}

/// Whether files that git knows differ from the last commit.
///
/// # Errors
/// There is no git.
pub(crate) fn is_changed() -> Result<bool> {
    let changes = ask(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(changes.is_none_or(|changes| !changes.is_empty()))
}

/// A file of a commit; none if it has none.
pub(crate) fn file_of(commit: &str, path: &str) -> Option<String> {
    let output =
        Command::new("git").args(["show", &format!("{commit}:{path}")]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// So much of a commit's name as people read.
pub(crate) fn short(commit: &str) -> &str {
    &commit[..commit.len().min(12)]
}
