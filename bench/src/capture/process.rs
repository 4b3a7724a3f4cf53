//! The procfs folder of one process, with errors that say which process, which stage, and what to do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

/// A process that was there when opened. A pid that is given to another process later is noticed by its start time.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    dir: PathBuf,
    /// Field 22 of `stat`: clock ticks from boot.
    started: u64,
}

impl Process {
    pub(super) fn open(pid: u32) -> Result<Self> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        if !Path::new("/proc/self/stat").exists() {
            bail!("no /proc/self/stat: expected Linux with procfs mounted on /proc");
        }
        match stat(&dir) {
            Ok(Stat { started, has_memory: true }) => Ok(Self { pid, dir, started }),
            Ok(_) => bail!("process {pid} has no user memory: expected neither a kernel thread nor a zombie"),
            Err(e) if is_gone(&e) => {
                bail!("no process with pid {pid}: expected the pid of a running process")
            }
            Err(e) => Err(anyhow!("process {pid}: cannot read its stat: {e}")),
        }
    }

    /// The whole of a text file; bytes that are not UTF-8 (in paths) are replaced.
    pub(super) fn read_text(&self, name: &str) -> Result<String> {
        self.read_raw(name).map_err(|e| self.explain(name, &e))
    }

    /// As [`Self::read_text`], `None` where the kernel has no such file.
    pub(super) fn read_optional(&self, name: &str) -> Result<Option<String>> {
        match self.read_raw(name) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_alive() => Ok(None),
            Err(e) => Err(self.explain(name, &e)),
        }
    }

    pub(super) fn open_file(&self, name: &str) -> Result<File> {
        File::open(self.dir.join(name)).map_err(|e| self.explain(name, &e))
    }

    fn read_raw(&self, name: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.dir.join(name))?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// # Errors
    ///
    /// If the process has ended, or its pid is another's now.
    pub(super) fn check_alive(&self, stage: &str) -> Result<()> {
        if self.is_alive() { Ok(()) } else { Err(self.ended(stage)) }
    }

    fn is_alive(&self) -> bool {
        // A zombie still has its stat, but no memory.
        stat(&self.dir).is_ok_and(|stat| stat.has_memory && stat.started == self.started)
    }

    pub(super) fn ended(&self, stage: &str) -> anyhow::Error {
        anyhow!("process {} ended during the capture ({stage}); nothing was written", self.pid)
    }

    /// The error for a failed read of `stage`.
    pub(super) fn explain(&self, stage: &str, error: &io::Error) -> anyhow::Error {
        let pid = self.pid;
        if is_gone(error) || !self.is_alive() {
            return self.ended(&format!("reading {stage}"));
        }
        if error.kind() == io::ErrorKind::PermissionDenied {
            return anyhow!(
                "process {pid}: no permission to read its {stage}; run as the process's own user, or as root \
                 (CAP_SYS_PTRACE)"
            );
        }
        anyhow!("process {pid}: cannot read its {stage}: {error}")
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

struct Stat {
    started: u64,
    has_memory: bool,
}

fn stat(dir: &Path) -> io::Result<Stat> {
    let text = std::fs::read(dir.join("stat"))?;
    let text = String::from_utf8_lossy(&text);
    // The command name is in parentheses and may hold anything, a parenthesis too: fields count from the last one.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace().skip(19).map(str::parse::<u64>);
    // Fields 22, starttime, and 23, vsize.
    match (fields.next(), fields.next()) {
        (Some(Ok(started)), Some(Ok(vsize))) => Ok(Stat { started, has_memory: vsize > 0 }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "expected stat with a start time and a size")),
    }
}
