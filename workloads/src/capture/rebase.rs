//! Addresses that do not tell where the process lived, with the same tables.
//!
//! One PGD entry covers 512 GiB (2^39 bytes). Moving a whole such span changes nothing below the top level, so the
//! spans that VMAs touch are numbered anew from 0, in order. Spans that were neighbours stay neighbours; any number
//! of unused spans between two used ones becomes one. Low 39 bits, and so every alignment, stay.

use super::{PAGE_BYTES, Shape};

const SPAN_SHIFT: u32 = 39;

impl Shape {
    /// Renumbers the spans. VMAs must ascend without overlap; addresses only ever shrink.
    pub fn rebase(&mut self) {
        // Old and new number of the last span used so far.
        let mut last: Option<(u64, u64)> = None;
        for vma in &mut self.vmas {
            let first = vma.start >> SPAN_SHIFT;
            let new = match last {
                None => 0,
                Some((old, new)) => new + (first - old).min(2),
            };
            let last_page = vma.start + (vma.nr_pages - 1) * PAGE_BYTES;
            let length = (last_page >> SPAN_SHIFT) - first;
            vma.start = (new << SPAN_SHIFT) | (vma.start & ((1 << SPAN_SHIFT) - 1));
            last = Some((first + length, new + length));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::{Prot, Shape, ShapeKind, ShapeVma, ThpAdvice};

    #[test]
    fn spans_are_numbered_anew_and_low_bits_stay() {
        let span = 1u64 << 39;
        let vma = |start, nr_pages| ShapeVma {
            start,
            nr_pages,
            prot: Prot::READ,
            shared: false,
            kind: ShapeKind::Anon,
            thp: ThpAdvice::Default,
            runs: vec![],
        };
        let mut shape = Shape {
            name: "t".into(),
            made: String::new(),
            description: String::new(),
            kernel: String::new(),
            physical: false,
            missing: vec![],
            vmas: vec![
                vma(170 * span + 0x1000, 1),
                vma(170 * span + 0x3000, 1),
                // Ends in span 172, so the next is its neighbour.
                vma(171 * span + 0x5000, (span / 4096) + 1),
                vma(173 * span, 1),
                vma(255 * span + 0x20_0000, 1),
            ],
        };
        shape.rebase();
        let starts: Vec<_> = shape.vmas.iter().map(|v| v.start).collect();
        assert_eq!(starts, [0x1000, 0x3000, span + 0x5000, 3 * span, 5 * span + 0x20_0000]);
    }
}
