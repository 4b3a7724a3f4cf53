//! Building a side with cargo, and linking it in several orders.
//!
//! Where a function starts decides how its loops lie in cache lines and in what the decoder keeps, and any change moves all
//! functions behind it: a few per cent in either direction that are no property of the change. With `--layouts` the linker
//! lays out the functions of either side in another order for every launch, so that this luck is drawn anew and shows as
//! noise between launches. Only the link is repeated: cargo is given a linker that links again and again what it is asked
//! for once.

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
use crate::measure::machine::{self, Build};

/// Lines of a failed build that are shown.
const LAST_LINES: usize = 15;

/// Builds are kept here, by what they were built from and how, so that the second gate against the same commit starts
/// measuring at once.
#[derive(Debug)]
pub(super) struct Kept {
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
    pub(super) fn of(root: &Path) -> Result<Kept> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let folder = target.join("gate");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = File::open(&folder).with_context(|| folder.display().to_string())?;
        lock.lock().with_context(|| folder.display().to_string())?;
        Ok(Kept { folder, _lock: lock })
    }
    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
    /// Where what was built of `source` with this compiler and these flags is, or goes.
    pub(super) fn place(&self, source: &str) -> PathBuf {
        let Build { rustc, profile, flags, .. } = Build::this();
        let how = [rustc, profile, flags].join("\n");
        self.folder.join(format!("{source}-{}", machine::hash(how.as_bytes())))
    }
}

/// Links of one program with its functions in other orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// How many.
    pub(super) nr: u32,
    /// Of the first; the next ones have the next ones.
    pub(super) seed: u32,
}

impl Links {
    /// A linker for cargo: links everything `nr` times in other orders into `folder`, and then as it was asked to.
    fn script(self) -> String {
        let Links { nr, seed } = self;
        format!(
            "#!/bin/sh\n\
             out= next=\n\
             for a in \"$@\"; do\n\
             \x20   if [ -n \"$next\" ]; then out=$a next=; fi\n\
             \x20   if [ \"$a\" = -o ]; then next=1; fi\n\
             done\n\
             if [ -z \"$out\" ]; then echo 'no -o FILE among the arguments' >&2; exit 1; fi\n\
             n=0\n\
             while [ $n -lt {nr} ]; do\n\
             \x20   cc \"$@\" -Wl,--strip-debug \"-Wl,--shuffle-sections=.text*=$((n + {seed}))\" || exit\n\
             \x20   cp \"$out\" \"$WALKBENCH_LINKS/$n\" || exit\n\
             \x20   n=$((n + 1))\n\
             done\n\
             exec cc \"$@\"\n"
        )
    }
    /// The files in a folder.
    pub(super) fn files(self, folder: &Path) -> Vec<PathBuf> {
        (0..self.nr).map(|n| folder.join(n.to_string())).collect()
    }
}

/// Whose sources. Cargo tells old from new by their times alone: what it built of two trees must never lie in one place. A
/// worktree is always newer than what was built before it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
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
pub(super) fn build(
    kept: &Kept,
    (whose, tree): (Whose, &Path),
    to: &Path,
    links: Option<Links>,
    what: &str,
    scratch: &mut Scratch,
) -> Result<bool> {
    let this = Build::this();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linker_links_in_every_order_and_then_as_it_was_asked_to() {
        let place = tempfile::tempdir().unwrap();
        let executable = |name: &str, text: &str| {
            let path = place.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        // A compiler driver that writes its last argument to the file behind -o.
        executable("cc", "#!/bin/sh\nfor a in \"$@\"; do last=$a; done\necho \"$last\" > program\n");
        let links = Links { nr: 3, seed: 7 };
        let linker = executable("linker", &links.script());
        let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
        let run = |args: &[&str]| {
            let mut command = Command::new(&linker);
            command.args(args).current_dir(&place).env("PATH", &path).env("WALKBENCH_LINKS", place.path());
            command.output().unwrap()
        };
        assert!(run(&["a.o", "-o", "program", "-pie"]).status.success());
        let said = |file: &Path| fs::read_to_string(file).unwrap().trim_end().to_owned();
        let orders: Vec<String> = links.files(place.path()).iter().map(|f| said(f)).collect();
        assert_eq!(orders, [7, 8, 9].map(|seed| format!("-Wl,--shuffle-sections=.text*={seed}")));
        assert_eq!(said(&place.path().join("program")), "-pie");
        let wrong = run(&["a.o"]);
        assert!(!wrong.status.success() && !wrong.stderr.is_empty());
        executable("cc", "#!/bin/sh\nexit 3\n");
        assert_eq!(run(&["a.o", "-o", "program"]).status.code(), Some(3), "what the linker says is said on");
    }
}
