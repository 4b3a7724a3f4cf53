//! The questions that measurements answer: data under `bench/questions/`, read here; answered in [`answer`].
//!
//! A question is an argument that was held on a mailing list, the cells that decide it, and a rule fixed before
//! measuring: which two sides are compared where, from which effect on a difference counts, along which axis it may
//! flip. It never says what the answer is.
//!
//! ```toml
//! id = "sticky_bits"
//! title = "What does the read-modify-write of 6.16 cost?"
//! argument = "Who said what, when, and why it matters."
//! threads = ["where"]
//! analysis = "What the figure means, and what the model leaves out."
//! chart = "call_size"                 # see `Chart`
//! percent = 2.0                       # smaller effects are no difference
//!
//! [cells]                             # patterns by coordinate; `*` stands for anything, what is left out for all
//! workload = ["dense_4k"]
//!
//! [[compare]]                         # the first is the question's answer, the others explain it
//! title = "read-modify-write against a plain store"
//! a = { backend = "sticky_flags" }    # patterns
//! b = { backend = "map_order" }       # the same cell but for this; a limit may stand in for a backend
//! a_is = "keeping sticky bits"
//! b_is = "storing plainly"
//! metric = "whole"                    # or a stage, a count, count/count
//! headline = { size = "16MiB", request = "snapshot", call_pages = "512" }
//! axis = "size"                       # where it may flip; or { of, unit, values } for coordinates that are words
//! level = 1.0                         # the ratio at which it flips
//! ```
//!
//! `[[beside]]` (title, source, shape, stage, call_pages, cell, optional) pairs a row of `walkbench live` with a cell of the
//! model.
//! `[[decision]]` (property, by, more, less, same) says what a report recommends where side a of the comparison titled
//! `by` takes more, less or the same. `rank = true` instead of `b` compares all backends of `a` with each other.
//! `[[map]]` (by, x, y) draws the ranking titled `by` over two axes, which are written as `axis` is: who is the cheapest at
//! each place, and where that is not resolved.
//! `[awaiting]` lists backends, workloads, commands and cells that a question needs and that do not exist; a test fails
//! once one does, until the question uses it.

pub(crate) mod answer;
mod beside;
mod map;
mod metric;
pub(crate) mod order;
mod parse;
mod select;
mod sentence;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use workloads::definition::{self, Profile};

use crate::measure::matrix;
use crate::results::Results;
pub(crate) use answer::Answer;
pub(crate) use map::{Map, MapPlace};
pub(crate) use metric::{Metric, Stage};
pub(crate) use select::{CellId, Coordinate, Selector, registry_order};

/// What may stand in for a backend on side b.
pub(crate) const LIMITS: &[&str] = &["copy", "load", "decode", "fill"];

/// How a report draws the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Chart {
    /// Cost a page against call size, log-log.
    CallSize,
    /// Stacked prepare, walk, fault, retry, consume.
    Stages,
    /// Ratio against the axis, with the level at which it flips.
    BreakEven,
    /// Curves of percentiles.
    Percentiles,
    /// Throughput and waste against dose.
    Dose,
    /// The best design over two axes, hatched where unresolved.
    DecisionMap,
    /// Bars of distances to the limits.
    Limits,
    /// Design by workload.
    HeatMap,
}

/// What a question needs and nobody has made yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Awaiting {
    /// Ids of designs.
    pub(crate) backends: Vec<String>,
    /// Ids of definitions.
    pub(crate) workloads: Vec<String>,
    /// Sub-commands.
    pub(crate) commands: Vec<String>,
    /// Cells, by patterns of their coordinates.
    pub(crate) cells: Vec<BTreeMap<Coordinate, String>>,
}

impl Awaiting {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Awaiting::default()
    }
    /// In words, for an answer.
    pub(crate) fn words(&self) -> Vec<String> {
        let named = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let cells = self.cells.iter().map(|patterns| {
            let each = patterns.iter().map(|(c, pattern)| format!("{} {pattern}", c.name()));
            format!("cells with {}", each.collect::<Vec<_>>().join(", "))
        });
        let others = [
            named("the designs", &self.backends),
            named("the workloads", &self.workloads),
            named("the rows of walkbench", &self.commands),
        ];
        others.into_iter().flatten().chain(cells).collect()
    }
}

/// Two sides or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Against the cell that differs in these coordinates.
    Pair(BTreeMap<Coordinate, String>),
    /// All backends against each other.
    Rank,
    /// A ratio of counts, for itself.
    Value,
}

/// Where a comparison may flip.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The coordinate.
    pub(crate) of: Coordinate,
    /// What its numbers are.
    pub(crate) unit: String,
    /// The numbers of coordinates that are words; those without one are not on the axis.
    values: Option<BTreeMap<String, f64>>,
}

impl Axis {
    fn unit(of: Coordinate) -> Result<&'static str, String> {
        match of {
            Coordinate::CallPages => Ok("pages a call"),
            Coordinate::Size => Ok("bytes"),
            Coordinate::Walkers => Ok("walkers"),
            Coordinate::Churn => Ok("events a second"),
            Coordinate::Workload | Coordinate::Request | Coordinate::Backend => {
                Err(format!("axis {}: expected a number for each name: {{ of, unit, values }}", of.name()))
            }
        }
    }
    /// Where a cell lies on it.
    pub(crate) fn at(&self, cell: &CellId) -> Option<f64> {
        let word = cell.get(self.of);
        match (&self.values, self.of) {
            (Some(values), _) => values.get(word).copied(),
            (None, Coordinate::Size) => definition::parse_size(word).map(|bytes| bytes as f64),
            (None, Coordinate::Churn) => events_per_sec(word),
            (None, _) => word.parse().ok(),
        }
    }
    /// A place on it, for people.
    pub(crate) fn name(&self, x: f64) -> String {
        if self.of == Coordinate::Size && self.values.is_none() {
            definition::size_name(x as u64)
        } else {
            match self.unit.strip_prefix("pages") {
                Some(rest) if x == 1.0 => format!("1 page{rest}"),
                _ => format!("{x} {}", self.unit),
            }
        }
    }
}

/// The dose of open churn; none has 0, closed churn and as-fast-as-possible no number.
fn events_per_sec(churn: &str) -> Option<f64> {
    use workloads::churn::{ChurnSpec, Dose, NO_CHURN};
    if churn == NO_CHURN {
        return Some(0.0);
    }
    match churn.parse::<ChurnSpec>().ok()?.dose {
        Dose::PerSec(n) => Some(n as f64),
        Dose::Max | Dose::EveryTables(_) => None,
    }
}

/// One comparison of a question.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    /// What it is about.
    pub(crate) title: String,
    /// Against what.
    pub(crate) kind: Kind,
    /// Which cells are side a.
    pub(crate) a: Selector,
    /// Its name in a sentence.
    pub(crate) a_is: String,
    /// The other's.
    pub(crate) b_is: String,
    /// What is compared.
    pub(crate) metric: Metric,
    /// The cell of side a that gives the answer; it may leave coordinates open.
    pub(crate) headline: BTreeMap<Coordinate, String>,
    /// Where it may flip.
    pub(crate) axis: Option<Axis>,
    /// The ratio at which it flips.
    pub(crate) level: f64,
}

impl Compare {
    /// Whether `cell` is where the answer comes from.
    pub(crate) fn is_headline(&self, cell: &CellId) -> bool {
        self.headline.iter().all(|(c, value)| cell.get(*c) == value)
    }
}

/// What a report recommends, by what a comparison finds: fixed before measuring.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// What an API may have or not.
    pub(crate) property: String,
    /// The title of the comparison that decides it.
    pub(crate) by: String,
    /// What to do where side a takes more.
    pub(crate) more: String,
    /// What to do where it takes less.
    pub(crate) less: String,
    /// What to do where there is no difference that counts.
    pub(crate) same: String,
}

/// A row of `walkbench live` and the cell of the model that does the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beside {
    /// What both do.
    pub(crate) title: String,
    /// Who asks the kernel.
    pub(crate) source: String,
    /// What the memory looks like.
    pub(crate) shape: String,
    /// snapshot or fault.
    pub(crate) stage: String,
    /// Pages of a call, where who asks may choose.
    #[serde(default)]
    pub(crate) call_pages: Option<u32>,
    /// The cell, with every coordinate.
    pub(crate) cell: String,
    /// Whether nothing is missing where it was not measured: few kernels have who asks.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// As on the command line.
    pub(crate) id: String,
    /// In a line.
    pub(crate) title: String,
    /// What was argued.
    pub(crate) argument: String,
    /// Where.
    pub(crate) threads: Vec<String>,
    /// What the figure means.
    pub(crate) analysis: String,
    /// How it is drawn.
    pub(crate) chart: Chart,
    /// Smaller effects count as none, in per cent.
    pub(crate) percent: f64,
    /// Which cells it looks at.
    pub(crate) cells: Selector,
    /// What is missing.
    pub(crate) awaiting: Awaiting,
    /// The first is the answer.
    pub(crate) compares: Vec<Compare>,
    /// Rankings over two axes.
    pub(crate) maps: Vec<Map>,
    /// What follows for an API.
    pub(crate) decisions: Vec<Decision>,
    /// What of the model stands beside what of this machine's kernel.
    pub(crate) besides: Vec<Beside>,
}

impl Question {
    /// Whether a cell of this id is needed to answer it.
    pub(crate) fn wants(&self, cell: &CellId) -> bool {
        let is_of = |c: &Compare| match &c.kind {
            Kind::Pair(b) => {
                let is_b = b.iter().all(|(at, value)| cell.get(*at) == value);
                c.a.matches(cell) || (is_b && c.a.matches_but_for(cell, b))
            }
            Kind::Rank | Kind::Value => c.a.matches(cell),
        };
        let is_beside = || self.besides.iter().any(|b| b.cell == cell.to_string());
        self.cells.matches(cell) && (self.compares.iter().any(is_of) || is_beside())
    }
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$((concat!($name, ".toml"), include_str!(concat!("../questions/", $name, ".toml")))),*]
    };
}

/// The registry: one line a question, in the order of the report.
const EMBEDDED: &[(&str, &str)] = embedded! {
    "prefill",
    "mask",
    "driver_format",
    "struct_page",
    "snapshot_or_fault",
    "amplification",
    "in_place_or_split",
    "sizes",
    "stop_at_vma",
    "sticky_bits",
    "inside_or_outside",
    "under_churn",
    "call_size",
    "limit",
    "kernel",
};

/// The ids of the cells of all profiles.
pub(crate) fn all_cells() -> Vec<CellId> {
    let mut ids: Vec<CellId> = Vec::new();
    for profile in [Profile::Smoke, Profile::Quick, Profile::Full] {
        for group in matrix::groups(profile, &|_| true) {
            ids.extend(group.backends.iter().filter_map(|b| CellId::parse(&group.cell_id(b.id))));
        }
    }
    ids.sort();
    ids.dedup();
    ids
}

/// The questions that come with the program.
pub(crate) fn questions() -> &'static [Question] {
    static ALL: OnceLock<Vec<Question>> = OnceLock::new();
    ALL.get_or_init(|| {
        let cells = all_cells();
        EMBEDDED
            .iter()
            // A test parses each, so that this never happens in a release.
            .map(|(name, text)| {
                parse::parse(text, name, &cells).unwrap_or_else(|e| panic!("embedded question {e}"))
            })
            .collect()
    })
}

/// Answers every question from results, in the order of the report.
pub(crate) fn answers(results: &Results) -> Vec<Answer> {
    questions().iter().map(|q| answer::answer(q, results)).collect()
}

#[cfg(test)]
mod tests;
