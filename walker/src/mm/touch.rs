//! The processor's own access: what one load or store by the CPU does to the tables.
//!
//! The hardware walk sets accessed and dirty bits; what it may not do faults into `exc_page_fault` ->
//! `do_user_addr_fault` -> `handle_mm_fault` (arch/x86/mm/fault.c, 6.12). There is no TLB in the model: every access
//! reads the tables, and a store takes effect under the table's lock, so that a page is never written after its entry
//! lost the write bit; a table that was unlinked since the walk counts for nothing, as after `pmdp_collapse_flush`.

use crate::addr::{Level, VirtAddr};
use crate::arch::Entry;
use crate::counters::{Counters, NoCounts};
use crate::memory::Table;
use crate::mm::Mm;
use crate::mm::fault::{FaultFlags, VmFault};
use crate::mm::tables::Slot;
use crate::mm::vma::VmFlags;

/// How the CPU accesses one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store of this byte.
    Write(u8),
}

/// The signal that an access ends in instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGSEGV: no VMA, or the VMA does not allow it.
    Segv,
    /// SIGBUS: beyond the file, poisoned memory, an unanswered userfault; also out of memory.
    Bus,
}

impl Mm {
    /// One access by the CPU to the byte at `addr`. Returns the byte that stands there afterwards.
    ///
    /// # Errors
    /// The signal that a process would get.
    pub fn touch(&self, addr: VirtAddr, access: Access) -> Result<u8, Signal> {
        self.touch_counted(addr, access, &mut NoCounts)
    }

    /// As [`Mm::touch`], counting what its faults do.
    ///
    /// # Errors
    /// The signal that a process would get.
    pub fn touch_counted<C: Counters>(
        &self,
        addr: VirtAddr,
        access: Access,
        c: &mut C,
    ) -> Result<u8, Signal> {
        let mut tried = None;
        loop {
            if let Some(byte) = self.hardware_access(addr, access) {
                return Ok(byte);
            }
            let vmas = self.mmap_read();
            let Some(vma) = vmas.find(addr) else { return Err(Signal::Segv) };
            let mut flags = FaultFlags::USER | FaultFlags::ALLOW_RETRY | FaultFlags::KILLABLE;
            flags.set(FaultFlags::TRIED, tried == Some(true));
            match access {
                Access::Write(_) if !vma.has(VmFlags::WRITE) => return Err(Signal::Segv),
                // access_error(): any right at all lets x86 read.
                Access::Read if !vma.flags.intersects(VmFlags::ACCESS) => return Err(Signal::Segv),
                Access::Write(_) => flags |= FaultFlags::WRITE,
                Access::Read => {}
            }
            c.fault_enter();
            let r = self.locked(&vmas).handle_mm_fault(vma, addr, flags, c);
            c.fault_exit();
            drop(vmas);
            if r.contains(VmFault::SIGSEGV) {
                return Err(Signal::Segv);
            }
            if r.intersects(VmFault::ERROR) {
                return Err(Signal::Bus);
            }
            if r.contains(VmFault::RETRY) {
                // do_user_addr_fault: a fault under the VMA lock that read nothing does not count as a try.
                tried = Some(tried.is_some() || r.contains(VmFault::MAJOR));
            }
        }
    }

    /// The page walk of the processor: the byte if the entry allows the access, with accessed and dirty set; else none.
    fn hardware_access(&self, addr: VirtAddr, access: Access) -> Option<u8> {
        let _rcu = crate::memory::rcu::read_lock();
        let mut table: Table<'_> = self.root();
        let mut level = self.geometry().root();
        let mut above = None;
        loop {
            let slot = Slot { table, index: addr.index(level) };
            let e = slot.read();
            if e.is_table() && level > Level::Pte {
                table = self.phys().table(e.pfn());
                level = crate::mm::tables::below(level);
                above = Some((slot, e));
                continue;
            }
            if !e.is_present() || e.is_protnone() || (level > Level::Pte && !e.is_huge()) {
                return None;
            }
            if matches!(access, Access::Write(_)) && !e.is_write() {
                return None;
            }
            return self.access_leaf(above, slot, e, (addr, level), access);
        }
    }

    /// The access itself, if `slot` still holds the leaf `e`, and the entry above still leads to it.
    fn access_leaf(
        &self,
        above: Option<(Slot<'_>, Entry)>,
        slot: Slot<'_>,
        e: Entry,
        (addr, level): (VirtAddr, Level),
        access: Access,
    ) -> Option<u8> {
        // Under the lock, so that the store cannot land after somebody write-protected or zapped the entry. Who unlinks
        // a table takes its lock afterwards, before the pages are copied.
        let _guard = slot.lock();
        if slot.read() != e || above.is_some_and(|(slot, link)| slot.read() != link) {
            return None;
        }
        let used = if matches!(access, Access::Write(_)) { e.mkdirty_hw() } else { e }.mkyoung();
        if used != e {
            slot.set(used);
        }
        let sub = (addr.get() >> 12) & ((1 << level.order()) - 1);
        let pfn = e.pfn().add(sub);
        let offset = (addr.get() & 0xfff) as usize;
        if pfn.get() >= self.phys().nr_frames() {
            return Some(0);
        }
        if let Access::Write(byte) = access {
            self.phys().store_byte(pfn, offset, byte);
        }
        Some(self.phys().load_byte(pfn, offset))
    }
}

impl Entry {
    /// What the processor does on a store: the hardware dirty bit alone, no soft-dirty.
    #[inline]
    #[must_use]
    pub(crate) const fn mkdirty_hw(self) -> Entry {
        Entry(self.0 | 1 << 6)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mm::testing::{BASE, machine, map_anon};

    #[test]
    fn a_store_does_not_reach_a_page_through_a_table_that_collapse_unlinked() {
        let mm = machine();
        map_anon(&mm, 0, 1);
        mm.touch(BASE, Access::Write(1)).unwrap();
        let pmd = mm.lookup(BASE, Level::Pmd).unwrap();
        let pte = mm.lookup(BASE, Level::Pte).unwrap();
        let (link, e) = (pmd.read(), pte.read());
        let store = || mm.access_leaf(Some((pmd, link)), pte, e, (BASE, Level::Pte), Access::Write(2));
        pmd.replace(Entry::NONE);
        assert_eq!(store(), None);
        pmd.set(link);
        assert_eq!(store(), Some(2));
    }
}
