//! The registry of API designs. A new one is a file under `backends/`, its `mod` line and its line in the list.

pub mod hmm_core;
pub mod map_order;

use crate::backend::{Backend, Info};

/// Work to do with a backend whose type is chosen at run time. Everything inside is monomorphised: there is no
/// dynamic dispatch below the choice.
pub trait Visitor {
    /// What the work yields.
    type Output;
    /// Does it with backend `B`.
    fn visit<B: Backend>(self) -> Self::Output;
}

macro_rules! registry {
    ($($module:ident :: $backend:ident),* $(,)?) => {
        /// Every backend, in the order of the history.
        pub const ALL: &[Info] = &[$(<$module::$backend as Backend>::INFO),*];

        /// Runs `visitor` with the backend called `id`, or returns none if there is no such backend.
        pub fn dispatch<V: Visitor>(id: &str, visitor: V) -> Option<V::Output> {
            $(if id == <$module::$backend as Backend>::INFO.id {
                return Some(visitor.visit::<$module::$backend>());
            })*
            None
        }

        /// The conformance suite, stamped out for each backend.
        #[cfg(all(test, not(loom)))]
        mod conformance {
            $(mod $module {
                crate::conformance::suite!(crate::backends::$module::$backend);
            })*
        }
    };
}

registry! {
    map_order::MapOrder,
}

/// The row of the backend called `id`.
pub fn find(id: &str) -> Option<&'static Info> {
    ALL.iter().find(|b| b.id == id)
}
