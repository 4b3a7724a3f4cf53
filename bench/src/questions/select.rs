//! Cells by their coordinates: `workload@size/request/call_pages/churn/walkers/backend`.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// One coordinate of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Coordinate {
    /// The definition.
    Workload,
    /// Bytes of walked address space, as a name like 16MiB.
    Size,
    /// What is asked.
    Request,
    /// Pages a call.
    CallPages,
    /// What invalidates meanwhile.
    Churn,
    /// Threads that walk.
    Walkers,
    /// Who.
    Backend,
}

use Coordinate::{Backend, CallPages, Churn, Request, Size, Walkers, Workload};

impl Coordinate {
    /// In the order of an id.
    pub(crate) const ALL: [Coordinate; 7] = [Workload, Size, Request, CallPages, Churn, Walkers, Backend];
    /// As in files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Workload => "workload",
            Size => "size",
            Request => "request",
            CallPages => "call_pages",
            Churn => "churn",
            Walkers => "walkers",
            Backend => "backend",
        }
    }
}

/// A cell, or a limit in the place of its backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CellId([String; 7]);

impl CellId {
    /// From an id; none if it is not one.
    pub(crate) fn parse(id: &str) -> Option<CellId> {
        let (workload, rest) = id.split_once('@')?;
        let parts: Vec<&str> = std::iter::once(workload).chain(rest.split('/')).collect();
        let parts: [&str; 7] = parts.try_into().ok()?;
        parts.iter().all(|p| !p.is_empty()).then(|| CellId(parts.map(str::to_owned)))
    }
    /// One coordinate.
    pub(crate) fn get(&self, c: Coordinate) -> &str {
        &self.0[c as usize]
    }
    /// The cell that differs in these.
    pub(crate) fn with(&self, values: &BTreeMap<Coordinate, String>) -> CellId {
        let mut id = self.clone();
        for (c, value) in values {
            id.0[*c as usize].clone_from(value);
        }
        id
    }
    /// The id without the backend: who share it share tables and rounds.
    pub(crate) fn group(&self) -> String {
        let [workload, size, request, call_pages, churn, walkers, _] = &self.0;
        format!("{workload}@{size}/{request}/{call_pages}/{churn}/{walkers}")
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group(), self.get(Backend))
    }
}

/// Where a backend stands in the registry; those that it lacks come last.
pub(crate) fn registry_order(backend: &str) -> usize {
    let all = walker::backends::ALL;
    all.iter().position(|b| b.id == backend).unwrap_or(all.len())
}

/// Which cells: for each coordinate patterns of which one must match; `*` stands for anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector(BTreeMap<Coordinate, Vec<Regex>>);

impl Selector {
    /// From patterns by coordinate.
    pub(crate) fn new(patterns: &BTreeMap<Coordinate, Vec<String>>) -> Result<Selector, String> {
        let compile = |p: &String| {
            let pattern = format!("^{}$", regex::escape(p).replace(r"\*", ".*"));
            Regex::new(&pattern).map_err(|e| format!("{p:?}: {e}"))
        };
        let each = patterns.iter().map(|(c, list)| {
            let regexes = list.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
            if regexes.is_empty() {
                return Err(format!("{c:?}: expected at least one pattern"));
            }
            Ok((*c, regexes))
        });
        Ok(Selector(each.collect::<Result<_, _>>()?))
    }
    /// Whether it takes `cell`.
    pub(crate) fn matches(&self, cell: &CellId) -> bool {
        self.matches_but_for(cell, &BTreeMap::new())
    }
    /// The same with any value of the coordinates that `free` has.
    pub(crate) fn matches_but_for(&self, cell: &CellId, free: &BTreeMap<Coordinate, String>) -> bool {
        let bound = self.0.iter().filter(|(c, _)| !free.contains_key(c));
        bound.into_iter().all(|(c, patterns)| patterns.iter().any(|p| p.is_match(cell.get(*c))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_apart_and_together_again() {
        let id = "dense_4k@16MiB/snapshot/512/zap-2MiB-o100-uniform-1000ps-t1/1/map_order";
        let cell = CellId::parse(id).unwrap();
        assert_eq!(cell.to_string(), id);
        let all = [Workload, Size, Request, CallPages, Churn, Walkers, Backend];
        let parts: Vec<&str> = all.iter().map(|c| cell.get(*c)).collect();
        assert_eq!(
            parts.join(" "),
            "dense_4k 16MiB snapshot 512 zap-2MiB-o100-uniform-1000ps-t1 1 map_order"
        );
        let other =
            cell.with(&BTreeMap::from([(CallPages, "16".to_owned()), (Backend, "decode".to_owned())]));
        assert_eq!(other.to_string(), id.replace("/512/", "/16/").replace("map_order", "decode"));
        for wrong in ["", "dense_4k", "dense_4k@16MiB/snapshot/512/none/1", "@/////", "a@b/c/d/e/f/g/h"] {
            assert!(CellId::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn patterns_match_whole_coordinates_and_nothing_in_them_is_a_regular_expression() {
        let cell = CellId::parse("dense_4k@16MiB/snapshot/512/none/1/map_order").unwrap();
        let takes = |c, p: &str| {
            Selector::new(&BTreeMap::from([(c, vec!["x".to_owned(), p.to_owned()])])).unwrap().matches(&cell)
        };
        assert!(takes(Workload, "dense_*") && takes(Size, "16MiB") && takes(Backend, "*"));
        assert!(!takes(Workload, "dense") && !takes(Workload, "dense_.k") && !takes(CallPages, "51"));
        assert!(Selector::default().matches(&cell));
        assert!(Selector::new(&BTreeMap::from([(Size, vec![])])).is_err());
    }
}
