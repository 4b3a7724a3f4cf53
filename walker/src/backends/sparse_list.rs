//! `sparse_list` (candidate): `map_order` that writes only the first slot of a large mapping.
//!
//! **Idea.** The order in a slot says how far the mapping reaches, so the other slots of the mapping say nothing new: the
//! consumer steps over them. Mainline documents the order as an optional help for processing the array; this makes it
//! the answer.
//!
//! **Promises** for every mapping above the PTE level its first slot in the range; every slot of what is mapped by PTEs
//! or not at all. The slots in between hold anything, wishes of the caller included.
//!
//! **Cannot say** what `map_order` cannot; nothing about page i without stepping, or looking at the starts of the blocks
//! around it.
//!
//! **Costs** one store for a leaf instead of 512 or 262,144, and one device entry. Wishes of its pages are still read
//! one by one where requests are made page by page.
//!
//! **Asks of the kernel** a shorter loop in `hmm_vma_handle_pmd`; of every driver that it steps.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;

/// The backend. See the module.
pub type SparseList = Fixed<Sparse>;

/// `map_order`'s layout, one slot a leaf.
#[derive(Debug)]
pub struct Sparse;

impl Quirks for Sparse {}

impl Layout for Sparse {
    const INFO: Info =
        Info { id: "sparse_list", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
    const FIRST_SLOT_ONLY: bool = true;
    const CONSUMER_STEPS: bool = true;
}
