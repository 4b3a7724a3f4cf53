//! Generated parts of a hand-written document.
//!
//! ```text
//! <!-- walkbench:answer prefill -->
//! (replaced)
//! <!-- /walkbench -->
//! ```
//!
//! A marker has a line to itself. What stands between two is replaced, everything else is left byte by byte. A document
//! with a marker that is unknown, damaged, nested or without its end is refused with the lines, and not changed at all.

use anyhow::{Result, bail};

const BEGIN: &str = "<!-- walkbench:";
const END: &str = "<!-- /walkbench -->";

/// A line of a document.
enum LineOf<'a> {
    Text,
    Begin(&'a str),
    End,
    /// Nearly a marker.
    Damaged,
}

fn kind(line: &str) -> LineOf<'_> {
    let trimmed = line.trim();
    if trimmed == END {
        return LineOf::End;
    }
    if let Some(name) = trimmed.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix("-->")) {
        let name = name.trim();
        if !name.is_empty() && !name.contains("-->") {
            return LineOf::Begin(name);
        }
    }
    let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    if squeezed.contains("<!--walkbench") || squeezed.contains("<!--/walkbench") {
        return LineOf::Damaged;
    }
    LineOf::Text
}

/// Every marker's name with its line, and what stands between it and its end.
///
/// # Errors
/// With all lines that are wrong.
pub(crate) fn blocks(document: &str) -> Result<Vec<(usize, String, String)>> {
    let mut blocks: Vec<(usize, String, String)> = Vec::new();
    let mut wrong: Vec<String> = Vec::new();
    let mut open = false;
    for (i, line) in document.split_inclusive('\n').enumerate() {
        let number = i + 1;
        match kind(line) {
            LineOf::Begin(name) => {
                if open {
                    let (at, other, _) = &blocks[blocks.len() - 1];
                    wrong.push(format!("line {number}: {name:?} begins before {other:?} of line {at} ends; expected {END} first"));
                }
                blocks.push((number, name.to_owned(), String::new()));
                open = true;
            }
            LineOf::End if open => open = false,
            LineOf::End => wrong.push(format!("line {number}: {END} ends nothing")),
            LineOf::Damaged => wrong.push(format!(
                "line {number}: is nearly a marker; expected {BEGIN}NAME --> or {END} alone on the line"
            )),
            LineOf::Text if open => {
                if let Some((_, _, text)) = blocks.last_mut() {
                    text.push_str(line);
                }
            }
            LineOf::Text => {}
        }
    }
    if let (true, Some((at, name, _))) = (open, blocks.last()) {
        wrong.push(format!("line {at}: {name:?} never ends; expected {END}"));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(blocks)
}

/// The document with every block replaced by what `generate` says of its name.
///
/// # Errors
/// As [`blocks`], and for names that `generate` does not know.
pub(crate) fn splice(document: &str, generate: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let blocks = blocks(document)?;
    let mut unknown: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    for (line, name, _) in &blocks {
        match generate(name) {
            Some(text) => texts.push(text),
            None => unknown.push(format!("line {line}: nothing is called {name:?}")),
        }
    }
    if !unknown.is_empty() {
        bail!("{}\nexpected {}", unknown.join("\n"), super::markdown::NAMES);
    }
    let mut texts = texts.into_iter();
    let mut out = String::with_capacity(document.len());
    let mut inside = false;
    for line in document.split_inclusive('\n') {
        match kind(line) {
            LineOf::Begin(_) => {
                out.push_str(line);
                let text = texts.next().unwrap_or_default();
                out.push_str(text.trim_end_matches('\n'));
                out.push('\n');
                inside = true;
            }
            LineOf::End => {
                out.push_str(line);
                inside = false;
            }
            _ if inside => {}
            _ => out.push_str(line),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Title\r\n\n<!-- walkbench:answer prefill -->\nold\nolder\n<!-- /walkbench -->\ntext < !-- \n  <!--  walkbench:x -->";

    fn spliced(document: &str) -> Result<String> {
        splice(document, &|name| (name != "no").then(|| format!("new {name}\n\n")))
    }

    #[test]
    fn what_stands_between_markers_is_replaced_and_nothing_else() {
        let document = "# Title\r\n\n<!-- walkbench:answer a -->\nold\n<!-- /walkbench -->\n\n text\n<!-- walkbench:b -->\n<!-- /walkbench -->";
        let once = spliced(document).unwrap();
        assert_eq!(
            once,
            "# Title\r\n\n<!-- walkbench:answer a -->\nnew answer a\n<!-- /walkbench -->\n\n text\n<!-- walkbench:b -->\nnew b\n<!-- /walkbench -->"
        );
        assert_eq!(spliced(&once).unwrap(), once, "a second time changes nothing");
        assert_eq!(spliced("no marker").unwrap(), "no marker");
    }

    #[test]
    fn unbalanced_damaged_and_unknown_markers_are_refused_with_their_lines() {
        let end = END;
        for (document, expected) in [
            ("a\n<!-- walkbench:x -->\n", vec!["line 2", "never ends"]),
            (&format!("{end}\n"), vec!["line 1", "ends nothing"]),
            (
                &format!("<!-- walkbench:x -->\n<!-- walkbench:y -->\n{end}\n"),
                vec!["line 2", "\"y\" begins before \"x\" of line 1"],
            ),
            ("text <!-- walkbench:x -->\n", vec!["line 1", "nearly a marker"]),
            ("<!--walkbench:x-->\n", vec!["line 1", "nearly a marker"]),
            ("<!-- walkbench: -->\n", vec!["line 1", "nearly a marker"]),
            ("<!-- Walkbench:x -->\n", vec!["nearly a marker"]),
            ("<!-- / walkbench -->\n", vec!["nearly a marker"]),
            (
                &format!("\n<!-- walkbench:no -->\n{end}\n"),
                vec!["line 2", "nothing is called \"no\"", "expected"],
            ),
            (DOCUMENT, vec!["line 8", "nearly a marker"]),
        ] {
            let error = spliced(document).unwrap_err().to_string();
            for words in expected {
                assert!(error.contains(words), "{document:?}: {error}");
            }
        }
    }
}
