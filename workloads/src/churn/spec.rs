//! The parameters of churn and their names.

use crate::definition::{parse_size, size_name};
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

impl FromStr for ChurnSpec {
    /// Not a name of churn; [`EXPECTED`] says what is.
    type Err = ();
    fn from_str(s: &str) -> Result<ChurnSpec, ()> {
        let parts: Vec<&str> = s.split('-').collect();
        let &[kind, span, overlap, place, dose, threads] = parts.as_slice() else { return Err(()) };
        let span_pages = parse_size(span).filter(|b| b.is_multiple_of(PAGE_SIZE)).ok_or(())? >> PAGE_SHIFT;
        let places = [Place::Uniform, Place::Zipf, Place::Sweep];
        let spec = ChurnSpec {
            kind: ChurnKind::ALL.iter().copied().find(|k| k.name() == kind).ok_or(())?,
            span_pages,
            overlap_percent: number(overlap.strip_prefix('o').ok_or(())?)?,
            place: places.into_iter().find(|p| p.name() == place).ok_or(())?,
            dose: match (dose, dose.strip_suffix("ps"), dose.strip_prefix("every")) {
                ("max", ..) => Dose::Max,
                (_, Some(n), _) => Dose::PerSec(number(n)?),
                (_, _, Some(n)) => Dose::EveryTables(number(n)?),
                _ => return Err(()),
            },
            threads: number(threads.strip_prefix('t').ok_or(())?)?,
        };
        let is_sane = span_pages.is_power_of_two()
            && span_pages <= MAX_SPAN_PAGES
            && spec.overlap_percent <= 100
            && !matches!(spec.dose, Dose::PerSec(0) | Dose::EveryTables(0))
            && (1..=MAX_THREADS).contains(&spec.threads);
        // One spelling for each: ids are compared as text.
        if is_sane && spec.to_string() == s { Ok(spec) } else { Err(()) }
    }
}

fn number<T: FromStr>(s: &str) -> Result<T, ()> {
    s.parse().map_err(|_| ())
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
            assert_eq!(name.parse::<ChurnSpec>(), Err(()), "{name}");
        }
    }
}
