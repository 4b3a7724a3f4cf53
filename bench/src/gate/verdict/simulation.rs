//! What the rule does on rounds whose truth is known: false alarms, power, and what each kind of trouble leads to.
//!
//! Rounds scatter normally, 8 % of the blocks have an exponential spike on top; every launch has an offset of its own.
//! Seeds are fixed: the figures are the same everywhere. `WALKBENCH_SIMULATIONS=1500 cargo test --release simulated --
//! --nocapture` prints rates from as many runs as one likes.

use super::super::rounds::{
    Compared, Launch, Looks, MOST_LAUNCHES, Metric, Orders, Recording, Role, Rule, SCHEMA, Series, Stage,
};
use super::{State, Verdict, decide, decide_again, decide_both, launches_wanted, to_confirm};
use crate::measure::order::Rng;
use crate::stats::clopper_pearson;

/// A machine and a change.
#[derive(Clone)]
struct World {
    cells: usize,
    /// So many of the last cells are tails, with so much more noise.
    tails: (usize, f64),
    /// Standard deviation of a round's log ratio.
    round: f64,
    /// Standard deviation of a launch's offset.
    launch: f64,
    /// So many of the first cells scatter so many times as much between launches.
    restless: (usize, f64),
    /// Log slowdown of each of the first cells.
    effects: Vec<f64>,
    /// What the planted control really has.
    planted: f64,
    /// What the null control really has.
    null: f64,
    /// Chance that a round is void.
    void: f64,
    /// Chance that a launch is in another mode, and how far that is, new against old.
    mode: (f64, f64),
    /// A launch whose blocks of both sides take this much longer, at random.
    stalled: Option<usize>,
    /// Both sides get slower all the time, per round.
    drift: f64,
}

impl World {
    fn quiet() -> World {
        World {
            cells: 50,
            tails: (0, 1.0),
            round: 0.03,
            launch: 0.005,
            restless: (0, 1.0),
            effects: Vec::new(),
            planted: 0.03f64.ln_1p(),
            null: 0.0,
            void: 0.0,
            mode: (0.0, 0.0),
            stalled: None,
            drift: 0.0,
        }
    }
    fn slower(percents: &[f64]) -> World {
        World { effects: percents.iter().map(|p| (p / 100.0).ln_1p()).collect(), ..World::quiet() }
    }
    /// Measures, looks, measures again: as the gate does.
    fn record(&self, seed: u64) -> Recording {
        let mut draw = Draw(Rng::new(seed, "gate"));
        let compared = |id: String, role| Compared { id, role, sweeps: 1000, metric: Metric::Block };
        let is_tail = |i: usize| i + self.tails.0 >= self.cells;
        let metric = |i| if is_tail(i) { Metric::P99 } else { Metric::Block };
        let mut comparisons: Vec<Compared> = (0..self.cells)
            .map(|i| Compared {
                metric: metric(i),
                ..compared(format!("w@2MiB/snapshot/512/none/1/{i}"), Role::Cell)
            })
            .collect();
        comparisons.push(compared("control".to_owned(), Role::Null));
        comparisons.push(compared("control".to_owned(), Role::Planted));
        let rule = Rule::default();
        let mut r = Recording {
            schema: SCHEMA,
            note: String::new(),
            rule: rule.clone(),
            comparisons,
            launches: Vec::new(),
        };
        let everybody: Vec<usize> = (0..r.comparisons.len()).collect();
        for _ in 0..rule.screen_launches {
            let launch = self.launch(&mut draw, &r, Stage::Screen, &everybody, rule.screen_rounds);
            r.launches.push(launch);
        }
        let wanted = |c: usize| launches_wanted(&r, c).max(rule.confirm_launches);
        let mut again: Vec<(usize, u32)> = to_confirm(&r).into_iter().map(|c| (c, wanted(c))).collect();
        let most = again.iter().map(|(_, n)| *n).max().unwrap_or(rule.confirm_launches);
        again.extend([self.cells, self.cells + 1].map(|control| (control, most)));
        for nth in 0..MOST_LAUNCHES {
            let who: Vec<usize> = again.iter().filter(|(_, n)| nth < *n).map(|(c, _)| *c).collect();
            if !who.is_empty() {
                let launch = self.launch(&mut draw, &r, Stage::Confirm, &who, rule.confirm_rounds);
                r.launches.push(launch);
            }
        }
        r
    }
    fn launch(&self, draw: &mut Draw, r: &Recording, stage: Stage, who: &[usize], rounds: u32) -> Launch {
        let nth = r.launches.len();
        let mut at = (nth * 1000) as f64;
        let series = who.iter().map(|&c| {
            let role = r.comparisons[c].role;
            let effect = match role {
                Role::Cell => self.effects.get(c).copied().unwrap_or(0.0),
                Role::Null => self.null,
                Role::Planted => self.planted,
            };
            let lottery = if draw.uniform() < self.mode.0 { self.mode.1 } else { 0.0 };
            let noise = if r.comparisons[c].metric == Metric::P99 { self.tails.1 } else { 1.0 };
            let restless = if c < self.restless.0 { self.restless.1 } else { 1.0 };
            let offset = effect + restless * noise * self.launch * draw.normal() + lottery;
            let mut s = Series { comparison: c, ..Series::default() };
            for i in 0..rounds {
                at += 1.0;
                let stall = if self.stalled == Some(nth) { 1.0 } else { 0.0 };
                let round = noise * self.round;
                let side = round / std::f64::consts::SQRT_2;
                let mut block = |ratio: f64| {
                    let spike = if draw.uniform() < 0.08 { -8.0 * round * draw.uniform().ln() } else { 0.0 };
                    let stall = stall * -draw.uniform().ln();
                    (3e6 * (ratio + side * draw.normal() + spike + stall + self.drift * at).exp()) as u64
                };
                s.old_ns.push(block(0.0));
                s.new_ns.push(block(offset));
                if draw.uniform() < self.void {
                    s.void.push(i);
                }
            }
            s
        });
        Launch { stage, series: series.collect() }
    }
}

struct Draw(Rng);

impl Draw {
    fn uniform(&mut self) -> f64 {
        ((self.0.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// How many of so many runs `hit`; more of them if asked for by the environment, and printed.
fn rate(name: &str, runs: u64, world: &World, hit: impl Fn(&super::Decision) -> bool) -> (u64, u64) {
    let runs = std::env::var("WALKBENCH_SIMULATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(runs);
    let hits = (0..runs).filter(|seed| hit(&decide(&world.record(1000 + seed)))).count() as u64;
    let (lo, hi) = clopper_pearson(hits, runs, 0.95);
    println!("simulated: {name}: {hits} of {runs}, {:.2} to {:.2} %", 100.0 * lo, 100.0 * hi);
    (hits, runs)
}

#[test]
fn simulated_equals_over_fifty_cells_raise_no_alarm_and_mostly_pass() {
    let world = World::quiet();
    let (alarms, _) = rate("A/A, regression", 40, &world, |d| d.verdict == Verdict::Regression);
    assert_eq!(alarms, 0);
    let (passes, runs) = rate("A/A, pass", 20, &world, |d| d.verdict == Verdict::Pass);
    assert!(passes * 10 >= runs * 9, "{passes} of {runs}");
}

/// What scatters from launch to launch as write faults do is looked at in more launches, until it passes.
#[test]
fn simulated_cells_that_scatter_pass_in_more_launches_and_raise_no_alarm() {
    let world = World { restless: (6, 8.0), ..World::quiet() };
    let launches = |r: &Recording| r.launches.iter().filter(|l| l.stage == Stage::Confirm).count();
    assert!(launches(&world.record(1)) > launches(&World::quiet().record(1)));
    let alarm = |d: &super::Decision| d.verdict == Verdict::Regression;
    let (alarms, _) = rate("A/A with restless cells, regression", 40, &world, alarm);
    assert_eq!(alarms, 0);
    let pass = |d: &super::Decision| d.verdict == Verdict::Pass;
    let (passes, runs) = rate("A/A with restless cells, pass", 40, &world, pass);
    assert!(passes * 2 >= runs, "{passes} of {runs}");
    let slower = World { effects: vec![0.04f64.ln_1p()], ..world };
    let found = |d: &super::Decision| d.decided[0].state == State::Slower;
    let (found, runs) = rate("+4 % in a restless cell, found", 20, &slower, found);
    assert!(found * 2 >= runs, "{found} of {runs}");
}

#[test]
fn simulated_slowdowns_are_found_in_the_cell_that_has_them() {
    let found = |d: &super::Decision| d.verdict == Verdict::Regression && d.decided[0].state == State::Slower;
    let (three, runs) = rate("+3 % in one cell, found", 20, &World::slower(&[3.0]), found);
    assert!(three * 100 >= runs * 95, "{three} of {runs}");
    let (two, runs) = rate("+2 % in one cell, found", 20, &World::slower(&[2.0]), found);
    assert!(two * 10 >= runs * 9, "{two} of {runs}");
    // Less than the margin of half a per cent is no regression, however many cells have it.
    let tiny = World::slower(&[0.3; 50]);
    let (tiny, _) = rate("+0.3 % in every cell, regression", 10, &tiny, |d| d.verdict == Verdict::Regression);
    assert_eq!(tiny, 0);
}

#[test]
fn simulated_tails_are_judged_with_wider_limits_and_deny_nobody_a_pass() {
    let quiet = World { tails: (5, 4.0), ..World::quiet() };
    let (alarms, _) = rate("A/A with tails, regression", 20, &quiet, |d| d.verdict == Verdict::Regression);
    assert_eq!(alarms, 0);
    // Tails that scatter far too much to say anything, beside times that say enough.
    let wild = World { tails: (5, 60.0), ..World::quiet() };
    let passes = (0..12).filter(|seed| {
        let d = decide(&wild.record(*seed));
        assert!(d.tails().any(|t| t.state == State::Unresolved));
        d.verdict == Verdict::Pass
    });
    assert!(passes.count() >= 10, "beyond a rare false alarm");
    let never = |d: &super::Decision| d.verdict == Verdict::Regression;
    let (alarms, runs) = rate("A/A with wild tails, regression", 40, &wild, never);
    assert!(alarms * 20 <= runs, "{alarms} of {runs}");
    let mut effects = vec![0.0; 50];
    effects[49] = 0.25f64.ln_1p();
    let late = World { effects: effects.clone(), ..quiet.clone() };
    for seed in 0..4 {
        let d = decide(&late.record(seed));
        assert_eq!((d.verdict, d.decided[49].state), (Verdict::Regression, State::Slower), "{:?}", d.reasons);
        assert_eq!(d.cells(State::Slower).count(), 1);
        assert!(d.reasons[0].contains("1 cell slower in the p99"), "{:?}", d.reasons);
    }
    // What is a regression of a time is none of a p99.
    effects[49] = 0.03f64.ln_1p();
    let little = World { effects, ..quiet };
    for seed in 0..4 {
        assert_eq!(decide(&little.record(seed)).verdict, Verdict::Pass);
    }
}

#[test]
fn simulated_improvements_are_shown_and_pass_and_swapping_mirrors() {
    let world = World::slower(&[-3.0]);
    for seed in 0..4 {
        let r = world.record(seed);
        let d = decide(&r);
        assert_eq!((d.verdict, d.decided[0].state), (Verdict::Pass, State::Faster), "{:?}", d.reasons);
        assert!(d.reasons.contains(&"1 cell faster".to_owned()));
        let mirrored = decide(&r.swapped());
        assert_eq!((mirrored.verdict, mirrored.decided[0].state), (Verdict::Regression, State::Slower));
        assert_eq!(d.decided[0].p_faster, mirrored.decided[0].p_slower);
        let product = d.decided[0].ratio.unwrap().value * mirrored.decided[0].ratio.unwrap().value;
        assert!((product - 1.0).abs() < 1e-9);
    }
}

/// What luck of placement did as built is gone in other orders; what a change did is not.
#[test]
fn simulated_second_looks_take_placement_away_and_leave_what_a_change_did() {
    let looks = |as_built: &World, relinked: &World, seed| Looks {
        first: as_built.record(seed),
        second: Some((Orders::Others, relinked.record(seed + 100))),
    };
    // In other orders a launch has a luck of its own.
    let other_orders =
        |effects: &[f64]| World { cells: effects.len(), launch: 0.01, ..World::slower(effects) };
    let built = World::slower(&[8.0, 3.0, -5.0]);
    for seed in 0..4 {
        let first = decide(&built.record(seed));
        let ids: Vec<String> = (0..3).map(|i| format!("w@2MiB/snapshot/512/none/1/{i}")).collect();
        let suspects = first.suspects(Orders::Others);
        assert!(suspects.iter().take(3).eq(&ids), "{suspects:?}");
        assert_eq!(first.suspects(Orders::Same), Vec::<&str>::new(), "what is slower as built stays that");
        let lucky = decide_both(&looks(&built, &other_orders(&[0.0, 0.0, 0.0]), seed));
        assert_eq!(lucky.verdict, Verdict::Pass, "{:?}", lucky.reasons);
        assert_eq!(lucky.decided.len(), first.decided.len());
        assert!(
            lucky.reasons.last().unwrap().contains("since the first found this: "),
            "{:?}",
            lucky.reasons
        );
        let slower = decide_both(&looks(&built, &other_orders(&[4.0, 0.0, 0.0]), seed));
        assert_eq!((slower.verdict, slower.cells(State::Slower).count()), (Verdict::Regression, 1));
        let unsure = World { launch: 0.08, ..other_orders(&[0.0; 3]) };
        assert_eq!(decide_both(&looks(&built, &unsure, seed)).verdict, Verdict::InconclusivePower);
    }
    // A cell that the second look lacks stays what it was; so does everything, where the machine cannot judge.
    let missing = decide_both(&looks(&World::slower(&[8.0, 8.0]), &other_orders(&[0.0]), 1));
    assert_eq!((missing.verdict, missing.cells(State::Slower).count()), (Verdict::Regression, 1));
    for unable in [World { null: 0.03, ..built.clone() }, World::quiet()] {
        assert_eq!(decide(&unable.record(1)).suspects(Orders::Others), Vec::<&str>::new());
    }
    let disturbed = World { void: 0.45, ..other_orders(&[0.0; 3]) };
    assert_eq!(decide_both(&looks(&built, &disturbed, 1)).verdict, Verdict::InconclusiveEnvironment);
}

/// What was not resolved gets as much time again, and all of it if the planted control was missed; no more alarms than two
/// looks may raise.
#[test]
fn simulated_second_looks_in_the_same_orders_resolve_and_raise_no_alarm() {
    // Two cells on a machine so noisy that a look finds 3 % not even every second time; one of the 24 first looks is the rare
    // false alarm, and the second looks add none.
    let noisy = |effects: &[f64]| World { cells: 2, round: 0.08, launch: 0.05, ..World::slower(effects) };
    let both = |world: &World, seed| {
        let first = decide(&world.record(seed));
        let second = match first.suspects(Orders::Same).len() {
            0 => first.clone(),
            _ => decide_again(&first, Orders::Same, &world.record(seed + 10_000)),
        };
        [first, second]
    };
    // How many of so many runs came to each verdict, by one look and by two.
    let count = |name: &str, effects: &[f64], verdicts: [Verdict; 2]| {
        let runs: Vec<[super::Decision; 2]> = (0..24).map(|seed| both(&noisy(effects), seed)).collect();
        verdicts.map(|verdict| {
            let of = |look: usize| runs.iter().filter(|r| r[look].verdict == verdict).count();
            println!("simulated: {name}, {verdict:?}: {} of 24 by one look, {} by two", of(0), of(1));
            [of(0), of(1)]
        })
    };
    let verdicts = [Verdict::Regression, Verdict::Pass];
    let [[once, twice], passes] = count("+3 % in two noisy cells", &[3.0, 3.0], verdicts);
    assert!(twice > once + 2 && passes[1] == 0, "{once}, {twice}, {passes:?}");
    let [alarms, [once, twice]] = count("A/A, two noisy cells", &[], verdicts);
    assert!(twice > once + 2 && alarms[0] == alarms[1] && alarms[0] <= 1, "{once}, {twice}, {alarms:?}");
    // With the control missed nothing is known of any cell.
    let blind = World { planted: 0.0, ..World::slower(&[8.0]) };
    let first = decide(&blind.record(1));
    assert_eq!((first.suspects(Orders::Same).len(), first.suspects(Orders::Others).len()), (50, 50));
    assert_eq!(both(&blind, 1)[1].verdict, Verdict::InconclusivePower);
}

#[test]
fn simulated_noise_leads_to_inconclusive_and_never_to_an_alarm() {
    let verdicts =
        |world: World| -> Vec<Verdict> { (0..6).map(|s| decide(&world.record(s)).verdict).collect() };
    let only = |world: World, expected: Verdict| {
        let got = verdicts(world);
        assert!(got.iter().all(|v| *v == expected), "{expected:?}: {got:?}");
    };
    only(World { void: 0.45, ..World::quiet() }, Verdict::InconclusiveEnvironment);
    only(World { null: 0.03, ..World::quiet() }, Verdict::InconclusiveEnvironment);
    only(World { planted: 0.0, ..World::quiet() }, Verdict::InconclusivePower);
    let placed = World { mode: (0.5, 0.08), ..World::quiet() };
    only(World { round: 0.2, launch: 0.08, ..World::quiet() }, Verdict::InconclusivePower);
    for (name, world) in [
        ("drift", World { drift: 1e-5, ..World::quiet() }),
        ("a stalled first launch", World { stalled: Some(3), ..World::quiet() }),
        ("a stalled later launch", World { stalled: Some(15), ..World::quiet() }),
        ("some void rounds", World { void: 0.15, ..World::quiet() }),
    ] {
        let got = verdicts(world);
        assert!(!got.contains(&Verdict::Regression), "{name}: {got:?}");
        assert!(got.contains(&Verdict::Pass), "{name}: {got:?}");
    }
    // A lottery of placement by which new is 8 % slower in half of its launches is slower: it is reported as that, or not
    // at all.
    assert!(verdicts(placed).iter().all(|v| *v != Verdict::Pass));
}

#[test]
fn simulated_smallest_effect_is_found_about_as_often_as_it_says() {
    // The typical smallest effect of equals, then planted: found four times out of five, give or take.
    let quiet = decide(&World::quiet().record(1));
    let mut smallest: Vec<f64> = quiet.decided.iter().filter_map(|d| d.smallest_percent).collect();
    smallest.sort_by(f64::total_cmp);
    let typical = smallest[smallest.len() / 2];
    assert!((1.0..3.0).contains(&typical), "{typical}");
    let found = |d: &super::Decision| d.decided[0].state == State::Slower;
    let (hits, runs) = rate("the smallest effect, found", 60, &World::slower(&[typical]), found);
    assert!((0.6..=0.99).contains(&(hits as f64 / runs as f64)), "{typical} %: {hits} of {runs}");
}

#[test]
fn rules_that_can_never_fail_are_refused() {
    let rule = |confirm_launches| Rule { confirm_launches, ..Rule::default() }.check();
    assert!(rule(14).is_ok() && rule(7).is_ok());
    let error = rule(6).unwrap_err().to_string();
    assert!(error.contains("could never fail; expected 7 launches or more"), "{error}");
    assert!(Rule { screen_rounds: 2, ..Rule::default() }.check().is_err());
}

#[test]
fn a_recording_survives_its_file_and_nonsense_is_refused() {
    let r = World { cells: 2, void: 0.1, ..World::quiet() }.record(1);
    let text = serde_json::to_string(&r).unwrap();
    assert_eq!(Recording::parse(&text).unwrap(), r);
    let printed =
        |second: &str| format!("{{\"verdict\":\"pass\",\"recording\":{text},\"relinked\":{second}}}");
    assert_eq!(Recording::parse(&printed("null")).unwrap(), r);
    assert_eq!(Looks::parse(&printed("null")).unwrap(), Looks { first: r.clone(), second: None });
    for orders in [Orders::Same, Orders::Others] {
        let printed = |second: &str| printed(second).replace("relinked", orders.key());
        let both = Looks { first: r.clone(), second: Some((orders, r.clone())) };
        assert_eq!(Looks::parse(&printed(&text)).unwrap(), both);
        let error = format!("{:#}", Looks::parse(&printed("{}")).unwrap_err());
        assert!(error.starts_with(&format!("{}: ", orders.key())), "{error}");
    }
    for (wrong, says) in [
        ("{", "expected JSON"),
        ("{}", "with a schema number"),
        ("{\"schema\":2}", "reads up to 1"),
        ("{\"schema\":1}", "expected a recording"),
    ] {
        let error = format!("{:#}", Recording::parse(wrong).unwrap_err());
        assert!(error.contains(says), "{wrong}: {error}");
    }
    let mut torn = r;
    torn.launches[0].series[0].old_ns.pop();
    let error = Recording::parse(&serde_json::to_string(&torn).unwrap()).unwrap_err().to_string();
    assert!(error.contains("expected as many of both"), "{error}");
}
