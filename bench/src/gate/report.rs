//! A verdict for people: on a terminal, and as the comment on a pull request. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::rounds::{Looks, Metric, Recording, Role, Stage};
use super::verdict::{Decided, Decision, State, Verdict};
use crate::questions::{CellId, Coordinate};
use crate::tables;

/// What a reader needs beside the verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Around {
    /// The verdict in words, with what else decided, and against what.
    pub(crate) headline: String,
    /// What was compared with what.
    pub(crate) sides: Vec<String>,
    /// CPU, kernel, load.
    pub(crate) machine: String,
    /// How to do it again.
    pub(crate) command: String,
    /// What else was found, a sentence each: other tiers, cells that were not compared.
    pub(crate) notes: Vec<String>,
    /// What the other tiers found, as a block of text; empty if nothing.
    pub(crate) details: String,
    /// Where the time went.
    pub(crate) time: String,
}

impl Verdict {
    /// In a word or two.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Regression => "regression",
            Verdict::InconclusiveEnvironment => "inconclusive: environment",
            Verdict::InconclusivePower => "inconclusive: power",
        }
    }
    /// What to do about it.
    const fn advice(self) -> Option<&'static str> {
        match self {
            Verdict::Pass | Verdict::Regression => None,
            Verdict::InconclusiveEnvironment => Some(
                "This is no statement about the change. Run it again on a quieter machine, or, where you have the right to, as `chrt -f 10 walkbench gate ...`, which keeps other processes off its processor; `walkbench doctor` says what is wrong with this one.",
            ),
            Verdict::InconclusivePower => Some(
                "This is no statement about the change. A larger --budget, or fewer cells (--filter), sees smaller effects.",
            ),
        }
    }
}

/// Rows of a table that says no more than "not known".
const MOST_ROWS: usize = 10;

/// The cells in a state, and how many are not shown.
fn rows(decision: &Decision, state: State) -> (Vec<Row>, usize) {
    let mut cells: Vec<&Decided> = decision.cells(state).collect();
    // The largest effects first, what is not known by name.
    let by = |d: &Decided| d.ratio.map_or(0.0, |r| r.value.ln().abs());
    match state {
        State::Slower | State::Faster => cells.sort_by(|a, b| by(b).total_cmp(&by(a))),
        _ => cells.sort_by(|a, b| a.id.cmp(&b.id)),
    }
    let mut rows: Vec<Row> = cells.into_iter().map(Row::of).collect();
    let most = if matches!(state, State::Slower | State::Faster) { usize::MAX } else { MOST_ROWS };
    let hidden = rows.len().saturating_sub(most);
    rows.truncate(most);
    (rows, hidden)
}

/// States in the order in which they matter, and what each says; equal cells are only counted.
const SHOWN: [(State, &str); 4] = [
    (State::Slower, "slower"),
    (State::Faster, "faster"),
    (State::Unresolved, "unresolved"),
    (State::TooNoisy, "too noisy"),
];

struct Row {
    id: String,
    ratio: String,
    interval: String,
    p: String,
    could_see: String,
}

impl Row {
    fn of(d: &Decided) -> Row {
        let dash = || "-".to_owned();
        let p = if d.state == State::Faster { d.p_faster } else { d.p_slower };
        let ends = d.ratio.and_then(|r| r.lo.zip(r.hi));
        Row {
            id: d.metric.label(&d.id),
            ratio: d.ratio.map_or_else(dash, |r| format!("{:.3}", r.value)),
            interval: ends.map_or_else(dash, |(lo, hi)| format!("{lo:.3}..{hi:.3}")),
            p: p.map_or_else(dash, |p| format!("{p:.4}")),
            could_see: d.smallest_percent.map_or_else(dash, |s| format!("{s:.1} %")),
        }
    }
    fn cells(&self) -> [&str; 5] {
        [&self.id, &self.ratio, &self.interval, &self.p, &self.could_see]
    }
}

const HEADER: [&str; 5] = ["", "new/old", "95 % interval", "p", "could see"];

fn controls(decision: &Decision) -> String {
    let one = |name: &str, d: &Decided| {
        let row = Row::of(d);
        if d.ratio.is_none() {
            return format!("{name}: not measured, the run ended before");
        }
        let state = match (d.role, d.state) {
            (Role::Null, State::Slower | State::Faster) => "FLAGGED, though nothing differs",
            (Role::Null, _) => "not flagged, as it must be",
            (_, State::Slower) => "found, as it must be",
            _ => "NOT FOUND",
        };
        format!("{name}: {} [{}], {state}", row.ratio, row.interval)
    };
    let all = |role, name: &str| {
        let of: Vec<&Decided> = decision.controls(role).collect();
        match &of[..] {
            [] => vec![format!("{name}: not measured")],
            [d] => vec![one(name, d)],
            _ => of.iter().map(|d| one(&format!("{name} ({})", request(d)), d)).collect(),
        }
    };
    [all(Role::Null, "a copy of itself"), all(Role::Planted, "3 % more work")].concat().join("; ")
}

/// What its cell asks for.
fn request(d: &Decided) -> String {
    CellId::parse(&d.id).map_or_else(|| d.id.clone(), |id| id.get(Coordinate::Request).to_owned())
}

/// Of the cells that are equal: the ones least surely so, and what could have been seen.
fn equals(decision: &Decision) -> Option<String> {
    let equal: Vec<&Decided> = decision.cells(State::Equal).filter(|d| d.metric == Metric::Block).collect();
    let most = equal.iter().filter_map(|d| d.at_most_percent).fold(f64::NEG_INFINITY, f64::max);
    let mut see: Vec<f64> = equal.iter().filter_map(|d| d.smallest_percent).collect();
    see.sort_by(f64::total_cmp);
    let (middle, last) = (see.get(see.len() / 2)?, see.last()?);
    Some(format!(
        "{}: slower by {most:.2} % at most, in the least sure of them, with 95 % confidence each; a slowdown of \
         {middle:.1} % (the middle cell) to {last:.1} % (the last) would have been found four times out of five",
        tables::cells(equal.len())
    ))
}

/// Of the tails that are not in a table as slower or faster.
fn tails(decision: &Decision, looks: &Looks) -> Option<String> {
    let quiet: Vec<&Decided> =
        decision.tails().filter(|d| !matches!(d.state, State::Slower | State::Faster)).collect();
    let equal = quiet.iter().filter(|d| d.state == State::Equal).count();
    let see = quiet.iter().filter_map(|d| d.smallest_percent);
    let (least, most) = (see.clone().fold(f64::INFINITY, f64::min), see.fold(f64::NEG_INFINITY, f64::max));
    let is_known = most >= least;
    (!quiet.is_empty()).then(|| {
        let shown = looks.first.rule.bounds(Metric::P99).equal;
        let mut says = format!(
            "the p99 of operations, where it was compared: {} less than {shown:.0} % slower",
            tables::cells(equal)
        );
        if quiet.len() > equal {
            let _ = write!(says, ", {} too noisy to say, which denies nobody a pass", quiet.len() - equal);
        }
        if is_known {
            let _ = write!(
                says,
                "; a slowdown of {least:.0} to {most:.0} % would have been found four times out of five"
            );
        }
        says
    })
}

fn launches(looks: &Looks) -> String {
    let one = |recording: &Recording| {
        let of = |stage| recording.launches.iter().filter(move |l| l.stage == stage);
        let blocks: usize = recording.launches.iter().flat_map(|l| &l.series).map(|s| s.old_ns.len()).sum();
        let void: usize = recording.launches.iter().flat_map(|l| &l.series).map(|s| s.void.len()).sum();
        format!(
            "{} launches of all cells, {} fresh ones of those looked at again; {blocks} rounds, {:.1} % of them void",
            of(Stage::Screen).count(),
            of(Stage::Confirm).count(),
            100.0 * void as f64 / blocks.max(1) as f64
        )
    };
    let second =
        looks.second.as_ref().map(|(orders, second)| format!("; {}: {}", orders.words(), one(second)));
    one(&looks.first) + &second.unwrap_or_default()
}

/// For a terminal of 100 columns.
pub(crate) fn text(decision: &Decision, looks: &Looks, around: &Around) -> String {
    let mut text = format!("{}\n", around.headline);
    for reason in &decision.reasons {
        text += &tables::wrap("  ", "    ", reason);
    }
    for (state, name) in SHOWN {
        let (rows, hidden) = rows(decision, state);
        if rows.is_empty() {
            continue;
        }
        let mut header = HEADER.map(str::to_owned);
        header[0] = name.to_owned();
        let mut table = tables::table(header.to_vec());
        for row in &rows {
            table.add_row(row.cells().map(str::to_owned));
        }
        text.push('\n');
        text += &tables::lines(&table);
        if hidden > 0 {
            let _ = writeln!(text, "and {hidden} more cells; --format json has all");
        }
    }
    text.push('\n');
    if !around.details.is_empty() {
        text += &around.details;
        text.push('\n');
    }
    let mut line = |name: &str, says: &str| {
        text += &tables::wrap(&format!("{name:<11}"), &" ".repeat(11), says);
    };
    if let Some(says) = equals(decision) {
        line("equal", &says);
    }
    if let Some(says) = tails(decision, looks) {
        line("tails", &says);
    }
    if let Some(says) = decision.verdict.advice() {
        line("advice", says);
    }
    around.notes.iter().for_each(|note| line("note", note));
    line("controls", &controls(decision));
    line("launches", &launches(looks));
    around.sides.iter().for_each(|side| line("compared", side));
    for (name, says) in [("machine", &around.machine), ("time", &around.time), ("command", &around.command)] {
        if !says.is_empty() {
            line(name, says);
        }
    }
    text
}

/// For a pull request.
pub(crate) fn markdown(decision: &Decision, looks: &Looks, around: &Around) -> String {
    let mut text = format!("### walkbench gate: {}\n\n", around.headline);
    for reason in &decision.reasons {
        let _ = writeln!(text, "- {reason}");
    }
    for (state, name) in SHOWN {
        let (rows, hidden) = rows(decision, state);
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n| {name} | {} |", HEADER[1..].join(" | "));
        text += "|---|--:|--:|--:|--:|\n";
        for row in rows {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                row.id, row.ratio, row.interval, row.p, row.could_see
            );
        }
        if hidden > 0 {
            let _ = writeln!(text, "\nand {hidden} more cells {name}");
        }
    }
    if !around.details.is_empty() {
        let _ = write!(text, "\n```\n{}```\n", around.details);
    }
    text.push('\n');
    let mut item = |says: &str| {
        let _ = writeln!(text, "- {says}");
    };
    if let Some(says) = equals(decision) {
        item(&says);
    }
    if let Some(says) = tails(decision, looks) {
        item(&says);
    }
    if let Some(says) = decision.verdict.advice() {
        item(says);
    }
    around.notes.iter().for_each(|note| item(note));
    item(&format!("controls: {}", controls(decision)));
    item(&launches(looks));
    around.sides.iter().for_each(|side| item(side));
    for says in [&around.machine, &around.time] {
        if !says.is_empty() {
            item(says);
        }
    }
    if !around.command.is_empty() {
        let _ = write!(text, "\nAgain, on any machine of your own:\n\n    {}\n", around.command);
    }
    text
}
