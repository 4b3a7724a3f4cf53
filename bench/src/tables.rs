//! Results as tables of at most 100 columns.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use workloads::churn::NO_CHURN;
use workloads::definition;

use crate::analysis::{Cell, ChurnSide, GroupResult};
use crate::measure::matrix::Key;
use crate::output::WIDTH;
use crate::record::Skip;
use crate::stats::Interval;

/// Requests side by side in one table.
const REQUESTS: usize = 3;

/// A table in the style of this program: the first column text, the others numbers.
pub(crate) fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let columns = header.len();
    table.set_header(header);
    for column in table.column_iter_mut().take(columns) {
        column.set_padding((0, 2));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The table's lines without blanks at their ends.
pub(crate) fn lines(table: &Table) -> String {
    table.lines().map(|l| format!("{}\n", l.trim_end())).collect()
}

/// So many cells, in words.
pub(crate) fn cells(n: usize) -> String {
    if n == 1 { "1 cell".to_owned() } else { format!("{n} cells") }
}

/// As many digits as fit and mean something.
pub(crate) fn number(x: f64) -> String {
    format!("{x:.0$}", decimals(x))
}

/// So many of them behind the point.
fn decimals(x: f64) -> usize {
    match x.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        // A figure that is not nothing never reads as 0.
        a if a > 0.0 && a < 0.01 => 2 + (-a.log10()).floor().min(12.0) as usize,
        _ => 2,
    }
}

/// `value [lo..hi]`, all three with as many digits behind the point.
pub(crate) fn with_ends(value: f64, lo: f64, hi: f64) -> String {
    with_ends_of(decimals(value), value, lo, hi)
}

/// The same of a ratio, which near 1 has a digit more.
pub(crate) fn ratio_with_ends(value: f64, lo: f64, hi: f64) -> String {
    with_ends_of(ratio_decimals(value), value, lo, hi)
}

/// A ratio, which near 1 has a digit more.
pub(crate) fn ratio(x: f64) -> String {
    format!("{x:.0$}", ratio_decimals(x))
}

fn ratio_decimals(x: f64) -> usize {
    if (0.8..1.25).contains(&x) { 3 } else { decimals(x) }
}

fn with_ends_of(digits: usize, value: f64, lo: f64, hi: f64) -> String {
    // The lower end may need more not to read as 0.
    let digits = if lo > 0.0 && lo < 0.01 { digits.max(decimals(lo)) } else { digits };
    format!("{value:.digits$} [{lo:.digits$}..{hi:.digits$}]")
}

/// With a capital letter, as sentences and titles have.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// A name for the `i`th of several runs: A, B, ...
pub(crate) fn letter(i: usize) -> String {
    char::from_u32('A' as u32 + i as u32)
        .filter(char::is_ascii_uppercase)
        .map_or_else(|| format!("#{i}"), String::from)
}

/// `median [lo..hi]`
pub(crate) fn interval(i: &Interval) -> String {
    with_ends(i.median, i.lo, i.hi)
}

/// One block of text for each shape, call size, churn and number of walkers, in the order of the plan.
pub(crate) fn results(results: &[GroupResult], skips: &[Skip]) -> String {
    let mut text = String::new();
    let key = |g: &GroupResult| (g.key.shape_id(), g.key.call_pages, g.key.churn.clone(), g.key.walkers);
    // Where requests differ in churn or walkers, the plan has them apart.
    let mut order: Vec<&GroupResult> = results.iter().collect();
    let keys: Vec<_> = results.iter().map(key).collect();
    order.sort_by_key(|g| keys.iter().position(|k| *k == key(g)));
    for part in order.chunk_by(|a, b| key(a) == key(b)) {
        let Key { workload, call_pages, churn, walkers, .. } = &part[0].key;
        let pages = if *call_pages == 1 { "page" } else { "pages" };
        text += &format!("{}, {call_pages} {pages} a call", part[0].key.shape_id());
        if *walkers > 1 {
            text += &format!(", {walkers} walkers");
        }
        if churn != NO_CHURN {
            text += &format!(", {churn}");
        }
        text.push('\n');
        if let Some(definition) = definition::find(workload) {
            text += &wrapped(&definition.title);
        }
        for columns in part.chunks(REQUESTS) {
            text += &lines(&shape_table(columns));
        }
        for note in notes(part, skips) {
            text += &wrapped(&note);
        }
        text.push('\n');
    }
    text
}

fn shape_table(part: &[&GroupResult]) -> Table {
    let mut header = vec!["ns/page".to_owned()];
    // The last column of each request is the distance to the decode limit.
    header.extend(part.iter().map(|r| format!("{}  x", r.key.request)));
    let mut table = table(header);
    let mut names: Vec<&str> = Vec::new();
    for name in part.iter().flat_map(|r| r.cells.iter().map(|c| c.backend.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| walker::backends::ALL.iter().position(|b| Some(b.id) == name.split('+').next()));
    for name in names {
        let mut row = vec![name.to_owned()];
        row.extend(part.iter().map(|r| {
            let cell = r.cells.iter().find(|c| c.backend == name);
            cell.map_or_else(|| "-".to_owned(), backend_cell)
        }));
        table.add_row(row);
    }
    let limits = part.iter().map(|r| &r.limits).max_by_key(|l| l.len()).into_iter().flatten();
    for name in limits.map(|l| &l.name) {
        let mut row = vec![format!("({name})")];
        row.extend(part.iter().map(|r| {
            let limit = r.limits.iter().find(|l| l.name == *name);
            limit.map_or_else(|| "-".to_owned(), |l| figure(l.ns_per_page.as_ref(), l.x_decode.as_ref()))
        }));
        table.add_row(row);
    }
    table
}

fn backend_cell(cell: &Cell) -> String {
    if cell.error.is_some() {
        "error".to_owned()
    } else {
        figure(cell.ns_per_page.as_ref(), cell.x_decode.as_ref())
    }
}

/// `1.54 [1.53..1.60]   1.38`
fn figure(ns: Option<&Interval>, x_decode: Option<&Interval>) -> String {
    let Some(ns) = ns else { return "-".to_owned() };
    format!("{} {:>6}", interval(ns), x_decode.map(|i| number(i.median)).unwrap_or_default())
}

/// A sentence in lines that fit, indented by two, its later lines by four.
fn wrapped(note: &str) -> String {
    wrap("  ", "    ", note)
}

/// Words in lines that fit, `first` before the first line and `later` before the others. A word is never broken.
pub(crate) fn wrap(first: &str, later: &str, words: &str) -> String {
    let mut text = first.to_owned();
    let (mut column, mut is_empty) = (first.chars().count(), true);
    for word in words.split_whitespace() {
        let width = word.chars().count() + usize::from(!is_empty);
        if column + width > usize::from(WIDTH) && !is_empty {
            text = text + "\n" + later;
            (column, is_empty) = (later.chars().count(), true);
        }
        if !is_empty {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += word.chars().count();
        is_empty = false;
    }
    text + "\n"
}

/// A sentence in lines that fit, its first one indented by `first`, the others by `later`; no line break behind it.
pub(crate) fn paragraph(text: &str, first: usize, later: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    wrap(&" ".repeat(first), &" ".repeat(later), &words).trim_end_matches('\n').to_owned()
}

/// Marks that stand beneath a table, in words. The others are in the JSON: most cells of small calls are near the clock.
const MARKS: [(&str, &str); 6] = [
    ("noisy", "too noisy, more than 30 % of the rounds disturbed"),
    ("unequal_dose", "more than 30 % of the rounds had unequal doses of churn"),
    ("stages_off", "stages more than 5 % apart from the whole"),
    ("shared_cpus", "more threads than processors"),
    ("unpinned", "threads could not be kept on their processors"),
    ("clock_stepped", "the clock was steered while it timed"),
];

/// What stands beneath a table: errors, marks, skips, and the churn threads' side.
fn notes(part: &[&GroupResult], skips: &[Skip]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut errors: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for cell in part.iter().flat_map(|r| &r.cells) {
        if let Some(error) = &cell.error {
            errors.entry(error).or_default().push(format!("{}/{}", cell.request, cell.backend));
        }
    }
    notes.extend(errors.into_iter().map(|(error, cells)| format!("error: {error}: {}", cells.join(", "))));
    for (mark, words) in MARKS {
        let is_marked = |r: &&&GroupResult| r.cells.iter().any(|c| c.marks.iter().any(|m| m == mark));
        let requests: Vec<&str> = part.iter().filter(is_marked).map(|r| r.key.request.as_str()).collect();
        if !requests.is_empty() {
            notes.push(format!("{words}: {}", requests.join(", ")));
        }
    }
    for r in part {
        let side = |of: fn(&Cell) -> Option<ChurnSide>| r.cells.iter().find_map(of);
        if let (Some(alone), Some(walked)) = (side(|c| c.churn_alone), side(|c| c.churn_walked)) {
            let say = |s: ChurnSide| {
                format!("{}/s, p50 {}, p99 {}", number(s.events_per_s), time(s.p50_ns), time(s.p99_ns))
            };
            notes.push(format!(
                "churn beside {}: alone {}; walked {}",
                r.key.request,
                say(alone),
                say(walked)
            ));
        }
    }
    // By backend and reason: the same one lacks the same thing for many requests.
    let mut skipped: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for r in part {
        for skip in skips {
            if let Some(backend) = skip.id.strip_prefix(&r.id).and_then(|b| b.strip_prefix('/')) {
                skipped.entry((backend, &skip.reason)).or_default().push(&r.key.request);
            }
        }
    }
    for ((id, reason), requests) in skipped {
        let requests =
            if requests.len() == part.len() { "everything".to_owned() } else { requests.join(", ") };
        notes.push(format!("skipped: {id} {reason}: {requests}"));
    }
    notes
}

/// Nanoseconds in a unit that leaves few digits.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{} ns", number(ns)),
        ns if ns < 1e6 => format!("{} us", number(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", number(ns / 1e6)),
        ns => format!("{} s", number(ns / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_wrap_between_words_and_lose_none() {
        let note = vec!["read_all_write_1pct,"; 20].join(" ");
        let text = wrapped(&note);
        assert!(text.lines().all(|l| l.chars().count() <= usize::from(WIDTH) && l.starts_with("  ")));
        assert_eq!(text.split_whitespace().count(), 20);
    }

    #[test]
    fn numbers_keep_three_digits_where_there_are_three() {
        let cases = [
            (1234.5, "1234"),
            (99.96, "100"),
            (12.34, "12.3"),
            (9.999, "10.0"),
            (1.234, "1.23"),
            (0.1, "0.10"),
            (0.0123, "0.01"),
            (0.0046, "0.0046"),
            (-0.00052, "-0.00052"),
            (0.0, "0.00"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
        assert_eq!(with_ends(12.34, 9.876, 101.2), "12.3 [9.9..101.2]");
        assert_eq!(with_ends(0.0123, 0.0046, 0.02), "0.0123 [0.0046..0.0200]");
        assert_eq!(ratio_with_ends(1.2, 1.1723, 1.26), "1.200 [1.172..1.260]");
        assert_eq!(ratio_with_ends(1.25, 1.205, 1.26), "1.25 [1.21..1.26]");
        assert_eq!((ratio(0.9), ratio(2.0)), ("0.900".to_owned(), "2.00".to_owned()));
    }

    #[test]
    fn times_change_their_unit_and_not_their_size() {
        for (ns, text) in
            [(1.0, "1.00 ns"), (999.0, "999 ns"), (1000.0, "1.00 us"), (2.5e6, "2.50 ms"), (3e9, "3.00 s")]
        {
            assert_eq!(time(ns), text);
        }
    }
}
