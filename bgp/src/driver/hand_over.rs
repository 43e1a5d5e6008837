//! The edge of [`crate::speaker::HandOver`]: sockets that stay open over an `exec`, and memory that a state is left in.
//!
//! ```text
//!   old process                                            new process, same PID
//!   Handle::hand_over ──▶ Leaving: state, open sockets      inherit ──▶ text of the state
//!   keep(text) ──▶ memory without a name                    Inheritance ──▶ spawn_heir ──▶ sessions that go on
//!   … exec; should that fail: drop, and all goes on
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use sha1::{Digest, Sha1};
use tokio::sync::oneshot;

use super::sockets;
use crate::speaker::{HandOver, PeerAddress};

/// How long sessions may take to finish what they are saying.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Begins a state that was kept.
const MAGIC: [u8; 8] = *b"BGPstate";
/// What is kept changes so that others cannot read it: another number.
pub const FORMAT: u32 = 1;
/// Longer than any state; a length beyond it is none.
const LONGEST: u64 = 1 << 32;

/// All sessions, about to go on in another process. Nothing is sent and nothing taken in as long as this is there; when it is dropped
/// everything goes on here.
#[derive(Debug)]
pub struct Leaving {
    /// What the other process has to know.
    pub state: HandOver,
    /// When this was so.
    pub at: Instant,
    sockets: Vec<OwnedFd>,
    _resume: oneshot::Sender<()>,
}

impl Leaving {
    pub(super) const fn new(state: HandOver, at: Instant, sockets: Vec<OwnedFd>, resume: oneshot::Sender<()>) -> Self {
        Self { state, at, sockets, _resume: resume }
    }

    /// Lets the sockets stay open over an `exec`.
    ///
    /// # Errors
    /// The system refuses, which leaves all of them to be closed.
    pub fn stay_open(&self) -> io::Result<()> {
        let all = self.sockets.iter().try_for_each(|socket| sockets::set_close_on_exec(socket, false));
        if all.is_err() {
            // Whoever is started now by somebody else is not to have them.
            let _ = self.sockets.iter().try_for_each(|socket| sockets::set_close_on_exec(socket, true));
        }
        all
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // They are duplicates, and closed with this; but not before everything goes on.
        let _ = self.sockets.iter().try_for_each(|socket| sockets::set_close_on_exec(socket, true));
    }
}

/// What a process before this one has left.
#[derive(Debug)]
pub struct Inheritance {
    /// What it knew.
    pub state: HandOver,
    /// When that was so.
    pub at: Instant,
}

/// What became of a session that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The peer.
    pub peer: PeerAddress,
    /// Its name, as in lists.
    pub neighbor: String,
    /// `Err`: why it does not go on.
    pub outcome: Result<(), String>,
}

/// Puts a text where the next process finds it by the number of the descriptor, which stays open over an `exec`.
///
/// # Errors
/// There is no memory, or the kernel has no memfd.
pub fn keep(text: &[u8]) -> io::Result<OwnedFd> {
    let memory = |flags| memfd_create(c"bgp-state", flags);
    // Where the sysctl vm.memfd_noexec is 2 it has to be said that this is no program; kernels before 6.3 do not know the word.
    let descriptor = memory(MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL))
        .or_else(|_| memory(MFdFlags::MFD_CLOEXEC))?;
    let mut file = File::from(descriptor);
    file.write_all(&header(text))?;
    file.write_all(text)?;
    file.seek(SeekFrom::Start(0))?;
    let descriptor = OwnedFd::from(file);
    sockets::set_close_on_exec(&descriptor, false)?;
    Ok(descriptor)
}

fn header(text: &[u8]) -> Vec<u8> {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_be_bytes());
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&Sha1::digest(text));
    header
}

/// The number by which the next process finds what was kept.
pub fn number_of(kept: &OwnedFd) -> RawFd {
    kept.as_raw_fd()
}

/// What the process before this one has kept under this number. To be asked for once, before anything else runs.
///
/// # Errors
/// It is not there, was cut off, or is of another format. Then call [`let_go`].
pub fn take(number: RawFd) -> io::Result<Vec<u8>> {
    let descriptor = sockets::inherited(number).ok_or_else(|| io::Error::other("there is no such descriptor"))?;
    read(File::from(descriptor))
}

fn read(mut file: impl Read) -> io::Result<Vec<u8>> {
    let (mut magic, mut format, mut length, mut digest) = ([0; 8], [0; 4], [0; 8], [0; 20]);
    file.read_exact(&mut magic)?;
    file.read_exact(&mut format)?;
    if magic != MAGIC {
        return Err(io::Error::other("this is no state of sessions"));
    }
    let format = u32::from_be_bytes(format);
    if format != FORMAT {
        return Err(io::Error::other(format!("it has format {format}, and this version reads {FORMAT}")));
    }
    file.read_exact(&mut length)?;
    file.read_exact(&mut digest)?;
    let length = u64::from_be_bytes(length);
    let mut text = Vec::new();
    file.take(length.min(LONGEST)).read_to_end(&mut text)?;
    if u64::try_from(text.len()) != Ok(length) || Sha1::digest(&text)[..] != digest {
        return Err(io::Error::other("it is damaged"));
    }
    Ok(text)
}

/// Closes every connection that the process before this one has left open, without a word. How many there were.
pub fn let_go() -> usize {
    sockets::inherited_connections().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_what_was_cut_or_changed_is_not() {
        let mut kept = header(b"the state");
        kept.extend_from_slice(b"the state");
        assert_eq!(read(&kept[..]).unwrap(), b"the state");
        for length in 0..kept.len() {
            assert!(read(&kept[..length]).is_err(), "{length} octets of it");
        }
        for at in 0..kept.len() {
            let mut other = kept.clone();
            other[at] ^= 1;
            assert!(read(&other[..]).is_err(), "octet {at}");
        }
        let mut later = kept.clone();
        later[11] = 2;
        assert!(read(&later[..]).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn a_descriptor_is_taken_once_and_only_if_it_was_left_open() {
        let kept = keep(b"the state").unwrap();
        let number = number_of(&kept);
        sockets::set_close_on_exec(&kept, true).unwrap();
        assert!(take(number).is_err(), "this process has opened it itself");
        sockets::set_close_on_exec(&kept, false).unwrap();
        // Nobody owns it any more, as after an exec.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(kept);
        assert_eq!(take(number).unwrap(), b"the state");
        assert!(take(number).is_err());
    }
}
