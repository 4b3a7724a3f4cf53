//! `extents` (candidate): one record for each run of pages that are neighbours in both spaces, instead of a slot a page.
//!
//! **Idea.** The walk knows how far a mapping reaches, and a device wants to know it; in between, every API so far writes
//! it down page by page. An [`Extent`] says: from this page on, so many pages, their frames ascending from this one,
//! with these rights and this order. What is not mapped has no record.
//!
//! **Promises** the rights and orders of `map_order`; maximal runs: two records never continue each other. `extents`
//! faults as 6.12 does, `extents_exact_fault` as `exact_fault` does.
//!
//! **Cannot say** nothing that `map_order` can, but what page i is takes a search.
//!
//! **Costs** a record of 16 bytes a run: a leaf costs one, and so does a folio mapped by PTEs; pages whose neighbours lie
//! elsewhere, and a checkerboard of rights, cost twice the bytes of a slot. Its consumer writes a device entry of 2 MiB
//! or 1 GiB wherever a run allows it, however the processor maps it. Wishes of single pages come in an array of their
//! own, which is only read.
//!
//! **Asks of the kernel** a second output format and a way to say how many records there are; of drivers a loop over
//! records instead of pages.

use super::kvarray::KvArray;
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::backend::{Backend, Info, Kind, PageView};
use crate::backends::fixed::{
    ERROR, REQ, VALID, WRITE, flag_bits, lacks, present_bits, req_flags, view, wish_flags,
};
use crate::backends::hmm_core::{Quirks, hmm_range_fault};
use crate::backends::map_order::{PFN_MASK, WITH_ORDER, order_bits, order_of};
use crate::backends::slots::{Answer, Chunk, Flags, Slots};
use crate::counters::{Count, Counters};
use crate::device_table::DeviceTable;
use crate::memory::Table;
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::Request;
use core::marker::PhantomData;

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Extent {
    /// Its first page, counted from the start of the call's range.
    pub first: u32,
    /// Pages.
    pub nr_pages: u32,
    /// What `map_order` would say of the first page: frame, order, VALID, WRITE, ERROR.
    pub slot: u64,
}

const _: () = assert!(size_of::<Extent>() == 16);

impl Extent {
    const NONE: Extent = Extent { first: 0, nr_pages: 0, slot: 0 };
    /// The page behind it.
    fn end(&self) -> u32 {
        self.first + self.nr_pages
    }
    /// The slot with which a next page would continue it: the next frame, or once more an error.
    fn next(&self) -> u64 {
        if self.slot & VALID != 0 { self.slot + u64::from(self.nr_pages) } else { self.slot }
    }
}

/// The list that a walk fills.
#[derive(Debug)]
struct List {
    /// As many as the call may have pages.
    records: KvArray<Extent>,
    len: usize,
    /// Records begun since somebody asked.
    begun: u64,
}

impl List {
    fn all(&self) -> &[Extent] {
        &self.records[..self.len]
    }
    /// Forgets what it knows of page `i` and behind it.
    fn truncate(&mut self, i: usize) {
        self.len = self.all().partition_point(|x| (x.first as usize) < i);
        if let Some(last) = self.records[..self.len].last_mut() {
            last.nr_pages = last.nr_pages.min(i as u32 - last.first);
        }
    }
    /// Adds pages `i..i + n`, frames ascending if there are frames.
    #[inline]
    fn push(&mut self, i: usize, n: usize, slot: u64) {
        if slot & (VALID | ERROR) == 0 {
            return;
        }
        let (first, nr_pages) = (i as u32, n as u32);
        if let Some(last) = self.records[..self.len].last_mut()
            && last.end() == first
            && last.next() == slot
        {
            last.nr_pages += nr_pages;
            return;
        }
        self.records[self.len] = Extent { first, nr_pages, slot };
        self.len += 1;
        self.begun += 1;
    }
}

/// The arrays of one call; `READS` is false where the default is the wish of every page.
struct InList<'a, const READS: bool> {
    list: &'a mut List,
    default_flags: u64,
    req_flags: &'a [u64],
    /// Where slot 0 of this chunk stands in the call, and how many slots it has.
    first: usize,
    len: usize,
}

impl<const READS: bool> InList<'_, READS> {
    #[inline(always)]
    fn req(&self, k: usize) -> u64 {
        if READS { (self.req_flags[k] | self.default_flags) & REQ } else { self.default_flags }
    }
}

fn encode(a: Answer) -> u64 {
    a.pfn | flag_bits(a.flags) | order_bits(a.order)
}

impl<const READS: bool> Slots for InList<'_, READS> {
    const UNIFORM: bool = !READS;
    const RECORD_BYTES: u64 = size_of::<Extent>() as u64;
    type Chunk<'s>
        = InList<'s, READS>
    where
        Self: 's;
    fn may_fault(&self) -> bool {
        READS || self.default_flags & VALID != 0
    }
    fn begin(&mut self, i: usize) {
        self.list.truncate(i);
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> InList<'_, READS> {
        let req_flags = if READS { &self.req_flags[i..i + n] } else { &[] };
        InList { list: self.list, req_flags, first: self.first + i, len: n, ..*self }
    }
    fn put_run(&mut self, i: usize, n: usize, first: Answer) -> u64 {
        self.list.push(self.first + i, n, encode(first));
        self.stored(n)
    }
    fn fill(&mut self, i: usize, n: usize, answer: Answer) -> u64 {
        self.list.push(self.first + i, n, encode(answer));
        self.stored(n)
    }
    #[inline(always)]
    fn stored(&mut self, _: usize) -> u64 {
        core::mem::take(&mut self.list.begun)
    }
}

impl<const READS: bool> Chunk for InList<'_, READS> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        wish_flags(self.req(k))
    }
    fn put(&mut self, k: usize, answer: Answer) {
        self.list.push(self.first + k, 1, encode(answer));
    }
    /// The list's last record lives in registers for the length of the run.
    #[inline(always)]
    fn plain_run<const MAY_FAULT: bool>(self, table: Table<'_>, first: usize) -> usize {
        let InList { list, default_flags, req_flags, first: base, len: n } = self;
        let run = table.ptep_run(first, n);
        assert!(run.len() == n && (!READS || req_flags.len() == n));
        let records = &mut list.records[..];
        let len_before = list.len;
        // The record that grows, and the slot that would continue it. None such to begin with: no slot is 0.
        let (mut at, mut next) = (list.len, 0);
        if let Some(last) = records[..at].last()
            && last.end() as usize == base
        {
            (at, next) = (at - 1, last.next());
        }
        let mut done = 0;
        while done < n {
            let e = run.ptep_get(done);
            let slot = present_bits(e);
            let req = if READS { (req_flags[done] | default_flags) & REQ } else { default_flags };
            if !e.is_plain_present() || (MAY_FAULT && lacks(req, slot)) {
                break;
            }
            if slot != next {
                let page = (base + done) as u32;
                if next != 0 {
                    records[at].nr_pages = page - records[at].first;
                    at += 1;
                }
                records[at] = Extent { first: page, nr_pages: 1, slot };
            }
            next = slot + 1;
            done += 1;
        }
        if next != 0 {
            records[at].nr_pages = (base + done) as u32 - records[at].first;
            list.len = at + 1;
        }
        list.begun += (list.len - len_before) as u64;
        done
    }
}

/// Faults as 6.12 does.
#[derive(Debug)]
pub struct Batched;
impl Quirks for Batched {}

/// Which of the two it is.
pub trait Variant: Send + 'static {
    /// The row of the registry.
    const INFO: Info;
    /// How it faults.
    type Quirks: Quirks;
}

impl Variant for Batched {
    const INFO: Info =
        Info { id: "extents", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = Batched;
}

impl Variant for super::exact_fault::Exact {
    const INFO: Info =
        Info { id: "extents_exact_fault", kernel: "none", kind: Kind::Candidate, capabilities: &WITH_ORDER };
    type Quirks = super::exact_fault::Exact;
}

/// The backend. See the module.
#[derive(Debug)]
pub struct ExtentsOf<V> {
    range: PageRange,
    owner: u64,
    default_flags: u64,
    has_wishes: bool,
    req_flags: KvArray<u64>,
    list: List,
    variant: PhantomData<V>,
}

/// `extents`.
pub type Extents = ExtentsOf<Batched>;
/// `extents_exact_fault`.
pub type ExtentsExactFault = ExtentsOf<super::exact_fault::Exact>;

impl<V> ExtentsOf<V> {
    /// The answer to the last walk, in the order of the addresses.
    pub fn extents(&self) -> &[Extent] {
        self.list.all()
    }
}

impl<V: Variant> ExtentsOf<V> {
    fn call<C: Counters, const READS: bool>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<(), Errno> {
        let (default_flags, len) = (self.default_flags, self.range.nr_pages() as usize);
        let req_flags = &self.req_flags[..];
        let mut slots: InList<'_, READS> =
            InList { list: &mut self.list, default_flags, req_flags, first: 0, len };
        Ok(hmm_range_fault::<_, V::Quirks, C>(at, sub, seq, self.range, self.owner, &mut slots, c)?)
    }
}

impl<V: Variant> Backend for ExtentsOf<V> {
    const INFO: Info = V::INFO;

    fn new(capacity: usize) -> Self {
        ExtentsOf {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            default_flags: 0,
            has_wishes: false,
            req_flags: KvArray::new(0, capacity),
            list: List { records: KvArray::new(Extent::NONE, capacity), len: 0, begun: 0 },
            variant: PhantomData,
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.range = request.range;
        self.owner = request.owner;
        self.default_flags = req_flags(request.default);
        self.has_wishes = request.per_page.is_some();
        for (req, wish) in self.req_flags.iter_mut().zip(request.per_page.unwrap_or_default()) {
            *req = req_flags(*wish);
        }
        c.add(Count::ArrayBytes, 8 * request.per_page.map_or(0, <[_]>::len) as u64);
    }

    /// The wishes survive the walk.
    fn refill<C: Counters>(&mut self, _: &Request<'_>, _: &mut C) {}

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        if self.has_wishes {
            self.call::<C, true>(at, sub, seq, c)?;
        } else {
            self.call::<C, false>(at, sub, seq, c)?;
        }
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        let mut writer = device.write(self.range);
        let mut entries = 0;
        for extent in self.list.all().iter().filter(|x| x.slot & VALID != 0) {
            let (i, n) = (extent.first as usize, extent.nr_pages as usize);
            entries += writer.run(i, n, Pfn::new(extent.slot & PFN_MASK), extent.slot & WRITE != 0);
        }
        c.add(Count::ArrayBytes, (size_of::<Extent>() * self.list.len) as u64);
        c.add(Count::DeviceEntries, entries);
    }

    fn view(&self, i: usize) -> PageView {
        let all = self.list.all();
        let at = all.partition_point(|x| x.first as usize <= i);
        let extent = at.checked_sub(1).map(|k| all[k]).filter(|x| i < x.end() as usize);
        let Some(extent) = extent else { return PageView::Absent };
        match view(extent.slot, PFN_MASK) {
            PageView::Mapped { pfn, write, device, .. } => {
                let (order, within) = (order_of(extent.slot), i as u64 - u64::from(extent.first));
                let (pfn, compound) = (pfn.add(within), Some(order > 0));
                PageView::Mapped { pfn, write, order: Some(order), compound, device }
            }
            other => other,
        }
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
