//! Building this program with cargo, from these sources or from those of another commit; what was built is kept.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layouts::Links;
use super::scratch::Scratch;
use crate::interrupt;
use crate::measure::machine::{self, Build};

/// Lines of a failed build that are shown.
const LAST_LINES: usize = 15;

/// Builds are kept here, by what they were built from and how, so that the second gate against the same commit starts
/// measuring at once.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    // Two gates at once: the second one waits and finds what the first one built. The folder itself is the lock, so that
    // no lock file is left behind; the kernel lets go of it when the process ends.
    _lock: File,
}

impl Kept {
    /// Those of a repository.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn of(root: &Path) -> Result<Kept> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let folder = target.join("gate");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = File::open(&folder).with_context(|| folder.display().to_string())?;
        lock.lock().with_context(|| folder.display().to_string())?;
        Ok(Kept { folder, _lock: lock })
    }
    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    /// Where what was built of `source` with this compiler and these flags is, or goes.
    pub(crate) fn place(&self, source: &str) -> PathBuf {
        let Build { rustc, profile, flags, .. } = Build::without_hash();
        let how = [rustc, profile, flags].join("\n");
        self.folder.join(format!("{source}-{}", machine::hash(how.as_bytes())))
    }
}

/// Whose sources. Cargo tells old from new by their times alone: what it built of two trees must never lie in one place. A
/// worktree is always newer than what was built before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// A baseline's, in a worktree.
    Baseline,
    /// Those around.
    This,
}

/// Builds the program from the sources in `tree` to `to`: a file, or with `links` a folder of them. Returns false if Ctrl-C
/// came first.
///
/// # Errors
/// It does not build: what cargo said.
pub(crate) fn build(
    kept: &Kept,
    (whose, tree): (Whose, &Path),
    to: &Path,
    links: Option<Links>,
    what: &str,
    scratch: &mut Scratch,
) -> Result<bool> {
    let this = Build::without_hash();
    let is_release = this.profile.starts_with("release");
    let output = kept.folder.join(match whose {
        Whose::Baseline => "build",
        Whose::This => "this",
    });
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([if links.is_some() { "rustc" } else { "build" }, "--locked", "--quiet"])
        .args(["--package", "walkbench", "--bin", "walkbench"])
        .args(is_release.then_some("--release"))
        .current_dir(tree)
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
    let linked = scratch.path().join("links");
    if let Some(links) = links {
        // In the scratch folder, whose name is new every time: cargo takes it for other arguments, and links anew.
        fs::create_dir_all(&linked).with_context(|| linked.display().to_string())?;
        let linker = scratch.path().join("linker");
        fs::write(&linker, links.script()).with_context(|| linker.display().to_string())?;
        fs::set_permissions(&linker, fs::Permissions::from_mode(0o755))
            .with_context(|| linker.display().to_string())?;
        cargo.args(["--", "-C"]).arg(format!("linker={}", linker.display()));
        cargo.env("WALKBENCH_LINKS", &linked);
    }
    let Some((status, said)) = wait_for(cargo, scratch)? else { return Ok(false) };
    if !status.success() {
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n    ");
        let hint = if said.contains("shuffle-sections") {
            "; --layouts needs lld, with which rustc links x86-64 Linux programs since 1.90"
        } else {
            ""
        };
        bail!(
            "{what} does not build ({status}); expected a revision that does, or --baseline EXECUTABLE{hint}:\n    {last}"
        );
    }
    let beside = to.with_extension("part");
    let _ = fs::remove_dir_all(&beside);
    if let Some(links) = links {
        fs::create_dir_all(&beside).with_context(|| beside.display().to_string())?;
        for from in links.files(&linked) {
            let name = from.file_name().context("a link")?;
            fs::copy(&from, beside.join(name)).with_context(|| from.display().to_string())?;
        }
        fs::remove_dir_all(&linked).with_context(|| linked.display().to_string())?;
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
        }
    } else {
        let built = output.join(if is_release { "release" } else { "debug" }).join("walkbench");
        fs::copy(&built, &beside).with_context(|| built.display().to_string())?;
    }
    fs::rename(&beside, to).with_context(|| to.display().to_string())?;
    Ok(true)
}

/// Runs cargo in a group of its own to its end: how it ended and what it said; none when Ctrl-C came first.
fn wait_for(mut cargo: Command, scratch: &mut Scratch) -> Result<Option<(std::process::ExitStatus, String)>> {
    let mut child = cargo.spawn().context("starting cargo to build; expected it in PATH")?;
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
    Ok(Some((status, reader.join().unwrap_or_default())))
}
