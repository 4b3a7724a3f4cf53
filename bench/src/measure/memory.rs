//! How much memory this machine has to give, so that what does not fit is refused before it is built.

use std::fs;

use workloads::request::RequestKind;
use workloads::shape::{BuildError, ShapeSpec};

/// `MemAvailable` of /proc/meminfo: what can be had without swapping. None where the system does not say.
fn available_bytes() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Refuses a scene that would not fit: the shape with what its requests fault in, the device's table and the arrays.
///
/// # Errors
/// [`BuildError::Memory`] with what would fit.
pub(super) fn check(shape: &ShapeSpec, size_bytes: u64, request: RequestKind) -> Result<(), BuildError> {
    shape.check_size(size_bytes)?;
    let Some(available) = available_bytes() else { return Ok(()) };
    // A device entry and a wish a page; arrays of a call, which is no longer than the range, are small beside that.
    let harness = size_bytes / 4096 * 16;
    // A twentieth stays for everything else.
    let left = (available - available / 20).saturating_sub(harness);
    shape.check_memory(size_bytes, request.strongest(), left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use workloads::shape::Memory;

    #[test]
    fn meminfo_is_read_and_nonsense_is_nothing() {
        let text = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available(text), Some(20480000 << 10));
        for text in ["", "MemAvailable: kB", "MemAvailable: 7 MB", "MemAvailable: 99999999999999999999 kB"] {
            assert_eq!(available(text), None, "{text}");
        }
    }

    #[test]
    fn what_no_machine_holds_is_refused_before_it_is_built() {
        let shape = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Data };
        let e = check(&shape, 16 << 40, RequestKind::Snapshot).unwrap_err();
        assert!(matches!(e, BuildError::Memory { .. }), "{e}");
        assert_eq!(check(&shape, 1 << 21, RequestKind::Snapshot), Ok(()));
    }
}
