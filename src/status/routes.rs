//! The status server. IO.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};

use super::board::Board;
use super::metrics::Metrics;
use super::page::Page;

struct Shown {
    board: Arc<Board>,
    registry: Registry,
    metrics: Metrics,
}

/// Serves the board on a thread and a runtime of its own, until the process ends.
///
/// # Errors
/// If the names of the metrics are taken, or the thread cannot be started.
pub fn serve(listener: TcpListener, board: Arc<Board>, registry: Registry) -> anyhow::Result<()> {
    let metrics = Metrics::register(&registry)?;
    let shown = Arc::new(Shown {
        board,
        registry,
        metrics,
    });
    let routes = Router::new()
        .route("/status", get(status))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("status".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let served = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => axum::serve(listener, routes).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    tracing::error!(%error, "the status page is gone");
                }
            });
        })?;
    Ok(())
}

async fn status(State(shown): State<Arc<Shown>>) -> Json<Page> {
    Json(Page::of(&shown.board, Instant::now()))
}

async fn ready(State(shown): State<Arc<Shown>>) -> Response {
    match Page::of(&shown.board, Instant::now()).not_ready {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn metrics_text(State(shown): State<Arc<Shown>>) -> Response {
    shown.metrics.set(&Page::of(&shown.board, Instant::now()));
    let mut text = Vec::new();
    match TextEncoder::new().encode(&shown.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encode metrics: {error}\n"),
        )
            .into_response(),
    }
}
