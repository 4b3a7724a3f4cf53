//! `hoisted_mask` (candidate): `map_order` that decides once a call whether pages can have wishes of their own.
//!
//! **Idea.** hmm_range_fault computes `(slot & pfn_flags_mask) | default_flags` for every slot of every call, also when
//! the mask is 0 and the wish of every page is the default; under a huge leaf it reads 512 slots to learn what it knew
//! (semantics 0.4). Here the call asks once, and has a loop for each case.
//!
//! **Promises** the answers, faults and errors of `map_order`, for every request.
//!
//! **Cannot say** what `map_order` cannot.
//!
//! **Costs** with a mask of 0 no slot is read, and a huge leaf is decided in one step. All entries of a table then have to
//! pass the same test, so four of them are tested with one branch; what does not pass is looked at one by one. With a mask
//! as `map_order`. Twice the code of the inner loop.
//!
//! **Asks of the kernel** one branch in `hmm_range_need_fault`, and a loop over the entries of a table that are plainly
//! present in front of `hmm_vma_handle_pte`; of drivers nothing. Nothing but general registers.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;

/// The backend. See the module.
pub type HoistedMask = Fixed<Hoisted>;

/// `map_order`'s layout, the mask hoisted.
#[derive(Debug)]
pub struct Hoisted;

impl Quirks for Hoisted {}

impl Layout for Hoisted {
    const INFO: Info =
        Info { id: "hoisted_mask", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
    const HOISTS_MASK: bool = true;
}
