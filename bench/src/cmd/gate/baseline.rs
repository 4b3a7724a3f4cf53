//! The old side: an executable as given, or built from a revision in a worktree, once for each commit.
//!
//! A build is kept in the target folder under `gate/`, by commit, compiler, profile and flags, so that the second gate
//! against the same commit starts measuring at once.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::scratch::Scratch;
use crate::interrupt;
use crate::measure::machine::Build;

/// Lines of a failed build that are shown.
const LAST_LINES: usize = 15;

/// What to compare with.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    /// The executable; none if Ctrl-C came while it was built.
    pub(super) exe: Option<PathBuf>,
    /// For the report.
    pub(super) says: String,
    /// The commit, where it is one.
    pub(super) commit: Option<String>,
    /// What the reader should know.
    pub(super) notes: Vec<String>,
}

/// What git says to a question; none where it says no.
fn git(args: &[&str]) -> Result<Option<String>> {
    let output = Command::new("git")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("--baseline names no file, so it must be a revision, and git cannot be started; expected git, or --baseline EXECUTABLE")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(said))
}

/// The commit of a revision.
fn commit(revision: &str) -> Result<String> {
    if git(&["rev-parse", "--git-dir"])?.is_none() {
        bail!(
            "--baseline {revision}: is no file, and this is no git repository; expected to run inside one, or an executable"
        );
    }
    let name = format!("{revision}^{{commit}}");
    if let Some(commit) = git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])? {
        return Ok(commit);
    }
    if git(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true") {
        bail!(
            "--baseline {revision}: is not in this clone, which is a shallow one; `git fetch --deepen=100` or \
             `git fetch --unshallow` brings it (fetch-depth: 0 in GitHub Actions)"
        );
    }
    bail!(
        "--baseline {revision}: is neither a file nor a revision of this repository; `git log --oneline` lists revisions"
    );
}

/// A file of a commit; none if it has none.
pub(super) fn file_of(commit: &str, path: &str) -> Option<String> {
    let output =
        Command::new("git").args(["show", &format!("{commit}:{path}")]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Baseline {
    /// Finds it, and builds it where that was not done before.
    ///
    /// # Errors
    /// There is no such thing, or it does not build.
    pub(super) fn find(given: &str, scratch: &mut Scratch) -> Result<Baseline> {
        let path = Path::new(given);
        if path.is_file() {
            let rights = path.metadata().with_context(|| given.to_owned())?.permissions().mode();
            if rights & 0o111 == 0 {
                bail!("--baseline {given}: may not be executed; expected a walkbench, or a git revision");
            }
            let exe = path.canonicalize().with_context(|| given.to_owned())?;
            return Ok(Baseline { exe: Some(exe), says: given.to_owned(), commit: None, notes: Vec::new() });
        }
        let commit = commit(given)?;
        let mut notes = Vec::new();
        if git(&["status", "--porcelain", "--untracked-files=no"])?.is_some_and(|changes| !changes.is_empty())
        {
            notes.push(
                "the tree has changes that are not committed: they are part of what was compared".to_owned(),
            );
        }
        let short = &commit[..commit.len().min(12)];
        let says = if commit.starts_with(given) { short.to_owned() } else { format!("{given} ({short})") };
        let exe = build(&commit, scratch)?;
        Ok(Baseline { exe, says, commit: Some(commit), notes })
    }
}

/// The program of a commit; none if Ctrl-C came first.
fn build(commit: &str, scratch: &mut Scratch) -> Result<Option<PathBuf>> {
    let root = git(&["rev-parse", "--show-toplevel"])?.context("the root of the repository")?;
    let root = PathBuf::from(root);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let this = Build::this();
    let how: String =
        [&this.rustc, &this.profile, &this.flags].into_iter().cloned().collect::<Vec<_>>().join("\n");
    let folder = target.join("gate");
    let kept = folder.join(format!("{commit}-{}", crate::measure::machine::hash(how.as_bytes())));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // Two gates at once: the second one waits and finds what the first one built. The folder itself is the lock, so that
    // no lock file is left behind; the kernel lets go of it when the process ends.
    let lock = File::open(&folder).with_context(|| folder.display().to_string())?;
    lock.lock().with_context(|| folder.display().to_string())?;
    if kept.is_file() {
        return Ok(Some(kept));
    }
    let short = &commit[..commit.len().min(12)];
    eprintln!("building the baseline {short}, once; it is kept in {}", folder.display());
    let tree = scratch.worktree(&root);
    let added = Command::new("git")
        .arg("-C")
        .arg(&root)
        .args(["worktree", "add", "--detach", "--force", "--quiet"])
        .arg(&tree)
        .arg(commit)
        .output()
        .context("git worktree add")?;
    if !added.status.success() {
        bail!("git worktree add: {}", String::from_utf8_lossy(&added.stderr).trim());
    }
    let is_release = this.profile.starts_with("release");
    let output = folder.join("build");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--package", "walkbench", "--bin", "walkbench"])
        .args(is_release.then_some("--release"))
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", &output)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    if !this.flags.is_empty() {
        cargo.env("RUSTFLAGS", &this.flags);
    }
    let mut child = cargo.spawn().context("starting cargo to build the baseline; expected it in PATH")?;
    scratch.builds(Some(child.id()));
    let mut said = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        if let Some(said) = said.as_mut() {
            let _ = std::io::Read::read_to_string(said, &mut text);
        }
        text
    });
    let status = loop {
        if interrupt::is_asked() {
            crate::os::process::kill_group(child.id());
            let _ = child.wait();
            return Ok(None);
        }
        if let Some(status) = child.try_wait().context("waiting for cargo")? {
            break status;
        }
        thread::sleep(Duration::from_millis(50));
    };
    scratch.builds(None);
    let text = reader.join().unwrap_or_default();
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n    ");
        bail!(
            "the baseline {short} does not build ({status}); expected a revision that does, or --baseline EXECUTABLE:\n    {last}"
        );
    }
    let built = output.join(if is_release { "release" } else { "debug" }).join("walkbench");
    let beside = folder.join(format!("{commit}.part"));
    fs::copy(&built, &beside).with_context(|| built.display().to_string())?;
    fs::rename(&beside, &kept).with_context(|| kept.display().to_string())?;
    Ok(Some(kept))
}
