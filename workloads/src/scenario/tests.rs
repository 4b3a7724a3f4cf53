//! Tests of the reader: the project's recordings, tables of good and bad lines, arbitrary bytes.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A line with most kinds of values in it.
const LINE: &str = concat!(
    r#"{"kernel":"6.12.117","id":"h_x","cls":"hand","npages":8,"misalign":3,"swap":1,"thp":"always","zp":0,"#,
    r#""dev1":1,"steps":[{"op":"map","off":0,"len":8,"prot":"rw","kind":"anon","flags":"populate","ret":0,"#,
    r#""snapshot":"8*02","raw":"4*W9,4*Rz","snapshot1":"8*00","pm":"8*PXD","scan":"7*8a,1*x","vma":"0+8:rw-p"},"#,
    r#"{"op":"file","size":4,"fill":"1+2","ret":0},"#,
    r#"{"op":"hpage","off":2,"len":4,"pages":"1*r,1*W","ret":-14,"calls":1,"out":"1*W,3*u","raw":"8*-"}],"#,
    r#""rawmismatch":0}"#
);

fn file() -> &'static Path {
    Path::new("some.jsonl")
}

fn parse(text: &str) -> Result<Scenario, RecordingError> {
    parse_line(text, file(), 7)
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Scenario>, RecordingError> {
    read(bytes, file())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A scenario of one step.
fn one_step(step: Value) -> Result<Scenario, RecordingError> {
    parse(&json!({ "id": "x", "npages": 8, "steps": [step] }).to_string())
}

fn op(step: Value) -> Op {
    one_step(step).unwrap().steps.remove(0).op
}

pub(crate) fn truth() -> Vec<(&'static str, Vec<Scenario>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("truth");
    ["hand", "snapshot", "fault", "dev"]
        .map(|name| (name, read_path(&folder.join(format!("{name}.jsonl.gz"))).unwrap()))
        .into()
}

#[test]
fn every_recording_of_the_project_is_understood_in_full() {
    let counts: Vec<_> = truth()
        .iter()
        .map(|(name, scenarios)| {
            for scenario in scenarios {
                assert_eq!(scenario.unsupported(), None, "{name} {}", scenario.id);
            }
            (*name, scenarios.len(), scenarios.iter().map(|scenario| scenario.steps.len()).sum())
        })
        .collect();
    assert_eq!(counts, [("hand", 60, 544), ("snapshot", 667, 5625), ("fault", 667, 5690), ("dev", 100, 844)]);
}

#[test]
fn the_recorded_snapshot_is_what_the_driver_makes_of_the_raw_entries() {
    for (name, scenarios) in truth() {
        for scenario in scenarios {
            assert_eq!(scenario.rawmismatch, 0);
            for (index, step) in scenario.steps.iter().enumerate() {
                let (Some(raw), Some(snapshot)) = (&step.expected.raw, &step.expected.snapshot) else {
                    continue;
                };
                let made = Rle::from_values(raw.iter().map(RawCode::to_snapshot));
                assert_eq!(&made, snapshot, "{name} {} step {index}", scenario.id);
            }
        }
    }
}

#[test]
fn a_line_is_parsed_into_typed_values() {
    let scenario = parse(LINE).unwrap();
    assert_eq!((scenario.id.as_str(), scenario.cls.as_str(), scenario.line), ("h_x", "hand", 7));
    assert_eq!((scenario.npages, scenario.misalign, scenario.base()), (8, 3, 0x2000_0000_3000));
    assert_eq!((scenario.swap, scenario.zp, scenario.dev1, scenario.giga), (true, false, true, false));
    assert_eq!((scenario.thp, scenario.shthp), (ThpEnabled::Always, ShmemEnabled::Never));
    let window = Span { off: 0, len: 8 };
    let prot = Prot { read: true, write: true, exec: false };
    let flags = MapFlags { populate: true, ..MapFlags::default() };
    let map = Op::Map { span: window, prot, kind: MapKind::Anon, flags, foff: 0, fixed: false };
    assert_eq!(scenario.steps[0].op, map);
    let expected = &scenario.steps[0].expected;
    let large = RawCode::new(RawKind::Write, 9, Mark::None);
    let zero = RawCode::new(RawKind::Read, 0, Mark::Zero);
    assert_eq!(expected.raw.as_ref().unwrap().runs(), [(4, large), (4, zero)]);
    assert_eq!(expected.scan.as_ref().unwrap().get(7), Some(ScanCode::NotReported));
    let perms = Perms { prot, shared: false };
    assert_eq!(expected.vma.as_deref(), Some(&[VmaRange { off: 0, len: 8, perms }][..]));
    assert_eq!(scenario.steps[1].op, Op::File { size: 4, fill: Some(Span { off: 1, len: 2 }) });
    assert!(!scenario.steps[1].expected.is_observed());
    let pages = Rle::from_values([Wish::Read, Wish::WriteOnly, Wish::None, Wish::None]);
    let span = Span { off: 2, len: 4 };
    assert_eq!(scenario.steps[2].op, Op::FaultPages { span, req: Wish::None, mask: Wish::Write, pages });
    assert_eq!(scenario.steps[2].expected.ret, -14);
}

#[test]
fn left_out_arguments_have_the_recorders_defaults() {
    let none = Span { off: 0, len: 0 };
    let span = Span { off: 1, len: 2 };
    let prot = Prot { read: true, write: true, exec: false };
    let kind = MapKind::Anon;
    let cases = [
        (
            json!({"op":"map","ret":0}),
            Op::Map { span: none, prot, kind, flags: MapFlags::default(), foff: 0, fixed: false },
        ),
        (json!({"op":"prot","ret":0}), Op::Protect { span: none, prot: Prot::NONE }),
        (json!({"op":"r","ret":0}), Op::Read { span: none, step: 1 }),
        (json!({"op":"w","ret":0,"step":3}), Op::Write { span: none, step: 3 }),
        (json!({"op":"mremap","off":1,"len":2,"ret":0}), Op::Mremap { span, to: 0, newlen: 2 }),
        (json!({"op":"mremap","off":1,"len":2,"newlen":4,"ret":0}), Op::Mremap { span, to: 0, newlen: 4 }),
        (json!({"op":"hfault","ret":0}), Op::Fault { span: none, req: Wish::Read }),
        (
            json!({"op":"hpage","off":1,"len":2,"mask":1,"pages":"5*w","ret":0}),
            Op::FaultPages {
                span,
                req: Wish::None,
                mask: Wish::Read,
                pages: Rle::from_values([Wish::Write, Wish::Write]),
            },
        ),
        (
            json!({"op":"hwait","off":1,"len":2,"pages":"1*w","ret":0}),
            Op::HeldFault {
                span,
                held: none,
                moves: false,
                req: Wish::None,
                mask: Wish::Write,
                pages: Some(Rle::from_values([Wish::Write, Wish::None])),
            },
        ),
        (json!({"op":"dmig","ret":0}), Op::Migrate { span: none, dev: 0 }),
        (json!({"op":"dexcl","ret":0,"dev":1}), Op::Exclusive { span: none, dev: 1 }),
        (json!({"op":"file","ret":0}), Op::File { size: 0, fill: None }),
        (json!({"op":"unmap","off":"0x1","len":"2","ret":0}), Op::Unmap { span }),
    ];
    for (step, expected) in cases {
        assert_eq!(op(step.clone()), expected, "{step}");
    }
}

#[test]
fn every_kind_advice_and_operation_has_a_text_that_reads_back() {
    for (name, kind) in op::KINDS {
        assert_eq!(kind.to_string(), name);
    }
    for (name, advice) in op::ADVICES {
        assert_eq!(advice.to_string(), name);
        assert_eq!(
            op(json!({"op":"madv","off":1,"len":2,"adv":name,"ret":0})),
            Op::Madvise { span: Span { off: 1, len: 2 }, advice }
        );
    }
    let scripts = [
        "map off=1 len=2 prot=rwx kind=hpriv1g flags=populate,noreserve,locked foff=3 fixed=1",
        "map off=1 len=2 prot=n kind=anon",
        "file size=3",
        "file size=3 fill=1+2",
        "ftrunc size=3",
        "fpunch off=1 len=2",
        "unmap off=1 len=2",
        "prot off=1 len=2 prot=r",
        "mlock off=1 len=2",
        "mlockonf off=1 len=2",
        "munlock off=1 len=2",
        "msync off=1 len=2",
        "mremap off=1 len=2 to=4",
        "mremap off=1 len=2 to=4 newlen=3",
        "madv off=1 len=2 adv=SOFT_OFFLINE",
        "r off=1 len=2",
        "r off=1 len=2 step=2",
        "w off=1 len=2",
        "w off=1 len=2 step=2",
        "fork",
        "cr off=1 len=2",
        "cw off=1 len=2",
        "cunmap off=1 len=2",
        "cexit",
        "dread off=1 len=2",
        "dwrite off=1 len=2",
        "hfault off=1 len=2 req=W",
        "hpage off=1 len=2 req=w mask=1 pages=1*n,1*r",
        "hpage off=1 len=2 req=n pages=2*w",
        "dmig off=1 len=2 dev=1",
        "dmigsys off=1 len=2 dev=1",
        "dexcl off=1 len=2 dev=0",
        "held off=1 len=2 at=3 n=4",
        "hwait off=1 len=2 at=3 n=4 req=r",
        "hwait off=1 len=2 at=3 n=4 moves=1 req=n mask=1 pages=1*n,1*w",
        "uffdwp off=1 len=2",
        "uffdunwp off=1 len=2",
        "uffdmiss off=1 len=2",
        "softclear",
        "nop",
    ];
    for script in scripts {
        let mut words = script.split(' ');
        let mut step = json!({"op": words.next().unwrap(), "ret": 0});
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            step[key] = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
        }
        assert_eq!(op(step).to_string(), script);
    }
}

#[test]
fn what_is_unknown_makes_the_scenario_a_skip_with_a_reason() {
    let cases = [
        (json!({"op":"teleport","off":0,"ret":0}), "unknown operation `teleport`"),
        (json!({"op":"map","kind":"dax","ret":0}), "unknown map kind `dax`"),
        (json!({"op":"map","flags":"populate,stack","ret":0}), "unknown map flag `stack`"),
        (json!({"op":"madv","adv":"MERGEABLE","ret":0}), "unknown advice `MERGEABLE`"),
        (json!({"op":"madv","ret":-22}), "unknown advice ``"),
        (json!({"op":"unmap","node":1,"ret":0}), "unknown argument `node` of `unmap`"),
        (
            json!({"op":"unmap","off":4,"len":5,"ret":0}),
            "`unmap off=4 len=5` reaches beyond the window of 8 pages",
        ),
        (
            json!({"op":"mremap","off":0,"len":4,"to":5,"ret":0}),
            "`mremap off=0 len=4 to=5` reaches beyond the window of 8 pages",
        ),
        (
            json!({"op":"hwait","len":1,"at":4,"n":5,"ret":0}),
            "`hwait off=0 len=1 at=4 n=5 req=r` reaches beyond the window of 8 pages",
        ),
        (json!({"op":"hfault","ioctl_err":-25,"ret":-25}), "the recorder failed: ioctl_err=-25"),
    ];
    for (step, reason) in cases {
        let scenario = one_step(step.clone()).unwrap();
        assert_eq!(scenario.unsupported(), Some(format!("step 0: {reason}")), "{step}");
    }
    let setting = |key: &str, value: Value| {
        let mut line: Value = serde_json::from_str(LINE).unwrap();
        line[key] = value;
        parse(&line.to_string()).unwrap().unsupported()
    };
    assert_eq!(setting("thp", json!("sometimes")).unwrap(), "unknown setting `thp=sometimes`");
    assert_eq!(setting("shthp", json!("force")).unwrap(), "unknown setting `shthp=force`");
    assert_eq!(setting("numa", json!(2)).unwrap(), "unknown setting `numa`");
    assert_eq!(setting("cls", json!("new")), None);
}

#[test]
fn a_malformed_value_is_an_error_with_place_and_expectation() {
    let cases = [
        ("/id", json!("a b"), "id: expected a name of 1 to 128 characters without white space, found a b"),
        ("/npages", json!(0), "npages: expected an integer of 1 to 262144, found 0"),
        ("/npages", json!(262_145), "npages: expected an integer of 1 to 262144, found 262145"),
        ("/misalign", json!(-1), "misalign: expected an integer of 0 to 262144, found -1"),
        ("/swap", json!(2), "swap: expected an integer of 0 to 1, found 2"),
        ("/steps", json!({}), "steps: expected an array, found {}"),
        ("/steps", json!(vec![0; 4097]), "steps: expected at most 4096 steps, found 4097"),
        ("/steps/0", json!(5), "steps[0]: expected a step, a JSON object, found 5"),
        ("/steps/0/op", json!([]), "steps[0].op: expected a text, found []"),
        ("/steps/0/off", json!(1.5), "steps[0].off: expected an integer, found 1.5"),
        ("/steps/0/off", json!(u64::MAX), "steps[0].off: expected an integer, found 18446744073709551615"),
        (
            "/steps/0/len",
            json!(1_099_511_627_776_u64),
            "steps[0].len: expected an integer of 0 to 262144, found 1099511627776",
        ),
        ("/steps/0/prot", json!("rq"), "steps[0].prot: expected letters of rwx, or n, found rq"),
        ("/steps/0/ret", json!("x"), "steps[0].ret: expected an integer, found \\\"x\\\""),
        ("/steps/0/raw", json!("7*-"), "steps[0].raw: expected counts that add up to 8, found a sum of 7"),
        (
            "/steps/0/raw",
            json!("4*-,4*Q"),
            "steps[0].raw: expected one of - E R W u !, an order when not 0, then z, Z or d for R and W, \
             found `4*Q` at character 5",
        ),
        ("/steps/0/raw", json!("8"), "steps[0].raw: expected COUNT*CODE, found `8` at character 1"),
        (
            "/steps/0/raw",
            json!("0*-,8*-"),
            "steps[0].raw: expected a count of at least 1 before `*`, found `0*-` at character 1",
        ),
        (
            "/steps/0/raw",
            json!("200000*-,200000*R"),
            "steps[0].raw: expected at most 262144 pages in all, found `200000*R` at character 10",
        ),
        (
            "/steps/0/vma",
            json!("0+9:rw-p"),
            "steps[0].vma: expected ascending ranges inside the window, found 0+9:rw-p",
        ),
        (
            "/steps/0/vma",
            json!("0+8:rwp"),
            "steps[0].vma: expected OFF+LEN:PERMS with four characters rwxp or -, found 0+8:rwp",
        ),
        ("/steps/1/fill", json!("3"), "steps[1].fill: expected FIRST+COUNT, each at most 262144, found 3"),
        ("/steps/2/req", json!("x"), "steps[2].req: expected one of n r w W, found x"),
        ("/steps/2/mask", json!(2), "steps[2].mask: expected 1 or 3, found 2"),
        ("/steps/2/out", json!("3*u"), "steps[2].out: expected counts that add up to 4, found a sum of 3"),
        ("/dev1", json!(0), "steps[0].snapshot1: expected nothing without dev1:1, found a list"),
    ];
    for (pointer, value, expected) in cases {
        let mut line: Value = serde_json::from_str(LINE).unwrap();
        if pointer == "/steps/2/mask" || pointer == "/steps/2/req" {
            line["steps"][2][pointer.rsplit('/').next().unwrap()] = value;
        } else {
            *line.pointer_mut(pointer).unwrap() = value;
        }
        let error = parse(&line.to_string()).unwrap_err().to_string();
        assert_eq!(error, format!("some.jsonl:7: {expected}"));
    }
}

#[test]
fn missing_required_keys_are_named() {
    for (key, place) in
        [("/id", "id"), ("/npages", "npages"), ("/steps", "steps"), ("/steps/1/ret", "steps[1].ret")]
    {
        let mut line: Value = serde_json::from_str(LINE).unwrap();
        let (parent, name) = key.rsplit_once('/').unwrap();
        line.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let error = parse(&line.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("some.jsonl:7: {place}: expected ")), "{error}");
        assert!(error.ends_with("found nothing"), "{error}");
    }
}

#[test]
fn broken_files_are_errors_with_line_and_column() {
    let cut = &LINE[..LINE.len() - 20];
    let cases: [(Vec<u8>, &str); 7] = [
        (
            b"".to_vec(),
            "some.jsonl: expected at least one scenario, one JSON object a line, found an empty file",
        ),
        (
            b"\n \n".to_vec(),
            "some.jsonl: expected at least one scenario, one JSON object a line, found an empty file",
        ),
        (format!("{LINE}\n{cut}").into(), "some.jsonl:2:"),
        (b"[1,2]\n".to_vec(), "some.jsonl:1: expected one scenario, a JSON object, found [1,2]"),
        (b"{\"a\":1}\n".to_vec(), "some.jsonl:1: id: expected a name, found nothing"),
        (b"{\"a\"=1}\n".to_vec(), "some.jsonl:1:5: expected valid JSON, found expected `:`"),
        (gzip(LINE.as_bytes())[..60].to_vec(), "some.jsonl:1: expected whole gzip data, found "),
    ];
    for (bytes, expected) in cases {
        let error = read_bytes(&bytes).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = read_bytes(format!("{LINE}\n{cut}").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("expected a whole JSON object"), "{error}");
    let absent = read_path(Path::new("no/such/file")).unwrap_err();
    assert!(matches!(absent, RecordingError::Io { .. }), "{absent}");
}

#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let long = " ".repeat(limits::MAX_LINE_BYTES + 1);
    let error = read_bytes(long.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("a line of at most 16777216 bytes"), "{error}");
    // A bomb: 80 MiB of empty lines in 80 KiB.
    let bomb = gzip(&vec![b'\n'; 80 << 20]);
    let error = read_bytes(&bomb).unwrap_err().to_string();
    assert!(error.contains("at most 67108864 bytes in all"), "{error}");
    let steps = vec![json!({"op":"nop","ret":0}); limits::MAX_STEPS];
    let line = json!({"id":"x","npages":1,"steps":steps}).to_string() + "\n";
    let error = read_bytes(line.repeat(65).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("at most 262144 steps in all"), "{error}");
    let deep = "[".repeat(100_000);
    assert!(read_bytes(deep.as_bytes()).is_err());
}

#[test]
fn plain_gzip_latin1_mark_and_empty_lines_are_all_read() {
    let expected = parse_line(LINE, file(), 1).unwrap();
    let once = std::slice::from_ref(&expected);
    let plain = format!("{LINE}\n");
    assert_eq!(read_bytes(plain.as_bytes()).unwrap(), once);
    assert_eq!(read_bytes(LINE.as_bytes()).unwrap(), once);
    assert_eq!(read_bytes(&gzip(plain.as_bytes())).unwrap(), once);
    assert_eq!(read_bytes(format!("\u{feff}{LINE}\r\n\r\n").as_bytes()).unwrap(), once);
    let members = [gzip(plain.as_bytes()), gzip(plain.as_bytes())].concat();
    assert_eq!(read_bytes(&members).unwrap().len(), 2);
    let latin1: Vec<u8> = LINE.replace("h_x", "h_\u{e9}").chars().map(|letter| letter as u8).collect();
    assert_eq!(read_bytes(&latin1).unwrap()[0].id, "h_\u{e9}");
}

#[test]
fn a_run_length_list_is_cut_filled_and_taken_apart() {
    let mut list = Rle::<Wish>::parse("2*r,3*w,1*n", 6).unwrap();
    assert_eq!(list.part(1..4).to_string(), "1*r,2*w");
    assert_eq!(list.part(5..9).to_string(), "1*n");
    assert_eq!((list.get(4), list.get(5), list.get(6)), (Some(Wish::Write), Some(Wish::None), None));
    list.resize(3, Wish::None);
    assert_eq!(list.to_string(), "2*r,1*w");
    list.resize(5, Wish::Write);
    assert_eq!((list.to_string().as_str(), list.len()), ("2*r,3*w", 5));
    assert_eq!(list.iter().collect::<Vec<_>>(), list.to_vec());
    assert_eq!(Rle::<Wish>::parse("1*n,1*n", 2).unwrap().runs(), [(2, Wish::None)]);
}

fn round_trip<T: Code + std::fmt::Debug>(text: &str) {
    if let Some(code) = T::parse(text) {
        assert_eq!(code.to_string(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), gz in any::<bool>()) {
        let mut bytes = bytes;
        if gz && bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[0x1f, 0x8b]);
        }
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn mutated_lines_never_panic(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = LINE.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(scenarios) = read_bytes(&bytes) {
            for scenario in scenarios {
                let _ = scenario.unsupported();
            }
        }
        let _ = read_bytes(&gzip(&bytes));
    }

    #[test]
    fn mutated_characters_stay_inside_the_json(place in any::<proptest::sample::Index>(), letter in "[-0-9a-zA-Z*,:+!]") {
        let mut text = LINE.to_owned();
        let place = place.index(text.len());
        text.replace_range(place..=place, &letter);
        let _ = parse(&text);
    }

    #[test]
    fn a_code_is_its_text(text in "[-ERWu!PSFUXDx0-9a-f]{1,4}[zZd]?") {
        round_trip::<RawCode>(&text);
        round_trip::<SnapshotCode>(&text);
        round_trip::<PmCode>(&text);
        round_trip::<ScanCode>(&text);
        round_trip::<Wish>(&text);
    }
}
