//! The tier of instructions: what a sweep executes, counted by Callgrind (`Ir`, nothing that is estimated).
//!
//! Each program runs once under valgrind and serves all cells; [`serve::mark`](crate::cmd::serve) after each answer makes
//! Callgrind write what was counted since the last one. Of each cell 2 sweeps and 6 are counted: the difference over four
//! leaves everything out that is done once. Only cells with one thread: valgrind runs one at a time, so that waiting for
//! another is a number without a meaning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::side::Program;
use crate::gate::protocol::Ran;
use crate::interrupt;
use crate::measure::matrix::Group;
use crate::os::process;

/// More than this, in per cent, and more than [`LEAST`] instructions a sweep, is a regression.
const LEAST_PERCENT: f64 = 0.5;
/// See [`LEAST_PERCENT`].
const LEAST: f64 = 100.0;
/// Sweeps that are counted, few and more.
const SWEEPS: [u64; 2] = [2, 6];
/// What Callgrind is told to stop at: any mangling of the function's path.
const MARK: &str = "*serve*mark*";

/// A cell whose instructions differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Moved {
    /// The cell.
    pub(super) id: String,
    /// Instructions of a sweep.
    pub(super) old: f64,
    /// Ditto.
    pub(super) new: f64,
}

impl Moved {
    fn is_over(&self) -> bool {
        self.new - self.old > LEAST && self.new > self.old * (1.0 + LEAST_PERCENT / 100.0)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Instructions {
    /// Cells that were counted on both sides.
    pub(super) cells: usize,
    /// Those that differ at all.
    pub(super) moved: Vec<Moved>,
    /// A side that says nothing to Callgrind: it is older than this tier.
    pub(super) silent: Option<&'static str>,
}

impl Instructions {
    /// Those that execute more than is allowed.
    pub(super) fn over(&self) -> impl Iterator<Item = &Moved> {
        self.moved.iter().filter(|m| m.is_over())
    }
    /// In a sentence.
    pub(super) fn says(&self) -> String {
        if let Some(side) = self.silent {
            return format!("instructions not counted: the {side} program is older than this tier");
        }
        format!(
            "instructions: {} of {} cells execute other numbers of them, {} more than {LEAST_PERCENT} % and {LEAST} a sweep \
             more (Callgrind, 2 MiB)",
            self.moved.len(),
            self.cells,
            self.over().count()
        )
    }
    /// The cells that moved most.
    pub(super) fn text(&self) -> String {
        let mut moved: Vec<&Moved> = self.moved.iter().collect();
        moved.sort_by(|a, b| (b.new / b.old).total_cmp(&(a.new / a.old)));
        let over = moved.into_iter().filter(|m| m.is_over());
        let line = |m: &Moved| {
            let percent = 100.0 * (m.new / m.old - 1.0);
            format!(
                "    {}\n        {:.0} -> {:.0} instructions a sweep  ({percent:+.2} %)\n",
                m.id, m.old, m.new
            )
        };
        over.take(8).map(line).collect()
    }
}

/// The cells of a list that can be counted, at a size that valgrind does in a fraction of a second.
fn countable(cells: &[String]) -> Vec<String> {
    let of = |id: &String| {
        let (group, backend) = id.rsplit_once('/')?;
        let (workload, rest) = group.split_once('@')?;
        let (_, rest) = rest.split_once('/')?;
        let small = Group::parse(&format!("{workload}@2MiB/{rest}"))?;
        (small.churn.is_none() && small.walkers == 1).then(|| small.cell_id(backend))
    };
    let mut cells: Vec<String> = cells.iter().filter_map(of).collect();
    cells.sort();
    cells.dedup();
    cells
}

/// Whether there is a valgrind to ask.
pub(super) fn is_available() -> bool {
    let quiet = Stdio::null;
    let asked =
        Command::new("valgrind").arg("--version").stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    asked.is_ok_and(|s| s.success())
}

/// Counts both programs at once and compares; none when Ctrl-C came first.
///
/// # Errors
/// A program that does not get through, or a Callgrind that writes something else.
pub(super) fn compare(
    old: &Program,
    new: &Program,
    cells: &[String],
    seed: u64,
    scratch: &Path,
) -> Result<Option<Instructions>> {
    let cells = countable(cells);
    if cells.is_empty() {
        return Ok(Some(Instructions::default()));
    }
    let mut both = Vec::new();
    for program in [old, new] {
        let folder = scratch.join(format!("callgrind-{}", program.name));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        both.push((start(program, &cells, seed, &folder)?, program, folder));
    }
    let mut counts = Vec::new();
    for (child, program, folder) in both {
        if !finish(child, program, &folder)? {
            return Ok(None);
        }
        // Callgrind numbers what the mark made it write; without a mark there is only the end.
        if !folder.join("out.1").exists() {
            return Ok(Some(Instructions { silent: Some(program.name), ..Instructions::default() }));
        }
        counts
            .push(read(&cells, &folder).with_context(|| format!("{}: counting instructions", program.name))?);
    }
    let [old, new] = counts.as_slice() else { bail!("two programs, two counts") };
    let mut found = Instructions::default();
    for (id, old) in old {
        let Some(new) = new.get(id) else { continue };
        found.cells += 1;
        if old != new {
            found.moved.push(Moved { id: id.clone(), old: *old, new: *new });
        }
    }
    Ok(Some(found))
}

fn start(program: &Program, cells: &[String], seed: u64, folder: &Path) -> Result<Running> {
    let mut requests = String::new();
    for cell in cells {
        requests += &format!("prepare {seed} 0 {cell}\n");
        requests.extend(SWEEPS.map(|n| format!("run {n}\n")));
    }
    let file = |name: &str| folder.join(name);
    fs::write(file("requests"), requests).with_context(|| folder.display().to_string())?;
    let create = |name: &str| File::create(file(name)).with_context(|| folder.display().to_string());
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--dump-after={MARK}"))
        .arg(format!("--callgrind-out-file={}", file("out").display()))
        .arg(&program.exe)
        .arg("serve")
        .args(&program.args)
        .stdin(File::open(file("requests")).with_context(|| folder.display().to_string())?)
        .stdout(create("answers")?)
        .stderr(create("said")?);
    process::dies_with_this_thread(&mut valgrind);
    Ok(Running(valgrind.spawn().context("starting valgrind")?))
}

/// A valgrind that is killed when it is not waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits; false when Ctrl-C came first.
fn finish(mut running: Running, program: &Program, folder: &Path) -> Result<bool> {
    loop {
        if interrupt::is_asked() {
            return Ok(false);
        }
        if let Some(status) = running.0.try_wait().context("waiting for valgrind")? {
            if status.success() {
                return Ok(true);
            }
            let said = fs::read_to_string(folder.join("said")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(4).collect();
            bail!("{}: ended under valgrind ({status}): {}", program.name, last.join("; "));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Instructions of a sweep of each cell that the program could do.
fn read(cells: &[String], folder: &Path) -> Result<BTreeMap<String, f64>> {
    let answers = fs::read_to_string(folder.join("answers")).context("its answers")?;
    let answers: Vec<&str> = answers.lines().skip(1).collect();
    // One for `prepare`, one for each run.
    let each = 1 + SWEEPS.len();
    if answers.len() != each * cells.len() {
        bail!("{} answers to {} requests", answers.len(), each * cells.len());
    }
    let mut counts = BTreeMap::new();
    for (i, cell) in cells.iter().enumerate() {
        let ran =
            answers[each * i + 1..each * (i + 1)].iter().all(|a| serde_json::from_str::<Ran>(a).is_ok());
        if !ran {
            continue;
        }
        let total = |nth: usize| -> Result<u64> {
            // Dumps count from 1, in the order of the requests.
            let path = folder.join(format!("out.{}", each * i + nth + 1));
            let text = fs::read_to_string(&path).with_context(|| {
                format!("{}: expected a dump for each request; this valgrind wrote none", path.display())
            })?;
            let line =
                text.lines().rev().find_map(|l| l.strip_prefix("totals: ").or(l.strip_prefix("summary: ")));
            let first = line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok());
            first.with_context(|| format!("{}: expected a line `totals: INSTRUCTIONS`", path.display()))
        };
        let (few, many) = (total(1)?, total(2)?);
        let sweeps = (SWEEPS[1] - SWEEPS[0]) as f64;
        counts.insert(cell.clone(), many.saturating_sub(few) as f64 / sweeps);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_small_and_only_with_one_thread_and_without_churn() {
        let cells = [
            "dense_4k@16MiB/snapshot/512/none/1/map_order",
            "dense_4k@64MiB/snapshot/512/none/1/map_order",
            "dense_4k@16MiB/snapshot/512/none/2/map_order",
            "dense_4k@16MiB/snapshot/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order",
            "nonsense",
        ];
        assert_eq!(countable(&cells.map(str::to_owned)), ["dense_4k@2MiB/snapshot/512/none/1/map_order"]);
    }

    #[test]
    fn dumps_become_instructions_a_sweep_and_small_changes_are_forgiven() {
        let folder = tempfile::tempdir().unwrap();
        let cells = ["a", "b"].map(str::to_owned);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let ran = "{\"ns\":5,\"switches\":0,\"churn\":null}\n";
        write("answers", &format!("hello\n{{}}\n{ran}{ran}{{}}\n{{\"error\":\"x\"}}\n{{\"error\":\"x\"}}\n"));
        for (n, total) in [(1, 7), (2, 3000), (3, 7000)] {
            write(&format!("out.{n}"), &format!("version: 1\nfn=x\n1 2\ntotals: {total}\n"));
        }
        let counts = read(&cells, folder.path()).unwrap();
        assert_eq!(counts, BTreeMap::from([("a".to_owned(), 1000.0)]), "b was refused");
        fs::remove_file(folder.path().join("out.3")).unwrap();
        assert!(read(&cells, folder.path()).unwrap_err().to_string().contains("wrote none"));
        write("answers", "hello\n");
        assert!(read(&cells, folder.path()).unwrap_err().to_string().contains("0 answers to 6 requests"));

        let moved = |old: f64, new: f64| Moved { id: "a".to_owned(), old, new };
        for (old, new, is_over) in [
            (1000.0, 1101.0, true),
            (1000.0, 1100.0, false),
            (1e6, 1.004e6, false),
            (1e6, 1.006e6, true),
            (1e6, 9e5, false),
        ] {
            assert_eq!(moved(old, new).is_over(), is_over, "{old} {new}");
        }
        let moved = vec![moved(1000.0, 1200.0), moved(1000.0, 1001.0)];
        let found = Instructions { cells: 2, moved, silent: None };
        assert!(found.says().contains("2 of 2 cells execute other numbers of them, 1 more than 0.5 %"));
        let silent = Instructions { silent: Some("old"), ..found.clone() };
        assert!(silent.says().contains("the old program is older"), "{}", silent.says());
        assert!(found.text().contains("1000 -> 1200 instructions a sweep  (+20.00 %)"));
    }
}
