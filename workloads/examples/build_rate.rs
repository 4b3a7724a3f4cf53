//! How fast shapes are built, what they cost in memory, and that the result can be walked.
//!
//! `cargo run --release -p workloads --example build_rate [DEFINITION SIZE]...`

use std::time::Instant;
use walker::addr::PageRange;
use walker::backend::Backend;
use walker::backends::map_order::MapOrder;
use walker::counters::NoCounts;
use walker::mirror::Mirror;
use walker::request::{Request, Wish};
use workloads::definition::{find, parse_size, size_name};

/// Resident memory of this process in bytes, 0 where the system does not say.
fn resident() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let default = ["16MiB", "1GiB", "64GiB", "1TiB"].map(|s| ["dense_4k", s]).concat();
    let cells: Vec<&str> = if args.is_empty() { default } else { args.iter().map(String::as_str).collect() };
    println!(
        "shape                    size     build s   M pages/s  bytes/page    walk s   M pages/s  discard s"
    );
    for cell in cells.chunks_exact(2) {
        let definition = find(cell[0]).ok_or_else(|| format!("no definition {}", cell[0]))?;
        let size = parse_size(cell[1]).ok_or_else(|| format!("{}: expected a size like 16MiB", cell[1]))?;
        let before = resident();
        let start = Instant::now();
        let built = definition.build(size, 1)?;
        let build = start.elapsed().as_secs_f64();
        let memory = resident() - before;
        let pages = built.range.nr_pages();

        // The snapshot of everything, 512 pages a call. The device's table is that of one call.
        let mirror = Mirror::new(&built.mm, PageRange::pages(built.range.start(), 1));
        let mut backend = MapOrder::new(512);
        let start = Instant::now();
        let mut last = 0;
        for first in (0..pages).step_by(512) {
            let range = PageRange::pages(built.range.start().add_pages(first), 512.min(pages - first));
            backend.prepare(&Request::all(range, Wish::None), &mut NoCounts);
            let seq = built.mm.notifier.read_begin(mirror.subscription());
            backend.walk(&built.mm, mirror.subscription(), seq, &mut NoCounts)?;
            last ^= backend.hmm_pfns()[0];
        }
        let walk = start.elapsed().as_secs_f64();
        std::hint::black_box(last);
        drop(mirror);
        let start = Instant::now();
        built.discard();
        let discard = start.elapsed().as_secs_f64();
        println!(
            "{:<22} {:>7} {build:>10.4} {:>11.1} {:>11.2} {walk:>9.4} {:>11.1} {discard:>10.4}",
            cell[0],
            size_name(size),
            pages as f64 / build / 1e6,
            memory as f64 / pages as f64,
            pages as f64 / walk / 1e6,
        );
    }
    Ok(())
}
