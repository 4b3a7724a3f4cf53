//! The lines about the candidates: what they gain, and what they still lack of what the machine allows.

use walker::request::Wish;
use workloads::request::{RequestKind, Share};
use workloads::shape::{HugePage, Hugetlb, Memory, Protector, ShapeSpec, SplitPermissions};

use super::lines::{Against, Duel, IN_L2, IN_MEMORY};
use crate::measure::limits::Limit;
use crate::measure::member::What;

/// Between the caches: 8 MiB of entries and as much of slots.
const IN_L3: u64 = 4 << 30;
/// Scalar designs that a kernel could have as they are.
const SCALAR: &[&str] = &["fixed_flags", "map_order", "hoisted_mask", "exact_fault"];
/// One call of 512 pages.
const SLICE: u64 = 2 << 20;

/// A write wish for one page, the others only reported.
const ONE_PAGE: RequestKind = RequestKind::Scattered { share: Share::Pages(1), write: true };

/// All of them, in the order of the report.
pub(super) fn duels() -> Vec<Duel> {
    let dense = || ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    let duel = |title: String, shape, size_bytes| Duel {
        title,
        shape,
        size_bytes,
        request: RequestKind::Snapshot,
        call_pages: None,
        what: What::Call,
        who: SCALAR,
        against: Against::Limit(Limit::Decode),
        unit: "x decode",
        goal: Some(1.1),
        is_gain: false,
        seed: None,
    };
    let mut all = Vec::new();
    for (size, place) in [(IN_L2, "L2"), (IN_L3, "L3"), (IN_MEMORY, "memory")] {
        for (against, unit, goal) in [(Limit::Load, "x load", Some(1.2)), (Limit::Copy, "x copy", None)] {
            all.push(Duel {
                who: &["wide_scan"],
                against: Against::Limit(against),
                unit,
                goal,
                ..duel(format!("snapshot 4K, {place}"), dense(), size)
            });
        }
        all.push(duel(format!("snapshot 4K, scalar, {place}"), dense(), size));
        let request = RequestKind::FaultWrite;
        all.push(Duel { request, ..duel(format!("write, present, scalar, {place}"), dense(), size) });
    }
    let whole = |title: &str, shape, size_bytes, who, goal| Duel {
        what: What::Whole,
        who,
        against: Against::Design("map_order"),
        unit: "x map_order",
        goal,
        ..duel(title.to_owned(), shape, size_bytes)
    };
    let less = |times, duel| Duel { unit: "x less", is_gain: true, goal: Some(times), ..duel };
    let huge = |who| whole("2M leaves, 1 GiB", ShapeSpec::Dense2m, 1 << 30, who, None);
    let giant = ShapeSpec::Hugetlb(Hugetlb { page: HugePage::Pud });
    let checkerboard =
        ShapeSpec::SplitPermissions(SplitPermissions { stripe_pages: 1, by: Protector::Mprotect });
    let forked = ShapeSpec::AfterFork { run_pages: 1, broken_permille: 0, memory: Memory::Data };
    let first = (0..).find(|seed| ONE_PAGE.wishes(SLICE >> 12, *seed).is_some_and(|w| w[0] == Wish::Write));
    let extents: &[&str] = &["extents"];
    let again: &[&str] = &["resume", "range_cursor"];
    all.extend([
        less(30.0, huge(extents)),
        less(10.0, Duel { against: Against::Design("map_order_step"), ..huge(extents) }),
        less(2000.0, whole("1G leaves, 64 GiB", giant, 64 << 30, extents, None)),
        whole("checkerboard, 16 MiB", checkerboard, 16 << 20, extents, None),
        Duel { call_pages: Some(512), ..whole("4K, 512 a call", dense(), IN_L2, again, Some(1.03)) },
        Duel { call_pages: Some(1), ..whole("4K, 1 a call", dense(), SLICE, again, None) },
        less(
            100.0,
            Duel {
                request: ONE_PAGE,
                seed: first,
                ..whole("write wish, first of 512 COW", forked, SLICE, &["exact_fault"], None)
            },
        ),
    ]);
    all
}
