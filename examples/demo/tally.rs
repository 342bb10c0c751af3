//! What the demo counts of its own doors, beside what the engine counts of media.

use sluicegate::signaling::{
    AuthFailure, Endpoint, MessageType, Method, Op, Outcome, Region, SignalingMetrics,
};

use crate::message::{FromClient, ToClient};
use crate::refusal::Refusal;
use crate::token::TokenError;

/// Everything at 0.
pub fn signaling(region: Region) -> SignalingMetrics {
    SignalingMetrics::new(region, endpoints()).expect("the table is checked by a test")
}

/// The routes of `site`, `whip` and `debug`, and what they answer.
fn endpoints() -> Vec<Endpoint> {
    let get = |name, codes| Endpoint::new(name).answers(Method::Get, codes);
    let door = |name| {
        Endpoint::new(name)
            .answers(Method::Post, &[201, 400, 401, 413, 415, 503])
            .answers(Method::Options, &[204])
    };
    let session = |name| {
        Endpoint::new(name)
            .answers(Method::Delete, &[200, 404])
            .answers(Method::Patch, &[204, 400, 404, 412, 413, 415, 422])
            .answers(Method::Options, &[204])
    };
    let assets = [
        "/call.js",
        "/chat.js",
        "/digest.js",
        "/media.js",
        "/meter.js",
        "/pulse.js",
        "/tiles.js",
        "/style.css",
    ];
    vec![
        get("page", &[200]).route("/"),
        assets.into_iter().fold(get("assets", &[200]), Endpoint::route),
        get("ws", &[101, 400, 401, 426, 503]).route("/ws/{room}"),
        door("whip").route("/whip/{room}"),
        door("whep").route("/whep/{room}"),
        session("whip_session").route("/whip/{room}/{id}"),
        session("whep_session").route("/whep/{room}/{id}"),
        get("healthz", &[200]).route("/healthz"),
        get("readyz", &[200, 503]).route("/readyz"),
        get("load", &[200]).route("/load"),
        get("metrics", &[200]).route("/metrics"),
        get("debug_rooms", &[200, 400, 401]).route("/debug/rooms"),
        Endpoint::new("debug_cap")
            .answers(Method::Put, &[204, 400, 401, 404, 503])
            .answers(Method::Delete, &[204, 401, 404, 503])
            .route("/debug/rooms/{room}/cap"),
    ]
}

/// Counts what became of a request, and hands the result on.
pub fn tally<T>(signaling: &SignalingMetrics, op: Op, result: Result<T, Refusal>) -> Result<T, Refusal> {
    let outcome = match &result {
        Ok(_) => Outcome::Ok,
        Err(refusal) if refusal.is_fault => Outcome::Error,
        Err(_) => Outcome::Refused,
    };
    signaling.request(op, outcome);
    result
}

impl FromClient {
    pub fn kind(&self) -> MessageType {
        match self {
            FromClient::Join { .. } => MessageType::Join,
            FromClient::Offer { .. } => MessageType::Offer,
            FromClient::Answer { .. } => MessageType::Answer,
            FromClient::Limit { .. } => MessageType::Limit,
            FromClient::Leave => MessageType::Leave,
        }
    }
}

impl ToClient {
    pub fn kind(&self) -> MessageType {
        match self {
            ToClient::Joined { .. } => MessageType::Joined,
            ToClient::Offer { .. } => MessageType::Offer,
            ToClient::Answer { .. } => MessageType::Answer,
            ToClient::Slots { .. } => MessageType::Slots,
            ToClient::PeerJoined(_) => MessageType::PeerJoined,
            ToClient::PeerLeft(_) => MessageType::PeerLeft,
            ToClient::Cap { .. } => MessageType::Cap,
            ToClient::Layer { .. } => MessageType::Layer,
            ToClient::CodecMissing { .. } => MessageType::CodecMissing,
            ToClient::Draining { .. } | ToClient::Floor { .. } => MessageType::Other,
            ToClient::Unreachable { .. } => MessageType::Unreachable,
            ToClient::Error { .. } => MessageType::Error,
            ToClient::Bye { .. } => MessageType::Bye,
        }
    }
}

impl From<TokenError> for AuthFailure {
    fn from(error: TokenError) -> AuthFailure {
        match error {
            TokenError::Missing => AuthFailure::Missing,
            TokenError::Scheme | TokenError::Malformed => AuthFailure::Malformed,
            TokenError::Foreign => AuthFailure::Invalid,
            TokenError::Expired => AuthFailure::Expired,
        }
    }
}

#[test]
fn the_table_is_good() {
    signaling("test".parse().unwrap());
}
