//! A slowdown that is known, by an option of the program that serves: what the gate is tried with.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::gate::rounds::{Metric, Role};
use crate::gate::verdict::{Decision, State};
use crate::measure::matrix::Group;
use crate::measure::member::Plant;

/// What is planted: `3`, `-3`, `3:churn`, `40:late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planted {
    /// Per cent; if negative, the old side has it, so that the new one is faster.
    percent: i64,
    /// Where.
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// That much more work in every cell.
    #[default]
    Everywhere,
    /// That much more work in the cells under churn.
    Churn,
    /// Some operations take that much longer.
    Late,
}

impl FromStr for Planted {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Planted> {
        let (percent, kind) = match text.split_once(':') {
            None => (text, Kind::Everywhere),
            Some((percent, "churn")) => (percent, Kind::Churn),
            Some((percent, "late")) => (percent, Kind::Late),
            Some(_) => bail!("expected PERCENT, PERCENT:churn or PERCENT:late"),
        };
        match percent.parse() {
            Ok(percent @ -100..=1000) => Ok(Planted { percent, kind }),
            _ => bail!("expected whole per cents, -100 to 1000"),
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Everywhere => "",
            Kind::Churn => " churn",
            Kind::Late => " late",
        };
        write!(f, "{:+} %{kind}", self.percent)
    }
}

impl Planted {
    /// Whether nothing is.
    pub(super) fn is_none(self) -> bool {
        self.percent == 0
    }
    /// Whether the new side gets slower.
    pub(super) fn is_slower(self) -> bool {
        self.percent > 0
    }
    /// What the old and the new side are started with.
    pub(super) fn arguments(self) -> [Vec<String>; 2] {
        let option = if self.kind == Kind::Late { "--plant-late" } else { "--plant" };
        let mut argv = vec![option.to_owned(), self.percent.abs().to_string()];
        argv.extend((self.kind == Kind::Churn).then(|| "--plant-under-churn".to_owned()));
        match self.percent {
            0 => [Vec::new(), Vec::new()],
            ..0 => [argv, Vec::new()],
            1.. => [Vec::new(), argv],
        }
    }
    /// In a sentence of a report.
    pub(super) fn says(self) -> String {
        let side = if self.is_slower() { "new" } else { "old" };
        let what = match self.kind {
            Kind::Everywhere => "more work".to_owned(),
            Kind::Churn => "more work under churn".to_owned(),
            Kind::Late => format!("longer in every {}th operation", Plant::LATE_EVERY),
        };
        format!("PLANTED: {} % {what} in the {side} side, to try the gate", self.percent.abs())
    }
    /// Whether a decision calls a cell slower or faster that is not.
    pub(super) fn is_contradicted(self, decision: &Decision) -> bool {
        decision.decided.iter().filter(|d| d.role == Role::Cell).any(|d| {
            let under_churn = || {
                let group = d.id.rsplit_once('/').and_then(|(group, _)| Group::parse(group));
                group.is_some_and(|g| g.churn.is_some())
            };
            let has_it = match self.kind {
                Kind::Everywhere => true,
                Kind::Churn => under_churn(),
                // In the mean there is a 64th of it.
                Kind::Late => d.metric == Metric::P99,
            };
            let is_slower = has_it && self.percent > 0;
            let is_faster = has_it && self.percent < 0;
            match d.state {
                State::Slower => !is_slower,
                State::Faster => !is_faster,
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_has_a_name_and_reaches_its_side() {
        for (text, shown, old, new) in [
            ("0", "+0 %", "", ""),
            ("3", "+3 %", "", "--plant 3"),
            ("-3", "-3 %", "--plant 3", ""),
            ("2:churn", "+2 % churn", "", "--plant 2 --plant-under-churn"),
            ("40:late", "+40 % late", "", "--plant-late 40"),
        ] {
            let planted: Planted = text.parse().unwrap();
            assert_eq!(planted.to_string(), shown);
            assert_eq!(planted.arguments().map(|a| a.join(" ")), [old, new], "{text}");
        }
        for wrong in ["", "x", "3:", "3:tails", "3.5", "100000", "late"] {
            let error = wrong.parse::<Planted>().unwrap_err().to_string();
            assert!(error.starts_with("expected "), "{wrong}: {error}");
        }
    }
}
