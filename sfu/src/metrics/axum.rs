//! A ready `/metrics` route for axum hosts.

use std::sync::Arc;

use ::axum::Router;
use ::axum::extract::State;
use ::axum::http::{StatusCode, header};
use ::axum::response::{IntoResponse, Response};
use ::axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::{Metrics, OPENMETRICS_TEXT};
#[cfg(feature = "signaling-metrics")]
use {
    super::signaling::{Method, SignalingMetrics},
    crate::shell::clock,
    ::axum::extract::{MatchedPath, Request},
    ::axum::middleware::Next,
};

/// Answers `GET /metrics` with this SFU's metrics as OpenMetrics text.
///
/// A host with metrics of its own mounts both on one registry with [`Metrics::register`] instead,
/// and serves that with [`registry_router`].
///
/// ```no_run
/// # async fn host(sfu: sluicegate::Sfu) -> std::io::Result<()> {
/// let app = sluicegate::axum::metrics_router(sfu.metrics());
/// // let app = your_routes.merge(app);
/// # let _: axum::Router = app;
/// # Ok(()) }
/// ```
pub fn metrics_router(metrics: Metrics) -> Router {
    registry_router(Arc::new(metrics.registry()))
}

/// Answers `GET /metrics` with whatever the host has registered, as OpenMetrics text.
///
/// ```no_run
/// use std::sync::Arc;
/// use sluicegate::prometheus_client::{metrics::counter::Counter, registry::Registry};
///
/// # async fn host(sfu: sluicegate::Sfu) {
/// let mut registry = Registry::default();
/// registry.register("app_greetings", "Times that somebody was greeted", Counter::<u64>::default());
/// sfu.metrics().register(&mut registry);
/// let app: axum::Router = sluicegate::axum::registry_router(Arc::new(registry));
/// # }
/// ```
pub fn registry_router(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(registry)
}

async fn scrape(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS_TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The router, with its requests counted by [`SignalingMetrics`]: how many, how they ended, how long they took. An upgrade
/// counts until it is done, a body that is streamed until it begins.
///
/// Wrap the whole of it, last: what is merged in afterwards is not counted.
///
/// ```no_run
/// # use sluicegate::signaling::SignalingMetrics;
/// # async fn host(sfu: sluicegate::Sfu, signaling: SignalingMetrics, yours: axum::Router) {
/// let metrics = sfu.metrics().with_signaling(signaling.clone());
/// let app = yours.merge(sluicegate::axum::metrics_router(metrics));
/// let app = sluicegate::axum::measured(app, signaling);
/// # let _: axum::Router = app;
/// # }
/// ```
#[cfg(feature = "signaling-metrics")]
pub fn measured(router: Router, signaling: SignalingMetrics) -> Router {
    router.layer(::axum::middleware::from_fn_with_state(signaling, measure))
}

#[cfg(feature = "signaling-metrics")]
async fn measure(
    State(signaling): State<SignalingMetrics>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let method = Method::named(request.method().as_str());
    let began = clock::now();
    let response = next.run(request).await;
    let took = clock::now().saturating_duration_since(began);
    let route = route.as_ref().map(MatchedPath::as_str);
    signaling.http_request(method, route, response.status().as_u16(), took);
    response
}

#[test]
fn a_scrape_is_openmetrics_to_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        let registry = Arc::new(Metrics::new(vec![], Default::default()).registry());
        let response = scrape(State(registry)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPENMETRICS_TEXT);
        let body = ::axum::body::to_bytes(response.into_body(), 1 << 20).await;
        let body = body.expect("the body is a string");
        assert!(body.starts_with(b"# HELP sfu_"));
        assert!(body.ends_with(b"\n# EOF\n"));
    });
}
