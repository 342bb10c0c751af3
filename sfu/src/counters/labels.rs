//! Label values. Every label is a closed enum, so a room or user id cannot reach a scrape.

use crate::drop::{DropReason, FilterReason};
use crate::ids::MediaKind;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// Every value, in the order of the discriminants.
    const VALUES: &'static [Self];

    /// The value as the scrape writes it.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in label order.
            pub const ALL: [$name; [$($text),+].len()] = [$($name::$variant),+];

            /// The metric label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl Label for $name {
            const VALUES: &'static [Self] = &Self::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}

labels! {
    /// Which way a packet crosses our edge.
    pub enum Direction {
        /// Received by the SFU.
        In = "in",
        /// Sent by the SFU.
        Out = "out",
    }

    /// Why a packet is on the wire.
    pub enum Transmission {
        /// Sent once, as the encoder made it.
        First = "first",
        /// A retransmission, RFC 4588.
        Rtx = "rtx",
        /// Forward error correction.
        Fec = "fec",
        /// Probes and fillers: no media inside.
        Padding = "padding",
    }

    /// What a dropped packet was, as far as we could tell.
    pub enum DropKind {
        /// An audio track's packet.
        Audio = "audio",
        /// A video track's packet.
        Video = "video",
        /// RTCP, told by its first two bytes (RFC 5761 §4).
        Rtcp = "rtcp",
        /// Everything before authentication, STUN and DTLS.
        Other = "other",
    }

    /// What became of a subscriber's PLI or FIR.
    pub enum RequestOutcome {
        /// The publisher is asked, at once.
        Forwarded = "forwarded",
        /// Others wait for the same keyframe already.
        Merged = "merged",
        /// The publisher is not asked for it now: it was asked a moment ago, or sends nothing that could be asked for.
        Suppressed = "suppressed",
    }

    /// What became of a packet that a subscriber's NACK asked for.
    pub enum RepairOutcome {
        /// It was sent again.
        Hit = "hit",
        /// It can be had no more, or is of no use any more: the ring has moved on, or a keyframe has begun since.
        MissExpired = "miss_expired",
        /// The publisher's leg lost it. Our own NACK is out, and what comes of it goes to everybody.
        MissUpstream = "miss_upstream",
        /// It was never sent, or not on a stream that is repaired.
        MissUnknown = "miss_unknown",
        /// It was sent again a moment ago, or often enough.
        Duplicate = "duplicate",
        /// More is asked for than repairs may take.
        OverBudget = "over_budget",
    }

    /// How a join ended.
    pub enum JoinResult {
        /// The first packet flowed.
        Ok = "ok",
        /// Accepted, and then something broke.
        Failed = "failed",
        /// Refused at the door.
        Rejected = "rejected",
        /// The host or the peer gave up.
        Cancelled = "cancelled",
    }

    /// How an authenticated join request ended, and why. The label is the reason; see
    /// [`JoinOutcome::result`].
    pub enum JoinOutcome {
        /// Joined.
        Ok = "none",
        /// The host's token did not hold.
        BadToken = "bad_token",
        /// The host or the peer gave up.
        Cancelled = "cancelled",
        /// Admission refused: no headroom.
        Saturated = "saturated",
        /// The node is draining.
        Draining = "draining",
        /// A configured maximum is reached.
        Limit = "limit",
        /// Too many joins at once.
        Rate = "rate",
        /// The offer cannot be answered.
        Negotiation = "negotiation",
        /// ICE did not connect in time.
        IceTimeout = "ice_timeout",
        /// The DTLS handshake failed.
        DtlsFailed = "dtls_failed",
        /// Connected, but no packet came.
        NoFirstPacket = "no_first_packet",
        /// Our fault.
        Internal = "internal",
    }

    /// A stretch of the way into a room.
    pub enum Stage {
        /// Answer given → ICE connected.
        Ice = "ice",
        /// ICE connected → DTLS done.
        Dtls = "dtls",
        /// DTLS done → first packet.
        FirstPacket = "first_packet",
        /// The whole of it.
        Total = "total",
    }

    /// How an ICE session ended its checks.
    pub enum IceResult {
        /// A pair was selected.
        Connected = "connected",
        /// None was.
        Failed = "failed",
    }

    /// How ICE went, and why. The label is the reason; see [`IceOutcome::result`].
    pub enum IceOutcome {
        /// A pair was selected.
        Connected = "none",
        /// No check arrived, or none succeeded, in time.
        Timeout = "timeout",
        /// The peer offered nothing to check.
        NoCandidates = "no_candidates",
        /// MESSAGE-INTEGRITY never held.
        Auth = "auth",
        /// Consent was lost before media flowed, RFC 7675.
        Consent = "consent",
        /// Anything else.
        Other = "other",
    }

    /// Whether the peer signalled a relay candidate.
    pub enum Relay {
        /// It did.
        Offered = "offered",
        /// It did not.
        None = "none",
    }

    /// How a DTLS handshake ended.
    pub enum DtlsResult {
        /// Keys are agreed.
        Ok = "ok",
        /// They are not.
        Failed = "failed",
    }

    /// How DTLS went, and why. The label is the reason; see [`DtlsOutcome::result`].
    pub enum DtlsOutcome {
        /// Keys are agreed.
        Ok = "none",
        /// The flights stopped.
        Timeout = "timeout",
        /// Either side sent a fatal alert.
        Alert = "alert",
        /// The certificate is not the one SDP announced.
        Fingerprint = "fingerprint",
        /// No common protocol version, cipher suite or SRTP profile.
        Version = "version",
        /// Too many handshakes.
        RateLimited = "rate_limited",
        /// Anything else.
        Other = "other",
    }

    /// The SRTP protection profile that DTLS negotiated, RFC 5764 §4.1.2 and RFC 7714 §14.2.
    pub enum SrtpProfile {
        /// `SRTP_AEAD_AES_128_GCM`.
        AesGcm128 = "aes_gcm_128",
        /// `SRTP_AEAD_AES_256_GCM`.
        AesGcm256 = "aes_gcm_256",
        /// `SRTP_AES128_CM_HMAC_SHA1_80`: seals about five times slower.
        AesCm80 = "aes_cm_80",
    }

    /// Why a session ended. The last four are drops: nobody asked for them.
    pub enum EndReason {
        /// The peer or its host left.
        Left = "left",
        /// The host removed the peer.
        Kicked = "kicked",
        /// Its room closed.
        RoomClosed = "room_closed",
        /// The node drained.
        Drained = "drained",
        /// ICE did not connect in time.
        IceTimeout = "ice_timeout",
        /// The peer closed DTLS.
        DtlsClosed = "dtls_closed",
        /// Consent to send ran out, RFC 7675.
        ConsentExpired = "consent_expired",
        /// Our fault, or the peer broke the protocol.
        Error = "error",
    }

    /// How much a contained panic cost.
    pub enum PanicScope {
        /// One peer.
        Peer = "peer",
        /// One room.
        Room = "room",
        /// One worker, which restarts.
        Worker = "worker",
    }

    /// A bounded queue whose depth is exported.
    pub enum Queue {
        /// Packets that subscribers are owed.
        Egress = "egress",
    }

    /// A socket batch.
    pub enum IoOp {
        /// One receive call.
        Recv = "recv",
        /// One flush to the kernel.
        Send = "send",
    }
}

impl JoinOutcome {
    /// The coarse half of the pair.
    pub const fn result(self) -> JoinResult {
        use JoinOutcome::*;
        match self {
            Ok => JoinResult::Ok,
            Cancelled => JoinResult::Cancelled,
            BadToken | Saturated | Draining | Limit | Rate => JoinResult::Rejected,
            Negotiation | IceTimeout | DtlsFailed | NoFirstPacket | Internal => JoinResult::Failed,
        }
    }
}

impl IceOutcome {
    /// The coarse half of the pair.
    pub const fn result(self) -> IceResult {
        match self {
            IceOutcome::Connected => IceResult::Connected,
            _ => IceResult::Failed,
        }
    }
}

impl DtlsOutcome {
    /// The coarse half of the pair.
    pub const fn result(self) -> DtlsResult {
        match self {
            DtlsOutcome::Ok => DtlsResult::Ok,
            _ => DtlsResult::Failed,
        }
    }
}

impl From<MediaKind> for DropKind {
    fn from(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Audio => DropKind::Audio,
            MediaKind::Video => DropKind::Video,
        }
    }
}

/// Whether a drop of this kind for this reason exists. The others are not exported while they are 0.
///
/// Before authentication a packet's kind is only a claim, so it is [`DropKind::Other`]; RTCP alone
/// is told apart by its payload type byte.
pub const fn can_occur(direction: Direction, kind: DropKind, reason: DropReason) -> bool {
    use DropKind::*;
    match (direction, reason) {
        (Direction::In, DropReason::SrtpAuth) => matches!(kind, Rtcp | Other),
        (Direction::In, DropReason::SrtpReplay) => matches!(kind, Audio | Video | Rtcp),
        (Direction::In, DropReason::UnknownSsrc) => matches!(kind, Other),
        (Direction::In, DropReason::UnknownPeer) => matches!(kind, Other),
        (Direction::In, DropReason::Malformed) => true,
        (Direction::In, DropReason::Oversize) => matches!(kind, Other),
        (Direction::In, DropReason::Policed) => matches!(kind, Audio | Video),
        // The datagram backlog knows no kinds; a replica's inbox does.
        (Direction::In, DropReason::QueueFull) => !matches!(kind, Rtcp),
        (Direction::Out, DropReason::Expired) => matches!(kind, Audio | Video),
        // STUN and DTLS answers go through the same socket.
        (Direction::Out, DropReason::QueueFull) => true,
        (Direction::Out, DropReason::SendWouldBlock) => true,
        (Direction::Out, DropReason::SendError) => true,
        (Direction::Out, DropReason::Oversize) => true,
        (Direction::In, DropReason::Expired)
        | (Direction::In, DropReason::SendWouldBlock)
        | (Direction::In, DropReason::SendError)
        | (Direction::Out, DropReason::SrtpAuth)
        | (Direction::Out, DropReason::SrtpReplay)
        | (Direction::Out, DropReason::UnknownSsrc)
        | (Direction::Out, DropReason::UnknownPeer)
        | (Direction::Out, DropReason::Malformed)
        | (Direction::Out, DropReason::Policed) => false,
    }
}

impl Label for MediaKind {
    const VALUES: &'static [Self] = &[MediaKind::Audio, MediaKind::Video];

    fn text(self) -> &'static str {
        self.as_str()
    }
}

impl Label for DropReason {
    const VALUES: &'static [Self] = &DropReason::ALL;

    fn text(self) -> &'static str {
        self.as_str()
    }
}

impl Label for FilterReason {
    const VALUES: &'static [Self] = &FilterReason::ALL;

    fn text(self) -> &'static str {
        self.as_str()
    }
}

#[test]
fn values_stand_at_their_own_index() {
    fn check<T: Label + PartialEq + std::fmt::Debug>(index: fn(T) -> usize) {
        for (at, value) in T::VALUES.iter().enumerate() {
            assert_eq!(index(*value), at, "{value:?}");
        }
    }
    check::<MediaKind>(|v| v as usize);
    check::<DropReason>(|v| v as usize);
    check::<FilterReason>(|v| v as usize);
    check::<JoinOutcome>(|v| v as usize);
}

#[test]
fn audio_can_be_seen_not_to_drop() {
    for reason in [DropReason::QueueFull, DropReason::Policed] {
        assert!(can_occur(Direction::In, DropKind::Audio, reason));
    }
    assert!(can_occur(Direction::Out, DropKind::Audio, DropReason::QueueFull));
    assert!(!can_occur(Direction::In, DropKind::Audio, DropReason::SrtpAuth));
}
