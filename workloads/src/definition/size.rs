//! Sizes as people write them: `2MiB`, `64GiB`.

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// The number of bytes that `text` says: a whole number and B, KiB, MiB, GiB or TiB, without a space.
pub fn parse_size(text: &str) -> Option<u64> {
    UNITS.iter().find_map(|(unit, shift)| {
        let digits = text.strip_suffix(unit)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    })
}

/// `bytes` in the largest unit that divides it: the size in a cell id.
pub fn size_name(bytes: u64) -> String {
    let (unit, shift) =
        UNITS.iter().find(|(_, s)| bytes != 0 && bytes.is_multiple_of(1 << s)).unwrap_or(&UNITS[4]);
    format!("{}{unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_the_round_trip() {
        for text in ["0B", "1B", "4KiB", "2MiB", "1536MiB", "64GiB", "1TiB", "1025KiB"] {
            assert_eq!(size_name(parse_size(text).unwrap()), text);
        }
        assert_eq!(parse_size("2048KiB"), Some(2 << 20));
        for text in ["", "B", "MiB", "2 MiB", "2MB", "+2MiB", "-2MiB", "2.5GiB", "99999999TiB", "2mib"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
