//! Cuts a byte stream into JSON texts (JSON-RPC 1.0 over OVSDB puts nothing between two messages).
//!
//! The scanner is resumable: it keeps its position, so that a reply of tens of megabytes arriving in small reads is
//! looked at once and not once per read.
//!
//! Such a reply is the dump that answers a monitor request. On request ([`Framing::next`]) its rows are cut out one by one as
//! they arrive, so that it is never in memory as a whole:
//!
//! ```text
//! {"id":4,"error":null,"result":[false,"<transaction>",{"T":{"<uuid>":{"initial":{…}},"<uuid>":{…}}}]}    monitor_cond_since
//!                                                            └────── Row ─────────┘ └─── Row ───┘
//! {"id":4,"error":null,"result":[false,"<transaction>",{"T":{}}]}                                         Message
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;
use tokio_util::codec::Decoder;

/// The largest message accepted unless told otherwise, in bytes, the rows that are cut out of it not counted. A transaction that
/// touches 100,000 ports is about 100 MB.
pub const DEFAULT_MAX_SIZE: usize = 1 << 28;

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

/// What [`Framing::next`] cuts off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A message; without the rows that were cut out of it.
    Message(Bytes),
    /// A row of the message that is arriving.
    Row {
        /// Its table.
        table: Arc<str>,
        /// Its UUID, as text.
        uuid: Bytes,
        /// `<row-update2>`, or `<row-update>` of the oldest monitors.
        update: Bytes,
    },
}

/// What an open array or object is, on the way to the rows.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Message,
    /// `[found, transaction, table updates]`: index of the element, and where the first one starts.
    Result(u32, usize),
    Tables,
    Rows(Arc<str>),
    /// Nothing inside matters here.
    Row,
    Other,
}

/// Why the scanner stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// There is no more, or a string ended.
    Continue,
    Row,
    Message,
}

/// The scanner. Syntax inside a message is the JSON parser's business; this one only finds its end, and that of rows.
#[derive(Debug)]
pub struct Framing {
    /// Bytes of the current message already looked at, of those still in the buffer.
    position: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Bytes of the stream before what is in the buffer.
    consumed: u64,
    max_size: usize,
    max_depth: u32,
    /// Rows are cut out of the current message.
    cutting: bool,
    /// The open arrays and objects down to the rows; only while cutting.
    path: Vec<Place>,
    /// The last string outside of rows, without its quotes.
    string: Range<usize>,
    /// Key of the current row, and where its value starts.
    row: (Range<usize>, usize),
    /// The current message before what is in the buffer, without its rows.
    skeleton: BytesMut,
}

impl Default for Framing {
    fn default() -> Self {
        Self::with_limits(DEFAULT_MAX_SIZE, DEFAULT_MAX_DEPTH)
    }
}

impl Framing {
    /// A scanner at the start of a stream, with its own limits.
    pub fn with_limits(max_size: usize, max_depth: u32) -> Self {
        Self {
            position: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            consumed: 0,
            max_size,
            max_depth,
            cutting: false,
            path: Vec::new(),
            string: 0..0,
            row: (0..0, 0),
            skeleton: BytesMut::new(),
        }
    }

    /// The next piece. `rows`: of a reply that looks like a complete dump the rows come first, one by one. Counts at the start of
    /// a message.
    ///
    /// # Errors
    /// The stream is no sequence of objects, or passes a limit.
    pub fn next(&mut self, src: &mut BytesMut, rows: bool) -> Result<Option<Piece>, FramingError> {
        if self.depth == 0 {
            if !self.start(src)? {
                return Ok(None);
            }
            self.cutting = rows;
        }
        while self.position < src.len() {
            let stop = self.scan(src)?;
            if self.position.saturating_add(self.skeleton.len()) > self.max_size {
                return Err(FramingError::TooLong { offset: self.consumed, limit: self.max_size });
            }
            match stop {
                Stop::Continue => {}
                Stop::Row => {
                    if let Some(row) = self.cut_row(src) {
                        return Ok(Some(row));
                    }
                }
                Stop::Message => {
                    let rest = self.take(src, self.position);
                    if self.skeleton.is_empty() {
                        return Ok(Some(Piece::Message(rest.freeze())));
                    }
                    let mut whole = std::mem::take(&mut self.skeleton);
                    whole.extend_from_slice(&rest);
                    return Ok(Some(Piece::Message(whole.freeze())));
                }
            }
        }
        Ok(None)
    }

    fn offset(&self) -> u64 {
        self.consumed.saturating_add(self.position as u64)
    }

    /// Takes bytes off the front of the buffer.
    fn take(&mut self, src: &mut BytesMut, n: usize) -> BytesMut {
        self.consumed = self.consumed.saturating_add(n as u64);
        self.position = self.position.saturating_sub(n);
        src.split_to(n.min(src.len()))
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

    /// Looks at bytes up to the end of a string, a row, the message, or what there is.
    fn scan(&mut self, src: &[u8]) -> Result<Stop, FramingError> {
        let rest = src.get(self.position..).unwrap_or_default();
        if self.in_string {
            if self.escaped {
                self.escaped = false;
                self.position += 1;
                return Ok(Stop::Continue);
            }
            match memchr2(b'"', b'\\', rest) {
                None => self.position += rest.len(),
                Some(at) => {
                    self.position += at + 1;
                    self.escaped = rest.get(at) == Some(&b'\\');
                    self.in_string = self.escaped;
                    if !self.in_string && self.is_outside_of_rows() {
                        self.string.end = self.position - 1;
                    }
                }
            }
            return Ok(Stop::Continue);
        }
        for &byte in rest {
            self.position += 1;
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.is_outside_of_rows() {
                        self.string = self.position..self.position;
                    }
                    return Ok(Stop::Continue);
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > self.max_depth {
                        return Err(FramingError::TooDeep { offset: self.offset() - 1, limit: self.max_depth });
                    }
                    if self.is_outside_of_rows() {
                        let place = self.enter(src, byte);
                        self.path.push(place);
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    // Inside of a row the path is shorter than the nesting is deep.
                    let left = if self.path.len() as u64 > u64::from(self.depth) { self.path.pop() } else { None };
                    if self.depth == 0 {
                        self.cutting = false;
                        self.path.clear();
                        return Ok(Stop::Message);
                    }
                    if left == Some(Place::Row) {
                        return Ok(Stop::Row);
                    }
                }
                b',' if self.cutting => self.next_element(src),
                _ => {}
            }
        }
        Ok(Stop::Continue)
    }

    fn is_outside_of_rows(&self) -> bool {
        self.cutting && self.path.last() != Some(&Place::Row)
    }

    /// What opens with `byte`, which was just passed.
    fn enter(&mut self, src: &[u8], byte: u8) -> Place {
        let object = byte == b'{';
        let key = src.get(self.string.clone()).unwrap_or_default();
        match self.path.last() {
            None => Place::Message,
            Some(Place::Message) if key == b"result" && object => Place::Tables,
            Some(Place::Message) if key == b"result" => Place::Result(0, self.position),
            Some(Place::Result(2, _)) if object => Place::Tables,
            Some(Place::Tables) if object => Place::Rows(Arc::from(String::from_utf8_lossy(key))),
            Some(Place::Rows(_)) if object => {
                self.row = (self.string.clone(), self.position - 1);
                Place::Row
            }
            _ => Place::Other,
        }
    }

    /// A comma was just passed. Where the server has only what was missed since last time there is nothing to cut.
    fn next_element(&mut self, src: &[u8]) {
        let position = self.position;
        if let Some(Place::Result(index, start)) = self.path.last_mut() {
            let first = src.get(*start..position - 1).unwrap_or_default();
            let found = *index == 0 && first.trim_ascii() != b"false";
            *index += 1;
            if found {
                self.cutting = false;
                self.path.clear();
            }
        }
    }

    /// The row that just ended. What stands before it goes to the rest of the message, if it is more than what separates two rows.
    fn cut_row(&mut self, src: &mut BytesMut) -> Option<Piece> {
        let Some(Place::Rows(table)) = self.path.last() else { return None };
        let table = Arc::clone(table);
        let (key, value) = std::mem::take(&mut self.row);
        let before = self.take(src, key.start.saturating_sub(1));
        if before.iter().any(|byte| !matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n')) {
            self.skeleton.extend_from_slice(&before);
        }
        let shift = key.start.saturating_sub(1);
        let row = self.take(src, self.position).freeze();
        let within = |range: Range<usize>| {
            let range = range.start.checked_sub(shift)?..range.end.checked_sub(shift)?;
            (range.start <= range.end && range.end <= row.len()).then(|| row.slice(range))
        };
        Some(Piece::Row { table, uuid: within(key)?, update: within(value..row.len() + shift)? })
    }
}

impl Decoder for Framing {
    type Item = Bytes;
    type Error = FramingError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
        match self.next(src, false)? {
            Some(Piece::Message(message)) => Ok(Some(message)),
            Some(Piece::Row { .. }) | None => Ok(None),
        }
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

    /// The rows (table, UUID, update) and the messages of a stream.
    fn cut_rows(chunks: &[&[u8]]) -> (Vec<[String; 3]>, Vec<String>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut framing, mut buffer) = (Framing::default(), BytesMut::new());
        let (mut rows, mut messages) = (Vec::new(), Vec::new());
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some(piece) = framing.next(&mut buffer, true).unwrap() {
                match piece {
                    Piece::Row { table, uuid, update } => rows.push([table.to_string(), text(&uuid), text(&update)]),
                    Piece::Message(message) => messages.push(text(&message)),
                }
            }
        }
        (rows, messages)
    }

    #[test]
    fn rows_are_cut_out_of_a_dump_only() {
        let row = |table: &str, uuid: &str, update: &str| [table, uuid, update].map(str::to_owned);
        let dump = r#"{"T":{"a":{"initial":{"x":["set",["}\""]]}}, "b":{}},"U":{},"V":{"c":{"initial":{"y":{}}}}}"#;
        let rows = vec![
            row("T", "a", r#"{"initial":{"x":["set",["}\""]]}}"#),
            row("T", "b", "{}"),
            row("V", "c", r#"{"initial":{"y":{}}}"#),
        ];
        let rest = r#"{"T":{},"U":{},"V":{}}"#;
        // Of the newest generation of monitors, and of the older ones.
        for (before, after) in
            [(r#"{"id":1,"result":[false,"t","#, r#"],"error":null}"#), (r#"{"result":"#, r#","id":1}"#)]
        {
            let (found, messages) = cut_rows(&[format!("{before}{dump}{after}{{}}").as_bytes()]);
            assert_eq!((found, messages), (rows.clone(), vec![format!("{before}{rest}{after}"), "{}".to_owned()]));
        }
        // What was missed, an update, an error.
        for whole in [
            format!(r#"{{"id":1,"result":[true,"t",{dump}]}}"#),
            format!(r#"{{"method":"update3","params":["db","t",{dump}]}}"#),
            r#"{"result":null,"error":{"error":{"a":{}}}}"#.to_owned(),
        ] {
            assert_eq!(cut_rows(&[whole.as_bytes()]), (vec![], vec![whole]));
        }
    }

    proptest! {
        /// However a dump is chopped, the same rows come out, and a message without them.
        #[test]
        fn chopping_a_dump_changes_nothing(strings in prop::collection::vec(".*", 1..6), cuts in prop::collection::vec(0usize..900, 0..12)) {
            let rows: serde_json::Map<_, _> = strings
                .iter()
                .enumerate()
                .map(|(n, s)| (format!("u{n}"), serde_json::json!({"initial": {"s": s, "m": ["map", [[s, "x"]]]}})))
                .collect();
            let dump = |rows| serde_json::json!({"id": 7, "result": [false, "t", {"T": rows}], "error": null}).to_string();
            let stream = format!("{}{}", dump(rows.clone()), dump(rows.clone()));
            let at = cuts.iter().map(|c| c % (stream.len() + 1)).chain([0, stream.len()]);
            let at: Vec<usize> = at.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &stream.as_bytes()[w[0]..w[1]]).collect();
            let (found, messages) = cut_rows(&chunks);
            let expected: Vec<_> = rows.iter().map(|(uuid, row)| ["T".to_owned(), uuid.clone(), row.to_string()]).collect();
            prop_assert_eq!(found, [expected.clone(), expected].concat());
            prop_assert_eq!(messages, vec![dump(serde_json::Map::new()); 2]);
        }

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
            for before in ["{\"result\":", "{\"result\":[false,0,{\"T\":{"] {
                let mut buffer = BytesMut::from(before);
                buffer.extend_from_slice(&bytes);
                let mut framing = Framing::default();
                while let Ok(Some(_)) = framing.next(&mut buffer, true) {}
            }
        }
    }
}
