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
    end: Option<Instant>,
}

impl Progress {
    /// Work in `steps` steps.
    pub(crate) fn new(steps: usize) -> Progress {
        Progress::resumed(steps as u64, Duration::ZERO, None)
    }
    /// Work in `steps` steps that has been going on for `elapsed`, in other processes perhaps, and ends after `left` at
    /// the latest.
    pub(crate) fn resumed(steps: u64, elapsed: Duration, left: Option<Duration>) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}{prefix}  {wide_msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Progress { bar, began: now.checked_sub(elapsed).unwrap_or(now), end: left.map(|l| now + l) }
    }
    /// The next step begins.
    pub(crate) fn step(&self, done: u64, what: &str) {
        let elapsed = self.began.elapsed();
        if self.bar.is_hidden() && elapsed >= QUIET {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
        let most = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        self.bar.set_prefix(left(elapsed, done, self.bar.length().unwrap_or(0), most));
        self.bar.set_message(what.to_owned());
    }
    /// All done: the line goes away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `, 1 min 20 s left`; nothing before there is something to tell by.
fn left(elapsed: Duration, done: u64, steps: u64, most: Option<Duration>) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * steps.saturating_sub(done) as f64;
    let seconds = most.map_or(seconds, |most| seconds.min(most.as_secs_f64()));
    match seconds as u64 {
        s if s < 60 => format!(", {s} s left"),
        s if s < 3600 => format!(", {} min {:02} s left", s / 60, s % 60),
        s => format!(", {} h {:02} min left", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_goes_by_the_pace_so_far() {
        let most = |s| Some(Duration::from_secs(s));
        assert_eq!(left(Duration::from_secs(10), 2, 10, most(25)), ", 25 s left");
        let left = |s, done, steps| left(Duration::from_secs(s), done, steps, None);
        assert_eq!(left(10, 0, 10), "");
        assert_eq!(left(10, 2, 10), ", 40 s left");
        assert_eq!(left(100, 1, 2), ", 1 min 40 s left");
        assert_eq!(left(3600, 1, 4), ", 3 h 00 min left");
        assert_eq!(left(10, 10, 10), ", 0 s left");
    }
}
