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
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        $(#[$meta])*
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

        impl $crate::counters::Label for $name {
            const VALUES: &'static [Self] = &Self::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}

pub(crate) use labels;

labels! {
    /// Which way a packet crosses our edge.
    pub enum Direction {
        /// Received by the SFU.
        In = "in",
        /// Sent by the SFU.
        Out = "out",
    }

    /// What a packet that crosses our edge carries.
    pub enum TrafficKind {
        /// Audio.
        Audio = "audio",
        /// Video.
        Video = "video",
        /// RTCP, by compounds.
        Rtcp = "rtcp",
    }

    /// Why a packet is on the wire.
    pub enum Transmission {
        /// Sent once, as the encoder made it.
        First = "first",
        /// A retransmission, RFC 4588.
        Rtx = "rtx",
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

    /// What became of a message on a data channel.
    pub enum MessageOutcome {
        /// A client's, taken: its host hears it.
        Received = "received",
        /// A copy of it for another member of the room.
        Relayed = "relayed",
        /// The host's own.
        Sent = "sent",
        /// More than a client may say.
        RateLimited = "rate_limited",
        /// Larger than a message may be.
        Oversize = "oversize",
        /// Of no kind that WebRTC has, or text that is none.
        Malformed = "malformed",
        /// On a stream without a channel, or to open a channel that cannot be.
        NoChannel = "no_channel",
        /// Too much waits for the recipient already.
        QueueFull = "queue_full",
    }

    /// What became of a client's report.
    pub enum ReportOutcome {
        /// It is in the histograms.
        Accepted = "accepted",
        /// It does not read.
        Malformed = "malformed",
        /// It came too soon after the one before.
        RateLimited = "rate_limited",
        /// It is larger than a report may be.
        Oversize = "oversize",
    }

    /// What holds a client's encoder back, as it says (W3C `qualityLimitationReason`).
    pub enum QualityLimit {
        /// Nothing.
        None = "none",
        /// Its CPU.
        Cpu = "cpu",
        /// Its network, or a cap.
        Bandwidth = "bandwidth",
        /// Something else.
        Other = "other",
    }

    /// How a join ended.
    pub enum JoinResult {
        /// ICE and DTLS are up.
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
        /// The host or the peer gave up.
        Cancelled = "cancelled",
        /// A configured maximum is reached.
        Limit = "limit",
        /// There is no room for more.
        Saturated = "saturated",
        /// The node is being left.
        Draining = "draining",
        /// The room fills too fast.
        Rate = "rate",
        /// The offer cannot be answered.
        Negotiation = "negotiation",
        /// ICE did not connect in time.
        IceTimeout = "ice_timeout",
        /// The DTLS handshake failed.
        DtlsFailed = "dtls_failed",
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
        /// No check arrived in time.
        Timeout = "timeout",
        /// Checks arrived, and MESSAGE-INTEGRITY never held.
        Auth = "auth",
    }

    /// By what path a peer comes, by the candidate it had announced for it.
    pub enum PathKind {
        /// Its own address.
        Host = "host",
        /// Its NAT's, as a STUN server told.
        Srflx = "srflx",
        /// One that it had not announced: its NAT's, or hidden behind a name.
        Prflx = "prflx",
        /// A TURN server's.
        Relay = "relay",
    }

    /// How datagrams reach us.
    pub enum Transport {
        /// The only way so far.
        Udp = "udp",
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
        /// The certificate is not the one SDP announced.
        Fingerprint = "fingerprint",
        /// No SRTP profile in common.
        Version = "version",
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

    /// Why a session ended. The last three are drops: nobody asked for them.
    pub enum EndReason {
        /// The peer or its host left.
        Left = "left",
        /// The node drained.
        Drained = "drained",
        /// ICE did not connect in time.
        IceTimeout = "ice_timeout",
        /// Consent to send ran out, RFC 7675.
        ConsentExpired = "consent_expired",
        /// Its host lost its client, who did not come back in time.
        Orphaned = "orphaned",
        /// Its client came back with another connection.
        Resumed = "resumed",
        /// Our fault, or the peer broke the protocol.
        Error = "error",
    }

    /// Whether a client could come back as who it was.
    pub enum ResumeOutcome {
        /// It could.
        Ok = "ok",
        /// Its token or its offer was no good.
        Failed = "failed",
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

    /// Which of a peer's roles a round trip is told for: one path, perhaps both.
    pub enum Leg {
        /// It publishes.
        Publisher = "publisher",
        /// It receives.
        Subscriber = "subscriber",
    }

    /// What a layer has more of.
    pub enum Axis {
        /// Pixels.
        Spatial = "spatial",
        /// Pictures a second.
        Temporal = "temporal",
    }

    /// Which way a subscriber's layer changed.
    pub enum Step {
        /// To more.
        Up = "up",
        /// To less.
        Down = "down",
    }

    /// Why a subscriber's layer changed.
    pub enum SwitchCause {
        /// A network, the subscriber's or its publisher's, has room for more, or less.
        Bwe = "bwe",
        /// The host said so.
        Request = "request",
        /// The machine is short of something, or no longer.
        Saturation = "saturation",
    }

    /// A share of lost packets above which a subscriber suffers.
    pub enum LossThreshold {
        /// One sees it now and then.
        Two = "0.02",
        /// One sees it.
        Three = "0.03",
        /// One minds it.
        Five = "0.05",
    }

    /// How many are in a room.
    pub enum RoomSize {
        /// Somebody waits.
        One = "1",
        /// A call.
        Two = "2",
        /// A few.
        UpTo5 = "3-5",
        /// A team.
        UpTo10 = "6-10",
        /// A class.
        UpTo25 = "11-25",
        /// A lecture.
        UpTo50 = "26-50",
        /// A hall.
        UpTo100 = "51-100",
        /// An audience.
        More = "101+",
    }

    /// What processes wait for, as the kernel tells (`/proc/pressure`).
    pub enum Pressure {
        /// A CPU.
        Cpu = "cpu",
        /// Memory.
        Memory = "memory",
        /// A disk.
        Io = "io",
    }

    /// What was to be let in.
    pub enum AdmissionScope {
        /// A peer, into a room.
        Join = "join",
        /// A track.
        Publish = "publish",
        /// A room.
        Room = "room",
        /// A track, to one who receives.
        Subscribe = "subscribe",
        /// A peer that was here before.
        Resume = "resume",
    }

    /// Whether it was.
    pub enum AdmissionDecision {
        /// It was.
        Accept = "accept",
        /// It was not.
        Reject = "reject",
    }

    /// Whether it was let in, and why not. The label is the reason; see [`Admission::decision`].
    pub enum Admission {
        /// It was.
        Ok = "ok",
        /// A configured maximum is reached.
        Limit = "limit",
        /// There is no room, or too much is given up already.
        Saturated = "saturated",
        /// The node is being left.
        Draining = "draining",
        /// The room disturbs others.
        NoisyRoom = "noisy_room",
        /// The room fills too fast.
        Rate = "rate",
        /// The node is on probation.
        Unhealthy = "unhealthy",
    }

    /// What is done when the machine is short of something.
    pub enum Mitigation {
        /// No new rooms.
        StopRooms = "stop_rooms",
        /// Publishers are capped: each step counts.
        Cap = "cap",
        /// The largest layers are not forwarded.
        SuspendLayer = "suspend_layer",
        /// Nor are the fastest temporal layers.
        DropTemporal = "drop_temporal",
        /// Fewer videos to each subscriber: each step counts.
        LastN = "last_n",
        /// No video.
        AudioOnly = "audio_only",
    }

    /// Whether it begins or ends.
    pub enum Turn {
        /// More is given up.
        Engage = "engage",
        /// Something is given back.
        Release = "release",
    }

    /// A queue whose depth is exported.
    pub enum Queue {
        /// Packets that subscribers are owed.
        Egress = "egress",
        /// Calls of the host's.
        Control = "control",
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
    /// How a refused join counts.
    pub const fn of_refusal(refusal: Admission) -> JoinOutcome {
        match refusal {
            Admission::Ok => JoinOutcome::Ok,
            Admission::Limit => JoinOutcome::Limit,
            Admission::Saturated | Admission::NoisyRoom | Admission::Unhealthy => JoinOutcome::Saturated,
            Admission::Draining => JoinOutcome::Draining,
            Admission::Rate => JoinOutcome::Rate,
        }
    }

    /// The coarse half of the pair.
    pub const fn result(self) -> JoinResult {
        use JoinOutcome::*;
        match self {
            Ok => JoinResult::Ok,
            Cancelled => JoinResult::Cancelled,
            Limit | Saturated | Draining | Rate => JoinResult::Rejected,
            Negotiation | IceTimeout | DtlsFailed | Internal => JoinResult::Failed,
        }
    }
}

impl Admission {
    /// The coarse half of the pair.
    pub const fn decision(self) -> AdmissionDecision {
        match self {
            Admission::Ok => AdmissionDecision::Accept,
            _ => AdmissionDecision::Reject,
        }
    }
}

impl LossThreshold {
    /// As a share.
    pub const fn ratio(self) -> f64 {
        match self {
            LossThreshold::Two => 0.02,
            LossThreshold::Three => 0.03,
            LossThreshold::Five => 0.05,
        }
    }
}

impl RoomSize {
    /// The class of a room; `None` of an empty one.
    pub const fn of(peers: usize) -> Option<RoomSize> {
        Some(match peers {
            0 => return None,
            1 => RoomSize::One,
            2 => RoomSize::Two,
            3..=5 => RoomSize::UpTo5,
            6..=10 => RoomSize::UpTo10,
            11..=25 => RoomSize::UpTo25,
            26..=50 => RoomSize::UpTo50,
            51..=100 => RoomSize::UpTo100,
            _ => RoomSize::More,
        })
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
        // Handshakes that come all at once.
        (Direction::In, DropReason::QueueFull) => matches!(kind, Other),
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
    assert!(can_occur(Direction::In, DropKind::Audio, DropReason::Policed));
    assert!(can_occur(Direction::Out, DropKind::Audio, DropReason::QueueFull));
    assert!(!can_occur(Direction::In, DropKind::Audio, DropReason::SrtpAuth));
}
