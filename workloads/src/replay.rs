//! Recorded scenarios on the model: the [`Machine`] that [`crate::conform`] drives.
//!
//! One machine per scenario: a fresh system with the recorder's settings (64 huge pages, 256 MiB of swap where the
//! scenario has it), one address space, perhaps a child, and the device side as the recorder's driver had it: raw
//! range faults through a private interval notifier, with the backend of that kernel's generation, `map_order`.

mod race;
mod race_order;
#[cfg(test)]
mod race_tests;

use self::race::{History, Race};
use crate::conform::{Applied, Machine, Observation, Skip};
use crate::scenario::{
    self, MapKind as Kind, Mark, Op, PmCode, RawCode, RawKind, Rle, ScanCode, Scenario, ShmemEnabled, Span,
    ThpEnabled, VmaRange, Wish,
};
use std::sync::Arc;
use walker::addr::{PAGE_SIZE, PageRange, Pfn, VirtAddr};
use walker::arch::Geometry;
use walker::backend::Backend;
use walker::backends::map_order::{self, MapOrder};
use walker::counters::{Count, Counters, NoCounts};
use walker::dmirror::{self, Dmirror};
use walker::memory::{PageKind, PhysConfig};
use walker::mm::device::InMigration;
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::pagemap::PagemapBits;
use walker::mm::system::{File, Settings, System, ThpMode};
use walker::mm::touch::{Access, Signal};
use walker::mm::userfaultfd::{UffdMode, Userfaultfd};
use walker::mm::vma::VmFlags;
use walker::mm::{Errno, Mm};
use walker::notifier::{Event, Invalidate, Subscription};

/// What the recorder writes into slots before a call, to tell which ones the call never wrote.
const UNTOUCHED: u64 = 0x00ff_eedd_ccbb;
/// The owners that stand for /dev/hmm_dmirror0 and 1.
const DEVICE: [u64; 2] = [1, 2];
/// 16 GiB of frames: more than any scenario needs, the 1 GiB page included; only address space.
const NR_FRAMES: u64 = 4 << 20;

/// The model behind one scenario.
pub struct ModelMachine {
    system: Arc<System>,
    mm: Arc<Mm>,
    child: Option<Arc<Mm>>,
    /// The tmpfs file, opened for writing and once more for reading.
    file: Option<(Arc<File>, Arc<File>)>,
    base: VirtAddr,
    userfaultfd: Option<Userfaultfd>,
    npages: usize,
    dev1: bool,
    backend: MapOrder,
    /// The files of the driver that the recorder keeps open, for device 0 and 1.
    dmirror: [Dmirror; 2],
    /// Of a scenario with races, how to come here once more.
    history: Option<History>,
}

/// Builds the model for `scenario`, or says why it cannot run it.
///
/// # Errors
/// A reason, when the host has no address space left.
pub fn machine(scenario: &Scenario) -> Result<ModelMachine, Skip> {
    let settings = Settings {
        thp: match scenario.thp {
            ThpEnabled::Always => ThpMode::Always,
            ThpEnabled::Madvise => ThpMode::Madvise,
            ThpEnabled::Never => ThpMode::Never,
        },
        mthp: scenario.mthp,
        shmem_thp: match scenario.shthp {
            ShmemEnabled::Always => ThpMode::Always,
            ShmemEnabled::Advise => ThpMode::Madvise,
            ShmemEnabled::Never => ThpMode::Never,
            ShmemEnabled::WithinSize => return Err(Skip::new("shmem_enabled=within_size is not modelled")),
        },
        use_zero_page: scenario.zp,
        swap_slots: if scenario.swap { (256 << 20) / PAGE_SIZE } else { 0 },
        hugetlb_2m: 64,
        hugetlb_1g: scenario.giga as u64,
    };
    let memory = PhysConfig { nr_frames: NR_FRAMES, host_huge_pages: false };
    let system = System::new(memory, settings).map_err(|e| Skip::new(e.to_string()))?;
    let mm = Mm::new(&system, Geometry::FourLevel).map_err(|e| Skip::new(e.to_string()))?;
    Ok(ModelMachine {
        dmirror: DEVICE.map(|owner| Dmirror::open(&mm, owner)),
        mm,
        child: None,
        file: None,
        base: VirtAddr::new(scenario.base()),
        userfaultfd: None,
        npages: scenario.npages,
        dev1: scenario.dev1,
        backend: MapOrder::new(scenario.npages),
        history: History::of(scenario),
        system,
    })
}

fn ret(r: Result<(), Errno>) -> Applied {
    Applied::ret(r.err().map_or(0, |e| i64::from(e.code())))
}

fn prot(p: scenario::Prot) -> VmFlags {
    let mut f = VmFlags::empty();
    f.set(VmFlags::READ, p.read);
    f.set(VmFlags::WRITE, p.write);
    f.set(VmFlags::EXEC, p.exec);
    f
}

fn req_flags(w: Wish) -> u64 {
    match w {
        Wish::None => 0,
        Wish::Read => map_order::VALID,
        Wish::Write => map_order::VALID | map_order::WRITE,
        Wish::WriteOnly => map_order::WRITE,
    }
}

fn advice(a: scenario::Advice) -> Advice {
    use scenario::Advice as S;
    match a {
        S::Dontneed => Advice::DontNeed,
        S::Hugepage => Advice::Hugepage,
        S::Nohugepage => Advice::NoHugepage,
        S::PopulateRead => Advice::PopulateRead,
        S::PopulateWrite => Advice::PopulateWrite,
        S::Random => Advice::Random,
        S::Sequential => Advice::Sequential,
        S::Dontfork => Advice::DontFork,
        S::Dofork => Advice::DoFork,
        S::Wipeonfork => Advice::WipeOnFork,
        S::Keeponfork => Advice::KeepOnFork,
        S::Pageout => Advice::PageOut,
        S::Collapse => Advice::Collapse,
        S::Cold => Advice::Cold,
        S::Free => Advice::Free,
        S::Willneed => Advice::WillNeed,
        S::Remove => Advice::Remove,
        S::Hwpoison => Advice::HwPoison,
        S::SoftOffline => Advice::SoftOffline,
    }
}

/// The recorder's private notifier: its callback takes the driver's mutex and stores the sequence.
struct Private(std::sync::Mutex<()>);
impl Invalidate for Private {
    fn invalidate(&self, sub: &Subscription, _event: &Event, cur_seq: u64) -> bool {
        let _lock = self.0.lock();
        sub.set_seq(cur_seq);
        true
    }
}

/// Ends a migration for whoever is about to sleep until it is over.
struct Sleep<'m, 'a, 'f> {
    migration: &'m InMigration<'a, 'f>,
    slept: bool,
}

impl Counters for Sleep<'_, '_, '_> {
    const ENABLED: bool = true;
    fn add(&mut self, what: Count, _: u64) {
        if what == Count::MigrationWaits {
            self.folio_wait();
        }
    }
    fn get(&self, _: Count) -> u64 {
        0
    }
    fn folio_wait(&mut self) {
        self.slept = true;
        self.migration.end();
    }
}

impl ModelMachine {
    fn range(&self, span: Span) -> PageRange {
        PageRange::pages(self.base.add_pages(span.off), span.len)
    }

    fn map(
        &self,
        span: Span,
        p: scenario::Prot,
        kind: Kind,
        flags: scenario::MapFlags,
        foff: u64,
        fixed: bool,
    ) -> Applied {
        let kind = match kind {
            Kind::Anon => MapKind::Anon,
            Kind::SharedAnon | Kind::SharedZero => MapKind::SharedAnon,
            Kind::Zero => MapKind::ZeroDev,
            Kind::HugetlbPrivate => MapKind::Hugetlb { order: 9, shared: false },
            Kind::HugetlbShared => MapKind::Hugetlb { order: 9, shared: true },
            Kind::HugetlbPrivate1G => MapKind::Hugetlb { order: 18, shared: false },
            Kind::DevMem => MapKind::Pfnmap,
            Kind::Dmirror => MapKind::Driver,
            Kind::BlockPrivate => MapKind::FilePrivate(File::block(&self.system)),
            Kind::BlockShared => MapKind::FileShared { file: File::block(&self.system), writable: true },
            Kind::FilePrivate | Kind::FileShared | Kind::FileReadOnly => {
                let Some((rw, ro)) = &self.file else { return Applied::ret(-9) };
                match kind {
                    Kind::FilePrivate => MapKind::FilePrivate(Arc::clone(rw)),
                    Kind::FileShared => MapKind::FileShared { file: Arc::clone(rw), writable: true },
                    _ => MapKind::FileShared { file: Arc::clone(ro), writable: false },
                }
            }
        };
        let flags =
            MapFlags { fixed, populate: flags.populate, noreserve: flags.noreserve, locked: flags.locked };
        ret(self.mm.mmap(self.range(span), prot(p), kind, flags, foff))
    }

    /// The recorder's userfaultfd, opened with the features that its first use asks for.
    fn userfaultfd(&mut self, wp_unpopulated: bool) -> Userfaultfd {
        let system = &self.system;
        *self.userfaultfd.get_or_insert_with(|| Userfaultfd::new(system, wp_unpopulated))
    }

    /// One byte of every `step`-th page: how many worked, and how many ended in which signal.
    fn touch(&self, mm: &Mm, span: Span, step: u64, write: bool) -> Applied {
        let (mut ok, mut segv, mut bus) = (0, 0, 0);
        for i in (0..span.len).step_by(step.max(1) as usize) {
            let page = span.off + i;
            let addr = VirtAddr::new(self.base.add_pages(page).get() + 8);
            let access = if write { Access::Write(0x41 + (page % 26) as u8) } else { Access::Read };
            match mm.touch(addr, access) {
                Ok(_) => ok += 1,
                Err(Signal::Segv) => segv += 1,
                Err(Signal::Bus) => bus += 1,
            }
        }
        Applied { ret: ok, segv: Some(segv), bus: Some(bus), ..Applied::default() }
    }

    /// One `hmm_range_fault` over `span`, again while -EBUSY, inputs restored before each try; `counts` hears what it
    /// comes upon.
    fn range_fault(
        &mut self,
        span: Span,
        default: u64,
        mask: u64,
        owner: u64,
        inputs: Option<&Rle<Wish>>,
        counts: &mut impl Counters,
    ) -> (i64, u64) {
        let range = self.range(span);
        let ops = Arc::new(Private(std::sync::Mutex::new(())));
        let sub = self.mm.notifier.insert(range, ops);
        let mut calls = 0;
        let r = loop {
            self.backend.prepare_raw(range, default, mask, owner, |slots| {
                slots.fill(UNTOUCHED);
                for (slot, wish) in slots.iter_mut().zip(inputs.iter().flat_map(|w| w.iter())) {
                    *slot |= req_flags(wish);
                }
            });
            calls += 1;
            let seq = self.mm.notifier.read_begin(&sub);
            match self.backend.walk(&self.mm, &sub, seq, counts) {
                Ok(_) => break 0,
                Err(Errno::Busy) => {}
                Err(e) => break i64::from(e.code()),
            }
        };
        self.mm.notifier.remove(&sub);
        (r, calls)
    }

    fn fault(&mut self, span: Span, default: u64, mask: u64, inputs: Option<&Rle<Wish>>) -> Applied {
        let (ret, calls) = self.range_fault(span, default, mask, DEVICE[0], inputs, &mut NoCounts);
        Applied { ret, calls: Some(calls), out: Some(self.codes()), ..Applied::default() }
    }

    /// A walk of `span` while the pages of `held` are in migration. The recorder's driver sees that the walk sleeps, as one
    /// with wishes may, and ends the migration before the walk goes on; here the walk itself does, when it is about to sleep.
    fn held(
        &mut self,
        (span, held, moves): (Span, Span, bool),
        (default, mask): (u64, u64),
        inputs: Option<&Rle<Wish>>,
    ) -> Applied {
        let (mm, range) = (Arc::clone(&self.mm), self.range(held));
        let mut seen = Applied::default();
        let r = mm.migrate_vma_held(range, DEVICE[0], moves, |migration| {
            let mut sleep = Sleep { migration, slept: false };
            let (ret, calls) = self.range_fault(span, default, mask, DEVICE[0], inputs, &mut sleep);
            seen = Applied {
                calls: Some(calls),
                cpages: Some(migration.nr_pages()),
                waited: Some(sleep.slept.into()),
                out: Some(self.codes()),
                ..Applied::ret(ret)
            };
        });
        r.map_or_else(|e| Applied::ret(i64::from(e.code())), |()| seen)
    }

    /// The slots of the last call as the recorder prints them.
    fn codes(&self) -> Vec<RawCode> {
        let code = |&slot: &u64| {
            if slot & 0x00ff_ffff_ffff_ffff == UNTOUCHED {
                return RawCode::UNTOUCHED;
            }
            let order = ((slot & map_order::ORDER_MASK) >> map_order::ORDER_SHIFT) as u8;
            let kind = if slot & map_order::ERROR != 0 {
                RawKind::Error
            } else {
                match (slot & map_order::VALID != 0, slot & map_order::WRITE != 0) {
                    (true, true) => RawKind::Write,
                    (true, false) => RawKind::Read,
                    (false, true) => RawKind::WriteOnly,
                    (false, false) => RawKind::None,
                }
            };
            let mark = if slot & map_order::VALID != 0 {
                match self.system.phys.page(Pfn::new(slot & 0x00ff_ffff_ffff_ffff)).kind() {
                    PageKind::Zero => Mark::Zero,
                    PageKind::HugeZero => Mark::HugeZero,
                    PageKind::DevicePrivate => Mark::DevicePrivate,
                    _ => Mark::None,
                }
            } else {
                Mark::None
            };
            RawCode { kind, order, mark }
        };
        self.backend.hmm_pfns().iter().map(code).collect()
    }

    fn accessed(
        &self,
        f: impl FnOnce(&Arc<Mm>, PageRange) -> Result<dmirror::Access, Errno>,
        span: Span,
    ) -> Applied {
        match f(&self.mm, self.range(span)) {
            Ok(a) => Applied { cpages: Some(a.cpages), faults: Some(a.faults), ..Applied::ret(0) },
            Err(e) => Applied::ret(i64::from(e.code())),
        }
    }

    fn on_device(
        &mut self,
        dev: u8,
        span: Span,
        f: impl FnOnce(&mut Dmirror, PageRange) -> Result<u64, Errno>,
    ) -> Applied {
        let range = self.range(span);
        match f(&mut self.dmirror[dev as usize & 1], range) {
            Ok(cpages) => Applied { cpages: Some(cpages), ..Applied::ret(0) },
            Err(e) => Applied::ret(i64::from(e.code())),
        }
    }

    fn child(&self, f: impl FnOnce(&Mm) -> Applied) -> Applied {
        self.child.as_deref().map_or(Applied::ret(-1), f)
    }

    /// What pagemap and PAGEMAP_SCAN say of every page of the window.
    fn pagemap(&self) -> (Vec<PmCode>, Vec<ScanCode>) {
        let letters = [
            (PagemapBits::PRESENT, PmCode::PRESENT),
            (PagemapBits::SWAP, PmCode::SWAPPED),
            (PagemapBits::FILE, PmCode::FILE),
            (PagemapBits::UFFD_WP, PmCode::UFFD_WP),
            (PagemapBits::EXCLUSIVE, PmCode::EXCLUSIVE),
            (PagemapBits::SOFT_DIRTY, PmCode::SOFT_DIRTY),
        ];
        let mut pm = Vec::with_capacity(self.npages);
        let mut scan = Vec::with_capacity(self.npages);
        let vmas = self.mm.mmap_read();
        let window = PageRange::pages(self.base, self.npages as u64);
        self.mm.locked(&vmas).pagemap_range(window, |_, bits, categories| {
            pm.push(
                letters.iter().fold(PmCode::NONE, |c, (bit, letter)| c.with_if(bits.contains(*bit), *letter)),
            );
            scan.push(categories.map_or(ScanCode::NotReported, |c| ScanCode::Categories(c.bits())));
        });
        (pm, scan)
    }

    fn vma_ranges(&self) -> Vec<VmaRange> {
        let window = PageRange::pages(self.base, self.npages as u64);
        let vmas = self.mm.mmap_read();
        let ranges = vmas.overlapping(window).map(|v| {
            let part = v.range.clip(window);
            let perms = scenario::Perms {
                prot: scenario::Prot {
                    read: v.has(VmFlags::READ),
                    write: v.has(VmFlags::WRITE),
                    exec: v.has(VmFlags::EXEC),
                },
                shared: v.has(VmFlags::MAYSHARE),
            };
            VmaRange { off: part.start().pages_since(self.base), len: part.nr_pages(), perms }
        });
        scenario::join(ranges.collect::<Vec<_>>())
    }
}

impl Machine for ModelMachine {
    fn apply(&mut self, op: &Op) -> Applied {
        let applied = match op {
            Op::Race { span, req, cpu, .. } => self.race(Race { span: *span, req: *req, cpu }),
            op => self.logged(op),
        };
        if let Some(history) = &mut self.history {
            history.next += 1;
        }
        applied
    }

    fn keeps_soft_dirty(&self) -> bool {
        true
    }

    fn observe(&mut self) -> Observation {
        let window = Span { off: 0, len: self.npages as u64 };
        let snapshot1 = self.dev1.then(|| {
            self.range_fault(window, 0, 0, DEVICE[1], None, &mut NoCounts);
            self.codes().into_iter().map(RawCode::to_snapshot).collect()
        });
        self.range_fault(window, 0, 0, DEVICE[0], None, &mut NoCounts);
        let raw = self.codes();
        let (pm, scan) = self.pagemap();
        Observation {
            snapshot: raw.iter().map(|c| c.to_snapshot()).collect(),
            snapshot1,
            pm,
            scan: Some(scan),
            vma: self.vma_ranges(),
            raw,
        }
    }
}

impl ModelMachine {
    fn run(&mut self, op: &Op) -> Applied {
        match op {
            Op::Map { span, prot, kind, flags, foff, fixed } => {
                self.map(*span, *prot, *kind, *flags, *foff, *fixed)
            }
            Op::Unmap { span } => ret(self.mm.munmap(self.range(*span))),
            Op::Protect { span, prot: p } => ret(self.mm.mprotect(self.range(*span), prot(*p))),
            Op::Madvise { span, advice: a } => ret(self.mm.madvise(self.range(*span), advice(*a))),
            Op::Read { span, step } => self.touch(&self.mm, *span, *step, false),
            Op::Write { span, step } => self.touch(&self.mm, *span, *step, true),
            Op::Fork if self.child.is_some() => Applied::ret(i64::from(Errno::Busy.code())),
            Op::Fork => match self.mm.fork() {
                Ok(child) => {
                    self.child = Some(child);
                    Applied::ret(0)
                }
                Err(e) => Applied::ret(i64::from(e.code())),
            },
            Op::ChildRead { span } => self.child(|c| self.touch(c, *span, 1, false)),
            Op::ChildWrite { span } => self.child(|c| self.touch(c, *span, 1, true)),
            Op::ChildUnmap { span } => self.child(|c| ret(c.munmap(self.range(*span)))),
            Op::ChildExit => match self.child.take() {
                Some(child) => {
                    child.exit();
                    Applied::ret(0)
                }
                None => Applied::ret(-1),
            },
            Op::Fault { span, req } => self.fault(*span, req_flags(*req), 0, None),
            Op::FaultPages { span, req, mask, pages } => {
                self.fault(*span, req_flags(*req), req_flags(*mask), Some(pages))
            }
            Op::File { size, fill } => {
                let file = File::tmpfs(&self.system);
                let made = file.truncate(*size).and_then(|()| match fill {
                    Some(fill) => file.write(fill.off, fill.len, b'f'),
                    None => Ok(()),
                });
                self.file = Some((Arc::clone(&file), file.reopen()));
                ret(made)
            }
            Op::Ftrunc { size } => match &self.file {
                Some((file, _)) => ret(file.truncate(*size)),
                None => Applied::ret(-9),
            },
            Op::Fpunch { span } => match &self.file {
                Some((file, _)) => ret(file.punch(span.off, span.len)),
                None => Applied::ret(-9),
            },
            Op::Msync { span } => ret(self.mm.msync(self.range(*span))),
            Op::DeviceRead { span } => {
                // A fresh file, whose closing sends all memory of the device home.
                self.accessed(|mm, range| Dmirror::open(mm, DEVICE[0]).read(range), *span)
            }
            Op::DeviceWrite { span } => {
                self.accessed(|mm, range| Dmirror::open(mm, DEVICE[0]).write(range, 0x77), *span)
            }
            Op::Migrate { span, dev } => self.on_device(*dev, *span, Dmirror::migrate_to_device),
            Op::MigrateToSystem { span, dev } => self.on_device(*dev, *span, Dmirror::migrate_to_system),
            Op::Exclusive { span, dev } => self.on_device(*dev, *span, Dmirror::exclusive),
            Op::Held { span, held } => {
                let seen = self.held((*span, *held, false), (0, 0), None);
                assert_ne!(seen.waited, Some(1), "a snapshot waits for nobody");
                Applied { calls: None, waited: None, ..seen }
            }
            Op::HeldFault { span, held, moves, req, mask, pages } => {
                let mask = if pages.is_some() { req_flags(*mask) } else { 0 };
                let seen = self.held((*span, *held, *moves), (req_flags(*req), mask), pages.as_ref());
                // By the time the recorder could look for a mark, another page may be there.
                let out = seen.out.map(|out| out.into_iter().map(RawCode::unmarked).collect());
                Applied { out, ..seen }
            }
            Op::Mremap { span, to, newlen } => {
                let new = PageRange::pages(self.base.add_pages(*to), *newlen);
                ret(self.mm.mremap(self.range(*span), new))
            }
            Op::Mlock { span } => ret(self.mm.mlock(self.range(*span), false)),
            Op::MlockOnFault { span } => ret(self.mm.mlock(self.range(*span), true)),
            Op::Munlock { span } => ret(self.mm.munlock(self.range(*span))),
            Op::UffdWp { span } => {
                let (range, fd) = (self.range(*span), self.userfaultfd(true));
                let registered = self.mm.uffd_register(fd, range, UffdMode::WriteProtect);
                ret(registered.and_then(|()| self.mm.uffd_writeprotect(range, true)))
            }
            Op::UffdUnwp { span } => ret(self.mm.uffd_writeprotect(self.range(*span), false)),
            Op::UffdMiss { span } => {
                let (range, fd) = (self.range(*span), self.userfaultfd(false));
                ret(self.mm.uffd_register(fd, range, UffdMode::Missing))
            }
            Op::SoftClear => {
                self.mm.clear_soft_dirty();
                Applied::ret(0)
            }
            Op::Nop => Applied::ret(0),
            other => Applied::unsupported(other.to_string()),
        }
    }
}
