//! What a reader must know of a figure, in a word; and what the word means.

/// Every mark of a cell, with its meaning.
pub(crate) const MARKS: [(&str, &str); 12] = [
    ("harness", "loop and clock are more than 1 % of it"),
    ("near_clock", "an operation takes less than 20 readings of the clock"),
    ("near_noop", "it takes less than 20 times what a design takes that does nothing"),
    ("noisy", "more than 30 % of the rounds were disturbed, and dropped"),
    ("unequal_dose", "more than 30 % of the rounds had unequal doses of churn, and were dropped"),
    ("one_launch", "one launch only: no spread"),
    ("stages_off", "its stages do not add up to the whole"),
    ("lost_wishes", "wishes were lost, as the design says that they may be"),
    ("hints_reported", "pages behind NUMA hints are in the answer, as the design says that they may be"),
    ("shared_cpus", "there were more threads than processors"),
    ("unpinned", "threads could not be kept on their processors"),
    ("clock_stepped", "the clock was steered while it timed"),
];

/// The marks among these that there are, each once, with their meanings.
pub(crate) fn explained<'a>(
    used: impl Iterator<Item = &'a str> + Clone,
) -> Vec<(&'static str, &'static str)> {
    MARKS.into_iter().filter(|(mark, _)| used.clone().any(|u| u == *mark)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_what_is_used() {
        let used = ["noisy", "near_clock", "noisy", "of_another_version"];
        let names: Vec<&str> = explained(used.into_iter()).into_iter().map(|(mark, _)| mark).collect();
        assert_eq!(names, ["near_clock", "noisy"]);
        assert!(explained(std::iter::empty()).is_empty());
    }

    #[test]
    fn every_mark_that_cells_get_has_its_words() {
        // They are given where a group is analysed, and by a launch.
        let given = [
            include_str!("analysis/group.rs"),
            include_str!("cmd/launch.rs"),
            include_str!("measure/visit.rs"),
        ];
        let of_cells = |text: &'static str| {
            text.lines().filter_map(|line| {
                let line = line.trim();
                let pair = line.starts_with('(') && line.ends_with("\"),");
                let pushed = line.contains(".marks.push(\"");
                (pair || pushed).then(|| line.split('"').nth(1)).flatten()
            })
        };
        let words: Vec<&str> = given.into_iter().flat_map(of_cells).filter(|w| !w.contains(' ')).collect();
        assert!(words.len() >= 8, "{words:?}");
        for word in words {
            assert!(MARKS.iter().any(|(mark, _)| *mark == word), "{word} has no words");
        }
    }
}
