//! A [`Shape`] to bytes.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use serde::Serialize;

use super::{
    FORMAT, Leaf, PAGE_BYTES, Prot, SCHEMA, Shape, ShapeError, ShapeKind, ShapeVma, ThpAdvice, runs,
};

#[derive(Serialize)]
struct Header<'a> {
    schema: u64,
    format: &'a str,
    name: &'a str,
    description: &'a str,
    made: &'a str,
    kernel: &'a str,
    page_bytes: u64,
    physical: bool,
    missing: &'a [String],
    vmas: usize,
}

#[derive(Serialize)]
struct VmaLine<'a> {
    start: String,
    pages: u64,
    prot: String,
    shared: bool,
    kind: &'a str,
    thp: &'a str,
    runs: String,
}

impl Shape {
    /// The plain text of the file.
    ///
    /// # Errors
    ///
    /// If [`Shape::check`] does not pass: a file that no reader takes is not written.
    pub fn to_text(&self) -> Result<Vec<u8>, ShapeError> {
        self.check()?;
        let mut text = Vec::new();
        let header = Header {
            schema: SCHEMA,
            format: FORMAT,
            name: &self.name,
            description: &self.description,
            made: &self.made,
            kernel: &self.kernel,
            page_bytes: PAGE_BYTES,
            physical: self.physical,
            missing: &self.missing,
            vmas: self.vmas.len(),
        };
        line(&mut text, &header);
        for vma in &self.vmas {
            line(&mut text, &vma_line(vma));
        }
        Ok(text)
    }

    /// The file compressed with gzip; the same shape gives the same bytes (no time stamp).
    ///
    /// # Errors
    ///
    /// As [`Shape::to_text`].
    pub fn to_gzip(&self) -> Result<Vec<u8>, ShapeError> {
        let text = self.to_text()?;
        let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        let bytes = encoder.write_all(&text).and_then(|()| encoder.finish());
        Ok(bytes.unwrap_or_else(|e: io::Error| unreachable!("writing to memory: {e}")))
    }
}

fn line(text: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(e) = serde_json::to_writer(&mut *text, value) {
        unreachable!("strings and numbers to memory: {e}");
    }
    text.push(b'\n');
}

fn vma_line(vma: &ShapeVma) -> VmaLine<'_> {
    let letter = |flag, c| if vma.prot.contains(flag) { c } else { '-' };
    VmaLine {
        start: format!("{:#x}", vma.start),
        pages: vma.nr_pages,
        prot: [letter(Prot::READ, 'r'), letter(Prot::WRITE, 'w'), letter(Prot::EXEC, 'x')].iter().collect(),
        shared: vma.shared,
        kind: match vma.kind {
            ShapeKind::Anon => "anon",
            ShapeKind::Heap => "heap",
            ShapeKind::Stack => "stack",
            ShapeKind::File => "file",
            ShapeKind::Shmem => "shmem",
            ShapeKind::Hugetlb { leaf: Leaf::Pud } => "hugetlb-1g",
            ShapeKind::Hugetlb { .. } => "hugetlb-2m",
            ShapeKind::Special => "special",
        },
        thp: match vma.thp {
            ThpAdvice::Default => "default",
            ThpAdvice::Advise => "advise",
            ThpAdvice::Never => "never",
        },
        runs: runs::encode(&vma.runs),
    }
}
