//! What a result must say about the machine that it came from, read from /proc and /sys.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// Behind the processor's name where the kernel is a process on it.
pub(crate) const IN_USER_MODE_LINUX: &str = " in User Mode Linux";

/// One cache of the first processor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cache {
    /// 1, 2, 3.
    pub(crate) level: u64,
    /// Data, Instruction, Unified.
    pub(crate) kind: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Processors that share it, as the kernel lists them.
    pub(crate) shared_by: String,
}

/// The machine. What it does not say is null, never a guess.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu_model: Option<String>,
    /// Its maker.
    pub(crate) cpu_vendor: Option<String>,
    /// Its family.
    pub(crate) cpu_family: Option<u64>,
    /// Its model number.
    pub(crate) cpu_model_number: Option<u64>,
    /// Its stepping.
    pub(crate) cpu_stepping: Option<u64>,
    /// Its microcode.
    pub(crate) microcode: Option<String>,
    /// Processors that this process may use.
    pub(crate) vcpus: u64,
    /// Whether a hypervisor says so in CPUID, and what the firmware calls the machine.
    pub(crate) hypervisor: Option<String>,
    /// Caches of the first processor.
    pub(crate) caches: Vec<Cache>,
    /// As uname -sr says.
    pub(crate) kernel: Option<String>,
    /// Known holes and what is done about them.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// transparent_hugepage/enabled, the chosen word.
    pub(crate) thp: Option<String>,
    /// transparent_hugepage/defrag, the chosen word.
    pub(crate) thp_defrag: Option<String>,
    /// cpufreq governor of the first processor.
    pub(crate) governor: Option<String>,
    /// Processes running, averaged over a minute, in thousandths.
    pub(crate) load_milli: Option<u64>,
    /// Memory.
    pub(crate) memory_bytes: Option<u64>,
    /// Memory that could be had without swapping.
    pub(crate) memory_available_bytes: Option<u64>,
    /// What the kernel takes the time from.
    #[serde(default)]
    pub(crate) clocksource: Option<String>,
    /// Whether two hardware threads share a core: "on", "off", "notsupported", ...
    #[serde(default)]
    pub(crate) smt: Option<String>,
    /// kernel.perf_event_paranoid.
    #[serde(default)]
    pub(crate) perf_event_paranoid: Option<i64>,
}

/// What the program was built from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Build {
    /// Its version.
    pub(crate) version: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// Profile and optimisation level.
    pub(crate) profile: String,
    /// RUSTFLAGS.
    pub(crate) flags: String,
    /// Target triple.
    pub(crate) target: String,
    /// The commit, or "unknown" without git.
    pub(crate) commit: String,
    /// Whether tracked files differed from it: "true", "false" or "unknown".
    pub(crate) dirty: String,
    /// Name and version of every crate in it.
    #[serde(default)]
    pub(crate) crates: Vec<String>,
    /// A hash of the executable: what tells two builds of a dirty tree apart.
    #[serde(default)]
    pub(crate) executable: String,
}

impl Build {
    /// Of this program.
    pub(crate) fn this() -> Build {
        let executable = fs::read("/proc/self/exe").map(|exe| hash(&exe)).unwrap_or_default();
        Build { executable, ..Build::without_hash() }
    }
    /// The same but for the hash of its executable, which takes as long as reading that: a tenth of a second.
    pub(crate) fn without_hash() -> Build {
        Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rustc: env!("WALKBENCH_RUSTC").to_owned(),
            profile: env!("WALKBENCH_PROFILE").to_owned(),
            flags: env!("WALKBENCH_FLAGS").to_owned(),
            target: env!("WALKBENCH_TARGET").to_owned(),
            commit: env!("WALKBENCH_COMMIT").to_owned(),
            dirty: env!("WALKBENCH_DIRTY").to_owned(),
            crates: env!("WALKBENCH_CRATES").split(' ').map(str::to_owned).collect(),
            executable: String::new(),
        }
    }
    /// What must be the same for two launches to be of one run.
    pub(crate) fn fingerprint(&self) -> String {
        let Build { version, rustc, profile, flags, target, commit, dirty, executable, crates: _ } = self;
        hash(
            [version, rustc, profile, flags, target, commit, dirty, executable]
                .map(String::as_str)
                .join("\n")
                .as_bytes(),
        )
    }
}

/// 64 bits of FNV-1a, as hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let fnv = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

impl Machine {
    /// Reads everything.
    pub(crate) fn read() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let number = |name| field(&cpuinfo, name).and_then(|v| v.parse().ok());
        let kib = |name| {
            let value = field(&meminfo, name)?;
            value.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|n| n << 10)
        };
        let thp = |file: &str| chosen(&word(&format!("/sys/kernel/mm/transparent_hugepage/{file}"))?);
        Machine {
            cpu_model: field(&cpuinfo, "model name").map(|name| match name.as_str() {
                // The kernel runs as a process: its processor is the host's.
                "UML" => brand().unwrap_or_default() + IN_USER_MODE_LINUX,
                _ => name,
            }),
            cpu_vendor: field(&cpuinfo, "vendor_id"),
            cpu_family: number("cpu family"),
            cpu_model_number: number("model"),
            cpu_stepping: number("stepping"),
            microcode: field(&cpuinfo, "microcode"),
            vcpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            hypervisor: hypervisor(&cpuinfo),
            caches: (0..8).map_while(cache).collect(),
            kernel: word("/proc/sys/kernel/osrelease").map(|release| format!("Linux {release}")),
            mitigations: mitigations(),
            thp: thp("enabled"),
            thp_defrag: thp("defrag"),
            governor: word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_milli: word("/proc/loadavg").and_then(|l| {
                let first: f64 = l.split(' ').next()?.parse().ok()?;
                Some((first * 1000.0) as u64)
            }),
            memory_bytes: kib("MemTotal"),
            memory_available_bytes: kib("MemAvailable"),
            clocksource: word("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            smt: word("/sys/devices/system/cpu/smt/control"),
            perf_event_paranoid: word("/proc/sys/kernel/perf_event_paranoid").and_then(|w| w.parse().ok()),
        }
    }
    /// What must be the same for two launches to be of one run: the hardware as it shows, and the kernel. What changes
    /// from one minute to the next, like load, is left out.
    pub(crate) fn fingerprint(&self) -> String {
        let caches: Vec<_> = self.caches.iter().map(|c| (c.level, &c.kind, c.bytes)).collect();
        let stable = (
            (&self.cpu_vendor, &self.cpu_model, self.cpu_family, self.cpu_model_number, self.cpu_stepping),
            (&self.microcode, self.vcpus, &self.hypervisor, caches, &self.kernel, self.memory_bytes),
        );
        hash(format!("{stable:?}").as_bytes())
    }
    /// The processor in a line.
    pub(crate) fn line(&self) -> String {
        let cache = |level| {
            let found = self.caches.iter().find(|c| c.level == level && c.kind != "Instruction");
            found.map(|c| format!(", L{level} {}", workloads::definition::size_name(c.bytes)))
        };
        let mut line = self.cpu_model.clone().unwrap_or_else(|| "unknown processor".to_owned());
        line += &format!(", {} vCPU", self.vcpus);
        line.extend([1, 2, 3].into_iter().filter_map(cache));
        if let Some(h) = &self.hypervisor {
            line += &format!(", under {h}");
        }
        line + &self.kernel.as_ref().map(|k| format!(", {k}")).unwrap_or_default()
    }
    /// The processor in a name for a folder.
    pub(crate) fn slug(&self) -> String {
        let model = self.cpu_model.as_deref().unwrap_or("unknown").to_lowercase();
        let words = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        let kept: Vec<&str> =
            words.filter(|w| !["r", "tm", "cpu", "processor"].contains(w)).take(4).collect();
        format!("{}-{}vcpu", kept.join("-"), self.vcpus)
    }
}

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages << 12)
}

/// The first `name : value` of /proc/cpuinfo or /proc/meminfo.
fn field(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|l| l.split_once(':')).filter(|(n, _)| n.trim() == name);
    values.map(|(_, v)| v.trim().to_owned()).next()
}

fn word(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty())
}

/// The word in brackets.
fn chosen(choices: &str) -> Option<String> {
    Some(choices.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// What the processor calls itself (CPUID 0x80000002 to 4).
#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return None;
    }
    let leaves = (0x8000_0002..=0x8000_0004).map(__cpuid);
    let bytes = leaves.flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]).flat_map(u32::to_le_bytes);
    let bytes: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
    Some(String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> Option<String> {
    None
}

fn hypervisor(cpuinfo: &str) -> Option<String> {
    let flags = field(cpuinfo, "flags")?;
    flags.split(' ').any(|f| f == "hypervisor").then(|| {
        let dmi = |file: &str| word(&format!("/sys/class/dmi/id/{file}"));
        let names = [dmi("sys_vendor"), dmi("product_name")];
        let names: Vec<String> = names.into_iter().flatten().collect();
        if names.is_empty() { "a hypervisor".to_owned() } else { names.join(" ") }
    })
}

fn cache(index: u32) -> Option<Cache> {
    let read = |file: &str| word(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}"));
    let size = read("size")?;
    let kib = size.strip_suffix('K').and_then(|n| n.parse::<u64>().ok())?;
    Some(Cache {
        level: read("level")?.parse().ok()?,
        kind: read("type")?,
        bytes: kib << 10,
        shared_by: read("shared_cpu_list").unwrap_or_default(),
    })
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return BTreeMap::new() };
    let named = entries.flatten().filter_map(|e| {
        let state = word(e.path().to_str()?)?;
        Some((e.file_name().into_string().ok()?, state))
    });
    named.filter(|(_, state)| state != "Not affected").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_a_cache_and_memory() {
        let machine = Machine::read();
        assert!(machine.slug().ends_with("vcpu") && !machine.slug().contains(' '));
        assert!(!machine.line().is_empty() && machine.vcpus > 0);
        assert!(machine.memory_bytes.is_some_and(|b| b > 0));
        assert!(resident_bytes().is_some_and(|b| b > 0));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_processor_says_its_name_itself() {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
        let brand = brand().unwrap();
        // A kernel copies it, or has a name of its own.
        assert!(!brand.is_empty() && !brand.contains('\0'), "{brand:?}");
        let name = field(&cpuinfo, "model name").unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(name == brand || name == "UML", "{name} {brand}");
    }

    #[test]
    fn a_fingerprint_ignores_what_passes_and_sees_what_stays() {
        let machine = Machine::read();
        let busy = Machine { load_milli: Some(1), memory_available_bytes: None, ..machine.clone() };
        assert_eq!(busy.fingerprint(), machine.fingerprint());
        let other = Machine { microcode: Some("another".to_owned()), ..machine.clone() };
        assert_ne!(other.fingerprint(), machine.fingerprint());
        let build = Build::this();
        assert_eq!(build.executable.len(), 16);
        assert!(build.crates.iter().any(|c| c.starts_with("hdrhistogram-")), "{:?}", build.crates);
        let other = Build { commit: "0123".to_owned(), ..build.clone() };
        assert_ne!(other.fingerprint(), build.fingerprint());
    }

    #[test]
    fn the_chosen_word_is_the_one_in_brackets() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("none"), None);
    }
}
