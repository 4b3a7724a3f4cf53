//! Ranges of `/proc/self/maps` inside the window: `OFF+LEN:PERMS`, neighbours with equal permissions joined.

use std::fmt;

use super::op::Prot;

/// Consecutive pages of the window with one set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VmaRange {
    /// First page of the window.
    pub off: u64,
    /// Number of pages.
    pub len: u64,
    /// Permissions.
    pub perms: Perms,
}

/// The four permission characters of `/proc/self/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Perms {
    /// `rwx`.
    pub prot: Prot,
    /// `s` (`VM_MAYSHARE`) instead of `p`.
    pub shared: bool,
}

/// Joins neighbours with equal permissions, as the recorder does; the ranges must be in ascending order.
pub fn join(ranges: impl IntoIterator<Item = VmaRange>) -> Vec<VmaRange> {
    let mut joined: Vec<VmaRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.off + last.len == range.off && last.perms == range.perms => {
                last.len += range.len
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// The text form of a list of ranges.
pub(crate) fn show(ranges: &[VmaRange]) -> String {
    let ranges: Vec<String> = ranges.iter().map(VmaRange::to_string).collect();
    ranges.join(",")
}

/// Parses a list inside a window of `npages`; `Err` is what was expected and what was found.
pub(super) fn parse(text: &str, npages: u64) -> Result<Vec<VmaRange>, (&'static str, String)> {
    let mut ranges = Vec::new();
    let mut end = 0;
    if text.is_empty() {
        return Ok(ranges);
    }
    for item in text.split(',') {
        let range =
            parse_range(item).ok_or_else(|| ("OFF+LEN:PERMS with four characters rwxp or -", item.into()))?;
        let fits = range.len > 0
            && range.off >= end
            && range.off.checked_add(range.len).is_some_and(|range_end| range_end <= npages);
        if !fits {
            return Err(("ascending ranges inside the window", item.into()));
        }
        end = range.off + range.len;
        ranges.push(range);
    }
    Ok(ranges)
}

fn parse_range(item: &str) -> Option<VmaRange> {
    let (place, perms) = item.split_once(':')?;
    let (off, len) = place.split_once('+')?;
    Some(VmaRange { off: off.parse().ok()?, len: len.parse().ok()?, perms: parse_perms(perms)? })
}

/// The four characters of `/proc/self/maps`.
pub fn parse_perms(perms: &str) -> Option<Perms> {
    let &[read, write, exec, shared] = perms.as_bytes() else { return None };
    let letter = |found: u8, letter: u8| match found {
        b'-' => Some(false),
        found => (found == letter).then_some(true),
    };
    let prot = Prot { read: letter(read, b'r')?, write: letter(write, b'w')?, exec: letter(exec, b'x')? };
    let shared = match shared {
        b's' => true,
        b'p' => false,
        _ => return None,
    };
    Some(Perms { prot, shared })
}

impl fmt::Display for VmaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}:{}", self.off, self.len, self.perms)
    }
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |set: bool, letter: char| if set { letter } else { '-' };
        write!(
            f,
            "{}{}{}{}",
            letter(self.prot.read, 'r'),
            letter(self.prot.write, 'w'),
            letter(self.prot.exec, 'x'),
            if self.shared { 's' } else { 'p' }
        )
    }
}
