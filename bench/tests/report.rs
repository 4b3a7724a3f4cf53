//! `walkbench report` as its users see it, and REPORT.md against the results that it was made from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// In the root of the repository, as the documents say.
fn walkbench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walkbench"))
        .current_dir(root())
        .args(args)
        .output()
        .expect("the program starts")
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A recorded run, small enough to report often.
const SMALL: &str = "results/2026-11-21-amd-epyc-2vcpu";

#[test]
fn report_md_has_every_question_and_agrees_with_the_results_that_it_names() {
    let document = fs::read_to_string(root().join("REPORT.md")).unwrap();
    let list: Value =
        serde_json::from_str(&out(&walkbench(&["list", "questions", "--format", "json"]))).unwrap();
    for question in list["questions"].as_array().unwrap() {
        let id = question["id"].as_str().unwrap();
        for what in ["answer", "charts", "tables"] {
            let marker = format!("<!-- walkbench:{what} {id} -->\n");
            assert_eq!(document.matches(&marker).count(), 1, "REPORT.md: {marker}");
        }
    }
    let results = document.lines().find_map(|l| l.strip_prefix("| results | ")?.strip_suffix(" |"));
    let Some(results) = results else {
        // Before the first results: nothing generated stands there, and nothing that looks like it.
        let begins = document.lines().filter(|l| l.starts_with("<!-- walkbench:")).count();
        let empty = document.lines().zip(document.lines().skip(1));
        let empty = empty.filter(|(a, b)| a.starts_with("<!-- walkbench:") && *b == "<!-- /walkbench -->");
        assert_eq!(empty.count(), begins, "REPORT.md names no results but has generated parts");
        return;
    };
    // The kernel whose prices it was made with stands in the part that has them.
    let kernel = document.lines().find_map(|l| l.strip_prefix("| calibration | ")?.strip_suffix(" |"));
    let kernel = kernel.expect("a part in the kernel's proportions");
    assert_eq!(document.matches("<!-- walkbench:calibrated -->\n").count(), 1);
    let checked = walkbench(&["report", results, "--calibrate", kernel, "--splice", "REPORT.md", "--check"]);
    assert_eq!(
        checked.status.code(),
        Some(0),
        "make it again: walkbench report {results} --calibrate {kernel} --splice REPORT.md\n{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

/// Whether verdicts hold is for the document to say; that it says what was printed, and that of recorded runs, is for
/// this test.
#[test]
fn claims_that_report_md_holds_against_another_run_are_those_of_both_records() {
    let document = fs::read_to_string(root().join("REPORT.md")).unwrap();
    let results = document.lines().find_map(|l| l.strip_prefix("| results | ")?.strip_suffix(" |"));
    let said = fs::read_to_string(root().join(results.expect("a record")).join("again.txt")).unwrap();
    let (command, printed) = said.split_once('\n').unwrap();
    let words: Vec<&str> = command.strip_prefix("$ walkbench ").unwrap().split_whitespace().collect();
    assert_eq!((words[0], words[1], words.len()), ("compare", results.unwrap(), 5), "{command}");
    assert_eq!(out(&walkbench(&words)), printed);
    assert!(document.contains("<!-- walkbench:said again -->"));
}

#[test]
fn methodology_md_agrees_with_the_kernels_that_it_names() {
    let document = fs::read_to_string(root().join("METHODOLOGY.md")).unwrap();
    let results = document.lines().find_map(|l| l.strip_prefix("| results | ")?.strip_suffix(" |"));
    let results = results.expect("the machine of the kernel's own hmm_range_fault");
    let checked = walkbench(&["report", results, "--splice", "METHODOLOGY.md", "--check"]);
    assert_eq!(
        checked.status.code(),
        Some(0),
        "make it again: walkbench report {results} --splice METHODOLOGY.md\n{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(document.contains("by hmm_range_fault"), "the kernel's rows are in the table");
}

/// A run of one processor and a kernel measured on another, and all else that is no calibration.
#[test]
fn what_is_no_calibration_is_refused_with_the_reason_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("report");
    let kernel = "results/2026-11-30-uml-6.12";
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in ["run.json", "samples.jsonl.gz"] {
        fs::copy(root().join(kernel).join(file), copy.join(file)).unwrap();
    }
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for file in ["run.json", "samples.jsonl.gz"] {
        fs::copy(root().join(kernel).join(file), broken.join(file)).unwrap();
    }
    fs::write(broken.join("live.json"), "{").unwrap();
    for (calibration, expected) in [
        (kernel, "of another processor"),
        (SMALL, "has no live.json"),
        (copy.to_str().unwrap(), "has no live.json"),
        (broken.to_str().unwrap(), "damaged"),
        ("results/no-such", "results/no-such"),
    ] {
        let output =
            walkbench(&["report", SMALL, "--calibrate", calibration, "--out", there.to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{calibration}: {error}");
        assert!(error.contains("--calibrate") && error.contains(expected), "{calibration}: {error}");
        assert!(!there.exists(), "{calibration}: nothing is written");
    }
}

#[test]
fn a_report_has_a_page_charts_and_a_document_that_show_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("new/place");
    let text = out(&walkbench(&["report", SMALL, "--out", there.to_str().unwrap()]));
    assert!(text.contains("index.html") && text.contains(" charts\n"), "{text}");
    let page = fs::read_to_string(there.join("index.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("AMD EPYC") && !page.contains("{{"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page asks the network: {outside}");
    }
    let document = fs::read_to_string(there.join("report.md")).unwrap();
    let charts: Vec<&str> = document
        .lines()
        .filter_map(|l| l.strip_prefix("![")?.split_once("](charts/")?.1.strip_suffix(')'))
        .collect();
    assert!(!charts.is_empty());
    for chart in &charts {
        assert!(
            fs::read_to_string(there.join("charts").join(chart)).unwrap().starts_with("<svg "),
            "{chart}"
        );
    }
    assert_eq!(fs::read_dir(there.join("charts")).unwrap().count(), charts.len());
    // What an earlier report left goes; what is not ours stays.
    fs::write(there.join("charts/prefill-99.svg"), "old").unwrap();
    fs::write(there.join("charts/mine.svg"), "mine").unwrap();
    out(&walkbench(&["report", SMALL, "--out", there.to_str().unwrap()]));
    assert!(!there.join("charts/prefill-99.svg").exists() && there.join("charts/mine.svg").exists());
}

#[test]
fn splicing_changes_what_stands_between_markers_and_a_second_time_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.md");
    let (document, report) = (path.to_str().unwrap(), folder.path().join("report"));
    let report = report.to_str().unwrap();
    fs::write(&path, "# Mine\n\n<!-- walkbench:charts limit -->\nold\n<!-- /walkbench -->\nprose\n").unwrap();
    let args = ["report", SMALL, "--out", report, "--splice", document];
    assert_eq!(walkbench(&[&args[..], &["--check"]].concat()).status.code(), Some(1), "nothing is there yet");
    assert!(fs::read_to_string(&path).unwrap().contains("old"), "--check writes nothing");
    assert!(out(&walkbench(&args)).contains("mine.md: 1 parts replaced"));
    let once = fs::read_to_string(&path).unwrap();
    assert!(once.starts_with("# Mine\n\n<!-- walkbench:charts limit -->\n![") && once.ends_with("\nprose\n"));
    assert!(once.contains("](report/charts/limit-1.svg)") && !once.contains("old"), "{once}");
    assert!(out(&walkbench(&args)).contains("nothing new"));
    assert_eq!(fs::read_to_string(&path).unwrap(), once);
    assert_eq!(walkbench(&[&args[..], &["--check"]].concat()).status.code(), Some(0));
    fs::write(folder.path().join("report/charts/limit-1.svg"), "by hand").unwrap();
    let checked = walkbench(&[&args[..], &["--check"]].concat());
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("limit-1.svg: differs"));
}

/// METHODOLOGY.md says of these records that every cell's stages sum to it.
#[test]
fn the_stages_of_every_recorded_cell_sum_to_the_cell() {
    for (run, most_marked) in [("2026-11-30-intel-xeon-2vcpu", 1), ("2026-11-30-intel-xeon-2vcpu-again", 0)] {
        let text = out(&walkbench(&["export", &format!("results/{run}"), "--to", "csv"]));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| header.iter().position(|h| h == name).expect("a column");
        let whole = column("ns_per_page");
        let stages =
            ["prepare", "walk", "fault", "retry", "consume"].map(|s| column(&format!("{s}_ns_per_page")));
        let (mut cells, mut marked) = (0, 0);
        for row in reader.records() {
            let row = row.unwrap();
            let number = |at: usize| row[at].parse::<f64>().unwrap();
            let sum: f64 = stages.iter().map(|s| number(*s)).sum();
            assert!((sum / number(whole) - 1.0).abs() < 0.05, "{}: {sum} of {}", &row[0], &row[whole]);
            cells += 1;
            marked += usize::from(row[column("marks")].contains("stages_off"));
        }
        assert!(cells > 500 && marked <= most_marked, "{run}: {marked} of {cells} are marked");
    }
}

#[test]
fn bad_input_is_answered_with_the_place_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let never = file("never.md", "\n<!-- walkbench:machine -->\n");
    let unknown = file("unknown.md", "<!-- walkbench:answer nobody -->\n<!-- /walkbench -->\n");
    let report = folder.path().join("report");
    let nowhere = folder.path().join("nowhere.md");
    for (results, document, expected) in [
        (SMALL, &never, "line 2: \"machine\" never ends"),
        (SMALL, &unknown, "line 1: nothing is called \"answer nobody\""),
        (SMALL, &nowhere, "expected a document with markers"),
        ("no/such/folder", &never, "never ends"),
        ("walker", &unknown, "expected a results folder with a run.json"),
    ] {
        let args =
            ["report", results, "--out", report.to_str().unwrap(), "--splice", document.to_str().unwrap()];
        let output = walkbench(&args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!report.exists(), "{expected}: something was written");
    }
    assert_eq!(fs::read_to_string(&never).unwrap(), "\n<!-- walkbench:machine -->\n");
}

#[test]
fn recorded_blocks_may_be_compressed() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let from = root().join(SMALL);
    fs::copy(from.join("run.json"), folder.path().join("run.json")).unwrap();
    let packed = fs::File::create(folder.path().join("samples.jsonl.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packed.write_all(&fs::read(from.join("samples.jsonl")).unwrap()).unwrap();
    packed.finish().unwrap();
    let plain = out(&walkbench(&["export", SMALL, "--to", "csv"]));
    assert_eq!(out(&walkbench(&["export", folder.path().to_str().unwrap(), "--to", "csv"])), plain);
}
