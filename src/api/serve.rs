//! Connections of the API: how many, how long, and what happens when no more can be accepted.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time; more wait until one ends.
    pub(super) connections: usize,
    /// A request's head must be complete, and the next one begun, within this time.
    pub(super) head: Duration,
    /// A connection that is older is closed after the answer under way, and [`LAST_ANSWER`] later in any case.
    pub(super) lifetime: Duration,
}

impl Limits {
    /// A person with `show`, a few scripts.
    pub(super) const CONTROL: Self =
        Self { connections: 128, head: Duration::from_secs(30), lifetime: Duration::from_mins(30) };
    /// Scrapers, load balancers, and whoever reaches the port.
    pub(super) const TCP: Self =
        Self { connections: 64, head: Duration::from_secs(30), lifetime: Duration::from_mins(10) };
}

/// A client that does not read its answer holds a connection no longer than this after its lifetime.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Before a listener that fails (no more files can be opened, mostly) is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A listening socket of either kind.
pub(super) trait Listener {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn accept(&self) -> io::Result<Self::Stream>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves until `stop` says `true` or its sender is gone; then ends what is under way.
pub(super) async fn serve(listener: impl Listener, router: Router, limits: Limits, stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut stopping = pin!(stopped(stop.clone()));
    let mut failing = false;
    loop {
        let next = async {
            // Never closed, so never an error.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut stopping => break,
            accepted = next => accepted,
            // Those that have ended are forgotten meanwhile.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(stream) => {
                failing = false;
                let connection = connection(stream, router.clone(), limits, stopped(stop.clone()));
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // It was closed again before we came to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the API cannot accept connections; trying again every second");
                }
                tokio::select! {
                    () = &mut stopping => break,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let old = Instant::now() + limits.lifetime;
    // An error is the client's: it went away, or sent no HTTP, or was too slow.
    tokio::select! {
        _ = served.as_mut() => return,
        () = stop => {}
        () = sleep_until(old) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, served).await;
}

/// Waits until `stop` says `true` or its sender is gone.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the daemon with it.
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A served listener, until the sender is dropped.
    async fn served(limits: Limits) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, Router::new().route("/", get(async || "ok")), limits, stopped));
        (address, stop)
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    }

    async fn answered(stream: &mut TcpStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed");
        }
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_is_closed() {
        let (address, _stop) = served(Limits { connections: 8, head: Duration::from_millis(50), lifetime: LONG }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_its_turn() {
        let (address, _stop) = served(Limits { connections: 1, head: LONG, lifetime: LONG }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        ask(&mut first).await;
        answered(&mut first).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        ask(&mut second).await;
        for _ in 0..100 {
            ask(&mut first).await;
            answered(&mut first).await;
        }
        assert_eq!(second.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        answered(&mut second).await;
    }

    #[tokio::test]
    async fn an_old_connection_is_closed_when_it_has_its_answer() {
        let lifetime = Duration::from_millis(50);
        let (address, _stop) = served(Limits { connections: 8, head: LONG, lifetime }).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn the_end_of_the_daemon_ends_idle_connections_and_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { connections: 8, head: LONG, lifetime: LONG };
        let server = tokio::spawn(serve(listener, Router::new().route("/", get(async || "ok")), limits, stopped));
        let mut client = TcpStream::connect(address).await.unwrap();
        ask(&mut client).await;
        answered(&mut client).await;
        stop.send(true).unwrap();
        server.await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
