//! The door to `/dev/walkbench_hmm` (scripts/kernel/module): hmm_range_fault on memory of this process, timed by the
//! kernel.
#![allow(unsafe_code)] // reason: an ioctl with a pointer to a struct has no safe wrapper in libc or std

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::mapping::{Mapping, PAGE};

/// Where the device is.
pub(crate) const PATH: &str = "/dev/walkbench_hmm";
/// The version of the protocol that this program speaks: `WALKBENCH_HMM_VERSION`.
const VERSION: u32 = 4;

/// Bits of an answer: the page is there.
pub(crate) const VALID: u8 = 1;
/// And may be written.
pub(crate) const WRITE: u8 = 2;
/// Not for the likes of a device.
pub(crate) const ERROR: u8 = 4;
/// An answer's order of the mapping starts here.
pub(crate) const ORDER_SHIFT: u32 = 3;
/// All of an answer: the last call, which failed, never got to this page.
pub(crate) const UNWRITTEN: u8 = 0xf8;

/// `WALKBENCH_HMM_REQ_FAULT`, `WALKBENCH_HMM_REQ_WRITE`: default flags, mask, wishes.
pub(crate) const REQ_FAULT: u8 = 1;
pub(crate) const REQ_WRITE: u8 = 2;
/// `WALKBENCH_HMM_HOLD_MOVE`.
const HOLD_MOVE: u32 = 1;

/// `struct walkbench_hmm_walk`.
#[repr(C)]
#[derive(Default)]
struct Walk {
    addr: u64,
    nr_pages: u64,
    call_pages: u64,
    wishes: u64,
    answers: u64,
    ns: u64,
    repeats: u32,
    default_flags: u32,
    pfn_flags_mask: u32,
    result: i32,
    calls: u64,
    busy: u64,
    hold: u64,
    nr_held: u64,
    hold_flags: u32,
    waited: u32,
}

const _: () = assert!(size_of::<Walk>() == 104 && align_of::<Walk>() == 8);

/// `_IOC(direction, 'w', number, size)`: 1 writes, 2 reads, seen from here.
const fn request(direction: u32, number: u32, size: usize) -> libc::Ioctl {
    (direction << 30 | (size as u32) << 16 | (b'w' as u32) << 8 | number) as libc::Ioctl
}

/// `WALKBENCH_HMM_GET_VERSION`, `WALKBENCH_HMM_WALK`, `WALKBENCH_HMM_LEARN_OWNER`.
const GET_VERSION: libc::Ioctl = request(2, 0xa0, size_of::<u32>());
const WALK: libc::Ioctl = request(1 | 2, 0xa1, size_of::<Walk>());
const LEARN_OWNER: libc::Ioctl = request(1, 0xa2, size_of::<u64>());

/// Flags of one hmm_range_fault call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags<'a> {
    /// [`REQ_FAULT`] and [`REQ_WRITE`], for every page.
    pub(crate) default_flags: u8,
    /// Which of them count in `wishes`; 0 without wishes.
    pub(crate) pfn_flags_mask: u8,
    /// A byte a page, or none.
    pub(crate) wishes: &'a [u8],
    /// What is in migration meanwhile.
    pub(crate) hold: Hold,
}

/// Pages that are halfway to a device while a walk goes over them. Somebody who waits for one of them ends that, else the
/// end of the walk does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hold {
    /// Of the first.
    pub(crate) addr: u64,
    /// How many, all of one VMA; or none.
    pub(crate) nr_pages: u64,
    /// Whether anonymous ones, and places without any, get other memory in the end; else all come back.
    pub(crate) moves: bool,
}

/// What is asked of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Say what is there.
    Snapshot,
    /// It must be readable.
    FaultRead,
    /// It must be writable.
    FaultWrite,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    /// Calls of hmm_range_fault.
    pub(crate) calls: u64,
    /// Of those, how many a collision made void.
    pub(crate) busy: u64,
    /// Pages that were in migration meanwhile.
    pub(crate) held: u64,
    /// Whether somebody waited for one of them.
    pub(crate) waited: bool,
}

/// The device, open, of the version that this program speaks.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    /// Opens it.
    ///
    /// # Errors
    /// No device, no permission, another device of that name, another version; each with what to do.
    pub(crate) fn open() -> io::Result<Device> {
        Device::open_at(PATH)
    }
    fn open_at(path: &str) -> io::Result<Device> {
        let missing = "scripts/kernel/module has the module; scripts/kernel/run.sh a kernel with it";
        let expected = "expected the device of scripts/kernel/module";
        let refused = |e: io::Error| super::refused(path, &e, missing, expected);
        let device = Device(File::open(path).map_err(refused)?);
        let mut version = 0u32;
        // SAFETY: the request number says that 4 bytes are written, to a number of 4 bytes borrowed for the call. Any other
        // file answers ENOTTY and writes nothing.
        let said = unsafe { libc::ioctl(device.0.as_raw_fd(), GET_VERSION, &raw mut version) };
        if said != 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        if version != VERSION {
            let other = format!(
                "{path}: speaks version {version}, this program {VERSION}; load the module of this version"
            );
            return Err(io::Error::other(other));
        }
        Ok(device)
    }

    /// Mirrors all of `mapping` once for each of `ns`, in calls of `call_pages` pages (0: in one), and says how many
    /// nanoseconds each took: read_begin, mmap lock, hmm_range_fault, read_retry, again after a collision. `answers`
    /// gets a byte a page of the last one.
    ///
    /// # Errors
    /// The kernel's, or what hmm_range_fault returned.
    pub(crate) fn walk(
        &self,
        mapping: &Mapping,
        request: Request,
        call_pages: u64,
        ns: &mut [u64],
        answers: &mut [u8],
    ) -> io::Result<Walked> {
        assert_eq!(answers.len(), mapping.len() / PAGE);
        let default_flags = match request {
            Request::Snapshot => 0,
            Request::FaultRead => REQ_FAULT,
            Request::FaultWrite => REQ_FAULT | REQ_WRITE,
        };
        let flags = Flags { default_flags, ..Flags::default() };
        let (walked, result) = self.walk_at(mapping.start() as u64, call_pages, flags, ns, answers)?;
        if result != 0 {
            let e = io::Error::from_raw_os_error(-result);
            return Err(io::Error::new(e.kind(), format!("hmm_range_fault: {e}")));
        }
        Ok(walked)
    }

    /// As [`walk`](Self::walk), of as many pages as there are answers from address `addr` on, whatever is there; and
    /// what hmm_range_fault returned: 0 or `-errno`.
    ///
    /// # Errors
    /// The device's, about the request.
    pub(crate) fn walk_at(
        &self,
        addr: u64,
        call_pages: u64,
        flags: Flags<'_>,
        ns: &mut [u64],
        answers: &mut [u8],
    ) -> io::Result<(Walked, i32)> {
        let wishes = match flags.wishes {
            [] => 0,
            wishes => {
                assert_eq!(wishes.len(), answers.len());
                wishes.as_ptr().expose_provenance() as u64
            }
        };
        let mut walk = Walk {
            addr,
            nr_pages: answers.len() as u64,
            call_pages,
            wishes,
            answers: answers.as_mut_ptr().expose_provenance() as u64,
            ns: ns.as_mut_ptr().expose_provenance() as u64,
            repeats: u32::try_from(ns.len()).unwrap_or(u32::MAX),
            default_flags: flags.default_flags.into(),
            pfn_flags_mask: flags.pfn_flags_mask.into(),
            hold: flags.hold.addr,
            nr_held: flags.hold.nr_pages,
            hold_flags: if flags.hold.moves { HOLD_MOVE } else { 0 },
            ..Walk::default()
        };
        // SAFETY: the request number says that 104 bytes are read and written, the size of `Walk`, which is laid out as the
        // kernel's and borrowed for the call. The kernel reads nr_pages bytes of `wishes` if there are any, writes nr_pages
        // bytes to `answers` and repeats numbers to `ns`, each as long as that and borrowed too. Faults it takes in the
        // range change none of its bytes.
        let said = unsafe { libc::ioctl(self.0.as_raw_fd(), WALK, &raw mut walk) };
        if said != 0 {
            return Err(io::Error::last_os_error());
        }
        let Walk { calls, busy, nr_held: held, waited, result, .. } = walk;
        Ok((Walked { calls, busy, held, waited: waited != 0 }, result))
    }

    /// Memory of the device that `migrate` sends the page at `addr` to is the caller's own in walks from now on.
    ///
    /// # Errors
    /// Those of `migrate`; ENODATA if it migrated nothing there.
    pub(crate) fn learn_owner(&self, addr: u64, migrate: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let tell = |addr: u64| {
            // SAFETY: the request number says that 8 bytes are read, of a number of 8 bytes borrowed for the call.
            let said = unsafe { libc::ioctl(self.0.as_raw_fd(), LEARN_OWNER, &raw const addr) };
            if said == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        tell(addr)?;
        let migrated = migrate();
        let learned = tell(0);
        migrated.and(learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    const HEADER: &str = include_str!("../../../scripts/kernel/module/walkbench_hmm.h");

    /// `name`, and the number behind it.
    fn constant(name: &str) -> u64 {
        let value = HEADER.lines().find_map(|l| l.strip_prefix(&format!("#define {name} "))).unwrap();
        let digits = value.split_whitespace().next().unwrap().trim_end_matches('U');
        match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
            None => digits.parse().unwrap(),
        }
    }

    #[test]
    fn the_struct_is_laid_out_as_the_headers() {
        macro_rules! fields {
            ($($field:ident: $t:ty),*) => { [$((stringify!($field), offset_of!(Walk, $field), size_of::<$t>())),*] };
        }
        let mine = fields! {
            addr: u64, nr_pages: u64, call_pages: u64, wishes: u64, answers: u64, ns: u64, repeats: u32,
            default_flags: u32, pfn_flags_mask: u32, result: i32, calls: u64, busy: u64,
            hold: u64, nr_held: u64, hold_flags: u32, waited: u32
        };
        let body = HEADER.split_once("struct walkbench_hmm_walk {").unwrap().1.split_once('}').unwrap().0;
        // Every field is as long as it is aligned, so offsets are sums.
        let mut offset = 0;
        let fields = body.lines().filter_map(|l| l.trim().split_once(';')).map(|(field, _)| {
            let (kind, name) = field.split_once(' ').unwrap();
            let size: usize = kind.trim_start_matches("__u").trim_start_matches("__s").parse().unwrap();
            offset += size / 8;
            (name, offset - size / 8, size / 8)
        });
        assert_eq!(fields.collect::<Vec<_>>(), mine);
        assert_eq!(offset, size_of::<Walk>());
    }

    #[test]
    fn numbers_are_the_headers() {
        for (name, value) in [
            ("VERSION", VERSION),
            ("REQ_FAULT", REQ_FAULT.into()),
            ("REQ_WRITE", REQ_WRITE.into()),
            ("VALID", VALID.into()),
            ("WRITE", WRITE.into()),
            ("ERROR", ERROR.into()),
            ("UNWRITTEN", UNWRITTEN.into()),
            ("ORDER_SHIFT", ORDER_SHIFT),
            ("HOLD_MOVE", HOLD_MOVE),
        ] {
            assert_eq!(constant(&format!("WALKBENCH_HMM_{name}")), u64::from(value), "{name}");
        }
        assert!(HEADER.contains("GET_VERSION _IOR('w', 0xa0, __u32)"));
        assert!(HEADER.contains("WALK _IOWR('w', 0xa1, struct walkbench_hmm_walk)"));
        assert_eq!((GET_VERSION, WALK), (0x8004_77a0 as libc::Ioctl, 0xc068_77a1 as libc::Ioctl));
        assert!(HEADER.contains("LEARN_OWNER _IOW('w', 0xa2, __u64)"));
        assert_eq!(LEARN_OWNER, 0x4008_77a2 as libc::Ioctl);
    }

    #[test]
    fn what_is_no_such_device_is_refused_with_what_to_do() {
        let missing = Device::open_at("/dev/walkbench_nothing").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(
            missing.to_string().contains("/dev/walkbench_nothing: ")
                && missing.to_string().contains("scripts/kernel")
        );
        let other = Device::open_at("/dev/null").unwrap_err();
        assert!(other.to_string().contains("expected the device of scripts/kernel/module"), "{other}");
    }
}
