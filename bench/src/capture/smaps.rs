//! The text of `/proc/PID/smaps` and `maps` to mappings with a class. Paths are looked at and dropped.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::{Prot, ShapeKind, ThpAdvice};
use workloads::capture::{Leaf, PAGE_BYTES};

/// A file system's device as `major:minor`, both in decimal.
pub(super) type Device = (u32, u32);

/// One VMA as procfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) prot: Prot,
    pub(super) shared: bool,
    pub(super) kind: ShapeKind,
    pub(super) thp: ThpAdvice,
    /// `Rss`, in KiB; for hugetlb `Shared_Hugetlb` and `Private_Hugetlb`. 0 from plain maps.
    pub(super) resident_kb: u64,
    /// `Swap`, in KiB.
    pub(super) swap_kb: u64,
    /// `AnonHugePages`, `ShmemPmdMapped` and `FilePmdMapped`, in KiB.
    pub(super) pmd_kb: u64,
    /// Whether the lines of smaps were there, so that zeros mean zero.
    pub(super) counted: bool,
}

impl Mapping {
    pub(super) fn nr_pages(&self) -> u64 {
        (self.end - self.start) / PAGE_BYTES
    }

    /// Pages that reading it will take, for progress.
    pub(super) fn resident_or_all(&self) -> u64 {
        if self.counted { (self.resident_kb + self.swap_kb) / 4 } else { self.nr_pages() }
    }
}

/// Devices of tmpfs mounts in a `mountinfo` text.
pub(super) fn tmpfs_devices(mountinfo: &str) -> BTreeSet<Device> {
    let device = |line: &str| {
        // id parent major:minor root mountpoint options [optional]... - type source superoptions
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("tmpfs ").then_some(())?;
        let (major, minor) = before.split(' ').nth(2)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    mountinfo.lines().filter_map(device).collect()
}

/// Parses smaps or maps. The vsyscall page is left out: it is in no process's mm.
///
/// # Errors
///
/// A line that is neither a mapping nor a `Key: value`, with its number.
pub(super) fn parse(text: &str, tmpfs: &BTreeSet<Device>) -> Result<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut skipping = false;
    for (i, line) in text.lines().enumerate() {
        let expected = || format!("smaps line {}: expected a mapping or `Key: value`, found {line:?}", i + 1);
        let (first, rest) = line.split_once(' ').with_context(expected)?;
        if let Some(key) = first.strip_suffix(':') {
            if !skipping {
                detail(mappings.last_mut().with_context(expected)?, key, rest);
            }
            continue;
        }
        let mapping = header(first, rest, tmpfs).with_context(expected)?;
        skipping = rest.ends_with("[vsyscall]");
        if !skipping {
            mappings.push(mapping);
        }
    }
    Ok(mappings)
}

/// `start-end perms offset dev inode   name`.
fn header(range: &str, rest: &str, tmpfs: &BTreeSet<Device>) -> Option<Mapping> {
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    if start >= end {
        return None;
    }
    let mut fields = rest.splitn(5, ' ');
    let perms = fields.next()?.as_bytes();
    let _offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode: u64 = fields.next()?.parse().ok()?;
    let name = fields.next().unwrap_or("").trim_start();
    let mut prot = Prot::empty();
    prot.set(Prot::READ, perms.first() == Some(&b'r'));
    prot.set(Prot::WRITE, perms.get(1) == Some(&b'w'));
    prot.set(Prot::EXEC, perms.get(2) == Some(&b'x'));
    Some(Mapping {
        start,
        end,
        prot,
        shared: *perms.get(3)? == b's',
        kind: kind(name, inode, tmpfs.contains(&device)),
        thp: ThpAdvice::Default,
        resident_kb: 0,
        swap_kb: 0,
        pmd_kb: 0,
        counted: false,
    })
}

fn kind(name: &str, inode: u64, is_tmpfs: bool) -> ShapeKind {
    const SHMEM: [&str; 4] = ["/memfd:", "/SYSV", "/dev/shm/", "/dev/zero"];
    match name {
        "[heap]" => ShapeKind::Heap,
        "[stack]" => ShapeKind::Stack,
        _ if name.starts_with("[anon_shmem:") => ShapeKind::Shmem,
        _ if name.starts_with("[anon:") => ShapeKind::Anon,
        // Files' paths are absolute; vdso, vvar, uprobes and whatever comes next are in brackets.
        _ if name.starts_with('[') => ShapeKind::Special,
        _ if is_tmpfs || SHMEM.iter().any(|s| name.starts_with(s)) => ShapeKind::Shmem,
        _ if inode == 0 && !name.starts_with('/') => ShapeKind::Anon,
        _ => ShapeKind::File,
    }
}

fn detail(mapping: &mut Mapping, key: &str, value: &str) {
    let kb = || value.trim().strip_suffix(" kB").and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    match key {
        "Rss" => {
            mapping.counted = true;
            mapping.resident_kb += kb();
        }
        "Shared_Hugetlb" | "Private_Hugetlb" => mapping.resident_kb += kb(),
        "Swap" => mapping.swap_kb = kb(),
        "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => mapping.pmd_kb += kb(),
        // Larger than 4 KiB for hugetlb only; comes before VmFlags.
        "KernelPageSize" => match kb() {
            2048 => mapping.kind = ShapeKind::Hugetlb { leaf: Leaf::Pmd },
            1_048_576 => mapping.kind = ShapeKind::Hugetlb { leaf: Leaf::Pud },
            _ => {}
        },
        "VmFlags" => {
            for flag in value.split_ascii_whitespace() {
                match flag {
                    "hg" => mapping.thp = ThpAdvice::Advise,
                    "nh" => mapping.thp = ThpAdvice::Never,
                    // VM_IO, VM_PFNMAP: a driver's memory.
                    "io" | "pf" => mapping.kind = ShapeKind::Special,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c0000000-55d0c0002000 r-xp 00001000 08:01 42    /usr/bin/a b (deleted)
Rss:                   8 kB
AnonHugePages:         0 kB
VmFlags: rd ex mr mw me
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0      [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
KernelPageSize:        4 kB
Rss:                4096 kB
Swap:                 12 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac hg
7f0000400000-7f0000800000 rw-p 00000000 00:0f 7 /anon_hugepage (deleted)
KernelPageSize:     2048 kB
Private_Hugetlb:    2048 kB
VmFlags: rd wr ht
7f0000800000-7f0000801000 rw-s 00000000 00:01 9 /dev/zero (deleted)
7f0000900000-7f0000901000 rw-s 00000000 00:1b 9 /tmp/x
7f0000a00000-7f0000a01000 rw-s 00000000 00:06 9 /dev/gpu0
VmFlags: rd wr sh io pf
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Rss:                   4 kB
";

    #[test]
    fn mappings_get_their_class_and_counts() {
        let mounts =
            "30 1 0:27 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw\n31 1 8:1 / / rw - ext4 /dev/root rw\n";
        let all = parse(TEXT, &tmpfs_devices(mounts)).unwrap();
        let kinds: Vec<_> = all.iter().map(|m| m.kind).collect();
        use ShapeKind::{Anon, File, Heap, Hugetlb, Shmem, Special};
        assert_eq!(kinds, [File, Heap, Anon, Hugetlb { leaf: Leaf::Pmd }, Shmem, Shmem, Special, Special]);
        let rss: Vec<_> = all.iter().map(|m| m.resident_kb).collect();
        assert_eq!(rss, [8, 0, 4096, 2048, 0, 0, 0, 0]);
        assert_eq!((all[2].thp, all[2].pmd_kb, all[2].swap_kb), (ThpAdvice::Advise, 2048, 12));
        assert_eq!((all[0].prot, all[0].shared), (Prot::READ | Prot::EXEC, false));
        assert!(all[4].shared && !all[1].counted && all[0].counted);
    }

    #[test]
    fn a_strange_line_is_named() {
        for (text, line) in
            [("Rss: 4 kB\n", 1), ("1000-2000 r--p 0 00:00 0 \nnonsense\n", 2), ("2-1 r--p 0 00:00 0 ", 1)]
        {
            let error = parse(text, &BTreeSet::new()).expect_err(text).to_string();
            assert!(error.starts_with(&format!("smaps line {line}: expected a mapping")), "{error}");
        }
    }
}
