//! What a host hears about its peers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub use crate::counters::QualityLimit;
pub use crate::session::negotiate::Rejection;
use crate::{Bitrate, MediaKind, PeerId};

/// Something that happened to a peer, from [`Peer::next_event`](crate::Peer::next_event).
///
/// Labels of metrics never say who: events do.
///
/// ```no_run
/// use sluicegate::{CapCause, PeerEvent};
///
/// # async fn host(peer: sluicegate::Peer) {
/// while let Some(event) = peer.next_event().await {
///     match event {
///         PeerEvent::CapChanged { cause: CapCause::Policing, .. } => {
///             println!("{} of {} ignores its cap", peer.name(), peer.room().name());
///         }
///         PeerEvent::LayerChanged { mid, layer } => println!("{}: {mid} is {:?} now", peer.name(), layer.size),
///         PeerEvent::Left(reason) => println!("{} left: {reason:?}", peer.name()),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// The client's first authenticated connectivity check has arrived: it has a path to us. DTLS follows.
    IceConnected {
        /// Since it was answered.
        after: Duration,
    },
    /// ICE and DTLS are up: media can flow.
    Connected,
    /// The SFU wants to change what this client receives. Deliver the offer, then hand the client's
    /// answer to [`Peer::answer`](crate::Peer::answer).
    Offer {
        /// The session description to set as the client's remote description.
        sdp: String,
    },
    /// Which m-line now carries which publisher: the whole mapping, after every change. Arrives before the
    /// offer that makes it true.
    Slots(Vec<SlotInfo>),
    /// Another peer entered the room, or was there when this one joined.
    PeerJoined(PeerInfo),
    /// Another peer left the room.
    PeerLeft(PeerInfo),
    /// This peer now publishes on the m-line `mid`.
    TrackAdded {
        /// The m-line.
        mid: String,
        /// Audio or video.
        kind: MediaKind,
    },
    /// This peer stopped publishing on the m-line `mid`.
    TrackRemoved {
        /// The m-line.
        mid: String,
        /// Audio or video.
        kind: MediaKind,
    },
    /// Nothing will flow on an m-line that somebody wanted. The rest of the description stands.
    LineRejected {
        /// The m-line.
        mid: String,
        /// Why.
        reason: Rejection,
    },
    /// This peer now gets another layer of a simulcast track.
    LayerChanged {
        /// The m-line on which it receives.
        mid: String,
        /// The layer.
        layer: LayerInfo,
    },
    /// A track of the room cannot reach this peer: its client does not take the codec.
    CodecMissing {
        /// The m-line that carries nothing for that.
        mid: String,
        /// Whose track it is.
        publisher: PeerInfo,
        /// The codec, as SDP names it.
        codec: String,
    },
    /// The cap on what this peer publishes changed, or began or ceased to be enforced by dropping.
    CapChanged {
        /// The cap in force; `None` when there is none.
        cap: Option<Bitrate>,
        /// Why this event came.
        cause: CapCause,
    },
    /// Somebody else has the floor of the room: the dominant speaker, who keeps it through silence and through the noises
    /// of others. `None`: whoever had it has left, or sends no audio any more. A newcomer is told who has it.
    ///
    /// It is found by what clients say of how loud they are (RFC 6464).
    DominantSpeaker(Option<PeerInfo>),
    /// Others than before speak in the room, or nobody: the whole list, eight at most. It comes twice in a second at most, and
    /// has this peer in it, too.
    SpeakersChanged(Vec<PeerInfo>),
    /// The client said something on a data channel. The other members of the room who have a channel of this label open hear it
    /// too, unless [`PeerConfig::channels`](crate::PeerConfig::channels) says otherwise.
    ///
    /// Messages that the host does not fetch are counted in [`Lagged`](PeerEvent::Lagged) from 1 MiB on.
    Message {
        /// The label of the channel. The client chose it, up to 256 bytes.
        channel: String,
        /// Whether the client sent bytes. Otherwise they are UTF-8.
        binary: bool,
        /// What it said, up to 64 KiB.
        data: Bytes,
    },
    /// The client told how it fares, on the data channel `sfu-telemetry`: at most once in five seconds.
    ClientReport(ClientReport),
    /// Since the answer, no authenticated connectivity check has arrived: the announced addresses are
    /// probably not reachable from the client.
    Unreachable {
        /// What the client was told.
        announced: Vec<SocketAddr>,
    },
    /// The node is being left ([`Sfu::drain`](crate::Sfu::drain)): let the client join again elsewhere.
    Draining {
        /// The time there is for that, from now on.
        deadline: Duration,
    },
    /// The peer is gone; nothing follows.
    Left(LeaveReason),
    /// The host read too slowly: this many events before this one were dropped.
    /// [`Peer::resync`](crate::Peer::resync) brings back those that matter.
    Lagged(u64),
}

/// How a client fares, as it says. It may say anything within these bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClientReport {
    /// Its round trip to the SFU, at most 30 s.
    pub rtt: Option<Duration>,
    /// Of what it receives, at most 30 s.
    pub jitter: Option<Duration>,
    /// The share of packets that it lost since its last report, 0 to 1.
    pub loss: Option<f64>,
    /// What it receives, at most 10 Gb/s.
    pub receives: Option<Bitrate>,
    /// What it sends, at most 10 Gb/s.
    pub sends: Option<Bitrate>,
    /// Pictures a second that it shows, at most 240.
    pub fps: Option<f64>,
    /// Times that a picture stood still since its last report, at most 1,000.
    pub freezes: Option<u32>,
    /// For how long, at most a minute.
    pub frozen: Option<Duration>,
    /// What holds its encoder back.
    pub limited: Option<QualityLimit>,
    /// How long media waits to be played, at most 30 s.
    pub playout: Option<Duration>,
}

/// One m-line on which a peer receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// The m-line's identification tag.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Whose media it carries; `None` while it is idle.
    pub publisher: Option<PeerInfo>,
}

/// One layer of a simulcast track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The name its publisher gave it (`a=rid`, RFC 8851).
    pub rid: String,
    /// Width and height in pixels, once known.
    pub size: Option<(u16, u16)>,
}

/// Another peer of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its id.
    pub peer: PeerId,
    /// Its display name, as the host gave it.
    pub name: String,
}

/// Why [`PeerEvent::CapChanged`] was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapCause {
    /// The host set another cap.
    Host,
    /// The room's cap is shared differently among those who publish in it.
    Room,
    /// The machine is short of something, or no longer.
    Saturation,
    /// The publisher stayed more than 25 % over its cap for 2 s: its largest layers, then whole pictures, are now
    /// dropped down to the cap.
    Policing,
    /// It went on at more than twice its cap for 10 s: its video is dropped altogether.
    Muted,
    /// The publisher keeps to its cap again.
    Complying,
}

/// Who wants a bitrate capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CapScope {
    /// The host, for what the peer publishes or receives: [`Peer::set_publish_cap`](crate::Peer::set_publish_cap),
    /// [`Peer::set_downlink_cap`](crate::Peer::set_downlink_cap).
    Peer,
    /// The host, for every track that the peer publishes: [`Peer::set_track_cap`](crate::Peer::set_track_cap).
    Tracks,
    /// The peer's share of [`Room::set_cap`](crate::Room::set_cap).
    Room,
    /// The peer's share of [`Sfu::set_egress_capacity`](crate::Sfu::set_egress_capacity).
    Node,
    /// The saturation controller: the machine is short of something.
    Saturation,
    /// The peer's own network.
    Network,
}

impl CapScope {
    /// Every scope.
    pub const ALL: [CapScope; 6] = [
        CapScope::Peer,
        CapScope::Tracks,
        CapScope::Room,
        CapScope::Node,
        CapScope::Saturation,
        CapScope::Network,
    ];
}

/// A cap that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Who wants it.
    pub scope: CapScope,
    /// The most that may flow.
    pub bitrate: Bitrate,
}

/// Every cap on a peer's media, from [`Peer::explain_cap`](crate::Peer::explain_cap). The least of each list binds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CapExplanation {
    /// On what it publishes.
    pub publish: Vec<Cap>,
    /// On what it receives.
    pub downlink: Vec<Cap>,
}

impl CapExplanation {
    /// Which cap binds what the peer publishes. `None`: nothing does.
    pub fn binds_publish(&self) -> Option<Cap> {
        self.publish.iter().copied().min_by_key(|cap| cap.bitrate)
    }

    /// Which cap binds what the peer receives. `None`: nothing does.
    pub fn binds_downlink(&self) -> Option<Cap> {
        self.downlink.iter().copied().min_by_key(|cap| cap.bitrate)
    }
}

/// Why a peer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaveReason {
    /// The host let it go, or dropped its last handle.
    Left,
    /// The client closed its DTLS association.
    Closed,
    /// No authenticated connectivity check arrived within 30 s of joining.
    IceTimeout,
    /// Connectivity checks ceased for 30 s (RFC 7675).
    ConsentExpired,
    /// The DTLS handshake did not succeed.
    DtlsFailed,
    /// A fault inside the SFU cost this peer its session; the process goes on.
    Internal,
    /// The SFU shut down.
    Shutdown,
}
