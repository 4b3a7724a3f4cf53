//! `many_vmas`: a given number of small VMAs, with lengths that differ a lot, with and without gaps and other rights.
//!
//! Lengths are log-normal and scaled to fill the size exactly, so that the number of VMAs and the number of pages can be
//! chosen apart. Neighbours that would be alike have MADV_DONTFORK in turn, or they would be one. A VMA without access
//! holds nothing, every other is full.

use super::dense::{Frames, with_frame};
use super::machine::{START, map, system};
use super::parameters::{Marks, nr_vmas, part, permille};
use super::zipf::exp;
use super::{BuildError, Built, EntryCounts, Undo};
use crate::random::{Picks, Purpose, below, generator, unit};
use serde::Deserialize;
use walker::addr::{PAGE_SIZE, PAGES_PER_PMD, PageRange};
use walker::arch::Geometry;
use walker::mm::Mm;
use walker::mm::madvise::Advice;
use walker::mm::system::ThpMode;
use walker::mm::vma::VmFlags;

/// Standard deviation of the logarithm of a length: one VMA in six is four times as long as the middle one.
const SIGMA: f64 = 1.4;

/// Parameters. The shares are of the VMAs and add up to at most 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManyVmas {
    /// How many.
    #[serde(deserialize_with = "nr_vmas")]
    pub vmas: u64,
    /// VMAs of a thousand that are read-only.
    #[serde(default, deserialize_with = "permille")]
    pub read_only_permille: u16,
    /// VMAs of a thousand that allow nothing.
    #[serde(default, deserialize_with = "permille")]
    pub no_access_permille: u16,
    /// VMAs of a thousand with a gap behind them.
    #[serde(default, deserialize_with = "permille")]
    pub gap_permille: u16,
}

/// Rights of a VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Write,
    Read,
    None,
}

/// VMAs, or the gap behind one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    range: PageRange,
    /// None for a gap.
    rights: Option<Rights>,
    /// MADV_DONTFORK, to differ from the VMA before.
    dont_fork: bool,
}

impl ManyVmas {
    fn nr_gaps(&self) -> u64 {
        part(self.vmas - 1, self.gap_permille)
    }
    /// Why it does not come in this size.
    pub(super) fn misfit(&self, size: u64) -> Option<String> {
        let pieces = self.vmas + self.nr_gaps();
        (pieces > size / PAGE_SIZE)
            .then(|| format!("{} VMAs and {} gaps need at least a page each", self.vmas, self.nr_gaps()))
    }
    /// What is wrong with the parameters together.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let sum = u32::from(self.read_only_permille) + u32::from(self.no_access_permille);
        (sum > 1000).then(|| {
            let expected = "expected at most 1000 together";
            ("no_access_permille", format!("read_only_permille and no_access_permille are {sum}: {expected}"))
        })
    }
    fn rights(&self, seed: u64) -> Vec<Rights> {
        let mut rng = generator(seed, Purpose::Rights);
        let mut none = part(self.vmas, self.no_access_permille);
        let mut read = part(self.vmas, self.read_only_permille);
        let draw = |k| match below(&mut rng, self.vmas - k) {
            n if n < none => {
                none -= 1;
                Rights::None
            }
            n if n < none + read => {
                read -= 1;
                Rights::Read
            }
            _ => Rights::Write,
        };
        (0..self.vmas).map(draw).collect()
    }
    fn pieces(&self, nr_pages: u64, seed: u64) -> Vec<Piece> {
        let gaps = Picks::new(generator(seed, Purpose::Gaps), self.vmas - 1, self.nr_gaps());
        let mut kinds = Vec::new();
        for (rights, gap) in self.rights(seed).into_iter().zip(gaps.chain([false])) {
            kinds.push(Some(rights));
            if gap {
                kinds.push(None);
            }
        }
        // A page each, and the rest by weight.
        let mut rng = generator(seed, Purpose::Lengths);
        let weights: Vec<u64> = kinds.iter().map(|_| log_normal(&mut rng)).collect();
        let (all, rest) =
            (weights.iter().map(|w| u128::from(*w)).sum::<u128>(), nr_pages - kinds.len() as u64);
        let (mut sum, mut start) = (0u128, START);
        let mut before: Option<(Option<Rights>, bool)> = None;
        let piece = |(k, (rights, weight)): (usize, (Option<Rights>, u64))| {
            sum += u128::from(weight);
            let end = START.add_pages(k as u64 + 1 + (u128::from(rest) * sum / all) as u64);
            let dont_fork = match before {
                Some((kind, dont_fork)) if kind == rights => !dont_fork,
                _ => false,
            };
            before = Some((rights, dont_fork));
            let range = PageRange::between(core::mem::replace(&mut start, end), end);
            Piece { range, rights, dont_fork }
        };
        kinds.into_iter().zip(weights).enumerate().map(piece).collect()
    }
}

/// A weight with a log-normal distribution, in units of 2^-16, from basic operations alone: the sum of twelve uniform
/// numbers is close enough to normal.
fn log_normal(rng: &mut rand_pcg::Pcg64Mcg) -> u64 {
    let z = (0..12).map(|_| unit(rng)).sum::<f64>() - 6.0;
    ((exp(SIGMA * z) * 65536.0) as u64).max(1)
}

/// One mapping for all VMAs up to the next gap, cut by the rights and advice of each.
fn map_chain(mm: &Mm, chain: &[Piece]) -> Result<(), BuildError> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return Ok(()) };
    let whole = PageRange::between(first.range.start(), last.range.end());
    map(mm, whole)?;
    if chain.iter().any(|p| p.rights != Some(Rights::None)) {
        mm.build().anon_prepare(whole.start());
    }
    for piece in chain {
        match piece.rights {
            Some(Rights::Read) => mm.mprotect(piece.range, VmFlags::READ)?,
            Some(Rights::None) => mm.mprotect(piece.range, VmFlags::empty())?,
            _ => {}
        }
        if piece.dont_fork {
            mm.madvise(piece.range, Advice::DontFork)?;
        }
    }
    Ok(())
}

pub(super) fn build(size: u64, seed: u64, spec: ManyVmas) -> Result<Built, BuildError> {
    let nr_pages = size / PAGE_SIZE;
    let pieces = spec.pieces(nr_pages, seed);
    let system = system(nr_pages, 1, ThpMode::Never)?;
    let mm = Mm::new(&system, Geometry::FourLevel)?;
    let range = PageRange::pages(START, nr_pages);
    for chain in pieces.split(|p| p.rights.is_none()) {
        map_chain(&mm, chain)?;
    }
    let is_full = |p: &&Piece| matches!(p.rights, Some(Rights::Read | Rights::Write));
    let nr_present = pieces.iter().filter(is_full).map(|p| p.range.nr_pages()).sum();
    let frames = match nr_present {
        0 => None,
        n => Some(Frames::alloc(&system.phys, n, 1, seed, Purpose::Frames)?),
    };
    let mut expected = EntryCounts::default();
    let mut tables = Marks::none(nr_pages.div_ceil(PAGES_PER_PMD));
    let mut builder = mm.build();
    let mut next = 0;
    for piece in pieces.iter().filter(is_full) {
        let Some(frames) = &frames else { break };
        let vma = builder.vma(piece.range.start()).expect("just mapped");
        let own = vma.anon_entry(walker::addr::Pfn::new(0));
        // Written while the VMA allowed it: dirty, whatever became of the right.
        let model = if piece.rights == Some(Rights::Read) { own.mkdirty() } else { own };
        builder.ptes(piece.range, |i| with_frame(model, frames.get(next + i)))?;
        next += piece.range.nr_pages();
        spans(piece.range).for_each(|(span, _)| tables.set(span));
    }
    drop(builder);
    for piece in &pieces {
        let n = piece.range.nr_pages();
        match piece.rights {
            Some(Rights::Write) => expected.pte_rw += n,
            Some(Rights::Read) => expected.pte_ro += n,
            None => expected.gap += n,
            Some(Rights::None) => {
                for (span, pages) in spans(piece.range) {
                    *if tables.has(span) { &mut expected.none } else { &mut expected.hole } += pages;
                }
            }
        }
    }
    Ok(Built::new(system, mm, range, expected, Undo::Steady))
}

/// The 2 MiB spans that `range` lies in, counted from the start of the shape, with its pages in each.
fn spans(range: PageRange) -> impl Iterator<Item = (u64, u64)> {
    let first = range.start().pages_since(START);
    let end = first + range.nr_pages();
    (first / PAGES_PER_PMD..end.div_ceil(PAGES_PER_PMD)).map(move |span| {
        let (low, high) = (span * PAGES_PER_PMD, (span + 1) * PAGES_PER_PMD);
        (span, high.min(end) - low.max(first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_tile_the_size_and_are_as_many_as_asked_for() {
        let spec =
            ManyVmas { vmas: 1000, read_only_permille: 300, no_access_permille: 100, gap_permille: 200 };
        for (nr_pages, seed) in [(1 << 16, 1), (1 << 20, 2), (1199, 3)] {
            let pieces = spec.pieces(nr_pages, seed);
            let mut at = START;
            for p in &pieces {
                assert!(p.range.start() == at && p.range.nr_pages() > 0);
                at = p.range.end();
            }
            assert_eq!(at.pages_since(START), nr_pages);
            let of = |r| pieces.iter().filter(|p| p.rights == r).count();
            assert_eq!(of(None), 199);
            assert_eq!([Rights::Read, Rights::None, Rights::Write].map(|r| of(Some(r))), [300, 100, 600]);
        }
    }

    #[test]
    fn lengths_differ_as_a_log_normal_does() {
        let spec = ManyVmas { vmas: 4000, read_only_permille: 0, no_access_permille: 0, gap_permille: 0 };
        let mut lengths: Vec<u64> = spec.pieces(4000 * 64, 1).iter().map(|p| p.range.nr_pages()).collect();
        lengths.sort_unstable();
        let quantile = |q: usize| lengths[lengths.len() * q / 100] as f64;
        let ratio = quantile(84) / quantile(50);
        assert!((3.4..4.8).contains(&ratio), "{ratio}: expected about e^1.4");
    }
}
