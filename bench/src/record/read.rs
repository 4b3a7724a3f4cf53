//! Reading a results folder, also one that is still being written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{Line, Run, SCHEMA, Sample};

/// `run.json` of a folder.
///
/// # Errors
/// With the file, the line in it, and what was expected.
pub(crate) fn read_run(folder: &Path) -> Result<Run> {
    let path = folder.join("run.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: expected a results folder with a run.json", folder.display()))?;
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let damaged = |e: serde_json::Error| anyhow!("{}:{}: damaged: {e}", path.display(), e.line());
    let Schema { schema } = serde_json::from_str(&text).map_err(damaged)?;
    if schema == 0 || schema > SCHEMA {
        bail!(
            "{}: schema {schema} is newer than {SCHEMA}, the newest that this walkbench reads: use a newer walkbench",
            path.display()
        );
    }
    serde_json::from_str(&text).map_err(damaged)
}

/// Reads `samples.jsonl`, or `samples.jsonl.gz` in its place, line by line, checks each against `run.json` and against those before it, and remembers how
/// far it got: a file that grows is read once.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    schema: u32,
    machine: String,
    build: String,
    groups: BTreeSet<String>,
    /// Bytes read, up to a line break.
    offset: u64,
    /// Lines read.
    line: u64,
    launches: BTreeSet<u32>,
    /// The last block of each member in each launch and group: a line that stands twice does not ascend.
    last: BTreeMap<(u32, String, String), (u32, u32)>,
    /// Bytes after the last line break.
    torn: u64,
}

impl Reader {
    /// For the folder that `run` came from.
    pub(crate) fn new(folder: &Path, run: &Run) -> Reader {
        Reader {
            path: folder.join("samples.jsonl"),
            schema: run.schema,
            machine: run.machine.fingerprint(),
            build: run.build.fingerprint(),
            groups: run.groups.iter().cloned().collect(),
            offset: 0,
            line: 0,
            launches: BTreeSet::new(),
            last: BTreeMap::new(),
            torn: 0,
        }
    }
    /// Bytes up to the last whole line.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.offset
    }
    /// Bytes after it: the line that a kill tore.
    pub(crate) fn torn_bytes(&self) -> u64 {
        self.torn
    }
    /// The lines that came since the last time.
    ///
    /// # Errors
    /// With file, line and reason: damage, or lines of another machine or build.
    pub(crate) fn advance(&mut self) -> Result<Vec<Line>> {
        let mut file = self.open()?;
        let (mut lines, mut text) = (Vec::new(), Vec::new());
        loop {
            text.clear();
            let place = format!("{}:{}", self.path.display(), self.line + 1);
            let at = || place.clone();
            let read = file.read_until(b'\n', &mut text).with_context(at)?;
            if text.last() != Some(&b'\n') {
                self.torn = read as u64;
                return Ok(lines);
            }
            let line = self.parse(&text).with_context(at)?;
            self.check(&line).with_context(at)?;
            lines.push(line);
            self.offset += read as u64;
            self.line += 1;
        }
    }
    /// At what was not read yet. A run that is over may be kept compressed.
    fn open(&self) -> Result<Box<dyn BufRead>> {
        let packed = self.path.with_extension("jsonl.gz");
        let expected = || format!("{}: expected the blocks of a run", self.path.display());
        if !self.path.exists() && packed.exists() {
            let mut blocks = BufReader::new(MultiGzDecoder::new(File::open(&packed).with_context(expected)?));
            io::copy(&mut blocks.by_ref().take(self.offset), &mut io::sink()).with_context(expected)?;
            return Ok(Box::new(blocks));
        }
        let mut file = BufReader::new(File::open(&self.path).with_context(expected)?);
        file.seek(SeekFrom::Start(self.offset)).with_context(expected)?;
        Ok(Box::new(file))
    }
    fn parse(&self, text: &[u8]) -> Result<Line> {
        let parsed = if self.schema == 1 {
            serde_json::from_slice::<Sample>(text).map(Line::Block)
        } else {
            serde_json::from_slice(text)
        };
        parsed.map_err(|e| anyhow!("damaged: {e}"))
    }
    fn check(&mut self, line: &Line) -> Result<()> {
        let (launch, group) = match line {
            Line::Launch(l) => {
                if l.machine != self.machine {
                    bail!(
                        "launch {} ran on another machine than run.json says: results do not mix",
                        l.launch
                    );
                }
                if l.build != self.build {
                    bail!("launch {} ran another build than run.json says: results do not mix", l.launch);
                }
                if !self.launches.insert(l.launch) {
                    bail!("launch {} stands here a second time", l.launch);
                }
                return Ok(());
            }
            Line::Begin(b) => (b.launch, &b.group),
            Line::Block(s) => (s.launch, &s.group),
            Line::Member(m) => (m.launch, &m.group),
            Line::Visit(v) => (v.launch, &v.group),
        };
        if self.schema > 1 && !self.launches.contains(&launch) {
            bail!("of launch {launch}, which never started");
        }
        if !self.groups.contains(group) {
            bail!("of group {group}, which run.json does not list");
        }
        if let Line::Block(s) = line {
            let last = self.last.insert((launch, group.clone(), s.member.clone()), (s.round, s.turn));
            if last.is_some_and(|last| last >= (s.round, s.turn)) {
                bail!("round {} of {} stands here a second time", s.round, s.member);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis;
    use crate::measure::machine::{Build, Machine};
    use crate::record::{Begin, Launch, Settings, State};

    fn run() -> Run {
        Run {
            schema: SCHEMA,
            state: State::Running,
            started_unix_s: 0,
            started: String::new(),
            command: Vec::new(),
            profile: "smoke".to_owned(),
            seed: 1,
            clock_cost_ps: 0,
            settings: Settings::default(),
            machine: Machine::read(),
            build: Build::this(),
            groups: vec!["g".to_owned()],
            skips: Vec::new(),
            failures: Vec::new(),
            cells: Vec::new(),
        }
    }

    fn launch(run: &Run) -> Launch {
        Launch { machine: run.machine.fingerprint(), build: run.build.fingerprint(), ..Launch::default() }
    }

    fn text(line: &Line) -> String {
        serde_json::to_string(line).unwrap() + "\n"
    }

    /// Whatever reading such a `samples.jsonl` says.
    fn read(run: &Run, samples: &str) -> Result<(usize, u64)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("samples.jsonl"), samples).unwrap();
        let mut reader = Reader::new(folder.path(), run);
        let lines = reader.advance()?.len();
        Ok((lines, reader.torn_bytes()))
    }

    fn block(round: u32) -> Line {
        Line::Block(Sample {
            launch: 0,
            group: "g".to_owned(),
            member: "map_order".to_owned(),
            round,
            turn: 0,
            what: crate::measure::member::What::Whole,
            nr_pages: 1,
            nr_calls: 1,
            block_ns: 1,
            thread_ns: Vec::new(),
            stages: None,
            apart: None,
            involuntary_switches: None,
            stolen_ticks: None,
            churn: None,
        })
    }

    #[test]
    fn what_follows_the_last_line_break_is_torn_and_nothing_before_it_is_lost() {
        let run = run();
        let whole = text(&Line::Launch(launch(&run))) + &text(&block(0)) + &text(&block(1));
        assert_eq!(read(&run, &whole).unwrap(), (3, 0));
        for cut in 1..text(&block(1)).len() {
            let torn = &whole[..whole.len() - cut];
            let (lines, bytes) = read(&run, torn).unwrap();
            assert_eq!((lines, bytes), (2, (text(&block(1)).len() - cut) as u64));
        }
        assert_eq!(read(&run, "").unwrap(), (0, 0));
    }

    #[test]
    fn damage_and_mixtures_are_refused_with_file_and_line() {
        let run = run();
        let start = text(&Line::Launch(launch(&run)));
        let other = |l: Launch| text(&Line::Launch(l));
        for (samples, line, reason) in [
            ("{}\n".to_owned(), 1, "damaged"),
            (start.clone() + "\0\0\0\0\n", 2, "damaged"),
            (start.clone() + &text(&block(0))[1..], 2, "damaged"),
            (start.clone() + &text(&block(0)).replace("\"g\"", "\"h\""), 2, "which run.json does not list"),
            (start.clone() + &text(&block(1)) + &text(&block(1)), 3, "a second time"),
            (start.clone() + &text(&block(1)) + &text(&block(0)), 3, "a second time"),
            (start.clone() + &start, 2, "a second time"),
            (text(&block(0)), 1, "never started"),
            (
                start.clone() + &text(&Line::Begin(Begin { launch: 7, group: "g".to_owned() })),
                2,
                "launch 7, which never started",
            ),
            (other(Launch { machine: "x".to_owned(), ..launch(&run) }), 1, "another machine"),
            (other(Launch { build: "x".to_owned(), ..launch(&run) }), 1, "another build"),
        ] {
            let error = format!("{:#}", read(&run, &samples).unwrap_err());
            assert!(error.contains(&format!("samples.jsonl:{line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn newer_schemas_are_refused_and_damage_of_run_json_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", read_run(folder.path()).unwrap_err())
        };
        assert!(format!("{:#}", read_run(folder.path()).unwrap_err()).contains("expected a results folder"));
        assert!(error("{\"schema\": 3}").contains("schema 3 is newer than 2"));
        assert!(error("{\n\"schema\": 2,\n}").contains("run.json:3: damaged"));
        assert!(error("").contains("run.json:1: damaged"));
        assert!(error("{\"schema\": 2}").contains("missing field"));
    }

    #[test]
    fn schema_1_is_read_to_this_day() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/2026-11-21-amd-epyc-2vcpu");
        let run = read_run(&root).unwrap();
        assert_eq!(run.schema, 1);
        let lines = Reader::new(&root, &run).advance().unwrap();
        assert!(lines.len() > 1000);
        let results = analysis::results(&run, &lines, &|_| true);
        let cells: Vec<_> = results.iter().flat_map(|r| &r.cells).collect();
        let printed =
            |id: &str| run.cells.iter().find(|c| c["id"] == id).unwrap()["ns_per_page"]["median"].as_f64();
        // One launch: the same figures as were printed then.
        let cell = cells.iter().find(|c| c.id == "dense_4k@16MiB/snapshot/512/none/1/map_order").unwrap();
        let (then, now) = (printed(&cell.id).unwrap(), cell.ns_per_page.unwrap().median);
        assert!((now / then - 1.0).abs() < 0.02, "{then} then, {now} now");
        assert!(cell.marks.contains(&"one_launch".to_owned()));
    }
}
