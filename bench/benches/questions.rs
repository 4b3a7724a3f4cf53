//! One group for each question, over the backends of the registry that it compares where its answer comes from.
//!
//! criterion repeats within one launch and compares with a stored baseline: good for a first look while changing a
//! design. Claims come from `walkbench run`, whose members take turns on the same tables over several launches.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use walkbench::sweep::{Sweep, headlines};
use walker::addr::PAGE_SIZE;
use workloads::definition::parse_size;

fn questions(c: &mut Criterion) {
    for (question, cells) in headlines() {
        let mut group = c.benchmark_group(question);
        for cell in cells {
            let (place, backend) = cell.rsplit_once('/').expect("an id");
            let place = place.trim_end_matches("/none/1");
            let size = cell.split(['@', '/']).nth(1).and_then(parse_size);
            // Pages a second: the inverse of the ns a page of every other table.
            group.throughput(Throughput::Elements(size.expect("an id") / PAGE_SIZE));
            // Built when criterion asks for the first time: a filter spares what it leaves out.
            let mut sweep: Option<Sweep> = None;
            let mut open = || Sweep::open(&cell, 1).unwrap_or_else(|e| panic!("{cell}: {e:#}"));
            group.bench_function(BenchmarkId::new(backend, place), |b| {
                let sweep = sweep.get_or_insert_with(&mut open);
                b.iter_custom(|n| sweep.time(n).unwrap_or_else(|e| panic!("{cell}: {e:#}")));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .without_plots();
    targets = questions
}
criterion_main!(benches);
