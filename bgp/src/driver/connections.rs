//! Connections: reading with fairness, writing what is pulled from the speaker, closing without losing the last words.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use super::sockets;
use crate::speaker::ConnId;

/// Read from one connection before the others have their turn; also the most that is written at once.
pub(super) const TURN: usize = 65536;
/// How long the last words may take.
const LINGER: Duration = Duration::from_secs(1);

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Happened {
    Connected {
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
    },
    Received {
        conn: ConnId,
        bytes: Bytes,
    },
    Lost {
        conn: ConnId,
        why: String,
    },
    /// Everything that waited was written.
    Writable(ConnId),
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    connecting: bool,
    /// What the socket did not take yet: at most one turn.
    unsent: BytesMut,
    /// The speaker has more to say.
    more: bool,
}

/// A connection that only has its last words to say.
#[derive(Debug)]
struct Leaving {
    stream: TcpStream,
    unsent: BytesMut,
    until: Instant,
    /// The other side knows that nothing follows.
    finished: bool,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    known: BTreeMap<ConnId, Connection>,
    leaving: Vec<Leaving>,
    /// Where octets are read to first.
    buffer: Vec<u8>,
}

impl Connections {
    /// A connection that is being made.
    pub(super) fn dialled(&mut self, conn: ConnId, stream: TcpStream) {
        self.add(conn, stream, true);
    }

    /// A connection that came in.
    pub(super) fn accepted(&mut self, conn: ConnId, stream: TcpStream) {
        self.add(conn, stream, false);
    }

    fn add(&mut self, conn: ConnId, stream: TcpStream, connecting: bool) {
        self.known.insert(conn, Connection { stream, connecting, unsent: BytesMut::new(), more: false });
    }

    /// The speaker has something to say on this connection. Whether it can be said now.
    pub(super) fn has_more(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.known.get_mut(&conn) else { return false };
        connection.more = true;
        connection.unsent.is_empty() && !connection.connecting
    }

    /// Writes until the socket is full or the speaker has nothing left. `pull` appends messages.
    pub(super) fn write(&mut self, conn: ConnId, mut pull: impl FnMut(&mut BytesMut)) -> Result<(), String> {
        let Some(connection) = self.known.get_mut(&conn) else { return Ok(()) };
        loop {
            if connection.unsent.is_empty() {
                pull(&mut connection.unsent);
                if connection.unsent.is_empty() {
                    connection.more = false;
                    return Ok(());
                }
            }
            match connection.stream.try_write(&connection.unsent) {
                Ok(written) => connection.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(describe(&error)),
            }
        }
    }

    /// Says the last words and closes, in the background. `address_gone`: from an address that is not ours any more.
    pub(super) fn close(&mut self, now: Instant, conn: ConnId, last: &[u8], address_gone: bool) {
        let Some(Connection { stream, connecting, mut unsent, .. }) = self.known.remove(&conn) else { return };
        if connecting {
            return;
        }
        if address_gone {
            let ipv6 = stream.local_addr().is_ok_and(|local| local.is_ipv6());
            if let Err(error) = sockets::send_from_lost_address(&stream, ipv6) {
                tracing::warn!(%error, "a neighbor cannot be told that our address is gone; its hold timer will tell it");
            }
        }
        unsent.extend_from_slice(last);
        let mut leaving = Leaving { stream, unsent, until: now + LINGER, finished: false };
        if leaving.say() {
            self.leaving.push(leaving);
        }
    }

    /// Drops a connection that is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.known.remove(&conn);
    }

    /// Whether everything written on this connection was acknowledged.
    pub(super) fn acknowledged(&self) -> Vec<ConnId> {
        let quiet = |(conn, c): (&ConnId, &Connection)| {
            let acknowledged =
                !c.connecting && c.unsent.is_empty() && matches!(sockets::unacknowledged(c.stream.as_fd()), Ok(0));
            acknowledged.then_some(*conn)
        };
        self.known.iter().filter_map(quiet).collect()
    }

    /// Whether nothing waits to be written.
    pub(super) fn all_sent(&self) -> bool {
        self.known.values().all(|connection| connection.unsent.is_empty())
    }

    /// The socket of a connection once more, for another process. Not of one in the middle of a message.
    pub(super) fn duplicate(&self, conn: ConnId) -> Result<OwnedFd, String> {
        let connection = self.known.get(&conn).ok_or("it has no connection")?;
        if !connection.unsent.is_empty() {
            return Err("it has not taken what it was told".to_owned());
        }
        connection.stream.as_fd().try_clone_to_owned().map_err(|error| format!("its socket cannot be kept: {error}"))
    }

    /// Whether all last words are said.
    pub(super) fn all_said(&self) -> bool {
        self.leaving.is_empty()
    }

    /// When [`Connections::expire`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|l| l.until).min()
    }

    /// Gives up on last words that nobody takes.
    pub(super) fn expire(&mut self, now: Instant) {
        self.leaving.retain(|l| l.until > now);
    }

    /// Collects what happened, one turn for each connection.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, happened: &mut Vec<Happened>) -> Poll<()> {
        self.buffer.resize(TURN, 0);
        for (conn, connection) in &mut self.known {
            if connection.connecting {
                connection.poll_connect(*conn, context, happened);
            } else {
                connection.poll_read(*conn, context, &mut self.buffer, happened);
                connection.poll_write(*conn, context, happened);
            }
        }
        let buffer = &mut self.buffer;
        let before = self.leaving.len();
        self.leaving.retain_mut(|l| l.poll(context, buffer));
        if happened.is_empty() && self.leaving.len() == before { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Connection {
    fn poll_connect(&mut self, conn: ConnId, context: &mut Context<'_>, happened: &mut Vec<Happened>) {
        let Poll::Ready(ready) = self.stream.poll_write_ready(context) else { return };
        let done = ready.and_then(|()| match self.stream.take_error()? {
            Some(error) => Err(error),
            None => Ok((self.stream.local_addr()?, self.stream.peer_addr()?)),
        });
        self.connecting = false;
        happened.push(match done {
            Ok((local, remote)) => Happened::Connected { conn, local, remote },
            Err(error) => Happened::Lost { conn, why: format!("connecting failed: {}", describe(&error)) },
        });
    }

    fn poll_read(&mut self, conn: ConnId, context: &mut Context<'_>, buffer: &mut [u8], happened: &mut Vec<Happened>) {
        // A read that would block clears the readiness; only the poll after it registers the waker.
        while let Poll::Ready(ready) = self.stream.poll_read_ready(context) {
            let why = match ready.and_then(|()| self.stream.try_read(buffer)) {
                Ok(0) => "the peer closed the connection".to_owned(),
                Ok(length) => {
                    let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                    return happened.push(Happened::Received { conn, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => describe(&error),
            };
            return happened.push(Happened::Lost { conn, why });
        }
    }

    fn poll_write(&mut self, conn: ConnId, context: &mut Context<'_>, happened: &mut Vec<Happened>) {
        while !self.unsent.is_empty() {
            let Poll::Ready(ready) = self.stream.poll_write_ready(context) else { return };
            match ready.and_then(|()| self.stream.try_write(&self.unsent)) {
                Ok(written) => self.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return happened.push(Happened::Lost { conn, why: describe(&error) }),
            }
        }
        if self.more {
            happened.push(Happened::Writable(conn));
        }
    }
}

impl Leaving {
    /// Writes what is left, then says that nothing follows. Whether there is still something to wait for.
    fn say(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.try_write(&self.unsent) {
                Ok(written) => self.unsent.advance(written),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        if !self.finished {
            self.finished = true;
            // Closing with unread octets would reset the connection, and the peer might never read the NOTIFICATION.
            return socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write).is_ok();
        }
        true
    }

    fn poll(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.poll_write_ready(context) {
                Poll::Ready(Ok(())) => {
                    if !self.say() {
                        return false;
                    }
                }
                Poll::Ready(Err(_)) => return false,
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(ready) = self.stream.poll_read_ready(context) {
            match ready.and_then(|()| self.stream.try_read(buffer)) {
                Ok(0) => return false,
                // One turn, as for the others: who sends without end must not hold them up, nor outlast its time.
                Ok(_) => {
                    context.waker().wake_by_ref();
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// What the system said, in the words operators know.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nobody listens there".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by the peer".to_owned(),
        io::ErrorKind::TimedOut => "the peer does not answer (timed out)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_is_sent_away_and_goes_on_sending_has_one_turn_like_everybody() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1 << 20).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let chunk = vec![0; 8 * TURN];
        let mut sent = 0;
        while sent < 3 * TURN {
            sender.writable().await.unwrap();
            sent += sender.try_write(&chunk).unwrap_or(0);
        }
        let until = Instant::now() + LINGER;
        let mut leaving = Leaving { stream, unsent: BytesMut::new(), until, finished: true };
        let mut buffer = vec![0; TURN];
        leaving.stream.readable().await.unwrap();
        assert!(poll_fn(|context| Poll::Ready(leaving.poll(context, &mut buffer))).await);
        assert!(leaving.stream.try_read(&mut buffer).unwrap() > 0, "all of it was read at once");
    }
}
