//! Bytes to a [`Shape`].

use std::io::Read;
use std::path::Path;
use std::{fs, io};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::error::ShapeProblem;
use super::{
    FORMAT, Leaf, MAX_BYTES, MAX_RUNS, PAGE_BYTES, Prot, SCHEMA, Shape, ShapeError, ShapeFileError,
    ShapeKind, ShapeVma, ThpAdvice, check, runs,
};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "schema")]
    _schema: u64,
    #[serde(rename = "format")]
    _format: String,
    name: String,
    description: String,
    made: String,
    kernel: String,
    page_bytes: u64,
    physical: bool,
    missing: Vec<String>,
    vmas: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmaLine {
    start: String,
    pages: u64,
    prot: String,
    shared: bool,
    kind: String,
    thp: String,
    runs: String,
}

impl Shape {
    /// Reads the shape file at `path`.
    ///
    /// # Errors
    ///
    /// As [`Shape::read`], with the path; line 1 if the file itself cannot be read.
    pub fn load(path: &Path) -> Result<Self, ShapeFileError> {
        fs::read(path)
            .map_err(|e| ShapeProblem::Io(e).at(1))
            .and_then(|bytes| Self::read(&bytes))
            .map_err(|error| ShapeFileError { path: path.to_owned(), error })
    }

    /// Reads a shape from the bytes of a file, plain or gzip. What it returns passes [`Shape::check`].
    ///
    /// # Errors
    ///
    /// The first problem, with its line and what was expected. Never panics, whatever the bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, ShapeError> {
        let text = plain(bytes)?;
        let mut lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|b| *b == b'\n');
        let header = header(lines.next().unwrap_or_default()).map_err(|p| p.at(1))?;
        let mut budget = MAX_RUNS;
        let mut floor = 0;
        // Not reserved from `header.vmas`: that number is not to be trusted.
        let mut vmas = Vec::new();
        for (i, line) in lines.enumerate() {
            if i as u64 >= header.vmas {
                return Err(ShapeProblem::Trailing.at(i + 2));
            }
            let vma = vma(line, header.physical, floor, &mut budget).map_err(|p| p.at(i + 2))?;
            floor = vma.end();
            vmas.push(vma);
        }
        let found = vmas.len() as u64;
        if found < header.vmas {
            return Err(ShapeProblem::Truncated { promised: header.vmas, found }.at(vmas.len() + 2));
        }
        let Header { name, description, made, kernel, physical, missing, .. } = header;
        Ok(Self { name, made, description, kernel, physical, missing, vmas })
    }
}

/// The text of a plain or compressed file, bounded.
fn plain(bytes: &[u8]) -> Result<Vec<u8>, ShapeError> {
    let mut text = Vec::new();
    let read = if bytes.starts_with(&GZIP_MAGIC) {
        MultiGzDecoder::new(bytes).take(MAX_BYTES + 1).read_to_end(&mut text)
    } else {
        io::Read::take(bytes, MAX_BYTES + 1).read_to_end(&mut text)
    };
    // What came out before the damage tells the line.
    let line = text.iter().filter(|b| **b == b'\n').count() + 1;
    read.map_err(|e| ShapeProblem::Io(e).at(line))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ShapeProblem::TooLong.at(line));
    }
    Ok(text)
}

fn header(line: &[u8]) -> Result<Header, ShapeProblem> {
    // Format and schema first: a newer file may have any other field.
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|e| ShapeProblem::Foreign { found: format!("not JSON ({})", message(&e)) })?;
    match value.get("format").and_then(|f| f.as_str()) {
        Some(FORMAT) => {}
        Some(other) => {
            let cut: String = other.chars().take(40).collect();
            return Err(ShapeProblem::Foreign { found: format!("format {cut:?}") });
        }
        None => return Err(ShapeProblem::Foreign { found: "JSON without a format name".into() }),
    }
    match value.get("schema").and_then(|s| s.as_u64()) {
        Some(SCHEMA) => {}
        Some(newer) if newer > SCHEMA => return Err(ShapeProblem::Newer { found: newer }),
        _ => return Err(ShapeProblem::Foreign { found: "no schema number of 1 or more".into() }),
    }
    let header: Header = json(line)?;
    check::check_name(&header.name)?;
    if header.page_bytes != PAGE_BYTES {
        return Err(ShapeProblem::invalid(format!("page_bytes {}", header.page_bytes), "4096"));
    }
    Ok(header)
}

fn vma(line: &[u8], physical: bool, floor: u64, budget: &mut usize) -> Result<ShapeVma, ShapeProblem> {
    let line: VmaLine = json(line)?;
    let quote = |text: &str| format!("{:?}", text.chars().take(40).collect::<String>());
    let start = line
        .start
        .strip_prefix("0x")
        // from_str_radix takes a sign, which is no address.
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            ShapeProblem::invalid(format!("start {}", quote(&line.start)), "a 64-bit address as 0x…")
        })?;
    let mut vma = ShapeVma {
        start,
        nr_pages: line.pages,
        prot: prot(&line.prot).ok_or_else(|| {
            ShapeProblem::invalid(format!("prot {}", quote(&line.prot)), "three of rwx or -")
        })?,
        shared: line.shared,
        kind: kind(&line.kind).ok_or_else(|| {
            ShapeProblem::invalid(
                format!("kind {}", quote(&line.kind)),
                "anon, heap, stack, file, shmem, hugetlb-2m, hugetlb-1g or special",
            )
        })?,
        thp: thp(&line.thp).ok_or_else(|| {
            ShapeProblem::invalid(format!("thp {}", quote(&line.thp)), "default, advise or never")
        })?,
        runs: vec![],
    };
    check::check_place(&vma, floor)?;
    vma.runs = runs::decode(&line.runs, vma.nr_pages, budget)?;
    check::check_runs(&vma, physical)?;
    Ok(vma)
}

fn prot(text: &str) -> Option<Prot> {
    let [r, w, x] = *text.as_bytes() else { return None };
    let mut prot = Prot::empty();
    for (found, letter, flag) in [(r, b'r', Prot::READ), (w, b'w', Prot::WRITE), (x, b'x', Prot::EXEC)] {
        match found {
            b'-' => {}
            f if f == letter => prot |= flag,
            _ => return None,
        }
    }
    Some(prot)
}

fn kind(text: &str) -> Option<ShapeKind> {
    Some(match text {
        "anon" => ShapeKind::Anon,
        "heap" => ShapeKind::Heap,
        "stack" => ShapeKind::Stack,
        "file" => ShapeKind::File,
        "shmem" => ShapeKind::Shmem,
        "hugetlb-2m" => ShapeKind::Hugetlb { leaf: Leaf::Pmd },
        "hugetlb-1g" => ShapeKind::Hugetlb { leaf: Leaf::Pud },
        "special" => ShapeKind::Special,
        _ => return None,
    })
}

fn thp(text: &str) -> Option<ThpAdvice> {
    Some(match text {
        "default" => ThpAdvice::Default,
        "advise" => ThpAdvice::Advise,
        "never" => ThpAdvice::Never,
        _ => return None,
    })
}

fn json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, ShapeProblem> {
    serde_json::from_slice(line).map_err(|e| ShapeProblem::Json { column: e.column(), message: message(&e) })
}

/// The decoder's message without its own line number, which would always be 1.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
