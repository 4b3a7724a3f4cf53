//! A process that shares a scenario's window as fork(2) left it, and does there what it is told.
#![allow(unsafe_code)] // reason: fork(2), whose child goes on in the same memory

use std::io::{self, Read as _, Write as _};

use workloads::scenario::Span;

use super::window::Window;

/// A child of fork(2) that keeps everything mapped and does to the window what it is told. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    commands: Option<io::PipeWriter>,
    replies: io::PipeReader,
}

/// What a child is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// Read a byte of every page.
    Read,
    /// Write one.
    Write,
    /// Unmap.
    Unmap,
}

impl Child {
    /// Forks. To be called by a process with one thread.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn fork(window: Window) -> io::Result<Child> {
        let (mut commands, to_child) = io::pipe()?;
        let (replies, mut from_child) = io::pipe()?;
        // SAFETY: this process has one thread, so the child may do all that this process may; it never returns.
        match unsafe { libc::fork() } {
            0 => {
                drop((to_child, replies));
                obey(window, &mut commands, &mut from_child);
                // SAFETY: ends the child without running what its parent registered.
                unsafe { libc::_exit(0) }
            }
            pid @ 1.. => Ok(Child { pid, commands: Some(to_child), replies }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Has it do that: pages that worked (or 0 or `-errno` of munmap), and signals.
    ///
    /// # Errors
    /// The child is gone.
    pub(crate) fn tell(&mut self, command: Command, span: Span) -> io::Result<(i64, u64, u64)> {
        let commands = self.commands.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        commands.write_all(&words([command as u64, span.off, span.len]))?;
        let mut reply = [0; 24];
        self.replies.read_exact(&mut reply)?;
        let [ret, segv, bus] = numbers(reply);
        Ok((ret.cast_signed(), segv, bus))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Its next read finds the end.
        self.commands = None;
        // SAFETY: a child of ours that was not waited for yet; no status is asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

fn words(numbers: [u64; 3]) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (to, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *to = number.to_ne_bytes();
    }
    bytes
}

fn numbers(bytes: [u8; 24]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
}

/// The child's life: until its parent closes the pipe.
fn obey(window: Window, commands: &mut io::PipeReader, replies: &mut io::PipeWriter) {
    let mut command = [0; 24];
    while commands.read_exact(&mut command).is_ok() {
        let [what, off, len] = numbers(command);
        let span = Span { off, len };
        let reply = if what == Command::Unmap as u64 {
            [window.unmap(span).cast_unsigned(), 0, 0]
        } else {
            let touched = window.touch(span, 1, what == Command::Write as u64);
            [touched.ok, touched.segv, touched.bus]
        };
        if replies.write_all(&words(reply)).is_err() {
            return;
        }
    }
}
