//! What is wrong with a file, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole line or file is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A fault of a file as a whole: it cannot be read.
    pub fn of_file(file: &Path, message: String) -> Self {
        Self { severity: Severity::Error, file: file.to_owned(), line: 0, column: 0, message, hint: None }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: message`, the hint on its own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if self.column > 0 {
            write!(f, "{}:", self.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used: every fault found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", display_all(.0))]
pub struct Problems(pub Vec<Problem>);

fn display_all(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Turns byte offsets into lines and columns.
pub(super) struct Lines {
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts }
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    pub(super) fn position(&self, text: &str, span: &Range<usize>) -> (usize, usize) {
        let at = span.start.min(text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = text.get(start..at).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}

/// The name nearest to `wrong`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).max(1) + 1;
    names
        .into_iter()
        .map(|name| (edit_distance(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance, with a swap of neighbours counted as one (the commonest slip of the fingers).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_char = None;
    for (i, ca) in a.chars().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        let mut left = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = last.get(j + 1).copied().unwrap_or(usize::MAX);
            let diagonal = last.get(j).copied().unwrap_or(usize::MAX);
            let mut best = (diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1);
            let swapped = j > 0 && previous_char == Some(*cb) && b.get(j - 1) == Some(&ca);
            if let Some(two_back) = before.get(j.wrapping_sub(1)).filter(|_| swapped) {
                best = best.min(two_back + 1);
            }
            row.push(best);
            left = best;
        }
        before = std::mem::replace(&mut last, row);
        previous_char = Some(ca);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("hold_tme", "hold_time", 1),
            ("hodl_time", "hold_time", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["uplink", "downlink", "asn"];
        assert_eq!(nearest("uplnk", names), Some("uplink"));
        assert_eq!(nearest("upilnk", names), Some("uplink"));
        assert_eq!(nearest("ans", names), Some("asn"));
        assert_eq!(nearest("something", names), None);
        assert_eq!(nearest("x", names), None);
    }

    #[test]
    fn columns_count_characters() {
        let text = "a\n  é = 1\n";
        let lines = Lines::new(text);
        assert_eq!(lines.position(text, &(0..1)), (1, 1));
        assert_eq!(lines.position(text, &(7..8)), (2, 5));
        assert_eq!(lines.position(text, &(900..901)), (3, 1));
    }
}
