//! One case, a given number of times, and nothing else: what `scripts/instructions.sh` counts instructions of.
//!
//! `one_case BACKEND CASE ROUNDS [PAGES]`, with the cases of the table in `scripts/instructions.sh`. A round is the API call
//! over the whole range, or with PAGES whole operations of so many pages (prepare, locks, call, consume) over all of it;
//! of a case `zap_*` it is MADV_DONTNEED of the whole range. It runs inside of [`counted`], by whose name callgrind knows
//! what to count; what makes the memory and puts it back runs outside. `one_case designs` lists the backends.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use walker::addr::{PageRange, VirtAddr};
use walker::arch::Geometry;
use walker::backend::{Backend, Kind};
use walker::backends::{ALL, Visitor, dispatch};
use walker::counters::NoCounts;
use walker::memory::PhysConfig;
use walker::mirror::{Mirror, RetryPolicy};
use walker::mm::Mm;
use walker::mm::madvise::Advice;
use walker::mm::mmap::{MapFlags, MapKind};
use walker::mm::system::{Settings, System, ThpMode};
use walker::mm::vma::VmFlags;
use walker::request::{Request, Wish};

/// 16 MiB: small enough for valgrind.
const PAGES: u64 = 4096;

/// What callgrind counts: `--toggle-collect='*one_case::counted*'`.
#[inline(never)]
fn counted<R>(f: impl FnOnce() -> R) -> R {
    black_box(f())
}

struct Case<'a> {
    name: &'a str,
    rounds: u64,
    /// Pages of an operation; none for calls alone.
    operation: Option<u64>,
}

impl Case<'_> {
    fn is(&self, part: &str) -> bool {
        self.name.contains(part)
    }
}

impl Visitor for Case<'_> {
    type Output = ();
    fn visit<B: Backend>(self) {
        let thp = if self.is("thp") { ThpMode::Always } else { ThpMode::Never };
        let memory = PhysConfig { nr_frames: 1 << 16, host_huge_pages: false };
        let settings = Settings { thp, hugetlb_2m: PAGES / 512, ..Settings::default() };
        let system = System::new(memory, settings).expect("memory");
        let mm = Mm::new(&system, Geometry::FourLevel).expect("a root table");
        let range = PageRange::pages(VirtAddr::new(0x2000_0000_0000), PAGES);
        let rw = VmFlags::READ | VmFlags::WRITE;
        let kind =
            if self.is("hugetlb") { MapKind::Hugetlb { order: 9, shared: false } } else { MapKind::Anon };
        mm.mmap(range, rw, kind, MapFlags::default(), 0).expect("an empty address space");
        let advise = |advice| mm.madvise(range, advice).expect("one VMA");
        let wish = match () {
            () if self.is("write") => Wish::Write,
            () if self.is("read") => Wish::Read,
            () => Wish::None,
        };
        let request = Request::all(range, wish);
        let mirror = Mirror::new(&mm, range);
        let mut backend = B::new(PAGES as usize);
        for _ in 0..self.rounds {
            // As the shapes of `walkbench live` are made; where nothing was changed, there is nothing to do.
            match () {
                // Tables stay, entries go.
                () if self.is("absent") || self.is("empty_tables") => {
                    // A huge zero page that is written becomes small ones.
                    advise(Advice::DontNeed);
                    advise(Advice::PopulateWrite);
                    advise(Advice::DontNeed);
                }
                () if self.is("hole") => {}
                () if self.is("zero") => {
                    advise(Advice::DontNeed);
                    advise(Advice::PopulateRead);
                }
                () => advise(Advice::PopulateWrite),
            }
            let child: Option<Arc<Mm>> = self.is("cow").then(|| mm.fork().expect("frames for tables"));
            let child = child.filter(|child| {
                let stays = !self.is("reuse");
                if !stays {
                    child.exit();
                }
                stays
            });
            if self.is("zap") {
                counted(|| advise(Advice::DontNeed));
            } else if let Some(pages) = self.operation {
                counted(|| {
                    for k in 0..PAGES / pages {
                        let request =
                            Request::all(PageRange::pages(range.start().add_pages(k * pages), pages), wish);
                        mirror
                            .refresh(&mut backend, &request, RetryPolicy::AtOnce, &mut NoCounts)
                            .expect("nothing is missing");
                    }
                });
            } else {
                counted(|| {
                    loop {
                        backend.prepare(&request, &mut NoCounts);
                        let seq = mm.notifier.read_begin(mirror.subscription());
                        match backend.walk(&mm, mirror.subscription(), seq, &mut NoCounts) {
                            Ok(_) => break,
                            Err(walker::mm::Errno::Busy) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
            if let Some(child) = child {
                child.exit();
            }
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "designs") {
        ALL.iter().filter(|b| b.kind != Kind::Control).for_each(|b| println!("{}", b.id));
        return ExitCode::SUCCESS;
    }
    let rounds = args.get(3).and_then(|r| r.parse().ok());
    let operation = args.get(4).map(|p| p.parse().ok().filter(|p| (1..=PAGES).contains(p)));
    let (Some(backend), Some(name), Some(rounds), None | Some(Some(_))) =
        (args.get(1), args.get(2), rounds, operation)
    else {
        eprintln!("usage: one_case designs | BACKEND CASE ROUNDS [PAGES of an operation, 1 to {PAGES}]");
        return ExitCode::from(2);
    };
    let operation = operation.flatten();
    if dispatch(backend, Case { name, rounds, operation }).is_none() {
        eprintln!("one_case: no backend is called {backend}; see walkbench list backends");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}
