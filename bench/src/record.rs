//! The result format: a folder with `run.json` (what was run where) and `samples.jsonl` (what happened, line by line).
//!
//! | line | written | holds |
//! |---|---|---|
//! | `launch` | when a launch of the process starts | its number, machine, build, processors, clock, refused counters |
//! | `begin` | before a launch builds the tables of a group | which one: what was going on when a process died |
//! | `block` | as soon as a block is over | one member's turn: pages, nanoseconds, stages, disturbance |
//! | `member` | at the end of a visit | what is known of a member beside its blocks: counts, single operations, counters |
//! | `visit` | at the end of a visit, last | that this launch is done with this group |
//!
//! Contract: nothing is ever overwritten. A line goes out in one write as soon as it exists, so that a killed run keeps
//! what it had; what follows the last line break is torn and does not count. `run.json` is written beside and renamed:
//! at any moment it is whole. Integers carry their unit in the name. Readers accept schemas up to [`SCHEMA`] and refuse
//! newer ones. Schema 1 had blocks only, of one launch, without `kind`.

mod date;
mod folder;
mod line;
mod read;
mod run;

pub(crate) use date::date;
pub(crate) use folder::{Folder, Lines};
pub(crate) use line::{
    Begin, ChurnCost, ChurnDose, Launch, Line, MemberEnd, Operations, Reading, Sample, Visit,
};
pub(crate) use read::{Reader, read_run};
pub(crate) use run::{Control, Failure, Run, Settings, Shard, Skip, State};

/// Of the folder. The JSON on standard output has [`JSON_SCHEMA`].
pub(crate) const SCHEMA: u32 = 2;

/// Of everything printed with `--format json`.
pub(crate) const JSON_SCHEMA: u32 = 1;
