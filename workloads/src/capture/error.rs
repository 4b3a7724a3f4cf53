//! What is wrong with a shape file, where, and what was expected there.

use std::path::PathBuf;
use std::{error, fmt, io};

/// A problem in a shape, with its line.
#[derive(Debug)]
pub struct ShapeError {
    /// Line in the uncompressed text, from 1; the header is line 1, VMA *i* is line *i* + 2.
    pub line: usize,
    /// What is wrong there.
    pub problem: ShapeProblem,
}

/// The kinds of problem; each message says what was expected.
#[derive(Debug)]
pub enum ShapeProblem {
    /// The bytes could not be read or decompressed (a cut or damaged gzip file, a missing file).
    Io(io::Error),
    /// More than [`MAX_BYTES`](super::MAX_BYTES) of text.
    TooLong,
    /// Not a shape file at all, or of another format.
    Foreign {
        /// What was found instead of the format's name.
        found: String,
    },
    /// Written by a newer program.
    Newer {
        /// The file's schema.
        found: u64,
    },
    /// The file ends before the VMAs that the header promises.
    Truncated {
        /// VMAs that the header promises.
        promised: u64,
        /// VMAs found.
        found: u64,
    },
    /// Something follows the last VMA.
    Trailing,
    /// Not JSON, or JSON with fields that are missing, unknown or of the wrong type.
    Json {
        /// Column, from 1.
        column: usize,
        /// The decoder's words.
        message: String,
    },
    /// A value that breaks a rule.
    Invalid {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl ShapeProblem {
    pub(super) fn invalid(found: impl Into<String>, expected: &'static str) -> Self {
        Self::Invalid { found: found.into(), expected }
    }

    pub(super) fn at(self, line: usize) -> ShapeError {
        ShapeError { line, problem: self }
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            ShapeProblem::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the compressed data is cut short; expected a whole gzip file")
            }
            ShapeProblem::Io(e) => write!(f, "cannot be read: {e}"),
            ShapeProblem::TooLong => {
                write!(f, "the text is too long; expected at most {} MiB", super::MAX_BYTES >> 20)
            }
            ShapeProblem::Foreign { found } => write!(
                f,
                "{found}; expected a header like {{\"schema\":{},\"format\":\"{}\",…}}",
                super::SCHEMA,
                super::FORMAT
            ),
            ShapeProblem::Newer { found } => write!(
                f,
                "schema {found}; expected {}: a newer walkbench wrote this file, use that one",
                super::SCHEMA
            ),
            ShapeProblem::Truncated { promised, found } => {
                write!(f, "the file ends after {found} VMAs; expected the {promised} of the header")
            }
            ShapeProblem::Trailing => f.write_str("more text; expected the end after the header's last VMA"),
            ShapeProblem::Json { column, message } => {
                write!(f, "column {column}: {message}; expected one JSON object of schema {}", super::SCHEMA)
            }
            ShapeProblem::Invalid { found, expected } => write!(f, "{found}; expected {expected}"),
        }
    }
}

impl error::Error for ShapeError {}

/// A [`ShapeError`] with the path of its file.
#[derive(Debug)]
pub struct ShapeFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong in it.
    pub error: ShapeError,
}

impl fmt::Display for ShapeFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl error::Error for ShapeFileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}
