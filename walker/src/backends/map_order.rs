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
//! **Costs** a store per slot, a load per slot as soon as anything may fault, also under huge leaves. Its consumer reads
//! every slot and writes an entry a page; that of `map_order_step` steps by the order.

use crate::backend::{Capability, Info, Kind};
use crate::backends::fixed::{CAPABILITIES, Fixed, Layout};
use crate::backends::hmm_core::Quirks;

pub use crate::backends::fixed::{ERROR, VALID, WRITE};

/// Position of the order field.
pub const ORDER_SHIFT: u32 = 56;
/// The order field.
pub const ORDER_MASK: u64 = 0x1f << ORDER_SHIFT;

/// The frame.
pub(super) const PFN_MASK: u64 = (1 << ORDER_SHIFT) - 1;

/// The field for a mapping of `1 << order` pages.
#[inline(always)]
pub(super) fn order_bits(order: u8) -> u64 {
    (order as u64) << ORDER_SHIFT
}

/// The order in a slot.
#[inline(always)]
pub(super) fn order_of(slot: u64) -> u8 {
    ((slot & ORDER_MASK) >> ORDER_SHIFT) as u8
}

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
}

/// The same API under a consumer that uses the order: it steps from mapping to mapping and writes one device entry for
/// each.
pub type MapOrderStep = Fixed<V5_9Step>;

/// As [`V5_9`], consumed by order.
#[derive(Debug)]
pub struct V5_9Step;

impl Quirks for V5_9Step {}

impl Layout for V5_9Step {
    const INFO: Info =
        Info { id: "map_order_step", kernel: "5.9-6.15", kind: Kind::Historic, capabilities: &WITH_ORDER };
    type Quirks = V5_9Step;
    const CONSUMER_STEPS: bool = true;
}
