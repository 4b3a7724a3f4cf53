//! A second look at what the first one did not show to be as fast as the baseline.
//!
//! Any change moves all functions behind it, and a loop that came to lie unluckily is slower by itself. The second look has
//! another link of either side in every launch, with all functions in another order: what the change did remains, what
//! one order did does not. Where there are no other links, it gives what was not resolved as much time again. It is made
//! after the first look and by its rule, never instead of it, and what it looks at is judged by it alone
//! ([`crate::gate::verdict::decide_both`]); there is no third one.

use std::path::PathBuf;

use anyhow::Result;

use super::arguments::GateArgs;
use super::baseline::{self, Baseline};
use super::paired::{self, Measured, Plan};
use crate::gate::rounds::Orders;
use crate::gate::verdict::Decision;
use crate::sources::layouts::{self, Links};
use crate::sources::scratch::Scratch;
use crate::tables;

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

/// Looks again, and how; none if there is nothing to ask, or if Ctrl-C came first.
///
/// # Errors
/// What [`paired::measure`] says.
pub(super) fn look_again(
    args: &GateArgs,
    baseline: &Baseline,
    (plan, first): (Plan, &Decision),
    scratch: &mut Scratch,
    notes: &mut Vec<String>,
) -> Result<Option<(Orders, Measured)>> {
    let look = |orders, plan: Plan| Ok(paired::measure(&plan)?.map(|measured| (orders, measured)));

    let cells = first.suspects(Orders::Others);
    if !cells.is_empty() && args.layouts.is_none() && !args.as_built {
        eprintln!(
            "looking at {} again, with functions in other orders (--as-built does without)",
            tables::cells(cells.len())
        );
        match baseline.commit().and_then(|commit| links(commit, paired::LINKS, scratch)) {
            Ok(Some(layouts)) => return look(Orders::Others, Plan { layouts, ..plan.again(cells) }),
            Ok(None) => return Ok(None),
            Err(e) => notes.push(format!(
                "where the linker put things is part of this difference: it was not compared in other orders ({e:#})"
            )),
        }
    }
    let cells = first.suspects(Orders::Same);
    if cells.is_empty() {
        return Ok(None);
    }
    eprintln!("looking at {} again", tables::cells(cells.len()));
    look(Orders::Same, plan.again(cells))
}
