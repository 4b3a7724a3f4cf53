//! Why a shape could not be built.

use crate::definition::size_name;
use core::fmt;
use walker::memory::{OutOfFrames, PhysError};
use walker::mm::Errno;

/// Why a shape could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The host refuses the machine's address space.
    Phys(PhysError),
    /// The modelled machine ran out of frames.
    Frames,
    /// An operation failed on the way.
    Errno(Errno),
    /// The shape does not come in this size.
    Size {
        /// Bytes asked for.
        asked: u64,
        /// Sizes are multiples of this, or exactly this where `exact`.
        expected: u64,
        /// The shape has one size only.
        exact: bool,
    },
    /// The shape's parameters make nothing of this size.
    Misfit {
        /// Bytes asked for.
        asked: u64,
        /// What does not fit.
        why: String,
    },
    /// The host has too little memory.
    Memory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that takes, about.
        needs: u64,
        /// Bytes that the host has to give.
        available: u64,
        /// The largest size that would fit; 0 where none does.
        fits: u64,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Phys(e) => e.fmt(f),
            BuildError::Frames => OutOfFrames.fmt(f),
            BuildError::Errno(e) => write!(f, "building the shape ended in {e}"),
            BuildError::Size { asked, expected, exact: true } => {
                write!(f, "size {}: expected exactly {}", size_name(*asked), size_name(*expected))
            }
            BuildError::Size { asked, expected, exact: false } => {
                write!(
                    f,
                    "size {}: expected a multiple of {}, at most 64TiB and not 0",
                    size_name(*asked),
                    size_name(*expected)
                )
            }
            BuildError::Misfit { asked, why } => write!(f, "size {}: {why}", size_name(*asked)),
            BuildError::Memory { asked, needs, available, fits } => {
                let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
                write!(
                    f,
                    "size {}: takes about {} MiB of memory, this machine has {} MiB available; ",
                    size_name(*asked),
                    mib(needs),
                    mib(available)
                )?;
                match fits {
                    0 => f.write_str("no size of this shape fits"),
                    fits => write!(f, "{} would fit", size_name(*fits)),
                }
            }
        }
    }
}
impl core::error::Error for BuildError {}
impl From<PhysError> for BuildError {
    fn from(e: PhysError) -> Self {
        BuildError::Phys(e)
    }
}
impl From<OutOfFrames> for BuildError {
    fn from(_: OutOfFrames) -> Self {
        BuildError::Frames
    }
}
impl From<Errno> for BuildError {
    fn from(e: Errno) -> Self {
        if e == Errno::NoMem { BuildError::Frames } else { BuildError::Errno(e) }
    }
}
