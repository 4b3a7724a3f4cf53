//! Definitions: the embedded ones are sound, and bad files are answered with line and expectation, never a panic.

use proptest::prelude::*;
use std::collections::HashSet;
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
        .replace("[shape.dense_4k]\nrun_pages = 4\nmemory = \"data\"", "[shape.captured]\nname = \"moon\"");
    let e = parse(&captured, "x.toml").unwrap_err();
    assert!(e.line == 8 && e.message.contains("expected one of interpreter, "), "{e}");
    let e = parse(&captured.replace("moon", "jvm_thp"), "x.toml").unwrap_err();
    assert!(e.message.contains("this shape has its own"), "{e}");
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
                let size = d.shape.own_size().unwrap_or(1 << 21);
                prop_assert!(d.build(size, 1).is_ok());
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
}
