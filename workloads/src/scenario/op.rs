//! Operations of a scenario, with typed arguments and the recorder's defaults filled in.

use std::fmt;

use super::race::Accesses;
use super::rle::Rle;

/// One operation. Each variant names its `op` of the file; `Display` writes it in the recorder's script form.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `map`: `mmap` at that place.
    Map {
        /// Where.
        span: Span,
        /// Protection; default `rw`.
        prot: Prot,
        /// What is mapped; default anonymous private.
        kind: MapKind,
        /// Further flags.
        flags: MapFlags,
        /// Offset into the file, in pages; default 0.
        foff: u64,
        /// `MAP_FIXED`; else `MAP_FIXED_NOREPLACE`.
        fixed: bool,
    },
    /// `file`: (re)create the tmpfs file, then write the pages of `fill`. Nothing is observed after it.
    File {
        /// Size in pages.
        size: u64,
        /// Pages to write; these may reach beyond the size and then extend the file.
        fill: Option<Span>,
    },
    /// `ftrunc`: truncate the file.
    Ftrunc {
        /// New size in pages.
        size: u64,
    },
    /// `fpunch`: punch a hole into the file.
    Fpunch {
        /// Pages of the file.
        span: Span,
    },
    /// `unmap`: `munmap`.
    Unmap {
        /// Where.
        span: Span,
    },
    /// `prot`: `mprotect`.
    Protect {
        /// Where.
        span: Span,
        /// New protection; default none.
        prot: Prot,
    },
    /// `mlock`.
    Mlock {
        /// Where.
        span: Span,
    },
    /// `mlockonf`: `mlock2` with `MLOCK_ONFAULT`.
    MlockOnFault {
        /// Where.
        span: Span,
    },
    /// `munlock`.
    Munlock {
        /// Where.
        span: Span,
    },
    /// `msync` with `MS_SYNC`.
    Msync {
        /// Where.
        span: Span,
    },
    /// `mremap` with `MREMAP_MAYMOVE | MREMAP_FIXED`.
    Mremap {
        /// Old place.
        span: Span,
        /// First page of the new place; default 0.
        to: u64,
        /// New length in pages; default the old one.
        newlen: u64,
    },
    /// `madv`: `madvise`.
    Madvise {
        /// Where.
        span: Span,
        /// Which advice.
        advice: Advice,
    },
    /// `r`: the CPU reads one byte of every `step`-th page.
    Read {
        /// Where.
        span: Span,
        /// Distance of touched pages, at least 1; default 1.
        step: u64,
    },
    /// `w`: the CPU writes one byte of every `step`-th page.
    Write {
        /// Where.
        span: Span,
        /// Distance of touched pages, at least 1; default 1.
        step: u64,
    },
    /// `fork`: a child that keeps everything mapped and sleeps. `-EBUSY` while there is one.
    Fork,
    /// `cr`: the child reads every page. -1 when there is no child.
    ChildRead {
        /// Where.
        span: Span,
    },
    /// `cw`: the child writes every page. -1 when there is no child.
    ChildWrite {
        /// Where.
        span: Span,
    },
    /// `cunmap`: the child unmaps. -1 when there is no child.
    ChildUnmap {
        /// Where.
        span: Span,
    },
    /// `cexit`: the child exits and is reaped. -1 when there is no child.
    ChildExit,
    /// `dread`: `HMM_DMIRROR_READ` on a fresh device 0, 64 pages per call.
    DeviceRead {
        /// Where.
        span: Span,
    },
    /// `dwrite`: `HMM_DMIRROR_WRITE` on a fresh device 0, 64 pages per call.
    DeviceWrite {
        /// Where.
        span: Span,
    },
    /// `hfault`: one `hmm_range_fault()` with default flags and a `pfn_flags_mask` of 0.
    Fault {
        /// Where.
        span: Span,
        /// `default_flags`; default `r`.
        req: Wish,
    },
    /// `hpage`: one `hmm_range_fault()` with flags per page.
    FaultPages {
        /// Where.
        span: Span,
        /// `default_flags`; default `n`.
        req: Wish,
        /// `pfn_flags_mask`: [`Wish::Write`] for both flags (the default), [`Wish::Read`] for the fault flag alone.
        mask: Wish,
        /// Input flags: exactly one per page of `span`.
        pages: Rle<Wish>,
    },
    /// `dmig`: `HMM_DMIRROR_MIGRATE_TO_DEV`.
    Migrate {
        /// Where.
        span: Span,
        /// Device, 0 or 1; default 0.
        dev: u8,
    },
    /// `dmigsys`: `HMM_DMIRROR_MIGRATE_TO_SYS`.
    MigrateToSystem {
        /// Where.
        span: Span,
        /// Device, 0 or 1; default 0.
        dev: u8,
    },
    /// `dexcl`: `HMM_DMIRROR_EXCLUSIVE`.
    Exclusive {
        /// Where.
        span: Span,
        /// Device, 0 or 1; default 0.
        dev: u8,
    },
    /// `held`: a snapshot while pages are in migration, which then ends without having moved any. `cpages` is how many
    /// were.
    Held {
        /// What is looked at.
        span: Span,
        /// What is in migration, all of one VMA; arguments `at` and `n`.
        held: Span,
    },
    /// `hwait`: [`Op::Fault`], or with `pages` [`Op::FaultPages`], while pages are in migration. The migration ends when
    /// somebody waits for one of its pages (`waited` is 1 then), else with the walk. `cpages` is how many were.
    HeldFault {
        /// What is asked for.
        span: Span,
        /// What is in migration, all of one VMA; arguments `at` and `n`.
        held: Span,
        /// Whether anonymous pages, and places without a page, get other memory in the end; else all come back.
        moves: bool,
        /// `default_flags`; default `r`, with `pages` `n`.
        req: Wish,
        /// `pfn_flags_mask`, as of `hpage`; nothing without `pages`.
        mask: Wish,
        /// Input flags, if there are any: exactly one per page of `span`.
        pages: Option<Rle<Wish>>,
    },
    /// `race`: [`Op::Fault`] on one processor while another one does `cpu`. `ret` and `out` are the walk's, `segv` and `bus`
    /// those of the accesses.
    Race {
        /// What is asked for.
        span: Span,
        /// `default_flags`; default `r`.
        req: Wish,
        /// What the other processor does.
        cpu: Accesses,
        /// Accesses to pages after which the walk begins; by default 0, both at once.
        lead: u64,
    },
    /// `uffdwp`: register for write protection and write-protect.
    UffdWp {
        /// Where.
        span: Span,
    },
    /// `uffdunwp`: take the write protection off; stays registered.
    UffdUnwp {
        /// Where.
        span: Span,
    },
    /// `uffdmiss`: register for missing pages.
    UffdMiss {
        /// Where.
        span: Span,
    },
    /// `softclear`: write 4 to `/proc/self/clear_refs`.
    SoftClear,
    /// `nop`: observe only.
    Nop,
    /// Something this version does not know, in words: the scenario is skipped.
    Unsupported {
        /// What it is.
        what: String,
    },
}

/// Consecutive pages: of the window, or of the file where an operation says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First page.
    pub off: u64,
    /// Number of pages; may be 0, which the system calls refuse or ignore.
    pub len: u64,
}

impl Span {
    /// One past the last page.
    pub fn end(self) -> u64 {
        self.off + self.len
    }
}

/// Protection of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prot {
    /// `PROT_READ`.
    pub read: bool,
    /// `PROT_WRITE`.
    pub write: bool,
    /// `PROT_EXEC`.
    pub exec: bool,
}

impl Prot {
    /// `PROT_NONE`.
    pub const NONE: Self = Self { read: false, write: false, exec: false };

    /// The protection of letters `rwx` in any order, or of `n` alone.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "n" {
            return Some(Self::NONE);
        }
        let known = !text.is_empty() && text.bytes().all(|letter| b"rwx".contains(&letter));
        known.then(|| Self { read: text.contains('r'), write: text.contains('w'), exec: text.contains('x') })
    }
}

/// What a mapping maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// `anon`: private anonymous memory.
    Anon,
    /// `sanon`: shared anonymous memory.
    SharedAnon,
    /// `zero`: `/dev/zero`, private.
    Zero,
    /// `szero`: `/dev/zero`, shared.
    SharedZero,
    /// `hpriv`: 2 MiB hugetlb pages, private.
    HugetlbPrivate,
    /// `hshr`: 2 MiB hugetlb pages, shared.
    HugetlbShared,
    /// `hpriv1g`: 1 GiB hugetlb pages, private.
    HugetlbPrivate1G,
    /// `fpriv`: the tmpfs file, private.
    FilePrivate,
    /// `fshr`: the tmpfs file, shared.
    FileShared,
    /// `fro`: the tmpfs file opened read-only, shared.
    FileReadOnly,
    /// `bshr`: a RAM block device, shared: its writes are tracked for writeback.
    BlockShared,
    /// `bpriv`: a RAM block device, private.
    BlockPrivate,
    /// `devmem`: `/dev/mem` from 0xa0000 on, a `VM_PFNMAP` mapping.
    DevMem,
    /// `dmir`: pages of the test driver, put in with `vm_insert_page`.
    Dmirror,
}

/// Further flags of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapFlags {
    /// `MAP_POPULATE`.
    pub populate: bool,
    /// `MAP_NORESERVE`.
    pub noreserve: bool,
    /// `MAP_LOCKED`.
    pub locked: bool,
}

/// Advice of `madvise`; the texts are the manual page's names without `MADV_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the manual page's names")]
pub enum Advice {
    Hugepage,
    Nohugepage,
    Dontneed,
    Free,
    Cold,
    Pageout,
    Willneed,
    PopulateRead,
    PopulateWrite,
    Collapse,
    Remove,
    Dontfork,
    Wipeonfork,
    Hwpoison,
    SoftOffline,
    Dofork,
    Keeponfork,
    Random,
    Sequential,
}

/// What `hmm_range_fault()` is asked to do for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// `n`: no flag, a snapshot.
    None,
    /// `r`: `HMM_PFN_REQ_FAULT`.
    Read,
    /// `w`: `HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE`.
    Write,
    /// `W`: `HMM_PFN_REQ_WRITE` alone.
    WriteOnly,
}

impl Wish {
    /// Whether `HMM_PFN_REQ_FAULT` is set.
    pub fn asks_fault(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether `HMM_PFN_REQ_WRITE` is set.
    pub fn asks_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteOnly)
    }
}

/// Variants and their texts in the file.
pub(super) const KINDS: [(&str, MapKind); 14] = [
    ("anon", MapKind::Anon),
    ("sanon", MapKind::SharedAnon),
    ("zero", MapKind::Zero),
    ("szero", MapKind::SharedZero),
    ("hpriv", MapKind::HugetlbPrivate),
    ("hshr", MapKind::HugetlbShared),
    ("hpriv1g", MapKind::HugetlbPrivate1G),
    ("fpriv", MapKind::FilePrivate),
    ("fshr", MapKind::FileShared),
    ("fro", MapKind::FileReadOnly),
    ("bshr", MapKind::BlockShared),
    ("bpriv", MapKind::BlockPrivate),
    ("devmem", MapKind::DevMem),
    ("dmir", MapKind::Dmirror),
];

/// Variants and their texts in the file.
pub(super) const ADVICES: [(&str, Advice); 19] = [
    ("HUGEPAGE", Advice::Hugepage),
    ("NOHUGEPAGE", Advice::Nohugepage),
    ("DONTNEED", Advice::Dontneed),
    ("FREE", Advice::Free),
    ("COLD", Advice::Cold),
    ("PAGEOUT", Advice::Pageout),
    ("WILLNEED", Advice::Willneed),
    ("POPULATE_READ", Advice::PopulateRead),
    ("POPULATE_WRITE", Advice::PopulateWrite),
    ("COLLAPSE", Advice::Collapse),
    ("REMOVE", Advice::Remove),
    ("DONTFORK", Advice::Dontfork),
    ("WIPEONFORK", Advice::Wipeonfork),
    ("HWPOISON", Advice::Hwpoison),
    ("SOFT_OFFLINE", Advice::SoftOffline),
    ("DOFORK", Advice::Dofork),
    ("KEEPONFORK", Advice::Keeponfork),
    ("RANDOM", Advice::Random),
    ("SEQUENTIAL", Advice::Sequential),
];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "off={} len={}", self.off, self.len)
    }
}

impl fmt::Display for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("n");
        }
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.exec, "x")] {
            f.write_str(if set { letter } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KINDS.iter().find(|(_, kind)| kind == self);
        f.write_str(known.map_or("?", |(name, _)| name))
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ADVICES.iter().find(|(_, advice)| advice == self);
        f.write_str(known.map_or("?", |(name, _)| name))
    }
}

impl fmt::Display for MapFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (set, name) in
            [(self.populate, "populate"), (self.noreserve, "noreserve"), (self.locked, "locked")]
        {
            if set {
                write!(f, "{before}{name}")?;
                before = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "n",
            Self::Read => "r",
            Self::Write => "w",
            Self::WriteOnly => "W",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { span, prot, kind, flags, foff, fixed } => {
                write!(f, "map {span} prot={prot} kind={kind}")?;
                if *flags != MapFlags::default() {
                    write!(f, " flags={flags}")?;
                }
                if *foff > 0 {
                    write!(f, " foff={foff}")?;
                }
                f.write_str(if *fixed { " fixed=1" } else { "" })
            }
            Self::File { size, fill: None } => write!(f, "file size={size}"),
            Self::File { size, fill: Some(fill) } => {
                write!(f, "file size={size} fill={}+{}", fill.off, fill.len)
            }
            Self::Ftrunc { size } => write!(f, "ftrunc size={size}"),
            Self::Fpunch { span } => write!(f, "fpunch {span}"),
            Self::Unmap { span } => write!(f, "unmap {span}"),
            Self::Protect { span, prot } => write!(f, "prot {span} prot={prot}"),
            Self::Mlock { span } => write!(f, "mlock {span}"),
            Self::MlockOnFault { span } => write!(f, "mlockonf {span}"),
            Self::Munlock { span } => write!(f, "munlock {span}"),
            Self::Msync { span } => write!(f, "msync {span}"),
            Self::Mremap { span, to, newlen } if *newlen == span.len => write!(f, "mremap {span} to={to}"),
            Self::Mremap { span, to, newlen } => write!(f, "mremap {span} to={to} newlen={newlen}"),
            Self::Madvise { span, advice } => write!(f, "madv {span} adv={advice}"),
            Self::Read { span, step: 1 } => write!(f, "r {span}"),
            Self::Read { span, step } => write!(f, "r {span} step={step}"),
            Self::Write { span, step: 1 } => write!(f, "w {span}"),
            Self::Write { span, step } => write!(f, "w {span} step={step}"),
            Self::Fork => f.write_str("fork"),
            Self::ChildRead { span } => write!(f, "cr {span}"),
            Self::ChildWrite { span } => write!(f, "cw {span}"),
            Self::ChildUnmap { span } => write!(f, "cunmap {span}"),
            Self::ChildExit => f.write_str("cexit"),
            Self::DeviceRead { span } => write!(f, "dread {span}"),
            Self::DeviceWrite { span } => write!(f, "dwrite {span}"),
            Self::Fault { span, req } => write!(f, "hfault {span} req={req}"),
            Self::FaultPages { span, req, mask, pages } => {
                write!(f, "hpage {span} req={req}")?;
                f.write_str(if *mask == Wish::Read { " mask=1" } else { "" })?;
                write!(f, " pages={pages}")
            }
            Self::Migrate { span, dev } => write!(f, "dmig {span} dev={dev}"),
            Self::MigrateToSystem { span, dev } => write!(f, "dmigsys {span} dev={dev}"),
            Self::Exclusive { span, dev } => write!(f, "dexcl {span} dev={dev}"),
            Self::Held { span, held } => write!(f, "held {span} at={} n={}", held.off, held.len),
            Self::HeldFault { span, held, moves, req, mask, pages } => {
                write!(f, "hwait {span} at={} n={}", held.off, held.len)?;
                f.write_str(if *moves { " moves=1" } else { "" })?;
                write!(f, " req={req}")?;
                let Some(pages) = pages else { return Ok(()) };
                f.write_str(if *mask == Wish::Read { " mask=1" } else { "" })?;
                write!(f, " pages={pages}")
            }
            Self::Race { span, req, cpu, lead } => {
                write!(f, "race {span} req={req} cpu={cpu}")?;
                if *lead > 0 { write!(f, " lead={lead}") } else { Ok(()) }
            }
            Self::UffdWp { span } => write!(f, "uffdwp {span}"),
            Self::UffdUnwp { span } => write!(f, "uffdunwp {span}"),
            Self::UffdMiss { span } => write!(f, "uffdmiss {span}"),
            Self::SoftClear => f.write_str("softclear"),
            Self::Nop => f.write_str("nop"),
            Self::Unsupported { what } => write!(f, "unsupported: {what}"),
        }
    }
}
