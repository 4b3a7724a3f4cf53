use super::*;

/// A block of which `stages` nanoseconds a page were told, and which took `whole_ns`.
fn block(stages: [f64; 5], whole_ns: f64) -> ApartBlock {
    let names = ["prepare", "walk", "fault", "retry", "consume"];
    let mut all = names.map(|name| (name, 0.0));
    all.iter_mut().zip(stages).for_each(|((_, ns), value)| *ns = value);
    ApartBlock { stages: all, whole_ns: Some(whole_ns) }
}

const GOOD: [f64; 5] = [10.0, 50.0, 20.0, 0.0, 20.0];

/// Eight launches with three blocks each that take `factor` of what whole ones take, 100 ns a page.
fn launches(stages: [f64; 5], factor: f64) -> Vec<Launch> {
    let one = |launch: usize| {
        let scale = factor * (1.0 + 0.001 * launch as f64);
        Launch { apart: vec![block(stages.map(|ns| ns * scale), 100.0 * scale); 3], whole_ns: Some(100.0) }
    };
    (0..8).map(one).collect()
}

#[test]
fn stages_are_shares_of_their_blocks_and_sum_to_the_cell() {
    for is_churned in [false, true] {
        let split = Split::new(&launches(GOOD, 1.01), 200.0, is_churned);
        assert!((split.stages["walk"] - 100.0).abs() < 1e-9 && (split.stages["consume"] - 40.0).abs() < 1e-9);
        assert!((split.stages.values().sum::<f64>() - 200.0).abs() < 1e-9);
        assert!((split.stages_of_whole.unwrap() - 1.0).abs() < 1e-9 && !split.is_off);
        assert_eq!(split.apart_of_whole.is_some(), !is_churned);
    }
}

#[test]
fn a_stage_that_is_lost_or_counted_twice_is_off_whatever_happens_meanwhile() {
    for is_churned in [false, true] {
        for (i, ns) in GOOD.into_iter().enumerate() {
            let lost = std::array::from_fn(|k| if k == i { 0.0 } else { GOOD[k] });
            let twice = std::array::from_fn(|k| if k == i { 2.0 * GOOD[k] } else { GOOD[k] });
            for broken in [lost, twice] {
                let split = Split::new(&launches(broken, 1.0), 100.0, is_churned);
                // Nobody misses a stage that nothing was in.
                assert_eq!(split.is_off, ns > 0.0, "{i} {broken:?}");
            }
        }
    }
}

#[test]
fn one_wild_block_of_a_launch_that_has_no_other_moves_no_stage() {
    let mut launches = launches(GOOD, 1.0);
    // A neighbour in the block of prepare, walk and read_retry: it came out longer than the whole.
    launches[3].apart = vec![block([10.0, 130.0, 20.0, 0.0, 0.0], 100.0)];
    let split = Split::new(&launches, 100.0, false);
    assert!((split.stages["walk"] - 50.0).abs() < 1e-9 && !split.is_off, "{split:?}");
}

#[test]
fn taking_apart_what_then_is_another_code_is_off_but_not_what_only_may_be() {
    for factor in [0.9, 1.1] {
        let split = Split::new(&launches(GOOD, factor), 100.0, false);
        assert!((split.stages_of_whole.unwrap() - 1.0).abs() < 1e-9, "no block's sum shows it");
        assert!((split.apart_of_whole.unwrap().median / factor - 1.0).abs() < 0.01 && split.is_off);
    }
    let mut noisy = launches(GOOD, 1.1);
    for launch in noisy.iter_mut().step_by(2) {
        launch.whole_ns = Some(120.0);
    }
    assert!(!Split::new(&noisy, 100.0, false).is_off);
}

#[test]
fn where_half_of_the_blocks_collide_the_stages_are_those_of_the_middle_one() {
    let quiet = block([0.0, 80.0, 0.0, 0.0, 20.0], 100.0);
    let collided = block([0.0, 80.0, 0.0, 900.0, 20.0], 1000.0);
    let one = |apart: &[ApartBlock]| Launch { apart: apart.to_vec(), whole_ns: Some(100.0) };
    let launches = [one(&[quiet, collided, collided]), one(&[collided, quiet, collided])];
    let split = Split::new(&launches, 110.0, true);
    assert!((split.stages["walk"] - 88.0).abs() < 1e-9 && split.stages["retry"] == 0.0, "{split:?}");
    assert!(!split.is_off);
    let split = Split::new(&launches, 1000.0, true);
    assert!((split.stages["retry"] - 900.0).abs() < 1e-9, "{split:?}");
}

#[test]
fn a_run_that_knows_no_other_whole_is_held_against_its_whole_rounds() {
    let mut old = launches(GOOD, 0.9);
    old.iter_mut().flat_map(|l| &mut l.apart).for_each(|b| b.whole_ns = None);
    for is_churned in [false, true] {
        let split = Split::new(&old, 100.0, is_churned);
        assert!((split.stages["walk"] - 45.16).abs() < 0.1, "{split:?}");
        assert!((split.stages_of_whole.unwrap() - 0.903).abs() < 0.001 && split.is_off);
    }
    assert!(Split::new(&[], 100.0, false).stages.is_empty());
}
