//! A walk on one processor while another one accesses the same memory: is what the kernel answered what some order of the
//! two gives?
//!
//! `super::race_order` says what an order is and finds one; here the model does things in the orders that are asked for.
//! An order that was found is then done on the machine itself, page by page, so that everything the recording holds is
//! compared with it as with any other step.

use std::sync::Arc;

use super::race_order::{Orders, Recorded, Seen, Trial};
use super::{ModelMachine, Private, machine};
use crate::conform::{Applied, Machine as _, Observation};
use crate::scenario::{
    Access, AccessKind, Accesses, Advice, Expected, Op, RawCode, Rle, Scenario, Span, Wish,
};

/// How to come to where a machine is once more.
pub(super) struct History {
    scenario: Scenario,
    /// The step that is next.
    pub(super) next: usize,
    /// What was done, races as the operations that they were taken for.
    pub(super) done: Vec<Op>,
}

impl History {
    /// That of a scenario that needs one.
    pub(super) fn of(scenario: &Scenario) -> Option<History> {
        let has_races = scenario.steps.iter().any(|step| matches!(step.op, Op::Race { .. }));
        has_races.then(|| History { scenario: scenario.clone(), next: 0, done: Vec::new() })
    }

    fn expected(&self) -> Expected {
        self.scenario.steps.get(self.next).map(|step| step.expected.clone()).unwrap_or_default()
    }
}

/// A race as it was asked for.
#[derive(Clone, Copy)]
pub(super) struct Race<'a> {
    pub(super) span: Span,
    pub(super) req: Wish,
    pub(super) cpu: &'a Accesses,
}

/// One access to some pages, none of which is another's first.
fn operation(kind: AccessKind, span: Span) -> Op {
    match kind {
        AccessKind::Read => Op::Read { span, step: 1 },
        AccessKind::Write => Op::Write { span, step: 1 },
        AccessKind::DontNeed => Op::Madvise { span, advice: Advice::Dontneed },
        AccessKind::ChildWrite => Op::ChildWrite { span },
    }
}

/// Ranges of pages, each as long as it can be, of ascending pages.
fn runs(pages: impl Iterator<Item = u64>) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run) if run.end() == page => run.len += 1,
            _ => runs.push(Span { off: page, len: 1 }),
        }
    }
    runs
}

/// The two parts of an access: the first page of every unit, then the others. A system call has one.
fn parts(access: &Access, orders: &Orders) -> [Vec<u64>; 2] {
    if access.kind == AccessKind::DontNeed {
        return [access.pages().collect(), Vec::new()];
    }
    let (first, rest) = access.pages().partition(|page| orders.is_first(access, *page));
    [first, rest]
}

impl ModelMachine {
    /// The same machine once more, as it is now.
    fn again(&self) -> Option<ModelMachine> {
        let history = self.history.as_ref()?;
        let mut again = machine(&history.scenario).ok()?;
        again.history = None;
        for op in &history.done {
            again.run(op);
        }
        Some(again)
    }

    /// What comes out if all pages are walked at these positions.
    fn attempt(&self, race: Race<'_>, orders: &Orders, positions: &[usize]) -> Option<Trial> {
        let mut model = self.again()?;
        let ops = Arc::new(Private(std::sync::Mutex::new(())));
        let listener = model.mm.notifier.insert(model.range(race.span), ops);
        let mut invalidating = vec![false; orders.atoms.len()];
        let mut out = Vec::new();
        let mut walk = |model: &mut ModelMachine, position| {
            if positions.contains(&position) {
                let walked = model.run(&Op::Fault { span: race.span, req: race.req });
                out = walked.out.unwrap_or_default();
            }
        };
        for (index, access) in race.cpu.0.iter().enumerate() {
            walk(&mut model, 2 * index);
            for (part, pages) in parts(access, orders).into_iter().enumerate() {
                if part == 1 {
                    walk(&mut model, 2 * index + 1);
                }
                // A system call is one event.
                let whole = (access.kind == AccessKind::DontNeed).then_some(access.span);
                let spans: Vec<Span> = match whole {
                    Some(span) if part == 0 => vec![span],
                    Some(_) => Vec::new(),
                    None => pages.iter().map(|&page| Span { off: page, len: 1 }).collect(),
                };
                for span in spans {
                    let seq = model.mm.notifier.read_begin(&listener);
                    model.run(&operation(access.kind, span));
                    let hit = listener.read_retry(seq);
                    for page in span.off..span.end() {
                        invalidating[orders.atom_of(index, page)] |= hit;
                    }
                }
            }
        }
        walk(&mut model, 2 * race.cpu.0.len());
        model.mm.notifier.remove(&listener);
        let seen = model.observe();
        Some(Trial {
            positions: positions.to_vec(),
            seen: page_by_page(race.span, &out, &seen),
            invalidating,
        })
    }

    /// The walk and the accesses in an order that makes what was recorded, where there is one.
    pub(super) fn race(&mut self, race: Race<'_>) -> Applied {
        let Some(expected) = self.history.as_ref().map(History::expected) else {
            return Applied::unsupported("a race outside a scenario");
        };
        let recorded = Recorded {
            pages: recorded_pages(race.span, &expected),
            began: expected.began.unwrap_or(0),
            ended: expected.ended.unwrap_or(u64::MAX),
        };
        let mut best: Option<(Orders, Vec<Trial>, Vec<usize>)> = None;
        for unit in Orders::UNITS {
            let orders =
                Orders::new(race.span, race.cpu, self.base.pages_since(walker::addr::VirtAddr::new(0)), unit);
            let mut trials = Vec::new();
            for size in 1..=Orders::MOST_WALKS {
                for positions in orders.positions(size) {
                    match self.attempt(race, &orders, &positions) {
                        Some(trial) => trials.push(trial),
                        None => {
                            return Applied::unsupported(
                                "a race needs the machine again, and there is no room",
                            );
                        }
                    }
                }
                if let Some(chosen) = orders.explain(&trials, &recorded) {
                    return self.in_order(race, &orders, &trials, &chosen, true);
                }
            }
            let chosen = orders.nearest(&trials, &recorded);
            best.get_or_insert((orders, trials, chosen));
        }
        match best {
            Some((orders, trials, chosen)) => self.in_order(race, &orders, &trials, &chosen, false),
            None => Applied::unsupported("a race without an order"),
        }
    }

    /// Does it: every page is walked where its trial was.
    fn in_order(
        &mut self,
        race: Race<'_>,
        orders: &Orders,
        trials: &[Trial],
        chosen: &[usize],
        is_explained: bool,
    ) -> Applied {
        let mut all =
            Applied { segv: Some(0), bus: Some(0), order: Some(is_explained.into()), ..Applied::default() };
        let mut out = vec![RawCode::UNTOUCHED; race.span.len as usize];
        let mut failed_at = u64::MAX;
        let last = 2 * race.cpu.0.len();
        for position in 0..=last {
            let pages = (race.span.off..race.span.end())
                .zip(chosen)
                .filter(|(_, trial)| trials[**trial].positions.contains(&position))
                .map(|(page, _)| page);
            for run in runs(pages) {
                let walked = self.logged(&Op::Fault { span: run, req: race.req });
                let codes = walked.out.unwrap_or_default();
                // Where it stopped, or nowhere.
                if walked.ret != 0 && run.off < failed_at {
                    (all.ret, failed_at) = (walked.ret, run.off);
                }
                let at = (run.off - race.span.off) as usize;
                out[at..at + codes.len()].copy_from_slice(&codes);
            }
            if position == last {
                break;
            }
            let access = &race.cpu.0[position / 2];
            let [first, rest] = parts(access, orders);
            let mut pages = if position % 2 == 0 { first } else { rest };
            pages.sort_unstable();
            for span in runs(pages.into_iter()) {
                let touched = self.logged(&operation(access.kind, span));
                all.segv = all.segv.zip(touched.segv).map(|(a, b)| a + b).or(all.segv);
                all.bus = all.bus.zip(touched.bus).map(|(a, b)| a + b).or(all.bus);
            }
        }
        // By the time the recorder could look for a mark, another page may be there.
        all.out = Some(out.into_iter().map(RawCode::unmarked).collect());
        all
    }

    /// Runs an operation that belongs to how this machine came to be.
    pub(super) fn logged(&mut self, op: &Op) -> Applied {
        let applied = self.run(op);
        if let Some(history) = &mut self.history {
            history.done.push(op.clone());
        }
        applied
    }
}

/// What every page of the walk answered and was in the end, all that `conform` compares of it.
fn page_by_page(span: Span, out: &[RawCode], seen: &Observation) -> Vec<Seen> {
    (span.off as usize..span.end() as usize)
        .zip(out)
        .map(|(page, out)| Seen {
            out: Some(out.unmarked()),
            raw: seen.raw.get(page).copied(),
            pm: seen.pm.get(page).copied(),
            scan: seen.scan.as_ref().and_then(|scan| scan.get(page).copied()),
        })
        .collect()
}

fn recorded_pages(span: Span, expected: &Expected) -> Vec<Seen> {
    (0..span.len as usize)
        .map(|index| {
            let page = span.off as usize + index;
            Seen {
                out: expected.out.as_ref().and_then(|list| list.get(index)),
                raw: expected.raw.as_ref().and_then(|list| list.get(page)),
                pm: expected.pm.as_ref().and_then(|list| list.get(page)),
                scan: expected.scan.as_ref().and_then(|list: &Rle<_>| list.get(page)),
            }
        })
        .collect()
}
