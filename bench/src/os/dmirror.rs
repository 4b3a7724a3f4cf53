//! The door to `/dev/hmm_dmirror0` and 1: the kernel's own test driver for device memory (lib/test_hmm.c, Linux 6.12).
#![allow(unsafe_code)] // reason: an ioctl with a pointer to a struct has no safe wrapper in libc or std

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use workloads::scenario::{PAGE_BYTES, Span};

use super::mapping::{Mapping, PAGE};
use super::window::Window;

/// Where device 0 is.
pub(crate) const PATH: &str = "/dev/hmm_dmirror0";
/// Pages of a call of hmm_range_fault: the array of `dmirror_fault` and `dmirror_snapshot`.
pub(crate) const CALL_PAGES: u32 = 64;

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
pub(crate) const WRITTEN: u8 = 0x77;

/// Looked at before anything is asked of a driver: nobody writes it, and it is never anywhere but in memory.
#[repr(C, align(4096))]
struct Page([u8; PAGE]);
static LOOKED_AT: Page = Page([0; PAGE]);

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
        let missing = "no driver test_hmm (CONFIG_TEST_HMM, modprobe test_hmm); scripts/kernel/run.sh has a kernel with it";
        let expected = "expected the kernel's driver test_hmm, of Linux 6.0 or later";
        let refused = |e: io::Error| super::refused(path, &e, missing, expected);
        let device = Dmirror(OpenOptions::new().read(true).write(true).open(path).map_err(refused)?);
        device.probe().map_err(refused)?;
        Ok(device)
    }
    /// Whether it is the driver, and one whose snapshot has the number that it has here. Before 6.0 that number was of a
    /// command that takes pages exclusively and answers a page for each, where a snapshot answers a byte, or of none; it
    /// refuses memory that is read-only. Other devices know none of these numbers.
    fn probe(&self) -> io::Result<()> {
        const UNTOUCHED: u8 = 0xa5;
        let mut bytes = [UNTOUCHED; PAGE];
        let at = (&raw const LOOKED_AT.0).expose_provenance() as u64;
        let done = self.command(Command::Snapshot, at, 1, &mut bytes).map_err(error)?;
        if done.cpages == 1 && bytes[1..].iter().all(|b| *b == UNTOUCHED) {
            return Ok(());
        }
        Err(io::Error::other("a snapshot of a page is not a byte"))
    }

    /// Tells it to do that to all of `mapping`, with a page of `bytes` for each page, of a snapshot with a byte: where a
    /// read goes, what is written, what the snapshot says.
    ///
    /// # Errors
    /// The driver's: what hmm_range_fault returned among them.
    pub(crate) fn ask(&self, command: Command, mapping: &Mapping, bytes: &mut [u8]) -> io::Result<Done> {
        let npages = (mapping.len() / PAGE) as u64;
        self.command(command, mapping.start() as u64, npages, bytes).map_err(|e| {
            let e = error(e);
            io::Error::new(e.kind(), format!("{PATH}: {command:?} of {npages} pages: {e}"))
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
        self.command(Command::Snapshot, window.base(), window.npages(), &mut bytes).map_err(error)?;
        Ok(bytes)
    }

    /// Takes the page at `addr` into the memory of the device.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn take_page(&self, addr: u64) -> io::Result<()> {
        let mut bytes = vec![0; PAGE_BYTES as usize];
        self.command(Command::MigrateToDevice, addr, 1, &mut bytes).map_err(error)?;
        Ok(())
    }

    fn command(&self, command: Command, addr: u64, npages: u64, bytes: &mut [u8]) -> Result<Done, i64> {
        let least = if command == Command::Snapshot { npages } else { npages * PAGE_BYTES };
        assert!(bytes.len() as u64 >= least);
        let ptr = bytes.as_mut_ptr().expose_provenance() as u64;
        let mut cmd = Cmd { addr, ptr, npages, ..Cmd::default() };
        // SAFETY: the request number says that 40 bytes are read and written, the size of `Cmd`, which is laid out as the
        // kernel's and borrowed for the call. The driver reads or writes a page of `bytes` for each page, of a snapshot a
        // byte, of which there are enough. What it does to the memory at `addr`, a scenario's window, a mapping or a page
        // of the caller's, no reference points into; a snapshot, which is all that is ever asked of a static, does nothing.
        let said = unsafe { libc::ioctl(self.0.as_raw_fd(), request(command), &raw mut cmd) };
        if said != 0 {
            return Err(-i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
        }
        Ok(Done { cpages: cmd.cpages, faults: cmd.faults })
    }
}

/// Of `-errno`.
fn error(e: i64) -> io::Error {
    io::Error::from_raw_os_error(-e as i32)
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
        let text = error.to_string();
        assert!(text.starts_with("/dev/hmm_no_dmirror: ") && text.contains("CONFIG_TEST_HMM"), "{text}");
        // It opens, and is another device.
        let error = Dmirror::open_at("/dev/null").unwrap_err().to_string();
        assert!(
            error.starts_with("/dev/null: ") && error.contains("expected the kernel's driver test_hmm"),
            "{error}"
        );
        // A folder opens for nobody who wants to write it.
        let error = Dmirror::open_at("/dev").unwrap_err().to_string();
        assert!(error.contains("expected the kernel's driver test_hmm"), "{error}");
    }

    #[test]
    fn what_another_device_answers_is_an_error_of_every_command() {
        let null = Dmirror(OpenOptions::new().read(true).write(true).open("/dev/null").unwrap());
        let window = Window::new(0x2200_0000_0000, 1).unwrap();
        let span = Span { off: 0, len: 1 };
        assert_eq!(null.tell(Command::Read, window, span), Err(-i64::from(libc::ENOTTY)));
        assert!(null.snapshot(window).is_err() && null.take_page(window.base()).is_err());
        let mapping = Mapping::new(2 << 20).unwrap();
        let error = null.ask(Command::Snapshot, &mapping, &mut [0; 512]).unwrap_err().to_string();
        assert!(error.contains("Snapshot of 512 pages: "), "{error}");
    }
}
