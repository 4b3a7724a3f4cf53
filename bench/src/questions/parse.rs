//! TOML to a checked question.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::metric::Metric;
use super::select::{CellId, Coordinate, Selector};
use super::{Awaiting, Axis, Beside, Chart, Compare, Decision, Kind, Map, Question};
use crate::stats::COUNTS_FROM;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: String,
    title: String,
    argument: String,
    threads: Vec<String>,
    analysis: String,
    chart: Chart,
    #[serde(default)]
    percent: Option<f64>,
    #[serde(default)]
    cells: BTreeMap<Coordinate, Vec<String>>,
    #[serde(default)]
    awaiting: Awaiting,
    #[serde(default)]
    compare: Vec<RawCompare>,
    #[serde(default)]
    decision: Vec<Decision>,
    #[serde(default)]
    beside: Vec<Beside>,
    #[serde(default)]
    map: Vec<RawMap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    by: String,
    x: RawAxis,
    y: RawAxis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCompare {
    title: String,
    #[serde(default)]
    a: BTreeMap<Coordinate, OneOrMany>,
    #[serde(default)]
    b: Option<BTreeMap<Coordinate, String>>,
    #[serde(default)]
    a_is: String,
    #[serde(default)]
    b_is: String,
    #[serde(default)]
    rank: bool,
    metric: String,
    #[serde(default)]
    headline: BTreeMap<Coordinate, String>,
    #[serde(default)]
    axis: Option<RawAxis>,
    #[serde(default)]
    level: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAxis {
    Coordinate(Coordinate),
    Values(RawValues),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawValues {
    of: Coordinate,
    unit: String,
    values: BTreeMap<String, f64>,
}

/// Reads a question. `cells` are the ids of all profiles, of which every selector must match some.
///
/// # Errors
/// With the file, the line where TOML knows it, what was found and what was expected.
pub(super) fn parse(text: &str, file: &str, cells: &[CellId]) -> Result<Question, String> {
    let raw: Raw = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        format!("{file}:{line}: {}", e.message())
    })?;
    check(raw, cells).map_err(|e| format!("{file}: {e}"))
}

fn check(raw: Raw, cells: &[CellId]) -> Result<Question, String> {
    for (name, text) in [("title", &raw.title), ("argument", &raw.argument), ("analysis", &raw.analysis)] {
        if text.trim().is_empty() {
            return Err(format!("{name}: is empty"));
        }
    }
    if raw.id.is_empty() || !raw.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        return Err(format!("id {:?}: expected a-z, 0-9 and _", raw.id));
    }
    if raw.threads.is_empty() {
        return Err("threads: expected the argument's source".to_owned());
    }
    let percent = raw.percent.unwrap_or(COUNTS_FROM);
    if !(percent > 0.0 && percent.is_finite()) {
        return Err(format!("percent = {percent}: expected a number above 0"));
    }
    let selector = Selector::new(&raw.cells)?;
    let mine: Vec<&CellId> = cells.iter().filter(|c| selector.matches(c)).collect();
    if raw.compare.is_empty() && raw.beside.is_empty() && raw.awaiting.is_empty() {
        return Err("expected [[compare]], [[beside]], or what it is awaiting".to_owned());
    }
    if let Some(b) = raw.beside.iter().find(|b| !mine.iter().any(|c| c.to_string() == b.cell)) {
        return Err(format!("[[beside]] {:?}: {:?} is none of the question's cells", b.title, b.cell));
    }
    if !raw.compare.is_empty() && mine.is_empty() {
        return Err("[cells]: match no cell of any profile".to_owned());
    }
    let compares = raw.compare.into_iter().map(|c| {
        let title = c.title.clone();
        compare(c, &mine).map_err(|e| format!("[[compare]] {title:?}: {e}"))
    });
    let compares: Vec<Compare> = compares.collect::<Result<_, _>>()?;
    for d in &raw.decision {
        let Decision { property, by, more, less, same } = d;
        if [property, more, less, same].iter().any(|text| text.trim().is_empty()) {
            return Err(format!("[[decision]] {property:?}: expected property, more, less and same"));
        }
        match compares.iter().find(|c| c.title == *by) {
            Some(c) if c.kind == Kind::Rank => {
                return Err(format!("[[decision]] {property:?}: {by:?} is a ranking, which has no side a"));
            }
            Some(_) => {}
            None => return Err(format!("[[decision]] {property:?}: by: no [[compare]] is titled {by:?}")),
        }
    }
    let maps = raw.map.into_iter().map(|m| {
        let by = m.by.clone();
        map(m, &compares, &mine).map_err(|e| format!("[[map]] {by:?}: {e}"))
    });
    let maps: Vec<Map> = maps.collect::<Result<_, _>>()?;
    if (raw.chart == Chart::DecisionMap) == maps.is_empty() {
        return Err("expected [[map]] where the chart is a decision_map, and nowhere else".to_owned());
    }
    Ok(Question {
        compares,
        maps,
        decisions: raw.decision,
        besides: raw.beside,
        id: raw.id,
        title: raw.title,
        argument: raw.argument.trim().to_owned(),
        threads: raw.threads,
        analysis: raw.analysis.trim().to_owned(),
        chart: raw.chart,
        percent,
        cells: selector,
        awaiting: raw.awaiting,
    })
}

fn compare(raw: RawCompare, cells: &[&CellId]) -> Result<Compare, String> {
    let patterns = raw.a.into_iter().map(|(c, p)| match p {
        OneOrMany::One(one) => (c, vec![one]),
        OneOrMany::Many(many) => (c, many),
    });
    let a = Selector::new(&patterns.collect())?;
    let metric: Metric = raw.metric.parse()?;
    let kind = match (raw.rank, raw.b) {
        (true, None) => Kind::Rank,
        (true, Some(_)) => {
            return Err("rank: expected no b, contenders are compared with each other".to_owned());
        }
        (false, Some(b)) => Kind::Pair(b),
        (false, None) if metric.is_value() => Kind::Value,
        (false, None) => {
            return Err("expected b, or rank = true, or a metric that is a ratio of counts".to_owned());
        }
    };
    if (raw.a_is.is_empty(), raw.b_is.is_empty()) != (kind == Kind::Rank, !matches!(kind, Kind::Pair(_))) {
        return Err("a_is and b_is: expected names for the sides that there are".to_owned());
    }
    let sides: Vec<&&CellId> = cells.iter().filter(|c| a.matches(c)).collect();
    if sides.is_empty() {
        return Err("a: matches none of the question's cells".to_owned());
    }
    let is_headline = |cell: &CellId| raw.headline.iter().all(|(c, v)| cell.get(*c) == v);
    if !sides.iter().any(|c| is_headline(c)) {
        return Err("headline: is none of the cells that a matches".to_owned());
    }
    if let Kind::Pair(b) = &kind {
        let is_there = |cell: &CellId| {
            let backend = cell.get(Coordinate::Backend);
            if !super::LIMITS.contains(&backend) {
                return cells.contains(&cell);
            }
            cells.iter().any(|c| c.group() == cell.group())
        };
        if !sides.iter().any(|c| is_headline(c) && is_there(&c.with(b))) {
            return Err("b: the headline's other side is none of the question's cells".to_owned());
        }
    }
    let axis = raw.axis.map(|a| axis(a, cells)).transpose()?;
    let level = raw.level.unwrap_or(1.0);
    if !(level > 0.0 && level.is_finite()) {
        return Err(format!("level = {level}: expected a number above 0"));
    }
    Ok(Compare {
        title: raw.title,
        kind,
        a,
        a_is: raw.a_is,
        b_is: raw.b_is,
        metric,
        headline: raw.headline,
        axis,
        level,
    })
}

fn axis(raw: RawAxis, cells: &[&CellId]) -> Result<Axis, String> {
    match raw {
        RawAxis::Coordinate(of) => Ok(Axis { of, unit: Axis::unit(of)?.to_owned(), values: None }),
        RawAxis::Values(v) => {
            if let Some(unknown) = v.values.keys().find(|k| !cells.iter().any(|c| c.get(v.of) == *k)) {
                return Err(format!("axis: {unknown:?} is on no cell of the question"));
            }
            Ok(Axis { of: v.of, unit: v.unit, values: Some(v.values) })
        }
    }
}

fn map(raw: RawMap, compares: &[Compare], cells: &[&CellId]) -> Result<Map, String> {
    let Some(ranking) = compares.iter().find(|c| c.title == raw.by && c.kind == Kind::Rank) else {
        return Err("by: no [[compare]] with rank = true has this title".to_owned());
    };
    let (x, y) = (axis(raw.x, cells)?, axis(raw.y, cells)?);
    let is_on = |c: &&&CellId| x.at(c).is_some() && y.at(c).is_some();
    if !cells.iter().filter(|c| ranking.a.matches(c) && ranking.is_headline(c)).any(|c| is_on(&c)) {
        return Err("x, y: the ranking's headline is not on both axes".to_owned());
    }
    Ok(Map { by: raw.by, x, y })
}
