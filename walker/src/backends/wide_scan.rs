//! `wide_scan` (candidate): `map_order` that decodes sixteen entries at a time with AVX2.
//!
//! **Idea.** The ceiling: what the table walk would cost if the processor's vectors could be used. **Not usable in a
//! kernel as it stands**: vector registers there must be saved before (`kernel_fpu_begin`), which costs more than a
//! table, and nothing may sleep or fault in between.
//!
//! **Promises** the answers, faults and errors of `map_order`.
//!
//! **Cannot say** what `map_order` cannot.
//!
//! **Costs** vectors as long as entries are plainly present (and writable, where that is the default), page by page
//! otherwise; with wishes of single pages always page by page. Chosen at run time; without AVX2 as `hoisted_mask`.
//!
//! **Asks of the kernel** what it cannot give.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;

/// The backend. See the module.
pub type WideScan = Fixed<Wide>;

/// `map_order`'s layout, decoded with vectors.
#[derive(Debug)]
pub struct Wide;

impl Quirks for Wide {}

impl Layout for Wide {
    const INFO: Info =
        Info { id: "wide_scan", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
    const HOISTS_MASK: bool = true;
    const WIDE: bool = true;
}
