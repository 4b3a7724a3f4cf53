//! Somebody changes the memory while it is looked at: one thread, as fast as it can.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};

use crate::os::mapping::{Advice, IdleChild, Mapping};

/// How much is changed at a time.
const SPAN: usize = 64 << 10;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Churn {
    /// Nothing.
    None,
    /// MADV_DONTNEED of 64 KiB, and MADV_POPULATE_WRITE of the same.
    Zap,
    /// mprotect of 64 KiB to read-only, and back.
    Mprotect,
    /// fork, and the child's end.
    Fork,
}

/// The thread.
pub(super) struct Churning {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Churning {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(mapping: &Arc<Mapping>, churn: Churn) -> io::Result<Churning> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mapping, stopped) = (Arc::clone(mapping), Arc::clone(&stop));
        let work = move || {
            let mut spans = (0..mapping.len()).step_by(SPAN).cycle();
            let mut events = 0;
            // Relaxed: nothing else is passed on.
            while !stopped.load(Relaxed) {
                let first = spans.next().unwrap_or(0);
                churn.once(&mapping, first..first + SPAN)?;
                events += 1;
            }
            Ok(events)
        };
        let thread = thread::Builder::new().name("churn".to_owned()).spawn(work)?;
        Ok(Churning { stop, thread })
    }
    /// Stops it.
    ///
    /// # Errors
    /// What the kernel told it, or that it never got that far.
    pub(super) fn stop(self) -> io::Result<()> {
        self.stop.store(true, Relaxed);
        match self.thread.join().map_err(|_| io::Error::other("the churn thread panicked"))?? {
            0 => Err(io::Error::other("the churn thread did not run once meanwhile")),
            _ => Ok(()),
        }
    }
}

impl Churn {
    /// Whether nothing happens.
    pub(crate) fn is_none(self) -> bool {
        self == Churn::None
    }
    fn once(self, mapping: &Mapping, span: Range<usize>) -> io::Result<()> {
        match self {
            Churn::None => Ok(()),
            Churn::Zap => {
                mapping.advise(span.clone(), Advice::DontNeed)?;
                mapping.advise(span, Advice::PopulateWrite)
            }
            Churn::Mprotect => {
                mapping.protect(span.clone(), false)?;
                mapping.protect(span, true)
            }
            Churn::Fork => IdleChild::fork().map(drop),
        }
    }
}
