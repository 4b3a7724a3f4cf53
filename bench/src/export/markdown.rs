//! Markdown with GitHub's tables: one for each group, limits included, the machine and the command beneath.

use std::collections::BTreeMap;

use super::rows;
use crate::output;
use crate::questions::{Coordinate, LIMITS, Metric};
use crate::results::Results;
use crate::stats::Estimate;
use crate::tables;

/// The whole file.
pub(crate) fn markdown(results: &Results) -> String {
    let all: Vec<_> = rows(results).collect();
    let mut text = String::new();
    for rows in all.chunk_by(|a, b| a.id.group() == b.id.group()) {
        text += &format!("### {}\n\n", escape(&rows[0].id.group()));
        text += "| design | ns a page | interval | x decode | interval | marks |\n";
        text += "|---|---:|---:|---:|---:|---|\n";
        for row in rows {
            let x = results.against(row.id, "decode", Metric::Whole);
            let marks =
                row.facts.error.iter().map(|e| format!("error: {e}")).chain(row.facts.marks.iter().cloned());
            let marks = escape(&marks.collect::<Vec<_>>().join(", "));
            line(&mut text, &escape(row.id.get(Coordinate::Backend)), row.ns, x, &marks);
        }
        let of = |limit: &str| {
            let id = rows[0].id.with(&BTreeMap::from([(Coordinate::Backend, limit.to_owned())]));
            (results.level(&id, Metric::Whole), results.against(&id, "decode", Metric::Whole))
        };
        for limit in LIMITS {
            let (ns, x) = of(limit);
            if ns.is_some() {
                line(&mut text, &format!("({limit})"), ns, x, "");
            }
        }
        text.push('\n');
    }
    let run = &results.run;
    text += &format!(
        "{}; `{}`, commit {}\n",
        escape(&run.machine.line()),
        // Nothing but a backtick ends code.
        output::command(&run.command).replace(['`', '\n', '\r'], " "),
        escape(&run.build.commit)
    );
    text
}

fn line(text: &mut String, name: &str, ns: Option<Estimate>, x: Option<Estimate>, marks: &str) {
    let number = |e: Option<Estimate>| e.map_or_else(String::new, |e| tables::number(e.value));
    let interval = |e: Option<Estimate>| {
        let ends = e.and_then(|e| e.lo.zip(e.hi));
        ends.map_or_else(String::new, |(lo, hi)| format!("{}..{}", tables::number(lo), tables::number(hi)))
    };
    *text += &format!(
        "| {name} | {} | {} | {} | {} | {marks} |\n",
        number(ns),
        interval(ns),
        number(x),
        interval(x)
    );
}

/// Text that stays text: what Markdown or HTML would read is escaped, line breaks are blanks. An underscore inside a
/// word means nothing to GitHub's Markdown and is left alone.
pub(crate) fn escape(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let is_in_word = |j: Option<usize>| j.and_then(|j| chars.get(j)).is_some_and(|c| c.is_alphanumeric());
        match c {
            '_' if is_in_word(i.checked_sub(1)) && is_in_word(Some(i + 1)) => out.push('_'),
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            c if c.is_control() => out.push(' '),
            c if "\\`*_{}[]()#!|~$".contains(*c) => {
                out.push('\\');
                out.push(*c);
            }
            c => out.push(*c),
        }
    }
    out
}
