//! Requests as members ask them, on every backend.

use walker::backends;
use walker::counters::{Count, Counters, Counts};
use workloads::definition::find;
use workloads::request::RequestKind;

use std::sync::Arc;

use super::backend_member::MakeMember;
use super::churn::Churning;
use super::clock::Clock;
use super::matrix::group;
use super::member::{NOOP, Turn, What};
use super::runner::Stage;
use super::scene::{Scene, Window};
use super::watch::Watch;
use workloads::definition::Point;

/// The counts of every backend that can be asked this, each compared with the oracle.
fn ask(workload: &str, size_bytes: u64, request: &str, call_pages: u64) -> Vec<(&'static str, Counts)> {
    let definition = find(workload).unwrap();
    let request: RequestKind = request.parse().unwrap();
    let point = Point { size_bytes, call_pages, churn: None, walkers: 1 };
    let group = group(definition, request, point, &|_| true).unwrap();
    let one = |backend: &'static walker::backend::Info| {
        let scene = Scene::new(group.recipe(1)).unwrap();
        let mut member =
            backends::dispatch(backend.id, MakeMember::plain(call_pages, Clock::measure())).unwrap();
        let checked =
            member.checked(&scene).unwrap_or_else(|e| panic!("{}: {e:#}", group.cell_id(backend.id)));
        scene.discard();
        (backend.id, checked.unwrap().counts)
    };
    let counts: Vec<_> = group.backends.iter().copied().map(one).collect();
    assert!(counts.len() >= 5, "{workload} {request}: hardly anybody was asked");
    counts
}

#[test]
fn calls_from_1_page_to_512k_pages_are_answered() {
    for (size, call) in
        [(64 << 12, 1), (2 << 20, 16), (64 << 20, 8192), (512 << 20, 131_072), (2 << 30, 524_288)]
    {
        for (backend, counts) in ask("dense_4k", size, "fault_write", call) {
            assert_eq!(counts.get(Count::FaultsIssued), 0, "{backend} {call}");
        }
    }
}

#[test]
fn a_prefetch_faults_for_reading_and_the_write_after_it_for_writing() {
    for (backend, counts) in ask("absent_4k", 2 << 20, "prefetch_then_write", 64) {
        if backend == "noop" {
            continue;
        }
        // Each page is faulted twice: the zero page, then its copy.
        assert_eq!(counts.get(Count::FaultsZeroPage), 512, "{backend}");
        assert_eq!(counts.get(Count::FaultsCowCopy), 512, "{backend}");
        assert!(counts.get(Count::FaultsNeeded) >= 1024, "{backend}");
    }
}

#[test]
fn a_prefetch_and_the_write_after_it_move_what_two_calls_move() {
    let bytes = |request: &str| ask("dense_4k", 2 << 20, request, 512);
    let (read, write, both) = (bytes("fault_read"), bytes("fault_write"), bytes("prefetch_then_write"));
    for (((backend, r), (_, w)), (_, b)) in read.iter().zip(&write).zip(&both) {
        // Nothing is added to the two calls by asking them one after the other.
        let of = |c: &Counts| c.get(Count::ArrayBytes);
        assert_eq!(of(b), of(r) + of(w), "{backend}");
    }
}

/// Blocks that are taken apart, under churn and where pages fault: their stages are what the block took, by another clock,
/// however busy the machine.
#[test]
fn every_nanosecond_of_a_block_is_in_a_stage() {
    let block_of = |id: &str, churn: Option<&str>| {
        let (workload, request) = id.split_once('/').unwrap();
        let churn = churn.map(|c| c.parse().unwrap());
        let point = Point { size_bytes: 8 << 20, call_pages: 512, churn, walkers: 1 };
        let group = group(find(workload).unwrap(), request.parse().unwrap(), point, &|_| true).unwrap();
        let mut stage = Stage::new(group.recipe(1), None).unwrap();
        let churning = stage.churn().unwrap().map(|(ground, spec)| {
            let churning = Churning::start(&ground, spec, 1, &[]).unwrap();
            churning.ramp().unwrap();
            Arc::new(churning)
        });
        for backend in group.backends.iter().map(|b| b.id).filter(|b| *b != NOOP) {
            let plain = MakeMember::plain(512, Clock::measure());
            let make = MakeMember { retry: group.definition.retry, ..plain };
            let mut member = backends::dispatch(backend, make).unwrap();
            let sweeps = if churning.is_some() { 8 } else { 1 };
            let turn = Turn {
                what: What::Stages,
                sweeps,
                window: Window::WHOLE,
                batch: 1,
                counting: false,
                churning: churning.clone(),
            };
            let timing = stage.block(member.as_mut(), turn, &mut Watch::without_counters()).unwrap().unwrap();
            let (stages, apart) = (timing.stages.unwrap(), timing.apart.unwrap());
            let of_whole = stages.sum() as f64 / apart.whole_ns as f64;
            assert!((of_whole - 1.0).abs() < 0.05, "{id} {backend}: {of_whole}: {stages:?} {apart:?}");
        }
    };
    block_of("absent_4k/fault_write", None);
    block_of("dense_4k/snapshot", Some("zap-64KiB-o100-uniform-max-t1"));
}
