//! scripts/kernel: what can be known of it without a kernel. `bench/src/os/hmm.rs` compares the header with its own layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kernel").canonicalize().unwrap()
}

fn text(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn script(args: &[&str]) -> Output {
    Command::new("bash").arg(folder().join("run.sh")).args(args).output().unwrap()
}

#[test]
fn scripts_parse() {
    for (shell, name) in [("bash", "run.sh"), ("sh", "init")] {
        let output = Command::new(shell).arg("-n").arg(folder().join(name)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(text("run.sh").contains("\nset -euo pipefail\n"));
}

#[test]
fn help_says_what_it_needs_before_anything_starts() {
    let output = script(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in
        ["linux-source-6.12", "qemu", "GB of disk", "minutes", "WORKDIR", "--patch", "--seed", "--timeout"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn wrong_usage_is_answered_before_anything_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    let work = scratch.path().join("work");
    let at = work.to_str().unwrap();
    let spaced = scratch.path().join("with a space");
    for (args, expected) in [
        (&[][..], "usage:"),
        (&["--patch"][..], "--patch: expected a value"),
        (&["--speed", "1", at], "--speed: no such option"),
        (&["--timeout", "soon", at], "--timeout soon: expected a whole number"),
        (&["--seed", "x", at, "record"], "--seed x: expected a whole number"),
        (&["--class", "no such", at, "record"], "--class no such: expected the name of a class"),
        (&["--tree", "/nowhere", at], "/nowhere: expected the sources of a kernel"),
        (&["--patch", "/nowhere.patch", at, "ab"], "/nowhere.patch: expected a patch"),
        (&[at, "everything"], "everything: no such stage"),
        (&[at, "ab"], "ab: expected --patch FILE or --against DIR"),
        (&[folder().join("work").to_str().unwrap()], "outside the repository"),
        (&[spaced.to_str().unwrap()], "without spaces"),
    ] {
        let output = script(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert!(!work.exists() && !spaced.exists() && !folder().join("work").exists());
}

#[test]
fn the_module_has_one_name_everywhere() {
    assert!(text("module/Kbuild").contains("obj-$(CONFIG_WALKBENCH_HMM) += walkbench_hmm.o"));
    assert!(text("module/Kconfig").contains("config WALKBENCH_HMM\n\ttristate"));
    assert!(text("module/Makefile").contains("CONFIG_WALKBENCH_HMM=m"));
    for config in ["um.config", "qemu.config"] {
        assert!(text(config).contains("CONFIG_WALKBENCH_HMM=y"));
    }
    // Whose devices `record --class dev` plays with, and `live` asks where instructions are counted.
    assert!(text("qemu.config").contains("CONFIG_TEST_HMM=y"));
    assert!(text("run.sh").contains("DRIVER_ROWS='^hmm_dmirror.*/none$'"));
    assert_eq!(text("run.sh").matches("--filter '$ROWS|$DRIVER_ROWS").count(), 2, "live and count");
    assert!(text("run.sh").contains("obj-$(CONFIG_WALKBENCH_HMM) += walkbench_hmm/"));
    let source = text("module/walkbench_hmm.c");
    assert!(source.contains(".name = \"walkbench_hmm\"") && source.contains("#include \"walkbench_hmm.h\""));
    // What it may not tell: frame numbers. The one way out of the array of pfns is a byte of flags and order.
    assert_eq!(
        source.matches("copy_to_user").count(),
        3,
        "answers, times and the request go to the caller; what is new?"
    );
    assert!(!source.contains("hmm_pfn_to_page") && !source.contains("r->pfns,"));
}

#[test]
fn what_becomes_part_of_a_kernel_has_its_licence_and_nothing_else_does() {
    for (name, licence) in [
        ("module/walkbench_hmm.c", "// SPDX-License-Identifier: GPL-2.0\n"),
        ("module/walkbench_hmm.h", "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */\n"),
        ("module/Kbuild", "# SPDX-License-Identifier: GPL-2.0\n"),
        ("module/Makefile", "# SPDX-License-Identifier: GPL-2.0\n"),
        ("module/Kconfig", "# SPDX-License-Identifier: GPL-2.0-only\n"),
    ] {
        assert!(text(name).starts_with(licence), "{name}");
    }
    assert!(text("module/walkbench_hmm.c").contains("MODULE_LICENSE(\"GPL\")"));
    assert!(text("module/LICENSE").contains("GNU GENERAL PUBLIC LICENSE"));
    assert!(text("patches/hoist-mask.patch").contains("GPL-2.0-or-later"));
}
