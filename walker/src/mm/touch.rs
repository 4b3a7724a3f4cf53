//! The processor's own access: what one load or store by the CPU does to the tables.
//!
//! The hardware walk sets accessed and dirty bits; what it may not do faults into `exc_page_fault` ->
//! `do_user_addr_fault` -> `handle_mm_fault` (arch/x86/mm/fault.c, 6.12). There is no TLB in the model: every access
//! reads the tables, and a store takes effect under the table's lock, so that a page is never written after its entry
//! lost the write bit.

use crate::addr::{Level, VirtAddr};
use crate::arch::Entry;
use crate::counters::{Counters, NoCounts};
use crate::memory::Table;
use crate::mm::Mm;
use crate::mm::fault::{FaultFlags, VmFault};
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
        loop {
            let i = addr.index(level);
            let e = table.read(i);
            if e.is_table() && level > Level::Pte {
                table = self.phys().table(e.pfn());
                level = crate::mm::tables::below(level);
                continue;
            }
            if !e.is_present() || e.is_protnone() || (level > Level::Pte && !e.is_huge()) {
                return None;
            }
            let write = matches!(access, Access::Write(_));
            if write && !e.is_write() {
                return None;
            }
            // Under the lock, so that the store cannot land after somebody write-protected or zapped the entry.
            let _guard = table.lock();
            let now = Entry::from_bits(table.read(i).bits());
            if now != e {
                return None;
            }
            let used = if write { e.mkdirty_hw() } else { e }.mkyoung();
            if used != e {
                table.set(i, used);
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
            return Some(self.phys().load_byte(pfn, offset));
        }
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
