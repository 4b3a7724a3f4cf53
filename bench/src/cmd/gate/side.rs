//! One side of a comparison: a process that serves cells; see [`crate::gate::protocol`].
//!
//! Nothing that it does may hang or confuse the gate: every answer has a deadline, whatever is not an answer ends the
//! comparison with what was said instead, and the process is killed when this value goes, or this program dies.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::gate::protocol::{Hello, PROTOCOL, Refused};
use crate::os::process;

/// Longest line that is taken for one.
const LONGEST_LINE: u64 = 1 << 16;

/// What to start.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// What the gate calls it in messages.
    pub(super) name: &'static str,
    /// The executable.
    pub(super) exe: PathBuf,
    /// Behind `serve`.
    pub(super) args: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The side is well and cannot do this cell.
    Refused(String),
    /// The side is of no use any more.
    Broken(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> anyhow::Error {
        match failure {
            Failure::Refused(why) => anyhow!(why),
            Failure::Broken(e) => e,
        }
    }
}

/// A running side.
pub(super) struct Side {
    program: Program,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    said: File,
    patience: Duration,
    /// Who it is.
    pub(super) hello: Hello,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Side {
    /// Starts the program, its stack `stack` bytes further down, and waits until it says who it is. Programs that are
    /// started with the same number have the same addresses.
    ///
    /// # Errors
    /// It cannot be started, says something else, or speaks another protocol.
    pub(super) fn start(program: &Program, stack: usize, patience: Duration) -> Result<Side> {
        let said = tempfile::tempfile().context("a file for what a side says on standard error")?;
        let mut command = Command::new(&program.exe);
        command
            .arg("serve")
            .args(&program.args)
            // Its length moves the stack.
            .env_clear()
            .env("WALKBENCH_STACK", "x".repeat(stack))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone().context("a file for what a side says")?)
            // Ctrl-C is the gate's to handle.
            .process_group(0);
        process::dies_with_this_thread(&mut command);
        process::has_fixed_addresses(&mut command);
        let exe = program.exe.display();
        let mut child = command.spawn().with_context(|| {
            format!("{}: cannot start {exe}; expected an executable walkbench", program.name)
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (send, lines) = mpsc::channel();
        if let Some(stdout) = stdout {
            thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                let mut line = Vec::new();
                // Ends with the process, or with the receiver.
                while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let nobody = Hello {
            walkbench_serve: 0,
            rustc: String::new(),
            profile: String::new(),
            flags: String::new(),
            commit: String::new(),
            dirty: String::new(),
            forgets: false,
        };
        let mut side = Side { program: program.clone(), child, stdin, lines, said, patience, hello: nobody };
        side.hello = side.hear_hello()?;
        Ok(side)
    }

    fn hear_hello(&mut self) -> Result<Hello> {
        let (name, exe) = (self.program.name, self.program.exe.display().to_string());
        let line = match self.lines.recv_timeout(self.patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "{name}: {exe} said nothing for {:?}; expected a walkbench with `walkbench serve`",
                    self.patience
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!(
                "{name}: {exe} ended instead of serving ({}); expected a walkbench that has `walkbench gate`{}",
                self.ending(),
                self.last_words()
            ),
        };
        let Ok(hello) = serde_json::from_str::<Hello>(&line) else {
            bail!("{name}: {exe} said {:?}; expected a walkbench with `walkbench serve`", shortened(&line));
        };
        if hello.walkbench_serve != PROTOCOL {
            bail!(
                "{name}: {exe} speaks protocol {} of the gate, this program {PROTOCOL}: they cannot be compared; expected a \
                 baseline, or a gate, of the other's generation",
                hello.walkbench_serve
            );
        }
        Ok(hello)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Every way not to answer.
    pub(super) fn ask<A: DeserializeOwned>(&mut self, request: &str) -> Result<A, Failure> {
        let name = self.program.name;
        let asked = self.stdin.as_mut().is_some_and(|s| writeln!(s, "{request}").is_ok());
        // What cannot be asked has ended: what it said before is read first.
        let line = match self.lines.recv_timeout(if asked { self.patience } else { Duration::from_secs(1) }) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let (patience, words) = (self.patience, self.last_words());
                return Err(Failure::Broken(anyhow!(
                    "{name}: no answer to `{request}` in {patience:?}: it hangs{words}"
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let (ending, words) = (self.ending(), self.last_words());
                return Err(Failure::Broken(anyhow!(
                    "{name}: ended when asked to `{request}` ({ending}){words}"
                )));
            }
        };
        if let Ok(answer) = serde_json::from_str(&line) {
            return Ok(answer);
        }
        match serde_json::from_str(&line) {
            Ok(Refused { error }) => Err(Failure::Refused(error)),
            Err(_) => Err(Failure::Broken(anyhow!(
                "{name}: answered `{request}` with {:?}: garbage{}",
                shortened(&line),
                self.last_words()
            ))),
        }
    }

    fn ending(&mut self) -> String {
        self.stdin = None;
        for _ in 0..50 {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(e) => return e.to_string(),
            }
        }
        "it closed its output and goes on".to_owned()
    }

    /// The last lines of its standard error, as the end of a message.
    fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        let end = self.said.seek(SeekFrom::End(0)).unwrap_or(0);
        let _ = self.said.seek(SeekFrom::Start(end.saturating_sub(2048)));
        let _ = self.said.read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        let lines: Vec<&str> = words.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(4)..];
        if last.is_empty() {
            String::new()
        } else {
            format!("; its last words:\n    {}", last.join("\n    "))
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Whether it would end by itself does not matter: nothing of it is needed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= 80 {
        line.to_owned()
    } else {
        line.chars().take(77).chain("...".chars()).collect()
    }
}
