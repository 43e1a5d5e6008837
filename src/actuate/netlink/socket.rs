//! The request sockets: batches of requests with one answer each, and dumps.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::wire::{self, Frame, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Request};

/// Requests in flight at a time: their acknowledgements fit the smallest receive buffer, their bytes the smallest send buffer.
const BATCH: usize = 128;
/// The kernel answers at once; silence for this long means the answer is lost.
const TIME_OUT_SECONDS: i64 = 5;
/// Wanted socket buffers, beyond the system's limit when we may.
const RECEIVE_BUFFER: usize = 8 << 20;
const SEND_BUFFER: usize = 1 << 20;
/// The kernel sends dumps in datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// A dump that changes under our hands is repeated this often.
const DUMP_ATTEMPTS: usize = 20;

/// The kernel's answer to one request.
pub(crate) type Answer = Result<(), Refused>;

/// The kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", io::Error::from_raw_os_error(*errno), text.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
pub(crate) struct Refused {
    /// Error number.
    pub(crate) errno: i32,
    /// The kernel's explanation, if it gave one.
    pub(crate) text: Option<String>,
}

/// A netlink socket for requests or dumps. After an error of the socket itself it is useless; open another.
pub(crate) struct RequestSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Binds a socket to a port of the kernel's choice, and gives it big buffers.
pub(crate) fn prepare(socket: &mut Socket) -> io::Result<u32> {
    // Forcing needs CAP_NET_ADMIN, which every use but looking around needs as well.
    let _ = setsockopt(&*socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    let _ = setsockopt(&*socket, sockopt::SndBufForce, &SEND_BUFFER);
    Ok(socket.bind_auto()?.port_number())
}

impl RequestSocket {
    /// Opens a socket for requests.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = prepare(&mut socket)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(TIME_OUT_SECONDS))?;
        // Both are missing in kernels before 4.12 only; answers are merely less telling there.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, port, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Opens a socket for dumps that the kernel filters (kernel 4.20).
    pub(crate) fn open_strict() -> io::Result<Self> {
        let this = Self::open()?;
        this.socket.set_netlink_get_strict_chk(true)?;
        Ok(this)
    }

    /// Our port: notifications about what we did ourselves carry it.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Executes the requests in order. One that is refused does not stop the others; the answers stand in the same order.
    pub(crate) fn execute(&mut self, requests: &[Request]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            self.execute_batch(batch, &mut answers)?;
        }
        Ok(answers)
    }

    fn execute_batch(&mut self, batch: &[Request], answers: &mut Vec<Answer>) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(batch.len() * 96);
        for request in batch {
            self.sequence = self.sequence.wrapping_add(1);
            request.write(self.sequence, NLM_F_ACK, &mut bytes);
        }
        self.socket.send(&bytes, 0)?;
        let mut received: HashMap<u32, Answer> = HashMap::with_capacity(batch.len());
        while received.len() < batch.len() {
            for frame in wire::frames(answered(&self.socket, &mut self.buffer)?) {
                let ours = usize::try_from(frame.sequence.wrapping_sub(first)).is_ok_and(|index| index < batch.len());
                if frame.kind == NLMSG_ERROR && ours {
                    received.insert(frame.sequence, answer(&frame));
                }
            }
        }
        answers.extend((0..batch.len()).map(|index| {
            let sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
            received.remove(&sequence).unwrap_or(Err(Refused { errno: libc::EPROTO, text: None }))
        }));
        Ok(())
    }

    /// Runs a dump and collects what `each` makes of its messages. Repeated when it changed while it was read.
    ///
    /// A filtered dump of a table that does not exist is empty.
    pub(crate) fn dump<T>(&mut self, request: &Request, each: impl Fn(&Frame<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        whole(|found| self.dump_once(request, &each, found))
    }

    /// Whether the dump was consistent.
    fn dump_once<T>(
        &mut self,
        request: &Request,
        each: &impl Fn(&Frame<'_>) -> Option<T>,
        found: &mut Vec<T>,
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        request.write(self.sequence, NLM_F_DUMP, &mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut consistent = true;
        loop {
            for frame in wire::frames(answered(&self.socket, &mut self.buffer)?) {
                if frame.sequence != self.sequence {
                    continue;
                }
                consistent &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match answer(&frame) {
                            Err(refused) if refused.errno != libc::ENOENT => Err(io::Error::other(refused)),
                            _ => Ok(consistent),
                        };
                    }
                    _ => found.extend(each(&frame)),
                }
            }
        }
    }
}

/// What `read` finds once nothing has changed meanwhile, which is what it answers.
///
/// An error on a machine where something always does: from such a dump things may be missing that have been there all the time, and
/// a bridge or an address that is not seen is taken for gone.
fn whole<T>(mut read: impl FnMut(&mut Vec<T>) -> io::Result<bool>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for _ in 0..DUMP_ATTEMPTS {
        found.clear();
        if read(&mut found)? {
            return Ok(found);
        }
    }
    let text = format!("what the kernel has changed {DUMP_ATTEMPTS} times while it was read");
    Err(io::Error::new(io::ErrorKind::Interrupted, text))
}

fn answer(frame: &Frame<'_>) -> Answer {
    match wire::acknowledgement(frame) {
        (0, _) => Ok(()),
        (errno, text) => Err(Refused { errno, text }),
    }
}

/// Reads one datagram of answers, which the kernel has put there while it handled the request.
fn answered<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let text = format!("no answer from the kernel within {TIME_OUT_SECONDS} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_that_never_was_whole_is_none() {
        let mut consistent = [false, false, true].into_iter();
        let mut read = |found: &mut Vec<usize>| {
            found.push(consistent.len());
            Ok(consistent.next().unwrap_or(false))
        };
        assert_eq!(whole(&mut read).unwrap(), [1], "only the last attempt counts");
        assert_eq!(whole(&mut read).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
