//! Orders of a walk and of accesses at the same time, and which of them makes what was recorded.
//!
//! The accesses of the CPU come one after another; each touches one page ([`Atom`]). `hmm_range_fault` visits pages in
//! ascending order, faults what lacks and begins again when an event hits its range, so a page is visited once or several
//! times, and the last visit is the answer. An order says where among the accesses the visits of each page are. It
//! counts if
//!
//! * each page answered, and was in the end, what the model makes of its own visits and accesses in that order;
//! * the last visits of the pages are in ascending order, as a call makes them;
//! * no access between the first and the last of these invalidates anything of the range: the call would have been void;
//! * no visit is before the accesses that were over when the walk began (`began`), and no last visit behind those that had
//!   not begun when it ended (`ended`).
//!
//! Pages of a unit are one where the first access to one of them changes all: a huge page that is made or split, the 16
//! pages that a fault of a file maps. Units are tried from 1 page up, and a page is visited before the first access to
//! its unit, behind it, or behind the access to itself.

use crate::scenario::{Access, Accesses, PmCode, RawCode, ScanCode, Span};

/// One page of one access, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    pub(super) page: u64,
}

/// What a page answered and was in the end; what was not recorded is nothing, and like everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) out: Option<RawCode>,
    pub(super) raw: Option<RawCode>,
    pub(super) pm: Option<PmCode>,
    pub(super) scan: Option<ScanCode>,
}

impl Seen {
    fn is_like(&self, recorded: &Seen) -> bool {
        fn same<T: PartialEq>(got: Option<T>, recorded: Option<T>) -> bool {
            recorded.is_none() || got == recorded
        }
        same(self.out, recorded.out)
            && same(self.raw, recorded.raw)
            && same(self.pm, recorded.pm)
            && same(self.scan, recorded.scan)
    }
}

/// What was recorded of the pages of the walk, and of when it was.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) pages: Vec<Seen>,
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// What the model makes of it if all pages are visited at the same positions: `2 * n` before access `n`, `2 * n + 1` behind
/// the first page of each unit of it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Ascending; the last one is that of the answer.
    pub(super) positions: Vec<usize>,
    pub(super) seen: Vec<Seen>,
    /// Of every atom, whether it was an event over the range of the walk.
    pub(super) invalidating: Vec<bool>,
}

/// A trial that a page is like, and after how many atoms its last visit can be.
struct Choice {
    trial: usize,
    least: u64,
    most: u64,
}

/// The orders of one race.
pub(super) struct Orders {
    pub(super) atoms: Vec<Atom>,
    span: Span,
    accesses: Vec<Access>,
    /// The first atom of each access.
    starts: Vec<usize>,
    /// Number of the window's first page in the address space.
    base: u64,
    unit: u64,
}

impl Orders {
    /// Pages that a first access can change at once.
    pub(super) const UNITS: [u64; 3] = [1, 16, 512];
    /// Visits of a page: two in vain and one that counts.
    pub(super) const MOST_WALKS: usize = 3;

    pub(super) fn new(span: Span, cpu: &Accesses, base: u64, unit: u64) -> Self {
        let mut atoms = Vec::new();
        let mut starts = Vec::new();
        for access in &cpu.0 {
            starts.push(atoms.len());
            atoms.extend(access.pages().map(|page| Atom { page }));
        }
        Self { atoms, span, accesses: cpu.0.clone(), starts, base, unit }
    }

    /// The atom of a page of an access.
    pub(super) fn atom_of(&self, access: usize, page: u64) -> usize {
        let Access { span, down, .. } = self.accesses[access];
        let index = if down { span.end() - 1 - page } else { page - span.off };
        self.starts[access] + index as usize
    }

    /// The page of `page`'s unit that an access comes to first.
    fn first_of(&self, access: &Access, page: u64) -> Option<u64> {
        let start = ((self.base + page) / self.unit * self.unit).saturating_sub(self.base);
        let end = (self.base + page) / self.unit * self.unit + self.unit - self.base;
        let (first, last) = (start.max(access.span.off), end.min(access.span.end()));
        (first < last).then(|| if access.down { last - 1 } else { first })
    }

    pub(super) fn is_first(&self, access: &Access, page: u64) -> bool {
        self.first_of(access, page) == Some(page)
    }

    /// Every choice of `size` positions.
    pub(super) fn positions(&self, size: usize) -> Vec<Vec<usize>> {
        let all: Vec<usize> =
            (0..=2 * self.accesses.len()).filter(|position| position % 2 == 0 || self.unit > 1).collect();
        let mut chosen: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in 0..size {
            chosen = chosen
                .into_iter()
                .flat_map(|some| {
                    let behind = some.last().map_or(0, |last| last + 1);
                    let next: Vec<Vec<usize>> = all
                        .iter()
                        .filter(|position| **position >= behind)
                        .map(|position| [&some[..], &[*position]].concat())
                        .collect();
                    next
                })
                .collect();
        }
        chosen
    }

    /// After how many atoms a visit of `page` at a position can be: at least, at most.
    fn times(&self, page: u64, position: usize) -> (u64, u64) {
        let (mut least, mut most) = (0, self.atoms.len() as u64);
        for (index, access) in self.accesses.iter().enumerate() {
            let Some(first) = self.first_of(access, page) else { continue };
            let nth = |page| self.atom_of(index, page) as u64 + 1;
            let own = (access.span.off..access.span.end()).contains(&page).then(|| nth(page));
            if position >= 2 * index + 2 {
                least = least.max(own.unwrap_or_else(|| nth(first)));
            } else if position == 2 * index + 1 {
                least = least.max(nth(first));
                if let Some(own) = own.filter(|own| *own != nth(first)) {
                    most = most.min(own - 1);
                }
            } else {
                most = most.min(nth(first) - 1);
            }
        }
        (least, most)
    }

    /// The trials that a page is like, as far as the recorded times allow them.
    fn choices(&self, trials: &[Trial], recorded: &Recorded) -> Vec<Vec<Choice>> {
        let of_page = |index: usize| {
            let page = self.span.off + index as u64;
            let may_be = |(number, trial): (usize, &Trial)| {
                let (first, last) = (*trial.positions.first()?, *trial.positions.last()?);
                let (least, most) = self.times(page, last);
                let (least, most) = (least.max(recorded.began), most.min(recorded.ended));
                let begins_in_time = self.times(page, first).1 >= recorded.began;
                let is_like = trial.seen.get(index).is_some_and(|seen| seen.is_like(&recorded.pages[index]));
                (is_like && begins_in_time && least <= most).then_some(Choice { trial: number, least, most })
            };
            trials.iter().enumerate().filter_map(may_be).collect()
        };
        (0..self.span.len as usize).map(of_page).collect()
    }

    /// For every page the trial that it is like, in an order that counts.
    pub(super) fn explain(&self, trials: &[Trial], recorded: &Recorded) -> Option<Vec<usize>> {
        let choices = self.choices(trials, recorded);
        if choices.iter().any(Vec::is_empty) {
            return None;
        }
        // The last call can begin right behind any event, or with the walk.
        let may_be_event = |atom: u64| trials.iter().any(|trial| trial.invalidating[atom as usize - 1]);
        let last = recorded.ended.min(self.atoms.len() as u64);
        let starts = (recorded.began + 1..=last).filter(|atom| may_be_event(*atom));
        std::iter::once(recorded.began)
            .chain(starts)
            .find_map(|start| self.explain_from(start, &choices, trials))
    }

    /// With a last call that begins behind `start` atoms: each page as early as it can be.
    fn explain_from(&self, start: u64, choices: &[Vec<Choice>], trials: &[Trial]) -> Option<Vec<usize>> {
        let mut now = start;
        let mut chosen = Vec::with_capacity(choices.len());
        for (index, choices) in choices.iter().enumerate() {
            let page = self.span.off + index as u64;
            let hits = |trial: &Trial, until: u64| {
                (0..self.accesses.len())
                    .filter(|access| {
                        (self.accesses[*access].span.off..self.accesses[*access].span.end()).contains(&page)
                    })
                    .map(|access| self.atom_of(access, page))
                    .any(|atom| (start..until).contains(&(atom as u64)) && trial.invalidating[atom])
            };
            let best = choices
                .iter()
                .map(|choice| (now.max(choice.least), choice))
                .filter(|(time, choice)| *time <= choice.most)
                .min_by_key(|(time, choice)| (*time, hits(&trials[choice.trial], *time)))?;
            now = best.0;
            chosen.push(best.1.trial);
        }
        let is_event = |atom: u64| {
            let page = self.atoms[atom as usize].page;
            let index = page.checked_sub(self.span.off).filter(|index| *index < self.span.len).unwrap_or(0);
            chosen.get(index as usize).is_some_and(|trial| trials[*trial].invalidating[atom as usize])
        };
        (!(start..now).any(is_event)).then_some(chosen)
    }

    /// For every page a trial that it is like, whatever the order; else all accesses first.
    pub(super) fn nearest(&self, trials: &[Trial], recorded: &Recorded) -> Vec<usize> {
        let behind = |trial: &Trial| trial.positions == [2 * self.accesses.len()];
        let fallback = trials.iter().position(behind).unwrap_or(0);
        let is_like = |index: usize| {
            move |trial: &Trial| {
                trial.seen.get(index).is_some_and(|seen| seen.is_like(&recorded.pages[index]))
            }
        };
        (0..self.span.len as usize)
            .map(|index| trials.iter().position(is_like(index)).unwrap_or(fallback))
            .collect()
    }
}

#[cfg(test)]
mod tests;
