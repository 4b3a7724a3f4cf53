//! The shape of a live process: its VMAs and entries, through procfs and `PAGEMAP_SCAN`. No contents, no ptrace.
//!
//! # Protocol
//!
//! 1. `smaps` gives VMAs, their flags and what is resident (`maps` where the kernel has no smaps).
//! 2. For each VMA `PAGEMAP_SCAN` (kernel 6.7) tells where entries are, which are PMD leaves and which show the zero
//!    page; `pagemap` then gives flags and frames of just those pages. Where the two disagree the page changed in
//!    between, and pagemap, the later one, is right.
//! 3. `maps` again: mappings that came, went or moved meanwhile are counted in [`Shape::missing`].
//!
//! The process runs on meanwhile, so a capture is a smear over its duration, not an instant; stop the process first
//! (`kill -STOP`) where that matters. Reads need the same user (or `CAP_SYS_PTRACE`); frames need `CAP_SYS_ADMIN`.
//!
//! # Neighbours
//!
//! `workloads::capture` owns the values and the file. Here: [`process`] the procfs files and their errors, [`smaps`]
//! the text, [`pagemap`] the 64-bit entries, [`scan`] the ioctl, [`pages`] the join of both, [`probe`] what this kernel
//! and this user can see.

mod pagemap;
mod pages;
mod probe;
mod process;
pub(crate) mod scan;
mod smaps;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use workloads::capture::{Prot, Shape, ShapeKind, ShapeVma, ThpAdvice};

use self::pages::{Pages, Sight};
use self::process::Process;
use self::smaps::Mapping;

/// What the caller says about a capture.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Name of the shape; the command name if none.
    pub(crate) name: Option<String>,
    /// How the process was made.
    pub(crate) made: Option<String>,
    /// What the shape shows.
    pub(crate) description: Option<String>,
}

/// A capture and what smaps said meanwhile.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The shape, rebased and checked.
    pub(crate) shape: Shape,
    /// Command name of the process.
    pub(crate) command: String,
    /// Resident pages by smaps, which counts neither zero pages nor device mappings.
    pub(crate) resident_pages: u64,
}

/// Captures process `pid`. `progress` is told pages done and pages in all, now and then.
///
/// # Errors
///
/// No such process, no permission, no address space (a kernel thread or zombie), or an end of the process on the way;
/// each names the pid and the stage.
pub(crate) fn capture(pid: u32, labels: &Labels, progress: &mut dyn FnMut(u64, u64)) -> Result<Capture> {
    capture_with(pid, labels, progress, &probe::sight()?)
}

fn capture_with(
    pid: u32,
    labels: &Labels,
    progress: &mut dyn FnMut(u64, u64),
    sight: &Sight,
) -> Result<Capture> {
    let process = Process::open(pid)?;
    let command = process.read_text("comm")?.trim_end().to_owned();
    // Opened before anything else is read: an open pagemap stays with this address space even past an execve.
    let pagemap = process.open_file("pagemap")?;
    let mut missing = always_missing(sight);
    let text = match process.read_optional("smaps")? {
        Some(text) => text,
        None => {
            missing.push("THP advice, hugetlb and driver mappings: this kernel has no smaps".into());
            process.read_text("maps")?
        }
    };
    let mounts = process.read_optional("mountinfo")?.unwrap_or_default();
    let mut mappings = smaps::parse(&text, &smaps::tmpfs_devices(&mounts))?;
    missing.extend(drop_torn(&mut mappings));
    if mappings.is_empty() {
        bail!("process {pid} ({command}) has no mappings: it has just ended");
    }

    let total = mappings.iter().map(Mapping::resident_or_all).sum();
    let mut pages = Pages::new(&process, &pagemap, sight);
    let mut vmas = Vec::with_capacity(mappings.len());
    for mapping in &mappings {
        let mut vma = empty_vma(mapping);
        pages.read(mapping, &mut vma, &mut |done| progress(done, total))?;
        vmas.push(vma);
    }
    if pages.nr_changed() > 0 {
        missing.push(format!(
            "{} pages changed between PAGEMAP_SCAN and pagemap: shown as pagemap had them",
            pages.nr_changed()
        ));
    }
    missing.extend(moved(&mappings, &smaps::parse(&process.read_text("maps")?, &BTreeSet::new())?));
    process.check_alive("after its last page")?;

    let mut shape = Shape {
        name: labels.name.clone().unwrap_or_else(|| shape_name(&command)),
        made: labels.made.clone().unwrap_or_else(|| format!("walkbench capture of a running {command}")),
        description: labels.description.clone().unwrap_or_default(),
        kernel: probe::kernel_release()?,
        physical: sight.frames,
        missing,
        vmas,
    };
    if !sight.tables {
        shape.infer_tables();
    }
    shape.rebase();
    shape.check()?;
    let resident_pages = mappings.iter().map(|m| m.resident_kb / 4).sum();
    Ok(Capture { shape, command, resident_pages })
}

/// Drops mappings that begin inside the one before: the kernel hands out the list in pieces, and a running process may
/// map something else in between. A sentence if there were any.
fn drop_torn(mappings: &mut Vec<Mapping>) -> Option<String> {
    let all = mappings.len();
    let mut end = 0;
    mappings.retain(|m| {
        let whole = m.start >= end;
        if whole {
            end = m.end;
        }
        whole
    });
    let n = all - mappings.len();
    (n > 0)
        .then(|| format!("{n} of {all} mappings overlapped another: the process changed while it was read"))
}

fn empty_vma(mapping: &Mapping) -> ShapeVma {
    ShapeVma {
        start: mapping.start,
        nr_pages: mapping.nr_pages(),
        prot: mapping.prot,
        shared: mapping.shared,
        kind: mapping.kind,
        thp: mapping.thp,
        runs: Vec::new(),
    }
}

/// What no reader of this kernel, or not this user, can see.
fn always_missing(sight: &Sight) -> Vec<String> {
    let mut missing = vec![
        "write, accessed, dirty and NUMA-hint bits of entries: the kernel does not show them".to_owned(),
        "migration, device-private and poison entries: pagemap shows them as swap".to_owned(),
        "PTE-mapped large folios: shown as small pages".to_owned(),
    ];
    if !sight.soft_dirty {
        missing.push("soft-dirty: this kernel does not track it".into());
    }
    if !sight.frames {
        missing.push("physical contiguity: pagemap hides frame numbers without CAP_SYS_ADMIN".into());
    }
    if !sight.scan {
        missing.push(
            "zero pages, and which pages are PMD leaves: no PAGEMAP_SCAN (kernel 6.7); leaves placed by the counts of \
             smaps"
                .into(),
        );
    }
    if !sight.tables {
        missing.push(
            "none entries and missing tables apart: this kernel does not tell; a table is assumed where its 2 MiB \
             hold an entry"
                .into(),
        );
    }
    missing
}

/// A sentence if the mappings are not what they were.
fn moved(before: &[Mapping], after: &[Mapping]) -> Option<String> {
    let places = |all: &[Mapping]| -> BTreeSet<(u64, u64, u8)> {
        all.iter().map(|m| (m.start, m.end, m.prot.bits())).collect()
    };
    let (before, after) = (places(before), places(after));
    let n = before.symmetric_difference(&after).count();
    (n > 0).then(|| format!("{n} of {} mappings came, went or changed during the capture", before.len()))
}

/// The command name as a shape's name: other characters become `-`.
fn shape_name(command: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = command.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    if name.is_empty() { "unnamed".into() } else { name }
}

#[cfg(test)]
mod tests;
