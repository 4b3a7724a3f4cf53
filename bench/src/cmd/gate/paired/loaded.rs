//! A copy of what the system loads of an executable.
//!
//! Three fresh files for every launch are most of what a gate of few cells waits for, and three quarters of them are for
//! debuggers. Linkers put what is loaded first.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use libc::{Elf64_Ehdr, Elf64_Phdr, PT_LOAD};

/// Copies `from` to `to` up to the last byte that is loaded, without the table of sections behind it; all of it, if it is
/// no executable of 64 bits. With its rights.
///
/// # Errors
/// Of reading and writing.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let Some(end) = end(&source) else { return fs::copy(from, to).map(|_| ()) };
    let mut copied = File::create(to)?;
    io::copy(&mut (&source).take(end), &mut copied)?;
    // Where the table of sections was is nothing any more.
    for (at, size) in [
        (offset_of!(Elf64_Ehdr, e_shoff), size_of::<libc::Elf64_Off>()),
        (offset_of!(Elf64_Ehdr, e_shnum), size_of::<libc::Elf64_Half>()),
        (offset_of!(Elf64_Ehdr, e_shstrndx), size_of::<libc::Elf64_Half>()),
    ] {
        copied.write_all_at(&[0; 8][..size], at as u64)?;
    }
    copied.set_permissions(source.metadata()?.permissions())
}

/// Where what is loaded ends in the file; none if this is no executable of 64 bits.
fn end(file: &File) -> Option<u64> {
    let bytes = |at: u64, size: usize| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes[..size], at).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (magic, little_endian_64) = (bytes(0, 4)?, bytes(4, 2)?);
    if (magic, little_endian_64) != (u64::from(u32::from_le_bytes(*b"\x7fELF")), 0x0102) {
        return None;
    }
    let headers = bytes(offset_of!(Elf64_Ehdr, e_phoff) as u64, 8)?;
    let nr = bytes(offset_of!(Elf64_Ehdr, e_phnum) as u64, 2)?;
    let mut end = 0;
    for header in (0..nr).map(|i| headers + i * size_of::<Elf64_Phdr>() as u64) {
        let of = |field: usize, size| bytes(header + field as u64, size);
        if of(offset_of!(Elf64_Phdr, p_type), 4)? == u64::from(PT_LOAD) {
            let (at, size) =
                (of(offset_of!(Elf64_Phdr, p_offset), 8)?, of(offset_of!(Elf64_Phdr, p_filesz), 8)?);
            end = end.max(at.checked_add(size)?);
        }
    }
    let is_inside = end > 0 && end <= file.metadata().ok()?.len();
    is_inside.then_some(end)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_loaded_of_a_program_runs_and_what_is_none_is_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy");
        let this = std::env::current_exe().unwrap();
        copy(&this, &to).unwrap();
        let size = |p: &Path| fs::metadata(p).unwrap().len();
        assert!(size(&to) < size(&this), "{} of {}", size(&to), size(&this));
        let listed = Command::new(&to).args(["--list", "what_is_loaded_of_a_program"]).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("what_is_loaded_of_a_program_runs"));

        let script = folder.path().join("script");
        for text in [
            "#!/bin/sh\necho hello\n",
            "",
            "\x7fELF",
            "\x7fELF\x02\x01 and then something else, long enough for a header",
        ] {
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            copy(&script, &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }
}
