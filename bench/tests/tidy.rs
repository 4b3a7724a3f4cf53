//! Rules of the house that a compiler does not check. Each says what is wrong where, and why the rule exists.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Files below `folder` with one of these endings, relative to the workspace.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|e| path.to_string_lossy().ends_with(e)) {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(!found.is_empty(), "no {endings:?} below {folder}");
    found
}

/// Panics with every line of `files` that holds a needle, unless `allowed` accepts the file's name.
fn forbid(files: &[(String, String)], needles: &[&str], why: &str, allowed: impl Fn(&str) -> bool) {
    let hits: Vec<String> = files
        .iter()
        .filter(|(name, _)| !allowed(name))
        .flat_map(|(name, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, l)| !l.trim_start().starts_with("//"))
                .filter(|(_, l)| needles.iter().any(|n| l.contains(n)))
                .map(move |(i, l)| format!("{name}:{}: {}", i + 1, l.trim()))
        })
        .collect();
    assert!(hits.is_empty(), "{why}:\n{}", hits.join("\n"));
}

#[test]
fn the_model_reads_no_clock_draws_no_number_and_prints_nothing() {
    let needles = ["std::time", "println!", "eprintln!", "std::fs", "std::env", "rand_", "dbg!"];
    // Tests may wait for a thread.
    let tests = |name: &str| name.ends_with("tests.rs");
    forbid(&files("walker/src", &[".rs"]), &needles, "walker must not touch the world", tests);
}

#[test]
fn workloads_start_no_thread_and_read_no_clock() {
    let needles = ["std::time", "thread::spawn", "thread::scope", "std::process", "println!"];
    forbid(&files("workloads/src", &[".rs"]), &needles, "workloads must not touch the world", |_| false);
}

#[test]
fn unsafe_code_stays_on_its_floor() {
    // Spelled so that this file does not find itself.
    let needles = [concat!("unsa", "fe {"), concat!("unsa", "fe impl"), concat!("unsa", "fe fn")];
    let allowed = |name: &str| name.starts_with("walker/src/memory/") || name == "walker/src/sync.rs";
    forbid(&files("walker", &[".rs"]), &needles, "only walker/src/memory and the loom glue hold it", allowed);
    forbid(&files("workloads", &[".rs"]), &needles, "workloads holds none", |_| false);
    // In bench: one file per door to the operating system, each with a file-level allowance that gives the reason.
    let doors: Vec<_> = files("bench", &[".rs"])
        .into_iter()
        .filter(|(_, text)| !text.contains(concat!("allow(unsa", "fe_code)")))
        .collect();
    forbid(&doors, &needles, "a door to the operating system says so at its top", |_| false);
}

#[test]
fn no_definition_names_a_backend() {
    let definitions = files("workloads/definitions", &[".toml"]);
    for backend in walker::backends::ALL {
        let quoted = format!("\"{}\"", backend.id);
        forbid(&definitions, &[&quoted], "definitions ask for capabilities", |_| false);
    }
}

#[test]
fn nothing_is_left_half_done() {
    let marks = [
        concat!("todo", "!("),
        concat!("unimplem", "ented!("),
        concat!("#[ign", "ore"),
        concat!("FIX", "ME:"),
    ];
    for folder in ["walker", "workloads", "bench"] {
        forbid(&files(folder, &[".rs"]), &marks, "finish it or file it", |_| false);
    }
}

#[test]
fn every_backend_is_a_file_with_the_four_paragraphs() {
    for (name, text) in files("walker/src/backends", &[".rs"]) {
        if !text.contains("impl Backend for") {
            continue;
        }
        // What a kernel has, or what none has.
        assert!(text.contains("**Models**") || text.contains("**Idea.**"), "{name} does not say what it is");
        for paragraph in ["**Promises**", "**Cannot say**", "**Costs**"] {
            assert!(text.contains(paragraph), "{name} has no paragraph {paragraph}");
        }
    }
}
