//! The edge of a recording: a file and a clock.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use crate::desired::Desired;
use crate::record::{Effects, Entry, Line, Told};

/// A recording that is being written. Secrets are not in it; the names and addresses of a cloud are: the file is for the owner only.
pub(super) struct Recorder {
    file: BufWriter<File>,
    begun: Instant,
    told: Told,
    /// Said once: a full disk must not stop the daemon.
    failed: bool,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self { file: BufWriter::new(file), begun: Instant::now(), told: Told::default(), failed: false })
    }

    pub(super) fn write(&mut self, entry: Entry) {
        if self.failed {
            return;
        }
        let line = Line { at: self.begun.elapsed().as_secs_f64(), entry };
        let written = serde_json::to_string(&line)
            .map_err(io::Error::other)
            .and_then(|text| writeln!(self.file, "{text}"))
            .and_then(|()| self.file.flush());
        if let Err(error) = written {
            self.failed = true;
            tracing::error!(%error, "the recording ends here");
        }
    }

    pub(super) fn effects(&mut self, desired: &Desired) {
        let effects = self.told.effects(desired);
        if effects != Effects::default() {
            self.write(Entry::Effects(effects));
        }
    }
}
