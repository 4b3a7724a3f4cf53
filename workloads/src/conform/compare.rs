//! Compares what a machine returned and shows with one step of a recording.

use std::fmt;

use super::{Applied, Counts, Difference, Field, FieldTable, Observation, Shown};
use crate::scenario::{Expected, PmCode, RawCode, Rle, vma};

/// Order of a 1 GiB page.
const PUD_ORDER: u8 = 18;

/// Compares the fields of one step: counts all, keeps the first difference.
pub(super) struct StepCompare<'a> {
    pub(super) step: usize,
    pub(super) op: &'a dyn fmt::Display,
    pub(super) fields: &'a mut FieldTable,
    pub(super) first: &'a mut Option<Box<Difference>>,
}

impl StepCompare<'_> {
    pub(super) fn applied(&mut self, expected: &Expected, got: &Applied) {
        self.value(Field::Ret, Some(expected.ret), Some(got.ret));
        self.value(Field::Segv, expected.segv, got.segv);
        self.value(Field::Bus, expected.bus, got.bus);
        self.value(Field::Calls, expected.calls, got.calls);
        self.value(Field::Cpages, expected.cpages, got.cpages);
        self.value(Field::Waited, expected.waited, got.waited);
        self.value(Field::Faults, expected.faults, got.faults);
        self.value(Field::Order, expected.order, got.order);
        self.list(Field::Out, expected.out.as_ref(), got.out.as_deref().unwrap_or_default());
    }

    pub(super) fn observed(
        &mut self,
        expected: &Expected,
        got: &Observation,
        keeps_soft_dirty: bool,
        giga: bool,
    ) {
        self.list(Field::Raw, expected.raw.as_ref(), &got.raw);
        self.list(Field::Snapshot, expected.snapshot.as_ref(), &got.snapshot);
        self.list(
            Field::Snapshot1,
            expected.snapshot1.as_ref(),
            got.snapshot1.as_deref().unwrap_or_default(),
        );
        if let Some(expected) = &expected.vma {
            let got = vma::join(got.vma.iter().copied());
            self.count(Field::Vma, 1, u64::from(*expected != got), || {
                (None, Shown::value(vma::show(expected)), Shown::value(vma::show(&got)))
            });
        }
        if let Some(pm) = &expected.pm {
            self.pm(pm, &got.pm, expected.raw.as_ref(), giga);
            if keeps_soft_dirty {
                self.list_by(Field::SoftDirty, pm, &got.pm, |_, expected, got| {
                    expected.and(PmCode::SOFT_DIRTY) == got.and(PmCode::SOFT_DIRTY)
                });
            }
        }
        if let Some(scan) = &got.scan {
            self.list(Field::Scan, expected.scan.as_ref(), scan);
        }
    }

    /// The letters P S F U X, X only where the recorded kernel keeps it stable: not for 1 GiB pages.
    fn pm(&mut self, expected: &Rle<PmCode>, got: &[PmCode], raw: Option<&Rle<RawCode>>, giga: bool) {
        let with_x = |expected: PmCode, got: PmCode| {
            expected.without(PmCode::SOFT_DIRTY) == got.without(PmCode::SOFT_DIRTY)
        };
        let unstable = PmCode::SOFT_DIRTY.with(PmCode::EXCLUSIVE);
        let without_x = |expected: PmCode, got: PmCode| expected.without(unstable) == got.without(unstable);
        let is_pud = |code: RawCode| code.order == PUD_ORDER;
        if giga {
            self.list_by(Field::Pm, expected, got, |_, expected, got| without_x(expected, got));
        } else if let Some(raw) = raw.filter(|raw| raw.runs().iter().any(|&(_, code)| is_pud(code))) {
            let raw = raw.to_vec();
            self.list_by(Field::Pm, expected, got, |page, expected, got| {
                if raw.get(page).copied().is_some_and(is_pud) {
                    without_x(expected, got)
                } else {
                    with_x(expected, got)
                }
            });
        } else {
            self.list_by(Field::Pm, expected, got, |_, expected, got| with_x(expected, got));
        }
    }

    fn value<T: PartialEq + fmt::Display>(&mut self, field: Field, expected: Option<T>, got: Option<T>) {
        let Some(expected) = expected else { return };
        let same = got.as_ref() == Some(&expected);
        self.count(field, 1, u64::from(!same), || {
            let got = got.map_or_else(|| Shown::value("nothing"), Shown::value);
            (None, Shown::value(expected), got)
        });
    }

    fn list<T: Copy + PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        expected: Option<&Rle<T>>,
        got: &[T],
    ) {
        if let Some(expected) = expected {
            self.list_by(field, expected, got, |_, expected, got| expected == got);
        }
    }

    fn list_by<T: Copy + PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        expected: &Rle<T>,
        got: &[T],
        same: impl Fn(usize, T, T) -> bool,
    ) {
        let mut differing = expected.len().abs_diff(got.len()) as u64;
        let mut first = None;
        let mut page = 0;
        for &(count, code) in expected.runs() {
            let pages = got.iter().skip(page).take(count as usize);
            for (index, &value) in pages.enumerate() {
                if !same(page + index, code, value) {
                    differing += 1;
                    first = first.or(Some(page + index));
                }
            }
            page += count as usize;
        }
        let compared = expected.len().max(got.len()) as u64;
        self.count(field, compared, differing, || {
            let page = first.unwrap_or(expected.len().min(got.len()));
            let got = Rle::from_values(got.iter().copied());
            (Some(page), Shown::page(expected, page), Shown::page(&got, page))
        });
    }

    fn count(
        &mut self,
        field: Field,
        compared: u64,
        differ: u64,
        show: impl FnOnce() -> (Option<usize>, Shown, Shown),
    ) {
        self.fields.add(field, Counts { compared, differ });
        if differ > 0 && self.first.is_none() {
            let (page, expected, got) = show();
            let (step, op) = (self.step, self.op.to_string());
            *self.first =
                Some(Box::new(Difference { step, op, field, page, differing: differ, expected, got }));
        }
    }
}
