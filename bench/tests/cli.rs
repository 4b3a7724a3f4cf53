//! `walkbench` from outside: ids, JSON shapes, exit codes, what it writes and what it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn walkbench(args: &[&str]) -> Output {
    walkbench_in(Path::new("."), args)
}

fn walkbench_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walkbench")).args(args).current_dir(folder).output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output as JSON with a schema number.
fn json(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}\n{}{}", String::from_utf8_lossy(&output.stdout), stderr(output)));
    assert_eq!(value["schema"], 1);
    value
}

fn strings(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_list_is_json_with_a_schema_and_text_without_it() {
    let backends = json(&walkbench(&["list", "backends", "--format", "json"]));
    let map_order = backends["backends"].as_array().unwrap().iter().find(|b| b["id"] == "map_order").unwrap();
    assert_eq!(map_order["kind"], "historic");
    assert!(map_order["kernel"].is_string());
    assert!(map_order["capabilities"].as_array().unwrap().contains(&"snapshot".into()));
    let workloads = json(&walkbench(&["list", "workloads", "--format", "json"]));
    assert!(strings(&workloads["workloads"], "id").contains(&"dense_4k".to_owned()));
    let questions = json(&walkbench(&["list", "questions", "--format", "json"]));
    assert_eq!(questions["schema"], 1);
    assert!(strings(&questions["questions"], "id").contains(&"prefill".to_owned()));
    assert!(strings(&questions["questions"], "title").iter().all(|t| !t.is_empty()));
    for what in ["backends", "workloads", "questions", "cells"] {
        let output = walkbench(&["list", what]);
        assert_eq!(code(&output), Some(0), "{what}");
        let text = String::from_utf8(output.stdout).unwrap();
        if what != "cells" {
            assert!(
                text.lines().all(|l| l.chars().count() <= 100),
                "list {what} is wider than 100 columns:\n{text}"
            );
        }
        assert!(!text.contains('\u{1b}'), "no colours into a pipe");
    }
}

#[test]
fn cell_ids_have_six_parts_and_the_filter_is_a_regular_expression_on_them() {
    let cells = json(&walkbench(&["list", "cells", "--format", "json"]));
    let ids = strings(&cells["cells"], "id");
    assert!(ids.contains(&"dense_4k@16MiB/snapshot/512/none/1/map_order".to_owned()));
    assert!(ids.iter().all(|id| id.split('/').count() == 6 && id.split('/').next().unwrap().contains('@')));
    let filter = "^dense_4k@.*/snapshot/(1|16)/none/1/map_order$";
    let some = json(&walkbench(&["list", "cells", "--filter", filter, "--format", "json"]));
    let some = strings(&some["cells"], "id");
    assert!(!some.is_empty() && some.len() < ids.len());
    assert!(some.iter().all(|id| ids.contains(id) && id.contains("/snapshot/1")));
}

#[test]
fn bad_usage_and_bad_input_exit_with_2_and_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let under_file = file.join("results");
    let full = folder.path().to_str().unwrap();
    for (args, expected) in [
        (vec!["run", "--profile", "huge"], "smoke, quick"),
        (vec!["run", "--filter", "("], "unclosed group"),
        (vec!["run", "--filter", "no_such_cell"], "matches no cell"),
        (vec!["verify", "--filter", "/no_such_backend$"], "matches no cell"),
        (vec!["list", "cells", "--filter", "no_such_cell"], "matches no cell"),
        (vec!["list", "kernels"], "backends, workloads, questions, cells"),
        (vec!["run", "--out", under_file.to_str().unwrap()], "expected a place where a folder can be made"),
        (vec!["run", "--out", full], "is not empty"),
        (vec!["compare"], "<DIR>"),
        (vec!["gate"], "required arguments were not provided"),
        (vec![], "Usage"),
    ] {
        let output = walkbench(&args);
        assert_eq!(code(&output), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {expected:?} not in:\n{}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn verify_finds_no_difference_and_counts_exactly() {
    // Three designs; `.ci/run` has the release build verify all of them.
    let designs = "/(map_order|driver_format|extents_exact_fault)$";
    let output = walkbench(&["verify", "--filter", designs, "--format", "json"]);
    let report = json(&output);
    assert_eq!(report["mismatches"], Value::Array(vec![]));
    assert_eq!(code(&output), Some(0));
    let counts = report["counts"].as_object().unwrap();
    assert_eq!(report["cells"], counts.len());
    let snapshot = &counts["dense_4k@2MiB/snapshot/512/none/1/map_order"];
    assert_eq!((snapshot["ptes_visited"].as_u64(), snapshot["faults_issued"].as_u64()), (Some(512), Some(0)));
    // Under churn of every kind, with events that happened and devices that were audited.
    let kinds = workloads::churn::ChurnKind::ALL;
    for kind in kinds {
        let of = |count: &str| -> u64 {
            let ids = counts.iter().filter(|(id, _)| id.contains(&format!("/{}-", kind.name())));
            ids.filter(|(id, _)| id.ends_with("/map_order")).map(|(_, c)| c[count].as_u64().unwrap()).sum()
        };
        assert!(of("churn_events") > 0 && of("entries_audited") > 0, "{}", kind.name());
        assert!(of("retries") > 0, "{}: nothing collided", kind.name());
    }
    // The same again, to the last digit, in another process.
    let again = json(&walkbench(&["verify", "--filter", "/map_order$", "--format", "json"]));
    for (id, counts_again) in again["counts"].as_object().unwrap() {
        assert_eq!(counts_again, &counts[id], "{id}");
    }
}

#[test]
fn a_smoke_run_prints_json_and_leaves_a_folder_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let filter = "@2MiB/(snapshot|fault_write)/512/";
    let output = walkbench_in(
        folder.path(),
        &["run", "--profile", "smoke", "--filter", filter, "--out", "mine", "--format", "json"],
    );
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let printed = json(&output);
    assert!(printed["machine"]["vcpus"].as_u64() > Some(0));
    let questions = printed["questions"].as_array().unwrap();
    assert_eq!(questions.len(), 15);
    for q in questions {
        assert!(q["id"].is_string() && q["answer"].is_string() && q["resolved"].is_boolean(), "{q}");
        assert!(
            q.get("break_even").is_some() && (q["effect"].is_null() || q["effect"]["ratio"].is_number()),
            "{q}"
        );
    }
    let cells = printed["cells"].as_array().unwrap();
    let of = |id: &str| cells.iter().find(|c| c["id"] == id).unwrap_or_else(|| panic!("no {id}"));
    let cell = of("dense_4k@2MiB/snapshot/512/none/1/map_order");
    assert_eq!((&cell["backend"], &cell["workload"]), (&"map_order".into(), &"dense_4k".into()));
    assert_eq!((&cell["request"], &cell["call_pages"]), (&"snapshot".into(), &512.into()));
    assert_eq!((&cell["churn"], &cell["error"]), (&"none".into(), &Value::Null));
    let ns = &cell["ns_per_page"];
    assert!(ns["lo"].as_f64() <= ns["median"].as_f64() && ns["median"].as_f64() <= ns["hi"].as_f64());
    for stage in ["prepare", "walk", "fault", "retry", "consume"] {
        assert!(cell["stages"][stage].is_number(), "{stage}");
    }
    for limit in ["copy", "load", "decode", "fill"] {
        assert!(cell["limit"][format!("{limit}_ns_per_page")].as_f64() > Some(0.0), "{limit}");
    }
    for quantile in ["p50", "p99", "p999", "max"] {
        assert!(cell["latency_ns"][quantile].is_u64(), "{quantile}");
    }
    assert_eq!(cell["counts"]["ptes_visited"], 512);
    assert!(cell["marks"].is_array());

    let mine = folder.path().join("mine");
    let run: Value = serde_json::from_slice(&fs::read(mine.join("run.json")).unwrap()).unwrap();
    assert_eq!((&run["schema"], &run["state"], &run["seed"]), (&2.into(), &"complete".into(), &1.into()));
    assert_eq!(run["cells"], printed["cells"]);
    assert_eq!(run["command"][0], "run");
    let groups: Vec<&str> = run["groups"].as_array().unwrap().iter().map(|g| g.as_str().unwrap()).collect();
    let samples = fs::read_to_string(mine.join("samples.jsonl")).unwrap();
    assert!(samples.ends_with('\n'));
    for line in samples.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["launch"].as_u64() < Some(2), "{line}");
        match line["kind"].as_str().unwrap() {
            "launch" => continue,
            "block" => {
                assert!(line["block_ns"].is_u64() && line["nr_pages"].as_u64() > Some(0), "{line}");
            }
            _ => {}
        }
        assert!(groups.contains(&line["group"].as_str().unwrap()), "{line}");
    }
    let names: Vec<_> = fs::read_dir(&mine).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing but run.json and samples.jsonl: {names:?}");

    // A second run never writes over the first.
    let again =
        walkbench_in(folder.path(), &["run", "--profile", "smoke", "--filter", filter, "--out", "mine"]);
    assert_eq!(code(&again), Some(2));
    assert!(stderr(&again).contains("never overwritten"));
    assert_eq!(fs::read_to_string(mine.join("samples.jsonl")).unwrap(), samples);
}

#[test]
fn text_tables_fit_100_columns_and_default_folders_get_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["run", "--profile", "smoke", "--filter", "@2MiB/"];
    for _ in 0..2 {
        let output = walkbench_in(folder.path(), &args);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let results =
            text.lines().filter(|l| !["machine", "results", "page"].iter().any(|n| l.starts_with(n)));
        for line in results {
            assert!(line.chars().count() <= 100, "wider than 100 columns: {line}");
        }
        for word in ["map_order", "(decode)", "machine", "command    walkbench run --profile smoke", "spread"]
        {
            assert!(text.contains(word), "{word:?} not in:\n{text}");
        }
    }
    let results = folder.path().join("results");
    assert_eq!(fs::read_dir(&results).unwrap().count(), 2);
    for run in fs::read_dir(&results).unwrap() {
        assert!(run.unwrap().path().join("report/index.html").is_file(), "the page that a run ends with");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_walkbench"))
        .args(["list", "cells", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_walkbench"))
        .args(["run", "--out", "mine", "--format", "json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once the first block is on disk.
    let samples = folder.path().join("mine/samples.jsonl");
    while fs::metadata(&samples).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), Some(130), "{}", stderr(&output));
    assert_eq!(json(&output)["state"], "interrupted");
    let run: Value = serde_json::from_slice(&fs::read(folder.path().join("mine/run.json")).unwrap()).unwrap();
    assert_eq!(run["state"], "interrupted");
    assert!(stderr(&output).contains("stopped by Ctrl-C"));
}

#[test]
fn soak_prints_its_tally_and_refuses_what_cannot_happen() {
    let output = walkbench(&["soak", "--pages", "1", "--format", "json"]);
    let tally = json(&output);
    assert_eq!((code(&output), tally["nr_violations"].as_u64()), (Some(0), Some(0)), "{tally}");
    assert!(tally["pages_mirrored"].as_u64().unwrap() > 0 && tally["stops"].as_u64().unwrap() > 0);
    let text = walkbench(&["soak", "--pages", "1", "--churn", "zap-64KiB-o100-sweep-1000ps-t2"]);
    assert_eq!(code(&text), Some(0));
    assert!(String::from_utf8(text.stdout).unwrap().contains("violations"));
    for (churn, message) in [
        ("zap-64KiB", "KIND-SPAN-oOVERLAP"),
        ("zap-1GiB-o100-sweep-max-t1", "a span no longer than the size"),
        ("zap-64KiB-o100-sweep-max-t1-", "KIND-SPAN"),
    ] {
        let output = walkbench(&["soak", "--pages", "1", "--churn", churn]);
        assert_eq!(code(&output), Some(2), "{churn}");
        assert!(stderr(&output).contains(message), "{churn}: {}", stderr(&output));
    }
}

#[test]
fn completions_know_the_sub_commands_and_help_shows_examples() {
    let script = String::from_utf8(walkbench(&["completions", "bash"]).stdout).unwrap();
    let help = String::from_utf8(walkbench(&["--help"]).stdout).unwrap();
    for command in [
        "run",
        "list",
        "verify",
        "conform",
        "soak",
        "doctor",
        "compare",
        "export",
        "report",
        "live",
        "kernels",
        "record",
        "speed",
        "capture",
        "completions",
        "gate",
    ] {
        assert!(script.contains(&format!("walkbench__subcmd__{command}")) || script.contains(command));
        assert!(help.contains(command));
    }
    assert!(help.contains("Examples:"));
}

#[test]
fn recording_wants_a_machine_of_its_own_and_a_seed_says_what_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let record = |args: &[&str]| walkbench_in(folder.path(), &[&["record"], args].concat());
    // Here is no device; where there is one, nobody said that the machine may be changed.
    let refused = record(&["--count", "1", "--out", "new.jsonl"]);
    assert_eq!(code(&refused), Some(2));
    let error = stderr(&refused);
    assert!(
        error.contains("scripts/kernel") && error.contains("/dev/walkbench_hmm")
            || error.contains("--own-machine"),
        "{error}"
    );
    let missing = record(&["--own-machine", "--again", "nothing.jsonl", "--out", "new.jsonl"]);
    assert!(
        code(&missing) == Some(2) && stderr(&missing).contains("nothing.jsonl: "),
        "{}",
        stderr(&missing)
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is written before something is recorded"
    );

    let show = |seed: &str, first: &str, count: &str| {
        let output = record(&["--show", "--seed", seed, "--first", first, "--count", count]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let scripts = show("5", "0", "30");
    assert_eq!(scripts.lines().count(), 30);
    assert_eq!(scripts, show("5", "0", "10") + &show("5", "10", "20"));
    assert_ne!(scripts, show("6", "0", "30"));
    // A script is a recording that was not made yet: `conform` reads it.
    fs::write(folder.path().join("scripts.jsonl"), scripts).unwrap();
    let conform = walkbench_in(folder.path(), &["conform", "scripts.jsonl", "--format", "json"]);
    assert_eq!(json(&conform)["scenarios"], 30);
    let played = record(&["--play"]);
    assert!(code(&played) == Some(2) && stderr(&played).contains("standard input"), "{}", stderr(&played));
}

#[test]
fn live_says_a_figure_or_a_reason_for_every_row() {
    let output = walkbench(&["live", "--size", "4MiB", "--launches", "2", "--format", "json"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let report = json(&output);
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let figure = row["ns_per_page"]["median"].as_f64();
        assert_eq!(figure.is_some(), row["error"].is_null(), "{row}");
        assert!(
            matches!(row["stage"].as_str(), Some("snapshot" | "fault" | "zap")) && row["shape"].is_string(),
            "{row}"
        );
    }
    for source in [
        "pagemap",
        "pagemap_scan",
        "mincore",
        "populate_read",
        "populate_write",
        "touch",
        "dont_need",
        "hmm_dmirror",
        "hmm_dmirror_read",
        "hmm_dmirror_write",
        "hmm_range_fault",
        "hmm_range_fault_read",
        "hmm_range_fault_write",
    ] {
        assert!(rows.iter().any(|r| r["source"] == source), "{source}");
    }
    let driver = rows.iter().filter(|r| r["source"].as_str().unwrap().starts_with("hmm_dmirror"));
    for row in driver {
        // Which asks in pieces of its own choice, and is there or says what is not.
        assert_eq!(row["call_pages"], 64, "{row}");
        let error = row["error"].as_str();
        assert!(error.is_none_or(|e| e.len() > 20), "{row}");
    }
    let launches = |r: &Value| r["ns_by_launch"].as_array().unwrap().len();
    assert!(rows.iter().all(|r| launches(r) == if r["error"].is_null() { 2 } else { 0 }));
    let filtered = ["live", "--size", "4MiB", "--launches", "1", "--format", "json", "--filter"];
    let output = walkbench(&[&filtered[..], &["^mincore/dense_4k/snapshot/all/none$"]].concat());
    assert_eq!(json(&output)["rows"].as_array().unwrap().len(), 1);
    let output = walkbench(&[&filtered[..], &["no_such_row"]].concat());
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("hmm_range_fault/dense_4k/snapshot/512/none"));
    let output = walkbench(&["live", "--size", "5KiB"]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("a multiple of 2MiB"));
}
