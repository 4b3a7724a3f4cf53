//! One [`Scenario`] to a line of a recording: the opposite of [`super::parse_line`].

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use super::{Expected, Scenario, ShmemEnabled, Step, ThpEnabled, vma};

/// The line, without its end. What is at its default, or was not recorded, is left out.
pub fn to_line(scenario: &Scenario) -> String {
    let mut head = Map::new();
    let mut set = |key: &str, value: Value| head.insert(key.into(), value);
    set("kernel", scenario.kernel.clone().into());
    set("id", scenario.id.clone().into());
    set("cls", scenario.cls.clone().into());
    set("npages", scenario.npages.into());
    set("misalign", scenario.misalign.into());
    for (key, is_set) in [("swap", scenario.swap), ("dev1", scenario.dev1), ("giga", scenario.giga)] {
        if is_set {
            set(key, 1.into());
        }
    }
    match scenario.thp {
        ThpEnabled::Always => drop(set("thp", "always".into())),
        ThpEnabled::Madvise => {}
        ThpEnabled::Never => drop(set("thp", "never".into())),
    }
    match scenario.shthp {
        ShmemEnabled::Always => drop(set("shthp", "always".into())),
        ShmemEnabled::WithinSize => drop(set("shthp", "within_size".into())),
        ShmemEnabled::Advise => drop(set("shthp", "advise".into())),
        ShmemEnabled::Never => {}
    }
    if scenario.mthp != 0 {
        let sizes =
            (2..9).filter(|order| scenario.mthp >> order & 1 == 1).map(|order| (4 << order).to_string());
        set("mthp", sizes.collect::<Vec<_>>().join("+").into());
    }
    if !scenario.zp {
        set("zp", 0.into());
    }
    set("steps", scenario.steps.iter().map(step).collect());
    set("rawmismatch", scenario.rawmismatch.into());
    Value::Object(head).to_string()
}

/// The operation with its arguments as in its script form, then what was recorded.
fn step(step: &Step) -> Value {
    let mut map = Map::new();
    let script = step.op.to_string();
    let mut words = script.split(' ');
    map.insert("op".into(), words.next().unwrap_or_default().into());
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        map.insert(key.into(), value.parse::<u64>().map_or_else(|_| value.into(), Value::from));
    }
    expected(&step.expected, &mut map);
    Value::Object(map)
}

fn expected(expected: &Expected, map: &mut Map<String, Value>) {
    let Expected {
        ret,
        segv,
        bus,
        calls,
        cpages,
        waited,
        order,
        busy,
        began,
        ended,
        faults,
        out,
        raw,
        snapshot,
        snapshot1,
        pm,
        scan,
        vma,
    } = expected;
    let numbers = [
        ("segv", segv),
        ("bus", bus),
        ("calls", calls),
        ("cpages", cpages),
        ("waited", waited),
        ("order", order),
        ("busy", busy),
        ("began", began),
        ("ended", ended),
        ("faults", faults),
    ];
    map.extend(numbers.iter().filter_map(|(key, n)| Some(((*key).into(), (**n)?.into()))));
    map.insert("ret".into(), (*ret).into());
    let mut list = |key: &str, list: Option<&dyn fmt::Display>| {
        if let Some(list) = list {
            let mut text = String::new();
            let _ = write!(text, "{list}");
            map.insert(key.into(), text.into());
        }
    };
    list("out", out.as_ref().map(|list| list as _));
    list("raw", raw.as_ref().map(|list| list as _));
    list("snapshot", snapshot.as_ref().map(|list| list as _));
    list("snapshot1", snapshot1.as_ref().map(|list| list as _));
    list("pm", pm.as_ref().map(|list| list as _));
    list("scan", scan.as_ref().map(|list| list as _));
    if let Some(ranges) = vma {
        map.insert("vma".into(), vma::show(ranges).into());
    }
}
