//! Adds rooms and metrics to an application that has its own routes and its own registry.
//!
//! `cargo run --release --example mount_axum -- 127.0.0.1:8080`, then `curl` `/hello`, `/metrics`,
//! or POST an SDP offer to `/rooms/{room}/{name}`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use sluicegate::prometheus_client::encoding::text::encode;
use sluicegate::prometheus_client::metrics::counter::Counter;
use sluicegate::prometheus_client::registry::Registry;
use sluicegate::{Config, OPENMETRICS_TEXT, PeerConfig, Sfu};

/// The application's state: its own things, with the SFU among them.
#[derive(Clone)]
struct App {
    greetings: Counter,
    registry: Arc<Registry>,
    sfu: Sfu,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let http = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());

    // What the application had before.
    let mut registry = Registry::default();
    let greetings = Counter::default();
    registry.register("app_greetings", "Times that /hello was asked for", greetings.clone());

    // What the SFU adds: its metrics beside the application's, and one route.
    let media = Config::new("127.0.0.1:0".parse()?).announce(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let sfu = Sfu::start(media).await?;
    sfu.metrics().register(&mut registry);

    let app = Router::new()
        .route("/hello", get(hello))
        .route("/metrics", get(metrics))
        .route("/rooms/{room}/{name}", post(join))
        .with_state(App { greetings, registry: Arc::new(registry), sfu });
    let listener = tokio::net::TcpListener::bind(&http).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn hello(State(app): State<App>) -> &'static str {
    app.greetings.inc();
    "hello\n"
}

async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, (StatusCode, String)> {
    let mut text = String::new();
    encode(&mut text, &app.registry)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS_TEXT)], text))
}

/// Seats a peer that offers to publish and to receive in one go: SDP offer in, SDP answer out.
async fn join(
    State(app): State<App>,
    Path((room, name)): Path<(String, String)>,
    offer: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let room = app.sfu.room(&room).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    // Fills the recvonly m-lines of the offer: without a signalling channel nothing can be offered later.
    let slots = sluicegate::Subscribe::Slots(sluicegate::TrackFilter {
        publisher: None,
        exclude: Some(name.clone()),
    });
    let config = PeerConfig::new(name).subscribe(slots);
    let (peer, answer) =
        room.join(config, &offer).await.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    tokio::spawn(async move { while peer.next_event().await.is_some() {} });
    Ok((StatusCode::CREATED, answer))
}
