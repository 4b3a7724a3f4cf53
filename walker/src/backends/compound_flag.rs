//! `compound_flag`: one bit for "mapped by a huge leaf", proposed and not merged.
//!
//! **Models** semantics 1.6, v1 of 8 May 2020 (Campbell): the format and behaviour of 5.8 with HMM_PFN_COMPOUND at bit
//! 60, set for PMD and PUD leaves and for hugetlb.
//!
//! **Promises** that all slots of such a mapping have the same rights: 4 KiB mappings of a 2 MiB page may differ in
//! theirs, so the bit is clear there.
//!
//! **Cannot say** how large the mapping is: the review asked what size a caller should assume, and got the order field
//! of 5.9 (`map_order`).
//!
//! **Costs** as `fixed_flags`.

use crate::backend::{Capability, Info, Kind};
use crate::backends::fixed::{CAPABILITIES, Fixed, Layout};
use crate::backends::hmm_core::Quirks5_8;

/// HMM_PFN_COMPOUND.
pub const COMPOUND: u64 = 1 << 60;

/// The backend. See the module.
pub type CompoundFlag = Fixed<Proposed>;

/// 5.8 and the one bit.
#[derive(Debug)]
pub struct Proposed;

impl Layout for Proposed {
    const INFO: Info = Info {
        id: "compound_flag",
        kernel: "proposed 2020-05",
        kind: Kind::Historic,
        capabilities: {
            let [a, b, c, d, e, f, g, h] = CAPABILITIES;
            &[a, b, c, d, e, f, g, h, Capability::Compound]
        },
    };
    type Quirks = Quirks5_8;
    const PFN_MASK: u64 = COMPOUND - 1;
    #[inline(always)]
    fn size(order: u8) -> u64 {
        if order > 0 { COMPOUND } else { 0 }
    }
    #[inline(always)]
    fn order(_: u64) -> Option<u8> {
        None
    }
    #[inline(always)]
    fn compound(slot: u64) -> Option<bool> {
        Some(slot & COMPOUND != 0)
    }
}
