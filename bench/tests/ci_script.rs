//! scripts/ci/gate.sh: whose exit code is the gate's, and whose comment is this run's or nobody's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXE: &str = env!("CARGO_BIN_EXE_walkbench");

/// A checkout with the script and a cargo that has nothing to build.
fn checkout(place: &Path) -> PathBuf {
    let tree = place.join("tree");
    for folder in ["scripts/ci", "bin"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/ci/gate.sh");
    fs::copy(script, tree.join("scripts/ci/gate.sh")).unwrap();
    let cargo = tree.join("bin/cargo");
    fs::write(
        &cargo,
        format!("#!/bin/sh\nmkdir -p target/release && ln -sf '{EXE}' target/release/walkbench\n"),
    )
    .unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    tree
}

fn script(tree: &Path, args: &[&str]) -> Output {
    let path = format!("{}:{}", tree.join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(tree.join("scripts/ci/gate.sh")).args(args).current_dir("/").env("PATH", path);
    command.env("TMPDIR", tree).env_remove("CARGO_TARGET_DIR").env("GATE_OPTIONS", "--tiers counts");
    command.output().unwrap()
}

#[test]
fn the_script_says_what_the_gate_said_and_leaves_no_comment_of_another_run() {
    let place = tempfile::tempdir().unwrap();
    let tree = checkout(place.path());
    let (comment, rounds) = (tree.join("target/gate-comment.md"), tree.join("target/gate-comment.json"));
    fs::create_dir(tree.join("target")).unwrap();
    // No revision to compare with; 1 would be a regression.
    assert_eq!(script(&tree, &[]).status.code(), Some(2));
    fs::write(&comment, "regression: an older push").unwrap();
    fs::write(&rounds, "{}").unwrap();
    let refused = script(&tree, &["no-such-revision"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(!comment.exists() && !rounds.exists(), "left over from another run");

    // Without the tier of time there are no rounds to decide on again, and there is a comment all the same.
    let passed = script(&tree, &[EXE]);
    let said = String::from_utf8_lossy(&passed.stdout).into_owned();
    assert_eq!(passed.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&passed.stderr));
    let written = fs::read_to_string(&comment).unwrap();
    assert!(said.starts_with("pass\n"), "{said}");
    assert!(written.starts_with("### walkbench gate: pass\n\n- counts not compared: "), "{written}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&rounds).unwrap()).unwrap();
    assert_eq!(json["verdict"], "pass");
}
