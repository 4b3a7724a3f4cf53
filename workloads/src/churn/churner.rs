//! One churn thread's part of the script: which event comes next, and how it is done.
//!
//! Every event is an operation of the model, with the kernel's notifier events, order and locks, and has two halves:
//! what the kind is named after, which invalidates, and what undoes it, so that the script can go on for ever.
//!
//! | kind | first half | second half |
//! |------|------------|-------------|
//! | zap | `madvise_dontneed_single_vma` | writes fault the pages in |
//! | mprotect | `do_mprotect_pkey` to PROT_READ | to PROT_READ and PROT_WRITE |
//! | fork | `copy_page_range` of the whole address space | writes break COW in the span (`wp_page_copy`), the child exits |
//! | split | `__split_huge_pmd` of each leaf | MADV_COLLAPSE |
//! | collapse | `collapse_huge_page` (MADV_COLLAPSE) | `__split_huge_pmd` |
//! | migrate | `try_to_migrate` of each folio: entries appear | copy, `remove_migration_ptes` |
//! | pageout | `reclaim_pages` (MADV_PAGEOUT) | writes swap the pages in |
//! | numa_hint | `change_prot_numa`, as `task_numa_work` calls it for a piece | reads take the hints |
//! | device_migrate | `migrate_vma` to device memory | `migrate_vma` back |
//!
//! Where the walk faults, the process is idle ([`Ground::walked_by`]) and pageout and numa_hint have no second half in the
//! walked range: the walk brings back what they took.
//!
//! A fork write-protects everything, whatever its span and overlap: those say where COW is broken.
//!
//! Contract: spec, ground, thread and seed decide every event and its place; no clock, no thread, nothing of the walk.

use super::place::Places;
use super::{ChurnKind, ChurnSpec, Ground};
use crate::random::{Purpose, below, generator};
use rand_pcg::Pcg64Mcg;
use std::sync::Arc;
use walker::addr::{Level, PageRange};
use walker::counters::NoCounts;
use walker::mm::device::Device;
use walker::mm::madvise::Advice;
use walker::mm::migrate::Migration;
use walker::mm::touch::{Access, Signal};
use walker::mm::vma::VmFlags;
use walker::mm::{Errno, Mm};

/// How an operation takes the mmap lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// For reading: beside a walk.
    Read,
    /// For writing: not while anybody walks.
    Write,
}

/// The device that pages migrate to.
const DEVICE: Device = Device::new(0xc4);

/// What the second half of the event that has begun will be.
#[derive(Debug)]
enum Undo {
    Touch(PageRange, Access),
    Protect(PageRange),
    Exit(Arc<Mm>, PageRange),
    Collapse(PageRange),
    Split(PageRange),
    Resolve(Migration),
    Home(PageRange),
}

/// See the module.
#[derive(Debug)]
pub struct Churner {
    spec: ChurnSpec,
    ground: Ground,
    rng: Pcg64Mcg,
    walked: Places,
    beside: Option<Places>,
    begun: Option<Undo>,
}

impl Churner {
    /// The part of thread `thread` (from 0) of `spec.threads`.
    ///
    /// # Panics
    /// If there are not that many threads.
    pub fn new(spec: ChurnSpec, ground: &Ground, thread: u32, seed: u64) -> Churner {
        assert!(thread < spec.threads, "thread {thread} of {}", spec.threads);
        let mut popular = generator(seed, Purpose::Popularity);
        let mut places =
            |region| Places::new(region, spec.span_pages, spec.place, (thread, spec.threads), &mut popular);
        let (walked, beside) = (places(ground.walked), ground.beside.map(&mut places));
        let mut seeds = generator(seed, Purpose::Churn);
        let mut own = 0;
        for _ in 0..=thread {
            own = below(&mut seeds, u64::MAX);
        }
        let rng = generator(own, Purpose::Churn);
        Churner { spec, ground: ground.clone(), rng, walked, beside, begun: None }
    }

    /// What it plays.
    pub fn spec(&self) -> &ChurnSpec {
        &self.spec
    }
    /// Whether an event has begun and its second half is still to come.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }
    /// Whether the event that has begun keeps folios locked, so that whoever meets its entries waits for it.
    pub fn is_awaited(&self) -> bool {
        matches!(self.begun, Some(Undo::Resolve(_)))
    }

    /// How the next half takes the mmap lock.
    pub fn lock(&self) -> Lock {
        let write = match &self.begun {
            None => matches!(self.spec.kind, ChurnKind::Mprotect | ChurnKind::Fork | ChurnKind::Collapse),
            Some(undo) => matches!(undo, Undo::Protect(_) | Undo::Collapse(_)),
        };
        if write { Lock::Write } else { Lock::Read }
    }

    /// The next half of an event: its first, or the second of the one that has begun.
    ///
    /// # Errors
    /// What the operation returned: the event did not happen, or not everywhere. The script goes on.
    pub fn half(&mut self) -> Result<(), Errno> {
        match self.begun.take() {
            None => self.begin(),
            Some(undo) => self.undo(undo),
        }
    }

    /// A whole event, with `between` after its first half; `between` gets what that half returned. For threads: a
    /// migration keeps the mmap lock from its first entry to its last, see [`Mm::migrate_begin`].
    ///
    /// # Errors
    /// As [`Churner::half`], the first half's first. The second half runs in any case.
    pub fn event(&mut self, between: impl FnOnce(Result<(), Errno>)) -> Result<(), Errno> {
        if self.begun.is_none() && self.spec.kind == ChurnKind::Migrate {
            let part = self.place();
            let mut r = Ok(());
            self.ground.mm.migrate_range_with(part, |nr_folios| {
                r = some(nr_folios);
                between(r);
            });
            return r;
        }
        let first = self.half();
        between(first);
        let second = if self.has_begun() { self.half() } else { Ok(()) };
        first.and(second)
    }

    /// Ends an event that has begun, so that nothing is left half done.
    pub fn finish(&mut self) {
        while self.has_begun() {
            // What could not be undone stays as it is: a failed undo begins nothing new.
            let _ = self.half();
        }
    }

    fn place(&mut self) -> PageRange {
        let overlaps = below(&mut self.rng, 100) < u64::from(self.spec.overlap_percent);
        match &mut self.beside {
            Some(beside) if !overlaps => beside.next(&mut self.rng),
            _ => self.walked.next(&mut self.rng),
        }
    }

    fn begin(&mut self) -> Result<(), Errno> {
        let part = self.place();
        let mm = &self.ground.mm;
        let (undo, r) = match self.spec.kind {
            ChurnKind::Zap => (Undo::Touch(part, Access::Write(1)), mm.madvise(part, Advice::DontNeed)),
            ChurnKind::Mprotect => (Undo::Protect(part), mm.mprotect(part, VmFlags::READ)),
            ChurnKind::Fork => (Undo::Exit(mm.fork()?, part), Ok(())),
            ChurnKind::Split => (Undo::Collapse(part), split(mm, part)),
            ChurnKind::Collapse => (Undo::Split(part), mm.madvise(part, Advice::Collapse)),
            ChurnKind::Migrate => {
                let migration = mm.migrate_begin(part);
                let r = some(migration.nr_folios());
                (Undo::Resolve(migration), r)
            }
            ChurnKind::Pageout => (Undo::Touch(part, Access::Write(1)), mm.madvise(part, Advice::PageOut)),
            ChurnKind::NumaHint => {
                mm.change_prot_numa(part);
                (Undo::Touch(part, Access::Read), Ok(()))
            }
            ChurnKind::DeviceMigrate => {
                (Undo::Home(part), mm.migrate_to_device(part, DEVICE, &mut |_, _, _| {}))
            }
        };
        let idle = self.ground.idle && part.overlaps(self.ground.walked);
        let by_walk = idle && matches!(self.spec.kind, ChurnKind::Pageout | ChurnKind::NumaHint);
        self.begun = (!by_walk).then_some(undo);
        r
    }

    fn undo(&self, undo: Undo) -> Result<(), Errno> {
        let mm = &self.ground.mm;
        match undo {
            Undo::Touch(part, access) => touch(mm, part, access),
            Undo::Protect(part) => mm.mprotect(part, VmFlags::READ | VmFlags::WRITE),
            Undo::Exit(child, part) => {
                let r = touch(mm, part, Access::Write(1));
                child.exit();
                r
            }
            Undo::Collapse(part) => mm.madvise(part, Advice::Collapse),
            Undo::Split(part) => split(mm, part),
            Undo::Resolve(migration) => some(mm.migrate_end(migration) as usize),
            Undo::Home(part) => mm.migrate_to_system(part, DEVICE.owner).map(|_| ()),
        }
    }
}

/// Something moved, or -EAGAIN: the folios are busy, or not there.
fn some(nr_folios: usize) -> Result<(), Errno> {
    if nr_folios > 0 { Ok(()) } else { Err(Errno::Again) }
}

/// The processor accesses each page.
fn touch(mm: &Mm, part: PageRange, access: Access) -> Result<(), Errno> {
    let mut r = Ok(());
    for i in 0..part.nr_pages() {
        if let Err(signal) = mm.touch(part.start().add_pages(i), access) {
            r = Err(if signal == Signal::Bus { Errno::NoMem } else { Errno::Fault });
        }
    }
    r
}

/// Every leaf of `part` becomes a table; -ENOENT if there is none.
fn split(mm: &Mm, part: PageRange) -> Result<(), Errno> {
    let vmas = mm.mmap_read();
    let mut addr = part.start();
    let mut r = Err(Errno::NoEnt);
    while addr < part.end() {
        if let (Some(vma), Ok(pmd)) = (vmas.find(addr), mm.lookup(addr, Level::Pmd))
            && pmd.read().is_huge()
        {
            mm.split_huge_pmd(vma, pmd, addr, &mut NoCounts);
            r = Ok(());
        }
        addr = addr.next_boundary(Level::Pmd, part.end());
    }
    r
}
