//! Runs that end early: killed, interrupted, out of disk; and what `--resume` makes of them.

mod common;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Two backends on one small group: a launch takes some tens of milliseconds.
const CELLS: &str = "^dense_4k@2MiB/snapshot/512/none/1/(fixed_flags|map_order)$";

fn walkbench(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walkbench"));
    command.args(args).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(folder: &Path, launches: &str) -> Command {
    let profile = ["run", "--profile", "smoke", "--filter", CELLS, "--out", "mine", "--format", "json"];
    walkbench(folder, &[&profile[..], &["--launches", launches, "--budget", "4"]].concat())
}

fn resume(folder: &Path) -> Command {
    walkbench(folder, &["run", "--resume", "mine", "--format", "json"])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(name: &str, pid: u32) {
    // Too late is fine: the process may have ended.
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// What stands in the file up to its last line break.
fn whole(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_default();
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    bytes[..end].to_vec()
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("mine/samples.jsonl")).unwrap();
    text.lines()
        .enumerate()
        .map(|(i, l)| serde_json::from_str(l).unwrap_or_else(|e| panic!("{}: {e}", i + 1)))
        .collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["kind"] == kind).collect()
}

fn run_json(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("mine/run.json")).unwrap()).unwrap()
}

/// Waits for the first block.
fn wait_for_blocks(child: &mut Child, folder: &Path) {
    let samples = folder.join("mine/samples.jsonl");
    while !String::from_utf8_lossy(&whole(&samples)).contains("\"kind\":\"block\"") {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first block");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_killed_at_fifty_random_points_loses_no_block_and_ends_complete() {
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("mine/samples.jsonl");
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut kept: Vec<u8> = Vec::new();
    let (mut kills, mut grew) = (0, 0);
    // How long a life takes to its first block says how long lives should be, however busy the machine.
    let begun = Instant::now();
    let mut first = start(folder.path(), "60").spawn().unwrap();
    wait_for_blocks(&mut first, folder.path());
    let longest = Duration::from_millis(20) + 2 * begun.elapsed();
    signal("-KILL", first.id());
    first.wait_with_output().unwrap();
    while kills < 50 {
        // Before the folder is there, a start is a start again.
        let is_resumable = fs::metadata(folder.path().join("mine/run.json")).is_ok();
        if !is_resumable {
            let _ = fs::remove_dir_all(folder.path().join("mine"));
        }
        let child =
            if is_resumable { resume(folder.path()) } else { start(folder.path(), "60") }.spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Most of them while blocks are written, some of them while it starts.
        std::thread::sleep(Duration::from_micros(random % longest.as_micros() as u64));
        signal("-KILL", child.id());
        let output = child.wait_with_output().unwrap();
        kills += 1;
        if output.status.code().is_some() {
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
        let now = whole(&samples);
        assert!(now.starts_with(&kept), "a finished block is gone after kill {kills}");
        grew += usize::from(now.len() > kept.len());
        kept = now;
    }
    assert!(grew > 5, "only {grew} of {kills} lives wrote anything: the kills came too early to say much");
    let output = resume(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(whole(&samples).starts_with(&kept));
    let lines = lines(folder.path());
    let run = run_json(folder.path());
    assert_eq!(run["state"], "complete");
    // No launch number twice, no block twice, and none of a launch that never started.
    let launches: Vec<u64> =
        of_kind(&lines, "launch").iter().map(|l| l["launch"].as_u64().unwrap()).collect();
    let distinct: HashSet<u64> = launches.iter().copied().collect();
    assert_eq!(launches.len(), distinct.len());
    let blocks: HashSet<String> = of_kind(&lines, "block")
        .iter()
        .map(|b| format!("{} {} {} {}", b["launch"], b["group"], b["member"], b["round"]))
        .collect();
    assert_eq!(blocks.len(), of_kind(&lines, "block").len());
    assert!(of_kind(&lines, "block").iter().all(|b| distinct.contains(&b["launch"].as_u64().unwrap())));
    // Every launch that was killed half-way has its successor; the time that the run was given may have ended it early.
    let visits = of_kind(&lines, "visit").len();
    assert!((2..=60).contains(&visits), "{visits} visits");
    let cell = &run["cells"][0];
    assert!(cell["ns_per_page"]["median"].as_f64() > Some(0.0) && cell["error"].is_null(), "{cell}");
}

#[test]
fn ctrl_c_finishes_the_block_and_the_run_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), "30").spawn().unwrap();
    wait_for_blocks(&mut child, folder.path());
    signal("-INT", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("--resume mine"), "{}", stderr(&output));
    assert_eq!(run_json(folder.path())["state"], "interrupted");
    let before = whole(&folder.path().join("mine/samples.jsonl"));
    let output = resume(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(whole(&folder.path().join("mine/samples.jsonl")).starts_with(&before));
    assert_eq!(run_json(folder.path())["state"], "complete");
    // Once more: nothing is left to do, and the result is the same.
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    let again = resume(folder.path()).output().unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(first["cells"] == again["cells"], "a complete run changes no more");
}

#[test]
fn a_launch_that_dies_is_a_row_with_an_error_and_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), "60").spawn().unwrap();
    wait_for_blocks(&mut child, folder.path());
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    // A launch may just have ended: then the next one.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let launch = fs::read_to_string(&children).unwrap_or_default();
        if let Some(launch) = launch.split_whitespace().next() {
            signal("-KILL", launch.parse().unwrap());
        }
        if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(1) {
        let run = run_json(folder.path());
        assert!(run["cells"][0]["error"].as_str().unwrap().contains("by signal 9"), "{run}");
        assert!(stderr(&output).contains("cells failed"));
    } else {
        // Killed before it had said what it measures: that is nobody's row.
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("ended early"), "{}", stderr(&output));
    }
}

#[test]
fn a_full_disk_is_said_and_the_run_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    // In units of 512 bytes or of 1 KiB, as the shell likes.
    let script = format!(
        "ulimit -f 96; exec '{}' run --profile smoke --filter '{CELLS}' --out mine --launches 60 --budget 4",
        env!("CARGO_BIN_EXE_walkbench")
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("samples.jsonl: cannot be written") && said.contains("--resume mine"), "{said}");
    let before = whole(&folder.path().join("mine/samples.jsonl"));
    assert!(before.len() > 30_000);
    let output = resume(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(whole(&folder.path().join("mine/samples.jsonl")).starts_with(&before));
    lines(folder.path());
}

#[test]
fn a_run_that_cannot_begin_leaves_a_folder_that_may_be_named_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "ulimit -f 0; exec '{}' run --profile smoke --filter '{CELLS}' --out mine",
        env!("CARGO_BIN_EXE_walkbench")
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("run.json: expected a file that can be written"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(folder.path().join("mine")).unwrap().count(), 0);
    let output = start(folder.path(), "2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(folder.path(), "2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (run, samples) = (folder.path().join("mine/run.json"), folder.path().join("mine/samples.jsonl"));
    let (run_text, samples_text) = (fs::read_to_string(&run).unwrap(), fs::read_to_string(&samples).unwrap());
    let change = |from: &str, to: &str| run_text.replacen(from, to, 1);
    let json: Value = serde_json::from_str(&run_text).unwrap();
    let commit = json["build"]["commit"].as_str().unwrap();
    let vcpus = json["machine"]["vcpus"].as_u64().unwrap();
    let third_broken: String = samples_text
        .lines()
        .enumerate()
        .map(|(i, l)| if i == 2 { format!("{}\n", &l[..l.len() / 2]) } else { format!("{l}\n") })
        .collect();
    for (run_with, samples_with, expected) in [
        (change(commit, "0123456789"), samples_text.clone(), "another build"),
        (
            change(&format!("\"vcpus\": {vcpus}"), &format!("\"vcpus\": {}", vcpus + 1)),
            samples_text.clone(),
            "another machine",
        ),
        (change("\"schema\": 2", "\"schema\": 9"), samples_text.clone(), "newer walkbench"),
        (change("\"schema\": 2", "\"schema\": 1"), samples_text.clone(), "older than 2"),
        (run_text.clone(), third_broken, "samples.jsonl:3: damaged"),
        (run_text[..run_text.len() / 2].to_owned(), samples_text.clone(), "run.json:"),
    ] {
        fs::write(&run, &run_with).unwrap();
        fs::write(&samples, &samples_with).unwrap();
        let output = resume(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{expected}");
        assert!(stderr(&output).contains(expected), "{expected:?} not in: {}", stderr(&output));
        assert!(output.stdout.is_empty());
        assert_eq!(fs::read_to_string(&samples).unwrap(), samples_with, "nothing was changed");
    }
    fs::remove_file(&run).unwrap();
    let output = resume(folder.path()).output().unwrap();
    assert!(stderr(&output).contains("expected a results folder"), "{}", stderr(&output));
}

#[test]
fn a_run_that_is_still_going_on_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), "200").spawn().unwrap();
    wait_for_blocks(&mut child, folder.path());
    let output = resume(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("still going on"), "{}", stderr(&output));
    signal("-KILL", child.id());
    child.wait().unwrap();
}

/// The linker is asked for as many links as there are launches; each launch is one of them, also where a run goes on.
#[test]
fn with_layouts_every_launch_is_a_link_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    if !common::clone_sources(place.path()) {
        return;
    }
    // A cargo that "links" by writing its number behind a copy of this program.
    let cargo = place.path().join("cargo");
    let exe = env!("CARGO_BIN_EXE_walkbench");
    let link = format!("cp '{exe}' \"$WALKBENCH_LINKS/$n\" && echo $n >> \"$WALKBENCH_LINKS/$n\"");
    let script = format!("#!/bin/sh\nfor n in $(seq 0 6); do {link} || exit; done\n");
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let here = |mut command: Command| {
        command.env("CARGO", &cargo).env("TMPDIR", place.path()).env_remove("CARGO_TARGET_DIR");
        command.output().unwrap()
    };
    let mut first = start(place.path(), "7");
    first.args(["--layouts", "3"]);
    let output = here(first);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(run_json(place.path())["settings"]["layouts"], 3);
    let executables = |launches: &[&Value]| -> HashSet<String> {
        launches.iter().map(|l| l["executable"].as_str().unwrap().to_owned()).collect()
    };
    let all = lines(place.path());
    let launches = of_kind(&all, "launch");
    assert_eq!(executables(&launches).len(), 7, "{launches:?}");

    // What a kill took is measured by its own link again.
    let samples = place.path().join("mine/samples.jsonl");
    let text = fs::read_to_string(&samples).unwrap();
    let cut = text.rfind("{\"kind\":\"launch\"").unwrap();
    fs::write(&samples, &text[..cut]).unwrap();
    let output = here(resume(place.path()));
    assert!(output.status.success(), "{}", stderr(&output));
    let again = lines(place.path());
    assert_eq!(executables(&of_kind(&again, "launch")), executables(&launches));
    let left = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(!left.into_iter().any(|n| n.to_string_lossy().starts_with("walkbench-scratch-")));

    // Where there is nothing to link, it is said before anything is measured.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut nowhere = start(elsewhere.path(), "2");
    nowhere.arg("--layouts");
    let output = here(nowhere);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected to run inside the one of walkbench"), "{}", stderr(&output));
}
