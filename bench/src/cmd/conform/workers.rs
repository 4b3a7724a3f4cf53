//! One function over many items, on all processors, results in the order of the items.

use std::io::{self, IsTerminal};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long a replay may take before a bar appears.
const SILENT: Duration = Duration::from_secs(2);

/// How often the bar is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Whether a bar may be drawn.
pub(super) struct Progress {
    draws: bool,
}

impl Progress {
    /// A bar on standard error when that is a terminal.
    pub(super) fn on_terminal() -> Self {
        Self { draws: io::stderr().is_terminal() }
    }

    /// No bar.
    #[cfg(test)]
    pub(super) fn hidden() -> Self {
        Self { draws: false }
    }
}

/// `work` of every item. A panic of `work` is the caller's.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    progress: &Progress,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    // Relaxed suffices: the counter only hands out indices, results travel through the channel.
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..available.min(items.len()) {
            let sender = sender.clone();
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    if sender.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        // The loop below ends when the last worker has dropped its sender.
        drop(sender);
        let start = Instant::now();
        let mut bar: Option<ProgressBar> = None;
        let mut done = 0;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok((index, result)) => {
                    results[index] = Some(result);
                    done += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if progress.draws && start.elapsed() > SILENT {
                bar.get_or_insert_with(|| new_bar(items.len(), done)).set_position(done);
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    });
    // Every index was handed out once; a worker that panicked has ended the scope above with its panic.
    results.into_iter().flatten().collect()
}

fn new_bar(items: usize, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(items as u64).with_position(done).with_elapsed(SILENT);
    let template = "{bar:40} {pos}/{len} scenarios, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
