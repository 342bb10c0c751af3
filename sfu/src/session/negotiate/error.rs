//! Why a description was refused.

use crate::ids::Mid;

/// A text we do not read as SDP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SdpError {
    /// Past one of the limits on what a peer can repeat.
    #[error("more than {limit} {what}")]
    TooLarge { what: &'static str, limit: usize },
    /// Line numbers count from 1.
    #[error("line {line} is not a valid `{what}`")]
    Malformed { line: usize, what: &'static str },
    /// Well-formed lines that do not make a description.
    #[error("no valid session description")]
    Syntax,
    /// The m-line, counted from 0, has a mid that is no token or longer than [`Mid::MAX`].
    #[error("m-line {index} has no usable mid")]
    BadMid { index: usize },
}

/// Why a client's offer was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// An offer of the SFU is pending. The client rolls its own back, answers that one, and offers again.
    #[error("an offer of ours is pending")]
    Glare,
    /// Past one of the limits on what a peer can repeat.
    #[error("the offer has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A line that cannot be read.
    #[error("line {line} of the offer is not a valid `{what}`")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What it should have been.
        what: &'static str,
    },
    /// Well-formed lines that do not make a description.
    #[error("the offer is no valid session description")]
    Syntax,
    /// A media section without a usable identification tag (RFC 5888 §4).
    #[error("m-line {index} of the offer has no usable mid")]
    BadMid {
        /// The m-line, counted from 0.
        index: usize,
    },
    /// There is nothing to negotiate.
    #[error("the offer has no m-line")]
    NoMedia,
    /// No `a=fingerprint` in a hash that is known (RFC 8122 §5).
    #[error("the offer has no fingerprint")]
    MissingFingerprint,
    /// `a=ice-ufrag` or `a=ice-pwd` is missing or too short (RFC 8839 §5.4).
    #[error("the offer has no valid ice-ufrag and ice-pwd")]
    IceCredentials,
    /// Another certificate than before: that is another connection, which must join as such.
    #[error("the fingerprint is not the one this peer joined with")]
    FingerprintChanged,
    /// The SFU is ICE-lite and always the DTLS server (RFC 5763 §5).
    #[error("the offer wants to be the dtls server (setup:passive)")]
    SetupPassive,
    /// All media must share one transport (RFC 8843).
    #[error("m-line {mid} is not in the first BUNDLE group")]
    NotBundled {
        /// The m-line.
        mid: Mid,
    },
    /// RTCP must share the transport (RFC 5761).
    #[error("m-line {mid} lacks rtcp-mux")]
    NoRtcpMux {
        /// The m-line.
        mid: Mid,
    },
    /// Two m-lines cannot be told apart.
    #[error("mid {mid} is used twice")]
    DuplicateMid {
        /// The tag they share.
        mid: Mid,
    },
    /// An m-line agreed before has vanished, moved or changed its kind (RFC 3264 §8).
    #[error("m-line {mid} is no longer where it was agreed")]
    LineOrder {
        /// The m-line.
        mid: Mid,
    },
}

/// Why a client's answer was refused. Our offer is still pending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// There is nothing to answer.
    #[error("no offer of ours is pending")]
    NoOfferPending,
    /// Past one of the limits on what a peer can repeat.
    #[error("the answer has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A line that cannot be read.
    #[error("line {line} of the answer is not a valid `{what}`")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What it should have been.
        what: &'static str,
    },
    /// Well-formed lines that do not make a description.
    #[error("the answer is no valid session description")]
    Syntax,
    /// A media section without a usable identification tag (RFC 5888 §4).
    #[error("m-line {index} of the answer has no usable mid")]
    BadMid {
        /// The m-line, counted from 0.
        index: usize,
    },
    /// An answer has as many m-lines as its offer (RFC 3264 §6).
    #[error("the answer has {answered} m-lines, the offer {offered}")]
    LineCount {
        /// In the offer.
        offered: usize,
        /// In the answer.
        answered: usize,
    },
    /// Another mid or media kind than was offered there.
    #[error("the answer to m-line {index} is not for what was offered there")]
    LineMismatch {
        /// The m-line, counted from 0.
        index: usize,
    },
    /// The answer takes up an m-line that was offered as stopped.
    #[error("the answer accepts m-line {mid}, which was offered as stopped")]
    Stopped {
        /// The m-line.
        mid: Mid,
    },
    /// No `a=fingerprint` in a hash that is known (RFC 8122 §5).
    #[error("the answer has no fingerprint")]
    MissingFingerprint,
    /// `a=ice-ufrag` or `a=ice-pwd` is missing or too short (RFC 8839 §5.4).
    #[error("the answer has no valid ice-ufrag and ice-pwd")]
    IceCredentials,
    /// Another certificate than before: that is another connection, which must join as such.
    #[error("the fingerprint is not the one this peer joined with")]
    FingerprintChanged,
    /// The SFU is ICE-lite and always the DTLS server (RFC 5763 §5).
    #[error("the answer wants to be the dtls server (setup:passive)")]
    SetupPassive,
    /// All media must share one transport (RFC 8843).
    #[error("m-line {mid} is not in the first BUNDLE group")]
    NotBundled {
        /// The m-line.
        mid: Mid,
    },
    /// RTCP must share the transport (RFC 5761).
    #[error("m-line {mid} lacks rtcp-mux")]
    NoRtcpMux {
        /// The m-line.
        mid: Mid,
    },
}

macro_rules! from_sdp_error {
    ($to:ident) => {
        impl From<SdpError> for $to {
            fn from(error: SdpError) -> Self {
                match error {
                    SdpError::TooLarge { what, limit } => $to::TooLarge { what, limit },
                    SdpError::Malformed { line, what } => $to::Malformed { line, what },
                    SdpError::Syntax => $to::Syntax,
                    SdpError::BadMid { index } => $to::BadMid { index },
                }
            }
        }

        impl From<TransportError> for $to {
            fn from(error: TransportError) -> Self {
                match error {
                    TransportError::MissingFingerprint => $to::MissingFingerprint,
                    TransportError::IceCredentials => $to::IceCredentials,
                    TransportError::SetupPassive => $to::SetupPassive,
                    TransportError::FingerprintChanged => $to::FingerprintChanged,
                }
            }
        }
    };
}
from_sdp_error!(OfferError);
from_sdp_error!(AnswerError);

/// What is wrong with a description's one transport.
pub(super) enum TransportError {
    MissingFingerprint,
    IceCredentials,
    SetupPassive,
    FingerprintChanged,
}
