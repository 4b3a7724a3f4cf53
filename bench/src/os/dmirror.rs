//! The door to `/dev/hmm_dmirror0` and 1: the kernel's own test driver for device memory (lib/test_hmm.c, Linux 6.12).
#![allow(unsafe_code)] // reason: an ioctl with a pointer to a struct has no safe wrapper in libc or std

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use workloads::scenario::{PAGE_BYTES, Span};

use super::window::Window;

/// `struct hmm_dmirror_cmd`.
#[repr(C)]
#[derive(Default)]
struct Cmd {
    addr: u64,
    ptr: u64,
    npages: u64,
    cpages: u64,
    faults: u64,
}

const _: () = assert!(size_of::<Cmd>() == 40 && align_of::<Cmd>() == 8);

/// `HMM_DMIRROR_*`: what the driver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read = 0,
    Write = 1,
    MigrateToDevice = 2,
    MigrateToSystem = 3,
    Snapshot = 4,
    Exclusive = 5,
}

/// What it said of a command that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Pages copied.
    pub(crate) cpages: u64,
    /// Times the driver had to fault.
    pub(crate) faults: u64,
}

/// What a device writes.
const WRITTEN: u8 = 0x77;

/// An open file of the driver, which mirrors this process. Closing it sends all memory of its device home.
#[derive(Debug)]
pub(crate) struct Dmirror(File);

impl Dmirror {
    /// Opens device `dev`, 0 or 1.
    ///
    /// # Errors
    /// No such device: a kernel without CONFIG_TEST_HMM; no permission.
    pub(crate) fn open(dev: u8) -> io::Result<Dmirror> {
        Dmirror::open_at(&format!("/dev/hmm_dmirror{dev}"))
    }
    fn open_at(path: &str) -> io::Result<Dmirror> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map(Dmirror).map_err(|e| {
            let then = "expected the kernel's test driver (CONFIG_TEST_HMM); scripts/kernel/run.sh has a kernel with it";
            io::Error::new(e.kind(), format!("{path}: {e}; {then}"))
        })
    }

    /// Tells it to do that to pages of the window: what it said, or `-errno`.
    pub(crate) fn tell(&self, command: Command, window: Window, span: Span) -> Result<Done, i64> {
        // What a device read or is to write; a snapshot takes a byte a page of it.
        let mut bytes = vec![WRITTEN; (span.len * PAGE_BYTES) as usize];
        self.command(command, window.address(span.off), span.len, &mut bytes)
    }

    /// A byte a page: `HMM_DMIRROR_SNAPSHOT`.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn snapshot(&self, window: Window) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; window.npages() as usize];
        match self.command(Command::Snapshot, window.base(), window.npages(), &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(io::Error::from_raw_os_error(-e as i32)),
        }
    }

    /// Takes the page at `addr` into the memory of the device.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn take_page(&self, addr: u64) -> io::Result<()> {
        let mut bytes = vec![0; PAGE_BYTES as usize];
        match self.command(Command::MigrateToDevice, addr, 1, &mut bytes) {
            Ok(_) => Ok(()),
            Err(e) => Err(io::Error::from_raw_os_error(-e as i32)),
        }
    }

    fn command(&self, command: Command, addr: u64, npages: u64, bytes: &mut [u8]) -> Result<Done, i64> {
        let least = if command == Command::Snapshot { npages } else { npages * PAGE_BYTES };
        assert!(bytes.len() as u64 >= least);
        let ptr = bytes.as_mut_ptr().expose_provenance() as u64;
        let mut cmd = Cmd { addr, ptr, npages, ..Cmd::default() };
        // SAFETY: the request number says that 40 bytes are read and written, the size of `Cmd`, which is laid out as the
        // kernel's and borrowed for the call. The driver reads or writes a page of `bytes` for each page, of a snapshot a
        // byte, of which there are enough. What it does to the memory at `addr`, a scenario's window or a page of the
        // caller's, no reference points into.
        let said = unsafe { libc::ioctl(self.0.as_raw_fd(), request(command), &raw mut cmd) };
        if said != 0 {
            return Err(-i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
        }
        Ok(Done { cpages: cmd.cpages, faults: cmd.faults })
    }
}

/// `_IOWR('H', command, struct hmm_dmirror_cmd)`.
const fn request(command: Command) -> libc::Ioctl {
    (3u32 << 30 | (size_of::<Cmd>() as u32) << 16 | (b'H' as u32) << 8 | command as u32) as libc::Ioctl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_drivers() {
        assert_eq!(request(Command::Read), 0xc028_4800 as libc::Ioctl);
        assert_eq!(request(Command::Exclusive), 0xc028_4805 as libc::Ioctl);
    }

    #[test]
    fn what_is_no_such_driver_is_refused_with_what_to_do() {
        let error = Dmirror::open_at("/dev/hmm_no_dmirror").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("CONFIG_TEST_HMM"), "{error}");
        let null = Dmirror::open_at("/dev/null").unwrap();
        let window = Window::new(0x2200_0000_0000, 1).unwrap();
        let span = Span { off: 0, len: 1 };
        assert_eq!(null.tell(Command::Read, window, span), Err(-i64::from(libc::ENOTTY)));
        assert!(null.snapshot(window).is_err() && null.take_page(window.base()).is_err());
    }
}
