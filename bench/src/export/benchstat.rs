//! The Go benchmark format (golang.org/design/14313-benchmark-format, with the Unit lines of golang/go#43744).
//!
//! One line for each cell and launch, so that what benchstat takes for repetitions are launches, not rounds; it wants six
//! for an interval. The name has the coordinates as `key=value`: `benchstat -col /backend run.txt`, or
//! `benchstat -col /backend -row /call_pages -filter '/workload:dense_4k /size:16MiB /request:snapshot' run.txt`.
//!
//! Configuration is what `go test` writes and nothing else: benchstat makes a table for each configuration, so that a key
//! that differs from run to run, like the commit, would keep `benchstat old.txt new.txt` from comparing anything. What
//! else is known of a run stands in lines that every reader of the format passes over.

use std::fmt::Write as _;

use super::{rounded, rows};
use crate::output;
use crate::questions::{Coordinate, Metric};
use crate::results::Results;

const KEYS: [(Coordinate, &str); 7] = [
    (Coordinate::Workload, "workload"),
    (Coordinate::Size, "size"),
    (Coordinate::Request, "request"),
    (Coordinate::CallPages, "call_pages"),
    (Coordinate::Churn, "churn"),
    (Coordinate::Walkers, "walkers"),
    (Coordinate::Backend, "backend"),
];

/// The whole file.
pub(crate) fn benchstat(results: &Results) -> String {
    let machine = &results.run.machine;
    let mut text = String::new();
    let config = [
        ("goos", std::env::consts::OS.to_owned()),
        ("goarch", if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH }.to_owned()),
        ("pkg", "walkbench".to_owned()),
        ("cpu", machine.cpu_model.clone().unwrap_or_else(|| "unknown".to_owned())),
    ];
    let about = [
        ("kernel", machine.kernel.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("commit", results.run.build.commit.clone()),
        ("command", output::command(&results.run.command)),
    ];
    for (key, value) in config {
        let _ = writeln!(text, "{key}: {}", one_line(&value));
    }
    for (key, value) in about {
        let _ = writeln!(text, "# {key}: {}", one_line(&value));
    }
    text += "Unit ns/page better=lower\n";
    for row in rows(results) {
        let parts = KEYS.map(|(c, key)| format!("{key}={}", word(row.id.get(c))));
        let name = format!("BenchmarkOperation/{}", parts.join("/"));
        let pages = results.nr_pages_by_launch(row.id);
        for (launch, log) in results.per_launch(row.id, Metric::Whole) {
            let n = pages.get(&launch).copied().unwrap_or(1).max(1);
            let _ = writeln!(text, "{name} {n} {} ns/page", rounded(log.exp()));
        }
    }
    text
}

/// A value of a name: what the format takes apart at is written as its bytes in hexadecimal.
fn word(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() || "/=%\"".contains(c) {
            c.to_string().bytes().for_each(|b| {
                let _ = write!(out, "%{b:02X}");
            });
        } else {
            out.push(c);
        }
    }
    // A number behind a hyphen at the end of a name would be taken for GOMAXPROCS.
    match out.rsplit_once('-') {
        Some((head, tail)) if !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{head}%2D{tail}")
        }
        _ => out,
    }
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" ")
}
