//! Which cells the gate compares.

use anyhow::{Context, Result, bail};
use regex::Regex;
use workloads::definition::Profile;

use crate::measure::matrix::{self, Group};

/// Cells under churn that the gate adds to those of the quick profile: an open dose each, one for each way to collide.
const CHURNED: [&str; 3] = [
    "dense_4k@16MiB/snapshot/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order",
    "dense_4k@16MiB/fault_write/512/zap-64KiB-o50-zipf-1400ps-t1/1/map_order",
    "dense_4k@16MiB/snapshot/512/migrate-64KiB-o50-zipf-1400ps-t1/1/map_order",
];
/// What is compared where no filter says otherwise: every kind of shape and entry at a size whose tables are built in
/// milliseconds, through the design that kernels have now and the one that faults outside of the walk.
const USUAL: &str = "^(dense_4k|dense_2m|split_permissions|after_fork_10pct|after_fork_write|absent_4k|zero_mapped|\
                     swapped|sparse|numa_hint|device_private_own)@16MiB/\
                     (snapshot|fault_read|fault_write)/512/none/1/(map_order|unlocked)$";

/// Whose p99 is compared where nothing else is said: calls of a microsecond or two, alone and under churn.
pub(super) const TAILS: &str = "^dense_4k@16MiB/snapshot/512/.*/1/map_order$";

/// The cells to compare.
///
/// # Errors
/// A filter that matches none.
pub(super) fn cells(filter: Option<&Regex>) -> Result<Vec<String>> {
    let usual = Regex::new(USUAL).context("the usual cells")?;
    let is_wanted = |id: &str| filter.unwrap_or(&usual).is_match(id);
    let groups = matrix::groups(Profile::Quick, &is_wanted);
    let of = |g: &Group| g.backends.iter().map(|b| g.cell_id(b.id)).collect::<Vec<_>>();
    let mut cells: Vec<String> = groups.iter().flat_map(of).collect();
    let churned = CHURNED.iter().filter(|id| filter.is_none_or(|f| f.is_match(id)));
    cells.extend(churned.map(|id| (*id).to_owned()));
    if cells.is_empty() {
        bail!(
            "--filter {}: matches no cell of the quick profile; `walkbench list cells` prints them",
            filter.map_or("", Regex::as_str)
        );
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_cells_are_fifty_or_more_exist_and_have_churn_among_them() {
        let usual = cells(None).unwrap();
        assert!((50..100).contains(&usual.len()), "{}", usual.len());
        for id in &usual {
            let (group, backend) = id.rsplit_once('/').unwrap();
            let group = Group::parse(group).unwrap_or_else(|| panic!("{id}"));
            assert!(walker::backends::find(backend).is_some() && group.cell_id(backend) == *id, "{id}");
        }
        assert_eq!(usual.iter().filter(|id| !id.contains("/none/")).count(), CHURNED.len());
        let some = Regex::new("/zap-").unwrap();
        assert_eq!(cells(Some(&some)).unwrap().len(), 2 + quick("/zap-"));
        assert!(cells(Some(&Regex::new("no_such_cell").unwrap())).is_err());
    }

    /// Cells of the quick profile with this in their id.
    fn quick(part: &str) -> usize {
        let groups = matrix::groups(Profile::Quick, &|id| id.contains(part));
        groups.iter().map(|g| g.backends.len()).sum()
    }
}
