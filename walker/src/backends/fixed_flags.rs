//! `fixed_flags`: hmm_range_fault of 5.8, the first with fixed flags in one in/out array.
//!
//! **Models** semantics 1.5 (Gunthorpe, May 2020): bits 63 VALID / REQ_FAULT, 62 WRITE / REQ_WRITE, 61 ERROR, the rest
//! the frame. VM_MIXEDMAP is refused; another owner's device memory and device-exclusive entries end in -EFAULT.
//!
//! **Promises** one slot per base page; on an error the slots before the failing span hold outputs, the others still
//! their inputs; ERROR never in a slot that asked for something.
//!
//! **Cannot say**: how large a mapping is; whether a page is the caller's device memory (the struct page tells). A
//! caller that calls again without refilling asks for more than it wanted, which the thread noted as still to be mended.
//!
//! **Costs** a store per slot, a load per slot as soon as anything may fault, also under huge leaves.

use crate::backend::{Info, Kind};
use crate::backends::fixed::{CAPABILITIES, Fixed, Layout};
use crate::backends::hmm_core::Quirks5_8;

/// The backend. See the module.
pub type FixedFlags = Fixed<V5_8>;

/// 5.8: three flags and the frame.
#[derive(Debug)]
pub struct V5_8;

impl Layout for V5_8 {
    const INFO: Info =
        Info { id: "fixed_flags", kernel: "5.8", kind: Kind::Historic, capabilities: &CAPABILITIES };
    type Quirks = Quirks5_8;
    const PFN_MASK: u64 = (1 << 61) - 1;
    #[inline(always)]
    fn size(_: u8) -> u64 {
        0
    }
    #[inline(always)]
    fn order(_: u64) -> Option<u8> {
        None
    }
}
