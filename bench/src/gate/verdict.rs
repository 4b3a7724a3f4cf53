//! From recorded rounds to a verdict: pure, so that a recording gives the same verdict everywhere and for ever.
//!
//! 1. A launch's value of a cell is the median over its rounds of ln(new / old), or the mean of two such
//!    medians ([`super::rounds::Series::value`]); rounds are never pooled over launches.
//! 2. **Screen**: every cell, eight launches. Cells that seem slower or faster (Student's t over launches, one-sided
//!    p < 0.10), and cells that these launches cannot show to be equal, are looked at again.
//! 3. **Confirm**: those cells, on fresh launches, fourteen, and more of a cell that scattered much in the first; the
//!    controls on all of these. "At most 0.5 % slower" is tested for all cells together by flipping the signs of whole
//!    launches ([`sign_flip_max_t_with_gaps`]), so that one false alarm anywhere is as rare as alpha. What was chosen by
//!    looking at the first launches is judged by the second ones alone. Faster is the mirror image.
//! 4. A cell is **equal**, better "not slower", if the upper end of its one-sided 95 % interval (Student's, over
//!    launches) is below 2 %.
//! 5. One launch in which the machine stood still must not decide: launches far from the others are moved closer, in the
//!    test by their size alone (which no flip of a sign changes, so that it stays exact), in the interval by their distance
//!    from the median.
//! 6. A p99 is a comparison of its own, judged in the same family with limits five times as wide. What is not resolved of
//!    it is said and denies nobody a pass.
//! 7. The controls are judged as cells are: the null ones must not be flagged, the planted one must be found.
//! 8. What all this does not show may be looked at once more ([`Decision::suspects`]), with functions in other orders in every
//!    launch or in the same ones: of these cells the second look decides alone, by the same rules ([`decide_both`]). If the
//!    planted control was missed, these are all of them.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod simulation;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::rounds::{Launch, Looks, MOST_LAUNCHES, Metric, Orders, Recording, Role, Rule, Stage};
use crate::stats::{Alternative, Estimate, Sorted, estimate, sign_flip_max_t_with_gaps};
use crate::tables::cells;

/// How likely an effect of the size that is called the smallest detectable one is found.
const POWER: f64 = 0.8;

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// No cell is slower by 2 % or more.
    Pass,
    /// At least one is.
    Regression,
    /// The machine did not let us judge.
    InconclusiveEnvironment,
    /// Too few rounds for this noise.
    InconclusivePower,
}

/// What is known of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Not slower by 2 % or more.
    Equal,
    /// Surely slower.
    Slower,
    /// Surely faster.
    Faster,
    /// Neither is sure.
    Unresolved,
    /// Too many void rounds.
    TooNoisy,
}

/// What was decided about one comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Decided {
    /// The cell.
    pub(crate) id: String,
    /// What of it.
    pub(crate) metric: Metric,
    /// Cell or control.
    pub(crate) role: Role,
    /// What is known.
    pub(crate) state: State,
    /// New over old, over the launches that decided, with a 95 % interval.
    pub(crate) ratio: Option<Estimate>,
    /// With 95 % confidence it is slower by no more than this, in per cent.
    pub(crate) at_most_percent: Option<f64>,
    /// An effect of this size, in per cent, would have been found four times out of five.
    pub(crate) smallest_percent: Option<f64>,
    /// Adjusted p of "slower", where it was looked at again.
    pub(crate) p_slower: Option<f64>,
    /// Adjusted p of "faster".
    pub(crate) p_faster: Option<f64>,
    /// Of all its rounds.
    pub(crate) void_percent: f64,
    /// The launches that decided.
    pub(crate) stage: Stage,
}

/// The verdict, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Decision {
    /// What the gate says.
    pub(crate) verdict: Verdict,
    /// Why, in sentences.
    pub(crate) reasons: Vec<String>,
    /// Every comparison, in the order of the recording.
    pub(crate) decided: Vec<Decided>,
}

impl Decision {
    /// The cells in a state, by their time and by their tails.
    pub(crate) fn cells(&self, state: State) -> impl Iterator<Item = &Decided> {
        self.decided.iter().filter(move |d| d.role == Role::Cell && d.state == state)
    }
    /// The cells that a second look in such orders could say more about. In others: all that are not shown to be as fast, and
    /// the faster ones beside them, since where the linker put them may have decided. In the same ones: what is not resolved.
    /// All, if the planted control was missed: then nothing is known of any. None where nothing is wrong, or where the machine
    /// or the null controls say that nothing can be judged.
    pub(crate) fn suspects(&self, orders: Orders) -> Vec<String> {
        let is_asked = match orders {
            Orders::Same => matches!(self.verdict, Verdict::InconclusivePower),
            Orders::Others => matches!(self.verdict, Verdict::Regression | Verdict::InconclusivePower),
        };
        if !is_asked {
            return Vec::new();
        }
        let is_blind = self.controls(Role::Planted).any(|d| d.state != State::Slower);
        let is_known = |d: &&Decided| match (d.state, d.metric) {
            _ if is_blind => false,
            (State::Equal, _) => true,
            // Denies nobody a pass.
            (State::Unresolved | State::TooNoisy, Metric::P99) => true,
            (State::Slower | State::Faster, _) => orders == Orders::Same,
            (State::Unresolved | State::TooNoisy, Metric::Block) => false,
        };
        let of_cells = self.decided.iter().filter(|d| d.role == Role::Cell && !is_known(d));
        let mut ids: Vec<String> = of_cells.map(|d| d.id.clone()).collect();
        ids.dedup();
        ids
    }
    /// Comparisons of tails.
    pub(crate) fn tails(&self) -> impl Iterator<Item = &Decided> {
        self.decided.iter().filter(|d| d.role == Role::Cell && d.metric == Metric::P99)
    }
    /// Controls of a kind.
    pub(crate) fn controls(&self, role: Role) -> impl Iterator<Item = &Decided> {
        self.decided.iter().filter(move |d| d.role == role)
    }
}

/// A mean over launches as Student sees it.
struct Mean {
    mean: f64,
    /// Standard error.
    error: f64,
    /// Degrees of freedom.
    freedom: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Option<Mean> {
        let sorted = Sorted::new(without_outliers(values)?)?;
        let n = sorted.len();
        (n >= 3).then(|| Mean {
            mean: sorted.mean(),
            error: sorted.sd() / (n as f64).sqrt(),
            freedom: (n - 1) as f64,
        })
    }
    fn t(&self, p: f64) -> f64 {
        StudentsT::new(0.0, 1.0, self.freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(p))
    }
    /// Upper end of the one-sided interval of 95 %.
    fn at_most(&self) -> f64 {
        self.mean + self.t(0.95) * self.error
    }
    /// Whether it is above or below 0 at a one-sided p.
    fn seems_other(&self, p: f64) -> bool {
        self.mean.abs() > self.t(1.0 - p) * self.error
    }
}

fn percent(log: f64) -> f64 {
    100.0 * log.exp_m1()
}

fn log(percent: f64) -> f64 {
    (percent / 100.0).ln_1p()
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    Some(Sorted::new(values.collect())?.median())
}

/// Values with those further than three robust standard deviations from the median moved there.
fn without_outliers(values: &[f64]) -> Option<Vec<f64>> {
    let middle = median(values.iter().copied())?;
    // 1.4826 makes the median of the distances the standard deviation of normal values.
    let far = 3.0 * 1.4826 * median(values.iter().map(|x| (x - middle).abs()))?;
    Some(values.iter().map(|x| x.clamp(middle - far, middle + far)).collect())
}

/// Values that are no larger than twice their median size, signs kept: Huber's limit, 1.35 standard deviations, which
/// costs 5 % of what normal values say.
fn limited(values: &[Option<f64>]) -> Option<Vec<Option<f64>>> {
    let most = 2.0 * median(values.iter().flatten().map(|x| x.abs()))?;
    Some(values.iter().map(|x| x.map(|x| x.clamp(-most, most))).collect())
}

fn values(recording: &Recording, comparison: usize, stage: Stage) -> Vec<f64> {
    recording.series(comparison, stage).filter_map(|s| s.value()).collect()
}

fn is_noisy(recording: &Recording, comparison: usize) -> bool {
    let rule = &recording.rule;
    let usable = |stage| values(recording, comparison, stage).len() as u32;
    let is_confirmed = recording.series(comparison, Stage::Confirm).next().is_some();
    // Fewer launches than alpha asks for can never find anything.
    let too_few =
        || Rule { confirm_launches: usable(Stage::Confirm), ..rule.clone() }.smallest_p() > rule.alpha;
    let lost = match recording.comparisons[comparison].role {
        Role::Cell => 2 * usable(Stage::Screen) <= rule.screen_launches || (is_confirmed && too_few()),
        // Controls take part in the second stage only.
        Role::Null | Role::Planted => too_few(),
    };
    lost || recording.void_percent(comparison) > rule.void_percent
}

/// Whether the screening launches were so disturbed that more of them would be a waste: most cells are too noisy.
pub(crate) fn is_hopeless(recording: &Recording) -> bool {
    let cells = (0..recording.comparisons.len()).filter(|c| recording.comparisons[*c].role == Role::Cell);
    let (noisy, fine): (Vec<usize>, Vec<usize>) = cells.partition(|c| is_noisy(recording, *c));
    noisy.len() > fine.len()
}

/// The cells to look at again, from the screening launches alone: indices of comparisons.
pub(crate) fn to_confirm(recording: &Recording) -> Vec<usize> {
    let rule = &recording.rule;
    let again = |c: &usize| {
        if recording.comparisons[*c].role != Role::Cell || is_noisy(recording, *c) {
            return false;
        }
        let Some(mean) = Mean::of(&values(recording, *c, Stage::Screen)) else { return false };
        let equal = rule.bounds(recording.comparisons[*c].metric).equal;
        mean.seems_other(rule.screen_p) || mean.at_most() >= log(equal)
    };
    (0..recording.comparisons.len()).filter(again).collect()
}

/// How many launches it takes to show, nineteen times out of twenty, that a cell which is not slower is less than 2 % slower;
/// from the scatter of its screening launches, whatever they say of its time. [`MOST_LAUNCHES`] if more.
pub(crate) fn launches_wanted(recording: &Recording, comparison: usize) -> u32 {
    let equal = log(recording.rule.bounds(recording.comparisons[comparison].metric).equal);
    let Some(screened) = Mean::of(&values(recording, comparison, Stage::Screen)) else {
        return MOST_LAUNCHES;
    };
    let sd = screened.error * (screened.freedom + 1.0).sqrt();
    let shows = |launches: &u32| {
        let n = f64::from(*launches);
        let mean = Mean { mean: 0.0, error: sd / n.sqrt(), freedom: n - 1.0 };
        2.0 * mean.at_most() < equal
    };
    (3..MOST_LAUNCHES).find(shows).unwrap_or(MOST_LAUNCHES)
}

/// Adjusted p of "slower" and "faster" for comparisons that are tested together; none where they have too few launches
/// in common for alpha.
fn confirm(recording: &Recording, family: &[usize]) -> Option<Vec<(f64, f64)>> {
    let rule = &recording.rule;
    let launches: Vec<_> = recording.launches.iter().filter(|l| l.stage == Stage::Confirm).collect();
    // The sign of a launch is flipped for all that have a value in it; what it was void for lacks it.
    let beyond = |sign: f64| -> Option<Vec<Vec<Option<f64>>>> {
        let of = |c: &usize| {
            let margin = log(rule.bounds(recording.comparisons[*c].metric).margin);
            let value =
                |l: &&Launch| Some(sign * l.series.iter().find(|s| s.comparison == *c)?.value()? - margin);
            limited(&launches.iter().map(value).collect::<Vec<_>>())
        };
        family.iter().map(of).collect()
    };
    let test = |sign: f64| {
        let above = Alternative::Greater { margin: 0.0 };
        sign_flip_max_t_with_gaps(&beyond(sign)?, above, 0).filter(|m| m.floor <= rule.alpha)
    };
    let (slower, faster) = (test(1.0)?, test(-1.0)?);
    Some(slower.p.into_iter().zip(faster.p).collect())
}

/// What a recording says of one comparison, given its adjusted p-values.
fn judge(recording: &Recording, comparison: usize, p: Option<(f64, f64)>, together: usize) -> Decided {
    let rule = &recording.rule;
    let compared = &recording.comparisons[comparison];
    let confirmed = values(recording, comparison, Stage::Confirm);
    let (stage, values) = if confirmed.is_empty() {
        (Stage::Screen, values(recording, comparison, Stage::Screen))
    } else {
        (Stage::Confirm, confirmed)
    };
    let (ratio, mean) = (estimate(&values), Mean::of(&values));
    let at_most = mean.as_ref().map(Mean::at_most);
    let bounds = rule.bounds(compared.metric);
    let is_large = |ratio: f64| ratio >= 1.0 + bounds.least / 100.0;
    let state = match (p, ratio) {
        _ if is_noisy(recording, comparison) => State::TooNoisy,
        (Some((p, _)), Some(r)) if p <= rule.alpha && is_large(r.value) => State::Slower,
        (Some((_, p)), Some(r)) if p <= rule.alpha && is_large(1.0 / r.value) => State::Faster,
        _ if at_most.is_some_and(|at_most| at_most < log(bounds.equal)) => State::Equal,
        _ => State::Unresolved,
    };
    Decided {
        id: compared.id.clone(),
        metric: compared.metric,
        role: compared.role,
        state,
        ratio,
        at_most_percent: at_most.map(percent),
        smallest_percent: smallest(recording, comparison, together),
        p_slower: p.map(|p| p.0),
        p_faster: p.map(|p| p.1),
        void_percent: recording.void_percent(comparison),
        stage,
    }
}

/// The smallest slowdown, in per cent, that would have been found four times out of five: it has to get through both
/// stages, with launches that scatter as these do, tested together with as many others. By Student's t and Bonferroni's
/// share of alpha instead of the flips, which are a little better.
fn smallest(recording: &Recording, comparison: usize, together: usize) -> Option<f64> {
    let rule = &recording.rule;
    let bounds = rule.bounds(recording.comparisons[comparison].metric);
    let launches = |stage| Sorted::new(values(recording, comparison, stage)).filter(|s| s.len() > 2);
    let (confirmed, screened) = (launches(Stage::Confirm), launches(Stage::Screen));
    // Noisy cells have more launches than the rule says, controls no screening.
    let nr_confirmed = confirmed.as_ref().map_or(rule.confirm_launches, |s| s.len() as u32);
    let sd = confirmed.or(screened)?.sd();
    let t = |launches: u32, p: f64| {
        let freedom = f64::from(launches.max(2) - 1);
        StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(p))
    };
    let needs =
        |launches: u32, p: f64| (t(launches, 1.0 - p) + t(launches, POWER)) * sd / f64::from(launches).sqrt();
    let screen = needs(rule.screen_launches, rule.screen_p);
    let confirm = log(bounds.margin) + needs(nr_confirmed, rule.alpha / together.max(1) as f64);
    Some(percent(screen.max(confirm)).max(bounds.least))
}

/// Decides.
pub(crate) fn decide(recording: &Recording) -> Decision {
    let (decided, lost_launches) = judge_all(recording);
    let (verdict, reasons) = conclude(&recording.rule, &decided, lost_launches);
    Decision { verdict, reasons, decided }
}

/// Decides where there may have been a second look: what it looked at is judged by it alone, and so are the controls.
pub(crate) fn decide_both(looks: &Looks) -> Decision {
    let first = decide(&looks.first);
    match &looks.second {
        Some((orders, second)) => decide_again(&first, *orders, second),
        None => first,
    }
}

/// The same, with what the first look said.
pub(crate) fn decide_again(first: &Decision, orders: Orders, second: &Recording) -> Decision {
    let (again, lost_launches) = judge_all(second);
    let suspects = first.suspects(orders);
    let last = |d: &Decided| {
        let is_same = |o: &&Decided| (o.role, o.metric, &o.id) == (d.role, d.metric, &d.id);
        let is_asked = d.role != Role::Cell || suspects.contains(&d.id);
        again.iter().find(is_same).filter(|_| is_asked).unwrap_or(d).clone()
    };
    let decided: Vec<Decided> = first.decided.iter().map(last).collect();
    let (verdict, mut reasons) = conclude(&second.rule, &decided, lost_launches);
    let are = if suspects.len() == 1 { "is" } else { "are" };
    reasons.push(format!(
        "{} {are} judged by {}, since the first found this: {}",
        cells(suspects.len()),
        orders.words(),
        first.reasons.join(", ")
    ));
    Decision { verdict, reasons, decided }
}

/// Every comparison, and whether too few launches are left to test them.
fn judge_all(recording: &Recording) -> (Vec<Decided>, bool) {
    let all = 0..recording.comparisons.len();
    let role = |c: usize| recording.comparisons[c].role;
    let is_confirmed = |c: &usize| recording.series(*c, Stage::Confirm).next().is_some();
    let judged = |c: &usize| is_confirmed(c) && !is_noisy(recording, *c);
    let family: Vec<usize> = all.clone().filter(|c| role(*c) == Role::Cell).filter(judged).collect();
    let tested = confirm(recording, &family);
    let mut p: Vec<Option<(f64, f64)>> = vec![None; recording.comparisons.len()];
    for (c, tested) in family.iter().zip(tested.iter().flatten()) {
        p[*c] = Some(*tested);
    }
    for c in all.clone().filter(|c| role(*c) != Role::Cell).filter(judged) {
        // The plant has to be found among the cells, as a regression would; nothing excuses the null control.
        let beside = if role(c) == Role::Planted { family.as_slice() } else { &[] };
        let family: Vec<usize> = beside.iter().copied().chain([c]).collect();
        p[c] = confirm(recording, &family).and_then(|p| p.last().copied());
    }
    let decided: Vec<Decided> = all.map(|c| judge(recording, c, p[c], family.len())).collect();
    (decided, !family.is_empty() && tested.is_none())
}

fn conclude(rule: &Rule, decided: &[Decided], lost_launches: bool) -> (Verdict, Vec<String>) {
    // A tail that is slower fails as a time does; one that is too noisy to say denies nobody a pass, and is shown.
    let of = |metric, state| {
        let is = |d: &&Decided| d.role == Role::Cell && d.state == state && d.metric == metric;
        decided.iter().filter(is).count()
    };
    let count = |state| of(Metric::Block, state);
    let controls = |role| decided.iter().filter(move |d| d.role == role);
    if let Some(null) = controls(Role::Null).find(|d| matches!(d.state, State::Slower | State::Faster)) {
        let ratio = null.ratio.map_or(1.0, |r| r.value);
        let says = format!(
            "the null control failed: this program against a byte copy of itself came out at {:+.2} % ({}), so what this \
             run calls slower or faster means nothing",
            100.0 * (ratio - 1.0),
            null.id
        );
        return (Verdict::InconclusiveEnvironment, vec![says]);
    }
    let disturbed = |state| matches!(state, State::TooNoisy);
    if let Some(c) = decided.iter().find(|d| d.role != Role::Cell && disturbed(d.state)) {
        if c.ratio.is_none() && c.void_percent == 0.0 {
            let says = format!(
                "most cells are too noisy to judge ({} of {}): more than {:.0} % of their rounds were disturbed (the \
                 process lost its processor, or the hypervisor took it), so the run ended after the first stage",
                count(State::TooNoisy),
                decided.iter().filter(|d| d.role == Role::Cell && d.metric == Metric::Block).count(),
                rule.void_percent
            );
            return (Verdict::InconclusiveEnvironment, vec![says]);
        }
        let says = format!(
            "the controls were disturbed: {:.0} % of their rounds are void ({:.0} % are allowed)",
            c.void_percent, rule.void_percent
        );
        return (Verdict::InconclusiveEnvironment, vec![says]);
    }
    if lost_launches {
        let says =
            "too many launches were disturbed: those that are left cannot reach the significance asked for";
        return (Verdict::InconclusiveEnvironment, vec![says.to_owned()]);
    }
    if controls(Role::Planted).any(|d| d.state != State::Slower) {
        let says = "the planted control was missed: 3 % more work in this program was not found, so a regression of that \
                    size would not have been found either";
        return (Verdict::InconclusivePower, vec![says.to_owned()]);
    }
    let mut reasons = Vec::new();
    if count(State::Faster) > 0 {
        reasons.push(format!("{} faster", cells(count(State::Faster))));
    }
    if of(Metric::P99, State::Faster) > 0 {
        reasons
            .push(format!("{} faster in the p99 of its operations", cells(of(Metric::P99, State::Faster))));
    }
    if count(State::TooNoisy) > 0 {
        reasons.push(format!(
            "{} too noisy to judge: more than {:.0} % of the rounds were disturbed (this thread lost its processor, or the hypervisor took it)",
            cells(count(State::TooNoisy)),
            rule.void_percent
        ));
    }
    if count(State::Unresolved) > 0 {
        reasons.push(format!(
            "{} neither shown slower nor shown to be less than {} % slower",
            cells(count(State::Unresolved)),
            rule.equal_percent
        ));
    }
    let late = of(Metric::P99, State::Slower);
    if late > 0 {
        reasons.insert(0, format!("{} slower in the p99 of its operations", cells(late)));
    }
    if count(State::Slower) > 0 {
        reasons.insert(0, format!("{} slower", cells(count(State::Slower))));
    }
    let verdict = if late + count(State::Slower) > 0 {
        Verdict::Regression
    } else if count(State::TooNoisy) > 0 {
        Verdict::InconclusiveEnvironment
    } else if count(State::Unresolved) > 0 {
        Verdict::InconclusivePower
    } else {
        let judged = count(State::Equal) + count(State::Faster);
        reasons.insert(
            0,
            format!("{} less than {} % slower, each with 95 % confidence", cells(judged), rule.equal_percent),
        );
        Verdict::Pass
    };
    (verdict, reasons)
}
