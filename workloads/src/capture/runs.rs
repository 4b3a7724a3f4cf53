//! The `runs` field: `pte.x:1,3*12 none:4` to runs and back. The grammar is in the [module above](super).

use std::fmt::Write as _;

use super::error::ShapeProblem;
use super::{Leaf, MAX_RUNS, PageFlags, PageState, Run};

const LETTERS: [(char, PageFlags); 5] = [
    ('f', PageFlags::FILE),
    ('x', PageFlags::EXCLUSIVE),
    ('z', PageFlags::ZERO),
    ('d', PageFlags::SOFT_DIRTY),
    ('w', PageFlags::UFFD_WP),
];

/// Writes runs, those of one state after each other under one word.
pub(super) fn encode(runs: &[Run]) -> String {
    let mut text = String::new();
    for group in runs.chunk_by(|a, b| a.state == b.state) {
        if !text.is_empty() {
            text.push(' ');
        }
        encode_state(&mut text, group[0].state);
        for (i, same) in group.chunk_by(|a, b| a.nr_pages == b.nr_pages).enumerate() {
            text.push(if i == 0 { ':' } else { ',' });
            let _ = write!(text, "{}", same[0].nr_pages);
            if same.len() > 1 {
                let _ = write!(text, "*{}", same.len());
            }
        }
    }
    text
}

fn encode_state(text: &mut String, state: PageState) {
    text.push_str(match state {
        PageState::Hole => "hole",
        PageState::None => "none",
        PageState::Swap { .. } => "swap",
        PageState::Guard => "guard",
        PageState::Present { leaf: Leaf::Pte, .. } => "pte",
        PageState::Present { leaf: Leaf::Pmd, .. } => "pmd",
        PageState::Present { leaf: Leaf::Pud, .. } => "pud",
    });
    if !state.flags().is_empty() {
        text.push('.');
        text.extend(LETTERS.iter().filter(|(_, flag)| state.flags().contains(*flag)).map(|(c, _)| c));
    }
}

/// Reads runs that must cover `nr_pages` pages. `budget` is how many runs the file may still hold; it shrinks by
/// those read, and is tested before `L*k` is expanded.
pub(super) fn decode(text: &str, nr_pages: u64, budget: &mut usize) -> Result<Vec<Run>, ShapeProblem> {
    let mut runs = Vec::new();
    let mut covered = 0u64;
    for word in text.split(' ') {
        let (state, lengths) = word.split_once(':').ok_or_else(|| bad(word, "runs as `state:lengths`"))?;
        let state = decode_state(state)?;
        for length in lengths.split(',') {
            let (length, times) = match length.split_once('*') {
                Some((length, times)) => (number(length)?, number(times)?),
                None => (number(length)?, 1),
            };
            covered = length
                .checked_mul(times)
                .and_then(|n| covered.checked_add(n))
                .filter(|n| *n <= nr_pages)
                .ok_or_else(|| {
                    ShapeProblem::invalid(format!("runs past the {nr_pages} pages of the VMA"), TILE)
                })?;
            *budget = usize::try_from(times).ok().and_then(|n| budget.checked_sub(n)).ok_or_else(|| {
                ShapeProblem::invalid(format!("more than {MAX_RUNS} runs"), "fewer: the file is damaged")
            })?;
            runs.extend((0..times).map(|_| Run { nr_pages: length, state }));
        }
    }
    Ok(runs)
}

/// What [`decode`] and the check expect of runs.
pub(super) const TILE: &str = "runs that tile the VMA exactly";

fn decode_state(text: &str) -> Result<PageState, ShapeProblem> {
    let (word, letters) = match text.split_once('.') {
        Some((_, "")) => return Err(bad(text, "flag letters after the dot")),
        Some((word, letters)) => (word, letters),
        None => (text, ""),
    };
    let mut flags = PageFlags::empty();
    for letter in letters.chars() {
        let (_, flag) = LETTERS
            .iter()
            .find(|(c, flag)| *c == letter && !flags.contains(*flag))
            .ok_or_else(|| bad(text, "flag letters of f x z d w, each once"))?;
        flags |= *flag;
    }
    let present = |leaf| Ok(PageState::Present { leaf, flags });
    match word {
        "pte" => present(Leaf::Pte),
        "pmd" => present(Leaf::Pmd),
        "pud" => present(Leaf::Pud),
        "swap" => Ok(PageState::Swap { flags }),
        _ if !flags.is_empty() => Err(bad(text, "flags on pte, pmd, pud and swap only")),
        "hole" => Ok(PageState::Hole),
        "none" => Ok(PageState::None),
        "guard" => Ok(PageState::Guard),
        _ => Err(bad(text, "a state: hole, none, swap, guard, pte, pmd or pud")),
    }
}

/// A decimal number from 1, without sign or leading zero, so that each value has one spelling.
fn number(text: &str) -> Result<u64, ShapeProblem> {
    let expected = "a decimal number from 1";
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad(text, expected));
    }
    text.parse().map_err(|_| bad(text, "a number below 2^64"))
}

/// `text` quoted and cut, so that an error message stays one line.
fn bad(text: &str, expected: &'static str) -> ShapeProblem {
    let cut: String = text.chars().take(40).collect();
    ShapeProblem::invalid(format!("{cut:?}"), expected)
}
