//! What the machine allows: the same tables and the same slots, with nothing in between.
//!
//! * `copy`: the entries moved to the slots by whatever moves bytes fastest here; tried before the first block.
//! * `load`: one relaxed load and one store per slot.
//! * `decode`: the barest loop that loads an entry, tests it present, builds a slot and stores it.
//! * `fill`: one store per slot, frames ascending, nothing loaded: what a huge leaf must come to.
//! * `zero`, `copy_page`: the contents of as many frames as a block faults in, zeroed or copied.
//!
//! Pieces of the range without PTEs are filled by all of them: every limit writes every slot. Slots are reused from
//! call to call, as a backend's array is.

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
}

impl Limit {
    /// All of them.
    pub(crate) const ALL: [Limit; 4] = [Limit::Copy, Limit::Load, Limit::Decode, Limit::Fill];
    /// Its name in tables and files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Limit::Copy => "copy",
            Limit::Load => "load",
            Limit::Decode => "decode",
            Limit::Fill => "fill",
        }
    }
}

/// Streaming stores want their place aligned to a cache line.
const LINE_BYTES: usize = 64;

/// The slots that the limits write.
#[derive(Debug)]
pub(crate) struct Slots(Vec<u64>, usize);

impl Slots {
    /// `capacity` slots, 64-byte aligned, touched.
    pub(crate) fn new(capacity: usize) -> Slots {
        let spare = LINE_BYTES / size_of::<u64>();
        let slots = vec![1u64; capacity + spare];
        let skip = slots.as_ptr().addr().wrapping_neg() % LINE_BYTES / size_of::<u64>();
        Slots(slots, skip)
    }
    fn get(&mut self, n: usize) -> &mut [u64] {
        &mut self.0[self.1..self.1 + n]
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

/// Goes over the whole scene once, call by call.
#[inline(never)]
pub(crate) fn sweep(scene: &Scene, limit: Limit, way: BulkCopy, slots: &mut Slots) {
    let phys = scene.phys();
    for k in 0..scene.nr_calls() {
        let spans = scene.spans_of(k);
        let n = scene.request(k).range.nr_pages() as usize;
        let out = slots.get(n);
        match limit {
            Limit::Copy => one_call(phys, spans, out, |t, first, out| t.copy_entries(first, out, way)),
            Limit::Load => one_call(phys, spans, out, load),
            Limit::Decode => one_call(phys, spans, out, decode),
            Limit::Fill => one_call(phys, spans, out, |t, _, out| fill(t.pfn().get() | VALID, 1, out)),
        }
        std::hint::black_box(out);
    }
}

/// The way to copy that is fastest on this scene: best of three sweeps each, after one to warm up.
pub(crate) fn fastest_copy(scene: &Scene, slots: &mut Slots) -> BulkCopy {
    let mut fastest = (std::time::Duration::MAX, BulkCopy::String);
    for way in BulkCopy::available() {
        sweep(scene, Limit::Copy, way, slots);
        for _ in 0..3 {
            let start = std::time::Instant::now();
            sweep(scene, Limit::Copy, way, slots);
            if start.elapsed() < fastest.0 {
                fastest = (start.elapsed(), way);
            }
        }
    }
    fastest.1
}
