//! Threads that walk together: started once, pinned, each waiting for work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::watch::Watch;
use crate::os::pinning;

type Job = Box<dyn FnOnce(&mut Watch) + Send>;

/// See the module.
pub(crate) struct Crew {
    threads: Vec<(mpsc::Sender<Job>, JoinHandle<()>)>,
    /// Whether every thread stays where it was put.
    pub(crate) pinned: bool,
}

impl Crew {
    /// One thread for each of `cpus`, pinned there where the system lets it.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(cpus: &[usize]) -> Result<Crew> {
        let mut crew = Crew { threads: Vec::new(), pinned: true };
        for &cpu in cpus {
            let (jobs, queue) = mpsc::channel::<Job>();
            let (ready, is_ready) = mpsc::channel();
            let body = move || {
                // Failing to say so means that nobody waits: then there is no work either.
                let _ = ready.send(pinning::pin(cpu));
                let mut watch = Watch::new();
                for job in queue {
                    job(&mut watch);
                }
            };
            let started = thread::Builder::new().name(format!("walker on cpu {cpu}")).spawn(body);
            crew.threads.push((jobs, started.context("starting a walker thread")?));
            crew.pinned &= is_ready.recv().unwrap_or(false);
        }
        Ok(crew)
    }
    /// Threads.
    pub(crate) fn len(&self) -> usize {
        self.threads.len()
    }
    /// Does `work` on every thread, each with its number, and waits for all. Results in the order of the threads.
    ///
    /// # Errors
    /// When a thread panicked.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        work: impl Fn(usize, &mut Watch) -> R + Send + Sync + 'static,
    ) -> Result<Vec<R>> {
        let work = Arc::new(work);
        let results = self.threads.iter().enumerate().map(|(i, (jobs, _))| {
            let (done, result) = mpsc::channel();
            let work = Arc::clone(&work);
            let job: Job = Box::new(move |watch| {
                let result = work(i, watch);
                // What the work holds is let go before anybody learns that it is done.
                drop(work);
                let _ = done.send(result);
            });
            jobs.send(job).map_err(|_| anyhow!("walker thread {i} ended early"))?;
            Ok((i, result))
        });
        let results: Vec<_> = results.collect::<Result<_>>()?;
        drop(work);
        results
            .into_iter()
            .map(|(i, result)| result.recv().map_err(|_| anyhow!("walker thread {i} panicked")))
            .collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (jobs, thread) in self.threads.drain(..) {
            drop(jobs);
            // A panic was reported where the result was missed.
            let _ = thread.join();
        }
    }
}

/// Where walkers meet before they are timed, and part after.
///
/// Contract: nobody is timed before all of them run, and all of them run until nobody is timed any more: who is early
/// or late goes on with untimed calls.
#[derive(Debug)]
pub(crate) struct Meeting {
    of: u32,
    here: AtomicU32,
    done: AtomicU32,
}

impl Meeting {
    /// Of so many walkers.
    pub(crate) fn new(of: usize) -> Meeting {
        Meeting { of: of as u32, here: AtomicU32::new(0), done: AtomicU32::new(0) }
    }
    /// Says that the caller is here; `ramp` is done until all are, at least once.
    pub(crate) fn begin<E>(&self, mut ramp: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        self.here.fetch_add(1, AcqRel);
        loop {
            ramp()?;
            if self.here.load(Acquire) >= self.of {
                return Ok(());
            }
        }
    }
    /// Says that the caller was timed; `go_on` is done until all were.
    pub(crate) fn end<E>(&self, mut go_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        self.done.fetch_add(1, AcqRel);
        while self.done.load(Acquire) < self.of {
            go_on()?;
        }
        Ok(())
    }
    /// The caller cannot go on: nobody shall wait for it.
    pub(crate) fn leave(&self) {
        self.here.fetch_add(self.of, AcqRel);
        self.done.fetch_add(self.of, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn nobody_is_timed_before_all_run_and_all_run_until_nobody_is_timed() {
        // More threads than processors, on purpose.
        let cpu = pinning::allowed()[0];
        let crew = Crew::start(&[cpu; 5]).unwrap();
        assert_eq!(crew.len(), 5);
        let (meeting, timed) = (Meeting::new(5), AtomicU32::new(0));
        let early = AtomicU64::new(0);
        let started = AtomicU32::new(0);
        let seen = crew
            .run(move |i, _| {
                let mut first = true;
                let ramp = || {
                    if std::mem::take(&mut first) {
                        started.fetch_add(1, SeqCst);
                    }
                    thread::yield_now();
                    Ok::<(), ()>(())
                };
                meeting.begin(ramp).unwrap();
                let all_started = started.load(SeqCst);
                timed.fetch_add(1, SeqCst);
                let go_on = || {
                    early.fetch_add(1, SeqCst);
                    thread::yield_now();
                    Ok::<(), ()>(())
                };
                meeting.end(go_on).unwrap();
                (i, all_started, timed.load(SeqCst))
            })
            .unwrap();
        // A walker is here only once it has run; the last one to come runs its first call after that.
        assert!(seen.iter().all(|(_, started, _)| *started >= 1));
        assert_eq!(
            seen.iter().map(|s| s.2).collect::<Vec<_>>(),
            [5; 5],
            "nobody parts before all were timed"
        );
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_walker_that_fails_or_panics_leaves_nobody_waiting() {
        let cpu = pinning::allowed()[0];
        let crew = Crew::start(&[cpu, cpu]).unwrap();
        let meeting = Meeting::new(2);
        let results = crew.run(move |i, _| {
            if i == 0 {
                meeting.leave();
                return Err(());
            }
            meeting.begin(|| Ok(()))?;
            meeting.end(|| Ok(()))
        });
        assert_eq!(results.unwrap(), [Err(()), Ok(())]);
        let panicked = crew.run(|i, _| assert_ne!(i, 1, "on purpose"));
        assert!(panicked.unwrap_err().to_string().contains("walker thread 1"));
    }
}
