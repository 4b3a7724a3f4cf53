//! Ctrl-C: the first one asks to stop after the block that runs, the second one ends the program. A launch that runs is
//! told; it is in a process group of its own, so that the terminal does not tell it a second time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use anyhow::{Context, Result};

use crate::os::process;

/// The exit code of a run that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
/// The process to tell; 0 for none.
static CHILD: AtomicU32 = AtomicU32::new(0);

/// From now on Ctrl-C (and SIGTERM, SIGHUP) asks instead of killing.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        // SeqCst, here and in `forward_to`: either this sees the child, or that sees that it was asked.
        if ASKED.swap(true, SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
        tell(CHILD.load(SeqCst));
    })
    .context("handling Ctrl-C")
}

/// Whether the run shall stop.
pub(crate) fn is_asked() -> bool {
    ASKED.load(SeqCst)
}

/// From now on a child is told too, at once if it should have been already; none for nobody.
pub(crate) fn forward_to(child: Option<u32>) {
    CHILD.store(child.unwrap_or(0), SeqCst);
    if is_asked() {
        tell(child.unwrap_or(0));
    }
}

fn tell(child: u32) {
    if child != 0 {
        process::interrupt(child);
    }
}
