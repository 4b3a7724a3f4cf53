//! Results as tables of at most 100 columns.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::analysis::{Cell, GroupResult};
use crate::measure::matrix::Group;
use crate::output::WIDTH;
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

/// As many digits as fit and mean something.
pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 99.95 => format!("{x:.0}"),
        a if a >= 9.995 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// `median [lo..hi]`
pub(crate) fn interval(i: &Interval) -> String {
    format!("{} [{}..{}]", number(i.median), number(i.lo), number(i.hi))
}

/// One block of text for each shape and call size, in the order in which they were measured.
pub(crate) fn results(results: &[(Group, GroupResult)]) -> String {
    let mut text = String::new();
    let key = |g: &Group| (g.shape_id(), g.call_pages);
    for shape in results.chunk_by(|a, b| key(&a.0) == key(&b.0)) {
        let group = &shape[0].0;
        let pages = if group.call_pages == 1 { "page" } else { "pages" };
        text += &format!("{}, {} {pages} a call\n", group.shape_id(), group.call_pages);
        text += &wrapped(&group.definition.title);
        for part in shape.chunks(REQUESTS) {
            text += &lines(&shape_table(part));
        }
        for note in notes(shape) {
            text += &wrapped(&note);
        }
        text.push('\n');
    }
    text
}

fn shape_table(part: &[(Group, GroupResult)]) -> Table {
    let mut header = vec!["ns/page".to_owned()];
    // The last column of each request is the distance to the decode limit.
    header.extend(part.iter().map(|(group, _)| format!("{}  x", group.request)));
    let mut table = table(header);
    let mut names: Vec<&str> = Vec::new();
    for name in part.iter().flat_map(|(_, r)| r.cells.iter().map(|c| c.backend.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| walker::backends::ALL.iter().position(|b| b.id == *name));
    for name in names {
        let mut row = vec![name.to_owned()];
        row.extend(part.iter().map(|(_, r)| {
            let cell = r.cells.iter().find(|c| c.backend == name);
            cell.map_or_else(|| "-".to_owned(), backend_cell)
        }));
        table.add_row(row);
    }
    let limits = part.iter().map(|(_, r)| &r.limits).max_by_key(|l| l.len()).into_iter().flatten();
    for name in limits.map(|l| &l.name) {
        let mut row = vec![format!("({name})")];
        row.extend(part.iter().map(|(_, r)| {
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
    paragraph(note, 2, 4) + "\n"
}

/// A sentence in lines that fit, its first one indented by `first`, the others by `later`. Words that do not fit a line
/// stand alone in theirs.
pub(crate) fn paragraph(text: &str, first: usize, later: usize) -> String {
    let mut out = " ".repeat(first);
    let (mut column, mut is_begun) = (first, false);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if is_begun && column + 1 + width > usize::from(WIDTH) {
            out += "\n";
            out += &" ".repeat(later);
            (column, is_begun) = (later, false);
        }
        if is_begun {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += width;
        is_begun = true;
    }
    out
}

/// What stands beneath a table: errors, skips, marks.
fn notes(shape: &[(Group, GroupResult)]) -> Vec<String> {
    let mut notes = Vec::new();
    for (group, result) in shape {
        for cell in &result.cells {
            if let Some(error) = &cell.error {
                notes.push(format!("error: {}/{}: {error}", group.request, cell.backend));
            }
        }
    }
    let is_noisy = |r: &GroupResult| r.cells.iter().any(|c| c.marks.contains(&"noisy"));
    let noisy: Vec<String> =
        shape.iter().filter(|(_, r)| is_noisy(r)).map(|(group, _)| group.request.to_string()).collect();
    if !noisy.is_empty() {
        notes.push(format!("too noisy, more than 30 % of the rounds disturbed: {}", noisy.join(", ")));
    }
    // By backend and reason: the same one lacks the same thing for many requests.
    let mut skipped: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (group, _) in shape {
        for (info, reason) in &group.skips {
            skipped.entry((info.id, reason)).or_default().push(group.request.to_string());
        }
    }
    for ((id, reason), requests) in skipped {
        let requests =
            if requests.len() == shape.len() { "everything".to_owned() } else { requests.join(", ") };
        notes.push(format!("skipped: {id} {reason}: {requests}"));
    }
    notes
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
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
    }
}
