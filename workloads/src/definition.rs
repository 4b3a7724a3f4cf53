//! Definitions: which shape, asked what, at which sizes, and why. TOML, data only.
//!
//! ```toml
//! id = "dense_4k"                       # a-z, 0-9 and _: the first part of a cell id
//! title = "Every page present, frames shuffled"
//! analysis = "Why it exists, what it decides, its evidence."
//! requires = ["snapshot"]               # capabilities beside those that the requests imply; never a backend
//! requests = ["snapshot", "fault_read", "read_all_write_1pct"]   # no more than every page can fulfil
//! retry = "at_once"                     # after a collision: at_once (the default), after_1ms, back_off, resumed, locked
//! attempts = 1000                       # collisions until an operation gives up; by default never
//!
//! [shape.dense_4k]                      # one shape with its parameters: see `ShapeSpec`
//! run_pages = 1
//!
//! [smoke]                               # and [quick], [full]: the grid of each profile
//! sizes = ["2MiB"]                      # of walked address space; left out where the shape has its own
//! call_pages = [1, 512]
//! churn = ["none", "zap-2MiB-o100-uniform-1000ps-t1"]    # see `churn`; by default none
//! walkers = [1, 2]                      # threads that walk, each its share of the range; by default 1
//! ```
//!
//! Contract: whatever the bytes, [`parse`] answers with a definition that [`Definition::build`] can work with (memory
//! permitting), or with an error that has file, line and what was expected. Unknown keys are errors.

mod error;
mod parse;
mod retry;
mod size;

pub use error::DefinitionError;
pub use parse::parse;
pub use retry::{POLICIES, Retry};
pub use size::{parse_size, size_name};

use crate::churn::ChurnSpec;
use crate::request::RequestKind;
use crate::shape::ShapeSpec;
use std::sync::OnceLock;
use walker::addr::PAGE_SIZE;
use walker::backend::Capability;

/// How much a run covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Seconds: does everything work.
    Smoke,
    /// Under two minutes: the default.
    Quick,
    /// As long as it takes.
    Full,
}

impl Profile {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Smoke => "smoke",
            Profile::Quick => "quick",
            Profile::Full => "full",
        }
    }
}

/// What one profile runs of a definition: every size with every call size, churn and number of walkers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Bytes of walked address space, ascending. Empty: not in this profile.
    pub sizes: Vec<u64>,
    /// Pages a call, ascending.
    pub call_pages: Vec<u64>,
    /// What happens meanwhile, each once; none where nothing does.
    pub churn: Vec<Option<ChurnSpec>>,
    /// Threads that walk, ascending.
    pub walkers: Vec<u32>,
}

/// One point of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Bytes of walked address space.
    pub size_bytes: u64,
    /// Pages a call.
    pub call_pages: u64,
    /// What happens meanwhile.
    pub churn: Option<ChurnSpec>,
    /// Threads that walk.
    pub walkers: u32,
}

impl Grid {
    /// Sizes and call sizes, with nothing happening meanwhile and one walker.
    pub fn quiet(sizes: Vec<u64>, call_pages: Vec<u64>) -> Grid {
        Grid { sizes, call_pages, churn: vec![None], walkers: vec![1] }
    }
    /// Every point whose calls fit into each walker's share of its size.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let with = move |size_bytes| {
            self.call_pages.iter().flat_map(move |&call_pages| {
                self.churn.iter().flat_map(move |&churn| {
                    let point = move |&walkers| Point { size_bytes, call_pages, churn, walkers };
                    self.walkers.iter().map(point)
                })
            })
        };
        let fits = |p: &Point| p.call_pages <= p.size_bytes / PAGE_SIZE / u64::from(p.walkers);
        self.sizes.iter().copied().flat_map(with).filter(fits)
    }
}

/// One workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// First part of a cell id.
    pub id: String,
    /// What it is, in a line.
    pub title: String,
    /// Why it exists, what it decides, its evidence.
    pub analysis: String,
    /// Capabilities that a design needs to be asked at all, beside [`RequestKind::requires`].
    pub requires: Vec<Capability>,
    /// What is asked.
    pub requests: Vec<RequestKind>,
    /// What is built.
    pub shape: ShapeSpec,
    /// What follows a collision.
    pub retry: Retry,
    /// Seconds.
    pub smoke: Grid,
    /// Under two minutes.
    pub quick: Grid,
    /// Everything.
    pub full: Grid,
}

impl Definition {
    /// The grid of a profile.
    pub const fn grid(&self, profile: Profile) -> &Grid {
        match profile {
            Profile::Smoke => &self.smoke,
            Profile::Quick => &self.quick,
            Profile::Full => &self.full,
        }
    }
    /// Whether a request leaves the tables as they are, so that it can be repeated without end: it asks nothing that
    /// some page does not already give. Otherwise [`crate::shape::Built::reset`] goes between two walks of a page.
    pub const fn is_steady(&self, request: RequestKind) -> bool {
        self.shape.gives() as u8 >= request.strongest() as u8
    }
    /// The definition of a shape captured from a live process: its snapshot, whole.
    pub fn captured(shape: crate::capture::Shape) -> Definition {
        let spec = ShapeSpec::captured(shape);
        let ShapeSpec::Captured(layout) = &spec else { unreachable!("just made") };
        let grid = Grid::quiet(vec![layout.size_bytes()], vec![512, 1 << 17]);
        Definition {
            id: format!("captured_{}", layout.shape().name),
            title: layout.shape().description.clone(),
            analysis: layout.shape().made.clone(),
            requires: vec![Capability::CrossVma],
            requests: vec![RequestKind::Snapshot],
            shape: spec,
            retry: Retry::default(),
            smoke: grid.clone(),
            quick: grid.clone(),
            full: grid,
        }
    }
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$((concat!($name, ".toml"), include_str!(concat!("../definitions/", $name, ".toml")))),*]
    };
}

/// The registry: one line a definition.
const EMBEDDED: &[(&str, &str)] = embedded! {
    "dense_4k",
    "dense_4k_runs_4",
    "dense_4k_runs_16",
    "dense_4k_runs_64",
    "dense_4k_runs_512",
    "dense_2m",
    "dense_2m_hugetlb",
    "dense_1g",
    "mixed_huge_0pct",
    "mixed_huge_25pct",
    "mixed_huge_50pct",
    "mixed_huge_75pct",
    "mixed_huge_95pct",
    "mixed_huge_100pct",
    "huge_0pct_absent_0pct",
    "huge_0pct_absent_1pct",
    "huge_0pct_absent_5pct",
    "huge_0pct_absent_25pct",
    "huge_50pct_absent_0pct",
    "huge_50pct_absent_1pct",
    "huge_50pct_absent_5pct",
    "huge_50pct_absent_25pct",
    "huge_75pct_absent_0pct",
    "huge_75pct_absent_1pct",
    "huge_75pct_absent_5pct",
    "huge_75pct_absent_25pct",
    "huge_95pct_absent_0pct",
    "huge_95pct_absent_1pct",
    "huge_95pct_absent_5pct",
    "split_permissions",
    "split_permissions_64",
    "split_permissions_one_vma",
    "after_fork_0pct",
    "after_fork_1pct",
    "after_fork_10pct",
    "after_fork_50pct",
    "after_fork_write",
    "absent_4k",
    "absent_4k_no_tables",
    "zero_mapped",
    "zero_mapped_huge",
    "swapped",
    "sparse",
    "sparse_tables",
    "many_vmas",
    "many_vmas_10",
    "many_vmas_100",
    "many_vmas_1k",
    "many_vmas_10k",
    "many_vmas_100k",
    "numa_hint",
    "numa_hint_2m",
    "device_private_own",
    "device_private_other",
    "migrating",
    "migrating_2m",
    "poisoned",
    "pfnmap",
    "numa_storm",
    "livelock_at_once",
    "livelock_after_1ms",
    "livelock_back_off",
    "livelock_resumed",
    "livelock_locked",
    "swap_fight",
    "requeue",
    "captured_kv_bgsave",
    "captured_prefork_worker",
    "captured_jvm_thp",
    "captured_interpreter",
    "captured_browser",
    "captured_database",
    "captured_compiler",
    "captured_training",
    "captured_cache",
};

/// The definitions that come with the program, in the order of the reports.
pub fn definitions() -> &'static [Definition] {
    static ALL: OnceLock<Vec<Definition>> = OnceLock::new();
    ALL.get_or_init(|| {
        EMBEDDED
            .iter()
            // A test parses each, so that this never happens in a release.
            .map(|(name, text)| parse(text, name).unwrap_or_else(|e| panic!("embedded definition {e}")))
            .collect()
    })
}

/// The definition called `id`.
pub fn find(id: &str) -> Option<&'static Definition> {
    definitions().iter().find(|d| d.id == id)
}
