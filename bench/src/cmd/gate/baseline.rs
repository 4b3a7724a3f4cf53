//! The old side: an executable as given, or built from a revision in a worktree, once for each commit; and what of the
//! repository around is asked of git.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::build::{self, Kept, Links, Whose};
use super::scratch::Scratch;
use crate::measure::machine::Build;

/// What to compare with.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    /// The executable; none if Ctrl-C came while it was built.
    pub(super) exe: Option<PathBuf>,
    /// The same linked in other orders, where that was asked for.
    pub(super) links: Vec<PathBuf>,
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
    pub(super) fn find(given: &str, links: Option<Links>, scratch: &mut Scratch) -> Result<Baseline> {
        let path = Path::new(given);
        if path.is_file() {
            if links.is_some() {
                bail!(
                    "--baseline {given}: is an executable, which cannot be linked in other orders; --layouts expects a git \
                     revision"
                );
            }
            let rights = path.metadata().with_context(|| given.to_owned())?.permissions().mode();
            if rights & 0o111 == 0 {
                bail!("--baseline {given}: may not be executed; expected a walkbench, or a git revision");
            }
            let exe = path.canonicalize().with_context(|| given.to_owned())?;
            return Ok(Baseline {
                exe: Some(exe),
                links: Vec::new(),
                says: given.to_owned(),
                commit: None,
                notes: Vec::new(),
            });
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
        let mut exe = build(&commit, None, scratch)?.and_then(|files| files.into_iter().next());
        let mut linked = Vec::new();
        if let (Some(links), true) = (links, exe.is_some()) {
            match build(&commit, Some(links), scratch)? {
                Some(files) => linked = files,
                None => exe = None,
            }
        }
        Ok(Baseline { exe, links: linked, says, commit: Some(commit), notes })
    }
}

/// The program of a commit in files of its own, one, or one for each link; none if Ctrl-C came first.
fn build(commit: &str, links: Option<Links>, scratch: &mut Scratch) -> Result<Option<Vec<PathBuf>>> {
    let root = root()?;
    let kept = Kept::of(&root)?;
    let place = kept.place(&linked(commit, links));
    let files = || links.map_or_else(|| vec![place.clone()], |links| links.files(&place));
    if files().iter().all(|f| f.is_file()) {
        return Ok(Some(files()));
    }
    let short = &commit[..commit.len().min(12)];
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

fn root() -> Result<PathBuf> {
    Ok(PathBuf::from(git(&["rev-parse", "--show-toplevel"])?.context("the root of the repository")?))
}

/// What a build is kept as.
fn linked(source: &str, links: Option<Links>) -> String {
    links.map_or_else(|| source.to_owned(), |Links { nr, seed }| format!("{source}-{nr}x{seed}"))
}

/// Links of the tree around, which must be what this program was built from; none if Ctrl-C came first.
///
/// # Errors
/// It is another one, or does not build.
pub(super) fn link_this(links: Links, scratch: &mut Scratch) -> Result<Option<Vec<PathBuf>>> {
    let root = root()?;
    let (head, this) = (commit("HEAD")?, Build::this());
    if head != this.commit {
        bail!(
            "--layouts links the tree around, which is at {}, and this program was built at {}; build it again first \
             (cargo build --release)",
            &head[..head.len().min(12)],
            &this.commit[..this.commit.len().min(12)]
        );
    }
    let kept = Kept::of(&root)?;
    // What is not committed has no name: it is built every time.
    let is_clean =
        git(&["status", "--porcelain", "--untracked-files=no"])?.is_some_and(|changes| changes.is_empty());
    let place = kept.place(&linked(if is_clean { &head } else { "changed" }, Some(links)));
    let files = links.files(&place);
    if !(is_clean && files.iter().all(|f| f.is_file())) {
        eprintln!("linking this tree {} times, in {}", links.nr, kept.folder().display());
        if !build::build(&kept, (Whose::This, &root), &place, Some(links), "this tree", scratch)? {
            return Ok(None);
        }
    }
    Ok(Some(files))
}
