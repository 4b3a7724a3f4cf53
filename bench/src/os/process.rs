//! Parent and launch: signals between them.
#![allow(unsafe_code)] // prctl, kill and signal take no pointers here

use std::io;

/// Ends the calling process with SIGKILL when the thread that started it ends, however that ends.
///
/// # Errors
/// When the kernel says no, or when the parent, process `parent`, is gone already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: sets a number of the calling process.
    let failed = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this one is gone"))
    }
}

/// Sends SIGINT to a child that was not waited for yet.
pub(crate) fn interrupt(child: u32) {
    let Ok(pid) = libc::pid_t::try_from(child) else { return };
    // SAFETY: sends a signal; a child that ended meanwhile is still ours until it is waited for.
    let _ = unsafe { libc::kill(pid, libc::SIGINT) };
}

/// From now on a file that grows beyond RLIMIT_FSIZE is an error of `write`, like a full disk, and no longer the end of
/// the process.
pub(crate) fn writes_fail_instead_of_killing() {
    // SAFETY: SIG_IGN is a valid disposition and no handler of ours.
    let _ = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
