//! The keys of one JSON object, taken out one by one, so that what is left over is known to be unknown.

use serde_json::{Map, Value};

use super::codes::Code;
use super::error::Malformed;
use super::limits::MAX_PAGES;
use super::op::{Prot, Span};
use super::rle::Rle;

/// An object's keys that were not taken yet, and the object's place in the line.
pub(super) struct Fields {
    map: Map<String, Value>,
    at: String,
}

impl Fields {
    pub(super) fn new(value: Value, at: &str, what: &str) -> Result<Self, Malformed> {
        match value {
            Value::Object(map) => Ok(Self { map, at: at.into() }),
            other => Err(Malformed::new(at, what, &other.to_string())),
        }
    }

    /// A key that is still there, which the caller has no use for.
    pub(super) fn left_over(&self) -> Option<&str> {
        self.map.keys().next().map(String::as_str)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    pub(super) fn place(&self, key: &str) -> String {
        if self.at.is_empty() { key.into() } else { format!("{}.{key}", self.at) }
    }

    pub(super) fn wrong(&self, key: &str, expected: impl Into<String>, found: &str) -> Malformed {
        Malformed::new(self.place(key), expected, found)
    }

    pub(super) fn missing(&self, key: &str, expected: impl Into<String>) -> Malformed {
        self.wrong(key, expected, "nothing")
    }

    /// A text; a number stands for its digits, as the recorder writes texts of digits without quotes.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Malformed> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.wrong(key, "a text", &other.to_string())),
        }
    }

    /// An integer; a text of digits stands for its value, decimal or after `0x`.
    pub(super) fn integer(&mut self, key: &str) -> Result<Option<i64>, Malformed> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => match text.strip_prefix("0x") {
                Some(digits) if !digits.starts_with(['+', '-']) => i64::from_str_radix(digits, 16).ok(),
                _ => text.parse().ok(),
            },
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, "an integer", &value.to_string())),
        }
    }

    /// An integer of `least..=most`.
    pub(super) fn within(&mut self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Malformed> {
        let Some(number) = self.integer(key)? else { return Ok(None) };
        match u64::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(key, format!("an integer of {least} to {most}"), &number.to_string())),
        }
    }

    /// A number of pages.
    pub(super) fn pages(&mut self, key: &str, default: u64) -> Result<u64, Malformed> {
        Ok(self.within(key, 0, MAX_PAGES)?.unwrap_or(default))
    }

    /// A count.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<u64>, Malformed> {
        self.within(key, 0, i64::MAX as u64)
    }

    /// 0 or 1.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool, Malformed> {
        Ok(self.within(key, 0, 1)?.map_or(default, |number| number == 1))
    }

    /// `off` and `len`.
    pub(super) fn span(&mut self) -> Result<Span, Malformed> {
        Ok(Span { off: self.pages("off", 0)?, len: self.pages("len", 0)? })
    }

    pub(super) fn prot(&mut self, default: Prot) -> Result<Prot, Malformed> {
        let Some(text) = self.text("prot")? else { return Ok(default) };
        Prot::parse(&text).ok_or_else(|| self.wrong("prot", "letters of rwx, or n", &text))
    }

    /// One code.
    pub(super) fn code<T: Code>(&mut self, key: &str, default: T) -> Result<T, Malformed> {
        let Some(text) = self.text(key)? else { return Ok(default) };
        T::parse(&text).ok_or_else(|| self.wrong(key, T::EXPECTED, &text))
    }

    /// A run-length list over `len` pages.
    pub(super) fn list<T: Code>(&mut self, key: &str, len: usize) -> Result<Option<Rle<T>>, Malformed> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match Rle::parse(&text, len) {
            Ok(list) => Ok(Some(list)),
            Err(error) => Err(self.wrong(key, error.expected, &error.found)),
        }
    }
}
