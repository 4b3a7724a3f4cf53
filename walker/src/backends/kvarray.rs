//! The array that a driver hands to the call, where a driver's allocator puts it.
//!
//! Drivers get it from kvmalloc_array or kvcalloc (amdgpu, xe, umem_odp; mm/slub.c and mm/vmalloc.c, 6.12), which give 512
//! slots of 8 bytes, and anything longer, from a page boundary on. It matters: an array that starts 16 bytes behind one, as
//! malloc gives it, has each slot two entries ahead of its own in the low 12 bits of the address, and loads of entries then
//! wait for stores to slots that they have nothing to do with.

use std::ops::{Deref, DerefMut};

use crate::addr::PAGE_SIZE;

/// So many elements from a page boundary on.
#[derive(Debug)]
pub(super) struct KvArray<T> {
    all: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy> KvArray<T> {
    /// `len` times `value`.
    pub(super) fn new(value: T, len: usize) -> Self {
        // Arrays of less than a page need not be aligned to one, but it does no harm.
        let spare = (PAGE_SIZE as usize).div_ceil(size_of::<T>());
        let all = vec![value; if len == 0 { 0 } else { len + spare }];
        let first = all.as_ptr().align_offset(PAGE_SIZE as usize);
        // Where no element starts on a boundary (its size does not divide a page) any place is as good.
        let first = if first <= spare { first.min(all.len() - len) } else { 0 };
        KvArray { all, first, len }
    }
}

impl<T> Deref for KvArray<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.all[self.first..self.first + self.len]
    }
}

impl<T> DerefMut for KvArray<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.first..self.first + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_start_on_a_page() {
        for len in [1, 16, 512, 8192] {
            let mut array = KvArray::new(7u64, len);
            assert_eq!(array.as_ptr().addr() % PAGE_SIZE as usize, 0);
            array[len - 1] = 1;
            assert_eq!((array.len(), array[0], array[len - 1]), (len, if len == 1 { 1 } else { 7 }, 1));
            assert_eq!(KvArray::new(1u8, len).as_ptr().addr() % PAGE_SIZE as usize, 0);
        }
        assert!(KvArray::new(0u64, 0).is_empty());
        assert_eq!(KvArray::new([0u64; 3], 5).len(), 5);
    }
}
