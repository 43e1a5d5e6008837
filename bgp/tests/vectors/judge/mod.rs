//! The judge of conformance vectors: decodes a record's octets and compares what we would do with what has to be done.
//!
//! Shared by `examples/vectors.rs` and `tests/vectors.rs`.

mod bfd;
mod compare;
mod machine;
mod message;

use serde_json::Value;

/// What became of a record.
pub(crate) enum Verdict {
    /// As it has to be.
    Pass,
    /// Otherwise; why.
    Fail(String),
    /// Not judged; why.
    Skip(String),
}

/// Judges one line of a file; also the record's `id`, if it has one.
pub(crate) fn line(line: &str) -> (Option<String>, Verdict) {
    // A file may begin with a byte order mark.
    let record: Value = match serde_json::from_str(line.trim_start_matches('\u{feff}')) {
        Ok(record) => record,
        Err(error) => return (None, Verdict::Fail(format!("not JSON: {error}"))),
    };
    let id = record.get("id").and_then(Value::as_str).map(str::to_owned);
    // Only a BFD packet says what it was wrapped in.
    let is_bfd = record.pointer("/context/packet").is_some() || id.as_deref().is_some_and(|id| id.starts_with("bfd-"));
    let verdict = if is_bfd { bfd::judge(&record) } else { message::judge(&record) };
    (id, verdict)
}

/// The octets of a hex string.
pub(crate) fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The hex string of octets.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}
