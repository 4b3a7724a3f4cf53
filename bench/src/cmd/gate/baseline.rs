//! The old side: an executable as given, or built from a revision in a worktree, once for each commit.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sources::build::{self, Kept, Whose};
use crate::sources::git;
use crate::sources::layouts::{Links, kept_as};
use crate::sources::scratch::Scratch;

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
        if git::is_changed()? {
            notes.push(
                "the tree has changes that are not committed: they are part of what was compared".to_owned(),
            );
        }
        let short = git::short(&commit);
        let says = if commit.starts_with(given) { short.to_owned() } else { format!("{given} ({short})") };
        let exe = build(&commit, None, scratch)?.and_then(|files| files.into_iter().next());
        Ok(Baseline { exe, says, commit: Some(commit), notes })
    }

    /// The commit that it is, which can be linked in other orders.
    ///
    /// # Errors
    /// It is an executable.
    pub(super) fn commit(&self) -> Result<&str> {
        self.commit.as_deref().with_context(|| {
            let says = &self.says;
            format!("--baseline {says}: is an executable, which cannot be linked in other orders; a git revision could be")
        })
    }
}

/// The commit of a revision.
fn commit(revision: &str) -> Result<String> {
    let is_repository = git::ask(&["rev-parse", "--git-dir"])
        .with_context(|| format!("--baseline {revision}: is no file, so it must be a revision"))?;
    if is_repository.is_none() {
        bail!(
            "--baseline {revision}: is no file, and this is no git repository; expected to run inside one, or an executable"
        );
    }
    let name = format!("{revision}^{{commit}}");
    if let Some(commit) = git::ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])? {
        return Ok(commit);
    }
    if git::ask(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true") {
        bail!(
            "--baseline {revision}: is not in this clone, which is a shallow one; `git fetch --deepen=100` or \
             `git fetch --unshallow` brings it (fetch-depth: 0 in GitHub Actions)"
        );
    }
    bail!(
        "--baseline {revision}: is neither a file nor a revision of this repository; `git log --oneline` lists revisions"
    );
}

/// The program of a commit in files of its own, one, or one for each link; none if Ctrl-C came first.
///
/// # Errors
/// It does not build.
pub(super) fn build(
    commit: &str,
    links: Option<Links>,
    scratch: &mut Scratch,
) -> Result<Option<Vec<PathBuf>>> {
    let root = git::root()?;
    let kept = Kept::of(&root)?;
    let place = kept.place(&kept_as(commit, links));
    let files = || links.map_or_else(|| vec![place.clone()], |links| links.files(&place));
    if files().iter().all(|f| f.is_file()) {
        return Ok(Some(files()));
    }
    let short = git::short(commit);
    eprintln!("building the baseline {short}, once; it is kept in {}", kept.folder().display());
    let tree = scratch.worktree(&root);
    // It is there already where the program was built before its links.
    if !tree.exists() {
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
    }
    let what = format!("the baseline {short}");
    Ok(build::build(&kept, (Whose::Baseline, &tree), &place, links, &what, scratch)?.then(files))
}
