//! A difference in a form that a person can debug from.

use std::fmt;
use std::ops::Range;

use super::Field;
use crate::scenario::Rle;

/// Pages shown on each side of the first page that differs.
const AROUND_PAGES: usize = 4;

/// Where machine and recording part.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Step, from 0.
    pub step: usize,
    /// The operation of that step.
    pub op: String,
    /// What differs.
    pub field: Field,
    /// First page that differs, for lists: of the operation's range for `out`, else of the window.
    pub page: Option<usize>,
    /// Number of values of this field that differ at this step.
    pub differing: u64,
    /// What the recording has.
    pub expected: Shown,
    /// What the machine has.
    pub got: Shown,
}

/// One side of a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The value; for lists that of the first page that differs.
    pub value: String,
    /// Its neighbours in the list.
    pub around: Option<Around>,
    /// The whole list, which may be long.
    pub whole: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Around {
    /// The pages.
    pub pages: Range<usize>,
    /// Their run-length list.
    pub list: String,
}

impl Shown {
    pub(super) fn value(value: impl fmt::Display) -> Self {
        Self { value: value.to_string(), around: None, whole: None }
    }

    pub(super) fn page<T: Copy + PartialEq + fmt::Display>(list: &Rle<T>, page: usize) -> Self {
        let pages = page.saturating_sub(AROUND_PAGES)..list.len().min(page + AROUND_PAGES + 1);
        let value = list.get(page).map_or("nothing".into(), |code| code.to_string());
        let around =
            (!pages.is_empty()).then(|| Around { list: list.part(pages.clone()).to_string(), pages });
        Self { value, around, whole: Some(list.to_string()) }
    }
}

impl fmt::Display for Shown {
    /// One line, cut to about 300 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)?;
        if let Some(around) = &self.around {
            write!(f, "; pages {}..{}: {}", around.pages.start, around.pages.end, around.list)?;
        }
        if let Some(whole) = &self.whole {
            write!(f, "; all: {}", cut(whole, 200))?;
        }
        Ok(())
    }
}

/// At most `most` characters of an ASCII list, ending in `…` when cut.
fn cut(list: &str, most: usize) -> String {
    match list.char_indices().nth(most) {
        None => list.into(),
        Some((end, _)) => format!("{}…", &list[..end]),
    }
}
