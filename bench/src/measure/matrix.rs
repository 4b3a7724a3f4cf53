//! What is measured: definitions x sizes x requests x call sizes x backends, as groups that share their tables.

use walker::backend::Info;
use workloads::churn::{self, ChurnSpec};
use workloads::definition::{Definition, Point, Profile, definitions, size_name};
use workloads::request::RequestKind;

use super::scene::Recipe;

/// What the members of a group have in common. Its id is a cell's id without the backend.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The workload.
    pub(crate) definition: &'static Definition,
    /// Bytes of walked address space.
    pub(crate) size_bytes: u64,
    /// What is asked.
    pub(crate) request: RequestKind,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// What happens to the tables meanwhile.
    pub(crate) churn: Option<ChurnSpec>,
    /// Threads that walk.
    pub(crate) walkers: u32,
    /// Backends that are measured.
    pub(crate) backends: Vec<&'static Info>,
    /// Backends that cannot be, and why.
    pub(crate) skips: Vec<(&'static Info, String)>,
}

impl Group {
    /// `workload@size`
    pub(crate) fn shape_id(&self) -> String {
        format!("{}@{}", self.definition.id, size_name(self.size_bytes))
    }
    /// `workload@size/request/call_pages/churn/walkers`
    pub(crate) fn id(&self) -> String {
        let churn = churn::name(self.churn);
        format!("{}/{}/{}/{churn}/{}", self.shape_id(), self.request, self.call_pages, self.walkers)
    }
    /// `workload@size/request/call_pages/churn/walkers/backend`
    pub(crate) fn cell_id(&self, backend: &str) -> String {
        format!("{}/{backend}", self.id())
    }
    /// What its scene is made from.
    pub(crate) fn recipe(&self, seed: u64) -> Recipe {
        Recipe {
            shape: self.definition.shape.clone(),
            size_bytes: self.size_bytes,
            request: self.request,
            call_pages: self.call_pages,
            seed,
        }
    }
}

/// The group of these properties with the cells that `wanted` accepts by their id; none if it accepts none.
pub(crate) fn group(
    definition: &'static Definition,
    request: RequestKind,
    point: Point,
    wanted: &dyn Fn(&str) -> bool,
) -> Option<Group> {
    let Point { size_bytes, call_pages, churn, walkers } = point;
    let (backends, skips) = (Vec::new(), Vec::new());
    let mut group = Group { definition, size_bytes, request, call_pages, churn, walkers, backends, skips };
    for info in walker::backends::ALL {
        if !wanted(&group.cell_id(info.id)) {
            continue;
        }
        let by_churn = churn.and_then(|c| info.lacks(c.requires()));
        let lacks = info.lacks(request.requires()).or_else(|| info.lacks(&definition.requires)).or(by_churn);
        match lacks {
            None => group.backends.push(info),
            Some(c) => group.skips.push((info, format!("lacks the capability {}", c.name()))),
        }
    }
    (!group.backends.is_empty() || !group.skips.is_empty()).then_some(group)
}

/// The groups of a profile in the order of the definitions, with the cells that `wanted` accepts by their id. Groups
/// without a wanted cell are left out.
pub(crate) fn groups(profile: Profile, wanted: &dyn Fn(&str) -> bool) -> Vec<Group> {
    let mut groups = Vec::new();
    for definition in definitions() {
        // Tables that the reader sees together come one after the other: by size and call, then by request.
        for point in definition.grid(profile).points() {
            for &request in &definition.requests {
                groups.extend(group(definition, request, point, wanted));
            }
        }
    }
    groups
}
