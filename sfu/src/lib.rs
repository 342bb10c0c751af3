//! An SFU (selective forwarding unit) to embed in a Rust application: it forwards WebRTC media between the
//! peers of a room, counts every NACK, PLI and FIR, holds publishers to their bitrate caps, and mounts its
//! metrics on the host's Prometheus registry.
//!
//! ```no_run
//! use sluicegate::{Bitrate, Config, PeerConfig, PeerEvent, Sfu};
//!
//! # async fn host(public_ip: std::net::IpAddr, offer: String) -> Result<(), Box<dyn std::error::Error>> {
//! let sfu = Sfu::start(Config::new("0.0.0.0:3478".parse()?).announce(public_ip)).await?;
//! let registry = sfu.metrics().registry(); // or .register(&mut yours)
//! let room = sfu.room("standup")?;
//! let (peer, answer) = room.join(PeerConfig::new("ada"), &offer).await?; // send `answer` to the client
//! peer.set_publish_cap(Bitrate::kbps(800)).await?;
//! while let Some(event) = peer.next_event().await {
//!     match event {
//!         PeerEvent::Offer { sdp } => { /* deliver it, then peer.answer(..) */ }
//!         PeerEvent::Left(reason) => { /* gone */ }
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `shell` | yes | threads, sockets, the clock, the API on this page; without it the crate is the sans-IO core |
//! | `axum` | no | [`axum::metrics_router`], a ready `/metrics` |
//! | `signaling-metrics` | no | [`signaling::SignalingMetrics`]: the host's own sockets, rooms, messages and HTTP requests, and its process |
//! | `webrtc` | no | [`webrtc::seat`], an in-process `webrtc` peer connection in a room |
//!
//! # Threads
//!
//! Media runs on one thread per CPU, each with its own single-threaded runtime, UDP socket and engine;
//! a room lives on one of them. Host code never runs on those threads, except interceptors that the host
//! seats itself ([`PeerConfig::interceptor`]). Calls on [`Sfu`], [`Room`] and [`Peer`] may come from any
//! runtime.
//!
//! # Shutdown
//!
//! Dropping the last [`Peer`] handle lets the peer go. Dropping the last handle of any kind ends the
//! threads; [`Sfu::shutdown`] does so at once, with a goodbye to every client.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "shell"),
    allow(
        dead_code,
        unused_imports,
        reason = "host settings and metric labels have no reader without the shell"
    )
)]

mod config;
mod congestion;
mod counters;
mod drop;
mod engine;
pub mod error;
mod event;
mod ids;
pub mod interceptors;
mod media;
mod path;
mod router;
mod saturation;
mod seq;
mod session;
mod stats;
#[cfg(test)]
mod testing;
mod units;
mod wire;

/// The sans-IO engine, for this workspace's simulated world, benches and fuzz targets. Not part of the API
/// that semver covers.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::counters::{
        Cells, Counters, Direction, DropKind, EndReason, JoinOutcome, MessageOutcome, RepairOutcome,
        ReportOutcome, RequestOutcome, SrtpProfile, Transmission,
    };
    pub use crate::engine::crossing::Crossing;
    pub use crate::engine::{Engine, EngineConfig, Outlet, SendFault, Transmit};
    pub use crate::ids::Ssrc;
    pub use crate::path::Path;
    pub use crate::saturation::measures::Measures;
    pub use crate::session::channels::Channels;
    pub use crate::session::dtls::Identity;
    pub use crate::session::feedback::Feedback;
    pub use crate::session::srtp::{Inbound, KeyMaterial, MasterKey, Outbound, Profile};
    pub use crate::wire::rtcp::{Counts, gate, scan};

    /// The parsers, as they are.
    pub mod wire {
        pub use crate::wire::{
            av1, demux, descriptor, dtls, h264, h265, red, rtcp, rtp, sctp, stun, vp8, vp9,
        };
    }
}

#[cfg(feature = "shell")]
mod metrics;
#[cfg(feature = "shell")]
mod shell;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod axum;

#[cfg(feature = "signaling-metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "signaling-metrics")))]
pub mod signaling;

#[cfg(feature = "webrtc")]
#[cfg_attr(docsrs, doc(cfg(feature = "webrtc")))]
pub mod webrtc;

pub use config::{
    Announce, Audible, Config, DataChannels, LayerLimit, Limits, PeerConfig, Saturation, Subscribe,
    TrackFilter, TrackSource,
};
pub use drop::{DropReason, FilterReason};
pub use engine::MessagePayload;
pub use error::{
    AnswerError, CapError, DrainError, JoinError, MessageError, NegotiateError, OfferError, RefusalReason,
    Refused, RoomError, StartError,
};
pub use event::{
    Cap, CapCause, CapExplanation, CapScope, ClientReport, LayerInfo, LeaveReason, PeerEvent, PeerInfo,
    QualityLimit, Rejection, SlotInfo,
};
pub use ids::{MediaKind, Mid, PeerId};
pub use saturation::admission::NodeState;
pub use saturation::level::SaturationLevel;
pub use stats::{By, InboundStats, OutboundStats, PeerStats, RoomStats};
pub use units::{Bitrate, BitrateError};

#[cfg(feature = "shell")]
pub use metrics::{
    MetricFamily, MetricKind, MetricSample, MetricValue, Metrics, MetricsSnapshot, OPENMETRICS_TEXT,
};
#[cfg(feature = "shell")]
pub use prometheus_client;
#[cfg(feature = "shell")]
pub use shell::{AdmissionReport, LoadReport, Peer, Room, Sfu, WorkerLoad};
