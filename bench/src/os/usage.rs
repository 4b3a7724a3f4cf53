//! What the kernel did to this thread: getrusage(RUSAGE_THREAD).

/// Times the calling thread lost the processor against its will so far; none if the kernel does not say.
#[allow(unsafe_code)] // getrusage fills a C struct
pub(crate) fn involuntary_switches() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to one writable rusage.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    if failed != 0 {
        return None;
    }
    // SAFETY: zeroed is a valid rusage already, and the call succeeded.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_nivcsw).ok()
}
