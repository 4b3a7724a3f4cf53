//! A run: its folder, its launches, what they wrote.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use workloads::definition::Profile;

use super::{ProfileArg, RunArgs, sharded};
use crate::cmd::launch::{Order, Wanted};
use crate::interrupt;
use crate::measure::clock::Clock;
use crate::measure::machine::{Build, Machine};
use crate::measure::matrix::Group;
use crate::record::{self, Failure, Folder, Line, Reader, Run, SCHEMA, Settings, Skip, State};
use crate::selection::{ALL, Selection, spelled_out};
use crate::sources::layouts::{self, Links};
use crate::sources::scratch::Scratch;
use crate::stats::LEAST_LAUNCHES;

/// See the module.
pub(super) struct Job {
    /// Where it writes.
    pub(super) folder: Folder,
    /// `run.json`.
    pub(super) run: Run,
    /// What the launches wrote.
    pub(super) lines: Vec<Line>,
    /// What was asked for.
    pub(super) selection: Selection,
    reader: Reader,
    groups: Vec<Group>,
    /// With `--layouts`, the program of each launch.
    links: Vec<PathBuf>,
    began: Instant,
}

/// Orders of functions that one seed of `--layouts` has, so that no two seeds share one.
const LINKS_A_SEED: u32 = 1000;

impl Job {
    /// A new run.
    ///
    /// # Errors
    /// A filter that matches nothing; a folder that is taken or cannot be written.
    pub(super) fn start(args: &RunArgs) -> Result<Job> {
        let profile = Profile::from(args.profile);
        let questions = asked(args);
        let selection = Selection::new(args.filter.as_ref(), &questions)?;
        let groups = sharded(selection.groups(profile)?, args.shard)?;
        let launches = args.launches.unwrap_or(args.profile.launches());
        let links = links(args.layouts, launches)?;
        let machine = Machine::read();
        let started =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
        let (day, time) = record::date(started.as_secs());
        let folder = Folder::create(args.out.as_deref(), &day, &machine)?;
        let budget = args.budget.map(Duration::from_secs).or(args.profile.budget());
        let skips = groups.iter().flat_map(|g| {
            g.skips.iter().map(|(b, reason)| Skip { id: g.cell_id(b.id), reason: reason.clone() })
        });
        let run = Run {
            schema: SCHEMA,
            state: State::Running,
            started_unix_s: started.as_secs(),
            started: time,
            command: std::env::args().skip(1).collect(),
            profile: profile.name().to_owned(),
            seed: args.seed,
            clock_cost_ps: (Clock::measure().cost_ns * 1000.0) as u64,
            settings: Settings {
                filter: args.filter.as_ref().map(|f| f.as_str().to_owned()),
                questions,
                shard: args.shard,
                control: args.control,
                layouts: args.layouts,
                launches,
                budget_ms: budget.map(|b| b.as_millis() as u64),
                host_huge_pages: true,
            },
            machine,
            build: Build::this(),
            groups: groups.iter().map(Group::id).collect(),
            skips: skips.collect(),
            failures: Vec::new(),
            cells: Vec::new(),
        };
        if let Err(e) = folder.run(&run) {
            folder.forget();
            return Err(e);
        }
        let reader = Reader::new(folder.path(), &run);
        Ok(Job { folder, run, lines: Vec::new(), selection, reader, groups, links, began: Instant::now() })
    }

    /// Goes on with a run that ended early: what its launches wrote stays, a line that a kill tore goes.
    ///
    /// # Errors
    /// A folder that is damaged, or of another machine or build, or whose run is still going on.
    pub(super) fn resume(path: &Path) -> Result<Job> {
        let run = record::read_run(path)?;
        if run.schema < SCHEMA {
            bail!(
                "{}: schema {} is older than {SCHEMA}: such a run can be read, but not gone on with",
                path.display(),
                run.schema
            );
        }
        let folder = Folder::reopen(path)?;
        let (machine, build) = (Machine::read(), Build::this());
        if machine.fingerprint() != run.machine.fingerprint() {
            bail!(
                "{}: was measured on another machine: {}; this is {}. Expected the same: results do not mix",
                path.display(),
                run.machine.line(),
                machine.line()
            );
        }
        if build.fingerprint() != run.build.fingerprint() {
            bail!(
                "{}: was measured with another build: commit {}{}, {}; this is commit {}{}, {}. Expected the same: \
                 results do not mix",
                path.display(),
                run.build.commit,
                if run.build.dirty == "true" { " (dirty)" } else { "" },
                run.build.rustc,
                build.commit,
                if build.dirty == "true" { " (dirty)" } else { "" },
                build.rustc
            );
        }
        let mut reader = Reader::new(path, &run);
        let lines = reader.advance()?;
        folder.cut(reader.whole_bytes())?;
        let selection = Selection::of(&run.settings).with_context(|| format!("{}", path.display()))?;
        let profile = ProfileArg::parse(&run.profile).with_context(|| format!("{}", path.display()))?;
        let groups = sharded(selection.groups(profile.into())?, run.settings.shard)?;
        if groups.iter().map(Group::id).ne(run.groups.iter().cloned()) {
            bail!("{}: plans other groups than this program: it cannot go on", path.display());
        }
        let (none, began) = (Vec::new(), Instant::now());
        let mut job = Job { folder, run, lines, selection, reader, groups, links: none, began };
        let [fewest, _] = job.launches_done();
        if job.run.state != State::Complete || fewest < job.run.settings.launches {
            job.links = links(job.run.settings.layouts, job.run.settings.launches)?;
            job.began = Instant::now();
            // What was made of fewer lines is not what the folder says while more are written.
            (job.run.state, job.run.cells) = (State::Running, Vec::new());
            job.folder.run(&job.run)?;
        }
        Ok(job)
    }

    /// Visits that ended, by group.
    fn visits(&self) -> BTreeMap<&str, u32> {
        let mut visits: BTreeMap<&str, u32> = self.run.groups.iter().map(|g| (g.as_str(), 0)).collect();
        for line in &self.lines {
            if let Line::Visit(v) = line
                && let Some(n) = visits.get_mut(v.group.as_str())
            {
                *n += 1;
            }
        }
        visits
    }
    /// Launches of the group with the fewest and of that with the most, failed ones aside.
    pub(super) fn launches_done(&self) -> [u32; 2] {
        let visits = self.visits();
        let of = || visits.iter().filter(|(g, _)| !self.has_failed(g)).map(|(_, n)| *n);
        [of().min().unwrap_or(0), of().max().unwrap_or(0)]
    }
    fn has_failed(&self, group: &str) -> bool {
        self.run.failures.iter().any(|f| f.group == group)
    }

    /// Launches until every group has as many as were asked for, the time is over, or Ctrl-C. A run that the time ended is
    /// complete, also with fewer launches than it aimed at; to go on with it is to add what is missing.
    ///
    /// # Errors
    /// When the folder cannot be written, or a launch cannot be started.
    pub(super) fn launch_all(&mut self) -> Result<()> {
        let wanted = self.run.settings.launches;
        let total = u64::from(wanted) * self.groups.len() as u64;
        let before: u64 = self.visits().values().map(|n| u64::from(*n)).sum();
        // Of a run that goes on, only the part of the time that its missing visits had.
        let budget = self.run.settings.budget_ms.map(|ms| {
            Duration::from_millis(ms).mul_f64(total.saturating_sub(before) as f64 / total.max(1) as f64)
        });
        let deadline = budget.map(|b| self.began + b);
        let mut took = Duration::ZERO;
        while !interrupt::is_asked() {
            let visits = self.visits();
            let pending: Vec<&Group> = self
                .groups
                .iter()
                .filter(|g| {
                    !self.has_failed(&g.id()) && visits.get(g.id().as_str()).is_some_and(|n| *n < wanted)
                })
                .collect();
            let fewest = pending.iter().filter_map(|g| visits.get(g.id().as_str())).min();
            let Some(&fewest) = fewest else { break };
            let now = Instant::now();
            // A launch like the last one would end well after the time is over. Without the fewest that decide anything
            // the run would have been for nothing.
            if fewest as usize >= LEAST_LAUNCHES && deadline.is_some_and(|d| now + took.mul_f64(0.9) > d) {
                break;
            }
            let left = deadline.map(|d| d.saturating_duration_since(now));
            let order = Order {
                launch: self.next_launch(),
                parent: std::process::id(),
                seed: self.run.seed,
                profile: self.run.profile.clone(),
                settings: self.run.settings.clone(),
                machine: self.run.machine.fingerprint(),
                build: self.run.build.fingerprint(),
                visits: pending.iter().map(|g| self.visit(g)).collect(),
                budget_ms: left.map(|l| (l / (wanted - fewest)).as_millis() as u64),
                done: visits.values().map(|n| u64::from(*n)).sum(),
                total,
                elapsed_ms: self.began.elapsed().as_millis() as u64,
                left_ms: left.map(|l| l.as_millis() as u64),
            };
            self.launch(&order)?;
            took = now.elapsed();
        }
        self.run.state = if interrupt::is_asked() { State::Interrupted } else { State::Complete };
        Ok(())
    }

    fn visit(&self, group: &Group) -> Wanted {
        let id = group.id();
        let is_checked = self.lines.iter().any(|l| matches!(l, Line::Member(m) if m.group == id));
        Wanted {
            backends: group.backends.iter().map(|b| b.id.to_owned()).collect(),
            check: !is_checked,
            group: id,
        }
    }
    fn next_launch(&self) -> u32 {
        let numbers =
            self.lines.iter().filter_map(|l| if let Line::Launch(l) = l { Some(l.launch + 1) } else { None });
        numbers.max().unwrap_or(0)
    }

    /// One launch, to its end.
    fn launch(&mut self, order: &Order) -> Result<()> {
        let orders = serde_json::to_vec(order).context("orders as JSON")?;
        // The program that runs, also where its file was replaced meanwhile; or the launch's own link of it.
        let this = Path::new("/proc/self/exe");
        let link = self.links.iter().cycle().nth(order.launch as usize);
        let mut child = Command::new(link.map_or(this, PathBuf::as_path))
            .arg("launch")
            .stdin(Stdio::piped())
            .stdout(self.folder.samples()?)
            .process_group(0)
            .spawn()
            .context("starting a launch")?;
        interrupt::forward_to(Some(child.id()));
        if let Some(mut stdin) = child.stdin.take() {
            // A child that is gone already says so when it is waited for.
            let _ = stdin.write_all(&orders);
        }
        let status = child.wait();
        interrupt::forward_to(None);
        let status = status.context("waiting for a launch")?;
        let written = self.reader.advance()?;
        let last_begin = written.iter().rev().find_map(|l| match l {
            Line::Begin(b) => Some(b.group.clone()),
            _ => None,
        });
        let has_ended = |group: &str| written.iter().any(|l| matches!(l, Line::Visit(v) if v.group == group));
        let unfinished = last_begin.filter(|g| !has_ended(g));
        self.lines.extend(written);
        if self.reader.torn_bytes() > 0 {
            self.folder.cut(self.reader.whole_bytes())?;
        }
        self.judge(order.launch, status, unfinished)
    }

    fn judge(&mut self, launch: u32, status: ExitStatus, unfinished: Option<String>) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        match (status.code(), unfinished) {
            (Some(0), _) => Ok(()),
            _ if interrupt::is_asked() => Ok(()),
            // It said why.
            (Some(2), _) => {
                bail!(
                    "launch {launch} could not go on; what was measured is in {folder}\nwalkbench run --resume {folder}    goes on"
                )
            }
            (code, Some(group)) => {
                let how = match (code, status.signal()) {
                    (Some(code), _) => format!("with exit code {code}"),
                    (None, Some(signal)) => format!("by signal {signal}"),
                    (None, None) => "for no known reason".to_owned(),
                };
                let reason = format!("launch {launch} ended {how} while it measured this");
                eprintln!("{group}: {reason}");
                let backends = self.visit_backends(&group);
                self.run.failures.push(Failure { group, backends, reason });
                self.folder.run(&self.run)
            }
            (_, None) => bail!("launch {launch} ended early ({status}); what was measured is in {folder}"),
        }
    }
    fn visit_backends(&self, id: &str) -> Vec<String> {
        let group = self.groups.iter().find(|g| g.id() == id);
        group.map(|g| g.backends.iter().map(|b| b.id.to_owned()).collect()).unwrap_or_default()
    }
}

/// The questions whose cells are wanted: all of them where nothing else is said, but for the smoke profile, which has one
/// cell of everything. What no question looks at takes six times as long in the quick profile and ten times in the full.
fn asked(args: &RunArgs) -> Vec<String> {
    let is_said = args.filter.is_some() || !args.questions.is_empty();
    if is_said || args.profile == ProfileArg::Smoke {
        return spelled_out(&args.questions);
    }
    spelled_out(&[ALL.to_owned()])
}

/// A link of this program for each launch, where there shall be such; see [`layouts`]. None also after Ctrl-C, which ends
/// the run before its first launch.
///
/// # Errors
/// The tree around is not what this program was built from, or does not build.
fn links(layouts: Option<u32>, launches: u32) -> Result<Vec<PathBuf>> {
    let Some(seed) = layouts else { return Ok(Vec::new()) };
    let links = Links { nr: launches, seed: seed * LINKS_A_SEED };
    Ok(layouts::link_this(links, &mut Scratch::new()?)?.unwrap_or_default())
}
