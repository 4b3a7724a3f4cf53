//! One quantity in two runs, launches of one against launches of the other.
//!
//! Nothing pairs them, so whatever changed between the runs besides what was meant to is part of the ratio: for looking
//! at, not for judging. The interval is Mann and Whitney's: all ratios of a launch of one to a launch of the other, cut
//! at the ranks of the test's exact distribution. It assumes that the runs scatter alike but for a shift.

use super::{Basis, Estimate, LEAST_LAUNCHES, Sorted};

/// From one logarithm a launch of each run to their ratio: the median of all differences, with an interval from six
/// launches in each on. None without launches, or with a number that is not finite.
pub fn two_samples(a: &[f64], b: &[f64]) -> Option<Estimate> {
    let differences = Sorted::new(a.iter().flat_map(|x| b.iter().map(move |y| x - y)).collect())?;
    let fewer = a.len().min(b.len());
    let cut = (fewer >= LEAST_LAUNCHES).then(|| cut(a.len(), b.len()));
    let ends = cut.map(|(c, _)| (differences.rank(c), differences.rank(differences.len() - 1 - c)));
    Some(Estimate {
        value: differences.median().exp(),
        lo: ends.map(|(lo, _)| lo.exp()),
        hi: ends.map(|(_, hi)| hi.exp()),
        confidence: cut.map_or(0.0, |(_, confidence)| confidence),
        launches: fewer,
        basis: if cut.is_some() { Basis::OrderStatistics } else { Basis::Single },
        smallest_percent: None,
    })
}

/// How many differences to leave out at each end, and what the interval then covers: the largest c with
/// 2 P(U < c + 1) <= 5 % for the U of samples of `m` and `n`.
fn cut(m: usize, n: usize) -> (usize, f64) {
    // ways[u]: orders of the launches so far in which u pairs are out of order; a launch of b after i of a adds i.
    let most = m * n;
    let mut ways = vec![vec![0.0f64; most + 1]; m + 1];
    ways[0][0] = 1.0;
    for row in ways.iter_mut().skip(1) {
        row[0] = 1.0;
    }
    for _ in 0..n {
        for i in 1..=m {
            let (before, row) = ways.split_at_mut(i);
            let before = &before[i - 1];
            // Either the last of the i stands after this launch of b (i pairs fewer are left to it), or before.
            let mut next = before.clone();
            for u in i..=most {
                next[u] += row[0][u - i];
            }
            row[0] = next;
        }
    }
    let all: f64 = ways[m].iter().sum();
    let mut below = 0.0;
    for (c, w) in ways[m].iter().enumerate() {
        if 2.0 * (below + w) / all > 0.05 {
            return (c.saturating_sub(1), 1.0 - 2.0 * below / all);
        }
        below += w;
    }
    (0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::coverage::{Draw, normal};
    use super::*;

    #[test]
    fn cuts_are_the_published_critical_values() {
        // Mann & Whitney 1947 as tabled in textbooks: largest U that is significant at 5 %, two-sided.
        for (m, n, u) in
            [(4, 4, 0), (5, 5, 2), (6, 6, 5), (6, 8, 8), (8, 8, 13), (9, 9, 17), (10, 10, 23), (20, 20, 127)]
        {
            let (c, confidence) = cut(m, n);
            assert_eq!(c, u, "{m} and {n}");
            assert!((0.95..1.0).contains(&confidence));
        }
    }

    #[test]
    fn the_distribution_is_that_of_all_orders_written_naively() {
        for (m, n) in [(3usize, 4usize), (5, 4), (6, 6)] {
            let mut counts = vec![0u64; m * n + 1];
            for picks in (0..1u32 << (m + n)).filter(|p| p.count_ones() as usize == m) {
                let is_a = |i: usize| picks >> i & 1 == 1;
                let pairs = (0..m + n).filter(|i| is_a(*i)).map(|i| (0..i).filter(|j| !is_a(*j)).count());
                counts[pairs.sum::<usize>()] += 1;
            }
            let all: u64 = counts.iter().sum();
            let mut below = 0;
            let naive = counts.iter().position(|w| {
                let is_over = 2.0 * (below + w) as f64 / all as f64 > 0.05;
                below += w;
                is_over
            });
            assert_eq!(cut(m, n).0, naive.unwrap().saturating_sub(1), "{m} and {n}");
        }
    }

    #[test]
    fn it_covers_what_it_says() {
        let mut draw = Draw::new(31);
        let holds = (0..2000).filter(|_| {
            let a: Vec<f64> = (0..9).map(|_| 0.5 + normal(&mut draw)).collect();
            let b: Vec<f64> = (0..9).map(|_| normal(&mut draw)).collect();
            let e = two_samples(&a, &b).unwrap();
            (e.lo.unwrap()..=e.hi.unwrap()).contains(&0.5f64.exp())
        });
        let covered = holds.count() as f64 / 2000.0;
        assert!((0.93..=0.97).contains(&covered), "{covered}");
    }

    #[test]
    fn few_launches_have_a_ratio_and_no_interval() {
        let few = two_samples(&[0.0; 5], &[0.1; 9]).unwrap();
        assert_eq!((few.lo, few.basis), (None, Basis::Single));
        assert!(two_samples(&[], &[1.0]).is_none());
    }
}
