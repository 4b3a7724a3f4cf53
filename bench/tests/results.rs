//! Readers of results folders as their users see them: compare and export, on good folders and on bad ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Where a recorded run lies, small enough to read often.
fn recorded() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    root.join("results/2026-11-21-amd-epyc-2vcpu")
}

fn walkbench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walkbench")).args(args).output().expect("the program starts")
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A copy of the recorded run with its files changed.
fn changed(change: impl Fn(&str, String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["run.json", "samples.jsonl"] {
        let text = fs::read_to_string(recorded().join(file)).unwrap();
        fs::write(folder.path().join(file), change(file, text)).unwrap();
    }
    folder
}

#[test]
fn compare_prints_tables_of_100_columns_and_json() {
    let mine = recorded();
    let mine = mine.to_str().unwrap();
    for args in [
        vec!["compare", mine],
        vec!["compare", mine, "--reference", "map_order"],
        vec!["compare", mine, mine],
        vec!["compare", mine, mine, mine, mine],
        vec!["compare", mine, mine, "--by", "backend"],
        vec!["compare", mine, mine, "--by", "claim"],
    ] {
        let text = out(&walkbench(&args));
        let words = |l: &str| l.split_whitespace().count();
        // A word that is longer than a line stands alone in it.
        assert!(text.lines().all(|l| l.chars().count() <= 100 || words(l) == 1), "{args:?}\n{text}");
        let what = if args.contains(&"claim") { "limit:" } else { "dense_4k@16MiB/snapshot/512/none/1" };
        assert!(text.contains(what) && text.contains("AMD EPYC"), "{text}");
    }
    let json: Value =
        serde_json::from_str(&out(&walkbench(&["compare", mine, mine, "--format", "json"]))).unwrap();
    assert_eq!((&json["schema"], &json["times_refused"]), (&1.into(), &Value::Null));
    let cells = json["cells"].as_array().unwrap();
    assert!(cells.iter().all(|c| c["sides"].as_array().unwrap().len() == 2));
    assert!(cells.iter().all(|c| c["ratios"][0].is_null() || c["ratios"][0]["ratio"].as_f64() == Some(1.0)));
}

#[test]
fn claims_of_a_run_agree_with_themselves_and_are_counted() {
    let mine = recorded();
    let mine = mine.to_str().unwrap();
    let json: Value =
        serde_json::from_str(&out(&walkbench(&["compare", mine, mine, "--format", "json"]))).unwrap();
    let claims = json["claims"].as_array().unwrap();
    assert!(!claims.is_empty());
    assert!(claims.iter().all(|c| c["agreement"] == "agree" && c["said"].as_array().unwrap().len() == 2));
    let made = claims.iter().filter(|c| c["is_made"] == true).count();
    let text = out(&walkbench(&["compare", mine, mine, "--by", "claim"]));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!(
        "claims: {made} in all runs, {made} with the same verdict, of these {made} with intervals that overlap; \
         0 resolved in some only, 0 disagree"
    );
    assert!(words.contains(&expected), "{text}");
    let alone = walkbench(&["compare", mine, "--by", "claim"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--by claim: expected two folders or more"));
}

#[test]
fn runs_of_different_machines_are_compared_by_ratios_only() {
    let other =
        changed(
            |file, text| {
                if file == "run.json" { text.replace("\"AMD EPYC\"", "\"Another CPU\"") } else { text }
            },
        );
    let (a, b) = (recorded(), other.path().to_owned());
    let text = out(&walkbench(&["compare", a.to_str().unwrap(), b.to_str().unwrap()]));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("times of different machines are not compared"), "{text}");
    assert!(words.contains("cpu_model: AMD EPYC / Another CPU"), "{text}");
    let header = text.lines().find(|l| l.starts_with("x decode")).unwrap();
    assert!(header.contains("B/A") && !header.contains("ns/ns"), "{header}");
}

#[test]
fn export_prints_each_format() {
    let mine = recorded();
    for (to, expected) in [
        ("csv", "id,workload,size"),
        ("benchstat", "Unit ns/page better=lower"),
        ("bencher", "\"ns-per-page\""),
        ("github-action-benchmark", "\"unit\": \"ns/page\""),
        ("markdown", "| design | ns a page |"),
    ] {
        let text = out(&walkbench(&["export", mine.to_str().unwrap(), "--to", to]));
        assert!(
            text.contains(expected) && text.contains("map_order") && text.ends_with('\n'),
            "{to}\n{text}"
        );
    }
}

#[test]
fn results_that_cannot_be_trusted_are_refused_with_file_line_and_reason() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = nowhere.path().join("no/such/folder");
    let newer =
        changed(|f, t| if f == "run.json" { t.replacen("\"schema\": 1", "\"schema\": 99", 1) } else { t });
    let cut = changed(|f, t| if f == "run.json" { t[..t.len() / 2].to_owned() } else { t });
    let garbage = changed(|f, t| {
        let third = |t: &str| t.lines().nth(2).unwrap().to_owned();
        if f == "samples.jsonl" { t.replacen(&third(&t), "{\"group\": 7", 1) } else { t }
    });
    let mixed = changed(|f, t| if f == "samples.jsonl" { t.replacen("dense_4k@", "other@", 1) } else { t });
    let no_blocks = changed(|_, t| t);
    fs::remove_file(no_blocks.path().join("samples.jsonl")).unwrap();
    let no_id = changed(|f, t| if f == "run.json" { t.replacen("/none/1/pfn_bits\"", "\"", 1) } else { t });
    let cases = [
        (missing.as_path(), "expected a results folder with a run.json"),
        (nowhere.path(), "expected a results folder with a run.json"),
        (newer.path(), "run.json: schema 99 is newer than"),
        (cut.path(), "run.json:"),
        (garbage.path(), "samples.jsonl:3: damaged"),
        (mixed.path(), "samples.jsonl:1: of group other@"),
        (no_blocks.path(), "samples.jsonl: expected the blocks of a run"),
        (no_id.path(), "expected workload@size/request/call_pages/churn/walkers/backend"),
    ];
    for (folder, expected) in cases {
        let folder = folder.to_str().unwrap();
        for args in [vec!["compare", folder], vec!["export", folder, "--to", "csv"]] {
            let output = walkbench(&args);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(said.contains(folder) && said.contains(expected), "{args:?}: {expected:?} not in {said}");
            assert!(output.stdout.is_empty(), "{args:?}: nothing half printed");
        }
    }
    let mine = recorded();
    let mine = mine.to_str().unwrap();
    for (args, expected) in [
        (vec!["compare", mine, "--filter", "no_such_cell"], "matches no cell"),
        (vec!["compare", mine, "--reference", "nobody"], "expected a backend"),
        (vec!["compare", mine, "--by", "run"], "expected two folders"),
        (vec!["export", mine, "--to", "xml"], "csv, benchstat"),
        (vec!["export", mine], "--to"),
    ] {
        let output = walkbench(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {expected:?} not in {said}");
    }
}

#[test]
fn a_torn_last_line_is_left_out_and_said() {
    let torn = changed(|f, t| if f == "samples.jsonl" { t[..t.len() - 20].to_owned() } else { t });
    let output = walkbench(&["export", torn.path().to_str().unwrap(), "--to", "csv"]);
    assert!(out(&output).contains("map_order"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the last line is torn"));
}

#[test]
fn the_doctor_finds_something_and_counts_launches() {
    let report: Value = serde_json::from_str(&out(&walkbench(&["doctor", "--format", "json"]))).unwrap();
    assert_eq!(report["schema"], 1);
    let findings = report["findings"].as_array().unwrap();
    for id in ["build", "load", "governor", "turbo", "thp", "hypervisor", "counters", "swap", "mitigations"] {
        let f = findings.iter().find(|f| f["id"] == id).unwrap_or_else(|| panic!("no {id}"));
        assert!(["good", "bad", "unknown"].contains(&f["state"].as_str().unwrap()));
        assert_eq!(f["advice"].is_null(), f["state"] == "good", "{f}");
    }
    assert!(
        report["clock"]["cost_ns"].as_f64() > Some(0.0)
            && report["clock"]["resolution_ns"].as_u64() > Some(0)
    );
    for cell in report["noise"].as_array().unwrap() {
        assert_eq!((&cell["launches"], cell["needed"].as_array().unwrap().len()), (&12.into(), 3), "{cell}");
        assert!(cell["within_percent"].as_f64() > Some(0.0) && cell["ratio"]["value"].as_f64() > Some(0.0));
    }
}
