//! The edge: sockets, TLS and a timer around a [`Conversation`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::codec::Decoder;

use super::conversation::{Config, Conversation, Event, Output};
use super::framing::Framing;
use super::message;
use super::remote::Remote;
use super::tls::TlsFiles;
use super::value::Database;

/// A stream of any kind of remote.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Boxed = Box<dyn Stream>;

/// Free space offered to each read, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// A receive buffer that grew beyond this is given back once it has been emptied.
const KEEP_BUFFER: usize = 1024 * 1024;

/// A server that sends but does not read is given up when so much waits for it, in bytes.
const MAX_UNSENT: usize = 16 * 1024 * 1024;

async fn connect(remote: Remote, tls: Option<TlsFiles>) -> io::Result<Boxed> {
    let tcp = async |host: &str, port: u16| {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    match remote {
        Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Remote::Tcp { host, port } => Ok(Box::new(tcp(&host, port).await?)),
        Remote::Ssl { host, port } => {
            let files = tls.ok_or_else(|| io::Error::other("an ssl: remote needs a TLS key, certificate and CA"))?;
            let connector = tokio_rustls::TlsConnector::from(files.load()?);
            let name = rustls::pki_types::ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Box::new(connector.connect(name, tcp(&host, port).await?).await?))
        }
    }
}

enum Link {
    Idle,
    Connecting(Pin<Box<dyn Future<Output = io::Result<Boxed>> + Send>>),
    Up(Box<Connection>),
}

struct Connection {
    reader: ReadHalf<Boxed>,
    writer: WriteHalf<Boxed>,
    input: BytesMut,
    output: BytesMut,
    /// Written bytes may still sit in the TLS layer.
    flush: bool,
}

impl Connection {
    fn new(stream: Boxed) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, input: BytesMut::new(), output: BytesMut::new(), flush: false }
    }

    /// Moves bytes until some have arrived. Cancelling it loses nothing.
    async fn transfer(&mut self) -> io::Result<()> {
        loop {
            if self.output.len() > MAX_UNSENT {
                return Err(io::Error::other("the server does not read what it asked for"));
            }
            self.input.reserve(READ_SIZE);
            let busy = self.flush || !self.output.is_empty();
            let push = async {
                if self.output.is_empty() {
                    self.writer.flush().await.map(|()| None)
                } else {
                    self.writer.write(&self.output).await.map(Some)
                }
            };
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => {
                    return match read? {
                        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
                        _ => Ok(()),
                    };
                }
                pushed = push, if busy => match pushed? {
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(n) => {
                        self.output.advance(n);
                        self.flush = true;
                    }
                    None => self.flush = false,
                },
            }
        }
    }
}

/// A database followed for ever. One task owns it and awaits [`Client::next`].
pub struct Client {
    conversation: Conversation,
    tls: Option<TlsFiles>,
    database: String,
    link: Link,
    /// The outage is in the log.
    logged_down: bool,
}

impl Client {
    /// A client that starts to connect when [`Client::next`] is first awaited. `tls` is needed for `ssl:` remotes only.
    pub fn new(config: Config, tls: Option<TlsFiles>) -> Self {
        let database = config.database.clone();
        Self {
            conversation: Conversation::new(config, Instant::now()),
            tls,
            database,
            link: Link::Idle,
            logged_down: false,
        }
    }

    /// The rows as of the last event; kept, though stale, while the server is out of reach.
    pub fn database(&self) -> &Database {
        self.conversation.database()
    }

    /// Whether the rows are complete and current.
    pub fn is_synced(&self) -> bool {
        self.conversation.is_synced()
    }

    /// The remote in use, or being tried.
    pub fn remote(&self) -> Option<&Remote> {
        self.conversation.remote()
    }

    /// The conversation, to change what it follows. Takes effect at the next [`Client::next`].
    pub fn conversation(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    /// The next event. Never ends: lost connections are made anew. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            while let Some(output) = self.conversation.poll() {
                match output {
                    Output::Connect(remote) => {
                        tracing::debug!(database = self.database, %remote, "connecting");
                        self.link = Link::Connecting(Box::pin(connect(remote, self.tls.clone())));
                    }
                    Output::Send(bytes) => {
                        if let Link::Up(connection) = &mut self.link {
                            connection.output.extend_from_slice(&bytes);
                        }
                    }
                    Output::Close => self.link = Link::Idle,
                    Output::Event(event) => {
                        self.log(&event);
                        return event;
                    }
                }
            }
            self.wait().await;
        }
    }

    /// Waits for the socket or the timer, and tells the conversation.
    async fn wait(&mut self) {
        let deadline = self.conversation.next_deadline();
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            () = due => {
                self.conversation.tick(Instant::now());
                return;
            }
            outcome = Self::progress(&mut self.link) => outcome,
        };
        let now = Instant::now();
        match outcome {
            Ok(Some(stream)) => {
                self.link = Link::Up(Box::new(Connection::new(stream)));
                self.conversation.connected(now);
            }
            Ok(None) => {
                if let Link::Up(connection) = &mut self.link {
                    let grown = connection.input.len() > KEEP_BUFFER;
                    self.conversation.received(now, &mut connection.input);
                    if grown && connection.input.len() < READ_SIZE {
                        connection.input = BytesMut::from(&*connection.input);
                    }
                }
            }
            Err(error) => {
                self.link = Link::Idle;
                tracing::debug!(database = self.database, %error, "connection failed");
                self.conversation.disconnected(now, &error.to_string());
            }
        }
    }

    /// A new stream, or (`None`) new bytes on the present one.
    async fn progress(link: &mut Link) -> io::Result<Option<Boxed>> {
        match link {
            Link::Idle => std::future::pending().await,
            Link::Connecting(attempt) => attempt.await.map(Some),
            Link::Up(connection) => connection.transfer().await.map(|()| None),
        }
    }

    fn log(&mut self, event: &Event) {
        let database = self.database.as_str();
        match event {
            Event::Down { reason } => {
                self.logged_down = true;
                tracing::warn!(
                    database,
                    reason,
                    "the database is out of reach; what it said last stands, trying again"
                );
            }
            Event::Synced { fresh } => {
                let remote = self.conversation.remote().map(ToString::to_string).unwrap_or_default();
                if std::mem::take(&mut self.logged_down) {
                    tracing::info!(database, remote, fresh, "the database is back");
                } else {
                    tracing::info!(database, remote, "following the database");
                }
            }
            Event::Missing(missing) => match &missing.column {
                Some(column) => {
                    tracing::warn!(database, table = %missing.table, %column, "the server's schema lacks this column; doing without");
                }
                None => {
                    tracing::warn!(database, table = %missing.table, "the server's schema lacks this table; doing without");
                }
            },
            Event::Malformed(bad) => {
                tracing::warn!(database, table = %bad.table, row = %bad.row, column = %bad.column, why = bad.why, "ignoring a malformed row");
            }
            Event::Changed(_) | Event::Selected => {}
        }
    }
}

/// Runs one transaction (RFC 7047 §4.1.3) over a connection of its own and answers the results, one per operation. An operation
/// that failed makes the whole an error, as the server then commits nothing.
pub async fn transact(
    remote: &Remote,
    tls: Option<TlsFiles>,
    database: &str,
    operations: &[Json],
    limit: Duration,
) -> io::Result<Vec<Json>> {
    let work = async {
        let mut connection = Connection::new(connect(remote.clone(), tls).await?);
        let mut params = vec![Json::from(database)];
        params.extend_from_slice(operations);
        connection.output.extend_from_slice(&message::request(1, "transact", &Json::from(params)));
        let mut framing = Framing::default();
        loop {
            connection.transfer().await?;
            while let Some(bytes) = framing.decode(&mut connection.input).map_err(io::Error::other)? {
                let reply: Json = serde_json::from_slice(&bytes)?;
                if reply.get("id") == Some(&json!(1)) {
                    return results(&reply);
                }
            }
        }
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer from {remote} within {} s", limit.as_secs_f32()),
        ))
    })
}

fn results(reply: &Json) -> io::Result<Vec<Json>> {
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        return Err(io::Error::other(format!("the server refused the transaction: {error}")));
    }
    let results = reply.get("result").and_then(Json::as_array).cloned().unwrap_or_default();
    match results.iter().find_map(|result| result.get("error")) {
        Some(error) => {
            Err(io::Error::other(format!("the transaction failed: {error} in {}", Json::from(results.clone()))))
        }
        None => Ok(results),
    }
}
