//! One line of a recording to one [`Scenario`]: meaning and validity of every key.

use std::path::Path;

use serde_json::Value;

use super::error::{Malformed, RecordingError, cut};
use super::expected::Expected;
use super::fields::Fields;
use super::limits::{MAX_NAME_CHARS, MAX_PAGES, MAX_STEPS};
use super::op::{ADVICES, KINDS, MapFlags, MapKind, Op, Prot, Span, Wish};
use super::race::Accesses;
use super::rle::Rle;
use super::{Scenario, ShmemEnabled, Step, ThpEnabled, vma};

/// Parses the text of line `line` (from 1) of `file`; both only appear in errors and in [`Scenario::line`].
pub fn parse_line(text: &str, file: &Path, line: usize) -> Result<Scenario, RecordingError> {
    scenario(text, line).map_err(|malformed| malformed.in_file(file.into(), line))
}

fn scenario(text: &str, line: usize) -> Result<Scenario, Malformed> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let expected = if error.is_eof() { "a whole JSON object" } else { "valid JSON" };
        let message = error.to_string();
        // The message ends in a place inside this one line, which the column already says.
        let found = message.split(" at line ").next().unwrap_or_default();
        Malformed { column: Some(error.column()), ..Malformed::new("", expected, found) }
    })?;
    let mut fields = Fields::new(value, "", "one scenario, a JSON object")?;
    let id = name(&mut fields, "id", None)?;
    let cls = name(&mut fields, "cls", Some("?"))?;
    let kernel = name(&mut fields, "kernel", Some("?"))?;
    let Some(npages) = fields.within("npages", 1, MAX_PAGES)? else {
        return Err(fields.missing("npages", "the number of pages of the window"));
    };
    let mut unknown_setting = None;
    let thp = setting(
        &mut fields,
        "thp",
        &[("always", ThpEnabled::Always), ("madvise", ThpEnabled::Madvise), ("never", ThpEnabled::Never)],
        ThpEnabled::Madvise,
        &mut unknown_setting,
    )?;
    let shthp = setting(
        &mut fields,
        "shthp",
        &[
            ("always", ShmemEnabled::Always),
            ("within_size", ShmemEnabled::WithinSize),
            ("advise", ShmemEnabled::Advise),
            ("never", ShmemEnabled::Never),
        ],
        ShmemEnabled::Never,
        &mut unknown_setting,
    )?;
    let steps = match fields.take("steps") {
        Some(Value::Array(steps)) if steps.len() <= MAX_STEPS => steps,
        Some(Value::Array(steps)) => {
            return Err(fields.wrong(
                "steps",
                format!("at most {MAX_STEPS} steps"),
                &steps.len().to_string(),
            ));
        }
        Some(other) => return Err(fields.wrong("steps", "an array", &other.to_string())),
        None => return Err(fields.missing("steps", "an array of steps")),
    };
    let dev1 = fields.flag("dev1", false)?;
    let steps: Result<Vec<Step>, Malformed> =
        steps.into_iter().enumerate().map(|(index, value)| step(value, index, npages, dev1)).collect();
    let scenario = Scenario {
        id,
        cls,
        kernel,
        line,
        npages: npages as usize,
        misalign: fields.pages("misalign", 0)?,
        swap: fields.flag("swap", false)?,
        thp,
        shthp,
        mthp: mthp(&mut fields)?,
        zp: fields.flag("zp", true)?,
        dev1,
        giga: fields.flag("giga", false)?,
        rawmismatch: fields.count("rawmismatch")?.unwrap_or(0),
        unknown_setting: None,
        steps: steps?,
    };
    if let Some(key) = fields.left_over() {
        unknown_setting.get_or_insert_with(|| format!("unknown setting `{}`", cut(key)));
    }
    Ok(Scenario { unknown_setting, ..scenario })
}

fn name(fields: &mut Fields, key: &str, default: Option<&str>) -> Result<String, Malformed> {
    let Some(text) = fields.text(key)?.or(default.map(String::from)) else {
        return Err(fields.missing(key, "a name"));
    };
    let fits = !text.is_empty()
        && text.chars().count() <= MAX_NAME_CHARS
        && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control());
    if fits {
        return Ok(text);
    }
    Err(fields.wrong(key, format!("a name of 1 to {MAX_NAME_CHARS} characters without white space"), &text))
}

/// Sizes in kB, 16 to 1024, joined by `+`.
fn mthp(fields: &mut Fields) -> Result<u16, Malformed> {
    let Some(text) = fields.text("mthp")? else { return Ok(0) };
    text.split('+').try_fold(0, |orders, size| {
        match (2..9).find(|order| (4u16 << order).to_string() == size) {
            Some(order) => Ok(orders | 1 << order),
            None => {
                Err(fields.wrong("mthp", "sizes of 16, 32, 64, 128, 256, 512, 1024 joined by `+`", &text))
            }
        }
    })
}

fn setting<T: Copy>(
    fields: &mut Fields,
    key: &str,
    known: &[(&str, T)],
    default: T,
    unknown: &mut Option<String>,
) -> Result<T, Malformed> {
    let Some(text) = fields.text(key)? else { return Ok(default) };
    if let Some(&(_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(value);
    }
    unknown.get_or_insert_with(|| format!("unknown setting `{key}={}`", cut(&text)));
    Ok(default)
}

fn step(value: Value, index: usize, npages: u64, dev1: bool) -> Result<Step, Malformed> {
    let mut fields = Fields::new(value, &format!("steps[{index}]"), "a step, a JSON object")?;
    let Some(name) = fields.text("op")? else {
        return Err(fields.missing("op", "the name of an operation"));
    };
    let failure = recorder_failure(&mut fields);
    let ret = fields.integer("ret")?;
    let expected = Expected {
        ret: ret.unwrap_or(0),
        segv: fields.count("segv")?,
        bus: fields.count("bus")?,
        calls: fields.count("calls")?,
        cpages: fields.count("cpages")?,
        waited: fields.count("waited")?,
        order: fields.count("order")?,
        busy: fields.count("busy")?,
        began: fields.count("began")?,
        ended: fields.count("ended")?,
        faults: fields.count("faults")?,
        raw: fields.list("raw", npages as usize)?,
        snapshot: fields.list("snapshot", npages as usize)?,
        snapshot1: fields.list("snapshot1", npages as usize)?,
        pm: fields.list("pm", npages as usize)?,
        scan: fields.list("scan", npages as usize)?,
        vma: match fields.text("vma")? {
            None => None,
            Some(text) => Some(
                vma::parse(&text, npages)
                    .map_err(|(expected, found)| fields.wrong("vma", expected, &found))?,
            ),
        },
        out: None,
    };
    let Some(op) = operation(&name, &mut fields)? else {
        return Ok(Step { op: unsupported(format!("unknown operation `{}`", cut(&name))), expected });
    };
    let out = match op {
        Op::Fault { span, .. }
        | Op::FaultPages { span, .. }
        | Op::Race { span, .. }
        | Op::Held { span, .. }
        | Op::HeldFault { span, .. } => fields.list("out", span.len as usize)?,
        _ => None,
    };
    let expected = Expected { out, ..expected };
    if ret.is_none() {
        return Err(fields.missing("ret", "what the operation returned"));
    }
    if expected.snapshot1.is_some() && !dev1 {
        return Err(fields.wrong("snapshot1", "nothing without dev1:1", "a list"));
    }
    let what = match (failure, fields.left_over(), beyond_window(&op, npages)) {
        (Some(failure), _, _) => failure,
        _ if matches!(op, Op::Unsupported { .. }) => return Ok(Step { op, expected }),
        (_, Some(key), _) => format!("unknown argument `{}` of `{}`", cut(key), cut(&name)),
        (_, _, true) => format!("`{op}` reaches beyond the window of {npages} pages"),
        _ => return Ok(Step { op, expected }),
    };
    Ok(Step { op: unsupported(what), expected })
}

fn unsupported(what: String) -> Op {
    Op::Unsupported { what }
}

/// Keys by which the recorder says that it could not do or observe something.
fn recorder_failure(fields: &mut Fields) -> Option<String> {
    const KEYS: [&str; 8] = [
        "unknown",
        "ioctl_err",
        "uffd_err",
        "snapshot_ret",
        "snapshot1_ret",
        "raw_ret",
        "pm_err",
        "scan_err",
    ];
    let mut failure = None;
    for key in KEYS {
        if let Some(value) = fields.take(key) {
            failure.get_or_insert_with(|| format!("the recorder failed: {key}={}", cut(&value.to_string())));
        }
    }
    failure
}

/// The operation, with the recorder's defaults; `None` when there is none of that name.
fn operation(name: &str, fields: &mut Fields) -> Result<Option<Op>, Malformed> {
    Ok(Some(match name {
        "map" => return map(fields).map(Some),
        "file" => Op::File { size: fields.pages("size", 0)?, fill: fill(fields)? },
        "ftrunc" => Op::Ftrunc { size: fields.pages("size", 0)? },
        "fpunch" => Op::Fpunch { span: fields.span()? },
        "unmap" => Op::Unmap { span: fields.span()? },
        "prot" => Op::Protect { span: fields.span()?, prot: fields.prot(Prot::NONE)? },
        "mlock" => Op::Mlock { span: fields.span()? },
        "mlockonf" => Op::MlockOnFault { span: fields.span()? },
        "munlock" => Op::Munlock { span: fields.span()? },
        "msync" => Op::Msync { span: fields.span()? },
        "mremap" => {
            let span = fields.span()?;
            Op::Mremap { span, to: fields.pages("to", 0)?, newlen: fields.pages("newlen", span.len)? }
        }
        "madv" => {
            let span = fields.span()?;
            let name = fields.text("adv")?.unwrap_or_default();
            match ADVICES.iter().find(|(known, _)| *known == name) {
                Some(&(_, advice)) => Op::Madvise { span, advice },
                None => unsupported(format!("unknown advice `{}`", cut(&name))),
            }
        }
        "r" => Op::Read { span: fields.span()?, step: touch_step(fields)? },
        "w" => Op::Write { span: fields.span()?, step: touch_step(fields)? },
        "fork" => Op::Fork,
        "cr" => Op::ChildRead { span: fields.span()? },
        "cw" => Op::ChildWrite { span: fields.span()? },
        "cunmap" => Op::ChildUnmap { span: fields.span()? },
        "cexit" => Op::ChildExit,
        "dread" => Op::DeviceRead { span: fields.span()? },
        "dwrite" => Op::DeviceWrite { span: fields.span()? },
        "hfault" => Op::Fault { span: fields.span()?, req: fields.code("req", Wish::Read)? },
        "hpage" => return fault_pages(fields).map(Some),
        "dmig" => Op::Migrate { span: fields.span()?, dev: device(fields)? },
        "dmigsys" => Op::MigrateToSystem { span: fields.span()?, dev: device(fields)? },
        "dexcl" => Op::Exclusive { span: fields.span()?, dev: device(fields)? },
        "held" => Op::Held { held: held(fields)?, span: fields.span()? },
        "hwait" => return held_fault(fields).map(Some),
        "race" => Op::Race {
            span: fields.span()?,
            req: fields.code("req", Wish::Read)?,
            cpu: accesses(fields)?,
            lead: fields.pages("lead", 0)?,
        },
        "uffdwp" => Op::UffdWp { span: fields.span()? },
        "uffdunwp" => Op::UffdUnwp { span: fields.span()? },
        "uffdmiss" => Op::UffdMiss { span: fields.span()? },
        "softclear" => Op::SoftClear,
        "nop" => Op::Nop,
        _ => return Ok(None),
    }))
}

fn accesses(fields: &mut Fields) -> Result<Accesses, Malformed> {
    let Some(text) = fields.text("cpu")? else {
        return Err(fields.missing("cpu", Accesses::EXPECTED));
    };
    Accesses::parse(&text).ok_or_else(|| fields.wrong("cpu", Accesses::EXPECTED, &text))
}

fn map(fields: &mut Fields) -> Result<Op, Malformed> {
    let span = fields.span()?;
    let prot = fields.prot(Prot { read: true, write: true, exec: false })?;
    let foff = fields.pages("foff", 0)?;
    let fixed = fields.flag("fixed", false)?;
    let mut flags = MapFlags::default();
    let texts = fields.text("flags")?.unwrap_or_default();
    for name in texts.split([',', '|', '+']).filter(|name| !name.is_empty()) {
        match name {
            "populate" => flags.populate = true,
            "noreserve" => flags.noreserve = true,
            "locked" => flags.locked = true,
            other => return Ok(unsupported(format!("unknown map flag `{}`", cut(other)))),
        }
    }
    let kind = match fields.text("kind")? {
        None => MapKind::Anon,
        Some(name) => match KINDS.iter().find(|(known, _)| *known == name) {
            Some(&(_, kind)) => kind,
            None => return Ok(unsupported(format!("unknown map kind `{}`", cut(&name)))),
        },
    };
    Ok(Op::Map { span, prot, kind, flags, foff, fixed })
}

fn fault_pages(fields: &mut Fields) -> Result<Op, Malformed> {
    let span = fields.span()?;
    let req = fields.code("req", Wish::None)?;
    let mask = mask(fields)?;
    let mut pages = wishes(fields, span)?.unwrap_or_default();
    pages.resize(span.len as u32, Wish::None);
    Ok(Op::FaultPages { span, req, mask, pages })
}

fn held(fields: &mut Fields) -> Result<Span, Malformed> {
    Ok(Span { off: fields.pages("at", 0)?, len: fields.pages("n", 0)? })
}

fn held_fault(fields: &mut Fields) -> Result<Op, Malformed> {
    let (span, held) = (fields.span()?, held(fields)?);
    let moves = match fields.integer("moves")? {
        None | Some(0) => false,
        Some(1) => true,
        Some(other) => return Err(fields.wrong("moves", "0 or 1", &other.to_string())),
    };
    let mask = mask(fields)?;
    let pages = wishes(fields, span)?;
    let req = fields.code("req", if pages.is_some() { Wish::None } else { Wish::Read })?;
    Ok(Op::HeldFault { span, held, moves, req, mask, pages })
}

/// `mask`.
fn mask(fields: &mut Fields) -> Result<Wish, Malformed> {
    Ok(match fields.integer("mask")? {
        None | Some(3) => Wish::Write,
        Some(1) => Wish::Read,
        Some(other) => return Err(fields.wrong("mask", "1 or 3", &other.to_string())),
    })
}

/// `pages`.
fn wishes(fields: &mut Fields, span: Span) -> Result<Option<Rle<Wish>>, Malformed> {
    let Some(text) = fields.text("pages")? else { return Ok(None) };
    let mut pages =
        Rle::parse_any(&text).map_err(|error| fields.wrong("pages", error.expected, &error.found))?;
    // The recorder leaves a missing tail at no flag and ignores a surplus.
    pages.resize(span.len as u32, Wish::None);
    Ok(Some(pages))
}

fn fill(fields: &mut Fields) -> Result<Option<Span>, Malformed> {
    let Some(text) = fields.text("fill")? else { return Ok(None) };
    let parse = |text: &str| text.parse().ok().filter(|pages| *pages <= MAX_PAGES);
    let span = text.split_once('+').and_then(|(off, len)| Some(Span { off: parse(off)?, len: parse(len)? }));
    match span {
        Some(span) => Ok(Some(span)),
        None => Err(fields.wrong("fill", format!("FIRST+COUNT, each at most {MAX_PAGES}"), &text)),
    }
}

fn touch_step(fields: &mut Fields) -> Result<u64, Malformed> {
    Ok(fields.within("step", 1, MAX_PAGES)?.unwrap_or(1))
}

fn device(fields: &mut Fields) -> Result<u8, Malformed> {
    Ok(u8::from(fields.flag("dev", false)?))
}

/// Whether an operation on the window leaves it: then what it does cannot be observed in full.
fn beyond_window(op: &Op, npages: u64) -> bool {
    match op {
        Op::Map { span, .. }
        | Op::Unmap { span }
        | Op::Protect { span, .. }
        | Op::Mlock { span }
        | Op::MlockOnFault { span }
        | Op::Munlock { span }
        | Op::Msync { span }
        | Op::Madvise { span, .. }
        | Op::Read { span, .. }
        | Op::Write { span, .. }
        | Op::ChildRead { span }
        | Op::ChildWrite { span }
        | Op::ChildUnmap { span }
        | Op::DeviceRead { span }
        | Op::DeviceWrite { span }
        | Op::Fault { span, .. }
        | Op::FaultPages { span, .. }
        | Op::Migrate { span, .. }
        | Op::MigrateToSystem { span, .. }
        | Op::Exclusive { span, .. }
        | Op::UffdWp { span }
        | Op::UffdUnwp { span }
        | Op::UffdMiss { span } => span.end() > npages,
        Op::Race { span, cpu, .. } => {
            span.end() > npages || cpu.0.iter().any(|access| access.span.end() > npages)
        }
        Op::Held { span, held } | Op::HeldFault { span, held, .. } => {
            span.end() > npages || held.end() > npages
        }
        Op::Mremap { span, to, newlen } => span.end() > npages || to + newlen > npages,
        Op::File { .. }
        | Op::Ftrunc { .. }
        | Op::Fpunch { .. }
        | Op::Fork
        | Op::ChildExit
        | Op::SoftClear
        | Op::Nop
        | Op::Unsupported { .. } => false,
    }
}
