//! What a launch brings to a group: its processors, its threads, its members.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use walker::backends;

use super::backend_member::MakeMember;
use super::clock::Clock;
use super::crew::Crew;
use super::limits::Limit;
use super::matrix::Group;
use super::member::{LimitMember, LoopMember, Member, NOOP, Plant};
use crate::os::pinning;
use crate::record::Control;

/// What the name of a backend's twin has behind the backend's, and how many per cent of its calls it does again.
pub(crate) const fn twin(control: Control) -> (&'static str, u64) {
    match control {
        Control::Aa => ("+aa", 0),
        Control::Planted => ("+3pct", 3),
    }
}

/// Who sits where: walkers from the last processor down, churn threads on those that are left, from the first again
/// where there are too few. The first processor, which serves most interrupts, comes last.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Vec<usize>);

impl Seats {
    /// On these processors, ascending.
    pub(crate) fn new(allowed: &[usize]) -> Seats {
        Seats(allowed.iter().rev().copied().collect())
    }
    fn from(&self, first: u32, nr: u32) -> Vec<usize> {
        (first..first + nr).filter_map(|i| self.0.get(i as usize % self.0.len().max(1)).copied()).collect()
    }
    /// Of the walkers.
    pub(crate) fn walkers(&self, walkers: u32) -> Vec<usize> {
        self.from(0, walkers)
    }
    /// Of the churn threads.
    pub(crate) fn churn(&self, walkers: u32, threads: u32) -> Vec<usize> {
        self.from(walkers, threads)
    }
    /// Whether threads share processors.
    pub(crate) fn are_shared(&self, walkers: u32, churn_threads: u32) -> bool {
        (walkers + churn_threads) as usize > self.0.len()
    }
}

/// A launch, as far as groups need to know it.
pub(crate) struct Launching {
    /// The clock of all spans.
    pub(crate) clock: Clock,
    /// Twins of every backend.
    pub(crate) control: Option<Control>,
    /// Who sits where.
    pub(crate) seats: Seats,
    /// Whether this thread stays where it was put.
    pub(crate) pinned: bool,
    crews: BTreeMap<u32, Arc<Crew>>,
}

impl Launching {
    /// Takes the first walker's seat. The clock is measured there.
    pub(crate) fn new(allowed: &[usize], control: Option<Control>) -> Launching {
        let seats = Seats::new(allowed);
        let pinned = seats.walkers(1).first().is_some_and(|cpu| pinning::pin(*cpu));
        Launching { clock: Clock::measure(), control, seats, pinned, crews: BTreeMap::new() }
    }
    /// Threads for so many walkers; none for one, which is the caller. Started once a launch.
    fn crew(&mut self, walkers: u32) -> Result<Option<Arc<Crew>>> {
        if walkers <= 1 {
            return Ok(None);
        }
        if let Some(crew) = self.crews.get(&walkers) {
            return Ok(Some(Arc::clone(crew)));
        }
        let crew = Arc::new(Crew::start(&self.seats.walkers(walkers))?);
        self.crews.insert(walkers, Arc::clone(&crew));
        Ok(Some(crew))
    }
    /// A backend as a member of a group, with what is planted in it.
    ///
    /// # Errors
    /// When threads cannot be started, or there is no such backend.
    pub(crate) fn member(&mut self, group: &Group, backend: &str, plant: Plant) -> Result<Box<dyn Member>> {
        let crew = self.crew(group.walkers)?;
        let plain = MakeMember::plain(group.call_pages, self.clock);
        let make = MakeMember { retry: group.definition.retry, crew, plant, ..plain };
        backends::dispatch(backend, make).with_context(|| format!("{backend}: no such backend"))
    }
    /// The members of a group: its backends, and their twins, the limits, and the harness itself.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub(crate) fn members(&mut self, group: &Group) -> Result<Vec<Box<dyn Member>>> {
        let (clock, call_pages) = (self.clock, group.call_pages);
        let crew = self.crew(group.walkers)?;
        let plain =
            MakeMember { retry: group.definition.retry, crew, ..MakeMember::plain(call_pages, clock) };
        let mut members: Vec<Box<dyn Member>> = Vec::new();
        for backend in &group.backends {
            members.extend(backends::dispatch(backend.id, plain.clone()));
            if let Some(control) = self.control {
                let (suffix, extra_percent) = twin(control);
                let plant = Plant { extra_percent, ..Plant::default() };
                let make = MakeMember { suffix, plant, ..plain.clone() };
                members.extend(backends::dispatch(backend.id, make));
            }
        }
        if !group.backends.iter().any(|b| b.id == NOOP) {
            members.extend(backends::dispatch(NOOP, plain));
        }
        for limit in Limit::ALL {
            members.push(Box::new(LimitMember::new(limit, call_pages, clock)));
        }
        members.push(Box::new(LoopMember(clock)));
        Ok(members)
    }
    /// What a reader of the group's figures must know about the launch.
    pub(crate) fn marks(&self, group: &Group) -> Vec<&'static str> {
        let churn_threads = group.churn.map_or(0, |c| c.threads);
        let crew_is_pinned = self.crews.get(&group.walkers).is_none_or(|c| c.pinned);
        let marks = [
            (!(self.pinned && crew_is_pinned), "unpinned"),
            (self.seats.are_shared(group.walkers, churn_threads), "shared_cpus"),
        ];
        marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_processors_of_their_own_while_there_are_any() {
        let two = Seats::new(&[0, 1]);
        assert_eq!((two.walkers(1), two.churn(1, 1)), (vec![1], vec![0]));
        assert_eq!((two.walkers(3), two.churn(3, 1)), (vec![1, 0, 1], vec![0]));
        assert!(!two.are_shared(1, 1) && two.are_shared(2, 1) && two.are_shared(3, 0));
        let eight = Seats::new(&[0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!((eight.walkers(2), eight.churn(2, 2)), (vec![14, 12], vec![10, 8]));
        let none = Seats::new(&[]);
        assert!(none.walkers(2).is_empty() && none.churn(1, 1).is_empty() && none.are_shared(1, 0));
    }

    #[test]
    fn a_processor_that_refuses_is_a_mark_and_no_error() {
        let seen = std::thread::spawn(|| {
            let mut launching = Launching::new(&[1 << 9], None);
            let group = Group::parse("dense_4k@2MiB/snapshot/512/none/2").unwrap();
            let members = launching.members(&group).unwrap();
            let names: Vec<String> = members.iter().map(|m| m.name().to_owned()).collect();
            (launching.marks(&group), names)
        });
        let (marks, names) = seen.join().unwrap();
        assert_eq!(marks, ["unpinned", "shared_cpus"]);
        assert_eq!(names, ["noop", "copy", "load", "decode", "fill", "chase", "loop"]);
    }
}
