//! Levels of the radix tree: four, or five as with CONFIG_X86_5LEVEL and LA57.
//!
//! The number of levels is a run-time value, as `pgtable_l5_enabled()` is in the kernel; shifts and table sizes are
//! constants ([`crate::addr`]). Under `cfg(loom)` tables have four entries, so that a whole tree fits a model.

use crate::addr::Level;

/// How many levels the tables of an address space have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Geometry {
    /// PGD (folded P4D), PUD, PMD, PTE: 47 bits of user address.
    #[default]
    FourLevel,
    /// PGD, P4D, PUD, PMD, PTE: 56 bits of user address.
    FiveLevel,
}

impl Geometry {
    /// The level of the root table's entries. With four levels the root is what the kernel calls a folded P4D.
    #[inline(always)]
    pub const fn root(self) -> Level {
        match self {
            Geometry::FourLevel => Level::P4d,
            Geometry::FiveLevel => Level::Pgd,
        }
    }

    /// First byte that user mappings may not reach (TASK_SIZE_MAX): half of the tree, less a guard page.
    pub const fn task_size(self) -> u64 {
        (1 << (self.root().shift() + Level::Pmd.shift() - Level::Pte.shift() - 1)) - crate::addr::PAGE_SIZE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn task_sizes_are_those_of_x86_64() {
        assert_eq!(Geometry::FourLevel.task_size(), 0x7fff_ffff_f000);
        assert_eq!(Geometry::FiveLevel.task_size(), 0xff_ffff_ffff_f000);
    }
}
