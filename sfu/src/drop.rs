//! Why a packet did not go on. One enum is the word in the trace, the metric label and the counter.

/// An unintended loss inside the SFU, or a datagram refused at the gate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// The plaintext ring had moved on when the packet's turn came, or the subscriber had left.
    Expired,
    /// A bounded queue was full.
    QueueFull,
    /// SRTP or SRTCP authentication failed, or SRTCP came unencrypted.
    SrtpAuth,
    /// The packet had been received before, or lies behind the replay window (RFC 3711 §3.3.2).
    SrtpReplay,
    /// An SSRC that nothing negotiated announces.
    UnknownSsrc,
    /// A source address that no authenticated ICE check has validated, or an unknown ufrag.
    UnknownPeer,
    /// Not a well-formed packet of its protocol.
    Malformed,
    /// The kernel's send buffer stayed full.
    SendWouldBlock,
    /// The kernel refused the datagram.
    SendError,
    /// Larger than one datagram may be.
    Oversize,
    /// Over the publisher's cap for too long (token bucket at ingress).
    Policed,
}

impl DropReason {
    /// Every reason, in label order.
    pub const ALL: [DropReason; 11] = [
        DropReason::Expired,
        DropReason::QueueFull,
        DropReason::SrtpAuth,
        DropReason::SrtpReplay,
        DropReason::UnknownSsrc,
        DropReason::UnknownPeer,
        DropReason::Malformed,
        DropReason::SendWouldBlock,
        DropReason::SendError,
        DropReason::Oversize,
        DropReason::Policed,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Expired => "expired",
            DropReason::QueueFull => "queue_full",
            DropReason::SrtpAuth => "srtp_auth",
            DropReason::SrtpReplay => "srtp_replay",
            DropReason::UnknownSsrc => "unknown_ssrc",
            DropReason::UnknownPeer => "unknown_peer",
            DropReason::Malformed => "malformed",
            DropReason::SendWouldBlock => "send_would_block",
            DropReason::SendError => "send_error",
            DropReason::Oversize => "oversize",
            DropReason::Policed => "policed",
        }
    }
}

/// A selection we made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FilterReason {
    /// A spatial layer that the subscriber does not receive now.
    Spatial,
    /// A temporal layer that the subscriber does not receive now.
    Temporal,
    /// The subscriber waits for a keyframe, or takes no packets of this track now.
    Paused,
    /// More than the subscriber's cap allows.
    Capped,
    /// One video more than the subscriber gets: by its host's choice, or while the machine is short of something.
    LastN,
    /// A voice that is not among those who are heard.
    Speaker,
}

impl FilterReason {
    /// Every reason, in label order.
    pub const ALL: [FilterReason; 6] = [
        FilterReason::Spatial,
        FilterReason::Temporal,
        FilterReason::Paused,
        FilterReason::Capped,
        FilterReason::LastN,
        FilterReason::Speaker,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            FilterReason::Spatial => "spatial",
            FilterReason::Temporal => "temporal",
            FilterReason::Paused => "paused",
            FilterReason::LastN => "last_n",
            FilterReason::Speaker => "speaker",
            FilterReason::Capped => "capped",
        }
    }
}
