//! What the CPU does to pages while a walk of the same pages is under way: the argument `cpu` of `race`.

use std::fmt;

use super::codes::Code;
use super::limits::MAX_PAGES;
use super::op::Span;

/// Accesses that one race may have.
const MAX_ACCESSES: usize = 16;

/// One access to each page of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What is done.
    pub kind: AccessKind,
    /// To which pages.
    pub span: Span,
    /// From the last page to the first.
    pub down: bool,
}

/// What is done to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// `r`: a byte is read.
    Read,
    /// `w`: a byte is written.
    Write,
    /// `d`: `MADV_DONTNEED`, one call for all pages.
    DontNeed,
    /// `c`: the child writes a byte; nothing where there is no child.
    ChildWrite,
}

impl AccessKind {
    const LETTERS: [(u8, Self); 4] =
        [(b'r', Self::Read), (b'w', Self::Write), (b'd', Self::DontNeed), (b'c', Self::ChildWrite)];
}

impl Access {
    /// Its pages in the order in which they are accessed.
    pub fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        let (span, down) = (self.span, self.down);
        (0..span.len).map(move |i| if down { span.end() - 1 - i } else { span.off + i })
    }
}

impl fmt::Display for Access {
    /// `w10+40`, or `w10-40` from the last page to the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter =
            AccessKind::LETTERS.iter().find(|(_, kind)| *kind == self.kind).map_or('?', |(l, _)| *l as char);
        write!(f, "{letter}{}{}{}", self.span.off, if self.down { '-' } else { '+' }, self.span.len)
    }
}

impl Code for Access {
    const EXPECTED: &'static str =
        "a letter of rwdc, a page, + or - (down, of r and w), and how many pages: w10+40";

    fn parse(text: &str) -> Option<Self> {
        let (&letter, _) = text.as_bytes().split_first()?;
        let kind = AccessKind::LETTERS.iter().find(|(known, _)| *known == letter)?.1;
        let down = text.contains('-');
        let (off, len) = text[1..].split_once(if down { '-' } else { '+' })?;
        let number = |digits: &str| {
            let is_plain = digits == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
            digits.parse().ok().filter(|n| is_plain && *n <= MAX_PAGES)
        };
        let span = Span { off: number(off)?, len: number(len)? };
        let one_by_one = matches!(kind, AccessKind::Read | AccessKind::Write);
        (span.len > 0 && (one_by_one || !down)).then_some(Self { kind, span, down })
    }
}

/// All accesses of a race, in order, joined by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accesses(pub Vec<Access>);

impl fmt::Display for Accesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, access) in self.0.iter().enumerate() {
            write!(f, "{}{access}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl Accesses {
    /// What a valid text is.
    pub(super) const EXPECTED: &'static str = "1 to 16 accesses joined by commas: w10+40,r0-8,d3+1";

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all: Vec<Access> = text.split(',').map(Access::parse).collect::<Option<_>>()?;
        (all.len() <= MAX_ACCESSES).then_some(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_read_back_as_written_and_nothing_else_is_read() {
        for text in ["w10+40", "r0-8", "w10+40,d3+1,c0+5,r7-20"] {
            assert_eq!(Accesses::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Access::parse("r3-3").unwrap().pages().collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!(Access::parse("w3+3").unwrap().pages().collect::<Vec<_>>(), [3, 4, 5]);
        for text in [
            "",
            "w",
            "x0+1",
            "w0+0",
            "w1",
            "d0-4",
            "c0-4",
            "w+1",
            "w01+2",
            "w1++2",
            "w0+1,",
            "é0+1",
            "w0+999999999",
        ] {
            assert_eq!(Accesses::parse(text), None, "{text:?}");
        }
        assert_eq!(Accesses::parse(&["r0+1"; MAX_ACCESSES + 1].join(",")), None);
    }
}
