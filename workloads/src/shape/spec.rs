//! A shape with its parameters: as a definition writes it, and what follows from it without building it.

use super::captured::{self, Layout};
use super::device_private::{DevicePrivate, Owner};
use super::hugetlb::Hugetlb;
use super::many_vmas::ManyVmas;
use super::mixed_huge::{self, MixedHuge};
use super::numa_hint::NumaHint;
use super::parameters::{self, part};
use super::sparse::Sparse;
use super::split_permissions::SplitPermissions;
use super::swapped::Swapped;
use super::unavailable::{Migrating, Poisoned};
use super::zero_mapped::ZeroMapped;
use super::{AbsentTables, BuildError, Memory, machine};
use serde::de::{Deserialize, Deserializer, Error};
use std::sync::Arc;
use walker::addr::{PAGE_SIZE, PMD_SIZE};
use walker::memory::Page;
use walker::request::Wish;

/// A shape with its parameters.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ShapeSpec {
    /// One anonymous VMA, every PTE present, writable, young and dirty, as write faults leave it.
    #[serde(rename = "dense_4k")]
    Dense4k {
        /// Pages in a row that are neighbours in physical memory too: a power of two, 1 to 512.
        #[serde(deserialize_with = "parameters::run_pages")]
        run_pages: u64,
        /// What exists besides the tables.
        #[serde(default)]
        memory: Memory,
    },
    /// One anonymous VMA of PMD leaves (THP), each a 2 MiB folio with its spare table.
    #[serde(rename = "dense_2m")]
    Dense2m,
    /// As `Dense4k`, then forked, then written: the parent is walked, the child lives.
    AfterFork {
        /// As in `Dense4k`.
        #[serde(deserialize_with = "parameters::run_pages")]
        run_pages: u64,
        /// Pages of a thousand that the parent has written since, by Zipf(0.99) writes.
        #[serde(deserialize_with = "parameters::permille")]
        broken_permille: u16,
        /// What exists besides the tables; struct pages of shared frames exist in any case.
        #[serde(default)]
        memory: Memory,
    },
    /// One anonymous VMA with nothing in it.
    #[serde(rename = "absent_4k")]
    Absent4k {
        /// What is above the missing pages.
        tables: AbsentTables,
    },
    /// hugetlb pages of 2 MiB or 1 GiB.
    Hugetlb(Hugetlb),
    /// PMD leaves and PTEs side by side.
    MixedHuge(MixedHuge),
    /// Rights that differ within 2 MiB folios.
    SplitPermissions(SplitPermissions),
    /// The zero page, or the huge zero page.
    ZeroMapped(ZeroMapped),
    /// A share on the swap device.
    Swapped(Swapped),
    /// Little there and much reserved.
    Sparse(Sparse),
    /// Many VMAs of different lengths and rights.
    ManyVmas(ManyVmas),
    /// A share with hints of NUMA balancing.
    NumaHint(NumaHint),
    /// A share in device memory.
    DevicePrivate(DevicePrivate),
    /// A share under migration.
    Migrating(Migrating),
    /// A share that has failed.
    Poisoned(Poisoned),
    /// Frames without struct pages.
    Pfnmap {},
    /// A shape of a live process.
    #[serde(deserialize_with = "embedded_by_name")]
    Captured(Arc<Layout>),
}

fn embedded_by_name<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<Layout>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Captured {
        name: Name,
    }
    struct Name(Arc<Layout>);
    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let name = String::deserialize(d)?;
            let shape = captured::embedded(&name).ok_or_else(|| {
                let names = captured::NAMES.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                D::Error::custom(format!("no captured shape `{name}`, expected one of {names}"))
            })?;
            Ok(Name(Arc::new(Layout::new(shape))))
        }
    }
    Captured::deserialize(d).map(|c| c.name.0)
}

impl ShapeSpec {
    /// Sizes are multiples of this.
    pub const fn unit_bytes(&self) -> u64 {
        match self {
            ShapeSpec::Hugetlb(h) => h.page.bytes(),
            ShapeSpec::Dense2m
            | ShapeSpec::MixedHuge(_)
            | ShapeSpec::SplitPermissions(_)
            | ShapeSpec::Sparse(_)
            | ShapeSpec::ZeroMapped(ZeroMapped { huge: true })
            | ShapeSpec::NumaHint(NumaHint { huge: true, .. })
            | ShapeSpec::Migrating(Migrating { huge: true, .. }) => PMD_SIZE,
            _ => PAGE_SIZE,
        }
    }
    /// The one size that a captured shape can have.
    pub fn own_size(&self) -> Option<u64> {
        match self {
            ShapeSpec::Captured(layout) => Some(layout.size_bytes()),
            _ => None,
        }
    }
    /// What every page already gives: a request for no more changes nothing, so that it can be repeated without end.
    pub const fn gives(&self) -> Wish {
        match self {
            ShapeSpec::Dense4k { .. }
            | ShapeSpec::Dense2m
            | ShapeSpec::Hugetlb(_)
            | ShapeSpec::MixedHuge(MixedHuge { absent_permille: 0, .. })
            | ShapeSpec::DevicePrivate(DevicePrivate { owner: Owner::Caller, .. }) => Wish::Write,
            ShapeSpec::AfterFork { .. } | ShapeSpec::ZeroMapped(_) | ShapeSpec::SplitPermissions(_) => {
                Wish::Read
            }
            ShapeSpec::ManyVmas(m) => match (m.no_access_permille | m.gap_permille, m.read_only_permille) {
                (0, 0) => Wish::Write,
                (0, _) => Wish::Read,
                _ => Wish::None,
            },
            _ => Wish::None,
        }
    }
    /// The strongest wish that every page can come to fulfil. More ends in an error: a VMA forbids it, or the page is not
    /// to be had.
    pub const fn allows(&self) -> Wish {
        match self {
            ShapeSpec::SplitPermissions(_) | ShapeSpec::ManyVmas(_) => self.gives(),
            ShapeSpec::Migrating(_)
            | ShapeSpec::Poisoned(_)
            | ShapeSpec::Pfnmap {}
            | ShapeSpec::Captured(_) => Wish::None,
            _ => Wish::Write,
        }
    }
    /// What is wrong with the parameters together: which one, and what was expected.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, String)> {
        match self {
            ShapeSpec::ManyVmas(m) => m.contradiction(),
            ShapeSpec::MixedHuge(m) => m.contradiction(),
            _ => None,
        }
    }
    /// Whether the shape comes in this size.
    ///
    /// # Errors
    /// [`BuildError::Size`], [`BuildError::Misfit`].
    pub fn check_size(&self, size_bytes: u64) -> Result<(), BuildError> {
        let (expected, exact) = match self.own_size() {
            Some(own) => (own, true),
            None => (self.unit_bytes(), false),
        };
        let fits = if exact {
            size_bytes == expected
        } else {
            size_bytes != 0 && size_bytes.is_multiple_of(expected) && size_bytes <= machine::MAX_SIZE
        };
        if !fits {
            return Err(BuildError::Size { asked: size_bytes, expected, exact });
        }
        match self.misfit(size_bytes) {
            Some(why) => Err(BuildError::Misfit { asked: size_bytes, why }),
            None => Ok(()),
        }
    }
    /// The share that is in another state, of how many things of this size.
    fn share(&self) -> Option<(u16, u64)> {
        Some(match self {
            ShapeSpec::Swapped(s) => (s.permille, PAGE_SIZE),
            ShapeSpec::Sparse(s) => (s.permille, PAGE_SIZE),
            ShapeSpec::DevicePrivate(s) => (s.permille, PAGE_SIZE),
            ShapeSpec::Poisoned(s) => (s.permille, PAGE_SIZE),
            ShapeSpec::NumaHint(s) => (s.permille, self.unit_bytes()),
            ShapeSpec::Migrating(s) => (s.permille, self.unit_bytes()),
            _ => return None,
        })
    }
    fn misfit(&self, size: u64) -> Option<String> {
        match self {
            ShapeSpec::ManyVmas(m) => m.misfit(size),
            ShapeSpec::MixedHuge(m) => mixed_huge::misfit(size, *m),
            _ => {
                let (permille, each) = self.share()?;
                let nr = size / each;
                (part(nr, permille) == 0).then(|| {
                    format!("{permille} of a thousand is nothing of {nr}: expected a larger size or share")
                })
            }
        }
    }
    /// Bytes of memory that the shape takes on the host once requests for `wish` have been fulfilled everywhere: page
    /// tables, struct pages and data that are touched. An estimate, within a tenth of what a build shows.
    pub fn footprint_bytes(&self, size_bytes: u64, wish: Wish) -> u64 {
        const PTE: u64 = 8;
        const STRUCT: u64 = size_of::<Page>() as u64;
        const PRIVATE: u64 = STRUCT + PAGE_SIZE;
        let n = size_bytes / PAGE_SIZE;
        let of = |memory: Memory| match memory {
            Memory::Tables => 0,
            Memory::Pages => STRUCT,
            Memory::Data => PRIVATE,
        };
        // The spare table of a PMD leaf is as large as the table that it stands for.
        let huge = PTE + STRUCT;
        let built = match self {
            ShapeSpec::Dense4k { memory, .. } => n * (PTE + of(*memory)),
            ShapeSpec::Dense2m | ShapeSpec::SplitPermissions(_) => n * huge,
            ShapeSpec::Hugetlb(_) => n * STRUCT,
            ShapeSpec::AfterFork { broken_permille, memory, .. } => {
                n * (2 * PTE + STRUCT.max(of(*memory))) + part(n, *broken_permille) * of(*memory)
            }
            ShapeSpec::Absent4k { tables: AbsentTables::Empty }
            | ShapeSpec::ZeroMapped(_)
            | ShapeSpec::Pfnmap {} => n * PTE,
            ShapeSpec::Absent4k { tables: AbsentTables::Missing } => 0,
            ShapeSpec::MixedHuge(m) => n * PTE + part(n, m.huge_permille) * STRUCT,
            ShapeSpec::Swapped(s) => {
                let swapped = part(n, s.permille);
                let slot = 48 + if s.memory == Memory::Data { PAGE_SIZE } else { 0 };
                n * PTE + swapped * slot + (n - swapped) * of(s.memory)
            }
            ShapeSpec::Sparse(s) if s.tables == AbsentTables::Empty => n * PTE,
            ShapeSpec::Sparse(s) => part(n, s.permille) * 8 * PTE,
            ShapeSpec::ManyVmas(m) => n * PTE + m.vmas * 256,
            ShapeSpec::NumaHint(h) => n * if h.huge { huge } else { PTE },
            ShapeSpec::DevicePrivate(d) => n * (PTE + of(d.memory)) + part(n, d.permille) * STRUCT,
            ShapeSpec::Migrating(m) => n * if m.huge { huge } else { PTE } + part(n, m.permille) * STRUCT,
            ShapeSpec::Poisoned(p) => n * PTE + part(n, p.permille) * STRUCT,
            ShapeSpec::Captured(layout) => layout.shape().summary().nr_mapped * huge,
        };
        let faulted = match (self, wish) {
            (_, Wish::None) => 0,
            (ShapeSpec::Swapped(s), _) => part(n, s.permille) * PRIVATE,
            (ShapeSpec::DevicePrivate(d), _) if d.owner == Owner::Other => part(n, d.permille) * PRIVATE,
            (ShapeSpec::NumaHint(_), _) => n * STRUCT,
            (ShapeSpec::MixedHuge(m), Wish::Write) => part(n, m.absent_permille) * PRIVATE,
            (_, Wish::Read) => n * PTE,
            (_, Wish::Write) if self.gives() != Wish::Write => n * (PTE + PRIVATE),
            _ => 0,
        };
        // Tables of the levels above, and what the allocators hold back.
        built + faulted + (built + faulted) / 256 + (8 << 20)
    }
    /// Whether the host can hold it with `available` bytes.
    ///
    /// # Errors
    /// [`BuildError::Memory`] with the largest size that would fit, a power of two times the shape's unit.
    pub fn check_memory(&self, size_bytes: u64, wish: Wish, available: u64) -> Result<(), BuildError> {
        let needs = self.footprint_bytes(size_bytes, wish);
        if needs <= available {
            return Ok(());
        }
        let mut fits = 0;
        if self.own_size().is_none() {
            let sizes = core::iter::successors(Some(self.unit_bytes()), |s| s.checked_mul(2));
            let fitting = |s: &u64| *s < size_bytes && self.footprint_bytes(*s, wish) <= available;
            fits = sizes.take_while(fitting).filter(|s| self.misfit(*s).is_none()).last().unwrap_or(0);
        }
        Err(BuildError::Memory { asked: size_bytes, needs, available, fits })
    }
    /// The captured shape of this name that comes with the program.
    pub fn embedded(name: &str) -> Option<ShapeSpec> {
        captured::embedded(name).map(ShapeSpec::captured)
    }
    /// A captured shape.
    pub fn captured(shape: crate::capture::Shape) -> ShapeSpec {
        ShapeSpec::Captured(Arc::new(Layout::new(shape)))
    }
}
