//! One daemon a network namespace: two that wire, or install learned routes, would each take away what the other makes.
//!
//! The lock is a listening socket with an abstract name: the kernel keeps those per network namespace, gives the name back when
//! the process ends in whatever way, and tells who holds it. Nobody ever accepts on it. A plain speaker needs no lock.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket, sockopt,
};

use crate::config::Config;

/// What only one daemon in a network namespace may do.
#[derive(Debug)]
pub(super) struct Locks {
    _wiring: Option<UnixListener>,
    fib: Option<UnixListener>,
}

/// Why it may not be this one.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another one does it.
    #[error(
        "another daemon{} already {does} in this network namespace, and each would remove what the other makes; \
         stop it, or leave {section} out of this configuration",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// Its process, if it can be seen from here.
        pid: Option<i32>,
        does: &'static str,
        section: &'static str,
    },
    /// The kernel refuses.
    #[error("cannot make sure that no other daemon {does} in this network namespace: {error}")]
    Failed { does: &'static str, error: io::Error },
}

/// One kind of work with its lock.
struct Work {
    name: &'static str,
    does: &'static str,
    section: &'static str,
}

const WIRING: Work = Work { name: "ovn-bgpd/wiring", does: "wires addresses", section: "[ovn]" };
const FIB: Work = Work { name: "ovn-bgpd/fib", does: "installs learned routes", section: "[fib] install" };

impl Locks {
    /// Takes what the configuration needs.
    pub(super) fn take(config: &Config) -> Result<Self, LockError> {
        Ok(Self {
            _wiring: config.ovn.as_ref().map(|_| WIRING.lock()).transpose()?.flatten(),
            fib: config.fib.install.as_ref().map(|_| FIB.lock()).transpose()?.flatten(),
        })
    }

    /// Takes what a reloaded configuration needs in addition. Whether there is an `[ovn]` section is read once.
    pub(super) fn extend(&mut self, config: &Config) -> Result<(), LockError> {
        if config.fib.install.is_some() && self.fib.is_none() {
            self.fib = FIB.lock()?;
        }
        Ok(())
    }

    /// Gives back what it no longer needs.
    pub(super) fn shrink(&mut self, config: &Config) {
        if config.fib.install.is_none() {
            self.fib = None;
        }
    }
}

impl Work {
    /// `None`: the name is taken by somebody who is neither root nor our user. Any user can take it, and nobody who may not change
    /// routes shall keep us from it.
    fn lock(&self) -> Result<Option<UnixListener>, LockError> {
        let failed = |error| LockError::Failed { does: self.does, error };
        let address = SocketAddr::from_abstract_name(self.name).map_err(failed)?;
        let held = |pid| Err(LockError::Held { pid, does: self.does, section: self.section });
        for _ in 0..ATTEMPTS {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Some(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            let holder = match holder(self.name) {
                Ok(holder) => holder,
                // It has just ended.
                Err(Errno::ECONNREFUSED) => continue,
                Err(Errno::EAGAIN) => return held(None),
                Err(error) => return Err(failed(error.into())),
            };
            if [0, nix::unistd::geteuid().as_raw()].contains(&holder.uid()) {
                return held(Some(holder.pid()).filter(|pid| *pid > 0));
            }
            tracing::warn!(
                pid = holder.pid(),
                user = holder.uid(),
                name = self.name,
                "a process that is no daemon of ours has taken the name of the lock; going on without it"
            );
            return Ok(None);
        }
        held(None)
    }
}

/// Who listens at an abstract name. Not blocking: those who asked before stay in the queue, which may be full (EAGAIN).
fn holder(name: &str) -> nix::Result<UnixCredentials> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    getsockopt(&socket, sockopt::PeerCredentials)
}

/// The holder may end between two looks, and another one come.
const ATTEMPTS: usize = 8;
