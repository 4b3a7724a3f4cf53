//! Where each event lands.

use super::Place;
use crate::random::{Permutation, below};
use crate::shape::zipf::Zipf;
use rand_pcg::Pcg64Mcg;
use walker::addr::PageRange;

/// The places of one region: its spans, the last of which may reach less far.
#[derive(Clone, Debug)]
pub(super) struct Places {
    region: PageRange,
    span_pages: u64,
    nr: u64,
    next: Next,
}

#[derive(Clone, Debug)]
enum Next {
    Uniform,
    /// Popular places lie anywhere, the same ones for every thread.
    Zipf(Zipf, Permutation),
    Sweep(u64),
}

impl Places {
    /// `popular` decides which places are popular, for all threads alike; a sweep of `thread` starts at its share.
    pub(super) fn new(
        region: PageRange,
        span_pages: u64,
        place: Place,
        (thread, threads): (u32, u32),
        popular: &mut Pcg64Mcg,
    ) -> Places {
        let nr = region.nr_pages().div_ceil(span_pages);
        let next = match place {
            Place::Uniform => Next::Uniform,
            Place::Zipf => Next::Zipf(Zipf::new(nr), Permutation::new(popular, nr)),
            Place::Sweep => Next::Sweep(nr * u64::from(thread) / u64::from(threads)),
        };
        Places { region, span_pages, nr, next }
    }

    /// The next one.
    pub(super) fn next(&mut self, rng: &mut Pcg64Mcg) -> PageRange {
        let i = match &mut self.next {
            Next::Uniform => below(rng, self.nr),
            Next::Zipf(zipf, order) => order.get(zipf.sample(rng) - 1),
            Next::Sweep(next) => {
                let i = *next;
                *next = (i + 1) % self.nr;
                i
            }
        };
        let start = self.region.start().add_pages(i * self.span_pages);
        PageRange::pages(start, self.span_pages.min(self.region.end().pages_since(start)))
    }
}
