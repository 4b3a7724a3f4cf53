//! `run.json`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::measure::machine::{Build, Machine};

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Started and not ended: still running, or killed.
    Running,
    /// All of it was measured.
    Complete,
    /// Stopped by Ctrl-C.
    Interrupted,
}

/// A cell that no member could be made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The cell.
    pub(crate) id: String,
    /// Why.
    pub(crate) reason: String,
}

/// A group that a launch of the process did not survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The group.
    pub(crate) group: String,
    /// Its backends.
    pub(crate) backends: Vec<String>,
    /// How the process ended.
    pub(crate) reason: String,
}

/// Known differences, to see whether they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    /// Every backend twice: whatever differs is noise
    Aa,
    /// Every backend again with 3 % more calls
    Planted,
}

/// One of several parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// Which, from 1.
    pub(crate) index: u32,
    /// Of how many.
    pub(crate) of: u32,
}

impl Shard {
    /// Whether the `i`th group, from 0, belongs to it.
    pub(crate) const fn holds(self, i: usize) -> bool {
        i as u64 % self.of as u64 == self.index as u64 - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;
    fn from_str(s: &str) -> Result<Shard, String> {
        let parsed = s.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Shard { index, of }),
            _ => Err("expected I/N with I from 1 to N, like 2/4".to_owned()),
        }
    }
}

/// What a run was asked for; what `--resume` needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// `--filter`.
    pub(crate) filter: Option<String>,
    /// `--question`.
    pub(crate) questions: Vec<String>,
    /// `--shard`.
    pub(crate) shard: Option<Shard>,
    /// `--control`.
    pub(crate) control: Option<Control>,
    /// Launches of the process aimed at.
    pub(crate) launches: u32,
    /// What all launches together aim at, in milliseconds; none for as long as it takes.
    pub(crate) budget_ms: Option<u64>,
    /// `--layouts`: every launch was another link of the program, its functions in an order of its own; with this seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layouts: Option<u32>,
    /// Whether the model's memory asks the host for huge pages, the same for every member.
    pub(crate) host_huge_pages: bool,
}

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// [`super::SCHEMA`].
    pub(crate) schema: u32,
    /// How far it got.
    pub(crate) state: State,
    /// Seconds since 1970, UTC.
    pub(crate) started_unix_s: u64,
    /// The same, for people.
    pub(crate) started: String,
    /// Arguments after the program's name.
    pub(crate) command: Vec<String>,
    /// smoke, quick or full.
    pub(crate) profile: String,
    /// Decides tables, wishes and the order of turns.
    pub(crate) seed: u64,
    /// What one reading of the clock costs, in picoseconds.
    pub(crate) clock_cost_ps: u64,
    /// What else was asked for.
    #[serde(default)]
    pub(crate) settings: Settings,
    /// Where.
    pub(crate) machine: Machine,
    /// With what.
    pub(crate) build: Build,
    /// What was planned, in order: ids without the backend.
    pub(crate) groups: Vec<String>,
    /// What cannot be measured, and why.
    pub(crate) skips: Vec<Skip>,
    /// Groups that ended a process.
    #[serde(default)]
    pub(crate) failures: Vec<Failure>,
    /// The results, once there are all.
    pub(crate) cells: Vec<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_partition_the_groups() {
        let shards: Vec<Shard> = (1..=3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        for i in 0..20 {
            assert_eq!(shards.iter().filter(|s| s.holds(i)).count(), 1);
        }
        for wrong in ["", "1", "0/3", "4/3", "a/b", "1/0", "1/2/3", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
