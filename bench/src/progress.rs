//! A bar with the time left, on standard error, if that is a terminal and the work takes longer than two seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long work is silent.
const QUIET: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// Work in `steps` steps.
    pub(crate) fn new(steps: usize) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}, {eta} left  {wide_msg}") {
            bar.set_style(style);
        }
        Progress { bar, began: Instant::now() }
    }
    /// The next step begins.
    pub(crate) fn step(&self, done: usize, what: &str) {
        if self.bar.is_hidden() && self.began.elapsed() >= QUIET {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done as u64);
        self.bar.set_message(what.to_owned());
    }
    /// All done: the line goes away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
