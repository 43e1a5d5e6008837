//! HTTP over a unix socket, and read-only over TCP: state, explanations, metrics, health.
//!
//! The daemon implements [`Source`]; the objects it answers with are in [`model`], and what `show --json` prints is what the API
//! says.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

pub mod metrics;
pub mod model;
mod serve;
mod server;
mod socket;
pub mod text;

pub(crate) use server::ErrorBody;
pub use server::{Access, router};
pub use socket::{BindError, Server};

use model::{
    Bfd, DrainReport, Explain, Exposure, Learned, Neighbor, ReloadReport, Route, Summary, UpgradeOrder, UpgradeReport,
    Wiring,
};

/// A part of the daemon could not answer (it is stopping, or stuck).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What the API asks of the daemon. Every method answers from current state and does not wait for the outside world, except those
/// that act.
pub trait Source: Send + Sync + 'static {
    /// The daemon in a few lines. Also answers `/readyz`.
    fn summary(&self) -> impl Future<Output = Result<Summary, Unavailable>> + Send;
    /// Neighbours, in the order of the configuration.
    fn neighbors(&self) -> impl Future<Output = Result<Vec<Neighbor>, Unavailable>> + Send;
    /// What we announce, sorted by prefix.
    fn routes(&self) -> impl Future<Output = Result<Vec<Route>, Unavailable>> + Send;
    /// What neighbours told us, sorted by prefix.
    fn learned(&self) -> impl Future<Output = Result<Vec<Learned>, Unavailable>> + Send;
    /// What this host attracts, sorted by address.
    fn exposures(&self) -> impl Future<Output = Result<Vec<Exposure>, Unavailable>> + Send;
    /// Kernel and OVS objects.
    fn wiring(&self) -> impl Future<Output = Result<Wiring, Unavailable>> + Send;
    /// BFD sessions.
    fn bfd(&self) -> impl Future<Output = Result<Vec<Bfd>, Unavailable>> + Send;
    /// Why an address is or is not announced here.
    fn explain(&self, address: IpAddr) -> impl Future<Output = Result<Explain, Unavailable>> + Send;
    /// Reads the configuration again and applies it, or with `dry_run` only says what it would do.
    fn reload(&self, dry_run: bool) -> impl Future<Output = Result<ReloadReport, Unavailable>> + Send;
    /// Moves traffic away: neighbours are asked to look elsewhere, and after `wait`, or what the configuration says, everything is
    /// withdrawn.
    fn drain(&self, wait: Option<Duration>) -> impl Future<Output = Result<DrainReport, Unavailable>> + Send;
    /// Brings traffic back.
    fn undrain(&self) -> impl Future<Output = Result<DrainReport, Unavailable>> + Send;
    /// Asks the binary that is on disk now, and if it agrees lets the daemon go on in it.
    fn upgrade(&self) -> impl Future<Output = Result<UpgradeOrder, Unavailable>> + Send;
    /// How the daemon came to be.
    fn upgraded(&self) -> impl Future<Output = Result<UpgradeReport, Unavailable>> + Send;
    /// Adds the daemon's own metrics (histograms, counters) to those the API derives from the state at every scrape. Metrics are
    /// handles: register clones.
    fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        let _ = registry;
    }
}
