//! The only door to atomics, locks and fences: the standard ones, or loom's under `cfg(loom)`.
//!
//! Everything above takes its synchronisation from here, so that the model checker sees all of it.

#[cfg(not(loom))]
mod imp {
    pub use core::sync::atomic::{
        AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub use std::thread::yield_now;

    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
}

#[cfg(loom)]
mod imp {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub use loom::thread::yield_now;

    pub use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    /// loom's mutex with parking_lot's signatures (no poisoning).
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);
    impl<T> Mutex<T> {
        /// A mutex around `value`.
        pub fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }
        /// Waits for the lock.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
        /// The lock if nobody holds it.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Mutex::new(T::default())
        }
    }

    /// loom's reader-writer lock with parking_lot's signatures.
    #[derive(Debug)]
    pub struct RwLock<T>(loom::sync::RwLock<T>);
    impl<T> RwLock<T> {
        /// A lock around `value`.
        pub fn new(value: T) -> Self {
            RwLock(loom::sync::RwLock::new(value))
        }
        /// Waits for shared access.
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap()
        }
        /// Shared access if no writer is there.
        pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }
        /// Exclusive access if nobody is there.
        pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
            self.0.try_write().ok()
        }
        /// Waits for exclusive access.
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap()
        }
    }

    /// loom's condition variable with parking_lot's signatures.
    #[derive(Debug)]
    pub struct Condvar(loom::sync::Condvar);
    impl Condvar {
        /// A condition nobody waits for.
        pub fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }
        /// Releases the guard's lock, waits, takes it again.
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            replace_guard(guard, |g| self.0.wait(g).unwrap());
        }
        /// Wakes every waiter.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
    impl Default for Condvar {
        fn default() -> Self {
            Condvar::new()
        }
    }

    #[allow(unsafe_code)] // loom glue: parking_lot waits through a reference, loom by value
    fn replace_guard<T>(slot: &mut T, f: impl FnOnce(T) -> T) {
        // SAFETY: the value read out is forgotten in the slot until it is overwritten; a panic of `f` would drop it
        // twice, so it aborts instead.
        unsafe {
            let old = core::ptr::read(slot);
            let new = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(old)))
                .unwrap_or_else(|_| std::process::abort());
            core::ptr::write(slot, new);
        }
    }
}

pub use imp::*;
