//! The smallest host: one request publishes to a room, another watches it.
//!
//! `cargo run --release --example minimal -- 127.0.0.1:8080`, then POST an SDP offer to
//! `/publish/{room}` or `/watch/{room}`; the response is the answer.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use sluicegate::{Config, PeerConfig, Sfu, Subscribe, TrackFilter};

type Answer = Result<String, (StatusCode, String)>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let http = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let sfu =
        Sfu::start(Config::new("127.0.0.1:0".parse()?).announce(IpAddr::V4(Ipv4Addr::LOCALHOST))).await?;
    let publish = async |State(sfu): State<Sfu>, Path(room): Path<String>, offer: String| {
        seat(&sfu, &room, PeerConfig::new("publisher").subscribe(Subscribe::Nothing), &offer).await
    };
    let watch = async |State(sfu): State<Sfu>, Path(room): Path<String>, offer: String| {
        let everyone = TrackFilter { publisher: None, exclude: None };
        seat(&sfu, &room, PeerConfig::new("viewer").subscribe(Subscribe::Slots(everyone)), &offer).await
    };
    let app = Router::new()
        .route("/publish/{room}", post(publish))
        .route("/watch/{room}", post(watch))
        .with_state(sfu);
    let listener = tokio::net::TcpListener::bind(&http).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Answers the offer and keeps the peer until it leaves: dropping the last handle would end it.
async fn seat(sfu: &Sfu, room: &str, config: PeerConfig, offer: &str) -> Answer {
    let room = sfu.room(room).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let (peer, answer) =
        room.join(config, offer).await.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    tokio::spawn(async move { while peer.next_event().await.is_some() {} });
    Ok(answer)
}
