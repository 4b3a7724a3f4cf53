//! The door to the `PAGEMAP_SCAN` ioctl (kernel 6.7; fs/proc/task_mmu.c, include/uapi/linux/fs.h).
#![allow(unsafe_code)] // reason: an ioctl with a pointer to a struct has no safe wrapper in libc or std

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// `PAGE_IS_*` that are asked for.
pub(crate) const WRITTEN: u64 = 1 << 1;
pub(crate) const PRESENT: u64 = 1 << 3;
pub(crate) const SWAPPED: u64 = 1 << 4;
pub(crate) const ZERO: u64 = 1 << 5;
pub(crate) const HUGE: u64 = 1 << 6;
/// Every category there is.
pub(crate) const ALL: u64 = 0xff;

/// `struct page_region`: byte addresses `start..end` whose pages have the same `categories`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Arg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<Arg>() == 96 && size_of::<Region>() == 24);

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;

/// Scans byte addresses `start..end` of the process whose pagemap is open. Fills `regions` with what fits (64 to
/// 4,096 regions) and returns the address where the walk stopped, `end` when all is done.
///
/// Every page is asked for, the empty ones too: on kernels that do so, a none entry in a PTE table comes back as
/// `WRITTEN` alone, a hole as nothing.
///
/// # Errors
///
/// `ENOTTY` before 6.7; `ESRCH` if the process has ended; `EINVAL` for addresses beyond user space.
pub(crate) fn scan(pagemap: &File, start: u64, end: u64, regions: &mut Vec<Region>) -> io::Result<u64> {
    scan_for(pagemap, start..end, WRITTEN | PRESENT | SWAPPED | ZERO | HUGE, regions)
}

/// As [`scan`], for categories of the caller's choice.
///
/// # Errors
///
/// As [`scan`].
pub(crate) fn scan_for(
    pagemap: &File,
    addresses: Range<u64>,
    categories: u64,
    regions: &mut Vec<Region>,
) -> io::Result<u64> {
    const CAPACITY: usize = 4096;
    regions.clear();
    regions.resize(CAPACITY, Region::default());
    let mut arg = Arg {
        size: size_of::<Arg>() as u64,
        start: addresses.start,
        end: addresses.end,
        vec: regions.as_mut_ptr().expose_provenance() as u64,
        vec_len: CAPACITY as u64,
        return_mask: categories,
        ..Arg::default()
    };
    // SAFETY: the request number encodes a read and write of 96 bytes, the size of `Arg`, which is repr(C), laid out as
    // the kernel's struct and borrowed mutably for the call. The kernel writes at most `vec_len` regions of 24 bytes to
    // `vec`, which is the live allocation of `regions` with that length and any bytes are valid in it. An fd that is
    // no pagemap, or an older kernel, answers ENOTTY and writes nothing.
    let n = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    regions.truncate(n);
    Ok(arg.walk_end)
}

/// Scans all of `addresses` and hands over the regions as they come.
///
/// # Errors
///
/// As [`scan`]; and a scan that does not go on.
pub(crate) fn scan_all(
    pagemap: &File,
    addresses: Range<u64>,
    regions: &mut Vec<Region>,
    mut each: impl FnMut(&[Region]),
) -> io::Result<()> {
    let mut at = addresses.start;
    while at < addresses.end {
        let stop = scan(pagemap, at, addresses.end, regions)?;
        if stop <= at {
            return Err(io::Error::other("PAGEMAP_SCAN made no progress"));
        }
        each(regions);
        at = stop;
    }
    Ok(())
}
