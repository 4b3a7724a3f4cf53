//! Which cells are asked for: `--filter` and `--question`.

use anyhow::{Context, Result, bail};
use regex::Regex;
use workloads::definition::Profile;

use crate::measure::matrix::{self, Group};
use crate::questions::{CellId, Question, questions};
use crate::record::Settings;

/// Stands for every question that looks at cells.
pub(crate) const ALL: &str = "all";

/// Questions by id, with [`ALL`] spelled out: what a run records shall mean the same to a program with more of them.
pub(crate) fn spelled_out(ids: &[String]) -> Vec<String> {
    if ids.iter().any(|id| id == ALL) {
        questions().iter().map(|q| q.id.clone()).collect()
    } else {
        ids.to_vec()
    }
}

/// Cells whose id matches, and that some of the questions look at; all of them where nothing is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    filter: Option<Regex>,
    questions: Vec<&'static Question>,
}

impl Selection {
    /// From the command line.
    ///
    /// # Errors
    /// A question that there is not.
    pub(crate) fn new(filter: Option<&Regex>, ids: &[String]) -> Result<Selection> {
        let mut found = Vec::new();
        for id in ids {
            let Some(question) = questions().iter().find(|q| q.id == *id) else {
                let known: Vec<&str> = questions().iter().map(|q| q.id.as_str()).collect();
                bail!(
                    "--question {id}: there is no such question; expected {ALL} or one of {}",
                    known.join(", ")
                );
            };
            found.push(question);
        }
        Ok(Selection { filter: filter.cloned(), questions: found })
    }
    /// From `run.json`.
    ///
    /// # Errors
    /// What this program does not know, or cannot be a filter.
    pub(crate) fn of(settings: &Settings) -> Result<Selection> {
        let filter =
            settings.filter.as_deref().map(Regex::new).transpose().context("the filter of the run")?;
        Selection::new(filter.as_ref(), &settings.questions)
    }
    /// Whether a cell is asked for.
    pub(crate) fn wants(&self, id: &str) -> bool {
        let asked = || {
            let cell = CellId::parse(id);
            self.questions.is_empty() || cell.is_some_and(|c| self.questions.iter().any(|q| q.wants(&c)))
        };
        self.filter.as_ref().is_none_or(|f| f.is_match(id)) && asked()
    }
    /// The groups of a profile with the cells that are asked for.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn groups(&self, profile: Profile) -> Result<Vec<Group>> {
        let groups = matrix::groups(profile, &|id| self.wants(id));
        if !groups.is_empty() {
            return Ok(groups);
        }
        let asked: Vec<&str> = self.questions.iter().map(|q| q.id.as_str()).collect();
        let name = profile.name();
        match (&self.filter, asked.as_slice()) {
            (Some(filter), []) => {
                bail!(
                    "--filter {filter}: matches no cell of the {name} profile; `walkbench list cells --profile {name}` prints \
                     them"
                )
            }
            (Some(filter), asked) => bail!(
                "--filter {filter}: matches no cell of the {name} profile that --question {} looks at",
                asked.join(", ")
            ),
            (None, asked) => bail!(
                "--question {}: looks at no cell of the {name} profile; `walkbench list questions` says how many of which",
                asked.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_a_filter_both_have_to_want_a_cell() {
        let cells = |filter: Option<&str>, ids: &[&str]| -> Result<Vec<String>> {
            let ids: Vec<String> = ids.iter().map(|s| (*s).to_owned()).collect();
            let filter = filter.map(|f| Regex::new(f).unwrap());
            let groups = Selection::new(filter.as_ref(), &ids)?.groups(Profile::Quick)?;
            Ok(groups.iter().flat_map(|g| g.backends.iter().map(|b| g.cell_id(b.id))).collect())
        };
        let all = cells(None, &[]).unwrap();
        let sticky = cells(None, &["sticky_bits"]).unwrap();
        assert!(!sticky.is_empty() && sticky.len() < all.len());
        assert!(sticky.iter().any(|c| c.ends_with("/sticky_flags")));
        assert!(!sticky.iter().any(|c| c.ends_with("/pfn_bits")));
        let both = cells(Some("/snapshot/"), &["sticky_bits"]).unwrap();
        assert!(!both.is_empty() && both.iter().all(|c| sticky.contains(c) && c.contains("/snapshot/")));
        let error = |filter, ids: &[&str]| cells(filter, ids).unwrap_err().to_string();
        assert!(error(None, &["stickybits"]).contains("expected all or one of prefill"));
        assert!(error(Some("no_such"), &[]).contains("--filter no_such: matches no cell"));
        assert!(error(Some("/pfn_bits$"), &["sticky_bits"]).contains("that --question sticky_bits looks at"));
    }

    #[test]
    fn all_questions_are_asked_by_one_word_and_what_they_leave_out_stays_out() {
        let ids = |words: &[&str]| spelled_out(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let each: Vec<String> = questions().iter().map(|q| q.id.clone()).collect();
        assert_eq!(ids(&["mask"]), ["mask"]);
        assert_eq!(ids(&["mask", ALL]), each);
        let selection = Selection::new(None, &each).unwrap();
        let of = |s: &Selection| -> usize {
            s.groups(Profile::Full).unwrap().iter().map(|g| g.backends.len()).sum()
        };
        // A tenth of it or so: each is measured at every size all the same.
        assert!(of(&selection) * 5 < of(&Selection::default()));
        for q in questions() {
            let one = Selection::new(None, std::slice::from_ref(&q.id)).unwrap();
            let groups = one.groups(Profile::Full).unwrap();
            let cells = groups.iter().flat_map(|g| g.backends.iter().map(|b| g.cell_id(b.id)));
            assert!(cells.into_iter().all(|id| selection.wants(&id)), "{}", q.id);
        }
    }
}
