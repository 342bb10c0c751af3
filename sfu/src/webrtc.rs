//! In-process peers: a [`webrtc`](https://docs.rs/webrtc) peer connection of the host's, seated in a room.
//!
//! For bots, recorders and agents that live in the host's own process. No HTTP is involved: offers and
//! answers are handed over directly, media goes over UDP like everybody's.
//!
//! ```no_run
//! use std::sync::Arc;
//! use sluicegate::{PeerConfig, PeerEvent, Room, webrtc::seat};
//! use webrtc::media_stream::track_local::TrackLocal;
//! use webrtc::peer_connection::{
//!     MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
//! };
//!
//! struct Bot;
//! // Implement `on_track` to receive what the room publishes.
//! impl PeerConnectionEventHandler for Bot {}
//!
//! # async fn enter(room: Room, voice: Arc<dyn TrackLocal>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut codecs = MediaEngine::default();
//! codecs.register_default_codecs()?;
//! let connection = PeerConnectionBuilder::new()
//!     .with_media_engine(codecs)
//!     .with_handler(Arc::new(Bot))
//!     .with_udp_addrs(vec!["127.0.0.1:0"])
//!     .build()
//!     .await?;
//! // A connection needs something to offer: a track to publish, or a transceiver to receive on.
//! connection.add_track(voice).await?;
//! let bot = seat(&room, PeerConfig::new("bot"), Arc::new(connection)).await?;
//! while let Some(event) = bot.next_event().await {
//!     if let PeerEvent::PeerJoined(info) = event {
//!         println!("{} is here", info.name);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! The types of this module's signatures come from `webrtc` 0.21; a major step there is a major step here.

use std::fmt;
use std::sync::Arc;

use ::webrtc::peer_connection::{PeerConnection, RTCSessionDescription};
use tokio::task::AbortHandle;

use crate::shell::Events;
use crate::{JoinError, NegotiateError, Peer, PeerConfig, PeerEvent, Room};

/// The `webrtc` this was built with.
pub use ::webrtc;

/// Seats `connection` in `room`: offers, joins, and takes the answer.
///
/// The connection brings what the host has given it before: tracks to publish, transceivers to receive on.
/// From here on the offers of the SFU are answered by a task of the current tokio runtime. Signalling
/// belongs to the seat: make no offer on the connection yourself.
///
/// # Errors
///
/// [`SeatError`]; the room is then as it was, and the connection is the host's to close.
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn seat(
    room: &Room,
    config: PeerConfig,
    connection: Arc<dyn PeerConnection>,
) -> Result<Seat, SeatError> {
    let offer = connection.create_offer(None).await.map_err(SeatError::Connection)?;
    let sdp = offer.sdp.clone();
    // Candidates need not be gathered first: the SFU learns where a client is from its checks.
    connection.set_local_description(offer).await.map_err(SeatError::Connection)?;
    let (peer, answer) = room.join(config, &sdp).await?;
    let answer = RTCSessionDescription::answer(answer).map_err(SeatError::Connection)?;
    connection.set_remote_description(answer).await.map_err(SeatError::Connection)?;
    let events = Events::new(EVENTS);
    let task = tokio::spawn(attend(peer.clone(), connection.clone(), events.clone())).abort_handle();
    Ok(Seat { peer, connection, events, task })
}

/// A peer connection in a room. Dropping it lets the peer go, unless the host holds another handle of the
/// [`Peer`]; then offers are no longer answered. The connection remains the host's to close.
pub struct Seat {
    peer: Peer,
    connection: Arc<dyn PeerConnection>,
    events: Arc<Events>,
    task: AbortHandle,
}

impl Seat {
    /// The peer, to cap it or to let it go. Its events arrive at [`Seat::next_event`]: do not take them
    /// from the peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The connection that sits here.
    pub fn connection(&self) -> &Arc<dyn PeerConnection> {
        &self.connection
    }

    /// The next event other than [`PeerEvent::Offer`], which the seat answers; `None` after
    /// [`PeerEvent::Left`]. If the connection cannot answer an offer, the peer leaves, and the reason is
    /// logged.
    pub async fn next_event(&self) -> Option<PeerEvent> {
        self.events.next().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// [`seat`] could not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeatError {
    /// The room refused the peer, or the connection's offer.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The connection refused to offer, or to take the answer.
    #[error("the peer connection: {0}")]
    Connection(#[source] ::webrtc::error::Error),
}

/// Answers what the SFU offers and passes the other events on.
async fn attend(peer: Peer, connection: Arc<dyn PeerConnection>, events: Arc<Events>) {
    while let Some(event) = peer.next_event().await {
        let PeerEvent::Offer { sdp } = event else {
            events.push(event);
            continue;
        };
        match answer(&peer, &*connection, sdp).await {
            // Whoever is gone hears it by the event that is on its way.
            Ok(()) | Err(AnswerFault::Peer(NegotiateError::Gone)) => {}
            Err(fault) => {
                tracing::warn!(peer = %peer.id(), %fault, "cannot answer the offer of the sfu: leaving");
                peer.leave();
            }
        }
    }
}

async fn answer(peer: &Peer, connection: &dyn PeerConnection, offer: String) -> Result<(), AnswerFault> {
    connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
    let answer = connection.create_answer(None).await?;
    let sdp = answer.sdp.clone();
    connection.set_local_description(answer).await?;
    Ok(peer.answer(&sdp).await?)
}

#[derive(Debug, thiserror::Error)]
enum AnswerFault {
    #[error(transparent)]
    Connection(#[from] ::webrtc::error::Error),
    #[error(transparent)]
    Peer(#[from] NegotiateError),
}

/// As many as the peer's own queue holds by default.
const EVENTS: usize = 256;
