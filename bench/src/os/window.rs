//! The window of a scenario: pages at a fixed address that nothing of this program lives in, and every system call and
//! touch that a scenario can do to them.
//!
//! Everything returns what the kernel said, 0 or `-errno`: a refusal is an answer.
#![allow(unsafe_code)] // reason: system calls with addresses; bytes of memory that Rust knows nothing of; signals

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use workloads::scenario::{Advice, MapFlags, PAGE_BYTES, Prot, Span};

/// What lies behind a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind<'a> {
    /// Anonymous memory.
    Nothing,
    /// hugetlb pages of `1 << order` pages.
    Hugetlb {
        /// 9 or 18.
        order: u8,
    },
    /// A file from byte `offset` on.
    File {
        /// Open as the mapping needs it.
        file: &'a File,
        /// In bytes.
        offset: u64,
    },
}

/// What became of touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Pages that could be.
    pub(crate) ok: u64,
    /// Pages that raised SIGSEGV.
    pub(crate) segv: u64,
    /// Pages that raised SIGBUS.
    pub(crate) bus: u64,
}

/// Pages from an address on. There is one in a process, and nobody else maps anything there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    base: u64,
    npages: u64,
}

/// What a system call returned: 0 or `-errno`.
pub(super) fn said(result: c_int) -> i64 {
    if result == 0 { 0 } else { -i64::from(errno()) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn rights(prot: Prot) -> c_int {
    let of = |set: bool, bit| if set { bit } else { 0 };
    of(prot.read, libc::PROT_READ) | of(prot.write, libc::PROT_WRITE) | of(prot.exec, libc::PROT_EXEC)
}

fn number(advice: Advice) -> c_int {
    match advice {
        Advice::Hugepage => libc::MADV_HUGEPAGE,
        Advice::Nohugepage => libc::MADV_NOHUGEPAGE,
        Advice::Dontneed => libc::MADV_DONTNEED,
        Advice::Free => libc::MADV_FREE,
        Advice::Cold => libc::MADV_COLD,
        Advice::Pageout => libc::MADV_PAGEOUT,
        Advice::Willneed => libc::MADV_WILLNEED,
        Advice::PopulateRead => libc::MADV_POPULATE_READ,
        Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
        Advice::Collapse => libc::MADV_COLLAPSE,
        Advice::Remove => libc::MADV_REMOVE,
        Advice::Dontfork => libc::MADV_DONTFORK,
        Advice::Wipeonfork => libc::MADV_WIPEONFORK,
        Advice::Hwpoison => libc::MADV_HWPOISON,
        Advice::SoftOffline => libc::MADV_SOFT_OFFLINE,
        Advice::Dofork => libc::MADV_DOFORK,
        Advice::Keeponfork => libc::MADV_KEEPONFORK,
        Advice::Random => libc::MADV_RANDOM,
        Advice::Sequential => libc::MADV_SEQUENTIAL,
    }
}

impl Window {
    /// The window of this process.
    ///
    /// # Errors
    /// Something is mapped there already.
    pub(crate) fn new(base: u64, npages: u64) -> io::Result<Window> {
        let window = Window { base, npages };
        // Where nothing is mapped, msync is refused; where something is, whatever it is, it is not ours.
        for page in 0..npages {
            let span = Span { off: page, len: 1 };
            if window.msync(span, libc::MS_ASYNC) != -i64::from(libc::ENOMEM) {
                return Err(io::Error::other(format!(
                    "{:#x}: something lives there already",
                    window.address(page)
                )));
            }
        }
        Ok(window)
    }

    /// Address of the first page.
    pub(crate) fn base(self) -> u64 {
        self.base
    }

    /// Its pages.
    pub(crate) fn npages(self) -> u64 {
        self.npages
    }

    /// Address of a page.
    pub(crate) fn address(self, page: u64) -> u64 {
        self.base + page * PAGE_BYTES
    }

    /// Where that is, and how many bytes.
    pub(super) fn at(self, span: Span) -> (*mut c_void, usize) {
        assert!(span.end() <= self.npages, "{span} of {} pages", self.npages);
        (
            std::ptr::with_exposed_provenance_mut(self.address(span.off) as usize),
            (span.len * PAGE_BYTES) as usize,
        )
    }

    /// mmap(2) at that place.
    pub(crate) fn map(
        self,
        span: Span,
        prot: Prot,
        shared: bool,
        behind: Behind<'_>,
        flags: MapFlags,
        fixed: bool,
    ) -> i64 {
        let mut bits = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        bits |= if fixed { libc::MAP_FIXED } else { libc::MAP_FIXED_NOREPLACE };
        let all = [
            (flags.populate, libc::MAP_POPULATE),
            (flags.noreserve, libc::MAP_NORESERVE),
            (flags.locked, libc::MAP_LOCKED),
        ];
        bits |= all.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit);
        let (fd, offset) = match behind {
            Behind::Nothing => (-1, 0),
            Behind::Hugetlb { order } => {
                bits |= libc::MAP_HUGETLB | (c_int::from(order) + 12) << libc::MAP_HUGE_SHIFT;
                (-1, 0)
            }
            Behind::File { file, offset } => (file.as_raw_fd(), offset),
        };
        if fd == -1 {
            bits |= libc::MAP_ANONYMOUS;
        }
        let (at, len) = self.at(span);
        // SAFETY: inside the window, where nothing of this program lives.
        let mapped = unsafe { libc::mmap(at, len, rights(prot), bits, fd, offset as libc::off_t) };
        if mapped == libc::MAP_FAILED { -i64::from(errno()) } else { 0 }
    }

    /// munmap(2).
    pub(crate) fn unmap(self, span: Span) -> i64 {
        let (at, len) = self.at(span);
        // SAFETY: inside the window, as above; so is every call below.
        said(unsafe { libc::munmap(at, len) })
    }

    /// mprotect(2).
    pub(crate) fn protect(self, span: Span, prot: Prot) -> i64 {
        let (at, len) = self.at(span);
        // SAFETY: inside the window.
        said(unsafe { libc::mprotect(at, len, rights(prot)) })
    }

    /// madvise(2).
    pub(crate) fn advise(self, span: Span, advice: Advice) -> i64 {
        let (at, len) = self.at(span);
        // SAFETY: inside the window.
        said(unsafe { libc::madvise(at, len, number(advice)) })
    }

    /// mlock(2), or mlock2(2) with MLOCK_ONFAULT.
    pub(crate) fn lock(self, span: Span, on_fault: bool) -> i64 {
        let (at, len) = self.at(span);
        let flags = if on_fault { libc::MLOCK_ONFAULT } else { 0 };
        // SAFETY: inside the window.
        said(unsafe { libc::mlock2(at, len, flags) })
    }

    /// munlock(2).
    pub(crate) fn unlock(self, span: Span) -> i64 {
        let (at, len) = self.at(span);
        // SAFETY: inside the window.
        said(unsafe { libc::munlock(at, len) })
    }

    /// msync(2).
    pub(crate) fn msync(self, span: Span, flags: c_int) -> i64 {
        let (at, len) = self.at(span);
        // SAFETY: inside the window.
        said(unsafe { libc::msync(at, len, flags) })
    }

    /// mremap(2) with MREMAP_MAYMOVE and MREMAP_FIXED.
    pub(crate) fn remap(self, span: Span, to: Span) -> i64 {
        let ((from, len), (to, new_len)) = (self.at(span), self.at(to));
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both inside the window.
        let moved = unsafe { libc::mremap(from, len, new_len, flags, to) };
        if moved == libc::MAP_FAILED { -i64::from(errno()) } else { 0 }
    }

    /// Reads or writes a byte of every `step`-th page, and survives what that raises.
    pub(crate) fn touch(self, span: Span, step: u64, write: bool) -> Touched {
        let mut touched = Touched::default();
        // All of it lies inside, or none of it is touched.
        self.at(span);
        for page in (span.off..span.end()).step_by(step.max(1) as usize) {
            let (at, _) = self.at(Span { off: page, len: 1 });
            // What is written depends on the page alone and is never 0.
            let byte = write.then_some(0x41 + (page % 26) as u8);
            match touch_byte(at.wrapping_byte_add(8).cast(), byte) {
                0 => touched.ok += 1,
                libc::SIGBUS => touched.bus += 1,
                _ => touched.segv += 1,
            }
        }
        touched
    }
}

/// Where a touch that raised a signal goes on; 0 while none is under way.
static RESUME: AtomicU64 = AtomicU64::new(0);
/// The signal that the last touch raised, or 0.
static RAISED: AtomicI32 = AtomicI32::new(0);

/// Catches what touches raise, from now on. What anything else raises ends the process.
///
/// # Errors
/// The kernel's; another architecture than x86-64, whose touches are not written yet.
pub(crate) fn catch_signals() -> io::Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "recording is written for x86-64 alone"));
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all-zero is a valid sigaction: no handler, no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the three arguments that SA_SIGINFO says and calls only what signals may.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let resume = RESUME.swap(0, Ordering::Relaxed);
    if resume == 0 {
        if signal == libc::SIGBUS {
            // The kernel's notice that a page has failed, which is what the scenario asked for.
            return;
        }
        // SAFETY: ends the process; allowed in a handler.
        unsafe { libc::_exit(128 + signal) };
    }
    RAISED.store(signal, Ordering::Relaxed);
    #[cfg(target_arch = "x86_64")]
    {
        let context: *mut libc::ucontext_t = context.cast();
        // SAFETY: the kernel's context of the interrupted touch, which goes on behind its access as if that were done.
        unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] = resume as i64 };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = context;
}

/// Reads the byte at `at`, or writes it; returns the signal that raised, or 0.
#[cfg(target_arch = "x86_64")]
fn touch_byte(at: *mut u8, write: Option<u8>) -> c_int {
    RAISED.store(0, Ordering::Relaxed);
    let resume = RESUME.as_ptr();
    match write {
        // SAFETY: the one access lies in the window, of which Rust knows nothing. If it raises a signal, the handler goes on
        // at label 2, with no register changed that the compiler was not told of.
        Some(byte) => unsafe {
            std::arch::asm!(
                "lea {after}, [rip + 2f]",
                "mov qword ptr [{resume}], {after}",
                "mov byte ptr [{at}], {byte}",
                "2:",
                "mov qword ptr [{resume}], 0",
                after = out(reg) _, resume = in(reg) resume, at = in(reg) at, byte = in(reg_byte) byte,
                options(nostack)
            );
        },
        // SAFETY: as above.
        None => unsafe {
            std::arch::asm!(
                "lea {after}, [rip + 2f]",
                "mov qword ptr [{resume}], {after}",
                "mov {byte}, byte ptr [{at}]",
                "2:",
                "mov qword ptr [{resume}], 0",
                after = out(reg) _, resume = in(reg) resume, at = in(reg) at, byte = out(reg_byte) _,
                options(nostack)
            );
        },
    }
    RAISED.load(Ordering::Relaxed)
}

#[cfg(not(target_arch = "x86_64"))]
fn touch_byte(_at: *mut u8, _write: Option<u8>) -> c_int {
    unreachable!("catch_signals refuses this architecture before anything is touched")
}

/// fallocate(2) with FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE, in pages.
pub(crate) fn punch(file: &File, span: Span) -> i64 {
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (off, len) = (span.off * PAGE_BYTES, span.len * PAGE_BYTES);
    // SAFETY: numbers and an open file.
    said(unsafe { libc::fallocate(file.as_raw_fd(), flags, off as libc::off_t, len as libc::off_t) })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A place of its own for each test: they are threads of one process.
    fn window(gigabyte: u64) -> Window {
        Window::new(0x2100_0000_0000 + (gigabyte << 30), 16).unwrap()
    }

    const READ_WRITE: Prot = Prot { read: true, write: true, exec: false };
    const READ: Prot = Prot { read: true, write: false, exec: false };

    #[test]
    fn touches_count_what_they_raise_and_go_on() {
        catch_signals().unwrap();
        let window = window(0);
        let span = |off, len| Span { off, len };
        let map = |s, prot| window.map(s, prot, false, Behind::Nothing, MapFlags::default(), false);
        assert_eq!(map(span(0, 4), READ_WRITE), 0);
        assert_eq!(map(span(3, 2), READ_WRITE), -i64::from(libc::EEXIST));
        assert_eq!(map(span(8, 4), READ), 0);
        let touched = |ok, segv| Touched { ok, segv, bus: 0 };
        assert_eq!(window.touch(span(0, 16), 1, true), touched(4, 12));
        assert_eq!(window.touch(span(0, 16), 1, false), touched(8, 8));
        assert_eq!(window.touch(span(0, 16), 5, true), touched(1, 3));
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_BYTES).unwrap();
        let behind = Behind::File { file: &file, offset: 0 };
        assert_eq!(window.map(span(4, 2), READ_WRITE, true, behind, MapFlags::default(), false), 0);
        assert_eq!(window.touch(span(4, 2), 1, true), Touched { ok: 1, segv: 0, bus: 1 });
        assert!(Window::new(window.base(), 16).is_err(), "it is taken");
        assert_eq!(window.unmap(span(0, 16)), 0);
        assert!(Window::new(window.base(), 16).is_ok());
    }

    #[test]
    #[should_panic(expected = "off=10 len=7 of 16 pages")]
    fn nothing_outside_is_touched() {
        window(1).touch(Span { off: 10, len: 7 }, 1, false);
    }
}
