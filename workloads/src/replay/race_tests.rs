//! Tests of races on the model: the recording of a kernel passes, and one with a planted difference does not.

use std::path::Path;

use super::machine;
use crate::conform::{Verdict, replay};
use crate::scenario::{
    AccessKind, Expected, Mark, Op, PmCode, RawCode, RawKind, Rle, Scenario, Wish, read_path,
};

fn recording() -> Vec<Scenario> {
    read_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("truth/races-22.jsonl.gz")).unwrap()
}

fn passes(scenario: &Scenario) -> bool {
    replay(scenario, machine).verdict == Verdict::Passed
}

/// Replaces one value.
fn with(list: &Rle<RawCode>, index: usize, code: RawCode) -> Option<Rle<RawCode>> {
    let mut values = list.to_vec();
    values[index] = code;
    Some(Rle::from_values(values))
}

/// Planted differences of a kind that are tried.
const ENOUGH: usize = 30;

/// Changes race after race, each in a copy of its own, where `plant` finds something to change: how many are refused, and the
/// names of those that are not.
fn refused(plant: impl Fn(&Scenario, usize) -> Option<Scenario>) -> (usize, Vec<String>) {
    let (mut refused, mut accepted) = (0, Vec::new());
    for scenario in &recording() {
        for step in 0..scenario.steps.len() {
            if !matches!(scenario.steps[step].op, Op::Race { .. }) {
                continue;
            }
            if refused + accepted.len() >= ENOUGH {
                break;
            }
            match plant(scenario, step) {
                Some(planted) if passes(&planted) => accepted.push(format!("{} step {step}", scenario.id)),
                Some(_) => refused += 1,
                None => {}
            }
        }
    }
    (refused, accepted)
}

fn changed(scenario: &Scenario, step: usize, out: Option<Rle<RawCode>>) -> Scenario {
    let mut planted = scenario.clone();
    planted.steps[step].expected.out = out;
    planted
}

#[test]
fn the_recording_passes() {
    for scenario in recording() {
        assert_eq!(replay(&scenario, machine).verdict, Verdict::Passed, "{}", scenario.id);
    }
}

#[test]
fn a_walk_that_wants_to_write_and_gets_no_more_than_reading_is_refused() {
    let (refused, accepted) = refused(|scenario, step| {
        let Op::Race { req: Wish::Write, .. } = scenario.steps[step].op else { return None };
        let out = scenario.steps[step].expected.out.as_ref()?;
        let page = out.len() / 2;
        let code = out.get(page).filter(|code| code.kind == RawKind::Write)?;
        Some(changed(scenario, step, with(out, page, RawCode { kind: RawKind::Read, ..code })))
    });
    assert!(refused > 20 && accepted.is_empty(), "{refused}, {accepted:?}");
}

#[test]
fn a_walk_that_wants_pages_and_gets_none_is_refused() {
    let (refused, accepted) = refused(|scenario, step| {
        let Op::Race { req: Wish::Read | Wish::Write, .. } = scenario.steps[step].op else { return None };
        let out = scenario.steps[step].expected.out.as_ref()?;
        Some(changed(scenario, step, with(out, out.len() - 1, RawCode::NONE)))
    });
    assert!(refused > 20 && accepted.is_empty(), "{refused}, {accepted:?}");
}

/// The page that the CPU has written last.
fn written_last(op: &Op) -> Option<u64> {
    let Op::Race { cpu, .. } = op else { return None };
    let last = cpu.0.last().filter(|access| access.kind == AccessKind::Write)?;
    last.pages().last()
}

#[test]
fn a_write_of_the_cpu_that_left_no_write_permission_is_refused() {
    let (refused, accepted) = refused(|scenario, step| {
        let page = written_last(&scenario.steps[step].op)? as usize;
        let raw = scenario.steps[step].expected.raw.as_ref()?;
        let code = raw.get(page).filter(|code| code.kind == RawKind::Write)?;
        let mut planted = scenario.clone();
        planted.steps[step].expected.raw = with(raw, page, RawCode { kind: RawKind::Read, ..code });
        Some(planted)
    });
    assert!(refused > 20 && accepted.is_empty(), "{refused}, {accepted:?}");
}

/// Pages that could be read before the race, and were answered as writable to a walk that wants to read.
fn seen_written(scenario: &Scenario, step: usize) -> Option<usize> {
    let Op::Race { span, req: Wish::Read | Wish::None, .. } = &scenario.steps[step].op else { return None };
    let before = scenario.steps[step.checked_sub(1)?].expected.raw.as_ref()?;
    let out = scenario.steps[step].expected.out.as_ref()?;
    (0..out.len()).find(|&index| {
        let was = before.get(span.off as usize + index).map(|code| code.kind);
        was == Some(RawKind::Read) && out.get(index).is_some_and(|code| code.kind == RawKind::Write)
    })
}

#[test]
fn a_walk_that_was_over_before_the_cpu_began_has_seen_no_write_of_it() {
    let (refused, accepted) = refused(|scenario, step| {
        seen_written(scenario, step)?;
        let mut planted = scenario.clone();
        planted.steps[step].expected.began = Some(0);
        planted.steps[step].expected.ended = Some(0);
        Some(planted)
    });
    assert!(refused > 3 && accepted.is_empty(), "{refused}, {accepted:?}");
}

/// A COW break is an event over the range: of two pages that the CPU wrote one after the other, a call that has seen the
/// second one written has seen the first one so too, wherever they are.
#[test]
fn an_answer_that_an_event_has_made_void_is_refused() {
    let (refused, accepted) = refused(|scenario, step| {
        let Op::Race { span, cpu, .. } = &scenario.steps[step].op else { return None };
        seen_written(scenario, step)?;
        let [writes] = cpu.0[..] else { return None };
        let Expected { raw: Some(before), pm: Some(pm), .. } = &scenario.steps[step - 1].expected else {
            return None;
        };
        let out = scenario.steps[step].expected.out.as_ref()?;
        let index = |page: u64| page.checked_sub(span.off).filter(|i| *i < span.len).map(|i| i as usize);
        // Small pages that were there and others had too, so that every write was a break; a page of one's own is reused
        // without an event.
        let is_broken = |page: u64| {
            let (was, is) = (before.get(page as usize)?, out.get(index(page)?)?);
            let is_shared = was.kind == RawKind::Read
                && was.order == 0
                && !pm.get(page as usize)?.contains(PmCode::EXCLUSIVE);
            Some(is_shared && is.kind == RawKind::Write)
        };
        let broken: Vec<u64> = writes.pages().filter(|page| is_broken(*page) == Some(true)).collect();
        let [first, _, ..] = broken[..] else { return None };
        Some(changed(scenario, step, with(out, index(first)?, RawCode::new(RawKind::Read, 0, Mark::None))))
    });
    assert!(refused > 3 && accepted.is_empty(), "{refused}, {accepted:?}");
}
