//! Which processors there are, and staying on one of them.

use core_affinity::CoreId;

/// The processors that this thread may use, ascending. To be asked before anything is pinned: a pinned thread, and the
/// threads that it starts, may use one only.
pub(crate) fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|c| c.id).collect()
}

/// Keeps the calling thread on a processor. False where the system refuses: then it goes on unpinned.
pub(crate) fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_may_stay_on_what_it_may_use_and_not_on_what_does_not_exist() {
        std::thread::spawn(|| {
            let cpus = super::allowed();
            assert!(!super::pin(1 << 9), "a machine of these tests has fewer than 512 processors");
            assert_eq!(super::allowed(), cpus);
            assert!(super::pin(cpus[0]));
            assert_eq!(super::allowed(), cpus[..1]);
        })
        .join()
        .unwrap();
    }
}
