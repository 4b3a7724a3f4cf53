//! `walkbench gate` from outside: what it decides, what it refuses, and what it leaves behind, which is nothing.
//!
//! Baselines that misbehave are shell scripts that speak the protocol up to some point. Nothing here depends on how fast
//! or quiet the machine is.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const EXE: &str = env!("CARGO_BIN_EXE_walkbench");
/// One quick cell.
const CELL: &str = "^dense_4k@16MiB/snapshot/512/none/1/map_order$";

/// A gate in a place of its own: whatever it leaves behind lies in `place`.
fn gate(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(EXE);
    command.arg("gate").args(args).current_dir(place).env("TMPDIR", place).env_remove("CARGO_TARGET_DIR");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
}

fn left_behind(place: &Path) -> Vec<PathBuf> {
    let is_scratch =
        |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("walkbench-scratch-"));
    fs::read_dir(place).unwrap().map(|e| e.unwrap().path()).filter(is_scratch).collect()
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What this program says when it serves.
fn hello() -> String {
    let output = Command::new(EXE).arg("serve").stdin(Stdio::null()).output().unwrap();
    text(&output.stdout).lines().next().unwrap().to_owned()
}

/// A baseline that answers like one, but for `cases` of a shell's case statement, which come first.
fn fake(place: &Path, hello: &str, cases: &str) -> PathBuf {
    let path = place.join("fake");
    let script = format!(
        "#!/bin/sh\necho '{hello}'\nwhile read -r verb rest; do case \"$verb\" in\n{cases}\n\
         prepare) echo '{{\"calls\":8,\"pages\":4096,\"least_block_ns\":0}}';;\n\
         answers) echo '{{\"answers\":\"0000000000000000\"}}';;\n\
         run) echo '{{\"ns\":3000000,\"switches\":0,\"churn\":null}}';;\nesac; done\n"
    );
    executable(&path, &script);
    path
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not after 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn baselines_that_misbehave_end_the_gate_with_2_and_say_how() {
    let place = tempfile::tempdir().unwrap();
    let hello = hello();
    let newer = hello.replace("\"walkbench_serve\":1", "\"walkbench_serve\":99");
    let foreign = hello.replace("\"rustc\":\"rustc ", "\"rustc\":\"otherc ");
    assert!(newer != hello && foreign != hello);
    let time = ["--tiers", "time", "--filter", CELL, "--patience", "2"];
    for (name, hello, cases, says) in [
        ("another protocol", newer.as_str(), "", "speaks protocol 99 of the gate, this program 1"),
        ("another compiler", foreign.as_str(), "", "the baseline's compiler is \"otherc "),
        ("garbage at first", "welcome to bash", "", "said \"welcome to bash\"; expected a walkbench"),
        ("ends at once", "", "", "said \"\"; expected"),
        ("a crash", &hello, "run) echo oh no >&2; kill -SEGV $$;;", "signal: 11"),
        ("an end", &hello, "run) echo oh no >&2; exit 3;;", "ended when asked to `run"),
        ("a hang", &hello, "run) exec sleep 1000;;", "no answer to `run"),
        ("garbage", &hello, "run) echo '{\"ns\":\"many\"}';;", "garbage"),
        ("no time", &hello, "run) echo '{\"ns\":0,\"switches\":0}';;", "took 0 ns"),
        ("other answers", &hello, "", "1 cell with other answers than the baseline's"),
        (
            "no such cell",
            &hello,
            "prepare) echo '{\"error\":\"no such cell\"}';;",
            "the baseline cannot do it: no such cell",
        ),
    ] {
        let cases = cases.to_owned();
        // The answers of the fake are nobody's: all but the case about them need the right ones.
        let right = "answers) echo '{\"answers\":\"ANSWERS\"}';;".replace("ANSWERS", &answers());
        let cases = if name == "other answers" { cases } else { format!("{cases}\n{right}") };
        let path = fake(place.path(), hello, &cases);
        let mut args = vec!["--baseline", path.to_str().unwrap()];
        args.extend(time);
        let output = gate(place.path(), &args).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(says), "{name}: {says:?} not in:\n{stderr}");
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
        assert!(left_behind(place.path()).is_empty(), "{name}");
    }
}

/// What this program's own answers to the cell hash to.
fn answers() -> String {
    use std::io::Write as _;
    let mut child =
        Command::new(EXE).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let requests = "prepare 1 0 dense_4k@16MiB/snapshot/512/none/1/map_order\nanswers\nrun 0\nwalk\ntail 30\nrun 2\nforget\nrun 2\n";
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let output = text(&child.wait_with_output().unwrap().stdout);
    let lines: Vec<Value> = output.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["pages"]), (9, &4096.into()), "{output}");
    assert_eq!((&lines[0]["forgets"], &lines[7]), (&true.into(), &serde_json::json!({})), "{output}");
    assert!(lines[8]["error"].as_str().unwrap().contains("expected `prepare` first"), "{output}");
    assert!(lines[3]["error"].as_str().unwrap().contains("expected sweeps, 1 or more"));
    assert!(
        lines[4]["error"].as_str().unwrap().contains("expected prepare, forget, answers, run, part or tail")
    );
    let p99_ns = lines[5]["tail"]["p99_ns"].as_u64().unwrap();
    assert_eq!(lines[5]["tail"]["operations"], 8 * 30, "eight calls a sweep: {output}");
    assert!(p99_ns > 0 && p99_ns <= lines[5]["ns"].as_u64().unwrap(), "{output}");
    assert!(lines[6].get("tail").is_none(), "nobody asked for single operations: {output}");
    lines[2]["answers"].as_str().unwrap().to_owned()
}

#[test]
fn a_sweep_over_tables_that_are_put_back_is_served_in_parts_in_their_order() {
    let served = |args: &[&str], requests: &str| -> Vec<Value> {
        use std::io::Write as _;
        let mut command = Command::new(EXE);
        let mut child =
            command.arg("serve").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
        let output = text(&child.wait_with_output().unwrap().stdout);
        output.lines().skip(1).map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let cell = "prepare 1 0 absent_4k@16MiB/fault_write/512/none/1/map_order\n";
    let parts =
        ["1 8", "0 8", "1 8", "3 8", "2 8", "2 8", "0 3", "1 3", "0 9", "0 0"].map(|p| format!("part {p}\n"));
    let lines = served(&[], &format!("{cell}{}run 1\npart 2 3\npart 0 1\n", parts.concat()));
    assert_eq!((&lines[0]["calls"], &lines[0]["parts"]), (&8.into(), &8.into()), "{lines:?}");
    let has_time: Vec<bool> = lines[1..].iter().map(|l| l["ns"].as_u64().is_some_and(|ns| ns > 0)).collect();
    let expected = [false, true, true, false, true, false, true, true, false, false, true, false, true];
    assert_eq!(has_time, expected, "{lines:?}");
    let error = lines[4]["error"].as_str().unwrap();
    assert!(error.contains("part 3 8") && error.contains("part 2 of as many as before"), "{error}");
    // Where tables stay, under churn, and with more work planted, blocks are whole sweeps.
    for (args, cell) in [
        (&[][..], "dense_4k@16MiB/snapshot/512/none/1/map_order"),
        (&[][..], "dense_4k@16MiB/fault_write/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order"),
        (&["--plant", "3"][..], "absent_4k@16MiB/fault_write/512/none/1/map_order"),
        (&["--plant-late", "40"][..], "absent_4k@16MiB/fault_write/512/none/1/map_order"),
    ] {
        let lines = served(args, &format!("prepare 1 0 {cell}\npart 0 8\n"));
        assert!(lines[0].get("parts").is_none() && lines[1].get("error").is_some(), "{cell}: {lines:?}");
    }
}

#[test]
fn one_operation_in_64_that_is_late_moves_the_p99_and_hardly_the_time() {
    use std::io::Write as _;
    let served = |args: &[&str]| -> (u64, u64) {
        let mut command = Command::new(EXE);
        let mut child =
            command.arg("serve").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut requests = "prepare 1 0 dense_4k@16MiB/snapshot/512/none/1/map_order\n".to_owned();
        requests += &"tail 120\nrun 120\n".repeat(9);
        child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
        let output = text(&child.wait_with_output().unwrap().stdout);
        let lines: Vec<Value> = output.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        // The least of nine: whatever else this machine does makes blocks longer.
        let p99 = lines.iter().filter_map(|l| l["tail"]["p99_ns"].as_u64()).min();
        let whole = lines.iter().filter(|l| l.get("tail").is_none()).filter_map(|l| l["ns"].as_u64()).min();
        (p99.unwrap(), whole.unwrap())
    };
    let (as_is, late) = (served(&[]), served(&["--plant-late", "900"]));
    assert!(late.0 > 2 * as_is.0, "ten times as long, in more than one of a hundred: {as_is:?} {late:?}");
    assert!(late.1 < 2 * as_is.1, "900 / 64 = 14 % in the mean: {as_is:?} {late:?}");
}

#[test]
fn what_is_no_baseline_is_refused_with_what_would_be_one() {
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let git = |at: &Path, args: &[&str]| {
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(at).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    git(&repository, &["init", "--quiet"]);
    for n in ["one", "two"] {
        fs::write(repository.join("Cargo.toml"), n).unwrap();
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "--quiet", "-m", n]);
    }
    let origin = format!("file://{}", repository.display());
    git(place.path(), &["clone", "--quiet", "--depth", "1", &origin, "shallow"]);
    let plain = place.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let shallow = place.path().join("shallow");
    for (at, baseline, says) in [
        (place.path(), "HEAD~1", "is no file, and this is no git repository"),
        (&repository, "no-such-branch", "is neither a file nor a revision"),
        (&repository, "--upload-pack=x", "is neither a file nor a revision"),
        (&shallow, "HEAD~1", "this clone, which is a shallow one; `git fetch --deepen=100`"),
        (place.path(), plain.to_str().unwrap(), "may not be executed"),
        // A revision that is there and is no walkbench.
        (&repository, "HEAD~1", "does not build"),
    ] {
        let baseline = format!("--baseline={baseline}");
        let args = [baseline.as_str(), "--tiers", "time"];
        let output = gate(at, &args).env("TMPDIR", place.path()).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(says), "{baseline}: {says:?} not in:\n{stderr}");
        assert_eq!(output.status.code(), Some(2), "{baseline}");
        assert!(left_behind(place.path()).is_empty(), "{baseline}");
    }
    let worktrees = git(&repository, &["worktree", "list"]);
    assert_eq!(worktrees.lines().count(), 1, "{worktrees}");
    let without = gate(&repository, &["--baseline", "HEAD"]).env("PATH", "").output().unwrap();
    assert!(text(&without.stderr).contains("git cannot be started"), "{}", text(&without.stderr));
    // A tier that cannot be had is left out aloud.
    let path = format!("{}:/nowhere", place.path().display());
    let args = ["--baseline", EXE, "--tiers", "instructions", "--format", "json"];
    let skipped = gate(place.path(), &args).env("PATH", path).output().unwrap();
    assert_eq!(json(&skipped)["notes"][0], "instructions not counted: there is no valgrind in PATH");
    assert_eq!(skipped.status.code(), Some(0));
    // A program without the place where Callgrind is to write what it counted: older than this tier.
    let path = place.path().join("bin");
    fs::create_dir(&path).unwrap();
    let valgrind = "#!/bin/sh\nif [ \"$1\" != --version ]; then shift 4; exec \"$@\"; fi\n";
    executable(&path.join("valgrind"), valgrind);
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let silent =
        gate(place.path(), &[&args[..], &["--filter", CELL]].concat()).env("PATH", path).output().unwrap();
    let note = "instructions not counted: the old program is older than this tier";
    assert_eq!(json(&silent)["notes"][0], note, "{}", text(&silent.stderr));
    for (args, says) in [
        (vec!["--baseline", EXE, "--filter", "no_such_cell"], "matches no cell"),
        (
            vec!["--baseline", EXE, "--tiers", "time", "--budget", "1", "--filter", "@16MiB/.*/map_order$"],
            "too small for any verdict",
        ),
        (vec!["--replay", "no_such_file"], "no_such_file"),
        (vec!["--replay", plain.to_str().unwrap()], "expected JSON"),
        (vec!["--exact", "--counts", plain.to_str().unwrap()], "line 1: expected"),
        (vec!["--exact", "--baseline", EXE], "cannot be used with"),
        (vec!["--baseline", EXE, "--layouts", "4"], "expected 13 or more, 22 for all launches"),
        (vec!["--baseline", EXE, "--layouts"], "is an executable, which cannot be linked in other orders"),
        (vec!["--baseline", EXE, "--plant", "3:tails"], "expected PERCENT, PERCENT:churn or PERCENT:late"),
        (vec!["--baseline", EXE, "--record", "x"], "--self-test"),
        (vec!["--self-test", "1", "--layouts"], "a --baseline REVISION; expected one"),
        (vec!["--self-test", "1", "--record", "no/such/folder", "--filter", CELL], "no/such/folder"),
    ] {
        let output = gate(place.path(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}: {says:?} not in:\n{}", text(&output.stderr));
    }
}

#[test]
fn a_revision_is_built_once_in_a_worktree_and_nothing_of_it_is_left() {
    let place = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(place.path()).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    git(&["init", "--quiet"]);
    fs::write(place.path().join("README"), "x").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    // A cargo that builds what is there already, and says that it was called.
    let cargo = place.path().join("cargo");
    let built = "for p in debug release; do mkdir -p \"$CARGO_TARGET_DIR/$p\"; cp \"$REAL\" \"$CARGO_TARGET_DIR/$p/walkbench\"; done";
    executable(&cargo, &format!("#!/bin/sh\ntest -f README || exit 9\npwd >> \"$REAL_LOG\"\n{built}\n"));
    let log = place.path().join("log");
    let run = |args: &[&str]| {
        let mut all =
            vec!["--baseline", "HEAD", "--tiers", "time", "--budget", "20", "--any-build", "--as-built"];
        all.extend(args);
        if !args.contains(&"--filter") {
            all.extend(["--filter", CELL]);
        }
        gate(place.path(), &all).env("CARGO", &cargo).env("REAL", EXE).env("REAL_LOG", &log).output().unwrap()
    };
    for _ in 0..2 {
        let output = run(&[]);
        assert!(
            matches!(output.status.code(), Some(0 | 3 | 4)),
            "{:?}: {}",
            output.status,
            text(&output.stderr)
        );
        assert!(text(&output.stdout).contains("against HEAD ("), "{}", text(&output.stdout));
    }
    let calls = fs::read_to_string(&log).unwrap();
    assert_eq!(calls.lines().count(), 1, "the second gate found what the first one built: {calls}");
    assert!(calls.contains("walkbench-scratch-") && left_behind(place.path()).is_empty());
    assert_eq!(git(&["worktree", "list"]).lines().count(), 1);

    // Changes that are not committed are part of what is compared, and said to be.
    fs::write(place.path().join("README"), "y").unwrap();
    let dirty = run(&["--format", "json", "--filter", "^dense_2m@16MiB/snapshot/512/none/1/map_order$"]);
    let notes = json(&dirty)["around"]["notes"].to_string();
    assert!(notes.contains("the tree has changes that are not committed"), "{notes}");

    // Killed in the middle of a build: the build, the worktree and the folder go all the same.
    fs::remove_dir_all(place.path().join("target")).unwrap();
    let pid_file = place.path().join("pid");
    executable(&cargo, &format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 1000\n", pid_file.display()));
    let mut child = gate(place.path(), &["--baseline", "HEAD", "--tiers", "time"])
        .env("CARGO", &cargo)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the build starts", || fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = fs::read_to_string(&pid_file).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the build is killed", || !is_running(pid.trim()));
    wait_until("the folder goes", || left_behind(place.path()).is_empty());
    assert_eq!(git(&["worktree", "list"]).lines().count(), 1);
}

/// Whether a process is there and is no zombie that its new parent has not collected yet.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_killed_gate_leaves_no_process_and_no_folder() {
    let place = tempfile::tempdir().unwrap();
    let pid_file = place.path().join("pid");
    let hangs = format!("prepare) echo $$ > '{}'; exec sleep 1000;;", pid_file.display());
    let path = fake(place.path(), &hello(), &hangs);
    let mut child =
        gate(place.path(), &["--baseline", path.to_str().unwrap(), "--tiers", "time", "--filter", CELL])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    wait_until("the baseline is asked", || {
        fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert!(is_running(pid.trim()) && !left_behind(place.path()).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the baseline is killed", || !is_running(pid.trim()));
    wait_until("the folder goes", || left_behind(place.path()).is_empty());
}

#[test]
fn a_program_against_itself_is_never_slower_and_much_more_work_is_seen_in_its_direction() {
    let place = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut all = vec!["--baseline", EXE, "--tiers", "time", "--filter", CELL];
        all.extend(args);
        gate(place.path(), &all).output().unwrap()
    };
    let same = run(&["--format", "json", "--budget", "60"]);
    assert!(matches!(same.status.code(), Some(0 | 3 | 4)), "{:?}: {}", same.status, text(&same.stderr));
    let report = json(&same);
    assert_eq!(report["schema"], 1);
    let roles: Vec<&str> =
        report["cells"].as_array().unwrap().iter().map(|c| c["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["cell", "cell", "null", "null", "planted"], "its time, its p99, the controls");
    // At least the screening launches: the others are left out where the machine is hopeless.
    let launches = report["recording"]["launches"].as_array().unwrap();
    assert!(launches.len() >= 5 && launches.iter().all(|l| !l["series"].as_array().unwrap().is_empty()));
    // Who is set up first in one half of a launch is second in the other.
    let series = || launches.iter().flat_map(|l| l["series"].as_array().unwrap());
    let again = |s: &Value| s["draws"].as_array().map_or(0, Vec::len);
    assert!(series().all(|s| again(s) % 2 == 1), "{:?}", series().map(again).collect::<Vec<_>>());

    // What was recorded is decided alike once more, in every format.
    let file = place.path().join("recording.json");
    fs::write(&file, &same.stdout).unwrap();
    let replay = |args: &[&str]| {
        let mut all = vec!["--replay", "recording.json"];
        all.extend(args);
        gate(place.path(), &all).output().unwrap()
    };
    let again = replay(&["--format", "json"]);
    assert_eq!(json(&again)["verdict"], report["verdict"]);
    assert_eq!(json(&again)["cells"], report["cells"]);
    assert_eq!(again.status.code(), same.status.code());
    assert!(text(&replay(&["--format", "markdown"]).stdout).starts_with("### walkbench gate: "));
    let wide = text(&replay(&[]).stdout);
    assert!(wide.contains("controls") && wide.lines().all(|l| l.chars().count() <= 100), "{wide}");
    assert_eq!(replay(&["--inconclusive", "pass"]).status.code(), Some(0));

    for (plant, is_slower) in [("60", true), ("-60", false)] {
        let planted = json(&run(&["--plant", plant, "--format", "json", "--budget", "20"]));
        let ratio = middle_ratio(&planted);
        assert!(if is_slower { ratio > 1.2 } else { ratio < 0.85 }, "{plant}: {ratio}");
    }
    assert!(left_behind(place.path()).is_empty());

    // One processor for everything: said, and no error.
    let mut alone = Command::new("taskset");
    alone.args([
        "-c",
        "0",
        EXE,
        "gate",
        "--baseline",
        EXE,
        "--tiers",
        "time",
        "--budget",
        "20",
        "--format",
        "json",
    ]);
    let alone = alone.args(["--filter", CELL]).current_dir(place.path()).env("TMPDIR", place.path()).output();
    if let Ok(alone) = alone {
        assert!(
            matches!(alone.status.code(), Some(0 | 3 | 4)),
            "{:?}: {}",
            alone.status,
            text(&alone.stderr)
        );
        let notes = json(&alone)["around"]["notes"].to_string();
        assert!(notes.contains("this machine has one processor"), "{notes}");
    }
}

/// What is slower as built is compared once more with other links of both sides; where there are none, that is said, and
/// the first look stands.
#[test]
fn a_cell_that_is_slower_is_looked_at_again_in_links_of_both_sides() {
    let place = tempfile::tempdir().unwrap();
    if !common::clone_sources(place.path()) {
        return;
    }
    // A cargo that builds what is there already, and links by writing a number behind a copy of it.
    let cargo = place.path().join("cargo");
    let link = "cp \"$REAL\" \"$WALKBENCH_LINKS/$n\" && echo $n >> \"$WALKBENCH_LINKS/$n\"";
    let links =
        format!("if [ -n \"$WALKBENCH_LINKS\" ]; then for n in $(seq 0 21); do {link} || exit; done; fi\n");
    let build = "for p in debug release; do mkdir -p \"$CARGO_TARGET_DIR/$p\"; cp \"$REAL\" \"$CARGO_TARGET_DIR/$p/walkbench\"; done\n";
    let run = |plant: &str| {
        let args =
            ["--baseline", "HEAD", "--tiers", "time", "--budget", "20", "--any-build", "--format", "json"];
        let mut gate =
            gate(place.path(), &[&args[..], &["--filter", CELL, "--tails", "^$", "--plant", plant]].concat());
        let output =
            gate.env("CARGO", &cargo).env("REAL", EXE).env_remove("CARGO_TARGET_DIR").output().unwrap();
        let report = json(&output);
        (output.status.code(), report)
    };
    // On a machine that is too busy to judge there is nothing to look at again.
    let judged = |plant: &str| {
        (0..3).map(|_| run(plant)).find(|(code, _)| *code == Some(1)).or_else(|| {
            eprintln!("SKIPPED: this machine is too busy to see {plant} % more work");
            None
        })
    };
    executable(&cargo, &format!("#!/bin/sh\n{links}{build}"));
    let Some((_, report)) = judged("60") else { return };
    assert_eq!(report["relinked"]["comparisons"][0]["id"], report["recording"]["comparisons"][0]["id"]);
    let reasons = report["reasons"].to_string();
    assert!(
        reasons.contains("1 cell is judged by a second look with functions in other orders"),
        "{reasons}"
    );
    let notes = report["around"]["notes"].to_string();
    assert!(notes.contains("22 layouts of each side"), "{notes}");

    // What cannot be linked is judged as it was built. What was linked before is kept.
    fs::remove_dir_all(place.path().join("target")).unwrap();
    executable(&cargo, &format!("#!/bin/sh\ntest -z \"$WALKBENCH_LINKS\" || exit 7\n{build}"));
    let Some((_, report)) = judged("60") else { return };
    assert!(report["relinked"].is_null() && report["verdict"] == "regression");
    let notes = report["around"]["notes"].to_string();
    assert!(notes.contains("it was not compared in other orders (this tree does not build"), "{notes}");
    assert!(left_behind(place.path()).is_empty());
}

/// The middle ratio of the cell's rounds, void ones too: the machine may be busy.
fn middle_ratio(report: &Value) -> f64 {
    let launches = report["recording"]["launches"].as_array().unwrap();
    let series =
        launches.iter().flat_map(|l| l["series"].as_array().unwrap()).filter(|s| s["comparison"] == 0);
    let ns = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
    let mut ratios: Vec<f64> = series
        .flat_map(|s| {
            ns(&s["new_ns"]).into_iter().zip(ns(&s["old_ns"])).map(|(new, old)| new / old).collect::<Vec<_>>()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

#[test]
fn one_count_more_fails_with_5_and_says_which_and_why() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt");
    let place = tempfile::tempdir().unwrap();
    let filter = "^dense_4k@2MiB/snapshot/(7|512)/none/1/map_order$";
    let exact = |file: &Path, args: &[&str]| {
        let mut all = vec!["--exact", "--counts", file.to_str().unwrap(), "--filter", filter];
        all.extend(args);
        gate(place.path(), &all).output().unwrap()
    };
    let same = exact(&committed, &[]);
    assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    assert!(text(&same.stdout).starts_with("pass: 2 cells"));
    let checked = exact(&committed, &["--oracle"]);
    assert!(text(&checked.stdout).ends_with(", and answer what the oracle does\n"), "{checked:?}");
    let counts = fs::read_to_string(&committed).unwrap();
    let altered = place.path().join("counts.txt");
    fs::write(&altered, counts.replace(" ptes_visited=512 ", " ptes_visited=511 ")).unwrap();
    let changed = exact(&altered, &[]);
    assert_eq!(changed.status.code(), Some(5));
    let says = text(&changed.stdout);
    for part in
        ["ptes_visited: more in ", "511 -> 512  (+0.196 %)", "may miss the cache", "gate --renew-counts"]
    {
        assert!(says.contains(part), "{part:?} not in:\n{says}");
    }
    let report = json(&exact(&altered, &["--format", "json"]));
    assert_eq!(report["verdict"], "counts_changed");
    assert_eq!(report["exact"]["moved"][0]["before"], 511);
}
