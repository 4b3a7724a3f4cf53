//! The folder of a run: made, locked, written.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Line, Run};
use crate::measure::machine::Machine;

/// How long a killed launch may take to let go of the folder.
const DYING: Duration = Duration::from_secs(2);

/// A results folder that this process, and the launches that it starts, may write. Whoever holds it holds the lock on
/// `samples.jsonl`; the launches inherit it with the file, so that it is free only when the last of them is gone.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    samples: File,
}

impl Folder {
    /// Creates the folder: `out`, which must not exist or be empty, or `results/<date>-<machine>` with a number behind
    /// it if that is taken.
    ///
    /// # Errors
    /// With the path, if it is taken or cannot be written.
    pub(crate) fn create(out: Option<&Path>, date: &str, machine: &Machine) -> Result<Folder> {
        let path = match out {
            Some(out) => named(out)?,
            None => dated(&format!("{date}-{}", machine.slug()))?,
        };
        let samples = path.join("samples.jsonl");
        let samples = File::options()
            .append(true)
            .create_new(true)
            .open(&samples)
            .with_context(|| format!("{}: expected a file that can be written", samples.display()))?;
        Folder { path, samples }.locked()
    }
    /// Opens the folder of a run that ended early.
    ///
    /// # Errors
    /// If it cannot be written, or if its run is still going on.
    pub(crate) fn reopen(path: &Path) -> Result<Folder> {
        let samples = path.join("samples.jsonl");
        let samples = File::options()
            .append(true)
            .open(&samples)
            .with_context(|| format!("{}: expected a file that can be written", samples.display()))?;
        Folder { path: path.to_owned(), samples }.locked()
    }
    fn locked(self) -> Result<Folder> {
        let began = Instant::now();
        loop {
            match self.samples.try_lock() {
                Ok(()) => return Ok(self),
                // The launch of a run that was killed dies with it, but a moment later.
                Err(TryLockError::WouldBlock) if began.elapsed() < DYING => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    bail!("{}: its run is still going on; stop it first", self.path.display())
                }
                // A file system without locks: two runs at once are the caller's to avoid.
                Err(TryLockError::Error(_)) => return Ok(self),
            }
        }
    }
    /// Takes the blocks' file away again, of a run that could not even begin: the folder may be named another time.
    pub(crate) fn forget(self) {
        // Whoever cannot remove it has been told already what is wrong with the folder.
        let _ = fs::remove_file(self.path.join("samples.jsonl"));
    }
    /// Drops what follows the first `whole_bytes` bytes of the blocks.
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) fn cut(&self, whole_bytes: u64) -> Result<()> {
        self.samples.set_len(whole_bytes).with_context(|| format!("{}/samples.jsonl", self.path.display()))
    }
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// For a launch to write lines to.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub(crate) fn samples(&self) -> Result<File> {
        self.samples.try_clone().with_context(|| format!("{}/samples.jsonl", self.path.display()))
    }
    /// Writes `run.json`, replacing an earlier one of this run.
    ///
    /// # Errors
    /// When the file system says no; the earlier one is still whole then.
    pub(crate) fn run(&self, run: &Run) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(run).context("run.json")?;
        text.push(b'\n');
        crate::output::replace(&self.path.join("run.json"), &text)
    }
}

/// `--out`.
fn named(out: &Path) -> Result<PathBuf> {
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "--out {}: is not empty; expected a new folder, results are never overwritten (to go on with a run that \
             ended early, say --resume {0})",
            out.display()
        );
    }
    fs::create_dir_all(out)
        .with_context(|| format!("--out {}: expected a place where a folder can be made", out.display()))?;
    Ok(out.to_owned())
}

/// A new folder below `results`.
fn dated(name: &str) -> Result<PathBuf> {
    let parent = Path::new("results");
    let wrong = || format!("{}: expected a folder that can be written; say --out DIR", parent.display());
    fs::create_dir_all(parent).with_context(wrong)?;
    let mut names = (2..).map(|n| format!("{name}-{n}"));
    let mut folder = parent.join(name);
    // create_dir fails where something stands: two runs at once never share a folder.
    while let Err(e) = fs::create_dir(&folder) {
        match names.next() {
            Some(next) if e.kind() == std::io::ErrorKind::AlreadyExists => folder = parent.join(next),
            _ => return Err(e).with_context(wrong),
        }
    }
    Ok(folder)
}

/// Appends lines, each in one write.
#[derive(Debug)]
pub(crate) struct Lines(File);

impl Lines {
    /// To a file that was opened for appending.
    pub(crate) fn new(file: File) -> Lines {
        Lines(file)
    }
    /// Appends one line.
    ///
    /// # Errors
    /// When the file system says no; the line may be torn then.
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).context("a line as JSON")?;
        text.push(b'\n');
        self.0.write_all(&text).context("samples.jsonl: cannot be written")
    }
}
