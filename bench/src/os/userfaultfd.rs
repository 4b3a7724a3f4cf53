//! The door to userfaultfd(2) (fs/userfaultfd.c, include/uapi/linux/userfaultfd.h).
#![allow(unsafe_code)] // reason: a system call and ioctls without a safe wrapper in libc or std

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use workloads::scenario::Span;

use super::window::{Window, said};

/// `_IOC` of type 0xaa with both directions.
const fn request(number: u32, size: usize) -> libc::Ioctl {
    (3 << 30 | (size as u32) << 16 | 0xaa << 8 | number) as libc::Ioctl
}

/// userfaultfd(2), with signals in place of messages: SIGBUS for a page that waits for its handler.
#[derive(Debug)]
pub(crate) struct Userfaultfd(OwnedFd);

impl Userfaultfd {
    /// Opens one: for missing pages alone, or for write protection of every kind of memory, populated or not.
    ///
    /// # Errors
    /// The kernel's: a kernel without userfaultfd or without these features.
    pub(crate) fn open(write_protect: bool) -> io::Result<Userfaultfd> {
        const SIGBUS: u64 = 1 << 7;
        const PAGEFAULT_FLAG_WP: u64 = 1 << 0;
        const WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
        const WP_UNPOPULATED: u64 = 1 << 13;
        // SAFETY: makes a descriptor, with flags and no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        let fd = c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: a new descriptor that nobody else has.
        let fd = Userfaultfd(unsafe { OwnedFd::from_raw_fd(fd) });
        let features = match write_protect {
            true => SIGBUS | PAGEFAULT_FLAG_WP | WP_HUGETLBFS_SHMEM | WP_UNPOPULATED,
            false => SIGBUS,
        };
        match fd.call(0x3f, [0xaa, features, 0]) {
            0 => Ok(fd),
            refused => Err(io::Error::from_raw_os_error(-refused as i32)),
        }
    }

    fn call<const N: usize>(&self, number: u32, mut arguments: [u64; N]) -> i64 {
        let request = request(number, size_of::<[u64; N]>());
        // SAFETY: every structure of userfaultfd is made of 64-bit numbers; the request says how many, and they are borrowed
        // for the call.
        said(unsafe { libc::ioctl(self.0.as_raw_fd(), request, arguments.as_mut_ptr()) })
    }

    /// UFFDIO_REGISTER: for write protection, or for missing pages.
    pub(crate) fn register(&self, window: Window, span: Span, write_protect: bool) -> i64 {
        let (at, len) = window.at(span);
        self.call(0x00, [at.addr() as u64, len as u64, 1 << u32::from(write_protect), 0])
    }

    /// UFFDIO_WRITEPROTECT: on or off.
    pub(crate) fn write_protect(&self, window: Window, span: Span, on: bool) -> i64 {
        let (at, len) = window.at(span);
        self.call(0x06, [at.addr() as u64, len as u64, u64::from(on)])
    }
}
