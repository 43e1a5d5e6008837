//! Asks the daemon over its control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::output::Failure;
use crate::api::ErrorBody;

/// Longer than the daemon itself takes before it gives up on its parts.
const PATIENCE: Duration = Duration::from_secs(75);

/// What the daemon said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON text, for `--json`.
    pub(super) fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body).map_err(|_| Failure::Unreachable("the daemon's answer is not text".to_owned()))
    }

    /// The body as one of the objects of the API.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("cannot understand the daemon's answer ({error}); is it another version?");
            Failure::Unreachable(message)
        })
    }
}

/// One request. Statuses the caller knows what to do with (`expected`, and 200) are answers; all others are failures.
pub(super) fn ask(socket: &Path, method: Method, path: &str, expected: &[StatusCode]) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unreachable(format!("cannot start: {error}")))?;
    let exchange = async {
        tokio::time::timeout(PATIENCE, exchange(socket, method, path)).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!("no answer on {} within {} s", socket.display(), PATIENCE.as_secs())))
        })
    };
    let answer = runtime.block_on(exchange)?;
    if answer.status == StatusCode::OK || expected.contains(&answer.status) {
        return Ok(answer);
    }
    let said = serde_json::from_slice::<ErrorBody>(&answer.body).map(|body| body.error);
    let message = said.unwrap_or_else(|_| format!("the daemon answered {}", answer.status));
    Err(if answer.status.is_client_error() { Failure::Input(message) } else { Failure::Unreachable(message) })
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Answer, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| cannot_connect(socket, &error))?;
    let failed = |error: hyper::Error| {
        Failure::Unreachable(format!("the daemon on {} broke off the conversation: {error}", socket.display()))
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the runtime; its errors come out of the request as well.
    let _driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Input(format!("cannot ask for {path}: {error}")))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    Ok(Answer { status, body })
}

fn cannot_connect(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    Failure::Unreachable(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("the daemon is not running: there is no socket {path} (another one? --socket PATH)")
        }
        io::ErrorKind::ConnectionRefused => format!("the daemon is not running: nobody listens on {path}"),
        io::ErrorKind::PermissionDenied => {
            format!("you may not use {path}: become root or a member of the socket's group")
        }
        _ => format!("cannot reach the daemon on {path}: {error}"),
    })
}
