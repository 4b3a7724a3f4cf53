//! Swap on and off, and a process that nothing interrupts: for a guest that is there to be recorded.
#![allow(unsafe_code)] // reason: system calls with a path or a struct

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A page of a swap area.
const PAGE: u64 = 4096;

fn path(device: &Path) -> io::Result<CString> {
    CString::new(device.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Writes the header of a swap area that fills the device (version 1, include/linux/swap.h) and turns it on.
///
/// # Errors
/// The kernel's.
pub(crate) fn on(device: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(device)?;
    let pages = file.seek(io::SeekFrom::End(0))? / PAGE;
    let last = u32::try_from(pages.saturating_sub(1)).map_err(io::Error::other)?;
    let mut header = [0; PAGE as usize];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&last.to_ne_bytes());
    header[PAGE as usize - 10..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    drop(file);
    let device = path(device)?;
    // SAFETY: a path that ends in 0, borrowed for the call.
    if unsafe { libc::swapon(device.as_ptr(), 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Turns it off.
///
/// # Errors
/// The kernel's.
pub(crate) fn off(device: &Path) -> io::Result<()> {
    let device = path(device)?;
    // SAFETY: a path that ends in 0, borrowed for the call.
    if unsafe { libc::swapoff(device.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on no thread of ordinary priority runs while this process could (SCHED_FIFO); and the process is killed after
/// so many seconds.
///
/// # Errors
/// No permission.
pub(crate) fn undisturbed(seconds: u32) -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: of this process, with a struct borrowed for the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a number; SIGALRM has its default, which ends the process.
    unsafe { libc::alarm(seconds) };
    Ok(())
}
