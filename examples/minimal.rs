//! The smallest host: one request publishes to a room, another watches it.
//!
//! `cargo run --release --example minimal -- 127.0.0.1:8080`, then POST an SDP offer to
//! `/publish/{room}` or `/watch/{room}`; the response is the answer.

use std::error::Error;
use std::net::IpAddr;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sluicegate::{Config, JoinError, PeerConfig, Refused, RoomError, Sfu, Subscribe, TrackFilter};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let http = std::env::args().nth(1);
    let here = IpAddr::from([127, 0, 0, 1]);
    let sfu = Sfu::start(Config::new((here, 0).into()).announce(here)).await?;
    let app = Router::new()
        .route("/publish/{room}", post(publish))
        .route("/watch/{room}", post(watch))
        .with_state(sfu);
    let listener = TcpListener::bind(http.as_deref().unwrap_or("127.0.0.1:8080")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn publish(State(sfu): State<Sfu>, Path(room): Path<String>, offer: String) -> Answer {
    let publisher = PeerConfig::new("publisher").subscribe(Subscribe::Nothing);
    seat(&sfu, &room, publisher, &offer).await
}

async fn watch(State(sfu): State<Sfu>, Path(room): Path<String>, offer: String) -> Answer {
    let everyone = TrackFilter { publisher: None, exclude: None };
    let viewer = PeerConfig::new("viewer").subscribe(Subscribe::Slots(everyone));
    seat(&sfu, &room, viewer, &offer).await
}

/// Answers the offer and keeps the peer until it leaves: dropping the last handle would end it.
async fn seat(sfu: &Sfu, room: &str, config: PeerConfig, offer: &str) -> Answer {
    let room = sfu.room(room).map_err(|error| match error {
        RoomError::Refused(refused) => busy(&refused),
        error => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    })?;
    let (peer, answer) = room.join(config, offer).await.map_err(|error| match error {
        JoinError::Refused(refused) => busy(&refused),
        JoinError::Offer(wrong) => (StatusCode::BAD_REQUEST, wrong.to_string()).into_response(),
        error => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    })?;
    tokio::spawn(async move { while peer.next_event().await.is_some() {} });
    Ok(answer)
}

/// There is no room now: says when to ask again.
fn busy(refused: &Refused) -> Response {
    let wait = refused.retry_after.as_secs_f64().ceil().to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, wait)], refused.to_string()).into_response()
}

type Answer = Result<String, Response>;
