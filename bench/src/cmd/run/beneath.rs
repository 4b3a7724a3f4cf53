//! What stands beneath the tables: how to read them, what they rest on, how to get them again.

use crate::analysis::{GroupResult, Harness};
use crate::output;
use crate::record::Line;
use crate::stats::LEAST_LAUNCHES;
use crate::tables::wrap;

use super::job::Job;

/// A line with its name in front, its later lines indented.
fn line(name: &str, text: &str) -> String {
    wrap(&format!("{name:<11}"), "           ", text)
}

/// The lines.
pub(super) fn beneath(
    job: &Job,
    results: &[GroupResult],
    harness: Option<Harness>,
    controls: Option<String>,
    page: &str,
) -> String {
    let run = &job.run;
    let mut spreads: Vec<f64> = results
        .iter()
        .flat_map(|r| &r.cells)
        .filter_map(|c| c.ns_per_page)
        .map(|i| i.spread_percent())
        .collect();
    spreads.sort_by(f64::total_cmp);
    let typical = spreads.get(spreads.len() / 2).copied().unwrap_or(0.0);
    let widest = spreads.last().copied().unwrap_or(0.0);
    let [fewest, most] = job.launches_done();
    let done = if fewest == most { format!("{fewest}") } else { format!("{fewest} to {most}") };
    let mut launches = format!("{done} of {} planned", run.settings.launches);
    if (fewest as usize) < LEAST_LAUNCHES {
        launches += &format!("; fewer than {LEAST_LAUNCHES} decide nothing: --launches {LEAST_LAUNCHES}");
    } else if fewest < run.settings.launches {
        launches += &format!(", the time was over; --resume {} adds the others", job.folder.path().display());
    }
    if run.settings.layouts.is_some() {
        launches += "; each another link, its functions in an order of its own";
    }
    let mut text = String::new();
    text += &line(
        "ns/page",
        "whole operations: prepare, walk, retry, consume; the middle launch, and [95 %] of launches; with fewer than six the span of all",
    );
    text += &line(
        "x",
        "against (decode), from blocks next to each other in time; the middle launch, which need not be that of ns/page",
    );
    text += &line(
        "(limits)",
        "copy, load, decode, fill: the machine on the same tables; chase: dependent loads of their cache lines; noop: a \
         design that does nothing; loop: the harness alone",
    );
    text += &line("launches", &launches);
    text += &line(
        "spread",
        &format!(
            "half the interval is {typical:.1} % of the median in the middle cell, {widest:.1} % in the widest"
        ),
    );
    if let Some(h) = harness {
        let Harness { median_percent, worst_percent, cells, marked } = h;
        text += &line(
            "harness",
            &format!(
                "{median_percent:.2} % of the middle cell, {worst_percent:.2} % of the worst, by loop and clock; {marked} of \
                 {} cells are within 20 times noop or clock, or above 1 %, and marked",
                cells + marked
            ),
        );
    }
    if let Some(controls) = controls {
        text += &line("controls", &controls);
    }
    text += &line("clock", &format!("{:.1} ns a reading, taken off", run.clock_cost_ps as f64 / 1000.0));
    text += &line("counters", &counters(&job.lines));
    text += &line("machine", &run.machine.line());
    let dirty = if run.build.dirty == "true" { " (dirty)" } else { "" };
    let commit = run.build.commit.get(..12).unwrap_or(&run.build.commit);
    text += &line("build", &format!("{}, commit {commit}{dirty}", run.build.rustc));
    text += &line("command", &output::command(&run.command));
    text += &line("results", &job.folder.path().display().to_string());
    text + &line("page", page)
}

/// Which counters there are; the reasons for those that are not, each once.
fn counters(lines: &[Line]) -> String {
    let launch = lines.iter().find_map(|l| if let Line::Launch(l) = l { Some(l) } else { None });
    let Some(launch) = launch else { return "none".to_owned() };
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in &launch.unavailable {
        match reasons.iter_mut().find(|(r, _)| r == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    if reasons.is_empty() {
        return "all; see the cells in run.json".to_owned();
    }
    let each = reasons.iter().map(|(reason, names)| format!("{} unavailable: {reason}", names.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}
