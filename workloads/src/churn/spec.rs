//! The parameters of churn and their names.

use crate::definition::{parse_size, size_name};
use crate::nearest;
use core::fmt;
use core::str::FromStr;
use walker::addr::{PAGE_SHIFT, PAGE_SIZE};
use walker::backend::Capability;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What one event does, with the kernel's notifier events in the kernel's order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ChurnKind { $($(#[$doc])* $variant),* }
        impl ChurnKind {
            /// Every kind.
            pub const ALL: &'static [ChurnKind] = &[$(ChurnKind::$variant),*];
            /// As in ids and definitions.
            pub const fn name(self) -> &'static str {
                match self { $(ChurnKind::$variant => $name),* }
            }
        }
    };
}

kinds! {
    /// MADV_DONTNEED; the pages come back by faults.
    Zap = "zap",
    /// mprotect to read-only and back, in turn.
    Mprotect = "mprotect",
    /// fork write-protects everything, the child exits, writes break COW.
    Fork = "fork",
    /// A PMD leaf becomes a table.
    Split = "split",
    /// Small pages become a huge one.
    Collapse = "collapse",
    /// Migration: the entry appears, then resolves.
    Migrate = "migrate",
    /// Reclaim to swap.
    Pageout = "pageout",
    /// NUMA-hint scanning in PMD steps.
    NumaHint = "numa_hint",
    /// Migration to device-private memory, and back.
    DeviceMigrate = "device_migrate",
}

/// Where in its range each event lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Anywhere, all places alike.
    Uniform,
    /// By Zipf(0.99): some places again and again.
    Zipf,
    /// One after the other, from the start again at the end.
    Sweep,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Place::Uniform => "uniform",
            Place::Zipf => "zipf",
            Place::Sweep => "sweep",
        }
    }
}

/// How much happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dose {
    /// Open: this many events a second over all threads, whatever the walk does; not 0.
    PerSec(u64),
    /// Open: as many as the threads can do.
    Max,
    /// Closed: one event for every so many walked PMD entries; not 0.
    EveryTables(u64),
}

impl fmt::Display for Dose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dose::PerSec(n) => write!(f, "{n}ps"),
            Dose::Max => f.write_str("max"),
            Dose::EveryTables(n) => write!(f, "every{n}"),
        }
    }
}

/// Churn with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChurnSpec {
    /// What each event does.
    pub kind: ChurnKind,
    /// Pages of one event: a power of two.
    pub span_pages: u64,
    /// Per cent of the events that lie in the walked range; the others lie in memory of the same shape beside it.
    pub overlap_percent: u8,
    /// Where each lands.
    pub place: Place,
    /// How many.
    pub dose: Dose,
    /// Threads that share the dose.
    pub threads: u32,
}

impl ChurnSpec {
    /// What a design must be able to do to be walked with while this happens.
    pub const fn requires(&self) -> &'static [Capability] {
        match self.kind {
            _ if self.overlap_percent == 0 => &[],
            // The VMA is cut at both ends of the event's range.
            ChurnKind::Mprotect => &[Capability::CrossVma],
            // The walk meets pages of a device that is not the caller's.
            ChurnKind::DeviceMigrate => &[Capability::ForeignDevice],
            _ => &[],
        }
    }
}

/// What names look like, for messages.
pub const EXPECTED: &str = "none, or KIND-SPAN-oOVERLAP-PLACE-DOSE-tTHREADS like zap-2MiB-o100-uniform-1000ps-t1, where \
                            KIND is zap, mprotect, fork, split, collapse, migrate, pageout, numa_hint or \
                            device_migrate, SPAN a power of two from 4KiB to 1GiB, OVERLAP 0 to 100, PLACE uniform, zipf \
                            or sweep, DOSE like 1000ps (a second), max or every8 (walked tables), THREADS 1 to 64";

/// Longest span of an event: 1 GiB.
const MAX_SPAN_PAGES: u64 = 1 << 18;
const MAX_THREADS: u32 = 64;

impl fmt::Display for ChurnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChurnSpec { kind, span_pages, overlap_percent, place, dose, threads } = *self;
        let span = size_name(span_pages << PAGE_SHIFT);
        write!(f, "{}-{span}-o{overlap_percent}-{}-{dose}-t{threads}", kind.name(), place.name())
    }
}

/// Most events a second that a definition may ask for: an event takes a lock, a callback and two barriers at least, which
/// no processor does in a hundred nanoseconds.
pub const MAX_PER_SEC: u64 = 10_000_000;

/// Not a name of churn: which part, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChurnError(String);

impl fmt::Display for ChurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl core::error::Error for ChurnError {}

/// The error of one part of a name.
fn wrong(what: &str, part: &str, expected: &str) -> ChurnError {
    ChurnError(format!("{what} {part:?}: expected {expected}"))
}

impl FromStr for Dose {
    type Err = ChurnError;
    fn from_str(s: &str) -> Result<Dose, ChurnError> {
        const EXPECTED: &str = "like 1000ps (a second), max or every8 (walked tables), and not 0";
        let dose = match (s, s.strip_suffix("ps"), s.strip_prefix("every")) {
            ("max", ..) => Some(Dose::Max),
            (_, Some(n), _) => number(n).map(Dose::PerSec),
            (_, _, Some(n)) => number(n).map(Dose::EveryTables),
            _ => None,
        };
        match dose.ok_or_else(|| wrong("dose", s, EXPECTED))? {
            Dose::PerSec(0) | Dose::EveryTables(0) => Err(wrong("dose", s, EXPECTED)),
            Dose::PerSec(n) if n > MAX_PER_SEC => {
                let expected =
                    format!("at most {MAX_PER_SEC}ps, which no machine reaches; max is as many as it can");
                Err(wrong("dose", s, &expected))
            }
            dose => Ok(dose),
        }
    }
}

impl FromStr for ChurnSpec {
    /// Says which part is wrong; [`EXPECTED`] says what the whole looks like.
    type Err = ChurnError;
    fn from_str(s: &str) -> Result<ChurnSpec, ChurnError> {
        let parts: Vec<&str> = s.split('-').collect();
        let &[kind, span, overlap, place, dose, threads] = parts.as_slice() else {
            return Err(ChurnError(format!("expected {EXPECTED}")));
        };
        let kinds = || ChurnKind::ALL.iter().map(|k| k.name());
        let unknown_kind = || {
            let hint = nearest::hint(kind, kinds());
            wrong("kind", kind, &format!("one of {}{hint}", kinds().collect::<Vec<_>>().join(", ")))
        };
        let places = [Place::Uniform, Place::Zipf, Place::Sweep];
        let unknown_place = || {
            let hint = nearest::hint(place, places.map(Place::name));
            wrong("place", place, &format!("uniform, zipf or sweep{hint}"))
        };
        let span_pages = parse_size(span)
            .filter(|b| b.is_power_of_two() && *b >= PAGE_SIZE && b >> PAGE_SHIFT <= MAX_SPAN_PAGES)
            .ok_or_else(|| wrong("span", span, "a power of two from 4KiB to 1GiB"))?
            >> PAGE_SHIFT;
        let overlap_percent = overlap
            .strip_prefix('o')
            .and_then(number)
            .filter(|p| *p <= 100)
            .ok_or_else(|| wrong("overlap", overlap, "o0 to o100"))?;
        let nr_threads = threads
            .strip_prefix('t')
            .and_then(number)
            .filter(|t| (1..=MAX_THREADS).contains(t))
            .ok_or_else(|| wrong("threads", threads, &format!("t1 to t{MAX_THREADS}")))?;
        let spec = ChurnSpec {
            kind: ChurnKind::ALL.iter().copied().find(|k| k.name() == kind).ok_or_else(unknown_kind)?,
            span_pages,
            overlap_percent,
            place: places.into_iter().find(|p| p.name() == place).ok_or_else(unknown_place)?,
            dose: dose.parse()?,
            threads: nr_threads,
        };
        // One spelling for each: ids are compared as text.
        if spec.to_string() == s {
            Ok(spec)
        } else {
            Err(ChurnError(format!("expected the spelling {spec}")))
        }
    }
}

fn number<T: FromStr>(s: &str) -> Option<T> {
    s.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip_and_have_one_spelling() {
        for name in [
            "zap-2MiB-o100-uniform-1000ps-t1",
            "pageout-64KiB-o50-zipf-every8-t1",
            "mprotect-4KiB-o0-sweep-max-t2",
            "device_migrate-256MiB-o100-sweep-100000ps-t64",
        ] {
            assert_eq!(name.parse::<ChurnSpec>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "none",
            "zap",
            "zap-2MiB-o100-uniform-1000ps",
            "zap-2MiB-o100-uniform-1000ps-t1-",
            "zap-2048KiB-o100-uniform-1000ps-t1",
            "zap-3MiB-o100-uniform-1000ps-t1",
            "zap-2GiB-o100-uniform-1000ps-t1",
            "zap-0B-o100-uniform-1000ps-t1",
            "zap-2MiB-o101-uniform-1000ps-t1",
            "zap-2MiB-o+1-uniform-1000ps-t1",
            "zap-2MiB-100-uniform-1000ps-t1",
            "zap-2MiB-o100-anywhere-1000ps-t1",
            "zap-2MiB-o100-uniform-0ps-t1",
            "zap-2MiB-o100-uniform-every0-t1",
            "zap-2MiB-o100-uniform-1000-t1",
            "zap-2MiB-o100-uniform-max-t0",
            "zap-2MiB-o100-uniform-max-t65",
            "unmap-2MiB-o100-uniform-max-t1",
        ] {
            assert!(name.parse::<ChurnSpec>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (name, message) in [
            ("zapp-2MiB-o100-uniform-1000ps-t1", "kind \"zapp\": expected one of zap, mprotect"),
            ("zapp-2MiB-o100-uniform-1000ps-t1", "did you mean zap?"),
            ("zap-2MiB-o100-unifrom-1000ps-t1", "did you mean uniform?"),
            ("zap-2MiB-o100-uniform-10000001ps-t1", "at most 10000000ps, which no machine reaches"),
            ("zap-2MiB-o100-uniform-99999999999999999999ps-t1", "dose"),
            ("zap-3MiB-o100-uniform-1000ps-t1", "span \"3MiB\": expected a power of two"),
            ("zap-2048KiB-o100-uniform-1000ps-t1", "expected the spelling zap-2MiB-o100"),
            ("zap", "expected none, or KIND-SPAN"),
        ] {
            let e = name.parse::<ChurnSpec>().unwrap_err().to_string();
            assert!(e.contains(message), "{name}: {e}");
        }
        assert!("zap-2MiB-o100-uniform-10000000ps-t1".parse::<ChurnSpec>().is_ok());
    }
}
