//! TOML → validated values. Every problem with file, line, column and, where there is one, a hint.
//!
//! ```text
//! file ── toml ─▶ spanned tree ─┬─ read ─▶ Options, tables ── check ─▶ Config      (pure: `parse`)
//!                               └─ every fault, in the order of the file
//! Config ── password files, prefix files ─▶ Config                                 (`load`: reads the disk)
//! ```
//!
//! | file | what it is for |
//! |---|---|
//! | `model.rs` | the values |
//! | `read.rs` | a TOML table being read: types, ranges, unknown keys |
//! | `options.rs` | what a peer group and a neighbour have in common |
//! | `speaker.rs`, `sections.rs` | one function a table |
//! | `files.rs` | the files a configuration names |
//! | `problem.rs` | what is wrong, and where; the nearest name |
//! | `duration.rs` | `"300ms"` |

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

pub mod duration;
mod export;
mod files;
mod model;
mod options;
mod problem;
mod read;
mod sections;
mod speaker;

pub use files::{parse_prefixes, read_prefix_files};
pub use model::{
    Advertise, Api, BfdAuthentication, BfdKey, BfdProfile, Bgp, Config, DEFAULT_SOCKET, Fib, ListenRange, Monitor,
    Neighbor, NeighborBfd, Ovn, Tls, Wiring,
};
pub use problem::{Problem, Problems, Severity};

use read::{Doc, Table};

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration; none if there is an error among the problems.
    pub config: Option<Config>,
    /// Everything found wrong, in the order of the file, errors and warnings.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// The configuration and its warnings.
    ///
    /// # Errors
    /// Every problem, if one of them is an error.
    pub fn into_result(self) -> Result<(Config, Vec<Problem>), Problems> {
        match self.config {
            Some(config) if !self.problems.iter().any(Problem::is_error) => Ok((config, self.problems)),
            _ => Err(Problems(self.problems)),
        }
    }
}

/// Reads a configuration file and the files it names.
pub fn load(file: &Path) -> Outcome {
    let text = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem = Problem::of_file(file, format!("cannot be read: {error}"));
            return Outcome { config: None, problems: vec![problem] };
        }
    };
    let Ok(text) = String::from_utf8(text) else {
        let problem = Problem::of_file(file, "is not UTF-8 text".to_owned());
        return Outcome { config: None, problems: vec![problem] };
    };
    let mut outcome = parse(&text, file);
    if let Some(config) = &mut outcome.config {
        outcome.problems.extend(files::open_passwords(file, config));
        files::read_named(config, &mut outcome.problems);
    }
    if outcome.problems.iter().any(Problem::is_error) {
        outcome.config = None;
    }
    outcome
}

/// Understands the text of a configuration file; the files it names are not read. `file` is for the messages, and relative paths
/// start at its directory.
pub fn parse(text: &str, file: &Path) -> Outcome {
    let doc = Doc::new(file, text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        syntax(&doc, text, &errors);
        // What the parser made of a broken file would give errors about things the operator did not write.
        return Outcome { config: None, problems: doc.into_problems() };
    }
    let mut root = Table::new(tree.get_ref(), 0..0, "");
    let config = sections::root(&mut root, &doc, file);
    root.finish(&doc);
    let problems = doc.into_problems();
    let config = config.filter(|_| !problems.iter().any(Problem::is_error));
    Outcome { config, problems }
}

/// What the parser complains of. Of each line the first, whose echoes the others are.
fn syntax(doc: &Doc<'_>, text: &str, errors: &[toml::de::Error]) {
    // Begins the messages of what the parser makes of a text without quotation marks.
    const UNQUOTED: [&str; 5] =
        ["invalid float", "invalid integer", "invalid datetime", "invalid boolean", "string values must be quoted"];
    let mut lines = BTreeSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let before = text.get(..span.start).unwrap_or_default();
        if !lines.insert(before.matches('\n').count()) {
            continue;
        }
        // Only the message and the name of a key: the rest of the error quotes the line, which may hold a password.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let key = text.get(span.clone()).filter(|key| !key.is_empty() && key.chars().all(name));
        match key {
            Some(key) if message == "duplicate key" => {
                doc.error_hint(&span, format!("duplicate key '{key}'"), "it is there already, further up");
            }
            _ if UNQUOTED.iter().any(|begin| message.starts_with(begin)) => {
                doc.error_hint(
                    &span,
                    message,
                    "words, addresses and prefixes stand in quotation marks: \"192.0.2.1/32\"",
                );
            }
            _ => doc.error(&span, message),
        }
    }
}

#[cfg(test)]
mod tests;
