//! A report: answers, charts, tables and a page from results. Everything but [`write()`] is pure.
//!
//! Results and questions make answers (`questions`), those make [`figure::Figure`]s, and the same figures are drawn as
//! SVG for documents and embedded in the page.

mod calibrated;
mod decisions;
mod figure;
mod figures;
mod markdown;
mod page;
mod runs;
pub(crate) mod splice;
mod svg;

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::calibrate::Calibration;
use crate::compare::compare;
use crate::output;
use crate::questions::{self, Answer, Question, questions};
use crate::results::Results;
use calibrated::InProportion;
pub(crate) use decisions::ratio;
use decisions::{Decided, decided};
use figure::Figure;
use runs::Runs;

/// What is said of a run.
pub(crate) struct Report<'a> {
    results: &'a Results,
    answers: Vec<Answer>,
    figures: Vec<Vec<Figure>>,
    runs: Option<Runs>,
    in_proportion: Option<InProportion>,
}

/// What is said of a question.
struct Part<'a> {
    question: &'a Question,
    answer: &'a Answer,
    figures: &'a [Figure],
    decided: Vec<Decided>,
    calibrated: Option<String>,
}

impl<'a> Report<'a> {
    /// Of several runs: the first one's report, and all of them side by side.
    ///
    /// # Panics
    /// Without a run.
    pub(crate) fn of(runs: &'a [Results]) -> Report<'a> {
        let side_by_side = || Runs::new(runs, compare(runs, "decode", &|_| true));
        Report { runs: (runs.len() > 1).then(side_by_side), ..Report::new(&runs[0]) }
    }
    /// Answers every question and makes its figures.
    pub(crate) fn new(results: &'a Results) -> Report<'a> {
        let answers = questions::answers(results);
        let figures =
            questions().iter().zip(&answers).map(|(q, a)| figures::figures(q, a, results)).collect();
        Report { results, answers, figures, runs: None, in_proportion: None }
    }
    /// With what the first run says in a kernel's proportions, in parts of their own.
    ///
    /// # Errors
    /// A calibration of another processor.
    pub(crate) fn calibrated(self, calibration: &Calibration) -> Result<Report<'a>> {
        calibration.check(self.results)?;
        let in_proportion = InProportion::new(self.results, &self.answers, calibration);
        Ok(Report { in_proportion: Some(in_proportion), ..self })
    }
    /// Of every question, in their order.
    pub(crate) fn answers(&self) -> &[Answer] {
        &self.answers
    }
    /// Question by question, in their order.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let both = questions().iter().zip(&self.answers).zip(&self.figures);
        both.map(|((question, answer), figures)| Part {
            question,
            answer,
            figures,
            decided: decided(question, answer),
            calibrated: self.in_proportion.as_ref().and_then(|p| p.line(&question.id)),
        })
    }
    /// A document with its generated parts replaced. `document_folder` is where it lies, `out` where the report is: what
    /// links from one to the other are made of.
    ///
    /// # Errors
    /// With the lines of wrong markers.
    pub(crate) fn spliced(&self, document: &str, document_folder: &Path, out: &Path) -> Result<String> {
        let charts = link(document_folder, &out.join(CHARTS))?;
        splice::splice(document, &|name| markdown::block(self, name, &charts))
    }
    /// The files of the report, relative to its folder.
    ///
    /// # Errors
    /// Charts that cannot be drawn.
    pub(crate) fn files(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut files = vec![
            (PathBuf::from("report.md"), markdown::document(self, CHARTS)),
            (PathBuf::from("index.html"), page::page(self)?),
        ];
        let side_by_side = self.runs.as_ref().and_then(Runs::figure);
        for figure in self.figures.iter().flatten().chain(&side_by_side) {
            files.push((Path::new(CHARTS).join(format!("{}.svg", figure.id)), svg::svg(figure)?));
        }
        Ok(files)
    }
}

/// Below the report's folder.
const CHARTS: &str = "charts";

/// Writes the report below `out`, each file beside and renamed; charts of an earlier report that are not in this one go.
///
/// # Errors
/// With the path, when the file system says no.
pub(crate) fn write(report: &Report<'_>, out: &Path) -> Result<Vec<PathBuf>> {
    let files = report.files()?;
    let charts = out.join(CHARTS);
    fs::create_dir_all(&charts)
        .with_context(|| format!("{}: expected a place where a folder can be made", charts.display()))?;
    for entry in fs::read_dir(&charts).with_context(|| format!("{}", charts.display()))? {
        let path = entry.with_context(|| format!("{}", charts.display()))?.path();
        let is_ours = path.file_name().is_some_and(|name| is_chart(&name.to_string_lossy()));
        let is_new = files.iter().any(|(name, _)| out.join(name) == path);
        if is_ours && !is_new {
            fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
        }
    }
    for (name, text) in &files {
        output::replace(&out.join(name), text.as_bytes())?;
    }
    Ok(files.into_iter().map(|(name, _)| out.join(name)).collect())
}

/// What below `out` is not what [`write()`] would write. The page and report.md may be missing: they are for looking at,
/// not for keeping; charts may not, since documents show them.
///
/// # Errors
/// Charts that cannot be drawn.
pub(crate) fn stale(report: &Report<'_>, out: &Path) -> Result<Vec<PathBuf>> {
    let is_kept = |name: &Path| name.starts_with(CHARTS);
    let files = report.files()?.into_iter().map(|(name, text)| (is_kept(&name), out.join(name), text));
    let differs = files.filter(|(kept, path, text)| match fs::read(path) {
        Ok(bytes) => bytes != text.as_bytes(),
        Err(_) => *kept,
    });
    Ok(differs.map(|(_, path, _)| path).collect())
}

/// A name that only this program gives: the id of a question and a number.
fn is_chart(name: &str) -> bool {
    let number =
        |id: &str| Some(name.strip_prefix(id)?.strip_prefix('-')?.strip_suffix(".svg")?.parse::<u32>());
    let ids = questions().iter().map(|q| q.id.as_str()).chain(["runs"]);
    ids.into_iter().any(|id| number(id).is_some_and(|n| n.is_ok()))
}

/// The way from one folder to another, as a link has it.
fn link(from: &Path, to: &Path) -> Result<String> {
    let here =
        |path: &'_ Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let whole = |path: &Path| std::path::absolute(here(path)).map_err(|e| anyhow!("{}: {e}", path.display()));
    let (from, to) = (whole(from)?, whole(to)?);
    let parts = |path: &'_ Path| -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(parts.pop()),
                part => parts.push(part.as_os_str().to_string_lossy().into_owned()),
            }
        }
        parts
    };
    let (from, to) = (parts(&from), parts(&to));
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let all: Vec<String> = up.chain(to[shared..].iter().map(|p| encoded(p))).collect();
    Ok(all.join("/"))
}

/// A part of a path as a link has it.
fn encoded(part: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    part.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests;
