//! What the gate and the programs that it compares say to each other, line by line.
//!
//! The gate writes requests as words; the program answers each with one JSON object on one line, and first of all says
//! who it is ([`Hello`]). Both sides of a gate may be years apart: [`PROTOCOL`] grows when a request or an answer means
//! something else, and a gate refuses another protocol.
//!
//! | request | answer | |
//! |---|---|---|
//! | `prepare SEED EXTRA_PERCENT CELL` | [`Prepared`] | builds the tables; forgets the cell before |
//! | `forget` | [`Forgotten`] | the cell, if there is one: its memory goes back to the system; only where [`Hello`] says so |
//! | `answers` | [`Answers`] | one sweep, hashed |
//! | `run SWEEPS` | [`Ran`] | a block |
//! | `part I OF` | [`Ran`] | that part of a sweep, from 0, in order; tables are put back before the first |
//! | `tail SWEEPS` | [`Ran`] with its [`Tail`] | a block whose operations are timed one by one |
//! | end of input | | the program ends |
//!
//! A request that cannot be fulfilled is answered with [`Refused`], and the program goes on.

use serde::{Deserialize, Serialize};

/// Of this program.
pub(crate) const PROTOCOL: u32 = 1;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// See [`PROTOCOL`].
    pub(crate) walkbench_serve: u32,
    /// The compiler.
    pub(crate) rustc: String,
    /// Profile and optimisation level.
    pub(crate) profile: String,
    /// RUSTFLAGS.
    pub(crate) flags: String,
    /// The commit it was built from.
    pub(crate) commit: String,
    /// Whether tracked files differed from it.
    pub(crate) dirty: String,
    /// Whether it knows `forget`.
    #[serde(default)]
    pub(crate) forgets: bool,
}

/// To `forget`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Forgotten {}

/// To `prepare`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// Calls of a sweep.
    pub(crate) calls: u64,
    /// Pages of a sweep.
    pub(crate) pages: u64,
    /// Nanoseconds that a block should last for reasons of its churn; 0 for any.
    pub(crate) least_block_ns: u64,
    /// Parts that a sweep can be done in, where tables are put back between sweeps; 0 where that is of no use, and of
    /// programs that know no parts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) parts: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// To `answers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// A hash of all slots.
    pub(crate) answers: String,
}

/// To `run` and `tail`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// What the sweeps took.
    pub(crate) ns: u64,
    /// Times that a walker lost the processor against its will; null if the kernel does not say.
    pub(crate) switches: Option<u64>,
    /// What churn did meanwhile: events, and in how many nanoseconds or beside how many tables.
    #[serde(default)]
    pub(crate) churn: Option<Churned>,
    /// The block's single operations, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tail: Option<Tail>,
}

/// How long the slow operations of a block took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// Operations of the block.
    pub(crate) operations: u64,
    /// Ninety-nine of a hundred took no longer, in nanoseconds, to within 1 %.
    pub(crate) p99_ns: u64,
}

/// What churn achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// Wall time of the block.
    pub(crate) ns: u64,
    /// Events that happened.
    pub(crate) events: u64,
    /// Tables that the walk reported, for closed doses.
    pub(crate) tables: u64,
}

/// To any request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Why.
    pub(crate) error: String,
}
