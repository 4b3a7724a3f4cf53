//! Bulk copies out of a page table: the yardstick for anything that reads tables entry by entry.
//!
//! Contract: as [`Table::ptep_get`] in a loop, without a promise about the order of the reads. In assembly, so that a
//! store by another thread meanwhile is the machine's business and not a Rust data race: it is seen or not, per
//! aligned entry. What is fastest depends on the footprint; callers try all of [`BulkCopy::available`].

use crate::memory::Table;

/// How the bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkCopy {
    /// `rep movsb`: what memcpy of the kernel comes to for whole pages (ERMS, FSRM).
    String,
    /// The C library's memcpy, whatever it chose for this processor.
    Library,
    /// 32-byte loads and stores (AVX2).
    Vector32,
    /// 64-byte loads and stores (AVX-512).
    Vector64,
    /// 32-byte loads, stores that bypass the caches (AVX2).
    Stream32,
    /// 64-byte loads, stores that bypass the caches (AVX-512).
    Stream64,
}

impl BulkCopy {
    /// The ways that this processor has.
    pub fn available() -> impl Iterator<Item = BulkCopy> {
        use BulkCopy::*;
        let avx2 = std::arch::is_x86_feature_detected!("avx2");
        let avx512 = std::arch::is_x86_feature_detected!("avx512f");
        [String, Library, Vector32, Vector64, Stream32, Stream64].into_iter().filter(move |way| match way {
            String | Library => true,
            Vector32 | Stream32 => avx2,
            Vector64 | Stream64 => avx512,
        })
    }
    /// For tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            BulkCopy::String => "rep movsb",
            BulkCopy::Library => "memcpy",
            BulkCopy::Vector32 => "32-byte vectors",
            BulkCopy::Vector64 => "64-byte vectors",
            BulkCopy::Stream32 => "32-byte streaming stores",
            BulkCopy::Stream64 => "64-byte streaming stores",
        }
    }
    /// Entries that one round of the loop moves; other counts, and streams to unaligned places, use the string copy.
    const fn step(self) -> usize {
        match self {
            BulkCopy::String | BulkCopy::Library => 1,
            BulkCopy::Vector32 | BulkCopy::Stream32 => 16,
            BulkCopy::Vector64 | BulkCopy::Stream64 => 32,
        }
    }
}

impl Table<'_> {
    /// Copies entries `first..first + out.len()` as they stand. Streaming stores are ordered before it returns.
    ///
    /// # Panics
    /// If the entries would run past the table, or the processor lacks what `way` needs (debug builds).
    #[inline]
    pub fn copy_entries(self, first: usize, out: &mut [u64], way: BulkCopy) {
        let from = &self.entries()[first..first + out.len()];
        debug_assert!(BulkCopy::available().any(|a| a == way));
        imp::copy(from, out, way);
    }
}

#[allow(unsafe_code)] // moves raw table memory
#[allow(clippy::multiple_unsafe_ops_per_block)]
mod imp {
    use super::BulkCopy;
    use crate::sync::AtomicU64;
    use core::arch::asm;

    macro_rules! vectors {
        ($from:ident, $to:ident, $rounds:expr, $load:literal, $store:literal, $reg:literal, $w:literal) => {
            asm!(
                "2:",
                concat!($load, " ", $reg, "0, [rsi]"),
                concat!($load, " ", $reg, "1, [rsi + ", $w, "]"),
                concat!($load, " ", $reg, "2, [rsi + 2*", $w, "]"),
                concat!($load, " ", $reg, "3, [rsi + 3*", $w, "]"),
                concat!($store, " [rdi], ", $reg, "0"),
                concat!($store, " [rdi + ", $w, "], ", $reg, "1"),
                concat!($store, " [rdi + 2*", $w, "], ", $reg, "2"),
                concat!($store, " [rdi + 3*", $w, "], ", $reg, "3"),
                concat!("add rsi, 4*", $w),
                concat!("add rdi, 4*", $w),
                "dec rcx",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") $rounds => _, inout("rsi") $from => _, inout("rdi") $to => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                options(nostack),
            )
        };
    }

    #[inline]
    pub(super) fn copy(from: &[AtomicU64], out: &mut [u64], way: BulkCopy) {
        assert_eq!(from.len(), out.len());
        let n = out.len();
        let src = from.as_ptr();
        let dst = out.as_mut_ptr();
        let fits = n > 0 && n.is_multiple_of(way.step()) && dst.addr().is_multiple_of(64);
        let rounds = n / way.step();
        // SAFETY: both sides hold n words (asserted), `out` is exclusive, `from` is shared memory that assembly may
        // read while others store to it; the loops run `rounds` > 0 times over exactly n words; the processor has the
        // instructions, since `way` came from `available`. memcpy is called from assembly for the same reason as the loops
        // are written in it: what it reads may change meanwhile.
        unsafe {
            match way {
                BulkCopy::Library => asm!("call {memcpy}", memcpy = sym libc::memcpy,
                    in("rdi") dst, in("rsi") src, in("rdx") n * 8, clobber_abi("C")),
                BulkCopy::Vector32 if fits => vectors!(src, dst, rounds, "vmovdqu", "vmovdqu", "ymm", "32"),
                BulkCopy::Vector64 if fits => {
                    vectors!(src, dst, rounds, "vmovdqu64", "vmovdqu64", "zmm", "64")
                }
                BulkCopy::Stream32 if fits => {
                    vectors!(src, dst, rounds, "vmovdqu", "vmovntdq", "ymm", "32");
                    asm!("sfence", options(nostack, preserves_flags));
                }
                BulkCopy::Stream64 if fits => {
                    vectors!(src, dst, rounds, "vmovdqu64", "vmovntdq", "zmm", "64");
                    asm!("sfence", options(nostack, preserves_flags));
                }
                _ => asm!("rep movsb", inout("rcx") n * 8 => _, inout("rdi") dst => _, inout("rsi") src => _,
                    options(nostack, preserves_flags)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Entry;
    use crate::memory::{Phys, PhysConfig};

    #[test]
    fn every_way_copies_what_stands_in_the_table() {
        let phys = Phys::new(PhysConfig { nr_frames: 4096, host_huge_pages: false }).unwrap();
        let table = phys.alloc_table().unwrap();
        (0..512).for_each(|i| table.set(i, Entry::from_bits(i as u64 * 0x1001)));
        for way in BulkCopy::available() {
            for (first, n) in [(0, 512), (0, 0), (3, 5), (32, 64), (511, 1)] {
                let mut out = vec![u64::MAX; n];
                table.copy_entries(first, &mut out, way);
                let expected: Vec<u64> = (first..first + n).map(|i| i as u64 * 0x1001).collect();
                assert_eq!(out, expected, "{way:?} {first}+{n}");
            }
        }
    }
}
