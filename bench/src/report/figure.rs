//! What a chart shows, before anybody draws it: the same data for the SVG of a document and for the page.
//!
//! Every value in a figure can be drawn: what is not finite, or not positive on a logarithmic scale, is not in it but
//! named in [`Figure::left_out`]. Names are plain text ([`plain`]); whoever draws escapes them.

use serde::Serialize;

/// One chart.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The question and a number: the name of its file, its place on the page.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: String,
    /// Where that was measured.
    pub(crate) place: String,
    /// How it is drawn.
    #[serde(flatten)]
    pub(crate) body: Body,
    /// What could not be drawn, and why.
    pub(crate) left_out: Vec<String>,
}

/// The ways to draw.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Body {
    /// Lines through points with intervals.
    Curves(Curves),
    /// Bars made of stages.
    Stages(Stages),
    /// A point or bar a row, each with its interval.
    Ranges(Ranges),
    /// A matrix of fields.
    Grid(Grid),
}

/// An axis.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scale {
    /// What it is, with its unit.
    pub(crate) label: String,
    /// Whether equal distances are equal factors.
    pub(crate) is_log: bool,
    /// Places and their names; none where numbers name themselves.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Value {
    /// The figure.
    pub(crate) y: f64,
    /// Lower end; none if there is none, or if it cannot be drawn.
    pub(crate) lo: Option<f64>,
    /// Upper end.
    pub(crate) hi: Option<f64>,
    /// Whether six launches or an exact count stand behind it.
    pub(crate) is_sure: bool,
}

impl Value {
    /// A value that can be drawn; none if it cannot.
    pub(crate) fn new(y: f64, ends: Option<(f64, f64)>, is_sure: bool, is_log: bool) -> Option<Value> {
        let can = |x: f64| x.is_finite() && (!is_log || x > 0.0);
        let ends = ends.filter(|(lo, hi)| can(*lo) && can(*hi));
        can(y).then_some(Value { y, lo: ends.map(|e| e.0), hi: ends.map(|e| e.1), is_sure })
    }
    /// From the lowest to the highest.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.lo.unwrap_or(self.y).min(self.y), self.hi.unwrap_or(self.y).max(self.y))
    }
}

/// One point of a curve.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Mark {
    /// Where.
    pub(crate) x: f64,
    /// How much.
    #[serde(flatten)]
    pub(crate) value: Value,
    /// Of what: for hovering.
    pub(crate) note: String,
}

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: String,
    /// What the machine allows, not a design.
    pub(crate) is_limit: bool,
    /// By x.
    pub(crate) points: Vec<Mark>,
}

/// See [`Body::Curves`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curves {
    /// From left to right.
    pub(crate) x: Scale,
    /// From bottom to top.
    pub(crate) y: Scale,
    /// The curves.
    pub(crate) series: Vec<Series>,
    /// A height that means something, and what.
    pub(crate) level: Option<(f64, String)>,
    /// Between these two something flips.
    pub(crate) flips: Option<(f64, f64)>,
}

/// See [`Body::Stages`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stages {
    /// The unit of all of it.
    pub(crate) unit: String,
    /// Each with a scale of its own.
    pub(crate) panels: Vec<Panel>,
}

/// Bars on one scale.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Panel {
    /// What they share.
    pub(crate) title: String,
    /// The bars.
    pub(crate) bars: Vec<Bar>,
    /// The decode limit.
    pub(crate) limit: Option<f64>,
}

/// One stacked bar.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bar {
    /// Its name.
    pub(crate) name: String,
    /// In the order of [`STAGES`]; 0 where a stage takes nothing.
    pub(crate) parts: [f64; 5],
    /// The whole, measured by itself.
    pub(crate) whole: Option<Value>,
}

/// The stages of an operation in their order.
pub(crate) const STAGES: [&str; 5] = ["prepare", "walk", "fault", "retry", "consume"];

/// See [`Body::Ranges`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ranges {
    /// From left to right.
    pub(crate) x: Scale,
    /// From top to bottom.
    pub(crate) rows: Vec<Range>,
    /// Whether rows are bars, from 1.
    pub(crate) is_bars: bool,
    /// Within this much of 1 nothing counts, in per cent.
    pub(crate) percent: Option<f64>,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Range {
    /// Its name.
    pub(crate) name: String,
    /// How much.
    #[serde(flatten)]
    pub(crate) value: Value,
    /// What the machine allows, not a design.
    pub(crate) is_limit: bool,
    /// What is said of it.
    pub(crate) note: String,
}

/// See [`Body::Grid`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Grid {
    /// What columns are.
    pub(crate) x: String,
    /// What rows are.
    pub(crate) y: String,
    /// Their names.
    pub(crate) columns: Vec<String>,
    /// Their names.
    pub(crate) rows: Vec<String>,
    /// Those that were measured.
    pub(crate) fields: Vec<Field>,
    /// What a field's number is; none where fields are names.
    pub(crate) unit: Option<String>,
    /// Whether colours go by factors: not where a number is 0.
    pub(crate) is_log: bool,
}

/// One field.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Field {
    /// Index into the columns.
    pub(crate) column: usize,
    /// Index into the rows.
    pub(crate) row: usize,
    /// What stands in it.
    pub(crate) text: String,
    /// What colours it, if a number does.
    pub(crate) value: Option<f64>,
    /// What colours it, if a name does.
    pub(crate) name: Option<String>,
    /// Not resolved.
    pub(crate) is_hatched: bool,
    /// For hovering.
    pub(crate) note: String,
}

/// Text from a file that anybody may have written, on one line: control characters, and those that turn the direction of
/// what follows, show as a replacement character.
pub(crate) fn plain(text: &str) -> String {
    let is_unsafe = |c: char| {
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || (c.is_control() && !c.is_whitespace())
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars()
        .map(|c| {
            if is_unsafe(c) {
                '\u{fffd}'
            } else if c.is_whitespace() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_no_value() {
        let v = Value::new(2.0, Some((1.0, f64::INFINITY)), true, true).unwrap();
        assert_eq!((v.y, v.lo, v.hi), (2.0, None, None));
        assert_eq!(Value::new(2.0, Some((0.0, 3.0)), true, true).unwrap().lo, None);
        assert_eq!(Value::new(2.0, Some((0.0, 3.0)), true, false).unwrap().lo, Some(0.0));
        for (y, is_log) in [(f64::NAN, false), (f64::INFINITY, false), (0.0, true), (-1.0, true)] {
            assert!(Value::new(y, None, true, is_log).is_none(), "{y}");
        }
        assert!(Value::new(0.0, None, true, false).is_some());
    }

    #[test]
    fn text_cannot_turn_its_surroundings_around_or_break_a_line() {
        assert_eq!(plain("a\u{202e}b\nc\u{7}d\u{5d0}"), "a\u{fffd}b c\u{fffd}d\u{5d0}");
    }
}
