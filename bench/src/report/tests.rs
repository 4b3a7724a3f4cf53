//! Reports of made-up results: of everything, of hardly anything, of what nobody should have written.

use super::*;
use crate::questions::{CellId, Coordinate};
use crate::results::CellFacts;
use crate::results::testing::Made;
use figure::Body;

/// Made once: every test reads it.
pub(crate) fn everything() -> &'static Results {
    static ALL: std::sync::OnceLock<Results> = std::sync::OnceLock::new();
    ALL.get_or_init(|| Made::all_questions().analysed())
}

fn kinds(report: &Report<'_>, question: &str) -> Vec<&'static str> {
    let part = report.parts().find(|p| p.question.id == question).expect("a question");
    let kind = |f: &Figure| match f.body {
        Body::Curves(_) => "curves",
        Body::Stages(_) => "stages",
        Body::Ranges(_) => "ranges",
        Body::Grid(_) => "grid",
    };
    part.figures.iter().map(kind).collect()
}

#[test]
fn every_question_has_its_kind_of_chart_and_all_its_comparisons_in_one() {
    let report = Report::new(everything());
    for part in report.parts().filter(|p| !p.question.compares.is_empty()) {
        let kinds = kinds(&report, &part.question.id);
        assert!(!kinds.is_empty(), "{} has no chart", part.question.id);
        assert!(part.figures.iter().all(|f| f.left_out.is_empty()), "{}", part.question.id);
    }
    for (question, kind) in [
        ("prefill", "curves"),
        ("driver_format", "stages"),
        ("snapshot_or_fault", "curves"),
        ("under_churn", "curves"),
        ("sizes", "grid"),
        ("limit", "ranges"),
        ("amplification", "grid"),
    ] {
        assert_eq!(kinds(&report, question)[0], kind, "{question}");
    }
    let titles: Vec<&str> = report.figures.iter().flatten().map(|f| f.title.as_str()).collect();
    for title in ["Time to a valid mirror", "Pages mirrored a second, by dose", "Every design on every shape"]
    {
        assert!(titles.contains(&title), "{title}: {titles:?}");
    }
}

#[test]
fn charts_are_well_formed_and_have_as_many_marks_as_there_are_figures() {
    let report = Report::new(everything());
    for figure in report.figures.iter().flatten() {
        let svg = svg::svg(figure).unwrap();
        let count = |needle: &str| svg.matches(needle).count();
        match &figure.body {
            Body::Ranges(r) => {
                assert_eq!(count("<circle"), r.rows.iter().filter(|r| !r.is_limit).count(), "{}", figure.id);
            }
            Body::Curves(c) => {
                let every_third = c.series.iter().enumerate().filter(|(i, s)| i % 3 == 0 && !s.is_limit);
                let in_legend = if c.series.len() > 1 { every_third.clone().count() } else { 0 };
                let circles: usize = every_third.map(|(_, s)| s.points.len()).sum();
                assert_eq!(count("<circle"), circles + in_legend, "{}", figure.id);
            }
            Body::Grid(g) => {
                let fields = g.fields.iter().filter(|f| f.is_hatched || f.value.is_some()).count();
                assert!(count("<rect") >= fields.max(g.rows.len() * g.columns.len()), "{}", figure.id);
            }
            Body::Stages(s) => {
                let parts: usize = s
                    .panels
                    .iter()
                    .flat_map(|p| &p.bars)
                    .map(|b| b.parts.iter().filter(|p| **p > 0.0).count())
                    .sum();
                assert_eq!(count("<rect"), parts + 5, "{}: and five in the legend", figure.id);
            }
        }
        well_formed(&svg);
    }
}

/// Tags that match, and no number that is none.
fn well_formed(svg: &str) {
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "a number that is none");
    let mut open: Vec<String> = Vec::new();
    for tag in svg.split('<').skip(1) {
        let inside = tag.split_once('>').unwrap_or_else(|| panic!("a tag that does not end: {tag}")).0;
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !inside.ends_with('/') {
            open.push(inside.split_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_figure_of_known_noise_is_drawn_where_it_belongs() {
    let report = Report::new(everything());
    let part = report.parts().find(|p| p.question.id == "prefill").unwrap();
    let Body::Curves(c) = &part.figures[0].body else { panic!("curves") };
    let series = c.series.iter().find(|s| s.name == "map_order, fault_read").unwrap();
    let point = series.points.iter().find(|p| p.x == 16.0).unwrap();
    let design = crate::questions::registry_order("map_order") as f64;
    let truth = 1.0 + 3.0 + 80.0 / 16.0 + 0.1 * design;
    assert!((point.value.y / truth - 1.0).abs() < 0.02, "{point:?} {truth}");
    assert!(
        point.value.is_sure && point.value.lo < Some(point.value.y) && point.value.hi > Some(point.value.y)
    );
    let limit = c.series.iter().find(|s| s.is_limit).unwrap();
    assert!((limit.points[0].value.y / 0.6 - 1.0).abs() < 0.02, "{limit:?}");
}

#[test]
fn documents_are_spliced_with_every_block_and_a_second_time_changes_nothing() {
    let report = Report::new(everything());
    let mut document = String::from("# Mine\n");
    let names =
        questions().iter().flat_map(|q| ["answer", "charts", "tables"].map(|w| format!("{w} {}", q.id)));
    for name in ["machine", "decisions", "missing"].map(str::to_owned).into_iter().chain(names) {
        document += &format!("\nprose\n<!-- walkbench:{name} -->\n<!-- /walkbench -->\n");
    }
    let (here, out) = (Path::new("/a/b"), Path::new("/a/c d/report"));
    let once = report.spliced(&document, here, out).unwrap();
    assert_eq!(report.spliced(&once, here, out).unwrap(), once);
    assert_eq!(once.matches("\nprose\n").count(), 48);
    assert!(once.contains("](../c%20d/report/charts/prefill-1.svg)"));
    assert!(once.contains("| A wish for the whole range | "));
    assert!(once.contains("walkbench run --question prefill"));
    let error = report.spliced("<!-- walkbench:answer nothing -->\n<!-- /walkbench -->\n", here, out);
    assert!(error.unwrap_err().to_string().contains("line 1"));
}

#[test]
fn what_another_command_printed_is_spliced_as_code_whatever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("designs.txt"), "$ walkbench\n<!-- /walkbench -->\n```\n").unwrap();
    let mut results = Made::new(&[("dense_4k@2MiB/snapshot/512/none/1/map_order", 2.0)]).results();
    results.folder = folder.path().to_owned();
    let report = Report::new(&results);
    let block = |name| super::markdown::block(&report, name, "charts");
    assert_eq!(block("said designs").unwrap(), "    $ walkbench\n    <! -- /walkbench -->\n    ```");
    assert_eq!((block("said nothing"), block("said ../designs"), block("said")), (None, None, None));
}

/// Results in which everything that a file can say is hostile.
pub(crate) const HOSTILE: &str = "</script><img src=x onerror=\"window.hit=1\">'`|*_$\u{202e}\u{5d0}\u{5d1}&amp;\u{7}{{data}}<!-- /walkbench -->";

pub(crate) fn hostile() -> Results {
    let mut results = Made::all_questions().analysed();
    results.run.machine.cpu_model = Some(HOSTILE.to_owned());
    results.run.machine.mitigations.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    results.run.command = vec!["run".to_owned(), "--filter".to_owned(), HOSTILE.to_owned()];
    results.run.build.commit = HOSTILE.to_owned();
    results.notes.push(HOSTILE.to_owned());
    let word = HOSTILE.replace('/', "");
    let id = format!("dense_4k@16MiB/snapshot/512/none/1/{word}_order");
    let like = CellId::parse("dense_4k@16MiB/snapshot/512/none/1/map_order").unwrap();
    let facts = CellFacts { id: id.clone(), marks: vec![HOSTILE.to_owned()], ..results.cells[&like].clone() };
    results.cells.insert(CellId::parse(&id).unwrap(), facts);
    for facts in results.cells.values_mut().filter(|f| f.id.ends_with("/1/sticky_flags")) {
        facts.error = Some(HOSTILE.to_owned());
        facts.ns_per_page = None;
        facts.x_decode = None;
    }
    results
}

#[test]
fn hostile_names_stay_text_in_charts_and_documents() {
    let results = hostile();
    let report = Report::new(&results);
    let document =
        "<!-- walkbench:machine -->\n<!-- /walkbench -->\n<!-- walkbench:missing -->\n<!-- /walkbench -->\n";
    let once = report.spliced(document, Path::new("/a"), Path::new("/a")).unwrap();
    assert_eq!(report.spliced(&once, Path::new("/a"), Path::new("/a")).unwrap(), once, "no marker came in");
    for (name, text) in report.files().unwrap() {
        let name = name.display().to_string();
        if name.ends_with(".svg") {
            well_formed(&text);
            assert!(
                !text.contains("<img") && !text.contains('\u{202e}') && !text.contains('\u{7}'),
                "{name}"
            );
        }
        if name.ends_with(".md") {
            let parser = pulldown_cmark::Parser::new_ext(&text, pulldown_cmark::Options::all());
            for event in parser {
                if let pulldown_cmark::Event::Html(html) | pulldown_cmark::Event::InlineHtml(html) = event {
                    let html = html.trim();
                    let is_ours = ["<a id=", "</a>", "<details>", "</details>", "<summary>", "</summary>"]
                        .iter()
                        .any(|t| html.contains(t));
                    assert!(is_ours && !html.contains("onerror=\""), "{html}");
                }
            }
        }
    }
}

#[test]
fn what_is_missing_is_said_and_nothing_else_is_drawn() {
    // One backend, one launch, and a cell that failed.
    let at = "dense_4k@16MiB/snapshot/512/none/1";
    let cells = [(format!("{at}/map_order"), 2.0), (format!("{}/map_order", at.replace("512", "16")), 9.0)];
    let cells = cells.each_ref().map(|(id, ns)| (id.as_str(), *ns));
    let mut results = Made { launches: 1, rounds: 1, ..Made::new(&cells) }.analysed();
    let failed = format!("{at}/sticky_flags");
    let facts =
        CellFacts { id: failed.clone(), error: Some("out of memory".to_owned()), ..CellFacts::default() };
    results.cells.insert(CellId::parse(&failed).unwrap(), facts);
    let report = Report::new(&results);
    let all: Vec<&Figure> = report.figures.iter().flatten().collect();
    for figure in &all {
        svg::svg(figure).unwrap();
    }
    let cost = all.iter().find(|f| f.id == "call_size-1").unwrap();
    let Body::Curves(c) = &cost.body else { panic!("curves") };
    assert_eq!(c.series.iter().map(|s| s.points.len()).sum::<usize>(), 2);
    assert!(!c.series[0].points[0].value.is_sure, "one launch is hollow");
    assert_eq!(cost.left_out, [format!("{failed}: out of memory")]);
    let text = markdown::document(&report, "charts");
    assert!(text.contains("Not measured") && text.contains("sticky_flags: out of memory"), "{text}");
    let missing = markdown::missing_lines(&report, 24).join("\n");
    assert!(missing.contains("prefill: Not measured") && missing.contains("out of memory"), "{missing}");
    assert!(page::page(&report).unwrap().contains("out of memory"));
}

#[test]
fn zero_negative_and_infinite_values_are_left_out_and_named() {
    let mut results = Made::all_questions().analysed();
    let cells: Vec<CellId> = results.cells.keys().cloned().collect();
    for (i, cell) in cells.iter().enumerate().filter(|(_, c)| c.get(Coordinate::CallPages) == "16") {
        let facts = results.cells.get_mut(cell).unwrap();
        let odd = [0.0, -1.0, f64::INFINITY, f64::NAN][i % 4];
        let span = facts.ns_per_page.as_mut().unwrap();
        if i % 2 == 0 {
            span.median = Some(odd);
        } else {
            span.hi = Some(odd);
        }
        facts.stages.insert("walk".to_owned(), Some(odd));
        facts.x_decode = None;
    }
    let report = Report::new(&results);
    let mut left_out = 0;
    for figure in report.figures.iter().flatten() {
        well_formed(&svg::svg(figure).unwrap());
        left_out += figure.left_out.len();
    }
    assert!(left_out > 0);
    for figure in report.figures.iter().flatten() {
        // What JSON cannot hold, it holds as null.
        let json = serde_json::to_string(&figure.body).unwrap();
        assert!(
            !json.contains("\"y\":null") && !json.contains("\"x\":null") && !json.contains("[null"),
            "{json}"
        );
    }
    page::page(&report).unwrap();
}

#[test]
fn ten_thousand_cells_fit_on_a_page_of_5_mb() {
    let mut results = Made::all_questions().analysed();
    let cells: Vec<(CellId, CellFacts)> = results.cells.iter().map(|(c, f)| (c.clone(), f.clone())).collect();
    let mut more = 0;
    while results.cells.len() < 10_000 {
        for (cell, facts) in &cells {
            let size = format!("{}MiB", 3 + more);
            let cell = cell.with(&std::collections::BTreeMap::from([(Coordinate::Size, size)]));
            results.cells.insert(cell.clone(), CellFacts { id: cell.to_string(), ..facts.clone() });
        }
        more += 1;
    }
    let page = page::page(&Report::new(&results)).unwrap();
    assert!(page.len() < 5_000_000, "{} bytes of {} cells", page.len(), results.cells.len());
}

#[test]
fn links_lead_from_a_document_to_its_charts() {
    for (from, to, expected) in [
        ("/a/b", "/a/b/report/charts", "report/charts"),
        ("/a/b", "/a/c/charts", "../c/charts"),
        ("/a/./b/../b", "/a/b/charts", "charts"),
        ("/", "/x y/charts", "x%20y/charts"),
    ] {
        assert_eq!(link(Path::new(from), Path::new(to)).unwrap(), expected);
    }
    assert!(
        is_chart("prefill-12.svg")
            && !is_chart("prefill-x.svg")
            && !is_chart("mine.svg")
            && !is_chart("prefill.svg")
    );
}
