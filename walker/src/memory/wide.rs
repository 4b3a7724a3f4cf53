//! Decoding many entries at once: the primitive of a walk with vectors.
//!
//! Contract: as a loop over [`Table::ptep_get`] that stops at the first entry that is not alike, without a promise about
//! the order of the reads. In assembly for the same reason as in [`super::bulk`]: a store by another thread meanwhile is
//! the machine's business and not a Rust data race; each aligned entry is seen whole, as it was or as it is.
//!
//! No kernel could use it as it stands: vector registers there must be saved first (`kernel_fpu_begin`), and a fault or
//! a preemption in between is forbidden.

use crate::memory::Table;

/// Which entries are decoded, and into what: `(e >> SHR | e << SHL) & keep | set`, if `e & mask == value`.
#[derive(Clone, Copy, Debug)]
pub struct Decode<const SHR: u32, const SHL: u32> {
    /// The bits that decide.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
    /// What is kept of the shifted entry.
    pub keep: u64,
    /// What is added.
    pub set: u64,
}

/// Whether the processor has the vectors. Asked once by who wants to know beforehand; [`Table::decode_run`] asks itself.
pub fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

impl<const SHR: u32, const SHL: u32> Decode<SHR, SHL> {
    #[inline(always)]
    fn one(&self, e: u64) -> Option<u64> {
        (e & self.mask == self.value).then(|| (e >> SHR | e << SHL) & self.keep | self.set)
    }
}

impl Table<'_> {
    /// Decodes entries `first..` into `out`, until one does not match; returns how many did. What `out` holds behind
    /// them is left alone.
    ///
    /// # Panics
    /// If the entries would run past the table.
    #[inline]
    pub fn decode_run<const SHR: u32, const SHL: u32>(
        self,
        first: usize,
        out: &mut [u64],
        decode: Decode<SHR, SHL>,
    ) -> usize {
        let from = &self.entries()[first..first + out.len()];
        let mut k = if is_available() { imp::groups(from, out, &decode) } else { 0 };
        // What is left of the last group, or the group that holds the entry that does not match.
        while k < out.len() {
            match decode.one(from[k].load(crate::sync::Ordering::Relaxed)) {
                Some(slot) => out[k] = slot,
                None => break,
            }
            k += 1;
        }
        k
    }
}

#[allow(unsafe_code)] // reads raw table memory
#[allow(clippy::multiple_unsafe_ops_per_block)]
mod imp {
    use super::Decode;
    use crate::sync::AtomicU64;
    use core::arch::asm;

    /// Entries in a group.
    const GROUP: usize = 16;

    /// Decodes whole groups until one holds an entry that does not match; returns how many entries it decoded.
    #[inline]
    pub(super) fn groups<const SHR: u32, const SHL: u32>(
        from: &[AtomicU64],
        out: &mut [u64],
        decode: &Decode<SHR, SHL>,
    ) -> usize {
        assert_eq!(from.len(), out.len());
        let groups = out.len() / GROUP;
        if groups == 0 {
            return 0;
        }
        let mut left = groups;
        // SAFETY: both sides hold at least `groups` times 16 words (the lengths are equal, asserted), `out` is
        // exclusive, `from` is shared memory that assembly may read while others store to it; every round reads and
        // writes one group and counts `left` down from `groups` > 0; the processor has AVX2, the caller asked.
        unsafe {
            asm!(
                "vpbroadcastq ymm8, [{d}]",
                "vpbroadcastq ymm9, [{d} + 8]",
                "vpbroadcastq ymm10, [{d} + 16]",
                "vpbroadcastq ymm11, [{d} + 24]",
                ".p2align 5",
                "2:",
                "vmovdqu ymm0, [{src}]",
                "vmovdqu ymm1, [{src} + 32]",
                "vmovdqu ymm2, [{src} + 64]",
                "vmovdqu ymm3, [{src} + 96]",
                "vpand ymm4, ymm0, ymm8",
                "vpand ymm5, ymm1, ymm8",
                "vpand ymm6, ymm2, ymm8",
                "vpand ymm7, ymm3, ymm8",
                "vpcmpeqq ymm4, ymm4, ymm9",
                "vpcmpeqq ymm5, ymm5, ymm9",
                "vpcmpeqq ymm6, ymm6, ymm9",
                "vpcmpeqq ymm7, ymm7, ymm9",
                "vpand ymm4, ymm4, ymm5",
                "vpand ymm6, ymm6, ymm7",
                "vpand ymm4, ymm4, ymm6",
                "vmovmskpd {t:e}, ymm4",
                "cmp {t:e}, 15",
                "jne 3f",
                "vpsrlq ymm4, ymm0, {shr}",
                "vpsrlq ymm5, ymm1, {shr}",
                "vpsrlq ymm6, ymm2, {shr}",
                "vpsrlq ymm7, ymm3, {shr}",
                "vpsllq ymm0, ymm0, {shl}",
                "vpsllq ymm1, ymm1, {shl}",
                "vpsllq ymm2, ymm2, {shl}",
                "vpsllq ymm3, ymm3, {shl}",
                "vpor ymm0, ymm0, ymm4",
                "vpor ymm1, ymm1, ymm5",
                "vpor ymm2, ymm2, ymm6",
                "vpor ymm3, ymm3, ymm7",
                "vpand ymm0, ymm0, ymm10",
                "vpand ymm1, ymm1, ymm10",
                "vpand ymm2, ymm2, ymm10",
                "vpand ymm3, ymm3, ymm10",
                "vpor ymm0, ymm0, ymm11",
                "vpor ymm1, ymm1, ymm11",
                "vpor ymm2, ymm2, ymm11",
                "vpor ymm3, ymm3, ymm11",
                "vmovdqu [{dst}], ymm0",
                "vmovdqu [{dst} + 32], ymm1",
                "vmovdqu [{dst} + 64], ymm2",
                "vmovdqu [{dst} + 96], ymm3",
                "add {src}, 128",
                "add {dst}, 128",
                "dec {left}",
                "jnz 2b",
                "3:",
                "vzeroupper",
                d = in(reg) &[decode.mask, decode.value, decode.keep, decode.set],
                src = inout(reg) from.as_ptr() => _,
                dst = inout(reg) out.as_mut_ptr() => _,
                left = inout(reg) left,
                t = out(reg) _,
                shr = const SHR,
                shl = const SHL,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                options(nostack),
            );
        }
        (groups - left) * GROUP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Entry;
    use crate::memory::{Phys, PhysConfig};

    const DECODE: Decode<12, 61> = Decode { mask: 1, value: 1, keep: !0 >> 4 | 1 << 62, set: 1 << 63 };

    #[test]
    fn a_run_ends_at_the_first_entry_that_does_not_match_wherever_it_lies() {
        let phys = Phys::new(PhysConfig { nr_frames: 4096, host_huge_pages: false }).unwrap();
        let table = phys.alloc_table().unwrap();
        (0..512).for_each(|i| table.set(i, Entry::from_bits((i as u64) << 12 | (i as u64 & 2) | 1)));
        let expected = |i: usize| DECODE.one(table.ptep_get(i).bits());
        for stop in (0..80).chain([255, 511, 512]) {
            if stop < 512 {
                table.set(stop, Entry::from_bits((stop as u64) << 12));
            }
            for first in [0, 1, 15, 16, 33] {
                let mut out = vec![7; 512 - first];
                let n = table.decode_run(first, &mut out, DECODE);
                assert_eq!(n, if stop < first { 512 - first } else { stop - first }, "{stop} {first}");
                (0..n).for_each(|k| assert_eq!(Some(out[k]), expected(first + k)));
                assert!(out[n..].iter().all(|s| *s == 7), "nothing is written behind the run");
            }
            if stop < 512 {
                table.set(stop, Entry::from_bits((stop as u64) << 12 | (stop as u64 & 2) | 1));
            }
        }
    }
}
