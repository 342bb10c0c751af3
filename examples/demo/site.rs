//! Everything the demo serves over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::host::Host;
use crate::refusal::Refusal;
use crate::{socket, whip};

pub fn router(host: Host) -> Router {
    let metrics = sluicegate::axum::metrics_router(host.sfu().metrics());
    Router::new()
        .route("/", get(page))
        .route(
            "/call.js",
            get(async || {
                asset(
                    "text/javascript; charset=utf-8",
                    include_str!("page/call.js"),
                )
            }),
        )
        .route(
            "/style.css",
            get(async || asset("text/css; charset=utf-8", include_str!("page/style.css"))),
        )
        .route("/ws/{room}", get(socket::open))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .merge(whip::router())
        .with_state(host)
        .merge(metrics)
}

async fn page() -> impl IntoResponse {
    let headers = [
        // Own files only. Streams are attached by script and need no source.
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        // The address may hold a join token.
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (
        headers,
        asset("text/html; charset=utf-8", include_str!("page/index.html")),
    )
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

async fn ready(State(host): State<Host>) -> Result<&'static str, Refusal> {
    if host.is_closing() {
        Err(Refusal::closing())
    } else {
        Ok("ready\n")
    }
}

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                           img-src data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";
