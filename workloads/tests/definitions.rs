//! Definitions: the embedded ones are sound, and bad files are answered with line and expectation, never a panic.

use proptest::prelude::*;
use std::collections::HashSet;
use walker::request::Wish;
use workloads::definition::{Profile, Retry, definitions, find, parse, size_name};
use workloads::shape::{Memory, ShapeSpec};

const GOOD: &str = r#"id = "x_1"
title = "t"
analysis = "a"
requires = ["order"]
requests = ["snapshot", "read_all_write_1pct"]

[shape.dense_4k]
run_pages = 4
memory = "data"

[smoke]
sizes = ["2MiB", "1GiB"]
call_pages = [1, 512, 8192]
"#;

#[test]
fn a_definition_is_read_as_written() {
    let d = parse(GOOD, "x.toml").unwrap();
    assert_eq!(d.id, "x_1");
    assert_eq!(d.shape, ShapeSpec::Dense4k { run_pages: 4, memory: Memory::Data });
    assert_eq!(
        d.requests.iter().map(|r| r.to_string()).collect::<Vec<_>>(),
        ["snapshot", "read_all_write_1pct"]
    );
    assert_eq!(d.requires.iter().map(|c| c.name()).collect::<Vec<_>>(), ["order"]);
    // A call of 8192 pages does not fit into 2 MiB.
    let cells: Vec<_> = d
        .grid(Profile::Smoke)
        .points()
        .map(|p| format!("{}/{}", size_name(p.size_bytes), p.call_pages))
        .collect();
    assert_eq!(cells, ["2MiB/1", "2MiB/512", "1GiB/1", "1GiB/512", "1GiB/8192"]);
    assert_eq!(d.grid(Profile::Full).points().count(), 0);
    assert_eq!(d.retry, Retry::default());
    let with = GOOD.replace("requires", "retry = \"after_1ms\"\nattempts = 7\nrequires");
    let d = parse(&with, "x.toml").unwrap();
    assert_eq!((d.retry.policy_name(), d.retry.attempts), ("after_1ms", 7));
}

#[test]
fn embedded_definitions_are_sound() {
    let mut ids = HashSet::new();
    let backends: Vec<&str> = walker::backends::ALL.iter().map(|b| b.id).collect();
    for d in definitions() {
        assert!(ids.insert(&d.id), "{} twice", d.id);
        assert_eq!(find(&d.id).map(|f| &f.title), Some(&d.title));
        assert!(d.analysis.split_whitespace().count() >= 30, "{}: the analysis says too little", d.id);
        assert!(backends.iter().all(|b| !d.analysis.contains(b)), "{} names a backend", d.id);
        let cells: usize =
            [Profile::Smoke, Profile::Quick, Profile::Full].iter().map(|p| d.grid(*p).points().count()).sum();
        assert!(cells > 0, "{}: no profile runs it", d.id);
        for call in d.full.call_pages.iter() {
            assert!(
                d.full.points().any(|p| p.call_pages == *call),
                "{}: no size has room for {call} pages a call",
                d.id
            );
        }
    }
    let files: HashSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/definitions"))
        .unwrap()
        .filter_map(|f| Some(f.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    assert_eq!(files, ids.into_iter().cloned().collect(), "every file has its line in the registry");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let cases: &[(&str, &str, usize, &str)] = &[
        ("id = \"x_1\"", "id = \"X\"", 1, "expected 1 to 64 of a-z, 0-9 and _"),
        ("id = \"x_1\"", "id = 7", 1, "expected a string"),
        ("id = \"x_1\"\n", "", 1, "missing field `id`"),
        ("title = \"t\"", "title = \" \"", 2, "title is empty: expected a text"),
        ("title = \"t\"", "title = \"t\"\nbackend = \"map_order\"", 3, "unknown field `backend`"),
        ("[\"order\"]", "[\"telepathy\"]", 4, "capability \"telepathy\": expected"),
        ("[\"order\"]", "[\"order\", \"order\"]", 4, "each once"),
        ("\"snapshot\", ", "\"snapshots\", ", 5, "request \"snapshots\": expected"),
        ("[\"snapshot\", \"read_all_write_1pct\"]", "[]", 5, "no requests: expected"),
        ("run_pages = 4", "run_pages = 3", 8, "run_pages is 3: expected a power of two"),
        ("run_pages = 4", "run_pages = -1", 8, "-1"),
        (
            "run_pages = 4",
            "run_page = 4",
            8,
            "unknown field `run_page`, expected one of `run_pages`, `memory`; did you mean run_pages?",
        ),
        ("[shape.dense_4k]", "[shape.dense4k]", 7, "did you mean dense_4k?"),
        ("\"snapshot\", ", "\"fault_raed\", ", 5, "did you mean fault_read?"),
        ("[\"order\"]", "[\"cross-vma\"]", 4, "did you mean cross_vma?"),
        ("\"2MiB\"", "\"99999999999TiB\"", 12, "expected a multiple of 4KiB"),
        ("run_pages = 4\n", "", 7, "missing field `run_pages`"),
        ("memory = \"data\"", "memory = \"lots\"", 9, "expected one of `tables`, `pages`, `data`"),
        ("memory = \"data\"", "memory = \"data\"\ncolour = 1", 10, "unknown field `colour`"),
        ("[shape.dense_4k]", "[shape.dense_8k]", 7, "unknown variant `dense_8k`"),
        ("\"2MiB\"", "\"2MB\"", 12, "size \"2MB\": expected a multiple of 4KiB"),
        ("\"2MiB\"", "\"1KiB\"", 12, "size \"1KiB\": expected a multiple of 4KiB"),
        ("\"2MiB\"", "\"2GiB\"", 12, "sizes must ascend"),
        ("[1, 512, 8192]", "[0]", 13, "call of 0 pages: expected 1 to"),
        ("[1, 512, 8192]", "[512, 1]", 13, "call_pages must ascend"),
        ("call_pages = [1, 512, 8192]\n", "", 12, "a profile has sizes but no call_pages"),
        ("[smoke]", "[smoke", 11, "expected"),
        ("requires", "retry = \"later\"\nrequires", 4, "retry \"later\": expected one of at_once, after_1ms"),
        ("requires", "attempts = 0\nrequires", 4, "attempts is 0: expected 1 or more"),
        (
            "[1, 512, 8192]\n",
            "[1]\nchurn = [\"zap-4MiB-o100-uniform-max-t1\"]",
            14,
            "expected a span no longer than the size",
        ),
        (
            "[1, 512, 8192]\n",
            "[1]\nchurn = [\"mprotect-4KiB-o100-uniform-max-t1\"]",
            14,
            "is -EPERM: expected snapshot or reads",
        ),
    ];
    for (from, to, line, message) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let e = parse(&text, "dir/x.toml").expect_err(to);
        assert!(e.message.contains(message), "{to}: {e}");
        assert_eq!((e.line, e.file.as_str()), (*line, "dir/x.toml"), "{to}: {e}");
        assert!(
            e.to_string().starts_with(&format!("dir/x.toml:{line}: ")) && !e.message.contains('\n'),
            "{e}"
        );
    }
    let captured = GOOD
        .replace(", \"read_all_write_1pct\"", "")
        .replace("[shape.dense_4k]\nrun_pages = 4\nmemory = \"data\"", "[shape.captured]\nname = \"moon\"");
    let e = parse(&captured, "x.toml").unwrap_err();
    assert!(e.line == 8 && e.message.contains("no captured shape `moon`, expected one of `"), "{e}");
    let e = parse(&captured.replace("moon", "jvm_thp"), "x.toml").unwrap_err();
    assert!(e.message.contains("this shape has its own"), "{e}");
}

/// A definition of `shape` with these parameters, asked for `requests` at `size`.
fn with_shape(shape: &str, requests: &str, size: &str) -> String {
    format!(
        "id = \"x\"\ntitle = \"t\"\nanalysis = \"a\"\nrequests = [{requests}]\n{shape}\n[smoke]\nsizes = [\"{size}\"]\ncall_pages = [1]\n"
    )
}

#[test]
fn parameters_that_make_no_sense_are_refused_where_they_stand() {
    let many = "[shape.many_vmas]\nvmas = 100\nread_only_permille = 600\nno_access_permille = 500";
    let swapped = "[shape.swapped]\npermille = 250\nrun_pages = [16, 64]";
    let poisoned = "[shape.poisoned]\npermille = 1\nrun_pages = [1, 1]";
    let stripes = "[shape.split_permissions]\nstripe_pages = 1\nby = \"mprotect\"";
    let cases = [
        (with_shape(many, "\"snapshot\"", "2MiB"), 8, "are 1100: expected at most 1000 together"),
        (with_shape(&many.replace("500", "100"), "\"snapshot\"", "64KiB"), 10, "100 VMAs and 0 gaps need"),
        (with_shape(&many.replace("= 100", "= 0"), "\"snapshot\"", "2MiB"), 6, "vmas is 0: expected 1 to"),
        (
            with_shape(&swapped.replace("250", "1001"), "\"snapshot\"", "2MiB"),
            6,
            "permille is 1001: expected 1 to 1000",
        ),
        (
            with_shape(&swapped.replace("250", "0"), "\"snapshot\"", "2MiB"),
            6,
            "permille is 0: expected 1 to 1000",
        ),
        (
            with_shape(&swapped.replace("16, 64", "64, 16"), "\"snapshot\"", "2MiB"),
            7,
            "run_pages is [64, 16]: expected the shortest",
        ),
        (with_shape(&swapped.replace("16, 64", "0, 16"), "\"snapshot\"", "2MiB"), 7, "run_pages is [0, 16]"),
        (with_shape(poisoned, "\"snapshot\"", "2MiB"), 9, "1 of a thousand is nothing of 512"),
        (with_shape(poisoned, "\"fault_read\"", "16MiB"), 4, "can only be looked at: expected snapshot"),
        (
            with_shape(stripes, "\"fault_write\"", "2MiB"),
            4,
            "not be written everywhere: expected requests to read",
        ),
        (
            with_shape(&stripes.replace("mprotect", "mprotekt"), "\"snapshot\"", "2MiB"),
            7,
            "did you mean mprotect?",
        ),
        (with_shape(stripes, "\"snapshot\"", "4KiB"), 9, "expected a multiple of 2MiB"),
        (
            with_shape("[shape.hugetlb]\npage = \"1GiB\"", "\"snapshot\"", "2MiB"),
            8,
            "expected a multiple of 1GiB",
        ),
        (with_shape("[shape.pfnmap]\ncolour = 1", "\"snapshot\"", "2MiB"), 6, "unknown field `colour`"),
    ];
    for (text, line, message) in cases {
        let e = parse(&text, "x.toml").expect_err(&text);
        assert!(e.line == line && e.message.contains(message), "{text}\n{e}");
    }
    let churn = GOOD.to_owned() + "churn = [\"zap-2MiB-o100-uniform-99000000ps-t1\"]\n";
    let e = parse(&churn, "x.toml").unwrap_err();
    assert!(e.line == 14 && e.message.contains("which no machine reaches"), "{e}");
    let e = parse(&churn.replace("zap-", "zpa-"), "x.toml").unwrap_err();
    assert!(e.message.contains("did you mean zap?"), "{e}");
}

#[test]
fn a_shape_larger_than_memory_is_refused_with_what_would_fit() {
    let spec = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Data };
    assert_eq!(spec.check_memory(1 << 30, Wish::Write, 2 << 30), Ok(()));
    let e = spec.check_memory(64 << 30, Wish::Write, 20 << 30).unwrap_err().to_string();
    assert!(
        e.contains("size 64GiB: takes about 6") && e.contains("20480 MiB available; 16GiB would fit"),
        "{e}"
    );
    let e = spec.check_memory(1 << 30, Wish::None, 1 << 20).unwrap_err().to_string();
    assert!(e.contains("no size of this shape fits"), "{e}");
    // Tables alone: a terabyte takes two thousandths of it.
    let tables = ShapeSpec::Dense4k { run_pages: 1, memory: Memory::Tables };
    assert_eq!(tables.check_memory(1 << 40, Wish::Write, 3 << 30), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an editor, a merge or a hostile file does to a definition: an answer, and a small shape that builds.
    #[test]
    fn mutated_definitions_never_panic(
        file in 0..100usize,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, "\\PC{0,6}|[0-9\\[\\]\"=.\n_-]{0,8}"), 1..4),
    ) {
        let texts: Vec<String> = definitions().iter().map(|d| {
            std::fs::read_to_string(format!("{}/definitions/{}.toml", env!("CARGO_MANIFEST_DIR"), d.id)).unwrap()
        }).collect();
        let mut text: Vec<char> = texts[file % texts.len()].chars().collect();
        for (at, len, new) in cuts {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text, "mutated.toml") {
            Ok(d) => {
                // The smallest size that a profile has, if a test can hold it.
                let sizes = [Profile::Smoke, Profile::Quick, Profile::Full].map(|p| d.grid(p).sizes.first().copied());
                let size = sizes.into_iter().flatten().min().unwrap_or(1 << 21);
                if d.shape.footprint_bytes(size, Wish::None) < 64 << 20 {
                    prop_assert!(d.build(size, 1).is_ok(), "{}", d.id);
                }
                for request in d.requests {
                    prop_assert_eq!(request.wishes(100, 1).map_or(100, |w| w.len()), 100);
                }
            }
            Err(e) => prop_assert!(e.line >= 1 && e.line <= text.lines().count() + 1 && !e.message.is_empty(), "{}", e),
        }
    }

    #[test]
    fn arbitrary_text_is_no_definition(text in "\\PC{0,200}") {
        prop_assert!(parse(&text, "x").is_err());
    }

    /// Any bytes, as a file that is no text at all would hold.
    #[test]
    fn arbitrary_bytes_are_no_definition(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&String::from_utf8_lossy(&bytes), "x").is_err());
    }

    /// Any values for the parameters of any shape: an error with a line of the file, or a definition that builds.
    #[test]
    fn any_parameters_are_refused_or_can_be_built(
        shape in prop::sample::select(vec![
            "hugetlb", "mixed_huge", "split_permissions", "zero_mapped", "swapped", "sparse", "many_vmas", "numa_hint",
            "device_private", "migrating", "poisoned", "pfnmap", "dense_4k", "after_fork", "absent_4k",
        ]),
        permille in any::<u16>().prop_map(|n| n % 1100),
        vmas in prop_oneof![0..600u64, any::<u64>()],
        run in (0..70u64, 0..70u64),
        size_kib in prop_oneof![Just(2048u64), Just(16 << 10), 0..4096u64, any::<u64>()],
        huge in any::<bool>(),
    ) {
        let runs = format!("run_pages = [{}, {}]", run.0, run.1);
        let parameters = match shape {
            "hugetlb" => "page = \"2MiB\"".to_owned(),
            "mixed_huge" => format!(
                "huge_permille = {permille}\nvmas = {vmas}\nrun_pages = {}\nabsent_permille = {}", run.0, run.1 * 15,
            ),
            "split_permissions" => format!("stripe_pages = {}\nby = \"uffd_wp\"", run.0),
            "zero_mapped" => format!("huge = {huge}"),
            "swapped" | "poisoned" => format!("permille = {permille}\n{runs}"),
            "sparse" => format!("permille = {permille}\ntables = \"{}\"", if huge { "missing" } else { "empty" }),
            "many_vmas" => format!("vmas = {vmas}\nread_only_permille = {permille}\ngap_permille = {}", run.0 * 15),
            "numa_hint" | "migrating" => format!("permille = {permille}\n{runs}\nhuge = {huge}"),
            "device_private" => format!("permille = {permille}\n{runs}\nowner = \"other\""),
            "dense_4k" => format!("run_pages = {}", run.0),
            "after_fork" => format!("run_pages = {}\nbroken_permille = {permille}", run.0),
            "absent_4k" => "tables = \"missing\"".to_owned(),
            _ => String::new(),
        };
        let text = with_shape(&format!("[shape.{shape}]\n{parameters}"), "\"snapshot\"", &format!("{size_kib}KiB"));
        match parse(&text, "x.toml") {
            Ok(d) => {
                let size = d.grid(Profile::Smoke).sizes[0];
                if size <= 32 << 20 {
                    let built = d.build(size, 1).unwrap();
                    prop_assert_eq!(built.expected.nr_pages(), built.range.nr_pages());
                }
            }
            Err(e) => prop_assert!(e.line >= 1 && e.line <= text.lines().count() && !e.message.is_empty(), "{}", e),
        }
    }
}
