//! The clocks beside the one that times spans: to see whether that one is steered while it measures.

/// Nanoseconds of CLOCK_MONOTONIC, which the kernel may run faster or slower to follow the time of day; none if the
/// kernel does not say.
pub(crate) fn monotonic_ns() -> Option<u64> {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CLOCK_MONOTONIC_RAW, which nobody steers.
pub(crate) fn raw_ns() -> Option<u64> {
    read(libc::CLOCK_MONOTONIC_RAW)
}

/// The processor's time-stamp counter, without waiting for what comes before.
#[inline(always)]
#[allow(unsafe_code)] // an intrinsic
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[allow(unsafe_code)] // clock_gettime fills a C struct
fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to one writable timespec.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    (failed == 0).then_some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}
