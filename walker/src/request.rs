//! What a caller wants of each page, independent of how an API lets it say so.

use crate::addr::PageRange;

/// The wish for one page. Two bits in every API that has them: fault, and fault for write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Wish {
    /// Report what is there.
    #[default]
    None = 0,
    /// Must end valid.
    Read = 1,
    /// Must end writable.
    Write = 3,
}

impl Wish {
    /// Both wishes at once: the stronger.
    pub const fn or(self, other: Wish) -> Wish {
        match (self as u8) | (other as u8) {
            0 => Wish::None,
            1 => Wish::Read,
            _ => Wish::Write,
        }
    }
}

/// A request over a range: a default for all pages, and perhaps a wish for each.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pages asked about.
    pub range: PageRange,
    /// Wished of every page.
    pub default: Wish,
    /// Wished of page i besides, if the caller says so page by page. As long as the range.
    pub per_page: Option<&'a [Wish]>,
    /// `dev_private_owner`: whose device memory is reported instead of faulted back; 0 for none.
    pub owner: u64,
}

impl<'a> Request<'a> {
    /// The same for `part` of its range.
    pub fn part(&self, part: PageRange) -> Request<'a> {
        let first = part.start().pages_since(self.range.start()) as usize;
        let wishes = self.per_page.map(|w| &w[first..first + part.nr_pages() as usize]);
        Request { range: part, per_page: wishes, ..*self }
    }
}

impl Request<'_> {
    /// The same wish for every page, as one range default.
    pub const fn all(range: PageRange, wish: Wish) -> Request<'static> {
        Request { range, default: wish, per_page: None, owner: 0 }
    }
    /// What is wished of page `i` in all.
    pub fn wish(&self, i: usize) -> Wish {
        self.per_page.map_or(self.default, |w| self.default.or(w[i]))
    }
    /// Whether nothing may fault.
    pub fn is_snapshot(&self) -> bool {
        self.default == Wish::None && self.per_page.is_none_or(|w| w.iter().all(|w| *w == Wish::None))
    }
}
