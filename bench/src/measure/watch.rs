//! What happens to a thread while it works: involuntary context switches, and the counters.

use crate::os::counters::{Counters, Counts};
use crate::os::usage;

/// What a thread met with during a span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Times it lost the processor against its will; none if the kernel does not say.
    pub(crate) switches: Option<u64>,
    /// What the counters counted, where they were asked.
    pub(crate) counts: Counts,
}

impl Observed {
    /// What another thread met with in the same block.
    pub(crate) fn add(&mut self, other: Observed) {
        self.switches = self.switches.zip(other.switches).map(|(a, b)| a + b);
        if self.counts.is_empty() {
            self.counts = other.counts;
            return;
        }
        for (kind, count) in other.counts {
            if let Some((_, sum)) = self.counts.iter_mut().find(|(k, _)| *k == kind) {
                sum.add(count);
            }
        }
    }
}

/// Watches the thread that it lives on.
pub(crate) struct Watch {
    counters: Counters,
}

impl Watch {
    /// Opens the counters of the calling thread.
    pub(crate) fn new() -> Watch {
        Watch { counters: Counters::new() }
    }
    /// Without counters.
    pub(crate) fn without_counters() -> Watch {
        Watch { counters: Counters::none() }
    }
    /// The counters.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
    /// Watches `work`; reads the counters around it if `counting`. All of the watching lies outside of `work`.
    pub(crate) fn around<R>(&mut self, counting: bool, work: impl FnOnce() -> R) -> (R, Observed) {
        let counts = if counting { self.counters.read() } else { Counts::new() };
        let before = usage::involuntary_switches();
        let result = work();
        let after = usage::involuntary_switches();
        let counts = if counting { self.since(&counts) } else { Counts::new() };
        (result, Observed { switches: after.zip(before).map(|(a, b)| a.saturating_sub(b)), counts })
    }
    fn since(&mut self, before: &Counts) -> Counts {
        let now = self.counters.read();
        let both = now.into_iter().filter_map(|(kind, count)| {
            let (_, then) = before.iter().find(|(k, _)| *k == kind)?;
            Some((kind, count.since(*then)))
        });
        both.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::counters::{Count, Kind};

    #[test]
    fn threads_of_a_block_are_summed_and_what_one_cannot_say_nobody_can() {
        let count = |value| vec![(Kind::Cycles, Count { value, enabled_ns: 10, running_ns: 10 })];
        let mut sum = Observed { switches: Some(1), counts: count(5) };
        sum.add(Observed { switches: Some(2), counts: count(7) });
        assert_eq!((sum.switches, sum.counts[0].1.value), (Some(3), 12));
        sum.add(Observed { switches: None, counts: count(1) });
        assert_eq!(sum.switches, None);
    }
}
