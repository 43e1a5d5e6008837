//! Prefix lists in FRR's words.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::ParseError;
use crate::types::Prefix;

/// What a rule does with a prefix it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Action {
    /// Let it through.
    Permit,
    /// Stop it.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        })
    }
}

/// The bounds a rule puts on the length of a prefix, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Lengths {
    /// `ge`: at least so many bits.
    pub ge: Option<u8>,
    /// `le`: at most so many bits.
    pub le: Option<u8>,
}

impl Lengths {
    /// The lengths a prefix may have: exactly that of the rule without `ge` and `le`, else from `ge` (or the rule's) to `le` (or the
    /// longest).
    fn range(self, len: u8, max: u8) -> RangeInclusive<u8> {
        match (self.ge, self.le) {
            (None, None) => len..=len,
            (ge, le) => ge.unwrap_or(len)..=le.unwrap_or(max),
        }
    }
}

/// One rule of a prefix list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    /// Its place in the list; rules without one follow the highest before them by 5, as in FRR.
    pub seq: Option<u32>,
    /// What to do with a match.
    pub action: Action,
    /// What a prefix has to lie in; `None` is `any`: every prefix of both families.
    pub prefix: Option<Prefix>,
    /// What length it has to have.
    pub lengths: Lengths,
}

impl Rule {
    /// Whether the rule speaks about `prefix`.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        let Some(rule) = self.prefix else { return true };
        // `contains` is false across families, so that `permit 0.0.0.0/0 le 32` says nothing about IPv6.
        rule.contains(prefix)
            && self.lengths.range(rule.prefix_len(), rule.max_prefix_len()).contains(&prefix.prefix_len())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seq) = self.seq {
            write!(f, "seq {seq} ")?;
        }
        match self.prefix {
            Some(prefix) => write!(f, "{} {prefix}", self.action)?,
            None => write!(f, "{} any", self.action)?,
        }
        if let Some(ge) = self.lengths.ge {
            write!(f, " ge {ge}")?;
        }
        if let Some(le) = self.lengths.le {
            write!(f, " le {le}")?;
        }
        Ok(())
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    /// Reads `[seq N] permit|deny PREFIX|any [ge N] [le N]`. Host bits of the prefix are cleared, as FRR does.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text);
        let mut word = words.next_or("`permit` or `deny`")?;
        let mut seq = None;
        if word.text == "seq" {
            seq = Some(words.next_or("a sequence number after `seq`")?.number("a sequence number", 1..=u32::MAX)?);
            word = words.next_or("`permit` or `deny`")?;
        }
        let action = match word.text {
            "permit" => Action::Permit,
            "deny" => Action::Deny,
            other => return Err(word.error(format!("expected `permit` or `deny`, found `{other}`"))),
        };
        let word = words.next_or("a prefix or `any`")?;
        let prefix = if word.text == "any" { None } else { Some(word.prefix()?) };
        let lengths = parse_lengths(&mut words, prefix)?;
        Ok(Self { seq, action, prefix, lengths })
    }
}

/// Reads `ge N` and `le N` in any order, each at most once, and checks `prefix length ≤ ge ≤ le ≤ longest`.
fn parse_lengths(words: &mut Words<'_>, prefix: Option<Prefix>) -> Result<Lengths, ParseError> {
    let mut lengths = Lengths::default();
    while let Some(word) = words.next() {
        let (which, other_bound) = match word.text {
            "ge" => (&mut lengths.ge, lengths.le),
            "le" => (&mut lengths.le, lengths.ge),
            other => return Err(word.error(format!("expected `ge`, `le` or the end, found `{other}`"))),
        };
        let Some(prefix) = prefix else {
            return Err(word.error("`any` takes neither `ge` nor `le`: write 0.0.0.0/0 or ::/0 instead of `any`"));
        };
        if which.is_some() {
            return Err(word.error(format!("`{}` is given twice", word.text)));
        }
        let number = words.next_or(&format!("a length after `{}`", word.text))?;
        let (min, max) = (prefix.prefix_len(), prefix.max_prefix_len());
        let value = number.number("a length", 0..=u32::from(max))?;
        let value = u8::try_from(value).unwrap_or(max);
        if value < min {
            return Err(number.error(format!("`{} {value}` is shorter than the prefix itself ({prefix})", word.text)));
        }
        if let Some(bound) = other_bound {
            let (ge, le) = if word.text == "ge" { (value, bound) } else { (bound, value) };
            if ge > le {
                return Err(number.error(format!("`ge {ge}` is longer than `le {le}`: nothing would match")));
            }
        }
        *which = Some(value);
    }
    Ok(lengths)
}

/// A prefix list: first match wins, and what nothing matches is denied. A list without rules denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PrefixList {
    /// What the configuration calls it.
    name: String,
    /// Sorted by sequence number; every rule has one.
    rules: Vec<Rule>,
}

/// What is wrong with a prefix list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {}: {error}", index + 1)]
pub struct ListError {
    /// Which of the given rules, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub error: ParseError,
}

impl PrefixList {
    /// Reads a list from its rules, one text each.
    pub fn parse<S: AsRef<str>>(name: &str, rules: impl IntoIterator<Item = S>) -> Result<Self, ListError> {
        let mut list = Self { name: name.to_owned(), rules: Vec::new() };
        let mut last = 0_u32;
        for (index, text) in rules.into_iter().enumerate() {
            let mut rule: Rule = text.as_ref().parse().map_err(|error| ListError { index, error })?;
            let seq = rule.seq.unwrap_or_else(|| last.saturating_add(5));
            match list.rules.binary_search_by_key(&Some(seq), |r| r.seq) {
                Ok(_) => {
                    let error = ParseError::new(1, format!("sequence number {seq} is used twice in list `{name}`"));
                    return Err(ListError { index, error });
                }
                Err(place) => {
                    rule.seq = Some(seq);
                    list.rules.insert(place, rule);
                }
            }
            last = last.max(seq);
        }
        Ok(list)
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules in the order they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that decides about `prefix`; `None`: no rule matches, so that it is denied.
    pub fn decide(&self, prefix: &Prefix) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(prefix))
    }

    /// Whether `prefix` may pass.
    pub fn permits(&self, prefix: &Prefix) -> bool {
        self.decide(prefix).is_some_and(|rule| rule.action == Action::Permit)
    }
}

/// The words of a rule with the columns they stand in.
struct Words<'a> {
    text: &'a str,
    /// Octets of `text` already read.
    at: usize,
}

/// One word and its column, counted in characters from 1.
struct Word<'a> {
    text: &'a str,
    column: usize,
}

impl<'a> Words<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn column(&self, at: usize) -> usize {
        self.text.get(..at).map_or(0, |before| before.chars().count()) + 1
    }

    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.text.get(self.at..)?;
        let start = self.at + rest.find(|c: char| !c.is_whitespace())?;
        let word = self.text.get(start..)?.split(char::is_whitespace).next()?;
        self.at = start + word.len();
        Some(Word { text: word, column: self.column(start) })
    }

    fn next_or(&mut self, expected: &str) -> Result<Word<'a>, ParseError> {
        let end = self.column(self.text.len());
        self.next().ok_or_else(|| ParseError::new(end, format!("expected {expected}, found the end of the rule")))
    }
}

impl Word<'_> {
    fn error(&self, reason: impl Into<String>) -> ParseError {
        ParseError::new(self.column, reason)
    }

    fn number(&self, what: &str, range: RangeInclusive<u32>) -> Result<u32, ParseError> {
        self.text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
            self.error(format!("`{}` is not {what} between {} and {}", self.text, range.start(), range.end()))
        })
    }

    fn prefix(&self) -> Result<Prefix, ParseError> {
        if let Ok(prefix) = self.text.parse::<Prefix>() {
            return Ok(prefix.trunc());
        }
        let hint = match self.text.parse::<std::net::IpAddr>() {
            Ok(address) => format!("`{address}` lacks its length: write {}", Prefix::from(address)),
            Err(_) => format!("`{}` is neither a prefix such as 192.0.2.0/24 nor `any`", self.text),
        };
        Err(self.error(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn first_match_wins_and_the_rest_is_denied() {
        let list = PrefixList::parse(
            "x",
            [
                "permit 0.0.0.0/0 ge 32",
                "permit ::/0 ge 128",
                "deny 192.0.2.0/24 le 28",
                "permit 192.0.0.0/8 ge 16 le 24",
            ],
        )
        .unwrap();
        let table = [
            ("192.0.2.1/32", true),
            ("2001:db8::1/128", true),
            ("2001:db8::/64", false),
            ("192.0.2.0/24", false),
            ("192.0.2.16/28", false),
            ("192.0.3.0/24", true),
            ("192.0.0.0/8", false),
            ("192.0.3.0/25", false),
            ("0.0.0.0/0", false),
        ];
        for (text, permitted) in table {
            assert_eq!(list.permits(&prefix(text)), permitted, "{text}");
        }
        assert!(!PrefixList::default().permits(&prefix("192.0.2.1/32")), "an empty list denies");
    }

    #[test]
    fn lengths_mean_what_they_mean_in_frr() {
        let table = [
            ("permit 0.0.0.0/0", "0.0.0.0/0", true),
            ("permit 0.0.0.0/0", "10.0.0.0/8", false),
            ("permit 10.0.0.0/8 le 24", "10.0.0.0/8", true),
            ("permit 10.0.0.0/8 le 24", "10.1.2.0/24", true),
            ("permit 10.0.0.0/8 le 24", "10.1.2.0/25", false),
            ("permit 10.0.0.0/8 ge 24", "10.1.0.0/16", false),
            ("permit 10.0.0.0/8 ge 24", "10.1.2.3/32", true),
            ("permit 10.0.0.0/8 ge 24", "11.1.2.3/32", false),
            ("permit 10.0.0.0/8 le 24 ge 16", "10.1.0.0/16", true),
            ("permit any", "2001:db8::/32", true),
            ("permit any", "10.0.0.0/8", true),
            ("permit 0.0.0.0/0 le 32", "::/0", false),
            ("permit 10.9.8.7/8", "10.0.0.0/8", true),
            ("deny any", "10.0.0.0/8", false),
        ];
        for (rule, text, permitted) in table {
            assert_eq!(PrefixList::parse("x", [rule]).unwrap().permits(&prefix(text)), permitted, "{rule} on {text}");
        }
    }

    #[test]
    fn sequence_numbers_order_the_rules() {
        let list =
            PrefixList::parse("x", ["permit any", "seq 20 deny any", "seq 2 deny 10.0.0.0/8", "deny ::/0"]).unwrap();
        let shown: Vec<_> = list.rules().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["seq 2 deny 10.0.0.0/8", "seq 5 permit any", "seq 20 deny any", "seq 25 deny ::/0"]);
        let twice = PrefixList::parse("x", ["permit any", "seq 5 deny any"]).unwrap_err();
        assert_eq!(twice.to_string(), "rule 2: column 1: sequence number 5 is used twice in list `x`");
    }

    #[test]
    fn every_error_says_where_and_what() {
        let table = [
            ("", 1, "expected `permit` or `deny`, found the end of the rule"),
            ("allow any", 1, "expected `permit` or `deny`, found `allow`"),
            ("seq x permit any", 5, "`x` is not a sequence number between 1 and 4294967295"),
            ("seq 0 permit any", 5, "`0` is not a sequence number between 1 and 4294967295"),
            ("permit", 7, "expected a prefix or `any`, found the end of the rule"),
            ("permit 10.0.0.0", 8, "`10.0.0.0` lacks its length: write 10.0.0.0/32"),
            ("permit 10.0.0/8", 8, "`10.0.0/8` is neither a prefix such as 192.0.2.0/24 nor `any`"),
            ("permit 10.0.0.0/33", 8, "`10.0.0.0/33` is neither a prefix such as 192.0.2.0/24 nor `any`"),
            ("permit 10.0.0.0/8 ge", 21, "expected a length after `ge`, found the end of the rule"),
            ("permit 10.0.0.0/8 ge 33", 22, "`33` is not a length between 0 and 32"),
            ("permit 10.0.0.0/8 ge 7", 22, "`ge 7` is shorter than the prefix itself (10.0.0.0/8)"),
            ("permit 10.0.0.0/8 le 7", 22, "`le 7` is shorter than the prefix itself (10.0.0.0/8)"),
            ("permit 10.0.0.0/8 ge 25 le 24", 28, "`ge 25` is longer than `le 24`: nothing would match"),
            ("permit 10.0.0.0/8 le 24 ge 25", 28, "`ge 25` is longer than `le 24`: nothing would match"),
            ("permit 10.0.0.0/8 le 24 le 25", 25, "`le` is given twice"),
            ("permit 10.0.0.0/8 eq 25", 19, "expected `ge`, `le` or the end, found `eq`"),
            ("permit any le 24", 12, "`any` takes neither `ge` nor `le`: write 0.0.0.0/0 or ::/0 instead of `any`"),
        ];
        for (text, column, reason) in table {
            let error = text.parse::<Rule>().expect_err(text);
            assert_eq!((error.column, error.reason.as_str()), (column, reason), "{text}");
        }
    }
}
