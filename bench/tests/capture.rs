//! `walkbench capture` from outside: what it writes, what it says, and what it leaves alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use workloads::capture::Shape;

fn walkbench(pid: &str, out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walkbench"))
        .args(["capture", "--pid", pid, "--name", "me", "--made", "a test", "--out"])
        .arg(out)
        .output()
        .unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_capture_of_this_process_can_be_loaded_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["me.shape", "me.shape.gz"] {
        let out = folder.path().join(name);
        fs::write(&out, "an older file").unwrap();
        let output = walkbench(&std::process::id().to_string(), &out);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(output.stdout.is_empty());
        for word in ["VMAs", "mapped", "runs", "not in it:", &format!("wrote {}", out.display())] {
            assert!(said.contains(word), "{word:?} not in:\n{said}");
        }
        let shape = Shape::load(&out).unwrap();
        assert_eq!((shape.name.as_str(), shape.made.as_str()), ("me", "a test"));
        assert!(shape.summary().nr_mapped > 100 && !shape.missing.is_empty());
        assert_eq!(fs::read(&out).unwrap().starts_with(&[0x1f, 0x8b]), name.ends_with(".gz"));
    }
    assert_eq!(names(folder.path()), ["me.shape", "me.shape.gz"]);
}

#[test]
fn a_failed_capture_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("old.shape");
    fs::write(&out, "an older file").unwrap();
    let output = walkbench("2147483647", &out);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: no process with pid 2147483647"), "{said}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "an older file");
    assert_eq!(names(folder.path()), ["old.shape"]);
}

#[test]
fn bad_arguments_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::process::id().to_string();
    let cases = [
        (
            own.as_str(),
            folder.path().join("no/such.shape"),
            "does not exist; expected a file in a folder that does",
        ),
        (own.as_str(), folder.path().to_owned(), "is a folder; expected the name of a file"),
        ("0", folder.path().join("x"), "0 is not in 1..=2147483647"),
        ("-1", folder.path().join("x"), "--pid"),
        ("self", folder.path().join("x"), "invalid value 'self' for '--pid <PID>'"),
    ];
    for (pid, out, expected) in cases {
        let output = walkbench(pid, &out);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{expected:?} not in:\n{said}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_walkbench"))
        .args(["capture", "--pid", &own, "--name", "a/b", "--out"])
        .arg(folder.path().join("x"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("name \"a/b\"; expected 1 to 64 of"), "{said}");
    assert_eq!(names(folder.path()), [""; 0]);
}
