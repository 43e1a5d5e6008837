//! Routes of the API and what they answer.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::{Source, Unavailable, metrics, text};
use crate::config::duration;

/// How long a question may take before the caller is told that the daemon is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for what acts on the outside world.
const PATIENCE_ACTING: Duration = Duration::from_mins(1);

/// Where a request may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The control socket: everything.
    Control,
    /// TCP: reading only.
    ReadOnly,
}

/// The API of `source`.
pub fn router<S: Source>(source: Arc<S>, access: Access) -> Router {
    let reading = Router::new()
        .route("/", get(status_page::<S>))
        .route("/v1/summary", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.summary()).await }))
        .route("/v1/neighbors", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.neighbors()).await }))
        .route("/v1/routes", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.routes()).await }))
        .route("/v1/learned", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.learned()).await }))
        .route("/v1/exposures", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.exposures()).await }))
        .route("/v1/wiring", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.wiring()).await }))
        .route("/v1/upgrade", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.upgraded()).await }))
        .route("/v1/bfd", get(|State(s): State<Arc<S>>| async move { answer(PATIENCE, s.bfd()).await }))
        .route("/v1/explain/{address}", get(explain::<S>))
        .route("/metrics", get(scrape::<S>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<S>));
    let acting = match access {
        Access::Control => Router::new()
            .route("/v1/reload", post(reload::<S>))
            .route("/v1/upgrade", post(upgrade::<S>))
            .route("/v1/drain", post(drain::<S>))
            .route(
                "/v1/undrain",
                post(|State(s): State<Arc<S>>| async move { answer(PATIENCE_ACTING, s.undrain()).await }),
            ),
        Access::ReadOnly => {
            ["/v1/reload", "/v1/upgrade", "/v1/drain", "/v1/undrain"].into_iter().fold(Router::new(), |router, path| {
                router.route(path, post(async || refuse(StatusCode::FORBIDDEN, "only on the control socket")))
            })
        }
    };
    reading
        .merge(acting)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "wrong method for this path"))
        .with_state(source)
}

/// What every error looks like.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// In words.
    pub(crate) error: String,
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(ErrorBody { error: error.to_owned() })).into_response()
}

/// Waits for the daemon, but not for ever.
async fn ask<T>(patience: Duration, asked: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
    tokio::time::timeout(patience, asked)
        .await
        .unwrap_or_else(|_| Err(Unavailable(format!("the daemon did not answer within {} s", patience.as_secs()))))
}

async fn answer<T: Serialize>(patience: Duration, asked: impl Future<Output = Result<T, Unavailable>>) -> Response {
    match ask(patience, asked).await {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &Unavailable) -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &error.0)
}

async fn explain<S: Source>(State(source): State<Arc<S>>, Path(address): Path<String>) -> Response {
    match address.parse::<IpAddr>() {
        Ok(address) => answer(PATIENCE, source.explain(address)).await,
        Err(_) => refuse(StatusCode::BAD_REQUEST, &format!("'{address}' is not an IP address")),
    }
}

#[derive(Deserialize)]
struct DrainOptions {
    wait: Option<String>,
}

/// `wait`: a duration such as `5s` or `0s`.
async fn drain<S: Source>(State(source): State<Arc<S>>, Query(options): Query<DrainOptions>) -> Response {
    match options.wait.as_deref().map(duration::parse).transpose() {
        Ok(wait) => answer(PATIENCE_ACTING, source.drain(wait)).await,
        Err(reason) => refuse(StatusCode::BAD_REQUEST, &format!("wait: {reason}")),
    }
}

#[derive(Deserialize)]
struct ReloadOptions {
    #[serde(default)]
    dry_run: bool,
}

/// 200 when the new configuration is (or would be) in force, 422 when it has errors; the body is the same.
async fn reload<S: Source>(State(source): State<Arc<S>>, Query(options): Query<ReloadOptions>) -> Response {
    match ask(PATIENCE_ACTING, source.reload(options.dry_run)).await {
        Ok(report) => {
            let status = if report.accepted { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
            (status, axum::Json(report)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// 202 when the daemon is about to go on in the binary on disk, 422 when that refuses; the body is the same.
async fn upgrade<S: Source>(State(source): State<Arc<S>>) -> Response {
    match ask(PATIENCE_ACTING, source.upgrade()).await {
        Ok(order) => {
            let status = if order.accepted { StatusCode::ACCEPTED } else { StatusCode::UNPROCESSABLE_ENTITY };
            (status, axum::Json(order)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// The initial dump is applied and at least one neighbour is established.
async fn ready<S: Source>(State(source): State<Arc<S>>) -> Response {
    match ask(PATIENCE, source.summary()).await {
        Ok(summary) if summary.ready => "ready\n".into_response(),
        Ok(summary) => {
            let mut reasons = summary.not_ready.join("\n");
            reasons.push('\n');
            (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn scrape<S: Source>(State(source): State<Arc<S>>) -> Response {
    let gathered = async { Ok((source.summary().await?, source.neighbors().await?, source.bfd().await?)) };
    let (summary, neighbors, bfd) = match ask(PATIENCE, gathered).await {
        Ok(gathered) => gathered,
        Err(error) => return unavailable(&error),
    };
    match metrics::render(&summary, &neighbors, &bfd, |registry| source.register_metrics(registry)) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// What `show summary` and `show neighbors` say, for a browser.
async fn status_page<S: Source>(State(source): State<Arc<S>>) -> Response {
    let gathered = async { Ok((source.summary().await?, source.neighbors().await?)) };
    match ask(PATIENCE, gathered).await {
        Ok((summary, neighbors)) => {
            let paint = text::Paint::Plain;
            format!("{}\n{}", text::summary(&summary, paint), text::neighbors(&neighbors, paint)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}
