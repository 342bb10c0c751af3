//! WHIP and WHEP: one HTTP request in, one peer. Runs beside the media thread and only hands over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, post};
use serde::Deserialize;
use str0m::change::SdpOffer;
use str0m::crypto::dtls::DtlsCert;
use str0m::crypto::{CryptoProvider, from_feature_flags};
use str0m::{Candidate, Rtc};

/// What the media thread is asked to do.
pub enum Errand {
    /// Seat a peer, whose answer is on its way.
    Enter(Box<Newcomer>),
    /// The peer of this number has left.
    Leave(u64),
}

/// A peer on its way in.
pub struct Newcomer {
    pub rtc: Rtc,
    pub number: u64,
    pub room: String,
    /// Under what it publishes; `None` only watches.
    pub name: Option<String>,
    /// Whom it does not want to see: itself, where it publishes on another connection.
    pub exclude: Option<String>,
    /// Whether it has offered repairs (RFC 4588), which str0m's own description of a stream does not tell.
    pub asks_again: bool,
}

/// What every request needs.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

struct Shared {
    media: SocketAddr,
    errands: Mutex<(u64, Sender<Errand>)>,
    bell: OwnedFd,
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

#[derive(Deserialize, Default)]
struct Wishes {
    name: Option<String>,
    exclude: Option<String>,
}

impl Door {
    pub fn new(media: SocketAddr, errands: Sender<Errand>, bell: OwnedFd) -> Door {
        let crypto = Arc::new(from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate().expect("a certificate is made");
        Door(Arc::new(Shared { media, errands: Mutex::new((0, errands)), bell, crypto, certificate }))
    }

    fn enter(
        &self,
        room: String,
        publishes: bool,
        wishes: Wishes,
        offer: &str,
    ) -> Result<(u64, String), String> {
        let shared = &*self.0;
        let mut rtc = Rtc::builder()
            .set_crypto_provider(shared.crypto.clone())
            .set_dtls_cert(shared.certificate.clone())
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now());
        let candidate = Candidate::host(shared.media, "udp").map_err(|error| error.to_string())?;
        rtc.add_local_candidate(candidate);
        let asks_again = offer.contains(" rtx/90000");
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| error.to_string())?;
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| error.to_string())?.to_sdp_string();
        let mut errands = shared.errands.lock().expect("nobody panics while holding it");
        errands.0 += 1;
        let number = errands.0;
        let name = publishes.then(|| wishes.name.unwrap_or_default());
        let newcomer = Newcomer { rtc, number, room, name, exclude: wishes.exclude, asks_again };
        self.tell(&errands.1, Errand::Enter(Box::new(newcomer)));
        Ok((number, answer))
    }

    fn leave(&self, number: u64) {
        let errands = self.0.errands.lock().expect("nobody panics while holding it");
        self.tell(&errands.1, Errand::Leave(number));
    }

    fn tell(&self, errands: &Sender<Errand>, errand: Errand) {
        // The media thread ends with the process only.
        let _ = errands.send(errand);
        let _ = rustix::io::write(&self.0.bell, &1_u64.to_ne_bytes());
    }
}

/// Serves until the process ends.
pub async fn serve(listener: std::net::TcpListener, door: Door) -> std::io::Result<()> {
    let app = Router::new()
        .route("/whip/{room}", post(publish))
        .route("/whep/{room}", post(watch))
        .route("/whip/{room}/{number}", delete(end))
        .route("/whep/{room}/{number}", delete(end))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(door);
    axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await
}

async fn publish(
    door: State<Door>,
    room: Path<String>,
    wishes: Query<Wishes>,
    offer: String,
) -> impl IntoResponse {
    answer(door.enter(room.0.clone(), true, wishes.0, &offer), "whip", &room)
}

async fn watch(
    door: State<Door>,
    room: Path<String>,
    wishes: Query<Wishes>,
    offer: String,
) -> impl IntoResponse {
    answer(door.enter(room.0.clone(), false, wishes.0, &offer), "whep", &room)
}

fn answer(entered: Result<(u64, String), String>, kind: &str, room: &str) -> impl IntoResponse + use<> {
    match entered {
        Ok((number, sdp)) => {
            let location = format!("/{kind}/{room}/{number}");
            let headers =
                [(header::LOCATION, location), (header::CONTENT_TYPE, "application/sdp".to_owned())];
            Ok((StatusCode::CREATED, headers, sdp))
        }
        Err(error) => Err((StatusCode::BAD_REQUEST, error)),
    }
}

async fn end(door: State<Door>, Path((_, number)): Path<(String, u64)>) {
    door.leave(number);
}

#[expect(clippy::disallowed_methods, reason = "a host owns its clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Hundreds of m-lines.
const MAX_BODY: usize = 1024 * 1024;
