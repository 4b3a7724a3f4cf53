//! Time that the hypervisor gave to others: /proc/stat.

use std::fs;

/// Ticks (1/100 s on every Linux that matters) stolen so far from the processors `cpus`, all together; none if the
/// kernel does not say.
pub(crate) fn ticks(cpus: &[usize]) -> Option<u64> {
    of(&fs::read_to_string("/proc/stat").ok()?, cpus)
}

/// The eighth number of the lines `cpuN` (proc_stat(5)).
fn of(stat: &str, cpus: &[usize]) -> Option<u64> {
    let mut sum = None;
    for line in stat.lines().take_while(|l| l.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        let Some(cpu) = words.next().and_then(|w| w.strip_prefix("cpu")?.parse::<usize>().ok()) else {
            continue;
        };
        if cpus.contains(&cpu) {
            *sum.get_or_insert(0) += words.nth(7)?.parse::<u64>().ok()?;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processors_asked_for_count() {
        let stat =
            "cpu  9 9 9 9 9 9 9 900 9 9\ncpu0 1 1 1 1 1 1 1 20 1 1\ncpu1 1 1 1 1 1 1 1 3 1 1\nintr 5\n";
        assert_eq!((of(stat, &[0]), of(stat, &[1]), of(stat, &[0, 1])), (Some(20), Some(3), Some(23)));
        assert_eq!((of(stat, &[7]), of("", &[0]), of("cpu0 1 2 3\n", &[0])), (None, None, None));
        assert!(ticks(&[0]).is_some(), "this kernel has a /proc/stat with cpu0");
    }
}
