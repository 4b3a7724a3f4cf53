//! "did you mean": the valid thing nearest to what was written.

/// The candidate nearest to `text`, if it is near enough to have been meant.
pub(crate) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let text = text.to_lowercase();
    let distance = |c: &&str| strsim::damerau_levenshtein(&text, c);
    let best = candidates.into_iter().min_by_key(distance)?;
    // A third of the letters wrong is a typing error, more is something else.
    (distance(&best) <= (best.chars().count() / 3).max(1)).then_some(best)
}

/// `; did you mean ...?` where something is near, else nothing: to put behind a message.
pub(crate) fn hint<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(text, candidates).map_or(String::new(), |near| format!("; did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_a_slip_of_the_fingers_gives() {
        let names = ["snapshot", "fault_read", "fault_write"];
        for (text, near) in [
            ("snapshots", Some("snapshot")),
            ("fault_wrtie", Some("fault_write")),
            ("Fault-Read", Some("fault_read")),
            ("", None),
            ("telepathy", None),
        ] {
            assert_eq!(nearest(text, names), near, "{text}");
        }
        assert_eq!(hint("snapsot", names), "; did you mean snapshot?");
        assert_eq!(hint("x", []), "");
    }
}
