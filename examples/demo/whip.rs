//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): one HTTP request in, one peer.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query as UrlQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluicegate::signaling::{MessageType, Op};
use sluicegate::{Subscribe, TrackFilter};

use crate::host::{Host, Query};
use crate::refusal::Refusal;
use crate::sdpfrag::{SdpFrag, ufrag_of};
use crate::seat::{Door, Seat};
use crate::tally::tally;

pub fn router() -> Router<Host> {
    Router::new()
        .route("/whip/{room}", post(publish).options(allow_post))
        .route("/whep/{room}", post(watch).options(allow_post))
        .route("/whip/{room}/{id}", delete(end).patch(trickle).options(allow_patch))
        .route("/whep/{room}/{id}", delete(end).patch(trickle).options(allow_patch))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(allow_every_origin))
}

async fn publish(
    State(host): State<Host>,
    Path(room): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    open(&host, &room, &query, &headers, &body, Door::Whip).await
}

async fn watch(
    State(host): State<Host>,
    Path(room): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    open(&host, &room, &query, &headers, &body, Door::Whep).await
}

async fn open(
    host: &Host,
    room: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
    door: Door,
) -> Result<Response, Refusal> {
    host.signaling().received(MessageType::Offer);
    let opened = tally(host.signaling(), Op::Join, seat(host, room, query, headers, body, door).await)?;
    host.signaling().sent(MessageType::Answer);
    Ok(opened)
}

async fn seat(
    host: &Host,
    room: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
    door: Door,
) -> Result<Response, Refusal> {
    let (subscribe, nameless) = match door {
        Door::Whep => (Subscribe::Slots(filter(query)), Some("viewer")),
        _ => (Subscribe::Nothing, None),
    };
    let entry = host.admit(room, query, headers, nameless)?;
    let offer = text_of_type(headers, body, SDP)?;
    let (seat, answer) = Seat::take(host, &entry, door, subscribe, offer).await?;
    let (id, etag) = host.sessions().open(seat, ufrag_of(offer).map(str::to_owned));
    let room = utf8_percent_encode(entry.room.as_str(), NON_ALPHANUMERIC);
    let location = format!("/{}/{room}/{id}", segment(door));
    let headers =
        [(header::LOCATION, location), (header::CONTENT_TYPE, SDP.to_owned()), (header::ETAG, etag)];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

fn filter(query: &Query) -> TrackFilter {
    TrackFilter { publisher: query.publisher.clone(), exclude: query.exclude.clone() }
}

/// Ends the session. Its address is the permission: only its owner was told.
async fn end(
    State(host): State<Host>,
    Path((room, id)): Path<(String, String)>,
    request: Request,
) -> Result<(), Refusal> {
    host.signaling().received(MessageType::Leave);
    let found = find(&host, &room, &id, request.uri().path());
    let closed = found.and_then(|_| match host.sessions().close(&id) {
        true => Ok(()),
        false => Err(Refusal::unknown_session()),
    });
    tally(host.signaling(), Op::Leave, closed)
}

/// Takes candidates and has no use for them: an ICE-lite server learns where the client is from
/// the client's own checks. RFC 9725 §4.3.
async fn trickle(
    State(host): State<Host>,
    Path((room, id)): Path<(String, String)>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    host.signaling().received(MessageType::Candidate);
    tally(host.signaling(), Op::Candidate, take(&host, &room, &id, uri.path(), &headers, &body))
}

fn take(
    host: &Host,
    room: &str,
    id: &str,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<StatusCode, Refusal> {
    let session = find(host, room, id, path)?;
    let text = text_of_type(headers, body, SDPFRAG)?;
    let frag = SdpFrag::parse(text).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let restarts = frag.ufrag.is_some_and(|ufrag| session.ufrag.as_deref() != Some(ufrag));
    if restarts {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no-ice-restart",
            "the fragment's ice-ufrag is not the offer's: this server takes no ICE restart; POST a new offer",
        ));
    }
    match headers.get(header::IF_MATCH).map(HeaderValue::as_bytes) {
        None | Some(b"*") => Ok(StatusCode::NO_CONTENT),
        Some(tag) if tag == session.etag.as_bytes() => Ok(StatusCode::NO_CONTENT),
        Some(_) => Err(Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            "stale",
            "If-Match does not name this session's ETag",
        )),
    }
}

fn find(
    host: &Host,
    room: &str,
    id: &str,
    path: &str,
) -> Result<std::sync::Arc<crate::sessions::Session>, Refusal> {
    let session = host.sessions().get(id).ok_or_else(Refusal::unknown_session)?;
    let at_its_address = session.seat.room().as_str() == room
        && path.starts_with(&format!("/{}/", segment(session.seat.door())));
    if at_its_address { Ok(session) } else { Err(Refusal::unknown_session()) }
}

fn segment(door: Door) -> &'static str {
    match door {
        Door::Whep => "whep",
        Door::Whip | Door::Page => "whip",
    }
}

fn text_of_type<'a>(headers: &HeaderMap, body: &'a [u8], wanted: &str) -> Result<&'a str, Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let essence = given.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        let message = format!("send Content-Type: {wanted}, not {given}");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", message));
    }
    std::str::from_utf8(body).map_err(|_| Refusal::bad_request("the body is not UTF-8 text"))
}

async fn allow_post() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(ACCEPT_POST, SDP), (header::ALLOW, "POST, OPTIONS")])
}

async fn allow_patch() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(ACCEPT_PATCH, SDPFRAG), (header::ALLOW, "PATCH, DELETE, OPTIONS")])
}

/// Players live on other sites than the server. No cookie is ever looked at, so `*` gives away
/// nothing that a program without a browser could not ask for.
async fn allow_every_origin(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const SDP: &str = "application/sdp";
const SDPFRAG: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: header::HeaderName = header::HeaderName::from_static("accept-post");
const ACCEPT_PATCH: header::HeaderName = header::HeaderName::from_static("accept-patch");
/// A browser's offer is 7 kB for two m-lines, and 130 kB with 40 slots to fill.
const MAX_BODY: usize = 384 * 1024;
