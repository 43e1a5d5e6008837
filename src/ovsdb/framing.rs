//! Cuts a byte stream into JSON texts (JSON-RPC 1.0 over OVSDB puts nothing between two messages).
//!
//! The scanner is resumable: it keeps its position, so that a reply of tens of megabytes arriving in small reads is
//! looked at once and not once per read.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;
use tokio_util::codec::Decoder;

/// The largest message accepted unless told otherwise, in bytes. A dump of 100,000 ports is about 40 MB.
pub const DEFAULT_MAX_SIZE: usize = 1 << 30;

/// How deep arrays and objects may nest. OVSDB messages need about ten.
pub const DEFAULT_MAX_DEPTH: u32 = 64;

/// Why a stream cannot be cut. Offsets count from the first byte of the connection.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// A message is an object; this is something else.
    #[error(
        "byte {offset} of the stream is 0x{byte:02x}, but a JSON-RPC message starts with '{{': not an OVSDB server?"
    )]
    NotAnObject {
        /// Where.
        offset: u64,
        /// What is there.
        byte: u8,
    },
    /// A message exceeds the size limit.
    #[error("the message that starts at byte {offset} of the stream is longer than {limit} bytes")]
    TooLong {
        /// Where the message starts.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// A message nests deeper than the limit.
    #[error("at byte {offset} of the stream arrays and objects nest deeper than {limit} levels")]
    TooDeep {
        /// Where the limit is passed.
        offset: u64,
        /// The limit.
        limit: u32,
    },
    /// Reading failed (asked for by the `Decoder` trait; the scanner itself reads nothing).
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The scanner. Syntax inside a message is the JSON parser's business; this one only finds its end.
#[derive(Debug)]
pub struct Framing {
    /// Bytes of the current message already looked at.
    position: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Bytes of the stream before the current message.
    consumed: u64,
    max_size: usize,
    max_depth: u32,
}

impl Default for Framing {
    fn default() -> Self {
        Self::with_limits(DEFAULT_MAX_SIZE, DEFAULT_MAX_DEPTH)
    }
}

impl Framing {
    /// A scanner at the start of a stream, with its own limits.
    pub fn with_limits(max_size: usize, max_depth: u32) -> Self {
        Self { position: 0, depth: 0, in_string: false, escaped: false, consumed: 0, max_size, max_depth }
    }

    fn offset(&self) -> u64 {
        self.consumed.saturating_add(self.position as u64)
    }

    /// Drops the blanks some clients put between messages; false when nothing is left.
    fn start(&mut self, src: &mut BytesMut) -> Result<bool, FramingError> {
        let blanks = src.iter().take_while(|b| b.is_ascii_whitespace()).count();
        src.advance(blanks);
        self.consumed = self.consumed.saturating_add(blanks as u64);
        match src.first() {
            None => Ok(false),
            Some(b'{') => Ok(true),
            Some(&byte) => Err(FramingError::NotAnObject { offset: self.consumed, byte }),
        }
    }

    /// Looks at one run of bytes; true when the message ends with it.
    fn scan(&mut self, rest: &[u8]) -> Result<bool, FramingError> {
        if self.in_string {
            if self.escaped {
                self.escaped = false;
                self.position += 1;
                return Ok(false);
            }
            match memchr2(b'"', b'\\', rest) {
                None => self.position += rest.len(),
                Some(at) => {
                    self.position += at + 1;
                    self.escaped = rest.get(at) == Some(&b'\\');
                    self.in_string = self.escaped;
                }
            }
            return Ok(false);
        }
        for &byte in rest {
            self.position += 1;
            match byte {
                b'"' => {
                    self.in_string = true;
                    return Ok(false);
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > self.max_depth {
                        return Err(FramingError::TooDeep { offset: self.offset() - 1, limit: self.max_depth });
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

impl Decoder for Framing {
    type Item = Bytes;
    type Error = FramingError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
        if self.position == 0 && !self.start(src)? {
            return Ok(None);
        }
        while let Some(rest) = src.get(self.position..).filter(|rest| !rest.is_empty()) {
            let ended = self.scan(rest)?;
            if self.position > self.max_size {
                return Err(FramingError::TooLong { offset: self.consumed, limit: self.max_size });
            }
            if ended {
                let message = src.split_to(self.position).freeze();
                self.consumed = self.offset();
                self.position = 0;
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]], framing: &mut Framing) -> Result<Vec<String>, FramingError> {
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some(message) = framing.decode(&mut buffer)? {
                out.push(String::from_utf8_lossy(&message).into_owned());
            }
        }
        Ok(out)
    }

    #[test]
    fn nothing_between_messages_is_enough() {
        let out = cut(&[br#"{"a":"}{\"\\"}{"b":[{}]} {}"#], &mut Framing::default()).unwrap();
        assert_eq!(out, [r#"{"a":"}{\"\\"}"#, r#"{"b":[{}]}"#, "{}"]);
    }

    #[test]
    fn a_web_server_is_refused_with_its_offset() {
        let error = cut(&[b"{}  HTTP/1.1 400"], &mut Framing::default()).unwrap_err();
        assert!(matches!(error, FramingError::NotAnObject { offset: 4, byte: b'H' }), "{error}");
    }

    #[test]
    fn limits_hold_and_say_where() {
        let error = cut(&[b"{}", br#"{"a":[[[]]]}"#], &mut Framing::with_limits(100, 3)).unwrap_err();
        assert!(matches!(error, FramingError::TooDeep { offset: 9, limit: 3 }), "{error}");
        let error = cut(&[b"{}", br#"{"a":"0123"#, b"456789"], &mut Framing::with_limits(12, 3)).unwrap_err();
        assert!(matches!(error, FramingError::TooLong { offset: 2, limit: 12 }), "{error}");
        assert_eq!(cut(&[br#"{"a":"0123"}"#], &mut Framing::with_limits(12, 3)).unwrap().len(), 1);
    }

    proptest! {
        /// However the stream is chopped, the same messages come out.
        #[test]
        fn chopping_changes_nothing(strings in prop::collection::vec(".*", 1..5), cuts in prop::collection::vec(0usize..400, 0..12)) {
            let texts: Vec<String> = strings
                .iter()
                .map(|s| serde_json::json!({"method": s, "params": [s, {"x": [s]}]}).to_string())
                .collect();
            let stream = texts.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|c| c % (stream.len() + 1)).collect();
            at.push(0);
            at.push(stream.len());
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(cut(&chunks, &mut Framing::default()).unwrap(), texts);
        }

        /// Bytes from anywhere never panic.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = cut(&[&bytes], &mut Framing::default());
            let _ = cut(&[b"{", &bytes], &mut Framing::default());
        }
    }
}
