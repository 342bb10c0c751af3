//! Which room it is that a metric tells of, and a cap on it, for whoever holds the admin token.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use sluicegate::signaling::AuthFailure;
use sluicegate::{Bitrate, By, RoomStats};

use crate::host::Host;
use crate::refusal::Refusal;

/// Without a token of the operator's there is no such route.
pub fn router(host: Host, token: Option<String>) -> Router {
    match token {
        Some(token) => {
            let admin = Arc::new(Admin { host, token });
            Router::new()
                .route("/debug/rooms", get(rooms))
                .route("/debug/rooms/{room}/cap", put(cap).delete(lift))
                .with_state(admin)
        }
        None => Router::new(),
    }
}

struct Admin {
    host: Host,
    token: String,
}

impl Admin {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().trim();
        verify_slices_are_equal(given.as_bytes(), self.token.as_bytes()).map_err(|_| {
            let why = if given.is_empty() { AuthFailure::Missing } else { AuthFailure::Invalid };
            self.host.signaling().auth_failed(why);
            let words = "pass the demo's --admin-token as `Authorization: Bearer TOKEN`";
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", words)
        })
    }

    /// Only rooms with somebody in them are capped: a cap goes with the last who leaves.
    async fn cap(&self, room: &str, cap: Option<Bitrate>) -> Result<StatusCode, Refusal> {
        let room = self.host.sfu().room(room)?;
        if room.stats().await.is_none() {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "no-room", "nobody is in such a room"));
        }
        room.set_cap(cap).await;
        Ok(StatusCode::NO_CONTENT)
    }
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    by: Weight,
    #[serde(default = "twenty")]
    n: usize,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Weight {
    #[default]
    Cost,
    Bitrate,
    Participants,
    Nacks,
}

/// The heaviest rooms, by `cost`, `bitrate`, `participants` or `nacks`.
async fn rooms(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refusal> {
    admin.check(&headers)?;
    let by = match wanted.by {
        Weight::Cost => By::Cost,
        Weight::Bitrate => By::Bitrate,
        Weight::Participants => By::Participants,
        Weight::Nacks => By::Nacks,
    };
    let rooms = admin.host.sfu().top_rooms(wanted.n.min(MOST), by).await;
    Ok(Json(rooms.iter().map(told).collect()))
}

/// Caps what a room publishes together: `500kbps` is the whole body.
async fn cap(
    State(admin): State<Arc<Admin>>,
    Path(room): Path<String>,
    headers: HeaderMap,
    rate: String,
) -> Result<StatusCode, Refusal> {
    admin.check(&headers)?;
    let cap: Bitrate = rate.trim().parse().map_err(|error| Refusal::bad_request(format!("{error}")))?;
    admin.cap(&room, Some(cap)).await
}

/// Lifts it.
async fn lift(
    State(admin): State<Arc<Admin>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    admin.check(&headers)?;
    admin.cap(&room, None).await
}

fn told(room: &RoomStats) -> Value {
    json!({
        "name": room.name,
        "participants": room.participants,
        "tracks": room.tracks,
        "bitrateIn": room.bitrate_in.as_bps(),
        "bitrateOut": room.bitrate_out.as_bps(),
        "packetsPerSecond": room.packets_per_second,
        "nackedPacketsPerSecond": room.nacked_packets_per_second,
    })
}

fn twenty() -> usize {
    20
}

/// Rooms in one answer.
const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use sluicegate::{Config, Sfu};
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: Router, uri: &str, token: &str) -> (StatusCode, String) {
        let request = Request::builder().uri(uri).header(header::AUTHORIZATION, token);
        send(router, request.body(Body::empty()).unwrap()).await
    }

    async fn send(router: Router, request: Request<Body>) -> (StatusCode, String) {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_the_operator_hears_who_is_there() {
        let sfu = Sfu::start(Config::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let host = Host::new(sfu, None, "test".parse().unwrap());
        let router = |token: Option<&str>| router(host.clone(), token.map(str::to_owned));
        for (token, given, status) in [
            (None, "Bearer secret", 404),
            (Some("secret"), "", 401),
            (Some("secret"), "Bearer guess", 401),
            (Some("secret"), "Bearer ", 401),
            (Some("secret"), "Bearer secret", 200),
        ] {
            let (got, text) = ask(router(token), "/debug/rooms?by=nacks&n=3", given).await;
            assert_eq!(got.as_u16(), status, "{given}: {text}");
            assert!(status != 200 || text == "[]", "{text}");
        }
        let (status, _) = ask(router(Some("secret")), "/debug/rooms?by=luck", "Bearer secret").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn only_the_operator_caps_and_only_rooms_that_are_there() {
        let sfu = Sfu::start(Config::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let host = Host::new(sfu, None, "test".parse().unwrap());
        for (method, token, rate, status) in [
            ("PUT", "guess", "500kbps", 401),
            ("PUT", "secret", "fast", 400),
            ("PUT", "secret", "500kbps", 404),
            ("DELETE", "guess", "", 401),
            ("DELETE", "secret", "", 404),
        ] {
            let request = Request::builder().method(method).uri("/debug/rooms/hall/cap");
            let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            let router = router(host.clone(), Some("secret".to_owned()));
            let (got, text) = send(router, request.body(Body::from(rate)).unwrap()).await;
            assert_eq!(got.as_u16(), status, "{method} {token} {rate}: {text}");
        }
    }

    #[test]
    fn a_room_is_told_by_its_name() {
        let told = told(&RoomStats::default());
        assert_eq!(told["name"], "");
        assert_eq!(told.as_object().map(|fields| fields.len()), Some(7));
    }
}
