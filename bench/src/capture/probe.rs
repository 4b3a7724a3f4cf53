//! What this kernel shows to this user, found out on our own memory before another process is read.

use std::fs::File;
use std::hint::black_box;

use anyhow::{Context, Result, bail};
use workloads::capture::PAGE_BYTES;

use super::pagemap;
use super::pages::Sight;
use super::scan;

/// Bytes of the probe: large enough that malloc maps fresh pages, smaller than a huge page.
const PROBE_BYTES: usize = 1 << 20;

/// Looks at a fresh buffer with one written page in it.
///
/// # Errors
///
/// If pages are not 4 KiB, or our own pagemap cannot be read (a kernel without `CONFIG_PROC_PAGE_MONITOR`).
pub(super) fn sight() -> Result<Sight> {
    let page_bytes = std::fs::read_to_string("/proc/self/smaps")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MMUPageSize:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(PAGE_BYTES, |kb| kb * 1024);
    if page_bytes != PAGE_BYTES {
        bail!(
            "this machine's pages have {page_bytes} bytes: expected 4096, the only size that shape files hold"
        );
    }
    let file =
        File::open("/proc/self/pagemap").context("/proc/self/pagemap: expected a kernel with pagemap")?;
    let mut buffer = vec![0u8; PROBE_BYTES];
    let written = PROBE_BYTES / 2;
    buffer[written] = 1;
    let buffer = black_box(buffer);
    let first = buffer.as_ptr().addr() as u64 / PAGE_BYTES + 1;
    let page = (buffer.as_ptr().addr() + written) as u64 / PAGE_BYTES;
    let mut entries = Vec::new();
    pagemap::read(&file, page, 1, &mut entries).context("/proc/self/pagemap")?;
    let entry =
        entries.first().copied().context("/proc/self/pagemap: expected an entry for our own memory")?;

    let mut regions = Vec::new();
    let (start, end) = (first * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    let scanned = scan::scan(&file, start, end, &mut regions).is_ok();
    // The untouched pages of the buffer share a PTE table with the written one, so they are none, not holes.
    let tables = scanned && regions.iter().any(|r| r.categories == scan::WRITTEN);
    Ok(Sight {
        scan: scanned,
        tables,
        frames: entry.frame() != 0,
        soft_dirty: entry.flags().contains(workloads::capture::PageFlags::SOFT_DIRTY),
    })
}

/// As `uname -r`.
pub(super) fn kernel_release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    Ok(std::fs::read_to_string(path).with_context(|| path)?.trim_end().to_owned())
}
