//! The doors to the operating system: one file each, and the only unsafe code of this crate.

pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod dmirror;
pub(crate) mod hmm;
pub(crate) mod mapping;
pub(crate) mod pinning;
pub(crate) mod process;
pub(crate) mod stolen;
pub(crate) mod swap;
pub(crate) mod usage;
pub(crate) mod userfaultfd;
pub(crate) mod window;

use std::io;

/// Why the device at `path` cannot be used, and what to do: `missing` where there is none, `expected` where it is another.
fn refused(path: &str, e: &io::Error, missing: &str, expected: &str) -> io::Error {
    let then = match e.kind() {
        io::ErrorKind::NotFound => missing,
        io::ErrorKind::PermissionDenied => "its owner may open it: run as root, or chown it",
        _ => expected,
    };
    io::Error::new(e.kind(), format!("{path}: {e}; {then}"))
}
