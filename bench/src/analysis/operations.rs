//! The tails: single operations of all launches together.

use super::Latency;
use crate::record::Operations;

/// Merges what launches recorded. Launches that timed another number of operations together than most did would mix
/// means over different numbers, and are left out.
pub(crate) fn latency<'a>(recorded: impl Iterator<Item = &'a Operations> + Clone) -> Option<Latency> {
    let of = |batch: u64| recorded.clone().filter(move |o| o.batch == batch).flat_map(|o| o.ns.iter());
    let nr = |batch: u64| of(batch).map(|(_, n)| n).sum::<u64>();
    let batch = recorded.clone().map(|o| o.batch).filter(|b| *b > 0).max_by_key(|b| (nr(*b), *b))?;
    let mut values: Vec<(u64, u64)> = of(batch).copied().collect();
    values.sort_unstable();
    let all = nr(batch);
    // The smallest value that so many of a thousand do not exceed.
    let quantile = |permille: u64| {
        let rank = (u128::from(all) * u128::from(permille)).div_ceil(1000).max(1) as u64;
        let mut seen = 0;
        let at = values.iter().find(|(_, n)| {
            seen += n;
            seen >= rank
        });
        at.map(|(ns, _)| (ns + batch / 2) / batch)
    };
    Some(Latency {
        p50: quantile(500)?,
        p99: quantile(990)?,
        p999: quantile(999)?,
        max: quantile(1000)?,
        batch,
        nr: all,
    })
}

/// Nanoseconds of one operation that `ppm` of a million did not exceed in one launch; none where too few were timed for
/// even one to be rarer than that.
pub(crate) fn quantile(recorded: &Operations, ppm: u64) -> Option<f64> {
    let all: u64 = recorded.ns.iter().map(|(_, n)| n).sum();
    if recorded.batch == 0 || ppm >= 1_000_000 || u128::from(all) * u128::from(1_000_000 - ppm) < 1_000_000 {
        return None;
    }
    let rank = (u128::from(all) * u128::from(ppm)).div_ceil(1_000_000).max(1) as u64;
    let mut values = recorded.ns.clone();
    values.sort_unstable();
    let mut seen = 0;
    let at = values.iter().find(|(_, n)| {
        seen += n;
        seen >= rank
    });
    at.map(|(ns, _)| *ns as f64 / recorded.batch as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(batch: u64, ns: &[(u64, u64)]) -> Operations {
        Operations { batch, ns: ns.to_vec() }
    }

    #[test]
    fn quantiles_are_those_of_all_launches_together() {
        let a = ops(1, &[(100, 900), (200, 90)]);
        let b = ops(1, &[(100, 5), (300, 4), (5000, 1)]);
        let l = latency([&a, &b].into_iter()).unwrap();
        assert_eq!((l.p50, l.p99, l.p999, l.max, l.nr), (100, 200, 300, 5000, 1000));
        assert!(latency(std::iter::empty()).is_none());
        assert!(latency([&ops(1, &[])].into_iter()).is_none());
    }

    #[test]
    fn batches_of_another_length_are_not_mixed_and_figures_are_of_one_operation() {
        let a = ops(16, &[(1600, 100)]);
        let b = ops(32, &[(6400, 3)]);
        let l = latency([&a, &b].into_iter()).unwrap();
        assert_eq!((l.p50, l.max, l.batch, l.nr), (100, 100, 16, 100));
    }

    #[test]
    fn a_quantile_needs_an_operation_that_is_rarer() {
        let hundred = ops(2, &[(100, 98), (300, 1), (400, 1)]);
        assert_eq!(quantile(&hundred, 500_000), Some(50.0));
        assert_eq!(quantile(&hundred, 990_000), Some(150.0));
        assert_eq!(quantile(&hundred, 999_000), None, "one of a hundred is not one of a thousand");
        assert_eq!(quantile(&ops(0, &[(1, 100)]), 500_000), None);
        assert_eq!(quantile(&ops(1, &[]), 500_000), None);
    }
}
