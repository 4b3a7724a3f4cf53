//! `walkbench record`: plays scenarios on the kernel of this machine and writes what it says.
//!
//! Exit code 0 when every scenario was recorded, 1 when one could not be, 2 for bad input and for a machine that cannot
//! be recorded.

use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use workloads::scenario::{self, Op, Scenario, Step, generate};

use crate::os::hmm::Device;
use crate::os::process::dies_with_this_thread;
use crate::output;
use crate::recorder::guest::Guest;
use crate::recorder::{self, PATIENCE};

/// Play random scenarios on this machine's kernel and record what it answers
///
/// For a guest that is there for it (scripts/kernel/run.sh WORKDIR record): root, the device /dev/walkbench_hmm, two RAM
/// disks, a tmpfs at /tmp. Settings of the machine are changed: THP, swap, huge pages, overcommit. What comes out,
/// `walkbench conform` replays against the model.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples, in such a guest:
  walkbench record --own-machine --seed 5 --count 1000 --out new.jsonl
  walkbench record --own-machine --class dev --seed 5 --count 300 --out dev.jsonl    memory of a device: CONFIG_TEST_HMM
  walkbench record --own-machine --class races --seed 5 --count 250 --out races.jsonl    two processors
  walkbench record --own-machine --again workloads/truth/hand.jsonl.gz --out again.jsonl
  walkbench record --show --seed 5 --count 3      the scripts, on any machine; nothing is played")]
pub(crate) struct RecordArgs {
    /// Which scenarios: the same seed makes the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    count: u64,
    /// Number of the first one
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    first: u64,
    /// Only of this class; without it all but `dev`, `held`, `waits` and `races` take turns
    #[arg(long, value_name = "NAME", value_parser = class, conflicts_with = "again")]
    class: Option<String>,
    /// In place of new scenarios: those of a recording, once more
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "count", "first"])]
    again: Option<PathBuf>,
    /// Recording to write, one line a scenario; an existing file is replaced
    #[arg(long, value_name = "FILE", required_unless_present_any = ["show", "play"])]
    out: Option<PathBuf>,
    /// This machine is there to be recorded: its settings may be changed
    #[arg(long)]
    own_machine: bool,
    /// Only print the scenarios
    #[arg(long, conflicts_with_all = ["out", "own_machine"])]
    show: bool,
    /// Play the scenario on standard input in this process; `record` starts it
    #[arg(long, hide = true, conflicts_with_all = ["out", "own_machine", "show"])]
    play: bool,
}

fn class(name: &str) -> Result<String, String> {
    let classes: Vec<&str> = generate::classes().collect();
    if classes.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!("expected one of {}", classes.join(", ")))
    }
}

/// How often a scenario is played when khugepaged disturbs it, or a race finds no end.
const TRIES: u32 = 3;

/// Runs the sub-command.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    if args.play {
        return play();
    }
    let scenarios = match &args.again {
        Some(file) => scenario::read_path(file)?,
        None => (args.first..args.first + args.count)
            .filter_map(|number| match &args.class {
                Some(class) => generate::generate_of(class, args.seed, number),
                None => Some(generate::generate(args.seed, number)),
            })
            .collect(),
    };
    if args.show {
        return show(&scenarios);
    }
    let out = args.out.as_deref().context("--out: expected a file")?;
    // Before anything is changed: is this a machine that can be recorded, and is there a place for it?
    Device::open()?;
    if out.is_dir() || !out.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir()) {
        bail!("--out {}: expected the name of a file in a folder that exists", out.display());
    }
    if !args.own_machine {
        bail!(
            "recording changes settings of the whole machine (THP, swap, huge pages): expected a guest that is there for it, \
             and --own-machine; scripts/kernel/run.sh WORKDIR record makes one"
        );
    }
    let guest = Guest::own()?;
    record(&guest, &scenarios, out)
}

fn show(scenarios: &[Scenario]) -> anyhow::Result<ExitCode> {
    let lines = scenarios.iter().map(|scenario| scenario::to_line(scenario) + "\n");
    output::print(&lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn record(guest: &Guest, scenarios: &[Scenario], out: &Path) -> anyhow::Result<ExitCode> {
    let mut lines = String::new();
    let mut failed = 0;
    for (index, scenario) in scenarios.iter().enumerate() {
        match one(guest, scenario) {
            Ok(line) => lines.extend([line.as_str(), "\n"]),
            Err(why) => {
                failed += 1;
                eprintln!("{}: not recorded: {why:#}", scenario.id);
            }
        }
        if (index + 1) % 100 == 0 {
            eprintln!("{} of {}", index + 1, scenarios.len());
        }
    }
    output::replace(out, lines.as_bytes())?;
    eprintln!("{} recorded, {failed} not", scenarios.len() - failed);
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Plays a scenario in a process of its own: the line of the recording.
fn one(guest: &Guest, scenario: &Scenario) -> anyhow::Result<String> {
    if let Some(why) = scenario.unsupported() {
        bail!("{why}");
    }
    for _ in 0..TRIES {
        if let Some(line) = guest.with(scenario, || play_in_process(scenario))? {
            // What cannot be read back must not be written.
            let recorded = scenario::parse_line(&line, Path::new("what was recorded"), 1)?;
            if !recorded.steps.iter().any(gave_up) {
                return Ok(line);
            }
        }
    }
    bail!("khugepaged worked meanwhile, or a race collided for longer than a driver waits, {TRIES} times")
}

/// Whether the device took so long over a race that it gave up, as drivers do (HMM_RANGE_DEFAULT_TIMEOUT). That says how slow
/// the machine was, and nothing of its memory.
fn gave_up(step: &Step) -> bool {
    matches!(step.op, Op::Race { .. }) && step.expected.ret == -i64::from(libc::EBUSY)
}

fn play_in_process(scenario: &Scenario) -> io::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["record", "--play"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    dies_with_this_thread(&mut command);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A process that ended early says why below.
        let _ = writeln!(stdin, "{}", scenario::to_line(scenario));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "its process ended with {} (at most {PATIENCE} s): {}",
            output.status,
            said.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().into())
}

fn play() -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("standard input")?;
    let scenario = scenario::parse_line(line.trim_end(), Path::new("standard input"), 1)?;
    let recorded = recorder::play(scenario)?;
    println!("{}", scenario::to_line(&recorded));
    Ok(ExitCode::SUCCESS)
}
