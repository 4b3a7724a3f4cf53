//! Memory of this process, for the kernel to work on: mmap, madvise, mprotect, mincore, single bytes, and children that
//! share it.
#![allow(unsafe_code)] // reason: system calls with addresses; volatile bytes of memory that Rust knows nothing of

use std::io;
use std::ops::Range;

/// Of a huge page: what a mapping starts and ends at.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Of a page.
pub(crate) const PAGE: usize = 4096;

/// Private anonymous memory, readable and writable, that nothing else in this process refers to. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: usize,
    len: usize,
}

/// madvise(2) as used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    DontNeed,
    HugePage,
    NoHugePage,
    PopulateRead,
    PopulateWrite,
    PageOut,
}

impl Advice {
    fn number(self) -> libc::c_int {
        match self {
            Advice::DontNeed => libc::MADV_DONTNEED,
            Advice::HugePage => libc::MADV_HUGEPAGE,
            Advice::NoHugePage => libc::MADV_NOHUGEPAGE,
            Advice::PopulateRead => libc::MADV_POPULATE_READ,
            Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
            Advice::PageOut => libc::MADV_PAGEOUT,
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Mapping {
    /// `len` bytes, a multiple of 2 MiB, aligned to that.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(len: usize) -> io::Result<Mapping> {
        assert!(len > 0 && len.is_multiple_of(HUGE_PAGE));
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len + HUGE_PAGE, rights, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = at.expose_provenance();
        let start = at.next_multiple_of(HUGE_PAGE);
        // What alignment cost goes back; if that fails it stays reserved, which harms nobody.
        for (from, to) in [(at, start), (start + len, at + len + HUGE_PAGE)] {
            if from < to {
                // SAFETY: a part of the mapping made above, which nothing refers to.
                let _ = unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(from), to - from) };
            }
        }
        Ok(Mapping { start, len })
    }
    /// The same in 2 MiB pages of hugetlb, which the kernel sets apart at once.
    ///
    /// # Errors
    /// The kernel's: ENOMEM when its pool has too few.
    pub(crate) fn hugetlb(len: usize) -> io::Result<Mapping> {
        assert!(len > 0 && len.is_multiple_of(HUGE_PAGE));
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: at.expose_provenance(), len })
    }
    /// Its first address.
    pub(crate) fn start(&self) -> usize {
        self.start
    }
    /// Its addresses.
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.start as u64..(self.start + self.len) as u64
    }
    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// All of it.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.len
    }
    fn at(&self, range: &Range<usize>) -> *mut libc::c_void {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} bytes", self.len);
        std::ptr::with_exposed_provenance_mut(self.start + range.start)
    }
    /// madvise(2) on bytes `range`.
    ///
    /// # Errors
    /// The kernel's: EINVAL where it does not know the advice.
    pub(crate) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        let at = self.at(&range);
        // SAFETY: inside the mapping, which no reference points into; what it held may go.
        checked(unsafe { libc::madvise(at, range.len(), advice.number()) })
    }
    /// mprotect(2): readable, and writable if so.
    ///
    /// # Errors
    /// The kernel's: ENOMEM at the limit of mappings.
    pub(crate) fn protect(&self, range: Range<usize>, writable: bool) -> io::Result<()> {
        let rights = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let at = self.at(&range);
        // SAFETY: inside the mapping; bytes are only touched by [`Mapping::write`], whose caller keeps them writable.
        checked(unsafe { libc::mprotect(at, range.len(), rights) })
    }
    /// mincore(2) of all of it: a byte a page.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn mincore(&self, out: &mut [u8]) -> io::Result<()> {
        assert_eq!(out.len(), self.len / PAGE);
        let at = self.at(&self.all());
        // SAFETY: the kernel writes a byte a page to `out`, which is that long.
        checked(unsafe { libc::mincore(at, self.len, out.as_mut_ptr()) })
    }
    /// Writes a byte into every `step`-th page of all of it, in order: the faults of a program that comes by. What was
    /// made read-only ends the process.
    pub(crate) fn write(&self, step: usize) {
        for at in (0..self.len).step_by(step * PAGE) {
            let byte = std::ptr::with_exposed_provenance_mut::<u8>(self.start + at);
            // SAFETY: inside the mapping, which lives as long as self and which no reference points into.
            unsafe { byte.write_volatile(1) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let at = self.at(&self.all());
        // SAFETY: this mapping's own addresses, and nothing refers to them any more.
        let _ = unsafe { libc::munmap(at, self.len) };
    }
}

/// A child of fork(2) that shares all memory and does nothing. Killed and waited for when dropped.
#[derive(Debug)]
pub(crate) struct IdleChild(libc::pid_t);

impl IdleChild {
    /// Forks.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn fork() -> io::Result<IdleChild> {
        // SAFETY: the child calls prctl, pause and _exit, which may be called between fork and exec, and never returns.
        let pid = unsafe { libc::fork() };
        match pid {
            0 => idle(),
            1.. => Ok(IdleChild(pid)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn idle() -> ! {
    // SAFETY: sets a number of the calling process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        // SAFETY: sleeps until a signal.
        unsafe { libc::pause() };
    }
}

impl Drop for IdleChild {
    fn drop(&mut self) {
        // SAFETY: a child of ours that was not waited for yet.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: the same child; no status is asked for.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(mapping: &Mapping) -> usize {
        let mut pages = vec![0; mapping.len() / PAGE];
        mapping.mincore(&mut pages).unwrap();
        pages.iter().filter(|p| **p & 1 == 1).count()
    }

    #[test]
    fn memory_comes_by_touch_and_goes_by_advice() {
        let mapping = Mapping::new(4 << 20).unwrap();
        assert_eq!((mapping.start() % HUGE_PAGE, mapping.len()), (0, 4 << 20));
        mapping.advise(mapping.all(), Advice::NoHugePage).unwrap();
        assert_eq!(resident(&mapping), 0);
        mapping.write(4);
        assert_eq!(resident(&mapping), 256);
        mapping.write(1);
        assert_eq!(resident(&mapping), 1024);
        mapping.advise(0..PAGE, Advice::DontNeed).unwrap();
        assert_eq!(resident(&mapping), 1023);
        mapping.protect(0..PAGE, false).unwrap();
        mapping.protect(0..PAGE, true).unwrap();
    }

    #[test]
    fn a_child_idles_until_it_is_dropped() {
        let child = IdleChild::fork().unwrap();
        let there = format!("/proc/{}/stat", child.0);
        assert!(std::path::Path::new(&there).exists());
        drop(child);
        assert!(!std::path::Path::new(&there).exists());
    }
}
