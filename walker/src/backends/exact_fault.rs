//! `exact_fault` (candidate): `map_order` that faults the pages that were asked for, and no others.
//!
//! **Idea.** Since 4.14 one slot that needs a fault makes `handle_mm_fault` run for every base page from there to the
//! end of the slice, with that slot's need (semantics 0.5): a write wish for one page of a table shared with a child
//! copies up to 512. Here each page of the span is faulted only if its own wish is not fulfilled, with its own need, and
//! a mapping that a fault brought is stepped over as a whole.
//!
//! **Promises** every wish fulfilled, as `map_order`; faults issued equal faults needed, on every request.
//!
//! **Cannot say** what `map_order` cannot.
//!
//! **Costs** a wish read a second time for each page of a span that faults, and a descent for each page that has one;
//! a span in which every page needs its fault pays that on top of the fault.
//!
//! **Asks of the kernel** a loop over the slots in `hmm_vma_fault`, which has them at hand; of drivers that rely on being
//! given more than they asked for, to ask for it.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;

/// The backend. See the module.
pub type ExactFault = Fixed<Exact>;

/// `map_order`'s layout, exact faults.
#[derive(Debug)]
pub struct Exact;

impl Quirks for Exact {
    const FAULTS_EXACTLY: bool = true;
}

impl Layout for Exact {
    const INFO: Info =
        Info { id: "exact_fault", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Self;
}
