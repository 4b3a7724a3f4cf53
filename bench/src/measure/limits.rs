//! What the machine allows: the same tables and the same slots, with nothing in between.
//!
//! * `copy`: the entries moved to the slots by whatever moves bytes fastest here; tried before the first block.
//! * `load`: one relaxed load and one store per slot.
//! * `decode`: the barest loop that loads an entry, tests it present, builds a slot and stores it.
//! * `fill`: one store per slot, frames ascending, nothing loaded: what a huge leaf must come to.
//! * `chase`: one load of each cache line of the PTE tables, each address known only when the load before it is done:
//!   what a walk would cost without memory-level parallelism. Writes no slots. Not where there are no PTE tables.
//! * `zero`, `copy_page`: the contents of as many frames as a block faults in, zeroed or copied.
//!
//! Pieces of the range without PTEs are filled by all of them: every limit writes every slot. Slots are reused from
//! call to call, as a backend's array is.

use std::fmt;
use std::ops::Range;

use walker::addr::{PAGE_SIZE, PTRS_PER_TABLE};
use walker::arch::Entry;
use walker::memory::bulk::BulkCopy;
use walker::memory::{Phys, Table};

use super::scene::{Scene, Span};

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The fastest copy.
    Copy,
    /// A load and a store.
    Load,
    /// Load, test, build, store.
    Decode,
    /// A store.
    Fill,
    /// Dependent loads.
    Chase,
}

impl Limit {
    /// All of them.
    pub(crate) const ALL: [Limit; 5] = [Limit::Copy, Limit::Load, Limit::Decode, Limit::Fill, Limit::Chase];
    /// Its name in tables and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Limit::Copy => "copy",
            Limit::Load => "load",
            Limit::Decode => "decode",
            Limit::Fill => "fill",
            Limit::Chase => "chase",
        }
    }
}

/// Streaming stores want their place aligned to a cache line.
const LINE_BYTES: usize = 64;
/// Entries in a line.
pub(crate) const LINE_ENTRIES: u64 = 8;
const LINES_A_TABLE: u64 = PTRS_PER_TABLE as u64 / LINE_ENTRIES;

/// Where a copy's slots start: bytes behind a boundary of 4 KiB. It may be fastest at a page's start, or away from it, where
/// source and destination do not meet in the same sets of the cache. The other limits' start where those of the designs do,
/// on the boundary.
const PLACES: [usize; 3] = [0, LINE_BYTES * 9, 16];

/// The slots that the limits write.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<u64>,
    /// Index of the first one on a boundary of 4 KiB.
    page: usize,
}

impl Slots {
    /// `capacity` slots, touched.
    pub(crate) fn new(capacity: usize) -> Slots {
        let page_slots = PAGE_SIZE as usize / size_of::<u64>();
        let slots = vec![1u64; capacity + 2 * page_slots];
        let page = slots.as_ptr().addr().wrapping_neg() % PAGE_SIZE as usize / size_of::<u64>();
        Slots { slots, page }
    }
    fn get(&mut self, n: usize, place: usize) -> &mut [u64] {
        let first = self.page + place / size_of::<u64>();
        &mut self.slots[first..first + n]
    }
}

/// How to copy, and to where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyWay {
    by: BulkCopy,
    place: usize,
}

impl Default for CopyWay {
    fn default() -> CopyWay {
        CopyWay { by: BulkCopy::String, place: PLACES[1] }
    }
}

impl fmt::Display for CopyWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes into a page", self.by.name(), self.place)
    }
}

const VALID: u64 = 1 << 63;
const WRITE: u64 = 1 << 62;

/// The slot of a present entry: the frame moved to bit 0, RW (bit 1) to WRITE (bit 62), one mask for both.
#[inline(always)]
fn build(e: Entry) -> u64 {
    const FRAME: u64 = (1 << 40) - 1;
    ((e.bits() >> 12) | (e.bits() << 61)) & (FRAME | WRITE) | VALID
}

#[inline(always)]
fn decode(table: Table<'_>, first: usize, out: &mut [u64]) {
    // Both lengths are stated once, and eight slots at a time: a limit that carries a bounds check, or that an unrolled
    // walk could beat, is none.
    let run = table.ptep_run(first, out.len());
    assert_eq!(run.len(), out.len());
    let slot = |k: usize| {
        let e = run.ptep_get(k);
        if e.is_plain_present() { build(e) } else { 0 }
    };
    let mut k = 0;
    while k + 8 <= out.len() {
        #[allow(clippy::needless_range_loop)]
        // by index the bounds checks go; by iterator they stay (0.66 against 0.86 ns)
        for j in k..k + 8 {
            out[j] = slot(j);
        }
        k += 8;
    }
    for (j, out) in out.iter_mut().enumerate().skip(k) {
        *out = slot(j);
    }
}

#[inline(always)]
fn load(table: Table<'_>, first: usize, out: &mut [u64]) {
    let run = table.ptep_run(first, out.len());
    assert_eq!(run.len(), out.len());
    for (k, slot) in out.iter_mut().enumerate() {
        *slot = run.ptep_get(k).bits();
    }
}

#[inline(always)]
fn fill(base: u64, step: u64, out: &mut [u64]) {
    for (k, slot) in out.iter_mut().enumerate() {
        *slot = base + k as u64 * step;
    }
}

/// One call over every span of one call, with `ptes` for what has a table.
#[inline(always)]
fn one_call(phys: &Phys, spans: &[Span], out: &mut [u64], ptes: impl Fn(Table<'_>, usize, &mut [u64])) {
    let mut at = 0;
    for span in spans {
        let part = &mut out[at..at + span.len()];
        at += span.len();
        match *span {
            Span::Ptes { table, first, .. } => ptes(phys.table(table), first, part),
            Span::Leaf { entry, within, .. } => fill(build(entry) + within, 1, part),
            Span::Hole { .. } => fill(0, 0, part),
        }
    }
}

/// Goes over `calls` once, call by call.
#[inline(never)]
pub(crate) fn sweep(scene: &Scene, calls: Range<u64>, limit: Limit, way: CopyWay, slots: &mut Slots) {
    let phys = scene.phys();
    if limit == Limit::Chase {
        let lines = scene.tables.len() as u64 * LINES_A_TABLE;
        let share = |k| lines * k / scene.nr_calls();
        std::hint::black_box(chase(scene, share(calls.start), share(calls.end)));
        return;
    }
    for k in calls {
        let spans = scene.spans_of(k);
        let n = scene.request(k).range.nr_pages() as usize;
        let place = if limit == Limit::Copy { way.place } else { 0 };
        let out = slots.get(n, place);
        match limit {
            Limit::Copy => one_call(phys, spans, out, |t, first, out| t.copy_entries(first, out, way.by)),
            Limit::Load => one_call(phys, spans, out, load),
            Limit::Decode => one_call(phys, spans, out, decode),
            Limit::Fill => one_call(phys, spans, out, |t, _, out| fill(t.pfn().get() | VALID, 1, out)),
            Limit::Chase => {}
        }
        std::hint::black_box(out);
    }
}

/// An order of the lines `0..lines` that no prefetcher follows, each once; from the one that stands at `first`.
#[derive(Clone, Copy, Debug)]
struct Chase {
    lines: u64,
    mask: u64,
    step: u64,
    line: u64,
}

impl Chase {
    fn new(lines: u64, first: u64) -> Chase {
        // x -> 5x + odd goes through all values modulo a power of two (Hull and Dobell 1962).
        let mask = lines.next_power_of_two() - 1;
        let step = (0x9e37_79b1 & mask) | 1;
        let mut chase = Chase { lines, mask, step, line: 0 };
        // Windows start at different lines; where exactly does not matter.
        chase.line = first & mask;
        chase.settle();
        chase
    }
    /// Passes over values that are no line, without a load.
    #[inline(always)]
    fn settle(&mut self) {
        while self.line >= self.lines {
            self.line = (self.line.wrapping_mul(5) + self.step) & self.mask;
        }
    }
    /// The line after this one; `loaded` is zero, but has to be waited for.
    #[inline(always)]
    fn next(&mut self, loaded: u64) {
        self.line = ((self.line + loaded).wrapping_mul(5) + self.step) & self.mask;
        self.settle();
    }
}

/// Loads `end - first` lines of the PTE tables. Each address depends on the entry that was loaded last.
fn chase(scene: &Scene, first: u64, end: u64) -> u64 {
    let (phys, tables) = (scene.phys(), &scene.tables);
    if tables.is_empty() {
        return 0;
    }
    let mut chase = Chase::new(tables.len() as u64 * LINES_A_TABLE, first);
    // A zero that the compiler does not know: it has to wait for each entry.
    let zero = std::hint::black_box(0u64);
    for _ in first..end {
        let table = phys.table(tables[(chase.line / LINES_A_TABLE) as usize]);
        let entry = table.ptep_get((chase.line % LINES_A_TABLE * LINE_ENTRIES) as usize);
        chase.next(entry.bits() & zero);
    }
    chase.line
}

/// The way to copy that is fastest on these calls: best of three sweeps each, after one to warm up.
pub(crate) fn fastest_copy(scene: &Scene, calls: Range<u64>, slots: &mut Slots) -> CopyWay {
    let mut fastest = (std::time::Duration::MAX, CopyWay::default());
    for by in BulkCopy::available() {
        for place in PLACES {
            let way = CopyWay { by, place };
            sweep(scene, calls.clone(), Limit::Copy, way, slots);
            for _ in 0..3 {
                let start = std::time::Instant::now();
                sweep(scene, calls.clone(), Limit::Copy, way, slots);
                let took = start.elapsed();
                if took < fastest.0 {
                    fastest = (took, way);
                }
            }
        }
    }
    fastest.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::scene::Recipe;
    use workloads::request::RequestKind;
    use workloads::shape::{Memory, ShapeSpec};

    #[test]
    fn the_chase_loads_every_line_once_whatever_their_number() {
        for lines in [64u64, 128, 192, 640, 64 * 513] {
            for first in [0, 7, lines - 1] {
                let mut chase = Chase::new(lines, first);
                let mut seen = vec![false; lines as usize];
                for _ in 0..lines {
                    let line = chase.line;
                    assert!(!std::mem::replace(&mut seen[line as usize], true), "{lines}: line {line} twice");
                    chase.next(0);
                }
            }
        }
    }

    #[test]
    fn every_way_to_copy_moves_the_same_entries() {
        let recipe = Recipe {
            shape: ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables },
            size_bytes: 4 << 20,
            request: RequestKind::Snapshot,
            call_pages: 1024,
            walkers: 1,
            churn: None,
            seed: 1,
        };
        let scene = Scene::new(recipe).unwrap();
        let mut slots = Slots::new(1024);
        let mut expected: Option<Vec<u64>> = None;
        for by in BulkCopy::available() {
            for place in PLACES {
                slots.get(1024, place).fill(7);
                sweep(&scene, 0..1, Limit::Copy, CopyWay { by, place }, &mut slots);
                let copied = slots.get(1024, place).to_vec();
                assert!(copied.iter().all(|e| *e != 7 && *e != 0));
                assert_eq!(*expected.get_or_insert_with(|| copied.clone()), copied, "{by:?} at {place}");
            }
        }
        scene.discard();
    }
}
