//! A second look at cells that are not shown to be as fast as the baseline's: is it the change, or where the linker put it?
//!
//! Any change moves all functions behind it, and a loop that came to lie unluckily is slower by itself. The second look has
//! another link of either side in every launch, with all functions in another order: what the change did remains, what
//! one order did does not. It is made after the first look and by its rule, never instead of it, and what it looks at is
//! judged by it alone ([`crate::gate::verdict::decide_both`]).

use std::path::PathBuf;

use anyhow::Result;

use super::baseline::{self, Baseline};
use super::paired::{self, Measured, Plan};
use crate::sources::layouts::{self, Links};
use crate::sources::scratch::Scratch;

/// Links of a commit and of the tree around, a pair for each launch; none if Ctrl-C came first.
///
/// # Errors
/// The tree around is not what this program was built from, or one of both does not link.
pub(super) fn links(commit: &str, nr: u32, scratch: &mut Scratch) -> Result<Option<Vec<[PathBuf; 2]>>> {
    // Other seeds for either side: the order of one says nothing of the other's. This side first: what it refuses, it does
    // at once.
    let Some(new) = layouts::link_this(Links { nr, seed: 1001 }, scratch)? else { return Ok(None) };
    let Some(old) = baseline::build(commit, Some(Links { nr, seed: 1 }), scratch)? else { return Ok(None) };
    Ok(Some(old.into_iter().zip(new).map(|(old, new)| [old, new]).collect()))
}

/// Compares these cells once more, with functions in other orders in every launch; none if Ctrl-C came first.
///
/// # Errors
/// There are no other links, or what [`paired::measure`] says.
pub(super) fn look_again(
    baseline: &Baseline,
    plan: Plan,
    cells: Vec<String>,
    scratch: &mut Scratch,
) -> Result<Option<Measured>> {
    let commit = baseline.commit()?;
    eprintln!(
        "looking at {} cells again, their functions in other orders (--as-built does without)",
        cells.len()
    );
    let Some(layouts) = links(commit, paired::LINKS, scratch)? else { return Ok(None) };
    paired::measure(&Plan { cells, layouts, ..plan })
}
