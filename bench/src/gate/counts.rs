//! Exact counts of every cell as a text file that is committed, and what changed between two of them. Pure.
//!
//! The file has a line for each group of cells, and below it, indented, one for each different set of counts with the
//! designs that share it. Counts of zero are left out. So a change in one design is a change in its lines, and a review
//! shows what moved:
//!
//! ```text
//! # walkbench counts, schema 1 ...
//! dense_4k@2MiB/snapshot/512/none/1
//!   map_order sticky_flags: array_bytes=8192 pmds_visited=1 ptes_visited=512 ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::tables::cells;

/// The first words of the file, before its schema number.
const HEADER: &str = "# walkbench counts, schema";
const SCHEMA: u32 = 1;

/// Cells, and the counts of each that are not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountTable(pub(crate) BTreeMap<String, BTreeMap<String, u64>>);

impl CountTable {
    /// As the file has them.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{HEADER} {SCHEMA}: what `walkbench verify` counts, zeros left out; under churn the sum over three seeds.\n\
             # `walkbench gate --exact` compares them, `walkbench gate --renew-counts` writes them anew.\n"
        );
        let mut groups: BTreeMap<&str, BTreeMap<&BTreeMap<String, u64>, Vec<&str>>> = BTreeMap::new();
        for (cell, counts) in &self.0 {
            let (group, backend) = cell.rsplit_once('/').unwrap_or(("", cell));
            groups.entry(group).or_default().entry(counts).or_default().push(backend);
        }
        for (group, sets) in groups {
            text += group;
            text.push('\n');
            let mut sets: Vec<_> = sets.into_iter().collect();
            // By design, so that counts that grow do not move lines about.
            sets.sort_by(|a, b| a.1.cmp(&b.1));
            for (counts, backends) in sets {
                let _ = write!(text, "  {}:", backends.join(" "));
                for (name, n) in counts {
                    let _ = write!(text, " {name}={n}");
                }
                text.push('\n');
            }
        }
        text
    }

    /// From the file's text.
    ///
    /// # Errors
    /// The line that is not of the format, and what was expected; a newer schema.
    pub(crate) fn parse(text: &str) -> Result<CountTable> {
        let first = text.lines().next().unwrap_or_default();
        let schema = first.strip_prefix(HEADER).and_then(|rest| rest.trim().split(':').next()?.parse().ok());
        match schema {
            Some(SCHEMA) => {}
            Some(newer) if newer > SCHEMA => {
                bail!("line 1: schema {newer}; this program reads up to {SCHEMA}: use a newer walkbench")
            }
            _ => bail!("line 1: expected \"{HEADER} {SCHEMA}\""),
        }
        let mut table = CountTable::default();
        let mut group = None;
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.is_empty()) {
            let number = i + 1;
            let Some(rest) = line.strip_prefix("  ") else {
                group = Some(line);
                continue;
            };
            let group =
                group.with_context(|| format!("line {number}: expected a group of cells before it"))?;
            let (backends, counts) = rest
                .split_once(':')
                .with_context(|| format!("line {number}: expected \"  DESIGN...: COUNT=NUMBER...\""))?;
            let counts: BTreeMap<String, u64> = counts
                .split_ascii_whitespace()
                .map(|word| {
                    let (name, n) = word.split_once('=')?;
                    Some((name.to_owned(), n.parse().ok()?))
                })
                .collect::<Option<_>>()
                .with_context(|| format!("line {number}: expected COUNT=NUMBER"))?;
            for backend in backends.split_ascii_whitespace() {
                if table.0.insert(format!("{group}/{backend}"), counts.clone()).is_some() {
                    bail!("line {number}: {group}/{backend} stands in the file twice");
                }
            }
        }
        Ok(table)
    }

    /// Only the cells that `wanted` accepts.
    pub(crate) fn only(mut self, wanted: &dyn Fn(&str) -> bool) -> CountTable {
        self.0.retain(|cell, _| wanted(cell));
        self
    }
}

/// A count that is another one now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    /// The cell.
    pub(crate) cell: String,
    /// The count.
    pub(crate) count: String,
    /// What it was.
    pub(crate) before: u64,
    /// What it is.
    pub(crate) after: u64,
}

impl Moved {
    fn is_up(&self) -> bool {
        self.after > self.before
    }
    /// Whether it is above `before` by more than so many per cent.
    fn is_over(&self, budget_percent: f64) -> bool {
        self.after as f64 > self.before as f64 * (1.0 + budget_percent / 100.0)
    }
    /// 40 -> 45 (+12.5 %)
    fn text(&self) -> String {
        let change = if self.before == 0 {
            "new".to_owned()
        } else {
            format!("{:+.3} %", 100.0 * (self.after as f64 / self.before as f64 - 1.0))
        };
        format!("{} -> {}  ({change})", self.before, self.after)
    }
}

/// What differs between two tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Cells in both.
    pub(crate) cells: usize,
    /// Counts that differ, in the order of the cells.
    pub(crate) moved: Vec<Moved>,
    /// Cells that only the first has.
    pub(crate) gone: Vec<String>,
    /// Cells that only the second has.
    pub(crate) added: Vec<String>,
}

/// Compares two tables, cell by cell and count by count.
pub(crate) fn compare(before: &CountTable, after: &CountTable) -> Difference {
    let mut difference = Difference::default();
    for (cell, was) in &before.0 {
        let Some(is) = after.0.get(cell) else {
            difference.gone.push(cell.clone());
            continue;
        };
        difference.cells += 1;
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for name in names {
            let of = |counts: &BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
            let (before, after) = (of(was), of(is));
            if before != after {
                difference.moved.push(Moved { cell: cell.clone(), count: name.clone(), before, after });
            }
        }
    }
    difference.added.extend(after.0.keys().filter(|cell| !before.0.contains_key(*cell)).cloned());
    difference
}

/// Cells that stand for all that moved alike; the JSON has every one.
const SHOWN: usize = 4;

impl Difference {
    /// Whether both tables are the same.
    pub(crate) fn is_none(&self) -> bool {
        self.moved.is_empty() && self.gone.is_empty() && self.added.is_empty()
    }
    /// Counts that rose by more than so many per cent.
    pub(crate) fn over(&self, budget_percent: f64) -> Vec<&Moved> {
        self.moved.iter().filter(|m| m.is_over(budget_percent)).collect()
    }
    /// For people: by count, most cells first, with what the count means and the cells in which it moved most.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut by_count: BTreeMap<&str, Vec<&Moved>> = BTreeMap::new();
        for moved in &self.moved {
            by_count.entry(&moved.count).or_default().push(moved);
        }
        let mut by_count: Vec<_> = by_count.into_iter().collect();
        by_count.sort_by_key(|(_, moved)| std::cmp::Reverse(moved.len()));
        for (count, mut moved) in by_count {
            let up = moved.iter().filter(|m| m.is_up()).count();
            let down = moved.len() - up;
            let _ = writeln!(text, "{count}: {}", directions(up, down));
            let _ = writeln!(text, "  {}", meaning(count));
            let size = |m: &Moved| (m.after.max(1) as f64 / m.before.max(1) as f64).ln().abs();
            moved.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.cell.cmp(&b.cell)));
            for m in moved.iter().take(SHOWN) {
                let _ = writeln!(text, "    {}\n        {}", m.cell, m.text());
            }
            if moved.len() > SHOWN {
                let _ = writeln!(text, "    and {} more cells; --format json has all", moved.len() - SHOWN);
            }
        }
        for (ids, what) in
            [(&self.gone, "only in the committed counts"), (&self.added, "not in the committed counts")]
        {
            if let Some(first) = ids.first() {
                let _ = writeln!(text, "{} {what}, the first is {first}", cells(ids.len()));
            }
        }
        text
    }
}

fn directions(up: usize, down: usize) -> String {
    match (up, down) {
        (up, 0) => format!("more in {}", cells(up)),
        (0, down) => format!("less in {}", cells(down)),
        (up, down) => format!("more in {}, less in {}", cells(up), cells(down)),
    }
}

/// Why a change of this count matters.
fn meaning(count: &str) -> &'static str {
    match count {
        "walks" => "table walks started: a restart repeats all that was walked before it",
        "ptes_visited" => "entries read: each is a load that may miss the cache",
        "pmds_visited" | "vmas_visited" | "holes" => {
            "upper levels and VMAs looked at: what small calls and sparse ranges pay"
        }
        "huge_leaves" => "huge mappings reported as such: fewer of them mean 512 entries each",
        "wishes_read" | "slots_written" | "array_bytes" => {
            "what the API moves through the caller's arrays: the cost of its format"
        }
        "device_entries" => "device page-table entries written by the driver after the call",
        "retries" => "calls thrown away because an invalidation came between: all their work is done again",
        "gave_up" => "operations that never got a valid mirror: the caller sees -EBUSY",
        "faults_issued" | "faults_needed" => {
            "page faults through the API: each costs what hundreds of visits do"
        }
        "faults_spurious" => "faults that found nothing to do: a wish was lost, or asked for twice",
        "copies_not_asked_for" | "bytes_copied" | "bytes_zeroed" => {
            "memory written on behalf of the caller: the largest single cost of a fault"
        }
        "events_issued" => {
            "invalidations that the API itself causes: other mirrors of the process pay for them"
        }
        "migration_waits" => "sleeps until somebody else's migration ends",
        "pmd_splits" => "huge mappings broken up: later walks pay for every small entry",
        name if name.starts_with("faults_") => {
            "page faults of one kind: another kind is other work, a failed one is lost"
        }
        name if name.starts_with("churn_") => {
            "what happened beside the walk in virtual time: it moves when the walk makes other visits, or the script changed"
        }
        _ => "an exact count: it moves only when the code does something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cells: &[(&str, &[(&str, u64)])]) -> CountTable {
        let counts = |list: &[(&str, u64)]| list.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        CountTable(cells.iter().map(|(cell, list)| ((*cell).to_owned(), counts(list))).collect())
    }

    #[test]
    fn what_is_written_is_read_again_and_designs_that_count_alike_share_a_line() {
        let t = table(&[
            ("w@2MiB/snapshot/7/none/1/a", &[("walks", 1), ("ptes_visited", 512)]),
            ("w@2MiB/snapshot/7/none/1/b", &[("walks", 1), ("ptes_visited", 512)]),
            ("w@2MiB/snapshot/7/none/1/c", &[]),
            ("v@2MiB/snapshot/7/none/1/a", &[("walks", 2)]),
        ]);
        let text = t.to_text();
        assert!(
            text.contains("\nw@2MiB/snapshot/7/none/1\n  a b: ptes_visited=512 walks=1\n  c:\n"),
            "{text}"
        );
        assert_eq!(CountTable::parse(&text).unwrap(), t);
        let only = t.only(&|cell| cell.starts_with("v@"));
        assert_eq!(only.0.len(), 1);
    }

    #[test]
    fn a_file_that_is_none_is_refused_with_its_line() {
        let head = format!("{HEADER} 1: x\n");
        for (text, says) in [
            ("", "line 1: expected"),
            ("<<<<<<< HEAD\n", "line 1: expected"),
            (&format!("{HEADER} 2: x\n"), "schema 2; this program reads up to 1"),
            (&format!("{head}  a: walks=1\n"), "line 2: expected a group"),
            (&format!("{head}g\n  a walks=1\n"), "line 3: expected \"  DESIGN"),
            (&format!("{head}g\n  a: walks=x\n"), "line 3: expected COUNT=NUMBER"),
            (&format!("{head}g\n  a: walks=-1\n"), "line 3: expected COUNT=NUMBER"),
            (&format!("{head}g\n  a a: walks=1\n"), "line 3: g/a stands in the file twice"),
        ] {
            let error = CountTable::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn one_more_of_anything_is_found_and_a_budget_forgives_what_it_says() {
        let before = table(&[("g/a", &[("walks", 100), ("retries", 3)]), ("g/b", &[]), ("g/gone", &[])]);
        let after = table(&[("g/a", &[("walks", 101)]), ("g/b", &[("faults_issued", 1)]), ("g/new", &[])]);
        let d = compare(&before, &after);
        let of = |d: &[&Moved]| d.iter().map(|m| m.count.clone()).collect::<Vec<_>>();
        assert_eq!(of(&d.moved.iter().collect::<Vec<_>>()), ["retries", "walks", "faults_issued"]);
        assert_eq!(of(&d.over(0.0)), ["walks", "faults_issued"], "less is no failure");
        assert_eq!(of(&d.over(1.0)), ["faults_issued"], "nothing is a part of zero");
        assert_eq!((d.gone.as_slice(), d.added.as_slice()), (&["g/gone".into()][..], &["g/new".into()][..]));
        let text = d.text();
        for part in [
            "walks: more in 1 cell",
            "100 -> 101  (+1.000 %)",
            "0 -> 1  (new)",
            "retries: less in 1 cell",
            "1 cell only in the committed counts, the first is g/gone",
        ] {
            assert!(text.contains(part), "{part:?} not in\n{text}");
        }
        assert!(compare(&before, &before).is_none() && !d.is_none());
    }

    #[test]
    fn every_count_of_the_program_has_a_meaning_of_its_own() {
        let general = meaning("no such count");
        for count in walker::counters::Count::ALL {
            assert_ne!(meaning(count.name()), general, "{}", count.name());
        }
    }
}
