//! The order that people expect of names with numbers in them: 16 before 512, `2MiB` before `1GiB`, `many_vmas_1k` before
//! `many_vmas_10k`.

use super::Coordinate;
use super::select::{CellId, registry_order};

/// Part of a name; numbers come before letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    /// With what its unit makes of it.
    Number(u128),
    /// Anything else.
    Text(String),
}

/// What stands behind a number and multiplies it.
const UNITS: [(&str, u128); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("B", 1),
];

/// A key to sort names by; names that differ have keys that differ.
pub(crate) fn natural(text: &str) -> (Vec<Piece>, String) {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit();
        let end = rest.find(is_digit).unwrap_or(rest.len());
        if end > 0 {
            pieces.push(Piece::Text(rest[..end].to_owned()));
            rest = &rest[end..];
            continue;
        }
        let (digits, behind) = rest.split_at(rest.find(|c| !is_digit(c)).unwrap_or(rest.len()));
        // More digits than any number has that means something.
        let Ok(number) = digits.parse::<u64>() else {
            pieces.push(Piece::Text(digits.to_owned()));
            rest = behind;
            continue;
        };
        let is_end = |tail: &str| !tail.starts_with(|c: char| c.is_alphanumeric());
        let unit = UNITS.iter().find_map(|(u, factor)| Some((behind.strip_prefix(u)?, *factor)));
        let (tail, factor) = unit.filter(|(tail, _)| is_end(tail)).unwrap_or((behind, 1));
        pieces.push(Piece::Number(u128::from(number) * factor));
        rest = tail;
    }
    (pieces, text.to_owned())
}

/// A key to sort cells by: group by group, in each the designs in the order of the registry.
pub(crate) fn of_cells(cell: &CellId) -> impl Ord + use<> {
    let names =
        Coordinate::ALL.map(|c| if c == Coordinate::Backend { natural("") } else { natural(cell.get(c)) });
    let backend = cell.get(Coordinate::Backend);
    (names, registry_order(backend), backend.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_with_their_units_and_every_name_has_its_own_place() {
        for sorted in [
            &["1", "16", "64", "512", "8192", "131072"][..],
            &["2MiB", "16MiB", "1GiB", "64GiB"],
            &["many_vmas_10", "many_vmas_100", "many_vmas_1k", "many_vmas_10k", "many_vmas_100k"],
            &["mixed_huge_0pct", "mixed_huge_25pct", "mixed_huge_100pct"],
            &["dense_4k", "dense_2m", "swapped"],
            &["x", "x1", "x01y", "x1y", "x99999999999999999999999999"],
        ] {
            let mut names = sorted.to_vec();
            names.reverse();
            names.sort_by_cached_key(|n| natural(n));
            assert_eq!(names, sorted);
        }
    }

    #[test]
    fn cells_stand_group_by_group() {
        let sorted = [
            "dense_4k@16MiB/snapshot/16/none/1/map_order",
            "dense_4k@16MiB/snapshot/16/none/1/unheard_of",
            "dense_4k@16MiB/snapshot/512/none/1/fixed_flags",
            "dense_4k@16MiB/snapshot/512/none/1/map_order",
            "dense_4k@1GiB/snapshot/16/none/1/fixed_flags",
        ];
        let mut cells = sorted.map(|id| CellId::parse(id).unwrap());
        cells.reverse();
        cells.sort_by_cached_key(of_cells);
        assert_eq!(cells.map(|c| c.to_string()), sorted);
    }
}
