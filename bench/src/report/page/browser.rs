//! The page in a real browser: Chromium, headless, with a driver at the end of the page (`browser.js`) that uses it and
//! writes down what it sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::report::figure::Body;
use crate::report::tests::{HOSTILE, everything, hostile};
use crate::report::{Report, page};
use crate::results::testing::Made;

const DRIVER: &str = include_str!("browser.js");

/// Before anything else on the page: what goes wrong from then on.
const RECORDER: &str = "<script>window.recorded = [];
addEventListener('error', (e) => recorded.push(`error: ${e.message}`));
addEventListener('unhandledrejection', (e) => recorded.push(`rejected: ${e.reason}`));
addEventListener('securitypolicyviolation', (e) => recorded.push(`asked for ${e.blockedURI}`));
for (const level of ['error', 'warn']) console[level] = (...what) => recorded.push(`${level}: ${what.join(' ')}`);
</script>";

/// Chromium's windows are at least so wide, whatever is asked for.
const NARROWEST_WINDOW: u32 = 500;

/// Shows the page as wide as a phone and writes down what the page's driver sends.
const FRAME: &str = r#"<!doctype html><meta charset="utf-8"><title>frame</title><body>
<iframe src="page.html{hash}" style="width: {width}px; height: 800px; border: 0"></iframe>
<script>
addEventListener("message", (e) => {
  const pre = document.createElement("pre");
  pre.id = "browser-result";
  pre.textContent = e.data;
  document.body.append(pre);
});
</script></body>"#;

/// `CHROMIUM`, or where distributions put it.
fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(PathBuf::from(path));
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&paths).flat_map(|folder| names.map(|name| folder.join(name)));
    all.into_iter().find(|path| path.is_file())
}

/// What `browser.js` saw on the page; none, said aloud, without a browser.
fn used(page: &str, hash: &str, width: u32) -> Option<Value> {
    // Time that passes only when nothing is left to do: the page is done when it is looked at.
    driven(page, hash, width, DRIVER, Some("--virtual-time-budget=20000"))
}

/// What a driver at the end of the page left there.
fn driven(page: &str, hash: &str, width: u32, driver: &str, time: Option<&str>) -> Option<Value> {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: no Chromium in PATH; apt install chromium, or set CHROMIUM");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let page = page.replacen("<meta charset", &format!("{RECORDER}\n<meta charset"), 1);
    let (before, after) = page.rsplit_once("</body>").unwrap();
    std::fs::write(&file, format!("{before}<script>\n{driver}\n</script>\n</body>{after}")).unwrap();
    // No window is as narrow as a phone; a frame in one is.
    let file = if width < NARROWEST_WINDOW {
        let frame = folder.path().join("frame.html");
        std::fs::write(&frame, FRAME.replace("{width}", &width.to_string()).replace("{hash}", hash)).unwrap();
        frame
    } else {
        file
    };
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--dump-dom"])
        .args(time)
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", profile(folder.path()).display()))
        .arg(format!("file://{}{hash}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let result =
        dom.split_once("<pre id=\"browser-result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let Some((encoded, _)) = result else {
        panic!("the page did not come to its end:\n{}", String::from_utf8_lossy(&output.stderr));
    };
    Some(serde_json::from_str(&decoded(encoded)).unwrap())
}

fn profile(folder: &Path) -> PathBuf {
    let profile = folder.join("profile");
    std::fs::create_dir(&profile).unwrap();
    profile
}

/// What `encodeURIComponent` encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| std::str::from_utf8(&tail[..2]).unwrap());
        bytes.push(code.map_or(*first, |c| u8::from_str_radix(c, 16).unwrap()));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap()
}

fn no_errors(seen: &Value) {
    assert_eq!(seen["errors"], serde_json::json!([]), "errors on the console");
    assert_eq!(seen["hit"], false, "a script of the data ran");
    assert_eq!(seen["foreign"], 0, "markup of the data became elements");
}

#[test]
fn every_chart_has_as_many_marks_as_figures_and_the_choices_work() {
    let report = Report::new(everything());
    let page = page::page(&report).unwrap();
    let Some(seen) = used(&page, "", 1280) else { return };
    no_errors(&seen);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for part in report.parts() {
        let of = &seen["questions"][&part.question.id];
        let figures = of["figures"].as_object().unwrap();
        assert_eq!(figures.len(), part.figures.len(), "{}", part.question.id);
        assert!(of["text"].as_str().unwrap().contains(&part.question.title));
        for figure in part.figures {
            let f = &figures[&figure.id];
            let is = |name: &str, expected: usize| assert_eq!(f[name], expected, "{} {name}: {f}", figure.id);
            match &figure.body {
                Body::Curves(c) => {
                    let measured = || c.series.iter().filter(|s| !s.is_limit).flat_map(|s| &s.points);
                    is("dots", measured().count());
                    is("intervals", measured().filter(|p| p.value.lo.is_some()).count());
                    is("lines", c.series.len());
                    is("titles", measured().count());
                    *kinds.entry("curves").or_default() += 1;
                }
                Body::Stages(s) => {
                    is("bars", s.panels.iter().map(|p| 5 * p.bars.len()).sum());
                    is("dots", s.panels.iter().flat_map(|p| &p.bars).filter(|b| b.whole.is_some()).count());
                    is("named", s.panels.len());
                    *kinds.entry("stages").or_default() += 1;
                }
                Body::Ranges(r) => {
                    is("dots", r.rows.len());
                    is("bars", if r.is_bars { r.rows.len() } else { 0 });
                    *kinds.entry("ranges").or_default() += 1;
                }
                Body::Grid(g) => {
                    is("fields", g.fields.len() + g.fields.iter().filter(|f| f.is_hatched).count());
                    *kinds.entry("grid").or_default() += 1;
                }
            }
            assert!(f["named"].as_u64() > Some(0), "{}: a chart says what it is", figure.id);
        }
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    let decided: usize = report.parts().map(|p| p.decided.len()).sum();
    assert_eq!(seen["decisions"], decided);

    // call_size looks at three designs at the headline's place, over all call sizes.
    let used = &seen["use"];
    let dots = used["before"]["dots"].as_u64().unwrap();
    assert!(dots > 6 && dots.is_multiple_of(3), "{used}");
    assert_eq!(used["before"]["rows"], dots);
    assert_eq!(
        (&used["without"]["dots"], &used["without"]["rows"]),
        (&(dots / 3 * 2).into(), &(dots / 3 * 2).into())
    );
    assert_eq!(used["distance"]["dots"], dots / 3 * 2);
    assert!(used["distance"]["caption"].as_str().unwrap().contains("times the decode limit"));
    assert_eq!(used["filtered"], dots / 3);
    let values: Vec<f64> = used["values"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    assert_eq!(values.len() as u64, dots / 3);
    assert!(values.is_sorted_by(|a, b| a >= b), "descending: {values:?}");
    assert_eq!(used["sort"], "descending");
    let hash = used["hash"].as_str().unwrap();
    for kept in ["q=call_size", "m=x", "c.backend=", "all.f=fixed_flags", "all.s="] {
        assert!(hash.contains(kept), "{kept} is not in {hash}");
    }
}

#[test]
fn a_link_shows_what_its_sender_saw_and_a_phone_is_wide_enough() {
    let page = page::page(&Report::new(everything())).unwrap();
    let hash = "#only=1&q=prefill&m=walk&points.f=its+successor&c.backend=fixed_flags";
    let Some(seen) = used(&page, hash, 390) else { return };
    no_errors(&seen);
    assert!(seen["seen"]["question"].as_str().unwrap().contains("pre-fill"));
    assert_eq!((&seen["seen"]["metric"], &seen["seen"]["filter"]), (&"walk".into(), &"its successor".into()));
    assert!(seen["seen"]["rows"].as_u64() > Some(0));
    assert_eq!(seen["seen"]["backends"], serde_json::json!(["fixed_flags"]));
    assert_eq!((&seen["inner"], &seen["wide"]), (&390.into(), &0.into()), "nothing sticks out to the right");
}

/// Asks for the layout of what was drawn, so that it has happened, and for the time since the navigation began.
const STOPWATCH: &str = r##"
const widths = [...document.querySelectorAll("#answer figure svg")].map((svg) => svg.getBoundingClientRect().width);
const result = { errors: recorded, width: Math.max(0, ...widths), ms: performance.now(), ready: document.documentElement.dataset.ready };
const pre = document.createElement("pre");
pre.id = "browser-result";
pre.textContent = encodeURIComponent(JSON.stringify(result));
document.body.append(pre);
"##;

/// Generous: machines are shared, and a browser that starts for the first time looks for much. What it took is printed.
const OPENS_WITHIN_MS: f64 = 10_000.0;

#[test]
fn a_page_of_a_full_run_opens_with_its_chart_drawn_and_its_choices_working() {
    let report = Report::new(everything());
    let text = page::page(&report).unwrap();
    let cells = everything().cells.len();
    for hash in ["#q=prefill", "#q=limit", "#q=sizes"] {
        // Of three, the first may meet a cold disk.
        let mut took = Vec::new();
        for _ in 0..3 {
            let Some(seen) = driven(&text, hash, 1280, STOPWATCH, None) else { return };
            assert_eq!((&seen["errors"], &seen["ready"]), (&serde_json::json!([]), &"yes".into()));
            assert!(seen["width"].as_f64() > Some(100.0), "a chart is laid out: {seen}");
            took.push(seen["ms"].as_f64().unwrap());
        }
        took.sort_by(f64::total_cmp);
        println!(
            "a page of {cells} cells, {:.1} MB, opened at {hash:?}:\n  first chart laid out, choices working after \
             {:.0} ms ({:.0}..{:.0})",
            text.len() as f64 / 1e6,
            took[1],
            took[0],
            took[2]
        );
        assert!(took[1] < OPENS_WITHIN_MS, "{took:?} ms");
    }
}

#[test]
fn several_runs_are_a_view_of_their_own() {
    let at = "dense_4k@16MiB/snapshot/512/none/1";
    let run = |seed| {
        let cells = [
            (format!("{at}/sticky_flags"), 2.5),
            (format!("{at}/map_order"), 2.0),
            (format!("{at}/decode"), 1.0),
        ];
        let cells = cells.each_ref().map(|(id, ns)| (id.as_str(), *ns));
        Made { seed, ..Made::new(&cells) }.analysed()
    };
    let runs = [run(1), run(2)];
    let report = Report::of(&runs);
    let Some(seen) = used(&page::page(&report).unwrap(), "#q=runs", 1280) else { return };
    no_errors(&seen);
    let seen = &seen["seen"];
    assert_eq!((&seen["question"], &seen["current"]), (&"Runs side by side".into(), &"runs".into()));
    assert_eq!(seen["cells"], 2, "the designs of both runs: {seen}");
    let Body::Ranges(r) = report.runs.as_ref().unwrap().figure().unwrap().body else { panic!("ranges") };
    assert!(seen["answers"].as_u64() > Some(0) && seen["figure"]["dots"] == r.rows.len(), "{seen}");
}

#[test]
fn hostile_names_stay_text_on_the_page() {
    let results = hostile();
    let page = page::page(&Report::new(&results)).unwrap();
    let Some(seen) = used(&page, "", 1280) else { return };
    no_errors(&seen);
    let shown = super::plain(HOSTILE);
    for place in ["missing", "facts", "machine"] {
        assert!(seen[place].as_str().unwrap().contains(&shown), "{place}: {}", seen[place]);
    }
}
