//! What can fail for a host, one enum per operation.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::counters::Admission;
pub use crate::session::negotiate::{AnswerError, OfferError};

/// [`Sfu::start`](crate::Sfu::start) could not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A media port is taken or not permitted.
    #[error("cannot bind the media port {address}; free it, or choose another with Config::new")]
    Bind {
        /// The address of the worker whose socket could not be bound.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The media address is a wildcard and no address was announced.
    #[error(
        "no address to announce: {media} is a wildcard, so name an address that clients can reach with Config::announce"
    )]
    NothingToAnnounce {
        /// The configured media address.
        media: SocketAddr,
    },
    /// An announced address cannot be reached by clients of the media socket.
    #[error("cannot announce {announced}: the media socket {media} does not receive that address family")]
    AddressFamily {
        /// The announced address.
        announced: std::net::IpAddr,
        /// The configured media address.
        media: SocketAddr,
    },
    /// Zero workers, or so many that their ports do not fit below 65536.
    #[error("{workers} workers cannot be placed from port {port} on")]
    Workers {
        /// The number asked for.
        workers: usize,
        /// The base port.
        port: u16,
    },
    /// A thread or runtime could not be made.
    #[error("cannot start a media thread")]
    Thread(#[from] io::Error),
    /// No certificate could be made for DTLS.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(String),
}

/// The node does not take what was asked for, now.
///
/// What to do with it: pass `retry_after` on (HTTP has a header for it), or ask another node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not admitted, {reason}; retry in {} s", .retry_after.as_secs_f64().ceil())]
pub struct Refused {
    /// Why.
    pub reason: RefusalReason,
    /// When to ask again. No two who are refused are told the same, so that they do not come back together.
    pub retry_after: Duration,
}

/// Why something is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// There is no room for more, or what is running is being cut already.
    Saturated,
    /// The node is being left: ask another.
    Draining,
    /// A configured maximum is reached.
    Limit,
    /// The room takes so much that others suffer.
    NoisyRoom,
    /// The room fills faster than its load can be measured.
    Rate,
    /// The node had a fault lately and takes little.
    Unhealthy,
}

impl RefusalReason {
    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        self.label().as_str()
    }

    pub(crate) const fn label(self) -> Admission {
        match self {
            RefusalReason::Saturated => Admission::Saturated,
            RefusalReason::Draining => Admission::Draining,
            RefusalReason::Limit => Admission::Limit,
            RefusalReason::NoisyRoom => Admission::NoisyRoom,
            RefusalReason::Rate => Admission::Rate,
            RefusalReason::Unhealthy => Admission::Unhealthy,
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// [`Sfu::room`](crate::Sfu::room) refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The SFU is shutting down.
    #[error("the sfu is shutting down")]
    Shutdown,
    /// The node does not take another room now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// [`Sfu::drain`](crate::Sfu::drain) did not end in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The deadline has passed, and some are still here. They stay until they leave, or until
    /// [`Sfu::shutdown`](crate::Sfu::shutdown).
    #[error("{remaining} peers have not left by the deadline")]
    Deadline {
        /// How many.
        remaining: usize,
    },
    /// The SFU ended meanwhile.
    #[error("the sfu is shutting down")]
    Shutdown,
}

/// [`Room::join`](crate::Room::join) refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The client's offer cannot be answered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// A configured limit is reached.
    #[error("{what} is full: {limit} peers")]
    Full {
        /// `room` or `worker`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The node does not take another peer now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The SFU is shutting down.
    #[error("the sfu is shutting down")]
    Shutdown,
}

/// [`Peer::offer`](crate::Peer::offer) or [`Peer::answer`](crate::Peer::answer) failed; the peer keeps its
/// previous state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiateError {
    /// The client's offer cannot be answered. [`OfferError::Glare`] means that the SFU's own offer is
    /// pending: the client rolls back, answers that one, and offers again.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The client's answer does not fit the offer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The peer has left.
    #[error("the peer has left")]
    Gone,
}

/// [`Peer::send_message`](crate::Peer::send_message) or [`Room::broadcast`](crate::Room::broadcast) refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The peer has left, or the SFU is shutting down.
    #[error("the peer has left")]
    Gone,
    /// The client has no channel of this label open.
    #[error("no such channel is open")]
    NoChannel,
    /// Larger than a message may be, or than this client takes.
    #[error("larger than a message may be")]
    TooLarge,
    /// The client does not take what waits for it already: 1 MiB, and 256 bytes for each message.
    #[error("too much waits for the client")]
    Full,
}

/// A cap could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// The peer has left.
    #[error("the peer has left")]
    Gone,
    /// The peer publishes nothing on that m-line.
    #[error("the peer publishes nothing on the m-line `{mid}`")]
    NoSuchTrack {
        /// The m-line.
        mid: String,
    },
}

/// [`Peer::resume_token`](crate::Peer::resume_token) gave none.
#[cfg(feature = "shell")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeTokenError {
    /// The peer has left.
    #[error("the peer has left")]
    Gone,
    /// The session store did not take the record.
    #[error(transparent)]
    Store(#[from] crate::resume::StoreError),
}

/// [`Sfu::resume`](crate::Sfu::resume) refused. Nothing has changed then, and but for
/// [`Used`](ResumeError::Used) and what is no token at all, the token is as good as it was.
#[cfg(feature = "shell")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// No such token was given out: it is forged or mangled, or was given out and forgotten long ago.
    #[error("not a resume token of ours")]
    Unknown,
    /// Its time is up.
    #[error("the resume token has expired")]
    Expired,
    /// Somebody has come back with it.
    #[error("the resume token has been used")]
    Used,
    /// The peer it was for was let go, or came back with another one.
    #[error("the resume token has been revoked")]
    Revoked,
    /// It is for another room than [`Resume::room`](crate::Resume::room) names.
    #[error("the resume token is for another room")]
    OtherRoom,
    /// [`Resume::in_place`](crate::Resume::in_place) was asked for, and the peer's connection is gone, or not the one
    /// that the offer is of: let the client come with a new one.
    #[error("the connection to come back on is gone")]
    ConnectionGone,
    /// The client's offer cannot be answered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// A configured limit is reached.
    #[error("{what} is full: {limit} peers")]
    Full {
        /// `room` or `worker`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The node takes nobody back now: everybody has left it, to be served elsewhere.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The session store did not answer.
    #[error(transparent)]
    Store(#[from] crate::resume::StoreError),
    /// The SFU is shutting down.
    #[error("the sfu is shutting down")]
    Shutdown,
}
