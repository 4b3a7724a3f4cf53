//! What is wrong with a machine for measuring, and what to do about it.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use super::lost::Lost;
use crate::measure::machine::{Build, Machine};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing to do.
    Good,
    /// Spoils figures.
    Bad,
    /// The machine does not say.
    Unknown,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) id: &'static str,
    /// How it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) says: String,
    /// What to do, where there is something.
    pub(crate) advice: Option<&'static str>,
}

/// What findings are made from: what the machine says, nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Frequency governors of all processors.
    pub(crate) governors: BTreeSet<String>,
    /// Whether the processor may run faster than it can hold.
    pub(crate) turbo: Option<bool>,
    /// transparent_hugepage/enabled.
    pub(crate) thp: Option<String>,
    /// Under which hypervisor.
    pub(crate) hypervisor: Option<String>,
    /// Ticks stolen while the doctor looked.
    pub(crate) stolen_ticks: Option<u64>,
    /// Ditto, when it began.
    pub(crate) stolen_before: Option<u64>,
    /// Processes running, averaged over a minute.
    pub(crate) load: Option<f64>,
    /// Processors that may be used.
    pub(crate) vcpus: u64,
    /// Whether a processor shares its core.
    pub(crate) smt: Option<bool>,
    /// Where time comes from.
    pub(crate) clocksource: Option<String>,
    /// What reading it costs.
    pub(crate) clock_ns: Option<f64>,
    /// Swap in use.
    pub(crate) swap_used_bytes: Option<u64>,
    /// Memory that could be had.
    pub(crate) available_bytes: Option<u64>,
    /// Holes that something is done about.
    pub(crate) mitigations: Vec<String>,
    /// Whether the kernel shows hardware counters.
    pub(crate) has_counters: bool,
    /// kernel.perf_event_paranoid.
    pub(crate) paranoid: Option<i64>,
    /// Whether the program was built for speed.
    pub(crate) is_optimised: bool,
    /// Time that a spinning thread did not get.
    pub(crate) lost: Option<Lost>,
}

fn word(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty())
}

/// Ticks stolen from all processors so far: the eighth number of /proc/stat.
fn stolen() -> Option<u64> {
    fs::read_to_string("/proc/stat").ok()?.lines().next()?.split_ascii_whitespace().nth(8)?.parse().ok()
}

impl Facts {
    /// Of this machine.
    pub(crate) fn read(machine: &Machine, build: &Build) -> Facts {
        let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let governor = |e: fs::DirEntry| word(e.path().join("cpufreq/scaling_governor").to_str()?);
        let no_turbo = word("/sys/devices/system/cpu/intel_pstate/no_turbo").map(|w| w == "0");
        let boost = || word("/sys/devices/system/cpu/cpufreq/boost").map(|w| w == "1");
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim_start_matches(':')
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
                .map(|n| n << 10)
        };
        Facts {
            governors: cpus.filter_map(governor).collect(),
            turbo: no_turbo.or_else(boost),
            thp: machine.thp.clone(),
            hypervisor: machine.hypervisor.clone(),
            stolen_ticks: None,
            stolen_before: stolen(),
            load: machine.load_milli.map(|l| l as f64 / 1000.0),
            vcpus: machine.vcpus,
            smt: word("/sys/devices/system/cpu/smt/active").map(|w| w == "1"),
            clocksource: word("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clock_ns: None,
            swap_used_bytes: kib("SwapTotal")
                .zip(kib("SwapFree"))
                .map(|(all, free)| all.saturating_sub(free)),
            available_bytes: machine.memory_available_bytes,
            mitigations: machine
                .mitigations
                .iter()
                .filter(|(_, s)| s.starts_with("Mitigation"))
                .map(|(n, _)| n.clone())
                .collect(),
            has_counters: fs::exists("/sys/bus/event_source/devices/cpu").unwrap_or(false),
            paranoid: word("/proc/sys/kernel/perf_event_paranoid").and_then(|w| w.parse().ok()),
            is_optimised: build.profile.starts_with("release"),
            lost: None,
        }
    }
    /// Ticks stolen since they were read.
    pub(crate) fn stolen_since(&self) -> Option<u64> {
        Some(stolen()?.saturating_sub(self.stolen_before?))
    }
}

/// Everything that there is to say, what is bad first.
pub(crate) fn findings(f: &Facts) -> Vec<Finding> {
    let mut all = vec![
        build(f),
        load(f),
        lost(f),
        stolen_time(f),
        governor(f),
        turbo(f),
        clock(f),
        smt(f),
        cpus(f),
        swap(f),
        memory(f),
        thp(f),
        counters(f),
        mitigations(f),
    ];
    all.sort_by_key(|f| match f.state {
        State::Bad => 0,
        State::Unknown => 1,
        State::Good => 2,
    });
    all
}

fn finding(id: &'static str, state: State, says: String, advice: Option<&'static str>) -> Finding {
    Finding { id, state, says, advice: advice.filter(|_| state != State::Good) }
}

/// Bad if it is, good if not, unknown if nothing is known.
fn judged(is_bad: Option<bool>) -> State {
    match is_bad {
        Some(true) => State::Bad,
        Some(false) => State::Good,
        None => State::Unknown,
    }
}

fn build(f: &Facts) -> Finding {
    let says =
        if f.is_optimised { "optimised" } else { "not optimised: figures of this program mean nothing" };
    finding("build", judged(Some(!f.is_optimised)), says.to_owned(), Some("cargo build --release"))
}

fn load(f: &Facts) -> Finding {
    let is_bad = f.load.map(|l| l > 0.3 * f.vcpus as f64);
    let says = f.load.map_or_else(
        || "not known".to_owned(),
        |l| format!("{l:.2} running over the last minute, on {} processors", f.vcpus),
    );
    finding("load", judged(is_bad), says, Some("wait, or stop what else runs"))
}

fn lost(f: &Facts) -> Finding {
    let is_bad = f.lost.map(|l| l.permille > 10.0 || l.longest_us > 2000.0);
    let says = f.lost.map_or_else(
        || "not watched".to_owned(),
        |l| {
            format!(
                "a spinning thread lost {:.2} % of a second in {:.0} gaps, the longest {:.0} us",
                l.permille / 10.0,
                l.gaps_per_s,
                l.longest_us
            )
        },
    );
    let advice =
        "noisy neighbours or interrupts: another machine, another hour, or isolcpus= and IRQ affinity";
    finding("gaps", judged(is_bad), says, Some(advice))
}

fn stolen_time(f: &Facts) -> Finding {
    let (is_bad, says) = match (&f.hypervisor, f.stolen_ticks) {
        (None, _) => (Some(false), "no hypervisor".to_owned()),
        (Some(h), None) => (None, format!("under {h}, which does not say what it steals")),
        (Some(h), Some(0)) => (Some(false), format!("under {h}: nothing stolen meanwhile")),
        (Some(h), Some(n)) => (Some(true), format!("under {h}: {n} ticks of 10 ms stolen meanwhile")),
    };
    finding("hypervisor", judged(is_bad), says, Some("a machine of one's own, or more launches"))
}

fn governor(f: &Facts) -> Finding {
    let names = f.governors.iter().cloned().collect::<Vec<_>>().join(", ");
    let is_bad = (!f.governors.is_empty()).then(|| names != "performance");
    let says = if names.is_empty() { "not shown; the host decides".to_owned() } else { names };
    finding("governor", judged(is_bad), says, Some("cpupower frequency-set --governor performance"))
}

fn turbo(f: &Facts) -> Finding {
    let says = match f.turbo {
        Some(true) => "on: the first cells run faster than the last",
        Some(false) => "off",
        None => "not shown; the host decides",
    };
    let advice = "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 > .../cpufreq/boost";
    finding("turbo", judged(f.turbo), says.to_owned(), Some(advice))
}

fn clock(f: &Facts) -> Finding {
    let is_bad = f
        .clocksource
        .as_ref()
        .map(|c| !["tsc", "kvm-clock"].contains(&c.as_str()) || f.clock_ns.is_some_and(|ns| ns > 100.0));
    let source = f.clocksource.as_deref().unwrap_or("not known");
    let cost = f.clock_ns.map(|ns| format!(", {ns:.0} ns a reading")).unwrap_or_default();
    let advice = "clocksource=tsc: a clock that needs the kernel costs a system call a reading";
    finding("clock", judged(is_bad), format!("{source}{cost}"), Some(advice))
}

fn smt(f: &Facts) -> Finding {
    let says = match f.smt {
        Some(true) => "processors share cores: a neighbour takes half of one",
        Some(false) => "off, or hidden by the host",
        None => "not shown",
    };
    finding("smt", judged(f.smt), says.to_owned(), Some("echo off > /sys/devices/system/cpu/smt/control"))
}

fn cpus(f: &Facts) -> Finding {
    let says = format!("{}", f.vcpus);
    let advice = "cells with churn need a processor for each walker and each churn thread: they are marked";
    finding("processors", judged(Some(f.vcpus < 4)), says, Some(advice))
}

fn swap(f: &Facts) -> Finding {
    let says =
        f.swap_used_bytes.map_or_else(|| "not known".to_owned(), |b| format!("{} MiB in use", b >> 20));
    finding("swap", judged(f.swap_used_bytes.map(|b| b > 0)), says, Some("swapoff -a, if memory allows"))
}

fn memory(f: &Facts) -> Finding {
    let is_bad = f.available_bytes.map(|b| b < 8 << 30);
    let says = f.available_bytes.map_or_else(
        || "not known".to_owned(),
        |b| format!("{:.1} GiB available", b as f64 / (1u64 << 30) as f64),
    );
    finding("memory", judged(is_bad), says, Some("large cells need 8 GiB; leave them out with --filter"))
}

fn thp(f: &Facts) -> Finding {
    let is_bad = f.thp.as_ref().map(|t| t == "never");
    let says = f.thp.clone().unwrap_or_else(|| "not shown".to_owned());
    let advice = "madvise: without huge pages the model's memory pays for the host's TLB misses too";
    finding("thp", judged(is_bad), says, Some(advice))
}

fn counters(f: &Facts) -> Finding {
    let (is_bad, says) = match (f.has_counters, f.paranoid) {
        (false, _) => {
            (true, "none: no PMU in /sys/bus/event_source/devices, as in most virtual machines".to_owned())
        }
        (true, Some(p)) if p > 2 => (true, format!("refused: kernel.perf_event_paranoid is {p}")),
        (true, _) => (false, "shown".to_owned()),
    };
    let advice =
        "sysctl kernel.perf_event_paranoid=2, or a host that passes its PMU on; times do not need them";
    finding("counters", judged(Some(is_bad)), says, Some(advice))
}

fn mitigations(f: &Facts) -> Finding {
    let says = if f.mitigations.is_empty() { "none".to_owned() } else { f.mitigations.join(", ") };
    // Part of every machine that the figures are meant for; only said.
    finding("mitigations", State::Good, says, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine to measure on.
    fn quiet() -> Facts {
        Facts {
            governors: BTreeSet::from(["performance".to_owned()]),
            turbo: Some(false),
            thp: Some("madvise".to_owned()),
            load: Some(0.1),
            vcpus: 8,
            smt: Some(false),
            clocksource: Some("tsc".to_owned()),
            clock_ns: Some(20.0),
            swap_used_bytes: Some(0),
            available_bytes: Some(64 << 30),
            has_counters: true,
            paranoid: Some(2),
            is_optimised: true,
            lost: Some(Lost { permille: 0.5, longest_us: 40.0, gaps_per_s: 100.0, resolution_ns: 20 }),
            ..Facts::default()
        }
    }

    #[test]
    fn a_quiet_machine_has_nothing_to_say() {
        let all = findings(&quiet());
        assert_eq!(all.len(), 14);
        assert!(all.iter().all(|f| f.state == State::Good && f.advice.is_none()), "{all:?}");
    }

    #[test]
    fn each_thing_that_spoils_is_found_and_has_advice() {
        type Change = fn(&mut Facts);
        let spoil: [(&str, Change); 14] = [
            ("build", |f| f.is_optimised = false),
            ("load", |f| f.load = Some(4.0)),
            ("gaps", |f| f.lost = Some(Lost { permille: 30.0, ..Lost::default() })),
            ("hypervisor", |f| (f.hypervisor, f.stolen_ticks) = (Some("KVM".to_owned()), Some(3))),
            ("governor", |f| {
                f.governors = BTreeSet::from(["performance".to_owned(), "powersave".to_owned()])
            }),
            ("turbo", |f| f.turbo = Some(true)),
            ("clock", |f| f.clocksource = Some("hpet".to_owned())),
            ("clock", |f| f.clock_ns = Some(900.0)),
            ("smt", |f| f.smt = Some(true)),
            ("processors", |f| f.vcpus = 2),
            ("swap", |f| f.swap_used_bytes = Some(1 << 20)),
            ("memory", |f| f.available_bytes = Some(1 << 30)),
            ("thp", |f| f.thp = Some("never".to_owned())),
            ("counters", |f| f.paranoid = Some(4)),
        ];
        for (id, change) in spoil {
            let mut facts = quiet();
            change(&mut facts);
            let all = findings(&facts);
            let bad: Vec<_> = all.iter().filter(|f| f.state == State::Bad).collect();
            assert_eq!(bad.iter().map(|f| f.id).collect::<Vec<_>>(), [id]);
            assert!(bad[0].advice.is_some() && all[0].id == id, "what is bad comes first");
        }
    }

    #[test]
    fn what_the_machine_hides_is_unknown_and_never_good() {
        let hidden = Facts { hypervisor: Some("KVM".to_owned()), ..Facts::default() };
        let unknown: Vec<_> =
            findings(&hidden).into_iter().filter(|f| f.state == State::Unknown).map(|f| f.id).collect();
        assert_eq!(
            unknown,
            ["load", "gaps", "hypervisor", "governor", "turbo", "clock", "smt", "swap", "memory", "thp"]
        );
    }
}
