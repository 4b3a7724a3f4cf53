//! `sticky_flags`: hmm_range_fault of 6.16 to 7.2, whose slots carry bits of the caller across calls.
//!
//! **Models** semantics 1.7: bits 63 VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR, 60 DMA_MAPPED, 59 P2PDMA,
//! 58 P2PDMA_BUS, 53..57 order, the rest the frame. Knows device-private PMD entries (6.19).
//!
//! **Promises** bits 58..60 survive every store and every refill, so that one array can live as long as a memory
//! region (hmm_dma_map) and remember which of its pages are mapped for DMA.
//!
//! **Cannot say** what `map_order` cannot.
//!
//! **Costs** a read-modify-write per slot where the others have a plain store, also in a snapshot.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{Fixed, Layout};
use crate::backends::hmm_core::Quirks;
use crate::backends::map_order::WITH_ORDER;

/// HMM_PFN_DMA_MAPPED.
pub const DMA_MAPPED: u64 = 1 << 60;
/// HMM_PFN_P2PDMA.
pub const P2PDMA: u64 = 1 << 59;
/// HMM_PFN_P2PDMA_BUS.
pub const P2PDMA_BUS: u64 = 1 << 58;
/// HMM_PFN_INOUT_FLAGS: what survives.
pub const STICKY: u64 = DMA_MAPPED | P2PDMA | P2PDMA_BUS;
/// Position of the order field.
pub const ORDER_SHIFT: u32 = 53;
/// The order field.
pub const ORDER_MASK: u64 = 0x1f << ORDER_SHIFT;
/// The frame.
pub const PFN_MASK: u64 = (1 << ORDER_SHIFT) - 1;

/// The backend. See the module.
pub type StickyFlags = Fixed<V6_16>;

/// 6.16 to 7.2: the order at bits 53..57, three bits of the caller above it.
#[derive(Debug)]
pub struct V6_16;

impl Quirks for V6_16 {
    const KNOWS_DEVICE_PMD: bool = true;
}

impl Layout for V6_16 {
    const INFO: Info =
        Info { id: "sticky_flags", kernel: "6.16-7.2", kind: Kind::Historic, capabilities: &WITH_ORDER };
    type Quirks = V6_16;
    const ORDER_SHIFT: u32 = ORDER_SHIFT;
    const STICKY: u64 = STICKY;
}
