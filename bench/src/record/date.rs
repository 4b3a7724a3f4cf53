//! Dates without a library.

/// Seconds since 1970 as `YYYY-MM-DD` and `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn date(unix_s: u64) -> (String, String) {
    // Days to civil date (Howard Hinnant, chrono-compatible low-level date algorithms).
    let days = unix_s / 86400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (d, m) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let y = year + era * 400 + u64::from(m <= 2);
    let (h, min, s) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
    (format!("{y:04}-{m:02}-{d:02}"), format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (s, day) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_795_240_000, "2026-11-21")] {
            assert_eq!(date(s).0, day);
        }
        assert_eq!(date(951_782_400 + 3661).1, "2000-02-29T01:01:01Z");
    }
}
