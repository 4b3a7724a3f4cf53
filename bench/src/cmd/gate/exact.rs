//! The exact tier: counts every cell, once, in virtual time where something churns, and compares with a file.
//!
//! Cells are counted on all processors at once: a count is a function of the seed and of nothing else. So each has tables of
//! its own, though building them is most of the time: after a reset other frames are free, and designs that join what is
//! contiguous count other slots.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::cmd::verify;
use crate::gate::counts::CountTable;
use crate::interrupt;
use crate::measure::clock::Clock;
use crate::measure::matrix::Group;
use crate::measure::member::NOOP;
use crate::tables;
use crate::workers;

/// Under churn the seed decides where and when it strikes: one could miss a path that another takes.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Cells named when some cannot be counted.
const SHOWN: usize = 5;
/// The committed counts, from the root of the project.
pub(super) const FILE: &str = "bench/counts.txt";

/// Counts; none when Ctrl-C came first. With `is_checked` every answer is compared with the oracle's on the way.
///
/// # Errors
/// Cells that could not be counted, or differ; a filter that matches nothing.
pub(super) fn count(filter: Option<&Regex>, is_checked: bool) -> Result<Option<CountTable>> {
    let groups = verify::groups(filter)?;
    let cells: Vec<(&Group, &'static str)> = groups
        .iter()
        .flat_map(|g| g.backends.iter().map(move |b| (g, b.id)))
        .filter(|(_, backend)| *backend != NOOP)
        .collect();
    let clock = Clock::measure();
    let counted = workers::map(
        &cells,
        |(group, backend)| group.cell_id(backend),
        || !interrupt::is_asked(),
        |(group, backend)| cell(group, backend, clock, is_checked),
    );
    let mut table = CountTable::default();
    let mut wrong = Vec::new();
    for ((group, backend), counts) in cells.iter().zip(counted) {
        let Some(counts) = counts else { return Ok(None) };
        let id = group.cell_id(backend);
        match counts {
            Ok(counts) => drop(table.0.insert(id, counts)),
            Err(e) => wrong.push(format!("{id}: {e:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} cannot be counted; `walkbench verify` says more\n{}",
            tables::cells(wrong.len()),
            wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n")
        );
    }
    Ok(Some(table))
}

/// One cell: without churn once, with churn the sum over the seeds.
fn cell(group: &Group, backend: &str, clock: Clock, is_checked: bool) -> Result<BTreeMap<String, u64>> {
    let seeds = if group.churn.is_some() { &SEEDS[..] } else { &SEEDS[..1] };
    let mut sum = BTreeMap::new();
    for &seed in seeds {
        for (name, n) in verify::counts(group, backend, seed, clock, is_checked)? {
            if n > 0 {
                *sum.entry(name.to_owned()).or_insert(0) += n;
            }
        }
    }
    Ok(sum)
}

/// The file of committed counts: as given, or of the project around the current folder.
///
/// # Errors
/// When there is none.
pub(super) fn file(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_path_buf());
    }
    let here = std::env::current_dir().context("the current folder")?;
    let Some(root) = here.ancestors().find(|folder| folder.join("bench/Cargo.toml").is_file()) else {
        bail!(
            "there is no {FILE} around {}; expected to run inside the project, or --counts FILE",
            here.display()
        );
    };
    Ok(root.join(FILE))
}

/// Reads a file of counts, as far as `filter` wants it.
///
/// # Errors
/// A file that cannot be read, or is none.
pub(super) fn read(path: &Path, filter: Option<&Regex>) -> Result<CountTable> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "{}: expected the committed counts; `walkbench gate --renew-counts` writes them",
            path.display()
        )
    })?;
    parse(&text, filter).with_context(|| path.display().to_string())
}

/// Reads the text of such a file, as far as `filter` wants it.
///
/// # Errors
/// The line that is wrong.
pub(super) fn parse(text: &str, filter: Option<&Regex>) -> Result<CountTable> {
    Ok(CountTable::parse(text)?.only(&|id| filter.is_none_or(|f| f.is_match(id))))
}

/// Writes a file of counts beside and renames it: it is whole at any moment.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, table: &CountTable) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(beside.path(), table.to_text()).with_context(|| path.display().to_string())?;
    let kept = beside.persist(path).with_context(|| path.display().to_string())?;
    // A temporary file is its owner's alone; this one is everybody's.
    let mut rights = kept.metadata().with_context(|| path.display().to_string())?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o644);
    kept.set_permissions(rights).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_on_several_processors_gives_what_verify_counts() {
        let filter = Regex::new("^dense_4k@.*/(map_order|noop)$").unwrap();
        let table = count(Some(&filter), false).unwrap().unwrap();
        assert_eq!(count(Some(&filter), true).unwrap().unwrap(), table, "a check counts nothing");
        assert!(table.0.keys().all(|id| id.ends_with("/map_order")), "noop has no counts");
        assert!(table.0.keys().any(|id| id.contains("/zap-")));
        assert_eq!(table.0["dense_4k@2MiB/snapshot/512/none/1/map_order"]["ptes_visited"], 512);
        for group in verify::groups(Some(&filter)).unwrap() {
            let id = group.cell_id("map_order");
            if let Some(counts) = table.0.get(&id) {
                assert_eq!(*counts, cell(&group, "map_order", Clock::measure(), false).unwrap(), "{id}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.txt");
        write(&path, &table).unwrap();
        assert_eq!(read(&path, Some(&filter)).unwrap(), table);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no/such/file"), &table).is_err());
        let missing = read(&folder.path().join("none"), None).unwrap_err().to_string();
        assert!(missing.contains("--renew-counts"), "{missing}");
    }
}
