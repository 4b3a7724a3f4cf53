//! TOML to a checked definition.

use super::{Definition, DefinitionError, Grid, POLICIES, Retry, parse_size};
use crate::churn::{self, NO_CHURN};
use crate::request::{self, RequestKind};
use crate::shape::{AbsentTables, Memory, ShapeSpec};
use core::ops::Range;
use serde::Deserialize;
use toml::Spanned;
use walker::backend::Capability;

/// Largest size of a definition: what four levels of tables leave room for beside everything else.
const MAX_SIZE: u64 = 16 << 40;
/// Most pages in one call: 4 GiB.
const MAX_CALL_PAGES: u64 = 1 << 20;
const MAX_WALKERS: u32 = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Spanned<String>,
    title: Spanned<String>,
    analysis: Spanned<String>,
    #[serde(default)]
    requires: Vec<Spanned<String>>,
    requests: Spanned<Vec<Spanned<String>>>,
    shape: Spanned<RawShape>,
    retry: Option<Spanned<String>>,
    attempts: Option<Spanned<u32>>,
    #[serde(default)]
    smoke: RawGrid,
    #[serde(default)]
    quick: RawGrid,
    #[serde(default)]
    full: RawGrid,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawGrid {
    #[serde(default)]
    sizes: Vec<Spanned<String>>,
    #[serde(default)]
    call_pages: Vec<Spanned<u64>>,
    churn: Option<Vec<Spanned<String>>>,
    walkers: Option<Vec<Spanned<u32>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum RawShape {
    #[serde(rename = "dense_4k")]
    Dense4k(Dense4k),
    #[serde(rename = "dense_2m")]
    Dense2m(Dense2m),
    #[serde(rename = "after_fork")]
    AfterFork(AfterFork),
    #[serde(rename = "absent_4k")]
    Absent4k(Absent4k),
    #[serde(rename = "captured")]
    Captured(Captured),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dense4k {
    run_pages: Spanned<u64>,
    #[serde(default)]
    memory: Memory,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dense2m {}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AfterFork {
    run_pages: Spanned<u64>,
    broken_permille: Spanned<u16>,
    #[serde(default)]
    memory: Memory,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Absent4k {
    tables: AbsentTables,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Captured {
    name: Spanned<String>,
}

/// Where in the file something stands.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }
    fn error(&self, span: Range<usize>, message: String) -> DefinitionError {
        DefinitionError { file: self.file.to_owned(), line: self.line(span.start), message }
    }
    fn run_pages(&self, run: &Spanned<u64>) -> Result<u64, DefinitionError> {
        match *run.get_ref() {
            n if n.is_power_of_two() && n <= 512 => Ok(n),
            n => {
                Err(self
                    .error(run.span(), format!("run_pages is {n}: expected a power of two from 1 to 512")))
            }
        }
    }
    fn shape(&self, raw: &RawShape) -> Result<ShapeSpec, DefinitionError> {
        Ok(match raw {
            RawShape::Dense4k(d) => {
                ShapeSpec::Dense4k { run_pages: self.run_pages(&d.run_pages)?, memory: d.memory }
            }
            RawShape::Dense2m(Dense2m {}) => ShapeSpec::Dense2m,
            RawShape::AfterFork(a) => {
                let broken_permille = *a.broken_permille.get_ref();
                if broken_permille > 1000 {
                    let message = format!("broken_permille is {broken_permille}: expected 0 to 1000");
                    return Err(self.error(a.broken_permille.span(), message));
                }
                let run_pages = self.run_pages(&a.run_pages)?;
                ShapeSpec::AfterFork { run_pages, broken_permille, memory: a.memory }
            }
            RawShape::Absent4k(a) => ShapeSpec::Absent4k { tables: a.tables },
            RawShape::Captured(c) => ShapeSpec::embedded(c.name.get_ref()).ok_or_else(|| {
                let names: Vec<_> = crate::shape::captured::NAMES.to_vec();
                let message =
                    format!("no captured shape {:?}: expected one of {}", c.name.get_ref(), names.join(", "));
                self.error(c.name.span(), message)
            })?,
        })
    }
    fn retry(&self, raw: &Raw) -> Result<Retry, DefinitionError> {
        let mut retry = Retry::default();
        if let Some(name) = &raw.retry {
            retry.policy = Retry::parse_policy(name.get_ref()).ok_or_else(|| {
                let names = POLICIES.map(|(n, _)| n).join(", ");
                self.error(name.span(), format!("retry {:?}: expected one of {names}", name.get_ref()))
            })?;
        }
        if let Some(attempts) = &raw.attempts {
            retry.attempts = *attempts.get_ref();
            if retry.attempts == 0 {
                let message = "attempts is 0: expected 1 or more, or nothing for no limit".to_owned();
                return Err(self.error(attempts.span(), message));
            }
        }
        Ok(retry)
    }
    fn grid(
        &self,
        raw: &RawGrid,
        shape: &ShapeSpec,
        requests: &[RequestKind],
    ) -> Result<Grid, DefinitionError> {
        let mut grid = Grid::default();
        let unit = shape.unit_bytes();
        for size in &raw.sizes {
            let text = size.get_ref();
            let ok =
                |b: &u64| shape.own_size().is_none() && *b != 0 && b.is_multiple_of(unit) && *b <= MAX_SIZE;
            let bytes = parse_size(text).filter(ok).ok_or_else(|| {
                let expected = match shape.own_size() {
                    Some(_) => "no sizes, this shape has its own".to_owned(),
                    None => format!("a multiple of {} up to 16TiB, like 2MiB", super::size_name(unit)),
                };
                self.error(size.span(), format!("size {text:?}: expected {expected}"))
            })?;
            self.ascends(&grid.sizes, bytes, size.span(), "sizes")?;
            grid.sizes.push(bytes);
        }
        for pages in &raw.call_pages {
            let n = *pages.get_ref();
            if n == 0 || n > MAX_CALL_PAGES {
                let message = format!("call of {n} pages: expected 1 to {MAX_CALL_PAGES}");
                return Err(self.error(pages.span(), message));
            }
            self.ascends(&grid.call_pages, n, pages.span(), "call_pages")?;
            grid.call_pages.push(n);
        }
        if let (Some(own), Some(_)) = (shape.own_size(), raw.call_pages.first()) {
            grid.sizes = vec![own];
        }
        if grid.sizes.is_empty() != grid.call_pages.is_empty() {
            let (has, lacks) =
                if grid.sizes.is_empty() { ("call_pages", "sizes") } else { ("sizes", "call_pages") };
            let at = raw.sizes.first().map(Spanned::span).or(raw.call_pages.first().map(Spanned::span));
            let message =
                format!("a profile has {has} but no {lacks}: expected both, or neither to leave it out");
            return Err(self.error(at.unwrap_or(0..0), message));
        }
        for name in raw.churn.iter().flatten() {
            let text = name.get_ref().as_str();
            let churn = if text == NO_CHURN { Some(None) } else { text.parse().ok().map(Some) };
            let churn = churn.filter(|c| !grid.churn.contains(c)).ok_or_else(|| {
                self.error(name.span(), format!("churn {text:?}: expected, each once, {}", churn::EXPECTED))
            })?;
            if let Some(spec) = churn {
                let sizes = grid.sizes.iter().find_map(|size| spec.refusal(shape, *size));
                let asked = requests.iter().find_map(|request| spec.refuses_request(*request));
                if let Some(why) = sizes.or(asked) {
                    return Err(self.error(name.span(), format!("churn {text:?}: {why}")));
                }
            }
            grid.churn.push(churn);
        }
        for walkers in raw.walkers.iter().flatten() {
            let n = *walkers.get_ref();
            if n == 0 || n > MAX_WALKERS {
                let message = format!("{n} walkers: expected 1 to {MAX_WALKERS}");
                return Err(self.error(walkers.span(), message));
            }
            self.ascends(&grid.walkers, n, walkers.span(), "walkers")?;
            grid.walkers.push(n);
        }
        if raw.churn.is_none() {
            grid.churn.push(None);
        }
        if raw.walkers.is_none() {
            grid.walkers.push(1);
        }
        Ok(grid)
    }
    fn ascends<N: PartialOrd>(
        &self,
        so_far: &[N],
        n: N,
        at: Range<usize>,
        what: &str,
    ) -> Result<(), DefinitionError> {
        match so_far.last() {
            Some(last) if *last >= n => {
                Err(self.error(at, format!("{what} must ascend: expected more than the one before")))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a definition. `file` is how errors name it.
///
/// # Errors
/// [`DefinitionError`] with the line and what was expected there.
pub fn parse(text: &str, file: &str) -> Result<Definition, DefinitionError> {
    let source = Source { file, text };
    let raw: Raw = toml::from_str(text).map_err(|e| {
        let message = e.message().trim_end().replace('\n', "; ");
        source.error(e.span().unwrap_or(0..0), message)
    })?;
    let id = raw.id.get_ref();
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(fits) {
        let message = format!("id {id:?}: expected 1 to 64 of a-z, 0-9 and _");
        return Err(source.error(raw.id.span(), message));
    }
    for (text, what) in [(&raw.title, "title"), (&raw.analysis, "analysis")] {
        if text.get_ref().trim().is_empty() {
            return Err(source.error(text.span(), format!("{what} is empty: expected a text")));
        }
    }
    let mut requires = Vec::new();
    for name in &raw.requires {
        let capability = Capability::parse(name.get_ref()).filter(|c| !requires.contains(c));
        requires.push(capability.ok_or_else(|| {
            let message = format!(
                "capability {:?}: expected, each once, snapshot, fault, per_page_request, permission, order, compound, \
                 device_private, cross_vma or unlocked",
                name.get_ref()
            );
            source.error(name.span(), message)
        })?);
    }
    let mut requests: Vec<RequestKind> = Vec::new();
    for name in raw.requests.get_ref() {
        let kind = name.get_ref().parse().ok().filter(|k| !requests.contains(k));
        requests.push(kind.ok_or_else(|| {
            let message = format!("request {:?}: expected, each once, {}", name.get_ref(), request::EXPECTED);
            source.error(name.span(), message)
        })?);
    }
    if requests.is_empty() {
        let message = format!("no requests: expected at least one of {}", request::EXPECTED);
        return Err(source.error(raw.requests.span(), message));
    }
    let shape = source.shape(raw.shape.get_ref())?;
    Ok(Definition {
        smoke: source.grid(&raw.smoke, &shape, &requests)?,
        quick: source.grid(&raw.quick, &shape, &requests)?,
        full: source.grid(&raw.full, &shape, &requests)?,
        retry: source.retry(&raw)?,
        id: raw.id.into_inner(),
        title: raw.title.into_inner(),
        analysis: raw.analysis.into_inner(),
        requires,
        requests,
        shape,
    })
}
