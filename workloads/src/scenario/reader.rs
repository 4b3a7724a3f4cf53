//! Whole recordings: plain or gzip, UTF-8 or Latin-1, one scenario a line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::Scenario;
use super::error::{Malformed, RecordingError};
use super::limits::{MAX_FILE_BYTES, MAX_FILE_STEPS, MAX_LINE_BYTES};
use super::parse::parse_line;

/// Reads every scenario of a file.
pub fn read_path(file: &Path) -> Result<Vec<Scenario>, RecordingError> {
    let source = File::open(file).map_err(|source| RecordingError::Io { file: file.into(), source })?;
    read(BufReader::new(source), file)
}

/// Reads every scenario of `source`, uncompressing it when it starts like gzip. `file` names it in errors.
///
/// Empty lines are passed over; a recording without any scenario is an error.
pub fn read(mut source: impl BufRead, file: &Path) -> Result<Vec<Scenario>, RecordingError> {
    let failed = |source| RecordingError::Io { file: file.into(), source };
    let is_gzip = source.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    if is_gzip {
        lines(BufReader::new(MultiGzDecoder::new(source)), file, "whole gzip data")
    } else {
        lines(source, file, "a readable file")
    }
}

fn lines(source: impl BufRead, file: &Path, whole: &str) -> Result<Vec<Scenario>, RecordingError> {
    let malformed =
        |line, expected: String, found: &str| Malformed::new("", expected, found).in_file(file.into(), line);
    let mut source = source.take(MAX_FILE_BYTES + 1);
    let mut scenarios = Vec::new();
    let mut steps = 0;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = source.by_ref().take(limit).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_broken_data(&error) => {
                return Err(malformed(line, whole.into(), &error.to_string()));
            }
            Err(source) => return Err(RecordingError::Io { file: file.into(), source }),
        }
        if source.limit() == 0 {
            return Err(malformed(line, format!("at most {MAX_FILE_BYTES} bytes in all"), "more"));
        }
        if bytes.len() > MAX_LINE_BYTES {
            return Err(malformed(line, format!("a line of at most {MAX_LINE_BYTES} bytes"), "a longer one"));
        }
        let text = decode(&bytes);
        let text = text.strip_prefix('\u{feff}').filter(|_| line == 1).unwrap_or(&text);
        if text.trim().is_empty() {
            continue;
        }
        let scenario = parse_line(text.trim_end(), file, line)?;
        steps += scenario.steps.len();
        if steps > MAX_FILE_STEPS {
            return Err(malformed(line, format!("at most {MAX_FILE_STEPS} steps in all"), "more"));
        }
        scenarios.push(scenario);
    }
    if scenarios.is_empty() {
        return Err(malformed(0, "at least one scenario, one JSON object a line".into(), "an empty file"));
    }
    Ok(scenarios)
}

fn is_broken_data(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// UTF-8, or else Latin-1, in which every byte is the character of its value.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| byte as char).collect()),
    }
}
