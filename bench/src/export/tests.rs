use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::questions::Coordinate;
use crate::results::testing::Made;

/// Names that try everything: quotes, commas, pipes, markup, blanks, a formula, right to left.
const HOSTILE: &str = "a,\"b\"|c @ 1 MiB/<b>x<i> & *y*/512/=1+1;'\\`_n_/1/\u{202e}map [order](z)-8";

/// A few cells as a run might have them.
fn plain() -> Results {
    let at = "dense_4k@16MiB/snapshot/512/none/1";
    let ids = ["map_order", "fixed_flags", "decode", "copy"].map(|b| format!("{at}/{b}"));
    let cells: Vec<(&str, f64)> = ids.iter().map(String::as_str).zip([2.0, 2.5, 1.0, 0.25]).collect();
    let mut made = Made { round_percent: 0.0, launch_percent: 0.0, ..Made::new(&cells) };
    made.counts = BTreeMap::from([("ptes_visited".to_owned(), 4096)]);
    let mut results = made.results();
    let failed = CellId::parse("dense_4k@16MiB/snapshot/512/none/1/unlocked").unwrap();
    let error = Some("the call returned -EFAULT, \"bad\" address".to_owned());
    results.cells.insert(failed, CellFacts { error, ..CellFacts::default() });
    results
}

fn hostile() -> Results {
    let mut results = plain();
    let id = CellId::parse(HOSTILE).unwrap();
    let marks = vec!["x | y\n| z".to_owned()];
    results
        .cells
        .insert(id, CellFacts { error: Some("1\n2|<script>".to_owned()), marks, ..CellFacts::default() });
    results
}

/// Compares with the file under `tests/golden`, or writes it where WALKBENCH_BLESS is set.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WALKBENCH_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, wanted, "{name} (WALKBENCH_BLESS=1 accepts what differs)");
}

#[test]
fn every_format_is_as_recorded() {
    let results = plain();
    golden("export.csv", &csv::csv(&results).unwrap());
    golden("export.benchstat.txt", &benchstat::benchstat(&results));
    golden("export.bencher.json", &bencher::bencher(&results).unwrap());
    golden("export.action.json", &action::action(&results).unwrap());
    golden("export.md", &markdown::markdown(&results));
    assert_eq!(nr_without_figure(&results), 1);
}

#[test]
fn csv_gives_back_every_name_and_an_error_is_a_row() {
    let text = csv::csv(&hostile()).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no {name}"));
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.iter().all(|r| r.len() == header.len()));
    let id = rows.iter().find(|r| &r[0] == HOSTILE).expect("the name as it was");
    assert_eq!((&id[at("error")], &id[at("ns_per_page")]), ("1\n2|<script>", ""));
    let row = rows.iter().find(|r| r[0].ends_with("/map_order")).unwrap();
    let number = |name: &str| row[at(name)].parse::<f64>().unwrap();
    assert_eq!((number("ns_per_page"), number("x_decode"), number("launches")), (2.0, 2.0, 9.0));
    assert_eq!((number("count_ptes_visited"), number("walk_ns_per_page")), (4096.0, 1.0));
}

#[test]
fn markdown_renders_as_tables_in_which_every_name_is_text() {
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
    let text = markdown::markdown(&hostile());
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut headings = Vec::new();
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Html(h) | Event::InlineHtml(h) => panic!("{h:?} is markup"),
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Link { .. } | Tag::Image { .. }) => {
                panic!("{event:?} in\n{text}")
            }
            Event::Start(Tag::TableCell | Tag::Heading { .. }) => cell.clear(),
            Event::Text(t) | Event::Code(t) => cell.push_str(&t),
            Event::End(TagEnd::TableCell) => row.push(cell.clone()),
            Event::End(TagEnd::Heading(_)) => headings.push(cell.clone()),
            Event::End(TagEnd::TableRow) => rows.push(std::mem::take(&mut row)),
            Event::End(TagEnd::TableHead) => row.clear(),
            _ => {}
        }
    }
    assert!(rows.iter().all(|r| r.len() == 6), "{rows:?}");
    let id = CellId::parse(HOSTILE).unwrap();
    assert!(headings.contains(&id.group()), "{headings:?}");
    let name = id.get(Coordinate::Backend);
    let hostile = rows.iter().find(|r| r[0] == name).unwrap_or_else(|| panic!("no {name:?} in {rows:?}"));
    assert_eq!(hostile[5], "error: 1 2|<script>, x | y | z");
    let row = rows.iter().find(|r| r[0] == "map_order").unwrap();
    assert_eq!(row[1..4], ["2.00", "2.00..2.00", "2.00"]);
}

/// The grammar of golang.org/design/14313-benchmark-format: configuration lines, unit lines, result lines; anything
/// else is ignored by a reader, so a test must not find anything else but what is meant to be, behind a `#`.
fn go_lines(text: &str) -> Vec<(String, Vec<(f64, String)>)> {
    let mut results = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Benchmark") {
            assert!(rest.starts_with(|c: char| !c.is_lowercase()), "{line}");
            let fields: Vec<&str> = line.split_whitespace().collect();
            assert!(fields.len() >= 4 && fields.len().is_multiple_of(2), "{line}");
            assert!(fields[1].parse::<u64>().is_ok_and(|n| n > 0), "{line}");
            let pairs = fields[2..].chunks(2).map(|p| (p[0].parse().unwrap(), p[1].to_owned()));
            results.push((fields[0].to_owned(), pairs.collect()));
        } else if let Some(rest) = line.strip_prefix("Unit ") {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            assert!(fields.len() > 1 && fields[1..].iter().all(|f| f.split_once('=').is_some()), "{line}");
        } else if !line.starts_with("# ") {
            let (key, _) =
                line.split_once(": ").unwrap_or_else(|| panic!("not a configuration line: {line:?}"));
            assert!(key.starts_with(|c: char| c.is_lowercase()), "{line}");
            assert!(!key.contains(|c: char| c.is_uppercase() || c.is_whitespace()), "{line}");
        }
    }
    results
}

#[test]
fn benchstat_text_keeps_to_the_grammar_with_a_line_for_each_launch() {
    let lines = go_lines(&benchstat::benchstat(&plain()));
    assert_eq!(lines.len(), 2 * 9, "two backends, nine launches");
    assert!(lines.iter().all(|(_, pairs)| pairs.len() == 1 && pairs[0].1 == "ns/page"));
    let values: Vec<f64> =
        lines.iter().filter(|(name, _)| name.ends_with("/backend=map_order")).map(|(_, p)| p[0].0).collect();
    assert_eq!(values, [2.0; 9]);
    // A name with blanks, slashes, equals signs and a number at its end.
    let id = "dense 4k@16MiB/snap=shot/512/none/1/map order-8";
    let lines = go_lines(&benchstat::benchstat(&Made::new(&[(id, 2.0)]).results_of_anything()));
    let name = &lines[0].0;
    assert!(name.contains("/workload=dense%204k/") && name.contains("/request=snap%3Dshot/"), "{name}");
    assert!(name.ends_with("/backend=map%20order%2D8"), "{name}");
    assert_eq!(name.split('/').count(), 8);
}

#[test]
fn bencher_json_is_what_its_schema_says() {
    // https://bencher.dev/bmf.json: objects of objects with numbers value (required), lower_value, upper_value.
    let json: Value = serde_json::from_str(&bencher::bencher(&hostile()).unwrap()).unwrap();
    let benchmarks = json.as_object().unwrap();
    assert_eq!(benchmarks.len(), 2, "an error is no metric");
    for (name, measures) in benchmarks {
        assert!(!name.is_empty());
        for metric in measures.as_object().unwrap().values() {
            let metric = metric.as_object().unwrap();
            assert!(metric["value"].is_number());
            for (key, value) in metric {
                assert!(["value", "lower_value", "upper_value"].contains(&key.as_str()) && value.is_number());
            }
        }
    }
    let long = format!("{}@1MiB/snapshot/1/none/1/map_order", "x".repeat(1024));
    let error = bencher::bencher(&Made::new(&[(&long, 1.0)]).results()).unwrap_err();
    assert!(error.to_string().contains("1024"));
}

#[test]
fn the_actions_json_has_the_fields_that_it_reads() {
    // Its extract.ts: name, value and unit, range and extra if there are any, in a list.
    let json: Value = serde_json::from_str(&action::action(&plain()).unwrap()).unwrap();
    let entries = json.as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert!(entry["name"].is_string() && entry["value"].is_number() && entry["unit"] == "ns/page");
        assert!(entry["range"].is_string() && entry["extra"].as_str().unwrap().contains("commit"));
    }
}
