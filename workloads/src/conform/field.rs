//! The compared fields, and how often each was compared.

use std::fmt;

/// A compared field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the recording's names")]
pub enum Field {
    Ret,
    Segv,
    Bus,
    Calls,
    Cpages,
    Waited,
    Faults,
    /// Whether a race has an order.
    Order,
    Out,
    Raw,
    Snapshot,
    Snapshot1,
    Vma,
    /// The letters P S F U X of `pm`.
    Pm,
    /// The letter D of `pm`.
    SoftDirty,
    Scan,
}

impl Field {
    /// Every field, in the order of comparison and of tables.
    pub const ALL: [Self; 16] = [
        Self::Ret,
        Self::Segv,
        Self::Bus,
        Self::Calls,
        Self::Cpages,
        Self::Waited,
        Self::Faults,
        Self::Order,
        Self::Out,
        Self::Raw,
        Self::Snapshot,
        Self::Snapshot1,
        Self::Vma,
        Self::Pm,
        Self::SoftDirty,
        Self::Scan,
    ];

    /// The name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ret => "ret",
            Self::Segv => "segv",
            Self::Bus => "bus",
            Self::Calls => "calls",
            Self::Cpages => "cpages",
            Self::Waited => "waited",
            Self::Faults => "faults",
            Self::Order => "order",
            Self::Out => "out",
            Self::Raw => "raw",
            Self::Snapshot => "snapshot",
            Self::Snapshot1 => "snapshot1",
            Self::Vma => "vma",
            Self::Pm => "pm",
            Self::SoftDirty => "soft_dirty",
            Self::Scan => "scan",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many values were compared; a list counts one per page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Values compared.
    pub compared: u64,
    /// Of these, values that differed.
    pub differ: u64,
}

/// [`Counts`] of every field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldTable {
    counts: [Counts; Field::ALL.len()],
}

impl FieldTable {
    /// The counts of one field.
    pub fn get(&self, field: Field) -> Counts {
        self.counts[field as usize]
    }

    /// Adds to the counts of one field.
    pub fn add(&mut self, field: Field, counts: Counts) {
        let sum = &mut self.counts[field as usize];
        sum.compared += counts.compared;
        sum.differ += counts.differ;
    }

    /// Adds every field of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (field, counts) in other.iter() {
            self.add(field, counts);
        }
    }

    /// Every field with its counts.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Counts)> + '_ {
        Field::ALL.into_iter().map(|field| (field, self.get(field)))
    }
}
