//! A folder of this process's own, and what is built in it, gone when the process is, however that ended.
//!
//! A second process, the janitor, waits for the end of its standard input, which is when this process closes it or dies; then
//! it kills the build that may still run, takes the worktree out of the repository, and removes the folder.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::os::process;

/// What the folder's name begins with: a janitor removes no other.
const PREFIX: &str = "walkbench-scratch-";

/// Where the baseline's sources lie in the folder.
const WORKTREE: &str = "tree";

/// What the janitor is started with.
#[derive(Args, Debug)]
pub(crate) struct JanitorArgs {
    /// The folder to remove
    folder: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    janitor: Option<Child>,
}

impl Scratch {
    /// A new folder with its janitor.
    ///
    /// # Errors
    /// When either is refused.
    pub(crate) fn new() -> Result<Scratch> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().context("a temporary folder")?;
        let janitor = Command::new("/proc/self/exe")
            .arg("janitor")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What kills this process's group leaves it alone.
            .process_group(0)
            .spawn()
            .context("starting the process that tidies up")?;
        Ok(Scratch { path: folder.keep(), janitor: Some(janitor) })
    }
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Where the worktree of `repository` goes; from now on the janitor takes it out.
    pub(crate) fn worktree(&mut self, repository: &Path) -> PathBuf {
        self.tell(&format!("repository {}", repository.display()));
        self.path.join(WORKTREE)
    }
    /// A process group that must not survive this process; none any more once it was waited for.
    pub(crate) fn builds(&mut self, group: Option<u32>) {
        self.tell(&format!("group {}", group.unwrap_or(0)));
    }
    fn tell(&mut self, what: &str) {
        if let Some(stdin) = self.janitor.as_mut().and_then(|j| j.stdin.as_mut()) {
            // A janitor that is gone is missed when the folder goes.
            let _ = writeln!(stdin, "{what}");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            let _ = janitor.wait();
        }
        // Where the janitor was killed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The janitor.
///
/// # Errors
/// A folder that is none of ours.
pub(crate) fn tidy_up(args: &JanitorArgs) -> Result<ExitCode> {
    if !args.folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
        bail!("{}: expected a folder {PREFIX}..., which walkbench makes itself", args.folder.display());
    }
    let (mut group, mut repository) = (0, None);
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("group", pid)) => group = pid.parse().unwrap_or(0),
            Some(("repository", path)) => repository = Some(PathBuf::from(path)),
            _ => {}
        }
    }
    process::kill_group(group);
    let tree = args.folder.join(WORKTREE);
    if let Some(repository) = repository {
        let git = |args: &[&str]| {
            let quiet = || Stdio::null();
            let mut git = Command::new("git");
            git.arg("-C").arg(&repository).args(args).stdin(quiet()).stdout(quiet()).stderr(quiet()).status()
        };
        let _ = git(&["worktree", "remove", "--force", &tree.to_string_lossy()]);
        let _ = fs::remove_dir_all(&tree);
        let _ = git(&["worktree", "prune"]);
    }
    let _ = fs::remove_dir_all(&args.folder);
    Ok(ExitCode::SUCCESS)
}
