//! The registry of API designs. A new one is a file under `backends/`, its `mod` line and its line in the list.
//!
//! Designs share what their kernels shared:
//!
//! | file | what | designs on it |
//! |------|------|---------------|
//! | [`slots`] | the arrays of a call, as the state machines see them | all but the controls |
//! | [`hmm_core`] | the state machine since 5.7 | all from `range_default` (5.7) on |
//! | [`hmm_old`] | the state machine before | `pfn_bits`, `driver_format`, `range_default` of 5.2 and 5.5 |
//! | [`fixed`] | flags at fixed bits of one in/out array | `fixed_flags`, `compound_flag`, `map_order`, `sticky_flags`, `unlocked` |
//! | [`driver`] | slots in a format of the driver's own | `driver_format`, `range_default` |
//!
//! `truth_table.rs` and `contracts.rs` are their tests; the suite of `conformance.rs` is stamped out for each line of
//! the list.

pub mod compound_flag;
#[cfg(all(test, not(loom)))]
mod contracts;
pub mod driver;
pub mod driver_format;
pub mod exact_fault;
pub mod extents;
pub mod fixed;
pub mod fixed_flags;
pub mod hmm_core;
pub mod hmm_old;
pub mod hoisted_mask;
mod kvarray;
pub mod map_order;
pub mod noop;
pub mod oracle;
pub mod pfn_bits;
pub mod range_cursor;
pub mod range_default;
pub mod resume;
pub mod slots;
pub mod sparse_list;
pub mod split_arrays;
pub mod sticky_flags;
pub mod struct_page;
#[cfg(all(test, not(loom)))]
mod truth_table;
pub mod unlocked;
pub mod wide_scan;

use crate::addr::PageRange;
use crate::backend::{Backend, Info};
use crate::counters::{Count, Counters};
use crate::device_table::{DeviceEntry, DeviceTable};

/// Work to do with a backend whose type is chosen at run time. Everything inside is monomorphised: there is no
/// dynamic dispatch below the choice.
pub trait Visitor {
    /// What the work yields.
    type Output;
    /// Does it with backend `B`.
    fn visit<B: Backend>(self) -> Self::Output;
}

macro_rules! registry {
    ($($id:ident = $backend:ty),* $(,)?) => {
        /// Every backend: in the order of the history, then candidates, then controls.
        pub const ALL: &[Info] = &[$(<$backend as Backend>::INFO),*];

        /// Runs `visitor` with the backend called `id`, or returns none if there is no such backend.
        pub fn dispatch<V: Visitor>(id: &str, visitor: V) -> Option<V::Output> {
            $(if id == stringify!($id) {
                return Some(visitor.visit::<$backend>());
            })*
            None
        }

        /// The conformance suite, stamped out for each backend.
        #[cfg(all(test, not(loom)))]
        mod conformance {
            $(mod $id {
                #[allow(unused_imports)] // for the paths in the registry
                use super::super::*;
                crate::conformance::suite!($id, $backend);
            })*
        }
    };
}

registry! {
    pfn_bits = pfn_bits::PfnBits,
    driver_format = driver_format::DriverFormat,
    range_default = range_default::RangeDefault<range_default::V5_7>,
    split_arrays = split_arrays::SplitArrays,
    struct_page = struct_page::PointerOnly,
    struct_page_touch = struct_page::PointerAndTouch,
    fixed_flags = fixed_flags::FixedFlags,
    compound_flag = compound_flag::CompoundFlag,
    map_order = map_order::MapOrder,
    map_order_step = map_order::MapOrderStep,
    sticky_flags = sticky_flags::StickyFlags,
    unlocked = unlocked::Unlocked,
    hoisted_mask = hoisted_mask::HoistedMask,
    exact_fault = exact_fault::ExactFault,
    sparse_list = sparse_list::SparseList,
    extents = extents::Extents,
    extents_exact_fault = extents::ExtentsExactFault,
    resume = resume::Resume,
    range_cursor = range_cursor::RangeCursor,
    sparse_exact_resume = resume::SparseExactResume,
    wide_scan = wide_scan::WideScan,
    oracle = oracle::Oracle,
    noop = noop::Noop,
}

/// The row of the backend called `id`.
pub fn find(id: &str) -> Option<&'static Info> {
    ALL.iter().find(|b| b.id == id)
}

/// Stage 3 of the designs with one output word per base page: writes each slot's device entry.
#[inline(always)]
fn program<S, C: Counters>(
    device: &mut DeviceTable,
    range: PageRange,
    slots: &[S],
    c: &mut C,
    mut entry: impl FnMut(&S) -> DeviceEntry,
) {
    let out = device.entries_mut(range);
    let n = out.len() as u64;
    for (d, slot) in out.iter_mut().zip(slots) {
        *d = entry(slot);
    }
    c.add(Count::ArrayBytes, size_of::<S>() as u64 * n);
    c.add(Count::DeviceEntries, n);
}
