//! What is wrong with a recording, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a recording could not be read. `Display` is one line: place, what was expected, what was found.
#[derive(Debug)]
pub enum RecordingError {
    /// The file could not be opened, read or uncompressed.
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system or the decompressor said.
        source: io::Error,
    },
    /// A value that no recorder writes.
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1; 0 for the file as a whole.
        line: usize,
        /// Column, from 1, in bytes, where the JSON itself is broken.
        column: Option<usize>,
        /// Place inside the line, for example `steps[3].raw`; empty for the line as a whole.
        at: String,
        /// What belongs there.
        expected: String,
        /// What is there, cut when long.
        found: String,
    },
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, source } => write!(f, "{}: {source}", file.display()),
            Self::Malformed { file, line, column, at, expected, found } => {
                write!(f, "{}", file.display())?;
                if *line > 0 {
                    write!(f, ":{line}")?;
                }
                if let Some(column) = column {
                    write!(f, ":{column}")?;
                }
                if !at.is_empty() {
                    write!(f, ": {at}")?;
                }
                write!(f, ": expected {expected}, found {found}")
            }
        }
    }
}

// `Display` already says what the source says, so that a chain of causes does not say it twice.
impl std::error::Error for RecordingError {}

/// A malformed value inside a line, before it is known which file and line that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) column: Option<usize>,
    pub(super) at: String,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Malformed {
    pub(super) fn new(at: impl Into<String>, expected: impl Into<String>, found: &str) -> Self {
        Self { column: None, at: at.into(), expected: expected.into(), found: cut(found) }
    }

    pub(super) fn in_file(self, file: PathBuf, line: usize) -> RecordingError {
        let Self { column, at, expected, found } = self;
        RecordingError::Malformed { file, line, column, at, expected, found }
    }
}

/// At most 60 characters of text that came from a file, safe to print on a terminal.
pub(super) fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(60).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
