//! Parent and launch: signals between them.
#![allow(unsafe_code)] // prctl, kill and signal take no pointers here; pre_exec calls nothing else

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
        // No allocation: this runs between fork and exec too.
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// As [`die_with`], for a program that does not know of it: it is killed when the thread that starts it ends. To be
/// called before the command is started.
pub(crate) fn dies_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    let die = move || die_with(parent);
    // SAFETY: after fork only prctl and getppid are called, and an error without a message is made of errno or of a
    // static string where the parent is gone already.
    unsafe { command.pre_exec(die) };
}

/// Gives a program the addresses that every other process of it has that is started like this: no randomisation of stack,
/// heap and mappings. Where the system refuses that (seccomp), they stay random. To be called before the command is started.
pub(crate) fn has_fixed_addresses(command: &mut Command) {
    let fix = || {
        // SAFETY: reads and sets a number of the calling process, and takes no pointer.
        let _ = unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
        Ok(())
    };
    // SAFETY: after fork only personality is called.
    unsafe { command.pre_exec(fix) };
}

/// Kills a process group whose leader was not waited for yet, or every process of it that is left.
pub(crate) fn kill_group(leader: u32) {
    let Some(group) = libc::pid_t::try_from(leader).ok().filter(|pid| *pid > 1) else { return };
    // SAFETY: sends a signal to a group.
    let _ = unsafe { libc::kill(-group, libc::SIGKILL) };
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
