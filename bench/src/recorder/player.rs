//! One scenario's process: does what operations say and keeps what they need.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use workloads::scenario::{Accesses, Expected, MapKind, Op, PAGE_BYTES, RawCode, Rle, Scenario, Span, Wish};

use super::observe::{self, Eyes};
use super::race;
use crate::os::child::{Child, Command};
use crate::os::dmirror::{self, Dmirror};
use crate::os::hmm::{Device, Flags, Hold, REQ_FAULT, REQ_WRITE};
use crate::os::mapping::{HUGE_PAGE, Mapping, PAGE};
use crate::os::swap;
use crate::os::userfaultfd::Userfaultfd;
use crate::os::window::{self, Behind, Touched, Window};

/// A process that plays.
pub(super) struct Player {
    window: Window,
    device: Device,
    /// The test driver's two devices, where the scenario has memory of a device.
    dmirror: Option<[Dmirror; 2]>,
    /// Whether what device 1 sees is recorded too.
    dev1: bool,
    eyes: Eyes,
    /// The tmpfs file, opened for writing and once more for reading.
    file: Option<(File, File)>,
    child: Option<Child>,
    userfaultfd: Option<Userfaultfd>,
}

/// A block device whose writes are tracked, beside the one that is swap.
const BLOCK_DEVICE: &str = "/dev/ram1";
/// Where `devmem` begins: the window of old graphics cards, which is no memory of the kernel's.
const DEVMEM: u64 = 0xa_0000;

fn read_write(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

fn flags(wish: Wish) -> u8 {
    (if wish.asks_fault() { REQ_FAULT } else { 0 }) | if wish.asks_write() { REQ_WRITE } else { 0 }
}

fn minus(error: &io::Error) -> i64 {
    -i64::from(error.raw_os_error().unwrap_or(libc::EIO))
}

fn of_result(result: io::Result<()>) -> i64 {
    result.map_or_else(|e| minus(&e), |()| 0)
}

impl Player {
    pub(super) fn new(scenario: &Scenario) -> io::Result<Player> {
        let window = Window::new(scenario.base(), scenario.npages as u64)?;
        window::catch_signals()?;
        swap::undisturbed(super::PATIENCE)?;
        let device = Device::open()?;
        let dmirror = if scenario.dev1 || scenario.steps.iter().any(|step| needs_memory(&step.op)) {
            let both = [Dmirror::open(0)?, Dmirror::open(1)?];
            learn_owner(&device, &both[0])?;
            Some(both)
        } else {
            None
        };
        Ok(Player {
            window,
            device,
            dmirror,
            dev1: scenario.dev1,
            eyes: Eyes::open(window)?,
            file: None,
            child: None,
            userfaultfd: None,
        })
    }

    pub(super) fn observe(&mut self, expected: &mut Expected) -> io::Result<bool> {
        self.eyes.observe(&self.device, self.dmirror.as_ref(), self.dev1, expected)
    }

    /// Runs an operation: what it returned.
    pub(super) fn apply(&mut self, op: &Op) -> io::Result<Expected> {
        let window = self.window;
        let ret = match op {
            Op::Map { span, prot, kind, flags, foff, fixed } => {
                let opened;
                let (shared, behind) = match kind {
                    MapKind::Anon => (false, Behind::Nothing),
                    MapKind::SharedAnon => (true, Behind::Nothing),
                    MapKind::HugetlbPrivate => (false, Behind::Hugetlb { order: 9 }),
                    MapKind::HugetlbShared => (true, Behind::Hugetlb { order: 9 }),
                    MapKind::HugetlbPrivate1G => (false, Behind::Hugetlb { order: 18 }),
                    MapKind::Zero | MapKind::SharedZero => {
                        opened = read_write("/dev/zero")?;
                        (
                            *kind == MapKind::SharedZero,
                            Behind::File { file: &opened, offset: foff * PAGE_BYTES },
                        )
                    }
                    MapKind::BlockPrivate | MapKind::BlockShared => {
                        opened = read_write(BLOCK_DEVICE)?;
                        let behind = Behind::File { file: &opened, offset: foff * PAGE_BYTES };
                        (*kind == MapKind::BlockShared, behind)
                    }
                    MapKind::DevMem => {
                        opened = read_write("/dev/mem")?;
                        (true, Behind::File { file: &opened, offset: DEVMEM + foff * PAGE_BYTES })
                    }
                    MapKind::FilePrivate | MapKind::FileShared | MapKind::FileReadOnly => {
                        let Some((write, read)) = &self.file else {
                            return Ok(Expected { ret: -i64::from(libc::EBADF), ..Expected::default() });
                        };
                        let file = if *kind == MapKind::FileReadOnly { read } else { write };
                        (*kind != MapKind::FilePrivate, Behind::File { file, offset: foff * PAGE_BYTES })
                    }
                    MapKind::Dmirror => return Err(cannot(op)),
                };
                window.map(*span, *prot, shared, behind, *flags, *fixed)
            }
            Op::File { size, fill } => {
                self.file = Some(tmpfs_file()?);
                self.on_file(|file| {
                    let made = of_result(file.set_len(size * PAGE_BYTES));
                    let pages = fill.map_or(0..0, |fill| fill.off..fill.end());
                    pages.fold(made, |ret, page| {
                        let written = file.write_all_at(&[b'f'; PAGE_BYTES as usize], page * PAGE_BYTES);
                        written.map_or_else(|e| minus(&e), |()| ret)
                    })
                })
            }
            Op::Ftrunc { size } => self.on_file(|file| of_result(file.set_len(size * PAGE_BYTES))),
            Op::Fpunch { span } => self.on_file(|file| window::punch(file, *span)),
            Op::Unmap { span } => window.unmap(*span),
            Op::Protect { span, prot } => window.protect(*span, *prot),
            Op::Mlock { span } => window.lock(*span, false),
            Op::MlockOnFault { span } => window.lock(*span, true),
            Op::Munlock { span } => window.unlock(*span),
            Op::Msync { span } => window.msync(*span, libc::MS_SYNC),
            Op::Mremap { span, to, newlen } => window.remap(*span, Span { off: *to, len: *newlen }),
            Op::Madvise { span, advice } => window.advise(*span, *advice),
            Op::Read { span, step } => return Ok(touched(window.touch(*span, *step, false))),
            Op::Write { span, step } => return Ok(touched(window.touch(*span, *step, true))),
            Op::Fork if self.child.is_some() => -i64::from(libc::EBUSY),
            Op::Fork => match Child::fork(window) {
                Ok(child) => {
                    self.child = Some(child);
                    0
                }
                Err(e) => minus(&e),
            },
            Op::ChildRead { span } => return self.child_touches(Command::Read, *span),
            Op::ChildWrite { span } => return self.child_touches(Command::Write, *span),
            Op::ChildUnmap { span } => match &mut self.child {
                Some(child) => child.tell(Command::Unmap, *span)?.0,
                None => -1,
            },
            Op::ChildExit => self.child.take().map_or(-1, |_| 0),
            Op::Fault { span, req } => {
                return self.range_fault(*span, Flags { default_flags: flags(*req), ..Flags::default() });
            }
            Op::FaultPages { span, req, mask, pages } => {
                let wishes: Vec<u8> = pages.iter().map(flags).collect();
                let (default_flags, pfn_flags_mask) = (flags(*req), flags(*mask));
                let wishes = &wishes;
                let flags = Flags { default_flags, pfn_flags_mask, wishes, ..Flags::default() };
                return self.range_fault(*span, flags);
            }
            Op::UffdWp { span } => match self.userfaultfd(true)?.register(window, *span, true) {
                0 => self.userfaultfd(true)?.write_protect(window, *span, true),
                refused => refused,
            },
            Op::UffdUnwp { span } => self.userfaultfd(true)?.write_protect(window, *span, false),
            Op::UffdMiss { span } => self.userfaultfd(false)?.register(window, *span, false),
            Op::SoftClear => of_result(std::fs::write("/proc/self/clear_refs", "4")),
            Op::Nop => 0,
            // A file of its own, whose closing sends all memory of its device home.
            Op::DeviceRead { span } => {
                return Ok(done(&Dmirror::open(0)?.tell(dmirror::Command::Read, window, *span), true));
            }
            Op::DeviceWrite { span } => {
                return Ok(done(&Dmirror::open(0)?.tell(dmirror::Command::Write, window, *span), true));
            }
            Op::Migrate { span, dev } => {
                return self.on_device(op, *dev, dmirror::Command::MigrateToDevice, *span);
            }
            Op::MigrateToSystem { span, dev } => {
                return self.on_device(op, *dev, dmirror::Command::MigrateToSystem, *span);
            }
            Op::Exclusive { span, dev } => {
                return self.on_device(op, *dev, dmirror::Command::Exclusive, *span);
            }
            Op::Held { span, held } => {
                let hold = self.hold(*held, false);
                return Ok(Expected {
                    calls: None,
                    waited: None,
                    ..self.held(*span, Flags::default(), hold)?
                });
            }
            Op::HeldFault { span, held, moves, req, mask, pages } => {
                let wishes: Vec<u8> = pages.iter().flat_map(Rle::iter).map(flags).collect();
                let pfn_flags_mask = if pages.is_some() { flags(*mask) } else { 0 };
                let flags =
                    Flags { default_flags: flags(*req), pfn_flags_mask, wishes: &wishes, ..Flags::default() };
                let mut seen = self.held(*span, flags, self.hold(*held, *moves))?;
                // By now another page may be where one of the marked ones was.
                seen.out = seen.out.map(|out| Rle::from_values(out.iter().map(RawCode::unmarked)));
                return Ok(seen);
            }
            Op::Race { span, req, cpu, lead } => {
                let flags = Flags { default_flags: flags(*req), ..Flags::default() };
                return self.race((*span, flags), (cpu, *lead));
            }
            Op::Unsupported { .. } => return Err(cannot(op)),
        };
        Ok(Expected { ret, ..Expected::default() })
    }

    fn on_file(&self, act: impl FnOnce(&File) -> i64) -> i64 {
        self.file.as_ref().map_or(-i64::from(libc::EBADF), |(file, _)| act(file))
    }

    /// The first use decides what it can.
    fn userfaultfd(&mut self, write_protect: bool) -> io::Result<&Userfaultfd> {
        if self.userfaultfd.is_none() {
            self.userfaultfd = Some(Userfaultfd::open(write_protect)?);
        }
        self.userfaultfd.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn child_touches(&mut self, command: Command, span: Span) -> io::Result<Expected> {
        let Some(child) = &mut self.child else {
            return Ok(Expected { ret: -1, segv: Some(0), bus: Some(0), ..Expected::default() });
        };
        let (ret, segv, bus) = child.tell(command, span)?;
        Ok(Expected { ret, segv: Some(segv), bus: Some(bus), ..Expected::default() })
    }

    fn on_device(&self, op: &Op, dev: u8, command: dmirror::Command, span: Span) -> io::Result<Expected> {
        let both = self.dmirror.as_ref().ok_or_else(|| cannot(op))?;
        Ok(done(&both[usize::from(dev & 1)].tell(command, self.window, span), false))
    }

    fn hold(&self, held: Span, moves: bool) -> Hold {
        Hold { addr: self.window.address(held.off), nr_pages: held.len, moves }
    }

    /// A walk of `span` while pages are in migration.
    fn held(&mut self, span: Span, flags: Flags<'_>, hold: Hold) -> io::Result<Expected> {
        let mut answers = vec![0; span.len as usize];
        let flags = Flags { hold, ..flags };
        let (walked, ret) =
            match self.device.walk_at(self.window.address(span.off), 0, flags, &mut [0], &mut answers) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    return Ok(Expected { ret: minus(&e), ..Expected::default() });
                }
                walked => walked?,
            };
        let out = self.eyes.codes(span, &answers)?;
        Ok(Expected {
            ret: ret.into(),
            calls: Some(walked.calls),
            cpages: Some(walked.held),
            waited: Some(walked.waited.into()),
            out: Some(Rle::from_values(out)),
            ..Expected::default()
        })
    }

    /// A walk of `span` while another processor does `cpu`.
    fn race(&mut self, walk: (Span, Flags<'_>), cpu: (&Accesses, u64)) -> io::Result<Expected> {
        let raced = race::race(&self.device, self.window, self.child.as_mut(), walk, cpu)?;
        Ok(Expected {
            ret: raced.ret.into(),
            segv: Some(raced.touched.segv),
            bus: Some(raced.touched.bus),
            order: Some(1),
            busy: Some(raced.walked.busy),
            began: Some(raced.began),
            ended: Some(raced.ended),
            // By now another page may be where one of the marked ones was.
            out: Some(Rle::from_values(raced.answers.iter().map(|answer| observe::code(*answer)))),
            ..Expected::default()
        })
    }

    /// One call for all of `span`, again while the kernel says -EBUSY.
    fn range_fault(&mut self, span: Span, flags: Flags<'_>) -> io::Result<Expected> {
        let mut answers = vec![0; span.len as usize];
        let addr = self.window.address(span.off);
        let (walked, ret) = self.device.walk_at(addr, 0, flags, &mut [0], &mut answers)?;
        let out = self.eyes.codes(span, &answers)?;
        Ok(Expected {
            ret: ret.into(),
            calls: Some(walked.calls),
            out: Some(Rle::from_values(out)),
            ..Expected::default()
        })
    }
}

/// Whether only the test driver can do that.
fn needs_memory(op: &Op) -> bool {
    matches!(
        op,
        Op::DeviceRead { .. }
            | Op::DeviceWrite { .. }
            | Op::Migrate { .. }
            | Op::MigrateToSystem { .. }
            | Op::Exclusive { .. }
    )
}

/// From now on memory of device 0 is `device`'s own: it sees the driver take a page of no scenario.
fn learn_owner(device: &Device, dmirror: &Dmirror) -> io::Result<()> {
    let page = Mapping::new(HUGE_PAGE)?;
    page.write(HUGE_PAGE / PAGE);
    let addr = page.start() as u64;
    device.learn_owner(addr, || dmirror.take_page(addr))
}

/// What the test driver says: of a failure nothing but that; of faults only where it can have any.
fn done(said: &Result<dmirror::Done, i64>, faults: bool) -> Expected {
    match said {
        Ok(done) => Expected {
            ret: 0,
            cpages: Some(done.cpages),
            faults: faults.then_some(done.faults),
            ..Expected::default()
        },
        Err(e) => Expected { ret: *e, ..Expected::default() },
    }
}

fn touched(touched: Touched) -> Expected {
    Expected {
        ret: touched.ok.cast_signed(),
        segv: Some(touched.segv),
        bus: Some(touched.bus),
        ..Expected::default()
    }
}

fn cannot(op: &Op) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{op}: is not written yet"))
}

/// An empty file below /tmp, open for writing and once more for reading, without a name.
fn tmpfs_file() -> io::Result<(File, File)> {
    let file = tempfile::NamedTempFile::new_in(super::guest::TMPFS)?;
    let read_only = File::open(file.path())?;
    Ok((file.into_file(), read_only))
}
