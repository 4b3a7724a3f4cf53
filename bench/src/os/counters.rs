//! Counters of processor and kernel around a piece of work: perf_event_open(2).
//!
//! Each counter is opened by itself, runs all the time, and is read before and after: what the kernel refuses, it
//! refuses one by one, with a reason; it is never reported as zero. Where more counters are wanted than the hardware
//! has, the kernel takes turns, and a difference is scaled by enabled over running time.

use std::collections::BTreeMap;
use std::io;

use perf_event::events::{Cache, CacheOp, CacheResult, Event, Hardware, Software, WhichCache};
use perf_event::{Builder, Counter};

/// What is counted, in user mode of the calling thread unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Processor cycles.
    Cycles,
    /// Instructions that retired.
    Instructions,
    /// Loads whose address the first-level data TLB did not have.
    DtlbMisses,
    /// Last-level cache misses.
    LlcMisses,
    /// Mispredicted branches.
    BranchMisses,
    /// Page faults, of the host's memory.
    PageFaults,
    /// Context switches, in the kernel.
    ContextSwitches,
    /// Moves to another processor, in the kernel.
    Migrations,
    /// Nanoseconds on a processor.
    TaskClock,
}

impl Kind {
    /// All of them, hardware first.
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Cycles,
        Kind::Instructions,
        Kind::DtlbMisses,
        Kind::LlcMisses,
        Kind::BranchMisses,
        Kind::PageFaults,
        Kind::ContextSwitches,
        Kind::Migrations,
        Kind::TaskClock,
    ];
    /// In tables and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Cycles => "cycles",
            Kind::Instructions => "instructions",
            Kind::DtlbMisses => "dtlb_misses",
            Kind::LlcMisses => "llc_misses",
            Kind::BranchMisses => "branch_misses",
            Kind::PageFaults => "host_page_faults",
            Kind::ContextSwitches => "context_switches",
            Kind::Migrations => "cpu_migrations",
            Kind::TaskClock => "task_clock_ns",
        }
    }
    fn event(self) -> Event {
        let misses = |which| Cache { which, operation: CacheOp::READ, result: CacheResult::MISS };
        match self {
            Kind::Cycles => Hardware::CPU_CYCLES.into(),
            Kind::Instructions => Hardware::INSTRUCTIONS.into(),
            Kind::DtlbMisses => misses(WhichCache::DTLB).into(),
            Kind::LlcMisses => Hardware::CACHE_MISSES.into(),
            Kind::BranchMisses => Hardware::BRANCH_MISSES.into(),
            Kind::PageFaults => Software::PAGE_FAULTS.into(),
            Kind::ContextSwitches => Software::CONTEXT_SWITCHES.into(),
            Kind::Migrations => Software::CPU_MIGRATIONS.into(),
            Kind::TaskClock => Software::TASK_CLOCK.into(),
        }
    }
    /// The kernel counts these while it runs itself.
    const fn is_the_kernels(self) -> bool {
        matches!(self, Kind::ContextSwitches | Kind::Migrations)
    }
}

/// A counter's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Events so far.
    pub(crate) value: u64,
    /// Nanoseconds for which it was wanted.
    pub(crate) enabled_ns: u64,
    /// Nanoseconds for which it had the hardware.
    pub(crate) running_ns: u64,
}

impl Count {
    /// What came since `before`.
    pub(crate) fn since(self, before: Count) -> Count {
        Count {
            value: self.value.saturating_sub(before.value),
            enabled_ns: self.enabled_ns.saturating_sub(before.enabled_ns),
            running_ns: self.running_ns.saturating_sub(before.running_ns),
        }
    }
    /// Both.
    pub(crate) fn add(&mut self, other: Count) {
        self.value += other.value;
        self.enabled_ns += other.enabled_ns;
        self.running_ns += other.running_ns;
    }
    /// What it would have counted with the hardware to itself; none if it never had it.
    pub(crate) fn scaled(self) -> Option<u64> {
        if self.running_ns == 0 {
            return None;
        }
        let scaled = u128::from(self.value) * u128::from(self.enabled_ns) / u128::from(self.running_ns);
        u64::try_from(scaled).ok()
    }
    /// For how much of the time it counted, in thousandths.
    pub(crate) fn running_permille(self) -> u64 {
        (1000 * self.running_ns).checked_div(self.enabled_ns).unwrap_or(0)
    }
}

/// Something that counts.
pub(crate) trait Source: Send {
    /// Its state.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self) -> io::Result<Count>;
}

impl Source for Counter {
    fn read(&mut self) -> io::Result<Count> {
        let c = self.read_count_and_time()?;
        Ok(Count { value: c.count, enabled_ns: c.time_enabled, running_ns: c.time_running })
    }
}

/// The counters of the calling thread.
pub(crate) struct Counters {
    open: Vec<(Kind, Box<dyn Source>)>,
    unavailable: BTreeMap<String, String>,
}

/// A state of every counter that is there.
pub(crate) type Counts = Vec<(Kind, Count)>;

impl Counters {
    /// Those that this machine grants.
    pub(crate) fn new() -> Counters {
        Counters::open_with(|kind| {
            let mut builder = Builder::new().kind(kind.event()).observe_self();
            if kind.is_the_kernels() {
                builder.include_kernel();
            }
            let mut counter = builder.build()?;
            counter.enable()?;
            Ok(Box::new(counter))
        })
    }
    /// None, without a reason of the machine's.
    pub(crate) fn none() -> Counters {
        Counters { open: Vec::new(), unavailable: BTreeMap::new() }
    }
    /// Those that `open` grants.
    fn open_with(mut open: impl FnMut(Kind) -> io::Result<Box<dyn Source>>) -> Counters {
        let mut counters = Counters::none();
        for kind in Kind::ALL {
            match open(kind) {
                Ok(source) => counters.open.push((kind, source)),
                Err(e) => {
                    counters.unavailable.insert(kind.name().to_owned(), reason(&e));
                }
            }
        }
        counters
    }
    /// Name and reason of those that are not.
    pub(crate) fn unavailable(&self) -> &BTreeMap<String, String> {
        &self.unavailable
    }
    /// The state of each; one that cannot be read is left out.
    pub(crate) fn read(&mut self) -> Counts {
        self.open.iter_mut().filter_map(|(kind, source)| Some((*kind, source.read().ok()?))).collect()
    }
}

/// In words, for people who can do something about it.
fn reason(e: &io::Error) -> String {
    let what = match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "not permitted (kernel.perf_event_paranoid, or a container's seccomp filter)"
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => {
            "not supported here (virtual machines often have no hardware counters)"
        }
        Some(libc::EINVAL) => "not known to this kernel or processor",
        Some(libc::EMFILE | libc::ENFILE) => "too many open files (ulimit -n)",
        Some(libc::ENOSYS) => "this kernel has no performance events",
        _ => return e.to_string(),
    };
    format!("{what}: {e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);
    impl Source for Fixed {
        fn read(&mut self) -> io::Result<Count> {
            self.0 += 100;
            Ok(Count { value: self.0, enabled_ns: 2 * self.0, running_ns: self.0 })
        }
    }

    #[test]
    fn each_refusal_is_a_reason_and_never_a_zero() {
        for (errno, word) in [
            (libc::EACCES, "perf_event_paranoid"),
            (libc::EPERM, "not permitted"),
            (libc::ENOENT, "not supported"),
            (libc::EOPNOTSUPP, "not supported"),
            (libc::EINVAL, "not known"),
            (libc::EMFILE, "too many open files"),
            (libc::ENOSYS, "no performance events"),
            (libc::ESRCH, "No such process"),
        ] {
            // One is granted, the others are not.
            let mut counters = Counters::open_with(|kind| match kind {
                Kind::TaskClock => Ok(Box::new(Fixed(0))),
                _ => Err(io::Error::from_raw_os_error(errno)),
            });
            assert_eq!(counters.unavailable().len(), Kind::ALL.len() - 1);
            for (name, reason) in counters.unavailable() {
                assert!(reason.contains(word), "{name}: {reason}");
            }
            let (before, after) = (counters.read(), counters.read());
            assert_eq!((before.len(), before[0].0), (1, Kind::TaskClock), "no reading of what was refused");
            assert_eq!(after[0].1.since(before[0].1).value, 100);
        }
    }

    #[test]
    fn a_counter_that_took_turns_is_scaled_and_one_that_never_ran_says_nothing() {
        let half = Count { value: 300, enabled_ns: 1000, running_ns: 500 };
        assert_eq!((half.scaled(), half.running_permille()), (Some(600), 500));
        let never = Count { value: 0, enabled_ns: 1000, running_ns: 0 };
        assert_eq!((never.scaled(), never.running_permille()), (None, 0));
        let mut sum = half;
        sum.add(Count { value: 100, enabled_ns: 1000, running_ns: 1000 });
        assert_eq!(sum, Count { value: 400, enabled_ns: 2000, running_ns: 1500 });
        // 1 GHz for a day does not overflow.
        let day = Count { value: 1 << 46, enabled_ns: 1 << 46, running_ns: 1 << 46 };
        assert_eq!(day.scaled(), Some(1 << 46));
    }

    #[test]
    fn this_machine_grants_or_says_why_not() {
        let mut counters = Counters::new();
        let before = counters.read();
        let mut touched = vec![0u8; 1 << 20];
        touched.iter_mut().step_by(4096).for_each(|b| *b = 1);
        std::hint::black_box(&touched);
        let after = counters.read();
        for kind in Kind::ALL {
            let granted = after.iter().any(|(k, _)| *k == kind);
            assert_ne!(granted, counters.unavailable().contains_key(kind.name()), "{kind:?}");
        }
        for ((kind, b), (_, a)) in before.iter().zip(&after) {
            if *kind == Kind::TaskClock {
                assert!(a.since(*b).value > 0);
            }
        }
    }
}
