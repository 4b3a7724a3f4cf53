//! Tests of orders with answers made by hand: a walk of pages 0 and 1, which the CPU writes.

use super::*;
use crate::scenario::RawKind;

const SPAN: Span = Span { off: 0, len: 2 };
const BEFORE: RawCode = RawCode::new(RawKind::Read, 0, crate::scenario::Mark::None);
const BEHIND: RawCode = RawCode::new(RawKind::Write, 0, crate::scenario::Mark::None);

fn orders(cpu: &str, unit: u64) -> Orders {
    Orders::new(SPAN, &Accesses::parse(cpu).unwrap(), 0, unit)
}

fn answers(out: [RawCode; 2]) -> Vec<Seen> {
    out.map(|out| Seen { out: Some(out), ..Seen::default() }).to_vec()
}

/// Both pages are read-only before their writes, which are events or not, and writable behind them.
fn trials(events: bool) -> [Trial; 2] {
    let trial = |position, out| Trial {
        positions: vec![position],
        seen: answers([out; 2]),
        invalidating: vec![events; 2],
    };
    [trial(0, BEFORE), trial(2, BEHIND)]
}

fn explained(cpu: &str, events: bool, out: [RawCode; 2], (began, ended): (u64, u64)) -> bool {
    let recorded = Recorded { pages: answers(out), began, ended };
    orders(cpu, 1).explain(&trials(events), &recorded).is_some()
}

#[test]
fn pages_are_visited_in_ascending_order() {
    let all = (0, 2);
    for out in [[BEFORE; 2], [BEHIND; 2], [BEHIND, BEFORE], [BEFORE, BEHIND]] {
        assert!(explained("w0+2", false, out, all), "{out:?}");
    }
    // Page 1 is written first: who has seen page 0 written comes too late to see page 1 unwritten.
    assert!(!explained("w0-2", false, [BEHIND, BEFORE], all));
    assert!(explained("w0-2", false, [BEFORE, BEHIND], all));
}

#[test]
fn no_call_goes_on_over_an_event() {
    let all = (0, 2);
    // Between its visits page 0 is written.
    assert!(!explained("w0+2", true, [BEFORE, BEHIND], all));
    assert!(explained("w0+2", true, [BEHIND, BEFORE], all));
    assert!(explained("w0-2", true, [BEFORE, BEHIND], all));
}

#[test]
fn a_visit_is_between_what_was_over_and_what_had_not_begun() {
    assert!(!explained("w0+2", false, [BEHIND; 2], (0, 1)));
    assert!(explained("w0+2", false, [BEHIND, BEFORE], (1, 1)));
    assert!(!explained("w0+2", false, [BEFORE; 2], (1, 2)));
    assert!(!explained("w0+2", false, [BEHIND, BEFORE], (0, 0)));
}

#[test]
fn an_answer_of_neither_is_refused_whatever_the_order() {
    assert!(!explained("w0+2", false, [RawCode::NONE, BEFORE], (0, 2)));
    let recorded = Recorded { pages: answers([RawCode::NONE, BEFORE]), began: 0, ended: 2 };
    // The page that is like none is shown as it is behind all accesses.
    assert_eq!(orders("w0+2", 1).nearest(&trials(false), &recorded), [1, 0]);
}

#[test]
fn a_visit_in_vain_is_not_before_the_walk_began() {
    let mut late = trials(false)[1].clone();
    late.positions = vec![0, 2];
    let recorded = |began| Recorded { pages: answers([BEHIND; 2]), began, ended: 2 };
    assert!(orders("w0+2", 1).explain(std::slice::from_ref(&late), &recorded(0)).is_some());
    assert!(orders("w0+2", 1).explain(&[late], &recorded(2)).is_none());
}

#[test]
fn the_first_access_to_a_unit_comes_before_those_of_its_other_pages() {
    let orders = orders("w0-2", 512);
    let [down] = orders.accesses[..] else { panic!("one access") };
    assert_eq!([0, 1].map(|page| orders.is_first(&down, page)), [false, true]);
    assert_eq!([0, 1, 2].map(|position| orders.times(0, position)), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!([0, 1, 2].map(|position| orders.times(1, position)), [(0, 0), (1, 2), (1, 2)]);
    assert_eq!(orders.positions(2), [[0, 1], [0, 2], [1, 2]]);
    assert_eq!(self::orders("w0-2", 1).positions(1), [[0], [2]]);
}
