//! Where learned routes stand, remembered across a restart: their protocol is that of other speakers' routes too, so a table or
//! metric that is no longer configured could not be told from somebody else's.
//!
//! The file lies beside the control socket, below /run: it goes with a reboot, as the kernel's routes do. Without it nothing is lost
//! but that memory.

use std::path::{Path, PathBuf};

use crate::actuate::fib::FibSettings;

/// One line for each place: table and metric.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    written: Option<Vec<FibSettings>>,
}

impl Memory {
    /// Beside the control socket.
    pub(super) fn beside(socket: &Path) -> Self {
        Self { file: socket.with_extension("fib"), written: None }
    }

    /// The places of the former run; lines that make no sense are none.
    pub(super) fn read(&self) -> Vec<FibSettings> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (table, metric) = line.split_once(' ')?;
                let (table, metric) = (table.parse().ok()?, metric.parse().ok()?);
                Some(FibSettings { table, metric, ..FibSettings::default() })
            })
            .collect()
    }

    /// Remembers these places, in one piece.
    pub(super) fn write(&mut self, places: Vec<FibSettings>) {
        if self.written.as_ref() == Some(&places) {
            return;
        }
        let lines: Vec<String> = places.iter().map(|place| format!("{} {}\n", place.table, place.metric)).collect();
        let part = self.file.with_extension("fib.new");
        if let Err(error) = std::fs::write(&part, lines.concat()).and_then(|()| std::fs::rename(&part, &self.file)) {
            tracing::warn!(
                %error,
                file = %self.file.display(),
                "cannot remember where learned routes are; change [fib] table or metric by reload, not across a restart"
            );
        }
        self.written = Some(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ovn-bgpd.sock");
        let mut memory = Memory::beside(&socket);
        assert_eq!(memory.read(), [], "the first run");
        let places = vec![FibSettings::default(), FibSettings { table: 100, metric: 7, ..FibSettings::default() }];
        memory.write(places.clone());
        assert_eq!(Memory::beside(&socket).read(), places);
        memory.write(Vec::new());
        assert_eq!(Memory::beside(&socket).read(), []);
    }

    #[test]
    fn nonsense_in_the_file_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s.sock");
        std::fs::write(socket.with_extension("fib"), "254\n254 20\n-1 4\nx y\n254 20 3\n").unwrap();
        assert_eq!(Memory::beside(&socket).read(), [FibSettings::default()]);
    }
}
