//! What a workload asks of each page: the request kinds of definitions and cell ids, and the wishes they stand for.
//!
//! Contract: a kind, a length and a seed decide every wish, on any machine. Nothing here knows an API: a request is
//! written into whatever arrays a design has by its `prepare` stage.

use crate::random::{self, Picks, Purpose};
use core::fmt;
use core::str::FromStr;
use walker::addr::PageRange;
use walker::backend::Capability;
use walker::request::{Request, Wish};

/// Some of the pages of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// So many, or all if there are fewer.
    Pages(u64),
    /// So many in a thousand, rounded down, at least one.
    Permille(u16),
}

impl Share {
    /// How many of `nr_pages` pages these are.
    pub const fn of(self, nr_pages: u64) -> u64 {
        let n = match self {
            Share::Pages(n) => n,
            Share::Permille(p) => (nr_pages as u128 * p as u128 / 1000) as u64,
        };
        let n = if n == 0 { 1 } else { n };
        if n < nr_pages { n } else { nr_pages }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Share::Pages(n) => write!(f, "{n}page"),
            Share::Permille(p) if p % 10 == 0 => write!(f, "{}pct", p / 10),
            Share::Permille(p) => write!(f, "{p}permille"),
        }
    }
}

impl FromStr for Share {
    type Err = ();
    fn from_str(s: &str) -> Result<Share, ()> {
        let digits = s.trim_end_matches(|c: char| !c.is_ascii_digit());
        let n: u64 = digits.parse().map_err(|_| ())?;
        let permille = |p: Option<u64>| match p {
            Some(p @ 1..=1000) => Ok(Share::Permille(p as u16)),
            _ => Err(()),
        };
        let share = match &s[digits.len()..] {
            "page" if n > 0 => Ok(Share::Pages(n)),
            "pct" => permille(n.checked_mul(10)),
            "permille" => permille(Some(n)),
            _ => Err(()),
        }?;
        // One spelling for each: ids are compared as text.
        if share.to_string() == s { Ok(share) } else { Err(()) }
    }
}

/// A kind of request. Its name is the part of a cell id: `snapshot`, `fault_read`, `fault_write`,
/// `prefetch_then_write`, `read_all_write_1page`, `read_all_write_1pct`, `scattered_read_10pct`, `scattered_write_16page`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Report every page, fault none.
    Snapshot,
    /// Every page must end readable.
    FaultRead,
    /// Every page must end writable.
    FaultWrite,
    /// Every page readable, some of them, anywhere, writable.
    ReadAllWriteSome(Share),
    /// Coalesced device faults: the pages between the wished ones are only reported.
    Scattered {
        /// How many are wished.
        share: Share,
        /// Wished writable, else readable.
        write: bool,
    },
    /// Every call twice with the same array: first every page must end readable, then writable. In between the caller
    /// does not refill: an array that was answered in place holds its answers when the second call begins, as the
    /// long-lived array of a memory region does. Designs without a range-wide wish must write theirs again.
    PrefetchThenWrite,
}

impl RequestKind {
    /// What a design must be able to express to be asked this.
    pub const fn requires(self) -> &'static [Capability] {
        match self {
            RequestKind::Snapshot => &[Capability::Snapshot],
            RequestKind::FaultRead | RequestKind::FaultWrite | RequestKind::PrefetchThenWrite => {
                &[Capability::Fault]
            }
            RequestKind::ReadAllWriteSome(_) | RequestKind::Scattered { .. } => {
                &[Capability::Fault, Capability::PerPageRequest]
            }
        }
    }
    /// The strongest wish for any page: what the request may do to the tables.
    pub const fn strongest(self) -> Wish {
        match self {
            RequestKind::Snapshot => Wish::None,
            RequestKind::FaultRead | RequestKind::Scattered { write: false, .. } => Wish::Read,
            RequestKind::FaultWrite
            | RequestKind::PrefetchThenWrite
            | RequestKind::ReadAllWriteSome(_)
            | RequestKind::Scattered { write: true, .. } => Wish::Write,
        }
    }
    /// What is wished of every page, call by call: one call a range, or two in a row on the same array.
    pub const fn passes(self) -> &'static [Wish] {
        match self {
            RequestKind::Snapshot | RequestKind::Scattered { .. } => &[Wish::None],
            RequestKind::FaultRead | RequestKind::ReadAllWriteSome(_) => &[Wish::Read],
            RequestKind::FaultWrite => &[Wish::Write],
            RequestKind::PrefetchThenWrite => &[Wish::Read, Wish::Write],
        }
    }
    /// The wishes beside the default, one a page, for `nr_pages` pages; none where all pages are wished alike. Exactly
    /// [`Share::of`] pages are picked, each set of pages as likely as any other. A walk in several calls slices them.
    pub fn wishes(self, nr_pages: u64, seed: u64) -> Option<Vec<Wish>> {
        let (share, wish) = match self {
            RequestKind::ReadAllWriteSome(share) => (share, Wish::Write),
            RequestKind::Scattered { share, write } => (share, if write { Wish::Write } else { Wish::Read }),
            _ => return None,
        };
        let picks = Picks::new(random::generator(seed, Purpose::Wishes), nr_pages, share.of(nr_pages));
        Some(picks.map(|wished| if wished { wish } else { Wish::None }).collect())
    }
    /// The requests over `range`, one for each of [`RequestKind::passes`]. `wishes` are those of its pages, as
    /// [`RequestKind::wishes`] gave them.
    ///
    /// # Panics
    /// If there are wishes for another number of pages.
    pub fn requests(self, range: PageRange, wishes: Option<&[Wish]>) -> impl Iterator<Item = Request<'_>> {
        if let Some(w) = wishes {
            assert_eq!(w.len() as u64, range.nr_pages(), "one wish for each page of the range");
        }
        self.passes().iter().map(move |wish| Request { range, default: *wish, per_page: wishes, owner: 0 })
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestKind::Snapshot => f.write_str("snapshot"),
            RequestKind::FaultRead => f.write_str("fault_read"),
            RequestKind::FaultWrite => f.write_str("fault_write"),
            RequestKind::PrefetchThenWrite => f.write_str("prefetch_then_write"),
            RequestKind::ReadAllWriteSome(share) => write!(f, "read_all_write_{share}"),
            RequestKind::Scattered { share, write: false } => write!(f, "scattered_read_{share}"),
            RequestKind::Scattered { share, write: true } => write!(f, "scattered_write_{share}"),
        }
    }
}

/// What request names look like, for messages.
pub const EXPECTED: &str = "snapshot, fault_read, fault_write, prefetch_then_write, read_all_write_SHARE, \
                            scattered_read_SHARE or scattered_write_SHARE, where SHARE is like 1page, 10pct or 5permille";

/// A name of each kind, to find the one that was meant.
pub(crate) const LIKE: [&str; 7] = [
    "snapshot",
    "fault_read",
    "fault_write",
    "prefetch_then_write",
    "read_all_write_1pct",
    "scattered_read_1pct",
    "scattered_write_1pct",
];

impl FromStr for RequestKind {
    /// Not a name of a request; [`EXPECTED`] says what is.
    type Err = ();
    fn from_str(s: &str) -> Result<RequestKind, ()> {
        Ok(match s {
            "snapshot" => RequestKind::Snapshot,
            "fault_read" => RequestKind::FaultRead,
            "fault_write" => RequestKind::FaultWrite,
            "prefetch_then_write" => RequestKind::PrefetchThenWrite,
            _ => {
                let (kind, share) = s.rsplit_once('_').ok_or(())?;
                let share: Share = share.parse()?;
                match kind {
                    "read_all_write" => RequestKind::ReadAllWriteSome(share),
                    "scattered_read" => RequestKind::Scattered { share, write: false },
                    "scattered_write" => RequestKind::Scattered { share, write: true },
                    _ => return Err(()),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip_and_have_one_spelling() {
        for name in [
            "snapshot",
            "fault_read",
            "fault_write",
            "prefetch_then_write",
            "read_all_write_1page",
            "read_all_write_1pct",
            "read_all_write_50pct",
            "scattered_read_16page",
            "scattered_write_5permille",
        ] {
            assert_eq!(name.parse::<RequestKind>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "_",
            "snapshot_1pct",
            "read_all_write_0pct",
            "read_all_write_10permille",
            "read_all_write_01pct",
            "read_all_write_101pct",
            "scattered_1pct",
            "read_all_write_99999999999999999999pct",
            "read_all_write_é",
        ] {
            assert_eq!(name.parse::<RequestKind>(), Err(()), "{name}");
        }
    }

    #[test]
    fn exactly_the_share_is_wished_for_and_the_seed_decides_which() {
        for (nr, share, n) in [
            (1000, Share::Permille(10), 10),
            (512, Share::Permille(10), 5),
            (16, Share::Permille(10), 1),
            (1000, Share::Permille(1000), 1000),
            (8, Share::Pages(16), 8),
        ] {
            let kind = RequestKind::ReadAllWriteSome(share);
            let wishes = kind.wishes(nr, 1).unwrap();
            assert_eq!(wishes.len() as u64, nr);
            assert_eq!(wishes.iter().filter(|w| **w == Wish::Write).count(), n);
            assert_eq!(wishes, kind.wishes(nr, 1).unwrap());
        }
        let kind = RequestKind::Scattered { share: Share::Permille(100), write: false };
        assert_ne!(kind.wishes(4096, 1), kind.wishes(4096, 2));
        assert_eq!(RequestKind::FaultWrite.wishes(64, 1), None);
    }
}
