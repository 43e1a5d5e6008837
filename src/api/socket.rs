//! The control socket as a file, and both listeners.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Source;
use super::serve::{Limits, serve, stopped};
use super::server::{Access, router};
use crate::config;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on the control socket.
    #[error("{0}: another daemon is listening there; stop it, or give this one a socket of its own in [api]")]
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{0}: exists and is not a socket; move it away, or choose another path for [api] socket")]
    NotASocket(PathBuf),
    /// The control socket cannot be made.
    #[error("control socket {path}: {error}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// How long an address that cannot be listened on is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// The listeners of the API, not yet serving. What can go wrong with the control socket is known before the daemon does anything. The
/// TCP address may be somebody else's, or not be there yet: that is no reason to leave a host without its routes.
#[derive(Debug)]
pub struct Server {
    control: UnixListener,
    /// Removed when the server ends.
    _file: SocketFile,
    tcp: Option<Tcp>,
}

/// The TCP address, and its listener once there is one.
#[derive(Debug)]
struct Tcp {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Tcp {
    async fn bind(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .inspect_err(|error| tracing::error!(%address, %error, "[api] listen: not listening; tried again"))
            .ok();
        Self { address, listener }
    }

    /// The listener, as soon as there can be one.
    async fn listener(self) -> TcpListener {
        let Self { address, mut listener } = self;
        loop {
            if let Some(listener) = listener {
                return listener;
            }
            sleep(AGAIN).await;
            listener = TcpListener::bind(address).await.ok();
            if listener.is_some() {
                tracing::info!(%address, "[api] listen: listening");
            }
        }
    }
}

impl Server {
    /// Binds the listeners. A socket left over by a daemon that is gone is replaced.
    ///
    /// # Errors
    /// Someone else listens on the control socket, or the kernel refuses it.
    pub async fn bind(settings: &config::Api) -> Result<Self, BindError> {
        let (control, file) = bind_control(&settings.socket).await?;
        let tcp = match settings.listen {
            Some(address) => Some(Tcp::bind(address).await),
            None => None,
        };
        Ok(Self { control, _file: file, tcp })
    }

    /// The TCP address listened on, with the port the kernel chose if 0 was asked for.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.listener.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` says `true` (or its sender is gone).
    pub async fn run<S: Source>(self, source: Arc<S>, stop: watch::Receiver<bool>) {
        let control = serve(self.control, router(Arc::clone(&source), Access::Control), Limits::CONTROL, stop.clone());
        let tcp = async {
            let Some(tcp) = self.tcp else { return };
            tokio::select! {
                listener = tcp.listener() => serve(listener, router(source, Access::ReadOnly), Limits::TCP, stop).await,
                () = stopped(stop.clone()) => {}
            }
        };
        tokio::join!(control, tcp);
    }
}

async fn bind_control(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let failed = |error| BindError::Socket { path: path.to_owned(), error };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(BindError::InUse(path.to_owned())),
            // Nobody accepts there any more: left over.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Whoever may write may command. The usual umask gives less than this, so there is no moment in which more is allowed.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// The file of a socket of ours; gone when this is dropped, unless another daemon has put its own there meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // A socket that stays is replaced by the next daemon.
            drop(std::fs::remove_file(&self.path));
        }
    }
}
