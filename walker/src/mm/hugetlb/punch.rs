//! A hole in a hugetlbfs file: `hugetlbfs_punch_hole` (fs/hugetlbfs/inode.c, 6.12), which MADV_REMOVE reaches.

use super::HugetlbFile;
use crate::addr::PageRange;
use crate::memory::page::PG_CACHED;
use crate::mm::Mm;
use crate::mm::vma::VmFlags;
use crate::notifier::{Event, EventKind};

impl Mm {
    /// Punches a hole of `nr` base pages from page offset `first` on. Huge pages that lie in it whole leave every mapping
    /// and the file, and with a page goes what says that it is reserved: the next fault there takes what the pool has
    /// left. Of the others the part in the hole becomes zero. The mmap lock is not held.
    pub(crate) fn punch_hugetlb(&self, file: &HugetlbFile, first: u64, nr: u64) {
        let (phys, pages) = (self.phys(), 1u64 << file.order());
        let (start, end) = (first.next_multiple_of(pages), (first + nr) / pages * pages);
        // hugetlb_vmdelete_list
        for mm in self.family() {
            let vmas = mm.mmap_read();
            for vma in vmas.iter().filter(|v| v.has(VmFlags::HUGETLB) && v.file_id() == file.id()) {
                let low = start.max(vma.pgoff);
                let high = end.min(vma.pgoff + vma.range.nr_pages());
                if low < high {
                    let part = PageRange::pages(vma.start().add_pages(low - vma.pgoff), high - low);
                    mm.notifier
                        .during(&Event::new(EventKind::Clear, part), || mm.zap_hugetlb(vma, part, true));
                }
            }
        }
        let _no_faults = file.fault.lock();
        // hugetlbfs_zero_partial_page
        for offset in (first..first + nr).filter(|offset| !(start..end).contains(offset)) {
            if let Some(head) = file.cache.lock().get(&(offset / pages)) {
                phys.zero(head.add(offset % pages), 0);
            }
        }
        // remove_inode_hugepages
        for index in start / pages..(end / pages).max(start / pages) {
            let Some(head) = file.cache.lock().remove(&index) else { continue };
            phys.page(head).clear(PG_CACHED);
            file.unreserve(index);
            self.system().hugetlb.put(phys, head, 1);
        }
    }
}
