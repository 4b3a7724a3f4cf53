//! How many launches and rounds fit into a budget.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Bench, Cell};
use crate::gate::rounds::{LEAST_ROUNDS, MOST_LAUNCHES, Recording, Role, Rule};
use crate::gate::verdict;

/// The share of the cells that is looked at again, for planning: a tenth seems slower or faster by chance.
const AGAIN: f64 = 0.2;
/// As many are planned for at least, where there are so many: a change has not been made for nothing.
const AGAIN_AT_LEAST: f64 = 4.0;
/// How rules get smaller where there is little time: launches to screen and to confirm.
const SMALLER: [(u32, u32); 3] = [(8, 14), (6, 10), (5, 8)];
/// Rounds a launch at least.
const FEWEST_ROUNDS: u32 = 4;
const _: () = assert!(FEWEST_ROUNDS >= LEAST_ROUNDS);

/// Links that are enough for any budget: as many as the largest rule has launches.
pub(in crate::cmd::gate) const LINKS: u32 = SMALLER[0].0 + SMALLER[0].1;

/// No verdict fits into the budget: nothing was measured.
#[derive(Debug)]
pub(in crate::cmd::gate) struct TooSmall {
    pub(in crate::cmd::gate) budget_s: u64,
    pub(in crate::cmd::gate) cells: usize,
    /// What would have been enough just now.
    pub(in crate::cmd::gate) expected_s: u64,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooSmall { budget_s, cells, expected_s } = self;
        write!(
            f,
            "--budget {budget_s}: too small for any verdict on {cells} cells; expected --budget {expected_s} or more, or \
             fewer cells (--filter)"
        )
    }
}

impl std::error::Error for TooSmall {}

/// Refuses fewer layouts than the smallest rule has launches: two launches of one layout share its luck, and a test that
/// takes them for independent would believe in it.
///
/// # Errors
/// How many are expected.
pub(in crate::cmd::gate) fn enough_layouts(layouts: Option<u32>) -> Result<()> {
    let [.., (screen, confirm)] = SMALLER;
    if layouts.is_some_and(|n| n < screen + confirm) {
        bail!(
            "--layouts {}: every launch takes a layout that no other launch had; expected {} or more, {} for all launches",
            layouts.unwrap_or(0),
            screen + confirm,
            LINKS
        );
    }
    Ok(())
}

impl Bench<'_> {
    /// Refuses as soon as the first `done` of so many cells need more than there is: what all of them give need not be
    /// learned for that.
    pub(super) fn can_be_enough(
        &self,
        cells: &[Cell],
        (done, all): (usize, usize),
        began: Instant,
    ) -> Result<()> {
        let [.., smallest] = SMALLER;
        let needs = began.elapsed() + self.takes(cells, &smaller(smallest, 0.0));
        if needs > self.plan.budget {
            bail!(TooSmall {
                budget_s: self.plan.budget.as_secs(),
                cells: self.plan.cells.len(),
                expected_s: (needs.as_secs_f64() * all as f64 / done.max(1) as f64).ceil() as u64,
            });
        }
        Ok(())
    }

    /// The largest rule that fits into `left`.
    pub(super) fn rule(&self, cells: &[Cell], left: Duration, elapsed: Duration) -> Result<Rule> {
        let mut needs = Duration::ZERO;
        let layouts = self.plan.layouts.len() as u32;
        for (screen_launches, confirm_launches) in SMALLER {
            if layouts > 0 && screen_launches + confirm_launches > layouts {
                continue;
            }
            // From all rounds down to the fewest.
            for step in (0..=30).rev() {
                let rule = smaller((screen_launches, confirm_launches), f64::from(step) / 30.0);
                needs = self.takes(cells, &rule);
                if needs <= left {
                    rule.check()?;
                    return Ok(rule);
                }
            }
        }
        bail!(TooSmall {
            budget_s: self.plan.budget.as_secs(),
            cells: self.plan.cells.len(),
            expected_s: (needs + elapsed).as_secs() + 2,
        })
    }

    /// What a rule takes on these cells.
    fn takes(&self, cells: &[Cell], rule: &Rule) -> Duration {
        let of = |role_is_cell: bool| {
            cells.iter().filter(move |c| (c.compared.role == Role::Cell) == role_is_cell)
        };
        let launch = |cells: &mut dyn Iterator<Item = &Cell>, rounds: u32| -> Duration {
            cells.map(|c| c.takes(rounds)).sum()
        };
        let screen = launch(&mut of(true), rule.screen_rounds) + self.launching;
        let again = launch(&mut of(true), rule.confirm_rounds).mul_f64(again(of(true).count()));
        let controls = launch(&mut of(false), rule.confirm_rounds);
        screen * rule.screen_launches + (again + controls + self.launching) * rule.confirm_launches
    }

    /// What of `who` fits into `left`: the launches that noisy cells want, as long as half the rounds of a screening launch are
    /// left to all. Launches come first, since it is from launch to launch that these cells scatter, by the memory they get.
    pub(super) fn plan_again(
        &self,
        recording: &Recording,
        cells: &[Cell],
        who: &[usize],
        left: Duration,
    ) -> Again {
        let rule = &recording.rule;
        let base = rule.confirm_launches;
        let is_cell = |c: &usize| cells[*c].compared.role == Role::Cell;
        let of_cell = |c: usize| verdict::launches_wanted(recording, c).max(base);
        // What a noisy cell gets, the controls get: a run that looked hard and found no 3 % would have to be thrown away.
        let most_wanted = who.iter().copied().filter(is_cell).map(of_cell).max().unwrap_or(base);
        let wanted: Vec<(usize, u32)> =
            who.iter().map(|c| (*c, if is_cell(c) { of_cell(*c) } else { most_wanted })).collect();
        let of_most = |most: u32| Again {
            launches: wanted.iter().map(|(c, n)| (*c, *n.min(&most))).collect(),
            rounds: 0,
        };
        let fits =
            |plan: &Again| plan.fits(cells, left.saturating_sub(self.launching * plan.most_launches()));
        // Every launch takes a layout that no other had.
        let layouts = self.plan.layouts.len() as u32;
        let most =
            if layouts > 0 { MOST_LAUNCHES.min(layouts - rule.screen_launches) } else { MOST_LAUNCHES };
        let half = rule.screen_rounds.div_ceil(2).max(FEWEST_ROUNDS);
        let most = (base..=most).rev().find(|most| fits(&of_most(*most)) >= half).unwrap_or(base);
        let mut plan = of_most(most);
        plan.rounds = fits(&plan).clamp(FEWEST_ROUNDS, Rule::default().confirm_rounds);
        plan
    }
}

/// So many launches, with a share of the rounds.
fn smaller((screen_launches, confirm_launches): (u32, u32), share: f64) -> Rule {
    let full = Rule::default();
    let rounds = |n: u32| ((f64::from(n) * share) as u32).max(FEWEST_ROUNDS);
    Rule {
        screen_launches,
        confirm_launches,
        screen_rounds: rounds(full.screen_rounds),
        confirm_rounds: rounds(full.confirm_rounds),
        ..full
    }
}

/// The share of so many comparisons that is planned to be looked at again.
pub(super) fn again(comparisons: usize) -> f64 {
    AGAIN.max(AGAIN_AT_LEAST / comparisons.max(1) as f64).min(1.0)
}

/// What is looked at again, and how often.
pub(super) struct Again {
    /// Comparisons, each with the number of launches that it takes part in.
    pub(super) launches: Vec<(usize, u32)>,
    /// Rounds of each.
    pub(super) rounds: u32,
}

impl Again {
    /// Rounds that fit into `left`; 0 if none.
    fn fits(&self, cells: &[Cell], left: Duration) -> u32 {
        let takes = |rounds: u32| -> Duration {
            self.launches.iter().map(|(c, launches)| cells[*c].takes(rounds) * *launches).sum()
        };
        (1..=Rule::default().confirm_rounds).rev().find(|rounds| takes(*rounds) <= left).unwrap_or(0)
    }

    /// Launches of the comparison with the most.
    pub(super) fn most_launches(&self) -> u32 {
        self.launches.iter().map(|(_, launches)| *launches).max().unwrap_or(0)
    }

    /// Who takes part in a launch, from 0.
    pub(super) fn of_launch(&self, nth: u32) -> Vec<usize> {
        self.launches.iter().filter(|(_, launches)| nth < *launches).map(|(c, _)| *c).collect()
    }
}
