//! The sub-commands, one a file.

pub(crate) mod capture;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod conform;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod gate;
pub(crate) mod kernels;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod soak;
pub(crate) mod speed;
pub(crate) mod verify;
