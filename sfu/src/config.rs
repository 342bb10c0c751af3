//! What a host chooses: once for the whole SFU, and once per peer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{Bitrate, interceptors::BoxedInterceptor};

/// How an SFU is set up. Every setting has a working default but the media address.
///
/// ```
/// use sluicegate::{Bitrate, Config};
/// let config = Config::new("0.0.0.0:3478".parse()?)
///     .announce("203.0.113.7".parse::<std::net::IpAddr>()?)
///     .publish_cap(Bitrate::kbps(2500));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) media: SocketAddr,
    pub(crate) announce: Vec<Announce>,
    pub(crate) workers: Option<usize>,
    pub(crate) publish_cap: Option<Bitrate>,
    pub(crate) limits: Limits,
    pub(crate) require_gcm: bool,
    pub(crate) unreachable_after: Duration,
    pub(crate) pin_workers: bool,
    pub(crate) saturation: Saturation,
    pub(crate) probation: bool,
}

/// Bounds on what peers can make grow. The defaults are far above what calls need.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Peers in one room.
    pub peers_per_room: usize,
    /// Peers of one room that are kept on one worker, unless it is busy. Further ones go where there is least to do, and
    /// what the room publishes crosses over to them.
    pub peers_together: usize,
    /// Peers on one worker, all rooms together.
    pub peers_per_worker: usize,
    /// Media sections one peer may publish.
    pub tracks_per_peer: usize,
    /// Media sections one peer may receive on.
    pub slots_per_peer: usize,
    /// Packets that may wait for one subscriber. At 1000 packets a second it is half a second.
    pub queue: usize,
    /// Events that may wait for one `Peer` handle before the oldest are dropped and `Lagged` tells so.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            peers_per_room: 1_000,
            peers_together: 50,
            peers_per_worker: 10_000,
            tracks_per_peer: 8,
            slots_per_peer: 100,
            queue: 512,
            events: 256,
        }
    }
}

impl Config {
    /// Media flows over UDP at `media`: one port per worker, consecutive from this one. Port 0 lets the
    /// kernel choose for each worker.
    ///
    /// Clients are told this address if it is a specific one; with `0.0.0.0` or `[::]` name at least one
    /// with [`announce`](Config::announce).
    pub fn new(media: SocketAddr) -> Self {
        Config {
            media,
            announce: Vec::new(),
            workers: None,
            publish_cap: None,
            limits: Limits::default(),
            require_gcm: false,
            unreachable_after: Duration::from_secs(5),
            pin_workers: true,
            saturation: Saturation::Act,
            probation: false,
        }
    }

    /// Adds an address that clients are told to send media to. May be called several times, for
    /// instance with an IPv4 and an IPv6 address. With a port (`SocketAddr`), worker *n* is announced
    /// at that port + *n*: what a port mapping in front of the host makes of the consecutive ports.
    pub fn announce(mut self, address: impl Into<Announce>) -> Self {
        self.announce.push(address.into());
        self
    }

    /// Media threads. Default: one per CPU that the process may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The most any peer may publish, all its tracks together, unless
    /// [`Peer::set_publish_cap`](crate::Peer::set_publish_cap) says otherwise. Default: none.
    pub fn publish_cap(mut self, cap: Bitrate) -> Self {
        self.publish_cap = Some(cap);
        self
    }

    /// Refuses clients that cannot do AES-GCM for media (RFC 7714). Default: they fall back to
    /// AES-CM with HMAC-SHA1, which costs about five times the CPU.
    pub fn require_gcm(mut self, required: bool) -> Self {
        self.require_gcm = required;
        self
    }

    /// Replaces the bounds on what peers can make grow.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What the SFU does about its own load. Default: [`Saturation::Act`].
    pub fn saturation(mut self, saturation: Saturation) -> Self {
        self.saturation = saturation;
        self
    }

    /// Begins on probation: a tenth of its room is given away at once, a tenth more each minute. For a start that
    /// follows a crash. Default: no.
    pub fn probation(mut self, probation: bool) -> Self {
        self.probation = probation;
        self
    }

    /// Whether each worker is bound to one CPU. Default: yes, where there are as many CPUs as workers.
    pub fn pin_workers(mut self, pin: bool) -> Self {
        self.pin_workers = pin;
        self
    }
}

/// What an SFU does about its own load.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Saturation {
    /// It refuses what it has no room for, and gives up the least valuable media before it drowns.
    #[default]
    Act,
    /// It measures and decides the same, shows it in metrics, and does nothing: for a first rollout. A node that drains
    /// refuses newcomers all the same.
    DryRun,
}

/// An address to announce to clients: an IP, or an IP with the port that worker 0 is reachable at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

impl From<IpAddr> for Announce {
    fn from(ip: IpAddr) -> Self {
        Announce { ip, port: None }
    }
}

impl From<SocketAddr> for Announce {
    fn from(address: SocketAddr) -> Self {
        Announce { ip: address.ip(), port: Some(address.port()) }
    }
}

/// Reads `203.0.113.7`, `203.0.113.7:40000`, `2001:db8::7` or `[2001:db8::7]:40000`.
impl std::str::FromStr for Announce {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<SocketAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => text.parse::<IpAddr>().map(Announce::from),
        }
    }
}

/// How one peer takes part in a room.
pub struct PeerConfig {
    pub(crate) name: String,
    pub(crate) subscribe: Subscribe,
    pub(crate) publish_cap: Option<Bitrate>,
    pub(crate) interceptors: Vec<(usize, BoxedInterceptor)>,
    pub(crate) span: Option<tracing::Span>,
    pub(crate) channels: DataChannels,
}

impl PeerConfig {
    /// A peer that publishes what it offers and receives everything, under a display `name` that other
    /// peers are told. Names need not be unique and never reach a metric.
    pub fn new(name: impl Into<String>) -> Self {
        PeerConfig {
            name: name.into(),
            subscribe: Subscribe::Auto,
            publish_cap: None,
            interceptors: Vec::new(),
            span: None,
            channels: DataChannels::Relayed,
        }
    }

    /// What the peer receives. Default: [`Subscribe::Auto`].
    pub fn subscribe(mut self, subscribe: Subscribe) -> Self {
        self.subscribe = subscribe;
        self
    }

    /// The most this peer may publish, all its tracks together.
    pub fn publish_cap(mut self, cap: Bitrate) -> Self {
        self.publish_cap = Some(cap);
        self
    }

    /// Seats an interceptor in this peer's RTCP chain. `position` is the distance from the wire: the
    /// crate's own counter sits at 500, closer to the wire than anything at 1000 and above; see
    /// [`interceptors`](crate::interceptors). RTP does not walk the chain.
    pub fn interceptor(mut self, position: usize, interceptor: BoxedInterceptor) -> Self {
        self.interceptors.push((position, interceptor));
        self
    }

    /// What becomes of data channels that the client opens. Default: [`DataChannels::Relayed`].
    ///
    /// Messages on a channel labelled `sfu-telemetry` are never relayed: they are
    /// [`PeerEvent::ClientReport`](crate::PeerEvent::ClientReport)s.
    pub fn channels(mut self, channels: DataChannels) -> Self {
        self.channels = channels;
        self
    }

    /// What the host does when it lets this peer join: `sfu.join` is a child of this span, and its stages are children of that
    /// (`sfu.admit`, `sfu.sdp.negotiate`, `sfu.ice`, `sfu.dtls`, `sfu.first_packet`, `sfu.subscribe`; target `sfu::join`). Default: the span that is
    /// current when [`Room::join`](crate::Room::join) is called.
    ///
    /// They end with the peer's first packet, or at the latest after ten seconds without one: a host that keeps its own span open as long
    /// as its children live sees it end then. Nothing is traced per packet.
    ///
    /// ```no_run
    /// # async fn host(room: sluicegate::Room, offer: String) -> Result<(), sluicegate::JoinError> {
    /// let request = tracing::info_span!("http.request");
    /// let config = sluicegate::PeerConfig::new("ada").span(request);
    /// let (peer, answer) = room.join(config, &offer).await?;
    /// # Ok(()) }
    /// ```
    pub fn span(mut self, span: tracing::Span) -> Self {
        self.span = Some(span);
        self
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("name", &self.name)
            .field("subscribe", &self.subscribe)
            .field("publish_cap", &self.publish_cap)
            .field("interceptors", &self.interceptors.len())
            .field("channels", &self.channels)
            .finish()
    }
}

/// What becomes of a client's data channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataChannels {
    /// What it says on a channel goes to the host, and to the other members of the room who have a channel of the same label open and
    /// are relayed to as well; and what they say comes to it.
    #[default]
    Relayed,
    /// What it says goes to the host alone ([`PeerEvent::Message`](crate::PeerEvent::Message)), and it hears the host alone
    /// ([`Peer::send_message`](crate::Peer::send_message), [`Room::broadcast`](crate::Room::broadcast)).
    ToHost,
    /// There are none: the m-line is rejected.
    Refused,
}

/// What a peer receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribe {
    /// Every track of the room, as it comes: first on the m-lines the client offered to receive on, then
    /// on m-lines that the SFU offers ([`PeerEvent::Offer`](crate::PeerEvent::Offer)). For calls.
    Auto,
    /// Only the `recvonly` m-lines the client offered, filled in publish order; the nth audio and the nth
    /// video m-line carry the same publisher. For WHEP players, which cannot be sent an offer.
    Slots(TrackFilter),
    /// Nothing. For WHIP publishers.
    Nothing,
}

/// Narrows what a peer receives, by publisher name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackFilter {
    /// Only publishers of this name.
    pub publisher: Option<String>,
    /// No publisher of this name.
    pub exclude: Option<String>,
}

impl TrackFilter {
    pub(crate) fn admits(&self, publisher: &str) -> bool {
        self.publisher.as_deref().is_none_or(|only| only == publisher)
            && self.exclude.as_deref().is_none_or(|not| not != publisher)
    }
}

/// Whose audio goes out in a room: [`Room::set_audible`](crate::Room::set_audible).
///
/// Who is heard is decided by the levels that clients tell (RFC 6464), which they may make up: whoever claims to be loud
/// is heard, and nothing else. A client that tells none is taken to speak, at −40 dBov, while its packets are as heavy as
/// words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Audible {
    /// Everybody's in a room of up to 20 voices, that of the three loudest in a larger one.
    #[default]
    Auto,
    /// Everybody's.
    All,
    /// That of so many, the loudest; 1 to 8, and what lies beyond counts as the nearest.
    Loudest(u8),
}

/// What a track of video shows: [`Peer::set_source`](crate::Peer::set_source).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum TrackSource {
    /// Somebody.
    #[default]
    Camera,
    /// Text to be read.
    Screen,
}

/// How much of a track a subscriber gets at most: [`Peer::limit_layers`](crate::Peer::limit_layers).
///
/// Spatial layers count from the smallest picture, 0, whether they come as separate streams (simulcast) or in
/// one (SVC); temporal layers from the slowest. What lies beyond what the publisher sends means all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LayerLimit {
    /// The largest picture to send.
    pub spatial: u8,
    /// The fastest.
    pub temporal: u8,
}

impl LayerLimit {
    /// Everything there is.
    pub const NONE: LayerLimit = LayerLimit { spatial: u8::MAX, temporal: u8::MAX };
}

impl Default for LayerLimit {
    fn default() -> Self {
        LayerLimit::NONE
    }
}
