//! What is measured: definitions x sizes x requests x call sizes x backends, as groups that share their tables.

use walker::backend::Info;
use workloads::churn::{self, ChurnSpec};
use workloads::definition::{self, Definition, Point, Profile, definitions, parse_size, size_name};
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
            walkers: self.walkers,
            churn: self.churn,
            seed,
        }
    }
    /// The group that `id` names, with no backends in it; none if there is no such definition, or `id` is no id.
    pub(crate) fn parse(id: &str) -> Option<Group> {
        let key = Key::parse(id)?;
        let churn = match key.churn.as_str() {
            churn::NO_CHURN => None,
            name => Some(name.parse().ok()?),
        };
        Some(Group {
            definition: definition::find(&key.workload)?,
            size_bytes: key.size_bytes,
            request: key.request.parse().ok()?,
            call_pages: key.call_pages,
            churn,
            walkers: key.walkers,
            backends: Vec::new(),
            skips: Vec::new(),
        })
    }
}

/// The parts of a group's id. Results are read by it, whether or not this program knows their workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The workload.
    pub(crate) workload: String,
    /// Bytes of walked address space.
    pub(crate) size_bytes: u64,
    /// What is asked.
    pub(crate) request: String,
    /// Pages a call.
    pub(crate) call_pages: u64,
    /// What happens to the tables meanwhile.
    pub(crate) churn: String,
    /// Threads that walk.
    pub(crate) walkers: u32,
}

impl Key {
    /// Takes `workload@size/request/call_pages/churn/walkers` apart.
    pub(crate) fn parse(id: &str) -> Option<Key> {
        let parts: Vec<&str> = id.split('/').collect();
        let &[shape, request, call_pages, churn, walkers] = parts.as_slice() else { return None };
        let (workload, size) = shape.split_once('@')?;
        Some(Key {
            workload: workload.to_owned(),
            size_bytes: parse_size(size)?,
            request: request.to_owned(),
            call_pages: call_pages.parse().ok().filter(|n| *n > 0)?,
            churn: churn.to_owned(),
            walkers: walkers.parse().ok().filter(|n| *n > 0)?,
        })
    }
    /// `workload@size`
    pub(crate) fn shape_id(&self) -> String {
        format!("{}@{}", self.workload, size_name(self.size_bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_found_again_by_its_id() {
        for profile in [Profile::Smoke, Profile::Quick, Profile::Full] {
            for group in groups(profile, &|_| true) {
                let again = Group::parse(&group.id()).unwrap_or_else(|| panic!("{}", group.id()));
                assert_eq!(again.id(), group.id());
                assert_eq!(again.recipe(3).size_bytes, group.size_bytes);
            }
        }
        for wrong in ["", "a/b/c/d/e", "dense_4k@2MiB/snapshot/512/none", "dense_4k@2MiB/snapshot/0/none/1"] {
            assert!(Group::parse(wrong).is_none(), "{wrong}");
        }
    }
}
