//! Write faults on entries that are present but read-only: reuse the page, or copy it.
//!
//! Models `do_wp_page`, `wp_can_reuse_anon_folio`, `wp_page_reuse`, `wp_page_copy` (mm/memory.c, 6.12).

use crate::addr::PAGE_SIZE;
use crate::arch::Entry;
use crate::counters::{Count, Counters};
use crate::memory::page::PG_SWAPCACHE;
use crate::memory::table::Ptl;
use crate::memory::{PageKind, Table};
use crate::mm::fault::{VmFault, Vmf};
use crate::mm::vma::VmFlags;

impl<'a> Vmf<'a> {
    /// `do_wp_page`. Takes over the table lock; returns without it.
    pub(crate) fn do_wp_page<C: Counters>(
        &self,
        table: Table<'a>,
        guard: Ptl<'a>,
        orig: Entry,
        c: &mut C,
    ) -> VmFault {
        if orig.is_uffd_wp() && self.vma.has(VmFlags::UFFD_WP) {
            drop(guard);
            return self.handle_userfault();
        }
        if self.vma.flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
            return self.wp_page_shared(table, guard, orig, c);
        }
        let phys = self.mm().phys();
        let pfn = orig.pfn();
        if !orig.is_special() && phys.page(pfn).kind() == PageKind::Anon && self.can_reuse(pfn) {
            phys.set_anon_exclusive(pfn);
            self.wp_page_reuse(table, orig);
            c.add(Count::FaultsCowReuse, 1);
            return VmFault::empty();
        }
        // folio_get: the page stays while the lock is dropped for the copy.
        if !orig.is_special() {
            phys.page(phys.head(pfn)).get(1);
        }
        drop(guard);
        self.wp_page_copy(orig, c)
    }

    /// `wp_can_reuse_anon_folio`: exclusive already, or the only reference but the swap cache's, which is given up.
    fn can_reuse(&self, pfn: crate::addr::Pfn) -> bool {
        let phys = self.mm().phys();
        let page = phys.page(pfn);
        if page.is_anon_exclusive() {
            return true;
        }
        let head = phys.head(pfn);
        let folio = phys.page(head);
        // A large folio has a reference per mapped page: never one in all (mTHP reuse came with 6.14).
        if folio.order() > 0 || folio.refs() > 1 + folio.has(PG_SWAPCACHE) as i32 || !folio.try_lock() {
            return false;
        }
        if folio.has(PG_SWAPCACHE) {
            self.mm().system().free_swap(head);
        }
        let alone = folio.refs() == 1;
        folio.unlock();
        alone
    }

    /// `wp_page_reuse`: write permission, dirty and young, on the same frame. No event: rights only grow.
    pub(crate) fn wp_page_reuse(&self, table: Table<'_>, orig: Entry) {
        let e = self.maybe_mkwrite(orig.mkyoung());
        table.set(self.pte_index(), e);
    }

    /// `wp_page_copy`: a private copy takes the place of what `orig` maps. The caller took a reference on the old
    /// folio, unless it is special. The event starts after the copy and before the lock, and ends after it.
    pub(crate) fn wp_page_copy<C: Counters>(&self, orig: Entry, c: &mut C) -> VmFault {
        let phys = self.mm().phys();
        let old = orig.pfn();
        let counted = !orig.is_special();
        self.anon_prepare();
        let Ok(new) = phys.alloc(PageKind::Anon, 0) else {
            if counted {
                phys.put_folio(old, 1);
            }
            return VmFault::OOM;
        };
        if old == self.mm().system().zero_pfn() {
            phys.zero(new, 0);
            c.add(Count::BytesZeroed, PAGE_SIZE);
        } else {
            phys.copy(new, old, 0);
            c.add(Count::BytesCopied, PAGE_SIZE);
        }
        let copied = self.clear_event(self.page_range(), c, |_| {
            let Some((table, _guard)) = self.mm().lock_pte_table(self.pmd) else { return false };
            let i = self.pte_index();
            if table.ptep_get(i) != orig {
                return false;
            }
            let e = self.maybe_mkwrite(Entry::leaf(new, self.vma.page_prot()));
            // ptep_clear_flush, then the new entry: between the two the page is absent.
            table.replace(i, Entry::NONE);
            phys.add_new_anon_rmap(new, self.vma.index_of(self.addr));
            table.set(i, e);
            if counted {
                phys.remove_rmap_pte(old);
            }
            true
        });
        if !copied {
            phys.free(new);
        } else {
            c.add(Count::FaultsCowCopy, 1);
        }
        if counted {
            if copied {
                self.mm().system().free_swap_cache(old);
            }
            phys.put_folio(old, 1 + copied as i32);
        }
        VmFault::empty()
    }
}
