//! Links of this program with its functions in other orders.
//!
//! Where a function starts decides how its loops lie in cache lines and in what the decoder keeps, and any change moves all
//! functions behind it: a few per cent in either direction that are no property of the change. With `--layouts` the linker
//! lays out the functions in another order for every launch, so that this luck is drawn anew and shows as noise between
//! launches. Only the link is repeated: cargo is given a linker that links again and again what it is asked for once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::build::{self, Kept, Whose};
use super::git;
use super::scratch::Scratch;
use crate::measure::machine::Build;

/// Links of one program with its functions in other orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    /// How many.
    pub(crate) nr: u32,
    /// Of the first; the next ones have the next ones.
    pub(crate) seed: u32,
}

impl Links {
    /// A linker for cargo: links everything `nr` times in other orders into `folder`, and then as it was asked to.
    pub(super) fn script(self) -> String {
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
    pub(crate) fn files(self, folder: &Path) -> Vec<PathBuf> {
        (0..self.nr).map(|n| folder.join(n.to_string())).collect()
    }
}

/// What a build of `source` is kept as.
pub(crate) fn kept_as(source: &str, links: Option<Links>) -> String {
    links.map_or_else(|| source.to_owned(), |Links { nr, seed }| format!("{source}-{nr}x{seed}"))
}

/// Links of the tree around, which must be what this program was built from; none if Ctrl-C came first.
///
/// # Errors
/// It is another one, or does not build.
pub(crate) fn link_this(links: Links, scratch: &mut Scratch) -> Result<Option<Vec<PathBuf>>> {
    let root = git::root()?;
    let head =
        git::ask(&["rev-parse", "HEAD"])?.context("this repository has no commit yet; expected one")?;
    let this = Build::without_hash();
    if head != this.commit {
        bail!(
            "--layouts links the tree around, which is at {}, and this program was built at {}; build it again first \
             (cargo build --release)",
            git::short(&head),
            git::short(&this.commit)
        );
    }
    let kept = Kept::of(&root)?;
    // What is not committed has no name: it is built every time.
    let is_clean = !git::is_changed()?;
    let place = kept.place(&kept_as(if is_clean { &head } else { "changed" }, Some(links)));
    let files = links.files(&place);
    if !(is_clean && files.iter().all(|f| f.is_file())) {
        eprintln!("linking this tree {} times, in {}", links.nr, kept.folder().display());
        if !build::build(&kept, (Whose::This, &root), &place, Some(links), "this tree", scratch)? {
            return Ok(None);
        }
    }
    Ok(Some(files))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

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
