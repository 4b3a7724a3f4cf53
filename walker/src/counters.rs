//! Exact counts of what an operation did, as a type parameter: the timed build counts nothing and pays nothing.
//!
//! A count is a function of the tables and the call, never of time. The names are those of the JSON output.

macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Count { $($(#[$doc])* $variant),* }
        impl Count {
            /// Every count, in the order of [`Counts`].
            pub const ALL: &'static [Count] = &[$(Count::$variant),*];
            /// Its name in JSON and tables.
            pub const fn name(self) -> &'static str {
                match self { $(Count::$variant => $name),* }
            }
        }
    };
}

counts! {
    /// Times the page tables were walked from the start of a call, restarts included (semantics 0.6).
    Walks = "walks",
    /// PTE-level entries read by the walk.
    PtesVisited = "ptes_visited",
    /// PMD entries examined by the walk.
    PmdsVisited = "pmds_visited",
    /// Leaves above the PTE level reported (PMD, PUD, hugetlb).
    HugeLeaves = "huge_leaves",
    /// Hole callbacks: spans without a table, and gaps between VMAs.
    Holes = "holes",
    /// VMAs entered.
    VmasVisited = "vmas_visited",
    /// Input slots read for a wish.
    WishesRead = "wishes_read",
    /// Output slots written.
    SlotsWritten = "slots_written",
    /// Bytes that prepare, walk and consume moved through the caller's arrays (not the page tables).
    ArrayBytes = "array_bytes",
    /// Calls of `handle_mm_fault`.
    FaultsIssued = "faults_issued",
    /// Pages that asked for something the tables did not give when they were examined.
    FaultsNeeded = "faults_needed",
    /// Faults that found nothing to do (entry present and allowed): took the lock, marked young.
    FaultsSpurious = "faults_spurious",
    /// Anonymous pages allocated and zeroed.
    FaultsAnonZero = "faults_anon_zero",
    /// Zero page mapped.
    FaultsZeroPage = "faults_zero_page",
    /// 2 MiB anonymous folios allocated and zeroed.
    FaultsThp = "faults_thp",
    /// Huge zero page mapped.
    FaultsHugeZero = "faults_huge_zero",
    /// Private copies made on a write (COW, the zero page included).
    FaultsCowCopy = "faults_cow_copy",
    /// Writes that could take over the page as it was.
    FaultsCowReuse = "faults_cow_reuse",
    /// Page-cache pages mapped by read faults (fault-around counts once).
    FaultsFileRead = "faults_file_read",
    /// Page-cache pages made writable, shared mapping.
    FaultsFileWrite = "faults_file_write",
    /// Pages brought back from swap or the swap cache.
    FaultsSwapIn = "faults_swap_in",
    /// Pages brought back from device memory.
    FaultsDevice = "faults_device",
    /// Device-exclusive entries restored.
    FaultsExclusive = "faults_exclusive",
    /// NUMA hints resolved.
    FaultsNuma = "faults_numa",
    /// hugetlb pages allocated, copied or reused.
    FaultsHugetlb = "faults_hugetlb",
    /// Faults that ended in an error.
    FaultsFailed = "faults_failed",
    /// COW copies of pages whose slot did not ask for write (semantics 0.5).
    CopiesNotAskedFor = "copies_not_asked_for",
    /// PMD leaves replaced by a table.
    PmdSplits = "pmd_splits",
    /// Bytes zeroed by faults.
    BytesZeroed = "bytes_zeroed",
    /// Bytes copied by faults.
    BytesCopied = "bytes_copied",
    /// Notifier events issued by faults of this call.
    EventsIssued = "events_issued",
    /// Waits for a migration to end.
    MigrationWaits = "migration_waits",
    /// Calls that ended in -EBUSY, or whose result `read_retry` refused.
    Retries = "retries",
    /// Device page-table entries written by the consumer.
    DeviceEntries = "device_entries",
}

/// Sink for counts. Implementations decide whether anything is kept.
pub trait Counters {
    /// Whether anything is kept; where it is not, work done only to count is left out too.
    const ENABLED: bool;
    /// Adds `n` to `what`.
    fn add(&mut self, what: Count, n: u64);
    /// What was counted so far; 0 where nothing is kept.
    fn get(&self, what: Count) -> u64;
    /// A fault is about to be handled: a clock outside may split walk time from fault time.
    #[inline(always)]
    fn fault_enter(&mut self) {}
    /// The fault is done.
    #[inline(always)]
    fn fault_exit(&mut self) {}
    /// How many PTE-level entries in a row may be read before they are counted; not 0. A sink to which every visit is
    /// a moment (virtual time) says how far the next one of interest is.
    #[inline(always)]
    fn run_limit(&self) -> usize {
        usize::MAX
    }
    /// The lock of a folio is taken, and a fault is about to wait for it.
    #[inline(always)]
    fn folio_wait(&mut self) {}
    /// The mmap lock was held and is not any more: who waits for it may go.
    #[inline(always)]
    fn mmap_unlocked(&mut self) {}
    /// The mmap lock is about to be taken for writing: whoever holds it for reading comes to an end.
    #[inline(always)]
    fn mmap_write_lock(&mut self) {}
    /// The driver's lock is held from here: an event over the mirror's range cannot pass its callback.
    #[inline(always)]
    fn driver_lock(&mut self) {}
    /// The driver's lock is free again.
    #[inline(always)]
    fn driver_unlocked(&mut self) {}
    /// The caller waits for `ns` nanoseconds.
    fn pause(&mut self, ns: u64) {
        std::thread::sleep(core::time::Duration::from_nanos(ns));
    }
}

/// Counts nothing: every call compiles to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCounts;
impl Counters for NoCounts {
    const ENABLED: bool = false;
    #[inline(always)]
    fn add(&mut self, _: Count, _: u64) {}
    #[inline(always)]
    fn get(&self, _: Count) -> u64 {
        0
    }
}

/// Counts exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; Count::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Counts([0; Count::ALL.len()])
    }
}
impl Counts {
    /// Name and value of every count, zeros included, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ALL.iter().map(|&c| (c, self.0[c as usize]))
    }
}
impl Counters for Counts {
    const ENABLED: bool = true;
    fn get(&self, what: Count) -> u64 {
        self.0[what as usize]
    }
    #[inline]
    fn add(&mut self, what: Count, n: u64) {
        self.0[what as usize] += n;
    }
}

/// [`Counters`] as an object can have them.
trait Sink {
    fn add(&mut self, what: Count, n: u64);
    fn get(&self, what: Count) -> u64;
    fn fault_enter(&mut self);
    fn fault_exit(&mut self);
    fn run_limit(&self) -> usize;
    fn mmap_unlocked(&mut self);
    fn mmap_write_lock(&mut self);
    fn driver_lock(&mut self);
    fn driver_unlocked(&mut self);
    fn pause(&mut self, ns: u64);
}

impl<C: Counters> Sink for C {
    fn add(&mut self, what: Count, n: u64) {
        Counters::add(self, what, n);
    }
    fn get(&self, what: Count) -> u64 {
        Counters::get(self, what)
    }
    fn fault_enter(&mut self) {
        Counters::fault_enter(self);
    }
    fn fault_exit(&mut self) {
        Counters::fault_exit(self);
    }
    fn run_limit(&self) -> usize {
        Counters::run_limit(self)
    }
    fn mmap_unlocked(&mut self) {
        Counters::mmap_unlocked(self);
    }
    fn mmap_write_lock(&mut self) {
        Counters::mmap_write_lock(self);
    }
    fn driver_lock(&mut self) {
        Counters::driver_lock(self);
    }
    fn driver_unlocked(&mut self) {
        Counters::driver_unlocked(self);
    }
    fn pause(&mut self, ns: u64) {
        Counters::pause(self, ns);
    }
}

/// Any counters as one type, by a virtual call a count: for checks, whose designs are then compiled once and not once a
/// sink. Never in a timed span.
pub struct Erased<'a>(&'a mut dyn Sink);

impl<'a> Erased<'a> {
    /// Counts with `counters`.
    pub fn new(counters: &'a mut impl Counters) -> Erased<'a> {
        Erased(counters)
    }
}

impl Counters for Erased<'_> {
    const ENABLED: bool = true;
    fn add(&mut self, what: Count, n: u64) {
        self.0.add(what, n);
    }
    fn get(&self, what: Count) -> u64 {
        self.0.get(what)
    }
    fn fault_enter(&mut self) {
        self.0.fault_enter();
    }
    fn fault_exit(&mut self) {
        self.0.fault_exit();
    }
    fn run_limit(&self) -> usize {
        self.0.run_limit()
    }
    fn mmap_unlocked(&mut self) {
        self.0.mmap_unlocked();
    }
    fn mmap_write_lock(&mut self) {
        self.0.mmap_write_lock();
    }
    fn driver_lock(&mut self) {
        self.0.driver_lock();
    }
    fn driver_unlocked(&mut self) {
        self.0.driver_unlocked();
    }
    fn pause(&mut self, ns: u64) {
        self.0.pause(ns);
    }
}
