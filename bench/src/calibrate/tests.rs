//! Worked examples: prices in round figures, so that every expectation can be followed on paper.

use super::*;
use crate::questions::answer::Verdict;
use crate::questions::{CellId, Metric, questions};
use crate::results::testing::Made;
use crate::results::{ChurnFacts, LiveRow};

const SNAPSHOT: &str = "dense_4k@16MiB/snapshot/512/none/1/map_order";
const EMPTY: &str = "absent_4k@16MiB/snapshot/512/none/1/map_order";
const WRITE: &str = "absent_4k@16MiB/fault_write/512/none/1/map_order";
const READ: &str = "absent_4k@16MiB/fault_read/512/none/1/map_order";
const ZERO: &str = "zero_mapped@16MiB/snapshot/512/none/1/map_order";
const BREAK: &str = "zero_mapped@16MiB/fault_write/512/none/1/map_order";
const COW: &str = "after_fork_write@16MiB/fault_write/512/none/1/map_order";
const FORKED: &str = "after_fork_10pct@16MiB/snapshot/512/none/1/map_order";
const SOME: &str = "after_fork_write@16MiB/read_all_write_1pct/512/none/1/map_order";
const SOME_EXACT: &str = "after_fork_write@16MiB/read_all_write_1pct/512/none/1/exact_fault";
const SWAP: [&str; 2] =
    ["swapped@16MiB/fault_read/512/none/1/map_order", "swapped@16MiB/snapshot/512/none/1/map_order"];
const CHURN: [&str; 2] = [
    "livelock_at_once@256MiB/snapshot/65536/zap-64KiB-o100-uniform-max-t1/1/map_order",
    "livelock_resumed@256MiB/snapshot/65536/zap-64KiB-o100-uniform-max-t1/1/map_order",
];

/// Model, ns a page: an entry 1 (none 0.5, the zero page 1.5), allocating 100, mapping the zero page 20, breaking it
/// 150, copying 400 for 9 pages of 10. The rest finds nothing to do.
const CELLS: [(&str, f64); 14] = [
    (SNAPSHOT, 1.0),
    (EMPTY, 0.5),
    (ZERO, 1.5),
    (WRITE, 101.0),
    (READ, 21.5),
    (BREAK, 151.0),
    (COW, 361.0),
    (FORKED, 1.0),
    (SOME, 202.0),
    (SOME_EXACT, 5.0),
    (SWAP[0], 90.0),
    (SWAP[1], 2.0),
    (CHURN[0], 20.0),
    (CHURN[1], 4.0),
];

/// Without noise, each cell with what it counts of 4,096 pages.
fn run() -> Results {
    let mut run = Made { round_percent: 0.0, launch_percent: 0.0, ..Made::new(&CELLS) }.results();
    let none = |run: &mut Results, id: &str, counts: &[(&str, u64)]| {
        let facts = run.cells.get_mut(&CellId::parse(id).unwrap()).unwrap();
        let pages = if id.contains("256MiB") { 65536 } else { 4096 };
        facts.counts = walker::counters::Count::ALL.iter().map(|c| (c.name().to_owned(), 0)).collect();
        facts.counts.insert("ptes_visited".to_owned(), pages);
        facts.counts.extend(counts.iter().map(|(name, n)| ((*name).to_owned(), *n)));
    };
    for id in [SNAPSHOT, EMPTY, ZERO, FORKED, SWAP[1], CHURN[0], CHURN[1]] {
        none(&mut run, id, &[]);
    }
    none(&mut run, WRITE, &[("faults_issued", 4096), ("faults_anon_zero", 4096)]);
    none(&mut run, READ, &[("faults_issued", 4096), ("faults_zero_page", 4096)]);
    none(&mut run, BREAK, &[("faults_issued", 4096), ("faults_cow_copy", 4096)]);
    // 3,072 of 4,096 copied, that is 3/4, and nothing else: 361 = 1 + 3/4 x 480.
    let copies = |n: u64| [("faults_cow_copy", n), ("bytes_copied", 4096 * n), ("faults_issued", n)];
    none(&mut run, COW, &copies(3072));
    // Half of the pages, with an entry in four read twice.
    none(&mut run, SOME, &[&copies(2048)[..], &[("ptes_visited", 5120), ("faults_needed", 40)]].concat());
    none(&mut run, SOME_EXACT, &[&copies(4)[..], &[("ptes_visited", 5120)]].concat());
    none(&mut run, SWAP[0], &[("faults_issued", 1024), ("faults_swap_in", 1024)]);
    for (id, given_up) in [(CHURN[0], 5), (CHURN[1], 0)] {
        let facts = run.cells.get_mut(&CellId::parse(id).unwrap()).unwrap();
        facts.churned = Some(ChurnFacts { tried: 10, given_up, ..ChurnFacts::default() });
    }
    run
}

fn row(source: &str, shape: &str, stage: &str, lo: f64, median: f64, hi: f64) -> LiveRow {
    LiveRow {
        source: source.to_owned(),
        shape: shape.to_owned(),
        stage: stage.to_owned(),
        churn: "none".to_owned(),
        call_pages: Some(512),
        ns_per_page: Some(LiveFigure { median, lo: Some(lo), hi: Some(hi), launches: 6 }),
        error: None,
    }
}

/// The kernel, ns a page: an entry 3 (none 1, the zero page 4), allocating 300, mapping the zero page 26, breaking it 500,
/// copying 960 to the page. Only allocating is not known exactly.
fn kernel() -> Vec<LiveRow> {
    let exact = |source, shape, stage, ns| row(source, shape, stage, ns, ns, ns);
    vec![
        exact("hmm_range_fault", "dense_4k", "snapshot", 3.0),
        exact("hmm_range_fault", "zero_page", "snapshot", 4.0),
        exact("hmm_range_fault", "empty_tables", "snapshot", 1.0),
        row("hmm_range_fault_write", "absent_4k", "fault", 203.0, 303.0, 503.0),
        exact("hmm_range_fault_read", "absent_4k", "fault", 30.0),
        exact("hmm_range_fault_write", "zero_page", "fault", 503.0),
        exact("hmm_range_fault_write", "after_fork", "fault", 963.0),
        exact("hmm_range_fault_write", "child_gone", "fault", 33.0),
    ]
}

fn calibration_of(rows: Vec<LiveRow>) -> Calibration {
    let mut results = run();
    results.live.rows = rows;
    Calibration::of(results, true).unwrap()
}

fn all(run: &Results, calibration: &Calibration) -> Vec<Calibrated> {
    calibration.check(run).unwrap();
    let answers = crate::questions::answers(run);
    calibrated(questions(), &answers, run, &Prices::new(run, calibration))
}

fn find<'a>(all: &'a [Calibrated], title: &str) -> &'a Calibrated {
    all.iter().find(|c| c.title == title).unwrap_or_else(|| panic!("{title}"))
}

fn priced<'a>(all: &'a [Calibrated], title: &str) -> &'a Priced {
    match &find(all, title).outcome {
        Outcome::Priced(p) => p,
        other => panic!("{title}: {other:?}"),
    }
}

fn close(x: f64, y: f64) -> bool {
    (x / y - 1.0).abs() < 1e-4
}

#[test]
fn prices_are_what_pure_memory_takes_less_reading_what_a_fault_leaves() {
    let list = Prices::new(&run(), &calibration_of(kernel())).list();
    let expected = [
        (3.0, 1.0),
        (4.0, 1.5),
        (1.0, 0.5),
        (300.0, 100.0),
        (26.0, 20.0),
        (500.0, 150.0),
        // Three pages of four copy in the model: 361 = 1 + 3/4 x 480.
        (960.0, 480.0),
    ];
    assert_eq!(list.len(), expected.len());
    for (price, (kernel, model)) in list.iter().zip(expected) {
        assert!(close(price.kernel[0], kernel) && close(price.model[0], model), "{price:?}");
        assert!(close(price.added[0], kernel - model) && close(price.drift.unwrap(), 1.0), "{price:?}");
    }
    let [middle, lo, hi] = list[3].kernel;
    assert!(close(middle, 300.0) && close(lo, 200.0) && close(hi, 500.0), "{:?}", list[3]);
}

#[test]
fn a_cell_of_one_kind_of_fault_takes_what_the_kernel_takes() {
    let (run, calibration) = (run(), calibration_of(kernel()));
    let all = all(&run, &calibration);
    // 101 / 0.5 was measured; 303 / 1 it is, and from 203 to 503, since only that price has an interval.
    let p = priced(&all, "allocate and zero every page");
    let e = p.headline.effect;
    assert!(close(find(&all, "allocate and zero every page").measured.as_ref().unwrap().effect.ratio, 202.0));
    assert!(close(e.ratio, 303.0) && close(e.lo.unwrap(), 203.0) && close(e.hi.unwrap(), 503.0), "{e:?}");
    assert!(close(p.headline.a_value.unwrap(), 303.0) && close(p.headline.b_value.unwrap(), 1.0));
    assert!(p.changes.is_empty() && p.headline.verdict == Verdict::Differs);
    // Nine launches of the run and six of the kernel for each of three prices.
    assert_eq!(e.launches, 6);
    let misses = (1.0 - crate::stats::confidence(9)) + 3.0 * (1.0 - crate::stats::confidence(6));
    assert!((e.confidence - (1.0 - misses)).abs() < 1e-9, "{e:?}");
    // 30 / 1 and 503 / 4.
    assert!(close(priced(&all, "map the zero page everywhere").headline.effect.ratio, 30.0));
    assert!(close(priced(&all, "break the zero page everywhere").headline.effect.ratio, 125.75));
}

#[test]
fn a_cell_with_some_faults_pays_for_those_and_for_every_entry_it_reads() {
    let all = all(&run(), &calibration_of(kernel()));
    // 202 + 1/2 x (960 - 480) + 5/4 x (3 - 1) = 444.5, against 5 + 1/1024 x 480 + 2.5 = 7.96875.
    let p = priced(&all, "the time it takes, against faulting what was asked for");
    assert!(close(p.headline.effect.ratio, 444.5 / 7.968_75), "{:?}", p.headline);
    // Against a snapshot of present pages, 1 + 2: along the share of pages, where 1 % and 100 % were measured.
    let p = priced(&all, "break COW, by the share of pages that ask for it");
    assert!(close(p.headline.effect.ratio, 444.5 / 3.0), "{:?}", p.headline);
    let along: Vec<f64> = p.points.iter().map(|(_, is)| is.effect.ratio).collect();
    // 361 + 3/4 x 480 + 2 = 723.
    assert!(along.len() == 2 && close(along[1], 241.0), "{along:?}");
}

#[test]
fn faults_that_find_nothing_to_do_widen_the_interval_by_what_bounds_them() {
    let mut run = run();
    let cell = CellId::parse(SOME).unwrap();
    run.cells.get_mut(&cell).unwrap().counts.insert("faults_spurious".to_owned(), 1024);
    let all = all(&run, &calibration_of(kernel()));
    let e = priced(&all, "the time it takes, against faulting what was asked for").headline.effect;
    // A quarter of the pages: the kernel's price from 0 to 33, the model's from 0 to 21.5. Half of each in the middle.
    let with = |kernel: f64, model: f64| (444.5 + (kernel - model) / 4.0) / 7.968_75;
    assert!(close(e.ratio, with(16.5, 10.75)), "{e:?}");
    assert!(close(e.lo.unwrap(), with(0.0, 21.5)) && close(e.hi.unwrap(), with(33.0, 0.0)), "{e:?}");
    // Without a bound there is no figure.
    let mut rows = kernel();
    rows.retain(|r| r.shape != "child_gone");
    let all = super::tests::all(&run, &calibration_of(rows));
    let Outcome::Not(why) = &find(&all, "the time it takes, against faulting what was asked for").outcome
    else {
        panic!("a figure without a bound")
    };
    assert!(why.contains("nothing to do") && why.contains("child_gone"), "{why}");
}

#[test]
fn what_the_kernel_has_no_figure_for_is_not_calibrated_and_says_so() {
    let all = all(&run(), &calibration_of(kernel()));
    let why = |title: &str| match &find(&all, title).outcome {
        Outcome::Not(why) => why.clone(),
        other => panic!("{title}: {other:?}"),
    };
    assert!(why("swap in a quarter of the pages").contains("no figure for what its entries hold"));
    assert!(why("resolve a NUMA hint everywhere, the cheapest fault there is").contains("not measured"));
    assert!(matches!(find(&all, "faults issued for each page that needed one").outcome, Outcome::Count));
    // A kind of fault without a price, of memory that has one.
    let mut run = run();
    let cell = CellId::parse(WRITE).unwrap();
    run.cells.get_mut(&cell).unwrap().counts.insert("faults_thp".to_owned(), 8);
    let others = super::tests::all(&run, &calibration_of(kernel()));
    let Outcome::Not(thp) = &find(&others, "allocate and zero every page").outcome else { panic!("THP") };
    assert!(thp.contains("no figure for faults_thp"), "{thp}");
    // A row that the kernel could not give.
    let mut rows = kernel();
    rows[3].ns_per_page = None;
    rows[3].error = Some("this kernel refuses".to_owned());
    let without = super::tests::all(&super::tests::run(), &calibration_of(rows));
    let Outcome::Not(row) = &find(&without, "allocate and zero every page").outcome else { panic!("no row") };
    assert!(row.contains("hmm_range_fault_write/absent_4k/fault/512"), "{row}");
    assert!(matches!(find(&without, "break the zero page everywhere").outcome, Outcome::Priced(_)));
}

#[test]
fn under_churn_pages_in_vain_pay_too_and_what_collisions_decide_is_left_alone() {
    let all = all(&run(), &calibration_of(kernel()));
    // Half of the first cell's operations gave up: these end in vain, the others with a walk that counted.
    let run = run();
    let vain = |id: &str| run.level(&CellId::parse(id).unwrap(), Metric::Vain).unwrap().value;
    let (a, b) = (vain(CHURN[0]), vain(CHURN[1]));
    let p = priced(&all, "all of it again against the collided piece only");
    let expected = (20.0 + 2.0 * (a + 0.5)) / (4.0 + 2.0 * (b + 1.0));
    assert!(a > 0.0 && close(p.headline.effect.ratio, expected), "{a} {b}: {:?}", p.headline);
    for title in ["the tail of it", "pages walked in vain", "what the lock lets the other side do"] {
        assert!(matches!(find(&all, title).outcome, Outcome::Not(_)), "{title}");
    }
}

#[test]
fn a_verdict_that_the_kernels_prices_overturn_is_named() {
    // Faulting page by page is dearer by 3 of 101 in the model; the kernel's prices make that 3 of 303, under 2 %.
    let exact = WRITE.replace("map_order", "exact_fault");
    let mut cells = CELLS.to_vec();
    cells.push((&exact, 104.0));
    let mut made = Made { round_percent: 0.0, launch_percent: 0.0, ..Made::new(&cells) }.results();
    for (id, facts) in run().cells {
        made.cells.insert(id, facts);
    }
    let counts = made.cells[&CellId::parse(WRITE).unwrap()].counts.clone();
    made.cells.get_mut(&CellId::parse(&exact).unwrap()).unwrap().counts = counts;
    let mut rows = kernel();
    rows[3] = row("hmm_range_fault_write", "absent_4k", "fault", 303.0, 303.0, 303.0);
    let all = all(&made, &calibration_of(rows));
    let p = priced(&all, "what faulting page by page costs where every page must fault");
    assert!(close(p.headline.effect.ratio, 306.0 / 303.0), "{:?}", p.headline);
    assert_eq!(p.changes, ["differs becomes same"]);
}

#[test]
fn nothing_changes_where_the_kernel_takes_what_the_model_takes() {
    let run = run();
    let mut rows = kernel();
    let model = [1.0, 1.5, 0.5, 101.0, 21.5, 151.0, 481.0];
    for (r, ns) in rows.iter_mut().zip(model) {
        r.ns_per_page = Some(LiveFigure { median: ns, lo: Some(ns), hi: Some(ns), launches: 6 });
    }
    for c in all(&run, &calibration_of(rows)) {
        let Outcome::Priced(p) = c.outcome else { continue };
        assert!(
            close(p.headline.effect.ratio, c.measured.unwrap().effect.ratio) && p.changes.is_empty(),
            "{p:?}"
        );
    }
}

#[test]
fn rows_and_cells_of_prices_are_those_that_stand_side_by_side_in_the_question_about_the_kernel() {
    let kernel = questions().iter().find(|q| q.id == "kernel").unwrap();
    for r in &prices::ROWS {
        let is = |b: &&crate::questions::Beside| {
            (b.source.as_str(), b.shape.as_str(), b.stage.as_str()) == (r.source, r.shape, r.stage)
        };
        let beside = kernel.besides.iter().find(is).unwrap_or_else(|| panic!("{}", r.what));
        assert_eq!((beside.cell.as_str(), beside.call_pages), (r.cell, Some(CALL_PAGES)));
    }
    for id in QUESTIONS {
        assert!(questions().iter().any(|q| q.id == id), "{id}");
    }
}

#[test]
fn a_calibration_of_another_processor_or_without_the_kernel_is_refused_with_the_reason() {
    let mut other = run();
    other.run.machine.cpu_model_number = Some(77);
    let error = calibration_of(kernel()).check(&other).unwrap_err().to_string();
    assert!(error.contains("another processor") && error.contains("cpu_model_number: 77"), "{error}");
    // Another day of the same processor is what a calibration is for.
    let mut later = run();
    later.run.machine.load_milli = Some(9000);
    later.run.machine.kernel = Some("Linux 9.9".to_owned());
    calibration_of(kernel()).check(&later).unwrap();
    let refused =
        |results: Results, has_live: bool| Calibration::of(results, has_live).unwrap_err().to_string();
    assert!(refused(run(), false).contains("has no live.json"));
    let mut foreign = run();
    foreign.notes.push("made/live.json: is of another machine and left out (cpu_model: A / B)".to_owned());
    assert!(refused(foreign, true).contains("another machine"));
    let mut plain = run();
    plain.live.rows = vec![row("pagemap", "dense_4k", "snapshot", 1.0, 1.0, 1.0)];
    assert!(refused(plain, true).contains("no figure of hmm_range_fault"));
}

#[test]
fn few_launches_of_the_kernel_decide_nothing() {
    let mut rows = kernel();
    for r in &mut rows {
        r.ns_per_page.as_mut().unwrap().launches = 3;
    }
    let all = all(&run(), &calibration_of(rows));
    let p = priced(&all, "allocate and zero every page");
    assert_eq!((p.headline.verdict, p.headline.effect.launches), (Verdict::Unresolved, 3));
    assert_eq!(p.changes, ["not resolved: 3 launches have every price"]);
}
