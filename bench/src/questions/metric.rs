//! What is compared.

use std::fmt;
use std::str::FromStr;

use walker::counters::Count;

/// A figure of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Whole operations, ns a page.
    Whole,
    /// One stage of them, ns a page.
    Stage(Stage),
    /// 99 of 100 single operations take no longer, ns.
    P99,
    /// What invalidated meanwhile: events a second.
    Events,
    /// Pages walked in vain, of each that was wanted.
    Vain,
    /// An exact count of one sweep.
    Count(Count),
    /// One exact count in units of another.
    CountRatio(Count, Count),
}

/// A stage of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The caller writes its wishes.
    Prepare,
    /// The API call without its faults.
    Walk,
    /// Page faults.
    Fault,
    /// Work thrown away.
    Retry,
    /// The caller programs its device.
    Consume,
}

impl Stage {
    const ALL: [Stage; 5] = [Stage::Prepare, Stage::Walk, Stage::Fault, Stage::Retry, Stage::Consume];
    /// As in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Stage::Prepare => "prepare",
            Stage::Walk => "walk",
            Stage::Fault => "fault",
            Stage::Retry => "retry",
            Stage::Consume => "consume",
        }
    }
}

impl Metric {
    /// Whether it is a figure by itself, that needs no other side.
    pub(crate) const fn is_value(self) -> bool {
        matches!(self, Metric::CountRatio(..))
    }
    /// What its numbers are.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Metric::Whole | Metric::Stage(_) => "ns a page",
            Metric::P99 => "ns",
            Metric::Events => "events a second",
            Metric::Vain => "pages walked in vain for each",
            Metric::Count(c) => c.name(),
            Metric::CountRatio(..) => "",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Whole => f.write_str("whole"),
            Metric::Stage(s) => f.write_str(s.name()),
            Metric::P99 => f.write_str("p99"),
            Metric::Events => f.write_str("events"),
            Metric::Vain => f.write_str("vain"),
            Metric::Count(c) => f.write_str(c.name()),
            Metric::CountRatio(a, b) => write!(f, "{}/{}", a.name(), b.name()),
        }
    }
}

impl FromStr for Metric {
    type Err = String;
    fn from_str(s: &str) -> Result<Metric, String> {
        match s {
            "whole" => return Ok(Metric::Whole),
            "p99" => return Ok(Metric::P99),
            "events" => return Ok(Metric::Events),
            "vain" => return Ok(Metric::Vain),
            _ => {}
        }
        if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == s) {
            return Ok(Metric::Stage(stage));
        }
        let count = |name: &str| {
            let found = Count::ALL.iter().copied().find(|c| c.name() == name);
            found.ok_or_else(|| {
                format!("metric {s:?}: expected whole, a stage, p99, events, vain, a count or count/count")
            })
        };
        match s.split_once('/') {
            Some((a, b)) => Ok(Metric::CountRatio(count(a)?, count(b)?)),
            None => Ok(Metric::Count(count(s)?)),
        }
    }
}
