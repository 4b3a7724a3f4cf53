//! Tests of the sub-command with the control machine in the model's place.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use workloads::conform::Echo;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: ConformArgs,
}

/// Three scenarios; the second is not supported.
const LINES: &str = concat!(
    r#"{"id":"a","cls":"small","npages":4,"steps":[{"op":"w","off":0,"len":4,"ret":4,"segv":0,"raw":"4*W","pm":"4*PX"}]}"#,
    "\n",
    r#"{"id":"b","cls":"small","npages":4,"steps":[{"op":"fly","ret":0}]}"#,
    "\n",
    r#"{"id":"c","cls":"thp","npages":4,"steps":[{"op":"fork","ret":0,"raw":"4*-"},{"op":"r","len":4,"ret":4,"raw":"1*-,3*R"}]}"#,
    "\n"
);

fn recording(folder: &TempDir, text: &str) -> String {
    let file = folder.path().join("some.jsonl");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// What the command prints and whether it reports a failure, with `make` in the model's place.
fn conform(
    arguments: &[&str],
    make: impl Fn(&Scenario) -> Result<Echo, Skip> + Sync,
) -> anyhow::Result<(String, bool)> {
    let arguments = ["conform"].into_iter().chain(arguments.iter().copied());
    let args = Cli::try_parse_from(arguments)?.args;
    let mut output = Vec::new();
    let code = run_with(&args, &make, &mut output)?;
    Ok((String::from_utf8(output)?, code == ExitCode::from(1)))
}

fn echo(scenario: &Scenario) -> Result<Echo, Skip> {
    Ok(Echo::new(scenario))
}

/// An echo of the scenario with another second half of `raw` in scenario `c`, and a panic for `a`.
fn odd(scenario: &Scenario) -> Result<Echo, Skip> {
    assert_ne!(scenario.id, "a", "no room");
    let mut changed = scenario.clone();
    let raw = changed.steps[1].expected.raw.as_mut().unwrap();
    raw.resize(2, workloads::scenario::RawCode::NONE);
    raw.resize(4, workloads::scenario::RawCode::NONE);
    Ok(Echo::new(&changed))
}

#[test]
fn the_json_contract_holds() {
    let folder = TempDir::new().unwrap();
    let file = recording(&folder, LINES);
    let (text, failed) = conform(&[&file, "--format", "json"], odd).unwrap();
    assert!(failed);
    let mut report: Value = serde_json::from_str(&text).unwrap();
    let message = report["failed"][0]["got"].take();
    assert!(message.as_str().unwrap().contains("no room"), "{message}");
    let fields = report.as_object_mut().unwrap().remove("fields").unwrap();
    assert_eq!(fields["raw"], json!({"compared": 8, "differ": 2}));
    assert_eq!(fields["ret"], json!({"compared": 2, "differ": 0}));
    assert_eq!(
        report,
        json!({
            "schema": 1, "scenarios": 3, "steps": 2, "passed": 0,
            "failed": [
                {"file": file, "line": 1, "id": "a", "cls": "small", "step": null, "op": "", "field": "panic",
                 "page": null, "expected": "no panic", "got": null},
                {"file": file, "line": 3, "id": "c", "cls": "thp", "step": 1, "op": "r off=0 len=4", "field": "raw",
                 "page": 2, "expected": "R; pages 0..4: 1*-,3*R; all: 1*-,3*R",
                 "got": "-; pages 0..4: 1*-,1*R,2*-; all: 1*-,1*R,2*-"},
            ],
            "skipped": [{"file": file, "id": "b", "reason": "step 0: unknown operation `fly`"}],
        })
    );
}

#[test]
fn the_text_names_classes_fields_skips_and_failures() {
    let folder = TempDir::new().unwrap();
    let file = recording(&folder, LINES);
    let (text, failed) = conform(&[&file, "--verbose"], odd).unwrap();
    assert!(failed);
    for expected in [
        " class  scenarios  steps  passed  failed  skipped\n",
        " small          2      0       0       1        1\n",
        " all            3      2       0       2        1\n",
        " raw                8       2\n",
        &format!("skipped {file} b: step 0: unknown operation `fly`\n"),
        &format!("{file}:1 a\n  panicked before the first step: "),
        &format!("{file}:3 c, step 1: r off=0 len=4\n  raw differs on 2 pages, first on page 2\n"),
        "    expected  R  in 0..4: 1*-,3*R\n    got       -  in 0..4: 1*-,1*R,2*-\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let (text, _) = conform(&[&file], odd).unwrap();
    assert!(text.contains("1 skipped: unknown operation `fly`\n"), "{text}");
}

#[test]
fn lines_fit_a_hundred_columns_and_twenty_failures_are_shown() {
    let folder = TempDir::new().unwrap();
    let codes =
        ["R", "W"].repeat(2000).into_iter().map(|code| format!("1*{code}")).collect::<Vec<_>>().join(",");
    let line = |index| {
        json!({"id": format!("s{index}"), "cls": "medium", "npages": 4000, "steps": [
            {"op":"fork","ret":0}, {"op":"hpage","len":4000,"pages":codes.replace('R', "n").replace('W', "w"),"ret":0,"raw":codes}
        ]})
        .to_string()
    };
    let lines: Vec<String> = (0..25).map(line).collect();
    let file = recording(&folder, &lines.join("\n"));
    let (text, failed) = conform(&[&file], odd).unwrap();
    assert!(failed);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text.matches("raw differs on ").count(), 20);
    assert!(text.ends_with("\n5 more failed; --verbose shows all, --filter chooses by id\n"), "{text}");
    let (text, _) = conform(&[&file, "--verbose"], odd).unwrap();
    assert_eq!(text.matches("raw differs on ").count(), 25);
}

#[test]
fn the_control_passes_in_every_order_and_a_filter_chooses() {
    let folder = TempDir::new().unwrap();
    let file = recording(&folder, LINES);
    let (text, failed) = conform(&[&file, &file, "--format", "json"], echo).unwrap();
    assert!(!failed);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["scenarios"], &report["passed"]), (&json!(6), &json!(4)));
    let (text, _) = conform(&[&file, "--format", "json", "--filter", "^[ac]$"], echo).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["scenarios"], &report["skipped"]), (&json!(2), &json!([])));
}

#[test]
fn bad_input_is_an_error_that_says_what_was_expected() {
    let folder = TempDir::new().unwrap();
    let file = recording(&folder, LINES);
    let error = |arguments: &[&str]| conform(arguments, echo).unwrap_err().to_string();
    assert!(error(&[&file, "--filter", "zzz"]).contains("matches none"));
    assert!(error(&[&file, "--filter", "("]).contains("--filter"));
    assert!(error(&[]).contains("<FILE>"));
    assert!(error(&["no/such/file.jsonl"]).starts_with("no/such/file.jsonl: "));
    let broken = recording(&folder, &LINES.replace("4*W", "3*W"));
    let expected = ":1: steps[0].raw: expected counts that add up to 4, found a sum of 3";
    assert!(error(&[&broken]).ends_with(expected));
}

/// Reading, comparing and printing must not be what a replay waits for: well under a second in release, and this is
/// the test profile on a busy machine.
#[test]
fn all_recordings_of_the_project_pass_the_control_in_seconds() {
    let truth = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/truth");
    let files = [
        "hand",
        "nasty",
        "snapshot",
        "fault",
        "dev",
        "scenarios-1",
        "dev-8",
        "held-8",
        "waits-11",
        "races-22",
    ]
    .map(|name| truth.join(format!("{name}.jsonl.gz")));
    let files = files.each_ref().map(|file| file.to_str().unwrap());
    let start = Instant::now();
    let (text, failed) = conform(&[&files[..], &["--format", "json"]].concat(), echo).unwrap();
    assert!(!failed && start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["scenarios"], &report["passed"]), (&json!(4134), &json!(4134)));
    assert_eq!(report["steps"], json!(34_890));
    eprintln!("{:?} {}", start.elapsed(), report["fields"]);
}
