//! Run-length lists, `COUNT*CODE,COUNT*CODE,...`: one code per page, equal neighbours joined.

use std::fmt;
use std::ops::Range;

use super::codes::Code;
use super::limits::MAX_PAGES;

/// A list of one `T` per page. Equal neighbours are one run, no run is empty, and the lengths of the runs add up
/// to [`Rle::len`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle<T> {
    runs: Vec<(u32, T)>,
    len: u32,
}

/// Why a text is not a run-length list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RleError {
    /// What belongs there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl<T> Default for Rle<T> {
    fn default() -> Self {
        Self { runs: Vec::new(), len: 0 }
    }
}

impl<T: Code> Rle<T> {
    /// Parses a list over exactly `len` pages.
    pub fn parse(text: &str, len: usize) -> Result<Self, RleError> {
        let list = Self::parse_any(text)?;
        if list.len() != len {
            return Err(RleError {
                expected: format!("counts that add up to {len}"),
                found: format!("a sum of {}", list.len),
            });
        }
        Ok(list)
    }

    /// Parses a list over at most [`MAX_PAGES`] pages; the empty text is the empty list.
    pub fn parse_any(text: &str) -> Result<Self, RleError> {
        let mut list = Self::default();
        if text.is_empty() {
            return Ok(list);
        }
        let mut offset = 0;
        for item in text.split(',') {
            let wrong = |expected: String| RleError {
                expected,
                found: format!("{} at character {}", super::error::cut(&format!("`{item}`")), offset + 1),
            };
            let Some((count, code)) = item.split_once('*') else {
                return Err(wrong("COUNT*CODE".into()));
            };
            // The first digit excludes a sign, zero and leading zeros.
            let count = match count.parse::<u32>() {
                Ok(number) if count.starts_with(|first| matches!(first, '1'..='9')) => number,
                _ => return Err(wrong("a count of at least 1 before `*`".into())),
            };
            let Some(code) = T::parse(code) else {
                return Err(wrong(T::EXPECTED.into()));
            };
            if u64::from(list.len) + u64::from(count) > MAX_PAGES {
                return Err(wrong(format!("at most {MAX_PAGES} pages in all")));
            }
            list.push(count, code);
            offset += item.len() + 1;
        }
        list.runs.shrink_to_fit();
        Ok(list)
    }
}

impl<T: Copy + PartialEq> Rle<T> {
    /// The list of these values.
    pub fn from_values(values: impl IntoIterator<Item = T>) -> Self {
        let mut list = Self::default();
        for value in values {
            list.push(1, value);
        }
        list
    }

    /// Appends `count` pages of `value`.
    ///
    /// # Panics
    /// When the list would have more than `u32::MAX` pages.
    pub fn push(&mut self, count: u32, value: T) {
        if count == 0 {
            return;
        }
        self.len = self.len.checked_add(count).expect("a run-length list holds at most u32::MAX pages");
        match self.runs.last_mut() {
            Some((last, code)) if *code == value => *last += count,
            _ => self.runs.push((count, value)),
        }
    }

    /// Makes the list exactly `len` pages: cuts the tail, or fills it with `value`.
    pub fn resize(&mut self, len: u32, value: T) {
        while self.len > len {
            let surplus = self.len - len;
            let (count, _) = self.runs.last_mut().expect("a list that is too long has a run");
            if *count > surplus {
                *count -= surplus;
                self.len = len;
            } else {
                self.len -= *count;
                self.runs.pop();
            }
        }
        self.push(len - self.len, value);
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs, in order: number of pages, code.
    pub fn runs(&self) -> &[(u32, T)] {
        &self.runs
    }

    /// The code of every page, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.runs.iter().flat_map(|&(count, code)| std::iter::repeat_n(code, count as usize))
    }

    /// The code of every page as a vector.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = Vec::with_capacity(self.len());
        for &(count, code) in &self.runs {
            values.resize(values.len() + count as usize, code);
        }
        values
    }

    /// The code of one page.
    pub fn get(&self, page: usize) -> Option<T> {
        let mut end = 0;
        self.runs.iter().find_map(|&(count, code)| {
            end += count as usize;
            (page < end).then_some(code)
        })
    }

    /// The list of these pages, as far as they exist.
    pub fn part(&self, pages: Range<usize>) -> Self {
        let mut part = Self::default();
        let mut start = 0;
        for &(count, code) in &self.runs {
            let end = start + count as usize;
            let from = pages.start.max(start);
            let to = pages.end.min(end);
            if from < to {
                part.push((to - from) as u32, code);
            }
            start = end;
        }
        part
    }
}

impl<T: fmt::Display> fmt::Display for Rle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (count, code)) in self.runs.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{count}*{code}")?;
        }
        Ok(())
    }
}
