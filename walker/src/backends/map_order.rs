//! `map_order`: hmm_range_fault of 5.9 to 6.15, with the order of the mapping in five bits of each slot.
//!
//! **Models** semantics 1.6 and 1.7 up to 6.15 (Campbell v3, 1 July 2020): fixed flags in one in/out array, bits 63
//! VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR, 56..60 order, the rest the frame. Behaviour is that of 6.12.
//!
//! **Promises** one slot per base page; order 9 for PMD leaves, 18 for PUD leaves, the hugetlb order for hugetlb; the
//! mapping may reach beyond the range at both ends.
//!
//! **Cannot say**: that a large folio mapped by PTEs is contiguous (order 0); whether a page is the caller's device
//! memory (the struct page tells).
//!
//! **Costs** a store per slot, a load per slot as soon as anything may fault, also under huge leaves.

use crate::backend::{Capability, Info, Kind};
use crate::backends::fixed::{CAPABILITIES, Fixed, Layout};
use crate::backends::hmm_core::Quirks;

pub use crate::backends::fixed::{ERROR, VALID, WRITE};

/// Position of the order field.
pub const ORDER_SHIFT: u32 = 56;
/// The order field.
pub const ORDER_MASK: u64 = 0x1f << ORDER_SHIFT;

/// What a design with an order field can express.
pub(super) const WITH_ORDER: [Capability; 11] = {
    let [a, b, c, d, e, f, g, h] = CAPABILITIES;
    [a, b, c, d, e, f, g, h, Capability::ForeignDevice, Capability::Order, Capability::Compound]
};

/// The backend. See the module.
pub type MapOrder = Fixed<V5_9>;

/// 5.9 to 6.15: the order at bits 56..60.
#[derive(Debug)]
pub struct V5_9;

impl Quirks for V5_9 {}

impl Layout for V5_9 {
    const INFO: Info =
        Info { id: "map_order", kernel: "5.9-6.15", kind: Kind::Historic, capabilities: &WITH_ORDER };
    type Quirks = V5_9;
    const PFN_MASK: u64 = (1 << ORDER_SHIFT) - 1;
    #[inline(always)]
    fn size(order: u8) -> u64 {
        (order as u64) << ORDER_SHIFT
    }
    #[inline(always)]
    fn order(slot: u64) -> Option<u8> {
        Some(((slot & ORDER_MASK) >> ORDER_SHIFT) as u8)
    }
}
