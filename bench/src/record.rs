//! The result format: a folder with `run.json` (what was run where) and `samples.jsonl` (one line a block).
//!
//! Contract: a folder is never overwritten. Each line is written out as soon as its block is over, so that a killed
//! run keeps what it had. `run.json` is written beside and renamed: at any moment it is whole. Integers carry their
//! unit in the name. Readers accept schemas up to [`SCHEMA`] and refuse newer ones.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::measure::machine::{Build, Machine};
use crate::measure::member::What;
use crate::measure::stages::Stages;

/// Of everything in this file and of the JSON on standard output.
pub(crate) const SCHEMA: u32 = 1;

/// One line of `samples.jsonl`: one block of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Cell id without the backend.
    pub(crate) group: String,
    /// A backend, or a limit: copy, load, decode, fill, noop.
    pub(crate) member: String,
    /// Round, from 0: members of one group and round stand next to each other in time.
    pub(crate) round: u32,
    /// Turn within the round, from 0.
    pub(crate) turn: u32,
    /// What was timed.
    pub(crate) what: What,
    /// Pages reported in the block.
    pub(crate) nr_pages: u64,
    /// Operations (calls) in the block.
    pub(crate) nr_calls: u64,
    /// The block's time, the clock's cost taken off.
    pub(crate) block_ns: u64,
    /// Its stages, where those were timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stages: Option<Stages>,
    /// Involuntary context switches within the block; null if the kernel does not say.
    pub(crate) involuntary_switches: Option<u64>,
}

impl Sample {
    /// Nanoseconds a page.
    pub(crate) fn ns_per_page(&self) -> f64 {
        self.block_ns as f64 / self.nr_pages.max(1) as f64
    }
    /// Whether the thread lost the processor in it.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.involuntary_switches.is_some_and(|n| n > 0)
    }
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Started and not ended: still running, or killed.
    Running,
    /// All of it was measured.
    Complete,
    /// Stopped by Ctrl-C.
    Interrupted,
}

/// A cell that no member could be made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The cell.
    pub(crate) id: String,
    /// Why.
    pub(crate) reason: String,
}

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// How far it got.
    pub(crate) state: State,
    /// Seconds since 1970, UTC.
    pub(crate) started_unix_s: u64,
    /// The same, for people.
    pub(crate) started: String,
    /// Arguments after the program's name.
    pub(crate) command: Vec<String>,
    /// smoke or quick.
    pub(crate) profile: String,
    /// Decides tables, wishes and the order of turns.
    pub(crate) seed: u64,
    /// What one reading of the clock costs, in picoseconds.
    pub(crate) clock_cost_ps: u64,
    /// Where.
    pub(crate) machine: Machine,
    /// With what.
    pub(crate) build: Build,
    /// What was planned, in order: ids without the backend.
    pub(crate) groups: Vec<String>,
    /// What cannot be measured, and why.
    pub(crate) skips: Vec<Skip>,
    /// The results, once there are all.
    pub(crate) cells: Vec<serde_json::Value>,
}

/// Writes a results folder.
#[derive(Debug)]
pub(crate) struct Recorder {
    folder: PathBuf,
    samples: File,
}

impl Recorder {
    /// Creates the folder: `out`, which must not exist or be empty, or `results/<date>-<machine>` with a number behind
    /// it if that is taken.
    ///
    /// # Errors
    /// With the path, if it is taken or cannot be written.
    pub(crate) fn create(out: Option<&Path>, date: &str, machine: &Machine) -> Result<Recorder> {
        let folder = match out {
            Some(out) => {
                if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
                    bail!(
                        "--out {}: is not empty; expected a new folder, results are never overwritten",
                        out.display()
                    );
                }
                fs::create_dir_all(out).with_context(|| {
                    format!("--out {}: expected a place where a folder can be made", out.display())
                })?;
                out.to_owned()
            }
            None => {
                let parent = Path::new("results");
                let wrong =
                    || format!("{}: expected a folder that can be written; say --out DIR", parent.display());
                fs::create_dir_all(parent).with_context(wrong)?;
                let name = format!("{date}-{}", machine.slug());
                let mut names = (2..).map(|n| format!("{name}-{n}"));
                let mut folder = parent.join(&name);
                // create_dir fails where something stands: two runs at once never share a folder.
                while let Err(e) = fs::create_dir(&folder) {
                    match names.next() {
                        Some(next) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                            folder = parent.join(next)
                        }
                        _ => return Err(e).with_context(wrong),
                    }
                }
                folder
            }
        };
        let path = folder.join("samples.jsonl");
        let samples = File::options()
            .append(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("{}: expected a file that can be written", path.display()))?;
        Ok(Recorder { folder, samples })
    }
    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    /// Appends one block, in one write.
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) fn sample(&mut self, sample: &Sample) -> Result<()> {
        let mut line = serde_json::to_vec(sample).context("a sample as JSON")?;
        line.push(b'\n');
        self.samples.write_all(&line).with_context(|| format!("{}/samples.jsonl", self.folder.display()))
    }
    /// Writes `run.json`, replacing an earlier one of this run.
    ///
    /// # Errors
    /// When the file system says no; the earlier one is still whole then.
    pub(crate) fn run(&self, run: &Run) -> Result<()> {
        let path = self.folder.join("run.json");
        let write = || -> Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".run-")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
                .tempfile_in(&self.folder)?;
            serde_json::to_writer_pretty(&mut file, run)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

/// Seconds since 1970 as `YYYY-MM-DD` and `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn date(unix_s: u64) -> (String, String) {
    // Days to civil date (Howard Hinnant, chrono-compatible low-level date algorithms).
    let days = unix_s / 86400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (d, m) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let y = year + era * 400 + u64::from(m <= 2);
    let (h, min, s) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
    (format!("{y:04}-{m:02}-{d:02}"), format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (s, day) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_795_240_000, "2026-11-21")] {
            assert_eq!(date(s).0, day);
        }
        assert_eq!(date(951_782_400 + 3661).1, "2000-02-29T01:01:01Z");
    }
}
