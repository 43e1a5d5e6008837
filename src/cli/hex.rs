//! Octets in hexadecimal, as people paste them.
//!
//! A line is digits with spaces, colons, hyphens, commas, quotes, `0x` or `\x` between them, or a line of a hex dump with its offset
//! before and its characters behind, as Wireshark, `tcpdump -X`, `xxd` and `hexdump -C` print them. The lines of one dump belong
//! together, and so does a line with the next one if it ends with a backslash; any other line stands for itself.

/// Octets in a line of a dump.
const DUMP_WIDTH: usize = 16;

/// Puts the lines together.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The dump under way.
    dump: Option<Vec<u8>>,
    /// What ended with a backslash.
    continued: Option<Vec<u8>>,
}

/// Octets, or what is wrong with the text.
pub(super) type Octets = Result<Vec<u8>, String>;

impl Reader {
    /// Takes a line. What is complete by it: the dump before it, and the line itself.
    pub(super) fn line(&mut self, line: &str) -> Vec<Octets> {
        if let Some(taken) = self.dump_line(line) {
            return taken;
        }
        let mut complete: Vec<_> = self.dump.take().map(Ok).into_iter().collect();
        if line.trim().is_empty() {
            return complete;
        }
        let (text, goes_on) = match line.trim_end().strip_suffix('\\') {
            Some(text) => (text, true),
            None => (line, false),
        };
        match plain(text) {
            Ok(octets) => {
                let all = [self.continued.take().unwrap_or_default(), octets].concat();
                if goes_on {
                    self.continued = Some(all);
                } else {
                    complete.push(Ok(all));
                }
            }
            Err(fault) => {
                self.continued = None;
                complete.push(Err(fault));
            }
        }
        complete
    }

    /// There are no more lines: what was under way.
    pub(super) fn end(&mut self) -> Option<Vec<u8>> {
        self.dump.take().or_else(|| self.continued.take())
    }

    /// `None`: it is no line of a dump. Its offset has to go on where the last one ended, or begin at 0.
    fn dump_line(&mut self, line: &str) -> Option<Vec<Octets>> {
        let (offset, rest) = offset(line)?;
        let so_far = self.dump.as_ref().map(Vec::len);
        if rest.is_empty() {
            // `hexdump` ends with the length.
            return (so_far == Some(offset)).then(|| self.dump.take().map(Ok).into_iter().collect());
        }
        let mut complete = Vec::new();
        if so_far != Some(offset) {
            if offset != 0 {
                return None;
            }
            complete.extend(self.dump.take().map(Ok));
        }
        match column(line, rest) {
            Ok(octets) => self.dump.get_or_insert_default().extend(octets),
            Err(fault) => {
                self.dump = None;
                complete.push(Err(fault));
            }
        }
        Some(complete)
    }
}

/// The offset at the beginning of a dump's line, and what follows it. Only an offset is followed by a colon and a space, by two
/// spaces, or by nothing.
fn offset(line: &str) -> Option<(usize, &str)> {
    let text = line.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    let (offset, rest) = text.split_at_checked(digits)?;
    if !(4..=8).contains(&digits) {
        return None;
    }
    let is_offset = rest.is_empty() || [": ", ":\t", "  ", "\t"].iter().any(|gap| rest.starts_with(gap));
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    is_offset.then_some((usize::from_str_radix(offset, 16).ok()?, rest))
}

/// The octets of a dump's line: up to sixteen, up to a wide gap or to something behind two spaces that is not hexadecimal.
fn column(line: &str, mut rest: &str) -> Octets {
    let mut octets = Vec::with_capacity(DUMP_WIDTH);
    while octets.len() < DUMP_WIDTH {
        let text = rest.trim_start();
        let gap = rest.len() - text.len();
        if text.is_empty() || (gap > 2 && !octets.is_empty()) {
            break;
        }
        let (group, after) =
            text.split_at_checked(text.find(char::is_whitespace).unwrap_or(text.len())).unwrap_or((text, ""));
        match plain(group) {
            Ok(group) => octets.extend(group),
            Err(_) if gap > 1 && !octets.is_empty() => break,
            // Once more, for its place in the line.
            Err(_) => return Err(fault(line, line.len() - text.len())),
        }
        rest = after;
    }
    octets.truncate(DUMP_WIDTH);
    Ok(octets)
}

/// Digits and what may stand between them.
fn plain(text: &str) -> Octets {
    let mut digits = Vec::with_capacity(text.len());
    let mut between = true;
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let prefixed = c == '\\' || (c == '0' && between);
        if prefixed && rest.next_if(|(_, next)| matches!(next, 'x' | 'X')).is_some() {
            continue;
        }
        between = c.is_whitespace() || matches!(c, ':' | '-' | ',' | '"');
        match c.to_digit(16) {
            Some(digit) => digits.push(u8::try_from(digit).unwrap_or(0)),
            None if between => {}
            None => return Err(fault(text, at)),
        }
    }
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(format!("an odd number of hexadecimal digits, {}", digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Says which character it is that does not belong there, the first at or after this octet.
fn fault(line: &str, at: usize) -> String {
    let is_fine = |c: char| c.is_ascii_hexdigit() || c.is_whitespace();
    let place = line.char_indices().enumerate().find(|(_, (octet, c))| *octet >= at && !is_fine(*c));
    match place {
        Some((place, (_, c))) => format!("character {}, '{}', is not hexadecimal", place + 1, c.escape_default()),
        None => "an odd number of hexadecimal digits in a group".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything a text holds.
    fn all(text: &str) -> Vec<Octets> {
        let mut reader = Reader::default();
        let mut found: Vec<_> = text.lines().flat_map(|line| reader.line(line)).collect();
        found.extend(reader.end().map(Ok));
        found
    }

    fn one(text: &str) -> Octets {
        let mut found = all(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found.remove(0)
    }

    /// Octets as Wireshark dumps them.
    fn dump(octets: &[u8]) -> String {
        let line = |(number, line): (usize, &[u8])| {
            let digits: Vec<_> = line.iter().map(|octet| format!("{octet:02x}")).collect();
            let characters: String =
                line.iter().map(|octet| if octet.is_ascii_graphic() { char::from(*octet) } else { '.' }).collect();
            format!("{:04x}   {:47}   {characters}\n", number * DUMP_WIDTH, digits.join(" "))
        };
        octets.chunks(DUMP_WIDTH).enumerate().map(line).collect()
    }

    proptest! {
        #[test]
        fn whatever_the_form_the_octets_are_the_same(octets in prop::collection::vec(any::<u8>(), 1..100)) {
            let separated = |separator: &str, prefix: &str| {
                octets.iter().map(|octet| format!("{prefix}{octet:02x}")).collect::<Vec<_>>().join(separator)
            };
            for text in [
                separated("", ""),
                separated(":", "").to_uppercase(),
                separated(" ", ""),
                separated(", ", "0x"),
                separated("", "\\x"),
                dump(&octets),
            ] {
                prop_assert_eq!(all(&text), [Ok(octets.clone())], "{}", text);
            }
        }

        #[test]
        fn any_text_is_survived(text: String, digits in "[0-9a-f :x|\\\\\n]{0,80}") {
            all(&text);
            all(&digits);
        }
    }

    #[test]
    fn digits_with_anything_people_put_between_them() {
        for text in [
            "ff001a2b",
            " FF 00 1A 2B ",
            "ff:00:1a:2b",
            "FF-00-1a-2b",
            "0xff001a2b",
            "0xFF, 0x00, 0x1A, 0x2B,",
            "0xff 0X00 0x1a 0x2b",
            "ff00 1a2b",
            r"\xff\x00\x1a\x2b",
            r#""\xff\x00\x1a\x2b""#,
            "f f 0 0 1 a 2 b",
        ] {
            assert_eq!(one(text), Ok(vec![0xff, 0, 0x1a, 0x2b]), "{text}");
        }
        assert_eq!(all("ff\n\n  \n00\n"), [Ok(vec![0xff]), Ok(vec![0])]);
        assert_eq!(all("ff00 \\\n1a\n2b"), [Ok(vec![0xff, 0, 0x1a]), Ok(vec![0x2b])]);
        // A group of digits may look like an offset.
        assert_eq!(one("0000 ff00"), Ok(vec![0, 0, 0xff, 0]));
        assert_eq!(one("0000:ff00"), Ok(vec![0, 0, 0xff, 0]));
        assert_eq!(one("0010  ff00"), Ok(vec![0, 0x10, 0xff, 0]));
    }

    #[test]
    fn dumps_with_their_offsets_and_characters() {
        let octets: Vec<u8> = (0xf0..=0xff).chain(0..5).collect();
        for dump in [
            // Wireshark, with and without characters.
            "0000   f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff   ................\n0010   00 01 02 03 04                                    .....\n",
            "0000   f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff\n0010   00 01 02 03 04\n",
            // tcpdump -X
            "\t0x0000:  f0f1 f2f3 f4f5 f6f7 f8f9 fafb fcfd feff  abcd............\n\t0x0010:  0001 0203 04                             ab..\n",
            // xxd
            "00000000: f0f1 f2f3 f4f5 f6f7 f8f9 fafb fcfd feff  ................\n00000010: 0001 0203 04                             .....\n",
            // hexdump -C
            "00000000  f0 f1 f2 f3 f4 f5 f6 f7  f8 f9 fa fb fc fd fe ff  |................|\n00000010  00 01 02 03 04                                    |.....|\n00000015\n",
        ] {
            assert_eq!(all(dump), [Ok(octets.clone())], "{dump}");
            // Two in a row, and a line that is none.
            assert_eq!(
                all(&format!("{dump}\n{dump}ffff")),
                [Ok(octets.clone()), Ok(octets.clone()), Ok(vec![0xff, 0xff])]
            );
        }
    }

    #[test]
    fn what_is_not_hexadecimal_has_a_place() {
        for (text, fault) in [
            ("ab xy", "character 4, 'x', is not hexadecimal"),
            ("  0xabzz", "character 7, 'z', is not hexadecimal"),
            ("ab\u{e9}", "character 3, '\\u{e9}', is not hexadecimal"),
            ("abc", "an odd number of hexadecimal digits, 3"),
            ("0000   ff fg", "character 12, 'g', is not hexadecimal"),
        ] {
            assert_eq!(one(text), Err(fault.to_owned()), "{text}");
        }
        // The lines around it are read all the same.
        assert_eq!(all("ff\nxx\n00").len(), 3);
    }
}
