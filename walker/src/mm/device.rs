//! Device-private and device-exclusive memory.
//!
//! Models mm/migrate_device.c, the device-private part of `do_swap_page` (mm/memory.c) and device-exclusive access
//! (mm/rmap.c), 6.12, with a driver that copies as lib/test_hmm.c does. A device page is a frame of kind
//! [`PageKind::DevicePrivate`](crate::memory::PageKind::DevicePrivate) that holds its contents; the processor never maps
//! it. Left out: device-coherent memory, pages that a driver fails to allocate on purpose.
//!
//! | file | what |
//! |------|------|
//! | `private` | device-private memory: what a driver calls, what a fault does |
//! | `migrate_vma` | the steps of a migration to device memory and back |
//! | `exclusive` | host memory that a device has exclusively |

mod exclusive;
mod migrate_vma;
mod private;
#[cfg(test)]
mod tests;

pub use migrate_vma::InMigration;
pub(crate) use private::MigrateDriver;

use crate::addr::{Pfn, VirtAddr};
use crate::arch::Entry;
use crate::mm::fault::Vmf;
use crate::sync::Mutex;
use std::sync::Weak;

/// A driver that put pages into device memory and wants to know when one of them leaves for system memory.
pub trait DeviceMirror: Send + Sync {
    /// The page at `addr` is about to be copied back.
    fn erase(&self, addr: VirtAddr);
}

/// What a machine knows of its device memory.
#[derive(Default)]
pub struct DevicePool {
    /// Whom a page's `private` word names, by position + 1.
    mirrors: Mutex<Vec<Weak<dyn DeviceMirror>>>,
}

impl core::fmt::Debug for DevicePool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DevicePool")
    }
}

impl DevicePool {
    /// Registers a mirror; the result names it in [`Mm::migrate_to_device`](crate::mm::Mm::migrate_to_device).
    pub fn register(&self, mirror: Weak<dyn DeviceMirror>) -> u64 {
        let mut mirrors = self.mirrors.lock();
        mirrors.push(mirror);
        mirrors.len() as u64
    }
    fn erase(&self, mirror: u64, addr: VirtAddr) {
        let found = match mirror.checked_sub(1) {
            Some(i) => self.mirrors.lock().get(i as usize).and_then(Weak::upgrade),
            None => None,
        };
        if let Some(found) = found {
            found.erase(addr);
        }
    }
}

/// Whose device memory: the pgmap owner, and which mirror put a page there (0 for nobody in particular).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// `pgmap->owner`; never 0.
    pub owner: u64,
    /// From [`DevicePool::register`].
    pub mirror: u64,
}

impl Device {
    /// A device without a mirror to be told.
    pub const fn new(owner: u64) -> Device {
        Device { owner, mirror: 0 }
    }
}

/// Pages per `migrate_vma` call and per exclusive call of the driver.
pub const CHUNK: u64 = 64;

impl Vmf<'_> {
    /// The folio that the entry `orig` names, with a reference taken while the entry still stands there.
    fn get_named(&self, orig: Entry) -> Option<Pfn> {
        let phys = self.mm().phys();
        let (table, _guard) = self.mm().lock_pte_table(self.pmd)?;
        if table.ptep_get(self.pte_index()) != orig {
            return None;
        }
        let head = phys.head(orig.swp().pfn());
        phys.page(head).get(1);
        Some(head)
    }
}
