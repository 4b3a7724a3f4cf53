//! The generated parts of a document, in GitHub's Markdown.
//!
//! | name | what |
//! |---|---|
//! | `machine` | where and how it was measured |
//! | `decisions` | API property by recommendation, with how sure |
//! | `answer ID` | a question's answer, where it flips, the command |
//! | `charts ID` | its charts |
//! | `tables ID` | its comparisons with their figures |
//! | `missing` | what the results lack |
//! | `said NAME` | `NAME.txt` beside the results: what another command printed |
//! | `runs` | the answers of several runs side by side |
//! | `calibrated` | answers in a kernel's proportions |

use super::decisions::{how_sure, ratio};
use super::figure::{Figure, plain};
use super::runs::Runs;
use super::{Part, Report};
use crate::calibrate::MARK;
use crate::export::markdown::escape;
use crate::output;
use crate::questions::answer::{Answer, BreakEven, Effect, Finding, Place, Point, Verdict};
use crate::questions::{Axis, CellId, Compare, Coordinate, Kind, Map};
use crate::results::{CellFacts, Results};
use crate::tables;

/// What [`block`] knows.
pub(crate) const NAMES: &str = "machine, decisions, missing, runs (with several folders), calibrated (with --calibrate), answer, charts or tables with the id of a question, \
     or said with the name of a text file beside the results";

/// Rows of a table at most; the page has all of them.
const ROWS: usize = 24;

/// The block of that name; none if there is no such thing. `charts` is where charts lie, as the document sees it.
pub(crate) fn block(report: &Report<'_>, name: &str, charts: &str) -> Option<String> {
    match name {
        "machine" => return Some(machine(report)),
        "decisions" => return Some(decisions(report)),
        "missing" => return Some(missing(report)),
        "runs" => return Some(runs(report.runs.as_ref()?, charts)),
        "calibrated" => return Some(report.in_proportion.as_ref()?.markdown()),
        _ => {}
    }
    let (what, id) = name.split_once(' ')?;
    if what == "said" {
        return said(report, id.trim());
    }
    let part = report.parts().find(|p| p.question.id == id.trim())?;
    match what {
        "answer" => Some(answer(&part)),
        "charts" => Some(part.figures.iter().map(|f| chart(f, charts)).collect::<Vec<_>>().join("\n")),
        "tables" => Some(comparisons(&part, report.results)),
        _ => None,
    }
}

/// A text file of the results folder, as code by its indentation: no text can end that.
fn said(report: &Report<'_>, name: &str) -> Option<String> {
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let text = std::fs::read_to_string(report.results.folder.join(format!("{name}.txt"))).ok()?;
    let lines = text.lines().map(|line| format!("    {}", line.trim_end().replace("<!--", "<! --")));
    is_name.then(|| lines.collect::<Vec<_>>().join("\n"))
}

/// A whole document of its own.
pub(crate) fn document(report: &Report<'_>, charts: &str) -> String {
    let mut text = format!(
        "# walkbench: what was measured\n\n{}\n## Decisions\n\n{}\n",
        machine(report),
        decisions(report)
    );
    for part in report.parts() {
        let q = part.question;
        text += &format!("<a id=\"{}\"></a>\n\n## {}\n\n{}\n\n", q.id, escape(&q.title), escape(&q.argument));
        for thread in &q.threads {
            text += &format!("- {}\n", escape(thread));
        }
        text += &format!("\n{}\n", answer(&part));
        for figure in part.figures {
            text += &format!("{}\n", chart(figure, charts));
        }
        text += &format!("{}\n{}\n\n", comparisons(&part, report.results), escape(&q.analysis));
    }
    if let Some(side_by_side) = &report.runs {
        text += &format!("## Runs side by side\n\n{}\n", runs(side_by_side, charts));
    }
    if let Some(in_proportion) = &report.in_proportion {
        text += &format!("## In the kernel's proportions\n\n{}\n", in_proportion.markdown());
    }
    text + "## What is missing\n\n" + &missing(report)
}

fn runs(runs: &Runs, charts: &str) -> String {
    let figure = runs.figure().map(|f| chart(&f, charts)).unwrap_or_default();
    format!("{}\n{figure}", runs.markdown())
}

fn machine(report: &Report<'_>) -> String {
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (name, value) in facts(report) {
        text += &format!("| {name} | {} |\n", escape(&value));
    }
    text + &format!("\n{}\n", code(&output::command(&report.results.run.command)))
}

/// What a reader must know of the machine and the run: names and values, plain text.
pub(super) fn facts(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let run = &report.results.run;
    let m = &run.machine;
    let unknown = || "unknown".to_owned();
    let mitigations: Vec<String> = m.mitigations.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    let cells = report.results.cells.len();
    let failed = report.results.cells.values().filter(|c| c.error.is_some()).count();
    let state = match run.state {
        crate::record::State::Complete => "complete",
        crate::record::State::Running => "not ended: it was killed, or goes on",
        crate::record::State::Interrupted => "stopped early",
    };
    let rows = [
        ("machine", m.line()),
        (
            "processor",
            format!(
                "{}, family {}, model {}, stepping {}, microcode {}",
                m.cpu_model.clone().unwrap_or_else(unknown),
                m.cpu_family.map_or_else(unknown, |x| x.to_string()),
                m.cpu_model_number.map_or_else(unknown, |x| x.to_string()),
                m.cpu_stepping.map_or_else(unknown, |x| x.to_string()),
                m.microcode.clone().unwrap_or_else(unknown)
            ),
        ),
        (
            "memory",
            m.memory_bytes.map_or_else(unknown, |b| format!("{:.1} GiB", b as f64 / f64::from(1 << 30))),
        ),
        (
            "THP, governor, clock",
            format!(
                "{}, {}, {}",
                m.thp.clone().unwrap_or_else(unknown),
                m.governor.clone().unwrap_or_else(unknown),
                m.clocksource.clone().unwrap_or_else(unknown)
            ),
        ),
        ("load at the start", m.load_milli.map_or_else(unknown, |l| format!("{:.2}", l as f64 / 1000.0))),
        ("mitigations", mitigations.join("; ")),
        (
            "build",
            format!(
                "{}, {}, {}, flags {:?}",
                run.build.rustc, run.build.profile, run.build.target, run.build.flags
            ),
        ),
        (
            "commit",
            format!("{}{}", run.build.commit, if run.build.dirty == "true" { ", with changes" } else { "" }),
        ),
        ("run", format!("{}, seed {}, {}", run.started, run.seed, state)),
        ("cells", format!("{cells}, of which {failed} failed; {} skipped", run.skips.len())),
        ("results", report.results.folder.display().to_string()),
    ];
    rows.into_iter().map(|(name, value)| (name, plain(&value))).collect()
}

fn decisions(report: &Report<'_>) -> String {
    let mut text =
        "| property | recommendation | figure | how sure | question |\n|---|---|---|---|---|\n".to_owned();
    for row in report.parts().flat_map(|p| p.decided) {
        text += &format!(
            "| {} | {} | {} | {} | [{id}](#{id}) |\n",
            with_code(&row.property),
            with_code(&row.recommendation),
            escape(&row.figure),
            escape(&row.how_sure),
            id = row.question
        );
    }
    text
}

/// Escaped but for words that were written as code in a question.
fn with_code(text: &str) -> String {
    let parts: Vec<String> = text
        .split('`')
        .enumerate()
        .map(|(i, p)| if i % 2 == 1 { format!("`{p}`") } else { escape(p) })
        .collect();
    if parts.len() % 2 == 1 { parts.concat() } else { escape(text) }
}

fn answer(part: &Part<'_>) -> String {
    let Part { question, answer, .. } = *part;
    let mut text = format!("**{}**\n\n", escape(&plain(&answer.answer)));
    let Some(first) = answer.findings.first() else { return text };
    if first.verdict != Verdict::NotMeasured {
        let effect = answer.effect;
        text += &format!(
            "- figure: {}\n- how sure: {}, {}\n",
            escape(&effect.map_or_else(|| "-".to_owned(), |e| ratio(&e))),
            verdict(answer.verdict),
            escape(&how_sure(answer.verdict, effect.as_ref(), question.percent))
        );
        if let Some(axis) = question.compares.first().and_then(|c| c.axis.as_ref()) {
            text += &format!("- break-even: {}\n", escape(&flips(axis, first)));
        }
    }
    if let Some(line) = &part.calibrated {
        text += &format!("- {MARK}: {}\n", escape(line));
    }
    text + &format!("- again: {}\n", code(&answer.command))
}

/// Nothing but a backtick ends code; and no marker may stand in what is put between markers.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'").replace("<!--", "(!--"))
}

/// Where an answer flips.
pub(super) fn flips(axis: &Axis, finding: &Finding) -> String {
    if finding.points.len() < 2 {
        return "one place on the axis was measured".to_owned();
    }
    let Some(BreakEven { from, to, estimate, level, .. }) = &finding.break_even else {
        let all_sure = finding.points.iter().all(|p| p.effect.is_claim());
        return if all_sure { "none in what was measured" } else { "not resolved" }.to_owned();
    };
    let level = if *level == 1.0 { String::new() } else { format!("at {} times, ", tables::number(*level)) };
    let about =
        estimate.map(|x| format!(", about {}", axis.name(rounded(x).clamp(*from, *to)))).unwrap_or_default();
    format!("{level}between {} and {}{about}", axis.name(*from), axis.name(*to))
}

/// Two digits: an estimate between two measured places has no more.
fn rounded(x: f64) -> f64 {
    let unit = 10f64.powf((x.abs().log10().floor() - 1.0).max(0.0));
    if x.is_finite() && x > 0.0 { (x / unit).round() * unit } else { x }
}

fn chart(figure: &Figure, charts: &str) -> String {
    let place = if figure.place.is_empty() { String::new() } else { format!(": {}", figure.place) };
    let alt = escape(&format!("{}{place}", figure.title));
    let mut text = format!("![{alt}]({charts}/{}.svg)\n", figure.id);
    if !figure.left_out.is_empty() {
        let shown: Vec<String> = figure.left_out.iter().take(6).map(|l| escape(&plain(l))).collect();
        let more = figure.left_out.len() - shown.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        text += &format!("\nLeft out: {}{more}\n", shown.join("; "));
    }
    text
}

pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Differs => "differs",
        Verdict::Same => "same",
        Verdict::Unresolved => "not resolved",
        Verdict::NotMeasured => "not measured",
    }
}

fn comparisons(part: &Part<'_>, results: &Results) -> String {
    let Part { question, answer, .. } = *part;
    if !question.besides.is_empty() {
        return besides(answer);
    }
    let mut text = String::new();
    for (compare, finding) in question.compares.iter().zip(&answer.findings) {
        if finding.verdict == Verdict::NotMeasured {
            text += &format!("{}: not measured.\n\n", escape(&finding.title));
            continue;
        }
        text += &format!(
            "<details><summary>{}: {}</summary>\n\n{}\n\n",
            escape(&finding.title),
            verdict(finding.verdict),
            escape(&plain(&finding.sentence))
        );
        text += &match (&compare.kind, finding.rankings.first()) {
            (Kind::Rank, Some(_)) => {
                let map = question.maps.iter().find(|m| m.by == finding.title);
                ranking(finding) + &map.map(|m| places(m, finding, question.percent)).unwrap_or_default()
            }
            _ => curve(compare, finding),
        };
        text += "\n</details>\n\n";
    }
    text + &collisions(answer, results)
}

/// What invalidations did to the sides of every comparison at its headline: counts of what happened, beside the times.
fn collisions(answer: &Answer, results: &Results) -> String {
    let points = answer.findings.iter().filter_map(|f| f.headline.as_ref());
    let ids = points.flat_map(|p| [Some(&p.a), p.b.as_ref()].into_iter().flatten());
    let mut cells: Vec<CellId> = ids.filter_map(|id| CellId::parse(id)).collect();
    cells.sort();
    cells.dedup();
    let mut rows = String::new();
    for cell in cells {
        let Some(c) = results.cells.get(&cell).and_then(|f| f.churned).filter(|c| c.tried > 0) else {
            continue;
        };
        let of_tried = |n: u64| n as f64 / c.tried as f64;
        let figure = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), tables::number);
        rows += &format!(
            "| {} | {} | {} | {} % | {} | {} |\n",
            escape(&plain(&cell.to_string())),
            c.tried,
            tables::number(of_tried(c.collided)),
            tables::number(100.0 * of_tried(c.given_up)),
            figure(c.vain_per_page),
            figure(c.events_per_s)
        );
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "| where | operations | collisions an operation | given up | pages in vain a page | events a second |\n\
         |---|---:|---:|---:|---:|---:|\n{rows}"
    )
}

/// The kernel's rows beside the model's cells.
fn besides(answer: &Answer) -> String {
    let mut text =
        "| | kernel, ns a page | model, ns a page | kernel / model | |\n|---|---:|---:|---:|---|\n"
            .to_owned();
    let figure = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), tables::number);
    let mut missing = Vec::new();
    for finding in &answer.findings {
        let Some(p) = &finding.headline else {
            missing.push(finding.title.as_str());
            continue;
        };
        let sides = [Some(p.a.as_str()), p.b.as_deref()].map(|s| s.unwrap_or_default().to_owned()).join("; ");
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            escape(&finding.title),
            figure(p.a_value),
            figure(p.b_value),
            escape(&ratio(&p.effect)),
            escape(&plain(&sides))
        );
    }
    if !missing.is_empty() {
        text += &format!("\nNot measured: {}.\n", escape(&missing.join("; ")));
    }
    text + &in_snapshots(answer)
}

/// Faults in units of the first snapshot, where hmm_range_fault itself took both: what a page that must fault costs in
/// pages that need not.
fn in_snapshots(answer: &Answer) -> String {
    let of_hmm = |p: &&Point| p.a.starts_with("kernel: hmm_range_fault");
    let points: Vec<(&str, &Point)> = answer
        .findings
        .iter()
        .filter_map(|f| Some((f.title.as_str(), f.headline.as_ref().filter(of_hmm)?)))
        .collect();
    let Some((unit, snapshot)) = points.first().filter(|(_, p)| p.a.contains("snapshot")) else {
        return String::new();
    };
    let mut text = format!("\n| in units of {} | kernel | model |\n|---|---:|---:|\n", escape(unit));
    let times = |a: Option<f64>, b: Option<f64>| {
        a.zip(b).map_or_else(|| "-".to_owned(), |(a, b)| tables::number(a / b))
    };
    for (title, p) in &points[1..] {
        text += &format!(
            "| {} | {} | {} |\n",
            escape(title),
            times(p.a_value, snapshot.a_value),
            times(p.b_value, snapshot.b_value)
        );
    }
    text
}

fn curve(compare: &Compare, finding: &Finding) -> String {
    let unit = compare.metric.unit();
    let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
    let (a, b) = match compare.kind {
        Kind::Value => (String::new(), String::new()),
        _ => (compare.a_is.trim_end_matches(',').to_owned(), compare.b_is.trim_end_matches(',').to_owned()),
    };
    let axis = compare.axis.as_ref().filter(|_| finding.points.len() > 1);
    let first = axis.map_or_else(|| "where".to_owned(), |axis| axis.of.name().replace('_', " "));
    let (a, b, what) = if compare.kind == Kind::Value {
        let (over, under) = finding.metric.split_once('/').unwrap_or((&finding.metric, ""));
        (over.to_owned(), under.to_owned(), "ratio")
    } else {
        (format!("a: {a}{unit}"), format!("b: {b}{unit}"), "a / b")
    };
    let mut text =
        format!("| {first} | {what} | {} | {} | |\n|---|---:|---:|---:|---|\n", escape(&a), escape(&b));
    let shown: Vec<&Point> = near(finding);
    for p in shown.iter().take(ROWS) {
        let at = match (axis, p.x) {
            (Some(axis), Some(x)) => axis.name(x),
            _ => p.a.clone(),
        };
        let figure = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), tables::number);
        let words = if compare.kind == Kind::Value { "exact" } else { verdict(p.verdict) };
        let words: Vec<&str> = std::iter::once(words).chain(p.marks.iter().map(String::as_str)).collect();
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            escape(&plain(&at)),
            escape(&ratio(&p.effect)),
            figure(p.a_value),
            figure(p.b_value),
            escape(&plain(&words.join(", ")))
        );
    }
    let more = finding.points.len().saturating_sub(shown.len().min(ROWS));
    if more > 0 {
        text += &format!("\n{more} more are on the page.\n");
    }
    text
}

/// The headline's neighbours first: of a comparison without an axis, those of its size and call size.
fn near(finding: &Finding) -> Vec<&Point> {
    let head = finding.headline.as_ref().and_then(|p| CellId::parse(&p.a));
    let is_near = |p: &&Point| {
        let (Some(head), Some(a)) = (&head, CellId::parse(&p.a)) else { return true };
        [Coordinate::Size, Coordinate::CallPages].iter().all(|c| a.get(*c) == head.get(*c))
    };
    if finding.points.len() <= ROWS {
        return finding.points.iter().collect();
    }
    finding.points.iter().filter(is_near).collect()
}

fn ranking(finding: &Finding) -> String {
    let Some(first) = finding.rankings.first() else { return String::new() };
    let mut text =
        format!("{}\n\n| design | ns a page | times the first |\n|---|---:|---:|\n", code(&first.group));
    for place in &first.order {
        let behind = |e: &Effect| if e.ratio == 1.0 { "1".to_owned() } else { ratio(e) };
        text += &format!(
            "| {} | {} | {} |\n",
            escape(&plain(&place.backend)),
            tables::number(place.value),
            escape(&behind(&place.behind))
        );
    }
    text
}

/// Every place of a map: who leads, by how much, and what the last costs.
fn places(map: &Map, finding: &Finding, percent: f64) -> String {
    let places = map.places(finding);
    if places.is_empty() {
        let others = finding.rankings.len() - 1;
        return match others {
            0 => String::new(),
            n => format!("\nRanked at {n} more places, too few for a map: they are on the page.\n"),
        };
    }
    let mut text = format!(
        "\n| {} | {} | the cheapest | ns a page | the next, times that | as cheap as far as can be told | the dearest, times that |\n\
         |---:|---:|---|---:|---|---|---|\n",
        escape(&plain(&map.x.unit)),
        escape(&plain(&map.y.unit))
    );
    for p in places {
        let [first, second, ..] = &p.ranking.order[..] else { continue };
        let Some(last) = p.ranking.order.last() else { continue };
        let rivals = p.rivals(percent).join(", ");
        let times = |place: &Place| format!("{} {}", place.backend, ratio(&place.behind));
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            p.x,
            p.y,
            escape(&plain(&first.backend)),
            tables::number(first.value),
            escape(&plain(&times(second))),
            escape(&plain(&rivals)),
            escape(&plain(&times(last)))
        );
    }
    text
}

/// What the results lack, in plain text, with so many failed cells at most.
pub(super) fn missing_lines(report: &Report<'_>, most: usize) -> Vec<String> {
    let mut lines = report.results.notes.clone();
    for part in report.parts() {
        let id = &part.question.id;
        if part.answer.verdict == Verdict::NotMeasured {
            lines.push(format!("{id}: {}", part.answer.answer));
        } else if !part.answer.awaiting.is_empty() {
            lines.push(format!("{id}: not there yet: {}", part.answer.awaiting.join("; ")));
        }
        let others = part.answer.findings.iter().skip(1).filter(|f| f.verdict == Verdict::NotMeasured);
        lines.extend(others.map(|f| format!("{id}: not measured: {}", f.title)));
    }
    let cells = &report.results.cells;
    let mut failed =
        cells.iter().filter_map(|(id, facts)| Some(format!("{id}: {}", facts.error.as_deref()?)));
    lines.extend(failed.by_ref().take(most));
    let more = failed.count();
    if more > 0 {
        lines.push(format!("{more} more cells failed; the page lists them"));
    }
    let is_silent = |f: &&CellFacts| f.error.is_none() && f.ns_per_page.and_then(|s| s.median).is_none();
    let silent = cells.values().filter(is_silent).count();
    if silent > 0 {
        lines.push(format!("{silent} cells have neither a figure nor an error: the run ended before"));
    }
    lines
}

fn missing(report: &Report<'_>) -> String {
    let lines = missing_lines(report, ROWS);
    if lines.is_empty() {
        return "Nothing: every comparison has its figures, and no cell failed.\n".to_owned();
    }
    lines.iter().map(|l| format!("- {}\n", escape(&plain(l)))).collect()
}
