//! Results as tables of at most 100 columns.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::analysis::{Cell, GroupResult, LimitRow};
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

/// Three significant digits.
pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
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
        text +=
            &format!("{}, {} pages a call: {}\n", group.shape_id(), group.call_pages, group.definition.title);
        for part in shape.chunks(REQUESTS) {
            text += &lines(&shape_table(part));
        }
        for note in notes(shape) {
            text += &format!("  {note}\n");
        }
        text.push('\n');
    }
    text
}

fn shape_table(part: &[(Group, GroupResult)]) -> Table {
    let mut header = vec!["ns/page".to_owned()];
    for (group, _) in part {
        header.extend([group.request.to_string(), "x decode".to_owned()]);
    }
    let mut table = table(header);
    let mut names: Vec<&str> = Vec::new();
    for name in part.iter().flat_map(|(_, r)| r.cells.iter().map(|c| c.backend.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let of = |r: &GroupResult| r.cells.iter().find(|c| c.backend == name).map(backend_cells);
        row(&mut table, name, part, &of);
    }
    let limits: Vec<&str> = part
        .iter()
        .map(|(_, r)| &r.limits)
        .max_by_key(|l| l.len())
        .into_iter()
        .flatten()
        .map(|l| l.name.as_str())
        .collect();
    for name in limits {
        let of = |r: &GroupResult| r.limits.iter().find(|l| l.name == name).map(limit_cells);
        row(&mut table, &format!("({name})"), part, &of);
    }
    table
}

fn row(
    table: &mut Table,
    name: &str,
    part: &[(Group, GroupResult)],
    of: &dyn Fn(&GroupResult) -> Option<[String; 2]>,
) {
    let mut cells = vec![name.to_owned()];
    for (_, result) in part {
        cells.extend(of(result).unwrap_or_else(|| ["-".to_owned(), String::new()]));
    }
    table.add_row(cells);
}

fn backend_cells(cell: &Cell) -> [String; 2] {
    if cell.error.is_some() {
        return ["error".to_owned(), String::new()];
    }
    [
        cell.ns_per_page.as_ref().map_or_else(|| "-".to_owned(), interval),
        cell.x_decode.as_ref().map(|i| number(i.median)).unwrap_or_default(),
    ]
}

fn limit_cells(limit: &LimitRow) -> [String; 2] {
    [
        limit.ns_per_page.as_ref().map_or_else(|| "-".to_owned(), interval),
        limit.x_decode.as_ref().map(|i| number(i.median)).unwrap_or_default(),
    ]
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
        if result.cells.iter().any(|c| c.marks.contains(&"noisy")) {
            notes.push(format!("{}: too noisy, more than 30 % of its rounds were disturbed", group.request));
        }
    }
    let mut lacking: Vec<String> = Vec::new();
    for (group, _) in shape {
        for (info, reason) in &group.skips {
            lacking.push(format!("skipped: {}/{} {reason}", group.request, info.id));
        }
    }
    notes.extend(lacking);
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (x, text) in
            [(1234.5, "1234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")]
        {
            assert_eq!(number(x), text);
        }
    }
}
