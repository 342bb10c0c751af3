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
    #[error("an offer of ours is pending")]
    Glare,
    #[error("the offer has more than {limit} {what}")]
    TooLarge { what: &'static str, limit: usize },
    #[error("line {line} of the offer is not a valid `{what}`")]
    Malformed { line: usize, what: &'static str },
    #[error("the offer is no valid session description")]
    Syntax,
    #[error("m-line {index} of the offer has no usable mid")]
    BadMid { index: usize },
    #[error("the offer has no m-line")]
    NoMedia,
    #[error("the offer has no fingerprint")]
    MissingFingerprint,
    #[error("the offer has no valid ice-ufrag and ice-pwd")]
    IceCredentials,
    /// We are ICE-lite and always the DTLS server.
    #[error("the offer wants to be the dtls server (setup:passive)")]
    SetupPassive,
    #[error("m-line {mid} is not in the first BUNDLE group")]
    NotBundled { mid: Mid },
    #[error("m-line {mid} lacks rtcp-mux")]
    NoRtcpMux { mid: Mid },
    #[error("mid {mid} is used twice")]
    DuplicateMid { mid: Mid },
    /// An m-line agreed before has vanished, moved or changed its kind.
    #[error("m-line {mid} is no longer where it was agreed")]
    LineOrder { mid: Mid },
}

/// Why a client's answer was refused. Our offer is still pending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    #[error("no offer of ours is pending")]
    NoOfferPending,
    #[error("the answer has more than {limit} {what}")]
    TooLarge { what: &'static str, limit: usize },
    #[error("line {line} of the answer is not a valid `{what}`")]
    Malformed { line: usize, what: &'static str },
    #[error("the answer is no valid session description")]
    Syntax,
    #[error("m-line {index} of the answer has no usable mid")]
    BadMid { index: usize },
    #[error("the answer has {answered} m-lines, the offer {offered}")]
    LineCount { offered: usize, answered: usize },
    /// Another mid or media kind than we offered there.
    #[error("the answer to m-line {index} is not for what was offered there")]
    LineMismatch { index: usize },
    #[error("the answer accepts m-line {mid}, which was offered as stopped")]
    Stopped { mid: Mid },
    #[error("the answer has no fingerprint")]
    MissingFingerprint,
    #[error("the answer has no valid ice-ufrag and ice-pwd")]
    IceCredentials,
    #[error("the answer wants to be the dtls server (setup:passive)")]
    SetupPassive,
    #[error("m-line {mid} is not in the first BUNDLE group")]
    NotBundled { mid: Mid },
    #[error("m-line {mid} lacks rtcp-mux")]
    NoRtcpMux { mid: Mid },
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
}
