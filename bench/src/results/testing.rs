//! Results made up for tests: known effects under known noise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{CellFacts, Results};
use crate::measure::member::What;
use crate::measure::order::Rng;
use crate::measure::stages::Stages;
use crate::questions::{CellId, Coordinate, registry_order};
use crate::record::{ChurnDose, Line, MemberEnd, Operations, Run, Sample};

/// Cells with their true ns a page; noise of rounds and launches in per cent.
pub(crate) struct Made {
    pub(crate) cells: Vec<(String, f64)>,
    pub(crate) launches: u32,
    pub(crate) rounds: u32,
    pub(crate) round_percent: f64,
    pub(crate) launch_percent: f64,
    pub(crate) seed: u64,
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Made {
    /// Quiet: nine launches of eight rounds, 1 % noise in a round, 0.3 % between launches.
    pub(crate) fn new(cells: &[(&str, f64)]) -> Made {
        Made {
            cells: cells.iter().map(|(id, ns)| ((*id).to_owned(), *ns)).collect(),
            launches: 9,
            rounds: 8,
            round_percent: 1.0,
            launch_percent: 0.3,
            seed: 1,
            counts: BTreeMap::new(),
        }
    }
    /// The same with every member taken for a backend.
    pub(crate) fn results_of_anything(&self) -> Results {
        let mut results = self.results();
        for (id, _) in &self.cells {
            results.cells.insert(CellId::parse(id).expect("an id"), CellFacts::default());
        }
        results
    }
    pub(crate) fn results(&self) -> Results {
        let stages = |ns: f64| {
            Stages::default().each().map(|(stage, _)| (stage, if stage == "walk" { ns / 2.0 } else { 0.0 }))
        };
        let facts = self.cells.iter().map(|(id, ns)| CellFacts {
            id: id.clone(),
            counts: self.counts.clone(),
            stages: stages(*ns).map(|(stage, ns)| (stage.to_owned(), Some(ns))).into(),
            ..CellFacts::default()
        });
        let facts = facts.filter(|f| walker::backends::find(f.id.rsplit('/').next().unwrap_or("")).is_some());
        Results::new(Path::new("made"), run(), facts.collect(), self.lines())
    }
    /// The same by way of the analysis: cells have all that a run's have, with counts, single operations and churn.
    pub(crate) fn analysed(&self) -> Results {
        let mut run = run();
        let cells: Vec<CellId> = self.cells.iter().filter_map(|(id, _)| CellId::parse(id)).collect();
        run.groups = cells.iter().map(CellId::group).collect();
        run.groups.sort();
        run.groups.dedup();
        let mut lines = self.lines();
        for launch in 0..self.launches {
            for cell in &cells {
                lines.push(Line::Member(MemberEnd {
                    launch,
                    group: cell.group(),
                    member: cell.get(Coordinate::Backend).to_owned(),
                    counts: self.counts.clone(),
                    operations: Some(Operations {
                        batch: 1,
                        ns: vec![(1000, 9000), (2000, 900), (5000 + u64::from(launch), 90), (9000, 10)],
                    }),
                    ..MemberEnd::default()
                }));
            }
        }
        super::read::analysed(Path::new("made"), run, lines).expect("results")
    }
    fn lines(&self) -> Vec<Line> {
        let mut rng = Rng::new(self.seed, "made");
        let mut noise = |percent: f64| {
            let mut sum = 0.0;
            for _ in 0..12 {
                sum += (rng.next() >> 11) as f64 / (1u64 << 53) as f64;
            }
            (percent / 100.0 * (sum - 6.0)).exp()
        };
        let mut lines = Vec::new();
        for launch in 0..self.launches {
            for (id, ns) in &self.cells {
                let cell = CellId::parse(id).expect("an id");
                let offset = noise(self.launch_percent);
                let churn = churn_of(cell.get(Coordinate::Churn));
                for round in 0..self.rounds {
                    // Long blocks, so that whole nanoseconds do not round the figures.
                    let nr_pages = 1_000_000;
                    let block_ns = (ns * offset * noise(self.round_percent) * nr_pages as f64) as u64;
                    let stages = Stages { prepare_ns: 0, walk_ns: block_ns / 2, ..Stages::default() };
                    let block = |what, stages| Sample {
                        launch,
                        group: cell.group(),
                        member: id.rsplit('/').next().expect("a backend").to_owned(),
                        round,
                        turn: 0,
                        what,
                        nr_pages,
                        nr_calls: 1,
                        block_ns,
                        thread_ns: Vec::new(),
                        stages,
                        apart: None,
                        involuntary_switches: Some(0),
                        stolen_ticks: None,
                        churn,
                    };
                    lines.push(Line::Block(block(What::Whole, None)));
                    lines.push(Line::Block(block(What::Stages, Some(stages))));
                }
            }
        }
        lines
    }
    /// Every cell that a question asks for, with the limits beside it: small calls, later designs and churn cost more.
    pub(crate) fn all_questions() -> Made {
        use crate::questions::{LIMITS, all_cells, questions};
        let mut cells: Vec<(String, f64)> = Vec::new();
        let mut groups = BTreeSet::new();
        for cell in all_cells().into_iter().filter(|c| questions().iter().any(|q| q.wants(c))) {
            let pages: f64 = cell.get(Coordinate::CallPages).parse().expect("a number");
            let design = registry_order(cell.get(Coordinate::Backend)) as f64;
            let faults = if cell.get(Coordinate::Request) == "snapshot" { 0.0 } else { 3.0 };
            cells.push((cell.to_string(), 1.0 + faults + 80.0 / pages + 0.1 * design));
            if groups.insert(cell.group()) {
                let limits = LIMITS.iter().enumerate();
                cells.extend(limits.map(|(i, l)| (format!("{}/{l}", cell.group()), 0.2 + 0.2 * i as f64)));
            }
        }
        let counts = [
            ("faults_issued", 200),
            ("faults_needed", 20),
            ("copies_not_asked_for", 180),
            ("array_bytes", 8),
            ("device_entries", 4),
        ];
        Made {
            cells,
            launches: 6,
            rounds: 2,
            round_percent: 1.0,
            launch_percent: 0.3,
            seed: 1,
            counts: counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        }
    }
}

/// The dose of that name, kept exactly.
fn churn_of(name: &str) -> Option<ChurnDose> {
    let events = match name.rsplit('-').nth(1)? {
        "1000ps" => 10,
        "10000ps" => 100,
        _ => 5000,
    };
    let wall_ns = 10_000_000;
    Some(ChurnDose {
        wall_ns,
        events,
        busy_ns: 1000 * events,
        pages_in_vain: 1000 * events,
        ..ChurnDose::default()
    })
}

/// A `run.json` without cells, of a machine that never was.
pub(crate) fn run() -> Run {
    let json = r#"{
        "schema": 1, "state": "complete", "started_unix_s": 1795240000, "started": "2026-11-21T05:46:40Z",
        "command": ["run", "--out", "mine"], "profile": "quick", "seed": 1, "clock_cost_ps": 22000,
        "machine": {
            "cpu_model": "Example | 3000", "cpu_vendor": "Example", "cpu_family": 1, "cpu_model_number": 2,
            "cpu_stepping": 3, "microcode": "0x1", "vcpus": 2, "hypervisor": null,
            "caches": [{"level": 1, "kind": "Data", "bytes": 32768, "shared_by": "0"}], "kernel": "Linux 6.12.0",
            "mitigations": {}, "thp": "madvise", "thp_defrag": "madvise", "governor": null, "load_milli": 10,
            "memory_bytes": 1073741824, "memory_available_bytes": 1073741824
        },
        "build": {
            "version": "0.1.0", "rustc": "rustc 1.95.0", "profile": "release", "flags": "",
            "target": "x86_64-unknown-linux-gnu", "commit": "0123456789abcdef", "dirty": "false"
        },
        "groups": [], "skips": [], "cells": []
    }"#;
    serde_json::from_str(json).expect("a run")
}
