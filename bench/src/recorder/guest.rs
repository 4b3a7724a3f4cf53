//! The machine that is recorded: what is set once, what each scenario wants, and what must not have happened.
//!
//! All of it is settings of the whole machine, so the caller has to be told that the machine is there for this.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use workloads::scenario::{Scenario, ShmemEnabled, ThpEnabled};

use crate::os::mapping::{Advice, Mapping};
use crate::os::swap;

/// Where files of scenarios are made: a tmpfs.
pub(super) const TMPFS: &str = "/tmp";
/// The RAM disk that is swap.
const SWAP: &str = "/dev/ram0";
const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// A setting of the machine and its value while recording.
const STILL: [(&str, &str); 11] = [
    ("/proc/sys/kernel/sched_rt_runtime_us", "-1"),
    ("/proc/sys/vm/compaction_proactiveness", "0"),
    ("/proc/sys/vm/dirty_writeback_centisecs", "0"),
    ("/proc/sys/vm/dirty_expire_centisecs", "100000000"),
    ("/proc/sys/vm/page-cluster", "0"),
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/nr_hugepages", "64"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"),
    ("/sys/kernel/mm/transparent_hugepage/defrag", "madvise"),
    ("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4294967295"),
    ("/sys/kernel/mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs", "4294967295"),
];

/// The machine, held still.
pub(crate) struct Guest {
    /// Keeps khugepaged registered and therefore asleep: it wakes when its first process comes.
    _bait: Mapping,
}

fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("{path}: cannot be set to {value}: {e}")))
}

/// The value of a file with one; of a list with a choice, that.
fn read(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
    let choice = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Ok(choice.map_or(text.trim(), |(choice, _)| choice).into())
}

fn collapsed() -> io::Result<String> {
    read("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed")
}

impl Guest {
    /// Takes the machine: from now on its settings are ours.
    ///
    /// # Errors
    /// A setting that is not there or is refused, by name.
    pub(crate) fn own() -> io::Result<Guest> {
        for (path, value) in STILL {
            write(path, value)?;
        }
        let got = read("/proc/sys/vm/nr_hugepages")?;
        if got != "64" {
            return Err(io::Error::other(format!(
                "expected 64 huge pages, the kernel found {got}: more memory"
            )));
        }
        let bait = Mapping::new(4 << 20)?;
        bait.advise(bait.all(), Advice::HugePage)?;
        bait.write(1);
        // Its one look at it.
        std::thread::sleep(Duration::from_secs(1));
        Ok(Guest { _bait: bait })
    }

    /// Runs `play` with the settings that `scenario` wants and takes them back; `None` where khugepaged worked meanwhile.
    ///
    /// # Errors
    /// A setting that is refused; those of `play`.
    pub(crate) fn with<T>(
        &self,
        scenario: &Scenario,
        play: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut wanted = vec![
            ("enabled".to_owned(), thp(scenario.thp), "madvise"),
            ("shmem_enabled".to_owned(), shmem(scenario.shthp), "never"),
            ("use_zero_page".to_owned(), if scenario.zp { "1" } else { "0" }, "1"),
        ];
        let orders = (2..9).filter(|order| scenario.mthp >> order & 1 == 1);
        wanted
            .extend(orders.map(|order| (format!("hugepages-{}kB/enabled", 4 << order), "inherit", "never")));
        wanted.retain(|(_, value, usual)| value != usual);
        let set = |which: fn(&(String, &'static str, &'static str)) -> &'static str| -> io::Result<()> {
            for setting in &wanted {
                write(&format!("{THP}/{}", setting.0), which(setting))?;
            }
            if !wanted.is_empty() {
                // A change wakes khugepaged: it may find what there is, which is nothing of the scenario.
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        };
        set(|setting| setting.1)?;
        if scenario.swap {
            swap::on(Path::new(SWAP))
                .map_err(|e| io::Error::new(e.kind(), format!("swap on {SWAP}: {e}")))?;
        }
        let before = collapsed()?;
        let played = play();
        let after = collapsed()?;
        if scenario.swap {
            swap::off(Path::new(SWAP))
                .map_err(|e| io::Error::new(e.kind(), format!("swap off {SWAP}: {e}")))?;
        }
        set(|setting| setting.2)?;
        played.map(|played| (before == after).then_some(played))
    }
}

fn thp(setting: ThpEnabled) -> &'static str {
    match setting {
        ThpEnabled::Always => "always",
        ThpEnabled::Madvise => "madvise",
        ThpEnabled::Never => "never",
    }
}

fn shmem(setting: ShmemEnabled) -> &'static str {
    match setting {
        ShmemEnabled::Always => "always",
        ShmemEnabled::WithinSize => "within_size",
        ShmemEnabled::Advise => "advise",
        ShmemEnabled::Never => "never",
    }
}
