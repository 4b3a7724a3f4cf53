use super::*;
use crate::output::WIDTH;

fn cells() -> Vec<CellId> {
    all_cells()
}

#[test]
fn the_embedded_questions_are_fifteen_and_each_selects_something() {
    let questions = questions();
    assert_eq!(questions.len(), 15);
    let cells = cells();
    for q in questions {
        assert!(format!("{}: {}", q.id, q.title).chars().count() <= usize::from(WIDTH) + 40, "{}", q.id);
        let wanted = cells.iter().filter(|c| q.wants(c)).count();
        let asks = !q.compares.is_empty() || !q.besides.is_empty();
        assert_eq!(wanted > 0, asks, "{} wants {wanted} cells", q.id);
        assert!(q.compares.is_empty() || wanted < cells.len(), "{} wants everything", q.id);
    }
    let mut ids: Vec<&str> = questions.iter().map(|q| q.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 15);
}

#[test]
fn a_question_wants_both_sides_of_what_it_compares() {
    let wants = |question: &str, cell: &str| {
        let q = questions().iter().find(|q| q.id == question).unwrap();
        q.wants(&CellId::parse(cell).unwrap())
    };
    for side in ["sticky_flags", "map_order"] {
        assert!(wants("sticky_bits", &format!("dense_4k@16MiB/snapshot/512/none/1/{side}")));
    }
    assert!(!wants("sticky_bits", "dense_4k@16MiB/snapshot/512/none/1/pfn_bits"));
    assert!(!wants("sticky_bits", "absent_4k@16MiB/snapshot/512/none/1/map_order"));
    // Side b of a comparison across workloads.
    assert!(wants("snapshot_or_fault", "after_fork_10pct@16MiB/snapshot/512/none/1/map_order"));
}

#[test]
fn a_run_of_more_sizes_answers_at_the_same_places() {
    let cells = cells();
    for q in questions() {
        for c in &q.compares {
            let is_side = |cell: &&CellId| q.cells.matches(cell) && c.a.matches(cell) && c.is_headline(cell);
            let mut places: Vec<String> = cells.iter().filter(is_side).map(ToString::to_string).collect();
            if c.kind == Kind::Rank {
                places.iter_mut().for_each(|p| p.truncate(p.rfind('/').unwrap()));
                places.dedup();
            }
            assert_eq!(places.len(), 1, "{}, {}: {places:?}", q.id, c.title);
        }
    }
}

#[test]
fn nothing_that_a_question_awaits_is_there() {
    use clap::CommandFactory;
    let commands = crate::cli::Cli::command();
    let cells = cells();
    for q in questions() {
        let Awaiting { backends, workloads, commands: awaited, cells: patterns } = &q.awaiting;
        for b in backends {
            assert!(walker::backends::find(b).is_none(), "{}: {b} is there; ask for it", q.id);
        }
        for w in workloads {
            let is_there = |c: &&CellId| c.get(Coordinate::Workload).starts_with(w.as_str());
            assert!(!cells.iter().any(|c| is_there(&c)), "{}: {w} is there; ask for it", q.id);
        }
        for c in awaited {
            assert!(commands.find_subcommand(c).is_none(), "{}: walkbench {c} is there; ask for it", q.id);
        }
        for patterns in patterns {
            let patterns = patterns.iter().map(|(c, p)| (*c, vec![p.clone()])).collect();
            let selector = Selector::new(&patterns).unwrap();
            let found = cells.iter().find(|c| selector.matches(c));
            assert!(found.is_none(), "{}: {found:?} is there; ask for it", q.id);
        }
    }
}

#[test]
fn mistakes_in_a_question_are_answered_with_file_and_reason() {
    let good = include_str!("../../questions/sticky_bits.toml");
    let cells = cells();
    let parse = |text: &str| parse::parse(text, "q.toml", &cells);
    assert!(parse(good).is_ok());
    for (from, to, expected) in [
        ("chart =", "chart =\n", "q.toml:"),
        ("\"call_size\"", "\"pie\"", "q.toml:"),
        ("chart =", "graph =", "unknown field"),
        ("\"sticky_bits\"", "\"Sticky Bits\"", "expected a-z"),
        ("\"dense_4k\", \"dense_2m\"", "\"no_such_shape\"", "match no cell of any profile"),
        ("backend = \"sticky_flags\" }", "backend = \"stickyflags\" }", "a: matches none"),
        ("backend = \"map_order\" }", "backend = \"maporder\" }", "b: the headline's other side"),
        ("call_pages = \"512\" }", "call_pages = \"513\" }", "headline: is none"),
        ("metric = \"whole\"", "metric = \"speed\"", "expected whole, a stage"),
        ("axis = \"size\"", "axis = \"backend\"", "expected a number for each name"),
        ("metric = \"whole\"", "metric = \"whole\"\nlevel = -1", "expected a number above 0"),
        ("a_is = \"keeping sticky bits\"", "a_is = \"\"", "expected names for the sides"),
        (
            "by = \"the whole operation, by footprint\"",
            "by = \"speed\"",
            "no [[compare]] is titled \"speed\"",
        ),
        ("less = \"Keep them in the slot\"", "less = \" \"", "expected property, more, less and same"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = parse(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("q.toml") && error.contains(expected), "{from} -> {to}: {error}");
    }
}

#[test]
fn axes_have_numbers_where_coordinates_do() {
    let cell = |id: &str| CellId::parse(id).unwrap();
    let axis = |of| Axis { of, unit: Axis::unit(of).unwrap().to_owned(), values: None };
    let id = "dense_4k@16MiB/snapshot/512/zap-2MiB-o100-uniform-1000ps-t1/2/map_order";
    for (of, x) in [
        (Coordinate::Size, 16777216.0),
        (Coordinate::CallPages, 512.0),
        (Coordinate::Churn, 1000.0),
        (Coordinate::Walkers, 2.0),
    ] {
        assert_eq!(axis(of).at(&cell(id)), Some(x));
    }
    assert_eq!(axis(Coordinate::Churn).at(&cell(&id.replace("1000ps", "max"))), None);
    assert_eq!(axis(Coordinate::Churn).at(&cell("w@1MiB/snapshot/1/none/1/b")), Some(0.0));
    assert_eq!(axis(Coordinate::Size).name(16777216.0), "16MiB");
    assert_eq!(axis(Coordinate::CallPages).name(512.0), "512 pages a call");
    assert_eq!(axis(Coordinate::CallPages).name(1.0), "1 page a call");
    let share = Axis { of: Coordinate::Request, unit: "% of pages".to_owned(), values: None };
    assert_eq!(share.name(1.0), "1 % of pages");
}
