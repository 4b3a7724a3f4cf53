//! Grace periods for detached page tables: crossbeam-epoch, or a plain reader count under loom.
//!
//! Protocol: a walk reads tables only between [`read_lock`] and the drop of its guard. Who unlinks a table does so
//! with a store that later walks see, then hands the table to [`defer`]; it is reused only after every guard that
//! could have met the old link is gone. Models rcu_read_lock in `pte_offset_map` and `pte_free_defer` / the RCU side
//! of `tlb_remove_table` (mm/pgtable-generic.c, mm/mmu_gather.c, 6.12).
//!
//! The kernel takes the lock per PTE table, where it costs nothing. A pin costs a fence, so that a range walk takes it
//! once ([`read_lock_walk`]) and gives it back before it faults or waits.

#[cfg(not(loom))]
mod imp {
    /// Witness that tables read under it stay readable.
    pub type Guard = crossbeam_epoch::Guard;

    /// Opens a read-side critical section.
    #[inline]
    pub fn read_lock() -> Guard {
        crossbeam_epoch::pin()
    }

    /// A section around all tables of a walk; where there is none, each table opens its own.
    #[inline]
    pub fn read_lock_walk() -> Option<Guard> {
        Some(read_lock())
    }

    /// Runs `f` once every critical section that is open now has ended.
    pub fn defer(f: impl FnOnce() + Send + 'static) {
        crossbeam_epoch::pin().defer(f);
    }

    /// Pushes deferred work towards its end (tests and teardown; no promise).
    pub fn flush() {
        for _ in 0..4 {
            crossbeam_epoch::pin().flush();
        }
    }
}

#[cfg(loom)]
mod imp {
    use crate::sync::{AtomicUsize, Mutex, Ordering::*};
    use loom::lazy_static;

    lazy_static! {
        static ref READERS: AtomicUsize = AtomicUsize::new(0);
        static ref WAITING: Mutex<Vec<Box<dyn FnOnce() + Send>>> = Mutex::new(Vec::new());
    }

    /// Witness that tables read under it stay readable.
    #[derive(Debug)]
    pub struct Guard(());

    impl Drop for Guard {
        fn drop(&mut self) {
            // Last reader out runs what waits; AcqRel orders its reads before the reuse.
            if READERS.fetch_sub(1, AcqRel) == 1 {
                let ready: Vec<_> = core::mem::take(&mut *WAITING.lock());
                ready.into_iter().for_each(|f| f());
            }
        }
    }

    /// Opens a read-side critical section.
    pub fn read_lock() -> Guard {
        READERS.fetch_add(1, SeqCst);
        Guard(())
    }

    /// None: the sections of the tables are those that are checked.
    pub fn read_lock_walk() -> Option<Guard> {
        None
    }

    /// Runs `f` when no critical section is open.
    pub fn defer(f: impl FnOnce() + Send + 'static) {
        let g = read_lock();
        WAITING.lock().push(Box::new(f));
        drop(g);
    }

    /// Nothing to push under loom.
    pub fn flush() {}
}

pub use imp::*;
