//! Random scenarios for a kernel to play: operations that meet each other in every order, most of them where they meet
//! something.
//!
//! Contract: a seed and a number give the same scenario on every machine; a test pins them. A scenario is a script:
//! what the kernel shows is the recorder's to fill in.
//!
//! Each class has a window, kinds of memory, and weights of operations that fit them; half of all scenarios have
//! faults through `hmm_range_fault()` among the operations.

mod class;
mod dice;
mod races;

use class::{Action, Class};
use dice::Dice;

use super::op::{Advice, MapFlags, MapKind, Op, Prot, Span, Wish};
use super::rle::Rle;
use super::{Expected, Scenario, ShmemEnabled, Step, ThpEnabled};
use crate::random::{Purpose, generator};

/// Pages of a PMD.
const PMD: u64 = 512;

/// The names of all classes: those that take turns, in the order of their first turns, then those that are asked for by
/// name alone.
pub fn classes() -> impl Iterator<Item = &'static str> {
    Class::IN_TURNS.iter().chain(&Class::BY_NAME).map(|class| class.name())
}

/// Scenario `number` of `seed`.
pub fn generate(seed: u64, number: u64) -> Scenario {
    Script::new(dice(seed, number), Class::of(number)).scenario(seed, number)
}

/// Scenario `number` of `seed` among those of one class; none when no class has that name.
pub fn generate_of(class: &str, seed: u64, number: u64) -> Option<Scenario> {
    let named = Class::named(class)?;
    let mut scenario = Script::new(dice(seed, number), named).scenario(seed, number);
    scenario.id.insert_str(0, class);
    Some(scenario)
}

fn dice(seed: u64, number: u64) -> Dice {
    // Recordings were made of these streams: of the lowest bit nothing but its carry counts.
    let stream = (seed << 2 | 3).wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)) >> 1;
    Dice::new(generator(stream, Purpose::Scenario))
}

/// A scenario as it grows.
struct Script {
    dice: Dice,
    class: Class,
    npages: u64,
    misalign: u64,
    ops: Vec<Op>,
    has_child: bool,
    has_faults: bool,
}

impl Script {
    fn new(mut dice: Dice, class: Class) -> Self {
        let (npages, misalign) = class.window(&mut dice);
        let has_faults = dice.chance(50);
        Self { dice, class, npages, misalign, ops: Vec::new(), has_child: false, has_faults }
    }

    fn scenario(mut self, seed: u64, number: u64) -> Scenario {
        let class = self.class;
        let is_thp = matches!(class, Class::Thp | Class::ThpMisaligned | Class::Mthp);
        let thp = if is_thp && self.dice.chance(15) { ThpEnabled::Always } else { ThpEnabled::Madvise };
        let shthp = match class {
            Class::ShmemThp if self.dice.chance(20) => ShmemEnabled::Always,
            Class::ShmemThp => ShmemEnabled::Advise,
            _ => ShmemEnabled::Never,
        };
        let zp = !(is_thp && self.dice.chance(8));
        const ORDERS: [u16; 6] = [1 << 2, 1 << 4, 1 << 2 | 1 << 4, 1 << 3 | 1 << 6, 1 << 8, 0x1fc];
        let mthp = if class == Class::Mthp { *self.dice.pick(&ORDERS) } else { 0 };
        let wanted = self.dice.within(5, 12) as usize;
        let swaps = class == Class::Races && !self.npages.is_multiple_of(PMD) && self.dice.chance(20);
        if class == Class::Races {
            self.races(swaps);
        } else {
            self.set_up();
        }
        let has_marks = self.dice.chance(12);
        let weights = class.weights(self.has_faults, has_marks);
        while class != Class::Races && self.ops.len() < wanted {
            let action = self.dice.weighted(&weights);
            let op = self.act(action);
            self.ops.push(op);
        }
        Scenario {
            id: format!("s{seed}-{number:05}"),
            cls: class.name().into(),
            kernel: "?".into(),
            line: 0,
            npages: self.npages as usize,
            misalign: self.misalign,
            swap: class == Class::Swap || swaps,
            thp,
            shthp,
            mthp,
            zp,
            dev1: class == Class::Device,
            giga: false,
            rawmismatch: 0,
            unknown_setting: None,
            steps: self.ops.into_iter().map(|op| Step { op, expected: Expected::default() }).collect(),
        }
    }

    /// The first mappings, without which nothing that follows means much.
    fn set_up(&mut self) {
        let npages = self.npages;
        if self.class.has_file() {
            let size = match self.dice.below(4) {
                0 | 1 => npages,
                2 => npages - self.dice.within(0, npages / 2),
                _ => npages + 5,
            };
            let fill = self.dice.chance(80).then(|| self.dice.span(size.max(1)));
            self.ops.push(Op::File { size, fill });
        }
        let whole = Span { off: 0, len: npages };
        if self.class == Class::Hugetlb || npages < 2 || self.dice.chance(60) {
            let op = self.map(whole, false);
            self.ops.push(op);
        } else {
            let cut = self.dice.within(1, npages - 1);
            let gap = if self.class.wants_huge() { 0 } else { self.dice.below(1 + (npages - cut) / 2) };
            let gap = if self.dice.chance(50) { 0 } else { gap };
            for span in [Span { off: 0, len: cut }, Span { off: cut + gap, len: npages - cut - gap }] {
                if span.len > 0 {
                    let op = self.map(span, false);
                    self.ops.push(op);
                }
            }
        }
        let advises = if self.class.wants_huge() { 90 } else { 50 };
        if self.class.may_be_huge() && npages >= self.class.least_huge() && self.dice.chance(advises) {
            let span = if self.dice.chance(60) { whole } else { self.dice.span(npages) };
            self.ops.push(Op::Madvise { span, advice: Advice::Hugepage });
        }
        // Nobody waits for a page that there is not.
        if self.class == Class::Waits && self.dice.chance(80) {
            let op = self.touch(whole);
            self.ops.push(op);
        }
    }

    /// Pages of the window, as the class likes them.
    fn span(&mut self) -> Span {
        if self.class == Class::Hugetlb && self.dice.chance(80) {
            let huge = self.dice.span(self.npages / PMD);
            return Span { off: huge.off * PMD, len: huge.len * PMD };
        }
        self.dice.span(self.npages)
    }

    fn map(&mut self, span: Span, fixed: bool) -> Op {
        let kind = *self.dice.pick(self.class.kinds());
        let read_write = Prot { read: true, write: true, exec: false };
        let prot = if self.dice.chance(60) { read_write } else { self.prot() };
        // A file that is open for reading only refuses a shared writable mapping: worth a look, not a habit.
        let write = prot.write && !(kind == MapKind::FileReadOnly && self.dice.chance(90));
        let (populate, noreserve) = (self.dice.chance(6), self.dice.chance(3));
        let is_file = matches!(
            kind,
            MapKind::FilePrivate
                | MapKind::FileShared
                | MapKind::FileReadOnly
                | MapKind::BlockPrivate
                | MapKind::BlockShared
        );
        // Mostly the page of the file that lies at this page of the window, so that alignments agree.
        let foff = match (is_file, self.dice.chance(80)) {
            (false, _) => 0,
            (true, true) => span.off,
            (true, false) => self.dice.below(21),
        };
        let flags = MapFlags { populate, noreserve, locked: false };
        let prot = Prot { read: prot.read || (prot.write && !write), write, ..prot };
        Op::Map { span, prot, kind, flags, foff, fixed }
    }

    fn prot(&mut self) -> Prot {
        let (read, write, exec) = *self.dice.pick(&[
            (true, true, false),
            (true, true, false),
            (true, false, false),
            (true, false, false),
            (false, false, false),
            (false, true, false),
            (true, false, true),
            (false, false, true),
            (true, true, true),
        ]);
        Prot { read, write, exec }
    }

    fn act(&mut self, action: Action) -> Op {
        let span = self.span();
        let madvise = |advice| Op::Madvise { span, advice };
        match action {
            Action::Touch => self.touch(span),
            Action::Protect => Op::Protect { span, prot: self.prot() },
            Action::DontNeed => madvise(Advice::Dontneed),
            Action::Free => madvise(Advice::Free),
            Action::Populate => madvise(*self.dice.pick(&[Advice::PopulateRead, Advice::PopulateWrite])),
            Action::Unmap => Op::Unmap { span },
            Action::Remap => {
                let fixed = self.dice.chance(50);
                self.map(span, fixed)
            }
            Action::Child => self.child(span),
            Action::Huge => madvise(*self.dice.pick(&[Advice::Hugepage, Advice::Nohugepage])),
            Action::Collapse => madvise(Advice::Collapse),
            Action::Hint => madvise(*self.dice.pick(&[
                Advice::Cold,
                Advice::Random,
                Advice::Sequential,
                Advice::Willneed,
            ])),
            Action::ForkAdvice => madvise(*self.dice.pick(&[
                Advice::Dontfork,
                Advice::Dofork,
                Advice::Wipeonfork,
                Advice::Keeponfork,
            ])),
            Action::PageOut => madvise(*self.dice.pick(&[
                Advice::Pageout,
                Advice::Pageout,
                Advice::Pageout,
                Advice::Pageout,
                Advice::Cold,
                Advice::Willneed,
            ])),
            Action::Lock => match self.dice.below(3) {
                0 => Op::Mlock { span },
                1 => Op::MlockOnFault { span },
                _ => Op::Munlock { span },
            },
            Action::Mremap => self.mremap(),
            Action::File => match self.dice.below(4) {
                0 => Op::Ftrunc { size: self.dice.within(0, self.npages) },
                1 => Op::Fpunch { span },
                2 => Op::Msync { span },
                _ => madvise(Advice::Remove),
            },
            Action::Remove => madvise(Advice::Remove),
            Action::Mark => match self.dice.below(20) {
                0..9 => Op::UffdWp { span },
                9..12 => Op::UffdUnwp { span },
                // A write-protected hugetlb entry that outlives its registration for that has hmm_range_fault go round for
                // ever in 6.12 when it is to be written, beyond the reach of signals.
                12..14 if self.class != Class::Hugetlb => Op::UffdMiss { span },
                _ => Op::SoftClear,
            },
            Action::SoftOffline => {
                Op::Madvise { span: self.dice.short(self.npages, 3), advice: Advice::SoftOffline }
            }
            // Not by the test driver's own reads and writes: one of a page that is in the memory of the same device kills
            // the process inside the kernel (dmirror_do_read of Linux 6.12 takes the page for one of the processor's).
            Action::Fault if self.class == Class::Device && self.dice.chance(40) => {
                Op::Fault { span, req: if self.dice.chance(50) { Wish::Read } else { Wish::Write } }
            }
            Action::Fault => self.fault(span),
            Action::Device => self.device(span),
            Action::Held => {
                let (span, held) = self.held(span, 512);
                Op::Held { span, held }
            }
            Action::HeldFault => {
                // One VMA has to have all of it.
                let most = *self.dice.pick(&[8, 64, 512]);
                let (span, held) = self.held(span, most);
                let moves = self.dice.chance(40);
                let all = if self.dice.chance(40) {
                    Some(*self.dice.pick(&[Wish::Read, Wish::Write]))
                } else {
                    None
                };
                match all.map_or_else(|| self.fault(span), |req| Op::Fault { span, req }) {
                    Op::FaultPages { req, mask, pages, .. } => {
                        Op::HeldFault { span, held, moves, req, mask, pages: Some(pages) }
                    }
                    Op::Fault { req, .. } => {
                        Op::HeldFault { span, held, moves, req, mask: Wish::Write, pages: None }
                    }
                    other => other,
                }
            }
        }
    }

    /// What is in migration, at most `most` pages; and what is looked at, mostly all of that and something beside it.
    fn held(&mut self, span: Span, most: u64) -> (Span, Span) {
        let held = self.dice.short(self.npages, most);
        let beside = Span { off: held.off.saturating_sub(3), len: 0 };
        let around = Span { len: (held.end() + 3).min(self.npages) - beside.off, ..beside };
        (if self.dice.chance(70) { around } else { span }, held)
    }

    fn touch(&mut self, span: Span) -> Op {
        let (span, step) = if self.dice.chance(12) {
            (self.dice.short(self.npages, 64), self.dice.within(2, 5))
        } else {
            (span, 1)
        };
        if self.dice.chance(33) { Op::Read { span, step } } else { Op::Write { span, step } }
    }

    fn child(&mut self, span: Span) -> Op {
        if !self.has_child {
            self.has_child = true;
            return Op::Fork;
        }
        match self.dice.below(20) {
            0..10 => Op::ChildWrite { span },
            10..13 => Op::ChildRead { span },
            13..15 => Op::ChildUnmap { span },
            _ => {
                self.has_child = false;
                Op::ChildExit
            }
        }
    }

    fn device(&mut self, span: Span) -> Op {
        let span = if self.dice.chance(60) { self.dice.short(self.npages, 64) } else { span };
        let dev = u8::from(self.dice.chance(25));
        match self.dice.below(20) {
            0..12 => Op::Migrate { span, dev },
            12..15 => Op::MigrateToSystem { span, dev },
            _ => Op::Exclusive { span: Span { len: span.len.min(96), ..span }, dev: 0 },
        }
    }

    fn mremap(&mut self) -> Op {
        let npages = self.npages;
        if npages >= 2 * PMD && self.dice.chance(40) {
            // A whole PMD to where one fits, unless the window is misaligned.
            let from = self.dice.below(npages / PMD) * PMD;
            let to = self.dice.below(npages / PMD) * PMD;
            return Op::Mremap { span: Span { off: from, len: PMD }, to, newlen: PMD };
        }
        let most = if self.dice.chance(70) { 128 } else { npages };
        let span = self.dice.short(npages, most);
        let to = self.dice.within(0, npages - span.len);
        // A place that is longer or shorter than what moves there, now and then.
        let newlen = if self.dice.chance(20) {
            self.dice.within(1, (npages - to).min(span.len * 2))
        } else {
            span.len
        };
        Op::Mremap { span, to, newlen }
    }

    fn fault(&mut self, span: Span) -> Op {
        if self.dice.chance(50) {
            let req = *self.dice.pick(&[
                Wish::Read,
                Wish::Read,
                Wish::Read,
                Wish::Write,
                Wish::Write,
                Wish::Write,
                Wish::WriteOnly,
            ]);
            return Op::Fault { span, req };
        }
        let mut pages = Rle::default();
        for _ in 0..12 {
            let left = span.len - pages.len() as u64;
            if left == 0 {
                break;
            }
            let most = *self.dice.pick(&[1, 3, 16, 512]);
            let count = self.dice.within(1, left.min(most));
            let wish = *self.dice.pick(&[
                Wish::None,
                Wish::None,
                Wish::None,
                Wish::Read,
                Wish::Read,
                Wish::Write,
                Wish::Write,
                Wish::WriteOnly,
            ]);
            pages.push(count as u32, wish);
        }
        pages.resize(span.len as u32, Wish::None);
        let req = if self.dice.chance(20) { Wish::Read } else { Wish::None };
        let mask = if self.dice.chance(10) { Wish::Read } else { Wish::Write };
        Op::FaultPages { span, req, mask, pages }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_scenario_can_be_replayed_and_reads_back_as_written() {
        let mut classes_seen = HashSet::new();
        for number in 0..400 {
            let scenario = generate(3, number);
            assert_eq!(scenario.unsupported(), None, "{number}");
            classes_seen.insert(scenario.cls.clone());
            let line = crate::scenario::to_line(&scenario);
            let back = crate::scenario::parse_line(&line, std::path::Path::new("x"), 0).unwrap();
            assert_eq!(back, scenario, "{line}");
        }
        assert_eq!(classes_seen.len(), Class::IN_TURNS.len());
        for number in 0..200 {
            for class in classes() {
                let scenario = generate_of(class, 3, number).unwrap();
                assert_eq!((scenario.unsupported(), scenario.cls.as_str()), (None, class), "{number}");
                let line = crate::scenario::to_line(&scenario);
                let back = crate::scenario::parse_line(&line, std::path::Path::new("x"), 0).unwrap();
                assert_eq!(back, scenario, "{line}");
            }
        }
        assert_eq!(generate_of("none of these", 3, 0), None);
    }

    /// The contract of a seed, which is how old recordings can be made again.
    #[test]
    fn a_recording_is_what_its_seed_gives() {
        type Made = fn(u64) -> Option<Scenario>;
        let recordings: [(&str, usize, Made); 5] = [
            ("scenarios-1", 1620, |number| Some(generate(1, number))),
            ("dev-8", 300, |number| generate_of("dev", 8, number)),
            ("held-8", 150, |number| generate_of("held", 8, number)),
            ("waits-11", 300, |number| generate_of("waits", 11, number)),
            ("races-22", 250, |number| generate_of("races", 22, number)),
        ];
        for (name, count, made) in recordings {
            let file =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("truth/{name}.jsonl.gz"));
            let recorded = crate::scenario::read_path(&file).unwrap();
            assert_eq!(recorded.len(), count);
            for (number, recorded) in recorded.into_iter().enumerate() {
                let mut scenario = made(number as u64).unwrap();
                (scenario.kernel, scenario.line) = (recorded.kernel.clone(), recorded.line);
                for (step, recorded) in scenario.steps.iter_mut().zip(&recorded.steps) {
                    step.expected = recorded.expected.clone();
                }
                assert!(scenario == recorded, "{name} {number}: {}", crate::scenario::to_line(&scenario));
            }
        }
    }

    #[test]
    fn seeds_and_numbers_give_different_scenarios() {
        let scripts: HashSet<String> = (0..5)
            .flat_map(|seed| (0..200).map(move |number| (seed, number)))
            .map(|(seed, number)| {
                let s = generate(seed, number);
                s.steps.iter().map(|step| step.op.to_string() + "\n").collect()
            })
            .collect();
        assert_eq!(scripts.len(), 1000);
    }
}
