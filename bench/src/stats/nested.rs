//! Where the spread comes from: within a launch or between launches.
//!
//! Random effects, one way (Kalibera & Jones, Rigorous benchmarking in reasonable time, ISMM 2013, with two levels):
//! a round's log ratio is a launch's own offset plus noise of the round. Repeating helps most at the level that varies
//! most: more rounds shrink only the second.

use super::Sorted;

/// Variances of log ratios by level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Components {
    /// Of a round around its launch.
    pub within: f64,
    /// Of launches around their common mean; 0 where the launches differ no more than their rounds explain.
    pub between: f64,
    /// Launches that it rests on.
    pub launches: usize,
    /// Rounds that it rests on, all launches together.
    pub rounds: usize,
}

impl Components {
    /// Standard deviation of what a launch of `rounds` rounds reports, the median of its rounds. A median of normal
    /// rounds scatters pi / 2 as much (in variance) as their mean.
    pub fn launch_sd(&self, rounds: u32) -> f64 {
        let median = if rounds > 2 { std::f64::consts::FRAC_PI_2 } else { 1.0 };
        (self.between + median * self.within / f64::from(rounds.max(1))).sqrt()
    }
}

/// Takes the spread of log ratios apart, launch by launch and round by round, by analysis of variance; launches may
/// have different numbers of rounds. None without two launches, or where no launch has two rounds.
pub fn components(launches: &[Vec<f64>]) -> Option<Components> {
    let launches: Vec<Sorted> = launches.iter().filter_map(|l| Sorted::new(l.clone())).collect();
    let sizes: Vec<f64> = launches.iter().map(|l| l.len() as f64).collect();
    let (k, n) = (launches.len() as f64, sizes.iter().sum::<f64>());
    if launches.len() < 2 || n <= k {
        return None;
    }
    let grand = launches.iter().zip(&sizes).map(|(l, n)| l.mean() * n).sum::<f64>() / n;
    let among = launches.iter().zip(&sizes).map(|(l, n)| n * (l.mean() - grand).powi(2)).sum::<f64>();
    let inside = launches.iter().zip(&sizes).map(|(l, n)| l.sd().powi(2) * (n - 1.0)).sum::<f64>();
    let within = inside / (n - k);
    // The number of rounds of a launch that is worth as much as these unequal ones.
    let typical = (n - sizes.iter().map(|s| s * s).sum::<f64>() / n) / (k - 1.0);
    let between = ((among / (k - 1.0) - within) / typical).max(0.0);
    Some(Components { within, between, launches: launches.len(), rounds: n as usize })
}

#[cfg(test)]
mod tests {
    use super::super::coverage::{Draw, normal};
    use super::*;

    /// Yield of dyestuff, 6 batches of 5 (Davies 1947; in Box & Tiao and in the book on lme4, whose REML fit of these
    /// balanced data gives 1764.05 between batches and 2451.25 within).
    const DYESTUFF: [[f64; 5]; 6] = [
        [1545., 1440., 1440., 1520., 1580.],
        [1540., 1555., 1490., 1560., 1495.],
        [1595., 1550., 1605., 1510., 1560.],
        [1445., 1440., 1595., 1465., 1545.],
        [1595., 1630., 1515., 1635., 1625.],
        [1520., 1455., 1450., 1480., 1445.],
    ];

    #[test]
    fn dyestuff_has_the_published_components() {
        let batches: Vec<Vec<f64>> = DYESTUFF.iter().map(|b| b.to_vec()).collect();
        let c = components(&batches).unwrap();
        assert!((c.between - 1764.05).abs() < 0.005, "{c:?}");
        assert!((c.within - 2451.25).abs() < 0.005, "{c:?}");
        assert_eq!((c.launches, c.rounds), (6, 30));
    }

    #[test]
    fn too_little_is_refused_and_equals_have_no_spread() {
        assert!(components(&[vec![1.0, 2.0]]).is_none());
        assert!(components(&[vec![1.0], vec![2.0]]).is_none());
        let flat = components(&[vec![1.0, 1.0], vec![1.0, 1.0, 1.0]]).unwrap();
        assert_eq!((flat.within, flat.between, flat.launch_sd(9)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn planted_components_come_out_and_predict_the_spread_of_launches() {
        let mut draw = Draw::new(3);
        let (tau, sigma, rounds) = (0.004, 0.02, 25);
        let launches: Vec<Vec<f64>> = (0..600)
            .map(|_| {
                let offset = tau * normal(&mut draw);
                (0..rounds).map(|_| offset + sigma * normal(&mut draw)).collect()
            })
            .collect();
        let c = components(&launches).unwrap();
        assert!((c.between.sqrt() / tau - 1.0).abs() < 0.1, "{c:?}");
        assert!((c.within.sqrt() / sigma - 1.0).abs() < 0.05, "{c:?}");
        let medians = launches.iter().map(|l| Sorted::new(l.clone()).unwrap().median()).collect();
        let seen = Sorted::new(medians).unwrap().sd();
        assert!((c.launch_sd(rounds) / seen - 1.0).abs() < 0.1, "{} {seen}", c.launch_sd(rounds));
    }

    proptest::proptest! {
        #[test]
        fn equal_launches_agree_with_a_naive_analysis(
            values in proptest::collection::vec(-1.0..1.0f64, 12), rounds in 2..5usize,
        ) {
            let launches: Vec<Vec<f64>> = values.chunks_exact(rounds).map(<[f64]>::to_vec).collect();
            let c = components(&launches).unwrap();
            let variance = |v: &[f64]| {
                let mean = v.iter().sum::<f64>() / v.len() as f64;
                v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (v.len() - 1) as f64
            };
            // Balanced: within is the mean of the launches' variances; the variance of their means holds the rest.
            let within = launches.iter().map(|l| variance(l)).sum::<f64>() / launches.len() as f64;
            let means: Vec<f64> = launches.iter().map(|l| l.iter().sum::<f64>() / rounds as f64).collect();
            let between = (variance(&means) - within / rounds as f64).max(0.0);
            proptest::prop_assert!((c.within - within).abs() < 1e-9 && (c.between - between).abs() < 1e-9);
        }
    }
}
