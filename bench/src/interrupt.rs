//! Ctrl-C: the first one asks to stop after the block that runs, the second one ends the program.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};

/// The exit code of a run that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and SIGTERM, SIGHUP) asks instead of killing.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        // Relaxed: nothing is published with it.
        if ASKED.swap(true, Relaxed) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
    .context("handling Ctrl-C")
}

/// Whether the run shall stop.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Relaxed)
}
