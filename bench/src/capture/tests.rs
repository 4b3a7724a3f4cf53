//! Captures of this test's own process, and of processes that are not there.

use std::hint::black_box;
use std::process::{Command, Stdio};

use workloads::capture::{Leaf, PageFlags, PageState, Run, ShapeVma};

use super::*;

/// 40 MiB from malloc, fresh from the kernel (glibc never takes more than 32 MiB from memory that was freed): pages 2, 4, … 200 of it written, page 301 read, the rest untouched.
/// Small enough at its front to stay apart from huge pages unless the system forces them.
fn patterned_buffer() -> Vec<u8> {
    let mut buffer = vec![0u8; 40 << 20];
    for page in (2..=200).step_by(2) {
        buffer[page * 4096 + 100] = 1;
    }
    black_box(buffer[301 * 4096]);
    black_box(buffer)
}

/// The VMA with the buffer's pattern: 50 written pages with an untouched one between each two.
fn find_pattern(shape: &Shape) -> Option<(&ShapeVma, usize)> {
    let written = |run: &Run| {
        run.nr_pages == 1
            && matches!(run.state, PageState::Present { leaf: Leaf::Pte, flags }
                // Not exclusive while another test's child has not called exec yet.
                if (flags - PageFlags::SOFT_DIRTY - PageFlags::EXCLUSIVE).is_empty())
    };
    let empty = |run: &Run| run.nr_pages == 1 && run.state == PageState::None;
    shape.vmas.iter().find_map(|vma| {
        let at = vma.runs.windows(100).position(|w| w.chunks(2).all(|p| written(&p[0]) && empty(&p[1])))?;
        Some((vma, at))
    })
}

/// Captures of this process take turns with whatever maps, unmaps or forks: the other tests of this file.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn own(sight: &Sight) -> Capture {
    capture_with(std::process::id(), &Labels::default(), &mut |_, _| {}, sight).unwrap()
}

fn forces_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|s| s.contains("[always]"))
}

#[test]
fn our_own_written_read_and_untouched_pages_are_told_apart() {
    let _alone = alone();
    let sight = probe::sight().unwrap();
    let buffer = patterned_buffer();
    let captured = own(&sight);
    assert_eq!(captured.shape.check().map_err(|e| e.to_string()), Ok(()));
    if !forces_huge_pages() {
        let (vma, at) = find_pattern(&captured.shape).expect("the buffer's pattern in some VMA");
        assert!(vma.nr_pages >= 4096);
        let rest = &vma.runs[at..];
        if sight.scan {
            let zero = |r: &&Run| matches!(r.state, PageState::Present { flags, .. } if flags.contains(PageFlags::ZERO));
            assert_eq!(rest.iter().find(zero).map(|r| r.nr_pages), Some(1), "{rest:?}");
        }
        // What lies behind the last touched page has no table.
        assert!(rest.iter().any(|r| r.state == PageState::Hole && r.nr_pages >= 3 * 512), "{rest:?}");
    }
    drop(buffer);
}

#[test]
fn a_kernel_without_pagemap_scan_gives_the_same_written_pages() {
    let _alone = alone();
    let full = probe::sight().unwrap();
    let poor = Sight { scan: false, tables: false, frames: false, ..full };
    let buffer = patterned_buffer();
    let captured = own(&poor);
    assert!(!captured.shape.physical);
    for word in ["no PAGEMAP_SCAN", "CAP_SYS_ADMIN", "missing tables"] {
        assert!(
            captured.shape.missing.iter().any(|m| m.contains(word)),
            "{word}: {:?}",
            captured.shape.missing
        );
    }
    if !forces_huge_pages() {
        let (vma, at) = find_pattern(&captured.shape).expect("the buffer's pattern in some VMA");
        assert!(vma.runs[at..].iter().any(|r| r.state == PageState::Hole && r.nr_pages >= 3 * 512));
    }
    drop(buffer);
}

#[test]
fn a_shape_of_ours_survives_its_file_and_carries_no_path() {
    let _alone = alone();
    let labels = Labels { name: None, made: Some("a test".into()), description: None };
    let captured =
        capture_with(std::process::id(), &labels, &mut |_, _| {}, &probe::sight().unwrap()).unwrap();
    let text = captured.shape.to_text().unwrap();
    assert_eq!(Shape::read(&text).unwrap(), captured.shape);
    let text = String::from_utf8(text).unwrap();
    let exe = std::env::current_exe().unwrap();
    assert!(!text.contains("/lib") && !text.contains(exe.to_str().unwrap()));
    // The VMA of this very code is in there, though.
    assert!(captured.shape.vmas.iter().any(|v| v.kind == ShapeKind::File && v.prot.contains(Prot::EXEC)));
}

#[test]
fn a_pid_without_process_is_an_error_that_names_it() {
    let _alone = alone();
    let pid = i32::MAX as u32;
    let error = capture(pid, &Labels::default(), &mut |_, _| {}).expect_err("no such process").to_string();
    assert!(error.starts_with(&format!("no process with pid {pid}")), "{error}");
}

#[test]
fn a_process_that_ends_on_the_way_is_an_error_with_pid_and_stage() {
    let _alone = alone();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = Process::open(child.id()).unwrap();
    let pagemap = process.open_file("pagemap").unwrap();
    let text = process.read_text("smaps").unwrap();
    let mappings = smaps::parse(&text, &BTreeSet::new()).unwrap();
    let stack = mappings.iter().find(|m| m.kind == ShapeKind::Stack).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let full = probe::sight().unwrap();
    for sight in [full, Sight { scan: false, ..full }] {
        let error = Pages::new(&process, &pagemap, &sight)
            .read(stack, &mut empty_vma(stack), &mut |_| {})
            .expect_err("ended")
            .to_string();
        let start = format!("process {} ended during the capture (", child.id());
        assert!(error.starts_with(&start) && error.contains("pagemap"), "{error}");
    }
    for stage in ["smaps", "maps"] {
        let error = process.read_text(stage).expect_err("ended").to_string();
        assert!(error.contains(&format!("ended during the capture (reading {stage})")), "{error}");
    }
    assert!(process.read_optional("smaps").is_err());
    assert!(process.check_alive("after").is_err());
}

#[test]
fn a_zombie_has_no_memory_to_capture() {
    let _alone = alone();
    let mut child = Command::new("true").spawn().unwrap();
    let status = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&status).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let error = capture(child.id(), &Labels::default(), &mut |_, _| {}).expect_err("zombie").to_string();
    assert!(error.contains("no user memory"), "{error}");
    child.wait().unwrap();
}

#[test]
fn command_names_become_shape_names() {
    for (command, name) in [("java", "java"), ("Web Content", "Web-Content"), ("", "unnamed"), ("é/x", "--x")]
    {
        assert_eq!(shape_name(command), name);
    }
}

#[test]
fn a_refused_read_says_what_to_do() {
    let process = Process::open(std::process::id()).unwrap();
    let error = process.explain("smaps", &std::io::Error::from_raw_os_error(libc::EACCES)).to_string();
    assert!(
        error.contains("no permission to read its smaps; run as the process's own user, or as root"),
        "{error}"
    );
}

#[test]
fn mappings_that_overlap_the_one_before_are_dropped_and_told() {
    let at = |start: u64, end: u64| {
        let line = format!("{start:x}-{end:x} rw-p 00000000 00:00 0\n");
        smaps::parse(&line, &Default::default()).unwrap().remove(0)
    };
    let mut mappings = vec![at(0x1000, 0x4000), at(0x2000, 0x3000), at(0x4000, 0x5000)];
    assert!(drop_torn(&mut mappings).unwrap().starts_with("1 of 3 mappings overlapped"));
    assert_eq!(mappings.iter().map(|m| m.start).collect::<Vec<_>>(), [0x1000, 0x4000]);
    assert_eq!(drop_torn(&mut mappings), None);
}
