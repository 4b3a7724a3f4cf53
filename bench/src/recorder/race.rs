//! A walk on one processor while another one accesses pages.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use workloads::scenario::{AccessKind, Accesses, Advice, Span};

use crate::os::child::{Child, Command};
use crate::os::hmm::{Device, Flags, Walked};
use crate::os::pinning;
use crate::os::window::{Touched, Window};

/// What came of it.
pub(super) struct Raced {
    pub(super) walked: Walked,
    /// What hmm_range_fault returned.
    pub(super) ret: i32,
    /// A byte a page.
    pub(super) answers: Vec<u8>,
    pub(super) touched: Touched,
    /// Accesses to pages that were over when the walk began.
    pub(super) began: u64,
    /// Accesses to pages that had begun when it was over.
    pub(super) ended: u64,
}

/// How far the accesses are, told to the other processor.
#[derive(Default)]
struct Progress {
    /// The one that walks is there.
    may_go: AtomicBool,
    /// So is the other one, and goes.
    goes: AtomicBool,
    begun: AtomicU64,
    done: AtomicU64,
    is_over: AtomicBool,
}

/// Two processors that this process may use: one to walk on, one to touch on.
fn processors() -> Option<[usize; 2]> {
    pinning::allowed().first_chunk().copied()
}

/// The walk of `span` on the first processor, from the moment on at which `lead` accesses of `cpu` are over on the second.
/// By threads of their own, so that the processors of this one, and of children that it has, stay as they are.
pub(super) fn race(
    device: &Device,
    window: Window,
    child: Option<&mut Child>,
    (span, flags): (Span, Flags<'_>),
    (cpu, lead): (&Accesses, u64),
) -> io::Result<Raced> {
    let Some([here, there]) = processors() else {
        return Err(io::Error::other("a race takes two processors; expected a machine that has them"));
    };
    let progress = Progress::default();
    let died = |_| io::Error::other("a thread of the race died");
    std::thread::scope(|scope| {
        let progress = &progress;
        let walk = scope.spawn(move || {
            let walked = stay(here).and_then(|()| {
                progress.may_go.store(true, Ordering::Release);
                walk(device, window, (span, flags), lead, progress)
            });
            // Whatever happened here, nobody waits for it.
            progress.may_go.store(true, Ordering::Release);
            walked
        });
        let touch = scope.spawn(move || {
            let touched = stay(there).and_then(|()| {
                while !progress.may_go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                progress.goes.store(true, Ordering::Release);
                access(window, child, cpu, progress)
            });
            progress.is_over.store(true, Ordering::Release);
            touched
        });
        let (walked, touched) = (walk.join().map_err(died)?, touch.join().map_err(died)?);
        Ok(Raced { touched: touched?, ..walked? })
    })
}

fn stay(processor: usize) -> io::Result<()> {
    if pinning::pin(processor) { Ok(()) } else { Err(io::Error::other("a processor cannot be had")) }
}

fn walk(
    device: &Device,
    window: Window,
    (span, flags): (Span, Flags<'_>),
    lead: u64,
    progress: &Progress,
) -> io::Result<Raced> {
    let mut answers = vec![0; span.len as usize];
    // An emulator may have its other processor asleep: at once is when both are seen to run.
    let waits = || !progress.goes.load(Ordering::Acquire) || progress.done.load(Ordering::Acquire) < lead;
    while waits() && !progress.is_over.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    let began = progress.done.load(Ordering::Acquire);
    let (walked, ret) = device.walk_at(window.address(span.off), 0, flags, &mut [0], &mut answers)?;
    let ended = progress.begun.load(Ordering::Acquire);
    Ok(Raced { walked, ret, answers, touched: Touched::default(), began, ended })
}

fn access(
    window: Window,
    mut child: Option<&mut Child>,
    cpu: &Accesses,
    progress: &Progress,
) -> io::Result<Touched> {
    let mut all = Touched::default();
    let step = |pages: u64, act: &mut dyn FnMut() -> io::Result<Touched>| {
        // Sequentially consistent: that an access had not begun must not be said of one that had.
        progress.begun.fetch_add(pages, Ordering::SeqCst);
        let touched = act()?;
        progress.done.fetch_add(pages, Ordering::SeqCst);
        io::Result::Ok(touched)
    };
    for access in &cpu.0 {
        match access.kind {
            AccessKind::Read | AccessKind::Write => {
                let write = access.kind == AccessKind::Write;
                for off in access.pages() {
                    let touched = step(1, &mut || Ok(window.touch(Span { off, len: 1 }, 1, write)))?;
                    all.segv += touched.segv;
                    all.bus += touched.bus;
                }
            }
            AccessKind::DontNeed => {
                step(access.span.len, &mut || match window.advise(access.span, Advice::Dontneed) {
                    0 => Ok(Touched::default()),
                    refused => Err(io::Error::other(format!("MADV_DONTNEED: {refused}"))),
                })?;
            }
            AccessKind::ChildWrite => {
                let touched = step(access.span.len, &mut || {
                    let Some(child) = &mut child else { return Ok(Touched::default()) };
                    let (_, segv, bus) = child.tell(Command::Write, access.span)?;
                    Ok(Touched { segv, bus, ..Touched::default() })
                })?;
                all.segv += touched.segv;
                all.bus += touched.bus;
            }
        }
    }
    Ok(all)
}
