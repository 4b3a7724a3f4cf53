//! `struct_page` and `struct_page_touch`: an array of page handles and nothing else, proposed and not merged.
//!
//! **Models** semantics 1.4 (Hellwig, "thinking out loud", March 2020): wishes as in `split_arrays`; the answer is a
//! `struct page *` per page. A handle here is the index of the struct page, plus one: the kernel's pointer differs
//! from it by a constant and a factor. Behaviour is that of 5.8.
//!
//! **Promises** that a handle in a page that was asked for is mapped as it was asked for.
//!
//! **Cannot say** permission: what may be written is what was asked for with write. So it cannot report without
//! faulting (no snapshot): null does not tell an error from an absent page, a handle does not tell its rights. Nor can
//! it say how large the mapping is: the struct page knows its folio, which may be mapped in part. Read-only device
//! memory of the caller ends a write wish without a fault (N3), and the handle hides that it is read-only.
//!
//! **Costs** as `split_arrays` in the walk. What the caller does with a handle is the question: `struct_page` makes the
//! frame number by arithmetic alone; `struct_page_touch` looks into each struct page (is it device memory?), a cache
//! line per page.

use super::kvarray::KvArray;
use crate::addr::{PageRange, Pfn, VirtAddr};
use crate::backend::{Backend, Capability, Info, Kind, PageView};
use crate::backends::hmm_core::{Quirks5_8, hmm_range_fault};
use crate::backends::program;
use crate::backends::slots::{Answer, Chunk, Flags, Slots};
use crate::counters::{Count, Counters};
use crate::device_table::{DeviceEntry, DeviceTable};
use crate::memory::{PageKind, Phys};
use crate::mm::{Errno, Locked};
use crate::notifier::Subscription;
use crate::request::{Request, Wish};
use std::sync::Arc;

/// The backend whose caller only computes with handles.
pub type PointerOnly = StructPage<false>;
/// The backend whose caller looks into each struct page.
pub type PointerAndTouch = StructPage<true>;

/// The backend. See the module.
#[derive(Debug)]
pub struct StructPage<const TOUCH: bool> {
    range: PageRange,
    owner: u64,
    default: Wish,
    has_wishes: bool,
    wishes: KvArray<Wish>,
    /// Index of the struct page plus one; 0 is null.
    pages: KvArray<u64>,
    /// Where the struct pages are; the first walk says it.
    phys: Option<Arc<Phys>>,
}

struct Handles<'a> {
    default: Wish,
    wishes: Option<&'a [Wish]>,
    pages: &'a mut [u64],
}

impl Slots for Handles<'_> {
    type Chunk<'s>
        = Handles<'s>
    where
        Self: 's;
    #[inline(always)]
    fn may_fault(&self) -> bool {
        true
    }
    #[inline(always)]
    fn chunk(&mut self, i: usize, n: usize) -> Handles<'_> {
        Handles {
            default: self.default,
            wishes: self.wishes.map(|w| &w[i..i + n]),
            pages: &mut self.pages[i..i + n],
        }
    }
}

impl Chunk for Handles<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.pages.len()
    }
    #[inline(always)]
    fn wish(&self, k: usize) -> Flags {
        // A wish has the bits of VALID and WRITE.
        Flags::from_bits_retain(self.default.or(self.wishes.map_or(Wish::None, |w| w[k])) as u8)
    }
    #[inline(always)]
    fn put(&mut self, k: usize, answer: Answer) {
        self.pages[k] = if answer.flags.contains(Flags::VALID) { answer.pfn + 1 } else { 0 };
    }
}

impl<const TOUCH: bool> StructPage<TOUCH> {
    #[inline(always)]
    fn wish(&self, i: usize) -> Wish {
        if self.has_wishes { self.default.or(self.wishes[i]) } else { self.default }
    }
}

impl<const TOUCH: bool> Backend for StructPage<TOUCH> {
    const INFO: Info = Info {
        id: if TOUCH { "struct_page_touch" } else { "struct_page" },
        kernel: "proposed 2020-03",
        kind: Kind::Historic,
        capabilities: &[
            Capability::Fault,
            Capability::PerPageRequest,
            Capability::DevicePrivate,
            Capability::Hugetlb,
            Capability::ErrorPerPage,
            Capability::CrossVma,
        ],
    };

    fn new(capacity: usize) -> Self {
        StructPage {
            range: PageRange::pages(VirtAddr::new(0), 0),
            owner: 0,
            default: Wish::None,
            has_wishes: false,
            wishes: KvArray::new(Wish::None, capacity),
            pages: KvArray::new(0, capacity),
            phys: None,
        }
    }

    fn prepare<C: Counters>(&mut self, request: &Request<'_>, c: &mut C) {
        self.range = request.range;
        self.owner = request.owner;
        self.default = request.default;
        self.has_wishes = request.per_page.is_some();
        if let Some(wishes) = request.per_page {
            self.wishes[..wishes.len()].copy_from_slice(wishes);
            c.add(Count::ArrayBytes, size_of_val(wishes) as u64);
        }
    }

    /// Nothing: the wishes are still there.
    fn refill<C: Counters>(&mut self, _: &Request<'_>, _: &mut C) {}

    fn walk_locked<C: Counters>(
        &mut self,
        at: Locked<'_>,
        sub: &Subscription,
        seq: u64,
        c: &mut C,
    ) -> Result<u64, Errno> {
        if TOUCH && !self.phys.as_ref().is_some_and(|p| Arc::ptr_eq(p, at.mm.phys())) {
            self.phys = Some(Arc::clone(at.mm.phys()));
        }
        let mut slots = Handles {
            default: self.default,
            wishes: self.has_wishes.then_some(&self.wishes),
            pages: &mut self.pages,
        };
        hmm_range_fault::<_, Quirks5_8, C>(at, sub, seq, self.range, self.owner, &mut slots, c)?;
        Ok(seq)
    }

    fn consume<C: Counters>(&mut self, device: &mut DeviceTable, c: &mut C) {
        let (default, has_wishes) = (self.default, self.has_wishes);
        let mut wishes = self.wishes.iter();
        program(device, self.range, &self.pages, c, |&page| {
            let wish = wishes.next().filter(|_| has_wishes).map_or(default, |w| default.or(*w));
            if page == 0 {
                return DeviceEntry::default();
            }
            let pfn = Pfn::new(page - 1);
            if TOUCH && let Some(phys) = &self.phys {
                // is_device_private_page: a real driver takes such a page another way.
                core::hint::black_box(phys.page(pfn).kind() == PageKind::DevicePrivate);
            }
            DeviceEntry::new(pfn, wish == Wish::Write, 0)
        });
    }

    fn view(&self, i: usize) -> PageView {
        match self.pages[i] {
            0 => PageView::Absent,
            page => PageView::Mapped {
                pfn: Pfn::new(page - 1),
                write: (self.wish(i) == Wish::Write).then_some(true),
                order: None,
                compound: None,
                device: None,
            },
        }
    }

    fn range(&self) -> PageRange {
        self.range
    }
}
