//! The classes: what each is made of.

use super::PMD;
use super::dice::Dice;
use crate::scenario::MapKind;

/// A family of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Small,
    Medium,
    Thp,
    ThpMisaligned,
    File,
    Hugetlb,
    Swap,
    Fork,
    ShmemThp,
    Marks,
    SoftOffline,
    Mthp,
    Device,
    Held,
    Waits,
    Races,
}

/// A family of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Touch,
    Protect,
    DontNeed,
    Free,
    Populate,
    Unmap,
    Remap,
    /// Forks, or lets the child that there is do something.
    Child,
    Huge,
    Collapse,
    Hint,
    ForkAdvice,
    PageOut,
    Lock,
    Mremap,
    File,
    /// Punches a hole into shared memory, by address.
    Remove,
    /// userfaultfd, soft-dirty.
    Mark,
    /// A page is taken out of service. Never one of hugetlb, whose pool would not recover; and none fails for good: that
    /// could be the zero page, which later scenarios share.
    SoftOffline,
    /// hmm_range_fault with flags.
    Fault,
    /// Memory goes to a device, comes back, or is a device's alone.
    Device,
    /// A look at memory that is in migration.
    Held,
    /// hmm_range_fault with flags over memory that is in migration.
    HeldFault,
}

impl Class {
    /// Those that take turns where no class is asked for: the contract of seeds, so there are no more of them.
    pub(super) const IN_TURNS: [Self; 12] = [
        Self::Small,
        Self::Medium,
        Self::Thp,
        Self::ThpMisaligned,
        Self::File,
        Self::Hugetlb,
        Self::Swap,
        Self::Fork,
        Self::ShmemThp,
        Self::Marks,
        Self::SoftOffline,
        Self::Mthp,
    ];

    /// And those that are asked for by name alone.
    pub(super) const BY_NAME: [Self; 4] = [Self::Device, Self::Held, Self::Waits, Self::Races];

    /// The class of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::IN_TURNS.into_iter().chain(Self::BY_NAME).find(|class| class.name() == name)
    }

    /// The class of scenario `number`: in turns, those with most to go wrong in twice as often.
    pub(super) fn of(number: u64) -> Self {
        const TWICE: [Class; 6] =
            [Class::Thp, Class::ThpMisaligned, Class::File, Class::Swap, Class::ShmemThp, Class::Mthp];
        let turn = (number % (Self::IN_TURNS.len() + TWICE.len()) as u64) as usize;
        *Self::IN_TURNS.get(turn).unwrap_or_else(|| &TWICE[turn - Self::IN_TURNS.len()])
    }

    /// As in recordings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Thp => "thp",
            Self::ThpMisaligned => "thpmis",
            Self::File => "file",
            Self::Hugetlb => "hugetlb",
            Self::Swap => "swap",
            Self::Fork => "fork",
            Self::ShmemThp => "shthp",
            Self::Marks => "marks",
            Self::SoftOffline => "offline",
            Self::Mthp => "mthp",
            Self::Device => "dev",
            Self::Held => "held",
            Self::Waits => "waits",
            Self::Races => "races",
        }
    }

    /// Pages of the window, and by how many it is off a 2 MiB boundary.
    pub(super) fn window(self, dice: &mut Dice) -> (u64, u64) {
        let huge = |dice: &mut Dice, most| (PMD * dice.within(1, most), 0);
        let small = |dice: &mut Dice| {
            let npages = dice.within(4, 64);
            // A boundary inside the window, now and then.
            let misalign = *dice.pick(&[0, 0, PMD - npages / 2, 77]);
            (npages, misalign)
        };
        let medium = |dice: &mut Dice, most| {
            let npages = dice.within(64, most);
            let misalign = [0, PMD - dice.within(1, 63), dice.below(PMD)];
            (npages, *dice.pick(&misalign))
        };
        match self {
            Self::Races if dice.chance(30) => huge(dice, 2),
            Self::Races => (dice.within(8, 400), 0),
            Self::Small => small(dice),
            Self::Medium => medium(dice, 900),
            Self::Thp => huge(dice, 4),
            Self::Hugetlb => huge(dice, 4),
            Self::ThpMisaligned => {
                let any = dice.within(1, PMD - 1);
                (dice.within(700, 2048), *dice.pick(&[1, 256, PMD - 1, any]))
            }
            Self::ShmemThp if dice.chance(50) => huge(dice, 3),
            Self::ShmemThp => (dice.within(600, 1800), dice.below(PMD)),
            Self::File => {
                let most = *dice.pick(&[64, 1024]);
                (dice.within(4, most), *dice.pick(&[0, 0, 300, PMD - 2]))
            }
            Self::Swap
            | Self::Fork
            | Self::Marks
            | Self::SoftOffline
            | Self::Mthp
            | Self::Device
            | Self::Held
            | Self::Waits => match dice.below(3) {
                0 => small(dice),
                1 => medium(dice, 600),
                _ => huge(dice, 3),
            },
        }
    }

    /// Kinds of memory, each as often as it is named.
    pub(super) const fn kinds(self) -> &'static [MapKind] {
        use MapKind as K;
        match self {
            Self::Small => {
                &[K::Anon, K::Anon, K::Anon, K::Anon, K::SharedAnon, K::Zero, K::SharedZero, K::DevMem]
            }
            // Behind the first 96 pages of `devmem` lies memory of the kernel's.
            Self::Medium => &[K::Anon, K::Anon, K::Anon, K::Anon, K::SharedAnon, K::Zero, K::SharedZero],
            Self::Thp | Self::ThpMisaligned | Self::Mthp => &[K::Anon],
            Self::File => &[
                K::FilePrivate,
                K::FilePrivate,
                K::FileShared,
                K::FileShared,
                K::FileReadOnly,
                K::BlockShared,
                K::BlockPrivate,
            ],
            Self::Hugetlb => &[K::HugetlbPrivate, K::HugetlbPrivate, K::HugetlbShared],
            Self::Swap => &[K::Anon, K::Anon, K::Anon, K::Anon, K::SharedAnon],
            Self::Fork => &[K::Anon, K::Anon, K::Anon, K::Anon, K::FilePrivate, K::SharedAnon],
            Self::ShmemThp => &[K::SharedAnon, K::SharedAnon, K::SharedAnon, K::SharedZero, K::Anon],
            Self::Device => {
                &[K::Anon, K::Anon, K::Anon, K::Anon, K::Anon, K::SharedAnon, K::Zero, K::FilePrivate]
            }
            Self::Held => &[K::Anon],
            Self::Races => &[K::Anon, K::Anon, K::Anon, K::SharedAnon, K::FilePrivate, K::FileShared],
            // Who sleeps lets a kernel thread write pages back: none of those whose writes are tracked.
            Self::Waits => &[
                K::Anon,
                K::Anon,
                K::Anon,
                K::Anon,
                K::SharedAnon,
                K::SharedAnon,
                K::FilePrivate,
                K::FileShared,
                K::FileReadOnly,
                K::BlockPrivate,
                K::Zero,
            ],
            Self::Marks | Self::SoftOffline => {
                &[K::Anon, K::Anon, K::Anon, K::SharedAnon, K::FilePrivate, K::FileShared]
            }
        }
    }

    /// Whether one of its kinds needs the tmpfs file.
    pub(super) const fn has_file(self) -> bool {
        matches!(self, Self::File | Self::Fork | Self::Marks | Self::SoftOffline | Self::Device | Self::Waits)
    }

    /// Whether huge pages are what it is about.
    pub(super) const fn wants_huge(self) -> bool {
        matches!(self, Self::Thp | Self::ThpMisaligned | Self::ShmemThp | Self::Mthp)
    }

    /// Whether transparent huge pages can be among its memory.
    pub(super) const fn may_be_huge(self) -> bool {
        !matches!(self, Self::Small | Self::File | Self::Hugetlb)
    }

    /// Pages of the smallest huge page that there can be.
    pub(super) const fn least_huge(self) -> u64 {
        if matches!(self, Self::Mthp) { 4 } else { PMD }
    }

    /// Operations and how often.
    pub(super) fn weights(self, has_faults: bool, has_marks: bool) -> Vec<(Action, u64)> {
        let is = |class| self == class;
        let only = |condition: bool, weight| if condition { weight } else { 0 };
        vec![
            (Action::Touch, 34),
            (Action::Protect, 12),
            (Action::DontNeed, 7),
            (Action::Free, if is(Self::Swap) { 3 } else { 1 }),
            (Action::Populate, 8),
            (Action::Unmap, 5),
            (Action::Remap, 3),
            (Action::Child, if is(Self::Fork) { 18 } else { 4 }),
            (Action::Huge, only(self.may_be_huge(), if self.wants_huge() { 8 } else { 2 })),
            (Action::Collapse, only(self.may_be_huge(), if self.wants_huge() { 4 } else { 1 })),
            (Action::Hint, 1),
            (Action::ForkAdvice, if is(Self::Fork) { 4 } else { 1 }),
            (Action::PageOut, only(is(Self::Swap), 22)),
            (Action::Lock, 2),
            (Action::Mremap, if is(Self::Hugetlb) { 1 } else { 3 }),
            (Action::File, only(is(Self::File), 8)),
            (Action::Remove, only(!self.has_file(), if is(Self::ShmemThp) { 4 } else { 1 })),
            (Action::Mark, if is(Self::Marks) { 22 } else { only(has_marks, 10) }),
            (Action::SoftOffline, only(is(Self::SoftOffline), 10)),
            (Action::Fault, only(has_faults, 40)),
            (Action::Device, only(is(Self::Device), 40)),
            (Action::Held, if is(Self::Waits) { 15 } else { only(is(Self::Held), 40) }),
            (Action::HeldFault, only(is(Self::Waits), 45)),
        ]
    }
}
