//! Shape files: what goes in comes out, and what is damaged is refused with its line.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::*;
use workloads::capture::{
    Leaf, PageFlags, PageState, Prot, Shape, ShapeKind, ShapeProblem, ShapeVma, ThpAdvice,
};

const HEADER: &str = r#"{"schema":1,"format":"walkbench-shape","name":"t","description":"d","made":"m","kernel":"6.18.0","page_bytes":4096,"physical":true,"missing":[],"vmas":1}"#;

fn vma_line(start: &str, pages: u64, kind: &str, runs: &str) -> String {
    format!(
        r#"{{"start":"{start}","pages":{pages},"prot":"rw-","shared":false,"kind":"{kind}","thp":"default","runs":"{runs}"}}"#
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn malformed_files_are_refused_with_line_and_expectation() {
    let good = vma_line("0x1000", 4, "anon", "pte.x:3 none:1");
    let in_header = |from: &str, to: &str| {
        assert!(HEADER.contains(from), "{from}");
        format!("{}\n{good}\n", HEADER.replace(from, to))
    };
    let with_vma = |line: &str| format!("{HEADER}\n{line}\n");
    let runs = |pages, runs: &str| with_vma(&vma_line("0x1000", pages, "anon", runs));
    let place = |start: &str, pages| with_vma(&vma_line(start, pages, "anon", "none:1"));
    let second = |line: &str| format!("{}\n{good}\n{line}\n", HEADER.replace("\"vmas\":1", "\"vmas\":2"));
    let cases: Vec<(String, usize, &str)> = vec![
        (String::new(), 1, "expected a header like"),
        ("PK\u{3}\u{4}".into(), 1, "expected a header like"),
        ("{}\n".into(), 1, "JSON without a format name; expected a header like"),
        (
            in_header("walkbench-shape", "walkbench-result"),
            1,
            "format \"walkbench-result\"; expected a header",
        ),
        (in_header("\"schema\":1", "\"schema\":2"), 1, "schema 2; expected 1: a newer walkbench wrote this"),
        (in_header("\"schema\":1", "\"schema\":0"), 1, "no schema number"),
        (in_header("\"schema\":1", "\"schema\":\"1\""), 1, "no schema number"),
        (in_header("\"kernel\":\"6.18.0\",", ""), 1, "missing field `kernel`"),
        (in_header("\"made\"", "\"mode\""), 1, "unknown field `mode`"),
        (in_header("\"name\":\"t\"", "\"name\":\"../t\""), 1, "expected 1 to 64 of"),
        (in_header("4096", "16384"), 1, "page_bytes 16384; expected 4096"),
        (in_header("\"vmas\":1", "\"vmas\":2"), 3, "the file ends after 1 VMAs; expected the 2"),
        (in_header("\"vmas\":1", "\"vmas\":0"), 2, "expected the end after the header's last VMA"),
        (in_header("\"vmas\":1", "\"vmas\":-1"), 1, "column"),
        (format!("{HEADER}\n{}", &good[..good.len() / 2]), 2, "expected one JSON object"),
        (format!("{HEADER}\n{good}\n\n"), 3, "expected the end"),
        (with_vma(&good.replace("rw-", "rwz")), 2, "prot \"rwz\"; expected three of rwx"),
        (with_vma(&good.replace("anon", "browser")), 2, "kind \"browser\"; expected anon, heap"),
        (with_vma(&good.replace("default", "hg")), 2, "thp \"hg\"; expected default, advise or never"),
        (place("4096", 1), 2, "expected a 64-bit address as 0x"),
        (place("0x+1000", 1), 2, "expected a 64-bit address as 0x"),
        (place("0x", 1), 2, "expected a 64-bit address as 0x"),
        (place("0x1ffffffffffffffff", 1), 2, "expected a 64-bit address as 0x"),
        (place("0x1001", 1), 2, "start 0x1001; expected a multiple of 4096"),
        (place("0x1000", 0), 2, "0 pages; expected at least 1"),
        (place("0x7ffffffff000", 2), 2, "expected a VMA that ends at or below 2^47"),
        (place("0xfffffffffffff000", 1), 2, "expected a VMA that ends at or below 2^47"),
        (place("0x1000", u64::MAX), 2, "expected a VMA that ends at or below 2^47"),
        (
            second(&vma_line("0x4000", 1, "anon", "none:1")),
            3,
            "expected VMAs in address order without overlap",
        ),
        (second(&vma_line("0x0", 1, "anon", "none:1")), 3, "expected VMAs in address order without overlap"),
        (runs(4, "pte:3"), 2, "runs over 3 of 4 pages; expected runs that tile the VMA exactly"),
        (runs(4, "pte:5"), 2, "expected runs that tile the VMA exactly"),
        (runs(4, "pte:18446744073709551615*2"), 2, "expected runs that tile the VMA exactly"),
        (runs(1 << 34, "pte:1*17179869184"), 2, "more than 16777216 runs"),
        (runs(4, ""), 2, "expected runs as `state:lengths`"),
        (runs(4, "pte:4 "), 2, "expected runs as `state:lengths`"),
        (runs(4, "pte:0,4"), 2, "\"0\"; expected a decimal number from 1"),
        (runs(4, "pte:+4"), 2, "expected a decimal number from 1"),
        (runs(4, "pte:04"), 2, "expected a decimal number from 1"),
        (runs(4, "pte:99999999999999999999"), 2, "expected a number below 2^64"),
        (runs(4, "ptx:4"), 2, "expected a state: hole, none, swap"),
        (runs(4, "pte.:4"), 2, "expected flag letters after the dot"),
        (runs(4, "pte.q:4"), 2, "expected flag letters of f x z d w"),
        (runs(4, "pte.xx:4"), 2, "each once"),
        (runs(4, "none.x:4"), 2, "expected flags on pte, pmd, pud and swap only"),
        (runs(4, "swap.f:4"), 2, "expected d and w only"),
        (runs(4, "pte.fz:4"), 2, "expected z or f, not both"),
        (runs(4, "none:2,2"), 2, "expected one run"),
        (runs(4, "pte.z:2*2"), 2, "expected one run"),
        (
            in_header("\"physical\":true", "\"physical\":false").replace("pte.x:3", "pte.x:1,2"),
            2,
            "expected one run",
        ),
        (runs(512, "pmd:512"), 2, "expected huge leaves whole and aligned"),
        (
            with_vma(&vma_line("0x200000", 513, "anon", "pmd:513")),
            2,
            "expected huge leaves whole and aligned",
        ),
        (
            with_vma(&vma_line("0x201000", 512, "hugetlb-2m", "none:512")),
            2,
            "expected start and length in whole",
        ),
        (
            with_vma(&vma_line("0x200000", 512, "hugetlb-2m", "pte:512")),
            2,
            "expected leaves of its page size",
        ),
        (
            with_vma(&vma_line("0x200000", 512, "hugetlb-1g", "none:512")),
            2,
            "expected start and length in whole",
        ),
    ];
    Shape::read(format!("{HEADER}\n{good}\n").as_bytes()).unwrap();
    for (text, line, expected) in cases {
        for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
            let error = Shape::read(&bytes).expect_err(&text);
            let message = error.to_string();
            assert!(message.contains(expected), "{text}\ngave: {message}\nnot: {expected}");
            assert_eq!(error.line, line, "{text}\n{message}");
            assert!(message.starts_with(&format!("line {line}: ")), "{message}");
        }
    }
}

#[test]
fn a_cut_gzip_file_is_refused() {
    let whole = gzip(format!("{HEADER}\n{}\n", vma_line("0x1000", 4, "anon", "none:4")).as_bytes());
    Shape::read(&whole).unwrap();
    for cut in 2..whole.len() {
        let error = Shape::read(&whole[..cut]).expect_err("cut");
        assert!(matches!(error.problem, ShapeProblem::Io(_)), "{cut}: {error}");
    }
}

#[test]
fn a_small_gzip_file_cannot_take_all_memory() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let block = vec![b'\n'; 1 << 20];
    for _ in 0..257 {
        encoder.write_all(&block).unwrap();
    }
    let error = Shape::read(&encoder.finish().unwrap()).expect_err("257 MiB of text");
    assert!(matches!(error.problem, ShapeProblem::TooLong), "{error}");
}

#[test]
fn load_names_the_file() {
    let error = Shape::load(std::path::Path::new("/nonexistent/x.shape")).expect_err("no file");
    assert!(error.to_string().starts_with("/nonexistent/x.shape: line 1: cannot be read: "), "{error}");
}

fn states(leaf: Leaf) -> impl Strategy<Value = PageState> {
    let flags = (0u8..32).prop_map(PageFlags::from_bits_truncate);
    let mapped = flags.prop_map(move |flags| {
        let flags = if flags.contains(PageFlags::ZERO) { flags - PageFlags::FILE } else { flags };
        PageState::Present { leaf, flags }
    });
    let swap = any::<[bool; 2]>().prop_map(|[dirty, wp]| {
        let mut flags = PageFlags::empty();
        flags.set(PageFlags::SOFT_DIRTY, dirty);
        flags.set(PageFlags::UFFD_WP, wp);
        PageState::Swap { flags }
    });
    prop_oneof![
        4 => mapped,
        1 => swap,
        1 => Just(PageState::Hole),
        1 => Just(PageState::None),
        1 => Just(PageState::Guard)
    ]
}

/// Runs in units of one leaf: either small pages anywhere, or 2 MiB leaves.
fn vmas(physical: bool) -> impl Strategy<Value = ShapeVma> {
    let kinds = prop_oneof![
        Just((Leaf::Pte, ShapeKind::Anon)),
        Just((Leaf::Pte, ShapeKind::Stack)),
        Just((Leaf::Pte, ShapeKind::Special)),
        Just((Leaf::Pmd, ShapeKind::Heap)),
        Just((Leaf::Pmd, ShapeKind::File)),
        Just((Leaf::Pmd, ShapeKind::Shmem)),
        Just((Leaf::Pmd, ShapeKind::Hugetlb { leaf: Leaf::Pmd })),
    ];
    let thp = prop_oneof![Just(ThpAdvice::Default), Just(ThpAdvice::Advise), Just(ThpAdvice::Never)];
    (kinds, thp, 0u8..8, any::<bool>()).prop_flat_map(move |((leaf, kind), thp, prot, shared)| {
        vec((1u64..20, states(leaf), any::<bool>()), 1..30).prop_map(move |runs| {
            let prot = Prot::from_bits_truncate(prot);
            let mut vma = ShapeVma { start: 0, nr_pages: 0, prot, shared, kind, thp, runs: vec![] };
            for (units, state, follows) in runs {
                vma.push(units * leaf.nr_pages(), state, follows || !physical);
                vma.nr_pages += units * leaf.nr_pages();
            }
            vma
        })
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    any::<bool>().prop_flat_map(|physical| {
        (vec((0u64..3000, vmas(physical)), 0..8), ".*", vec("\\PC*", 0..3)).prop_map(
            move |(placed, text, missing)| {
                let mut end = 0u64;
                let vmas = placed
                    .into_iter()
                    .map(|(gap, mut vma)| {
                        let huge = vma.runs.iter().any(|r| r.state.leaf() != Leaf::Pte)
                            || matches!(vma.kind, ShapeKind::Hugetlb { .. });
                        vma.start = (end + gap * 4096).next_multiple_of(if huge { 2 << 20 } else { 4096 });
                        end = vma.end();
                        vma
                    })
                    .collect();
                Shape {
                    name: "a-shape_1.0".into(),
                    made: text.clone(),
                    description: text,
                    kernel: "6.18".into(),
                    physical,
                    missing,
                    vmas,
                }
            },
        )
    })
}

proptest! {
    #[test]
    fn a_shape_survives_its_file(shape in shapes()) {
        let text = shape.to_text().unwrap();
        prop_assert_eq!(&Shape::read(&text).unwrap(), &shape);
        let packed = shape.to_gzip().unwrap();
        prop_assert_eq!(&Shape::read(&packed).unwrap(), &shape);
        prop_assert_eq!(packed, shape.to_gzip().unwrap());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused(shape in shapes(), at in any::<prop::sample::Index>()) {
        let text = shape.to_text().unwrap();
        // Without its last byte, a newline, the file still says everything.
        let at = at.index(text.len() - 1);
        prop_assert!(Shape::read(&text[..at]).is_err());
    }

    #[test]
    fn one_changed_byte_gives_a_sound_shape_or_an_error(
        shape in shapes(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut text = shape.to_text().unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(read) = Shape::read(&text) {
            prop_assert!(read.check().is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), pack in any::<bool>()) {
        let bytes = if pack { gzip(&bytes) } else { bytes };
        prop_assert!(Shape::read(&bytes).is_err());
    }

    #[test]
    fn arbitrary_runs_never_panic(runs in "(pte|pmd|none|swap)?[.:fxz0-9*, ]{0,30}", pages in any::<u64>()) {
        let text = format!("{HEADER}\n{}\n", vma_line("0x200000", pages, "anon", &runs));
        if let Ok(read) = Shape::read(text.as_bytes()) {
            prop_assert!(read.check().is_ok());
        }
    }

    #[test]
    fn rebasing_keeps_low_bits_order_and_runs(mut shape in shapes(), shift in 0u64..250) {
        for vma in &mut shape.vmas {
            vma.start += shift << 39;
        }
        let before = shape.clone();
        shape.rebase();
        prop_assert!(shape.check().is_ok());
        for (old, new) in before.vmas.iter().zip(&shape.vmas) {
            prop_assert_eq!(old.start % (1 << 39), new.start % (1 << 39));
            prop_assert_eq!(&old.runs, &new.runs);
        }
    }

    #[test]
    fn inferring_tables_changes_empty_pages_only(shape in shapes()) {
        let mut after = shape.clone();
        after.infer_tables();
        prop_assert!(after.check().is_ok());
        prop_assert_eq!(shape.summary(), after.summary());
    }
}

#[test]
fn committed_captures_load_and_are_what_their_readme_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("captured");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut names = vec![];
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = file.strip_suffix(".shape.gz") else { continue };
        assert!(path.metadata().unwrap().len() < 200 << 10, "{file} is not small");
        let shape = Shape::load(&path).unwrap();
        assert_eq!(shape.name, name);
        assert!(!shape.made.is_empty() && !shape.description.is_empty() && !shape.missing.is_empty());
        // The README's row: | `name` | VMAs | mapped pages, … | huge | shared | writable | runs, mean pages |
        let sum = shape.summary();
        let comma = |n: u64| match n {
            0..1000 => n.to_string(),
            _ => format!("{},{:03}", n / 1000, n % 1000),
        };
        let percent = |n: u64| match n {
            0 => "0".to_owned(),
            _ => format!("{:.1} %", 100.0 * n as f64 / sum.nr_mapped as f64),
        };
        let row = format!(
            "| `{name}` | {} | {} pages, {} MiB | {} | {} | {} | {}, {:.1} pages",
            sum.nr_vmas,
            comma(sum.nr_mapped),
            (sum.nr_mapped + 128) / 256,
            percent(sum.nr_huge),
            percent(sum.nr_anon_shared),
            percent(sum.nr_likely_writable),
            comma(sum.nr_runs),
            sum.mean_run_pages(),
        );
        assert!(readme.contains(&row), "not in README.md: {row}");
        assert!(readme.contains(&format!("**{name}**")), "no paragraph for {name}");
        names.push(name.to_owned());
    }
    names.sort();
    assert_eq!(names, workloads::shape::captured::NAMES, "every file has its line in the registry, in order");
}
