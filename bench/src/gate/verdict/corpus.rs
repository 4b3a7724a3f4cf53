//! Recordings of real runs, and what is decided on them: a change of the statistics shows here what it would have decided.
//!
//! The files under bench/recordings are what `walkbench gate --format json` recorded, nothing left out but the report
//! around it. Troubles that cannot be ordered from a machine are made of a recording by arithmetic on its rounds: a cell
//! is then the null control's rounds, real ones of two programs that do not differ, with the trouble on top.

use super::super::rounds::{Compared, Looks, Metric, Orders, Recording, Role, Series, Stage};
use super::{State, Verdict, decide, decide_both};
use crate::measure::order::Rng;

const QUIET: &str = include_str!("../../../recordings/quiet.json");

/// File, verdict, cells that are slower, cells that are faster.
const RECORDED: [(&str, &str, Verdict, usize, usize); 6] = [
    ("quiet", QUIET, Verdict::Pass, 0, 0),
    (
        "neighbours",
        include_str!("../../../recordings/neighbours.json"),
        Verdict::InconclusiveEnvironment,
        0,
        0,
    ),
    ("planted +3 %", include_str!("../../../recordings/planted.json"), Verdict::Regression, 6, 0),
    ("planted -3 %", include_str!("../../../recordings/improved.json"), Verdict::Pass, 0, 6),
    ("+3 % under churn", include_str!("../../../recordings/churned.json"), Verdict::Regression, 1, 0),
    ("+40 % late", include_str!("../../../recordings/late.json"), Verdict::Regression, 2, 0),
];

#[test]
fn every_recording_is_decided_as_it_was_and_swapped_sides_mirror_it() {
    for (name, text, verdict, slower, faster) in RECORDED {
        let recording = Recording::parse(text).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let count = |r: &Recording| {
            let d = decide(r);
            (d.verdict, d.cells(State::Slower).count(), d.cells(State::Faster).count(), d.reasons)
        };
        let (is, is_slower, is_faster, why) = count(&recording);
        assert_eq!((is, is_slower, is_faster), (verdict, slower, faster), "{name}: {why:?}");
        let (mirrored, mirrored_slower, mirrored_faster, why) = count(&recording.swapped());
        assert_eq!((mirrored_slower, mirrored_faster), (faster, slower), "{name}, swapped: {why:?}");
        if verdict != Verdict::InconclusiveEnvironment {
            assert_eq!(mirrored == Verdict::Regression, faster > 0, "{name}, swapped: {why:?}");
        }
    }
}

/// A busy host, 3 % more work in two cells: the first look misses its planted control, the second one does not. Sides are set
/// up in both orders.
#[test]
fn two_looks_are_decided_as_they_were_and_swapped_sides_mirror_them() {
    let looks = Looks::parse(include_str!("../../../recordings/two_looks.json")).unwrap();
    assert!(looks.first.launches[0].series.iter().any(|s| !s.draws.is_empty()));
    let first = decide(&looks.first);
    assert_eq!((first.verdict, first.suspects(Orders::Same).len()), (Verdict::InconclusivePower, 2));
    let count = |looks: &Looks| {
        let d = decide_both(looks);
        (d.verdict, d.cells(State::Slower).count(), d.cells(State::Faster).count())
    };
    assert_eq!(count(&looks), (Verdict::Regression, 2, 0));
    let second = looks.second.map(|(orders, recording)| (orders, recording.swapped()));
    assert_eq!(count(&Looks { first: looks.first.swapped(), second }), (Verdict::Pass, 0, 2));
}

#[test]
fn a_slowdown_of_every_64th_operation_is_seen_in_tails_alone_and_one_under_churn_there_alone() {
    let slower = |text: &str| -> Vec<(Metric, bool)> {
        let decision = decide(&Recording::parse(text).unwrap());
        decision.cells(State::Slower).map(|d| (d.metric, d.id.contains("/none/"))).collect()
    };
    let mut late = slower(include_str!("../../../recordings/late.json"));
    late.sort_by_key(|(_, is_quiet)| *is_quiet);
    assert_eq!(late, [(Metric::P99, false), (Metric::P99, true)]);
    assert_eq!(slower(include_str!("../../../recordings/churned.json")), [(Metric::Block, false)]);
}

/// One cell with the null control's rounds, and the controls as they were. `trouble` changes a round: launch, round, both
/// sides.
fn troubled(mut trouble: impl FnMut(usize, usize, &mut f64, &mut f64)) -> Recording {
    let mut r = Recording::parse(QUIET).unwrap();
    let of = |role| r.comparisons.iter().position(|c| c.role == role).unwrap();
    let (null, planted) = (of(Role::Null), of(Role::Planted));
    let (mut control, mut plant) = (r.comparisons[null].clone(), r.comparisons[planted].clone());
    (control.sweeps, plant.sweeps) = (1, 1);
    let cell = Compared { role: Role::Cell, ..control.clone() };
    let confirm: Vec<_> = r.launches.iter().filter(|l| l.stage == Stage::Confirm).cloned().collect();
    let series = |at: usize, nth: usize| -> Series {
        confirm[nth].series.iter().find(|s| s.comparison == at).cloned().unwrap()
    };
    let mut launch = |nth: usize, from: usize, stage: Stage| {
        let mut s = Series { comparison: 0, ..series(null, from) };
        for round in 0..s.old_ns.len() {
            let (mut old, mut new) = (s.old_ns[round] as f64, s.new_ns[round] as f64);
            trouble(nth, round, &mut old, &mut new);
            (s.old_ns[round], s.new_ns[round]) = (old as u64, new as u64);
        }
        let controls = [
            Series { comparison: 1, ..series(null, from) },
            Series { comparison: 2, ..series(planted, from) },
        ];
        let controls = if stage == Stage::Confirm { controls.to_vec() } else { Vec::new() };
        super::super::rounds::Launch { stage, series: [vec![s], controls].concat() }
    };
    // The screening launches are other launches than most that confirm: the last eight, in the opposite order.
    let n = confirm.len();
    let screen: Vec<_> = (0..8).map(|i| launch(i, n - 1 - i, Stage::Screen)).collect();
    let again: Vec<_> = (0..n).map(|i| launch(8 + i, i, Stage::Confirm)).collect();
    r.launches = [screen, again].concat();
    r.comparisons = vec![cell, control, plant];
    r
}

#[test]
fn trouble_on_top_of_real_rounds_is_called_what_it_is() {
    let mut rng = Rng::new(1, "trouble");
    let mut uniform = move || (rng.next() >> 11) as f64 / (1u64 << 53) as f64;
    let state = |r: &Recording| decide(r).decided[0].state;
    assert_eq!(state(&troubled(|_, _, _, _| {})), State::Equal);
    assert_eq!(state(&troubled(|_, _, _, new| *new *= 1.02)), State::Slower);
    assert_eq!(state(&troubled(|_, _, _, new| *new *= 1.03)), State::Slower);
    assert_eq!(state(&troubled(|_, _, _, new| *new *= 0.97)), State::Faster);
    assert_eq!(state(&troubled(|_, _, _, new| *new *= 1.003)), State::Equal, "below the margin");
    // Both sides slower and slower, by a third in the end: the pairs do not notice.
    let drifting = troubled(|launch, round, old, new| {
        let slower = 1.0 + (launch * 32 + round) as f64 / 2000.0;
        (*old, *new) = (*old * slower, *new * slower);
    });
    assert_eq!(state(&drifting), State::Equal);
    // A machine that stood still again and again during one launch, on either side.
    for stalled in [3, 12] {
        let r = troubled(|launch, _, old, new| {
            if launch == stalled {
                *old *= 1.0 + 3.0 * uniform();
                *new *= 1.0 + 3.0 * uniform();
            }
        });
        assert!(matches!(state(&r), State::Equal | State::Unresolved), "{stalled}");
    }
    // Two modes, 6 % apart, a launch in the one or the other, both sides alike: no difference, and none is claimed.
    let mode = |launch: usize| if launch.count_ones().is_multiple_of(2) { 1.06 } else { 1.0 };
    let lottery = troubled(|launch, _, old, new| {
        *old *= mode(launch);
        *new *= mode(launch + 1);
    });
    assert!(!matches!(state(&lottery), State::Slower | State::Faster));
    // Only new has them: it is slower half of the time, which is not nothing.
    let unlucky = troubled(|launch, _, _, new| *new *= mode(launch));
    assert!(matches!(state(&unlucky), State::Slower | State::Unresolved));
    // Blocks that took no time were not measured.
    let broken = troubled(|_, _, _, new| *new = 0.0);
    assert_eq!(
        (state(&broken), decide(&broken).verdict),
        (State::TooNoisy, Verdict::InconclusiveEnvironment)
    );
}
