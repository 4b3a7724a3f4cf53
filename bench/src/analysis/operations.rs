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
}
