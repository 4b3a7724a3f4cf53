//! Tests of the comparison: the control passes everywhere, and each mutation of a recording is found.

use std::path::Path;

use super::*;
use crate::scenario::{Expected, Rle, Scenario, parse_line, read_path};

/// Two steps; the first has every field.
const LINE: &str = concat!(
    r#"{"id":"x","npages":600,"dev1":1,"steps":[{"op":"hfault","off":0,"len":600,"ret":-14,"calls":2,"#,
    r#""out":"12*W,588*u","raw":"12*W,588*R9","snapshot":"12*02,588*05","snapshot1":"600*00","#,
    r#""pm":"12*PX,588*PD","scan":"600*8a","vma":"0+600:rw-p","segv":1,"bus":2,"cpages":3,"waited":1,"faults":4,"order":1},"#,
    r#"{"op":"file","size":4,"ret":0}]}"#
);

fn scenario() -> Scenario {
    parse_line(LINE, Path::new("x"), 1).unwrap()
}

/// Replays the scenario after `mutate` on the echo of the scenario before it.
fn replay_mutated(mutate: impl FnOnce(&mut Expected)) -> ScenarioOutcome {
    let original = scenario();
    let mut mutated = original.clone();
    mutate(&mut mutated.steps[0].expected);
    replay(&mutated, |_| Ok(Echo::new(&original)))
}

fn difference(outcome: &ScenarioOutcome) -> &Difference {
    match &outcome.verdict {
        Verdict::Differs(difference) => difference,
        other => panic!("expected a difference, got {other:?}"),
    }
}

/// Replaces page 12 of a list.
fn change<T: Copy + PartialEq>(list: &mut Option<Rle<T>>, code: T) {
    let mut values = list.as_ref().unwrap().to_vec();
    values[12] = code;
    *list = Some(Rle::from_values(values));
}

/// An echo that does something else at one place.
struct Odd {
    echo: Echo,
    apply: fn(Applied) -> Applied,
    observe: fn(Observation) -> Observation,
}

impl Odd {
    fn new() -> Self {
        Self { echo: Echo::new(&scenario()), apply: |applied| applied, observe: |observation| observation }
    }
}

impl Machine for Odd {
    fn apply(&mut self, op: &Op) -> Applied {
        (self.apply)(self.echo.apply(op))
    }

    fn observe(&mut self) -> Observation {
        (self.observe)(self.echo.observe())
    }
}

#[test]
fn the_echo_of_every_recording_passes_and_every_field_is_compared() {
    let mut fields = FieldTable::default();
    let mut steps = 0;
    for name in [
        "hand",
        "nasty",
        "snapshot",
        "fault",
        "dev",
        "scenarios-1",
        "dev-8",
        "held-8",
        "waits-11",
        "races-22",
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("truth/{name}.jsonl.gz"));
        for scenario in read_path(&file).unwrap() {
            let outcome = replay(&scenario, |scenario| Ok(Echo::new(scenario)));
            assert_eq!(outcome.verdict, Verdict::Passed, "{name} {}", scenario.id);
            steps += outcome.steps;
            fields.merge(&outcome.fields);
        }
    }
    assert_eq!(steps, 34_890);
    for (field, counts) in fields.iter() {
        assert!(counts.compared > 0, "{field} was never compared");
        assert_eq!(counts.differ, 0, "{field}");
    }
}

#[test]
fn one_mutation_of_each_field_is_one_difference_of_that_field() {
    type Mutation = (Field, fn(&mut Expected));
    let mutations: [Mutation; Field::ALL.len()] = [
        (Field::Ret, |expected| expected.ret = 0),
        (Field::Segv, |expected| expected.segv = Some(9)),
        (Field::Bus, |expected| expected.bus = Some(9)),
        (Field::Calls, |expected| expected.calls = Some(9)),
        (Field::Cpages, |expected| expected.cpages = Some(9)),
        (Field::Waited, |expected| expected.waited = Some(0)),
        (Field::Faults, |expected| expected.faults = Some(9)),
        (Field::Order, |expected| expected.order = Some(0)),
        (Field::Out, |expected| change(&mut expected.out, RawCode::ERROR)),
        (Field::Raw, |expected| change(&mut expected.raw, RawCode::NONE)),
        (Field::Snapshot, |expected| change(&mut expected.snapshot, SnapshotCode(0))),
        (Field::Snapshot1, |expected| change(&mut expected.snapshot1, SnapshotCode(1))),
        (Field::Vma, |expected| expected.vma.as_mut().unwrap()[0].perms.shared = true),
        (Field::Pm, |expected| change(&mut expected.pm, PmCode::SWAPPED.with(PmCode::SOFT_DIRTY))),
        (Field::SoftDirty, |expected| change(&mut expected.pm, PmCode::PRESENT)),
        (Field::Scan, |expected| change(&mut expected.scan, ScanCode::NotReported)),
    ];
    for (index, (field, mutate)) in mutations.into_iter().enumerate() {
        assert_eq!(field, Field::ALL[index]);
        let outcome = replay_mutated(mutate);
        let difference = difference(&outcome);
        assert_eq!((difference.field, difference.step, difference.differing), (field, 0, 1));
        for (other, counts) in outcome.fields.iter() {
            assert_eq!(counts.differ, u64::from(other == field), "{other} after a mutation of {field}");
        }
    }
}

#[test]
fn each_letter_of_pm_is_compared_and_x_only_below_1_gib() {
    let replay_letter = |letter, giga, pud| {
        let mut original = scenario();
        original.giga = giga;
        if pud {
            let raw = RawCode { order: 18, ..RawCode::ERROR };
            original.steps[0].expected.raw = Some(Rle::from_values(std::iter::repeat_n(raw, 600)));
        }
        let mut mutated = original.clone();
        change(&mut mutated.steps[0].expected.pm, PmCode::PRESENT.with(PmCode::SOFT_DIRTY).with(letter));
        replay(&mutated, |_| Ok(Echo::new(&original))).verdict == Verdict::Passed
    };
    for letter in [PmCode::SWAPPED, PmCode::FILE, PmCode::UFFD_WP, PmCode::EXCLUSIVE] {
        assert!(!replay_letter(letter, false, false), "{letter}");
    }
    for (giga, pud) in [(true, false), (false, true)] {
        assert!(replay_letter(PmCode::EXCLUSIVE, giga, pud));
        assert!(!replay_letter(PmCode::FILE, giga, pud));
    }
}

#[test]
fn what_the_machine_does_not_keep_and_the_recording_leaves_out_is_not_compared() {
    let machine = Odd { observe: |shown| Observation { scan: None, pm: shown.pm, ..shown }, ..Odd::new() };
    let outcome = replay(&scenario(), |_| Ok(machine));
    assert_eq!(outcome.verdict, Verdict::Passed);
    assert_eq!(outcome.fields.get(Field::Scan).compared, 0);
    assert_eq!(outcome.fields.get(Field::SoftDirty).compared, 0);
    assert_eq!(outcome.fields.get(Field::Pm).compared, 600);
    let outcome =
        replay_mutated(|expected| *expected = Expected { ret: expected.ret, ..Expected::default() });
    assert_eq!(outcome.verdict, Verdict::Passed);
    assert_eq!(outcome.fields.iter().map(|(_, counts)| counts.compared).sum::<u64>(), 2);
}

#[test]
fn what_the_machine_leaves_out_or_adds_to_a_list_differs() {
    let cases: [(Field, Odd); 4] = [
        (Field::Calls, Odd { apply: |applied| Applied { calls: None, ..applied }, ..Odd::new() }),
        (Field::Out, Odd { apply: |applied| Applied { out: None, ..applied }, ..Odd::new() }),
        (Field::Snapshot1, Odd { observe: |shown| Observation { snapshot1: None, ..shown }, ..Odd::new() }),
        (
            Field::Raw,
            Odd {
                observe: |mut shown| {
                    shown.raw.push(RawCode::NONE);
                    shown
                },
                ..Odd::new()
            },
        ),
    ];
    for (field, machine) in cases {
        let outcome = replay(&scenario(), |_| Ok(machine));
        assert_eq!(difference(&outcome).field, field);
    }
}

#[test]
fn neighbours_of_equal_permissions_are_joined_before_comparing() {
    let machine = Odd {
        observe: |mut shown| {
            let whole = shown.vma[0];
            let (first, rest) = (VmaRange { len: 5, ..whole }, VmaRange { off: 5, len: 595, ..whole });
            shown.vma = vec![first, rest];
            shown
        },
        ..Odd::new()
    };
    assert_eq!(replay(&scenario(), |_| Ok(machine)).verdict, Verdict::Passed);
}

#[test]
fn a_difference_shows_the_first_page_its_neighbours_and_the_list() {
    let outcome = replay_mutated(|expected| change(&mut expected.raw, RawCode::NONE));
    let difference = difference(&outcome);
    assert_eq!((difference.op.as_str(), difference.page), ("hfault off=0 len=600 req=r", Some(12)));
    assert_eq!(difference.expected.to_string(), "-; pages 8..17: 4*W,1*-,4*R9; all: 12*W,1*-,587*R9");
    assert_eq!(difference.got.to_string(), "R9; pages 8..17: 4*W,5*R9; all: 12*W,588*R9");
}

#[test]
fn a_panic_is_a_failed_scenario_with_its_message() {
    let cases: [(Odd, Option<usize>, &str); 2] = [
        (Odd { apply: |_| panic!("no {}", "memory"), ..Odd::new() }, Some(0), "no memory at "),
        (Odd { observe: |_| panic!("blind"), ..Odd::new() }, Some(0), "blind at "),
    ];
    for (machine, expected_step, expected_message) in cases {
        let outcome = replay(&scenario(), |_| Ok(machine));
        let Verdict::Panicked { step, op, message } = outcome.verdict else { panic!("expected a panic") };
        assert_eq!((step, op.as_str()), (expected_step, "hfault off=0 len=600 req=r"));
        assert!(message.starts_with(expected_message) && message.contains("tests.rs"), "{message}");
    }
    let outcome = replay::<Odd>(&scenario(), |_| panic!("not built"));
    assert!(matches!(outcome.verdict, Verdict::Panicked { step: None, .. }));
}

#[test]
fn a_panic_in_drop_is_caught() {
    struct Heavy(Echo);
    impl Machine for Heavy {
        fn apply(&mut self, op: &Op) -> Applied {
            self.0.apply(op)
        }
        fn observe(&mut self) -> Observation {
            self.0.observe()
        }
    }
    impl Drop for Heavy {
        fn drop(&mut self) {
            panic!("leaked a table");
        }
    }
    let outcome = replay(&scenario(), |scenario| Ok(Heavy(Echo::new(scenario))));
    assert!(
        matches!(&outcome.verdict, Verdict::Panicked { message, .. } if message.starts_with("leaked a table")),
        "{outcome:?}"
    );
}

#[test]
fn what_cannot_be_replayed_is_a_skip_with_a_reason_unless_something_differed_before() {
    let skipped = |reason: &str| Verdict::Skipped(Skip::new(reason));
    assert_eq!(replay::<Echo>(&scenario(), |_| Err(Skip::new("no swap"))).verdict, skipped("no swap"));
    let refuses = || Odd {
        apply: |applied| if applied.calls.is_none() { Applied::unsupported("no files") } else { applied },
        ..Odd::new()
    };
    assert_eq!(replay(&scenario(), |_| Ok(refuses())).verdict, skipped("step 1: no files"));
    let mut mutated = scenario();
    mutated.steps[0].expected.ret = 5;
    assert_eq!(difference(&replay(&mutated, |_| Ok(refuses()))).field, Field::Ret);
    let mut unknown = scenario();
    unknown.steps[1].op = Op::Unsupported { what: "unknown operation `x`".into() };
    let outcome = replay(&unknown, |scenario| Ok(Echo::new(scenario)));
    assert_eq!(outcome.verdict, skipped("step 1: unknown operation `x`"));
    assert_eq!(outcome.steps, 0);
}
