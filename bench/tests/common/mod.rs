//! What several of these tests do.

use std::path::Path;
use std::process::Command;

/// Makes `place` a clone of these sources without their files, at the commit that they are at; false, and says so, where
/// they are in no git repository.
pub(crate) fn clone_sources(place: &Path) -> bool {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cloned = Command::new("git")
        .args(["clone", "--quiet", "--shared", "--no-checkout"])
        .args([&project, place])
        .status()
        .is_ok_and(|status| status.success());
    if !cloned {
        eprintln!("SKIPPED: these sources are in no git repository");
    }
    cloned
}
