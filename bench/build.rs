//! Records what the program was built from: compiler, commit, whether the tree was dirty. Works without git.

use std::process::Command;

fn main() {
    for watched in [
        "src",
        "questions",
        "build.rs",
        "../walker/src",
        "../workloads/src",
        "../workloads/definitions",
        "../Cargo.lock",
    ] {
        // A path that does not exist would run this again at every build.
        if std::path::Path::new(watched).exists() {
            println!("cargo::rerun-if-changed={watched}");
        }
    }
    // HEAD's log grows with every commit, checkout and merge.
    if let Some(log) = said("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let unknown = || "unknown".to_owned();
    set("WALKBENCH_RUSTC", &said(&rustc, &["--version"]).unwrap_or_else(unknown));
    set("WALKBENCH_COMMIT", &said("git", &["rev-parse", "HEAD"]).unwrap_or_else(unknown));
    let dirty = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    set("WALKBENCH_DIRTY", &dirty.map_or_else(unknown, |changes| (!changes.is_empty()).to_string()));
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let mut profile = format!("{} opt-level={}", var("PROFILE"), var("OPT_LEVEL"));
    // What the environment says otherwise than the manifest makes other code.
    for (setting, name) in [("LTO", "lto"), ("CODEGEN_UNITS", "codegen-units")] {
        let variable = format!("CARGO_PROFILE_{}_{setting}", var("PROFILE").to_uppercase());
        println!("cargo::rerun-if-env-changed={variable}");
        if let Ok(value) = std::env::var(&variable) {
            profile += &format!(" {name}={value}");
        }
    }
    set("WALKBENCH_PROFILE", &profile);
    set("WALKBENCH_FLAGS", &var("CARGO_ENCODED_RUSTFLAGS").replace('\x1f', " "));
    set("WALKBENCH_CRATES", &crates().join(" "));
    set("WALKBENCH_TARGET", &var("TARGET"));
}

/// `name-version` of every package in the lock file, which is what may be in the program.
fn crates() -> Vec<String> {
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let value =
        |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches(['"', ' ', '=']).to_owned());
    let mut crates = Vec::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(n) = value(line, "name") {
            name = Some(n);
        } else if let (Some(v), Some(n)) = (value(line, "version = \""), name.take()) {
            crates.push(format!("{n}-{v}"));
        }
    }
    crates
}

fn set(name: &str, value: &str) {
    println!("cargo::rustc-env={name}={}", value.lines().next().unwrap_or_default());
}

/// Standard output of a command that worked, trimmed.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
