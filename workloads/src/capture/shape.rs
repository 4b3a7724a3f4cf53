//! The values a shape file holds, and what can be said about one entry.

use bitflags::bitflags;

use super::PAGE_BYTES;

/// The page tables of one process at one moment, as far as the kernel tells.
///
/// Invariants (tested by [`Shape::check`]): VMAs ascend and do not overlap, lie below [`USER_END`](super::USER_END),
/// and are tiled by their runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Short name, the `…` of `captured/…`: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    /// How it was made: the program, its load and the commands, in a line.
    pub made: String,
    /// What it shows, in a line.
    pub description: String,
    /// Release of the kernel it was read from, as `uname -r` says.
    pub kernel: String,
    /// Whether physical addresses were readable, so that runs end where physical contiguity ends.
    pub physical: bool,
    /// What could not be read and why, one sentence each; empty is not possible on any known kernel.
    pub missing: Vec<String>,
    /// The VMAs in address order.
    pub vmas: Vec<ShapeVma>,
}

/// One VMA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeVma {
    /// First byte address, a multiple of 4 KiB. Rebased: only its low 39 bits are those of the process.
    pub start: u64,
    /// Length in 4 KiB pages, at least 1.
    pub nr_pages: u64,
    /// What the VMA allows (`VM_READ`, `VM_WRITE`, `VM_EXEC`).
    pub prot: Prot,
    /// `MAP_SHARED` (`VM_MAYSHARE`).
    pub shared: bool,
    /// What backs it.
    pub kind: ShapeKind,
    /// What the program asked of transparent huge pages.
    pub thp: ThpAdvice,
    /// The entries, tiling the VMA from its start.
    pub runs: Vec<Run>,
}

bitflags! {
    /// Rights of a VMA.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// `VM_READ`.
        const READ = 1;
        /// `VM_WRITE`.
        const WRITE = 2;
        /// `VM_EXEC`.
        const EXEC = 4;
    }
}

/// What backs a VMA: a class, never a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShapeKind {
    /// Private anonymous memory.
    Anon,
    /// `[heap]`, the brk area.
    Heap,
    /// `[stack]` of the first thread.
    Stack,
    /// A file of a file system; privately mapped pages without [`PageFlags::FILE`] are COW copies.
    File,
    /// tmpfs, memfd, System V shared memory or shared anonymous memory.
    Shmem,
    /// hugetlbfs or `MAP_HUGETLB`; the leaf is its page size and is never [`Leaf::Pte`].
    Hugetlb {
        /// [`Leaf::Pmd`] for 2 MiB, [`Leaf::Pud`] for 1 GiB.
        leaf: Leaf,
    },
    /// vdso, vvar, uprobes, or a driver's mapping (`VM_IO`, `VM_PFNMAP`).
    Special,
}

/// Advice on transparent huge pages from the VMA's flags; where flags were unreadable, `Default` and a line in
/// [`Shape::missing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThpAdvice {
    /// Neither flag: the system's setting decides.
    Default,
    /// `VM_HUGEPAGE` (`hg`), `MADV_HUGEPAGE`.
    Advise,
    /// `VM_NOHUGEPAGE` (`nh`), `MADV_NOHUGEPAGE`.
    Never,
}

/// Neighbouring pages with entries of one kind.
///
/// A run ends where the state changes, at the VMA's end, and, if [`Shape::physical`] and the state is
/// [contiguous](PageState::has_frames), where the next page is not the next one in physical memory. So two neighbouring
/// runs of the same state are a physical break; nothing else is stored about physical placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Length in 4 KiB pages, at least 1; for leaves above PTE a multiple of their size.
    pub nr_pages: u64,
    /// The entry of every page of the run.
    pub state: PageState,
}

/// The level at which memory is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// 4 KiB. PTE-mapped large folios are also this: the kernel does not tell.
    Pte,
    /// 2 MiB.
    Pmd,
    /// 1 GiB.
    Pud,
}

impl Leaf {
    /// log2 of [`Leaf::nr_pages`]: 0, 9 or 18.
    pub const fn order(self) -> u8 {
        match self {
            Self::Pte => 0,
            Self::Pmd => 9,
            Self::Pud => 18,
        }
    }

    /// 4 KiB pages that one leaf maps.
    pub const fn nr_pages(self) -> u64 {
        1 << self.order()
    }
}

bitflags! {
    /// What pagemap and `PAGEMAP_SCAN` say of one entry besides its kind.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct PageFlags: u8 {
        /// Page cache or shared memory, not anonymous memory (pagemap bit 61).
        const FILE = 1;
        /// Mapped once, by this process (pagemap bit 56). For a huge leaf: every one of its pages.
        const EXCLUSIVE = 2;
        /// The zero page, or the huge zero page.
        const ZERO = 4;
        /// Soft-dirty (pagemap bit 55); clear everywhere on kernels that do not track it, see [`Shape::missing`].
        const SOFT_DIRTY = 8;
        /// Write-protected by userfaultfd (pagemap bit 57). `PAGE_IS_WRITTEN` of `PAGEMAP_SCAN` is its complement.
        const UFFD_WP = 16;
    }
}

/// The entry of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageState {
    /// No PTE table: the walk ends at a none entry of a higher level.
    Hole,
    /// A zero entry in a PTE table. `hmm_range_fault` treats userfaultfd markers alike, so they are this too.
    None,
    /// Mapped.
    Present {
        /// At which level.
        leaf: Leaf,
        /// What else is known of it.
        flags: PageFlags,
    },
    /// A swap entry, or a migration, device-private or poison entry, which pagemap shows alike. Only
    /// [`PageFlags::SOFT_DIRTY`] and [`PageFlags::UFFD_WP`] occur.
    Swap {
        /// What else is known of it.
        flags: PageFlags,
    },
    /// A guard region or poison marker: every access is `SIGSEGV` or `SIGBUS`.
    Guard,
}

impl PageState {
    /// Whether the entry maps memory.
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Present { .. })
    }

    /// Whether each page has a frame of its own, so that physical contiguity means something. Not so for the zero
    /// page, which stands behind any number of pages.
    pub const fn has_frames(self) -> bool {
        match self {
            Self::Present { flags, .. } => !flags.contains(PageFlags::ZERO),
            _ => false,
        }
    }

    /// The flags, none for states without.
    pub const fn flags(self) -> PageFlags {
        match self {
            Self::Present { flags, .. } | Self::Swap { flags } => flags,
            _ => PageFlags::empty(),
        }
    }

    /// The level of a present entry; [`Leaf::Pte`] for all others.
    pub const fn leaf(self) -> Leaf {
        match self {
            Self::Present { leaf, .. } => leaf,
            _ => Leaf::Pte,
        }
    }
}

impl ShapeVma {
    /// First byte address past the VMA; saturates for lengths that [`Shape::check`] refuses.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.nr_pages.saturating_mul(PAGE_BYTES))
    }

    /// Whether entries in `state` probably have the write bit. **An inference**: the kernel shows user space no PTE
    /// write bit. The rule:
    ///
    /// - never without `VM_WRITE`, for the zero page, or under userfaultfd write protection;
    /// - shared: writable for shmem and hugetlb, which map writable at once; not for other files, whose first write
    ///   faults again after each write-back;
    /// - private: writable if anonymous and [exclusive](PageFlags::EXCLUSIVE).
    ///
    /// Against recorded kernels the private rule is wrong for 0.6 % of 4 KiB pages: a forked child has gone or has
    /// made its copy, so that the page is exclusive again but still write-protected; swap-in after a fork; soft-dirty
    /// cleared. A shared file page that is dirty is writable, and reported here as not.
    pub fn likely_writable(&self, state: PageState) -> bool {
        let PageState::Present { flags, .. } = state else { return false };
        if !self.prot.contains(Prot::WRITE) || flags.intersects(PageFlags::ZERO | PageFlags::UFFD_WP) {
            return false;
        }
        if self.shared {
            return matches!(self.kind, ShapeKind::Shmem | ShapeKind::Hugetlb { .. });
        }
        flags.contains(PageFlags::EXCLUSIVE) && !flags.contains(PageFlags::FILE)
    }

    /// Adds pages at the end of the runs, joined to the last run where [`Run`] says that they are one.
    /// `follows` tells whether the first new page is physically the next after the last one already there;
    /// pass true where that is not known.
    pub fn push(&mut self, nr_pages: u64, state: PageState, follows: bool) {
        if let Some(last) = self.runs.last_mut()
            && last.state == state
            && (follows || !state.has_frames())
        {
            last.nr_pages += nr_pages;
        } else {
            self.runs.push(Run { nr_pages, state });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(prot: Prot, shared: bool, kind: ShapeKind) -> ShapeVma {
        ShapeVma { start: 0, nr_pages: 1, prot, shared, kind, thp: ThpAdvice::Default, runs: vec![] }
    }

    #[test]
    fn likely_writable_follows_the_documented_rule() {
        let rw = Prot::READ | Prot::WRITE;
        let x = PageFlags::EXCLUSIVE;
        let none = PageFlags::empty();
        let cases = [
            (vma(rw, false, ShapeKind::Anon), x, true),
            (vma(rw, false, ShapeKind::Anon), none, false),
            (vma(Prot::READ, false, ShapeKind::Anon), x, false),
            (vma(rw, false, ShapeKind::Anon), x | PageFlags::ZERO, false),
            (vma(rw, false, ShapeKind::Anon), x | PageFlags::UFFD_WP, false),
            (vma(rw, false, ShapeKind::File), x | PageFlags::FILE, false),
            (vma(rw, false, ShapeKind::File), x, true),
            (vma(rw, true, ShapeKind::File), x | PageFlags::FILE, false),
            (vma(rw, true, ShapeKind::Shmem), PageFlags::FILE, true),
        ];
        for (vma, flags, expected) in cases {
            for leaf in [Leaf::Pte, Leaf::Pmd] {
                assert_eq!(
                    vma.likely_writable(PageState::Present { leaf, flags }),
                    expected,
                    "{:?} shared={} {flags:?}",
                    vma.kind,
                    vma.shared
                );
            }
        }
        assert!(!cases_swap_writable());
    }

    fn cases_swap_writable() -> bool {
        vma(Prot::WRITE, false, ShapeKind::Anon)
            .likely_writable(PageState::Swap { flags: PageFlags::empty() })
    }

    #[test]
    fn push_joins_runs_except_at_a_physical_break() {
        let page = PageState::Present { leaf: Leaf::Pte, flags: PageFlags::EXCLUSIVE };
        let zero = PageState::Present { leaf: Leaf::Pte, flags: PageFlags::ZERO };
        let mut vma = vma(Prot::READ, false, ShapeKind::Anon);
        for (state, follows) in [
            (page, false),
            (page, true),
            (page, false),
            (zero, false),
            (zero, false),
            (PageState::None, false),
        ] {
            vma.push(1, state, follows);
        }
        let lengths: Vec<_> = vma.runs.iter().map(|r| (r.nr_pages, r.state)).collect();
        assert_eq!(lengths, [(2, page), (1, page), (2, zero), (1, PageState::None)]);
    }
}
