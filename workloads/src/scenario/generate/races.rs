//! Class `races`: memory in a known state, and a walk of it while the CPU accesses it; twice, each time in fresh memory.

use super::{PMD, Script};
use crate::scenario::{Access, AccessKind, Accesses, Advice, MapFlags, MapKind, Op, Prot, Span, Wish};

/// Races of a scenario.
const ROUNDS: u64 = 2;

impl Script {
    /// All of the scenario. `swaps`: there is a swap device.
    pub(super) fn races(&mut self, swaps: bool) {
        let kind = if swaps { MapKind::Anon } else { *self.dice.pick(self.class.kinds()) };
        for round in 0..ROUNDS {
            self.fresh(kind, round > 0);
            if swaps {
                self.swapped();
            } else {
                self.lived_in(kind);
            }
            let race = self.race();
            self.ops.push(race);
            if self.has_child {
                self.has_child = false;
                self.ops.push(Op::ChildExit);
            }
        }
    }

    fn whole(&self) -> Span {
        Span { off: 0, len: self.npages }
    }

    /// Memory that nobody has touched.
    fn fresh(&mut self, kind: MapKind, fixed: bool) {
        let span = self.whole();
        if matches!(kind, MapKind::FilePrivate | MapKind::FileShared) {
            let fill = self.dice.chance(75).then(|| self.dice.span(self.npages));
            self.ops.push(Op::File { size: self.npages, fill });
        }
        let prot = Prot { read: true, write: true, exec: false };
        self.ops.push(Op::Map { span, prot, kind, flags: MapFlags::default(), foff: 0, fixed });
        if kind == MapKind::Anon && self.npages.is_multiple_of(PMD) && self.dice.chance(75) {
            self.ops.push(Op::Madvise { span, advice: Advice::Hugepage });
        }
    }

    /// What is there when the race begins: nothing, zero pages, written ones, such that a child has too.
    fn lived_in(&mut self, kind: MapKind) {
        let (whole, some) = (self.whole(), self.dice.span(self.npages));
        match self.dice.below(6) {
            0 | 1 => {}
            2 => self.ops.push(Op::Read { span: whole, step: 1 }),
            3 => self.ops.push(Op::Write { span: some, step: 1 }),
            n => {
                if n == 4 {
                    self.ops.push(Op::Read { span: whole, step: 1 });
                }
                self.ops.push(Op::Write { span: if n == 4 { some } else { whole }, step: 1 });
                if matches!(kind, MapKind::Anon | MapKind::FilePrivate) {
                    self.ops.push(Op::Fork);
                    self.has_child = true;
                    if self.dice.chance(30) {
                        let span = self.dice.span(self.npages);
                        self.ops.push(Op::ChildWrite { span });
                    }
                }
            }
        }
    }

    /// Written pages, some of which are on the swap device.
    fn swapped(&mut self) {
        let whole = self.whole();
        let span = if self.dice.chance(50) { whole } else { self.dice.span(self.npages) };
        self.ops.push(Op::Write { span: whole, step: 1 });
        self.ops.push(Op::Madvise { span, advice: Advice::Pageout });
    }

    fn race(&mut self) -> Op {
        let span = self.part();
        let req = *self.dice.pick(&[
            Wish::Read,
            Wish::Read,
            Wish::Read,
            Wish::Write,
            Wish::Write,
            Wish::Write,
            Wish::None,
        ]);
        let mut cpu = vec![self.access()];
        if self.dice.chance(45) {
            let (short, beside) = (self.dice.short(self.npages, 8), self.access());
            let kind = if self.has_child && self.dice.chance(50) {
                AccessKind::ChildWrite
            } else {
                AccessKind::DontNeed
            };
            cpu.push(Access { kind, span: short, down: false });
            if self.dice.chance(60) {
                cpu.push(beside);
            }
        }
        // Who walks takes longer to begin than who touches.
        let lead = if self.dice.chance(70) { 0 } else { self.dice.below(1 + cpu[0].span.len / 2) };
        Op::Race { span, req, cpu: Accesses(cpu), lead }
    }

    fn access(&mut self) -> Access {
        let kind = if self.dice.chance(70) { AccessKind::Write } else { AccessKind::Read };
        Access { kind, span: self.part(), down: self.dice.chance(40) }
    }

    /// Most of the window, so that walk and accesses meet.
    fn part(&mut self) -> Span {
        let off = self.dice.below(1 + self.npages / 4);
        let len = self.dice.within(self.npages / 2, self.npages - off).max(1);
        Span { off, len }
    }
}
