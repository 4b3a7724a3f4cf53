//! Upper limits of a recording, so that a hostile file can waste neither memory nor time.
//!
//! The largest recording of the project is far below each of them (1 MiB, 667 scenarios, 18 steps, lines of 10 KiB).

/// Pages of a window, and the largest page number or length an argument may have: 1 GiB of memory.
pub const MAX_PAGES: u64 = 262_144;

/// Steps of one scenario.
pub const MAX_STEPS: usize = 4096;

/// Steps of all scenarios of one file.
pub const MAX_FILE_STEPS: usize = 262_144;

/// Bytes of one line.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Bytes of one file, uncompressed.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Characters of an id, a class or a kernel release.
pub const MAX_NAME_CHARS: usize = 128;
