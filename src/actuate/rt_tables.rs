//! The routing table of a bridge: its id stands in iproute2's `rt_tables` under the name of the bridge.
//!
//! The file is shared with the operator and with iproute2, so an entry that is there wins; a new one gets an id that neither
//! the files nor the kernel use.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Ids a bridge may get: what fits the eight bits of old tools, without unspec (0), default (253), main (254), local (255).
const CHOICE: std::ops::RangeInclusive<u32> = 1..=252;

/// Where the names of routing tables are kept.
#[derive(Clone, Debug)]
pub struct RtTables {
    /// Read and appended to; made when missing.
    pub file: PathBuf,
    /// Read as well, as iproute2 does: the distribution's file, used while `file` does not exist.
    pub fallback: PathBuf,
    /// Read as well: a directory of `*.conf` files.
    pub directory: PathBuf,
}

impl Default for RtTables {
    fn default() -> Self {
        Self {
            file: "/etc/iproute2/rt_tables".into(),
            fallback: "/usr/share/iproute2/rt_tables".into(),
            directory: "/etc/iproute2/rt_tables.d".into(),
        }
    }
}

/// No table for the bridge.
#[derive(Debug, thiserror::Error)]
pub enum RtTablesError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// All ids are taken.
    #[error("no routing table id between 1 and 252 is free for bridge {0}; remove unused entries from rt_tables")]
    Exhausted(String),
}

impl RtTables {
    /// The id that stands in the files for the bridge.
    pub fn find(&self, bridge: &str) -> Result<Option<u32>, RtTablesError> {
        Ok(find(&self.read()?, bridge))
    }

    /// The id of the bridge's table: the one in the files, or a free one which is appended. `in_use` are tables the kernel knows
    /// or the configuration reserves.
    pub fn find_or_choose(&self, bridge: &str, in_use: &BTreeSet<u32>) -> Result<u32, RtTablesError> {
        let text = self.read()?;
        if let Some(id) = find(&text, bridge) {
            return Ok(id);
        }
        let id = choose(&text, in_use).ok_or_else(|| RtTablesError::Exhausted(bridge.to_owned()))?;
        self.append(id, bridge).map_err(|source| RtTablesError::Io { path: self.file.clone(), source })?;
        Ok(id)
    }

    /// All files' lines; a file that does not exist has none.
    fn read(&self) -> Result<String, RtTablesError> {
        let mut text = match read_if_there(&self.file)? {
            Some(text) => text,
            None => read_if_there(&self.fallback)?.unwrap_or_default(),
        };
        let cannot = |source| RtTablesError::Io { path: self.directory.clone(), source };
        let mut extra: Vec<PathBuf> = match fs::read_dir(&self.directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(cannot)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            // A directory that cannot be read may name the table a bridge has: no reason to choose another one.
            Err(error) => return Err(cannot(error)),
        };
        extra.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        extra.sort();
        for path in extra {
            text.push('\n');
            text.push_str(&read_if_there(&path)?.unwrap_or_default());
        }
        Ok(text)
    }

    /// Appends the line with one write, so that others who append at the same time lose nothing.
    fn append(&self, id: u32, bridge: &str) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        if !self.file.exists() {
            // From now on iproute2 reads this file instead of the distribution's: begin with what that one says.
            let inherited = fs::read_to_string(&self.fallback).unwrap_or_default();
            let fresh = self.file.with_extension("new");
            fs::write(&fresh, inherited)?;
            fs::rename(&fresh, &self.file)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&self.file)?;
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let separator = if last == [b'\n'] { "" } else { "\n" };
        file.write_all(format!("{separator}{id} {bridge}\n").as_bytes())
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, RtTablesError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RtTablesError::Io { path: path.to_owned(), source }),
    }
}

/// The entries: decimal or hexadecimal id, blanks, name. Comments and lines that make no sense are skipped, as by iproute2.
fn entries(text: &str) -> impl Iterator<Item = (u32, &str)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let id = words.next()?;
        let id = match id.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => id.parse().ok()?,
        };
        Some((id, words.next()?))
    })
}

/// The first entry of that name.
fn find(text: &str, bridge: &str) -> Option<u32> {
    entries(text).find(|(id, name)| *name == bridge && *id != 0).map(|(id, _)| id)
}

/// The lowest free id.
fn choose(text: &str, in_use: &BTreeSet<u32>) -> Option<u32> {
    let named: BTreeSet<u32> = entries(text).map(|(id, _)| id).collect();
    CHOICE.into_iter().find(|id| !named.contains(id) && !in_use.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str =
        "#\n# reserved values\n#\n255\tlocal\n254\tmain\n253\tdefault\n0\tunspec\n#\n# local\n#\n#1\tinr.ruhep\n";

    fn at(root: &Path) -> RtTables {
        RtTables {
            file: root.join("etc/iproute2/rt_tables"),
            fallback: root.join("usr/rt_tables"),
            directory: root.join("etc/iproute2/rt_tables.d"),
        }
    }

    #[test]
    fn an_entry_that_is_there_wins_and_the_first_one_counts() {
        assert_eq!(find("10 br-ex\n11 br-ex\n", "br-ex"), Some(10));
        assert_eq!(find("0x1f\tbr-ex # ours\n", "br-ex"), Some(31));
        assert_eq!(find("#10 br-ex\n", "br-ex"), None);
        assert_eq!(find("10 br-ex2\n", "br-ex"), None);
    }

    #[test]
    fn a_new_id_avoids_the_files_the_kernel_and_the_reserved_ones() {
        assert_eq!(choose(DEBIAN, &BTreeSet::new()), Some(1));
        assert_eq!(choose("1 a\n2 b\n", &[3, 4].into()), Some(5));
        let full: BTreeSet<u32> = (1..=252).collect();
        assert_eq!(choose(DEBIAN, &full), None, "253 to 255 are not ours to take");
    }

    #[test]
    fn the_file_is_made_with_what_the_distribution_says() {
        let root = tempfile::tempdir().unwrap();
        let tables = at(root.path());
        fs::create_dir_all(root.path().join("usr")).unwrap();
        fs::write(&tables.fallback, DEBIAN).unwrap();
        assert_eq!(tables.find("br-ex").unwrap(), None);
        assert_eq!(tables.find_or_choose("br-ex", &[1].into()).unwrap(), 2);
        assert_eq!(tables.find_or_choose("br-vlan", &BTreeSet::new()).unwrap(), 1);
        assert_eq!(tables.find_or_choose("br-ex", &[2].into()).unwrap(), 2, "the same again");
        assert_eq!(fs::read_to_string(&tables.file).unwrap(), format!("{DEBIAN}2 br-ex\n1 br-vlan\n"));
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_no_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let tables = at(root.path());
        fs::create_dir_all(root.path().join("etc/iproute2")).unwrap();
        fs::write(&tables.file, DEBIAN).unwrap();
        fs::write(&tables.directory, "a file").unwrap();
        assert!(tables.find_or_choose("br-ex", &BTreeSet::new()).is_err());
        assert_eq!(fs::read_to_string(&tables.file).unwrap(), DEBIAN, "no table was chosen");
    }

    #[test]
    fn appending_keeps_a_last_line_without_end_and_the_directory_counts() {
        let root = tempfile::tempdir().unwrap();
        let tables = at(root.path());
        fs::create_dir_all(&tables.directory).unwrap();
        fs::write(&tables.file, "1 mine").unwrap();
        fs::write(tables.directory.join("vrf.conf"), "2 red\n").unwrap();
        fs::write(tables.directory.join("README"), "3 nothing\n").unwrap();
        assert_eq!(tables.find_or_choose("br-ex", &BTreeSet::new()).unwrap(), 3);
        assert_eq!(fs::read_to_string(&tables.file).unwrap(), "1 mine\n3 br-ex\n");
    }
}
