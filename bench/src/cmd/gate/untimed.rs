//! What the gate found where time was not compared: nothing to decide on again, and shown again all the same.

use std::process::ExitCode;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::EXIT_COUNTS;
use super::arguments::Format;
use crate::output;
use crate::record::JSON_SCHEMA;

/// A cell executes more instructions.
const INSTRUCTIONS: &str = "regression: more instructions";
/// A count is over its budget.
const COUNTS: &str = "exact counts changed";

/// The JSON of a gate without the tier of time.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Untimed {
    schema: u32,
    verdict: String,
    notes: Vec<String>,
    details: String,
}

impl Untimed {
    /// What the tiers found.
    pub(super) fn new(executes_more: bool, is_over: bool, notes: Vec<String>, details: String) -> Untimed {
        let verdict = match (executes_more, is_over) {
            (true, _) => INSTRUCTIONS,
            (false, true) => COUNTS,
            (false, false) => "pass",
        };
        Untimed { schema: JSON_SCHEMA, verdict: verdict.to_owned(), notes, details }
    }
    /// What an earlier gate printed as JSON; none if it compared time, which is decided anew, or if it is something else.
    pub(super) fn parse(text: &str) -> Option<Untimed> {
        serde_json::from_str(text).ok().filter(|u: &Untimed| u.schema == JSON_SCHEMA)
    }
    fn text(&self) -> String {
        format!("{}\n{}\n{}", self.verdict, self.notes.join("\n"), self.details)
    }
    fn markdown(&self) -> String {
        let mut text = format!("### walkbench gate: {}\n\n", self.verdict);
        for note in &self.notes {
            text += &format!("- {note}\n");
        }
        if !self.details.is_empty() {
            text += &format!("\n```\n{}```\n", self.details);
        }
        text
    }
    /// Prints it; returns its exit code.
    ///
    /// # Errors
    /// Standard output is gone.
    pub(super) fn print(&self, format: Format) -> Result<ExitCode> {
        match format {
            Format::Json => output::print_json(self)?,
            Format::Text => output::print(&self.text())?,
            Format::Markdown => output::print(&self.markdown())?,
        }
        Ok(ExitCode::from(match self.verdict.as_str() {
            INSTRUCTIONS => 1,
            COUNTS => EXIT_COUNTS,
            _ => 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_as_json_is_shown_again_and_a_recording_is_none() {
        let found =
            Untimed::new(false, true, vec!["counts: 1 moved".to_owned()], "ptes_visited\n".to_owned());
        let again = Untimed::parse(&serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!(again, found);
        assert_eq!(
            again.markdown(),
            "### walkbench gate: exact counts changed\n\n- counts: 1 moved\n\n```\nptes_visited\n```\n"
        );
        assert_eq!(Untimed::new(true, true, Vec::new(), String::new()).verdict, INSTRUCTIONS);
        assert_eq!(Untimed::parse(include_str!("../../../recordings/quiet.json")), None);
        assert_eq!(Untimed::parse("{}"), None);
    }
}
