//! TOML to a checked definition.

use super::{Definition, DefinitionError, Grid, POLICIES, Retry, parse_size};
use crate::churn::{ChurnSpec, NO_CHURN};
use crate::nearest::hint;
use crate::request::{self, RequestKind};
use crate::shape::{BuildError, ShapeSpec};
use core::ops::Range;
use serde::Deserialize;
use toml::Spanned;
use walker::backend::Capability;
use walker::request::Wish;

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
    shape: Spanned<ShapeSpec>,
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
    /// What the reader of TOML says, in our words: the name of the key where the message leaves it out, and the valid
    /// name that is nearest to an unknown one.
    fn read_error(&self, e: &toml::de::Error) -> DefinitionError {
        let span = e.span().unwrap_or(0..0);
        let mut message = e.message().trim_end().replace('\n', "; ");
        if message.starts_with("is ") {
            let before = &self.text[..span.start.min(self.text.len())];
            let line = before.rsplit('\n').next().unwrap_or_default();
            if let Some((key, _)) = line.split_once('=') {
                message = format!("{} {message}", key.trim());
            }
        }
        // The reader of TOML has words of its own for unknown keys of an enum's variant.
        let unexpected = message.strip_prefix("unexpected keys in table: ");
        if let Some((keys, known)) = unexpected.and_then(|rest| rest.split_once(", available keys:")) {
            let key = keys.split(", ").next().unwrap_or_default();
            let known: Vec<String> =
                known.split(',').map(|k| format!("`{}`", k.trim())).filter(|k| k != "``").collect();
            let expected =
                if known.is_empty() { "none".to_owned() } else { format!("one of {}", known.join(", ")) };
            message = format!("unknown field `{key}`, expected {expected}");
        }
        // Unknown names come as: unknown field `x`, expected one of `a`, `b`.
        let mut names = message.split('`').skip(1).step_by(2);
        if let Some(unknown) = names.next() {
            let hint = hint(unknown, names);
            message += &hint;
        }
        self.error(span, message)
    }
    /// The shape, if its parameters go together.
    fn shape(&self, raw: Spanned<ShapeSpec>) -> Result<ShapeSpec, DefinitionError> {
        let Some((key, message)) = raw.get_ref().contradiction() else { return Ok(raw.into_inner()) };
        // The table is known, the line of the key is looked for in it.
        let start = raw.span().start;
        let after = self.text.get(start..).unwrap_or_default();
        let at = after.find(key).map_or(start, |found| start + found);
        Err(self.error(at..at, message))
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
            let refuse = |why: String| self.error(size.span(), format!("size {text:?}: {why}"));
            if shape.own_size().is_some() {
                return Err(refuse("expected no sizes, this shape has its own".to_owned()));
            }
            let expected =
                || format!("expected a multiple of {} up to 16TiB, like 2MiB", super::size_name(unit));
            let bytes = parse_size(text).filter(|b| *b <= MAX_SIZE).ok_or_else(|| refuse(expected()))?;
            shape.check_size(bytes).map_err(|e| match e {
                BuildError::Misfit { why, .. } => refuse(why),
                _ => refuse(expected()),
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
            let refuse = |why: String| self.error(name.span(), format!("churn {text:?}: {why}"));
            let churn = match text {
                NO_CHURN => None,
                _ => Some(text.parse::<ChurnSpec>().map_err(|e| refuse(e.to_string()))?),
            };
            if grid.churn.contains(&churn) {
                return Err(refuse("stands there already: expected each once".to_owned()));
            }
            if let Some(spec) = churn {
                let sizes = grid.sizes.iter().find_map(|size| spec.refusal(shape, *size));
                let asked = requests.iter().find_map(|request| spec.refuses_request(*request));
                if let Some(why) = sizes.or(asked) {
                    return Err(refuse(why.to_string()));
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
    let raw: Raw = toml::from_str(text).map_err(|e| source.read_error(&e))?;
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
            let names = Capability::ALL.map(Capability::name);
            let hint = hint(name.get_ref(), names);
            let message = format!(
                "capability {:?}: expected, each once, one of {}{hint}",
                name.get_ref(),
                names.join(", ")
            );
            source.error(name.span(), message)
        })?);
    }
    let mut requests: Vec<RequestKind> = Vec::new();
    for name in raw.requests.get_ref() {
        let kind = name.get_ref().parse().ok().filter(|k| !requests.contains(k));
        requests.push(kind.ok_or_else(|| {
            let hint = hint(name.get_ref(), request::LIKE);
            let message =
                format!("request {:?}: expected, each once, {}{hint}", name.get_ref(), request::EXPECTED);
            source.error(name.span(), message)
        })?);
    }
    if requests.is_empty() {
        let message = format!("no requests: expected at least one of {}", request::EXPECTED);
        return Err(source.error(raw.requests.span(), message));
    }
    let retry = source.retry(&raw)?;
    let shape = source.shape(raw.shape)?;
    for (name, kind) in raw.requests.get_ref().iter().zip(&requests) {
        let allowed = shape.allows();
        if kind.strongest().or(allowed) != allowed {
            let what = match allowed {
                Wish::None => "only be looked at: expected snapshot",
                _ => "not be written everywhere: expected requests to read",
            };
            return Err(
                source.error(name.span(), format!("request {:?}: this shape can {what}", name.get_ref()))
            );
        }
    }
    Ok(Definition {
        smoke: source.grid(&raw.smoke, &shape, &requests)?,
        quick: source.grid(&raw.quick, &shape, &requests)?,
        full: source.grid(&raw.full, &shape, &requests)?,
        retry,
        id: raw.id.into_inner(),
        title: raw.title.into_inner(),
        analysis: raw.analysis.into_inner(),
        requires,
        requests,
        shape,
    })
}
