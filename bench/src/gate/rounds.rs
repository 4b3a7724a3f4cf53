//! What the paired tier measured, round by round: the format of `--format json` and of the recordings in the tests.
//!
//! A **comparison** is one cell, old against new; some more are controls. A **launch** is a fresh pair of processes. In
//! it each comparison has rounds, a block of each side next to each other, and both sides are set up anew every few rounds;
//! a round in which a side was disturbed is void for both. Times are whole blocks of equal work in nanoseconds.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::stats::Sorted;

/// Of [`Recording`].
pub(crate) const SCHEMA: u32 = 1;

/// What decides, fixed before anything is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// Launches in which every comparison takes part.
    pub(crate) screen_launches: u32,
    /// Rounds of each.
    pub(crate) screen_rounds: u32,
    /// A cell is looked at again if it seems slower, or faster, with a one-sided p below this.
    pub(crate) screen_p: f64,
    /// Fresh launches of those that are looked at again, and of the controls; noisy cells may have more.
    pub(crate) confirm_launches: u32,
    /// Rounds of each.
    pub(crate) confirm_rounds: u32,
    /// A claim is made at an adjusted p of at most this.
    pub(crate) alpha: f64,
    /// What is tested against: "slower by more than this".
    pub(crate) margin_percent: f64,
    /// Smaller estimates are no regression, however sure.
    pub(crate) least_percent: f64,
    /// "Not slower" is claimed of a cell whose upper bound is below this.
    pub(crate) equal_percent: f64,
    /// The three above are so many times as large for a p99, of which a block says less than of a mean.
    #[serde(default = "default_tail_factor")]
    pub(crate) tail_factor: f64,
    /// More void rounds than this, in per cent, and a comparison is too noisy to be judged.
    pub(crate) void_percent: f64,
}

fn default_tail_factor() -> f64 {
    5.0
}

/// What is no slowdown, what is one, and what is surely none, in per cent; see [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) margin: f64,
    pub(crate) least: f64,
    pub(crate) equal: f64,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            screen_launches: 8,
            screen_rounds: 16,
            screen_p: 0.10,
            confirm_launches: 14,
            confirm_rounds: 32,
            alpha: 0.01,
            margin_percent: 0.5,
            least_percent: 1.0,
            equal_percent: 2.0,
            tail_factor: default_tail_factor(),
            void_percent: 30.0,
        }
    }
}

impl Rule {
    /// What counts where this is compared.
    pub(crate) fn bounds(&self, metric: Metric) -> Bounds {
        let times = match metric {
            Metric::Block => 1.0,
            Metric::P99 => self.tail_factor,
        };
        let Rule { margin_percent, least_percent, equal_percent, .. } = self;
        Bounds { margin: margin_percent * times, least: least_percent * times, equal: equal_percent * times }
    }
    /// The smallest p that the confirmation can give: every flip but one is against it.
    pub(crate) fn smallest_p(&self) -> f64 {
        0.5f64.powi(self.confirm_launches.min(1000) as i32)
    }
    /// Refuses rules that can never find anything.
    ///
    /// # Errors
    /// Which number is too small.
    pub(crate) fn check(&self) -> Result<()> {
        if self.smallest_p() > self.alpha {
            bail!(
                "{} launches can give no p below {:.4}, and {} is asked for: such a gate could never fail; expected {} launches or more",
                self.confirm_launches,
                self.smallest_p(),
                self.alpha,
                (1.0 / self.alpha).log2().ceil()
            );
        }
        if self.screen_launches < 3 || self.screen_rounds < LEAST_ROUNDS || self.confirm_rounds < LEAST_ROUNDS
        {
            bail!("expected 3 launches and {LEAST_ROUNDS} rounds or more");
        }
        Ok(())
    }
}

/// Launches at most that a noisy cell is looked at again in.
pub(crate) const MOST_LAUNCHES: u32 = 42;
/// Rounds that a launch's median needs.
pub(crate) const LEAST_ROUNDS: u32 = 3;

/// What a comparison is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Old against new.
    Cell,
    /// New against a byte copy of itself: must not be flagged.
    Null,
    /// New against itself with 3 % more work: must be found.
    Planted,
}

/// What of a block is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// All of its time.
    #[default]
    Block,
    /// What 99 of 100 of its operations do not exceed.
    P99,
}

impl Metric {
    /// A cell, and what of it unless it is its time.
    pub(crate) fn label(self, id: &str) -> String {
        match self {
            Metric::Block => id.to_owned(),
            Metric::P99 => format!("{id} (p99)"),
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    /// The cell.
    pub(crate) id: String,
    /// What for.
    pub(crate) role: Role,
    /// Sweeps over the cell's range in a block, the same for both sides.
    pub(crate) sweeps: u32,
    /// What of it.
    #[serde(default)]
    pub(crate) metric: Metric,
}

/// Why a launch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// All comparisons.
    Screen,
    /// Those that are looked at again, and the controls.
    Confirm,
}

/// The rounds of one comparison in one launch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Index of the comparison.
    pub(crate) comparison: usize,
    /// The old side's blocks: what of them is compared, in nanoseconds.
    pub(crate) old_ns: Vec<u64>,
    /// The new side's blocks.
    pub(crate) new_ns: Vec<u64>,
    /// Rounds that are void, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) void: Vec<u32>,
    /// Rounds before which both sides were set up anew, in the other order than before; the first one left out, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) draws: Vec<u32>,
}

impl Series {
    fn rounds(&self) -> usize {
        self.old_ns.len().min(self.new_ns.len())
    }
    /// Of ln(new / old), the median over the rounds that count, or where sides were set up anew in between, the mean of two
    /// medians: over the set-ups that one side began, and over those that the other did. None where half of the rounds or
    /// more are void, or fewer than three are left.
    ///
    /// Which side was set up last is quicker by several per cent until both are set up again, where a cell writes much: half
    /// of the rounds are about one value and half about another, and a median of them all would be either.
    pub(crate) fn value(&self) -> Option<f64> {
        let mut logs = [Vec::new(), Vec::new()];
        let rounds = self.rounds() as u32;
        let starts = std::iter::once(&0).chain(&self.draws);
        for (nth, (&from, &to)) in starts.zip(self.draws.iter().chain([&rounds])).enumerate() {
            let counted = (from..to.min(rounds)).filter(|i| !self.void.contains(i));
            let log = |i: u32| (self.new_ns[i as usize] as f64 / self.old_ns[i as usize] as f64).ln();
            logs[nth % 2].extend(counted.map(log));
        }
        let counted = logs[0].len() + logs[1].len();
        let enough = counted >= LEAST_ROUNDS as usize && 2 * counted > self.rounds();
        let medians = logs.into_iter().filter_map(|l| Some(Sorted::new(l)?.median())).collect();
        enough.then(|| Sorted::new(medians)).flatten().map(|s| s.mean())
    }
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Why.
    pub(crate) stage: Stage,
    /// In the order in which they were measured.
    pub(crate) series: Vec<Series>,
}

/// Everything that a verdict is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Where it comes from, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// What decides.
    pub(crate) rule: Rule,
    /// Who is compared.
    pub(crate) comparisons: Vec<Compared>,
    /// What was measured.
    pub(crate) launches: Vec<Launch>,
}

impl Recording {
    /// Reads one look, as [`Looks::parse`] does.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<Recording> {
        Recording::of(serde_json::from_str(text).context("expected JSON")?)
    }
    fn of(mut value: serde_json::Value) -> Result<Recording> {
        if let Some(inside) = value.get_mut("recording") {
            value = inside.take();
        }
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(n) if n > u64::from(SCHEMA) => {
                bail!("schema {n}; this program reads up to {SCHEMA}: use a newer walkbench")
            }
            Some(_) => {}
            None => bail!("expected a recording of `walkbench gate --format json`, with a schema number"),
        }
        let recording: Recording = serde_json::from_value(value).context("expected a recording")?;
        recording.check()?;
        Ok(recording)
    }
    /// Refuses what no gate recorded.
    ///
    /// # Errors
    /// What is not as expected.
    pub(crate) fn check(&self) -> Result<()> {
        self.rule.check()?;
        for launch in &self.launches {
            for s in &launch.series {
                if s.comparison >= self.comparisons.len() || s.old_ns.len() != s.new_ns.len() {
                    bail!(
                        "a series of comparison {} has {} old and {} new blocks; expected as many of both, and one of {} comparisons",
                        s.comparison,
                        s.old_ns.len(),
                        s.new_ns.len(),
                        self.comparisons.len()
                    );
                }
            }
        }
        Ok(())
    }
    /// The series of a comparison in the launches of a stage.
    pub(crate) fn series(&self, comparison: usize, stage: Stage) -> impl Iterator<Item = &Series> {
        let launches = self.launches.iter().filter(move |l| l.stage == stage);
        launches.filter_map(move |l| l.series.iter().find(|s| s.comparison == comparison))
    }
    /// Void rounds among all rounds of a comparison, in per cent.
    pub(crate) fn void_percent(&self, comparison: usize) -> f64 {
        let all = self.launches.iter().flat_map(|l| l.series.iter().filter(|s| s.comparison == comparison));
        let (void, rounds) = all.fold((0, 0), |(v, r), s| (v + s.void.len(), r + s.rounds()));
        100.0 * void as f64 / rounds.max(1) as f64
    }
    /// As if the baseline were the change and the change the baseline. Controls stay what they are.
    #[cfg(test)]
    pub(crate) fn swapped(mut self) -> Recording {
        let is_cell: Vec<bool> = self.comparisons.iter().map(|c| c.role == Role::Cell).collect();
        for s in self.launches.iter_mut().flat_map(|l| &mut l.series).filter(|s| is_cell[s.comparison]) {
            std::mem::swap(&mut s.old_ns, &mut s.new_ns);
        }
        self
    }
}

/// How a second look has functions ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orders {
    /// As the first look had them: what was unsure gets as much time again.
    Same,
    /// Another link of either side in every launch.
    Others,
}

impl Orders {
    /// What a second look's recording is called in JSON.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Orders::Same => "again",
            Orders::Others => "relinked",
        }
    }
    /// How it looked, in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Orders::Same => "a second look",
            Orders::Others => "a second look with functions in other orders in every launch",
        }
    }
}

/// All that one gate recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Looks {
    /// All cells.
    pub(crate) first: Recording,
    /// What this did not show to be as fast once more, and how.
    pub(crate) second: Option<(Orders, Recording)>,
}

impl Looks {
    /// Reads a recording, also out of the whole JSON that `walkbench gate` printed, with the second look where there was one.
    ///
    /// # Errors
    /// What is not as expected.
    pub(crate) fn parse(text: &str) -> Result<Looks> {
        let mut value: serde_json::Value = serde_json::from_str(text).context("expected JSON")?;
        let mut seconds = [Orders::Same, Orders::Others].into_iter().filter_map(|orders| {
            let second = value.get_mut(orders.key())?.take();
            (!second.is_null()).then_some((orders, second))
        });
        let second = seconds.next();
        drop(seconds);
        let first = Recording::of(value)?;
        let second = second.map(|(orders, second)| -> Result<_> {
            Ok((orders, Recording::of(second).context(orders.key())?))
        });
        Ok(Looks { first, second: second.transpose()? })
    }
    /// The recording of a second look in such orders.
    pub(crate) fn second(&self, orders: Orders) -> Option<&Recording> {
        self.second.as_ref().filter(|(how, _)| *how == orders).map(|(_, recording)| recording)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_launch_is_the_mean_of_the_medians_of_both_orders_of_set_ups() {
        let percent = |p: f64| (1e6 * (1.0 + p / 100.0)) as u64;
        let of = |new: &[f64], void: &[u32], draws: &[u32]| Series {
            old_ns: vec![1_000_000; new.len()],
            new_ns: new.iter().map(|p| percent(*p)).collect(),
            void: void.to_vec(),
            draws: draws.to_vec(),
            ..Series::default()
        };
        let value = |s: Series| s.value().map(|v| (1e3 * 100.0 * v.exp_m1()).round() / 1e3);
        assert_eq!(value(of(&[1.0, 2.0, 9.0], &[], &[])), Some(2.0));
        // Of two modes, one for each set-up, it is the middle; a median of all rounds would be one of them.
        let modes = [8.0, 9.0, 8.0, -8.0, -7.0, -7.0];
        let both = ((1.08f64 * 0.93).sqrt() - 1.0) * 100.0;
        assert_eq!(value(of(&modes, &[], &[3])), Some((1e3 * both).round() / 1e3));
        // All set-ups of an order have one median: a bad one among them does not move it.
        assert_eq!(value(of(&[1.0, 1.0, 3.0, 3.0, 1.0, 50.0, 3.0, 3.0], &[], &[2, 4, 6])), Some(1.995));
        // A set-up without a round that counts says nothing, and neither does one that has no rounds.
        assert_eq!(value(of(&[1.0, 1.0, 1.0, 1.0, 50.0], &[4], &[4])), Some(1.0));
        assert_eq!(value(of(&[1.0, 1.0, 1.0], &[], &[3, 7])), Some(1.0));
        assert_eq!(value(of(&[1.0, 1.0, 1.0, 1.0], &[0, 1], &[2])), None, "half of them are void");
        assert_eq!(value(of(&[1.0, 1.0], &[], &[1])), None, "fewer than three");
    }
}
